//! The applied position, and the batch that moves it together with the tables.

use std::time::Instant;

use aegis_ledger::{Change, Table};
use bytes::Bytes;
use rocksdb::{WriteBatch, WriteOptions};

use crate::codec::{self, key};
use crate::generation::Generation;
use crate::options::AppliedReport;
use crate::schema::{Family, with_key};
use crate::snapshot::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::writer::Stopped;

/// How far the log was applied to the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Index of the last applied entry.
    pub index: u64,
    /// The log id and the membership, as the caller encodes them.
    pub bytes: Bytes,
}

/// Why changes were not written. Each ends the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A record is larger than a snapshot can carry.
    #[error(
        "a record of the table {table:?} has a key of {key_bytes} and a value of \
         {value_bytes} bytes; at most {KEY_BYTES_MAX} and {VALUE_BYTES_MAX} are possible"
    )]
    TooLarge {
        /// The table.
        table: Table,
        /// Length of the key.
        key_bytes: usize,
        /// Length of the value.
        value_bytes: usize,
    },
    /// The store writes no more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A batch of changes before the position is added.
pub(crate) struct StateBatch {
    batch: WriteBatch,
    changes: usize,
}

impl StateBatch {
    pub(crate) fn new<'c>(
        generation: &Generation,
        changes: impl IntoIterator<Item = &'c Change>,
        applied: &Applied,
    ) -> Result<Self, CommitError> {
        let columns = generation.columns();
        let mut batch = WriteBatch::default();
        let mut count = 0;
        for change in changes {
            check_size(change)?;
            let column = columns.get(Family::of(change.table));
            with_key(change.table, &change.key, |key| match &change.value {
                Some(value) => batch.put_cf(column, key, value),
                None => batch.delete_cf(column, key),
            });
            count += 1;
        }
        batch.put_cf(
            columns.get(Family::Ledger),
            key::APPLIED,
            codec::encode_applied(applied.index, &applied.bytes),
        );
        Ok(Self {
            batch,
            changes: count,
        })
    }

    /// Writes the batch without a sync.
    pub(crate) fn write(self, generation: &Generation) -> Result<AppliedReport, rocksdb::Error> {
        let bytes = self.batch.size_in_bytes();
        let start = Instant::now();
        let db = &generation.database().db;
        db.write_opt(self.batch, &WriteOptions::new())?;
        Ok(AppliedReport {
            duration: start.elapsed(),
            changes: self.changes,
            bytes,
        })
    }
}

fn check_size(change: &Change) -> Result<(), CommitError> {
    let key_bytes = change.key.len();
    let value_bytes = change.value.as_ref().map_or(0, Vec::len);
    if key_bytes > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX {
        return Err(CommitError::TooLarge {
            table: change.table,
            key_bytes,
            value_bytes,
        });
    }
    Ok(())
}
