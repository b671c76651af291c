//! What the edge asks of a node, answered by Raft and the disk.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_api::{
    Alarm, ChangeError, Consistency, Contradiction, Governance, HealthPart, Leadership, Member,
    NewLearner, NodeId, NodeStatus, ReadError, Role, SeatStanding, SnapshotError, SnapshotStream,
    SubmitError, View,
};
use aegis_committee::Door;
use aegis_crypto::Digest;
use aegis_ledger::{Answer, Archive, ArchiveError, Entry, Genesis, LogIndex, Ordinal, query};
use aegis_pbft::{Evidence, Message};
use aegis_raft::{Admission, Decline, Node, RaftNode};
use aegis_storage::Store;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::{Semaphore, watch};

use crate::admin::{Done, Order, Orders};
use crate::machine::Progress;
use crate::observe;

/// When a client should come back after a full queue.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// When a client should come back after it met no leader: about an election.
const LEADER_RETRY: Duration = Duration::from_secs(1);
/// Bytes of a snapshot that are read at once.
const SNAPSHOT_READ_BYTES: usize = 256 << 10;

/// A running node as its edge sees it.
pub struct NodeGovernance {
    genesis: Arc<Genesis>,
    name: String,
    store: Store,
    gate: Arc<Gate>,
    raft: Arc<RaftNode>,
    orders: Orders,
    progress: Progress,
    seat: Option<Door>,
    /// One snapshot is made at a time: it reads the whole state.
    snapshots: Arc<Semaphore>,
}

/// What a node refuses to propose, for its own clients and for other nodes.
pub struct Gate {
    store: Store,
    free_floor_bytes: u64,
}

impl Gate {
    /// Refuses writes while less than `free_floor_bytes` are free on the disk of `store`.
    #[must_use]
    pub const fn new(store: Store, free_floor_bytes: u64) -> Self {
        Self {
            store,
            free_floor_bytes,
        }
    }

    fn check_space(&self) -> Result<(), Decline> {
        if !self.store.is_low_on_space() {
            return Ok(());
        }
        Err(Decline::LowSpace {
            free_bytes: self.store.space().map_or(0, |space| space.free_bytes),
            floor_bytes: self.free_floor_bytes,
        })
    }
}

impl Admission for Gate {
    fn admit(&self, payload: &[u8]) -> Result<(), Decline> {
        self.check_space()?;
        match Entry::decode(payload) {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "a peer's command cannot be read: is it a newer version's?");
                Err(Decline::Unreadable)
            }
        }
    }
}

/// A refusal of this node's gate, or of the leader's, as clients are told.
fn declined(why: Decline) -> SubmitError {
    match why {
        Decline::Busy => SubmitError::Busy {
            retry_after: BUSY_RETRY,
        },
        Decline::LowSpace {
            free_bytes,
            floor_bytes,
        } => SubmitError::LowSpace {
            free_bytes,
            floor_bytes,
        },
        // Until the leader is upgraded, or another node leads.
        Decline::Unreadable => SubmitError::NoLeader {
            retry_after: LEADER_RETRY,
        },
    }
}

/// What a [`NodeGovernance`] is made of.
pub struct Parts {
    /// The root of trust.
    pub genesis: Arc<Genesis>,
    /// The node's name for people.
    pub name: String,
    /// Its disk.
    pub store: Store,
    /// What it refuses.
    pub gate: Arc<Gate>,
    /// Its replication.
    pub raft: Arc<RaftNode>,
    /// Its way to change the cluster.
    pub orders: Orders,
    /// What to follow.
    pub progress: Progress,
    /// Its seat in the committee, if it has one.
    pub seat: Option<Door>,
}

