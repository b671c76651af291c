//! The first version of every message.

use serde::{Deserialize, Serialize};

use super::Blob;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// For whom a node stands in a term, and whether a quorum agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vote {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

/// An entry; its index follows from its place in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry<'a> {
    pub(crate) term: u64,
    #[serde(borrow)]
    pub(crate) record: Blob<'a>,
}

/// Entries for the log after `previous`, or none: a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Append<'a> {
    V1 {
        leader: Vote,
        previous: Option<LogId>,
        committed: Option<LogId>,
        #[serde(borrow)]
        entries: Vec<Entry<'a>>,
    },
}

/// The answer to an append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AppendAnswer {
    V1 {
        result: AppendResult,
        /// The follower's clock, in milliseconds since the epoch.
        clock_ms: u64,
    },
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AppendResult {
    /// The log agrees with the leader's up to here, durably.
    Matches(Option<LogId>),
    /// The log has another entry, or none, where the append would go on.
    Conflicts(LogId),
    /// The follower stands for another leader.
    Outvoted(Vote),
    /// An entry's stamp is too far ahead of the follower's clock.
    Ahead { stamp_ms: u64 },
}

/// A request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VoteRequest {
    V1 {
        vote: Vote,
        last: Option<LogId>,
        /// The leader itself asked for this election, so its lease does not stand against it.
        transfer: bool,
    },
}

/// The answer to a request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VoteAnswer {
    V1 {
        vote: Vote,
        granted: bool,
        last: Option<LogId>,
    },
}

/// A leader's wish that `to` be its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transfer {
    V1 {
        leader: Vote,
        to: u64,
        last: Option<LogId>,
    },
}

/// The answer to that wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TransferAnswer {
    V1(TransferResult),
}

/// Whether the successor will stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TransferResult {
    Accepted,
    Outvoted { actual: Vote },
    Behind { actual: Option<LogId> },
}

/// Submissions for the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Forward<'a> {
    V1 {
        #[serde(borrow)]
        payloads: Vec<Blob<'a>>,
    },
}

/// What became of them, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ForwardAnswer<'a> {
    V1 {
        #[serde(borrow)]
        outcomes: Vec<Outcome<'a>>,
    },
}

/// What became of one submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome<'a> {
    /// It is committed and applied.
    Applied {
        at: LogId,
        #[serde(borrow)]
        answer: Blob<'a>,
    },
    /// It was not written.
    NotWritten,
    /// It may or may not be written, now or later.
    Unknown,
    /// The leader declined it; it was not written.
    Declined(Decline),
}

/// Why a leader declined a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Decline {
    /// It holds as many proposals as it may.
    Busy,
    /// Its disk is nearly full.
    LowSpace { free_bytes: u64, floor_bytes: u64 },
    /// It cannot read the command.
    Unreadable,
}

/// A question for what a linearizable read must reflect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Barrier {
    V1,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BarrierAnswer {
    V1 {
        /// The index that the reader must have applied; none when this node does not lead or
        /// cannot reach its quorum.
        index: Option<u64>,
    },
}

/// A step of sending a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Snapshot<'a> {
    V1 {
        leader: Vote,
        last: LogId,
        digest: [u8; 32],
        #[serde(borrow)]
        step: SnapshotStep<'a>,
    },
}

/// The steps, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SnapshotStep<'a> {
    /// Announces a file of `bytes` bytes.
    Offer { bytes: u64 },
    /// Sends the part of the file that begins at `offset`.
    Chunk {
        offset: u64,
        #[serde(borrow)]
        data: Blob<'a>,
    },
    /// Everything was sent: verify and install.
    Install,
}

/// The answer to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SnapshotAnswer {
    V1(SnapshotResult),
}

/// How a transfer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SnapshotResult {
    /// Send from this offset.
    SendFrom { offset: u64 },
    /// The follower has what the snapshot has. `vote` is its vote.
    Done { vote: Vote },
    /// The follower stands for another leader.
    Outvoted { vote: Vote },
}
