//! Who belongs to the cluster, and how its members stand.

use std::time::Duration;

use aegis_peers::NodeId;
use openraft::Instant as _;
use serde::{Deserialize, Serialize};

use crate::types::{self, Metrics, RawId, node_id};

/// Where a node is found. Fixed when the node joins; a node that moves joins anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    /// A name for people.
    pub name: String,
    /// Where it listens for its peers, `host:port`.
    pub peer_addr: String,
    /// Where it listens for clients, `host:port`.
    pub api_addr: String,
}

/// A member's part in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberRole {
    /// Counts towards the quorum and may lead.
    Voter,
    /// Receives the log and neither votes nor leads.
    Learner,
}

/// What the node that was asked knows about a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It leads.
    Leading,
    /// It answered the leader within the lease.
    Following,
    /// It did not.
    Silent,
    /// Only the leader knows, and the node that was asked does not lead.
    Unknown,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Where it is found.
    pub node: Node,
    /// Its part.
    pub role: MemberRole,
    /// How it stands.
    pub state: MemberState,
    /// The last index at which its log is known to agree with the leader's; only the leader
    /// knows.
    pub matched_index: Option<u64>,
    /// Entries that its log lacks; only the leader knows.
    pub lag: Option<u64>,
    /// Time since it last answered; only the leader knows, and of itself nothing.
    pub silent_for: Option<Duration>,
}

/// The members as `metrics` show them. A member counts as silent after `lease`.
pub(crate) fn members(metrics: &Metrics, lease: Duration) -> Vec<Member> {
    let membership = metrics.membership_config.membership();
    let voters: std::collections::BTreeSet<RawId> = membership.voter_ids().collect();
    let member = |(&id, node): (&RawId, &Node)| {
        let matched = metrics
            .replication
            .as_ref()
            .map(|matched| matched.get(&id).copied().flatten());
        let silent_for = silence(metrics, id);
        Member {
            id: node_id(id),
            node: node.clone(),
            role: if voters.contains(&id) {
                MemberRole::Voter
            } else {
                MemberRole::Learner
            },
            state: match &metrics.heartbeat {
                _ if metrics.current_leader == Some(id) => MemberState::Leading,
                None => MemberState::Unknown,
                Some(_) if silent_for.is_some_and(|silent| silent < lease) => {
                    MemberState::Following
                }
                Some(_) => MemberState::Silent,
            },
            matched_index: matched.flatten().map(|matched| matched.index),
            lag: matched.map(|matched| lag(metrics, matched)),
            silent_for,
        }
    };
    membership.nodes().map(member).collect()
}

/// Entries between a follower's last known match and the end of the leader's log.
pub(crate) fn lag(metrics: &Metrics, matched: Option<types::LogId>) -> u64 {
    let next = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
    next(metrics.last_log_index).saturating_sub(next(matched.map(|matched| matched.index)))
}

/// How long ago the leader sent the last message that `id` answered.
pub(crate) fn silence(metrics: &Metrics, id: RawId) -> Option<Duration> {
    if id == metrics.id {
        return None;
    }
    metrics
        .heartbeat
        .as_ref()?
        .get(&id)?
        .map(|answered| answered.elapsed())
}
