"""The settings of a scrape job, against real servers."""

import base64
import gzip
import json
import signal
import time

import pytest
import requests
from bellrock_server import eventually, free_port
from web import Certificates, Web, tunnel

GLOBAL = "global: { scrape_interval: 1s, scrape_timeout: 1s }\n"


def config(*jobs):
    return GLOBAL + "scrape_configs:\n" + "".join(f"  - {json.dumps(job)}\n" for job in jobs)


def job(name, web, **settings):
    address = web if isinstance(web, str) else web.address
    return {"job_name": name, "static_configs": [{"targets": [address]}], **settings}


def targets(server, **parameters):
    return {target["scrapePool"]: target for target in server.get("/api/v1/targets", **parameters)["data"]["activeTargets"]}


def scraped(server, names):
    """The targets of the jobs, once each has been scraped."""

    def check():
        found = targets(server)
        return found if all(found[name]["health"] != "unknown" for name in names) else None

    return eventually(check)


def in_health(server, state, names):
    """The targets of the jobs, once all have this health: a busy machine may be late for a scrape."""

    def check():
        found = targets(server)
        wrong = {name: found[name]["lastError"] for name in names if found[name]["health"] != state}
        assert not wrong, f"not {state}: {wrong}"
        return found

    return eventually(check)


def in_error(server, expected):
    """Waits until the targets are down with these words in their errors."""

    def check():
        found = targets(server)
        wrong = {name: found[name]["lastError"] for name, words in expected.items() if words not in found[name]["lastError"]}
        assert not wrong, f"not for these reasons: {wrong}"
        return all(found[name]["health"] == "down" for name in expected)

    eventually(check)


