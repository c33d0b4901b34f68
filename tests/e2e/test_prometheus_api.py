"""Prometheus' HTTP API: the same verdicts as Prometheus itself where its binary is at hand."""

import shutil
import subprocess
import threading
import time

import pytest
import requests
from bellrock_server import eventually, free_port
from prometheus_peer import float_sample, histogram_sample, remote_write

# A question, the status and the type of the error; None where it is answered.
QUESTIONS = [
    ("query", {"query": "sum("}, 400, "bad_data"),
    ("query", {"query": "nonsense(up)"}, 400, "bad_data"),
    ("query", {"query": "up", "time": "yesterday"}, 400, "bad_data"),
    ("query", {"query": "up", "timeout": "long"}, 400, "bad_data"),
    ("query_range", {"query": "up[5m]", "start": 1, "end": 2, "step": 1}, 400, "bad_data"),
    ("query_range", {"query": "up", "start": 2, "end": 1, "step": 1}, 400, "bad_data"),
    ("query_range", {"query": "up", "start": 1, "end": 2, "step": 0}, 400, "bad_data"),
    ("query_range", {"query": "up", "start": 1, "end": 99999, "step": 1}, 400, "bad_data"),
    ("query", {"query": "up + on(job) up"}, 422, "execution"),
    ("query", {"query": "up * on(job) group_left() up"}, 422, "execution"),
    ("query", {"query": 'label_replace(up, "a", "$1", "job", "(")'}, 422, "execution"),
    ("query", {"query": 'label_replace(up, "instance", "same", "job", ".*")'}, 422, "execution"),
    ("query", {"query": 'label_join(up, "no-name", ",", "job")'}, None, None),
    ("query_range", {"query": "up + on(job) up", "start": 0, "end": 0, "step": 1}, 422, "execution"),
    ("query", {"query": "up"}, 200, None),
]


def ask(url, path, parameters):
    parameters = dict(parameters)
    if parameters.get("end") == 0:
        parameters.update(start=time.time() - 5, end=time.time())
    answer = requests.get(f"{url}/api/v1/{path}", params=parameters, timeout=10)
    return answer.status_code, answer.json().get("errorType")


@pytest.fixture
def scraping(make_server):
    server = make_server()
    one, two = server.url.replace("http://", ""), server.url.replace("http://127.0.0.1", "localhost")
    server.config = server.folder / "bellrock.yml"
    server.config.write_text(scrape(one, two))
    server.start()
    eventually(lambda: len(server.promql("up == 1")) == 2)
    return server


def scrape(one, two):
    return f"global: {{ scrape_interval: 300ms, scrape_timeout: 300ms }}\nscrape_configs: [{{ job_name: app, static_configs: [{{ targets: ['{one}', '{two}'] }}] }}]\n"


def test_errors_of_text_and_of_execution_are_told_apart(scraping):
    for path, parameters, status, kind in QUESTIONS:
        if status is not None:
            assert ask(scraping.url, path, parameters) == (status, kind), parameters


def test_the_verdicts_are_those_of_prometheus(scraping, tmp_path):
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("there is no prometheus on this machine")
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "prometheus.yml").write_text(scrape(address, address.replace("127.0.0.1", "localhost")))
    command = [binary, f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'd'}", f"--web.listen-address={address}"]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://{address}"
        eventually(lambda: len(requests.get(f"{url}/api/v1/query", params={"query": "up == 1"}, timeout=5).json()["data"]["result"]) == 2, 30)
        for path, parameters, _, _ in QUESTIONS:
            if "no-name" not in str(parameters):  # since version 3 label names may be any text
                assert ask(scraping.url, path, parameters) == ask(url, path, parameters), parameters
    finally:
        process.kill()
        process.wait()


def test_warnings_and_infos_come_with_the_answer(scraping):
    eventually(lambda: scraping.promql("rate(up[1m])"))
    info = scraping.get("/api/v1/query", query="rate(up[1m])")
    assert "might not be a counter" in info["infos"][0] and "warnings" not in info
    warning = scraping.get("/api/v1/query", query="quantile(2, up)")
    assert "quantile value should be between 0 and 1" in warning["warnings"][0]


def test_a_query_that_takes_too_long_is_a_timeout(scraping):
    heavy = "sum(" + " + ".join(["count_over_time(up[10m:1ms])"] * 40) + ")"
    answer = requests.get(f"{scraping.url}/api/v1/query", params={"query": heavy, "timeout": "1ms"}, timeout=30)
    assert (answer.status_code, answer.json()["errorType"]) == (503, "timeout"), answer.text


