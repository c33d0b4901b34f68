//! The table of routes. Each declares the right that it needs; what is not in the table is denied.

use crate::app::App;
use crate::auth::refuse_cross_site;
use crate::error::ApiError;
use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use br_model::{Right, Role};
use br_std::Error;
use std::sync::Arc;

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub right: Right,
}

/// Collects routes with the rights they need.
pub(crate) struct Routes {
    app: Arc<App>,
    router: Router<Arc<App>>,
    table: Vec<Route>,
}

impl Routes {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app, router: Router::new(), table: Vec::new() }
    }

    pub(crate) fn get<H: Handler<T, Arc<App>>, T: 'static>(self, path: &'static str, right: Right, handler: H) -> Self {
        self.add(&Method::GET, path, right, handler)
    }

    pub(crate) fn post<H: Handler<T, Arc<App>>, T: 'static>(self, path: &'static str, right: Right, handler: H) -> Self {
        self.add(&Method::POST, path, right, handler)
    }

    /// The same handler for both, as Prometheus' admin calls have it.
    pub(crate) fn post_or_put<H: Handler<T, Arc<App>>, T: 'static>(self, path: &'static str, right: Right, handler: H) -> Self {
        self.post(path, right, handler.clone()).add(&Method::PUT, path, right, handler)
    }

    /// The same handler for GET and for POST with a form, as Prometheus' clients choose by length.
    pub(crate) fn get_or_form<H: Handler<T, Arc<App>>, T: 'static>(self, path: &'static str, right: Right, handler: H) -> Self {
        self.get(path, right, handler.clone()).post(path, right, handler)
    }

    pub(crate) fn add<H: Handler<T, Arc<App>>, T: 'static>(
        mut self,
        method: &Method,
        path: &'static str,
        right: Right,
        handler: H,
    ) -> Self {
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        let guard = middleware::from_fn_with_state((self.app.clone(), right), allow);
        let route: MethodRouter<Arc<App>> = on(filter, handler).layer(guard);
        self.router = self.router.route(path, route);
        self.table.push(Route { method: method.clone(), path, right });
        self
    }

    pub(crate) fn table(&self) -> &[Route] {
        &self.table
    }

    pub(crate) fn into_router(self) -> Router {
        self.router.with_state(self.app)
    }
}

/// Lets a request through when its principal has the right, and tells the handler who it is.
async fn allow(State((app, right)): State<(Arc<App>, Right)>, mut request: Request, next: Next) -> Response {
    if let Err(error) = refuse_cross_site(request.uri(), request.headers()) {
        return ApiError(error).into_response();
    }
    let sentry_key = if is_sentry_path(request.uri().path()) {
        let header = request.headers().get("x-sentry-auth").and_then(|value| value.to_str().ok());
        br_wire::sentry::key_of(header, request.uri().query())
    } else {
        None
    };
    let principal = match app.auth.principal(request.uri(), request.headers(), sentry_key.as_deref()) {
        Ok(principal) => principal,
        Err(error) => return ApiError(error).into_response(),
    };
    if !principal.role.may(right) {
        let error = Error::unauthorized(refusal(&principal.name, principal.role, right));
        return (axum::http::StatusCode::FORBIDDEN, ApiError(error)).into_response();
    }
    request.extensions_mut().insert(principal);
    next.run(request).await
}

fn refusal(name: &str, role: Role, right: Right) -> String {
    let (what, who) = match right {
        Right::Send => ("send data", "ingest"),
        Right::Read => ("read", "viewer"),
        Right::Respond => ("act on incidents and issues", "responder"),
        Right::Administer => ("administer", "admin"),
    };
    let role = format!("{role:?}").to_lowercase();
    format!("{name:?} may not {what}: its role is {role}, and this takes the role {who}")
}

/// Where the key of a DSN is a credential. Anywhere else one in an address would end in logs and histories.
fn is_sentry_path(path: &str) -> bool {
    let below = path.strip_prefix("/api/").and_then(|rest| rest.split_once('/'));
    below.is_some_and(|(_, call)| matches!(call.trim_end_matches('/'), "envelope" | "store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_dsns_count_on_their_own_paths() {
        assert!(is_sentry_path("/api/1/envelope/") && is_sentry_path("/api/1/store"));
        assert!(!is_sentry_path("/api/v1/status/config") && !is_sentry_path("/api/v1/envelope/x"));
    }
}
