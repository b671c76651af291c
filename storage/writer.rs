//! The thread that owns every write to the log.
//!
//! Votes, appends, truncations, purges, the committed position and the committee's records
//! go through one queue and reach the write-ahead log in the order in which they were asked
//! for. A round of the thread:
//!
//! 1. take everything that waits, up to [`BATCH_BYTES_MAX`];
//! 2. write it as one batch, without a sync;
//! 3. publish how far the log is *written*, which lets applied entries follow;
//! 4. sync once, note the batch in the [watermark](crate::watermark), and answer in order.
//!
//! A batch of nothing but truncations, purges, committed positions and deletions of committee
//! records is not synced: it only needs its place in the order.
//!
//! Whatever goes wrong is fatal, the thread's own death included: a caller whose answer
//! never came would stall the node in silence.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use rocksdb::{WriteBatch, WriteOptions};

use crate::codec::{self, key};
use crate::committee::{self, CommitteeChange};
use crate::database::Database;
use crate::fatal::{Fatal, FatalError};
use crate::log::{Gap, LogRecord, LogTail, Ticket};
use crate::options::{Observer, SyncedReport};
use crate::watermark::Watermark;

/// Bytes that may wait in the queue; beyond, callers wait for room.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Items that may wait in the queue; beyond, callers wait for room.
const QUEUE_ITEMS_MAX: usize = 1 << 16;
/// A batch takes items until it has this many bytes.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// What an item costs in the queue and in a batch beside its payloads.
const ITEM_BYTES: usize = 64;

/// Answers a write, on the writer's thread: it must neither block nor panic, nor write to
/// the store.
pub type Done = Box<dyn FnOnce(Result<(), Stopped>) + Send>;

/// The store wrote nothing more after a [`FatalError`], or because it was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped writing; whether this write is on disk is unknown")]
pub struct Stopped;

/// Why entries were not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The entries do not continue the log.
    #[error("log entry {found} does not follow: the log continues with {expected}")]
    Gap {
        /// The index that continues the log.
        expected: u64,
        /// The index that was given.
        found: u64,
    },
    /// The store writes no more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

enum Item {
    Append {
        records: Vec<LogRecord>,
        done: Done,
    },
    Vote {
        vote: Bytes,
        done: Done,
    },
    Pin {
        node_id: u64,
        store_id: [u8; 16],
        done: Done,
    },
    Committee {
        changes: Vec<CommitteeChange>,
        done: Done,
    },
    Truncate {
        entries: Range<u64>,
    },
    Purge {
        entries: Range<u64>,
        upto: u64,
        id: Bytes,
    },
    Committed {
        committed: Bytes,
    },
}

impl Item {
    fn bytes(&self) -> usize {
        let payload = match self {
            Self::Append { records, .. } => records
                .iter()
                .map(|record| codec::log_value_len(record.payload.len()) + size_of::<LogRecord>())
                .sum(),
            Self::Vote { vote: bytes, .. } | Self::Purge { id: bytes, .. } => bytes.len(),
            Self::Committee { changes, .. } => committee::queued_bytes(changes),
            // A committed position is replaced while it waits, so that what it costs must
            // not depend on it.
            Self::Committed { .. } | Self::Truncate { .. } | Self::Pin { .. } => 0,
        };
        ITEM_BYTES + payload
    }

    /// Whether someone waits for it to be durable.
    fn needs_sync(&self) -> bool {
        match self {
            Self::Append { .. } | Self::Vote { .. } | Self::Pin { .. } => true,
            Self::Committee { changes, .. } => committee::needs_sync(changes),
            Self::Truncate { .. } | Self::Purge { .. } | Self::Committed { .. } => false,
        }
    }

    fn entries(&self) -> usize {
        match self {
            Self::Append { records, .. } => records.len(),
            _ => 0,
        }
    }