def test_the_rest_of_the_api(scraping):
    page = requests.get(f"{scraping.url}/federate", params={"match[]": ["up", '{__name__="bellrock_build_info"}']}, timeout=10).text
    assert page.startswith("# TYPE bellrock_build_info untyped\n") and "# TYPE up untyped\n" in page
    assert len([line for line in page.splitlines() if line.startswith('up{instance="')]) == 2
    assert int(page.split()[-1]) > 1.6e12, "with the time of the sample"
    metadata = scraping.get("/api/v1/targets/metadata", metric="bellrock_samples_total", match_target='{job="app"}')["data"]
    assert len(metadata) == 2 and metadata[0]["type"] == "counter" and metadata[0]["target"]["job"] == "app"
    assert scraping.get("/api/v1/targets/metadata", match_target='{job="other"}')["data"] == []
    assert len(scraping.get("/api/v1/targets/metadata", limit=3)["data"]) == 3
    tree = scraping.get("/api/v1/parse_query", query="sum by (job) (up)")["data"]
    assert tree["type"] == "aggregation" and tree["expr"]["matchers"][0]["value"] == "up"
    assert scraping.get("/api/v1/status/runtimeinfo")["data"]["storageRetention"] == "15d"
    flags = scraping.get("/api/v1/status/flags")["data"]
    assert flags["query.timeout"] == "30s" and flags["config.file"] == str(scraping.config)


def test_rules_are_read_again(make_server, tmp_path):
    rules = tmp_path / "rules.yml"
    group = "groups: [{{ name: g, interval: 300ms, rules: [{{ alert: {}, expr: 'vector({})' }}] }}]"
    rules.write_text(group.format("First", 0))
    server = make_server(config=f"rule_files: [{rules}]\n").start()
    alert = eventually(lambda: server.get("/api/v1/alerts")["data"]["alerts"])[0]
    assert alert["value"] == "0e+00", "as Prometheus writes it"

    def names():
        return [rule["name"] for part in server.get("/api/v1/rules")["data"]["groups"] for rule in part["rules"]]

    rules.write_text(group.format("Second", 1))
    assert requests.post(f"{server.url}/-/reload", timeout=10).status_code == 200
    assert names() == ["Second"]
    rules.write_text("groups: [{ name: g, rules: [{ alert: A, expr: 'sum(' }] }]")
    answer = requests.post(f"{server.url}/-/reload", timeout=10)
    assert answer.status_code == 400 and "rules.yml" in answer.text
    assert names() == ["Second"] and server.get("/api/v1/status/runtimeinfo")["data"]["reloadConfigSuccess"] is False
    assert requests.get(f"{server.url}/-/reload", timeout=10).status_code == 405


def test_what_is_switched_off_is_refused_and_not_among_the_features(make_server):
    server = make_server(arguments=["--enable-feature=promql-binop-fill-modifiers"])
    server.start()
    assert ask(server.url, "query", {"query": "mad_over_time(up[5m])"}) == (400, "bad_data")
    assert ask(server.url, "format_query", {"query": "rate(up[5m] anchored)"}) == (400, "bad_data")
    assert ask(server.url, "query", {"query": "up + fill (0) up"}) == (200, None)
    features = server.get("/api/v1/features")["data"]
    assert (features["promql"]["fill"], features["promql"]["anchored"]) == (True, False)
    assert (features["promql_functions"]["mad_over_time"], features["promql_functions"]["rate"]) == (False, True)
    assert (features["promql_operators"]["limitk"], features["promql_operators"]["sum"]) == (False, True)


# Billions of values: a minute of work at the least.
ENDLESS = {"query": "sum_over_time(sum_over_time(vector(time())[1d:1s])[1d:1s])"}


def running(server):
    return [query for query in server.get("/bellrock/v1/queries")["queries"] if query["query"] == ENDLESS["query"]]


def test_a_query_ends_when_its_caller_goes_away(make_server):
    server = make_server().start()
    with pytest.raises(requests.exceptions.Timeout):
        requests.get(f"{server.url}/api/v1/query", params=ENDLESS, timeout=0.5)
    eventually(lambda: not running(server), timeout=5)


