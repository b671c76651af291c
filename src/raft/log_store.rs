//! openraft's log over [`Store`].
//!
//! The store's writer thread gives the order that Raft needs: votes, appends, truncations
//! and purges reach one write-ahead log in the order in which they were asked for, and an
//! append is reported once it is durable. A read that fails stops the node: a follower that
//! went on could corrupt its log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use aegis_storage::Store;
use futures::{Stream, TryStreamExt, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use crate::disk;
use crate::observer::Observer;
use crate::types::{Entry, LogId, Types, Vote};
use crate::wire::BATCH_BYTES_MAX;

/// The log of this node; cheap to clone.
#[derive(Clone)]
pub(crate) struct LogStore {
    pub(crate) store: Store,
    pub(crate) observer: Arc<dyn Observer>,
}

impl LogStore {
    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let records = self
            .store
            .read_log(range, bytes_max)
            .map_err(io::Error::other)?;
        records
            .into_iter()
            .map(|record| disk::decode_entry(record).map_err(io::Error::other))
            .collect()
    }

    /// One past the last index of the log.
    fn end(&self) -> u64 {
        self.store
            .log_bounds()
            .last
            .map_or(0, |last| last.saturating_add(1))
    }

    fn bounded(&self, range: &impl RangeBounds<u64>) -> Range<u64> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => self.end(),
        };
        start..end
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(self.bounded(&range), usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, BATCH_BYTES_MAX)
    }

    /// Reads in pieces of bounded size, up to the end of the log. A range that begins before
    /// the log does is an error: whoever applies it would miss entries.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let range = self.bounded(&range);
        let pieces = stream::try_unfold((self.clone(), range), |(log, range)| async move {
            let piece = log.read(range.clone(), BATCH_BYTES_MAX)?;
            let (Some(first), Some(last)) = (piece.first(), piece.last()) else {
                return Ok(None);
            };
            if first.log_id.index != range.start {
                let (expected, found) = (range.start, first.log_id.index);
                return Err(io::Error::other(Purged { expected, found }));
            }
            let rest = last.log_id.index.saturating_add(1)..range.end;
            Ok(Some((
                stream::iter(piece.into_iter().map(io::Result::Ok)),
                (log, rest),
            )))
        });
        pieces.try_flatten()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let vote = match self.store.read_vote() {
            Some(bytes) => Some(disk::decode_vote(&bytes)),
            // A folder that was restored from a snapshot never voted. Its log goes on behind
            // the snapshot, so its elections must begin above the term that wrote that.
            None => self.store.log_bounds().purged.map(|id| {
                disk::decode_log_id(&id)
                    .map(|id| Vote::new(id.leader_id.term, self.store.identity().node_id))
            }),
        };
        vote.transpose().map_err(io::Error::other)
    }
}

/// An entry that is to be applied is gone from the log.
#[derive(Debug, thiserror::Error)]
#[error("entry {expected} is not in the log, which begins at {found}")]
struct Purged {
    expected: u64,
    found: u64,
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let bounds = self.store.log_bounds();
        let purged = bounds
            .purged
            .map(|id| disk::decode_log_id(&id))
            .transpose()
            .map_err(io::Error::other)?;
        let last = match (bounds.first, bounds.last) {
            (Some(_), Some(last)) => self
                .read(last..last.saturating_add(1), usize::MAX)?
                .pop()
                .map(|entry| entry.log_id),
            _ => None,
        };
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: last.or(purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, saved) = oneshot::channel();
        // The receiver below lives until the answer, so sending it cannot fail.
        let done = Box::new(move |result| {
            done.send(result).ok();
        });
        self.store
            .save_vote(disk::encode_vote(vote), done)
            .map_err(io::Error::other)?;
        saved
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(committed) => self
                .store
                .save_committed(disk::encode_log_id(committed))
                .map_err(io::Error::other),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let committed = self.store.read_committed();
        committed
            .map(|id| disk::decode_log_id(&id))
            .transpose()
            .map_err(io::Error::other)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: Vec<_> = entries
            .into_iter()
            .map(|entry| disk::encode_entry(&entry))
            .collect();
        self.observer.appended(
            records.len(),
            records.iter().map(|record| record.payload.len()).sum(),
        );
        let done = Box::new(move |result: Result<(), _>| {
            callback.io_completed(result.map_err(io::Error::other))
        });
        self.store.append(records, done).map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index.saturating_add(1));
        self.store.truncate_from(from).map_err(io::Error::other)
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.store
            .purge(upto.index, disk::encode_log_id(upto))
            .map_err(io::Error::other)
    }
}
