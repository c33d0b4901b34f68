"""What Grafana's Tempo data source asks for, with the URL http://HOST:PORT/tempo."""

import time

import pytest
import requests
from bellrock_server import eventually

TRACE, OTHER = "ab" * 16, "cd" * 16


def attribute(key, value):
    kind = {str: "stringValue", int: "intValue", bool: "boolValue"}[type(value)]
    return {"key": key, "value": {kind: value}}


def span(trace_id, span_id, name, lasts_ms, start, **more):
    ends = start + lasts_ms * 1_000_000
    return {"traceId": trace_id, "spanId": span_id * 8, "name": name, "kind": 2, "startTimeUnixNano": str(start), "endTimeUnixNano": str(ends), **more}


@pytest.fixture
def tempo(server):
    now = time.time_ns()
    shop = [attribute("service.name", "shop"), attribute("deployment.environment", "prod")]
    slow = span(TRACE, "a1", "POST /pay", 800, now - 2 * 10**9, attributes=[attribute("http.route", "/pay"), attribute("code", 500)], status={"code": 2})
    fast = span(OTHER, "b1", "GET /cart", 20, now - 1 * 10**9, attributes=[attribute("http.route", "/my cart"), attribute("code", 200)])
    bank = span(TRACE, "a2", "charge", 300, now - 2 * 10**9 + 10**7, parentSpanId="a1" * 8)
    body = {"resourceSpans": [
        {"resource": {"attributes": shop}, "scopeSpans": [{"spans": [slow, fast]}]},
        {"resource": {"attributes": [attribute("service.name", "bank")]}, "scopeSpans": [{"spans": [bank]}]},
    ]}
    assert requests.post(f"{server.url}/v1/traces", json=body, timeout=10).status_code == 200
    eventually(lambda: len(server.get("/tempo/api/search")["traces"]) == 2)
    return server


def found(server, **parameters):
    return {trace["traceID"] for trace in server.get("/tempo/api/search", **parameters)["traces"]}


def test_the_older_search_parameters_are_read(tempo):
    assert found(tempo, tags="service.name=bank") == {TRACE}
    assert found(tempo, tags='http.route="/my cart" code=200') == {OTHER}
    assert found(tempo, tags="error=true") == {TRACE}
    assert found(tempo, minDuration="500ms") == {TRACE}
    assert found(tempo, maxDuration="0.1s") == {OTHER}
    assert found(tempo, q="{ .code > 100 }", minDuration="500ms") == {TRACE}
    assert found(tempo, q="{ .code > 100 }", limit=1) == {OTHER}, "the newest"
    assert found(tempo, end=int(time.time()) - 600, start=int(time.time()) - 1200) == set()
    for wrong in ({"tags": "code"}, {"minDuration": "5"}, {"limit": 5000}, {"q": "{ &"}):
        assert requests.get(f"{tempo.url}/tempo/api/search", params=wrong, timeout=10).status_code == 400, wrong


def test_an_answer_has_the_fields_that_grafana_shows(tempo):
    trace = tempo.get("/tempo/api/search", q="{ .code = 500 }", spss=1)["traces"][0]
    assert trace["rootServiceName"] == "shop" and trace["rootTraceName"] == "POST /pay" and trace["durationMs"] == 800
    assert trace["serviceStats"]["bank"]["spanCount"] == 1
    shown = trace["spanSets"][0]["spans"]
    assert len(shown) == 1 and trace["spanSet"]["matched"] == 1
    assert [attribute for attribute in shown[0]["attributes"] if "code" in attribute["key"]][0]["value"] == {"intValue": "500"}


