"""Lines of JSON, syslog over TCP, UDP and TLS, and entries of systemd's journal."""

import gzip
import json
import logging
import logging.handlers
import shutil
import socket
import ssl
import struct
import subprocess
import time
from datetime import datetime, timezone

import requests
from bellrock_server import eventually, free_port


def lines(server, query):
    return [line for _, line in server.logql(query)]


def test_ndjson(server):
    now = datetime.now(timezone.utc).isoformat()
    good = [{"date": now, "log": {"message": f"line {at}", "level": "error"}, "app": "shop", "at": at} for at in range(3)]
    body = "\n".join([json.dumps(good[0]), "{broken", json.dumps(good[1]), "", json.dumps({**good[2], "date": "soon"}), json.dumps(good[2])])
    parameters = {"_time_field": "date", "_msg_field": "log.message", "_stream_fields": "app"}
    for path in ("/ndjson", "/insert/jsonline"):
        answer = requests.post(f"{server.url}{path}", params=parameters, data=gzip.compress(body.encode()), headers={"content-encoding": "gzip"}, timeout=10)
        told = answer.json()
        assert answer.status_code == 200 and (told["accepted"], told["refused"]) == (3, 2), answer.text
        assert [complaint.split(":")[0] for complaint in told["complaints"]] == ["line 2", "line 5"]
        assert "2 lines refused" in answer.headers["x-bellrock-warning"]
    assert sorted(lines(server, '{app="shop", service_name="shop"} | detected_level="error"')) == ["line 0", "line 0", "line 1", "line 1", "line 2", "line 2"]
    answer = requests.post(f"{server.url}/ndjson", data="{broken", timeout=10)
    assert answer.status_code == 400 and answer.json()["refused"] == 1
    assert requests.post(f"{server.url}/ndjson", data=b"x", headers={"content-encoding": "gzip"}, timeout=10).status_code == 400


def journal_entry(**fields):
    out = b""
    for name, value in fields.items():
        if isinstance(value, bytes):
            out += name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
        else:
            out += f"{name}={value}\n".encode()
    return out + b"\n"


def upload(server, body, **headers):
    headers = {"content-type": "application/vnd.fdo.journal", **headers}
    return requests.post(f"{server.url}/upload", data=body, headers=headers, timeout=60)


def test_journald(server):
    now = time.time_ns() // 1000
    entry = {"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": now, "_SYSTEMD_UNIT": "shop.service", "_HOSTNAME": "web", "PRIORITY": 4, "_PID": 77}
    body = journal_entry(**entry, MESSAGE="paid") + journal_entry(**entry, MESSAGE=b"two\nlines", RAW=b"\x00\xff")
    answer = upload(server, iter([body[:100], body[100:]]))
    assert (answer.status_code, answer.text) == (202, "OK.\n")
    assert sorted(lines(server, '{service_name="shop", host_name="web"} | process_pid=77')) == ["paid", "two\nlines"]
    assert server.logql('{service_name="shop"}')[0][0]["detected_level"] == "warn"
    told = upload(server, journal_entry(MESSAGE="good") + b"not a field\n\n")
    assert told.status_code == 202 and "1 entries refused" in told.text
    assert upload(server, b"not a field\n\n").status_code == 400


def test_a_long_journal_comes_in_parts(server):
    """More than a body may have, in one request, as at the first start of an uploader."""
    now = time.time_ns() // 1000
    count = 30_000

    def entries():
        for at in range(count):
            yield journal_entry(__REALTIME_TIMESTAMP=now + at, _SYSTEMD_UNIT="long.service", MESSAGE=f"{at} " + "x" * 600)

    assert upload(server, entries()).status_code == 202
    rows = server.sql("SELECT count(*) AS n, count(DISTINCT body) AS different FROM logs WHERE service = 'long'")
    assert (rows[0]["n"], rows[0]["different"]) == (count, count)


def syslog_server(make_server, extra=""):
    ports = {name: free_port() for name in ("tcp", "udp")}
    config = f"bellrock: {{ syslog: {{ tcp: '127.0.0.1:{ports['tcp']}', udp: '127.0.0.1:{ports['udp']}'{extra} }} }}"
    return make_server(config=config).start(), ports