@pytest.fixture
def web():
    made = []

    def make(answer="x 1\n", **options):
        made.append(Web(answer if callable(answer) else lambda request: answer, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def certificates(tmp_path):
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Certificates(folder)


def test_credentials_and_headers(make_server, web, tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("from-file-1\n")
    issued = []

    def give_token(request):
        issued.append((request.headers.get("authorization"), request.body.decode()))
        return 200, {"content-type": "application/json"}, json.dumps({"access_token": f"t{len(issued)}", "expires_in": 3600})

    tokens, seen = web(give_token), {}

    def page(request):
        seen[request.path[1:]] = request
        if request.path == "/oauth" and request.headers["authorization"] == "Bearer t1":
            return 401, {}, "old"
        return "x 1\n"

    target = web(page)
    oauth = {
        "client_id": "me", "client_secret": "s:1", "token_url": tokens.url, "scopes": ["a", "b"],
        "endpoint_params": {"audience": "shop"},
    }
    jobs = {
        "basic": {"basic_auth": {"username": "u", "password": "p"}},
        "bearer": {"authorization": {"credentials_file": str(token_file)}},
        "other": {"authorization": {"type": "Token", "credentials": "c"}},
        "oauth": {"oauth2": oauth},
        "headers": {"http_headers": {"X-Scope": {"values": ["a"], "secrets": ["b"], "files": [str(token_file)]}},
                    "params": {"module": ["m", "n"]}, "enable_compression": False,
                    "scrape_protocols": ["PrometheusText0.0.4"]},
    }
    server = make_server(config=config(*(job(name, target, metrics_path=f"/{name}", **part) for name, part in jobs.items())))
    server.start()
    scraped(server, jobs)

    def authorization(name):
        return seen[name].headers["authorization"]

    assert authorization("basic") == "Basic " + base64.b64encode(b"u:p").decode()
    assert authorization("bearer") == "Bearer from-file-1" and authorization("other") == "Token c"
    token_file.write_text("from-file-2")
    eventually(lambda: authorization("bearer") == "Bearer from-file-2")
    eventually(lambda: authorization("oauth") == "Bearer t2")
    assert issued[0][0] == "Basic " + base64.b64encode(b"me:s%3A1").decode()
    assert sorted(issued[0][1].split("&")) == ["audience=shop", "grant_type=client_credentials", "scope=a+b"]
    assert len(issued) == 2, "a token is kept until it ends or is refused"
    headers = seen["headers"].headers
    assert headers.get_all("x-scope")[:2] == ["a", "b"] and headers.get_all("x-scope")[2].startswith("from-file-")
    assert seen["headers"].query == {"module": ["m", "n"]}
    assert headers["accept"] == "text/plain;version=0.0.4;q=0.5,*/*;q=0.4"
    assert headers["accept-encoding"] == "identity" and "gzip" in seen["basic"].headers["accept-encoding"]
    assert headers["x-prometheus-scrape-timeout-seconds"] == "1"
    assert "client_secret: <secret>" in server.get("/api/v1/status/config")["data"]["yaml"]


def test_tls(make_server, web, certificates, tmp_path):
    folder = certificates.folder
    named = web(tls=certificates.context())
    mutual = web(tls=certificates.context("loopback", asks_client=True))
    ca = str(folder / "ca.pem")
    late = tmp_path / "late.pem"
    jobs = {
        "named": (named, {"ca_file": ca, "server_name": certificates.name}),
        "inline": (named, {"ca": (folder / "ca.pem").read_text(), "server_name": certificates.name, "min_version": "TLS13"}),
        "skipped": (named, {"insecure_skip_verify": True}),
        "mutual": (mutual, {"ca_file": ca, "cert_file": str(folder / "client.pem"), "key_file": str(folder / "client.key")}),
        "wrong-name": (named, {"ca_file": ca}),
        "stranger": (named, {"server_name": certificates.name}),
        "no-client": (mutual, {"ca_file": ca}),
        "late": (named, {"ca_file": str(late), "server_name": certificates.name}),
    }
    server = make_server(
        config=config(*(job(name, to, scheme="https", tls_config=tls) for name, (to, tls) in jobs.items()))
    ).start()
    in_health(server, "up", ("named", "inline", "skipped", "mutual"))
    reasons = {"wrong-name": "not valid for name", "stranger": "UnknownIssuer", "no-client": "CertificateRequired"}
    in_error(server, {**reasons, "late": str(late)})
    late.write_text((folder / "ca.pem").read_text())
    in_health(server, "up", ["late"])


def test_proxies(make_server, web, certificates):
    plain, secure, proxy = web(), web(tls=certificates.context("loopback")), web(tunnel)
    tls = {"ca_file": str(certificates.folder / "ca.pem")}
    jobs = [
        job("forward", plain, proxy_url=proxy.url),
        job("connect", secure, proxy_url=proxy.url, scheme="https", tls_config=tls,
            proxy_connect_header={"Proxy-Authorization": ["Basic abc"]}),
        job("direct", plain, proxy_url="http://127.0.0.1:1", no_proxy="127.0.0.0/8"),
        job("environment", "shop.invalid:80", proxy_from_environment=True),
    ]
    seen = web(lambda request: "x 1\n")
    server = make_server(config=config(*jobs), environment={"HTTP_PROXY": seen.url, "http_proxy": seen.url}).start()
    in_health(server, "up", [one["job_name"] for one in jobs])
    connects = [request for request in proxy.requests if request.method == "CONNECT"]
    assert connects[0].target == secure.address and connects[0].headers["proxy-authorization"] == "Basic abc"
    assert seen.requests[0].target == "http://shop.invalid/metrics"


def test_limits_redirects_and_content(make_server, web):
    def page(request):
        if request.path == "/moved":
            return 302, {"location": "/metrics"}, ""
        if request.path == "/html":
            return 200, {"content-type": "text/html"}, "x 1\n"
        if request.path == "/gzip":
            return 200, {"content-encoding": "gzip"}, gzip.compress(b"x 1\n" * 1 + b"# " + b"y" * 10_000 + b"\n")
        return "x 1\ny 2\n"

    target = web(page)
    jobs = {
        "good": {},
        "moved": {"metrics_path": "/moved"},
        "stays": {"metrics_path": "/moved", "follow_redirects": False},
        "html": {"metrics_path": "/html"},
        "fallback": {"metrics_path": "/html", "fallback_scrape_protocol": "PrometheusText0.0.4"},
        "large": {"metrics_path": "/gzip", "body_size_limit": "1KB", "extra_scrape_metrics": True},
        "samples": {"sample_limit": 1},
    }
    server = make_server(config=config(*(job(name, target, **part) for name, part in jobs.items()))).start()
    in_health(server, "up", ("good", "moved", "fallback"))
    reasons = {"stays": "302", "html": "text/html", "large": "body size limit exceeded", "samples": "sample limit exceeded"}
    in_error(server, reasons)

    def value(query):
        return server.promql(query)[0][1]

    eventually(lambda: value('up{job="samples"}') == 0)
    assert value('scrape_samples_scraped{job="samples"}') == 2
    assert value('scrape_samples_post_metric_relabeling{job="samples"}') == 2
    assert value('scrape_body_size_bytes{job="large"}') == -1
    assert server.promql('x{job=~"samples|large"}') == []


def test_target_limit_and_dropped_targets(make_server, web):
    target = web()
    others = [f"127.0.0.1:{target.port}", f"localhost:{target.port}"]
    many = {"job_name": "many", "static_configs": [{"targets": others}], "target_limit": 1}
    drop = {"source_labels": ["__address__"], "regex": "gone.*", "action": "drop"}
    some = {"job_name": "some", "static_configs": [{"targets": [target.address, "gone1:1", "gone2:1"]}],
            "keep_dropped_targets": 1, "relabel_configs": [drop]}
    server = make_server(config=config(many, some)).start()

    def limited():
        return [one for one in server.get("/api/v1/targets", scrapePool="many")["data"]["activeTargets"] if one["lastError"]]

    found = eventually(lambda: len(limited()) == 2 and limited())
    assert {one["lastError"] for one in found} == {"target_limit exceeded (number of targets: 2, limit: 1)"}
    assert all(one["health"] == "down" for one in found)
    data = server.get("/api/v1/targets", state="dropped", scrapePool="some")["data"]
    assert data["activeTargets"] == [] and data["droppedTargetCounts"] == {"some": 2}
    assert [one["discoveredLabels"]["__address__"] for one in data["droppedTargets"]] == ["gone1:1"]
    assert server.get("/api/v1/scrape_pools")["data"]["scrapePools"] == ["many", "some"]
    labels = json.dumps({"__address__": "gone9:1", "job": "some"})
    steps = server.get("/api/v1/targets/relabel_steps", scrapePool="some", labels=labels)["data"]["steps"]
    assert [(step["rule"]["action"], step["keep"]) for step in steps] == [("drop", False)]
    answer = requests.get(f"{server.url}/api/v1/targets/relabel_steps", params={"scrapePool": "no", "labels": "{}"}, timeout=5)
    assert answer.status_code == 400 and "no scrape pool" in answer.text


def test_jobs_are_read_again(make_server, web, tmp_path):
    kept, changed, gone, new = web(), web(), web(), web()
    more = tmp_path / "jobs"
    more.mkdir()
    (more / "a.yml").write_text("scrape_configs: " + json.dumps([job("kept", kept)]))
    include = f"scrape_config_files: ['{more}/*.yml']\n"
    server = make_server(config=include + config(job("changed", changed), job("gone", gone))).start()
    in_health(server, "up", ["kept", "changed", "gone"])
    eventually(lambda: len(server.promql('x{job=~"changed|gone|kept"}')) == 3)
    before = targets(server)["kept"]["lastScrape"]

    again = job("changed", changed, metric_relabel_configs=[{"target_label": "since", "replacement": "reload"}])
    server.config.write_text(include + config(again, job("new", new)))
    assert requests.post(f"{server.url}/-/reload", timeout=20).status_code == 200
    found = targets(server)
    assert sorted(found) == ["changed", "kept", "new"]
    assert found["kept"]["lastScrape"] >= before and found["kept"]["health"] == "up", "it was not started anew"
    eventually(lambda: server.promql('x{job="changed",since="reload"}'))
    assert server.promql('x{job="gone"}') == [], "marked stale"
    eventually(lambda: server.promql('x{job="changed",since=""}') == [], timeout=5)
    assert server.promql('min_over_time(up{job="changed"}[1m])')[0][1] == 1

    server.config.write_text(include + config(job("new", new, scheme="ftp")))
    answer = requests.post(f"{server.url}/-/reload", timeout=20)
    assert answer.status_code == 400 and "scheme must be http or https" in answer.text
    assert sorted(targets(server)) == ["changed", "kept", "new"]
    assert server.get("/api/v1/status/runtimeinfo")["data"]["reloadConfigSuccess"] is False

    server.config.write_text(config(job("new", new)))
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: list(targets(server)) == ["new"])
    assert "new" in server.get("/api/v1/status/config")["data"]["yaml"]


def test_a_huge_answer_is_given_up_in_time_and_holds_up_nobody(make_server, web):
    series = "".join(f'x{{a="{at}"}} 1\n' for at in range(1_200_000))
    packed = gzip.compress(series.encode(), 1)
    bomb = gzip.compress(b"# nothing\n" * 10_000_000, 9)
    huge = [web(lambda request: (200, {"content-encoding": "gzip"}, packed)) for _ in range(4)]
    comments, small = web(lambda request: (200, {"content-encoding": "gzip"}, bomb)), web("y 1\n")
    jobs = [job(f"huge-{at}", one) for at, one in enumerate(huge)] + [job("comments", comments), job("small", small)]
    server = make_server(config=config(*jobs)).start()
    in_error(server, {"comments": "body size limit exceeded"})

    def given_up():
        errors = [targets(server)[f"huge-{at}"]["lastError"] for at in range(4)]
        return all("within the scrape timeout" in error or "more than 1000000 series" in error for error in errors)

    eventually(given_up)
    in_health(server, "up", ["small"])
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 6


def test_a_target_with_too_many_series_still_says_that_it_is_up(make_server, web):
    page = web("".join(f'x{{a="{at}"}} 1\n' for at in range(30)))
    server = make_server(config="bellrock: { limits: { series_per_target: 20 } }\n" + config(job("many", page))).start()
    refused = eventually(lambda: targets(server)["many"]["lastError"])
    assert "15 samples were refused" in refused and "limits.series_per_target" in refused
    assert targets(server)["many"]["health"] == "up"
    assert server.promql('up{job="many"}')[0][1] == 1
    assert server.promql('scrape_samples_scraped{job="many"}')[0][1] == 30
    assert server.promql('count(x{job="many"})')[0][1] == 15


def test_who_does_not_answer_is_named(make_server):
    at, proxy = free_port(), free_port()
    dead = {"static_configs": [{"targets": [f"127.0.0.1:{at}"]}]}
    jobs = [{"job_name": "direct", **dead}, {"job_name": "proxied", "proxy_url": f"http://127.0.0.1:{proxy}", **dead}]
    jobs.append({"job_name": "docker", "docker_sd_configs": [{"host": "unix:///nowhere/docker.sock"}]})
    server = make_server(config=config(*jobs)).start()
    expected = {"direct": f"127.0.0.1:{at}: Connection refused", "proxied": f"the proxy 127.0.0.1:{proxy}, for 127.0.0.1:{at}: Connection refused"}
    in_error(server, expected)
    eventually(lambda: "socket /nowhere/docker.sock: No such file" in server.log())
