//! One connection from its handshake to its end.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use h2::server::Connection;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::Shared;
use super::session::Session;
use crate::limits::SEND_BUFFER_BYTES;
use crate::message::{Causes, keep_alive};
use crate::tls::{ALPN, certified_node};
use crate::wire::Outgoing;
use crate::{Direction, FailureKind, IdentityError, Limits, NodeId};

type Http = Connection<TlsStream<TcpStream>, Outgoing>;

/// Why a connection was closed before it could carry a request.
#[derive(Debug, Error)]
enum HandshakeError {
    #[error("the socket cannot be set up")]
    Socket(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the certificate proves no node of this cluster")]
    Identity(#[from] IdentityError),
    #[error("the peer does not speak HTTP/2")]
    Protocol,
    #[error("the HTTP/2 handshake failed")]
    Http2(#[source] h2::Error),
    #[error("the handshake took too long")]
    Slow,
}

impl HandshakeError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Identity(_) => FailureKind::Identity,
            Self::Tls(source) if IdentityError::within(source).is_some() => FailureKind::Identity,
            _ => FailureKind::Handshake,
        }
    }
}

/// Serves `socket` until it is gone or the server stops.
pub(super) async fn serve(
    shared: Arc<Shared>,
    socket: TcpStream,
    address: SocketAddr,
    handshaking: OwnedSemaphorePermit,
) {
    let limits = *shared.endpoint.limits();
    let shaken = tokio::select! {
        () = shared.stopping.cancelled() => return,
        shaken = timeout(limits.handshake_timeout, handshake(&shared, socket)) => shaken,
    };
    drop(handshaking);
    let (http, node) = match shaken.unwrap_or(Err(HandshakeError::Slow)) {
        Ok(shaken) => shaken,
        Err(error) => {
            return shared.reject(None, address, error.kind(), &Causes(&error));
        }
    };
    let Ok(_connected) = Arc::clone(&shared.connections).try_acquire_owned() else {
        let reason = format_args!(
            "the bound connections_max of {} is reached",
            limits.connections_max
        );
        return shared.reject(Some(node), address, FailureKind::Saturated, &reason);
    };
    let session = Arc::new(Session::new(shared, node, address));
    carry(http, &session, &limits).await;
    if session.is_greeted() {
        let observer = &session.shared().endpoint.observer;
        observer.disconnected(node, Direction::Inbound);
    }
}

async fn handshake(shared: &Shared, socket: TcpStream) -> Result<(Http, NodeId), HandshakeError> {
    socket.set_nodelay(true).map_err(HandshakeError::Socket)?;
    let credentials = &shared.endpoint.credentials;
    let socket = TlsAcceptor::from(credentials.server_config())
        .accept(socket)
        .await
        .map_err(HandshakeError::Tls)?;
    let (_, tls) = socket.get_ref();
    if tls.alpn_protocol() != Some(ALPN) {
        return Err(HandshakeError::Protocol);
    }
    let certificate = tls
        .peer_certificates()
        .and_then(<[_]>::first)
        .expect("the handshake fails without a client certificate");
    let node = certified_node(certificate, credentials.cluster_id())?;
    let http = http2(shared.endpoint.limits())
        .handshake(socket)
        .await
        .map_err(HandshakeError::Http2)?;
    Ok((http, node))
}

fn http2(limits: &Limits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    let streams = limits.http2_streams_max();
    let resets = usize::try_from(streams).unwrap_or(usize::MAX);
    builder
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes())
        .max_frame_size(limits.frame_bytes_max)
        .max_header_list_size(limits.header_bytes_max)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(streams)
        // What still comes of requests that were refused is no fault of the peer's.
        .max_concurrent_reset_streams(resets)
        // A peer may give up every call it has under way, at once, and is not at fault for it.
        .max_pending_accept_reset_streams(resets);
    builder
}

/// Drives the connection and starts a task for each of its requests. These outlive it.
async fn carry(mut http: Http, session: &Arc<Session>, limits: &Limits) {
    let shared = session.shared();
    let pings = http.ping_pong().expect("it is taken once");
    let mut silent = pin!(keep_alive(
        pings,
        limits.keep_alive_interval,
        limits.keep_alive_timeout
    ));
    let mut greeting_due = pin!(sleep(limits.handshake_timeout));
    let mut stopping = pin!(shared.stopping.cancelled());
    let mut turned_away = pin!(session.turned_away().cancelled());
    let place = session.enter();
    let mut superseded = pin!(place.superseded.cancelled());
    let mut leaving = false;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = http.accept() => accepted,
            () = &mut stopping, if !leaving => {
                leaving = true;
                http.graceful_shutdown();
                continue;
            }
            () = &mut turned_away, if !leaving => {
                leaving = true;
                http.graceful_shutdown();
                continue;
            }
            () = &mut superseded => {
                return debug!(peer = %session.node(), "superseded by a newer connection");
            }
            () = &mut silent => return session.note_silence(),
            // A greeting is taken by a task of its own, so that it may have come since this
            // wait began.
            () = &mut greeting_due, if !session.is_greeted() && !leaving => {
                if session.is_greeted() {
                    continue;
                }
                return session.reject(FailureKind::Handshake, &"no greeting came in time");
            }
        };
        match accepted {
            Some(Ok((request, respond))) => session.start(request, respond),
            Some(Err(error)) => {
                return debug!(peer = %session.node(), error = %Causes(&error), "connection broke");
            }
            None => return debug!(peer = %session.node(), "peer left"),
        }
    }
}
