//! One node's disk: the Raft log and vote, the ledger's tables and snapshots of them, and the
//! records of a committee seat.
//!
//! A data folder holds one RocksDB and a few small files:
//!
//! ```text
//! <dir>/db/          RocksDB: column families `meta`, `log`, `committee`, and per generation
//!                    g of the tables `ledger@g`, `ballots@g`, `events@g`, `audit@g`
//! <dir>/snapshots/   snapshot files, and at most one that is being received
//! <dir>/synced       the number of the last batch known to be on the medium
//! <dir>/ballast      space that is given back when the disk is full
//! <dir>/lock         held by the process that has the folder open
//! <dir>/incomplete   stands while the folder is being created or restored
//! <dir>/failed       stands after the disk failed; the folder never opens again
//! ```
//!
//! # What is durable when
//!
//! Log, vote, tables and committee records share **one write-ahead log** (WAL), so that what
//! a crash leaves behind is always a prefix of what was written.
//!
//! 1. One thread writes vote, log entries, truncations, purges, the committed position and
//!    committee records, in the order in which they were asked for. It drains its queue
//!    into one batch, writes it, and syncs the WAL once for everyone who waits.
//! 2. [`Store::commit_state`] writes the changes of applied entries together with the
//!    applied position in one batch and does not sync: after a crash the log explains
//!    everything again. It first waits until the entries themselves were *written*, so
//!    the applied position that a crash leaves behind is never ahead of the log.
//! 3. Every failure to write or sync ends the process ([`FatalError`]). After a failed
//!    sync the result of the write is unknown, the kernel may have dropped the pages, and
//!    a second sync would lie; so the folder is marked and never opened again. A full
//!    disk leaves no mark: it loses nothing, and may meet all nodes at once.
//!
//! # What is checked at start
//!
//! [`Store::open`] refuses, and says what to do, rather than guess: see [`OpenError`].
//! Blocks of the tables are checked when they are read, and all of them whenever a
//! snapshot is saved; the log, the vote, the positions and the committee records are checked
//! at every start.
//!
//! Storage knows neither Raft, nor the committee's protocol, nor the ledger's rules: votes, log
//! ids, membership and committee records are opaque bytes, and a table is a sorted map of
//! bytes to bytes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod codec;
mod committee;
mod create;
mod database;
mod fatal;
mod files;
mod generation;
mod log;
mod open;
mod options;
mod schema;
mod snapshot;
mod space;
mod state;
mod stats;
mod store;
mod view;
mod watermark;
mod writer;

pub use committee::{
    COMMITTEE_BATCH_BYTES_MAX, COMMITTEE_CHANGES_MAX, COMMITTEE_KEY_BYTES_MAX,
    COMMITTEE_VALUE_BYTES_MAX, CommitteeChange, CommitteeReadError, CommitteeRecord,
    CommitteeWriteError,
};
pub use create::{CreateError, Identity};
pub use fatal::{EXIT_CODE, FatalError, FatalHook};
pub use log::{LogBounds, LogRecord, ReadLogError};
pub use open::OpenError;
pub use options::{AppliedReport, Observer, Options, SyncedReport};
pub use snapshot::{
    BadSnapshot, Chunk, InstallError, ReceiveError, RestoreError, SaveError, SnapshotDir,
    SnapshotFile, SnapshotHeader, SnapshotInfo, SnapshotReader, SnapshotReceiver, SnapshotRecord,
    restore, save_atomic, verify, write_snapshot,
};
pub use space::Space;
pub use state::{Applied, CommitError};
pub use stats::Stats;
pub use store::Store;
pub use view::{LiveTables, View};
pub use writer::{AppendError, Done, Stopped};
