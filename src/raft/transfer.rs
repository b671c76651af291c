//! Handing leadership over, confirmed.
//!
//! openraft's own transfer returns at once, checks nothing and cannot be taken back: a leader
//! that began one takes no proposals until some node is elected. So the target is checked
//! first (another voter that answered lately and lacks little), and success is reported only
//! when the target leads. Submissions and reads that meet the gap are held and repeated.

use std::time::Duration;

use aegis_peers::NodeId;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, timeout_at};

use crate::members::{lag, silence};
use crate::node::RaftNode;
use crate::types::{Metrics, RawId, node_id};

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only the leader can hand over.
    #[error("this node does not lead{}", .leader.map(|leader| format!(", node {leader} does")).unwrap_or_default())]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The target is not a voter.
    #[error("node {to} is not a voter")]
    NotVoter {
        /// The target.
        to: NodeId,
    },
    /// The target has not answered lately.
    #[error("node {to} has not answered for {silent_for:?}, at most {silent_max:?} is allowed")]
    Silent {
        /// The target.
        to: NodeId,
        /// Since when, if it ever answered.
        silent_for: Option<Duration>,
        /// The longest time that is allowed.
        silent_max: Duration,
    },
    /// The target lacks too much of the log.
    #[error("node {to} lacks {lag} entries, at most {lag_max} are allowed")]
    Lagging {
        /// The target.
        to: NodeId,
        /// Entries that it lacks.
        lag: u64,
        /// The most that it may lack.
        lag_max: u64,
    },
    /// There is no voter that could take over.
    #[error("no other voter can take over")]
    NoSuccessor,
    /// Another node came to lead.
    #[error("node {leader} leads instead of node {to}")]
    OtherLeads {
        /// The target.
        to: NodeId,
        /// The leader.
        leader: NodeId,
    },
    /// The target does not lead yet; it still may.
    #[error("node {to} does not lead after {after:?}")]
    TimedOut {
        /// The target.
        to: NodeId,
        /// How long was waited.
        after: Duration,
    },
    /// The node is stopping.
    #[error("this node is stopping")]
    Stopping,
}

/// How a graceful stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Who leads now, if this node led and handed over.
    pub handed_to: Option<NodeId>,
    /// Proposals that were not answered in time.
    pub unanswered: usize,
}

impl RaftNode {
    /// Hands leadership to `to` and waits until it leads, for `deadline` at most.
    pub async fn transfer_leader(
        &self,
        to: NodeId,
        deadline: Duration,
    ) -> Result<(), TransferError> {
        let metrics = self.core.metrics().borrow_watched().clone();
        if metrics.current_leader == Some(to.get()) {
            return Ok(());
        }
        if metrics.current_leader != Some(metrics.id) {
            return Err(TransferError::NotLeader {
                leader: metrics.current_leader.map(node_id),
            });
        }
        self.check_successor(&metrics, to)?;

        let term = metrics.current_term;
        let mut leadership = self.leadership.clone();
        self.core
            .trigger()
            .transfer_leader(to.get())
            .await
            .map_err(|_| TransferError::Stopping)?;
        let decided = leadership.wait_for(|now| now.term > term && now.leader.is_some());
        match timeout_at(Instant::now() + deadline, decided).await {
            Ok(Ok(now)) => match now.leader {
                Some(leader) if leader != to.get() => Err(TransferError::OtherLeads {
                    to,
                    leader: node_id(leader),
                }),
                _ => Ok(()),
            },
            Ok(Err(_)) => Err(TransferError::Stopping),
            Err(_) => Err(TransferError::TimedOut {
                to,
                after: deadline,
            }),
        }
    }

    /// Whether `to` can take over.
    fn check_successor(&self, metrics: &Metrics, to: NodeId) -> Result<(), TransferError> {
        if !metrics
            .membership_config
            .membership()
            .voter_ids()
            .any(|voter| voter == to.get())
        {
            return Err(TransferError::NotVoter { to });
        }
        let silent_max = self.settings.election_timeout_min;
        let silent_for = silence(metrics, to.get());
        if silent_for.is_none_or(|silent| silent > silent_max) {
            return Err(TransferError::Silent {
                to,
                silent_for,
                silent_max,
            });
        }
        let (lag, lag_max) = (
            lag(metrics, matched(metrics, to.get())),
            self.settings.transfer_lag_max,
        );
        if lag > lag_max {
            return Err(TransferError::Lagging { to, lag, lag_max });
        }
        Ok(())
    }

    /// The voters that could take over, the most caught up first.
    fn successors(&self, metrics: &Metrics) -> Vec<NodeId> {
        let voters = metrics
            .membership_config
            .membership()
            .voter_ids()
            .filter(|voter| *voter != metrics.id);
        let mut able: Vec<RawId> = voters
            .filter(|voter| self.check_successor(metrics, node_id(*voter)).is_ok())
            .collect();
        able.sort_by_key(|voter| {
            std::cmp::Reverse(matched(metrics, *voter).map(|matched| matched.index))
        });
        able.into_iter().map(node_id).collect()
    }

    /// Hands leadership, if this node has it, to the voter that lacks least.
    pub async fn hand_over(&self, deadline: Duration) -> Result<Option<NodeId>, TransferError> {
        let metrics = self.core.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(metrics.id) {
            return Ok(None);
        }
        let to = *self
            .successors(&metrics)
            .first()
            .ok_or(TransferError::NoSuccessor)?;
        match self.transfer_leader(to, deadline).await {
            // Somebody else leads: that will do.
            Err(TransferError::OtherLeads { leader, .. }) if leader.get() != metrics.id => {
                Ok(Some(leader))
            }
            outcome => outcome.map(|()| Some(to)),
        }
    }

    /// Stops gracefully: hands leadership over, lets what was submitted here finish, refuses
    /// what is submitted from then on, and stops the node. Whatever is not done by `deadline`
    /// is given up.
    pub async fn step_down_and_stop(&self, deadline: Duration) -> Stopped {
        let until = Instant::now() + deadline;
        let handed_to = self.hand_over(deadline).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "stopping without handing leadership over");
            None
        });
        self.submitter.refuse();
        let unanswered = match timeout_at(until, self.submitter.drained()).await {
            Ok(()) => 0,
            Err(_) => self.submitter.pending(),
        };
        self.shutdown().await;
        Stopped {
            handed_to,
            unanswered,
        }
    }
}

fn matched(metrics: &Metrics, id: RawId) -> Option<crate::types::LogId> {
    metrics.replication.as_ref()?.get(&id).copied().flatten()
}
