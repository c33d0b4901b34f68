"""The life of metrics: series that were deleted, limits on series, retention by rule."""

import struct
import time

import cramjam
import requests
from bellrock_server import eventually
from prometheus_peer import field, float_sample, varint

TOKENS = """
bellrock:
  auth:
    tokens:
      - { name: services, role: ingest, token: "ingest-token-0123456789" }
      - { name: team, role: responder, token: "responder-token-0123456789" }
      - { name: root, role: admin, token: "admin-token-0123456789" }
"""


def push(server, points, service="shop", instance="one", headers=None):
    """Sends gauges over OTLP: [(name, seconds ago, value)]."""
    now = time.time_ns()
    attributes = {"service.name": service, "service.instance.id": instance}
    metrics = [
        {"name": name, "gauge": {"dataPoints": [{"timeUnixNano": str(now - int(ago * 1e9)), "asDouble": value}]}}
        for name, ago, value in points
    ]
    body = {
        "resourceMetrics": [
            {
                "resource": {"attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]},
                "scopeMetrics": [{"metrics": metrics}],
            }
        ]
    }
    answer = requests.post(f"{server.url}/v1/metrics", json=body, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


def names(server):
    return server.get("/api/v1/label/__name__/values")["data"]


def admin(server, call, method="POST", headers=None, **parameters):
    return requests.request(method, f"{server.url}/api/v1/admin/tsdb/{call}", params=parameters, headers=headers, timeout=30)


def test_deleted_series_stay_gone_over_restarts_and_leave_the_files(make_server):
    server = make_server().start()
    push(server, [("keep", 9, 1), ("gone", 9, 1)])
    server.post("/bellrock/v1/admin/flush", None)
    push(server, [("gone", 5, 2)])
    assert admin(server, "delete_series", **{"match[]": "gone"}).status_code == 204
    assert server.promql("count_over_time(gone[1m])") == []
    push(server, [("gone", 1, 3)])
    only_the_new_one = lambda: [value for _, value in server.promql("sum_over_time(gone[5m])")] == [3]
    assert only_the_new_one()
    server.kill()
    server.start()
    eventually(lambda: requests.get(f"{server.url}/-/ready?query=1", timeout=5).status_code == 200)
    assert only_the_new_one(), "read back from the journal in its order"
    server.post("/bellrock/v1/admin/flush", None)
    assert only_the_new_one()
    server.kill()
    server.start()
    eventually(lambda: requests.get(f"{server.url}/-/ready?query=1", timeout=5).status_code == 200)
    assert only_the_new_one(), "kept by the catalog"
    assert admin(server, "clean_tombstones", method="PUT").status_code == 204
    assert only_the_new_one()
    assert "FileRewritten" in server.log()
    assert [value for _, value in server.promql("sum_over_time(keep[5m])")] == [1]


def test_a_part_of_the_time_is_deleted(make_server):
    server = make_server().start()
    push(server, [("m", 40, 1)])
    push(server, [("m", 20, 2)])
    push(server, [("m", 1, 3)])
    end = time.time() - 10
    assert admin(server, "delete_series", **{"match[]": ["m"], "start": end - 20, "end": end}).status_code == 204
    assert [value for _, value in server.promql("sum_over_time(m[5m])")] == [4]


def test_bad_deletions_are_refused(make_server):
    server = make_server(config=TOKENS).start()
    as_admin = {"Authorization": "Bearer admin-token-0123456789"}
    for parameters, words in [
        ({}, "no match[]"),
        ({"match[]": "up{"}, "match[]"),
        ({"match[]": "{}"}, "match[]"),
        ({"match[]": "sum(up)"}, "not a series selector"),
        ({"match[]": "up offset 5m"}, "offset"),
        ({"match[]": "up", "start": 2, "end": 1}, "end"),
        ({"match[]": "up", "start": "yesterday"}, "start"),
    ]:
        answer = admin(server, "delete_series", headers=as_admin, **parameters)
        assert answer.status_code == 400 and words in answer.json()["error"], (parameters, answer.text)
    for call in ("delete_series", "clean_tombstones"):
        for name in ("ingest", "responder"):
            headers = {"Authorization": f"Bearer {name}-token-0123456789"}
            assert admin(server, call, headers=headers, **{"match[]": "up"}).status_code == 403
        assert admin(server, call, **{"match[]": "up"}).status_code == 401


def test_a_target_that_makes_too_many_series_is_named(make_server):
    server = make_server(config="bellrock: { limits: { series_per_target: 5 } }").start()
    told = push(server, [(f"metric_{at}", 1, 1) for at in range(9)], instance="bad")
    assert told["partialSuccess"]["rejectedDataPoints"] in (4, "4")
    message = told["partialSuccess"]["errorMessage"]
    assert 'instance="bad"' in message and "5 are allowed (limits.series_per_target)" in message
    push(server, [(f"metric_{at}", 0, 1) for at in range(5)], instance="good")
    assert len(names(server)) == 5
    hits = server.get("/api/v1/status/tsdb")["data"]["seriesLimitsHit"]
    expected = {"limit": "target", "labels": {"job": "shop", "instance": "bad"}, "series": 5, "seriesMax": 5, "refusedSamples": 4}
    assert hits == [expected]
    exposition = requests.get(f"{server.url}/metrics", timeout=5).text
    assert 'bellrock_series_limits_hit{tenant="1",limit="target"} 1' in exposition
    assert 'bellrock_samples_rejected_total{tenant="1",reason="target_series_limit"} 4' in exposition


def test_some_metrics_are_kept_for_a_shorter_time(make_server):
    rules = """
bellrock:
  retention:
    metrics: 1d
    rules:
      - { match: '{__name__=~"debug_.*", service_name="shop"}', keep: 30s }
      - { match: '{__name__=~"debug_.*"}', keep: 1m }
"""
    rules = rules.replace("service_name", "job")
    server = make_server(config=rules).start()
    for service in ("shop", "bank"):
        push(server, [("debug_a", 45, 1), ("debug_b", 5, 1), ("plain", 45, 1)], service=service)
    server.post("/bellrock/v1/admin/flush", None)
    found = sorted((labels["__name__"], labels["job"]) for labels, _ in server.promql('last_over_time({job=~".+"}[5m])'))
    assert found == [("debug_a", "bank"), ("debug_b", "bank"), ("debug_b", "shop"), ("plain", "bank"), ("plain", "shop")]
    eventually(lambda: ("debug_a", "bank") not in [(labels["__name__"], labels["job"]) for labels, _ in server.promql("last_over_time(debug_a[5m])")], timeout=40)


def test_old_days_are_rolled_up_and_long_queries_use_it(make_server):
    server = make_server(config="bellrock: { flush_interval: 1s, rollups: [{ interval: 5m, after: 1h, keep: 90d }] }").start()
    day = 86400
    start = int(time.time()) // day * day - 3 * day
    now = time.time()
    push(server, [("m", now - at, at % 7) for at in range(start + 30, start + day, 60)])
    push(server, [("m", 0, 1)])
    # What was answered from raw samples is right still, and would be kept: each answer is to be made anew.
    parameters = {"query": "sum_over_time(m[1h])", "start": start + 3600, "end": start + day, "step": 3600, "nocache": 1}
    ask = lambda **more: server.get("/api/v1/query_range", **parameters, **more)
    rolled = eventually(lambda: (answer := ask()).get("infos") and answer, timeout=30)
    assert "rollups of up to 5m" in rolled["infos"][0]
    raw = ask(max_source_resolution="0s")
    assert "infos" not in raw and raw["data"] == rolled["data"]
    assert len(raw["data"]["result"][0]["values"]) == 24
    parameters["start"] += 1
    assert "infos" not in ask(), "its windows are no whole intervals"
    assert "infos" in ask(max_source_resolution="1h")
    bad = requests.get(f"{server.url}/api/v1/query_range", params={**parameters, "max_source_resolution": "fine"}, timeout=5)
    assert bad.status_code == 400 and "max_source_resolution" in bad.json()["error"]


def test_how_late_a_sample_may_come_is_set_here_or_as_in_prometheus(make_server):
    for config, window in [
        ("storage: { tsdb: { out_of_order_time_window: 2h } }", 7200),
        ("storage: { tsdb: { out_of_order_time_window: 2h } }\nbellrock: { limits: { out_of_order_time_window: 10m } }", 600),
    ]:
        server = make_server(config=config).start()
        push(server, [("m", 0, 1)])
        told = push(server, [("m", window - 60, 1), ("m", window + 60, 1)])
        assert told["partialSuccess"]["rejectedDataPoints"] in (1, "1") and "too old" in told["partialSuccess"]["errorMessage"], told


def test_how_many_exemplars_were_kept_is_told(make_server):
    server = make_server(config="bellrock: { limits: { exemplars: 4KB } }").start()
    now = int(time.time() * 1000)
    label = lambda name, value: field(1, field(1, name.encode()) + field(2, value.encode()))
    exemplar = lambda at: field(3, label("trace_id", f"{at:032}") + b"\x11" + struct.pack("<d", at) + b"\x18" + varint(now + at))
    series = label("__name__", "m") + float_sample(now, 1) + b"".join(exemplar(at) for at in range(40))
    headers = {"content-type": "application/x-protobuf", "content-encoding": "snappy"}
    answer = requests.post(f"{server.url}/api/v1/write", data=bytes(cramjam.snappy.compress_raw(field(1, series))), headers=headers, timeout=10)
    kept = int(answer.headers["x-prometheus-remote-write-exemplars-written"])
    assert 16 < kept < 40 and answer.headers["x-prometheus-remote-write-samples-written"] == "1"
    assert answer.status_code == 400 and f"{40 - kept} refused" in answer.text and "exemplar" in answer.text
    found = server.get("/api/v1/query_exemplars", query="m", start=now / 1000 - 60, end=now / 1000 + 60)["data"]
    assert len(found[0]["exemplars"]) == kept
    exposition = requests.get(f"{server.url}/metrics", timeout=5).text
    assert f'bellrock_samples_rejected_total{{tenant="1",reason="exemplar_limit"}} {40 - kept}' in exposition
