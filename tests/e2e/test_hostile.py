"""Hostile senders and hostile queries: a clear no, and everybody else is served meanwhile."""

import gzip
import json
import socket
import threading
import time

import pytest
import requests
from bellrock_server import eventually


def push_lines(server, app, count, line="line {at} abc abc abc"):
    now = time.time_ns()
    values = [[str(now - at), line.format(at=at)] for at in range(count)]
    body = {"streams": [{"stream": {"app": app, "service_name": app}, "values": values}]}
    answer = requests.post(f"{server.url}/loki/api/v1/push", json=body, timeout=20)
    assert answer.status_code == 204, answer.text


def ask_sql(server, query, timeout=60):
    return requests.post(f"{server.url}/bellrock/v1/sql", json={"query": query}, timeout=timeout)


def peak_mib(server):
    lines = open(f"/proc/{server.process.pid}/status").read().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(
    "expression",
    [
        "length(repeat('x', 1500000000))",
        "length(repeat(body, 1000000))",
        "length(lpad('x', 1500000000))",
        "cardinality(array_repeat(body, 100000000))",
        "cardinality(range(0, 10000000000))",
    ],
)
def test_a_function_that_makes_much_of_little_does_not_end_the_server(server, expression):
    push_lines(server, "a", 1000)
    answer = ask_sql(server, f"SELECT {expression} FROM logs")
    assert answer.status_code in (400, 422), answer.text[:200]
    assert answer.json()["error"]["message"]
    assert server.process.poll() is None and peak_mib(server) < 1024


def test_sql_that_computes_without_end_holds_up_nobody(make_server):
    server = make_server(config="bellrock: { limits: { query_timeout: 3s } }").start()
    for at in range(6):
        push_lines(server, f"a{at}", 1000)
    query = "SELECT count(*) FROM logs a, logs b WHERE regexp_like(a.body, '(abc.*){20}' || b.body)"
    answers = []
    askers = [threading.Thread(target=lambda: answers.append(ask_sql(server, query))) for _ in range(6)]
    for asker in askers:
        asker.start()
    waits = []
    while any(asker.is_alive() for asker in askers):
        start = time.monotonic()
        push_lines(server, "meanwhile", 1)
        assert requests.get(f"{server.url}/-/healthy", timeout=20).status_code == 200
        waits.append(time.monotonic() - start)
    assert max(waits) < 5, f"ingest waited {max(waits)} s"
    assert len(answers) == 6 and all(answer.status_code == 422 for answer in answers), [answer.text[:200] for answer in answers]
    assert "time limit" in answers[0].text


def test_senders_that_never_finish_are_let_go(server):
    head = b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 16000000\r\n\r\n"
    silent = [socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=20) for _ in range(50)]
    for connection in silent:
        connection.sendall(head + b"{")
    push_lines(server, "meanwhile", 1)
    for connection in silent:
        assert connection.recv(64).startswith(b"HTTP/1.1 503"), "told after ten seconds of silence"
        connection.close()


def test_many_bodies_that_grow_at_once_stay_within_memory(server):
    now = str(time.time_ns())
    records = [{"timeUnixNano": now, "body": {"stringValue": f"{at:08x}" * 500 + "x" * 26_000}} for at in range(1000)]
    body = gzip.compress(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode(), 6)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    statuses = []

    def send():
        statuses.append(requests.post(f"{server.url}/v1/logs", data=body, headers=headers, timeout=120).status_code)

    senders = [threading.Thread(target=send) for _ in range(24)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert set(statuses) <= {200, 413, 429, 503}, statuses
    assert peak_mib(server) < 2048
    eventually(lambda: requests.get(f"{server.url}/-/ready", timeout=5).status_code == 200)
