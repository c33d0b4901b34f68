"""Log files that are followed: rotation, containers, tracebacks, a kill under load."""

import gzip
import json
import os
import re
import shutil
import threading
import time
from datetime import datetime, timezone

import pytest
import requests
from bellrock_server import eventually
from disks import Disk


def following(make_server, folder, entry):
    folder.mkdir(exist_ok=True)
    return make_server(config=f"bellrock: {{ files: [{entry}] }}").start()


def lines(server, query, limit=5000):
    return [line for _, line in server.logql(query, limit=limit)]


def metric(server, name):
    for line in requests.get(f"{server.url}/metrics", timeout=10).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


class Writer(threading.Thread):
    """A service that writes numbered lines and is rotated meanwhile."""

    def __init__(self, path, rotate):
        super().__init__()
        self.path, self.rotate, self.count, self.stopped = path, rotate, 0, threading.Event()

    def run(self):
        turn = 0
        while not self.stopped.is_set():
            turn += 1
            with open(self.path, "a") as file:
                for _ in range(200):
                    file.write("".join(f"order {self.count + at:08} paid by {self.path.stem}\n" for at in range(20)))
                    file.flush()
                    self.count += 20
                    time.sleep(0.004)
            self.rotate(self.path, turn)


def renamed(path, turn):
    os.rename(path, path.with_name(f"{path.name}.{turn}"))


def copied(path, turn):
    """As logrotate's copytruncate does while nobody writes."""
    shutil.copyfile(path, path.with_name(f"{path.name}.{turn}"))
    os.truncate(path, 0)


def test_rotation_and_kills_under_load(make_server, tmp_path):
    logs = tmp_path / "logs"
    server = following(make_server, logs, f"{{ paths: ['{logs}/*.log*'], labels: {{ env: prod }} }}")
    writers = [Writer(logs / "renamed.log", renamed), Writer(logs / "copied.log", copied)]
    for writer in writers:
        writer.start()
    for _ in range(3):
        time.sleep(2.5)
        server.kill()
        server.start()
    for writer in writers:
        writer.stopped.set()
        writer.join()
    for writer in writers:
        def whole(writer=writer):
            query = f"SELECT count(DISTINCT body) AS n FROM logs WHERE body LIKE 'order % paid by {writer.path.stem}'"
            return server.sql(query)[0]["n"] == writer.count

        eventually(whole, timeout=30)
        row = server.sql(f"SELECT count(*) AS n, min(service) AS least, max(service) AS most FROM logs WHERE body LIKE '% {writer.path.stem}'")[0]
        assert (row["least"], row["most"]) == (writer.path.stem, writer.path.stem)
        # What came since the positions were written is there once more, after each kill.
        assert row["n"] < 2 * writer.count, row
    assert metric(server, "bellrock_file_missed_bytes_total") == 0
    total = server.sql("SELECT count(*) AS n FROM logs")[0]["n"]
    server.stop()
    server.start()
    (logs / "renamed.log").open("a").write("after a stop\n")
    eventually(lambda: lines(server, '{env="prod"} |= "after a stop"') == ["after a stop"])
    assert server.sql("SELECT count(*) AS n FROM logs")[0]["n"] == total + 1, "a stop repeats nothing"


