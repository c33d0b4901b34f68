"""The shipping worker: takes jobs off a queue in the shop's database. Prints plain log lines, as workers do."""

import json
import logging
import os
import random
import sqlite3
import sys
import time

import sentry_sdk
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import Counter, Gauge, Summary, start_http_server

DATABASE = os.environ.get("SHOP_DATABASE", "shop.db")

provider = TracerProvider(
    resource=Resource.create(
        {"service.name": "shop-worker", "service.version": "0.7.3", "deployment.environment.name": "demo"}
    )
)
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=1000))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop.worker")
sentry_sdk.init(release="shop-worker@0.7.3", environment="demo", server_name="shop-worker")
sentry_sdk.set_tag("service", "shop-worker")

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s [%(name)s] %(message)s")
log = logging.getLogger("shop.worker")

JOBS = Counter("worker_jobs_total", "Jobs by kind and outcome.", ["kind", "outcome"])
WAITING = Gauge("worker_queue_waiting", "Jobs that wait.")
SECONDS = Summary("worker_job_seconds", "Time a job took.")


def take(connection):
    row = connection.execute(
        "SELECT id, kind, payload, traceparent, created FROM jobs WHERE done IS NULL ORDER BY id LIMIT 1"
    ).fetchone()
    waiting = connection.execute("SELECT COUNT(*) FROM jobs WHERE done IS NULL").fetchone()[0]
    WAITING.set(waiting)
    return row


def ship(job_id, payload):
    order = json.loads(payload)
    time.sleep(random.uniform(0.002, 0.02))
    if job_id % 53 == 0:
        raise ValueError(f"no carrier for the parcel of {order['user_id']}")
    log.info("shipped job=%s product=%s", job_id, order["product_id"])


def run_one(connection, row):
    job_id, kind, payload, parent, created = row
    context = extract({"traceparent": parent}) if parent else None
    with tracer.start_as_current_span(f"{kind} job", context=context, kind=trace.SpanKind.CONSUMER) as span, SECONDS.time():
        span.set_attribute("messaging.message.id", str(job_id))
        span.set_attribute("messaging.queue.wait_ms", int((time.time() - created) * 1000))
        outcome = "ok"
        try:
            ship(job_id, payload)
        except ValueError as error:
            outcome = "failed"
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, str(error))
            log.exception("job %s failed", job_id)
        JOBS.labels(kind, outcome).inc()
    connection.execute("UPDATE jobs SET done = ? WHERE id = ?", (time.time(), job_id))
    connection.commit()


def main():
    start_http_server(int(os.environ.get("METRICS_PORT", "8113")), addr="127.0.0.1")
    connection = sqlite3.connect(DATABASE, timeout=10)
    log.info("worker started")
    while True:
        try:
            row = take(connection)
        except sqlite3.OperationalError:
            row = None  # The front has not made the tables yet.
        if row is None:
            time.sleep(0.2)
        else:
            run_one(connection, row)


if __name__ == "__main__":
    main()