def test_a_running_query_is_listed_and_can_be_cancelled(make_server):
    server = make_server().start()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(requests.get(f"{server.url}/api/v1/query", params=ENDLESS, timeout=20)))
    asking.start()
    query = eventually(lambda: running(server))[0]
    assert query["language"] == "promql" and query["elapsed_ms"] >= 0
    assert requests.delete(f"{server.url}/bellrock/v1/queries/{query['id']}", timeout=5).status_code == 200
    asking.join(timeout=10)
    assert "cancelled" in answers[0].json()["error"]
    assert requests.delete(f"{server.url}/bellrock/v1/queries/{query['id']}", timeout=5).status_code == 404


def test_a_dashboard_that_is_refreshed_uses_what_is_known(scraping):
    def step_counts():
        lines = requests.get(f"{scraping.url}/metrics", timeout=5).text.splitlines()
        counts = dict(line.rsplit(" ", 1) for line in lines if line.startswith("bellrock_range_cache_steps"))
        return [int(counts[f"bellrock_range_cache_steps_{what}_total"]) for what in ("evaluated", "reused")]

    end = int(time.time()) // 15 * 15
    question = {"query": "sum by (job) (up)", "start": end - 3600, "end": end, "step": 15}
    ask(scraping.url, "query_range", question)
    before = step_counts()
    ask(scraping.url, "query_range", {**question, "start": end - 3585, "end": end + 15})
    evaluated, reused = (after - known for after, known in zip(step_counts(), before, strict=True))
    assert evaluated <= 5 and reused >= 236
    ask(scraping.url, "query_range", {**question, "nocache": 1})
    assert step_counts() == [before[0] + evaluated, before[1] + reused]


def test_a_limit_cuts_and_says_so(scraping):
    warning = ["results truncated due to limit"]
    now = time.time()
    for path, more in [
        ("query", {"query": "up"}),
        ("query_range", {"query": "up", "start": now - 5, "end": now, "step": 1}),
        ("series", {"match[]": "up"}),
        ("labels", {}),
        ("label/instance/values", {}),
    ]:
        whole = scraping.get(f"/api/v1/{path}", limit=0, **more)
        data = whole["data"]["result"] if path.startswith("query") else whole["data"]
        assert len(data) >= 2 and "warnings" not in whole, path
        cut = scraping.get(f"/api/v1/{path}", limit=1, **more)
        data = cut["data"]["result"] if path.startswith("query") else cut["data"]
        assert len(data) == 1 and cut["warnings"] == warning, path
    assert "warnings" not in scraping.get("/api/v1/query", query="1", limit=1)


def test_a_query_tells_what_it_took_when_asked(scraping):
    now = time.time()
    for path, more in [("query", {}), ("query_range", {"start": now - 5, "end": now, "step": 1, "nocache": 1})]:
        assert "stats" not in scraping.get(f"/api/v1/{path}", query="up", **more)["data"]
        stats = scraping.get(f"/api/v1/{path}", query="up", stats="all", **more)["data"]["stats"]
        assert stats["samples"]["totalQueryableSamples"] >= 2, stats
        assert 0 < stats["timings"]["evalTotalTime"] <= stats["timings"]["execTotalTime"] < 10, stats


def test_what_the_store_says_of_itself(scraping):
    tsdb = scraping.get("/api/v1/status/tsdb", limit=2)["data"]
    assert tsdb["headStats"]["numLabelPairs"] > 10 and tsdb["headStats"]["chunkCount"] > 10
    for name in ("seriesCountByMetricName", "labelValueCountByLabelName", "memoryInBytesByLabelName", "seriesCountByLabelValuePair"):
        assert len(tsdb[name]) == 2, name
    assert "=" in tsdb["seriesCountByLabelValuePair"][0]["name"]
    assert requests.get(f"{scraping.url}/api/v1/status/tsdb", params={"limit": 0}, timeout=10).status_code == 400
    assert eventually(lambda: scraping.get("/api/v1/status/walreplay")["data"]["state"] == "done")
    assert scraping.get("/api/v1/notifications")["data"] == []
    assert scraping.get("/api/v1/status/tsdb/blocks")["data"]["blocks"] == []
    eventually(lambda: float(scraping.promql("min(count_over_time(up[1m]))")[0][1]) >= 3)
    scraping.post("/bellrock/v1/admin/flush", {})
    block = scraping.get("/api/v1/status/tsdb/blocks")["data"]["blocks"][0]
    assert block["stats"]["numSamples"] > block["stats"]["numSeries"] > 10 and block["minTime"] <= block["maxTime"]
    with requests.get(f"{scraping.url}/api/v1/notifications/live", stream=True, timeout=10) as live:
        assert live.headers["content-type"] == "text/event-stream"
        scraping.config.write_text("nonsense: {")
        assert requests.post(f"{scraping.url}/-/reload", timeout=10).status_code == 400
        line = next(line for line in live.iter_lines() if line.startswith(b"data:"))
        assert b"reload has failed" in line
    assert "reload has failed" in scraping.get("/api/v1/notifications")["data"][0]["text"]