impl NodeGovernance {
    /// The node that these parts make.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            genesis,
            name,
            store,
            gate,
            raft,
            orders,
            progress,
            seat,
        } = parts;
        let snapshots = Arc::new(Semaphore::new(1));
        Self {
            genesis,
            name,
            store,
            gate,
            raft,
            orders,
            progress,
            seat,
            snapshots,
        }
    }

    fn view_now(&self) -> Result<View, ReadError> {
        let view = self.store.view();
        let applied = view.applied().map_err(|error| ReadError::Failed {
            reason: error.to_string(),
        })?;
        let index = LogIndex(applied.map_or(0, |applied| applied.index));
        Ok(View {
            archive: Box::new(view),
            index,
        })
    }

    fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        if self.store.is_low_on_space() {
            alarms.push(Alarm {
                code: "low_space".to_owned(),
                detail: "free space is under the floor; writes are refused until there is more"
                    .to_owned(),
            });
        }
        alarms
    }

    async fn change(&self, order: Order) -> Result<(), ChangeError> {
        self.orders.give(order).await.map(|_| ())
    }
}

impl Governance for NodeGovernance {
    fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    fn submit(&self, entry: Entry) -> BoxFuture<'_, Result<Answer, SubmitError>> {
        async move {
            self.gate.check_space().map_err(declined)?;
            let committed = self
                .raft
                .submit(entry.encode().into())
                .await
                .map_err(|error| match error {
                    aegis_raft::SubmitError::Busy { .. } => SubmitError::Busy {
                        retry_after: BUSY_RETRY,
                    },
                    aegis_raft::SubmitError::NoLeader { .. } => SubmitError::NoLeader {
                        retry_after: LEADER_RETRY,
                    },
                    aegis_raft::SubmitError::Declined(why) => declined(why),
                    aegis_raft::SubmitError::Stopping => SubmitError::Stopping,
                    aegis_raft::SubmitError::Unknown { .. } => SubmitError::Unknown,
                    aegis_raft::SubmitError::TooLarge { bytes, bytes_max } => {
                        // The edge bounds bodies far below this.
                        tracing::error!(bytes, bytes_max, "an entry is larger than the log takes");
                        SubmitError::Unknown
                    }
                })?;
            Answer::decode(&committed.answer).map_err(|error| {
                tracing::error!(%error, "a peer's answer does not decode");
                SubmitError::Unknown
            })
        }
        .boxed()
    }

    fn view(&self, consistency: Consistency) -> BoxFuture<'_, Result<View, ReadError>> {
        async move {
            if consistency == Consistency::Linearizable {
                self.raft
                    .read_barrier()
                    .await
                    .map_err(|error| match error {
                        aegis_raft::ReadError::Stopping => ReadError::Stopping,
                        aegis_raft::ReadError::Busy { .. } => ReadError::Busy {
                            retry_after: BUSY_RETRY,
                        },
                        _ => ReadError::NoLeader {
                            retry_after: LEADER_RETRY,
                        },
                    })?;
            }
            self.view_now()
        }
        .boxed()
    }

    fn applied_index(&self) -> LogIndex {
        LogIndex(self.raft.applied().borrow().unwrap_or(0))
    }

    fn event_numbers(&self) -> watch::Receiver<u64> {
        self.progress.events.clone()
    }

    fn status(&self) -> NodeStatus {
        let status = self.raft.status();
        let index = |index: Option<u64>| LogIndex(index.unwrap_or(0));
        NodeStatus {
            id: NodeId(status.id.get()),
            name: self.name.clone(),
            incarnation: self.store.identity().incarnation,
            role: role(status.role),
            leader: status.leader.map(|leader| NodeId(leader.get())),
            term: status.term,
            last_index: index(status.last_index),
            committed_index: index(status.committed_index),
            applied_index: index(status.applied_index),
            members: status.members.iter().map(member).collect(),
            free_bytes: self.store.space().map_or(0, |space| space.free_bytes),
            alarms: self.alarms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    fn seat(&self) -> Option<SeatStanding> {
        let standing = self.seat.as_ref()?.standing()?;
        let status = standing.status;
        let committed = status.committed.iter();
        Some(SeatStanding {
            epoch: standing.epoch,
            seat: standing.seat,
            view: status.view.0,
            primary: status.primary,
            changing_view: status.changing_view,
            low: Ordinal(status.low.0),
            high: Ordinal(status.high.0),
            certified_through: Ordinal(status.executed.0),
            committed: committed
                .map(|(seat, sequence)| (*seat, Ordinal(sequence.0)))
                .collect(),
            checkpoint: standing.checkpoint.map(|note| note.to_string()),
        })
    }

    fn contradictions(&self) -> Result<Vec<Contradiction>, ArchiveError> {
        let Some(seat) = &self.seat else {
            return Ok(Vec::new());
        };
        let kept = seat.evidence().map_err(|error| ArchiveError {
            reason: error.to_string(),
        })?;
        let view = self.store.view();
        let read = kept
            .into_iter()
            .map(|encoded| contradiction(&view, &self.genesis, encoded.into()));
        read.collect()
    }

    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>, ChangeError>> {
        async move {
            match self.orders.give(Order::Members).await? {
                Done::Members(reports) => Ok(reports.into_iter().map(Into::into).collect()),
                Done::Changed | Done::Leads { .. } => Err(ChangeError::Failed {
                    reason: "the leader answered another question".to_owned(),
                }),
            }
        }
        .boxed()
    }

    fn transfer_leader(
        &self,
        to: NodeId,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Leadership, ChangeError>> {
        async move {
            let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            let done = self
                .orders
                .give(Order::Transfer {
                    to: to.0,
                    deadline_ms,
                })
                .await?;
            Option::from(done).ok_or_else(|| ChangeError::Failed {
                reason: "the leader answered another question".to_owned(),
            })
        }
        .boxed()
    }

    fn add_learner(&self, learner: NewLearner) -> BoxFuture<'_, Result<(), ChangeError>> {
        let node = Node {
            name: learner.name,
            peer_addr: learner.peer_address,
            api_addr: learner.api_address,
        };
        self.change(Order::AddLearner {
            id: learner.id.0,
            node,
        })
        .boxed()
    }

    fn promote(&self, node: NodeId) -> BoxFuture<'_, Result<(), ChangeError>> {
        self.change(Order::Promote { id: node.0 }).boxed()
    }

    fn remove(&self, node: NodeId) -> BoxFuture<'_, Result<(), ChangeError>> {
        self.change(Order::Remove { id: node.0 }).boxed()
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<SnapshotStream, SnapshotError>> {
        async move {
            let permit = Arc::clone(&self.snapshots)
                .try_acquire_owned()
                .map_err(|_| SnapshotError::Busy {
                    retry_after: BUSY_RETRY,
                })?;
            let store = self.store.clone();
            let saved = tokio::task::spawn_blocking(move || {
                // Until the file is written, also if the client has gone.
                let _permit = permit;
                let began = Instant::now();
                let view = store.view();
                let (file, _) = store
                    .snapshots()
                    .save(&view)
                    .map_err(|error| error.to_string())?;
                let open = file.open().map_err(|error| error.to_string())?;
                observe::snapshot_written(began.elapsed());
                Ok::<_, String>((file, open))
            });
            let (file, open) = saved
                .await
                .map_err(|error| SnapshotError::Failed {
                    reason: error.to_string(),
                })?
                .map_err(|reason| SnapshotError::Failed { reason })?;
            let stream = stream::try_unfold(open, |mut open| async move {
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; SNAPSHOT_READ_BYTES];
                    let count = open.read(&mut piece)?;
                    piece.truncate(count);
                    Ok::<_, std::io::Error>((Bytes::from(piece), open))
                });
                let (piece, open) = read.await.map_err(std::io::Error::other)??;
                Ok(if piece.is_empty() {
                    None
                } else {
                    Some((piece, open))
                })
            });
            Ok(SnapshotStream {
                len: file.bytes,
                digest: file.digest,
                index: LogIndex(file.index),
                stream: stream.boxed(),
            })
        }
        .boxed()
    }

    fn liveness(&self) -> Vec<HealthPart> {
        let fatal = self.raft.status().fatal;
        vec![HealthPart {
            name: "process",
            ok: fatal.is_none(),
            detail: fatal.unwrap_or_else(|| "it serves".to_owned()),
        }]
    }

    fn readiness(&self) -> BoxFuture<'_, Vec<HealthPart>> {
        async move {
            let status = self.raft.status();
            let leader = HealthPart {
                name: "leader",
                ok: status.leader.is_some(),
                detail: status.leader.map_or_else(
                    || "none is known".to_owned(),
                    |leader| format!("node {leader}"),
                ),
            };
            let barrier = self.raft.read_barrier().await;
            let read = HealthPart {
                name: "linearizable_read",
                ok: barrier.is_ok(),
                detail: barrier.map_or_else(
                    |error| error.to_string(),
                    |index| format!("at index {index}"),
                ),
            };
            let behind = status
                .committed_index
                .unwrap_or(0)
                .saturating_sub(status.applied_index.unwrap_or(0));
            let caught_up = HealthPart {
                name: "caught_up",
                ok: read.ok,
                detail: format!("{behind} committed entries were not applied yet when asked"),
            };
            vec![leader, read, caught_up]
        }
        .boxed()
    }
}

