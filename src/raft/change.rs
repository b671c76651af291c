//! Changes of the membership, one node at a time, by joint consensus.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aegis_peers::NodeId;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};

use crate::members::{Node, lag, silence};
use crate::node::RaftNode;
use crate::types::{self, Metrics, RawId, Types, node_id};

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader changes the membership.
    #[error("this node does not lead, {}", leader_text(*.leader))]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// An earlier change is not finished.
    #[error("an earlier change of the membership is under way")]
    InProgress,
    /// The id was a member's before; ids are never used twice.
    #[error("node id {id} was used before; a node that returns empty joins under a new id")]
    UsedId {
        /// The id.
        id: NodeId,
    },
    /// The id is a member's, found elsewhere.
    #[error("node {id} is a member already, at {}", .present.peer_addr)]
    AlreadyMember {
        /// The id.
        id: NodeId,
        /// Where that member is found.
        present: Node,
    },
    /// The address is not `host:port`.
    #[error("{address:?} is not an address of the form host:port")]
    BadAddress {
        /// The address.
        address: String,
    },
    /// No such member.
    #[error("node {id} is not a member")]
    NotMember {
        /// The id.
        id: NodeId,
    },
    /// The node lacks too much of the log.
    #[error("node {id} lacks {lag} entries, at most {lag_max} are allowed")]
    Lagging {
        /// The id.
        id: NodeId,
        /// Entries that it lacks.
        lag: u64,
        /// The most that it may lack.
        lag_max: u64,
    },
    /// The node has not answered lately.
    #[error("node {id} has not answered for {silent_for:?}")]
    Silent {
        /// The id.
        id: NodeId,
        /// Since when, if it ever answered.
        silent_for: Option<Duration>,
    },
    /// The last voter cannot go.
    #[error("node {id} is the last voter")]
    LastVoter {
        /// The id.
        id: NodeId,
    },
    /// Leadership was lost on the way; the change may still happen. The members say whether
    /// it did.
    #[error("leadership was lost during the change, which may or may not happen")]
    Interrupted,
    /// The node is stopping.
    #[error("this node is stopping")]
    Stopping,
}

fn leader_text(leader: Option<NodeId>) -> String {
    leader.map_or_else(
        || "and nobody is known to".to_owned(),
        |leader| format!("node {leader} does"),
    )
}

/// Where a node stands before a change.
enum Standing {
    Absent,
    Learner,
    Voter,
}

impl RaftNode {
    /// Adds a node that receives the log and does not vote. Adding it again changes nothing.
    pub async fn add_learner(&self, id: NodeId, node: Node) -> Result<(), ChangeError> {
        if node.peer_addr.parse::<aegis_peers::PeerAddress>().is_err() {
            return Err(ChangeError::BadAddress {
                address: node.peer_addr,
            });
        }
        let metrics = self.leading()?;
        match metrics.membership_config.membership().get_node(&id.get()) {
            Some(present) if *present == node => return Ok(()),
            Some(present) => {
                return Err(ChangeError::AlreadyMember {
                    id,
                    present: present.clone(),
                });
            }
            None if self.roster.is_used(id.get()) => return Err(ChangeError::UsedId { id }),
            None => {}
        }
        self.change(
            ChangeMembers::AddNodes(BTreeMap::from([(id.get(), node)])),
            true,
        )
        .await
    }