def test_a_snapshot_is_a_data_directory(scraping, make_server, tmp_path):
    samples = scraping.promql("count_over_time(up[1h])")
    answer = requests.put(f"{scraping.url}/api/v1/admin/tsdb/snapshot", timeout=30)
    name = answer.json()["data"]["name"]
    folder = scraping.data / "snapshots" / name
    assert folder.is_dir() and not list(folder.parent.glob("*.part"))
    requests.post(f"{scraping.url}/api/v1/admin/tsdb/delete_series", params={"match[]": "up"}, timeout=10)
    requests.post(f"{scraping.url}/api/v1/admin/tsdb/clean_tombstones", timeout=30)
    other = make_server(data=folder).start()
    counts = {labels["instance"]: count for labels, count in other.promql("count_over_time(up[1h])")}
    assert all(counts[labels["instance"]] >= count for labels, count in samples) and len(counts) == 2
    assert requests.post(f"{scraping.url}/api/v1/admin/tsdb/snapshot", params={"skip_head": "maybe"}, timeout=10).status_code == 400


def test_exemplars_are_found_however_old(server):
    at = int(time.time() * 1000) - 3 * 3600 * 1000
    span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "timeUnixNano": str(at * 10**6), "asDouble": 0.5}
    point = {"timeUnixNano": str(at * 10**6), "asDouble": 1.0, "exemplars": [span]}
    metric = {"name": "old", "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]}}
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    assert requests.post(f"{server.url}/api/v1/otlp/v1/metrics", json=body, timeout=10).status_code == 200
    found = eventually(lambda: server.get("/api/v1/query_exemplars", query='{__name__=~"old.*"}')["data"])
    assert found[0]["exemplars"][0]["labels"]["trace_id"] == span["traceId"]


PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


def test_federation_speaks_what_the_reader_asks_for(make_server):
    server = make_server(config="global: { external_labels: { region: eu, replica: a } }").start()
    now = int(time.time() * 1000)
    remote_write(server.url, {"__name__": "ütf.8", "region": "us"}, [float_sample(now, 1.0)])
    remote_write(server.url, {"__name__": "nh"}, [histogram_sample(now, 1)])

    def page(accept=None):
        headers = {"accept": accept} if accept else {}
        answer = requests.get(f"{server.url}/federate", params={"match[]": ['{__name__=~".+"}']}, headers=headers, timeout=10)
        return answer.headers["content-type"], answer.content

    eventually(lambda: page()[1])
    kind, text = page()
    assert kind == "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    assert text.decode() == f'# TYPE _tf_8 untyped\n_tf_8{{region="us",replica="a",instance=""}} 1 {now}\n'
    kind, text = page("text/plain;version=1.0.0;escaping=allow-utf-8")
    assert "allow-utf-8" in kind and '{"ütf.8",region="us"' in text.decode()
    kind, binary = eventually(lambda: b"nh" in page(PROTOBUF)[1] and page(PROTOBUF))
    assert kind.startswith("application/vnd.google.protobuf") and b"\x0a\x06region\x12\x02eu" in binary


def test_federation_and_lists_have_a_budget(make_server):
    server = make_server(config="bellrock: { limits: { query_memory: 200KB } }").start()
    now = int(time.time() * 1000)
    for at in range(30):
        remote_write(server.url, {"__name__": "wide", "n": str(at), "text": "x" * 4000}, [float_sample(now, 1.0)])
    eventually(lambda: len(server.promql("count(wide)")) and server.promql("count(wide)")[0][1] == 30)
    for path in ("/federate", "/api/v1/series"):
        refused = requests.get(server.url + path, params={"match[]": "wide"}, timeout=10)
        assert refused.status_code == 422 and "limits.query_memory" in refused.text, f"{path}: {refused.text[:300]}"
        assert requests.get(server.url + path, params={"match[]": 'wide{n="1"}'}, timeout=10).status_code == 200
