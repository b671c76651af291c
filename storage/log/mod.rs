//! The Raft log: its bounds, its newest entries in memory, and reads of both.
//!
//! An entry can be read as soon as it was appended. Those that are not written yet are
//! always in memory; written ones stay there while they fit, so that replication to
//! followers that keep up never touches RocksDB.

mod read;
mod tail;

use bytes::Bytes;

pub(crate) use read::{read, visit_disk};
pub(crate) use tail::{Gap, LogTail, Ticket};

use crate::codec::DecodeError;

/// One entry of the Raft log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Position in the log; the first entry of a cluster has index 0.
    pub index: u64,
    /// The entry, as the caller encodes it.
    pub payload: Bytes,
}

/// Where the log begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// The id of the last purged entry, as it was given to
    /// [`Store::purge`](crate::Store::purge).
    pub purged: Option<Bytes>,
    /// Index of the first entry that is present; `None` if there is none.
    pub first: Option<u64>,
    /// Index of the last entry, purged ones included.
    pub last: Option<u64>,
}

/// Why entries of the log cannot be read. Each ends the node: it must not go on with a
/// log that it cannot read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLogError {
    /// An entry between the bounds of the log is not there.
    #[error("log entry {index} is missing")]
    Missing {
        /// The entry.
        index: u64,
    },
    /// An entry does not decode.
    #[error("log entry {index} is damaged: {reason}")]
    Damaged {
        /// The entry.
        index: u64,
        /// How it is damaged.
        reason: String,
    },
    /// RocksDB failed.
    #[error("cannot read the log: {reason}")]
    Engine {
        /// What RocksDB said.
        reason: String,
    },
}

impl ReadLogError {
    fn damaged(index: u64, error: DecodeError) -> Self {
        Self::Damaged {
            index,
            reason: error.to_string(),
        }
    }
}
