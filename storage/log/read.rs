//! Reads of the log, from memory where the entries are there, else from RocksDB.

use std::ops::Range;

use bytes::Bytes;
use rocksdb::ReadOptions;

use super::tail::Found;
use super::{LogRecord, ReadLogError};
use crate::codec;
use crate::database::Database;
use crate::writer::Queue;

/// Admits entries while they fit, and always the first.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    is_fresh: bool,
    is_spent: bool,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: bytes,
            is_fresh: true,
            is_spent: false,
        }
    }

    pub(super) fn admits(&mut self, len: usize) -> bool {
        self.is_spent |= len > self.left && !self.is_fresh;
        self.is_fresh = false;
        self.left = self.left.saturating_sub(len);
        !self.is_spent
    }
}

/// Reads the entries of `range` that the log has, up to `bytes_max` of payload, but at
/// least one. RocksDB is read without the queue's lock; a truncation or purge that
/// overtakes the read makes it begin again.
pub(crate) fn read(
    queue: &Queue,
    database: &Database,
    range: Range<u64>,
    bytes_max: usize,
) -> Result<Vec<LogRecord>, ReadLogError> {
    loop {
        if let Some(records) = try_read(queue, database, range.clone(), bytes_max)? {
            return Ok(records);
        }
    }
}

/// `None` if the read was overtaken.
fn try_read(
    queue: &Queue,
    database: &Database,
    range: Range<u64>,
    bytes_max: usize,
) -> Result<Option<Vec<LogRecord>>, ReadLogError> {
    let mut records = Vec::new();
    let mut budget = Budget::new(bytes_max);
    let mut next = range.start;
    let epoch = queue.lock().log.epoch();
    loop {
        let found = {
            let state = queue.lock();
            if state.log.epoch() != epoch {
                return Ok(None);
            }
            state.log.find(next..range.end, &mut budget, &mut records)
        };
        let Found::Disk(wanted) = found else {
            return Ok(Some(records));
        };
        next = wanted.end;
        if let Err(error) = read_disk(database, wanted, &mut budget, &mut records) {
            let is_overtaken = queue.lock().log.epoch() != epoch;
            return if is_overtaken { Ok(None) } else { Err(error) };
        }
        if budget.is_spent {
            return Ok(Some(records));
        }
    }
}

/// Adds the entries of `wanted` to `records`, as far as the budget admits them.
fn read_disk(
    database: &Database,
    wanted: Range<u64>,
    budget: &mut Budget,
    records: &mut Vec<LogRecord>,
) -> Result<(), ReadLogError> {
    let mut expected = wanted.start;
    visit_disk(database, wanted.clone(), |index, payload| {
        let admitted = budget.admits(payload.len());
        if admitted {
            expected = index + 1;
            records.push(LogRecord {
                index,
                payload: Bytes::copy_from_slice(payload),
            });
        }
        admitted
    })?;
    if expected < wanted.end && !budget.is_spent {
        return Err(ReadLogError::Missing { index: expected });
    }
    Ok(())
}

/// Visits the entries that RocksDB has in `range`, in order, until the visitor returns
/// false. Each is checked; a hole between two of them is an error.
pub(crate) fn visit_disk(
    database: &Database,
    range: Range<u64>,
    mut visit: impl FnMut(u64, &[u8]) -> bool,
) -> Result<(), ReadLogError> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(codec::log_key(range.end));
    options.fill_cache(false);
    let mut iterator = database.db.raw_iterator_cf_opt(&database.log(), options);
    iterator.seek(codec::log_key(range.start));
    let mut expected = range.start;
    while let Some((key, value)) = iterator.item() {
        let index =
            codec::decode_number(key).map_err(|error| ReadLogError::damaged(expected, error))?;
        if index != expected {
            return Err(ReadLogError::Missing { index: expected });
        }
        let payload = codec::decode_log_value(index, value)
            .map_err(|error| ReadLogError::damaged(index, error))?;
        if !visit(index, payload) {
            return Ok(());
        }
        expected += 1;
        iterator.next();
    }
    iterator.status().map_err(|error| ReadLogError::Engine {
        reason: error.into_string(),
    })
}
