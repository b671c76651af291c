//! What the edge asks of the node behind it.
//!
//! The edge knows HTTP, signatures and tokens; it knows neither Raft nor a disk. The
//! composition root implements [`Governance`] with both. Everything that changes is an
//! [`Entry`] for [`Governance::submit`], everything that is read comes from the consistent
//! [`View`] that [`Governance::view`] hands out.

use std::fmt;
use std::io;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::Duration;

use aegis_crypto::{Digest, SeatNo};
use aegis_ledger::{Answer, Archive, ArchiveError, Entry, Genesis, LogIndex, Ordinal};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::ToSchema;

/// The node and the cluster behind the edge.
pub trait Governance: Send + Sync + 'static {
    /// The root of trust, which names the cluster.
    fn genesis(&self) -> &Genesis;

    /// Puts an entry into the log and answers once it is applied. A node that does not lead
    /// forwards it. Every entry from the edge is idempotent (a ballot by its bytes, the
    /// rest by a request key), so the implementation repeats what it does not know the
    /// fate of, until its deadline.
    fn submit(&self, entry: Entry) -> BoxFuture<'_, Result<Answer, SubmitError>>;

    /// A consistent view of the tables.
    fn view(&self, consistency: Consistency) -> BoxFuture<'_, Result<View, ReadError>>;

    /// The last log index that this node has applied.
    fn applied_index(&self) -> LogIndex;

    /// How many events were ever applied here. A stale view taken after a number was seen
    /// shows at least that many.
    fn event_numbers(&self) -> watch::Receiver<u64>;

    /// What the node knows of itself and its cluster.
    fn status(&self) -> NodeStatus;

    /// Where this node's seat in the committee stands; none where it has no seat.
    fn seat(&self) -> Option<SeatStanding>;

    /// What this node has kept of validators that contradicted themselves. It reads the
    /// disk, so it is called off the threads that serve connections.
    ///
    /// # Errors
    /// The disk could not be read.
    fn contradictions(&self) -> Result<Vec<Contradiction>, ArchiveError>;

    /// The members as the leader sees them, asking it where this node does not lead.
    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>, ChangeError>>;

    /// Hands the leadership over and answers once `to` leads, or fails by `deadline`.
    fn transfer_leader(
        &self,
        to: NodeId,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Leadership, ChangeError>>;

    /// Adds a node that receives the log and does not vote; answers once the change is
    /// committed.
    fn add_learner(&self, learner: NewLearner) -> BoxFuture<'_, Result<(), ChangeError>>;

    /// Makes a learner a voter; answers once the change is committed.
    fn promote(&self, node: NodeId) -> BoxFuture<'_, Result<(), ChangeError>>;

    /// Takes a node out of the cluster; answers once the change is committed.
    fn remove(&self, node: NodeId) -> BoxFuture<'_, Result<(), ChangeError>>;

    /// A snapshot of the state now, as a stream of the file that `restore` reads.
    fn snapshot(&self) -> BoxFuture<'_, Result<SnapshotStream, SnapshotError>>;

    /// The parts of `/livez`: the process serves.
    fn liveness(&self) -> Vec<HealthPart>;

    /// The parts of `/readyz`: a leader is known, a linearizable read works, and this node
    /// is caught up.
    fn readiness(&self) -> BoxFuture<'_, Vec<HealthPart>>;
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// It shows every write that was acknowledged before the read began, on any node.
    Linearizable,
    /// It shows what this node has applied.
    Stale,
}

/// A consistent view of the tables and the log index that it reflects.
pub struct View {
    /// The tables.
    pub archive: Box<dyn Archive>,
    /// The last entry that they show.
    pub index: LogIndex,
}

/// Why an entry has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Too many entries wait already; nothing was written.
    #[error("too many writes are waiting")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// No leader took it within the bounded wait; nothing was written.
    #[error("no leader took the write")]
    NoLeader {
        /// When to try again.
        retry_after: Duration,
    },
    /// It may or may not have been written.
    #[error("it is not known whether the write happened")]
    Unknown,
    /// Free space is under the floor; nothing was written.
    #[error("free space is {free_bytes} bytes, under the floor of {floor_bytes}")]
    LowSpace {
        /// What is free.
        free_bytes: u64,
        /// What must be.
        floor_bytes: u64,
    },
    /// The node stops; nothing was written.
    #[error("the node is stopping")]
    Stopping,
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Too many reads wait already.
    #[error("too many reads are waiting")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// No leader confirmed the read within the bounded wait.
    #[error("no leader confirmed the read")]
    NoLeader {
        /// When to try again.
        retry_after: Duration,
    },
    /// The disk could not be read, which also stops the node.
    #[error("the tables cannot be read: {reason}")]
    Failed {
        /// What the storage engine said.
        reason: String,
    },
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

/// A node's number in its cluster, from 1.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for NodeId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

/// A node's part at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
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

/// A member's part in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// It counts towards the quorum and may lead.
    Voter,
    /// It receives the log and neither votes nor leads.
    Learner,
}

/// How a member stands, as far as the node that was asked knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It leads.
    Leading,
    /// It answered the leader lately.
    Following,
    /// It did not.
    Silent,
    /// Only the leader knows, and the node that was asked does not lead.
    Unknown,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// A name for people.
    pub name: String,
    /// Its part.
    pub role: MemberRole,
    /// Where its peers reach it, `host:port`.
    pub peer_address: String,
    /// Where its clients reach it, `host:port`.
    pub api_address: String,
    /// How it stands.
    pub state: MemberState,
    /// Entries that its log lacks; only the leader knows.
    pub lag: Option<u64>,
    /// Time since it last answered the leader; only the leader knows.
    pub silent_for: Option<Duration>,
}

