//! Changes of leadership and membership, taken on any node and made by the leader.
//!
//! A node that does not lead passes the order on to the one that does, over the peers'
//! transport, and waits for what came of it. Orders are not repeated: an operator who is
//! told that the fate is unknown looks at the members and decides.

use std::sync::Arc;
use std::time::Duration;

use aegis_api::{ChangeError, Leadership, MemberRole, NodeId};
use aegis_committee::{Door, MESSAGES};
use aegis_ledger::codec;
use aegis_peers::{
    FrameStream, Lane, Method, Peer, PeerError, Peers, Refusal, RefusalCode, Service,
};
use aegis_raft::{Node, RaftNode, TransferError};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// The procedure by which an order reaches the leader.
pub const ORDER: Method = Method::call("/admin/order", Lane::Control, 4 << 10, 64 << 10);

/// How long an order may take beyond its own deadline before the asking node gives up.
const ORDER_SLACK: Duration = Duration::from_secs(2);
/// How long a change of the membership may take.
const CHANGE_DEADLINE: Duration = Duration::from_secs(15);

/// What the leader is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Hand leadership to a voter.
    Transfer {
        /// The voter.
        to: u64,
        /// How long it may take, in milliseconds.
        deadline_ms: u64,
    },
    /// Add a learner.
    AddLearner {
        /// The node.
        id: u64,
        /// Where it is found.
        node: Node,
    },
    /// Make a learner a voter.
    Promote {
        /// The node.
        id: u64,
    },
    /// Take a node out.
    Remove {
        /// The node.
        id: u64,
    },
    /// Say how the members stand.
    Members,
}

impl Order {
    fn deadline(&self) -> Duration {
        match self {
            Self::Transfer { deadline_ms, .. } => Duration::from_millis(*deadline_ms),
            Self::Members => Duration::from_secs(1),
            Self::AddLearner { .. } | Self::Promote { .. } | Self::Remove { .. } => CHANGE_DEADLINE,
        }
    }
}

/// What came of an order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Done {
    /// It is done.
    Changed,
    /// Who leads now.
    Leads {
        /// The leader.
        leader: u64,
        /// The term of its election.
        term: u64,
    },
    /// How the members stand.
    Members(Vec<MemberReport>),
}

/// A member as the leader sees it, on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberReport {
    id: u64,
    node: Node,
    voter: bool,
    leads: bool,
    lag: Option<u64>,
    silent_ms: Option<u64>,
    answers: bool,
}

/// Why an order was not carried out, on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum NotDone {
    /// The node asked does not lead.
    NotLeader,
    /// No such member.
    UnknownMember(u64),
    /// A member already.
    AlreadyMember(u64),
    /// Not a voter.
    NotVoter(u64),
    /// The last voter.
    LastVoter(u64),
    /// Lacks too much.
    Lagging {
        /// The node.
        id: u64,
        /// What it lacks.
        lag: u64,
        /// What it may lack.
        max: u64,
    },
    /// Does not answer.
    Unreachable(u64),
    /// Another change is under way.
    InProgress,
    /// Never acceptable.
    Invalid(String),
    /// Not done in time.
    TimedOut {
        /// How long was waited, in milliseconds.
        after_ms: u64,
    },
    /// The node stops.
    Stopping,
    /// Anything else.
    Failed(String),
}

#[derive(Serialize, Deserialize)]
enum Request {
    V1(Order),
}

#[derive(Serialize, Deserialize)]
enum Response {
    V1(Result<Done, NotDone>),
}

/// Takes orders on this node.
#[derive(Clone)]
pub struct Orders {
    raft: Arc<RaftNode>,
    peers: Peers,
}

impl Orders {
    /// Orders to `raft`, reaching its leader over `peers`.
    #[must_use]
    pub const fn new(raft: Arc<RaftNode>, peers: Peers) -> Self {
        Self { raft, peers }
    }

    /// Carries an order out, here or on the leader.
    ///
    /// # Errors
    /// Why it was not carried out.
    pub async fn give(&self, order: Order) -> Result<Done, ChangeError> {
        let no_leader = ChangeError::NoLeader {
            retry_after: Duration::from_secs(1),
        };
        let Some(leader) = self.raft.status().leader else {
            return Err(no_leader);
        };
        if leader == self.raft.id() {
            return carry_out(&self.raft, order).await.map_err(Into::into);
        }
        let removed = match &order {
            Order::Remove { id } => Some(*id),
            _ => None,
        };
        match self.pass_on(leader, order).await {
            // A leader that removes itself may be shut out before it can say so.
            Err(ChangeError::Failed { .. }) if removed == Some(leader.get()) => {
                self.see_removed(leader).await
            }
            done => done?.map_err(Into::into),
        }
    }

