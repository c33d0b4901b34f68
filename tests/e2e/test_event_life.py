"""The life of logs and spans: kept by rules, erased on demand."""

import json
import threading
import time

import duckdb
import polars
import pyarrow.parquet
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


ERASING = """
bellrock:
  flush_interval: 1s
  retention: { erased_within: 1m, readers_grace: 3s }
"""


def plant(server, number):
    """A person's id in each place where one may stand."""
    person = f"person-{number:04x}-zq"
    send_logs(server, [(0, 9, f"login of {person} from the web", {}), (0, 9, "order", {"enduser.id": person})])
    send_span(server, 1000 + number, f"GET /users/{person}")
    send_span(server, 2000 + number, "checkout", attributes=attributes({"enduser.id": person}))
    event = {
        "event_id": f"{number:032x}",
        "timestamp": time.time(),
        "level": "error",
        "tags": {"service": "shop"},
        "exception": {"values": [{"type": "LookupError", "value": f"no such user {person}"}]},
    }
    header = json.dumps({"event_id": event["event_id"]})
    envelope = "\n".join([header, json.dumps({"type": "event"}), json.dumps(event)])
    answer = requests.post(f"{server.url}/api/1/envelope/", data=envelope, headers={"X-Sentry-Auth": "Sentry sentry_key=a"}, timeout=10)
    assert answer.status_code == 200, answer.text
    return person


def where_it_stands(data, text):
    """The files below a data directory that hold a text, Parquet read as such."""
    found = []
    for path in sorted(data.rglob("*")):
        if not path.is_file():
            continue
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        if text.encode() in content:
            found.append(str(path.relative_to(data)))
        elif path.suffix == ".parquet":
            try:
                rows = pyarrow.parquet.read_table(path).to_pylist()
            except FileNotFoundError:
                continue
            if text in str(rows):
                found.append(str(path.relative_to(data)))
    return found


def erase(server, **what):
    answer = requests.post(f"{server.url}/bellrock/v1/admin/erasures", json=what, timeout=40)
    assert answer.status_code == 202, answer.text
    return answer.json()


def state(server, begun):
    return server.get(f"/bellrock/v1/admin/erasures/{begun['id']}")


def found_by_queries(server, person):
    """What any query still finds of a person."""
    found = [line for line in lines(server) if person in line]
    for table in ("logs", "spans", "errors"):
        found += [row for row in server.sql(f"SELECT * FROM {table}") if person in str(row)]
    for trace in (1000, 2000):
        trace += int(person.split("-")[1], 16)
        answer = requests.get(f"{server.url}/tempo/api/traces/{trace:032x}", timeout=5)
        if answer.status_code == 200 and person in answer.text:
            found.append(trace)
    search = requests.get(f"{server.url}/tempo/api/search", params={"q": f'{{ span.enduser.id = "{person}" }}'}, timeout=10)
    return found + search.json()["traces"]


class Writer(threading.Thread):
    """Sends what has nothing to do with it, all the time."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.sent, self.ended = server, 0, threading.Event()

    def run(self):
        while not self.ended.is_set():
            try:
                send_logs(self.server, [(0, 9, f"other line {self.sent}", {"enduser.id": f"other-{self.sent % 7}"})], service="bank")
                self.sent += 1
            except (requests.ConnectionError, requests.Timeout):
                pass
            time.sleep(0.02)

    def end(self):
        self.ended.set()
        self.join()


def segments(server):
    """The journal's segments: their records are compressed, so that their absence is what tells."""
    return {path.name for path in (server.data / "journal").glob("*.segment")}


