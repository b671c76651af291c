//! What nodes say to each other: the methods, and the versioned messages.
//!
//! Every message is an enum with one variant a version, encoded with postcard; `latest`
//! re-exports what this node speaks. Variants are appended, never changed: the tests pin the
//! bytes. Trailing bytes are refused. Payloads are borrowed from the frame that they arrived
//! in, and become [`Bytes`] that share it.

mod blob;
mod convert;
mod v1;

use aegis_peers::{Lane, Method, Methods, Refusal, RefusalCode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(crate) use self::blob::Blob;
pub(crate) use self::convert::{append_to_core, append_to_wire};
pub(crate) use self::latest::*;

/// The messages in the version that this node sends.
pub(crate) mod latest {
    pub(crate) use super::v1::{
        AppendAnswer, AppendResult, Barrier, BarrierAnswer, Forward, ForwardAnswer, Outcome,
        Snapshot, SnapshotAnswer, SnapshotResult, SnapshotStep, Transfer, TransferAnswer,
        TransferResult, VoteAnswer, VoteRequest,
    };
}

/// The largest payload of one command.
pub const COMMAND_BYTES_MAX: usize = 2 << 20;

/// The payload bytes of one append or one forwarded batch, unless a single entry is larger.
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 20;

/// The bytes of one piece of a snapshot.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// What a message may have beside its payloads: numbers, lengths, a membership.
const OVERHEAD_BYTES: usize = 256 << 10;

const LARGE: usize = COMMAND_BYTES_MAX + BATCH_BYTES_MAX + OVERHEAD_BYTES;
const SMALL: usize = 64 << 10;

/// One append and its answer: heartbeats, and appends outside a stream.
pub(crate) const APPEND: Method = Method::call("/raft/append", Lane::Control, LARGE, SMALL);
/// Appends, pipelined; answers come in the order of the requests.
pub(crate) const REPLICATE: Method = Method::stream("/raft/replicate", Lane::Control, LARGE, SMALL);
/// A candidate asks for a vote.
pub(crate) const VOTE: Method = Method::call("/raft/vote", Lane::Control, SMALL, SMALL);
/// A node asks whether it would get a vote.
pub(crate) const PRE_VOTE: Method = Method::call("/raft/pre-vote", Lane::Control, SMALL, SMALL);
/// A leader names its successor.
pub(crate) const TRANSFER: Method = Method::call("/raft/transfer", Lane::Control, SMALL, SMALL);
/// A follower hands submissions to the leader.
pub(crate) const FORWARD: Method = Method::call("/raft/forward", Lane::Control, LARGE, LARGE);
/// A follower asks the leader what a linearizable read must reflect.
pub(crate) const BARRIER: Method = Method::call("/raft/barrier", Lane::Control, SMALL, SMALL);
/// A leader offers, sends and completes a snapshot.
pub(crate) const SNAPSHOT: Method = Method::call(
    "/raft/snapshot",
    Lane::Bulk,
    CHUNK_BYTES + OVERHEAD_BYTES,
    SMALL,
);

const METHODS: [Method; 8] = [
    APPEND, REPLICATE, VOTE, PRE_VOTE, TRANSFER, FORWARD, BARRIER, SNAPSHOT,
];

/// Every method that a node serves its peers.
///
/// # Panics
/// Never: the paths are constants and differ.
#[must_use]
pub fn methods() -> Methods {
    Methods::new(METHODS).expect("the paths of the methods differ")
}

/// A message that is not one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the message does not decode")]
    Undecodable(#[source] postcard::Error),
    #[error("the message is followed by {count} bytes that do not belong to it")]
    Trailing { count: usize },
    #[error("the record of entry {index} is none")]
    Record {
        index: u64,
        source: crate::record::RecordError,
    },
}

impl WireError {
    /// What the sender is told.
    pub(crate) fn to_refusal(&self) -> Refusal {
        Refusal::new(RefusalCode::Malformed, self)
    }
}

/// Encodes a small message.
pub(crate) fn encode<T: Serialize>(message: &T) -> Bytes {
    encode_sized(message, 0)
}

/// Encodes a message whose payloads have `payload_bytes` in `payloads` pieces, in one
/// allocation.
pub(crate) fn encode_large<T: Serialize>(
    message: &T,
    payloads: usize,
    payload_bytes: usize,
) -> Bytes {
    encode_sized(
        message,
        SMALL_PARTS_BYTES + payloads * PIECE_BYTES + payload_bytes,
    )
}

fn encode_sized<T: Serialize>(message: &T, capacity: usize) -> Bytes {
    postcard::to_extend(message, Vec::with_capacity(capacity))
        .expect("messages are plain data, which always encodes")
        .into()
}

/// What a large message has beside its payloads, at most: positions and votes.
const SMALL_PARTS_BYTES: usize = 96;
/// What it has beside each payload: its length and a position.
const PIECE_BYTES: usize = 24;

/// Decodes a message that borrows from `bytes`.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(WireError::Trailing { count: rest.len() }),
        Err(error) => Err(WireError::Undecodable(error)),
    }
}

#[cfg(test)]
mod tests;
