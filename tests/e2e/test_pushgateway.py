"""Short jobs push with the stock prometheus_client, as they would to a Pushgateway."""

import time

import pytest
import requests
from bellrock_server import eventually
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, delete_from_gateway, push_to_gateway, pushadd_to_gateway

CONFIG = "global: { scrape_interval: 300ms, scrape_timeout: 300ms }\n"


@pytest.fixture
def gateway(make_server):
    return make_server(config=CONFIG).start()


def registry(**gauges):
    made = CollectorRegistry()
    for name, value in gauges.items():
        Gauge(name, "A gauge.", registry=made).set(value)
    return made


def test_a_push_stays_until_it_is_replaced_or_deleted(gateway):
    begin = time.time()
    first = registry(rows=7, seconds=1.5)
    Counter("errors", "Errors.", ["kind"], registry=first).labels("disk").inc(3)
    Histogram("chunk_seconds", "Chunks.", buckets=(1, 5), registry=first).observe(2)
    push_to_gateway(gateway.url, job="backup", grouping_key={"instance": "db/1", "empty": ""}, registry=first)
    group = {"job": "backup", "instance": "db/1"}
    assert gateway.promql("rows") == [({"__name__": "rows", **group}, 7.0)], "at once"
    assert gateway.promql("errors_total")[0][0]["kind"] == "disk"
    assert gateway.promql('chunk_seconds_bucket{le="+Inf"}')[0][1] == 1
    pushed = gateway.promql("push_time_seconds")[0]
    assert pushed[0] == {"__name__": "push_time_seconds", **group} and begin - 1 <= pushed[1] <= time.time()
    assert gateway.promql("push_failure_time_seconds")[0][1] == 0
    eventually(lambda: gateway.promql("count_over_time(rows[1m])")[0][1] >= 4), "written again at each beat"
    gateway.kill()
    gateway.start()
    count = gateway.promql("count_over_time(rows[1m])")[0][1]
    eventually(lambda: gateway.promql("count_over_time(rows[1m])")[0][1] > count), "and after kill -9"
    assert gateway.promql("push_time_seconds")[0][1] == pushed[1]
    assert gateway.get("/api/v1/metadata", metric="rows")["data"]["rows"][0]["type"] == "gauge"

    pushadd_to_gateway(gateway.url, job="backup", grouping_key={"instance": "db/1", "empty": ""}, registry=registry(rows=9))
    assert gateway.promql("rows")[0][1] == 9 and gateway.promql("seconds")[0][1] == 1.5, "other families stay"
    push_to_gateway(gateway.url, job="backup", grouping_key={"instance": "db/1", "empty": ""}, registry=registry(rows=10))
    assert gateway.promql("rows")[0][1] == 10 and gateway.promql("seconds") == gateway.promql("errors_total") == []

    push_to_gateway(gateway.url, job="backup", registry=registry(rows=1))
    assert len(gateway.promql("rows")) == 2, "another group"
    delete_from_gateway(gateway.url, job="backup", grouping_key={"instance": "db/1", "empty": ""})
    assert gateway.promql("rows") == [({"__name__": "rows", "job": "backup"}, 1.0)]
    delete_from_gateway(gateway.url, job="backup")
    assert gateway.promql("rows") == gateway.promql("push_time_seconds") == []
    beats = time.monotonic() + 1
    eventually(lambda: time.monotonic() > beats)
    assert gateway.promql("rows") == [], "a beat does not bring it back"


def test_what_is_wrong_is_refused_and_noted(gateway):
    url = gateway.url + "/metrics/job/bad"
    push_to_gateway(gateway.url, job="bad", registry=registry(kept=1))
    for body, what in [("x 1 1700000000000\n", "timestamps"), ("this is no exposition\n", "1:"), ('x{job="a"} 1\nx{job="b"} 2\n', "twice"), ('x{a="1"} 1\nx{a="1"} 2\n', "twice")]:
        answer = requests.put(url, data=body, timeout=5)
        assert answer.status_code == 400 and what in answer.text, answer.text
    assert gateway.promql("kept")[0][1] == 1, "what was there stays"
    assert gateway.promql("push_failure_time_seconds")[0][1] > gateway.promql("push_time_seconds")[0][1] > 0
    for path in ["/metrics/job/a/b", "/metrics/job@base64/=", "/metrics/job/a/__name__/x"]:
        assert requests.post(gateway.url + path, data="x 1\n", timeout=5).status_code == 400


def test_what_cannot_be_kept_is_refused_and_the_failure_noted(make_server):
    server = make_server(config=CONFIG + "bellrock: { limits: { series_per_job: 6 } }").start()
    put = lambda body: requests.put(f"{server.url}/metrics/job/batch", data=body, timeout=10)
    assert put("a 1\n").status_code == 200
    for body, words in [
        (f'a{{x="{"y" * 1_000_000}"}} 1\n', "has 1000000 bytes, at most 4096 are taken"),
        ("".join(f'b{{i="{at}"}} 1\n' for at in range(9)), "limits.series_per_job"),
    ]:
        before = server.promql("push_failure_time_seconds")[0][1]
        answer = put(body)
        assert answer.status_code == 400 and words in answer.text, answer.text
        eventually(lambda: server.promql("push_failure_time_seconds")[0][1] > before)
        assert server.promql("a")[0][1] == 1, "the group is as it was"
        eventually(lambda: server.promql("b") == [])
