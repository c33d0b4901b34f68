"""The stock prometheus_client, scraped."""

import json

import pytest
from bellrock_server import eventually
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary, start_http_server

CONFIG = """
global: {{ scrape_interval: 300ms, scrape_timeout: 300ms }}
scrape_configs:
  - job_name: app
    static_configs: [{{ targets: ["127.0.0.1:{port}"], labels: {{ zone: a }} }}]
    metric_relabel_configs: [{{ source_labels: [__name__], regex: "secret_.*", action: drop }}]
  - job_name: files
    file_sd_configs: [{{ files: ["{targets}"] }}]
"""


@pytest.fixture
def app():
    registry = CollectorRegistry()
    http, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    yield registry, http.server_port
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def scraped(app, make_server, tmp_path):
    targets = tmp_path / "targets.json"
    targets.write_text("[]")
    server = make_server(config=CONFIG.format(port=app[1], targets=targets)).start()
    return app[0], app[1], server, targets


def test_every_kind_of_metric(scraped):
    registry, _port, server, _targets = scraped
    requests = Counter("http_requests", "Requests.", ["path"], registry=registry)
    requests.labels("/a").inc(3)
    Gauge("temperature", "Now.", registry=registry).set(-1.5)
    latency = Histogram("latency_seconds", "Time.", buckets=(0.1, 1), registry=registry)
    latency.observe(0.05)
    latency.observe(5)
    Summary("size_bytes", "Size.", registry=registry).observe(7)
    Info("build", "Build.", registry=registry).info({"version": "1.2"})
    Enum("feature", "State.", states=["used", "disabled"], registry=registry).state("disabled")
    Gauge("secret_gauge", "Dropped by relabelling.", registry=registry).set(1)

    labels = {"job": "app", "zone": "a"}
    found = eventually(lambda: server.promql("http_requests_total"))
    assert found[0][1] == 3 and found[0][0]["path"] == "/a" and labels.items() <= found[0][0].items()
    assert server.promql("temperature")[0][1] == -1.5
    buckets = {series["le"]: value for series, value in server.promql("latency_seconds_bucket")}
    assert buckets == {"0.1": 1, "1.0": 1, "+Inf": 2}, "le as the OpenMetrics exposition writes it"
    assert server.promql("latency_seconds_sum")[0][1] == pytest.approx(5.05)
    assert server.promql("size_bytes_count")[0][1] == 1
    assert server.promql("build_info")[0][0]["version"] == "1.2"
    assert {series["feature"]: value for series, value in server.promql("feature")} == {"used": 0, "disabled": 1}
    assert server.promql("secret_gauge") == []
    assert server.promql('up{job="app"}')[0][1] == 1
    assert server.promql('scrape_samples_scraped{job="app"}')[0][1] > server.promql('scrape_samples_post_metric_relabeling{job="app"}')[0][1]
    metadata = server.get("/api/v1/metadata", metric="http_requests")["data"] or server.get("/api/v1/metadata", metric="http_requests_total")["data"]
    assert list(metadata.values())[0][0]["type"] == "counter"


def test_rates_grow_from_scrapes(scraped):
    registry, _port, server, _targets = scraped
    work = Counter("work", "Work.", registry=registry)

    def rate():
        work.inc(10)
        return any(value > 0 for _, value in server.promql("rate(work_total[5s])"))

    eventually(rate)


def test_exemplars_carry_the_trace(scraped):
    registry, _port, server, _targets = scraped
    latency = Histogram("latency_seconds", "Time.", buckets=(0.1, 1), registry=registry)
    latency.observe(0.05, exemplar={"trace_id": "ab" * 16})
    import time

    def exemplars():
        now = time.time()
        return server.get("/api/v1/query_exemplars", query="latency_seconds_bucket", start=now - 60, end=now + 60)["data"]

    data = eventually(exemplars)
    assert data[0]["exemplars"][0]["labels"] == {"trace_id": "ab" * 16}


def test_a_target_that_goes_is_down_and_its_series_end(app, make_server, tmp_path):
    registry, port = app
    Gauge("here", "Here.", registry=registry).set(1)
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}"], "labels": {"from": "file"}}]))
    server = make_server(config=CONFIG.format(port=1, targets=targets)).start()
    assert eventually(lambda: server.promql('here{job="files"}'))[0][0]["from"] == "file"
    down = eventually(lambda: server.promql('up{job="app"}'))
    assert down[0][1] == 0
    targets.write_text("[]")
    eventually(lambda: server.promql("here") == [], timeout=20)
    active = server.get("/api/v1/targets")["data"]["activeTargets"]
    refused = [target for target in active if target["labels"]["job"] == "app"]
    assert refused[0]["health"] == "down" and "refused" in refused[0]["lastError"].lower()