def metric(server, name):
    for line in requests.get(f"{server.url}/metrics", timeout=10).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def test_pythons_own_handler(make_server):
    server, ports = syslog_server(make_server)
    for name, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
        handler = logging.handlers.SysLogHandler(("127.0.0.1", ports[name]), socktype=kind, facility="local3")
        handler.ident = f"{name}app[7]: "
        logger = logging.Logger(name)
        logger.addHandler(handler)
        for at in range(20):
            logger.error("no stock %d", at)
        handler.close()
        eventually(lambda: len(lines(server, f'{{service_name="{name}app"}} | process_pid=7')) == 20)
        labels, line = server.logql(f'{{service_name="{name}app"}}')[0]
        assert (line[:9], labels["detected_level"], labels["syslog_facility"], labels["host_name"]) == ("no stock ", "error", "local3", "127.0.0.1")
    assert metric(server, "bellrock_syslog_messages_total") == 40


def test_both_framings_and_a_kill(make_server):
    server, ports = syslog_server(make_server)
    now = datetime.now(timezone.utc)
    old = f"{now:%b} {now.day:2} {now:%H:%M:%S}"
    with socket.create_connection(("127.0.0.1", ports["tcp"])) as stream:
        for at in range(10):
            stream.sendall(f"<11>{old} web-1 old[{at}]: line {at}\n".encode())
            message = f'<165>1 {now.isoformat()} web-2 new - ID7 [order@1 id="{at}"] two\nlines {at}'.encode()
            stream.sendall(b"%d %s" % (len(message), message))
    eventually(lambda: len(lines(server, '{service_name=~"old|new"}')) == 20)
    server.kill()
    server.start()
    assert sorted(eventually(lambda: lines(server, '{service_name="old", host_name="web-1"}'))) == [f"line {at}" for at in range(10)]
    assert lines(server, '{service_name="new"} | syslog_order_1_id="7"') == ["two\nlines 7"]
    assert server.sql("SELECT count(*) AS n FROM logs WHERE severity = 10")[0]["n"] == 10
    with socket.create_connection(("127.0.0.1", ports["tcp"])) as stream:
        stream.sendall(b"9999999999 <11>no such length")
        assert stream.recv(1) == b""
    assert metric(server, "bellrock_syslog_streams_broken_total") == 1


def test_the_tool_logger(make_server):
    logger = shutil.which("logger")
    assert logger, "util-linux's logger is part of every Linux"
    server, ports = syslog_server(make_server)
    for name, options in (("a", ["--tcp", "--octet-count", "--rfc5424"]), ("b", ["--tcp", "--rfc3164"]), ("c", ["--udp", "--rfc5424"])):
        port = ports["udp" if "--udp" in options else "tcp"]
        subprocess.run([logger, *options, "-n", "127.0.0.1", "-P", str(port), "-t", f"tool-{name}", "-p", "user.warning", f"hello from {name}"], check=True)
        eventually(lambda: lines(server, f'{{service_name="tool-{name}"}}') == [f"hello from {name}"])
        assert server.logql(f'{{service_name="tool-{name}"}}')[0][0]["detected_level"] == "warn"


def test_tls(make_server, tmp_path):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (tmp_path / "names").write_text("subjectAltName=DNS:localhost\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", "names")
    port = free_port()
    files = f"cert_file: '{tmp_path}/server.pem', key_file: '{tmp_path}/server.key', client_ca_file: '{tmp_path}/ca.pem'"
    server, _ = syslog_server(make_server, f", tls: {{ listen: '127.0.0.1:{port}', {files} }}")
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")

    def send(context):
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain, server_hostname="localhost") as stream:
            stream.sendall(b"<14>1 - - secret - - - over tls\n")
            # With TLS 1.3 the server's refusal comes behind the handshake.
            stream.unwrap()

    try:
        send(context)
    except (ssl.SSLError, OSError):
        pass
    eventually(lambda: metric(server, "bellrock_syslog_handshakes_failed_total") == 1)
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    try:
        send(context)
    except (ssl.SSLError, OSError):
        pass
    eventually(lambda: lines(server, '{service_name="secret"}') == ["over tls"])


def test_what_is_received_is_kept_when_the_server_stops(make_server):
    server, ports = syslog_server(make_server)
    with socket.create_connection(("127.0.0.1", ports["tcp"])) as stream:
        for at in range(5000):
            stream.sendall(f"<14>1 - - last - - - line {at}\n".encode())
        eventually(lambda: metric(server, "bellrock_syslog_messages_total") == 5000)
        server.stop()
    server.start()
    eventually(lambda: server.sql("SELECT count(*) AS n FROM logs WHERE service = 'last'")[0]["n"] == 5000)


