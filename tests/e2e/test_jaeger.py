"""Jaeger's query APIs: version 1, which Grafana's data source speaks with the URL http://HOST:PORT/jaeger, and version 3."""

import json
import time
from datetime import datetime, timezone

import pytest
import requests
from bellrock_server import eventually

TRACE, OTHER = "00" * 8 + "ab" * 8, "cd" * 16


def attribute(key, value):
    kind = {str: "stringValue", int: "intValue", bool: "boolValue", float: "doubleValue"}[type(value)]
    return {"key": key, "value": {kind: value}}


def span(trace_id, span_id, name, lasts_ms, start, **more):
    ends = start + lasts_ms * 1_000_000
    return {"traceId": trace_id, "spanId": span_id * 8, "name": name, "startTimeUnixNano": str(start), "endTimeUnixNano": str(ends), **more}


@pytest.fixture
def jaeger(server):
    now = (time.time_ns() - 5 * 10**9) // 1000 * 1000
    slow = span(TRACE, "a1", "POST /pay", 800, now, kind=2, attributes=[attribute("http.route", "/pay"), attribute("code", 500)],
                events=[{"timeUnixNano": str(now + 1000), "name": "retry", "attributes": [attribute("attempt", 2)]}], status={"code": 2, "message": "no"})
    bank = span(TRACE, "a2", "charge", 300, now + 10**7, kind=2, parentSpanId="a1" * 8, attributes=[attribute("amount", 72.5)])
    fast = span(OTHER, "b1", "GET /cart", 20, now + 10**9, kind=3, attributes=[attribute("http.route", "/cart*")])
    pod = [attribute("service.name", "shop"), attribute("pod", "p-1")]
    server.body = {"resourceSpans": [
        {"resource": {"attributes": pod}, "scopeSpans": [{"scope": {"name": "lib", "version": "2"}, "spans": [slow, fast]}]},
        {"resource": {"attributes": [attribute("service.name", "bank")]}, "scopeSpans": [{"spans": [bank]}]},
    ]}
    server.start_micros = now // 1000
    assert requests.post(f"{server.url}/v1/traces", json=server.body, timeout=10).status_code == 200
    eventually(lambda: len(server.get("/jaeger/api/traces")["data"]) == 2)
    return server


def flush(server):
    assert requests.post(f"{server.url}/bellrock/v1/admin/flush", timeout=60).status_code == 200


def found(server, **parameters):
    return [trace["traceID"] for trace in server.get("/jaeger/api/traces", **parameters)["data"]]


def test_names(jaeger):
    for step in (lambda: None, lambda: flush(jaeger)):
        step()
        assert jaeger.get("/jaeger/api/services") == {"data": ["bank", "shop"], "total": 2, "limit": 0, "offset": 0, "errors": None}
        assert jaeger.get("/jaeger/api/services/shop/operations")["data"] == ["GET /cart", "POST /pay"]
        pairs = [{"name": "GET /cart", "spanKind": "client"}, {"name": "POST /pay", "spanKind": "server"}]
        assert jaeger.get("/jaeger/api/operations", service="shop")["data"] == pairs
        assert jaeger.get("/jaeger/api/operations", service="shop", spanKind="server")["data"] == pairs[1:]
        assert jaeger.get("/jaeger/api/v3/services") == {"services": ["bank", "shop"]}
        assert jaeger.get("/api/v3/operations", service="shop", span_kind="client") == {"operations": pairs[:1]}
        links = jaeger.get("/jaeger/api/dependencies", endTs=int(time.time() * 1000), lookback=3_600_000)["data"]
        assert links == [{"parent": "shop", "child": "bank", "callCount": 1}]
        assert jaeger.get("/jaeger/api/dependencies", endTs=int(time.time() * 1000), service="cart")["data"] == []


