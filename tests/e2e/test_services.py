"""The overview: whatever a service sends first, it is there."""

import time

import requests
from bellrock_server import eventually


def of(server, name, **parameters):
    services = server.get("/bellrock/v1/services", **parameters)["services"]
    return next((service for service in services if service["name"] == name), None)


def push(server, service, lines):
    values = [[str(at), text, {"level": level}] for at, text, level in lines]
    body = {"streams": [{"stream": {"service_name": service}, "values": values}]}
    assert requests.post(f"{server.url}/loki/api/v1/push", json=body, timeout=10).status_code == 204


def test_a_service_appears_with_its_first_line(server):
    now = time.time_ns()
    push(server, "plain", [(now, "hello", "info"), (now - 10**9, "broken", "error")])
    service = eventually(lambda: of(server, "plain"))
    assert service["requests_per_second"] is None and service["error_ratio"] is None and service["p95_ms"] is None
    assert service["logs_per_minute"] > 0 and service["error_logs"] == 1 and service["signals"] == ["logs"]
    assert sum(count or 0 for count in service["series"]["logs"]) == 2 and service["series"]["requests"] == []


def test_a_service_appears_with_its_first_error(server):
    event = {"event_id": "1" * 32, "timestamp": time.time(), "platform": "python", "level": "error", "server_name": "crashy", "tags": {"service": "crashy"},
             "exception": {"values": [{"type": "KeyError", "value": "x"}]}}
    headers = {"X-Sentry-Auth": "Sentry sentry_key=public, sentry_version=7"}
    assert requests.post(f"{server.url}/api/1/store/", json=event, headers=headers, timeout=10).status_code == 200
    issue = eventually(lambda: server.get("/bellrock/v1/issues")["issues"])[0]
    service = eventually(lambda: of(server, issue["service"]))
    assert "errors" in service["signals"] and service["error_events"] == 1 and service["open_issues"] == 1
    assert server.get(f"/bellrock/v1/issues/{issue['id']}")["grouping"].startswith("br1: KeyError")


def test_a_service_appears_with_its_first_sample(server):
    def sample(seconds_ago, cpu):
        at = str(time.time_ns() - seconds_ago * 10**9)
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "worker"}}]}
        memory = {"name": "process.resident.memory", "unit": "By", "gauge": {"dataPoints": [{"timeUnixNano": at, "asDouble": 5e7}]}}
        used = {"name": "process.cpu", "unit": "s", "sum": {"isMonotonic": True, "aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": at, "asDouble": cpu}]}}
        body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [memory, used]}]}]}
        assert requests.post(f"{server.url}/v1/metrics", json=body, timeout=10).status_code == 200

    sample(40, 1.0)
    sample(20, 11.0)
    sample(0, 21.0)
    service = eventually(lambda: of(server, "worker"))
    assert service["signals"] == ["metrics"] and service["memory_bytes"] == 5e7 and 0.3 < service["cpu_cores"] < 0.6, service


def test_rates_are_over_the_time_in_which_a_service_was_seen(server):
    now = time.time_ns()
    spans = [{"traceId": f"{at + 1:032x}", "spanId": f"{at + 1:016x}", "name": "GET /", "kind": 2,
              "startTimeUnixNano": str(now - at * 50_000_000), "endTimeUnixNano": str(now - at * 50_000_000 + 1_000_000)} for at in range(3600)]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "fresh"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
    assert requests.post(f"{server.url}/v1/traces", json=body, timeout=20).status_code == 200
    service = eventually(lambda: (found := of(server, "fresh")) and sum(count or 0 for count in found["series"]["requests"]) == 3600 and found)
    assert 18 < service["requests_per_second"] < 21, "20 a second for three minutes, asked for over an hour"
    assert 175_000 < service["rate_window_ms"] < 200_000
    series = service["series"]
    assert isinstance(series["step_ms"], int) and series["step_ms"] == 60_000
    full = [count for count in series["requests"] if count is not None][1:-1]
    assert all(abs(count / 60 - service["requests_per_second"]) < 2 for count in full), series["requests"]
    assert series["requests"][:50] == [None] * 50, "before it was seen there is nothing, not zero"


def deploys(server, **parameters):
    found = server.get("/bellrock/v1/deploys", **parameters)["deploys"]
    return [(one["service"], one["environment"], one["version"], one["previous_version"]) for one in found]


def test_a_version_that_follows_another_is_a_deploy(server):
    def send(version, environment="live"):
        names = {"service.name": "shop", "service.version": version, "deployment.environment.name": environment}
        resource = {"attributes": [{"key": key, "value": {"stringValue": value}} for key, value in names.items()]}
        now = str(time.time_ns())
        span = {"traceId": "7" * 32, "spanId": "8" * 16, "name": "GET /", "kind": 2, "startTimeUnixNano": now, "endTimeUnixNano": now}
        body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
        assert requests.post(f"{server.url}/v1/traces", json=body, timeout=10).status_code == 200
        log = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [{"timeUnixNano": now, "body": {"stringValue": "up"}}]}]}]}
        assert requests.post(f"{server.url}/v1/logs", json=log, timeout=10).status_code == 200

    send("1.0")
    send("3.0", "test")
    # In a rollout both versions answer for a while.
    for version in ["1.1", "1.0", "1.1", "1.0"]:
        send(version)
    expect = [("shop", "live", "1.1", "1.0"), ("shop", "test", "3.0", ""), ("shop", "live", "1.0", "")]
    eventually(lambda: deploys(server) == expect)
    server.kill()
    server.start()
    send("1.0")
    send("1.2")
    eventually(lambda: deploys(server) == [("shop", "live", "1.2", "1.1"), *expect])
    assert deploys(server, service="shop", environment="test") == [expect[1]]
    assert deploys(server, service="other") == [] and deploys(server, limit=1) == [("shop", "live", "1.2", "1.1")]
    assert deploys(server, to="now-10m") == []
    newest = server.get("/bellrock/v1/deploys", environment="live")["deploys"][0]
    assert newest["at"] <= newest["last_seen"]
    answer = requests.get(f"{server.url}/bellrock/v1/deploys", params={"from": "yesterday-ish"}, timeout=10)
    assert answer.status_code == 400 and "from" in answer.text, answer.text
