"""`bellrock demo`, with a short script: the shop appears, breaks, and the alert says what to do."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from bellrock_server import BINARY, eventually, free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = [
    {"at_seconds": 8, "faults": {"provider_down": True}, "say": "the provider is down"},
    {"at_seconds": 110, "faults": {}, "say": "the provider is back"},
]


def free_shop_port():
    """The first of a row of ports, all of which are free just now."""
    while True:
        first = free_port()
        if first > 65_000:
            continue
        try:
            for offset in (0, 1, 11, 12):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", first + offset))
            return first
        except OSError:
            continue


class Demo:
    def __init__(self, folder):
        self.url = f"http://127.0.0.1:{free_port()}"
        self.output = folder / "demo.log"
        script = folder / "script.json"
        script.write_text(json.dumps(SCRIPT))
        # The environment is the same for each run: BELLROCK_DEMO_FOLDER keeps it between runs.
        self.folder = Path(os.environ.get("BELLROCK_DEMO_FOLDER", folder / "demo"))
        command = [BINARY, "demo", "--folder", str(self.folder), "--python", sys.executable, "--script", str(script)]
        command += ["--listen", self.url.removeprefix("http://"), "--shop-port", str(free_shop_port())]
        command += ["--otlp-grpc-listen", f"127.0.0.1:{free_port()}", "--otlp-http-listen", f"127.0.0.1:{free_port()}"]
        command += ["--duration", "120s", "--rate", "20", "--exit"]
        with open(self.output, "wb") as log:
            # A shell ignores SIGINT for what it starts in the background, and so would the demo until it listens for it.
            default = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
            self.process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=default)

    def get(self, path):
        assert self.process.poll() is None, f"the demo ended with {self.process.returncode}:\n{self.log()}"
        answer = requests.get(self.url + path, timeout=20)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def log(self):
        return self.output.read_text(errors="replace")[-8000:]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(25)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"SIGINT did not end the demo within 25 s:\n{self.log()}")
        return self.process.returncode


@pytest.fixture
def demo(tmp_path):
    demo = Demo(tmp_path)
    yield demo
    demo.stop()


def arguments_for(folder, shop_port):
    command = [BINARY, "demo", "--folder", str(folder), "--python", sys.executable, "--shop-port", str(shop_port)]
    for flag in ("--listen", "--otlp-grpc-listen", "--otlp-http-listen"):
        command += [flag, f"127.0.0.1:{free_port()}"]
    return command


def test_a_taken_port_is_told_before_anything_is_made(tmp_path):
    first = free_shop_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first + 11))
        taken.listen()
        command = arguments_for(tmp_path / "demo", first)
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert outcome.returncode == 1 and f"port {first + 11}" in outcome.stderr and "--shop-port" in outcome.stderr
    assert not (tmp_path / "demo/venv").exists()


def test_a_second_demo_on_a_folder_is_told(demo, tmp_path):
    eventually(demo.log)  # It has the folder before it says anything.
    command = arguments_for(demo.folder, free_shop_port())
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert outcome.returncode == 1 and "a demo is running on" in outcome.stderr, outcome.stderr


def test_nothing_goes_on_after_the_demo_was_killed(demo):
    eventually(lambda: "under a load of" in demo.log(), timeout=150, interval=0.5)

    def of_the_demo():
        shown = subprocess.run(["ps", "-ww", "-eo", "pid,stat,args"], capture_output=True, text=True).stdout
        return [line for line in shown.splitlines() if str(demo.folder / "venv") in line and line.split()[1][0] != "Z"]

    # Three services and the load.
    eventually(lambda: len(of_the_demo()) >= 4)
    demo.process.kill()
    demo.process.wait()
    eventually(lambda: of_the_demo() == [] or None, timeout=20)


def firing(demo, name):
    alerts = [alert for alert in demo.get("/bellrock/v1/alerts?state=firing")["alerts"] if alert["name"] == name]
    assert alerts, f"{name} does not fire:\n{demo.log()}"
    return alerts[0]


def test_the_demo_breaks_the_shop_and_the_alert_says_what_to_do(demo):
    shop = {"shop-front", "shop-payments", "shop-worker"}

    def seen():
        return shop <= {service["name"] for service in demo.get("/bellrock/v1/services")["services"]}

    eventually(seen, timeout=90, interval=0.5)

    alert = eventually(lambda: firing(demo, "CheckoutFailing"), timeout=60, interval=0.5)
    assert (alert["severity"], alert["service"]) == ("page", "shop-front")
    evidence = demo.get(f"/bellrock/v1/alerts/{alert['id']}")["evidence"]
    assert evidence["missing"] == []
    assert "of requests to /checkout fail" in evidence["what"] and evidence["where"] == "shop-front, path=/checkout"
    assert evidence["why"] == "Orders are lost while this lasts." and evidence["since"] and evidence["owner"] == "team-checkout"
    assert evidence["next_steps"][0] == "Open a failing trace and find the first red span."
    assert evidence["runbook"].endswith("/checkout-failing") and evidence["paths"][0]["path"] == "/checkout"
    cause = evidence["causes"][0]
    assert cause["service"] in ("shop-front", "shop-payments") and cause["traces"] >= 1 and cause["span"]
    curve = evidence["curve"]
    assert curve["threshold"] == 0.2 and len(curve["points"]) > 1 and ">" not in curve["query"]

    def services_of_the_trace():
        trace = demo.get(f"/bellrock/v1/traces/{evidence['traces'][0]['trace_id']}")
        return {span["service"] for span in trace["spans"]} >= {"shop-front", "shop-payments"}

    # The newest of its traces: the other service sends its part of it within its exporter's five seconds.
    eventually(services_of_the_trace)
    error = evidence["errors"][0]
    assert error["title"] == "RuntimeError: payment service answered 500" and error["count"] >= 1
    issue = demo.get(f"/bellrock/v1/issues/{error['issue_id']}")
    assert issue["title"] == error["title"] and issue["service"] == "shop-front"

    report = json.loads(subprocess.check_output([sys.executable, EXAMPLES / "sla_report.py", demo.url, "1m"], text=True))
    assert report["requests"] > 100 and 0 < report["availability_percent"] < 100 and not report["slo_met"]

    # It looks once a second, and may hear of the alert later than this test.
    eventually(lambda: "ALERT CheckoutFailing: " in demo.log() and f"{demo.url}/alerts/{alert['id']}" in demo.log())
    assert demo.stop() == 0, demo.log()