def test_containers(make_server, tmp_path):
    now = datetime.now(timezone.utc)
    identity = "0123456789abcdef" * 4
    docker = tmp_path / "logs" / identity
    pod = tmp_path / "logs" / "shop_web-7d9_1b2c" / "api"
    docker.mkdir(parents=True)
    pod.mkdir(parents=True)
    (docker / "config.v2.json").write_text(json.dumps({"Name": "/shop-web-1", "Config": {"Image": "shop:1.2", "Labels": {"team": "a", "com.docker.compose.service": "web"}}}))

    def line(log, stream="stdout"):
        return json.dumps({"log": log, "stream": stream, "time": now.isoformat().replace("+00:00", "Z")}) + "\n"

    traceback = ["Traceback (most recent call last):\n", '  File "a.py", line 1, in f\n', "    g()\n", "ValueError: bad\n"]
    text = line("x" * 16384) + line("y\n") + line('{"event": "paid", "level": "warning", "order": 7}\n')
    for part in traceback:
        text += line(part, "stderr") + line("meanwhile\n")
    (docker / f"{identity}-json.log").write_text(text)
    (pod / "0.log").write_text("".join(f"{now:%Y-%m-%dT%H:%M:%S.%f}000Z {rest}\n" for rest in ("stdout P one ", "stderr F level=error msg=\"no stock\" left=0", "stdout F line")))
    (pod / "0.log.20261127-000000.gz").write_bytes(gzip.compress(b"long ago\n"))
    server = following(make_server, tmp_path / "logs", f"{{ paths: ['{tmp_path}/logs/*/*-json.log', '{tmp_path}/logs/*/*/*.log*'] }}")
    eventually(lambda: len(lines(server, '{service_name="web"}')) == 7)
    assert lines(server, '{container_name="shop-web-1", container_label_team="a"} | order=7 | detected_level="warn"') == ["paid"]
    assert [len(line) for line in lines(server, '{service_name="web"} |= "xy"')] == [16385]
    [(labels, whole)] = server.logql('{service_name="web"} | log_iostream="stderr"')
    assert whole == "".join(traceback).rstrip() and labels["exception_type"] == "ValueError"
    assert [issue["title"] for issue in eventually(lambda: server.get("/bellrock/v1/issues")["issues"])] == ["ValueError: bad"]
    eventually(lambda: sorted(lines(server, '{k8s_namespace_name="shop", k8s_pod_name="web-7d9", service_name="api"}')) == ["no stock", "one line"])
    assert lines(server, '{service_name="api"} | left=0 | detected_level="error"') == ["no stock"]

    def listed():
        files = server.get("/bellrock/v1/status")["ingest"]["files"]
        return (files["followed"], sorted(file["service"] for file in files["list"]), files["behind_bytes"]) == (2, ["api", "web"], 0)

    eventually(listed)


def test_long_lines_garbage_and_secrets(make_server, tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    with open(logs / "app.log", "wb") as file:
        file.write(b"2026-01-02 10:00:00 too old\n")
        file.write(b"start " + b"z" * (1 << 20) + b"\n")
        file.write(os.urandom(200_000).replace(b"\n", b" ") + b"\n\x00\x00\n")
        file.write(b"login of ann@example.com\n")
        file.write(f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S},250 WARNING the end\n".encode())
    server = following(make_server, logs, f"{{ paths: ['{logs}/*.log'], service: shop }}")
    eventually(lambda: len(lines(server, '{service_name="shop"}')) == 4)
    [(labels, line)] = server.logql('{service_name="shop"} |= "start zzz"')
    assert len(line) == 256 << 10 and int(labels["bellrock_cut_from_bytes"]) == (1 << 20) + 6
    assert lines(server, '{service_name="shop"} |= "login"') == ["login of [email********]"]
    assert lines(server, '{service_name="shop"} | detected_level="warn"')[0].endswith("the end")
    assert metric(server, "bellrock_file_records_refused_total") == 1
    assert metric(server, "bellrock_file_lines_total") == 5
    page = requests.get(f"{server.url}/metrics", timeout=10).text
    assert re.search(r'bellrock_record_parts_cut_total\{reason="line_too_long"\} [1-9]', page)
    assert re.search(r'bellrock_file_lines_mended_total\{reason="not_text"\} 1', page)
    secret = b"ann@example.com"
    assert not [path for path in server.data.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_mistake_ends_the_start(make_server, tmp_path):
    server = make_server(config="bellrock: { files: [{ paths: ['/a/**'] }] }").start(wait=False)
    assert server.process.wait(20) != 0
    assert 'bellrock.files[0]: paths: "/a/**"' in server.log()


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path, megabytes=96)
    yield disk
    disk.unmount()


def test_no_room_makes_files_wait(make_server, tmp_path, disk):
    """A server that takes nothing loses nothing: the files are its queue."""
    logs = tmp_path / "logs"
    logs.mkdir()
    config = f"bellrock: {{ limits: {{ disk_free: 16MB }}, files: [{{ paths: ['{logs}/*.log'] }}] }}"
    server = make_server(config=config, data=disk.point / "data").start()
    (logs / "a.log").write_text("one\n")
    eventually(lambda: lines(server, '{service_name="a"}') == ["one"])
    disk.fill(leave=8 << 20)
    written = ["one"]

    def waits():
        written.append(f"line {len(written)}")
        with (logs / "a.log").open("a") as file:
            file.write(written[-1] + "\n")
        return metric(server, "bellrock_file_waits_total") > 1

    eventually(waits, timeout=30, interval=0.3)
    disk.free()
    eventually(lambda: sorted(lines(server, '{service_name="a"}')) == sorted(written), timeout=30)
