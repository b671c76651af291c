//! Which handler answers a request: axum routes, over one table.
//!
//! The table states for each operation its method, its path, the body that it takes and
//! its handler. Axum finds the operation; [`dispatch`] reads the body within the
//! operation's bounds, runs the handler and records what came of it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter};
use futures::future::BoxFuture;
use http::Method;
use metrics::{Counter, Histogram};

use super::call::Call;
use super::dispatch::dispatch;
use super::reply::Outcome;
use crate::edge::Edge;
use crate::metrics::{HTTP_DURATION, HTTP_REQUESTS};

/// The base path, and its permanent alias.
pub(crate) const BASES: [&str; 2] = ["/api/v1/consensus", "/api/consensus"];

/// The most bytes of a body.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of a batch.
pub(crate) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// What answers a request.
pub(crate) type Handler = for<'a> fn(&'a Call) -> BoxFuture<'a, Outcome>;

/// The body that an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyRule {
    /// None; one that comes is not read.
    Nothing,
    /// JSON of at most this many bytes.
    Json(usize),
    /// JSON of at most this many bytes, or nothing.
    OptionalJson(usize),
}

/// One operation.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// Its path below a base, or below the root.
    pub(crate) path: &'static str,
    pub(crate) under: Under,
    pub(crate) body: BodyRule,
    pub(crate) patience: Patience,
    pub(crate) handler: Handler,
}

/// How long an answer may take to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as the operator allows requests.
    Request,
    /// As long as reading all of the state may take.
    WholeState,
}

/// Where a route's path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Under {
    /// At both base paths.
    Base,
    /// At the root.
    Root,
}

/// A route with what it records about itself.
pub(crate) struct Operation {
    pub(crate) route: Route,
    duration: Histogram,
    requests: [OnceLock<Counter>; STATUSES.len()],
}

/// The statuses that answers have; one that is missing here is counted all the same, at
/// the cost of a look-up.
const STATUSES: [u16; 19] = [
    200, 201, 204, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503, 504, 507, 101,
];

impl Operation {
    fn new(route: Route) -> Self {
        let duration =
            HTTP_DURATION.with([("method", route.method.as_str()), ("route", route.path)]);
        Self {
            route,
            duration,
            requests: [const { OnceLock::new() }; STATUSES.len()],
        }
    }

    /// Records an answer.
    pub(crate) fn record(&self, status: u16, seconds: f64) {
        self.duration.record(seconds);
        let counter = || count(self.route.method.as_str(), self.route.path, status);
        match STATUSES.iter().position(|known| *known == status) {
            Some(place) => self.requests[place].get_or_init(counter).increment(1),
            None => counter().increment(1),
        }
    }
}

/// The counter of answers of one kind.
pub(crate) fn count(method: &str, route: &str, status: u16) -> Counter {
    let status = status.to_string();
    HTTP_REQUESTS.with([("method", method), ("route", route), ("status", &status)])
}

/// Whether the connection closes after the answer.
#[derive(Clone, Copy)]
pub(crate) struct Last(pub(crate) bool);

/// Every operation as a route of axum's, at each of its paths.
pub(crate) fn app(edge: Arc<Edge>, routes: Vec<Route>) -> axum::Router {
    let mut paths: BTreeMap<(Under, &'static str), MethodRouter<Arc<Edge>>> = BTreeMap::new();
    for route in routes {
        let methods = paths.remove(&(route.under, route.path)).unwrap_or_default();
        let key = (route.under, route.path);
        paths.insert(key, serve_operation(methods, Operation::new(route)));
    }
    let mut app = axum::Router::new();
    for ((under, path), methods) in paths {
        let bases: &[&str] = match under {
            Under::Base => &BASES,
            Under::Root => &[""],
        };
        for base in bases {
            app = app.route(&format!("{base}{path}"), methods.clone());
        }
    }
    app.fallback(nowhere)
        .method_not_allowed_fallback(other_method)
        .with_state(edge)
}

/// GET answers HEAD as well, without the body (RFC 9110, section 9.3.2): axum and hyper see
/// to it.
fn serve_operation(
    methods: MethodRouter<Arc<Edge>>,
    operation: Operation,
) -> MethodRouter<Arc<Edge>> {
    let filter = MethodFilter::try_from(operation.route.method.clone())
        .expect("the table names common methods");
    let operation = Arc::new(operation);
    methods.on(
        filter,
        move |State(edge): State<Arc<Edge>>,
              Extension(last): Extension<Last>,
              params: Result<RawPathParams, RawPathParamsRejection>,
              request: Request| async move {
            match params {
                Ok(params) => {
                    let param = params.iter().next().map(|(_, text)| text.to_owned());
                    dispatch(edge, Target::Found(operation, param), request, last).await
                }
                // A path that is not UTF-8 names nothing.
                Err(_) => dispatch(edge, Target::Nothing, request, last).await,
            }
        },
    )
}

async fn nowhere(
    State(edge): State<Arc<Edge>>,
    Extension(last): Extension<Last>,
    request: Request,
) -> Response {
    dispatch(edge, Target::Nothing, request, last).await
}

async fn other_method(
    State(edge): State<Arc<Edge>>,
    Extension(last): Extension<Last>,
    request: Request,
) -> Response {
    dispatch(edge, Target::OtherMethod, request, last).await
}

/// Where a request leads.
pub(crate) enum Target {
    /// To an operation, with what stands in the place of its path's parameter.
    Found(Arc<Operation>, Option<String>),
    /// To a path that takes other methods, which axum names in `Allow`.
    OtherMethod,
    /// Nowhere.
    Nothing,
}
