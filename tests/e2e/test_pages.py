"""The pages in a real browser, against a real server with a little of everything."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import requests
from bellrock_server import eventually

UI = Path(__file__).parents[2] / "ui"
RULES = """
groups:
  - name: shop
    interval: 1s
    rules:
      - alert: ShopIsBroken
        expr: shop_errors_total > 5
        labels: { severity: page, service: shop }
        annotations:
          summary: "{{ $value }} <img src=x onerror=alert(1)> errors"
          impact: Nobody can buy.
          runbook_url: https://runbooks.example.com/broken
          next_steps: "1. Look.\\n2. Mend."
"""


def attribute(key, value):
    return {"key": key, "value": {"stringValue": value}}


def trace_of(number, now):
    """A request of two services, every third of which fails."""
    trace_id, failed = f"{number + 1:032x}", number % 3 == 0
    start = now - (number + 1) * 2_000_000_000

    def span(span_id, parent, name, kind, after, lasts):
        return {
            "traceId": trace_id,
            "spanId": f"{number * 16 + span_id:016x}",
            "parentSpanId": f"{number * 16 + parent:016x}" if parent else "",
            "name": name,
            "kind": kind,
            "startTimeUnixNano": str(start + after * 1_000_000),
            "endTimeUnixNano": str(start + (after + lasts) * 1_000_000),
            "attributes": [attribute("http.route", "/pay"), attribute("html", "<b>bold</b>")],
            "status": {"code": 2, "message": "declined"} if failed else {},
        }

    def resource(service, *spans):
        return {"resource": {"attributes": [attribute("service.name", service)]}, "scopeSpans": [{"spans": list(spans)}]}

    front = resource("shop", span(1, None, "POST /pay", 2, 0, 80), span(2, 1, "POST", 3, 10, 60))
    return [front, resource("bank", span(3, 2, "charge", 2, 20, 40))]


def feed(server):
    """Traces, lines, errors and metrics, as senders would send them; the metric keeps its value while the rule looks."""
    now = time.time_ns()

    def post(path, body):
        answer = requests.post(server.url + path, json=body, timeout=20)
        assert answer.status_code < 300, f"{path}: {answer.status_code} {answer.text}"

    post("/v1/traces", {"resourceSpans": [part for number in range(30) for part in trace_of(number, now)]})
    words = ["debug", "info", "warning", "error"]
    lines = [[str(now - at * 1_000_000_000), f"line {at} of <i>many</i>", {"level": words[at % 4], "trace_id": f"{at % 30 + 1:032x}"}] for at in range(60)]
    post("/loki/api/v1/push", {"streams": [{"stream": {"service_name": "shop"}, "values": lines}]})
    frames = [{"function": "pay", "module": "shop.pay", "filename": "shop/pay.py", "lineno": 12, "in_app": True, "context_line": "    raise PaymentError(code)"}]
    for at in range(3):
        event = {
            "event_id": f"{at + 1:032x}",
            "timestamp": now / 1e9 - at,
            "level": "error",
            "platform": "python",
            "release": "shop@1.0",
            "tags": {"service": "shop"},
            "server_name": "shop",
            "exception": {"values": [{"type": "PaymentError", "value": "<script>alert(1)</script>", "stacktrace": {"frames": frames}}]},
            "contexts": {"trace": {"trace_id": f"{1:032x}", "span_id": f"{1:016x}"}},
        }
        post_event = requests.post(f"{server.url}/api/1/store/", json=event, headers={"X-Sentry-Auth": "Sentry sentry_key=public, sentry_version=7"}, timeout=20)
        assert post_event.status_code == 200, post_event.text
    point = {"timeUnixNano": str(now), "startTimeUnixNano": str(now - 60_000_000_000), "asDouble": 9}
    metric = {"name": "shop_errors", "sum": {"dataPoints": [point], "isMonotonic": True, "aggregationTemporality": 2}}
    resource = {"attributes": [attribute("service.name", "shop")]}
    post("/v1/metrics", {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]})


def browser():
    """A Chromium of this machine, or None."""
    named = os.environ.get("BELLROCK_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)


def test_every_page_is_drawn_without_a_complaint(make_server, tmp_path):
    chromium = browser()
    if shutil.which("node") is None:
        pytest.skip("node is not installed: the pages are not looked at")
    if chromium is None:
        pytest.skip("no chromium: name one in BELLROCK_CHROMIUM, the pages are not looked at")
    if not (UI / "node_modules/playwright-core").exists():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=UI, check=True, timeout=300)
    (tmp_path / "rules.yml").write_text(RULES)
    server = make_server(config=f"rule_files: [{tmp_path / 'rules.yml'}]\n").start()
    feed(server)
    eventually(lambda: server.get("/bellrock/v1/alerts", state="firing")["alerts"])
    for path, name in [("issues", "issues"), ("incidents", "incidents"), ("traces?from=-1h", "traces"), ("services?from=-1h", "services")]:
        eventually(lambda path=path, name=name: server.get(f"/bellrock/v1/{path}")[name])

    pictures = Path(os.environ.get("BELLROCK_PICTURES", tmp_path / "pictures"))
    environment = {**os.environ, "BELLROCK_URL": server.url, "BELLROCK_CHROMIUM": chromium}
    done = subprocess.run(["node", "tests/e2e.mjs", str(pictures)], cwd=UI, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    visited = {picture.stem for picture in pictures.glob("*.png")}
    for page in ["services", "service", "trace", "issue", "alert", "incident", "logs", "live", "metrics"]:
        assert {f"wide-light-{page}", f"phone-dark-{page}"} <= visited, json.dumps(sorted(visited))
