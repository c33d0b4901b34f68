"""Log shippers that speak to Elasticsearch: the official Python client, and what Filebeat and Fluent Bit ask and send."""

import gzip
import json
from datetime import datetime, timedelta, timezone

import pytest
import requests
from bellrock_server import eventually
from elasticsearch import BadRequestError, Elasticsearch, NotFoundError
from elasticsearch.helpers import bulk, streaming_bulk


def ago(**passed):
    return (datetime.now(timezone.utc) - timedelta(**passed)).isoformat()


@pytest.fixture
def client(server):
    with Elasticsearch(f"{server.url}/elastic") as client:
        yield client


def test_the_python_client_sends_and_is_told(server, client):
    assert client.info()["version"]["number"].startswith("8.") and client.cluster.health()["status"] == "green"
    assert client.indices.exists(index="logs") and client.ping()
    documents = [{"_index": "logs", "@timestamp": ago(seconds=at), "message": f"order {at}", "log": {"level": "warning"},
                  "service": {"name": "shop"}, "host": {"name": f"web-{at % 2}"}, "order": {"id": at}} for at in range(100)]
    assert bulk(client, documents) == (100, [])
    lines = server.logql('{service_name="shop", host_name="web-1"} | order_id = 7')
    assert [line for _, line in lines] == ["order 7"]
    assert lines[0][0]["detected_level"] == "warn"
    rows = server.sql("SELECT count(*) AS n, count(DISTINCT attr(attributes, 'elastic.index')) AS indexes FROM logs")
    assert (rows[0]["n"], rows[0]["indexes"]) == (100, 1)
    assert client.index(index="logs", document={"message": "by itself", "service": {"name": "one"}})["result"] == "created"
    assert client.create(index="logs", id="7", document={"message": "with its id", "service": {"name": "one"}})["_id"] == "7"
    assert {line for _, line in server.logql('{service_name="one"}')} == {"by itself", "with its id"}


def test_each_document_has_its_answer(server, client):
    documents = [
        {"_index": "logs", "message": "good", "service": {"name": "half"}},
        {"_index": "logs", "@timestamp": "soon", "message": "no time", "service": {"name": "half"}},
        {"_index": "logs", "@timestamp": ago(days=400), "message": "too old", "service": {"name": "half"}},
        {"_op_type": "delete", "_index": "logs", "_id": "1"},
        {"_op_type": "create", "_index": "logs", "message": "good too", "service": {"name": "other"}},
    ]
    outcomes = [(ok, next(iter(item.values()))) for ok, item in streaming_bulk(client, documents, raise_on_error=False)]
    assert [(ok, item["status"]) for ok, item in outcomes] == [(True, 201), (False, 400), (False, 400), (False, 400), (True, 201)]
    assert "soon" in outcomes[1][1]["error"]["reason"] and "further back" in outcomes[2][1]["error"]["reason"]
    assert {line for _, line in server.logql('{service_name=~"half|other"}')} == {"good", "good too"}
    with pytest.raises(BadRequestError) as refused:
        client.index(index="logs", document={"@timestamp": "soon"})
    assert "soon" in str(refused.value)
    with pytest.raises(NotFoundError):
        client.search(index="logs")