def test_tags_and_their_values(tempo):
    assert {"service.name", "http.route", "code"} <= set(tempo.get("/tempo/api/search/tags")["tagNames"])
    assert "http.route" not in tempo.get("/tempo/api/search/tags", scope="resource")["tagNames"]
    scopes = {scope["name"]: scope["tags"] for scope in tempo.get("/tempo/api/v2/search/tags")["scopes"]}
    assert "deployment.environment" in scopes["resource"] and "code" in scopes["span"] and "status" in scopes["intrinsic"]
    assert tempo.get("/tempo/api/search/tag/service.name/values")["tagValues"] == ["bank", "shop"]
    assert tempo.get("/tempo/api/search/tag/name/values")["tagValues"] == ["GET /cart", "POST /pay", "charge"]

    def values(name, **parameters):
        return [(value["type"], value["value"]) for value in tempo.get(f"/tempo/api/v2/search/tag/{name}/values", **parameters)["tagValues"]]

    assert values("resource.service.name") == [("string", "bank"), ("string", "shop")]
    assert values(".code") == [("int", "200"), ("int", "500")]
    assert values("span.http.route", q='{ status = error }') == [("string", "/pay")]
    assert ("keyword", "error") in values("status")
    assert values("rootServiceName") == [("string", "shop")]


def test_a_trace_by_its_id_in_both_versions(tempo):
    plain = tempo.get(f"/tempo/api/traces/{TRACE}")
    assert len(plain["resourceSpans"]) == 2
    assert len(tempo.get(f"/tempo/api/v2/traces/{TRACE}")["trace"]["resourceSpans"]) == 2
    accept = {"Accept": "application/protobuf"}
    first = requests.get(f"{tempo.url}/tempo/api/traces/{TRACE}", headers=accept, timeout=10)
    second = requests.get(f"{tempo.url}/tempo/api/v2/traces/{TRACE}", headers=accept, timeout=10)
    assert first.headers["content-type"] == second.headers["content-type"] == "application/protobuf"
    assert second.content.endswith(first.content) and second.content[0] == 0x0A, "the trace is field 1 of the response"
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    assert len(TracesData.FromString(first.content).resource_spans) == 2
    assert requests.get(f"{tempo.url}/tempo/api/v2/traces/{'ef' * 16}", timeout=10).status_code == 404


def test_what_the_data_source_asks_when_it_is_saved(tempo):
    assert requests.get(f"{tempo.url}/tempo/api/echo", timeout=10).text == "echo"
    assert tempo.get("/tempo/api/status/buildinfo")["version"].count(".") == 2


def test_a_trace_by_its_id_is_looked_for_where_the_client_says(tempo):
    now = int(time.time())

    def answer(path="/tempo/api/traces/", **parameters):
        return requests.get(f"{tempo.url}{path}{TRACE}", params=parameters, timeout=10)

    def spans(body):
        return sum(len(scope["spans"]) for resource in body["resourceSpans"] for scope in resource["scopeSpans"])

    for near in ({}, {"start": now - 60, "end": now + 60}, {"start": now + 600}, {"end": now + 1}, {"start": 0, "end": 0}):
        assert spans(answer(**near).json()) == 2, near
        assert spans(answer("/tempo/api/v2/traces/", **near).json()["trace"]) == 2, near
    for far in ({"start": now - 20_000, "end": now - 10_000}, {"start": now + 10_000}, {"end": now - 10_000}):
        assert answer(**far).status_code == 404, far
    for wrong in ({"start": now, "end": now - 1}, {"start": "soon"}):
        told = answer(**wrong)
        assert told.status_code == 400 and "start" in told.text, wrong


def series(server, query, path="query_range", **parameters):
    """{labels: series} of a metrics query over the last ten minutes in one step."""
    now = int(time.time())
    answer = server.get(f"/tempo/api/metrics/{path}", q=query, start=now - 600, end=now + 1, **({"step": "3600s"} | parameters if path == "query_range" else parameters))
    return {one["promLabels"]: one for one in answer["series"]}


def total(one):
    return sum(sample["value"] for sample in one["samples"])


