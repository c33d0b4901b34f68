"""From a rule to a webhook, with the evidence, over a restart."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
from bellrock_server import eventually

RULES = """
groups:
  - name: shop
    interval: 500ms
    rules:
      - record: job:broken:sum
        expr: sum by (job) (broken)
      - alert: Broken
        expr: sum by (job) (broken) > 0
        for: 1s
        labels: { severity: page, service: shop, owner: team-a }
        annotations:
          summary: "{{ $labels.job }} is broken ({{ $value }})"
          runbook_url: "https://runbooks.example.com/broken"
"""


class Receiver:
    """A webhook that can be told to fail."""

    def __init__(self):
        self.bodies, self.status = [], 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if outer.status == 200:
                    outer.bodies.append(json.loads(body))
                self.send_response(outer.status)
                if outer.status == 429:
                    self.send_header("Retry-After", "1")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def alerts(self, status):
        return [alert for body in self.bodies for alert in body["alerts"] if alert["status"] == status]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def alerting(make_server, receiver, tmp_path):
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    config = f"rule_files: [{rules}]\nbellrock: {{ alerts: {{ group_wait: 500ms, group_interval: 1s, webhooks: [{{ name: hook, url: '{receiver.url}' }}] }} }}"
    return make_server(config=config).start()


def gauge(server, value, job="app"):
    point = {"timeUnixNano": str(time.time_ns()), "asDouble": value}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": job}}]}
    body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [{"name": "broken", "gauge": {"dataPoints": [point]}}]}]}]}
    assert requests.post(f"{server.url}/v1/metrics", json=body, timeout=10).status_code == 200


def context(server):
    """Traces, logs and errors of the service in question."""
    trace_id = "aa" * 16
    now = time.time_ns()
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}, {"key": "service.version", "value": {"stringValue": "3.1"}}]}
    exception = {"timeUnixNano": str(now), "name": "exception", "attributes": [
        {"key": "exception.type", "value": {"stringValue": "PaymentError"}},
        {"key": "exception.message", "value": {"stringValue": "declined"}},
        {"key": "exception.stacktrace", "value": {"stringValue": "Traceback (most recent call last):\n  File \"/srv/shop/pay.py\", line 3, in pay\n    raise\nPaymentError: declined\n"}}]}
    span = {"traceId": trace_id, "spanId": "bb" * 8, "name": "POST /pay", "kind": 2, "startTimeUnixNano": str(now - 10**8), "endTimeUnixNano": str(now),
            "status": {"code": 2}, "events": [exception], "attributes": [{"key": "http.route", "value": {"stringValue": "/pay"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
    assert requests.post(f"{server.url}/v1/traces", json=body, timeout=10).status_code == 200
    return trace_id


def test_an_alert_fires_with_its_evidence_and_resolves(alerting, receiver):
    server = alerting
    trace_id = context(server)
    gauge(server, 2)
    fired = eventually(lambda: receiver.alerts("firing"), 20)[0]
    assert fired["labels"]["alertname"] == "Broken" and fired["labels"]["severity"] == "page"
    assert fired["annotations"]["summary"] == "app is broken (2)"
    assert trace_id in json.dumps(receiver.bodies), "the message carries the trace of a bad request"
    assert "https://runbooks.example.com/broken" in json.dumps(receiver.bodies)

    rules = server.get("/api/v1/rules")["data"]["groups"][0]["rules"]
    assert {rule["name"]: rule["health"] for rule in rules} == {"job:broken:sum": "ok", "Broken": "ok"}
    assert server.get("/api/v1/alerts")["data"]["alerts"][0]["state"] == "firing"
    assert server.promql('ALERTS{alertstate="firing"}')[0][0]["alertname"] == "Broken"
    assert server.promql("job:broken:sum")[0][1] == 2

    alert = server.get("/bellrock/v1/alerts", state="firing")["alerts"][0]
    evidence = server.get(f"/bellrock/v1/alerts/{alert['id']}")["evidence"]
    assert evidence["traces"][0]["trace_id"] == trace_id
    assert evidence["paths"][0]["path"] == "/pay" and evidence["errors"][0]["title"].startswith("PaymentError")
    assert evidence["owner"] == "team-a" and evidence["runbook"] == "https://runbooks.example.com/broken"
    assert evidence["what"] and evidence["where"] and evidence["since"] and evidence["next_steps"]

    incident = server.get("/bellrock/v1/incidents")["incidents"][0]
    assert incident["state"] == "open" and alert["id"] in incident["alerts"]
    acknowledged = server.post(f"/bellrock/v1/incidents/{incident['id']}/acknowledge", {"by": "ada"})
    assert acknowledged["state"] == "acknowledged" and acknowledged["acknowledged_by"] == "ada"

    again = server.post(f"/bellrock/v1/incidents/{incident['id']}/acknowledge", {"by": "bob"}, status=400)
    assert "acknowledged already by ada" in again["error"]["message"]
    server.post(f"/bellrock/v1/incidents/{incident['id']}/notes", {}, status=400)
    server.post(f"/bellrock/v1/incidents/{incident['id']}/notes", {"by": "ada", "text": "calling the bank"})

    gauge(server, 0)
    eventually(lambda: receiver.alerts("resolved"), 20)
    assert server.get(f"/bellrock/v1/incidents/{incident['id']}")["state"] == "acknowledged", "a person closes an incident"
    closed = server.post(f"/bellrock/v1/incidents/{incident['id']}/resolve", {"by": "ada", "text": "provider back"})
    assert closed["state"] == "resolved" and any(fact["by"] == "ada" for fact in closed["timeline"])
    again = server.post(f"/bellrock/v1/incidents/{incident['id']}/resolve", {"by": "bob"}, status=400)
    assert "resolved already by ada" in again["error"]["message"]


@pytest.mark.parametrize("status", [500, 429])
def test_a_notification_survives_a_failing_receiver_and_a_kill(alerting, receiver, status):
    server = alerting
    receiver.status = status
    gauge(server, 1)
    eventually(lambda: [alert for alert in server.get("/api/v1/alerts")["data"]["alerts"] if alert["state"] == "firing"], 20)
    time.sleep(0.5)
    server.kill()
    server.start()
    assert receiver.alerts("firing") == []
    receiver.status = 200
    eventually(lambda: receiver.alerts("firing"), 30)
    gauge(server, 1)
    time.sleep(2)
    groups = {body.get("groupKey") for body in receiver.bodies}
    assert len(receiver.alerts("firing")) == 1, f"sent once, not again after the restart: {groups}"


def test_a_broken_rule_file_is_a_clear_error(make_server, tmp_path):
    rules = tmp_path / "bad.yml"
    rules.write_text("groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: sum(\n        fro: 5m\n")
    server = make_server(config=f"rule_files: [{rules}]")
    server.start(wait=False)
    assert server.process.wait(15) != 0
    assert "bad.yml" in server.log() and "fro" in server.log()
