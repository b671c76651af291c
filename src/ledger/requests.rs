//! Keyed requests: a repeat within a day gets the first answer, and runs nothing twice.
//!
//! An answer lies under its principal and key. A second row, ordered by time, says when it
//! may go; every keyed request clears a few rows that are due, so that nothing has to sweep.

use std::ops::ControlFlow;

use crate::apply::{Answer, Ledger, Step};
use crate::archive::{ArchiveError, Order, Table};
use crate::command::{Entry, Principal, RequestKey};
use crate::ids::LedgerTime;
use crate::record::{Record, RequestRecord, key};
use crate::refusal::Refusal;

/// How long the answer to a keyed request is kept, in seconds of ledger time.
pub const REQUEST_KEPT_S: u64 = 86_400;
/// The longest key of a request, in bytes: the longest `Idempotency-Key` or `jti` and what
/// the edge puts before it. A longer one would not fit into a key of the tables.
pub const REQUEST_KEY_BYTES_MAX: usize = 256;
/// How many expired requests one keyed request clears: more than the one it adds.
const EXPIRIES_PER_REQUEST: usize = 4;

impl Ledger {
    /// The first answer to a request that is asked again.
    pub(crate) fn remembered(
        &self,
        step: &Step<'_>,
        entry: &Entry,
    ) -> Result<Option<Answer>, ArchiveError> {
        let Some(request) = &entry.request else {
            return Ok(None);
        };
        let record_key = key::request(&entry.principal, &request.key);
        let Some(record) = RequestRecord::read(step.archive, &record_key)? else {
            return Ok(None);
        };
        if record.expires() <= step.time {
            return Ok(None);
        }
        if record.body == request.body {
            return Ok(Some(record.answer));
        }
        let refusal = Refusal::IdempotencyMismatch {
            key: request.key.clone(),
        };
        Ok(Some(Answer {
            index: step.index,
            time: step.time,
            audit_head: self.core.audit_head,
            outcome: Err(refusal),
        }))
    }
}

/// Keeps the first answer to a request.
pub(crate) fn remember(
    step: &mut Step<'_>,
    principal: &Principal,
    request: RequestKey,
    answer: &Answer,
) -> Result<(), ArchiveError> {
    let mut expired = Vec::new();
    let end = key::number(step.time.plus_ms(1).0);
    step.archive.scan(
        Table::RequestExpiry,
        &[],
        Some(&end),
        Order::Ascending,
        &mut |found, _| {
            expired.push(found.to_vec());
            if expired.len() < EXPIRIES_PER_REQUEST {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
    )?;
    for expiry in expired {
        forget(step, expiry)?;
    }
    let record_key = key::request(principal, &request.key);
    let record = RequestRecord {
        body: request.body,
        answer: answer.clone(),
    };
    step.mark(
        Table::RequestExpiry,
        key::request_expiry(record.expires(), &record_key),
    );
    step.put(record_key, &record);
    Ok(())
}

/// Clears a row of the expiries and the answer that it is for. A key that was used again
/// before its row was cleared has a newer answer, which has a row of its own.
fn forget(step: &mut Step<'_>, expiry: Vec<u8>) -> Result<(), ArchiveError> {
    if let Some((expires, request)) = expiry.split_first_chunk::<8>() {
        let expires = LedgerTime(u64::from_be_bytes(*expires));
        let record = step.read::<RequestRecord>(request)?;
        if record.is_some_and(|record| record.expires() == expires) {
            step.delete(Table::Requests, request.to_vec());
        }
    }
    step.delete(Table::RequestExpiry, expiry);
    Ok(())
}

impl RequestRecord {
    /// The first time at which the key is free again.
    fn expires(&self) -> LedgerTime {
        self.answer.time.plus_s(REQUEST_KEPT_S).plus_ms(1)
    }
}

impl RequestKey {
    pub(crate) fn fits(&self) -> bool {
        self.key.len() <= REQUEST_KEY_BYTES_MAX
    }
}