def test_a_persons_data_is_erased_from_everywhere_while_writes_go_on(make_server):
    server = make_server(config=ERASING).start()
    people = [plant(server, number) for number in range(4)]
    server.post("/bellrock/v1/admin/flush", None)
    held_before = {person: where_it_stands(server.data / "files", person) for person in people}
    assert all(held_before.values()), "in files, which have to be written anew"
    people += [plant(server, number) for number in range(4, 8)]
    gone, kept = people[::2], people[1::2]
    writer = Writer(server)
    writer.start()
    begun = [erase(server, contains=person) for person in gone]
    written_before = segments(server)
    for person in gone:
        assert found_by_queries(server, person) == [], "at once"
    for person in kept:
        assert len(found_by_queries(server, person)) >= 5
    done = [eventually(lambda one=one: (now := state(server, one))["state"] == "done" and now, timeout=60) for one in begun]
    for one in done:
        assert not one["overdue"] and one["request"] is None and one["finished_at"] <= one["deadline"], one
    writer.end()
    assert written_before and not written_before & segments(server)
    for person in gone:
        assert where_it_stands(server.data, person) == []
        assert not any(person in str(issue) for issue in server.get("/bellrock/v1/issues")["issues"])
    for person in kept:
        assert len(found_by_queries(server, person)) >= 5
        assert where_it_stands(server.data, person) != []
    # What came meanwhile is all there.
    count = lambda: server.sql("SELECT count(*) AS n FROM logs WHERE service = 'bank'")[0]["n"]
    assert count() == writer.sent
    server.post("/bellrock/v1/admin/flush", None)
    lake = lambda: polars.scan_delta(str(server.data / "files" / "events" / "1" / "logs"))
    in_lake = lambda: lake().filter(polars.col("service") == "bank").select(polars.len()).collect().item()
    eventually(lambda: in_lake() == writer.sent)
    # Who comes back is a person like any other.
    again = plant(server, 0)
    assert again == gone[0] and len(found_by_queries(server, again)) >= 5


def test_an_erasure_goes_on_after_kill_9_at_any_step(make_server):
    server = make_server(config=ERASING).start()
    person, other = plant(server, 0), plant(server, 1)
    server.post("/bellrock/v1/admin/flush", None)
    plant(server, 0)
    begun = erase(server, contains=person)
    end = time.monotonic() + 90
    kills = 0
    while (now := state(server, begun))["state"] != "done":
        assert time.monotonic() < end, now
        assert found_by_queries(server, person) == []
        server.kill()
        server.start()
        kills += 1
        assert found_by_queries(server, person) == [], f"after {kills} kills: {now}"
        time.sleep([0.1, 0.7, 1.3, 7][kills % 4])
    assert kills >= 2
    assert where_it_stands(server.data, person) == []
    assert len(found_by_queries(server, other)) >= 5
    server.kill()
    server.start()
    assert state(server, begun)["state"] == "done" and found_by_queries(server, person) == []


def test_erasing_by_attribute_and_by_lokis_call(make_server):
    server = make_server(config=ERASING).start()
    person, other = plant(server, 0), plant(server, 1)
    erase(server, attributes={"enduser.id": person})
    assert "order" in lines(server) and len([line for line in lines(server) if line == "order"]) == 1
    assert server.sql("SELECT count(*) AS n FROM spans WHERE name = 'checkout'")[0]["n"] == 1
    query = '{service_name="shop"} |= "%s"' % other
    start = int(time.time()) - 3600
    answer = requests.post(f"{server.url}/loki/api/v1/delete", params={"query": query, "start": start}, timeout=30)
    assert answer.status_code == 204, answer.text
    assert not any(other in line for line in lines(server))
    assert [row for row in server.sql("SELECT name FROM spans") if other in row["name"]], "a query of lines is of no spans"
    listed = requests.get(f"{server.url}/loki/api/v1/delete", timeout=5).json()
    assert query in [one["query"] for one in listed]
    cancelled = requests.delete(f"{server.url}/loki/api/v1/delete", params={"request_id": listed[0]["request_id"]}, timeout=5)
    assert cancelled.status_code == 400
    for what, words in [
        ({}, "needs a query, attributes or a text"),
        ({"contains": "ab"}, "stands in too much"),
        ({"query": "rate({a=\"b\"}[5m])"}, "log query"),
        ({"query": "{a=\"b\""}, "query"),
        ({"contains": "abcdef", "of": "metrics"}, "logs or spans"),
        ({"contains": "abcdef", "start": "soon"}, "RFC 3339"),
        ({"contains": "abcdef", "start": 20, "end": 10}, "end of an erasure"),
    ]:
        answer = requests.post(f"{server.url}/bellrock/v1/admin/erasures", json=what, timeout=10)
        assert answer.status_code == 400 and words in answer.text, (what, answer.text)
    assert requests.get(f"{server.url}/bellrock/v1/admin/erasures/none", timeout=5).status_code == 404
