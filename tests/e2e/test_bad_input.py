"""What comes in broken: a clear 4xx, the good part kept, the server unharmed."""

import gzip
import json
import time
import zlib

import cramjam
import pytest
import requests
from bellrock_server import eventually


def post(server, path, data, **headers):
    return requests.post(server.url + path, data=data, headers=headers, timeout=20)


ENDPOINTS = [
    ("/v1/traces", {"content-type": "application/x-protobuf"}),
    ("/v1/logs", {"content-type": "application/json"}),
    ("/v1/metrics", {"content-type": "application/x-protobuf"}),
    ("/api/v1/write", {"content-type": "application/x-protobuf", "content-encoding": "snappy"}),
    ("/api/v1/write", {"content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request", "content-encoding": "snappy"}),
    ("/loki/api/v1/push", {"content-type": "application/json"}),
    ("/loki/api/v1/push", {"content-type": "application/x-protobuf"}),
]


@pytest.mark.parametrize("path,headers", ENDPOINTS)
def test_garbage_is_a_4xx_with_a_reason(server, path, headers):
    for body in (b"\xff\xfe\x00garbage" * 9, b"{", b"\x0a\xff\xff\xff\xff\x0f"):
        answer = post(server, path, body, **headers)
        assert 400 <= answer.status_code < 500, f"{path}: {answer.status_code}"
        assert answer.content, "says why"
    assert requests.get(f"{server.url}/-/ready", timeout=5).status_code == 200


def test_half_a_gzip_and_wrong_encodings(server):
    body = gzip.compress(json.dumps({"resourceLogs": []}).encode())
    json_gzip = {"content-type": "application/json", "content-encoding": "gzip"}
    assert post(server, "/v1/logs", body, **json_gzip).status_code == 200
    assert post(server, "/v1/logs", body[:-6], **json_gzip).status_code == 400
    assert post(server, "/v1/logs", b"{}", **{"content-type": "application/json", "content-encoding": "rot13"}).status_code == 415
    assert post(server, "/v1/logs", b"{}", **{"content-type": "text/csv"}).status_code == 415


def test_bombs_are_refused_before_they_grow(server):
    bomb = gzip.compress(b"\0" * (200 << 20), 9)
    answer = post(server, "/v1/logs", bomb, **{"content-type": "application/json", "content-encoding": "gzip"})
    assert answer.status_code == 413, answer.text
    snappy = cramjam.snappy.compress_raw(b"\0" * (200 << 20))
    answer = post(server, "/api/v1/write", bytes(snappy), **{"content-encoding": "snappy", "content-type": "application/x-protobuf"})
    assert answer.status_code == 413, answer.text
    lying = b"\xff\xff\xff\xff\x0f" + b"\0" * 64
    answer = post(server, "/api/v1/write", lying, **{"content-encoding": "snappy", "content-type": "application/x-protobuf"})
    assert 400 <= answer.status_code < 500
    deflate = zlib.compress(b"\0" * (200 << 20))
    answer = post(server, "/loki/api/v1/push", deflate, **{"content-encoding": "deflate", "content-type": "application/json"})
    assert answer.status_code in (413, 415)


def test_a_body_over_the_limit_is_413(server):
    answer = post(server, "/v1/logs", b" " * (17 << 20), **{"content-type": "application/json"})
    assert answer.status_code == 413 and "16" in answer.text, answer.text


def test_the_good_part_of_a_batch_is_kept(server):
    now = str(time.time_ns())
    body = {"streams": [{"stream": {"app": "part"}, "values": [[now, "good"], ["not a time", "bad"], [now, "also good"]]}]}
    answer = requests.post(f"{server.url}/loki/api/v1/push", json=body, timeout=10)
    assert answer.status_code == 400 and "not a time" in answer.text, answer.text
    lines = eventually(lambda: server.logql('{app="part"}'))
    assert sorted(line for _, line in lines) == ["also good", "good"]


