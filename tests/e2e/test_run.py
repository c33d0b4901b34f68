"""`bellrock run -- CMD`: an unchanged program, observed."""

import contextlib
import http.server
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

from bellrock_server import BINARY, eventually, free_port

PROGRAM = textwrap.dedent(
    """
    import json, logging, os, sys
    import structlog
    from loguru import logger
    from pythonjsonlogger.json import JsonFormatter

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"),
                                    structlog.processors.JSONRenderer()])
    print("plain line")
    structlog.get_logger().error("payment failed", user_id="u-7", cents=1250, trace_id="cd" * 16)
    logging.getLogger("shop").warning("stock low", extra={"sku": "A-1"})
    logger.remove(); logger.add(sys.stdout, serialize=True); logger.info("from loguru")
    print("to stderr", file=sys.stderr)
    print(json.dumps({k: os.environ.get(k) for k in ("OTEL_SERVICE_NAME", "SENTRY_DSN", "OTEL_EXPORTER_OTLP_ENDPOINT")}))
    def deep():
        raise ValueError("bad order")
    try:
        deep()
    except ValueError:
        logging.exception("order refused")
        import traceback; traceback.print_exc()
    sys.exit(7)
    """
)


def run(server, program, *arguments, **options):
    command = [BINARY, "run", "--server", server.url, "--service", "script", *arguments, "--", sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_output_becomes_records_and_the_exit_code_passes_through(server):
    outcome = run(server, PROGRAM)
    assert outcome.returncode == 7, outcome.stderr
    assert "plain line" in outcome.stdout and "to stderr" in outcome.stderr, "the program's output is still seen"
    assert server.url in outcome.stderr, "one line says where to look"

    lines = eventually(lambda: (found := server.logql('{service_name="script"}')) and len(found) >= 7 and found)
    texts = [line for _, line in lines]
    assert "plain line" in texts and "to stderr" in texts
    error = server.logql('{service_name="script"} | severity_text=~"(?i)error" | user_id="u-7"')
    assert error and error[0][1] == "payment failed", "a JSON line becomes fields, its message the line"
    assert server.logql('{service_name="script"} | trace_id="' + "cd" * 16 + '"')
    assert server.logql('{service_name="script"} | sku="A-1"')[0][1] == "stock low"
    assert "from loguru" in texts
    tracebacks = [text for text in texts if "Traceback (most recent call last)" in text and "ValueError: bad order" in text and "in deep" in text]
    assert len(tracebacks) == 1, "a traceback on stderr is one record"
    environment = json.loads(next(text for text in outcome.stdout.splitlines() if "OTEL_SERVICE_NAME" in text))
    assert environment["OTEL_SERVICE_NAME"] == "script"
    assert environment["SENTRY_DSN"].startswith("http://") and environment["SENTRY_DSN"].endswith("/1")


def test_the_process_tree_is_sampled_and_metrics_are_scraped(server):
    port = free_port()
    program = f"""
import threading, time
from prometheus_client import Counter, start_http_server
start_http_server({port}, addr="127.0.0.1")
Counter("jobs", "Jobs.").inc(4)
end = time.time() + 6
while time.time() < end: sum(range(20000))
"""
    outcome = run(server, program, "--metrics-port", str(port), "--sample-interval", "500ms")
    assert outcome.returncode == 0, outcome.stderr

    def last(expression):
        return server.promql(f"last_over_time({expression}[1m])")

    assert eventually(lambda: last('jobs_total{job="script"}'))[0][1] == 4
    assert max(value for _, value in last('process_cpu_time_seconds_total{service_name="script"}')) > 0.5
    assert max(value for _, value in last('process_memory_usage_bytes{service_name="script"}')) > 1_000_000
    for name in ("process_thread_count", "process_open_file_descriptor_count", "process_disk_io_bytes_total", "system_network_io_bytes_total"):
        assert last(f'{name}{{service_name="script"}}'), name
    assert len(last('process_cpu_seconds_total{job="script"}')) == 1, "that of prometheus_client, and none of ours"
    assert server.promql('process_memory_usage_bytes{service_name="script"}') == [], "the series have ended with the program"


def test_the_time_of_a_program_that_ends_between_two_looks_is_counted(server):
    burn = "import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 1: pass'])"
    assert run(server, burn, "--sample-interval", "1h").returncode == 0
    used = eventually(lambda: server.promql('last_over_time(process_cpu_time_seconds_total{service_name="script"}[1m])'))
    assert 1.0 <= used[0][1] < 5


def count(server, service):
    rows = server.sql(f"SELECT count(*) AS stored, count(DISTINCT body) AS texts FROM logs WHERE service_name = '{service}'")
    return rows[0]["stored"], rows[0]["texts"]


def test_a_burst_is_stored_whole(server):
    burst = "import logging, sys; logging.basicConfig(stream=sys.stdout, level=10); [logging.info('request %d done', i) for i in range(5000)]"
    outcome = run(server, burst)
    assert outcome.returncode == 0 and "not stored" not in outcome.stderr
    assert eventually(lambda: (found := count(server, "script")) == (5000, 5000) and found)


def test_a_burst_of_a_fast_printer_is_stored_whole(server):
    command = [BINARY, "run", "--server", server.url, "--service", "fast", "--", "seq", "1", "200000"]
    outcome = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=120)
    assert outcome.returncode == 0 and "not stored" not in outcome.stderr, outcome.stderr
    assert eventually(lambda: (found := count(server, "fast")) == (200_000, 200_000) and found, timeout=60)


