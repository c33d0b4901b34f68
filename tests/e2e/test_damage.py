"""Metric files that the disk has changed: every answer that lacks something says so, and the rest is answered."""

import subprocess
import time

import requests
from bellrock_server import BINARY, eventually
from prometheus_peer import float_sample, remote_write


def ready(server):
    server.start()
    eventually(lambda: requests.get(f"{server.url}/-/ready?query=1", timeout=5).status_code == 200)


def test_damage_is_told_with_every_answer(make_server, tmp_path):
    server = make_server(config="bellrock: { flush_interval: 1s }").start()
    now = int(time.time())
    for series in range(40):
        labels = {"__name__": "m", "i": str(series)}
        remote_write(server.url, labels, [float_sample((now - 60 + at) * 1000, at * 7.3 / (series + 1)) for at in range(50)])
    server.post("/bellrock/v1/admin/flush", None)
    server.kill()
    (file,) = (server.data).rglob("metrics/**/*.parquet")
    sound = file.read_bytes()
    ask = lambda: server.get("/api/v1/query", query="count(last_over_time(m[10m]))")
    # Somewhere in it lies a chunk.
    for place in range(len(sound) // 3, len(sound), 501):
        bent = bytearray(sound)
        bent[place] ^= 0x55
        file.write_bytes(bent)
        ready(server)
        answer = ask()
        if any("chunk" in warning for warning in answer.get("warnings", [])):
            break
        server.kill()
    (warning,) = answer["warnings"]
    chunks = int(warning.split()[0])
    assert file.name in warning and "damaged" in warning
    assert 0 < chunks < 40 and answer["data"]["result"][0]["value"][1] == str(40 - chunks)
    window = {"start": now - 60, "end": now, "step": 10}
    assert warning in server.get("/api/v1/query_range", query="m", **window)["warnings"]
    assert warning in server.get("/api/v1/series", **{"match[]": "m"})["warnings"]
    sql = server.post("/bellrock/v1/sql", {"query": "SELECT count(*) FROM metrics"})
    assert sql["warnings"] == [warning]
    told = subprocess.run([BINARY, "export", "metrics", "--server", server.url, "-o", tmp_path / "x"], capture_output=True, text=True)
    assert warning in told.stderr and told.returncode == 0
    assert f"bellrock_metric_chunks_damaged_total {chunks}\n" in requests.get(f"{server.url}/metrics", timeout=5).text
    assert server.get("/bellrock/v1/status")["storage"]["damage"] == {"metric_files": 0, "metric_chunks": chunks, "event_files": 0}
    eventually(lambda: server.log().count("MetricChunkDamagedError") == min(chunks, 20))
    assert "warnings" not in server.get("/api/v1/query", query="vector(1)"), "it reads nothing"
    server.kill()
    for harm in (lambda: file.write_bytes(sound[: len(sound) // 2]), lambda: file.write_bytes(bytes(len(sound))), file.unlink):
        harm()
        ready(server)
        answer = ask()
        assert answer["data"]["result"] == [] and file.name in answer["warnings"][0], answer
        server.kill()
