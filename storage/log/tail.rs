//! The bounds of the log and its newest entries.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::read::Budget;
use super::{LogBounds, LogRecord};
use crate::codec::Purged;

/// Orders the items of the writer's queue.
pub(crate) type Ticket = u64;

/// Entries that were appended together and are not written yet.
#[derive(Debug)]
struct Unwritten {
    entries: Range<u64>,
    ticket: Ticket,
}

/// The log as it will be once everything in the writer's queue is written.
#[derive(Debug)]
pub(crate) struct LogTail {
    purged: Option<Purged>,
    /// One past the last entry, purged ones included; entries in `tail` end here.
    next: u64,
    /// One past the last purged entry, or the index at which the log began.
    first: u64,
    /// The newest entries, without a hole.
    tail: VecDeque<Bytes>,
    tail_bytes: usize,
    tail_bytes_max: usize,
    unwritten: VecDeque<Unwritten>,
    /// Grows with every truncation and purge: a read that one overtakes begins again.
    epoch: u64,
}

/// An append that does not continue the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) expected: u64,
    pub(crate) found: u64,
}

/// What a read of the log finds in memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of the range that the log has, as far as the budget admits it, was added.
    All,
    /// The beginning of the range is in RocksDB only.
    Disk(Range<u64>),
}

impl LogTail {
    /// A log whose entries `first..next` are on disk.
    pub(crate) fn new(purged: Option<Purged>, entries: Range<u64>, tail_bytes_max: usize) -> Self {
        Self {
            purged,
            next: entries.end,
            first: entries.start,
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_bytes_max,
            unwritten: VecDeque::new(),
            epoch: 0,
        }
    }

    pub(crate) fn bounds(&self) -> LogBounds {
        LogBounds {
            purged: self.purged.as_ref().map(|purged| purged.id.clone()),
            first: (self.first < self.next).then_some(self.first),
            last: self.next.checked_sub(1),
        }
    }

    fn tail_start(&self) -> u64 {
        self.next - self.tail.len() as u64
    }

    /// Takes entries that continue the log. A log without history takes any first index.
    pub(crate) fn append(&mut self, records: &[LogRecord], ticket: Ticket) -> Result<(), Gap> {
        let Some(head) = records.first() else {
            return Ok(());
        };
        let mut expected = if self.next == 0 {
            head.index
        } else {
            self.next
        };
        let start = expected;
        for record in records {
            if record.index != expected {
                return Err(Gap {
                    expected,
                    found: record.index,
                });
            }
            expected += 1;
        }
        if self.next == 0 {
            self.first = start;
        }
        self.next = expected;
        for record in records {
            self.tail_bytes += record.payload.len();
            self.tail.push_back(record.payload.clone());
        }
        self.unwritten.push_back(Unwritten {
            entries: start..expected,
            ticket,
        });
        Ok(())
    }

    /// Forgets the entries from `from` on and returns them; `None` if there are none.
    pub(crate) fn truncate(&mut self, from: u64) -> Option<Range<u64>> {
        let truncated = from.max(self.first)..self.next;
        if truncated.is_empty() {
            return None;
        }
        let from = truncated.start;
        self.epoch += 1;
        while self.next > from {
            self.next -= 1;
            if let Some(payload) = self.tail.pop_back() {
                self.tail_bytes -= payload.len();
            }
        }
        while let Some(last) = self.unwritten.back_mut() {
            last.entries.end = last.entries.end.min(from);
            if !last.entries.is_empty() {
                break;
            }
            self.unwritten.pop_back();
        }
        Some(truncated)
    }

    /// Forgets the entries up to `upto` and returns those that must be deleted; `None` if
    /// the log is purged further already. The log may end before `upto`: then it is empty
    /// and goes on behind it.
    pub(crate) fn purge(&mut self, upto: u64, id: &Bytes) -> Option<Range<u64>> {
        if self
            .purged
            .as_ref()
            .is_some_and(|purged| purged.index >= upto)
        {
            return None;
        }
        let deleted = self.first..upto + 1;
        self.epoch += 1;
        self.purged = Some(Purged {
            index: upto,
            id: id.clone(),
        });
        self.first = upto + 1;
        while self.tail_start() < self.first
            && let Some(payload) = self.tail.pop_front()
        {
            self.tail_bytes -= payload.len();
        }
        self.next = self.next.max(self.first);
        Some(deleted)
    }

    /// Everything up to `ticket` is written: entries that do not fit may leave memory.
    pub(crate) fn written(&mut self, ticket: Ticket) {
        while self
            .unwritten
            .front()
            .is_some_and(|front| front.ticket <= ticket)
        {
            self.unwritten.pop_front();
        }
        let evict_before = self
            .unwritten
            .front()
            .map_or(self.next, |front| front.entries.start);
        while self.tail_bytes > self.tail_bytes_max
            && self.tail_start() < evict_before
            && let Some(payload) = self.tail.pop_front()
        {
            self.tail_bytes -= payload.len();
        }
    }

