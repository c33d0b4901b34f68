"""Too much at once: each protocol is told to come again in its own words, reading goes on, and it passes by itself."""

import select
import socket

import pytest
import requests
from bellrock_server import eventually
from protocols import check_accepted, check_refused_for_now

@pytest.fixture
def crowd(server):
    """Senders whose bodies take all the room that there is for bodies, and do not end."""
    head = f"POST /v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {16 << 20}\r\n\r\n".encode()
    connections = []
    for piece in (15 << 20, 1 << 20, 64 << 10, 4 << 10, 1):
        is_refused = False
        while not is_refused:
            connection = socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=10)
            try:
                connection.sendall(head + b" " * piece)
                is_refused = bool(select.select([connection], [], [], 0.1)[0])
            except (BrokenPipeError, ConnectionResetError):
                is_refused = True
            connections.append(connection)
    yield connections
    for connection in connections:
        connection.close()


def test_a_crowd_of_bodies(server, crowd):
    eventually(lambda: requests.post(f"{server.url}/v1/logs", json={}, timeout=5).status_code == 503, 5, 0.01)
    check_refused_for_now(server)
    for path in ("/", "/-/healthy", "/metrics", "/bellrock/v1/status", "/bellrock/v1/alerts"):
        assert requests.get(server.url + path, timeout=5).status_code == 200, path
    for connection in crowd:
        connection.close()
    eventually(lambda: requests.post(f"{server.url}/v1/logs", json={}, timeout=5).status_code == 200, 10)
    check_accepted(server)
