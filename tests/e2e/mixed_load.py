"""Numbered records of all signals under load, and the comparison of what was acknowledged with what is found."""

import itertools
import json
import random
import threading
import time
import uuid

import requests
from bellrock_server import eventually


class Sender(threading.Thread):
    """Sends numbered records of one signal and remembers what was acknowledged."""

    def __init__(self, server, make):
        super().__init__(daemon=True)
        self.server, self.name, self.make = server, make.__name__, make
        self.sent, self.acknowledged, self.unexpected = set(), set(), []
        self.refused, self.life = 0, uuid.uuid4().hex[:6]
        self.stopping, self.counting = threading.Event(), threading.Event()
        self.counting.set()
        self.session = requests.Session()

    def run(self):
        for number in itertools.count():
            if self.stopping.is_set():
                return
            ids = [f"{self.name}-{self.life}-{number}-{part}" for part in range(random.randint(1, 5))]
            self.sent.update(ids)
            path, body, headers = self.make(ids)
            try:
                answer = self.session.post(self.server.url + path, headers=headers, timeout=3, **body)
            except requests.RequestException:
                self.session.close()
                time.sleep(0.02)
                continue
            if answer.status_code == 503:
                self.refused += 1
            elif answer.status_code not in (200, 204):
                self.unexpected.append(f"{answer.status_code} {answer.text}")
            elif self.counting.is_set():
                self.acknowledged.update(ids)


def resource(name):
    return {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]}


def logs(ids):
    records = [{"timeUnixNano": str(time.time_ns()), "body": {"stringValue": record}} for record in ids]
    body = {"resourceLogs": [{"resource": resource("load-logs"), "scopeLogs": [{"logRecords": records}]}]}
    return "/v1/logs", {"json": body}, {}


def loki(ids):
    values = [[str(time.time_ns()), record] for record in ids]
    return "/loki/api/v1/push", {"json": {"streams": [{"stream": {"service_name": "load-loki"}, "values": values}]}}, {}


def spans(ids):
    now = time.time_ns()
    made = [{"traceId": random.randbytes(16).hex(), "spanId": random.randbytes(8).hex(), "name": record, "kind": 2,
             "startTimeUnixNano": str(now - 10**6), "endTimeUnixNano": str(now)} for record in ids]
    return "/v1/traces", {"json": {"resourceSpans": [{"resource": resource("load-spans"), "scopeSpans": [{"spans": made}]}]}}, {}


def metrics(ids):
    now = str(time.time_ns())
    points = [{"timeUnixNano": now, "asDouble": 1.0, "attributes": [{"key": "record", "value": {"stringValue": record}}]} for record in ids]
    gauge = {"name": "load_gauge", "gauge": {"dataPoints": points}}
    body = {"resourceMetrics": [{"resource": resource("load-metrics"), "scopeMetrics": [{"metrics": [gauge]}]}]}
    return "/v1/metrics", {"json": body}, {}


def envelope(title, fingerprint):
    """What sentry-sdk sends for one error."""
    event_id = uuid.uuid4().hex
    event = {"event_id": event_id, "level": "error", "fingerprint": [fingerprint], "message": title, "platform": "python", "timestamp": time.time()}
    payload = json.dumps(event)
    text = f'{{"event_id":"{event_id}"}}\n{{"type":"event","length":{len(payload)}}}\n{payload}\n'
    return "/api/1/envelope/", {"data": text.encode()}, {"X-Sentry-Auth": "Sentry sentry_key=public"}


def errors(ids):
    del ids[1:]
    return envelope(ids[0], "load")


SIGNALS = (logs, loki, spans, metrics, errors)


def start_senders(server):
    senders = [Sender(server, make) for make in SIGNALS]
    for sender in senders:
        sender.start()
    return senders


def stop_senders(senders):
    for sender in senders:
        sender.stopping.set()
    for sender in senders:
        sender.join(10)
        assert not sender.is_alive(), f"{sender.name} still waits for an answer"


def wait_for_replay(server, timeout=120):
    """A server takes data at once after a start, while it reads back the journal; what it has read so far can be asked for."""
    eventually(lambda: server.get("/bellrock/v1/status")["replay"]["done"], timeout)


def found_counts(server):
    """How often each record is found, by signal."""
    found = {
        "logs": server.sql("SELECT body AS id, count(*) AS n FROM logs WHERE service_name = 'load-logs' GROUP BY body"),
        "loki": server.sql("SELECT body AS id, count(*) AS n FROM logs WHERE service_name = 'load-loki' GROUP BY body"),
        "spans": server.sql("SELECT name AS id, count(*) AS n FROM spans WHERE service_name = 'load-spans' GROUP BY name"),
        "errors": server.sql("SELECT error_title AS id, count(*) AS n FROM errors GROUP BY error_title"),
    }
    counts = {signal: {row["id"]: row["n"] for row in rows} for signal, rows in found.items()}
    counts["metrics"] = {labels["record"]: value for labels, value in server.promql("count_over_time(load_gauge[1h])")}
    return counts


def check_exactly_once(server, senders, acknowledged_min, with_issues=True):
    """Everything acknowledged is found once; an answer that a fault swallowed was perhaps stored, but never twice. Returns a total."""
    wait_for_replay(server)
    found = found_counts(server)
    for sender in senders:
        assert not sender.unexpected, f"{sender.name}: {sender.unexpected[:3]}"
        counts = {record: count for record, count in found[sender.name].items() if record.startswith(f"{sender.name}-")}
        lost = sender.acknowledged - counts.keys()
        doubled = {record for record, count in counts.items() if count != 1}
        strange = counts.keys() - sender.sent
        what = f"lost {sorted(lost)[:5]} of {len(lost)}, doubled {sorted(doubled)[:5]} of {len(doubled)}, strange {sorted(strange)[:5]}"
        assert not lost and not doubled and not strange, f"{sender.name}: {what}"
        assert len(sender.acknowledged) >= acknowledged_min, f"{sender.name} was hardly loaded: {len(sender.acknowledged)}"
    if with_issues:
        check_issues(server, sum(found["errors"].values()))
    return sum(len(sender.acknowledged) for sender in senders)


def check_issues(server, count):
    """The list of issues follows the journal on a lane of its own."""
    counted = lambda: sum(issue["count"] for issue in server.get("/bellrock/v1/issues", limit=1000)["issues"])
    eventually(lambda: counted() == count)