    fn into_done(self) -> Option<Done> {
        match self {
            Self::Append { done, .. }
            | Self::Vote { done, .. }
            | Self::Pin { done, .. }
            | Self::Committee { done, .. } => Some(done),
            Self::Truncate { .. } | Self::Purge { .. } | Self::Committed { .. } => None,
        }
    }
}

/// What callers and the writer share.
pub(crate) struct State {
    /// The log as it will be once the queue is written.
    pub(crate) log: LogTail,
    /// The vote as it will be once the queue is written.
    pub(crate) vote: Option<Bytes>,
    /// The committed position as it will be once the queue is written.
    pub(crate) committed: Option<Bytes>,
    items: VecDeque<Item>,
    bytes: usize,
    /// Tickets count items; this is that of the last item that was queued.
    queued: Ticket,
    /// The ticket of the last item that is written.
    written: Ticket,
    is_closing: bool,
    is_stopped: bool,
}

impl State {
    /// The ticket that must be written before the position `applied` may be.
    fn ticket_of(&self, applied: u64) -> Ticket {
        self.log.ticket_of(applied).unwrap_or(0)
    }

    /// Whether anything waits that is worth a batch of its own. A committed position is not,
    /// and one that stands last is replaced by the next, so that only one can be alone.
    fn has_work(&self) -> bool {
        match self.items.front() {
            None => false,
            Some(Item::Committed { .. }) => self.items.len() > 1,
            Some(_) => true,
        }
    }
}

/// The writer's queue.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// The writer waits for items or the end.
    work: Condvar,
    /// Callers wait for room, or for their entries to be written.
    progress: Condvar,
}

