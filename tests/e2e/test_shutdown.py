"""Stopping and starting: nothing acknowledged is lost, it is quick, and one data directory has one server."""

import signal
import subprocess
import time

import pytest
import requests
from bellrock_server import eventually
from mixed_load import check_exactly_once, start_senders, stop_senders


def end(server, *signals):
    """Sends signals one after the other, and returns the exit code and how long the end took."""
    started = time.monotonic()
    for number in signals:
        server.process.send_signal(number)
    return server.process.wait(15), time.monotonic() - started


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_a_stop_under_load_loses_nothing(make_server, signals):
    # A flush is nearly always under way when the signal comes: a head that it had taken in hand must not get lost with it.
    server = make_server(config="bellrock: { flush_interval: 20ms }").start()
    senders = start_senders(server)
    for _ in range(3):
        before = [len(sender.acknowledged) for sender in senders]
        eventually(lambda: all(len(sender.acknowledged) > count + 10 for sender, count in zip(senders, before)))
        code, took = end(server, *signals)
        assert code == 0, server.log()
        assert took < 10, f"the stop took {took:.1f} s"
        server.start()
    stop_senders(senders)
    check_exactly_once(server, senders, 30)


def test_a_stop_does_not_wait_for_clients_that_do_not_leave(server):
    import socket

    silent = [socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=20) for _ in range(20)]
    for connection in silent[:10]:
        connection.sendall(b"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 16000000\r\n\r\n{")
    tail = socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=20)
    tail.sendall(b"GET /loki/api/v1/tail?query=%7Ba%3D%22b%22%7D HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
    assert tail.recv(1024).startswith(b"HTTP/1.1 101")
    code, took = end(server, signal.SIGTERM)
    assert code == 0 and took < 10, f"{code} after {took:.1f} s"
    for connection in (*silent, tail):
        connection.close()


def test_a_second_server_on_the_same_data_is_refused(server):
    second = subprocess.run(server.command(), capture_output=True, text=True, timeout=20)
    assert second.returncode != 0
    assert "in use" in second.stderr or "already" in second.stderr, second.stderr


def test_on_other_ports_too_and_the_first_goes_on(server, make_server):
    second = make_server(data=server.data)
    outcome = subprocess.run(second.command(), capture_output=True, text=True, timeout=20)
    assert outcome.returncode == 1 and str(server.data) in outcome.stderr and "in use" in outcome.stderr, outcome.stderr
    assert requests.get(f"{server.url}/-/ready", timeout=5).status_code == 200
