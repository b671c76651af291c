//! The one place where openraft's generics are made concrete.
//!
//! Leader ids are the standard ones (one leader a term), so that a log position is just
//! (index, term) and every node that bootstraps from the same genesis writes the very same
//! first entry.

use std::fmt;

use aegis_peers::NodeId;
use bytes::Bytes;
use openraft::vote::leader_id_std;

use crate::machine::Answer;
use crate::members::Node;

/// A node's number as openraft knows it; outside the adapters it is an
/// [`aegis_peers::NodeId`].
pub(crate) type RawId = u64;

openraft::declare_raft_types!(
    /// Our choice of openraft's parameters.
    pub(crate) Types:
        D = Command,
        R = Answer,
        NodeId = RawId,
        Node = Node,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, RawId>,
);

/// What a normal entry carries: the encoded record, stamp included, exactly as it is stored
/// and sent (see [`record`](crate::record)).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

pub(crate) type Core<SM> = openraft::Raft<Types, SM>;
pub(crate) type LeaderId = leader_id_std::LeaderId<u64, RawId>;
pub(crate) type CommittedLeaderId = leader_id_std::CommittedLeaderId<u64>;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::impls::Vote<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<Command, RawId, Node>;
pub(crate) type Entry = openraft::Entry<CommittedLeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<RawId, Node>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, RawId, Node>;
pub(crate) type Metrics = openraft::RaftMetrics<Types>;

/// Builds a log id from its two numbers.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// The node id that openraft's number stands for.
pub(crate) fn node_id(raw: RawId) -> NodeId {
    NodeId::new(raw).expect("every id that enters a membership was a NodeId")
}