impl Queue {
    pub(crate) fn new(log: LogTail, vote: Option<Bytes>, committed: Option<Bytes>) -> Self {
        Self {
            state: Mutex::new(State {
                log,
                vote,
                committed,
                items: VecDeque::new(),
                bytes: 0,
                queued: 0,
                written: 0,
                is_closing: false,
                is_stopped: false,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the queue")
    }

    /// Waits for room; the answer is the lock under which to queue.
    fn lock_with_room(&self) -> Result<MutexGuard<'_, State>, Stopped> {
        let state = self
            .progress
            .wait_while(self.lock(), |state| {
                !state.is_stopped
                    && (state.bytes >= QUEUE_BYTES_MAX || state.items.len() >= QUEUE_ITEMS_MAX)
            })
            .expect("nothing panics while it holds the queue");
        if state.is_stopped || state.is_closing {
            return Err(Stopped);
        }
        Ok(state)
    }

    fn push(&self, state: MutexGuard<'_, State>, item: Item) {
        Self::push_quietly(state, item);
        self.work.notify_one();
    }

    /// Queues an item without waking the writer for it.
    fn push_quietly(mut state: MutexGuard<'_, State>, item: Item) {
        state.queued += 1;
        state.bytes += item.bytes();
        state.items.push_back(item);
    }

    pub(crate) fn append(&self, records: Vec<LogRecord>, done: Done) -> Result<(), AppendError> {
        let mut state = self.lock_with_room()?;
        let ticket = state.queued + 1;
        state
            .log
            .append(&records, ticket)
            .map_err(|Gap { expected, found }| AppendError::Gap { expected, found })?;
        self.push(state, Item::Append { records, done });
        Ok(())
    }

    pub(crate) fn save_vote(&self, vote: Bytes, done: Done) -> Result<(), Stopped> {
        let mut state = self.lock_with_room()?;
        state.vote = Some(vote.clone());
        self.push(state, Item::Vote { vote, done });
        Ok(())
    }

    pub(crate) fn save_pin(
        &self,
        node_id: u64,
        store_id: [u8; 16],
        done: Done,
    ) -> Result<(), Stopped> {
        let state = self.lock_with_room()?;
        self.push(
            state,
            Item::Pin {
                node_id,
                store_id,
                done,
            },
        );
        Ok(())
    }

    pub(crate) fn write_committee(
        &self,
        changes: Vec<CommitteeChange>,
        done: Done,
    ) -> Result<(), Stopped> {
        let state = self.lock_with_room()?;
        self.push(state, Item::Committee { changes, done });
        Ok(())
    }

    pub(crate) fn truncate(&self, from: u64) -> Result<(), Stopped> {
        let mut state = self.lock_with_room()?;
        if let Some(entries) = state.log.truncate(from) {
            self.push(state, Item::Truncate { entries });
        }
        Ok(())
    }

    pub(crate) fn purge(&self, upto: u64, id: Bytes) -> Result<(), Stopped> {
        let mut state = self.lock_with_room()?;
        if let Some(entries) = state.log.purge(upto, &id) {
            self.push(state, Item::Purge { entries, upto, id });
        }
        Ok(())
    }

    /// Nobody waits for the committed position, and the log explains it again after a
    /// crash, so it is written along with whatever comes next.
    pub(crate) fn save_committed(&self, committed: Bytes) -> Result<(), Stopped> {
        let mut state = self.lock_with_room()?;
        state.committed = Some(committed.clone());
        match state.items.back_mut() {
            Some(Item::Committed { committed: earlier }) => *earlier = committed,
            _ => Self::push_quietly(state, Item::Committed { committed }),
        }
        Ok(())
    }

    /// Whether [`Queue::wait_written`] would not wait.
    pub(crate) fn is_written(&self, applied: u64) -> bool {
        let state = self.lock();
        state.written >= state.ticket_of(applied)
    }

    /// Waits until the log is written up to `applied`, if it has such an entry.
    pub(crate) fn wait_written(&self, applied: u64) -> Result<(), Stopped> {
        let state = self.lock();
        let ticket = state.ticket_of(applied);
        let state = self
            .progress
            .wait_while(state, |state| !state.is_stopped && state.written < ticket)
            .expect("nothing panics while it holds the queue");
        if state.is_stopped {
            return Err(Stopped);
        }
        Ok(())
    }

    /// Nothing is written any more: whoever waits is told so.
    pub(crate) fn stop(&self) {
        let items = {
            let mut state = self.lock();
            state.is_stopped = true;
            state.bytes = 0;
            std::mem::take(&mut state.items)
        };
        self.work.notify_all();
        self.progress.notify_all();
        for done in items.into_iter().filter_map(Item::into_done) {
            done(Err(Stopped));
        }
    }

    fn close(&self) {
        self.lock().is_closing = true;
        self.work.notify_all();
    }

    /// Waits for items and takes them, up to a batch's size, with the ticket of the last;
    /// `None` at the end.
    fn take(&self, into: &mut Vec<Item>) -> Option<Ticket> {
        let mut state = self
            .work
            .wait_while(self.lock(), |state| {
                !state.has_work() && !state.is_closing && !state.is_stopped
            })
            .expect("nothing panics while it holds the queue");
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX
            && let Some(item) = state.items.pop_front()
        {
            bytes += item.bytes();
            into.push(item);
        }
        state.bytes -= bytes;
        let left = state.items.len() as u64;
        (!into.is_empty()).then(|| state.queued - left)
    }

    fn publish_written(&self, ticket: Ticket) {
        let mut state = self.lock();
        state.written = ticket;
        state.log.written(ticket);
        drop(state);
        self.progress.notify_all();
    }
}

/// The running thread; dropping it writes what is queued and waits for its end.
pub(crate) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread needs.
pub(crate) struct Parts {
    pub(crate) queue: Arc<Queue>,
    pub(crate) database: Arc<Database>,
    pub(crate) watermark: Watermark,
    /// Number of the last batch.
    pub(crate) batch: u64,
    pub(crate) fatal: Fatal,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Writer {
    pub(crate) fn spawn(parts: Parts) -> std::io::Result<Self> {
        let queue = Arc::clone(&parts.queue);
        let thread = thread::Builder::new()
            .name("storage-writer".to_owned())
            .spawn(move || run(parts))?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take()
            // A callback may hold the last handle to the store.
            && thread.thread().id() != thread::current().id()
        {
            thread
                .join()
                .expect("the writer catches its panics and reports them");
        }
    }
}

fn run(parts: Parts) {
    let queue = Arc::clone(&parts.queue);
    let fatal = parts.fatal.clone();
    let mut taken = Vec::new();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| write_all(parts, &mut taken)));
    let outcome = outcome.unwrap_or_else(|panic| {
        Err(FatalError::WriterDied {
            reason: panic_message(panic.as_ref()),
        })
    });
    if let Err(error) = outcome {
        fatal.raise(&error);
    }
    for done in taken.into_iter().filter_map(Item::into_done) {
        done(Err(Stopped));
    }
    queue.stop();
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Writes until the queue is closed; `taken` has the items of the round at hand.
fn write_all(mut parts: Parts, taken: &mut Vec<Item>) -> Result<(), FatalError> {
    let unsynced = WriteOptions::new();
    let mut value = Vec::new();
    while let Some(ticket) = parts.queue.take(taken) {
        parts.batch += 1;
        let batch = encode(&parts.database, taken, parts.batch, &mut value);
        let bytes = batch.size_in_bytes();
        parts
            .database
            .db
            .write_opt(batch, &unsynced)
            .map_err(|error| FatalError::from_write(&error))?;
        parts.queue.publish_written(ticket);
        if taken.iter().any(Item::needs_sync) {
            sync(&parts, taken, bytes)?;
        }
        for done in taken.drain(..).filter_map(Item::into_done) {
            done(Ok(()));
        }
    }
    Ok(())
}

fn sync(parts: &Parts, items: &[Item], bytes: usize) -> Result<(), FatalError> {
    let start = Instant::now();
    parts
        .database
        .db
        .flush_wal(true)
        .map_err(|error| FatalError::from_sync(&error))?;
    let duration = start.elapsed();
    parts
        .watermark
        .record(parts.batch)
        .map_err(|error| FatalError::from_io("the watermark", &error))?;
    parts.observer.synced(&SyncedReport {
        duration,
        waiters: items.iter().filter(|item| item.needs_sync()).count(),
        entries: items.iter().map(Item::entries).sum(),
        bytes,
    });
    Ok(())
}

/// One RocksDB batch of all items and the batch's number.
fn encode(database: &Database, items: &[Item], number: u64, value: &mut Vec<u8>) -> WriteBatch {
    let log = database.log();
    let meta = database.meta();
    let committee = database.committee();
    let bytes = items.iter().map(Item::bytes).sum();
    let mut batch = WriteBatch::with_capacity_bytes(bytes);
    for item in items {
        match item {
            Item::Append { records, .. } => {
                for record in records {
                    codec::encode_log_value(record.index, &record.payload, value);
                    batch.put_cf(&log, codec::log_key(record.index), &*value);
                }
            }
            Item::Vote { vote, .. } => batch.put_cf(&meta, key::VOTE, vote),
            Item::Pin {
                node_id, store_id, ..
            } => {
                batch.put_cf(&meta, codec::pin_key(*node_id), store_id);
            }
            Item::Committee { changes, .. } => {
                for (key, payload) in changes {
                    match payload {
                        Some(payload) => {
                            codec::encode_committee_value(key, payload, value);
                            batch.put_cf(&committee, key, &*value);
                        }
                        None => batch.delete_cf(&committee, key),
                    }
                }
            }
            Item::Truncate { entries } => batch.delete_range_cf(
                &log,
                codec::log_key(entries.start),
                codec::log_key(entries.end),
            ),
            Item::Purge { entries, upto, id } => {
                batch.delete_range_cf(
                    &log,
                    codec::log_key(entries.start),
                    codec::log_key(entries.end),
                );
                batch.put_cf(&meta, key::PURGED, codec::encode_purged(*upto, id));
            }
            Item::Committed { committed } => batch.put_cf(&meta, key::COMMITTED, committed),
        }
    }
    batch.put_cf(&meta, key::BATCH, codec::encode_number(number));
    batch
}
