//! What a node offers its peers.

use std::net::SocketAddr;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{FrameStream, Method, NodeId, Refusal, StoreId};

/// The peer that a request comes from, as its certificate and its greeting prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node, from its certificate.
    pub node_id: NodeId,
    /// Its data folder, from its greeting, which membership has accepted.
    pub store_id: StoreId,
    /// Where it called from.
    pub address: SocketAddr,
}

/// The handlers of a node's methods. The transport has checked who calls, that it may, and the
/// size and version of every message before a handler sees it.
pub trait Service: Send + Sync + 'static {
    /// Answers one message with one. A call is carried to its end also when the caller no
    /// longer waits, so a handler need not be safe to cancel; only a server that is told to
    /// stop, and has waited as long as [`crate::Limits::drain_timeout`], drops it.
    fn call(
        &self,
        from: Peer,
        method: Method,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>>;

    /// Converses. The answers go out as the returned stream yields them and as fast as the
    /// caller takes them; an error ends the conversation and reaches the caller as a refusal.
    /// When the caller goes away or the server stops, `input` yields an error; it ends without
    /// one only if the caller has said all it had to say.
    fn stream(
        &self,
        from: Peer,
        method: Method,
        input: FrameStream,
    ) -> BoxFuture<'static, Result<FrameStream, Refusal>>;
}
