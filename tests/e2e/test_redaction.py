"""Planted secrets in every protocol: none of them is in any file of the data directory, and all the rest is there."""

import base64
import contextlib
import gzip
import json
import os
import signal
import time
import zlib

import cramjam
import grpc
import requests
from bellrock_server import eventually
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway
from protocols import remote_write
from web import Web

MAIL = "ann.{}@example.com"
CARD = "4111 1111 1111 1111"
PASSWORD = "hunter2-{}-x9"


def planted(place):
    """A line with three secrets, which are told apart by their place."""
    return f"login {place} mail={MAIL.format(place)} card {CARD} password={PASSWORD.format(place)} done"


def masked(place):
    """What of it may be kept."""
    mail, password = len(MAIL.format(place)) - len("[email]"), len(PASSWORD.format(place)) - len("[key_name]")
    return f"login {place} mail=[email{'*' * mail}] card [card{'*' * (len(CARD) - 6)}] password=[key_name{'*' * password}] done"


def otlp_logs(place):
    request = logs_service_pb2.ExportLogsServiceRequest()
    group = request.resource_logs.add()
    service = group.resource.attributes.add(key="service.name")
    service.value.string_value = place
    record = group.scope_logs.add().log_records.add(trace_id=os.urandom(16), span_id=os.urandom(8))
    record.time_unix_nano, record.body.string_value = time.time_ns(), planted(place)
    record.attributes.add(key="db_password").value.string_value = PASSWORD.format("attribute")
    record.attributes.add(key="order_id").value.int_value = 4111111111111111
    record.attributes.add(key="number").value.int_value = 4111111111111111
    return request


def otlp_traces(place):
    request = trace_service_pb2.ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = place
    now = time.time_ns()
    span = group.scope_spans.add().spans.add(trace_id=bytes(range(16)), span_id=bytes(range(8)), name=planted(place))
    span.start_time_unix_nano, span.end_time_unix_nano = now - 10**6, now
    span.attributes.add(key="url.full").value.string_value = f"https://app:{PASSWORD.format('url')}@db.example.com/?token={PASSWORD.format('query')}"
    span.attributes.add(key="http.request.header.authorization").value.array_value.values.add().string_value = f"Bearer {PASSWORD.format('bearer')}"
    return request


def post(server, path, data, status, **headers):
    answer = requests.post(server.url + path, data=data, headers={name.replace("_", "-"): value for name, value in headers.items()}, timeout=10)
    assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text}"


def send_otlp(server):
    protobuf = "application/x-protobuf"
    post(server, "/v1/logs", otlp_logs("otlp").SerializeToString(), 200, content_type=protobuf)
    post(server, "/v1/logs", gzip.compress(otlp_logs("gzip").SerializeToString()), 200, content_type=protobuf, content_encoding="gzip")
    post(server, "/v1/traces", otlp_traces("spans").SerializeToString(), 200, content_type=protobuf)
    with grpc.insecure_channel(server.grpc) as channel:
        logs_service_pb2_grpc.LogsServiceStub(channel).Export(otlp_logs("grpc"), timeout=10)
    escaped = json.dumps(planted("json")).replace("@", "\\u0040")
    record = f'{{"timeUnixNano":"{time.time_ns()}","body":{{"stringValue":{escaped}}}}}'
    resource = '{"attributes":[{"key":"service.name","value":{"stringValue":"json"}}]}'
    post(server, "/v1/logs", f'{{"resourceLogs":[{{"resource":{resource},"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}', 200, content_type="application/json")


def _field(number, payload):
    return bytes([number << 3 | 2, len(payload)]) + payload