def test_partial_success_is_reported(server):
    gauge = {"name": "g", "gauge": {"dataPoints": [{"timeUnixNano": str(time.time_ns()), "asDouble": 1.0}]}}
    broken = {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": str(time.time_ns()), "count": "5", "sum": 1, "bucketCounts": ["1"], "explicitBounds": [1.0, 2.0]}]}}
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [gauge, broken]}]}]}
    answer = requests.post(f"{server.url}/v1/metrics", json=body, timeout=10)
    assert answer.status_code == 200
    assert int(answer.json()["partialSuccess"]["rejectedDataPoints"]) >= 1, answer.text
    assert eventually(lambda: server.promql("g"))


def test_an_endless_line_and_many_attributes_are_limited_visibly(server):
    now = str(time.time_ns())
    attributes = [{"key": f"k{at}", "value": {"stringValue": "v"}} for at in range(10_000)]
    record = {"timeUnixNano": now, "body": {"stringValue": "x" * (1 << 20)}, "attributes": attributes}
    body = {"resourceLogs": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "big"}}]}, "scopeLogs": [{"logRecords": [record]}]}]}
    answer = requests.post(f"{server.url}/v1/logs", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    lines = eventually(lambda: server.logql('{service_name="big"}'))
    assert len(lines[0][1]) >= 256 << 10


def test_wrong_paths_queries_and_methods(server):
    assert requests.get(f"{server.url}/api/v1/no-such", timeout=5).status_code == 404
    assert requests.get(f"{server.url}/..%2f..%2fetc/passwd", timeout=5).status_code in (400, 404)
    assert requests.delete(f"{server.url}/api/v1/query", timeout=5).status_code in (404, 405)
    answer = requests.get(f"{server.url}/api/v1/query", params={"query": "sum(rate(x[5m])"}, timeout=5)
    assert answer.status_code == 400 and answer.json()["errorType"] == "bad_data" and "1:" in answer.json()["error"], answer.text
    answer = requests.get(f"{server.url}/api/v1/query_range", params={"query": "up", "start": 0, "end": 10**9, "step": 1}, timeout=5)
    assert answer.status_code == 400 and "11,000" in answer.json()["error"]
    for query in ("DROP TABLE logs", "CREATE TABLE x AS SELECT 1", "COPY logs TO '/tmp/x'", "SELECT * FROM '/etc/passwd'", "SELEC 1"):
        answer = requests.post(f"{server.url}/bellrock/v1/sql", json={"query": query}, timeout=10)
        assert 400 <= answer.status_code < 500, f"{query}: {answer.status_code} {answer.text}"


def test_a_query_that_wants_too_much_is_stopped(server):
    answer = requests.get(f"{server.url}/api/v1/query", params={"query": "(" * 5000 + "1" + ")" * 5000}, timeout=10)
    assert answer.status_code == 400
    answer = requests.get(f"{server.url}/loki/api/v1/query_range", params={"query": '{a=~"' + "(x{1000}){1000}" + '"}'}, timeout=10)
    assert answer.status_code == 400


def test_answers_of_logs_and_traces_count_as_they_are_written(make_server):
    server = make_server(config="bellrock: { limits: { query_memory: 6MB } }").start()
    now, long = time.time_ns(), "a long line " * 100
    values = [[str(now - at), f"{at} {long}"] for at in range(3000)]
    body = {"streams": [{"stream": {"app": "much"}, "values": values}]}
    assert requests.post(f"{server.url}/loki/api/v1/push", json=body, timeout=20).status_code == 204
    trace = "0123456789abcdef" * 2
    spans = [
        {"traceId": trace, "spanId": f"{at + 1:016x}", "name": "s", "startTimeUnixNano": str(now + at), "endTimeUnixNano": str(now + at + 1),
         "attributes": [{"key": "much", "value": {"stringValue": f"{at} {long}"}}]}
        for at in range(2000)
    ]
    request = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    assert requests.post(f"{server.url}/v1/traces", json=request, timeout=20).status_code == 200
    start = now - 3600 * 10**9
    ask = lambda path, **parameters: requests.get(server.url + path, params=parameters, timeout=20)
    lines = lambda limit: ask("/loki/api/v1/query_range", query='{app="much"}', limit=limit, start=start)
    few = eventually(lambda: lines(100).status_code == 200 and lines(100).json()["data"])
    assert len(few["result"][0]["values"]) == 100 and few["result"][0]["stream"]["app"] == "much"
    for answer in (lines(3000), ask(f"/tempo/api/traces/{trace}"), ask(f"/tempo/api/v2/traces/{trace}"), ask(f"/bellrock/v1/traces/{trace}")):
        assert answer.status_code in (400, 422) and "needs more than its 6 MiB" in answer.text, answer.text[:300]
    assert "writing the answer" in lines(3000).text
    tags = ask("/tempo/api/search/tags").json()
    assert tags["tagNames"] == ["much"]
    assert ask("/tempo/api/search", q="{}", spss=101).status_code == 400


def test_rows_of_operators_may_be_long(server):
    """Recording rules and dashboards are made by programs."""
    rows = {"+": 5001.0, "or": 1.0}
    for operator, value in rows.items():
        query = f" {operator} ".join(["vector(1)"] * 5001)
        found = requests.post(f"{server.url}/api/v1/query", data={"query": query}, timeout=20).json()
        assert [sample["value"][1] for sample in found["data"]["result"]] == [f"{value:g}"]
        matrix = requests.post(f"{server.url}/api/v1/query_range", data={"query": query, "start": 0, "end": 60, "step": 15}, timeout=20)
        assert [[float(point) for _, point in series["values"]] for series in matrix.json()["data"]["result"]] == [[value] * 5]
        formatted = requests.post(f"{server.url}/api/v1/format_query", data={"query": query}, timeout=20).json()["data"]
        assert " ".join(formatted.split()) == query
        tree = requests.post(f"{server.url}/api/v1/parse_query", data={"query": query}, timeout=20)
        assert tree.status_code == 200 and tree.text.count('"binaryExpr"') == 5000 and tree.text.endswith("}}")
    for absurd in ("+".join(["1"] * 30_000), "^".join(["1"] * 5000)):
        answer = requests.post(f"{server.url}/api/v1/query", data={"query": absurd}, timeout=20)
        assert answer.status_code == 400 and ("20000 operators" in answer.text or "nested too deeply" in answer.text), answer.text[:300]


HOUR = 3600 * 10**9
YEAR = 365 * 24 * HOUR


def send_at(server, name, at):
    """A log by OTLP and by Loki, a span, and a sample of one time: what each was answered."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]}
    record = {"timeUnixNano": str(at), "body": {"stringValue": name}}
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": name, "startTimeUnixNano": str(at), "endTimeUnixNano": str(at)}
    gauge = {"name": name, "gauge": {"dataPoints": [{"timeUnixNano": str(at), "asDouble": 1.0}]}}
    bodies = {
        "/v1/logs": {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]},
        "/v1/traces": {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]},
        "/v1/metrics": {"resourceMetrics": [{"scopeMetrics": [{"metrics": [gauge]}]}]},
        "/loki/api/v1/push": {"streams": [{"stream": {"service_name": name}, "values": [[str(at), name]]}]},
    }
    return {path: requests.post(server.url + path, json=body, timeout=10) for path, body in bodies.items()}


@pytest.mark.parametrize(
    "name, offset, stored",
    [
        ("an_hour_ahead", HOUR, {"/v1/logs", "/v1/traces", "/loki/api/v1/push"}),
        ("two_days_ahead", 48 * HOUR, set()),
        ("a_century_ahead", 100 * YEAR, set()),
        ("an_hour_ago", -HOUR, {"/v1/logs", "/v1/traces", "/v1/metrics", "/loki/api/v1/push"}),
        ("a_year_ago", -YEAR, set()),
    ],
)
def test_what_is_of_another_time_is_kept_or_refused_with_a_reason(make_server, name, offset, stored):
    server = make_server(config="bellrock: { flush_interval: 1s }").start()
    answers = send_at(server, name, time.time_ns() + offset)
    said = {path for path, answer in answers.items() if answer.status_code == 204 or answer.text == "{}"}
    assert said == stored, {path: f"{answer.status_code} {answer.text}" for path, answer in answers.items()}
    for path in answers.keys() - stored:
        assert "ahead" in answers[path].text or "further back" in answers[path].text, answers[path].text
    if stored:
        eventually(lambda: "HeadsFlushed" in server.log())
    for table, paths in (("logs", {"/v1/logs", "/loki/api/v1/push"}), ("spans", {"/v1/traces"})):
        assert server.sql(f"SELECT count(*) AS n FROM {table} WHERE service = '{name}'")[0]["n"] == len(stored & paths)
    assert bool(server.promql(f"count_over_time({name}[2h])")) == ("/v1/metrics" in stored)


def test_impossible_times_are_refused_or_taken_as_now(server):
    for at in (-5, 2**63 - 1, 2**64 - 1):
        for path, answer in send_at(server, "impossible", at).items():
            assert answer.status_code in (200, 400), f"{path} {at}: {answer.status_code} {answer.text}"
            assert answer.text not in ("", "{}"), f"{path} {at} is refused with a reason"
    # 0 is OTLP's word for unknown.
    answers = send_at(server, "unknown", 0)
    assert answers["/v1/logs"].text == "{}" and answers["/v1/metrics"].text == "{}"
    assert server.logql('{service_name="unknown"}') and server.promql("unknown")
    assert server.process.poll() is None and requests.get(f"{server.url}/-/ready", timeout=5).status_code == 200


def test_retention_keeps_what_is_young_beside_what_is_old(make_server):
    server = make_server(config="bellrock: { flush_interval: 1s, retention: { logs: 2h, spans: 2h, metrics: 2h } }").start()
    now = time.time_ns()
    for name, age in (("young", 0), ("older", HOUR), ("oldest", 3 * HOUR)):
        send_at(server, name, now - age)
    eventually(lambda: server.get("/bellrock/v1/status")["storage"]["files"] >= 3)
    before = server.log().count("HeadsFlushed")
    send_at(server, "later", time.time_ns())
    eventually(lambda: server.log().count("HeadsFlushed") > before)
    found = {row["name"]: row["n"] for row in server.sql("SELECT service AS name, count(*) AS n FROM logs GROUP BY service")}
    assert found == {"young": 2, "older": 2, "later": 2}


def test_what_only_the_store_can_refuse_is_told_to_the_sender(server):
    """A second value for one time, and a sample further back than its series takes: known when the store takes the batch."""
    now = time.time_ns()

    def send(*points):
        points = [{"timeUnixNano": str(at), "asDouble": value} for at, value in points]
        body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "judged", "gauge": {"dataPoints": points}}]}]}]}
        return requests.post(f"{server.url}/v1/metrics", json=body, timeout=10)

    assert send((now, 1.0)).text == "{}"
    assert send((now, 1.0)).text == "{}", "the same again is a sender that tries again"
    answer = send((now, 2.0), (now - 40 * 60 * 10**9, 3.0), (now + 10**9, 4.0)).json()["partialSuccess"]
    assert int(answer["rejectedDataPoints"]) == 2
    assert "another value" in answer["errorMessage"] and "too old" in answer["errorMessage"]
    assert server.promql("judged", time=now / 1e9 + 2)[0][1] == 4.0


def test_one_bad_id_loses_nothing_else(server):
    lines = [{"traceId": "zz", "body": {"stringValue": "kept"}}, {"body": {"stringValue": "good"}}]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "mixed"}}]}
    body = json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": lines}]}]})
    answer = post(server, "/v1/logs", body, **{"content-type": "application/json"})
    assert answer.status_code == 200 and 'logRecords[0]: traceId "zz"' in answer.json()["partialSuccess"]["errorMessage"]
    assert sorted(line for _, line in eventually(lambda: server.logql('{service_name="mixed"}'))) == ["good", "kept"]
    good = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "good"}
    body = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [{**good, "traceId": "zz"}, good]}]}]})
    partial = post(server, "/v1/traces", body, **{"content-type": "application/json"}).json()["partialSuccess"]
    assert partial["rejectedSpans"] in (1, "1") and 'spans[0]: traceId "zz" is not hexadecimal' in partial["errorMessage"]
    assert eventually(lambda: server.get("/bellrock/v1/traces")["traces"])[0]["trace_id"] == "ab" * 16


def test_broken_protobuf_says_where(server):
    answer = post(server, "/v1/traces", b"\x0a\x04\x12\x02\x12\x7f", **{"content-type": "application/x-protobuf"})
    assert answer.status_code == 400 and b"resource[0]: scope[0]: byte 0" in answer.content, answer.content