    /// Waits until this node knows that another is no longer a member.
    async fn see_removed(&self, node: aegis_peers::NodeId) -> Result<Done, ChangeError> {
        let mut watch = self.raft.watch();
        let gone = watch.wait_for(|status| status.members.iter().all(|member| member.id != node));
        match tokio::time::timeout(CHANGE_DEADLINE, gone).await {
            Ok(Some(_)) => Ok(Done::Changed),
            Ok(None) => Err(ChangeError::Stopping),
            Err(_) => Err(ChangeError::TimedOut {
                deadline: CHANGE_DEADLINE,
            }),
        }
    }

    async fn pass_on(
        &self,
        leader: aegis_peers::NodeId,
        order: Order,
    ) -> Result<Result<Done, NotDone>, ChangeError> {
        let deadline = order.deadline().saturating_add(ORDER_SLACK);
        let request = encode(&Request::V1(order));
        let response = self
            .peers
            .call(leader, ORDER, request, deadline)
            .await
            .map_err(|error| match error {
                error if error.is_without_effect() => ChangeError::Unreachable {
                    node: NodeId(leader.get()),
                },
                PeerError::TimedOut { .. } => ChangeError::TimedOut { deadline },
                error => ChangeError::Failed {
                    reason: error.to_string(),
                },
            })?;
        let Response::V1(done) =
            codec::decode(&response, "answer to an order").map_err(|error| {
                ChangeError::Failed {
                    reason: error.to_string(),
                }
            })?;
        Ok(done)
    }
}

async fn carry_out(raft: &RaftNode, order: Order) -> Result<Done, NotDone> {
    let deadline = order.deadline();
    let change = async {
        match order {
            Order::Transfer { to, .. } => {
                raft.transfer_leader(node_id(to)?, deadline).await?;
                let status = raft.status();
                Ok(Done::Leads {
                    leader: to,
                    term: status.term,
                })
            }
            Order::AddLearner { id, node } => {
                raft.add_learner(node_id(id)?, node).await?;
                Ok(Done::Changed)
            }
            Order::Promote { id } => {
                raft.promote(node_id(id)?).await?;
                Ok(Done::Changed)
            }
            Order::Remove { id } => {
                raft.remove(node_id(id)?).await?;
                Ok(Done::Changed)
            }
            Order::Members => Ok(Done::Members(
                raft.members().iter().map(MemberReport::of).collect(),
            )),
        }
    };
    let after_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    // The transfer keeps its own deadline and knows more about what happened.
    let limit = deadline.saturating_add(ORDER_SLACK / 2);
    tokio::time::timeout(limit, change)
        .await
        .unwrap_or(Err(NotDone::TimedOut { after_ms }))
}

fn node_id(id: u64) -> Result<aegis_peers::NodeId, NotDone> {
    aegis_peers::NodeId::new(id).ok_or_else(|| NotDone::Invalid("node ids count from 1".to_owned()))
}