def test_what_the_traces_drilldown_asks(tempo):
    rate = series(tempo, "{nestedSetParent<0 && true} | rate()", step="10s")
    assert list(rate) == ['{__name__="rate"}'] and rate['{__name__="rate"}']["labels"] == [{"key": "__name__", "value": {"stringValue": "rate"}}]
    assert total(rate['{__name__="rate"}']) * 10 == pytest.approx(2), "the two roots"
    times = [int(sample["timestampMs"]) for sample in rate['{__name__="rate"}']["samples"]]
    assert all(time % 10_000 == 0 for time in times) and times == sorted(times), "whole steps"
    by_service = series(tempo, "{} | count_over_time() by (resource.service.name)")
    assert {labels: total(one) for labels, one in by_service.items()} == {'{"resource.service.name"="bank"}': 1, '{"resource.service.name"="shop"}': 2}
    slowest = series(tempo, "{} | quantile_over_time(duration, 1) by (name)")
    assert total(slowest['{name="POST /pay", p="1.0"}']) == pytest.approx(0.8)
    assert {"key": "p", "value": {"doubleValue": 1.0}} in slowest['{name="POST /pay", p="1.0"}']["labels"]
    buckets = series(tempo, "{ name = `charge` } | histogram_over_time(duration)")
    assert [one["labels"][0]["value"]["doubleValue"] for one in buckets.values()] == [2**29 / 1e9]
    errors = series(tempo, "{nestedSetParent<0} &>> { status = error } || { status = error } | count_over_time()")
    assert [total(one) for one in errors.values()] == [1]
    structure = "{nestedSetParent<0} >> { resource.service.name = `bank` } | select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)"
    assert found(tempo, q=structure, limit=200, spss=20) == {TRACE}
    compared = series(tempo, "{nestedSetParent<0} | compare({ status = error }, 10)")
    counts = {labels: total(one) for labels, one in compared.items()}
    assert counts['{__meta_type="selection", name="POST /pay"}'] == counts['{__meta_type="baseline", name="GET /cart"}'] == 1
    assert counts['{__meta_type="selection_total", "span.http.route"="nil"}'] == 1


def test_exemplars_lead_to_traces(tempo):
    one = series(tempo, "{ status = error } | max_over_time(duration)")['{__name__="max_over_time"}']
    exemplar = one["exemplars"][0]
    assert exemplar["labels"] == [{"key": "trace:id", "value": {"stringValue": TRACE}}] and exemplar["value"] == pytest.approx(0.8)
    assert abs(int(exemplar["timestampMs"]) - time.time() * 1000) < 60_000
    assert "exemplars" not in series(tempo, "{} | rate() with (exemplars=false)")['{__name__="rate"}']


def test_one_value_of_each_series(tempo):
    one = series(tempo, "{} | count_over_time()", path="query")['{__name__="count_over_time"}']
    assert one["value"] == 3 and "samples" not in one
    assert tempo.get("/tempo/api/metrics/query", q="{} | count_over_time()", since="10m")["series"][0]["value"] == 3
    for wrong in ({"q": "{}"}, {"q": "{} | rate("}, {}, {"q": "{} | rate()", "step": "0"}, {"q": "{} | rate()", "start": 1, "end": 2_000_000_000, "step": "1s"}):
        told = requests.get(f"{tempo.url}/tempo/api/metrics/query_range", params=wrong, timeout=10)
        assert told.status_code == 400, (wrong, told.text)


def test_a_search_goes_on_where_it_stopped(tempo):
    now = int(time.time())
    window = {"start": now - 600, "end": now + 1, "limit": 1}
    for query in ("{}", "{ kind = server } | count() > 0"):
        first = tempo.get("/tempo/api/search", q=query, **window)
        second = tempo.get("/tempo/api/search", q=query, after=first["metrics"]["next"], **window)
        assert [answer["traces"][0]["traceID"] for answer in (first, second)] == [OTHER, TRACE]
        last = tempo.get("/tempo/api/search", q=query, after=second["metrics"]["next"], **window)
        assert last["traces"] == [] and "next" not in last["metrics"]
    page = tempo.get("/bellrock/v1/traces", limit=1)
    assert tempo.get("/bellrock/v1/traces", limit=5, after=page["next"])["next"] is None
    assert requests.get(f"{tempo.url}/tempo/api/search", params={"after": "soon"}, timeout=10).status_code == 400
