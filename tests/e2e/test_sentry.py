"""The stock sentry-sdk."""

import sentry_sdk
from bellrock_server import eventually
from sentry_sdk.transport import HttpTransport


def client(server, **options):
    dsn = f"http://public@127.0.0.1:{server.ports['http']}/1"
    sentry_sdk.init(dsn=dsn, release="shop@2.1", environment="test", default_integrations=True, **options)


def fail(order):
    total = {"a": 1}
    return total[order]


def test_errors_become_one_issue_with_frames(server):
    client(server)
    for order in ("b", "c"):
        try:
            fail(order)
        except KeyError:
            sentry_sdk.capture_exception()
    sentry_sdk.capture_message("cache is cold", level="warning")
    sentry_sdk.flush()

    issues = eventually(lambda: (found := server.get("/bellrock/v1/issues")["issues"]) and len(found) == 2 and found)
    by_type = {issue["type"]: issue for issue in issues}
    issue = by_type["KeyError"]
    assert issue["count"] == 2 and issue["status"] == "open" and issue["release"] == "shop@2.1"
    assert "fail" in issue["culprit"]
    assert any("cache is cold" in issue["title"] for issue in issues)

    detail = server.get(f"/bellrock/v1/issues/{issue['id']}")
    assert len(detail["events"]) == 2
    event = detail["events"][0]
    frames = event["exceptions"][-1]["frames"]
    assert frames[-1]["function"] == "fail" and frames[-1]["in_app"] and "total[order]" in frames[-1]["context_line"]
    assert event["environment"] == "test"

    assert server.post(f"/bellrock/v1/issues/{issue['id']}", {"status": "resolved"})["status"] == "resolved"
    assert len(server.get("/bellrock/v1/issues", status="open")["issues"]) == 1
    rows = server.sql("SELECT count(*) AS n FROM errors")
    assert rows[0]["n"] == 3


def checkout(tracer, order):
    with tracer.start_as_current_span("charge"):
        return fail(order)


def test_the_same_exception_through_an_opentelemetry_span_is_one_issue(server):
    """The spans see it at two heights, sentry-sdk at the outermost, and all in one trace: one raise, one issue."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    client(server)
    provider = TracerProvider(resource=Resource.create({"service.name": "shop", "service.version": "2.1"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{server.otlp_http}/v1/traces")))
    tracer = provider.get_tracer("test")
    trace_ids = []
    for order in ("b", "c"):
        with sentry_sdk.isolation_scope():
            try:
                with tracer.start_as_current_span("GET /checkout") as span:
                    context = span.get_span_context()
                    trace_ids.append(format(context.trace_id, "032x"))
                    # What sentry-sdk's OTLP integration does: its events carry the ids of the span.
                    sentry_sdk.continue_trace({"sentry-trace": f"{trace_ids[-1]}-{context.span_id:016x}-1"})
                    checkout(tracer, order)
            except KeyError:
                sentry_sdk.capture_exception()
    sentry_sdk.flush()
    provider.shutdown()

    rows = eventually(lambda: (rows := server.sql("SELECT error_group FROM errors")) and len(rows) == 6 and rows)

    def counted():
        issues = server.get("/bellrock/v1/issues")["issues"]
        assert [(issue["type"], issue["service"], issue["count"]) for issue in issues] == [("KeyError", "shop", 2)], issues
        return issues

    # Two raises, each told three times. The inner span's report comes first and is taken back when the outer ones come.
    found = eventually(counted)
    assert found[0]["id"] in {row["error_group"] for row in rows}

    detail = server.get(f"/bellrock/v1/issues/{found[0]['id']}")
    assert "KeyError in" in detail["grouping"] and "test_sentry.fail" in detail["grouping"], detail["grouping"]
    told = {event["trace_id"] for event in detail["events"]}
    assert told == set(trace_ids)
    assert {bool(event["exceptions"][-1]["frames"][-1]["module"]) for event in detail["events"]} == {True, False}, "by both"


def test_transactions_become_traces(server):
    client(server, traces_sample_rate=1.0)
    with sentry_sdk.start_transaction(op="http.server", name="GET /orders") as transaction:
        with sentry_sdk.start_span(op="db", name="SELECT orders"):
            pass
        trace_id = transaction.trace_id
    sentry_sdk.flush()
    trace = eventually(lambda: (found := server.get(f"/bellrock/v1/traces/{trace_id}")) and len(found["spans"]) == 2 and found)
    assert {span["name"] for span in trace["spans"]} >= {"GET /orders"}


def test_unknown_items_are_kept_and_counted(server):
    import requests

    envelope = b'{"event_id":"9ec79c33ec9942ab8353589fcb2e04dc"}\n{"type":"hologram","length":5}\nhello\n'
    answer = requests.post(f"{server.url}/api/1/envelope/", data=envelope, headers={"X-Sentry-Auth": "Sentry sentry_key=public"}, timeout=10)
    assert answer.status_code == 200, answer.text
    metrics = requests.get(f"{server.url}/metrics", timeout=10).text
    counted = [line for line in metrics.splitlines() if "hologram" in line and not line.startswith("#")]
    assert counted and counted[0].endswith(" 1"), metrics[:2000]


def test_garbage_is_refused_with_the_reason(server):
    import requests

    answer = requests.post(f"{server.url}/api/1/envelope/", data=b"not an envelope", headers={"X-Sentry-Auth": "Sentry sentry_key=public"}, timeout=10)
    assert answer.status_code == 400 and len(answer.text) > 10
    assert HttpTransport is not None
