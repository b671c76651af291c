//! From a request to its answer: routing, body, handler, and what is recorded about them.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_ledger::Principal;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt as _;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};

use super::body;
use super::call::Call;
use super::reply::{CommonHeaders, Outcome, Reply, X_REQUEST_ID};
use super::router::{Last, Operation, Patience, Target, count};
use crate::edge::Edge;
use crate::problem::Problem;

/// The longest request id that is taken from a client.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// How long an operation may take to read all of the state.
const WHOLE_STATE_TIMEOUT: Duration = Duration::from_secs(600);
/// What metrics call requests that lead nowhere, whatever their paths.
const NO_ROUTE: &str = "none";

/// Answers a request.
pub(crate) async fn dispatch(
    edge: Arc<Edge>,
    target: Target,
    request: Request,
    Last(last): Last,
) -> Response {
    let begun = Instant::now();
    let (head, incoming) = request.into_parts();
    let request_id = request_id(&edge, &head);
    let last = last && head.version < Version::HTTP_2;
    let method = head.method.clone();
    let (operation, outcome, principal) = match target {
        Target::Found(operation, param) => {
            let (outcome, principal) = run(&edge, &operation, param, head, incoming).await;
            (Some(operation), outcome, principal)
        }
        Target::OtherMethod => (None, Err(Problem::method_not_allowed()), None),
        Target::Nothing => (None, Err(no_route()), None),
    };
    let reply = outcome.unwrap_or_else(|problem| {
        problem.count();
        Reply::of_problem(&problem)
    });
    let record = Record {
        method,
        operation: operation.as_deref(),
        status: reply.status,
        begun,
        principal,
        request_id: &request_id,
    };
    record.write();
    let response = reply.into_response(CommonHeaders {
        index: edge.governance.applied_index(),
        request_id,
        last,
    });
    response.map(Body::new)
}

fn no_route() -> Problem {
    Problem::not_found("there is no such route; GET /openapi.json lists them")
}

/// A client may name its request, so that its logs and ours meet.
fn request_id(edge: &Edge, head: &Parts) -> HeaderValue {
    let named = head.headers.get(X_REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    });
    named.cloned().unwrap_or_else(|| edge.request_id())
}

/// Reads the body and runs the handler, within their times.
async fn run(
    edge: &Arc<Edge>,
    operation: &Operation,
    param: Option<String>,
    head: Parts,
    incoming: Body,
) -> (Outcome, Option<Principal>) {
    let _in_flight = InFlight::begin(&edge.in_flight);
    let limits = edge.settings.http;
    let route = &operation.route;
    let timeout = limits.body_timeout;
    let received = body::read(route.body, &head, incoming, timeout, &edge.body_room).await;
    // The body's room is held until the request is answered.
    let (body, _share) = match received {
        Ok(received) => (received.bytes, received.share),
        Err(problem) => return (Err(problem), None),
    };
    let patience = match route.patience {
        Patience::Request => limits.request_timeout,
        Patience::WholeState => limits.request_timeout.max(WHOLE_STATE_TIMEOUT),
    };
    let call = Call::new(Arc::clone(edge), head, route.path, param, body);
    let handled = AssertUnwindSafe((route.handler)(&call)).catch_unwind();
    let outcome = match tokio::time::timeout(patience, handled).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            // The panic hook has logged where and why.
            tracing::error!(route = route.path, "handler panicked");
            Err(Problem::internal(
                "this node failed to answer; its log says why",
            ))
        }
        Err(_) => {
            let detail = format!(
                "no answer within {} s; if this was a write, it may have happened: send the \
                 same signed bytes or the same Idempotency-Key again",
                patience.as_secs()
            );
            let status = StatusCode::GATEWAY_TIMEOUT;
            Err(Problem::new(status, "timed_out", detail))
        }
    };
    (outcome, call.noted().cloned())
}

/// Counts a request as long as it lives, also if its client leaves.
struct InFlight<'a>(&'a metrics::Gauge);

impl<'a> InFlight<'a> {
    fn begin(gauge: &'a metrics::Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// What is recorded about a request.
struct Record<'a> {
    method: Method,
    operation: Option<&'a Operation>,
    status: StatusCode,
    begun: Instant,
    principal: Option<Principal>,
    request_id: &'a HeaderValue,
}

impl Record<'_> {
    fn write(self) {
        let took = self.begun.elapsed();
        let status = self.status.as_u16();
        let route = match self.operation {
            Some(operation) => {
                operation.record(status, took.as_secs_f64());
                operation.route.path
            }
            None => {
                // Any token may stand as a method: it must not become a label.
                count("other", NO_ROUTE, status).increment(1);
                NO_ROUTE
            }
        };
        tracing::info!(
            target: "aegis::http",
            method = %self.method,
            route,
            status,
            duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            principal = %Shown(self.principal.as_ref()),
            request_id = self.request_id.to_str().unwrap_or_default(),
            "request"
        );
    }
}

/// A principal, or a dash for nobody in particular.
struct Shown<'a>(Option<&'a Principal>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(principal) => principal.fmt(f),
            None => f.write_str("-"),
        }
    }
}
