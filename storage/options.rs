//! What can be set about a [`Store`](crate::Store), and what it reports.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::fatal::{FatalHook, exit_process};

/// Settings of a [`Store`](crate::Store). The defaults keep a node under 300 MB whatever
/// its history, and let three nodes share a machine with two cores.
#[derive(Clone)]
pub struct Options {
    /// Bound of the cache of blocks, indexes and filters, in bytes.
    pub block_cache_bytes: usize,
    /// Bound of all memtables together, in bytes.
    pub memtable_bytes: usize,
    /// Size at which the write-ahead log makes quiet column families flush, in bytes. A
    /// start after a crash replays at most about this much.
    pub wal_bytes: u64,
    /// How many bytes of written log entries stay in memory for replication.
    pub log_tail_bytes: usize,
    /// Size of the file that is given back when the disk is full, in bytes.
    pub ballast_bytes: u64,
    /// Free space below which [`Store::is_low_on_space`](crate::Store::is_low_on_space)
    /// says so, in bytes.
    pub free_floor_bytes: u64,
    /// How many snapshot files are kept, at least one.
    pub snapshots_kept: usize,
    /// Largest snapshot that is received, in bytes.
    pub snapshot_bytes_max: u64,
    /// What ends the process; by default it logs the failure and exits with
    /// [`EXIT_CODE`](crate::EXIT_CODE). If it returns, the store answers every later
    /// write with [`Stopped`](crate::Stopped).
    pub on_fatal: FatalHook,
    /// Who is told about syncs and applied batches.
    pub observer: Arc<dyn Observer>,
}

const MIB: usize = 1 << 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            block_cache_bytes: 32 * MIB,
            memtable_bytes: 40 * MIB,
            wal_bytes: 64 << 20,
            log_tail_bytes: 8 * MIB,
            ballast_bytes: 16 << 20,
            free_floor_bytes: 64 << 20,
            snapshots_kept: 2,
            snapshot_bytes_max: 64 << 30,
            on_fatal: Arc::new(exit_process),
            observer: Arc::new(()),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("block_cache_bytes", &self.block_cache_bytes)
            .field("memtable_bytes", &self.memtable_bytes)
            .field("wal_bytes", &self.wal_bytes)
            .field("log_tail_bytes", &self.log_tail_bytes)
            .field("ballast_bytes", &self.ballast_bytes)
            .field("free_floor_bytes", &self.free_floor_bytes)
            .field("snapshots_kept", &self.snapshots_kept)
            .field("snapshot_bytes_max", &self.snapshot_bytes_max)
            .finish_non_exhaustive()
    }
}

/// One synced batch of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncedReport {
    /// How long the sync alone took.
    pub duration: Duration,
    /// Callers that the sync served.
    pub waiters: usize,
    /// Log entries in the batch.
    pub entries: usize,
    /// Bytes of the batch as written.
    pub bytes: usize,
}

/// One batch of applied entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedReport {
    /// How long the write took, without the wait for the log.
    pub duration: Duration,
    /// Changes in the batch.
    pub changes: usize,
    /// Bytes of the batch as written.
    pub bytes: usize,
}

/// Told what storage does, on the thread that does it; implementations only count.
pub trait Observer: Send + Sync {
    /// A batch of votes, log entries and committee records was synced.
    fn synced(&self, report: &SyncedReport) {
        let _ = report;
    }

    /// The changes of applied entries were written.
    fn applied(&self, report: &AppliedReport) {
        let _ = report;
    }
}

/// Observes nothing.
impl Observer for () {}
