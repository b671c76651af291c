//! What can go wrong on the way to a peer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::{FailureKind, IdentityError, Incarnation, NodeId, PinError, Refusal, RefusalCode};

/// Why a call or a stream failed.
///
/// What a caller must know first is whether the peer may have carried the request out:
/// [`PeerError::is_without_effect`] says so.
#[derive(Debug, Error)]
pub enum PeerError {
    /// No address is known for the peer. Nothing was sent.
    #[error("node {node} has no address")]
    UnknownPeer {
        /// The peer.
        node: NodeId,
    },
    /// There is no connection to the peer, and none came in time. The request was not carried
    /// out.
    #[error("node {node} cannot be reached")]
    Unreachable {
        /// The peer.
        node: NodeId,
        /// Why the last attempt failed; none when the first is still under way.
        source: Option<Arc<LinkError>>,
    },
    /// A certificate other than the peer's answered at its address. Nothing was sent.
    #[error("node {node} cannot be reached")]
    WrongIdentity {
        /// The peer.
        node: NodeId,
        /// What the certificate says.
        source: IdentityError,
    },
    /// As much is under way with the peer as may be, and it stayed so for as long as the caller
    /// would wait. Nothing was sent.
    #[error("the bound {bound} of {limit} to node {node} is reached")]
    Saturated {
        /// The peer.
        node: NodeId,
        /// The field of [`crate::Limits`].
        bound: &'static str,
        /// Its value.
        limit: u32,
    },
    /// The message exceeds the bound of its method. For a request nothing was sent; an answer
    /// comes from a request that was carried out.
    #[error("the {what} of {bytes} bytes exceeds the bound of {bytes_max} for {method}")]
    TooLarge {
        /// Which message.
        what: Message,
        /// The method.
        method: &'static str,
        /// Its size, in bytes.
        bytes: usize,
        /// The bound, in bytes.
        bytes_max: usize,
    },
    /// The answer did not come in time. Whether the request was carried out is unknown.
    #[error("node {node} did not answer {method} within {after:?}")]
    TimedOut {
        /// The peer.
        node: NodeId,
        /// The method.
        method: &'static str,
        /// How long the caller waited.
        after: Duration,
    },
    /// The connection broke after the request was sent. Whether it was carried out is unknown.
    #[error("the connection to node {node} broke during {method}")]
    Broken {
        /// The peer.
        node: NodeId,
        /// The method.
        method: &'static str,
        /// What the transport says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The peer refused the request.
    #[error("node {node} refused")]
    Refused {
        /// The peer.
        node: NodeId,
        /// Its reason.
        source: Refusal,
    },
    /// The peer speaks another version of the messages. The request was not carried out.
    #[error("node {node} speaks version {theirs}, not {ours}")]
    Version {
        /// The peer.
        node: NodeId,
        /// The version of this node.
        ours: u8,
        /// The version of the peer.
        theirs: u8,
    },
}

/// One of the two messages of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// What the caller sends.
    Request,
    /// What the peer answers.
    Answer,
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Answer => "answer",
        })
    }
}

impl PeerError {
    /// Whether the peer certainly did not carry the request out, so that repeating it is safe
    /// whatever it was.
    #[must_use]
    pub fn is_without_effect(&self) -> bool {
        match self {
            Self::UnknownPeer { .. }
            | Self::Unreachable { .. }
            | Self::WrongIdentity { .. }
            | Self::Saturated { .. }
            | Self::Version { .. } => true,
            Self::TooLarge { what, .. } => *what == Message::Request,
            Self::Refused { source, .. } => source.code().is_without_effect(),
            Self::TimedOut { .. } | Self::Broken { .. } => false,
        }
    }

    /// The kind, for metrics.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::UnknownPeer { .. } => FailureKind::Connect,
            Self::Unreachable { source, .. } => source
                .as_ref()
                .map_or(FailureKind::Connect, |error| error.kind()),
            Self::WrongIdentity { .. } => FailureKind::Identity,
            Self::Saturated { .. } => FailureKind::Saturated,
            Self::TooLarge { .. } => FailureKind::TooLarge,
            Self::TimedOut { .. } => FailureKind::Timeout,
            Self::Broken { .. } => FailureKind::Lost,
            Self::Refused { source, .. } => refusal_kind(source.code()),
            Self::Version { .. } => FailureKind::Version,
        }
    }
}

