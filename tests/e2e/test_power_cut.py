"""The power goes under mixed load: every acknowledged record is there afterwards, exactly once, and so is the catalog's state.

`BELLROCK_POWER_CUTS` sets the number of cuts.
"""

import os
import random
import time

import pytest
import requests
from bellrock_server import eventually
from disks import Disk
from mixed_load import check_exactly_once, envelope, start_senders, stop_senders

CUTS = int(os.environ.get("BELLROCK_POWER_CUTS", "10"))


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path, megabytes=1024)
    yield disk
    disk.unmount()


def resolve_an_issue(server, title):
    """A change that only the catalog holds, acknowledged."""
    path, body, headers = envelope(title, title)
    assert requests.post(server.url + path, headers=headers, timeout=5, **body).status_code == 200
    issues = lambda: [issue for issue in server.get("/bellrock/v1/issues", limit=1000)["issues"] if issue["title"] == title]
    server.post(f"/bellrock/v1/issues/{eventually(issues)[0]['id']}", {"status": "resolved"})


def cut(server, disk, senders):
    """What is acknowledged while the cut is under way does not count: with the power the answer would be gone too, but the
    processor runs on, and a sync inside the kernel may return without an error although the log it waited for was dropped."""
    for sender in senders:
        sender.counting.clear()
    disk.cut_power()
    server.kill()
    disk.unmount()
    assert disk.mount(), "it could be mounted before"
    started = time.monotonic()
    server.start()
    for sender in senders:
        sender.counting.set()
    return time.monotonic() - started


def test_a_power_cut_loses_nothing_and_doubles_nothing(disk, make_server):
    server = make_server(config="bellrock: { flush_interval: 1s }", data=disk.point / "data").start()
    senders = start_senders(server)
    slowest, flushed = 0.0, 0
    for number in range(CUTS):
        resolve_an_issue(server, f"cut-{number}")
        time.sleep(random.uniform(0.1, 1.6))
        flushed += server.get("/bellrock/v1/status")["storage"]["files"] > 0
        slowest = max(slowest, cut(server, disk, senders))
    stop_senders(senders)
    total = check_exactly_once(server, senders, CUTS)
    states = {issue["title"]: issue["status"] for issue in server.get("/bellrock/v1/issues", limit=1000)["issues"]}
    assert [states[f"cut-{number}"] for number in range(CUTS)] == ["resolved"] * CUTS
    assert flushed > 0, "no cut met files that had been written"
    print(f"{CUTS} cuts, {total} acknowledged records, {flushed} times with files, slowest start {slowest:.2f} s")
    assert slowest < 5, f"a start took {slowest:.1f} s"
    server.stop()
