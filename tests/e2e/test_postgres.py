"""SQL over PostgreSQL's protocol: psql, psycopg, psycopg2, SQLAlchemy and pandas as they are."""

import datetime
import shutil
import socket
import struct
import subprocess
import threading
import time
from contextlib import closing

import pandas
import psycopg
import psycopg2
import pytest
import requests
import sqlalchemy
from bellrock_server import eventually

TOKENS = """
bellrock:
  auth:
    tokens:
      - { name: sender-one, tenant: 1, role: ingest, token: ingest-one-0123456789 }
      - { name: reader-one, tenant: 1, role: viewer, token: viewer-one-0123456789 }
      - { name: reader-two, tenant: 2, role: viewer, token: viewer-two-0123456789 }
"""
MILLION = "SELECT a.value * 1000 + b.value AS n, repeat('x', 40) AS text FROM generate_series(0, {}) a CROSS JOIN generate_series(0, 999) b"


def port(server):
    return server.ports["postgres"]


def address(server, password="any"):
    return f"host=127.0.0.1 port={port(server)} user=ana password={password} dbname=bellrock"


def connect(server, password="any", **options):
    return psycopg.connect(address(server, password), autocommit=True, **options)


def push(server, token=None, lines=("first", "second; it's \"quoted\"", "Grüße")):
    now = time.time_ns()
    values = [[str(now + at), line, {"code": str(at)}] for at, line in enumerate(lines)]
    body = {"streams": [{"stream": {"service_name": "shop"}, "values": values}]}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    assert requests.post(f"{server.url}/loki/api/v1/push", json=body, headers=headers, timeout=10).status_code == 204
    return now


def engine(server, driver):
    return sqlalchemy.create_engine(f"postgresql+{driver}://ana:any@127.0.0.1:{port(server)}/bellrock")


def rss_bytes(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def refusal(connection, statement, parameters=None):
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement, parameters)
    return caught.value.sqlstate


