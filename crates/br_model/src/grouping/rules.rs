//! What frames are about the way to the fault and not about the fault: the bundled rules of `br1`.
//!
//! A change here changes hashes, and so makes new issues of old ones: it belongs in a new version of the algorithm.

/// Libraries that call what they are given and add nothing of their own: retries, executors, event loops, instrumentation.
const WRAPPERS: [&str; 42] = [
    "_pytest",
    "aiojobs",
    "anyio",
    "asgiref.sync",
    "asyncio",
    "async_timeout",
    "backoff",
    "cachetools",
    "concurrent.futures",
    "contextlib",
    "ddtrace",
    "decorator",
    "elasticapm",
    "eventlet",
    "functools",
    "gevent",
    "greenlet",
    "importlib",
    "joblib",
    "logfire",
    "multiprocessing.pool",
    "multiprocessing.process",
    "nest_asyncio",
    "newrelic",
    "opentelemetry",
    "pluggy",
    "prometheus_client.context_managers",
    "prometheus_client.decorator",
    "retry",
    "retrying",
    "runpy",
    "sentry_sdk",
    "sniffio",
    "stamina",
    "starlette._exception_handler",
    "starlette._utils",
    "starlette.concurrency",
    "tenacity",
    "threading",
    "trio",
    "uvloop",
    "wrapt",
];

/// Where frameworks hand over to a route, a task or a command. What lies outside is middleware: it is the same for all.
const DISPATCHERS: [&str; 42] = [
    "aiohttp.web_app",
    "aiohttp.web_middlewares",
    "aiohttp.web_protocol",
    "aiohttp.web_urldispatcher",
    "apscheduler.executors",
    "arq.worker",
    "awslambdaric",
    "bottle",
    "celery.app.task",
    "celery.app.trace",
    "click.core",
    "django.core.handlers",
    "django.utils.deprecation",
    "django.views.generic.base",
    "dramatiq.worker",
    "falcon.app",
    "fastapi.applications",
    "fastapi.middleware",
    "fastapi.routing",
    "flask.app",
    "flask.views",
    "grpc._server",
    "grpc.aio._server",
    "gunicorn",
    "huey.api",
    "hypercorn",
    "litestar.middleware",
    "litestar.routes",
    "quart.app",
    "rest_framework.views",
    "rq.job",
    "rq.worker",
    "sanic.app",
    "starlette.applications",
    "starlette.middleware",
    "starlette.routing",
    "taskiq.receiver",
    "tornado.web",
    "typer.core",
    "typer.main",
    "uvicorn",
    "werkzeug",
];

/// What decorators call the function that they put around another.
const WRAPPER_FUNCTIONS: [&str; 14] = [
    "_inner",
    "_wrapped",
    "_wrapped_view",
    "_wrapper",
    "async_wrapper",
    "decorated",
    "decorated_function",
    "inner",
    "inner_wrapper",
    "sync_wrapper",
    "wrap",
    "wrapped",
    "wrapped_view",
    "wrapper",
];

/// Frames that Python 3.12 no longer has.
const COMPREHENSIONS: [&str; 3] = ["<dictcomp>", "<listcomp>", "<setcomp>"];

pub(super) fn is_wrapper(place: &str) -> bool {
    is_within(place, &WRAPPERS)
}

pub(super) fn is_dispatcher(place: &str) -> bool {
    is_within(place, &DISPATCHERS)
}

pub(super) fn is_wrapper_function(function: &str) -> bool {
    WRAPPER_FUNCTIONS.contains(&function)
}

pub(super) fn is_comprehension(function: &str) -> bool {
    COMPREHENSIONS.contains(&function)
}

fn is_within(place: &str, modules: &[&str]) -> bool {
    let is_in = |module: &&str| place.strip_prefix(*module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    modules.iter().any(is_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_match_whole_parts() {
        assert!(is_wrapper("asyncio") && is_wrapper("asyncio.base_events") && !is_wrapper("asyncio_helpers.x"));
        assert!(is_dispatcher("starlette.middleware.errors") && !is_dispatcher("starlette.datastructures"));
    }
}
