"""A start after a crash takes data at once, and says of its answers that they are not whole until the journal has been read back."""

import time

import requests
from bellrock_server import eventually

BATCHES, LINES = 40, 1000


def test_answers_that_are_not_whole_say_so(make_server):
    server = make_server(config="bellrock: { flush_interval: 1h }").start()
    for batch in range(BATCHES):
        now = time.time_ns()
        values = [[str(now + at), f"line {batch} {at} " + f"{at:x} word " * 40] for at in range(LINES)]
        body = {"streams": [{"stream": {"service_name": "restart"}, "values": values}]}
        assert requests.post(f"{server.url}/loki/api/v1/push", json=body, timeout=20).status_code == 204
    server.kill()
    started = time.monotonic()
    server.start()
    ready = time.monotonic() - started
    push = requests.post(f"{server.url}/loki/api/v1/push", json={"streams": [{"stream": {"a": "b"}, "values": [[str(time.time_ns()), "new"]]}]}, timeout=5)
    assert push.status_code == 204 and ready < 2, f"ready after {ready:.2f} s"

    partial = 0
    while requests.get(f"{server.url}/-/ready", params={"query": "1"}, timeout=5).status_code == 503:
        assert requests.get(f"{server.url}/-/ready", timeout=5).status_code == 200
        for path, query in (("/api/v1/query", "vector(1)"), ("/loki/api/v1/query_range", '{service_name="restart"}')):
            answer = requests.get(server.url + path, params={"query": query}, timeout=20)
            warnings = answer.json().get("warnings", [])
            assert ("x-bellrock-warning" in answer.headers) == bool(warnings), f"{answer.headers} {warnings}"
            assert all("read back" in warning for warning in warnings)
            partial += bool(warnings)
    assert partial > 0, "the journal was read back before a query could see it"
    answer = requests.get(f"{server.url}/loki/api/v1/query", params={"query": 'sum(count_over_time({service_name="restart"}[1h]))'}, timeout=20)
    assert "warnings" not in answer.json() and "x-bellrock-warning" not in answer.headers
    assert answer.json()["data"]["result"][0]["value"][1] == str(BATCHES * LINES)
    assert "bellrock_replay_done 1" in requests.get(f"{server.url}/metrics", timeout=5).text
    eventually(lambda: server.get("/bellrock/v1/status")["replay"]["done"])