def test_types_in_text_and_binary(server):
    now = push(server)
    query = """SELECT ts, body, attributes, severity_text IS NULL AS is_null, true AS yes, 7 AS whole, 0.5 AS half, NULL AS nothing,
               CAST('2024-02-29' AS DATE) AS day, CAST(12345678.91 AS DECIMAL(20, 2)) AS price, ARRAY[1, 2] AS list
               FROM logs ORDER BY ts"""
    with connect(server) as connection:
        rows = {}
        for binary in (False, True):
            rows[binary] = eventually(lambda: len(got := connection.execute(query, binary=binary).fetchall()) == 3 and got)
        assert rows[False] == rows[True]
        ts, body, attributes, is_null, yes, whole, half, nothing, day, price, listed = rows[True][1]
        moment = datetime.datetime.fromtimestamp(now // 1000 / 1e6, datetime.timezone.utc)
        assert abs(ts - moment) < datetime.timedelta(microseconds=5)
        assert body == "second; it's \"quoted\"" and rows[True][2][1] == "Grüße"
        assert attributes["code"] == "1"
        assert (is_null, yes, whole, half, nothing) in [(True, True, 7, 0.5, None), (False, True, 7, 0.5, None)]
        assert day == datetime.date(2024, 2, 29) and str(price) == "12345678.91" and listed == [1, 2]
        names = [(column.name, column.type_code) for column in connection.execute(query).description]
        assert names[:3] == [("ts", 1184), ("body", 25), ("attributes", 114)]


def test_parameters(server):
    now = push(server)
    with connect(server) as connection:
        eventually(lambda: connection.execute("SELECT count(*) FROM logs").fetchone() == (3,))
        one = lambda sql, *parameters: connection.execute(sql, parameters).fetchone()[0]
        assert one("SELECT count(*) FROM logs WHERE body = %s", "second; it's \"quoted\"") == 1
        assert one("SELECT count(*) FROM logs WHERE body = %s", "' OR '1'='1") == 0
        since = datetime.datetime.fromtimestamp(now / 1e9 - 60, datetime.timezone.utc)
        for mark in ("%s", "%b", "%t"):
            assert one(f"SELECT count(*) FROM logs WHERE ts >= {mark}", since) == 3
            assert one(f"SELECT count(*) FROM logs WHERE ts >= {mark}", since + datetime.timedelta(hours=1)) == 0
            assert one(f"SELECT {mark} + 1", 41) == 42
            assert one(f"SELECT {mark} * 2.0", -0.25) == -0.5
            assert one(f"SELECT NOT {mark}", True) is False
        assert one("SELECT coalesce(%s, 'none')", None) == "none"
        assert len(connection.execute("SELECT body FROM logs LIMIT %s", [2]).fetchall()) == 2
        # Prepared on the server after a few runs.
        for at in range(12):
            assert connection.execute("SELECT %s::BIGINT * 2", [at], prepare=True).fetchone() == (2 * at,)
        assert refusal(connection, "SELECT * FROM logs LIMIT %s", ["many"]) is not None


def test_errors_have_their_codes(server):
    with connect(server) as connection:
        for statement, state in [
            ("SELEC 1", "42601"),
            ("SELECT * FROM nowhere", "42P01"),
            ("SELECT nothing FROM logs", "42703"),
            ("SELECT no_such_function(1)", "42883"),
            ("INSERT INTO logs VALUES (1)", "25006"),
            ("UPDATE logs SET body = 'x'", "25006"),
            ("CREATE TABLE t (a int)", "25006"),
            ("WITH x AS (SELECT 1) INSERT INTO logs SELECT * FROM x", "25006"),
            ("SELECT '" + "x" * 70_000 + "'", "54000"),
        ]:
            assert refusal(connection, statement) == state, statement
        with pytest.raises(psycopg.Error) as caught:
            with connection.cursor() as cursor:
                cursor.copy("COPY logs FROM STDIN").__enter__()
        assert caught.value.sqlstate == "25006"
        with pytest.raises(psycopg.errors.SyntaxError) as caught:
            connection.execute("SELECT 1\nFROM logs WHERE )")
        assert caught.value.diag.statement_position
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_transactions_as_drivers_keep_them(server):
    with psycopg.connect(address(server)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT * FROM nowhere")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        with connection.transaction(), pytest.raises(psycopg.Error), connection.transaction():
            connection.execute("SELECT * FROM nowhere")
        assert connection.execute("SHOW transaction_read_only").fetchone() == ("on",)
        # Rows of a cursor in pieces.
        with connection.cursor("pieces") as cursor:
            cursor.itersize = 1000
            cursor.execute("SELECT value FROM generate_series(1, 25000)")
            assert [value for (value,) in cursor] == list(range(1, 25_001))


def test_psql(server):
    if not shutil.which("psql"):
        pytest.skip("psql is not installed")
    push(server)

    def psql(command, status=0):
        ran = subprocess.run(["psql", "-X", "-A", "-t", address(server), "-c", command], capture_output=True, text=True, timeout=30)
        assert ran.returncode == status, ran.stderr
        return ran.stdout if status == 0 else ran.stderr

    assert eventually(lambda: psql("SELECT body FROM logs WHERE body LIKE 'f%'")) == "first\n"
    assert psql("SELECT 1; SELECT NULL, false") == "1\n|f\n"
    assert "logs" in psql("\\dt") and "metrics" in psql("\\d")
    for table, column in (("logs", "body|text"), ("spans", "name|text"), ("metrics", "value|double precision")):
        assert column in psql(f"\\d {table}"), table
        assert psql(f"\\d+ {table}")
    assert "bellrock" in psql("\\l") and "public" in psql("\\dn+") and "logs" in psql("\\dp") + psql("\\dt+")
    for nothing in ("\\di", "\\dv", "\\df", "\\du"):
        psql(nothing)
    assert psql("SELECT NULL, NULL UNION ALL SELECT 1, 1 ORDER BY 1") == "1|1\n|\n"
    assert "No field named nothing" in psql("SELECT nothing FROM logs", 1)


def test_lists_are_parameters(server):
    push(server)
    with connect(server) as connection:

        def count(condition, value):
            return connection.execute(f"SELECT count(*) FROM logs WHERE {condition}", (value,)).fetchone()[0]

        eventually(lambda: count("body = ANY(%s)", ["first", "no, such", 'a "quote"']) == 1)
        assert count("body <> ALL(%s)", ["first"]) == 2 and count("severity = ANY(%s)", [1, 9]) + count("severity <> ALL(%s)", [1, 9]) == 3
        with pytest.raises(psycopg.Error, match="no list"):
            count("body = ANY(%s)", "first")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_sqlalchemy_and_pandas(server, driver):
    push(server)
    database = engine(server, driver)
    with closing(database.connect()) as connection:
        query = sqlalchemy.text("SELECT ts, body FROM logs WHERE body <> :body AND ts > :since ORDER BY ts")
        since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
        parameters = {"body": "first", "since": since}
        eventually(lambda: len(connection.execute(query, parameters).all()) == 2)
        frame = pandas.read_sql(query, connection, params=parameters)
        assert list(frame.body) == ["second; it's \"quoted\"", "Grüße"]
        assert str(frame.ts.dtype).startswith("datetime64")
        chunks = pandas.read_sql(sqlalchemy.text("SELECT value FROM generate_series(1, 5000)"), connection.execution_options(stream_results=True), chunksize=1000)
        assert [len(chunk) for chunk in chunks] == [1000] * 5
        inspector = sqlalchemy.inspect(database)
        assert {"logs", "spans", "metrics"} <= set(inspector.get_table_names())
        types = {column["name"]: str(column["type"]) for column in inspector.get_columns("logs")}
        assert (types["body"], types["severity"]) == ("TEXT", "SMALLINT") and types["ts"].startswith("TIMESTAMP")
        assert inspector.get_indexes("logs") == [] and inspector.get_pk_constraint("logs")["constrained_columns"] == []
        assert list(pandas.read_sql_table("logs", connection, columns=["body"]).body)[0] == "first"
        table = sqlalchemy.Table("logs", sqlalchemy.MetaData(), autoload_with=database)
        found = connection.execute(sqlalchemy.select(table.c.body).where(table.c.body.in_(["first", "none"]))).all()
        assert [row.body for row in found] == ["first"]
    database.dispose()


def test_the_password_decides(make_server):
    server = make_server(config=TOKENS).start()
    push(server, "ingest-one-0123456789")
    count = lambda token: connect(server, token).execute("SELECT count(*) FROM logs").fetchone()[0]
    eventually(lambda: count("viewer-one-0123456789") == 3)
    assert count("viewer-two-0123456789") == 0
    for token, state in [("wrong-one-0123456789", "28P01"), ("ingest-one-0123456789", "28000")]:
        with pytest.raises(psycopg.OperationalError) as caught:
            connect(server, token)
        assert "token" in str(caught.value) or "role is ingest" in str(caught.value)
        assert raw_state(server, token) == state


def packet(body, kind=b""):
    return kind + struct.pack(">I", len(body) + 4) + body


STARTUP = packet(struct.pack(">I", 3 << 16) + b"user\0ana\0\0")


def raw_state(server, password):
    """The SQLSTATE of a refused password: libpq does not hand it on."""
    with socket.create_connection(("127.0.0.1", port(server)), 10) as stream:
        stream.sendall(STARTUP + packet(password.encode() + b"\0", b"p"))
        answer = b""
        while more := stream.recv(4096):
            answer += more
    return answer.split(b"\0C", 1)[1].split(b"\0", 1)[0].decode()


def test_cancel_and_timeouts(server):
    slow = "SELECT count(*) FROM generate_series(1, 100000000) a CROSS JOIN generate_series(1, 100000) b"
    with connect(server) as connection:
        threading.Timer(0.5, connection.cancel_safe).start()
        began = time.monotonic()
        assert refusal(connection, slow) == "57014"
        connection.execute("SET statement_timeout = '300ms'")
        assert refusal(connection, slow) == "57014"
        assert time.monotonic() - began < 15
        connection.execute("RESET statement_timeout")
        assert connection.execute("SELECT 1").fetchone() == (1,)
    metrics = lambda: requests.get(f"{server.url}/metrics", timeout=10).text
    eventually(lambda: "bellrock_postgres_cancelled_total 2" in metrics())
    eventually(lambda: "bellrock_queries_overdue 0" in metrics())


def test_many_rows_are_streamed(server):
    with connect(server) as connection:
        connection.execute(MILLION.format(9)).fetchone()
        before, most, rows = rss_bytes(server), 0, 0
        for row in connection.cursor().stream(MILLION.format(999)):
            rows += 1
            if rows % 50_000 == 0:
                most = max(most, rss_bytes(server))
        assert rows == 1_000_000
        print(f"{(most - before) >> 20} MiB more for a million rows")
        assert most - before < 100 << 20


def test_noise_does_no_harm(server):
    noise = [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\xff" * 100, STARTUP[:10], packet(b"\0\0\0\0"), STARTUP + b"\x01\x02\x03", STARTUP + packet(b"SELECT 1", b"Q"), STARTUP + b"Q\x7f\xff\xff\xff", STARTUP + packet(b"\xff\xfe\0", b"Q"), STARTUP + packet(b"\0", b"B"), packet(struct.pack(">III", 80877102, 1, 2))]
    kept = []
    for words in noise:
        stream = socket.create_connection(("127.0.0.1", port(server)), 10)
        stream.sendall(words)
        kept.append(stream)
    with connect(server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    # Half a startup message is given ten seconds, no more.
    kept[3].settimeout(20)
    answer = b""
    while more := kept[3].recv(4096):
        answer += more
    assert b"08P01" in answer
    for stream in kept:
        stream.close()
    eventually(lambda: "bellrock_postgres_connections 0" in requests.get(f"{server.url}/metrics", timeout=10).text)
