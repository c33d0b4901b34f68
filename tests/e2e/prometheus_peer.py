"""Debian's Prometheus, as the other side of a move and as a judge of answers."""

import shutil
import signal
import struct
import subprocess
from pathlib import Path

import cramjam
import pytest
import requests
from bellrock_server import eventually, free_port

BINARY = shutil.which("prometheus")


class Prometheus:
    def __init__(self, folder, config, arguments=()):
        if BINARY is None:
            pytest.skip("Debian's prometheus is not installed")
        self.folder = Path(folder)
        self.data = self.folder / "prometheus-data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = self.folder / "prometheus.yml"
        self.config.write_text(config)
        self.arguments = list(arguments)
        self.process = None

    def start(self):
        command = [BINARY, f"--config.file={self.config}", f"--storage.tsdb.path={self.data}", f"--web.listen-address=127.0.0.1:{self.port}"]
        with open(self.folder / "prometheus.log", "ab") as log:
            self.process = subprocess.Popen(command + self.arguments, stdout=log, stderr=log)
        eventually(lambda: requests.get(self.url + "/-/ready", timeout=1).status_code == 200, 30)
        return self

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def post(self, path, **parameters):
        answer = requests.post(self.url + path, params=parameters, timeout=20)
        assert answer.status_code in (200, 204), f"{path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.text else None


def answer(url, query, start, end, step=1):
    """A range query's answer as comparable values: series by labels."""
    found = requests.get(url + "/api/v1/query_range", params={"query": query, "start": start, "end": end, "step": step}, timeout=30)
    assert found.status_code == 200, f"{query}: {found.status_code} {found.text}"
    result = found.json()["data"]["result"]
    return {tuple(sorted(series["metric"].items())): (series.get("values"), rounded(series.get("histograms"))) for series in result}


def rounded(histograms):
    """Bounds of buckets are powers of roots of two, whose last digit depends on who computes them."""
    if not isinstance(histograms, list):
        return {key: rounded(value) for key, value in histograms.items()} if isinstance(histograms, dict) else f"{float(histograms or 0):.12g}"
    return [rounded(part) for part in histograms]


def instants(url, query, at):
    found = requests.get(url + "/api/v1/query", params={"query": query, "time": at}, timeout=30)
    assert found.status_code == 200, f"{query}: {found.status_code} {found.text}"
    result = found.json()["data"]["result"]
    return {tuple(sorted(series["metric"].items())): series.get("values") or series.get("value") or series.get("histogram") or series.get("histograms") for series in result}


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def float_sample(at_ms, value):
    """A sample as remote write 1.0 has it."""
    return field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(at_ms))


def histogram_sample(at_ms, scale, wide=False):
    """A native histogram with whole counts that grow with `scale`."""
    zigzag = lambda value: varint(value << 1 if value >= 0 else (-value << 1) - 1)
    counts = [scale, 2 * scale, 0, 5 * scale + 1] + [scale] * wide
    deltas = b"".join(zigzag(now - before) for before, now in zip([0, *counts], counts, strict=False))
    span = lambda offset, length: field(11, b"\x08" + zigzag(offset) + b"\x10" + varint(length))
    message = b"\x08" + varint(sum(counts) + 1) + b"\x19" + struct.pack("<d", 1.25 * scale) + b"\x20" + zigzag(1)
    message += b"\x29" + struct.pack("<d", 2.0**-128) + b"\x30" + varint(1)
    message += span(-2, 2) + span(3, 2 + wide) + field(12, deltas) + b"\x78" + varint(at_ms)
    return field(4, message)


def remote_write(url, labels, samples):
    """One series by remote write 1.0."""
    pairs = b"".join(field(1, field(1, name.encode()) + field(2, value.encode())) for name, value in sorted(labels.items()))
    body = bytes(cramjam.snappy.compress_raw(field(1, pairs + b"".join(samples))))
    headers = {"content-type": "application/x-protobuf", "content-encoding": "snappy", "x-prometheus-remote-write-version": "0.1.0"}
    sent = requests.post(url + "/api/v1/write", data=body, headers=headers, timeout=10)
    assert sent.status_code == 204, sent.text
