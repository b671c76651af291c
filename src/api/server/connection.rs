//! One client's connection: HTTP/1.1, or HTTP/2 with prior knowledge.
//!
//! A connection is closed once it has no request for
//! [`HttpLimits::header_timeout`]. Over HTTP/2 it is told to go, and one that does not
//! take its last answers is cut after [`HttpLimits::write_timeout`] more, whatever pings
//! it answers.
//!
//! A head that is no HTTP never becomes a request: hyper answers it, and gives no way to
//! say how. So these answers alone have neither `aegis-index` nor a problem as their body:
//! - over HTTP/1, an empty `400 Bad Request` to a head that does not parse, and an empty
//!   `431 Request Header Fields Too Large` to one of more than
//!   [`HttpLimits::header_bytes_max`] bytes or [`HEADERS_MAX`] headers, after which the
//!   connection closes;
//! - over HTTP/2, an empty `431` to a head of more bytes than that; a stream or connection
//!   that breaks the protocol is reset without an answer.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use super::activity::Activity;
use super::io::{ClientIo, Protocol};
use super::listener::Stages;
use super::router::Last;
use crate::settings::HttpLimits;

/// Requests that one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 256;
/// Headers of one request.
const HEADERS_MAX: usize = 64;

/// The protocols as this listener speaks them.
#[derive(Clone)]
pub(crate) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Protocols {
    pub(crate) fn new(limits: &HttpLimits) -> Self {
        let header_bytes = limits.header_bytes_max.max(HttpLimits::HEADER_BYTES_MIN);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(usize::from(header_bytes))
            .max_headers(HEADERS_MAX);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.header_timeout)
            .keep_alive_timeout(limits.header_timeout)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::from(header_bytes));
        Self { http1, http2 }
    }
}

/// Serves a connection until it ends, in one of the ways of [`Stages`].
pub(crate) async fn serve(
    app: axum::Router,
    limits: HttpLimits,
    protocols: Arc<Protocols>,
    stream: TcpStream,
    stages: Stages,
) {
    let activity = Activity::new();
    let overdue = first_request_overdue(&activity, limits.header_timeout);
    tokio::select! {
        () = serve_requests(app, limits, &protocols, stream, &stages, &activity) => {}
        () = stages.abort.cancelled() => {}
        () = overdue => tracing::debug!("connection without a request"),
    }
}

/// Ends if no request came in time. Later heads are bounded by hyper, which does not know
/// the time that it took to tell the protocols apart.
async fn first_request_overdue(activity: &Activity, timeout: Duration) {
    tokio::time::sleep(timeout).await;
    if activity.has_begun() {
        std::future::pending::<()>().await;
    }
}

async fn serve_requests(
    app: axum::Router,
    limits: HttpLimits,
    protocols: &Protocols,
    stream: TcpStream,
    stages: &Stages,
    activity: &Arc<Activity>,
) {
    let opened = tokio::select! {
        opened = ClientIo::open(stream, limits.write_timeout) => opened,
        () = stages.close_idle.cancelled() => return,
    };
    let (protocol, io) = match opened {
        Ok(opened) => opened,
        Err(error) => return tracing::debug!(%error, "connection failed"),
    };
    let (stop, watched) = (stages.stop.clone(), Arc::clone(activity));
    let service = service_fn(move |request: Request<Incoming>| {
        let at_work = watched.begin();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Last(stop.is_cancelled()));
        let answered = app.clone().oneshot(request);
        async move {
            let response = answered.await?;
            Ok::<_, Infallible>(response.map(|body| at_work.answer(body)))
        }
    });
    let io = TokioIo::new(io);
    match protocol {
        Protocol::Http1 => {
            let connection = protocols.http1.serve_connection(io, service);
            drive(connection, stages.close_idle.cancelled()).await;
        }
        Protocol::Http2 => {
            let connection = protocols.http2.serve_connection(io, service);
            let idle = async {
                tokio::select! {
                    () = stages.close_idle.cancelled() => {}
                    () = activity.quiet(limits.header_timeout) => {}
                }
            };
            let stuck = activity.quiet(limits.header_timeout + limits.write_timeout);
            tokio::select! {
                () = drive(connection, idle) => {}
                () = stuck => tracing::debug!("connection that moves nothing"),
            }
        }
    }
}

/// Runs a connection, telling it to end after what it has begun once `close` ends.
async fn drive<C>(connection: C, close: impl Future<Output = ()>)
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = close => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients leave as they like: nothing here is wrong with the server.
        tracing::debug!(%error, "connection failed");
    }
}