def test_searches(jaeger):
    short = TRACE[16:]
    for step in (lambda: None, lambda: flush(jaeger)):
        step()
        assert found(jaeger, service="shop") == [OTHER, short], "the newest first"
        assert found(jaeger, service="shop", limit=1) == [OTHER]
        assert found(jaeger, service="bank", operation="charge", tags=json.dumps({"amount": 72.5})) == [short]
        assert found(jaeger, tags=json.dumps({"code": "500"})) == found(jaeger, tag="code:500") == [short]
        # Of the span, its resource, an event, and what Jaeger makes of status, kind and scope.
        for tag in ("http.route:/pay", "attempt:2", "error:true", "otel.status_code:ERROR", "otel.status_description:no"):
            assert found(jaeger, tag=tag) == [short], tag
        assert found(jaeger, tag=["pod:p-1", "otel.scope.name:lib"]) == [OTHER, short]
        assert found(jaeger, tag="span.kind:client") == [OTHER]
        # Text first, then a pattern over all of it.
        assert found(jaeger, tag="http.route:/cart*") == found(jaeger, tag=r"http.route:/cart\*") == [OTHER]
        assert found(jaeger, tag="http.route:/(pay|car.*)") == [OTHER, short]
        assert found(jaeger, tag="http.route:/ca") == []
        assert found(jaeger, minDuration="500ms") == [short] and found(jaeger, maxDuration="0.1s") == [OTHER]
        start = jaeger.start_micros
        assert found(jaeger, start=start, end=start) == [short], "both ends are in it"
        assert found(jaeger, start=start + 1, end=start + 2) == [] and found(jaeger, end=start - 1, lookback="1h") == []
        assert found(jaeger, traceID=[short, "ef" * 16]) == [short]
    for wrong in ({"start": "x"}, {"start": 5, "end": 4}, {"tags": "["}, {"tag": "x"}, {"minDuration": "5"}, {"limit": 100_000}, {"traceID": "xyz"}):
        answer = requests.get(f"{jaeger.url}/jaeger/api/traces", params=wrong, timeout=10)
        assert answer.status_code == 400 and answer.json()["errors"][0]["code"] == 400, wrong


def test_a_trace_in_version_1(jaeger):
    for trace_id in (TRACE, TRACE[16:]):
        trace = jaeger.get(f"/jaeger/api/traces/{trace_id}")["data"][0]
        assert trace["traceID"] == TRACE[16:] and len(trace["spans"]) == 2
    root, child = trace["spans"]
    tags = {tag["key"]: (tag["type"], tag["value"]) for tag in root["tags"]}
    assert tags["code"] == ("int64", 500) and tags["error"] == ("bool", True) and tags["otel.scope.version"] == ("string", "2")
    assert (root["startTime"], root["duration"]) == (jaeger.start_micros, 800_000)
    assert root["logs"] == [{"timestamp": jaeger.start_micros + 1, "fields": [
        {"key": "event", "type": "string", "value": "retry"}, {"key": "attempt", "type": "int64", "value": 2}]}]
    assert child["references"] == [{"refType": "CHILD_OF", "traceID": TRACE[16:], "spanID": "a1" * 8}]
    assert trace["processes"][root["processID"]] == {"serviceName": "shop", "tags": [{"key": "pod", "type": "string", "value": "p-1"}]}
    # Grafana's data source gives the range in milliseconds, where Jaeger takes microseconds.
    millis = jaeger.start_micros // 1000
    assert len(jaeger.get(f"/jaeger/api/traces/{TRACE}", start=millis, end=millis + 1000)["data"][0]["spans"]) == 2
    missing = requests.get(f"{jaeger.url}/jaeger/api/traces/{'ef' * 16}", timeout=10)
    assert missing.status_code == 404 and missing.json()["errors"] == [{"code": 404, "msg": "trace not found"}]
    shown = requests.post(f"{jaeger.url}/jaeger/api/transform", json=jaeger.body, timeout=10).json()["data"]
    assert [trace["traceID"] for trace in shown] == [TRACE[16:], OTHER]


