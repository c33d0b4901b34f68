"""Who may do what: decided by the credential alone."""

import subprocess

import requests
from bellrock_server import BINARY, eventually, free_port

CONFIG = """
bellrock:
  auth:
    tokens:
      - { name: sender-one, tenant: 1, role: ingest, token: ingest-one-0123456789 }
      - { name: reader-one, tenant: 1, role: viewer, token: viewer-one-0123456789 }
      - { name: admin-one, tenant: 1, role: admin, token: admin-one-01234567890 }
      - { name: sender-two, tenant: 2, role: ingest, token: ingest-two-0123456789 }
      - { name: reader-two, tenant: 2, role: viewer, token: viewer-two-0123456789 }
"""


def bearer(token, **more):
    return {"Authorization": f"Bearer {token}", **more}


def push(server, token, line):
    import time

    body = {"streams": [{"stream": {"app": "secret"}, "values": [[str(time.time_ns()), line]]}]}
    return requests.post(f"{server.url}/loki/api/v1/push", json=body, headers=bearer(token, **{"X-Scope-OrgID": "2"}), timeout=10)


def test_tenants_do_not_see_each_other(make_server):
    server = make_server(config=CONFIG).start()
    assert push(server, "ingest-one-0123456789", "of one").status_code == 204
    assert push(server, "ingest-two-0123456789", "of two").status_code == 204

    def lines(token):
        answer = requests.get(f"{server.url}/loki/api/v1/query_range", params={"query": '{app="secret"}'}, headers=bearer(token, **{"X-Scope-OrgID": "1"}), timeout=10)
        assert answer.status_code == 200, answer.text
        return [value[1] for stream in answer.json()["data"]["result"] for value in stream["values"]]

    assert eventually(lambda: lines("viewer-one-0123456789")) == ["of one"]
    assert eventually(lambda: lines("viewer-two-0123456789")) == ["of two"]
    sql = requests.post(f"{server.url}/bellrock/v1/sql", json={"query": "SELECT body FROM logs"}, headers=bearer("viewer-two-0123456789"), timeout=10)
    assert sql.json()["rows"] == [["of two"]]


def test_every_route_denies_without_the_right_role(make_server):
    server = make_server(config=CONFIG).start()
    paths = requests.get(f"{server.url}/bellrock/v1/openapi.json", headers=bearer("viewer-one-0123456789"), timeout=10).json()["paths"]
    assert len(paths) > 40
    for path, methods in paths.items():
        path = path.replace("{", "").replace("}", "")
        for method in methods:
            answer = requests.request(method, server.url + path, timeout=10)
            assert answer.status_code == 401, f"{method} {path}: {answer.status_code} without a token"
            answer = requests.request(method, server.url + path, headers=bearer("nonsense-0123456789"), timeout=10)
            assert answer.status_code == 401, f"{method} {path}: {answer.status_code} with a wrong token"
    ingest = bearer("ingest-one-0123456789")
    assert requests.get(f"{server.url}/api/v1/query", params={"query": "up"}, headers=ingest, timeout=10).status_code == 403
    viewer = bearer("viewer-one-0123456789")
    assert requests.post(f"{server.url}/bellrock/v1/admin/flush", headers=viewer, timeout=10).status_code == 403
    assert requests.post(f"{server.url}/bellrock/v1/admin/flush", headers=bearer("admin-one-01234567890"), timeout=30).status_code == 200


