//! One attempt to connect: TCP, TLS, HTTP/2 and the greeting, each with its bound in time.

use std::net::SocketAddr;
use std::sync::Arc;

use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method as HttpMethod, Request, Response, StatusCode, Uri, Version};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::{LinkError, PeerAddress};
use crate::limits::SEND_BUFFER_BYTES;
use crate::message::{
    ReadError, content_length, keep_alive, message_bytes, read_message, version_of,
};
use crate::method::HELLO_PATH;
use crate::wire::{HELLO_BYTES, Hello, Outgoing, WIRE_VERSION};
use crate::{Endpoint, IdentityError, Limits, NodeId, Refusal, RefusalCode};

/// The authority of every request. It names nobody: who is addressed, TLS has settled.
const AUTHORITY: &str = "aegis";

/// A connection whose greeting was accepted on both sides.
pub(super) struct Connection {
    pub(super) requests: SendRequest<Outgoing>,
    /// Drives the connection, and says in the end why it is gone.
    pub(super) driver: AbortOnDropHandle<LinkError>,
}

/// Connects to `node` at `address`.
pub(super) async fn dial(
    endpoint: &Endpoint,
    node: NodeId,
    address: &PeerAddress,
) -> Result<Connection, LinkError> {
    let limits = &endpoint.limits;
    let slow = |stage, after| {
        move |_| LinkError::Slow {
            stage,
            address: address.to_string(),
            after,
        }
    };
    let after = limits.connect_timeout;
    let (socket, remote) = timeout(after, connect(address))
        .await
        .map_err(slow("connection", after))??;
    let after = limits.handshake_timeout;
    timeout(after, handshake(endpoint, node, socket, remote))
        .await
        .map_err(slow("handshake", after))?
}

async fn connect(address: &PeerAddress) -> Result<(TcpStream, SocketAddr), LinkError> {
    let failed = |source| LinkError::Connect {
        address: address.to_string(),
        source,
    };
    let resolved: Vec<_> = tokio::net::lookup_host(address.as_str())
        .await
        .map_err(|source| LinkError::Resolve {
            address: address.to_string(),
            source,
        })?
        .collect();
    let socket = TcpStream::connect(&resolved[..]).await.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    let remote = socket.peer_addr().map_err(failed)?;
    Ok((socket, remote))
}

async fn handshake(
    endpoint: &Endpoint,
    node: NodeId,
    socket: TcpStream,
    address: SocketAddr,
) -> Result<Connection, LinkError> {
    let socket = secure(endpoint, node, socket, address).await?;
    let (requests, mut http) = http2(&endpoint.limits)
        .handshake::<_, Outgoing>(socket)
        .await
        .map_err(greeting_failed)?;
    let pings = http.ping_pong().expect("it is taken once");
    let (interval, silence) = (
        endpoint.limits.keep_alive_interval,
        endpoint.limits.keep_alive_timeout,
    );
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        tokio::select! {
            ended = http => match ended {
                Ok(()) => LinkError::Closed,
                Err(source) => LinkError::Lost { source: source.into() },
            },
            () = keep_alive(pings, interval, silence) => LinkError::Silent { after: silence },
        }
    }));
    let theirs = greet(endpoint, requests.clone()).await?;
    let ours = endpoint.identity.incarnation;
    if theirs.incarnation != ours {
        return Err(LinkError::OtherIncarnation {
            ours,
            theirs: theirs.incarnation,
        });
    }
    endpoint
        .membership
        .pin_store(node, theirs.store_id)
        .await
        .map_err(LinkError::Store)?;
    Ok(Connection { requests, driver })
}

async fn secure(
    endpoint: &Endpoint,
    node: NodeId,
    socket: TcpStream,
    address: SocketAddr,
) -> Result<TlsStream<TcpStream>, LinkError> {
    let failed = |source: std::io::Error| match IdentityError::within(&source) {
        Some(identity) => LinkError::Identity {
            address,
            source: identity.clone(),
        },
        None => LinkError::Tls { address, source },
    };
    let config = endpoint
        .credentials
        .client_config(node)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    // The name is neither sent nor looked at: the verifier asks for the node instead.
    let name = ServerName::IpAddress(address.ip().into());
    TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .map_err(failed)
}

fn http2(limits: &Limits) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    let streams = usize::try_from(limits.http2_streams_max()).unwrap_or(usize::MAX);
    builder
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes())
        .max_frame_size(limits.frame_bytes_max)
        .max_header_list_size(limits.header_bytes_max)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .initial_max_send_streams(streams)
        // An answer to a call that nobody waits for any more is no fault of the peer's.
        .max_concurrent_reset_streams(streams)
        .enable_push(false);
    builder
}

async fn greet(endpoint: &Endpoint, requests: SendRequest<Outgoing>) -> Result<Hello, LinkError> {
    let hello = Hello {
        incarnation: endpoint.identity.incarnation,
        store_id: endpoint.identity.store_id,
    }
    .encode();
    let head = request(HELLO_PATH, Some(hello.len()));
    let (response, mut body) = open(requests, head).await.map_err(greeting_failed)?;
    body.send_data(Outgoing::message(hello), true)
        .map_err(greeting_failed)?;
    let response = response.await.map_err(greeting_failed)?;
    if let Some(refusal) = refused(&response) {
        return Err(match refusal.code() {
            RefusalCode::Version => LinkError::Version {
                ours: WIRE_VERSION,
                theirs: version_of(response.headers()),
            },
            _ => LinkError::Refused(refusal),
        });
    }
    let answer = match read_answer(response, HELLO_BYTES - 1).await {
        Ok(answer) => answer,
        Err(ReadError::Version { ours, theirs }) => {
            return Err(LinkError::Version { ours, theirs });
        }
        Err(ReadError::Broken(error)) => return Err(greeting_failed(error)),
        Err(_) => return Err(LinkError::MalformedGreeting),
    };
    Hello::decode(&answer).ok_or(LinkError::MalformedGreeting)
}

fn greeting_failed(source: h2::Error) -> LinkError {
    LinkError::Greeting {
        source: source.into(),
    }
}

/// The head of a request with a message of `bytes` bytes, or with a stream.
pub(super) fn request(path: &'static str, bytes: Option<usize>) -> Request<()> {
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTPS);
    uri.authority = Some(Authority::from_static(AUTHORITY));
    uri.path_and_query = Some(PathAndQuery::from_static(path));
    let mut request = Request::new(());
    *request.method_mut() = HttpMethod::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from_parts(uri).expect("scheme, authority and path are all there");
    if let Some(bytes) = bytes {
        let length = content_length(bytes);
        request
            .headers_mut()
            .insert(http::header::CONTENT_LENGTH, length);
    }
    request
}

/// Sends the head of a request.
pub(super) async fn open(
    requests: SendRequest<Outgoing>,
    head: Request<()>,
) -> Result<(ResponseFuture, SendStream<Outgoing>), h2::Error> {
    requests.ready().await?.send_request(head, false)
}

/// The refusal that `response` is, if it is one.
pub(super) fn refused(response: &Response<RecvStream>) -> Option<Refusal> {
    if response.status() == StatusCode::OK {
        return None;
    }
    let refusal = Refusal::from_fields(response.headers());
    Some(refusal.unwrap_or_else(|| Refusal::new(RefusalCode::Unknown, response.status())))
}

/// Reads the answer to a call.
pub(super) async fn read_answer(
    response: Response<RecvStream>,
    bytes_max: usize,
) -> Result<bytes::Bytes, ReadError> {
    let bytes = message_bytes(response.headers(), bytes_max)?;
    read_message(&mut response.into_body(), bytes).await
}