/// Why there is no connection to a peer.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The host name has no address.
    #[error("{address} does not resolve")]
    Resolve {
        /// The host and port.
        address: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Nobody answers at the address.
    #[error("{address} does not answer")]
    Connect {
        /// The host and port.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// Nobody answered at the address in time, or nobody finished the handshake.
    #[error("the {stage} with {address} took more than {after:?}")]
    Slow {
        /// What was slow.
        stage: &'static str,
        /// The host and port.
        address: String,
        /// How long it was given.
        after: Duration,
    },
    /// The TLS handshake failed.
    #[error("the TLS handshake with {address} failed")]
    Tls {
        /// Where.
        address: SocketAddr,
        /// What TLS says.
        source: io::Error,
    },
    /// The certificate proves somebody else.
    #[error("{address} is not the node that was dialled")]
    Identity {
        /// Where.
        address: SocketAddr,
        /// Who it is.
        source: IdentityError,
    },
    /// The HTTP/2 handshake or the greeting failed. A peer that does not believe this node's
    /// certificate says so here.
    #[error("the greeting failed")]
    Greeting {
        /// What the transport says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The peer does not follow the protocol.
    #[error("the peer's greeting is malformed")]
    MalformedGreeting,
    /// The peer refused the greeting.
    #[error("the peer refused the greeting")]
    Refused(#[source] Refusal),
    /// The peer speaks another version.
    #[error("the peer speaks version {theirs}, not {ours}")]
    Version {
        /// The version of this node.
        ours: u8,
        /// The version of the peer.
        theirs: u8,
    },
    /// The peer belongs to another incarnation of the cluster.
    #[error("the peer belongs to incarnation {theirs}, not {ours}")]
    OtherIncarnation {
        /// The incarnation of this node.
        ours: Incarnation,
        /// The incarnation of the peer.
        theirs: Incarnation,
    },
    /// The peer's data folder is not the one that its id is bound to, or that cannot be told.
    #[error("the peer's data folder is not accepted")]
    Store(#[source] PinError),
    /// The peer did not answer a keep-alive.
    #[error("the peer was silent for {after:?}")]
    Silent {
        /// How long it was given.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Lost {
        /// What the transport says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The peer closed the connection in good order.
    #[error("the peer closed the connection")]
    Closed,
}

impl LinkError {
    /// The kind, for metrics.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } => FailureKind::Connect,
            Self::Slow { .. }
            | Self::Tls { .. }
            | Self::Greeting { .. }
            | Self::MalformedGreeting => FailureKind::Handshake,
            Self::Identity { .. } => FailureKind::Identity,
            Self::Refused(refusal) => refusal_kind(refusal.code()),
            Self::Version { .. } => FailureKind::Version,
            Self::OtherIncarnation { .. } => FailureKind::Incarnation,
            Self::Store(_) => FailureKind::Store,
            Self::Silent { .. } => FailureKind::Silent,
            Self::Lost { .. } | Self::Closed => FailureKind::Lost,
        }
    }
}

/// The kind of failure that a refusal is.
pub(crate) fn refusal_kind(code: RefusalCode) -> FailureKind {
    match code {
        RefusalCode::NotAdmitted => FailureKind::NotAdmitted,
        RefusalCode::OtherIncarnation => FailureKind::Incarnation,
        RefusalCode::OtherStore | RefusalCode::StoreUnpinned => FailureKind::Store,
        RefusalCode::Version => FailureKind::Version,
        RefusalCode::TooLarge => FailureKind::TooLarge,
        RefusalCode::TooSlow => FailureKind::Timeout,
        RefusalCode::Overloaded => FailureKind::Saturated,
        RefusalCode::Malformed
        | RefusalCode::NoGreeting
        | RefusalCode::UnknownMethod
        | RefusalCode::ShuttingDown
        | RefusalCode::Unavailable
        | RefusalCode::Failed
        | RefusalCode::Unknown => FailureKind::Refused,
    }
}
