"""Zipkin's format 2 in, as its reporters send it, and out, as its own pages and Grafana ask for it."""

import gzip
import json
import time

import pytest
import requests
from bellrock_server import eventually

TRACE = "00000000000000a1"
JSON = {"content-type": "application/json"}


def spans(now):
    """A call from web to shop of which both halves share an id, a database behind it, and a message through a broker."""
    web, shop, mail = ({"serviceName": name, "ipv4": "10.0.0.1", "port": 80} for name in ("web", "shop", "mail"))

    def span(span_id, parent, kind, name, local, lasts, **more):
        return {"traceId": TRACE, "id": f"{span_id:016x}", **({"parentId": f"{parent:016x}"} if parent else {}), "kind": kind,
                "name": name, "timestamp": now, "duration": lasts, "localEndpoint": local, **more}

    return [
        span(1, 0, "SERVER", "get /", web, 9000, tags={"http.method": "GET", "http.status_code": "500", "error": "no stock"},
             annotations=[{"timestamp": now + 5, "value": "cache.miss"}]),
        span(2, 1, "CLIENT", "get /stock", web, 8000),
        span(2, 1, "SERVER", "get /stock", shop, 7000, shared=True),
        span(3, 2, "CLIENT", "select", shop, 6000, remoteEndpoint={"serviceName": "postgres", "ipv6": "2001:db8::1", "port": 5432}),
        span(4, 1, "PRODUCER", "publish", web, 10, remoteEndpoint={"serviceName": "kafka"}),
        span(5, 4, "CONSUMER", "deliver", mail, 10, remoteEndpoint={"serviceName": "kafka"}),
    ]


def ordered(trace):
    return sorted(trace, key=lambda span: (span["id"], span["localEndpoint"]["serviceName"]))