def test_filebeat(server):
    """The calls of libbeat in their order, with the body and the parameters of its output."""
    session = requests.Session()
    session.headers = {"user-agent": "Elastic-Filebeat/8.19.0", "accept": "application/json", "content-type": "application/json"}
    at = f"{server.url}/elastic"

    def ask(method, path, **options):
        answer = session.request(method, f"{at}{path}", timeout=10, **options)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        assert answer.headers["x-elastic-product"] == "Elasticsearch"
        return answer

    assert ask("GET", "/").json()["tagline"] == "You Know, for Search"
    assert ask("GET", "/_license?human=false").json()["license"]["status"] == "active"
    assert "filebeat" in ask("GET", "/_ilm/policy/filebeat").json()
    ask("HEAD", "/_index_template/filebeat-8.19.0")
    assert ask("PUT", "/_index_template/filebeat-8.19.0", json={"index_patterns": ["filebeat-8.19.0"]}).json()["acknowledged"]
    ask("GET", "/_data_stream/filebeat-8.19.0")
    ask("PUT", "/_ingest/pipeline/filebeat-8.19.0-nginx", json={"processors": []})
    event = {"@timestamp": ago(seconds=1), "message": "10.0.0.1 GET /stock 500", "host": {"name": "web"}, "agent": {"type": "filebeat"},
             "event": {"dataset": "nginx.access"}, "log": {"offset": 7, "file": {"path": "/var/log/nginx/access.log"}},
             "trace": {"id": "0af7651916cd43dd8448eb211c80319c"}}
    body = "".join(f"{json.dumps(line)}\n" for line in ({"create": {"_index": "filebeat-8.19.0"}}, event, {"create": {}}, {"@timestamp": "?"}))
    answer = ask("POST", "/_bulk", params={"filter_path": "errors,items.*.error,items.*.status"}, data=gzip.compress(body.encode()),
                 headers={"content-encoding": "gzip", "content-type": "application/x-ndjson"}).json()
    assert answer["errors"] and answer["items"][0] == {"create": {"status": 201}} and answer["items"][1]["create"]["status"] == 400
    labels, line = server.logql('{service_name="nginx.access"}')[0]
    assert (line, labels["host_name"], labels["log_file_path"]) == (event["message"], "web", "/var/log/nginx/access.log")
    rows = server.sql("SELECT body FROM logs WHERE trace_id = '0af7651916cd43dd8448eb211c80319c'")
    assert [row["body"] for row in rows] == [event["message"]]


def test_fluent_bit(server):
    body = b'{"create":{"_index":"fluent-bit","_type":"_doc"}}\n{"@timestamp":"%s","log":"ERROR no stock","kubernetes":{"pod_name":"shop-1","labels":{"app":"shop"}}}\n'
    answer = requests.post(f"{server.url}/elastic/_bulk", data=body % ago(seconds=1).encode(), headers={"content-type": "application/x-ndjson"}, timeout=10)
    assert answer.json()["errors"] is False and answer.json()["items"][0]["create"]["result"] == "created"
    labels, line = server.logql('{service_name="shop"}')[0]
    assert (line, labels["k8s_pod_name"], labels["detected_level"]) == ("ERROR no stock", "shop-1", "error")


def test_it_survives_a_kill(server, client):
    assert bulk(client, ({"_index": "logs", "message": f"line {at}", "service": {"name": "kept"}} for at in range(50))) == (50, [])
    server.kill()
    server.start()
    eventually(lambda: len(server.logql('{service_name="kept"}')) == 50)
    assert server.sql("SELECT count(*) AS n FROM logs WHERE attr(attributes, 'elastic.index') = 'logs'")[0]["n"] == 50


def test_an_error_document_is_an_issue(server, client):
    error = {"type": "shop.NoStock", "message": "sku 7", "stack_trace": 'Traceback (most recent call last):\n  File "a.py", line 3, in buy\nshop.NoStock: sku 7'}
    client.index(index="logs", document={"message": "no stock", "log.level": "error", "service": {"name": "shop"}, "error": error})
    issues = eventually(lambda: server.get("/bellrock/v1/issues")["issues"])
    assert "NoStock" in json.dumps(issues[0])


def test_bodies_that_are_none(server):
    def answer(body, **headers):
        return requests.post(f"{server.url}/elastic/_bulk", data=body, headers=headers, timeout=10)

    for body in (b"", b"\n\n"):
        told = answer(body)
        assert told.status_code == 400 and told.json()["error"]["type"] == "illegal_argument_exception" and told.json()["status"] == 400
    assert answer(b"no gzip", **{"content-encoding": "gzip"}).status_code == 400
    # Each of these fields would have the long key in front.
    assert answer(b'{"index":{}}\n' + b'{"' + b"k" * 500 + b'":{' + b",".join(b'"%d":1' % at for at in range(30_000)) + b"}}\n").status_code == 200