def test_a_server_that_goes_away_does_not_hold_the_program_up_and_the_loss_is_told(make_server):
    server = make_server().start()
    program = "import sys, time\nprint('begin', flush=True)\nsys.stdin.readline()\nfor i in range(3000): print('line', i)"
    command = [BINARY, "run", "--server", server.url, "--service", "lonely", "--", sys.executable, "-c", program]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begin\n"
    eventually(lambda: count(server, "lonely")[0] == 1)
    server.kill()
    started = time.monotonic()
    _, told = process.communicate("go\n", timeout=60)
    assert time.monotonic() - started < 30, "the last lines are waited for within bounds"
    assert process.returncode == 0 and "the last 3000 lines were not stored: no answer from" in told, told


SIGNALS = """
import signal, sys, time
got = []
signal.signal(signal.SIGINT, lambda *a: (got.append(1), print('got', flush=True)))
print('ready', flush=True)
end = time.time() + 2
while time.time() < end: time.sleep(0.05)
print('all', len(got), flush=True)
"""


def start_for_signals(server, **options):
    command = [BINARY, "run", "--server", server.url, "--service", "sig", "--", sys.executable, "-u", "-c", SIGNALS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options)
    assert process.stdout.readline() == "ready\n"
    return process


def test_an_interrupt_reaches_the_program_once(server):
    for send in (os.killpg, os.kill):
        process = start_for_signals(server, stdin=subprocess.DEVNULL, start_new_session=True)
        # Two at the same moment look like one to the program: of ten pairs most do not.
        for _ in range(10):
            send(process.pid, signal.SIGINT)
            time.sleep(0.1)
        assert process.stdout.read().splitlines()[-1] == "all 10", send.__name__
        assert process.wait(10) == 0


def test_an_interrupt_at_a_terminal_reaches_the_program_once(server):
    command = [BINARY, "run", "--server", server.url, "--service", "sig", "--", sys.executable, "-u", "-c", SIGNALS]
    for way in ("key", "kill"):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(BINARY, command)
        said = b""
        while b"ready" not in said:
            said += os.read(terminal, 4096)
        if way == "key":
            os.write(terminal, b"\x03")
        else:
            os.kill(pid, signal.SIGINT)
        try:
            while data := os.read(terminal, 4096):
                said += data
        except OSError:  # Linux ends a terminal whose programs have gone in this way.
            pass
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert said.decode().split()[-2:] == ["all", "1"], (way, said)


def test_the_program_ends_with_us_however_we_end(server):
    process = start_for_signals(server, stdin=subprocess.DEVNULL)
    program = int(subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True))
    process.kill()

    def is_gone():
        try:
            return open(f"/proc/{program}/stat").read().split()[2] == "Z"
        except FileNotFoundError:
            return True

    eventually(is_gone, timeout=1.5)
    process.wait()


