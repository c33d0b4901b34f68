"""Clients that ask for much and read nothing hold a bounded room."""

import socket
import time

import requests
from bellrock_server import eventually
from prometheus_peer import float_sample, remote_write

ON_THEIR_WAY = "bellrock_answers_on_their_way_bytes"
CONFIG = "bellrock: { limits: { query_memory: 64MB, queries_memory: 64MB } }"


def fill(server):
    end = int(time.time())
    for series in range(20):
        samples = [float_sample((end - 10000 + at) * 1000, at * 1.0001) for at in range(0, 10000, 10)]
        remote_write(server.url, {"__name__": "much", "n": str(series)}, samples)
    eventually(lambda: len(server.promql("much")) == 20)
    return end


def gauge(server, name):
    lines = requests.get(f"{server.url}/metrics", timeout=10).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


def test_answers_that_nobody_reads_share_a_room(make_server):
    server = make_server(config=CONFIG).start()
    end = fill(server)
    path = f"/api/v1/query_range?query=much&start={end - 10000}&end={end}&step=1&nocache=1"
    whole = requests.get(server.url + path, timeout=30)
    assert whole.status_code == 200
    room, size, held = 64 * 2**20, len(whole.content), 0
    silent = []
    # The first bytes of each answer wait in the kernel, which is no part of the room.
    while held + size <= room:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.ports["http"]))
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{server.ports['http']}\r\n\r\n".encode())
        silent.append(connection)
        held = eventually(lambda: gauge(server, ON_THEIR_WAY) > held and gauge(server, ON_THEIR_WAY))
    refused = requests.get(server.url + path, timeout=30)
    assert refused.status_code == 503 and "answers on their way" in refused.text and "retry-after" in refused.headers, refused.text
    assert gauge(server, ON_THEIR_WAY) <= 64 * 2**20
    assert server.promql("1") == [({}, 1.0)], "small answers go out all the same"
    for connection in silent:
        connection.close()
    eventually(lambda: gauge(server, ON_THEIR_WAY) == 0)
    assert requests.get(server.url + path, timeout=30).status_code == 200