@pytest.fixture
def zipkin(server):
    server.sent = spans(time.time_ns() // 1000 - 60_000_000)
    answer = requests.post(f"{server.url}/api/v2/spans", data=gzip.compress(json.dumps(server.sent).encode()), headers={**JSON, "content-encoding": "gzip"}, timeout=10)
    assert (answer.status_code, answer.text) == (202, "")
    eventually(lambda: len(server.get("/zipkin/api/v2/traces")) == 1)
    return server


def flush(server):
    assert requests.post(f"{server.url}/bellrock/v1/admin/flush", timeout=60).status_code == 200


def test_a_trace_comes_out_as_it_went_in(zipkin):
    for step in (lambda: None, lambda: flush(zipkin)):
        step()
        for trace_id in (TRACE, TRACE.zfill(32), "a1"):
            assert ordered(zipkin.get(f"/zipkin/api/v2/trace/{trace_id}")) == ordered(zipkin.sent)
        assert [ordered(trace) for trace in zipkin.get("/zipkin/api/v2/traceMany", traceIds=f"{TRACE},{'b' * 16}")] == [ordered(zipkin.sent)]
    missing = requests.get(f"{zipkin.url}/zipkin/api/v2/trace/{'b' * 16}", timeout=10)
    assert missing.status_code == 404


def test_it_survives_a_kill(zipkin):
    zipkin.kill()
    zipkin.start()
    eventually(lambda: len(zipkin.get("/zipkin/api/v2/traces")) == 1)
    assert ordered(zipkin.get(f"/zipkin/api/v2/trace/{TRACE}")) == ordered(zipkin.sent)


def test_names_and_links(zipkin):
    for step in (lambda: None, lambda: flush(zipkin)):
        step()
        assert zipkin.get("/zipkin/api/v2/services") == ["mail", "shop", "web"]
        assert zipkin.get("/zipkin/api/v2/spans", serviceName="web") == ["get /", "get /stock", "publish"]
        assert zipkin.get("/zipkin/api/v2/remoteServices", serviceName="shop") == ["postgres"]
        links = zipkin.get("/zipkin/api/v2/dependencies", endTs=int(time.time() * 1000))
        pairs = [(link["parent"], link["child"], link["callCount"]) for link in links]
        assert pairs == [("kafka", "mail", 1), ("shop", "postgres", 1), ("web", "kafka", 1), ("web", "shop", 1)]
    assert zipkin.get("/zipkin/api/v2/autocompleteKeys") == zipkin.get("/zipkin/api/v2/autocompleteValues", key="k") == []
    for call in ("spans", "remoteServices", "dependencies"):
        assert requests.get(f"{zipkin.url}/zipkin/api/v2/{call}", timeout=10).status_code == 400


def test_searches(zipkin):
    now = int(time.time() * 1000)

    def found(**parameters):
        return len(zipkin.get("/zipkin/api/v2/traces", **parameters))

    # As in Zipkin, the conditions may hold for several spans of the service.
    for query in ({"serviceName": "web"}, {"serviceName": "shop", "spanName": "select"}, {"annotationQuery": "cache.miss and http.method=GET"},
                  {"serviceName": "web", "annotationQuery": "error", "spanName": "publish"}, {"annotationQuery": "http.status_code=500"},
                  {"serviceName": "shop", "remoteServiceName": "postgres"}, {"serviceName": "web", "minDuration": 9000, "maxDuration": 9000},
                  {"endTs": now, "lookback": 120_000}):
        assert found(**query) == 1, query
    for query in ({"serviceName": "web", "spanName": "select"}, {"serviceName": "shop", "annotationQuery": "error"}, {"minDuration": 9001},
                  {"annotationQuery": "http.method=POST"}, {"endTs": now - 120_000}, {"endTs": now, "lookback": 1000}):
        assert found(**query) == 0, query
    for query in ({"minDuration": "x"}, {"endTs": "now"}, {"limit": 100_000}, {"annotationQuery": "=x"}):
        assert requests.get(f"{zipkin.url}/zipkin/api/v2/traces", params=query, timeout=10).status_code == 400, query


def test_the_other_languages_see_the_spans(zipkin):
    rows = zipkin.sql("SELECT service, name, status FROM spans WHERE attr(attributes, 'http.method') = 'GET'")
    assert [list(row.values()) if isinstance(row, dict) else list(row) for row in rows] == [["web", "get /", "error"]]
    found = zipkin.get("/tempo/api/search", q='{ status = error && event:name = "cache.miss" }')["traces"]
    assert [trace["traceID"] for trace in found] == [TRACE.zfill(32)]


def field(number, payload):
    return bytes([number << 3 | 2, len(payload)]) + payload


def test_protobuf(server):
    """A ListOfSpans by hand: it has a few short fields."""
    began = time.time_ns() // 1000 - 1000
    span = (field(1, bytes(7) + b"\xb1") + field(3, bytes(7) + b"\x01") + b"\x20\x02" + field(5, b"get") + b"\x31" + began.to_bytes(8, "little")
            + b"\x38\x0a" + field(8, field(1, b"front")) + field(11, field(1, b"k") + field(2, b"v")))
    answer = requests.post(f"{server.url}/zipkin/api/v2/spans", data=field(1, span), headers={"content-type": "application/x-protobuf"}, timeout=10)
    assert answer.status_code == 202, answer.text
    expect = {"traceId": "00000000000000b1", "id": "0000000000000001", "kind": "SERVER", "name": "get", "timestamp": began, "duration": 10,
              "localEndpoint": {"serviceName": "front"}, "tags": {"k": "v"}}
    eventually(lambda: server.get("/zipkin/api/v2/traces", serviceName="front") == [[expect]])


def test_what_is_refused_is_told(server):
    def answer(body, **headers):
        return requests.post(f"{server.url}/api/v2/spans", data=body, headers={**JSON, **headers}, timeout=10)

    now = time.time_ns() // 1000
    good = {"traceId": "c1", "id": "1", "name": "good", "timestamp": now, "localEndpoint": {"serviceName": "half"}}
    told = answer(json.dumps([good, {"traceId": "nothex", "id": "2"}, {**good, "id": "3", "timestamp": 1000}]))
    # The OpenTelemetry Collector sends all of it again, for minutes, when the answer is no success.
    assert told.status_code == 202 and "2 spans refused" in told.text and "nothex" in told.text, told.text
    assert "2 spans refused" in told.headers["x-bellrock-warning"]
    none = answer(json.dumps([{"traceId": "nothex", "id": "2"}]))
    assert none.status_code == 400 and "1 spans refused" in none.text, none.text
    eventually(lambda: len(server.get("/zipkin/api/v2/traces", serviceName="half")) == 1)
    assert answer("[{").status_code == answer("7").status_code == 400
    assert answer("", **{"content-type": "application/x-thrift"}).status_code == 415
    assert answer("[]").status_code == 202
