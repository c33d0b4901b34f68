"""Scripts that users wrote against Prometheus' API, unchanged."""

import json
import subprocess
import sys
import time
from pathlib import Path

from bellrock_server import eventually
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_sla_report_and_the_z_score_run_unchanged(make_server):
    registry = CollectorRegistry()
    requests = Counter("http_requests", "Requests.", ["path", "status"], registry=registry)
    latency = Histogram("http_request_duration_seconds", "Time.", ["path"], buckets=(0.1, 0.5, 1), registry=registry)
    http, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    config = f"global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\nscrape_configs: [{{ job_name: shop-front, static_configs: [{{ targets: ['127.0.0.1:{http.server_port}'] }}] }}]"
    server = make_server(config=config).start()
    requests.labels("/a", "200")
    requests.labels("/a", "500")
    eventually(lambda: server.promql("http_requests_total"))
    for _ in range(20):
        requests.labels("/a", "200").inc(9)
        requests.labels("/a", "500").inc(1)
        latency.labels("/a").observe(0.3)
        time.sleep(0.1)
    time.sleep(0.5)
    report = json.loads(subprocess.check_output([sys.executable, EXAMPLES / "sla_report.py", server.url, "1m"], text=True))
    assert 85 < report["availability_percent"] < 95 and not report["slo_met"]
    assert 0.1 < report["p50_seconds"] < 0.5 and report["requests"] > 100
    output = subprocess.check_output([sys.executable, EXAMPLES / "rolling_zscore.py", server.url, "sum(rate(http_requests_total[2s]))", "20"], text=True)
    assert "points" in output
    http.shutdown()
    thread.join()
    http.server_close()
