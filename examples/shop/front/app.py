"""The shop's front: catalogue and orders. FastAPI, SQLAlchemy, httpx.

Observed as its authors would do it with any other tool: prometheus_client in a middleware, the OpenTelemetry SDK with the
OTLP exporter, structlog as JSON on stdout, sentry-sdk for errors.
"""

import json
import os
import random
import time
from contextlib import asynccontextmanager

import httpx
import sentry_sdk
import structlog
from fastapi import FastAPI, HTTPException, Request, Response
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.propagate import inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel
from sqlalchemy import create_engine, text

VERSION = "2.4.1"
PAYMENTS_URL = os.environ.get("PAYMENTS_URL", "http://127.0.0.1:8102")
DATABASE = os.environ.get("SHOP_DATABASE", "shop.db")
FAULTS = os.environ.get("SHOP_FAULTS", "")

resource = Resource.create(
    {"service.name": "shop-front", "service.version": VERSION, "deployment.environment.name": "demo"}
)
provider = TracerProvider(resource=resource)
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=1000))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop.front")

sentry_sdk.init(release=f"shop-front@{VERSION}", environment="demo", server_name="shop-front")
sentry_sdk.set_tag("service", "shop-front")


def add_trace_ids(_logger, _method, event):
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
        event["span_id"] = format(context.span_id, "016x")
    return event


structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_trace_ids,
        structlog.processors.dict_tracebacks,
        structlog.processors.JSONRenderer(),
    ]
)
log = structlog.get_logger()

REQUESTS = Counter("http_requests_total", "Requests by method, path and status.", ["method", "path", "status"])
LATENCY = Histogram(
    "http_request_duration_seconds",
    "Time to answer.",
    ["method", "path"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
IN_PROGRESS = Gauge("http_requests_in_progress", "Requests being answered.")
ORDERS = Counter("shop_orders_total", "Orders by outcome.", ["outcome"])

engine = create_engine(f"sqlite:///{DATABASE}", connect_args={"timeout": 10})
SQLAlchemyInstrumentor().instrument(engine=engine)
HTTPXClientInstrumentor().instrument()

PRODUCTS = [
    (1, "Lamp oil, 1 gal", 1250),
    (2, "Brass reflector", 48000),
    (3, "Fog bell", 96000),
    (4, "Signal flag set", 7300),
    (5, "Chart of the Forth", 2200),
]


def prepare_database():
    with engine.begin() as connection:
        connection.execute(text("PRAGMA journal_mode=WAL"))
        connection.execute(text("CREATE TABLE IF NOT EXISTS products (id INTEGER PRIMARY KEY, name TEXT, cents INTEGER)"))
        connection.execute(
            text(
                "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, payload TEXT,"
                " traceparent TEXT, created REAL, done REAL)"
            )
        )
        for row in PRODUCTS:
            connection.execute(
                text("INSERT OR IGNORE INTO products VALUES (:id, :name, :cents)"),
                {"id": row[0], "name": row[1], "cents": row[2]},
            )


def fault(name):
    """What the demo's script has broken just now."""
    try:
        with open(FAULTS) as file:
            return json.load(file).get(name)
    except (OSError, ValueError):
        return None


@asynccontextmanager
async def lifespan(_app):
    prepare_database()
    log.info("front started", version=VERSION, payments=PAYMENTS_URL)
    yield
    provider.shutdown()


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def measure(request: Request, call_next):
    started = time.perf_counter()
    IN_PROGRESS.inc()
    status = 500
    try:
        response = await call_next(request)
        status = response.status_code
        return response
    finally:
        IN_PROGRESS.dec()
        route = request.scope.get("route")
        path = route.path if route else "unmatched"
        if path != "/metrics":
            span = trace.get_current_span().get_span_context()
            exemplar = {"trace_id": format(span.trace_id, "032x")} if span.is_valid else None
            REQUESTS.labels(request.method, path, str(status)).inc(exemplar=exemplar)
            LATENCY.labels(request.method, path).observe(time.perf_counter() - started, exemplar=exemplar)


class Order(BaseModel):
    user_id: str
    product_id: int
    quantity: int = 1


@app.get("/metrics")
def metrics(request: Request):
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), media_type=content_type)


@app.get("/products")
def products():
    delay = fault("slow_query_ms")
    with engine.connect() as connection:
        if delay:
            # A query whose plan went bad: the same answer, much later.
            with tracer.start_as_current_span("SELECT shop.db products (full scan)") as span:
                span.set_attribute("db.query.plan", "SCAN products")
                time.sleep(delay / 1000 * random.uniform(0.8, 1.2))
        rows = connection.execute(text("SELECT id, name, cents FROM products ORDER BY id")).all()
    if delay:
        log.warning("slow query", query="products", rows=len(rows), delay_ms=delay)
    return [{"id": row.id, "name": row.name, "cents": row.cents} for row in rows]


@app.get("/products/{product_id}")
def product(product_id: int):
    with engine.connect() as connection:
        row = connection.execute(text("SELECT id, name, cents FROM products WHERE id = :id"), {"id": product_id}).first()
    if row is None:
        log.info("no such product", product_id=product_id)
        raise HTTPException(404, "no such product")
    return {"id": row.id, "name": row.name, "cents": row.cents}


@app.post("/checkout")
async def checkout(order: Order):
    trace.get_current_span().set_attribute("user.id", order.user_id)
    item = product(order.product_id)
    amount = item["cents"] * order.quantity
    structlog.contextvars.bind_contextvars(user_id=order.user_id)
    async with httpx.AsyncClient(timeout=3) as client:
        answer = await client.post(
            f"{PAYMENTS_URL}/charge", json={"user_id": order.user_id, "cents": amount, "card": "4242 4242 4242 4242"}
        )
    if answer.status_code != 200:
        ORDERS.labels("failed").inc()
        log.error("payment failed", status=answer.status_code, cents=amount, product_id=order.product_id)
        raise RuntimeError(f"payment service answered {answer.status_code}")
    carrier = {}
    inject(carrier)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO jobs (kind, payload, traceparent, created) VALUES ('ship', :payload, :parent, :now)"),
            {
                "payload": json.dumps({"user_id": order.user_id, "product_id": order.product_id}),
                "parent": carrier.get("traceparent", ""),
                "now": time.time(),
            },
        )
    ORDERS.labels("placed").inc()
    log.info("order placed", cents=amount, product_id=order.product_id, quantity=order.quantity)
    return {"status": "placed", "cents": amount}


FastAPIInstrumentor.instrument_app(app, excluded_urls="/metrics")