def test_a_role_is_a_set_of_rights(make_server):
    config = CONFIG + "      - { name: on-call, tenant: 1, role: responder, token: responder-one-01234 }\n"
    server = make_server(config=config).start()
    tokens = {"ingest": "ingest-one-0123456789", "viewer": "viewer-one-0123456789", "responder": "responder-one-01234", "admin": "admin-one-01234567890"}
    paths = requests.get(f"{server.url}/bellrock/v1/openapi.json", headers=bearer(tokens["viewer"]), timeout=10).json()["paths"]
    rights = {"ingest": {"send"}, "viewer": {"read"}, "responder": {"read", "respond"}, "admin": {"send", "read", "respond", "administer"}}
    assert {method["x-bellrock-right"] for methods in paths.values() for method in methods.values()} == rights["admin"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            for role, token in tokens.items():
                if operation["x-bellrock-right"] in rights[role]:
                    continue
                answer = requests.request(method, server.url + path.replace("{", "").replace("}", ""), headers=bearer(token), timeout=10)
                assert answer.status_code == 403, f"{method} {path} as {role}: {answer.status_code}"
                assert role in answer.text, "says which role the token has"
    for token, status in (("ingest", 204), ("viewer", 403), ("responder", 403), ("admin", 204)):
        assert push(server, tokens[token], "line").status_code == status, token
    reads = {"params": {"query": "up"}, "timeout": 10}
    for token, status in (("ingest", 403), ("viewer", 200), ("responder", 200), ("admin", 200)):
        assert requests.get(f"{server.url}/api/v1/query", headers=bearer(tokens[token]), **reads).status_code == status, token


def test_another_address_needs_credentials(tmp_path):
    command = [BINARY, "serve", "--data-dir", str(tmp_path / "d"), "--listen", f"0.0.0.0:{free_port()}"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert outcome.returncode != 0 and "bellrock.auth.tokens" in outcome.stderr, outcome.stderr


def test_grpc_needs_the_token_too(make_server):
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

    server = make_server(config=CONFIG).start()
    provider = TracerProvider()
    outcomes = []

    class Recorder(OTLPSpanExporter):
        def export(self, spans):
            outcomes.append(super().export(spans))
            return outcomes[-1]

    for headers in ((), (("authorization", "Bearer viewer-one-0123456789"),), (("authorization", "Bearer ingest-one-0123456789"),)):
        provider.add_span_processor(SimpleSpanProcessor(Recorder(endpoint=f"http://{server.grpc}", insecure=True, headers=headers, timeout=5)))
    with provider.get_tracer("t").start_as_current_span("one"):
        pass
    assert outcomes == [SpanExportResult.FAILURE, SpanExportResult.FAILURE, SpanExportResult.SUCCESS], "nobody, a viewer, a sender"


def test_pages_of_other_sites_are_refused(server):
    body = {"query": "SELECT 1"}
    foreign = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert requests.post(f"{server.url}/bellrock/v1/sql", json=body, headers=foreign, timeout=10).status_code == 401
    assert requests.get(f"{server.url}/api/v1/query", params={"query": "1"}, headers={"Host": "evil.example"}, timeout=10).status_code == 401


def test_what_is_the_operators_is_closed_to_other_tenants(make_server, tmp_path):
    config = CONFIG + "      - { name: admin-two, tenant: 2, role: admin, token: admin-two-01234567890 }\n"
    server = make_server(config=config).start()
    one, two, viewer = bearer("admin-one-01234567890"), bearer("admin-two-01234567890"), bearer("viewer-one-0123456789")
    for path in ("/-/reload", "/api/v1/admin/tsdb/clean_tombstones", "/api/v1/admin/tsdb/snapshot", "/bellrock/v1/admin/flush"):
        refused = requests.post(server.url + path, headers=two, timeout=30)
        assert refused.status_code == 404 and "own tenant" in refused.text, f"{path}: {refused.text}"
        assert requests.post(server.url + path, headers=one, timeout=30).status_code in (200, 204), path
    flags = [requests.get(f"{server.url}/api/v1/status/flags", headers=who, timeout=10).json()["data"] for who in (one, two, viewer)]
    assert flags[0]["storage.tsdb.path"] == str(server.data) and "config.file" in flags[0]
    assert all("storage.tsdb.path" not in seen and "config.file" not in seen and "query.timeout" in seen for seen in flags[1:])
    mine, theirs = [requests.get(f"{server.url}/bellrock/v1/status", headers=who, timeout=10).json() for who in (one, two)]
    assert {"journal", "storage", "catalog"} <= mine.keys() and "logs" in mine["ingest"]
    assert not {"journal", "storage", "catalog"} & theirs.keys() and theirs["ingest"] == {"metrics": {"series": 0}}
    missing = {"source": "x", "files": ["2/metrics/0000000000000000.parquet"]}
    refused = requests.post(f"{server.url}/bellrock/v1/admin/imports", json=missing, headers=two, timeout=10)
    assert refused.status_code >= 400 and str(server.data) not in refused.text, refused.text


def test_the_ports_of_opentelemetry_have_nothing_else(server):
    assert requests.post(f"{server.otlp_http}/v1/logs", json={"resourceLogs": []}, timeout=10).status_code == 200
    for base in (server.otlp_http, f"http://{server.grpc}"):
        assert requests.get(f"{base}/-/ready", timeout=10).status_code == 200
        for method, path in [("GET", "/api/v1/query?query=1"), ("POST", "/api/v1/admin/tsdb/delete_series?match[]=up"), ("GET", "/metrics"), ("GET", "/"), ("POST", "/bellrock/v1/sql")]:
            assert requests.request(method, base + path, timeout=10).status_code == 404, f"{base}{path}"