def test_version_3(jaeger):
    trace = jaeger.get(f"/jaeger/api/v3/traces/{TRACE}")["result"]["resourceSpans"]
    sent = jaeger.body["resourceSpans"]
    names = {span["name"] for resource in trace for scope in resource["scopeSpans"] for span in scope["spans"]}
    assert names == {"POST /pay", "charge"}
    event = [resource for resource in trace if resource["resource"] == sent[0]["resource"]][0]["scopeSpans"][0]["spans"][0]["events"][0]
    assert event == {**sent[0]["scopeSpans"][0]["spans"][0]["events"][0], "attributes": [{"key": "attempt", "value": {"intValue": "2"}}]}

    def at(micros):
        return datetime.fromtimestamp(micros / 1e6, timezone.utc).isoformat().replace("+00:00", "Z")

    window = {"query.start_time_min": at(jaeger.start_micros - 1_000_000), "query.start_time_max": at(jaeger.start_micros + 60_000_000)}
    for path in ("/jaeger/api/v3", "/api/v3"):
        result = jaeger.get(f"{path}/traces", **{"query.service_name": "shop", "query.duration_min": "0.5s"}, **window)["result"]
        assert {span["traceId"] for resource in result["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]} == {TRACE}
    summary = jaeger.get("/jaeger/api/v3/trace-summaries", **{"query.serviceName": "bank"}, **window)["summaries"]
    assert summary == [{
        "traceId": TRACE, "rootServiceName": "shop", "rootOperationName": "POST /pay", "spanCount": 2, "errorSpanCount": 1,
        "minStartTimeUnixNano": str(jaeger.start_micros * 1000), "maxEndTimeUnixNano": str(jaeger.start_micros * 1000 + 800_000_000),
        "services": [{"name": "bank", "spanCount": 1}, {"name": "shop", "spanCount": 1, "errorSpanCount": 1}],
    }]
    for path, status in ((f"traces/{'ef' * 16}", 404), ("traces?query.start_time_min=x", 400), ("traces?query.filter=x", 400), ("operations", 400)):
        answer = requests.get(f"{jaeger.url}/jaeger/api/v3/{path}", timeout=10)
        assert answer.status_code == status and answer.json()["error"]["httpCode"] == status, path


def test_a_batch_of_an_older_client(server):
    """jaeger.thrift's Batch by hand, in Thrift's binary protocol."""
    def field(kind, number, value):
        return bytes([kind, 0, number]) + value

    def text(number, value):
        return field(11, number, len(value).to_bytes(4, "big") + value)

    def structs(number, *items):
        return field(15, number, b"\x0c" + len(items).to_bytes(4, "big") + b"".join(item + b"\0" for item in items))

    began = time.time_ns() // 1000
    ids = b"".join(field(10, number, value.to_bytes(8, "big")) for number, value in ((1, 0xF1), (2, 0), (3, 2), (8, began), (9, 50)))
    tag = text(1, b"error") + field(8, 2, (2).to_bytes(4, "big")) + field(2, 5, b"\1")
    body = field(12, 1, text(1, b"old") + b"\0") + structs(2, ids + text(5, b"work") + structs(10, tag)) + b"\0"
    for path, content_type in (("/api/traces", "application/x-thrift"), ("/jaeger/api/traces?format=jaeger.thrift", "application/vnd.apache.thrift.binary")):
        answer = requests.post(server.url + path, data=body, headers={"content-type": content_type}, timeout=10)
        assert (answer.status_code, answer.text) == (202, "")
    eventually(lambda: len(server.get("/jaeger/api/traces", service="old", tag="error:true")["data"]) == 1)
    trace = server.get("/jaeger/api/traces/f1")["data"][0]
    assert [(span["operationName"], span["startTime"], span["duration"]) for span in trace["spans"]] == [("work", began, 50)], "sent twice"
    assert requests.post(f"{server.url}/api/traces", data=body[:-9], headers={"content-type": "application/x-thrift"}, timeout=10).status_code == 400
    assert requests.post(f"{server.url}/api/traces", json={}, timeout=10).status_code == 415


def test_halves_that_zipkin_shares_are_told_apart(server):
    now = time.time_ns() // 1000

    def half(span_id, parent, kind, service, **more):
        return {"traceId": "e1", "id": span_id, "parentId": parent, "kind": kind, "timestamp": now, "localEndpoint": {"serviceName": service}, **more}

    spans = [half("2", "1", "CLIENT", "web"), half("2", "1", "SERVER", "shop", shared=True), half("3", "2", "CLIENT", "shop")]
    assert requests.post(f"{server.url}/api/v2/spans", json=spans, timeout=10).status_code == 202
    eventually(lambda: len(server.get("/jaeger/api/traces", service="shop")["data"]) == 1)
    trace = server.get("/jaeger/api/traces/e1")["data"][0]
    services = {key: process["serviceName"] for key, process in trace["processes"].items()}
    kinds = {tag["value"] for span in trace["spans"] for tag in span["tags"] if tag["key"] == "span.kind"}
    assert kinds == {"client", "server"} and len({span["spanID"] for span in trace["spans"]}) == 3
    server_half = [span for span in trace["spans"] if services[span["processID"]] == "shop" and span["references"][0]["spanID"] == "2".zfill(16)][0]
    child = [span for span in trace["spans"] if span["spanID"] == "3".zfill(16)][0]
    assert child["references"][0]["spanID"] == server_half["spanID"]
    resources = server.get("/jaeger/api/v3/traces/e1")["result"]["resourceSpans"]
    ids = {span["spanId"] for resource in resources for scope in resource["scopeSpans"] for span in scope["spans"]}
    assert ids == {span["spanID"] for span in trace["spans"]}