/// Something that an operator should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alarm {
    /// A stable name, like `low_space`.
    pub code: String,
    /// What is wrong and what to do.
    pub detail: String,
}

/// What a node knows of itself and its cluster; the cluster's id stands in its genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node's number.
    pub id: NodeId,
    /// A name for people.
    pub name: String,
    /// Which life of the cluster this is: a restore begins the next.
    pub incarnation: u64,
    /// The node's part.
    pub role: Role,
    /// Who leads, as far as the node knows.
    pub leader: Option<NodeId>,
    /// The term of the election.
    pub term: u64,
    /// The last entry in the node's log.
    pub last_index: LogIndex,
    /// The last entry that the node knows to be committed.
    pub committed_index: LogIndex,
    /// The last entry that the node has applied.
    pub applied_index: LogIndex,
    /// The members.
    pub members: Vec<Member>,
    /// Free space on the data folder's file system, in bytes.
    pub free_bytes: u64,
    /// What an operator should know of.
    pub alarms: Vec<Alarm>,
    /// The version of the binary.
    pub version: String,
}

/// Where a node's seat in the committee stands, in the epoch that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatStanding {
    /// The epoch.
    pub epoch: u64,
    /// The node's seat.
    pub seat: SeatNo,
    /// The view that it is in, or asks for.
    pub view: u64,
    /// That view's primary.
    pub primary: SeatNo,
    /// Whether it waits for the view to begin.
    pub changing_view: bool,
    /// The low watermark.
    pub low: Ordinal,
    /// The high watermark.
    pub high: Ordinal,
    /// Up to here every certificate is recorded.
    pub certified_through: Ordinal,
    /// The newest closing to which each seat committed, as far as the node knows.
    pub committed: Vec<(SeatNo, Ordinal)>,
    /// The newest stable checkpoint as a signed note.
    pub checkpoint: Option<String>,
}

/// Proof that a validator contradicted itself: two messages of which an honest one signs at
/// most one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Who signed both.
    pub seat: SeatNo,
    /// The epoch whose seat that is.
    pub epoch: u64,
    /// What sort of message both are, like `prepare`.
    pub kind: &'static str,
    /// The view in which they were signed; none for checkpoints, which belong to no view.
    pub view: Option<u64>,
    /// The closing that they are about.
    pub sequence: Ordinal,
    /// What the first one says, by digest.
    pub first: Digest,
    /// What the second one says instead.
    pub second: Digest,
    /// Both messages with their signatures, encoded.
    pub encoded: Bytes,
}

/// Who leads since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Leadership {
    /// The leader.
    pub leader: NodeId,
    /// The term of its election.
    pub term: u64,
}

/// A node that joins.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLearner {
    /// Its number.
    pub id: NodeId,
    /// A name for people.
    pub name: String,
    /// Where its peers reach it, `host:port`.
    pub peer_address: String,
    /// Where its clients reach it, `host:port`.
    pub api_address: String,
}

/// Why leadership or membership did not change.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such member.
    #[error("node {node} is not a member")]
    UnknownMember {
        /// The node.
        node: NodeId,
    },
    /// The node is a member already.
    #[error("node {node} is a member already")]
    AlreadyMember {
        /// The node.
        node: NodeId,
    },
    /// The member's part does not allow it.
    #[error("node {node} is a {}, it must be a {}", role_name(*.role), role_name(*.expected))]
    WrongRole {
        /// The node.
        node: NodeId,
        /// Its part.
        role: MemberRole,
        /// The part that it should have.
        expected: MemberRole,
    },
    /// The last voter cannot leave.
    #[error("node {node} is the last voter")]
    LastVoter {
        /// The node.
        node: NodeId,
    },
    /// The member's log lacks too much.
    #[error("node {node} lacks {lag} entries, more than the {max} allowed")]
    Lagging {
        /// The node.
        node: NodeId,
        /// Entries that it lacks.
        lag: u64,
        /// Entries that it may lack.
        max: u64,
    },
    /// The member does not answer.
    #[error("node {node} does not answer")]
    Unreachable {
        /// The node.
        node: NodeId,
    },
    /// A change of membership or leadership is under way.
    #[error("another change is under way")]
    InProgress,
    /// What is asked can never be accepted.
    #[error("{reason}")]
    Invalid {
        /// What is wrong and what would be right.
        reason: String,
    },
    /// No leader took the change within the bounded wait; nothing changed.
    #[error("no leader took the change")]
    NoLeader {
        /// When to try again.
        retry_after: Duration,
    },
    /// It was not done by the deadline, and may still happen.
    #[error("it was not done within {} ms", .deadline.as_millis())]
    TimedOut {
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
    /// The core failed.
    #[error("the change failed: {reason}")]
    Failed {
        /// What it said.
        reason: String,
    },
}

const fn role_name(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
    }
}

/// A snapshot on its way out.
pub struct SnapshotStream {
    /// Its size in bytes.
    pub len: u64,
    /// SHA-256 of all of it.
    pub digest: Digest,
    /// The last entry that it reflects.
    pub index: LogIndex,
    /// The bytes. An error ends the stream, and the client sees it cut short.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// One is being made already.
    #[error("another snapshot is being made")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
    /// It could not be made.
    #[error("the snapshot failed: {reason}")]
    Failed {
        /// What went wrong.
        reason: String,
    },
}

/// One thing that health depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct HealthPart {
    /// A stable name, like `leader`.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}
