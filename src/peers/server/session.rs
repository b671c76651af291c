//! The requests of one connection: the greeting, then calls and streams.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use http::{HeaderValue, Method as HttpMethod, Request, Response};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::{debug, error, info};

use super::Shared;
use super::table::{PeerEntry, Place};
use crate::client::refusal_kind;
use crate::frames::{FrameReader, FrameWriter, send_message};
use crate::message::{Causes, ReadError, content_length, message_bytes, read_message};
use crate::method::HELLO_PATH;
use crate::refusal::VERSION_FIELD;
use crate::wire::{HELLO_BYTES, Hello, Outgoing, WIRE_VERSION};
use crate::{
    Direction, FailureKind, Lane, Method, NodeId, Peer, PinError, Refusal, RefusalCode, Shape,
    StoreId, StreamError,
};

type Respond = SendResponse<Outgoing>;

/// A connection as its requests see it.
pub(super) struct Session {
    shared: Arc<Shared>,
    node: NodeId,
    address: SocketAddr,
    quota: Arc<PeerEntry>,
    /// The peer's data folder, once its greeting is accepted.
    store: OnceLock<StoreId>,
    /// Cancelled when its greeting is refused.
    turned_away: CancellationToken,
}

/// What a request asks for.
enum Route {
    Hello,
    Call(Method),
    Stream(Method),
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, node: NodeId, address: SocketAddr) -> Self {
        Self {
            quota: shared.peers.peer(node),
            shared,
            node,
            address,
            store: OnceLock::new(),
            turned_away: CancellationToken::new(),
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn is_greeted(&self) -> bool {
        self.store.get().is_some()
    }

    pub(super) fn turned_away(&self) -> &CancellationToken {
        &self.turned_away
    }

    /// Enters the connection among those of its peer.
    pub(super) fn enter(&self) -> Place {
        self.quota.enter()
    }

    /// Reports that the peer is turned away.
    pub(super) fn reject(&self, kind: FailureKind, reason: &dyn std::fmt::Display) {
        self.shared
            .reject(Some(self.node), self.address, kind, reason);
    }

    /// Reports that the peer has fallen silent.
    pub(super) fn note_silence(&self) {
        let observer = &self.shared.endpoint.observer;
        observer.failed(Some(self.node), Direction::Inbound, FailureKind::Silent);
        info!(peer = %self.node, "peer silent, connection closed");
    }

    /// Starts a task for a request. It outlives the connection, so that no handler is stopped
    /// halfway because its caller went away; the peer's quota bounds how many there are.
    pub(super) fn start(self: &Arc<Self>, request: Request<RecvStream>, respond: Respond) {
        let session = Arc::clone(self);
        let aborting = self.shared.aborting.clone();
        self.shared.request_tasks.spawn(async move {
            let handling = session.handle(request, respond);
            aborting.run_until_cancelled(handling).await
        });
    }

    async fn handle(&self, request: Request<RecvStream>, mut respond: Respond) {
        let (head, mut body) = request.into_parts();
        let outcome = match self.route(&head) {
            Ok(Route::Hello) => {
                let within = self.shared.endpoint.limits().handshake_timeout;
                let greeted = timeout(within, self.greet(&head, &mut body, &mut respond)).await;
                greeted.unwrap_or_else(|_| Err(too_slow()))
            }
            Ok(Route::Call(method)) => self.call(method, &head, &mut body, &mut respond).await,
            Ok(Route::Stream(method)) => self.converse(method, body, &mut respond).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = outcome {
            self.refuse(&mut respond, &refusal);
        }
    }

    /// What a request asks for, if the peer may ask at all.
    fn route(&self, head: &Parts) -> Result<Route, Refusal> {
        if !self.is_admitted() {
            return Err(Refusal::new(
                RefusalCode::NotAdmitted,
                format_args!("node {} is not a member", self.node),
            ));
        }
        if head.method != HttpMethod::POST {
            return Err(Refusal::new(RefusalCode::Malformed, "requests are POST"));
        }
        let path = head.uri.path();
        if path == HELLO_PATH {
            return Ok(Route::Hello);
        }
        if !self.is_greeted() {
            return Err(Refusal::new(RefusalCode::NoGreeting, "greet first"));
        }
        match self.shared.methods.get(path) {
            Some(method) => Ok(match method.shape() {
                Shape::Call => Route::Call(method),
                Shape::Stream => Route::Stream(method),
            }),
            None => Err(Refusal::new(
                RefusalCode::UnknownMethod,
                format_args!("there is no method {path}"),
            )),
        }
    }

    fn is_admitted(&self) -> bool {
        self.shared.endpoint.membership.admits(self.node)
    }

    /// Takes the greeting, and gives this node's.
    async fn greet(
        &self,
        head: &Parts,
        body: &mut RecvStream,
        respond: &mut Respond,
    ) -> Result<(), Refusal> {
        let bytes = message_bytes(&head.headers, HELLO_BYTES - 1).map_err(unreadable)?;
        let message = read_message(body, bytes).await.map_err(unreadable)?;
        let theirs = Hello::decode(&message)
            .ok_or_else(|| Refusal::new(RefusalCode::Malformed, "this is no greeting"))?;
        let identity = self.shared.endpoint.identity;
        if theirs.incarnation != identity.incarnation {
            return Err(Refusal::new(
                RefusalCode::OtherIncarnation,
                format_args!(
                    "this is incarnation {}, not {}",
                    identity.incarnation, theirs.incarnation
                ),
            ));
        }
        let membership = &self.shared.endpoint.membership;
        membership
            .pin_store(self.node, theirs.store_id)
            .await
            .map_err(|error| unpinned(&error))?;
        if self.store.set(theirs.store_id).is_err() {
            return Err(Refusal::new(
                RefusalCode::Malformed,
                "one greeting is enough",
            ));
        }
        self.shared.rejections.forget(self.node);
        let observer = &self.shared.endpoint.observer;
        observer.connected(self.node, Direction::Inbound);
        info!(peer = %self.node, address = %self.address, "peer accepted");
        let ours = Hello {
            incarnation: identity.incarnation,
            store_id: identity.store_id,
        };
        answer_with(respond, ours.encode()).await;
        Ok(())
    }

    async fn call(
        &self,
        method: Method,
        head: &Parts,
        body: &mut RecvStream,
        respond: &mut Respond,
    ) -> Result<(), Refusal> {
        let bytes = message_bytes(&head.headers, method.request_bytes_max()).map_err(unreadable)?;
        // Held until the answer is on its way, since that takes memory too.
        let _admitted = self.quota.admit_call(method, bytes)?;
        let message = timeout(
            self.shared.endpoint.limits().body_timeout,
            read_message(body, bytes),
        )
        .await
        .map_err(|_| too_slow())?
        .map_err(unreadable)?;
        self.received(method.lane(), message.len());
        let answer = self
            .shared
            .service
            .call(self.peer()?, method, message)
            .await?;
        let (bytes, bytes_max) = (answer.len(), method.response_bytes_max());
        if bytes > bytes_max {
            error!(
                method = method.path(),
                bytes, bytes_max, "answer exceeds its bound"
            );
            return Err(Refusal::failed(format_args!(
                "the answer of {bytes} bytes exceeds the bound of {bytes_max}"
            )));
        }
        answer_with(respond, answer).await;
        self.sent(method.lane(), bytes);
        Ok(())
    }

    async fn converse(
        &self,
        method: Method,
        body: RecvStream,
        respond: &mut Respond,
    ) -> Result<(), Refusal> {
        let _admitted = self.quota.admit_stream(method.lane())?;
        let mut reader = FrameReader::new(body, method.request_bytes_max());
        timeout(
            self.shared.endpoint.limits().body_timeout,
            reader.read_version(),
        )
        .await
        .map_err(|_| too_slow())?
        .map_err(|error| error.to_refusal())?;
        let (peer, lane) = (self.peer()?, method.lane());
        let input = Box::pin(Input {
            reader,
            lane,
            peer,
            shared: Arc::clone(&self.shared),
            stopping: Box::pin(self.shared.stopping.clone().cancelled_owned()),
            ended: false,
        });
        let output = self.shared.service.stream(peer, method, input).await?;
        let output = output.map(|message| match message {
            Ok(_) if !self.is_admitted() => Err(StreamError::NotAdmitted),
            message => message,
        });
        // From here on the peer may be gone, which is for `input` and `output` to notice.
        let begun = respond
            .send_response(Response::new(()), false)
            .and_then(|sender| FrameWriter::start(sender, method.response_bytes_max()));
        match begun {
            Ok(writer) => {
                let sent = |bytes| self.sent(lane, bytes);
                if let Err(error) = writer.send_all(output, sent).await {
                    debug!(peer = %self.node, method = method.path(), error = %Causes(&error), "stream ended");
                }
            }
            Err(error) => {
                debug!(peer = %self.node, method = method.path(), %error, "stream not begun");
            }
        }
        Ok(())
    }

    fn peer(&self) -> Result<Peer, Refusal> {
        let store_id = *self
            .store
            .get()
            .ok_or_else(|| Refusal::new(RefusalCode::NoGreeting, "greet first"))?;
        Ok(Peer {
            node_id: self.node,
            store_id,
            address: self.address,
        })
    }

    fn received(&self, lane: Lane, bytes: usize) {
        let observer = &self.shared.endpoint.observer;
        observer.received(self.node, lane, bytes);
    }

    fn sent(&self, lane: Lane, bytes: usize) {
        let observer = &self.shared.endpoint.observer;
        observer.sent(self.node, lane, bytes);
    }

    /// Answers with a refusal, and closes a connection that was not even greeted.
    fn refuse(&self, respond: &mut Respond, refusal: &Refusal) {
        let mut response = Response::new(());
        *response.status_mut() = refusal.code().status();
        *response.headers_mut() = refusal.to_fields();
        let version = HeaderValue::from(u16::from(WIRE_VERSION));
        response.headers_mut().insert(VERSION_FIELD, version);
        send_head(respond, response, true);

        let kind = refusal_kind(refusal.code());
        if is_about_the_peer(kind) {
            self.reject(kind, refusal);
        } else {
            let observer = &self.shared.endpoint.observer;
            observer.failed(Some(self.node), Direction::Inbound, kind);
            debug!(peer = %self.node, %refusal, "request refused");
        }
        if !self.is_greeted() {
            self.turned_away.cancel();
        }
    }
}

/// Whether a refusal concerns the peer itself rather than one request.
fn is_about_the_peer(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::NotAdmitted
            | FailureKind::Incarnation
            | FailureKind::Store
            | FailureKind::Version
    )
}

/// Answers a call, as fast as the caller takes it.
async fn answer_with(respond: &mut Respond, answer: Bytes) {
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert(http::header::CONTENT_LENGTH, content_length(answer.len()));
    if let Some(mut sender) = send_head(respond, response, false) {
        let sent = send_message(&mut sender, Outgoing::message(answer), true).await;
        if let Err(error) = sent {
            debug!(%error, "caller gone before its answer");
        }
    }
}

/// Sends the head of an answer, unless the caller is gone.
fn send_head(
    respond: &mut Respond,
    response: Response<()>,
    end: bool,
) -> Option<h2::SendStream<Outgoing>> {
    match respond.send_response(response, end) {
        Ok(body) => Some(body),
        Err(error) => {
            debug!(%error, "caller gone before its answer");
            None
        }
    }
}

fn unreadable(error: ReadError) -> Refusal {
    let code = match error {
        ReadError::TooLarge { .. } => RefusalCode::TooLarge,
        ReadError::Version { .. } => RefusalCode::Version,
        ReadError::NoLength | ReadError::Empty | ReadError::Broken(_) => RefusalCode::Malformed,
    };
    Refusal::new(code, Causes(&error))
}

fn unpinned(error: &PinError) -> Refusal {
    let code = match error {
        PinError::Mismatch { .. } => RefusalCode::OtherStore,
        PinError::Unavailable { .. } => RefusalCode::StoreUnpinned,
    };
    Refusal::new(code, Causes(error))
}

fn too_slow() -> Refusal {
    Refusal::new(RefusalCode::TooSlow, "the message did not come in time")
}

/// What a peer sends on a stream, for as long as it is a member and the server goes on.
struct Input {
    reader: FrameReader,
    lane: Lane,
    peer: Peer,
    shared: Arc<Shared>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl Input {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        if self.stopping.poll_unpin(cx).is_ready() {
            return Poll::Ready(Some(Err(StreamError::ShuttingDown)));
        }
        let next = self.reader.poll_next_unpin(cx);
        if let Poll::Ready(Some(Ok(message))) = &next {
            let endpoint = &self.shared.endpoint;
            if !endpoint.membership.admits(self.peer.node_id) {
                return Poll::Ready(Some(Err(StreamError::NotAdmitted)));
            }
            let observer = &endpoint.observer;
            observer.received(self.peer.node_id, self.lane, message.len());
        }
        next
    }
}

impl Stream for Input {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = self.poll_message(cx);
        self.ended = matches!(next, Poll::Ready(None | Some(Err(_))));
        next
    }
}
