//! What the transport asks the cluster's membership.

use futures::future::BoxFuture;
use thiserror::Error;

use crate::{NodeId, StoreId};

/// The members of the cluster as this node knows them. They change while the node runs.
pub trait Membership: Send + Sync + 'static {
    /// Whether `node` may talk to this one. Asked for every connection, every request and every
    /// message of a stream, so it must answer at once and without blocking.
    fn admits(&self, node: NodeId) -> bool;

    /// Binds `node` to the data folder `store` at their first meeting and keeps that durably;
    /// at every later one says whether it is still the same. Asked once a connection, by both
    /// of its sides, and awaited before the connection carries anything else.
    fn pin_store(&self, node: NodeId, store: StoreId) -> BoxFuture<'_, Result<(), PinError>>;
}

/// Why a node's id is not bound to its data folder.
#[derive(Debug, Error)]
pub enum PinError {
    /// The id belongs to another folder: this one was wiped, or copied, or is an impostor's.
    #[error("node {node} is bound to the data folder {pinned} and came with {presented}")]
    Mismatch {
        /// The node.
        node: NodeId,
        /// The folder that it is bound to.
        pinned: StoreId,
        /// The folder that it came with.
        presented: StoreId,
    },
    /// The binding could not be read or kept just now.
    #[error("the data folder of node {node} cannot be checked")]
    Unavailable {
        /// The node.
        node: NodeId,
        /// What stood in the way.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
