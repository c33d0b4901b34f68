"""Starts the real binary for a test and asks it questions."""

import json
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests

BINARY = os.environ.get("BELLROCK_BIN", str(Path(__file__).parents[2] / "target/debug/bellrock"))


def free_port():
    """A port that nothing listens on, from below those that the system gives to outgoing connections: none of these takes it."""
    while True:
        port = random.randint(10_000, 32_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def eventually(check, timeout=15.0, interval=0.1):
    """Calls `check` until it returns something true, and returns that; the last failure is raised when time is up."""
    end = time.monotonic() + timeout
    while True:
        try:
            result = check()
            if result:
                return result
            failure = AssertionError(f"still {result!r} after {timeout} s")
        except (AssertionError, requests.RequestException, KeyError, IndexError) as error:
            failure = error
        if time.monotonic() > end:
            raise failure
        time.sleep(interval)


class Server:
    def __init__(self, folder, config=None, arguments=(), environment=None, data=None):
        self.data = Path(data or Path(folder) / "data")
        self.folder = Path(folder)
        self.ports = {name: free_port() for name in ("http", "grpc", "otlp_http", "postgres")}
        self.url = f"http://127.0.0.1:{self.ports['http']}"
        self.grpc = f"127.0.0.1:{self.ports['grpc']}"
        self.otlp_http = f"http://127.0.0.1:{self.ports['otlp_http']}"
        self.config = None
        self.arguments = list(arguments)
        self.environment = environment or {}
        self.process = None
        if config is not None:
            self.config = self.folder / "bellrock.yml"
            self.config.write_text(config)

    def command(self):
        command = [BINARY, "serve", "--data-dir", str(self.data), "--listen", f"127.0.0.1:{self.ports['http']}"]
        command += ["--otlp-grpc-listen", self.grpc, "--otlp-http-listen", f"127.0.0.1:{self.ports['otlp_http']}"]
        command += ["--postgres-listen", f"127.0.0.1:{self.ports['postgres']}"]
        if self.config:
            command += ["--config", str(self.config)]
        return command + self.arguments

    def start(self, wait=True):
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env={**os.environ, **self.environment})
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout=20.0, probe="/-/ready"):
        def ready():
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with {self.process.returncode}:\n{self.log()}")
            return requests.get(self.url + probe, timeout=1).status_code == 200

        eventually(ready, timeout, 0.02)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"SIGTERM did not end the server within 15 s:\n{self.log()}")

    def log(self):
        return (self.folder / "server.log").read_text(errors="replace")[-8000:]

    def get(self, path, **parameters):
        answer = requests.get(self.url + path, params=parameters, timeout=20)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def post(self, path, body, status=200):
        answer = requests.post(self.url + path, json=body, timeout=20)
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.text else None

    def promql(self, query, **parameters):
        """The result of an instant query: [(labels, value)]."""
        data = self.get("/api/v1/query", query=query, **parameters)["data"]
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def logql(self, query, since=3600, limit=5000):
        """Lines with their labels: [(labels, line)], newest first."""
        end = time.time_ns() + 10_000_000_000
        parameters = {"query": query, "start": end - since * 1_000_000_000, "end": end, "limit": limit}
        streams = self.get("/loki/api/v1/query_range", **parameters)["data"]["result"]
        lines = [(int(value[0]), stream["stream"], value[1]) for stream in streams for value in stream["values"]]
        return [(labels, line) for _, labels, line in sorted(lines, key=lambda entry: -entry[0])]

    def sql(self, query):
        answer = self.post("/bellrock/v1/sql", {"query": query})
        names = [column["name"] for column in answer["columns"]]
        return [dict(zip(names, row)) for row in answer["rows"]]


def dump(value):
    return json.dumps(value, indent=2)
