"""The payment service: Flask, metrics on a port of their own, the stdlib's logging as JSON."""

import json
import logging
import os
import random
import sys
import time

import sentry_sdk
from flask import Flask, jsonify, request
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import Counter, Enum, Histogram, start_http_server
from pythonjsonlogger.json import JsonFormatter

VERSION = "1.9.0"
FAULTS = os.environ.get("SHOP_FAULTS", "")

resource = Resource.create(
    {"service.name": "shop-payments", "service.version": VERSION, "deployment.environment.name": "demo"}
)
provider = TracerProvider(resource=resource)
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=1000))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop.payments")

sentry_sdk.init(release=f"shop-payments@{VERSION}", environment="demo", server_name="shop-payments")
sentry_sdk.set_tag("service", "shop-payments")


class TraceIds(logging.Filter):
    def filter(self, record):
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = format(context.trace_id, "032x")
            record.span_id = format(context.span_id, "016x")
        return True


handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
handler.addFilter(TraceIds())
logging.basicConfig(level=logging.INFO, handlers=[handler])
logging.getLogger("werkzeug").setLevel(logging.WARNING)
log = logging.getLogger("shop.payments")

CHARGES = Counter("payments_charges_total", "Charges by outcome.", ["outcome"])
PROVIDER_LATENCY = Histogram("payments_provider_seconds", "Time that the provider took.")
PROVIDER = Enum("payments_provider_state", "What we think of the provider.", states=["up", "degraded", "down"])

app = Flask(__name__)
FlaskInstrumentor().instrument_app(app)


class ProviderUnavailable(Exception):
    """The payment provider does not answer."""


def fault(name):
    try:
        with open(FAULTS) as file:
            return json.load(file).get(name)
    except (OSError, ValueError):
        return None


def call_provider(cents):
    with tracer.start_as_current_span("provider.charge", kind=trace.SpanKind.CLIENT) as span:
        span.set_attribute("peer.service", "acme-pay")
        span.set_attribute("payment.cents", cents)
        started = time.perf_counter()
        try:
            time.sleep(random.uniform(0.003, 0.012))
            if fault("provider_down"):
                PROVIDER.state("down")
                raise ProviderUnavailable("acme-pay answered 503 Service Unavailable")
            PROVIDER.state("up")
        finally:
            PROVIDER_LATENCY.observe(time.perf_counter() - started)


@app.post("/charge")
def charge():
    order = request.get_json()
    try:
        call_provider(order["cents"])
    except ProviderUnavailable:
        CHARGES.labels("failed").inc()
        log.exception("charge failed", extra={"user_id": order["user_id"], "cents": order["cents"], "provider": "acme-pay"})
        raise
    CHARGES.labels("ok").inc()
    log.info("charged", extra={"user_id": order["user_id"], "cents": order["cents"]})
    return jsonify(status="ok")


if __name__ == "__main__":
    start_http_server(int(os.environ.get("METRICS_PORT", "8112")), addr="127.0.0.1")
    log.info("payments started")
    app.run("127.0.0.1", int(os.environ.get("PORT", "8102")), threaded=True)