/// Evidence as clients see it. It was checked when it was kept.
fn contradiction(
    archive: &dyn Archive,
    genesis: &Genesis,
    encoded: Bytes,
) -> Result<Contradiction, ArchiveError> {
    let unreadable = |reason: String| ArchiveError {
        reason: format!("evidence against a validator: {reason}"),
    };
    let evidence = Evidence::decode(&encoded).map_err(|error| unreadable(error.to_string()))?;
    let epoch = evidence.scope.epoch;
    let committee = query::committee(archive, genesis, epoch)?
        .ok_or_else(|| unreadable(format!("epoch {epoch} is unknown")))?
        .committee()
        .map_err(|error| unreadable(error.to_string()))?;
    let kind = evidence.first.kind();
    let no_claim = || unreadable(format!("a {kind} contradicts nothing"));
    let (view, sequence, first) = claim(&evidence, &evidence.first).ok_or_else(no_claim)?;
    let (_, _, second) = claim(&evidence, &evidence.second).ok_or_else(no_claim)?;
    let seat = evidence.first.signer(committee.seats());
    Ok(Contradiction {
        seat: seat.ok_or_else(no_claim)?,
        epoch,
        kind,
        view,
        sequence,
        first,
        second,
        encoded,
    })
}

/// What a message says: where, and what by digest.
fn claim(evidence: &Evidence, message: &Message) -> Option<(Option<u64>, Ordinal, Digest)> {
    let (view, sequence, digest) = match message {
        Message::PrePrepare(message) => {
            (Some(message.view), message.sequence, message.value.whole())
        }
        Message::Prepare(message) => (Some(message.view), message.sequence, message.digest),
        Message::Commit(message) => (Some(message.view), message.sequence, message.value.digest()),
        Message::Checkpoint(message) => {
            let text = evidence.scope.note(&message.head).to_text();
            (None, message.head.sequence, Digest::of(text))
        }
        Message::ViewChange(_)
        | Message::NewView(_)
        | Message::Certificate(_)
        | Message::Stable(_) => return None,
    };
    Some((view.map(|view| view.0), Ordinal(sequence.0), digest))
}

const fn role(role: aegis_raft::Role) -> Role {
    match role {
        aegis_raft::Role::Leader => Role::Leader,
        aegis_raft::Role::Follower => Role::Follower,
        aegis_raft::Role::Candidate => Role::Candidate,
        aegis_raft::Role::Learner => Role::Learner,
        aegis_raft::Role::Stopped => Role::Stopped,
    }
}

fn member(member: &aegis_raft::Member) -> Member {
    Member {
        id: NodeId(member.id.get()),
        name: member.node.name.clone(),
        role: match member.role {
            aegis_raft::MemberRole::Voter => aegis_api::MemberRole::Voter,
            aegis_raft::MemberRole::Learner => aegis_api::MemberRole::Learner,
        },
        peer_address: member.node.peer_addr.clone(),
        api_address: member.node.api_addr.clone(),
        state: match member.state {
            aegis_raft::MemberState::Leading => aegis_api::MemberState::Leading,
            aegis_raft::MemberState::Following => aegis_api::MemberState::Following,
            aegis_raft::MemberState::Silent => aegis_api::MemberState::Silent,
            aegis_raft::MemberState::Unknown => aegis_api::MemberState::Unknown,
        },
        lag: member.lag,
        silent_for: member.silent_for,
    }
}
