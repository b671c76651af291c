//! What a node knows about itself and its cluster, for people, metrics and conditions.

use std::time::Duration;

use aegis_peers::NodeId;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;

use crate::members::{Member, members};
use crate::types::{Metrics, RawId, Types, node_id};

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) term: u64,
    pub(crate) leader: Option<RawId>,
}

/// A node's part at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It leads.
    Leader,
    /// It votes and follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It only receives the log.
    Learner,
    /// It has stopped.
    Stopped,
}

impl From<ServerState> for Role {
    fn from(state: ServerState) -> Self {
        match state {
            ServerState::Leader => Self::Leader,
            ServerState::Follower => Self::Follower,
            ServerState::Candidate => Self::Candidate,
            ServerState::Learner => Self::Learner,
            ServerState::Shutdown => Self::Stopped,
        }
    }
}

/// A node's state at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The node.
    pub id: NodeId,
    /// Its part.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// The last index of its log.
    pub last_index: Option<u64>,
    /// The last index that it knows to be committed.
    pub committed_index: Option<u64>,
    /// The last index that it has applied.
    pub applied_index: Option<u64>,
    /// The last index in its latest snapshot.
    pub snapshot_index: Option<u64>,
    /// The last index that is gone from its log.
    pub purged_index: Option<u64>,
    /// Of a leader: the time since a quorum last answered it.
    pub quorum_silent_for: Option<Duration>,
    /// The members of the cluster.
    pub members: Vec<Member>,
    /// Proposals that this node holds unanswered.
    pub proposals_pending: usize,
    /// What stopped the node, if it was a failure.
    pub fatal: Option<String>,
}

impl Status {
    fn new(metrics: &Metrics, watch: &StatusWatch) -> Self {
        let index = |id: &Option<crate::types::LogId>| id.map(|id| id.index);
        Self {
            id: node_id(metrics.id),
            role: metrics.state.into(),
            leader: metrics.current_leader.map(node_id),
            term: metrics.current_term,
            last_index: metrics.last_log_index,
            committed_index: index(&metrics.local_committed),
            applied_index: *watch.applied.borrow(),
            snapshot_index: index(&metrics.snapshot),
            purged_index: index(&metrics.purged),
            quorum_silent_for: metrics.last_quorum_acked.map(|acked| acked.elapsed()),
            members: members(metrics, watch.lease),
            proposals_pending: watch.submitter.pending(),
            fatal: fatal(metrics),
        }
    }
}

/// The failure that stopped the core, if one did.
pub(crate) fn fatal(metrics: &Metrics) -> Option<String> {
    match &metrics.running_state {
        Ok(()) | Err(openraft::errors::Fatal::Stopped) => None,
        Err(fatal) => Some(fatal.to_string()),
    }
}

/// Follows a node's status.
#[derive(Clone)]
pub struct StatusWatch {
    pub(crate) metrics: WatchReceiverOf<Types, Metrics>,
    pub(crate) applied: watch::Receiver<Option<u64>>,
    pub(crate) lease: Duration,
    pub(crate) submitter: crate::submit::Submitter,
}

impl StatusWatch {
    /// The status now.
    #[must_use]
    pub fn get(&self) -> Status {
        Status::new(&self.metrics.borrow_watched(), self)
    }

    /// Waits until `condition` holds and returns the status for which it did; none when the
    /// node stops before.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&Status) -> bool) -> Option<Status> {
        loop {
            // Marks the value as seen, so that a change after it wakes this task.
            self.metrics.borrow_and_update();
            let status = self.get();
            if condition(&status) {
                return Some(status);
            }
            if status.role == Role::Stopped || self.metrics.changed().await.is_err() {
                return None;
            }
        }
    }
}
