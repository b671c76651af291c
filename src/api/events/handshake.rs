//! The opening of a subscription (RFC 6455, section 4): an HTTP request like any other,
//! refused with the same problems.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use aegis_ledger::{EventPosition, LogIndex, query};
use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::feed::Feed;
use crate::governance::Consistency;
use crate::problem::Problem;
use crate::server::query::Query;
use crate::server::reply::{CommonHeaders, Outcome, Reply};

/// Where events are found on their listener.
const PATH: &str = "/consensus";
/// Bytes of a handshake's head; hyper answers a longer one with a bare 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The version of the protocol (RFC 6455).
const VERSION: &str = "13";

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At the event of this number, leaving out what is before the position that was asked
    /// for, which may lie ahead.
    At {
        number: u64,
        position: Option<EventPosition>,
    },
    /// Before everything that is kept.
    Gone(EventPosition),
}

/// Answers one request, and gives the connection if it became a subscription.
pub(super) async fn shake(feed: Arc<Feed>, stream: TcpStream) -> Option<(Upgraded, Start)> {
    let accepted: Mutex<Option<(OnUpgrade, Start)>> = Mutex::new(None);
    let service = service_fn(|mut request: Request<Incoming>| {
        let (feed, accepted) = (Arc::clone(&feed), &accepted);
        async move {
            let outcome = match accept(&feed, &request).await {
                Ok((reply, start)) => {
                    let upgrade = (hyper::upgrade::on(&mut request), start);
                    *accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade);
                    Ok(reply)
                }
                Err(problem) => Err(problem),
            };
            Ok::<_, Infallible>(respond(&feed, outcome))
        }
    });
    let served = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "handshake failed");
    }
    let accepted = accepted
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let (upgrade, start) = accepted?;
    match upgrade.await {
        Ok(upgraded) => Some((upgraded, start)),
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            None
        }
    }
}

fn respond(feed: &Feed, outcome: Outcome) -> http::Response<crate::server::reply::Body> {
    // A refusal ends the connection. An acceptance must not say so: a `Connection` of more
    // than `Upgrade` is a failed handshake to the WebSocket of Node 20.
    let last = outcome.is_err();
    let reply = outcome.unwrap_or_else(|problem| {
        problem.count();
        Reply::of_problem(&problem)
    });
    reply.into_response(CommonHeaders {
        index: feed.edge().governance.applied_index(),
        request_id: feed.edge().request_id(),
        last,
    })
}

async fn accept(feed: &Feed, request: &Request<Incoming>) -> Result<(Reply, Start), Problem> {
    if request.uri().path() != PATH {
        return Err(Problem::not_found("events are at /consensus"));
    }
    if request.method() != Method::GET {
        return Err(
            Problem::method_not_allowed().with_header(ALLOW, HeaderValue::from_static("GET"))
        );
    }
    let headers = request.headers();
    let key = websocket_key(headers)?;
    let mut parameters = Query::parse(request.uri().query())?;
    let from = parameters.take_parsed("from", "<index>.<ordinal>", position)?;
    parameters.finish()?;
    let consistency = if feed.edge().settings.reads_need_token {
        Consistency::Linearizable
    } else {
        Consistency::Stale
    };
    let view = feed.edge().governance.view(consistency).await?;
    if feed.edge().settings.reads_need_token {
        feed.edge().reader(headers, &view)?;
    }
    let start = match from {
        None => Start::At {
            number: query::core(&*view.archive)?.events,
            position: None,
        },
        Some(from) => match query::event_number(&*view.archive, from)? {
            Ok(number) => Start::At {
                number,
                position: Some(from),
            },
            Err(oldest) => Start::Gone(oldest),
        },
    };
    Ok((switching(key), start))
}

fn switching(key: &HeaderValue) -> Reply {
    let accept =
        HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is visible ASCII");
    let mut reply = Reply::bytes("", Bytes::new())
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, HeaderValue::from_static("Upgrade"))
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(SEC_WEBSOCKET_ACCEPT, accept);
    reply.content_type = None;
    reply
}

/// The client's key, if the request is the opening of a WebSocket.
fn websocket_key(headers: &HeaderMap) -> Result<&HeaderValue, Problem> {
    let lists = |name, token: &str| {
        headers.get_all(name).iter().any(|value| {
            let value = value.to_str().unwrap_or_default();
            value
                .split(',')
                .any(|item| item.trim().eq_ignore_ascii_case(token))
        })
    };
    let version = headers.get(SEC_WEBSOCKET_VERSION);
    let opening = lists(CONNECTION, "upgrade")
        && lists(UPGRADE, "websocket")
        && version.is_some_and(|version| version == VERSION);
    match headers.get(SEC_WEBSOCKET_KEY) {
        Some(key) if opening => Ok(key),
        _ => Err(Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade_required",
            "open a WebSocket of version 13 here",
        )),
    }
}

fn position(text: &str) -> Option<EventPosition> {
    let (index, ordinal) = text.split_once('.')?;
    Some(EventPosition {
        index: LogIndex(index.parse().ok()?),
        ordinal: ordinal.parse().ok()?,
    })
}
