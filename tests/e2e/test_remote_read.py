"""Remote read: a stock Prometheus that reads from Bellrock answers as Bellrock does."""

import struct
import time

import cramjam
import pytest
import requests
from prometheus_peer import Prometheus, answer, field, float_sample, histogram_sample, remote_write, varint

CONFIG = """
remote_read: [{{ url: "{url}/api/v1/read", read_recent: true, {more} }}]
"""
QUERIES = [
    "requests_total",
    "temperature",
    "resets(requests_total[100s])",
    "sum by (zone) (requests_total)",
    'count_over_time({__name__=~"requests_total|temperature"}[100s])',
    "changes(temperature[100s] offset 1m)",
    'requests_total{path!~"/1.*",zone="a"}',
]


def fill(server):
    """An hour at 15 s of 30 series; one ends early, one begins late."""
    end = int(time.time()) // 15 * 15 - 30
    start = end - 3600
    for series in range(30):
        labels = {"__name__": "requests_total", "path": f"/{series}", "zone": "ab"[series % 2], "Job": "x"}
        samples = [float_sample(at * 1000, float((at - start) * (series + 1) % 5000)) for at in range(start + 60 * (series == 3), end - 600 * (series == 4), 15)]
        remote_write(server.url, labels, samples)
    remote_write(server.url, {"__name__": "temperature"}, [float_sample(at * 1000, -1.5 + at % 7 / 3) for at in range(start, end, 15)])
    return start, end


@pytest.mark.parametrize("more", ["", "filter_external_labels: false"])
def test_prometheus_reads_what_bellrock_has(server, tmp_path, more):
    start, end = fill(server)
    peer = Prometheus(tmp_path, CONFIG.format(url=server.url, more=more)).start()
    try:
        for query in QUERIES:
            ours = answer(server.url, query, start, end, 60)
            assert ours, query
            assert answer(peer.url, query, start, end, 60) == ours, query
        server.post("/bellrock/v1/admin/flush", {})
        for query in QUERIES:
            assert answer(peer.url, query, start, end, 60) == answer(server.url, query, start, end, 60), f"{query}, from files"
    finally:
        peer.stop()


def request(start_ms, end_ms, name, kinds=()):
    matcher = field(2, b"__name__") + field(3, name.encode())
    query = b"\x08" + varint(start_ms) + b"\x10" + varint(end_ms) + field(3, matcher)
    message = field(1, query) + b"".join(b"\x10" + varint(kind) for kind in kinds)
    return bytes(cramjam.snappy.compress_raw(message))


def read(server, body):
    return requests.post(server.url + "/api/v1/read", data=body, timeout=10)


def test_both_forms_and_bad_requests(server):
    start, end = fill(server)
    whole = read(server, request(start * 1000, end * 1000, "temperature"))
    assert whole.status_code == 200 and whole.headers["content-type"] == "application/x-protobuf"
    message = bytes(cramjam.snappy.decompress_raw(whole.content))
    assert message.count(b"temperature") == 1
    chunked = read(server, request(start * 1000, end * 1000, "requests_total", kinds=[1, 0]))
    assert chunked.headers["content-type"].startswith("application/x-streamed-protobuf")
    assert chunked.content.count(b"requests_total") == 30
    assert read(server, request(start * 1000, end * 1000, "nothing_here", kinds=[1])).content == b""
    # Debian's Prometheus does not read histograms back yet: that they are sent is seen in the bytes.
    sent = [histogram_sample((start + 15 * at) * 1000, at + 1) for at in range(100)]
    remote_write(server.url, {"__name__": "size"}, sent)
    whole = bytes(cramjam.snappy.decompress_raw(read(server, request(start * 1000, end * 1000, "size")).content))
    assert whole.count(struct.pack("<d", 1.25 * 77)) == 1
    frames = read(server, request(start * 1000, end * 1000, "size", kinds=[1])).content
    assert b"size" in frames and b"\x18\x03\x22" in frames, "chunks of the type FLOAT_HISTOGRAM"
    for body, what in [(b"\xff\xff", "snappy"), (request(0, 1, "x", kinds=[7]), "response types")]:
        refused = read(server, body)
        assert refused.status_code == 400 and what in refused.text, refused.text


def test_too_much_is_refused_with_the_limit(make_server):
    server = make_server(config="bellrock: { limits: { query_memory: 64KB } }").start()
    start, end = fill(server)
    refused = read(server, request(start * 1000, end * 1000, "requests_total"))
    assert refused.status_code == 422 and "limits.query_memory" in refused.text, refused.text


def test_external_labels_are_added_and_asked_for(make_server):
    server = make_server(config="global: { external_labels: { region: eu } }").start()
    start, end = fill(server)
    message = bytes(cramjam.snappy.decompress_raw(read(server, request(start * 1000, end * 1000, "temperature")).content))
    assert message.count(field(1, b"region") + field(2, b"eu")) == 1

    def asked(region):
        matchers = field(3, field(2, b"__name__") + field(3, b"temperature")) + field(3, field(2, b"region") + field(3, region))
        query = b"\x08" + varint(start * 1000) + b"\x10" + varint(end * 1000) + matchers
        return bytes(cramjam.snappy.decompress_raw(read(server, bytes(cramjam.snappy.compress_raw(field(1, query)))).content))

    assert b"temperature" in asked(b"eu") and b"temperature" not in asked(b"us")