def send_others(server):
    push = {"streams": [{"stream": {"service_name": "loki"}, "values": [[str(time.time_ns()), planted("loki"), {"token": PASSWORD.format("metadata")}]]}]}
    post(server, "/loki/api/v1/push", json.dumps(push), 204, content_type="application/json")
    seconds = int(time.time())
    varint = bytes([seconds & 127 | 128, seconds >> 7 & 127 | 128, seconds >> 14 & 127 | 128, seconds >> 21 & 127 | 128, seconds >> 28])
    line = planted("lokiproto").encode()
    stream = _field(1, b'{service_name="lokiproto"}') + _field(2, _field(1, b"\x08" + varint) + _field(2, line))
    body = b"\x0a" + bytes([len(stream) & 127 | 128, len(stream) >> 7]) + stream if len(stream) > 127 else _field(1, stream)
    post(server, "/loki/api/v1/push", bytes(cramjam.snappy.compress_raw(body)), 204, content_type="application/x-protobuf")
    span = {"traceId": "a" * 32, "id": "b" * 16, "name": "zipkin", "timestamp": time.time_ns() // 1000, "duration": 10,
            "localEndpoint": {"serviceName": "zipkin"}, "tags": {"note": planted("zipkin"), "api_key": PASSWORD.format("tag")}}
    post(server, "/api/v2/spans", json.dumps([span]), 202, content_type="application/json")
    for place in ("sentry", "store"):
        event = {"event_id": os.urandom(16).hex(), "message": planted(place), "level": "error", "platform": "python", "timestamp": time.time(),
                 "request": {"headers": [["Cookie", f"session={PASSWORD.format('cookie')}"]]},
                 "exception": {"values": [{"type": place, "value": planted(place), "stacktrace": {"frames": [
                     {"function": "f", "vars": {"password": PASSWORD.format("vars"), "mail": MAIL.format("vars")}}]}}]}}
        payload = json.dumps(event).encode()
        if place == "store":
            post(server, "/api/1/store/", base64.b64encode(zlib.compress(payload)), 200, x_sentry_auth="Sentry sentry_key=k")
        else:
            envelope = b"{}\n" + json.dumps({"type": "event", "length": len(payload)}).encode() + b"\n" + payload
            post(server, "/api/1/envelope/", gzip.compress(envelope), 200, content_encoding="gzip", x_sentry_auth="Sentry sentry_key=k")
    labels = b"".join(_field(1, _field(1, name) + _field(2, value)) for name, value in (
        (b"__name__", b"redacted_written"), (b"user", MAIL.format("written").encode())))
    millis, varint = int(time.time() * 1000), bytearray()
    while millis > 127:
        varint.append(millis & 127 | 128)
        millis >>= 7
    body = _field(1, labels + _field(2, b"\x09" + bytes(6) + b"\xf0\x3f\x10" + bytes(varint) + bytes([millis])))
    post(server, "/api/v1/write", bytes(cramjam.snappy.compress_raw(body)), 204, content_type="application/x-protobuf", content_encoding="snappy")
    registry = CollectorRegistry()
    Gauge("redacted_pushed", "A gauge.", ["user"], registry=registry).labels(MAIL.format("pushed")).set(1)
    push_to_gateway(server.url, job="backup", grouping_key={"owner": MAIL.format("owner")}, registry=registry)


def secrets_in(folder):
    """Files that hold a planted secret, with it. Segments of the journal and pages of files may be packed: what was packed is looked
    for below, by what the server answers once it has read all of it back."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [(path, needle) for needle in (b"@example.com", b"4111 1111", b"hunter2-") if needle in content]
    return found


def check_answers(server):
    lines = {line for _, line in server.logql('{service_name=~".+"}')}
    assert any(line.startswith("login json mail=[email") and line.endswith("] done") for line in lines), lines
    for place in ("otlp", "gzip", "grpc", "loki", "lokiproto"):
        assert masked(place) in lines, f"{place}: {masked(place)} is not among {lines}"
    rows = server.sql("SELECT * FROM logs") + server.sql("SELECT * FROM errors") + server.sql("SELECT * FROM spans")
    text = json.dumps(rows)
    assert all(masked(place) in text for place in ("sentry", "store", "spans", "zipkin")), text
    assert "4111111111111111" in text and "hunter2" not in text and "@example.com" not in text, text
    assert "https://app:[url_password" in text and "@db.example.com" in text, text
    assert bytes(range(16)).hex() in text, "ids are no cards"
    for name, place in (("redacted_written", "written"), ("redacted_pushed", "pushed"), ("redacted_scraped", "scraped")):
        found = server.promql(name)
        assert len(found) == 1, f"{name}: {found}"
        ((series, _),) = found
        assert series["user"] == f"[email{'*' * (len(MAIL.format(place)) - 7)}]", series
    return True


def test_no_secret_reaches_the_disk(make_server):
    page = f'redacted_scraped{{user="{MAIL.format("scraped")}"}} 1\n'
    with contextlib.closing(Web(lambda request: page)) as web:
        config = f"""
