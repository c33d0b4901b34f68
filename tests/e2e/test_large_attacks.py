"""Attacks of the size that an attacker would choose: the server keeps to its memory, and everybody else is served meanwhile."""

import gzip
import json
import random
import threading
import time

import cramjam
import requests
from prometheus_peer import field, float_sample, varint
from test_hostile import peak_mib

DECODED = 250 << 20


class Meanwhile:
    """Asks and sends small things as long as the attack lasts, and says how long each took."""

    def __init__(self, server, headers=None):
        self.server, self.headers, self.waits, self.is_over, self.failure = server, headers, [], False, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            self.ask()
        except Exception as failure:
            self.failure = failure

    def ask(self):
        while not self.is_over:
            start = time.monotonic()
            assert requests.get(f"{self.server.url}/-/healthy", timeout=30).status_code == 200
            asked = requests.get(f"{self.server.url}/api/v1/query?query=vector(1)", headers=self.headers, timeout=30)
            assert asked.status_code == 200, asked.text
            self.waits.append(time.monotonic() - start)
            time.sleep(0.05)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()
        assert self.failure is None and len(self.waits) > 3, self.failure


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
    body, headers = large_body(), {"content-type": "application/json", "content-encoding": "gzip"}
    with Meanwhile(server) as meanwhile:
        answers = at_once(count, lambda: requests.post(f"{server.url}/v1/logs", data=body, headers=headers, timeout=60))
    assert max(meanwhile.waits) < 5, meanwhile.waits
    return [answer.status_code for answer in answers]


def test_bodies_far_beyond_the_limit_at_once(server):
    assert set(send_large(server, 12)) <= {413, 503}
    assert peak_mib(server) < 700


def test_large_bodies_at_once_where_they_are_allowed(make_server):
    """What is held of them is bounded by a few of them, however many come."""
    server = make_server(config="bellrock: { limits: { body: 64MB, body_decompressed: 256MB } }").start()
    assert set(send_large(server, 2)) <= {200, 429, 503}
    assert peak_mib(server) < 2000


def test_a_large_body_of_native_histograms(make_server):
    """A bucket is a byte in the body and eight in memory."""
    server = make_server(config="bellrock: { limits: { body: 64MB, body_decompressed: 512MB } }").start()
    now, buckets = int(time.time() * 1000), 10_000
    spans, deltas = field(11, b"\x08\x00\x10" + varint(buckets)), field(12, b"\x00" * buckets)
    histograms = [field(4, b"\x08\x00\x20\x06\x30\x00" + spans + deltas + b"\x78" + varint(now + at)) for at in range(30_000)]
    labels = field(1, field(1, b"__name__") + field(2, b"wide"))
    request = field(1, labels + b"".join(histograms))
    assert len(request) > 280 << 20
    body = bytes(cramjam.snappy.compress_raw(request))
    del request, histograms
    headers = {"content-type": "application/x-protobuf", "content-encoding": "snappy"}
    with Meanwhile(server) as meanwhile:
        answers = at_once(2, lambda: requests.post(f"{server.url}/api/v1/write", data=body, headers=headers, timeout=60))
    assert all(answer.status_code == 413 and "buckets of native histograms" in answer.text for answer in answers), answers[0].text
    assert peak_mib(server) < 1300 and max(meanwhile.waits) < 5


TENANTS = """
bellrock:
  auth:
    tokens:
      - { name: one, tenant: 1, role: admin, token: admin-one-01234567890 }
      - { name: two, tenant: 2, role: admin, token: admin-two-01234567890 }
  limits: { queries_memory: 256MB, query_timeout: 5s }
"""


def test_heavy_queries_at_once(make_server):
    server = make_server(config=TENANTS).start()
    one, two = ({"authorization": f"Bearer admin-{name}-01234567890"} for name in ("one", "two"))
    end = int(time.time())
    pairs = lambda series: b"".join(field(1, field(1, name) + field(2, value)) for name, value in ((b"__name__", b"much"), (b"n", b"%d" % series)))
    samples = b"".join(float_sample((end - 3600 + at) * 1000, at * 1.5) for at in range(0, 3600, 15))
    body = bytes(cramjam.snappy.compress_raw(b"".join(field(1, pairs(series) + samples) for series in range(100))))
    headers = {"content-type": "application/x-protobuf", "content-encoding": "snappy", **two}
    assert requests.post(f"{server.url}/api/v1/write", data=body, headers=headers, timeout=10).status_code == 204
    parameters = {"query": "much + on(n) much * 2", "start": end - 3600, "end": end, "step": 1, "nocache": 1}
    ask = lambda: requests.get(f"{server.url}/api/v1/query_range", params=parameters, headers=two, timeout=60)
    with Meanwhile(server, one) as meanwhile:
        answers = at_once(40, ask)
    assert {answer.status_code for answer in answers} <= {200, 422, 429, 503}, [answer.text[:200] for answer in answers]
    assert any(answer.status_code == 200 for answer in answers)
    assert peak_mib(server) < 900 and max(meanwhile.waits) < 3
