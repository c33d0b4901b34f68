"""A full disk: senders are told to come again, everything else goes on, nothing acknowledged is lost, and it mends itself."""

import time

import pytest
import requests
from bellrock_server import eventually
from disks import Disk
from mixed_load import check_exactly_once, start_senders, stop_senders, wait_for_replay
from protocols import check_accepted, check_refused_for_now

RULES = """
groups:
  - name: full
    interval: 1s
    rules:
      - alert: AlwaysOn
        expr: vector(1)
"""
# Senders are refused while less than 16 MB is free; the disks of these tests are small.
CONFIG = "{ rule_files: [rules.yml], bellrock: { flush_interval: 1s, limits: { disk_free: 16MB } } }"


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path, megabytes=96)
    yield disk
    disk.unmount()


@pytest.fixture
def server(disk, make_server):
    server = make_server(config=CONFIG, data=disk.point / "data")
    (server.folder / "rules.yml").write_text(RULES)
    return server.start()


def load_for(server, seconds):
    senders = start_senders(server)
    time.sleep(seconds)
    stop_senders(senders)
    return senders


def check_reading_works(server):
    """Pages, probes, alerts and all query languages answer."""
    for path in ("/", "/-/healthy", "/metrics", "/bellrock/v1/status", "/bellrock/v1/alerts", "/bellrock/v1/issues", "/api/v1/rules", "/api/v1/alerts"):
        answer = requests.get(server.url + path, timeout=5)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:200]}"
    assert server.promql("count(last_over_time(load_gauge[1h]))")[0][1] > 0
    assert server.logql('{service_name="load-loki"}', limit=5)
    assert server.sql("SELECT count(*) AS n FROM spans WHERE service_name = 'load-spans'")[0]["n"] > 0
    assert server.get("/bellrock/v1/traces", service="load-spans", limit=5)["traces"]


def refused(server):
    return requests.get(f"{server.url}/-/ready", timeout=5).status_code == 503


def check_it_mends_itself(server, disk):
    disk.free()
    started = time.monotonic()
    eventually(lambda: requests.get(f"{server.url}/-/ready", timeout=5).status_code == 200, 10)
    check_accepted(server)
    took = time.monotonic() - started
    assert took < 10, f"accepted again after {took:.1f} s"
    return took


def test_a_nearly_full_disk_refuses_senders_and_serves_everybody_else(server, disk):
    senders = load_for(server, 2)
    disk.fill(leave=8 << 20)
    started = time.monotonic()
    eventually(lambda: refused(server), 2, 0.02)
    print(f"refused {time.monotonic() - started:.2f} s after the disk was full")
    check_refused_for_now(server)
    check_reading_works(server)
    assert "DiskFull" in server.get("/bellrock/v1/status")["journal"]["state"]
    eventually(lambda: server.get("/api/v1/alerts")["data"]["alerts"])
    print(f"accepted {check_it_mends_itself(server, disk):.2f} s after there was space")
    senders += load_for(server, 1)
    check_each(server, senders)


def test_with_no_byte_left_it_is_killed_started_stopped_and_mends_itself(server, disk):
    senders = load_for(server, 2)
    disk.fill()
    eventually(lambda: refused(server), 2, 0.02)
    check_refused_for_now(server)
    check_reading_works(server)

    # Whatever was given up to make room is gone as well.
    disk.fill()
    server.kill()
    disk.fill()
    server.start(wait=False)
    server.wait_ready(10, "/-/healthy")
    assert refused(server), "nothing can be written"
    wait_for_replay(server)
    check_reading_works(server)
    check_refused_for_now(server)
    # Issues are counted in the catalog, which cannot be written now: they catch up below.
    check_each(server, senders, with_issues=False)

    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 10
    disk.fill()
    server.start(wait=False)
    server.wait_ready(10, "/-/healthy")
    wait_for_replay(server)
    print(f"accepted {check_it_mends_itself(server, disk):.2f} s after there was space")
    check_each(server, senders)
    eventually(lambda: not unwritten(server), 10)


def unwritten(server):
    """Bytes in the journal beyond what an idle server keeps."""
    return server.get("/bellrock/v1/status")["journal"]["bytes"] > 1 << 20


def check_each(server, senders, with_issues=True):
    """Senders of one name count together."""
    by_name = {}
    for sender in senders:
        first = by_name.setdefault(sender.name, sender)
        if first is not sender:
            first.sent |= sender.sent
            first.acknowledged |= sender.acknowledged
            first.unexpected += sender.unexpected
    print(check_exactly_once(server, list(by_name.values()), 5, with_issues), "acknowledged records")


def test_a_disk_that_fills_under_load(server, disk):
    """The load goes on while the disk fills, is full, and empties: who is refused comes again, what was acknowledged stays."""
    senders = start_senders(server)
    for _ in range(3):
        before = [len(sender.acknowledged) for sender in senders]
        eventually(lambda: all(len(sender.acknowledged) > count for sender, count in zip(senders, before)))
        disk.fill()
        eventually(lambda: refused(server), 5, 0.02)
        check_refused_for_now(server)
        disk.free()
        eventually(lambda: not refused(server), 10)
    stop_senders(senders)
    assert all(sender.refused > 0 for sender in senders)
    check_each(server, senders)
