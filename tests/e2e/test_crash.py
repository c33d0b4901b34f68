"""kill -9 under mixed load: every acknowledged record is there afterwards, exactly once."""

import os
import random
import time

from mixed_load import check_exactly_once, start_senders, stop_senders

KILLS = int(os.environ.get("BELLROCK_TEST_KILLS", "50"))


def test_kill_9_loses_nothing_and_doubles_nothing(make_server):
    server = make_server(config="bellrock: { flush_interval: 2s }")
    server.start()
    senders = start_senders(server)
    slowest = 0.0
    for _ in range(KILLS):
        time.sleep(random.uniform(0.1, 1.2))
        server.kill()
        started = time.monotonic()
        server.start()
        slowest = max(slowest, time.monotonic() - started)
    time.sleep(0.5)
    stop_senders(senders)
    total = check_exactly_once(server, senders, KILLS)
    print(f"{KILLS} kills, {total} acknowledged records, slowest start {slowest:.2f} s")
    assert slowest < 5, f"a start took {slowest:.1f} s"
