"""`bellrock query`, `logs`, `traces`, `issues`: answers for people and for programs (docs/cli.md)."""

import csv
import io
import json
import re
import subprocess
import time

import pytest
from bellrock_server import BINARY, eventually

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


def ask(server, *arguments, code=0):
    outcome = subprocess.run([BINARY, *arguments, "--server", server.url], capture_output=True, text=True, timeout=60)
    assert outcome.returncode == code, outcome.stderr
    return outcome.stdout if code == 0 else outcome.stderr


@pytest.fixture
def filled(server):
    now = time.time_ns()
    values = [[str(now - 2_000_000_000 + at), f'line {at}, "quoted"'] for at in range(3)]
    server.post("/loki/api/v1/push", {"streams": [{"stream": {"service_name": "shop", "env": "test"}, "values": values}]}, status=204)
    eventually(lambda: len(server.logql('{service_name="shop"}')) == 3)
    return server


def test_lines_in_every_format(filled):
    for command in (["logs"], ["query", "logql", '{service_name="shop"}']):
        rows = json.loads(ask(filled, *command, "-o", "json"))
        assert [row["line"] for row in rows] == [f'line {at}, "quoted"' for at in range(3)], "oldest first"
        assert all(TIME.match(row["time"]) and row["labels"]["service_name"] == "shop" for row in rows)
        assert [json.loads(line) for line in ask(filled, *command, "-o", "jsonl").splitlines()] == rows
        table = list(csv.DictReader(io.StringIO(ask(filled, *command, "-o", "csv"))))
        assert [{**row, "labels": json.loads(row["labels"])} for row in table] == rows, "the labels are one cell of JSON"
        assert 'line 1, "quoted"' in ask(filled, *command)
    assert "use -o jsonl" in ask(filled, "logs", "-f", "-o", "json", code=2)


def test_metrics_in_every_format(filled):
    query = ["query", "logql", 'sum by (env) (count_over_time({service_name="shop"}[1h]))']
    (row,) = json.loads(ask(filled, *query, "-o", "json"))
    assert row == {"time": row["time"], "labels": {"env": "test"}, "value": 3.0} and TIME.match(row["time"]), "now, without --step"
    assert len(json.loads(ask(filled, *query, "--step", "1m", "-o", "json"))) >= 1
    (row,) = json.loads(ask(filled, "query", "promql", 'label_replace(vector(1), "a", "b", "", "")', "-o", "json"))
    assert row["labels"] == {"a": "b"} and row["value"] == 1.0 and TIME.match(row["time"])
    (row,) = json.loads(ask(filled, "query", "promql", "0/0", "-o", "json"))
    assert row["labels"] == {} and row["value"] == "NaN"
    table = list(csv.DictReader(io.StringIO(ask(filled, *query, "-o", "csv"))))
    assert [(json.loads(row["labels"]), float(row["value"])) for row in table] == [({"env": "test"}, 3.0)]
    assert "{env=test}" in ask(filled, *query)


def test_sql_and_the_lists_in_every_format(filled):
    sql = ["query", "sql", "SELECT ts, body FROM logs ORDER BY ts LIMIT 1"]
    (row,) = json.loads(ask(filled, *sql, "-o", "json"))
    assert TIME.match(row["ts"]) and row["body"] == 'line 0, "quoted"'
    for command in (sql, ["traces"], ["issues"], ["query", "traceql", "{}"]):
        for output in ("table", "json", "jsonl", "csv"):
            ask(filled, *command, "-o", output)


def test_exit_codes(filled):
    ask(filled, "query", "promql", "sum(", code=1)
    assert subprocess.run([BINARY, "issues", "--server", "http://127.0.0.1:9"], capture_output=True).returncode == 3
    assert subprocess.run([BINARY, "issues", "--server", "notaurl"], capture_output=True).returncode == 2
