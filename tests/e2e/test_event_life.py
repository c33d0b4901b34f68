"""The life of logs and spans: kept by rules, erased on demand."""

import time

import duckdb
import requests
from bellrock_server import eventually


def attributes(pairs):
    return [{"key": key, "value": {"stringValue": value}} for key, value in pairs.items()]


def send_logs(server, records, service="shop"):
    """Sends log records: [(seconds ago, severity number, body, attributes)]."""
    now = time.time_ns()
    records = [
        {
            "timeUnixNano": str(now - int(ago * 1e9)),
            "severityNumber": severity,
            "body": {"stringValue": body},
            "attributes": attributes(more),
        }
        for ago, severity, body, more in records
    ]
    resource = {"attributes": attributes({"service.name": service})}
    body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}
    answer = requests.post(f"{server.url}/v1/logs", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


def send_span(server, trace, name, status=1, service="shop", **more):
    now = time.time_ns()
    span = {
        "traceId": f"{trace:032x}",
        "spanId": f"{trace:016x}",
        "name": name,
        "startTimeUnixNano": str(now),
        "endTimeUnixNano": str(now + 1_000_000),
        "status": {"code": status},
        **more,
    }
    resource = {"attributes": attributes({"service.name": service})}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
    answer = requests.post(f"{server.url}/v1/traces", json=body, timeout=20)
    assert answer.status_code == 200, answer.text


def lines(server, query='{service_name=~".+"}'):
    return sorted(line for _, line in server.logql(query))


def in_files(server, table="logs", column="body"):
    """What the files hold, replaced ones that still lie there left out."""
    listed = {file["path"].split("/")[-1] for file in delta_files(server, table)}
    paths = [str(path) for path in (server.data / "files").rglob("*.parquet") if path.name in listed]
    return sorted(row[0] for path in paths for row in duckdb.execute(f"SELECT {column} FROM read_parquet(?)", [path]).fetchall())


def delta_files(server, table):
    from deltalake import DeltaTable

    return [{"path": path} for path in DeltaTable(str(server.data / "files" / "events" / "1" / table)).file_uris()]


def test_some_logs_and_spans_are_kept_for_a_shorter_time(make_server):
    rules = """
bellrock:
  flush_interval: 1s
  retention:
    logs: 1h
    event_rules:
      - { match: '{service_name="shop", level="debug"}', keep: 12s }
      - { match: '{service_name="audit"}', of: logs, keep: 30d }
      - { match: '{status="error"}', of: spans, keep: 12s }
"""
    server = make_server(config=rules).start()
    send_logs(server, [(0, 5, "shop debug", {}), (0, 9, "shop info", {})])
    send_logs(server, [(0, 5, "audit debug", {}), (86400, 9, "audit yesterday", {})], service="audit")
    told = send_logs(server, [(20, 5, "too late", {}), (20, 9, "in time", {}), (7200, 9, "beyond all", {})])
    assert int(told["partialSuccess"]["rejectedLogRecords"]) == 2, told
    assert "12s for which its retention rule keeps it" in told["partialSuccess"]["errorMessage"], told
    send_span(server, 1, "good")
    send_span(server, 2, "bad", status=2)
    server.post("/bellrock/v1/admin/flush", None)
    everything = ["audit debug", "audit yesterday", "in time", "shop debug", "shop info"]
    assert sorted(lines(server) + [line for _, line in server.logql("{service_name=~\".+\"}", since=200_000) if "yesterday" in line]) == everything
    kept = [line for line in everything if line != "shop debug"]
    body = lambda: sorted(row["body"] for row in server.sql("SELECT body FROM logs"))
    eventually(lambda: body() == kept, timeout=30)
    assert "shop debug" not in lines(server)
    names = lambda: [row["name"] for row in server.sql("SELECT name FROM spans")]
    eventually(lambda: names() == ["good"], timeout=30)
    assert requests.get(f"{server.url}/tempo/api/traces/{2:032x}", timeout=5).status_code == 404
    assert requests.get(f"{server.url}/tempo/api/traces/{1:032x}", timeout=5).status_code == 200
    # The files follow.
    eventually(lambda: in_files(server) == kept and in_files(server, "spans", "name") == ["good"], timeout=30)
    server.kill()
    server.start()
    assert body() == kept and names() == ["good"]


def test_a_rule_on_events_that_cannot_be_meant_stops_the_start(make_server):
    server = make_server(config="bellrock: { retention: { event_rules: [{ match: '{level=\"warning\"}', keep: 1d }] } }").start(wait=False)
    assert server.process.wait(20) != 0
    assert "event_rules" in server.log() and "trace, debug, info, warn, error, fatal" in server.log()
