"""The stock OpenTelemetry SDK over gRPC and HTTP: traces, metrics, logs."""

import logging
import time

import pytest
import requests
from bellrock_server import eventually
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

RESOURCE = Resource.create({"service.name": "otel-app", "service.version": "1.0"})


def exporters(server, protocol):
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        endpoint = {"endpoint": f"http://{server.grpc}", "insecure": True}
        return OTLPSpanExporter(**endpoint), OTLPMetricExporter(**endpoint), OTLPLogExporter(**endpoint)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    base = server.otlp_http if protocol == "http" else server.url
    compression = Compression.Gzip if protocol == "http" else Compression.NoCompression
    kinds = ((OTLPSpanExporter, "traces"), (OTLPMetricExporter, "metrics"), (OTLPLogExporter, "logs"))
    return tuple(kind(endpoint=f"{base}/v1/{path}", compression=compression) for kind, path in kinds)


@pytest.mark.parametrize("protocol", ["grpc", "http", "main-port"])
def test_all_three_signals(server, protocol):
    span_exporter, metric_exporter, log_exporter = exporters(server, protocol)
    traces = TracerProvider(resource=RESOURCE)
    traces.add_span_processor(SimpleSpanProcessor(span_exporter))
    tracer = traces.get_tracer("test")
    logs = LoggerProvider(resource=RESOURCE)
    logs.add_log_record_processor(SimpleLogRecordProcessor(log_exporter))
    logger = logs.get_logger("test")

    with tracer.start_as_current_span("GET /cart", kind=SpanKind.SERVER) as root:
        root.set_attribute("http.route", "/cart")
        root.set_attribute("http.response.status_code", 500)
        with tracer.start_as_current_span("SELECT cart") as child:
            child.set_attribute("db.rows", 3)
        try:
            raise KeyError("no such item")
        except KeyError as error:
            root.record_exception(error)
            root.set_status(StatusCode.ERROR, "no such item")
        emit(logger)
        trace_id = format(root.get_span_context().trace_id, "032x")
    traces.shutdown()
    logs.shutdown()

    trace = eventually(lambda: (found := server.get(f"/bellrock/v1/traces/{trace_id}")) and len(found["spans"]) == 2 and found)
    spans = {span["name"]: span for span in trace["spans"]}
    assert spans["SELECT cart"]["parent_span_id"] == spans["GET /cart"]["span_id"]
    assert spans["GET /cart"]["kind"] == "server" and spans["GET /cart"]["status"] == "error"
    assert spans["GET /cart"]["attributes"]["http.response.status_code"] == 500
    assert spans["GET /cart"]["resource"]["service.version"] == "1.0"
    assert spans["GET /cart"]["events"][0]["attributes"]["exception.type"] == "KeyError"

    lines = eventually(lambda: server.logql('{service_name="otel-app"} |= "checked out"'))
    assert lines[0][1] == "cart checked out"
    by_trace = server.logql(f'{{service_name="otel-app"}} | trace_id="{trace_id}"')
    assert len(by_trace) >= 1, "the record carries the trace it was written in"

    search = server.get("/bellrock/v1/traces", service="otel-app", attribute="http.route=/cart", status="error")["traces"]
    assert search[0]["trace_id"] == trace_id and search[0]["root_name"] == "GET /cart"
    assert server.get("/bellrock/v1/traces", service="otel-app", attribute="http.route=/nowhere")["traces"] == []
    assert server.get("/bellrock/v1/traces", service="otel-app", min_duration_ms="600000")["traces"] == []

    issues = eventually(lambda: server.get("/bellrock/v1/issues", service="otel-app")["issues"])
    assert issues[0]["type"] == "KeyError" and issues[0]["last_trace_id"] == trace_id

    metrics(metric_exporter)
    found = eventually(lambda: server.promql("orders_placed_total"))
    assert found[0][1] == 5 and found[0][0]["job"] == "otel-app" and found[0][0]["kind"] == "book"
    assert server.promql("http_server_duration_milliseconds_count")[0][1] == 2


def emit(logger):
    from opentelemetry._logs import LogRecord, SeverityNumber

    logger.emit(LogRecord(body="cart checked out", severity_number=SeverityNumber.INFO, severity_text="INFO", attributes={"items": 3}))


def metrics(exporter):
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)
    provider = MeterProvider(resource=RESOURCE, metric_readers=[reader])
    meter = provider.get_meter("test")
    meter.create_counter("orders.placed", description="Orders.").add(5, {"kind": "book"})
    histogram = meter.create_histogram("http.server.duration", unit="ms")
    histogram.record(12)
    histogram.record(120)
    provider.shutdown()


def test_the_stdlib_logger_through_the_sdk(server):
    exporter = exporters(server, "http")[2]
    provider = LoggerProvider(resource=RESOURCE)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    try:
        from opentelemetry.sdk._logs import LoggingHandler
    except ImportError:
        pytest.skip("this version of the SDK has no logging handler of its own")
    log = logging.getLogger("stdlib-test")
    log.setLevel(logging.INFO)
    handler = LoggingHandler(logger_provider=provider)
    log.addHandler(handler)
    log.warning("disk %s %% full", 91)
    log.removeHandler(handler)
    provider.shutdown()
    lines = eventually(lambda: server.logql('{service_name="otel-app"} |= "disk 91 % full"'))
    assert len(lines) == 1


def test_what_is_cut_is_counted(server):
    now = str(time.time_ns())
    attributes = [{"key": f"key-{at}", "value": {"stringValue": "v"}} for at in range(150)]
    attributes[0]["value"]["stringValue"] = "x" * 70_000
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "large", "startTimeUnixNano": now, "endTimeUnixNano": now, "attributes": attributes}
    answer = requests.post(f"{server.url}/v1/traces", json={"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}, timeout=10)
    assert answer.status_code == 200, answer.text
    part = lambda reason: f'bellrock_record_parts_cut_total{{reason="{reason}"}}'
    counts = {part("attribute_too_long"): 1, part("too_many_attributes"): 24, part("too_many_events_or_links"): 0, part("line_too_long"): 0,
              "bellrock_event_windows_joined_total": 0, "bellrock_spans_stored_total": 1}

    def counted():
        lines = requests.get(f"{server.url}/metrics", timeout=5).text.splitlines()
        return all(f"{name} {count}" in lines for name, count in counts.items())

    eventually(counted)
