//! What the transport reports about itself, for metrics.

use crate::{Lane, NodeId};

/// Which side opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The peer did.
    Inbound,
    /// This node did.
    Outbound,
}

/// Declares the kinds of failure once, each with its name.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// The kinds of failure, few enough to be values of a metric's label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FailureKind {
            $($(#[$doc])* $name,)*
        }

        impl FailureKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in logs and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// No connection: the name does not resolve, or nobody answers at the address.
    Connect = "connect";
    /// The TLS or HTTP/2 handshake failed or took too long.
    Handshake = "handshake";
    /// The certificate names another node, another cluster or nobody.
    Identity = "identity";
    /// The peer speaks another version.
    Version = "version";
    /// The peer belongs to another incarnation.
    Incarnation = "incarnation";
    /// The peer's data folder is not the one that its id is bound to, or that cannot be told.
    Store = "store";
    /// The membership does not admit the peer.
    NotAdmitted = "not-admitted";
    /// A request was refused, by either side.
    Refused = "refused";
    /// A connection broke.
    Lost = "lost";
    /// A connection fell silent.
    Silent = "silent";
    /// A call was not answered in time.
    Timeout = "timeout";
    /// A bound of [`crate::Limits`] was reached.
    Saturated = "saturated";
    /// A message exceeds the bound of its method.
    TooLarge = "too-large";
}

/// Receives what happens. Every method is called on a hot path, so it must be cheap and must
/// not block; each does nothing unless it is overridden.
#[expect(unused_variables, reason = "the defaults do nothing")]
pub trait Observer: Send + Sync + 'static {
    /// A connection was opened and its greeting accepted.
    fn connected(&self, peer: NodeId, direction: Direction) {}
    /// A connection that was reported as connected is gone.
    fn disconnected(&self, peer: NodeId, direction: Direction) {}
    /// A message of `bytes` payload bytes was handed to a connection.
    fn sent(&self, peer: NodeId, lane: Lane, bytes: usize) {}
    /// A message of `bytes` payload bytes came in.
    fn received(&self, peer: NodeId, lane: Lane, bytes: usize) {}
    /// Something failed; the peer is unknown when it has not proved who it is.
    fn failed(&self, peer: Option<NodeId>, direction: Direction, kind: FailureKind) {}
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
