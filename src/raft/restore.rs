//! Beginning a new incarnation on the state of a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use aegis_peers::NodeId;
use aegis_storage::{Applied, SnapshotHeader};
use bytes::Bytes;

use crate::disk::{AppliedState, encode_log_id};
use crate::members::Node;
use crate::types::{Membership, RawId, StoredMembership};

/// What a data folder that is restored from a snapshot begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The applied position, with the new members.
    pub applied: Bytes,
    /// The position up to which the log is purged: all of it.
    pub purged: Bytes,
}

/// A snapshot that no cluster can begin from.
#[derive(Debug, thiserror::Error)]
pub enum BeginningError {
    /// Nothing was ever applied.
    #[error("the snapshot is of a cluster that never began")]
    Empty,
    /// What stands beside its applied position is not this crate's.
    #[error("the snapshot's applied position cannot be read")]
    Applied(#[source] io::Error),
    /// The members make no membership.
    #[error("these members make no cluster: {reason}")]
    Members {
        /// Why not.
        reason: String,
    },
}

/// The beginning of an incarnation with `members` as its voters, on the state of a
/// snapshot. All of them must be restored from the same snapshot.
///
/// # Errors
/// A snapshot or members that no cluster can begin from.
pub fn beginning(
    snapshot: &SnapshotHeader,
    members: BTreeMap<NodeId, Node>,
) -> Result<Beginning, BeginningError> {
    let decoded = AppliedState::decode(Some(&snapshot.applied));
    let mut state = decoded.map_err(|error| BeginningError::Applied(io::Error::other(error)))?;
    let last = state.last.ok_or(BeginningError::Empty)?;
    let nodes: BTreeMap<RawId, Node> = members
        .into_iter()
        .map(|(id, node)| (id.get(), node))
        .collect();
    let voters: BTreeSet<RawId> = nodes.keys().copied().collect();
    let membership =
        Membership::new(vec![voters], nodes).map_err(|error| BeginningError::Members {
            reason: error.to_string(),
        })?;
    state.used.extend(membership.nodes().map(|(id, _)| *id));
    state.membership = StoredMembership::new(Some(last), membership);
    let Applied { bytes, .. } = state.encode().ok_or(BeginningError::Empty)?;
    Ok(Beginning {
        applied: bytes,
        purged: encode_log_id(last),
    })
}