global: {{ scrape_interval: 300ms, scrape_timeout: 300ms }}
scrape_configs: [{{ job_name: app, static_configs: [{{ targets: ['{web.address}'] }}] }}]
bellrock: {{ flush_interval: 1s }}
"""
        server = make_server(config=config).start()
        send_otlp(server)
        send_others(server)
        eventually(lambda: check_answers(server))
        # Files and the copy of the catalog are written; then what is in the journal alone.
        eventually(lambda: list((server.data).rglob("*.parquet")))
        send_otlp(server)
        server.kill()
        assert secrets_in(server.data) == []
        server.start()
        eventually(lambda: check_answers(server))
        text = requests.get(server.url + "/metrics", timeout=5).text
        counts = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line.startswith("bellrock_redacted_total{")}
        assert 'bellrock_redacted_total{rule="jwt"}' in counts and "hunter2" not in text and "@example.com" not in text
        assert secrets_in(server.data) == []
        assert "hunter2" not in server.log() and "@example.com" not in server.log()


def test_a_policy_is_read_again(make_server):
    server = make_server(config="bellrock: { redaction: { dry_run: true } }").start()
    send_otlp(server)
    eventually(lambda: planted("otlp") in {line for _, line in server.logql('{service_name="otlp"}')})
    counted = requests.get(server.url + "/metrics", timeout=5).text
    assert "bellrock_redaction_dry_run 1" in counted and 'bellrock_redacted_total{rule="email"} 0' not in counted

    policy = """
bellrock:
  redaction:
    rules: { email: false, card: false }
    patterns: [{ name: login, regex: 'login (?P<secret>\\w+)' }]
    exceptions: [{ service: grpc }]
"""
    server.config.write_text(policy)
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "bellrock_redaction_dry_run 0" in requests.get(server.url + "/metrics", timeout=5).text)
    send_otlp(server)
    mail = MAIL.format("otlp")
    password = len(PASSWORD.format("otlp")) - len("[key_name]")
    line = f"login **** mail={mail} card {CARD} password=[key_name{'*' * password}] done"
    eventually(lambda: line in {line for _, line in server.logql('{service_name="otlp"}')})
    assert {line for _, line in server.logql('{service_name="grpc"}')} == {planted("grpc")}

    server.config.write_text("bellrock: { redaction: { rules: { mail: true } } }")
    answer = requests.post(server.url + "/-/reload", timeout=5)
    assert answer.status_code >= 400 and "there are card, iban" in answer.text, answer.text


def test_a_series_that_came_before_is_masked_under_a_policy_that_is_new(make_server):
    """Series that are known are not read again, as long as they came under the policy in force."""
    off, on = "bellrock: { redaction: { enabled: false }, flush_interval: 1h }", "bellrock: { flush_interval: 1h }"
    server = make_server(config=off).start()

    def send(*values):
        for value in values:
            path, body, headers = remote_write([value])
            assert requests.post(server.url + path, headers=headers, timeout=10, **body).status_code in (200, 204)

    def records():
        counts = server.promql("count_over_time(written[10m])")
        return {labels["record"]: count for labels, count in counts}

    mail, hidden = "ann@example.com", "[email********]"
    send(mail, "plain", mail)
    assert records() == {mail: 2, "plain": 1}
    server.config.write_text(on)
    assert requests.post(f"{server.url}/-/reload", timeout=10).status_code == 200
    send(mail, "plain", mail, "plain", "plain", mail)
    assert records() == {mail: 2, hidden: 3, "plain": 4}
    # What is read back came under a policy that nobody remembers.
    server.config.write_text(off)
    server.kill()
    server.start()
    send(mail, mail)
    server.kill()
    server.config.write_text(on)
    server.start()
    eventually(lambda: server.get("/bellrock/v1/status")["replay"]["done"])
    send(mail, mail, hidden)
    assert records() == {mail: 4, hidden: 6, "plain": 4}
