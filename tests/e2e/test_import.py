"""`bellrock import prometheus`: what Prometheus, Thanos and Mimir have kept answers the same in Bellrock."""

import json
import os
import shutil
import struct
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests
from bellrock_server import BINARY, eventually
from prometheus_peer import Prometheus, answer, float_sample, histogram_sample, instants, remote_write

DATA = Path(__file__).parents[2] / "../shared/data/metrics/victoriametrics/apptest/tests/testdata"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
KEEP_LONG = "bellrock: { retention: { metrics: 20y } }\n"


def run_import(directory, *arguments, status=0):
    command = [BINARY, "import", "prometheus", str(directory), "-o", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == status, done.stderr + done.stdout
    return json.loads(done.stdout) if done.stdout else [], done.stderr


def selected(url, matcher, start, end):
    """All raw samples of the series that match: {labels: [[time, value]]}."""
    return instants(url, f"{matcher}[{int(end - start) + 1}s]", end)


def expected(name):
    result = json.loads((DATA / name).read_text())["data"]["result"]
    return {tuple(sorted(series["metric"].items())): series["values"] for series in result}


def check_samples(found, wanted):
    """The same series and times; what is expected was written by a store that rounds to 12 digits."""
    assert found.keys() == wanted.keys()
    for series, samples in wanted.items():
        assert [time for time, _ in found[series]] == [time for time, _ in samples], series
        assert [float(value) for _, value in found[series]] == pytest.approx([float(value) for _, value in samples], rel=1e-11), series


@needs_data
@pytest.mark.parametrize(
    ("directory", "expect", "matcher"),
    [
        ("prometheus/snapshots/20250602T205846Z-7e03e43cf46dda03", "prometheus/expected_response.json", '{__name__="vm_log_messages_total",location=~".*opentsdb/server.go:(48|59)"}'),
        ("prometheus", "prometheus/expected_response.json", '{__name__="vm_log_messages_total",location=~".*opentsdb/server.go:(48|59)"}'),
        ("mimir-tsdb", "mimir-tsdb/expected_response.json", '{__name__="mimir_continuous_test_sine_wave_v2"}'),
        ("thanos-snapshot", "thanos-snapshot/expected_all_aggr_response.json", '{__name__=~"thanos_.*"}'),
    ],
)
def test_blocks_of_real_programs(make_server, directory, expect, matcher):
    server = make_server(config=KEEP_LONG).start()
    rows, _ = run_import(DATA / directory, "--server", server.url)
    assert {row["outcome"] for row in rows} == {"imported"}, rows
    wanted = expected(expect)
    times = [time for values in wanted.values() for time, _ in values]
    check_samples(selected(server.url, matcher, min(times), max(times)), wanted)
    rows, _ = run_import(DATA / directory, "--server", server.url)
    assert {row["outcome"] for row in rows} == {"imported before"}, rows
    server.kill()
    server.start()
    check_samples(selected(server.url, matcher, min(times), max(times)), wanted)


@needs_data
def test_aggregates_are_chosen_and_labels_added(make_server):
    server = make_server(config=KEEP_LONG)
    config = server.config
    run_import(DATA / "thanos-snapshot", "--data-dir", str(server.data), "--config", str(config), "--aggregates", "count,sum")
    server.start()
    wanted = expected("thanos-snapshot/expected_filtered_aggr_response.json")
    assert selected(server.url, '{__name__=~"thanos_.*"}', 1735689600, 1735696740) == wanted
    run_import(DATA / "thanos-snapshot", "--server", server.url, "--aggregates", "none", "--external-labels")
    assert len(selected(server.url, '{prometheus="test",replica="0"}', 1735689600, 1735696740)) == 4


@needs_data
def test_what_cannot_be_kept_or_read_is_said(make_server, tmp_path):
    short = make_server().start()
    _, told = run_import(DATA / "mimir-tsdb", "--server", short.url, status=1)
    assert "bellrock.retention.metrics" in told and "2024-12-20" in told
    rows, _ = run_import(DATA / "mimir-tsdb", "--server", short.url, "--drop-old")
    assert rows[0]["outcome"] == "left out: older than the retention"
    _, told = run_import(tmp_path, "--server", short.url, status=2)
    assert "no block" in told

    server = make_server(config=KEEP_LONG).start()
    _, told = run_import(DATA / "mimir-tsdb", "--data-dir", str(server.data), status=1)
    assert "in use" in told
    bucket = tmp_path / "bucket"
    shutil.copytree(DATA / "mimir-tsdb/anonymous", bucket / "one")
    shutil.copytree(DATA / "thanos-snapshot/01KKS78P6B68DNJC87ZVPRGC3X", bucket / "one/01KKS78P6B68DNJC87ZVPRGC3X")
    subprocess.run(["chmod", "-R", "u+w", str(bucket)], check=True)
    chunks = bucket / "one/01JFJBS3YP1SHZ3PJQ6HK76EC3/chunks/000001"
    damaged = bytearray(chunks.read_bytes())
    damaged[2000] ^= 1
    chunks.write_bytes(damaged)
    rows, told = run_import(bucket, "--server", server.url, status=1)
    outcomes = {row["source"]: row["outcome"] for row in rows}
    assert "chunks/000001: the chunk at byte 1" in outcomes["01JFJBS3YP1SHZ3PJQ6HK76EC3"] and "checksum" in outcomes["01JFJBS3YP1SHZ3PJQ6HK76EC3"]
    assert outcomes["01KKS78P6B68DNJC87ZVPRGC3X"] == "imported" and "1 of 2" in told
    assert server.promql("mimir_continuous_test_sine_wave_v2", time=1734709280) == [], "not a part of a block"
    shutil.copytree(bucket / "one", bucket / "two")
    _, told = run_import(bucket, "--server", server.url, status=2)
    assert "more than one" in told


EXPOSITION = """# TYPE jobs_total counter
jobs_total{{kind="a"}} {count}
jobs_total{{kind="b",Zone="eu"}} {reset}
# TYPE temperature gauge
temperature {temperature}
"""


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@needs_data
def test_a_series_whose_labels_are_no_text_costs_no_other(make_server, tmp_path):
    block = tmp_path / "01KKS78P6B68DNJC87ZVPRGC3X"
    shutil.copytree(DATA / "thanos-snapshot" / block.name, block)
    subprocess.run(["chmod", "-R", "u+w", str(block)], check=True)
    index = bytearray((block / "index").read_bytes())
    symbols = int.from_bytes(index[-52:-44], "big")
    end = symbols + 4 + int.from_bytes(index[symbols : symbols + 4], "big")
    place = index.index(b"localhost:9091", symbols, end)
    index[place] = 0xFF
    index[end : end + 4] = crc32c(index[symbols + 4 : end]).to_bytes(4, "big")
    (block / "index").write_bytes(index)
    server = make_server(config=KEEP_LONG).start()
    rows, told = run_import(block, "--server", server.url)
    assert [row["outcome"] for row in rows] == ["imported"]
    assert f"2 series of {block.name} are left out: their labels are not UTF-8" in told
    assert server.get("/api/v1/label/instance/values")["data"] == ["localhost:9090"]
    shutil.rmtree(block / "chunks")
    _, told = run_import(block, "--server", server.url, "--again", status=1)
    assert "1 of 1 could not be imported" in told and "others" not in told


@needs_data
def test_what_this_version_does_not_read_is_left_for_a_later_one(make_server, tmp_path):
    block = tmp_path / "01KKS78P6B68DNJC87ZVPRGC3X"
    shutil.copytree(DATA / "thanos-snapshot" / block.name, block)
    subprocess.run(["chmod", "-R", "u+w", str(block)], check=True)
    segment = block / "chunks/000001"
    readable = segment.read_bytes()
    length, place = readable[8] & 127, 9
    while readable[place - 1] & 128:
        length |= (readable[place] & 127) << 7 * (place - 8)
        place += 1
    chunk = b"\x63" + readable[place + 1 : place + 1 + length]
    segment.write_bytes(readable[:place] + chunk + crc32c(chunk).to_bytes(4, "big") + readable[place + 5 + length :])
    server = make_server(config=KEEP_LONG).start()
    rows, told = run_import(block, "--server", server.url, status=1)
    in_part = rows[0]
    assert in_part["outcome"].startswith("imported in part: 1 chunks are left out") and "chunk of encoding 99" in in_part["outcome"], rows
    assert "1 of 1 could be imported in part only: a version that reads the rest brings it in with the same command" in told
    again, _ = run_import(block, "--server", server.url, status=1)
    assert again == rows, "nothing is done with"
    segment.write_bytes(readable)
    rows, _ = run_import(block, "--server", server.url)
    assert rows[0]["outcome"] == "imported" and 0 < rows[0]["samples"] - in_part["samples"] <= 120, rows
    rows, _ = run_import(block, "--server", server.url)
    assert rows[0]["outcome"] == "imported before"


def test_a_log_with_labels_that_are_no_text(make_server, tmp_path):
    """Prometheus 2 took such labels: the series that has them is left out of the log, and told with its place."""
    uvarint = lambda value: bytes([value]) if value < 128 else bytes([value & 127 | 128]) + uvarint(value >> 7)
    text = lambda value: uvarint(len(value)) + value
    now = int(time.time() * 1000) // 1000 * 1000 - 60_000

    def series(reference, job):
        return reference.to_bytes(8, "big") + uvarint(2) + text(b"__name__") + text(b"logged") + text(b"job") + text(job)

    def record(content):
        return b"\x01" + len(content).to_bytes(2, "big") + crc32c(content).to_bytes(4, "big") + content

    def samples(*found):
        steps = b"".join(uvarint(2 * (reference - 1)) + uvarint(2 * at) + struct.pack(">d", value) for reference, at, value in found)
        return b"\x02" + (1).to_bytes(8, "big") + now.to_bytes(8, "big") + steps

    log = record(b"\x01" + series(1, b"a") + series(2, b"b\xff") + series(3, "ö".encode()))
    log += record(samples((1, 0, 1.0), (2, 0, 2.0), (3, 0, 3.0), (1, 1000, 4.0), (2, 1000, 5.0), (9, 0, 6.0)))
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal/00000000").write_bytes(log)
    server = make_server().start()
    rows, told = run_import(tmp_path, "--server", server.url)
    assert [(row["outcome"], row["series"], row["samples"]) for row in rows] == [("imported", 2, 3)], rows
    assert "1 series of the log with 2 samples" in told and "not UTF-8" in told, told
    assert "wal/00000000, in the record that ends at byte 0 and following" in told, told
    assert "1 samples in the log are of series that it does not name" in told, told
    assert sorted(server.promql("logged", time=now / 1000 + 1), key=str) == sorted(
        [({"__name__": "logged", "job": "a"}, 4.0), ({"__name__": "logged", "job": "ö"}, 3.0)], key=str
    )


@pytest.fixture
def exporter():
    """Counts its scrapes: a counter that grows, one that resets, a gauge that is not a number at times."""
    state = {"scrapes": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state["scrapes"] += 1
            count = state["scrapes"]
            temperature = "NaN" if count % 5 == 0 else 20 + (count * 7 % 11) / 8
            body = EXPOSITION.format(count=count * 3, reset=count % 7, temperature=temperature).encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, state
    server.shutdown()
    thread.join()
    server.server_close()


CONFIG = """
global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}
scrape_configs: [{{ job_name: app, static_configs: [{{ targets: ["127.0.0.1:{port}"] }}] }}]
"""
# What releases of Prometheus agree on: how rates reach beyond their samples is not among it.
QUERIES = ["jobs_total", "temperature", "up", "resets(jobs_total[5s])", "sum by (kind) (jobs_total)", "max_over_time(temperature[3s])"]


def check_equal(peer_answers, url, start, end, step=1):
    for query, wanted in peer_answers.items():
        assert answer(url, query, start, end, step) == wanted, query
        assert wanted, f"{query}: nothing to compare"


def test_a_live_data_directory(make_server, tmp_path, exporter):
    """Written by Prometheus: a block of a snapshot, and what only its log has; then compared after a move while stopped and while running."""
    port, state = exporter
    peer = Prometheus(tmp_path, CONFIG.format(port=port), ["--web.enable-admin-api"]).start()
    try:
        begin = time.time()
        eventually(lambda: state["scrapes"] > 20, 30)
        snapshot = peer.post("/api/v1/admin/tsdb/snapshot")["data"]["name"]
        snapshot_end = time.time()
        eventually(lambda: state["scrapes"] > 40, 30)
        # What is deleted stays in the log, and must not come back.
        peer.post("/api/v1/admin/tsdb/delete_series", **{"match[]": 'jobs_total{kind="b"}', "end": snapshot_end - 1})
        start, end = int(begin), int(time.time())
        answers = {query: answer(peer.url, query, start, end) for query in QUERIES}
        whole = {query: answer(peer.url, query, start, int(snapshot_end) - 2) for query in ["temperature", 'jobs_total{kind="a"}']}
    finally:
        peer.stop()
    stopped = make_server()
    rows, _ = run_import(peer.data, "--data-dir", str(stopped.data))
    assert [row["outcome"] for row in rows] == ["imported"] and rows[0]["source"] == "wal", rows
    stopped.start()
    check_equal(answers, stopped.url, start, end)
    stopped.kill()
    stopped.start()
    check_equal(answers, stopped.url, start, end)

    running = make_server().start()
    rows, _ = run_import(peer.data / "snapshots" / snapshot, "--server", running.url)
    assert [row["outcome"] for row in rows] == ["imported"], rows
    check_equal(whole, running.url, start, int(snapshot_end) - 2)
    rows, _ = run_import(peer.data, "--server", running.url)
    assert [row["outcome"] for row in rows] == ["imported"], rows
    assert answer(running.url, "temperature", start, end) == answers["temperature"], "what both hold counts once"


def test_native_histograms_and_deletions_in_blocks(make_server, tmp_path):
    """Prometheus' own chunks of histograms, out of a block and out of its log; and a block with tombstones."""
    arguments = ["--enable-feature=native-histograms", "--web.enable-remote-write-receiver", "--web.enable-admin-api"]
    peer = Prometheus(tmp_path, "global: {}\n", arguments).start()
    queries = ["size", "histogram_count(size)", "histogram_sum(size)", "kept", "dropped"]
    try:
        end = int(time.time()) - 10
        start = end - 600
        remote_write(peer.url, {"__name__": "size"}, [histogram_sample((start + 5 * at) * 1000, at % 50 + 1, wide=at >= 50) for at in range(120)])
        for name in ("kept", "dropped"):
            remote_write(peer.url, {"__name__": name}, [float_sample((start + 5 * at) * 1000, at / 3) for at in range(120)])
        snapshot = peer.post("/api/v1/admin/tsdb/snapshot")["data"]["name"]
        answers = {query: answer(peer.url, query, start, end, 5) for query in queries}
    finally:
        peer.stop()
    (block,) = [path for path in (peer.data / "snapshots" / snapshot).iterdir() if path.is_dir()]
    from_block, from_log, cut = (make_server().start() for _ in range(3))
    run_import(block, "--server", from_block.url)
    run_import(peer.data, "--server", from_log.url)
    check_equal(answers, from_block.url, start, end, 5)
    check_equal(answers, from_log.url, start, end, 5)

    # A Prometheus over the block alone writes tombstones into it.
    (tmp_path / "second").mkdir()
    second = Prometheus(tmp_path / "second", "global: {}\n", arguments)
    shutil.copytree(block, second.data / block.name)
    second.start()
    try:
        second.post("/api/v1/admin/tsdb/delete_series", **{"match[]": "dropped", "start": start + 100, "end": start + 300})
        second.post("/api/v1/admin/tsdb/delete_series", **{"match[]": "size", "end": start + 300})
        answers = {query: answer(second.url, query, start, end, 5) for query in queries}
    finally:
        second.stop()
    assert (second.data / block.name / "tombstones").stat().st_size > 9
    run_import(second.data, "--server", cut.url, "--skip-wal")
    check_equal(answers, cut.url, start, end, 5)


def test_only_administrators_move_data_in(make_server):
    token = "0123456789abcdef0123"
    config = f"bellrock: {{ auth: {{ tokens: [{{ name: sender, role: ingest, token: {token} }}] }} }}"
    server = make_server(config=config).start()
    headers = {"authorization": f"Bearer {token}"}
    for method, path in [("GET", ""), ("POST", ""), ("POST", "/files")]:
        assert requests.request(method, server.url + "/bellrock/v1/admin/imports" + path, headers=headers, timeout=5).status_code == 403


def test_a_file_that_is_none_is_refused(server):
    path = "/bellrock/v1/admin/imports"
    sent = requests.post(f"{server.url}{path}/files?window_start=0&window_secs=7200", data=b"PAR1 not at all", timeout=5)
    assert sent.status_code == 200, sent.text
    file = sent.json()["path"]
    refused = requests.post(server.url + path, json={"source": "test", "files": [file]}, timeout=5)
    assert refused.status_code == 400 and file in refused.text, refused.text
    again = requests.post(server.url + path, json={"source": "test", "files": [file]}, timeout=5)
    assert again.status_code == 404, "a refused file is gone"
    for files in (["metrics/2/7200/0/0-00.parquet"], ["../catalog.db"]):
        assert requests.post(server.url + path, json={"source": "test", "files": files}, timeout=5).status_code == 400
    assert requests.post(f"{server.url}{path}/files?window_start=5&window_secs=7200", data=b"", timeout=5).status_code == 400
    assert server.promql("vector(1)") == [({}, 1.0)]