    /// Makes a learner a voter, once it has nearly all of the log. Promoting a voter changes
    /// nothing.
    pub async fn promote(&self, id: NodeId) -> Result<(), ChangeError> {
        let metrics = self.leading()?;
        match standing(&metrics, id.get()) {
            Standing::Absent => return Err(ChangeError::NotMember { id }),
            Standing::Voter => return Ok(()),
            Standing::Learner => {}
        }
        let silent_for = silence(&metrics, id.get());
        if silent_for.is_none_or(|silent| silent > self.settings.election_timeout_max) {
            return Err(ChangeError::Silent { id, silent_for });
        }
        let matched = metrics
            .replication
            .as_ref()
            .and_then(|matched| matched.get(&id.get()).copied().flatten());
        let (lag, lag_max) = (lag(&metrics, matched), self.settings.promote_lag_max);
        if lag > lag_max {
            return Err(ChangeError::Lagging { id, lag, lag_max });
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id.get()])), true)
            .await
    }

    /// Removes a member for good. A leader that removes itself goes on until that is
    /// committed, hands over and steps down.
    pub async fn remove(&self, id: NodeId) -> Result<(), ChangeError> {
        let metrics = self.leading()?;
        let ids = BTreeSet::from([id.get()]);
        match standing(&metrics, id.get()) {
            Standing::Absent => Err(ChangeError::NotMember { id }),
            Standing::Learner => self.change(ChangeMembers::RemoveNodes(ids), false).await,
            Standing::Voter if metrics.membership_config.membership().voter_ids().count() == 1 => {
                Err(ChangeError::LastVoter { id })
            }
            Standing::Voter => self.change(ChangeMembers::RemoveVoters(ids), false).await,
        }
    }

    /// The metrics of this node if it leads.
    fn leading(&self) -> Result<Metrics, ChangeError> {
        let metrics = self.core.metrics().borrow_watched().clone();
        if metrics.current_leader == Some(metrics.id) {
            Ok(metrics)
        } else {
            Err(ChangeError::NotLeader {
                leader: metrics.current_leader.map(node_id),
            })
        }
    }

    async fn change(
        &self,
        change: ChangeMembers<RawId, Node>,
        retain: bool,
    ) -> Result<(), ChangeError> {
        match self.core.change_membership(change, retain).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(error)) => Err(change_error(error)),
            Err(RaftError::Fatal(_)) => Err(ChangeError::Stopping),
        }
    }
}

/// Finishes a change that an earlier leader left half done: a committed joint membership
/// becomes the uniform one that it leads to.
pub(crate) async fn finish_joint(core: &crate::state::Core) {
    let metrics = core.metrics().borrow_watched().clone();
    let effective = &metrics.membership_config;
    let is_joint = effective.membership().get_joint_config().len() > 1;
    let is_committed = metrics.committed_membership_config.log_id() == effective.log_id();
    // A change of this leader's own finishes by itself.
    let is_inherited = effective
        .log_id()
        .is_some_and(|at| at.leader_id.term < metrics.current_term);
    let leads = metrics.current_leader == Some(metrics.id);
    if leads && is_joint && is_committed && is_inherited {
        tracing::info!("finishing a change of the membership that an earlier leader began");
        if let Err(error) = core
            .change_membership(ChangeMembers::AddVoterIds(BTreeSet::new()), false)
            .await
        {
            tracing::warn!(%error, "the change of the membership is not finished yet");
        }
    }
}

fn standing(metrics: &Metrics, id: RawId) -> Standing {
    let membership = metrics.membership_config.membership();
    if membership.voter_ids().any(|voter| voter == id) {
        Standing::Voter
    } else if membership.get_node(&id).is_some() {
        Standing::Learner
    } else {
        Standing::Absent
    }
}

fn change_error(error: ClientWriteError<Types>) -> ChangeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => ChangeError::NotLeader {
            leader: forward.leader_id.map(node_id),
        },
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(
            learner,
        )) => ChangeError::NotMember {
            id: node_id(learner.node_id),
        },
        ClientWriteError::ChangeMembershipError(_) => ChangeError::InProgress,
        ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_) => {
            ChangeError::Interrupted
        }
    }
}

/// The nodes of a membership, for the transport.
pub(crate) fn nodes(membership: &types::StoredMembership) -> BTreeMap<RawId, Node> {
    membership
        .membership()
        .nodes()
        .map(|(id, node)| (*id, node.clone()))
        .collect()
}
