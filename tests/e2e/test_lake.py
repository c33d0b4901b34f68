"""The tables of logs and spans as Delta tables, read beside the server by what is on PyPI while files come, merge and go."""

import subprocess
import sys
import threading
import time

import duckdb
import polars
import requests
from bellrock_server import eventually
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

HOUR = 3600

# Once a second a flush; what is an hour old goes.
CONFIG = "bellrock: { flush_interval: 1s, retention: { logs: 1h, spans: 1h } }"


def root(server, table="logs", tenant=1):
    return server.data / "files" / "events" / str(tenant) / table


def log_record(seconds_ago, number):
    attributes = [{"key": "http.status_code", "value": {"intValue": str(200 + number % 3)}}]
    if number % 2:
        attributes.append({"key": f"key.{number % 8}", "value": {"stringValue": f"value {number}"}})
    return {
        "timeUnixNano": str(time.time_ns() - int(seconds_ago * 1e9) + 7),
        "severityNumber": 9 + 4 * (number % 2),
        "body": {"stringValue": f"line {number}"},
        "attributes": attributes,
    }


def send_logs(server, records):
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}
    answer = requests.post(f"{server.url}/v1/logs", json=body, timeout=20)
    assert answer.status_code == 200 and "rejected" not in answer.text, answer.text


def count_of(server, where="true"):
    return server.sql(f"SELECT count(*) AS n FROM logs WHERE {where}")[0]["n"]


def by_polars(server):
    return polars.scan_delta(str(root(server))).select(polars.len()).collect().item()


def by_duckdb(server):
    files = DeltaTable(str(root(server))).file_uris()
    return duckdb.execute("SELECT count(*) FROM read_parquet(?, union_by_name = true)", [files]).fetchall()[0][0] if files else 0


def ask_chdb(server, what):
    """chDB reads nothing outside of the folder in which it runs."""
    script = "import chdb, sys; print(chdb.query(sys.argv[1], 'TabSeparated'))"
    query = f"SELECT {what} FROM deltaLakeLocal('{root(server).resolve()}')"
    command = [sys.executable, "-c", script, query]
    asked = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    return int(asked.stdout)


def by_chdb(server):
    return ask_chdb(server, "count()")


READERS = [by_polars, by_duckdb, by_chdb]


def published(server):
    return sorted(path.name for path in (root(server) / "_delta_log").glob("*.json"))


def settled(server, begins_anew=False):
    """All that was sent is in files, and the log says so. Only one that begins anew may fail who reads it meanwhile."""
    requests.post(f"{server.url}/bellrock/v1/admin/flush", timeout=60)
    count = count_of(server)

    def told():
        try:
            return published(server) and by_polars(server) == count
        except DeltaError:
            # This reader listed versions that are gone by now.
            if not begins_anew:
                raise
            return False

    eventually(told, timeout=30)
    return count


def test_readers_beside_the_server_count_what_sql_counts(make_server):
    server = make_server(config=CONFIG).start()
    stop, sent, failures = threading.Event(), [0], []

    def send():
        number = 0
        while not stop.is_set():
            # Now, an hour that is over soon, and records that will be past their time in a moment.
            records = [log_record(ago, number + at) for at, ago in enumerate([0, 1, 2, HOUR - 8])]
            try:
                send_logs(server, records)
            except Exception as error:
                failures.append(error)
                return
            number += len(records)
            sent[0] = number
            time.sleep(0.05)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        eventually(lambda: len(published(server)) > 1, timeout=30)
        reads, end = 0, time.monotonic() + 25
        while time.monotonic() < end:
            for read in READERS:
                before = sent[0] + 8
                count = read(server)
                assert 0 <= count <= max(before, sent[0] + 8), read.__name__
                reads += 1
    finally:
        stop.set()
        sender.join()
    assert not failures and reads >= 6
    log = "".join(path.read_text() for path in (root(server) / "_delta_log").glob("*.json"))
    assert '"remove"' in log, "files were merged or went"
    eventually(lambda: count_of(server, "ts < now() - INTERVAL '1 hour'") == 0, timeout=30)
    count = settled(server)
    assert 0 < count < sent[0]
    assert [read(server) for read in READERS] == [count] * 3


def test_columns_have_their_types_and_values(make_server):
    server = make_server(config=CONFIG).start()
    send_logs(server, [log_record(5, number) for number in range(100)])
    send_logs(server, [log_record(4, number) for number in range(100, 200)])
    assert settled(server) == 200
    table = polars.scan_delta(str(root(server)))
    schema = table.collect_schema()
    assert schema["ts"] == polars.Datetime("us", "UTC") and schema["a:http.status_code:i"] == polars.Int64
    levels = dict(table.group_by("severity").len().collect().rows())
    assert levels == {9: 100, 13: 100}
    row = table.filter(polars.col("body") == "line 7").collect().to_dicts()[0]
    shown = server.sql("SELECT CAST(ts AS BIGINT) AS nanos FROM logs WHERE body = 'line 7'")[0]["nanos"]
    assert row["a:key.7:s"] == "value 7" and row["ts_nanos"] == int(shown) % 1000
    assert ask_chdb(server, "sum(`a:http.status_code:i`)") == sum(200 + number % 3 for number in range(200))


def test_a_log_goes_on_after_a_kill_and_begins_anew_with_another_catalog(make_server):
    server = make_server(config=CONFIG).start()
    for number in range(3):
        send_logs(server, [log_record(5, number)])
        settled(server)
    versions = published(server)
    server.kill()
    # A version of which the catalog was not told: the next try finds it in its place.
    last = root(server) / "_delta_log" / versions[-1]
    foreign = last.with_name(f"{int(versions[-1][:20]) + 1:020}.json")
    foreign.write_text(last.read_text().replace('"add"', '"unknown"'))
    server.start()
    send_logs(server, [log_record(5, 4)])
    assert settled(server, begins_anew=True) == 4
    assert by_polars(server) == 4 and len(published(server)) > 0
    server.kill()
    for path in server.data.glob("catalog*"):
        path.unlink()
    server.start()
    eventually(lambda: requests.get(f"{server.url}/-/ready?query=1", timeout=5).status_code == 200)
    send_logs(server, [log_record(5, 5)])
    count = settled(server, begins_anew=True)
    assert count >= 5 and by_polars(server) == count


def test_checkpoints_stand_in_for_what_came_before(make_server):
    server = make_server(config=CONFIG).start()
    # Each version needs a file: flushes one after the other.
    for number in range(66):
        send_logs(server, [log_record(5, number)])
        seen = len(published(server))
        requests.post(f"{server.url}/bellrock/v1/admin/flush", timeout=60)
        eventually(lambda: len(published(server)) > seen, timeout=15)
    eventually(lambda: (root(server) / "_delta_log" / "_last_checkpoint").exists(), timeout=15)
    # What came before the checkpoint is not needed.
    for path in (root(server) / "_delta_log").glob("*.json"):
        if int(path.name[:20]) <= 64:
            path.unlink()
    count = settled(server)
    assert count == 66 and [read(server) for read in READERS] == [66] * 3
