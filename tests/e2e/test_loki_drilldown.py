"""What Grafana's Logs Drilldown asks of Loki's API: volumes, patterns and fields."""

import json
import time

import pytest
import requests

USERS = ["ann", "bob", "cyd", "dee"]


def push(server, stream, lines, seconds_ago=60):
    start = time.time_ns() - seconds_ago * 10**9
    values = [[str(start + at * 10**6), line] for at, line in enumerate(lines)]
    answer = requests.post(f"{server.url}/loki/api/v1/push", json={"streams": [{"stream": stream, "values": values}]}, timeout=20)
    assert answer.status_code == 204, answer.text


def ask(server, path, **parameters):
    end = time.time_ns()
    parameters = {"start": end - 600 * 10**9, "end": end, **parameters}
    answer = requests.get(f"{server.url}/loki/api/v1/{path}", params=parameters, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(params=["head", "files"])
def server(request, make_server):
    server = make_server().start()
    shop = {"service_name": "shop", "env": "test"}
    push(server, shop, [f"user {USERS[at % 4]} logged in from 10.0.0.{at}" for at in range(200)])
    push(server, shop, [f'level=error msg="payment refused" took={at}ms size={at}KB ok=true' for at in range(50)])
    orders = [{"level": "info", "msg": f"order {at} paid", "total": at / 2, "customer": {"id": at, "tags": ["a"]}} for at in range(100)]
    push(server, {"service_name": "billing"}, [json.dumps(order) for order in orders])
    if request.param == "files":
        requests.post(f"{server.url}/bellrock/v1/admin/flush", timeout=60)
    return server


def test_patterns(server):
    found = ask(server, "patterns", query='{service_name="shop"}', step="10s")["data"]
    counts = {entry["pattern"]: sum(count for _, count in entry["samples"]) for entry in found}
    assert counts == {
        "user <_> logged in from <_>": 200,
        'level=error msg="payment refused" took=<_> size=<_> ok=true': 50,
    }
    assert [entry["level"] for entry in found] == ["unknown", "error"]
    assert all(second % 10 == 0 for entry in found for second, _ in entry["samples"])
    # A pattern is one that LogQL takes.
    for pattern, count in counts.items():
        query = f"sum(count_over_time({{service_name=\"shop\"}} |> `{pattern}` [10m]))"
        result = ask(server, "query", query=query, time=time.time_ns())["data"]["result"]
        assert int(result[0]["value"][1]) == count, pattern
    (order,) = ask(server, "patterns", query='{service_name="billing"}')["data"]
    assert order["pattern"] == "<_>order <_> paid<_>"
    assert ask(server, "patterns", query='{service_name="nobody"}')["data"] == []


def test_fields_and_their_values(server):
    answer = ask(server, "detected_fields", query='{service_name="billing"}')
    fields = {field["label"]: field for field in answer["fields"]}
    assert answer["limit"] == 1000
    assert (fields["total"]["type"], fields["total"]["cardinality"], fields["total"]["parsers"]) == ("float", 100, ["json"])
    assert (fields["customer_id"]["type"], fields["customer_id"]["jsonPath"]) == ("int", ["customer", "id"])
    assert "customer_tags" not in fields
    kinds = {field["label"]: field["type"] for field in ask(server, "detected_fields", query='{service_name="shop"} |= "refused"')["fields"]}
    assert (kinds["took"], kinds["size"], kinds["ok"]) == ("duration", "bytes", "boolean")
    values = ask(server, "detected_field/level/values", query='{service_name=~".+"}')
    assert values["values"] == ["error", "info"]
    assert ask(server, "detected_field/nothing/values", query='{service_name="shop"}')["values"] == []


def test_volumes_over_time(server):
    answer = ask(server, "index/volume_range", query='{service_name=~".+"}', targetLabels="service_name", step="60s")["data"]
    assert answer["resultType"] == "matrix"
    totals = {series["metric"]["service_name"]: sum(int(value) for _, value in series["values"]) for series in answer["result"]}
    whole = ask(server, "index/volume", query='{service_name=~".+"}', targetLabels="service_name")["data"]["result"]
    assert totals == {series["metric"]["service_name"]: int(series["value"][1]) for series in whole}
    by_name = ask(server, "index/volume_range", query='{service_name=~".+"}', aggregateBy="labels", targetLabels="service_name", step="60s")
    (series,) = by_name["data"]["result"]
    assert series["metric"] == {"service_name": ""} and sum(int(value) for _, value in series["values"]) == sum(totals.values())


def test_limits_and_mistakes(server):
    limits = ask(server, "drilldown-limits")
    assert limits["pattern_ingester_enabled"] and limits["limits"]["volume_enabled"]
    for path, parameters, words in [
        ("patterns", {"query": "{"}, "parse error"),
        ("patterns", {"query": 'rate({a="b"}[1m])'}, "not a log query"),
        ("patterns", {"query": '{a="b"}', "step": "1ms"}, "step"),
        ("detected_fields", {}, "query"),
        ("index/volume_range", {"query": '{a="b"}', "step": "1ms"}, "step"),
    ]:
        end = time.time_ns()
        parameters = {"start": end - 3600 * 10**9, "end": end, **parameters}
        answer = requests.get(f"{server.url}/loki/api/v1/{path}", params=parameters, timeout=20)
        assert answer.status_code == 400 and words in answer.text, (path, answer.text)