def test_signals_reach_the_program(server):
    program = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *a: (print('got it', flush=True), sys.exit(3)))\nprint('ready', flush=True)\ntime.sleep(30)"
    command = [BINARY, "run", "--server", server.url, "--service", "sig", "--", sys.executable, "-u", "-c", program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "got it\n"
    assert process.wait(10) == 3
    killed = run(server, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.returncode == 128 + signal.SIGKILL


def test_a_missing_program_is_a_clear_error(server):
    outcome = subprocess.run([BINARY, "run", "--server", server.url, "--", "no-such-program"], capture_output=True, text=True, timeout=20)
    assert outcome.returncode == 127 and "no-such-program" in outcome.stderr


def test_it_starts_a_server_when_none_answers(tmp_path):
    port, grpc, http = free_port(), free_port(), free_port()
    environment = {
        **os.environ,
        "BELLROCK_DATA_DIR": str(tmp_path / "data"),
        "BELLROCK_LISTEN": f"127.0.0.1:{port}",
        "BELLROCK_OTLP_GRPC_LISTEN": f"127.0.0.1:{grpc}",
        "BELLROCK_OTLP_HTTP_LISTEN": f"127.0.0.1:{http}",
    }
    command = [BINARY, "run", "--service", "alone", "--", sys.executable, "-c", "print('hello from nowhere')"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert outcome.returncode == 0, outcome.stderr
    started = int(outcome.stderr.split("pid ")[1].split(",")[0].split(")")[0].split()[0])
    try:
        import requests

        def lines():
            answer = requests.get(f"http://127.0.0.1:{port}/loki/api/v1/query_range", params={"query": '{service_name="alone"}'}, timeout=5)
            return answer.json()["data"]["result"]

        assert eventually(lines)[0]["values"][0][1] == "hello from nowhere"
    finally:
        os.kill(started, signal.SIGTERM)
        for _ in range(100):
            try:
                os.kill(started, 0)
                time.sleep(0.1)
            except ProcessLookupError:
                break


class Answers(http.server.BaseHTTPRequestHandler):
    """A server that is alive and has nothing to do with us, or is ours with a full disk."""

    bodies = {}

    def do_GET(self):
        status, body = self.bodies.get(self.path, (404, "no such page"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self):
        # A body that nobody reads would be answered by a reset.
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def answering(bodies):
    handler = type("Handler", (Answers,), {"bodies": bodies})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as answers:
        threading.Thread(target=answers.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{answers.server_port}"
        answers.shutdown()


def run_at(*arguments, environment=None, timeout=20):
    command = [BINARY, "run", *arguments, "--", "echo", "hello"]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(environment or {})})


def test_a_server_that_is_none_is_told(tmp_path):
    outcome = run_at("--server", f"http://127.0.0.1:{free_port()}")
    assert outcome.returncode == 3 and "Connection refused" in outcome.stderr and outcome.stdout == ""
    outcome = run_at("--server", "notaurl")
    assert outcome.returncode == 2 and "is no URL of a server" in outcome.stderr
    with answering({"/-/healthy": (200, "Prometheus Server is Healthy.\n"), "/-/ready": (200, "")}) as url:
        outcome = run_at("--server", url)
        assert outcome.returncode == 1 and "is no Bellrock server" in outcome.stderr and "Prometheus Server" in outcome.stderr
        outcome = run_at(environment={"BELLROCK_LISTEN": url.removeprefix("http://"), "BELLROCK_DATA_DIR": str(tmp_path)})
        assert outcome.returncode == 1 and "another program has the address" in outcome.stderr


def test_a_server_that_takes_nothing_is_told():
    full = {"/-/healthy": (200, "Bellrock is healthy.\n"), "/-/ready": (503, "the disk is nearly full\n"), "/v1/logs": (400, "no")}
    with answering(full) as url:
        outcome = run_at("--server", url)
        assert outcome.returncode == 0 and outcome.stdout == "hello\n", "the program runs all the same"
        assert "takes no data just now: the disk is nearly full" in outcome.stderr
        assert "1 lines were refused by the server: /v1/logs: 400 Bad Request: no" in outcome.stderr


def test_a_server_that_cannot_start_is_told_at_once(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {
            "BELLROCK_DATA_DIR": str(tmp_path / "data"),
            "BELLROCK_LISTEN": f"127.0.0.1:{free_port()}",
            "BELLROCK_OTLP_GRPC_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}",
            "BELLROCK_OTLP_HTTP_LISTEN": f"127.0.0.1:{free_port()}",
        }
        started = time.monotonic()
        outcome = run_at(environment=environment)
        assert time.monotonic() - started < 10
        assert outcome.returncode == 1 and "--otlp-grpc-listen" in outcome.stderr and "in use" in outcome.stderr, outcome.stderr


def test_metrics_that_do_not_come_are_told_once(server):
    port = free_port()
    outcome = run(server, "import time; time.sleep(13)", "--metrics-port", str(port), "--sample-interval", "1s")
    assert outcome.stderr.count(f"no metrics from http://127.0.0.1:{port}/metrics: ") == 1, outcome.stderr