impl MemberReport {
    fn of(member: &aegis_raft::Member) -> Self {
        Self {
            id: member.id.get(),
            node: member.node.clone(),
            voter: member.role == aegis_raft::MemberRole::Voter,
            leads: member.state == aegis_raft::MemberState::Leading,
            answers: member.state != aegis_raft::MemberState::Silent,
            lag: member.lag,
            silent_ms: member
                .silent_for
                .map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl From<MemberReport> for aegis_api::Member {
    fn from(report: MemberReport) -> Self {
        Self {
            id: NodeId(report.id),
            name: report.node.name,
            role: if report.voter {
                MemberRole::Voter
            } else {
                MemberRole::Learner
            },
            peer_address: report.node.peer_addr,
            api_address: report.node.api_addr,
            state: match (report.leads, report.answers) {
                (true, _) => aegis_api::MemberState::Leading,
                (false, true) => aegis_api::MemberState::Following,
                (false, false) => aegis_api::MemberState::Silent,
            },
            lag: report.lag,
            silent_for: report.silent_ms.map(Duration::from_millis),
        }
    }
}

impl From<TransferError> for NotDone {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::NotLeader { .. } => Self::NotLeader,
            TransferError::NotVoter { to } => Self::NotVoter(to.get()),
            TransferError::Silent { to, .. } => Self::Unreachable(to.get()),
            TransferError::Lagging { to, lag, lag_max } => Self::Lagging {
                id: to.get(),
                lag,
                max: lag_max,
            },
            TransferError::TimedOut { after, .. } => Self::TimedOut {
                after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            },
            TransferError::Stopping => Self::Stopping,
            error @ (TransferError::NoSuccessor | TransferError::OtherLeads { .. }) => {
                Self::Failed(error.to_string())
            }
        }
    }
}

impl From<aegis_raft::ChangeError> for NotDone {
    fn from(error: aegis_raft::ChangeError) -> Self {
        use aegis_raft::ChangeError as E;
        match error {
            E::NotLeader { .. } => Self::NotLeader,
            E::InProgress => Self::InProgress,
            E::AlreadyMember { id, .. } => Self::AlreadyMember(id.get()),
            E::NotMember { id } => Self::UnknownMember(id.get()),
            E::Lagging { id, lag, lag_max } => Self::Lagging {
                id: id.get(),
                lag,
                max: lag_max,
            },
            E::Silent { id, .. } => Self::Unreachable(id.get()),
            E::LastVoter { id } => Self::LastVoter(id.get()),
            E::Stopping => Self::Stopping,
            error @ (E::UsedId { .. } | E::BadAddress { .. }) => Self::Invalid(error.to_string()),
            error @ E::Interrupted => Self::Failed(error.to_string()),
        }
    }
}

impl From<NotDone> for ChangeError {
    fn from(error: NotDone) -> Self {
        match error {
            // Leadership moved between the question and the order.
            NotDone::NotLeader => Self::NoLeader {
                retry_after: Duration::from_secs(1),
            },
            NotDone::UnknownMember(id) => Self::UnknownMember { node: NodeId(id) },
            NotDone::AlreadyMember(id) => Self::AlreadyMember { node: NodeId(id) },
            NotDone::NotVoter(id) => Self::WrongRole {
                node: NodeId(id),
                role: MemberRole::Learner,
                expected: MemberRole::Voter,
            },
            NotDone::LastVoter(id) => Self::LastVoter { node: NodeId(id) },
            NotDone::Lagging { id, lag, max } => Self::Lagging {
                node: NodeId(id),
                lag,
                max,
            },
            NotDone::Unreachable(id) => Self::Unreachable { node: NodeId(id) },
            NotDone::InProgress => Self::InProgress,
            NotDone::Invalid(reason) => Self::Invalid { reason },
            NotDone::TimedOut { after_ms } => Self::TimedOut {
                deadline: Duration::from_millis(after_ms),
            },
            NotDone::Stopping => Self::Stopping,
            NotDone::Failed(reason) => Self::Failed { reason },
        }
    }
}

impl From<Done> for Option<Leadership> {
    fn from(done: Done) -> Self {
        match done {
            Done::Leads { leader, term } => Some(Leadership {
                leader: NodeId(leader),
                term,
            }),
            Done::Changed | Done::Members(_) => None,
        }
    }
}

/// Raft's procedures, orders and the committee's messages, as one service for the peers.
pub struct NodeService {
    raft: Arc<RaftNode>,
    inner: Arc<dyn Service>,
    seat: Option<Door>,
}

impl NodeService {
    /// What `raft` serves, orders to it, and messages to the seat, where the node has one.
    #[must_use]
    pub fn new(raft: Arc<RaftNode>, seat: Option<Door>) -> Self {
        let inner = raft.service();
        Self { raft, inner, seat }
    }
}

impl Service for NodeService {
    fn call(
        &self,
        from: Peer,
        method: Method,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        if method != ORDER {
            return self.inner.call(from, method, body);
        }
        let raft = Arc::clone(&self.raft);
        async move {
            let Request::V1(order) = codec::decode(&body, "order")
                .map_err(|error| Refusal::new(RefusalCode::Malformed, error))?;
            tracing::info!(from = from.node_id.get(), ?order, "order from a peer");
            Ok(encode(&Response::V1(carry_out(&raft, order).await)))
        }
        .boxed()
    }

    fn stream(
        &self,
        from: Peer,
        method: Method,
        input: FrameStream,
    ) -> BoxFuture<'static, Result<FrameStream, Refusal>> {
        if method != MESSAGES {
            return self.inner.stream(from, method, input);
        }
        let taken = match &self.seat {
            Some(seat) => Ok(seat.receive(from, input)),
            None => Err(Refusal::new(
                RefusalCode::UnknownMethod,
                "this node has no seat in the committee",
            )),
        };
        async move { taken }.boxed()
    }
}

fn encode<T: Serialize>(message: &T) -> Bytes {
    postcard::to_allocvec(message)
        .expect("orders are plain data, which always encodes")
        .into()
}
