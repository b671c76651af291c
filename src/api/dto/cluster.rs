//! The node and the cluster as clients see them.

use std::collections::BTreeMap;

use aegis_crypto::Digest;
use aegis_ledger::{CoreRecord, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::committee::CommitteeStatus;
use crate::governance::{
    Alarm, HealthPart, Member, MemberRole, MemberState, NodeId, NodeStatus, Role,
};

/// What a node knows of itself and its cluster.
#[derive(Serialize, ToSchema)]
#[schema(as = Status)]
pub(crate) struct StatusBody {
    /// The cluster.
    #[schema(value_type = String)]
    cluster_id: Digest,
    /// What people call the cluster.
    cluster_name: String,
    /// Which life of the cluster this is: a restore begins the next.
    incarnation: u64,
    /// The node's number.
    node_id: NodeId,
    /// What people call the node.
    node_name: String,
    /// The node's part.
    role: Role,
    /// Who leads, as far as the node knows.
    leader: Option<NodeId>,
    /// The term of the election.
    term: u64,
    /// The last entry in the node's log.
    last_index: u64,
    /// The last entry that the node knows to be committed.
    committed_index: u64,
    /// The last entry that the node has applied.
    applied_index: u64,
    /// The members.
    members: Vec<MemberBody>,
    /// Proposals by status.
    proposals: BTreeMap<&'static str, u64>,
    /// The committee that certifies decisions; null where there is none.
    committee: Option<CommitteeStatus>,
    /// Free space on the data folder's file system.
    free_bytes: u64,
    /// What an operator should know of.
    alarms: Vec<Alarm>,
    /// The version of the binary.
    version: String,
}

impl StatusBody {
    pub(crate) fn new(
        genesis: &aegis_ledger::Genesis,
        status: NodeStatus,
        core: &CoreRecord,
        committee: Option<CommitteeStatus>,
    ) -> Self {
        Self {
            cluster_id: genesis.cluster_id(),
            cluster_name: genesis.name().to_owned(),
            incarnation: status.incarnation,
            node_id: status.id,
            node_name: status.name,
            role: status.role,
            leader: status.leader,
            term: status.term,
            last_index: status.last_index.0,
            committed_index: status.committed_index.0,
            applied_index: status.applied_index.0,
            members: status.members.into_iter().map(MemberBody::from).collect(),
            proposals: Status::ALL
                .into_iter()
                .map(Status::as_str)
                .zip(core.statuses)
                .collect(),
            committee,
            free_bytes: status.free_bytes,
            alarms: status.alarms,
            version: status.version,
        }
    }
}

/// A member of the cluster.
#[derive(Serialize, ToSchema)]
#[schema(as = Member)]
pub(crate) struct MemberBody {
    /// Its number.
    id: NodeId,
    /// What people call it.
    name: String,
    /// Its part.
    role: MemberRole,
    /// Where its peers reach it.
    peer_address: String,
    /// Where its clients reach it.
    api_address: String,
    /// How it stands, as far as the node that was asked knows.
    state: MemberState,
    /// Entries that its log lacks; only the leader knows.
    lag: Option<u64>,
    /// Milliseconds since it last answered the leader; only the leader knows.
    last_contact_ms: Option<u64>,
}

impl From<Member> for MemberBody {
    fn from(member: Member) -> Self {
        Self {
            id: member.id,
            name: member.name,
            role: member.role,
            peer_address: member.peer_address,
            api_address: member.api_address,
            state: member.state,
            lag: member.lag,
            last_contact_ms: member
                .silent_for
                .map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// Who is to lead.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TransferRequest)]
pub(crate) struct TransferRequest {
    /// The member that is to lead.
    pub(crate) to: NodeId,
    /// How long it may take, in milliseconds; 10 s if absent.
    #[serde(default, deserialize_with = "aegis_crypto::json::present")]
    pub(crate) timeout_ms: Option<u64>,
}

/// Which learner is to vote.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PromoteRequest)]
pub(crate) struct PromoteRequest {
    /// The learner.
    pub(crate) id: NodeId,
}

/// A change of membership that is committed.
#[derive(Serialize, ToSchema)]
#[schema(as = MembershipChanged)]
pub(crate) struct ChangedBody {
    /// The node that it is about.
    pub(crate) id: NodeId,
    /// Its part now.
    pub(crate) role: MemberRole,
}

/// Health, with what it depends on.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthBody {
    /// `ok` or `failing`.
    pub(crate) status: &'static str,
    /// What it depends on.
    pub(crate) parts: Vec<HealthPart>,
    /// What an operator should know of.
    pub(crate) alarms: Vec<Alarm>,
}
