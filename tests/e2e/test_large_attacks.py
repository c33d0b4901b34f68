"""Attacks of the size that an attacker would choose: the server keeps to its memory, and everybody else is served meanwhile."""

import gzip
import json
import random
import socket
import threading
import time

import cramjam
import requests
from prometheus_peer import field, float_sample, histogram_sample, varint
from test_hostile import peak_mib

DECODED = 250 << 20
PROTOBUF = {"content-type": "application/x-protobuf", "content-encoding": "snappy"}
ATTACKER, OTHER = ({"authorization": f"Bearer admin-{name}-01234567890"} for name in ("one", "two"))


def two_tenants(**limits):
    tokens = ", ".join(f"{{ name: {name}, tenant: {tenant}, role: admin, token: admin-{name}-01234567890 }}" for tenant, name in ((1, "one"), (2, "two")))
    written = ", ".join(f"{name}: {limit}" for name, limit in limits.items())
    return f"bellrock: {{ auth: {{ tokens: [{tokens}] }}, limits: {{ {written} }} }}\n"


def labels_of(**labels):
    return b"".join(field(1, field(1, name.encode()) + field(2, value.encode())) for name, value in sorted(labels.items()))


class Meanwhile:
    """Another tenant, who asks and pushes a kilobyte of logs and of samples as long as the attack lasts: how long each took."""

    def __init__(self, server):
        self.server, self.waits, self.pushes, self.is_over, self.failures = server, [], [], False, []
        self.threads = [threading.Thread(target=self.run, args=[work]) for work in (self.ask, self.push_logs, self.push_samples)]

    def run(self, work):
        try:
            while not self.is_over:
                work()
                time.sleep(0.05)
        except Exception as failure:
            self.failures.append(failure)

    def ask(self):
        start = time.monotonic()
        assert requests.get(f"{self.server.url}/-/healthy", timeout=30).status_code == 200
        self.until_through(lambda: requests.get(f"{self.server.url}/api/v1/query?query=vector(1)", headers=OTHER, timeout=30))
        self.waits.append(time.monotonic() - start)

    def push_logs(self):
        streams = [{"stream": {"app": "small"}, "values": [[str(time.time_ns()), "x" * 50] for _ in range(10)]}]
        self.push("/loki/api/v1/push", {"content-type": "application/json"}, json.dumps({"streams": streams}).encode())

    def push_samples(self):
        now = int(time.time() * 1000)
        series = [field(1, labels_of(__name__="small", n=str(n)) + float_sample(now, 1.0)) for n in range(20)]
        self.push("/api/v1/write", PROTOBUF, bytes(cramjam.snappy.compress_raw(b"".join(series))))

    def push(self, path, headers, body):
        start = time.monotonic()
        self.until_through(lambda: requests.post(self.server.url + path, data=body, headers={**headers, **OTHER}, timeout=30))
        self.pushes.append(time.monotonic() - start)

    def until_through(self, send):
        """Who is asked to come again does so."""
        start = time.monotonic()
        while (answer := send()).status_code == 503:
            assert time.monotonic() - start < 60, answer.text
            time.sleep(0.1)
        assert answer.status_code in (200, 204), answer.text

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        for thread in self.threads:
            thread.join()
        assert not self.failures and len(self.waits) > 3 and len(self.pushes) > 3, self.failures

    def check(self):
        """About a second is what a push may take; a loaded machine may let one or the other wait."""
        assert sorted(self.pushes)[len(self.pushes) // 2] < 1.5 and max(self.pushes) < 6, self.pushes
        assert max(self.waits) < 5, self.waits


def at_once(count, work):
    """What so many threads give for `work`."""
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == count
    return answers


def large_body():
    """Packed less than a hundredfold: more would be refused before it has grown."""
    now = str(time.time_ns())
    line = lambda: json.dumps({"timeUnixNano": now, "body": {"stringValue": random.randbytes(256).hex() + "x" * 30_000}})
    text = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + ",".join([line() for _ in range(DECODED // 30_600)]) + "]}]}]}"
    assert len(text) > 240 << 20
    return gzip.compress(text.encode(), 1)


def send_large(server, count):
    body, headers = large_body(), {"content-type": "application/json", "content-encoding": "gzip", **ATTACKER}
    with Meanwhile(server) as meanwhile:
        answers = at_once(count, lambda: requests.post(f"{server.url}/v1/logs", data=body, headers=headers, timeout=60))
    meanwhile.check()
    return [answer.status_code for answer in answers]


def test_bodies_far_beyond_the_limit_at_once(make_server):
    server = make_server(config=two_tenants()).start()
    assert set(send_large(server, 12)) <= {413, 503}
    assert peak_mib(server) < 700


def test_senders_that_leave_when_all_is_sent(make_server):
    """What is decoded for nobody counts until that is done."""
    server = make_server(config=two_tenants()).start()
    body = large_body()
    head = f"POST /v1/logs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {len(body)}\r\n"
    head += f"authorization: {ATTACKER['authorization']}\r\n\r\n"

    def send_and_leave():
        with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=30) as connection:
            connection.sendall(head.encode() + body)
        return True

    with Meanwhile(server) as meanwhile:
        for _ in range(4):
            at_once(6, send_and_leave)
        headers = {"content-type": "application/json", "content-encoding": "gzip", **ATTACKER}
        last = requests.post(f"{server.url}/v1/logs", data=body, headers=headers, timeout=60)
    assert last.status_code in (413, 503), last.text
    meanwhile.check()
    assert peak_mib(server) < 700


def test_large_bodies_at_once_where_they_are_allowed(make_server):
    """What is held of them is bounded by a few of them, however many come."""
    server = make_server(config=two_tenants(body="64MB", body_decompressed="256MB")).start()
    assert set(send_large(server, 6)) <= {200, 429, 503}
    assert peak_mib(server) < 2000


def histograms(count, buckets, filled):
    """One series: a bucket is a byte in the body and eight in memory."""
    now = int(time.time() * 1000)
    spans = field(11, b"\x08\x00\x10" + varint(buckets))
    low = bytes(byte & 0x7F for byte in range(256))
    deltas = lambda: field(12, random.randbytes(filled).translate(low) + b"\x00" * (buckets - filled))
    samples = [field(4, b"\x08\x00\x20\x06\x30\x00" + spans + deltas() + b"\x78" + varint(now + at)) for at in range(count)]
    return field(1, labels_of(__name__="wide") + b"".join(samples))


def send_histograms(server, bodies):
    """Of each of these, by encoding, two at once."""
    write = lambda encoding: requests.post(
        f"{server.url}/api/v1/write", data=bodies[encoding], headers={**PROTOBUF, "content-encoding": encoding, **ATTACKER}, timeout=90
    )
    encodings = iter([*bodies, *bodies])
    with Meanwhile(server) as meanwhile:
        answers = at_once(2 * len(bodies), lambda: write(next(encodings)))
    meanwhile.check()
    assert {answer.status_code for answer in answers} <= {413, 503}, [answer.text[:200] for answer in answers]
    assert any(answer.status_code == 413 and "buckets of native histograms" in answer.text for answer in answers), answers[0].text


def test_a_large_body_of_native_histograms(make_server):
    server = make_server(config=two_tenants(body="64MB", body_decompressed="512MB")).start()
    request = histograms(30_000, 10_000, 0)
    assert len(request) > 280 << 20
    send_histograms(server, {"snappy": bytes(cramjam.snappy.compress_raw(request))})
    assert peak_mib(server) < 1300


def test_large_bodies_of_histograms_in_any_encoding(make_server):
    """Remote write is not snappy alone, and nobody but the decoder knows what a body becomes."""
    server = make_server(config=two_tenants(body="64MB", body_decompressed="256MB")).start()
    request = histograms(24_000, 10_000, 400)
    assert len(request) > 220 << 20
    bodies = {"gzip": gzip.compress(request, 1), "zstd": bytes(cramjam.zstd.compress(request, 1))}
    assert all(len(request) / 100 < len(body) < 64 << 20 for body in bodies.values()), [len(body) for body in bodies.values()]
    del request
    send_histograms(server, bodies)
    assert peak_mib(server) < 1000


def check_heavy(server, query, start, end, statuses, count=40):
    parameters = {"query": query, "start": start, "end": end, "step": 1, "nocache": 1}
    ask = lambda: requests.get(f"{server.url}/api/v1/query_range", params=parameters, headers=ATTACKER, timeout=60)
    with Meanwhile(server) as meanwhile:
        answers = at_once(count, ask)
    assert {answer.status_code for answer in answers} <= statuses, [answer.text[:200] for answer in answers]
    meanwhile.check()
    return [answer.status_code for answer in answers]


def write_hour(server, end, every, count, sample):
    samples = b"".join(sample((end - 3600 + at) * 1000, at) for at in range(0, 3600, every))
    series = [field(1, labels_of(__name__="much", n=str(n)) + samples) for n in range(count)]
    body = bytes(cramjam.snappy.compress_raw(b"".join(series)))
    answer = requests.post(f"{server.url}/api/v1/write", data=body, headers={**PROTOBUF, **ATTACKER}, timeout=30)
    assert answer.status_code == 204, answer.text


def test_heavy_queries_at_once(make_server):
    server = make_server(config=two_tenants(queries_memory="256MB", query_timeout="5s")).start()
    end = int(time.time())
    write_hour(server, end, 15, 100, lambda at_ms, at: float_sample(at_ms, at * 1.5))
    found = check_heavy(server, "much + on(n) much * 2", end - 3600, end, {200, 422, 429, 503})
    assert 200 in found and peak_mib(server) < 900


def test_heavy_joins_of_histograms_at_once(make_server):
    """What goes in is small, for a histogram holds for many steps; what comes out is one for each."""
    server = make_server(config=two_tenants(queries_memory="256MB", query_timeout="30s")).start()
    end = int(time.time())
    write_hour(server, end, 60, 60, lambda at_ms, at: histogram_sample(at_ms, 1 + at, wide=160))
    check_heavy(server, "much + much", end - 3600, end, {422, 429, 503}, count=8)
    assert peak_mib(server) < 900
