"""kill -9 under mixed load: every acknowledged record is there afterwards, exactly once."""

import itertools
import os
import random
import threading
import time

import requests
from bellrock_server import eventually

KILLS = int(os.environ.get("BELLROCK_TEST_KILLS", "50"))


class Sender(threading.Thread):
    """Sends numbered records of one signal and remembers what was acknowledged."""

    def __init__(self, server, name, make):
        super().__init__(daemon=True)
        self.server, self.name, self.make = server, name, make
        self.sent, self.acknowledged, self.stopping = set(), set(), threading.Event()
        self.session = requests.Session()

    def run(self):
        for number in itertools.count():
            if self.stopping.is_set():
                return
            ids = [f"{self.name}-{number}-{part}" for part in range(random.randint(1, 5))]
            self.sent.update(ids)
            path, body, headers = self.make(ids)
            try:
                answer = self.session.post(self.server.url + path, headers=headers, timeout=3, **body)
                if answer.status_code in (200, 204):
                    self.acknowledged.update(ids)
                else:
                    assert answer.status_code == 503, f"{answer.status_code} {answer.text}"
            except requests.RequestException:
                self.session.close()
                time.sleep(0.02)


def resource(name):
    return {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]}


def logs(ids):
    records = [{"timeUnixNano": str(time.time_ns()), "body": {"stringValue": record}} for record in ids]
    body = {"resourceLogs": [{"resource": resource("crash-logs"), "scopeLogs": [{"logRecords": records}]}]}
    return "/v1/logs", {"json": body}, {}


def loki(ids):
    values = [[str(time.time_ns()), record] for record in ids]
    return "/loki/api/v1/push", {"json": {"streams": [{"stream": {"service_name": "crash-loki"}, "values": values}]}}, {}


def spans(ids):
    now = time.time_ns()
    made = [{"traceId": random.randbytes(16).hex(), "spanId": random.randbytes(8).hex(), "name": record, "kind": 2,
             "startTimeUnixNano": str(now - 10**6), "endTimeUnixNano": str(now)} for record in ids]
    return "/v1/traces", {"json": {"resourceSpans": [{"resource": resource("crash-spans"), "scopeSpans": [{"spans": made}]}]}}, {}


def metrics(ids):
    now = str(time.time_ns())
    points = [{"timeUnixNano": now, "asDouble": 1.0, "attributes": [{"key": "record", "value": {"stringValue": record}}]} for record in ids]
    body = {"resourceMetrics": [{"resource": resource("crash-metrics"), "scopeMetrics": [{"metrics": [{"name": "crash_gauge", "gauge": {"dataPoints": points}}]}]}]}
    return "/v1/metrics", {"json": body}, {}


def errors(ids):
    import json
    import uuid

    record = ids[0]
    del ids[1:]
    event_id = uuid.uuid4().hex
    event = {"event_id": event_id, "level": "error", "fingerprint": ["crash"], "message": record, "platform": "python", "timestamp": time.time()}
    payload = json.dumps(event)
    envelope = f'{{"event_id":"{event_id}"}}\n{{"type":"event","length":{len(payload)}}}\n{payload}\n'
    return "/api/1/envelope/", {"data": envelope.encode()}, {"X-Sentry-Auth": "Sentry sentry_key=public"}


def test_kill_9_loses_nothing_and_doubles_nothing(make_server):
    server = make_server(config="bellrock: { flush_interval: 2s }")
    server.start()
    senders = [Sender(server, make.__name__, make) for make in (logs, loki, spans, metrics, errors)]
    for sender in senders:
        sender.start()
    slowest = 0.0
    for _ in range(KILLS):
        time.sleep(random.uniform(0.1, 1.2))
        server.kill()
        started = time.monotonic()
        server.start()
        slowest = max(slowest, time.monotonic() - started)
    time.sleep(0.5)
    for sender in senders:
        sender.stopping.set()
    for sender in senders:
        sender.join(10)

    # The server takes data at once after a start, while it reads back the journal; what it has read so far can be asked for.
    eventually(lambda: server.get("/bellrock/v1/status")["replay"]["done"], 120)
    # An answer that a kill swallowed was perhaps stored: those may be there or not, but never twice.
    found = {
        "logs": server.sql("SELECT body AS id, count(*) AS n FROM logs WHERE service_name = 'crash-logs' GROUP BY body"),
        "loki": server.sql("SELECT body AS id, count(*) AS n FROM logs WHERE service_name = 'crash-loki' GROUP BY body"),
        "spans": server.sql("SELECT name AS id, count(*) AS n FROM spans WHERE service_name = 'crash-spans' GROUP BY name"),
        "errors": server.sql("SELECT error_title AS id, count(*) AS n FROM errors GROUP BY error_title"),
    }
    for sender in senders:
        if sender.name not in found:
            continue
        counts = {row["id"]: row["n"] for row in found[sender.name]}
        lost = sender.acknowledged - counts.keys()
        doubled = {record for record, count in counts.items() if count != 1}
        strange = counts.keys() - sender.sent
        assert not lost and not doubled and not strange, f"{sender.name}: lost {sorted(lost)[:5]} of {len(lost)}, doubled {sorted(doubled)[:5]}, strange {sorted(strange)[:5]}"
        assert len(sender.acknowledged) > KILLS, f"{sender.name} was hardly loaded: {len(sender.acknowledged)}"
    gauges = server.promql("count_over_time(crash_gauge[1h])")
    counts = {labels["record"]: value for labels, value in gauges}
    metrics_sender = next(sender for sender in senders if sender.name == "metrics")
    assert metrics_sender.acknowledged <= counts.keys()
    assert set(counts.values()) == {1.0}
    issue = eventually(lambda: [issue for issue in server.get("/bellrock/v1/issues", limit=1000)["issues"]])[0]
    assert issue["count"] == len(found["errors"]), "the issue counts each stored event once"
    total = sum(len(sender.acknowledged) for sender in senders)
    print(f"{KILLS} kills, {total} acknowledged records, slowest start {slowest:.2f} s")
    assert slowest < 5, f"a start took {slowest:.1f} s"


def test_a_second_server_on_the_same_data_is_refused(server):
    import subprocess

    second = subprocess.run(server.command(), capture_output=True, text=True, timeout=20)
    assert second.returncode != 0
    assert "in use" in second.stderr or "already" in second.stderr, second.stderr
