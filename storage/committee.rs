//! The records of this machine's seat in the committee: what the seat must know again, after
//! whatever ends the process, before it signs anything more.
//!
//! A seat signs only what is on the medium already. The [writer](crate::writer) puts its
//! records into the batch of the log and answers after the sync that serves both. To
//! storage they are bytes under keys.
//!
//! They belong to the seat on this machine, not to the ledger: no snapshot has them,
//! installing one leaves them as they are, and a restored folder begins without any. A seat
//! that forgot one could contradict what it signed, so every record has a checksum that
//! covers its key, all are checked at every start, and a folder that has lost them does not
//! open.

use bytes::Bytes;
use rocksdb::ReadOptions;

use crate::codec::{self, DecodeError};
use crate::database::Database;
use crate::writer::Stopped;

/// Longest key of a committee record, in bytes.
pub const COMMITTEE_KEY_BYTES_MAX: usize = 256;
/// Longest value of a committee record, in bytes: the longest message between validators,
/// which is 16 MiB, and room for what names it.
pub const COMMITTEE_VALUE_BYTES_MAX: usize = 17 << 20;
/// Most changes of one write.
pub const COMMITTEE_CHANGES_MAX: usize = 4096;
/// All keys and values of one write together, in bytes.
pub const COMMITTEE_BATCH_BYTES_MAX: usize = 2 * COMMITTEE_VALUE_BYTES_MAX;

/// A key of the committee's records, and what becomes its value; `None` deletes the record.
pub type CommitteeChange = (Bytes, Option<Bytes>);

/// A key of the committee's records, and its value.
pub type CommitteeRecord = (Vec<u8>, Vec<u8>);

/// Why records of the committee were not written. But for [`Stopped`] nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeWriteError {
    /// A key is too long.
    #[error(
        "a committee record has a key of {found} bytes; at most {COMMITTEE_KEY_BYTES_MAX} are \
         possible"
    )]
    Key {
        /// Length of the key.
        found: usize,
    },
    /// A value is too long.
    #[error(
        "a committee record has a value of {found} bytes; at most {COMMITTEE_VALUE_BYTES_MAX} \
         are possible"
    )]
    Value {
        /// Length of the value.
        found: usize,
    },
    /// There are too many changes.
    #[error(
        "a write to the committee's records has {found} changes; at most \
         {COMMITTEE_CHANGES_MAX} are possible"
    )]
    Changes {
        /// Number of the changes.
        found: usize,
    },
    /// The changes are too large together.
    #[error(
        "a write to the committee's records has {found} bytes of keys and values; at most \
         {COMMITTEE_BATCH_BYTES_MAX} are possible"
    )]
    Batch {
        /// Length of all keys and values.
        found: usize,
    },
    /// The store writes no more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why records of the committee cannot be read. Each ends the node: a seat must not go on
/// without knowing what it signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeReadError {
    /// A record does not decode.
    #[error("the committee record \"{}\" is damaged: {reason}", key.escape_ascii())]
    Damaged {
        /// The record's key.
        key: Vec<u8>,
        /// How it is damaged.
        reason: String,
    },
    /// RocksDB failed.
    #[error("cannot read the committee's records: {reason}")]
    Engine {
        /// What RocksDB said.
        reason: String,
    },
}

impl CommitteeReadError {
    fn damaged(key: &[u8], error: DecodeError) -> Self {
        Self::Damaged {
            key: key.to_vec(),
            reason: error.to_string(),
        }
    }

    fn engine(error: rocksdb::Error) -> Self {
        Self::Engine {
            reason: error.into_string(),
        }
    }
}

/// Checks that a write keeps to the bounds.
pub(crate) fn check_size(changes: &[CommitteeChange]) -> Result<(), CommitteeWriteError> {
    if changes.len() > COMMITTEE_CHANGES_MAX {
        return Err(CommitteeWriteError::Changes {
            found: changes.len(),
        });
    }
    for (key, value) in changes {
        if key.len() > COMMITTEE_KEY_BYTES_MAX {
            return Err(CommitteeWriteError::Key { found: key.len() });
        }
        let found = value.as_ref().map_or(0, Bytes::len);
        if found > COMMITTEE_VALUE_BYTES_MAX {
            return Err(CommitteeWriteError::Value { found });
        }
    }
    let found = payload_bytes(changes);
    if found > COMMITTEE_BATCH_BYTES_MAX {
        return Err(CommitteeWriteError::Batch { found });
    }
    Ok(())
}

/// Bytes of all keys and values.
fn payload_bytes(changes: &[CommitteeChange]) -> usize {
    changes
        .iter()
        .map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len))
        .sum()
}

/// What changes take up in the queue and in a batch.
pub(crate) fn queued_bytes(changes: &[CommitteeChange]) -> usize {
    let each = codec::committee_value_len(0) + size_of::<CommitteeChange>();
    payload_bytes(changes) + changes.len() * each
}

/// Whether someone waits for changes to be durable. A deletion that a crash undoes is
/// merely asked for again.
pub(crate) fn needs_sync(changes: &[CommitteeChange]) -> bool {
    changes.iter().any(|(_, value)| value.is_some())
}

/// One record, as far as it is written.
pub(crate) fn read(database: &Database, key: &[u8]) -> Result<Option<Vec<u8>>, CommitteeReadError> {
    let value = database
        .db
        .get_pinned_cf(&database.committee(), key)
        .map_err(CommitteeReadError::engine)?;
    value
        .map(|value| codec::decode_committee_value(key, &value).map(<[u8]>::to_vec))
        .transpose()
        .map_err(|error| CommitteeReadError::damaged(key, error))
}

/// Visits all records that are written, by ascending key. Each is checked.
pub(crate) fn visit(
    database: &Database,
    mut visit: impl FnMut(&[u8], &[u8]),
) -> Result<(), CommitteeReadError> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    let mut iterator = database
        .db
        .raw_iterator_cf_opt(&database.committee(), options);
    iterator.seek_to_first();
    while let Some((key, value)) = iterator.item() {
        let payload = codec::decode_committee_value(key, value)
            .map_err(|error| CommitteeReadError::damaged(key, error))?;
        visit(key, payload);
        iterator.next();
    }
    iterator.status().map_err(CommitteeReadError::engine)
}
