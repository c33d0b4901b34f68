"""Loki's push and query API, and the live tail."""

import json
import threading
import time

import requests
import websocket
from bellrock_server import eventually


def push(server, labels, lines, **kwargs):
    now = time.time_ns()
    values = [[str(now + at), *([line] if isinstance(line, str) else line)] for at, line in enumerate(lines)]
    body = {"streams": [{"stream": labels, "values": values}]}
    return requests.post(f"{server.url}/loki/api/v1/push", json=body, timeout=10, **kwargs)


def test_push_and_query(server):
    lines = ["GET /a 200", "GET /b 500", json.dumps({"level": "error", "took": "250ms", "path": "/c"})]
    assert push(server, {"app": "web", "env": "test"}, lines).status_code == 204
    assert push(server, {"app": "worker"}, [["with metadata", {"trace_id": "ef" * 16}]]).status_code == 204

    assert len(server.logql('{app="web"}')) == 3
    assert [line for _, line in server.logql('{app=~"we.*"} |= "GET" != "500"')] == ["GET /a 200"]
    found = server.logql('{app="web"} | json | __error__="" | took > 200ms | line_format "{{.path}} took {{.took}}"')
    assert [line for _, line in found] == ["/c took 250ms"]
    assert server.logql('{app="worker"} | trace_id="' + "ef" * 16 + '"')[0][1] == "with metadata"

    now = time.time_ns()
    window = {"start": now - 600 * 10**9, "end": now + 10**9}
    data = server.get("/loki/api/v1/query_range", query='sum by (app) (count_over_time({app=~".+"}[5m]))', step="60", **window)["data"]
    assert data["resultType"] == "matrix"
    last = {series["metric"]["app"]: series["values"][-1][1] for series in data["result"]}
    assert last == {"web": "3", "worker": "1"}
    assert "app" in server.get("/loki/api/v1/labels", **window)["data"]
    assert server.get("/loki/api/v1/label/app/values", **window)["data"] == ["web", "worker"]
    series = server.get("/loki/api/v1/series", **{"match[]": '{app="worker"}'}, **window)["data"]
    assert [stream["app"] for stream in series] == ["worker"]


def test_the_newest_lines_come_first_and_the_limit_holds(server):
    for batch in range(5):
        push(server, {"app": f"a{batch % 2}"}, [f"line {batch}-{at}" for at in range(20)])
    lines = server.logql('{app=~"a."}', limit=7)
    assert [line for _, line in lines] == [f"line 4-{at}" for at in range(19, 12, -1)]


def test_the_tail_is_live_and_filters(server):
    seen = []
    url = server.url.replace("http", "ws") + "/loki/api/v1/tail?query=" + requests.utils.quote('{app="live"} |= "keep"')
    connection = websocket.create_connection(url, timeout=10)

    def read():
        while True:
            try:
                frame = connection.recv()
            except Exception:
                return
            if frame:
                for stream in json.loads(frame).get("streams", []):
                    seen.extend(value[1] for value in stream["values"])

    threading.Thread(target=read, daemon=True).start()

    def sent():
        push(server, {"app": "live"}, ["drop me", "keep me"])
        push(server, {"app": "other"}, ["keep me not"])
        return seen

    eventually(sent)
    assert set(seen) == {"keep me"}
    connection.close()


def test_a_long_request_reaches_an_idle_follower_whole(server):
    url = server.url.replace("http", "ws") + "/loki/api/v1/tail?query=" + requests.utils.quote('{app="long"}')
    connection = websocket.create_connection(url, timeout=10)
    lines = [f"line {at}" for at in range(6000)]
    assert push(server, {"app": "long"}, lines).status_code == 204
    seen, frames = [], 0
    while len(seen) < len(lines):
        frame = json.loads(connection.recv())
        assert "dropped_entries" not in frame, frame["dropped_count"]
        seen.extend(value[1] for stream in frame["streams"] for value in stream["values"])
        frames += 1
    assert seen == lines and frames > 1
    connection.close()


def test_wrong_queries_say_where(server):
    answer = requests.get(f"{server.url}/loki/api/v1/query_range", params={"query": '{app="a"} |= '}, timeout=10)
    assert answer.status_code == 400 and ("line" in answer.text or "col" in answer.text), answer.text


def test_how_much_there_is(server):
    assert push(server, {"app": "web", "env": "a"}, ["12345", "1234567890"]).status_code == 204
    assert push(server, {"app": "worker", "env": "a"}, ["123"]).status_code == 204
    end = time.time_ns() + 10**9
    window = {"start": end - 600 * 10**9, "end": end}
    stats = server.get("/loki/api/v1/index/stats", query='{app="web"}', **window)
    assert {key: stats[key] for key in ("streams", "entries", "bytes")} == {"streams": 1, "entries": 2, "bytes": 15}
    volume = server.get("/loki/api/v1/index/volume", query='{app=~".+"}', **window)["data"]
    assert [(series["metric"], series["value"][1]) for series in volume["result"]] == [({"app": "web"}, "15"), ({"app": "worker"}, "3")]
    volume = server.get("/loki/api/v1/index/volume", query='{app=~".+"}', targetLabels="env", aggregateBy="labels", **window)["data"]
    assert [(series["metric"], series["value"][1]) for series in volume["result"]] == [({"env": ""}, "18")]
    assert requests.get(f"{server.url}/loki/api/v1/index/volume", params={"query": '{app="web"}', "targetLabels": "a) (b"}, timeout=10).status_code == 400
    assert requests.get(f"{server.url}/loki/api/v1/index/stats", params={"query": '{app="web"} |= "x"'}, timeout=10).status_code == 400
    labels = {label["label"]: label["cardinality"] for label in server.get("/loki/api/v1/detected_labels", **window)["detectedLabels"]}
    assert labels["app"] == 2 and labels["env"] == 1


def test_a_query_is_laid_out(server):
    def laid_out(query):
        return server.get("/loki/api/v1/format_query", query=query)["data"]

    assert laid_out('sum  by(a) (rate( {app="x"}|="y"|json[5m]))') == 'sum by (a) (rate({app="x"} |= "y" | json [5m]))'
    long = laid_out('{app="x"} |= "a line that is looked for" | json | status >= 500 | line_format "{{.message}} of {{.service}}"')
    assert long.splitlines()[:2] == ['{app="x"}', '  |= "a line that is looked for"']
    answer = requests.get(f"{server.url}/loki/api/v1/format_query", params={"query": "{app="}, timeout=10)
    assert answer.status_code == 400 and "parse error" in answer.text