    /// The ticket that must be written before the position `applied` may be; `None` if
    /// the entry is on its way no more.
    pub(crate) fn ticket_of(&self, applied: u64) -> Option<Ticket> {
        self.unwritten
            .iter()
            .rev()
            .find(|unwritten| unwritten.entries.start <= applied)
            .map(|unwritten| unwritten.ticket)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Adds the entries of `range` to `records` if they are in memory.
    pub(super) fn find(
        &self,
        range: Range<u64>,
        budget: &mut Budget,
        records: &mut Vec<LogRecord>,
    ) -> Found {
        let range = range.start.max(self.first)..range.end.min(self.next);
        if range.is_empty() {
            return Found::All;
        }
        let tail_start = self.tail_start();
        if range.start < tail_start {
            return Found::Disk(range.start..range.end.min(tail_start));
        }
        let skip = usize::try_from(range.start - tail_start).expect("the tail is in memory");
        let entries = range
            .zip(self.tail.iter().skip(skip))
            .take_while(|(_, payload)| budget.admits(payload.len()))
            .map(|(index, payload)| LogRecord {
                index,
                payload: payload.clone(),
            });
        records.extend(entries);
        Found::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(indices: Range<u64>, len: usize) -> Vec<LogRecord> {
        indices
            .map(|index| LogRecord {
                index,
                payload: Bytes::from(vec![u8::try_from(index % 251).unwrap(); len]),
            })
            .collect()
    }

    fn find(tail: &LogTail, range: Range<u64>, bytes_max: usize) -> (Vec<u64>, Found) {
        let mut found = Vec::new();
        let outcome = tail.find(range, &mut Budget::new(bytes_max), &mut found);
        (
            found.into_iter().map(|record| record.index).collect(),
            outcome,
        )
    }

    #[test]
    fn only_written_entries_leave_memory() {
        let mut tail = LogTail::new(None, 0..0, 30);
        tail.append(&records(0..5, 10), 1).unwrap();
        tail.append(&records(5..10, 10), 2).unwrap();
        assert_eq!(find(&tail, 0..10, usize::MAX).0.len(), 10);

        tail.written(1);
        assert_eq!(find(&tail, 4..10, usize::MAX).1, Found::Disk(4..5));
        assert_eq!(
            find(&tail, 5..10, usize::MAX),
            ((5..10).collect(), Found::All),
            "unwritten entries stay although they do not fit"
        );

        tail.written(2);
        assert_eq!(find(&tail, 0..10, usize::MAX).1, Found::Disk(0..7));
        assert_eq!(find(&tail, 7..10, usize::MAX).0, [7, 8, 9]);
    }

    #[test]
    fn an_applied_position_waits_for_the_entry_that_is_there_now() {
        let mut tail = LogTail::new(None, 0..0, 0);
        tail.append(&records(0..10, 1), 1).unwrap();
        tail.written(1);
        assert_eq!(tail.ticket_of(9), None);

        assert_eq!(tail.truncate(5), Some(5..10));
        tail.append(&records(5..8, 1), 3).unwrap();
        tail.append(&records(8..9, 1), 4).unwrap();
        assert_eq!(tail.ticket_of(4), None);
        assert_eq!(
            tail.ticket_of(6),
            Some(3),
            "the new entry, not the written old one"
        );
        assert_eq!(tail.ticket_of(8), Some(4));

        assert_eq!(tail.truncate(7), Some(7..9));
        assert_eq!(tail.ticket_of(6), Some(3));
        tail.written(3);
        assert_eq!(tail.ticket_of(6), None);
    }

    #[test]
    fn appends_leave_no_gap() {
        let mut tail = LogTail::new(None, 0..0, 0);
        tail.append(&records(3..5, 1), 1).unwrap();
        let gap = |found| Err(Gap { expected: 5, found });
        assert_eq!(tail.append(&records(6..7, 1), 2), gap(6));
        assert_eq!(tail.append(&records(4..6, 1), 2), gap(4));
        let mut torn = records(5..7, 1);
        torn[1].index = 8;
        assert_eq!(
            tail.append(&torn, 2),
            Err(Gap {
                expected: 6,
                found: 8
            })
        );
        assert_eq!(
            tail.bounds().last,
            Some(4),
            "a refused append changes nothing"
        );
    }

    #[test]
    fn purging_beyond_the_end_moves_the_end() {
        let mut tail = LogTail::new(None, 0..0, usize::MAX);
        tail.append(&records(0..4, 1), 1).unwrap();
        assert_eq!(tail.purge(1, &Bytes::from_static(b"1")), Some(0..2));
        assert_eq!(tail.purge(1, &Bytes::from_static(b"1")), None);
        assert_eq!(find(&tail, 0..4, usize::MAX).0, [2, 3]);

        assert_eq!(tail.purge(9, &Bytes::from_static(b"9")), Some(2..10));
        let bounds = LogBounds {
            purged: Some(Bytes::from_static(b"9")),
            first: None,
            last: Some(9),
        };
        assert_eq!(tail.bounds(), bounds);
        assert_eq!(tail.truncate(0), None, "nothing is left to truncate");
        tail.append(&records(10..11, 1), 2).unwrap();
        assert_eq!(tail.bounds().first, Some(10));
    }

    #[test]
    fn a_read_has_at_least_one_entry() {
        let mut tail = LogTail::new(None, 0..0, usize::MAX);
        tail.append(&records(0..5, 10), 1).unwrap();
        assert_eq!(find(&tail, 1..5, 0).0, [1]);
        assert_eq!(find(&tail, 1..5, 20).0, [1, 2]);
        assert_eq!(find(&tail, 1..5, 29).0, [1, 2]);
        assert_eq!(find(&tail, 5..9, 100).0, [0; 0]);
    }
}
