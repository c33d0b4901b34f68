"""`bellrock export metrics`, read by DuckDB."""

import json
import subprocess
import time

import duckdb
from bellrock_server import BINARY
from prometheus_peer import float_sample, histogram_sample, remote_write


def export(server, output, *arguments, status=0):
    command = [BINARY, "export", "metrics", "--server", server.url, "-o", str(output), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    assert done.stdout == "", "data goes to the file"
    return done.stderr


def fill(server):
    end = int(time.time()) // 60 * 60 - 60
    start = end - 5 * 3600
    for series in range(20):
        labels = {"__name__": "requests_total", "path": f"/{series}", "é": "x"}
        remote_write(server.url, labels, [float_sample(at * 1000, (at - start) * (series + 1) / 3) for at in range(start, end, 60)])
    remote_write(server.url, {"__name__": "size"}, [histogram_sample((start + 60 * at) * 1000, at + 1) for at in range(30)])
    return start, end


def test_duckdb_reads_what_was_written(make_server, tmp_path):
    # So little memory that the server refuses two hours at once.
    server = make_server(config="bellrock: { limits: { query_memory: 48KB } }").start()
    start, end = fill(server)
    file = tmp_path / "all.parquet"
    told = export(server, file, "--from", str(start), "--to", str(end))
    assert "6030 samples" in told
    query = lambda sql: duckdb.sql(sql.replace("FILE", f"'{file}'")).fetchall()
    assert query("SELECT metric, count(*), count(DISTINCT labels['path']) FROM FILE GROUP BY 1 ORDER BY 1") == [("requests_total", 6000, 20), ("size", 30, 0)]
    expect = sum((at - start) * (series + 1) / 3 for at in range(start, end, 60) for series in range(20))
    (total, first, labelled) = query("SELECT sum(value), min(epoch(timestamp)), count(*) FILTER (labels['é'] = 'x') FROM FILE WHERE value IS NOT NULL")[0]
    assert abs(total - expect) < 1e-6 * expect and first == start and labelled == 6000
    shown = json.loads(query("SELECT histogram FROM FILE WHERE metric = 'size' ORDER BY timestamp LIMIT 1")[0][0])
    assert shown["count"] == 10 and shown["positive"] == [[-2, 1.0], [-1, 2.0], [4, 6.0]]
    assert not list(tmp_path.glob("*.part"))


def test_what_is_chosen_and_what_is_wrong(server, tmp_path):
    start, end = fill(server)
    file = tmp_path / "some.parquet"
    export(server, file, 'requests_total{path=~"/1.*"}', "--from", "6h")
    assert duckdb.sql(f"SELECT count(DISTINCT labels['path']) FROM '{file}'").fetchall() == [(11,)]
    assert "selects no series" in export(server, tmp_path / "x", "sum(up)", status=2)
    assert "no time" in export(server, tmp_path / "x", "--from", "yesterday", status=2)
    server.stop()
    export(server, tmp_path / "x", status=3)
    assert sorted(path.name for path in tmp_path.glob("x*")) == []
