"""Debian's Prometheus, as the other side of a move and as a judge of answers."""

import shutil
import signal
import subprocess
from pathlib import Path

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
    return {tuple(sorted(series["metric"].items())): (series.get("values"), series.get("histograms")) for series in result}


def instants(url, query, at):
    found = requests.get(url + "/api/v1/query", params={"query": query, "time": at}, timeout=30)
    assert found.status_code == 200, f"{query}: {found.status_code} {found.text}"
    result = found.json()["data"]["result"]
    return {tuple(sorted(series["metric"].items())): series.get("values") or series.get("value") or series.get("histogram") or series.get("histograms") for series in result}
