"""What is summed up as it comes in, deltas of OTLP and spans, goes on over crashes: nothing counts twice, nothing begins anew."""

import time

import requests
from bellrock_server import eventually

FLUSH_BY_HAND = "bellrock: { flush_interval: 1h }"


def flush(server):
    assert requests.post(f"{server.url}/bellrock/v1/admin/flush", timeout=30).status_code == 200


def restart(server):
    server.kill()
    server.start()
    eventually(lambda: server.get("/bellrock/v1/status")["replay"]["done"])


def post_delta(server, value, at):
    point = {"asDouble": value, "startTimeUnixNano": str(at - 10**9), "timeUnixNano": str(at)}
    metric = {"name": "jobs", "sum": {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]}}
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    answer = requests.post(f"{server.url}/v1/metrics", json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer


def send_delta(server, value, at):
    answer = post_delta(server, value, at)
    assert answer.status_code == 200 and not answer.json().get("partialSuccess"), answer.text


def test_sums_of_deltas_survive_a_crash(make_server):
    server = make_server(config=FLUSH_BY_HAND).start()
    start = time.time_ns() - 60 * 10**9
    times = [start + step * 10**9 for step in range(0, 50, 10)]

    def sums():
        return [server.promql("jobs_total", time=at / 1e9)[0][1] for at in times if server.promql("jobs_total", time=at / 1e9)]

    send_delta(server, 5, times[0])
    flush(server)
    send_delta(server, 7, times[1])
    send_delta(server, 1, times[2])
    assert sums()[:3] == [5, 12, 13]
    restart(server)
    assert sums()[:3] == [5, 12, 13], "what is in a file, and what was read back from the journal"
    send_delta(server, 1, times[2])
    send_delta(server, 2, times[3])
    assert sums()[:4] == [5, 12, 13, 15]
    flush(server)
    restart(server)
    send_delta(server, 4, times[4])
    assert sums() == [5, 12, 13, 15, 19]
    for value, at, words in ((9, times[4], "not newer than"), (9, times[3], "not newer than")):
        refused = post_delta(server, value, at).json()["partialSuccess"]
        assert refused["rejectedDataPoints"] in (1, "1") and words in refused["errorMessage"], refused
    assert sums() == [5, 12, 13, 15, 19]


def send_spans(server, first, count):
    now = time.time_ns()
    spans = [
        {"traceId": f"{at + 1:032x}", "spanId": f"{at + 1:016x}", "name": "GET /", "kind": 2, "status": {"code": 2 if at % 5 == 0 else 0},
         "startTimeUnixNano": str(now - 10**8), "endTimeUnixNano": str(now)}
        for at in range(first, first + count)
    ]  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
    assert requests.post(f"{server.url}/v1/traces", json=body, timeout=10).status_code == 200


def test_each_span_counts_once(make_server):
    server = make_server(config=FLUSH_BY_HAND).start()
    for at in range(10):
        send_spans(server, at * 10, 10)
        if at in (2, 6):
            flush(server)
        if at in (4, 6, 8):
            restart(server)
    flush(server)

    def total(query):
        return sum(value for _, value in server.promql(query))

    assert total("sum(traces_spanmetrics_calls_total)") == 100
    assert total('sum(traces_spanmetrics_calls_total{status_code="STATUS_CODE_ERROR"})') == 20
    assert total("histogram_count(sum(traces_spanmetrics_latency))") == 100
    assert abs(total("histogram_avg(sum(traces_spanmetrics_latency))") - 0.1) < 1e-6
    assert total('traces_service_graph_request_total{client="user", server="web"}') == 100
    now = time.time()
    exemplars = server.get("/api/v1/query_exemplars", query="traces_spanmetrics_latency", start=now - 600, end=now)["data"]
    ids = [exemplar["labels"]["trace_id"] for series in exemplars for exemplar in series["exemplars"]]
    assert ids and server.get(f"/jaeger/api/traces/{ids[0]}")["data"][0]["spans"]