def test_mistakes_in_the_configuration(make_server):
    for text, words in (("zone: Europe/Bonn", "Europe/Bonn"), ("tcp: nowhere", "nowhere"), ("tls: { listen: '127.0.0.1:0', cert_file: a, key_file: b }", "bellrock.syslog.tls")):
        server = make_server(config=f"bellrock: {{ syslog: {{ {text} }} }}").start(wait=False)
        assert server.process.wait(20) != 0
        assert words in server.log()


def test_what_is_cut_is_told_and_counted(server):
    attributes = [{"key": f"k{at}", "value": {"stringValue": "v"}} for at in range(300)]
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": "x" * 300_000}, "attributes": attributes, "droppedAttributesCount": 5}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "large"}}]}
    body = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
    told = requests.post(f"{server.url}/v1/logs", json=body, timeout=10).json()["partialSuccess"]
    assert told["rejectedLogRecords"] == "0" and "1 lines were cut" in told["errorMessage"] and "attributes were left out" in told["errorMessage"]
    line = {"streams": [{"stream": {"app": "large"}, "values": [[str(time.time_ns()), "y" * 300_000]]}]}
    answer = requests.post(f"{server.url}/loki/api/v1/push", json=line, timeout=10)
    assert answer.status_code == 204 and "1 lines were cut" in answer.headers["x-bellrock-warning"]
    rows = server.sql("SELECT attr(attributes, 'bellrock.cut_from_bytes') AS cut, attr(attributes, 'bellrock.dropped_attributes') AS dropped FROM logs WHERE body LIKE 'x%'")
    assert [(str(row["cut"]), str(row["dropped"])) for row in rows] == [("300000", "179")]
    metrics = requests.get(f"{server.url}/metrics", timeout=10).text
    assert 'bellrock_record_parts_cut_total{reason="line_too_long"} 2' in metrics
    assert 'bellrock_record_parts_cut_total{reason="too_many_attributes"} 179' in metrics
    assert "bellrock_event_attributes_dropped_total 0" in metrics, "nothing is left for the store to drop"


def test_lines_tell_what_their_senders_do_not(make_server):
    server = make_server(config="bellrock: { logs: { parse_json: true, find_trace_ids: true, take_time: true } }").start()
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    then = time.time() - 1800
    stamp = datetime.fromtimestamp(then, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    told = [json.dumps({"message": "paid", "level": "error", "time": stamp, "trace_id": trace, "order": {"id": 7}}), f"{stamp} WARN trace_id={trace} span_id={span} late"]
    push = {"streams": [{"stream": {"app": "shop"}, "values": [[str(time.time_ns()), line] for line in told]}]}
    assert requests.post(f"{server.url}/loki/api/v1/push", json=push, timeout=10).status_code == 204

    def check():
        rows = server.sql(f"SELECT body, severity, ts FROM logs WHERE trace_id = '{trace}' ORDER BY body")
        assert [(row["body"], row["severity"]) for row in rows] == [(told[1], 13), ("paid", 17)]
        assert all(str(row["ts"])[:13] == stamp[:13].replace("T", str(row["ts"])[10]) for row in rows), rows
        assert lines(server, '{app="shop"} | order_id="7"') == ["paid"]
        return True

    assert check()
    # Without the setting what is read back from the journal is still what it was.
    server.kill()
    server.config.write_text("{}")
    server.start()
    eventually(check)


def test_a_traceback_in_messages_is_one_record(make_server):
    server, ports = syslog_server(make_server)
    traceback = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "    g()", "ValueError: bad"]
    with socket.create_connection(("127.0.0.1", ports["tcp"])) as stream:
        now = datetime.now(timezone.utc)
        for line in traceback:
            stream.sendall(f"<11>{now:%b} {now.day:2} {now:%H:%M:%S} web shop[7]: {line}\n<14>{now:%b} {now.day:2} {now:%H:%M:%S} web cart[8]: paid\n".encode())
            time.sleep(0.25)
        eventually(lambda: lines(server, '{service_name="shop"}') == ["\n".join(traceback)])
    assert lines(server, '{service_name="cart"}') == ["paid"] * 4
