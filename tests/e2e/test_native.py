"""The native API: what is wrong is said, what is asked for is read."""

import csv
import io
import json
import time

import pyarrow
import pytest
import requests
from bellrock_server import eventually


@pytest.fixture
def traced(server):
    now = time.time_ns()

    def span(number, service, name, code, lasts_ms):
        one = {"traceId": f"{number:032x}", "spanId": f"{number:016x}", "name": name, "kind": 2, "status": {"code": code},
               "startTimeUnixNano": str(now - number * 10**9), "endTimeUnixNano": str(now - number * 10**9 + lasts_ms * 10**6)}
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
        return {"resource": resource, "scopeSpans": [{"spans": [one]}]}

    body = {"resourceSpans": [span(1, "shop", "pay", 2, 900), span(2, "shop", "cart", 1, 900), span(3, "bank", "pay", 0, 900), span(4, "shop", "pay", 1, 5)]}
    assert requests.post(f"{server.url}/v1/traces", json=body, timeout=10).status_code == 200
    eventually(lambda: len(server.get("/bellrock/v1/traces")["traces"]) == 4)
    return server


def found(server, **parameters):
    return [int(trace["trace_id"], 16) for trace in server.get("/bellrock/v1/traces", **parameters)["traces"]]


def test_a_query_and_the_form_are_combined(traced):
    assert found(traced, q="{ duration > 100ms }") == [1, 2, 3]
    assert found(traced, q="{ duration > 100ms }", service="shop") == [1, 2]
    assert found(traced, q="{ duration > 100ms }", service="shop", name="pay") == [1]
    assert found(traced, q='{ name = "pay" } || { name = "cart" }', status="ok") == [2, 4]
    assert found(traced, q="{ } | count() > 0", status="error") == [1]


def test_every_status_is_known_or_refused(traced):
    assert (found(traced, status="ok"), found(traced, status="error"), found(traced, status="unset")) == ([2, 4], [1], [3])
    for wrong in ({"status": "bogus"}, {"limit": 1001}, {"q": "{ &", "service": "shop"}, {"q": "{} | rate()"}):
        assert requests.get(f"{traced.url}/bellrock/v1/traces", params=wrong, timeout=10).status_code == 400, wrong


def test_a_list_is_not_cut_in_silence(server):
    answer = requests.get(f"{server.url}/bellrock/v1/issues", params={"limit": 1001}, timeout=10)
    assert answer.status_code == 400 and "1000" in answer.json()["error"]["message"]
    assert server.get("/bellrock/v1/issues", limit=1000)["issues"] == []


def test_a_wrong_address_is_a_page_for_people_and_an_error_for_clients(server):
    page = requests.get(f"{server.url}/nope/x", headers={"Accept": "text/html,application/xhtml+xml"}, timeout=10)
    assert page.status_code == 404 and page.headers["content-type"].startswith("text/html") and "<script" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    plain = requests.get(f"{server.url}/nope/x", timeout=10)
    assert plain.status_code == 404 and plain.json()["error"]["kind"] == "not_found"
    call = requests.get(f"{server.url}/api/v1/nope", headers={"Accept": "text/html"}, timeout=10)
    assert call.status_code == 404 and call.json()["error"]["kind"] == "not_found"


def ask_sql(server, query, format, **more):
    return requests.post(f"{server.url}/bellrock/v1/sql", json={"query": query, "format": format}, timeout=60, **more)


def rows_of(answer, format):
    """The rows as lists of texts and numbers."""
    if format == "arrow":
        with pyarrow.ipc.open_stream(answer.content) as stream:
            return [list(row.values()) for row in stream.read_all().to_pylist()]
    if format == "csv":
        return [[int(number), text] for number, text in list(csv.reader(io.StringIO(answer.text)))[1:]]
    return [list(json.loads(line).values()) for line in answer.text.splitlines()]


@pytest.mark.parametrize("format", ["jsonl", "csv", "arrow"])
def test_sql_comes_in_parts(server, format):
    now = time.time_ns()
    lines = [[str(now - at * 1000), f"line {at} of an answer that is larger than a part"] for at in range(2000)]
    body = {"streams": [{"stream": {"service_name": "shop"}, "values": lines}]}
    assert requests.post(f"{server.url}/loki/api/v1/push", json=body, timeout=20).status_code == 204
    eventually(lambda: server.sql("SELECT count(*) AS n FROM logs")[0]["n"] == 2000)
    times = lambda factor: ", ".join(f"({at})" for at in range(factor))
    crossed = lambda factor: f"SELECT CAST(n AS BIGINT) AS n, body FROM logs CROSS JOIN (VALUES {times(factor)}) AS more(n)"

    # A small answer is of one piece; an empty one has its columns where the format has any.
    small = ask_sql(server, crossed(1) + " ORDER BY body LIMIT 3", format)
    assert "content-length" in small.headers and len(rows_of(small, format)) == 3
    empty = ask_sql(server, crossed(1) + " WHERE body = 'none'", format)
    assert empty.status_code == 200 and rows_of(empty, format) == []

    large = ask_sql(server, crossed(100), format)
    assert large.headers.get("transfer-encoding") == "chunked" and "content-length" not in large.headers
    rows = rows_of(large, format)
    assert len(rows) == 200_000 and len({tuple(row) for row in rows}) == 200_000

    # What fails at once is an answer that says so; what fails in the middle cannot be taken for whole.
    wrong = ask_sql(server, "SELECT nothing FROM logs", format)
    assert wrong.status_code == 400 and "nothing" in wrong.json()["error"]["message"], wrong.text
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        ask_sql(server, crossed(600), format)

    # A query whose reader has gone away ends.
    with ask_sql(server, crossed(400), format, stream=True) as answer:
        content = answer.iter_content(1000)
        assert next(content)
        assert any("CROSS JOIN" in query["query"] for query in server.get("/bellrock/v1/queries")["queries"])
    eventually(lambda: server.get("/bellrock/v1/queries")["queries"] == [])
