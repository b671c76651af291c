//! The handle to an open data folder.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use aegis_ledger::{ArchiveError, Change};
use bytes::Bytes;

use crate::committee::{
    self, CommitteeChange, CommitteeReadError, CommitteeRecord, CommitteeWriteError,
};
use crate::create::{CreateError, Identity, create};
use crate::database::{Database, Layout};
use crate::fatal::{Fatal, FatalError};
use crate::files::disk_bytes;
use crate::generation::Generation;
use crate::log::{self, LogBounds, LogRecord, ReadLogError};
use crate::open::{OpenError, Opened, open};
use crate::options::{Observer, Options};
use crate::snapshot::{InstallError, SnapshotDir, SnapshotInfo, install};
use crate::space::{Space, SpaceMonitor};
use crate::state::{Applied, CommitError, StateBatch};
use crate::stats::{Stats, collect};
use crate::view::{LiveTables, View};
use crate::writer::{AppendError, Done, Parts, Queue, Stopped, Writer};

/// An open data folder; cheap to clone. When the last clone is dropped, what is queued is
/// written and synced first; the folder is closed once its [`View`]s are gone too.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// Dropped first: it writes what is queued.
    _writer: Writer,
    queue: Arc<Queue>,
    database: Arc<Database>,
    /// The generation of the tables that counts.
    current: RwLock<Arc<Generation>>,
    /// Held by whoever moves the applied position.
    applying: Mutex<()>,
    layout: Layout,
    fatal: Fatal,
    observer: Arc<dyn Observer>,
    space: Arc<SpaceMonitor>,
    snapshots: SnapshotDir,
}

impl Store {
    /// Creates an empty data folder. It must be missing or empty; an interrupted creation
    /// leaves a folder that [`Store::open`] refuses.
    pub fn create(dir: &Path, identity: &Identity) -> Result<(), CreateError> {
        create(dir, identity)
    }

    /// Opens a data folder and checks it. The time grows with the size of the log and of the
    /// committee's records, not with that of the tables.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let Opened {
            layout,
            database,
            generation,
            log,
            vote,
            committed,
            watermark,
            batch,
            space,
        } = open(dir, options)?;
        let io = |source| OpenError::Io {
            path: dir.to_owned(),
            source,
        };
        let space = Arc::new(space);
        let snapshots = SnapshotDir::open(&layout.snapshots(), options, Arc::clone(&space));
        let fatal = Fatal::new(
            layout.failed(),
            layout.ballast(),
            Arc::clone(&options.on_fatal),
        );
        let queue = Arc::new(Queue::new(log, vote, committed));
        let writer = Writer::spawn(Parts {
            queue: Arc::clone(&queue),
            database: Arc::clone(&database),
            watermark,
            batch,
            fatal: fatal.clone(),
            observer: Arc::clone(&options.observer),
        });
        Ok(Self {
            inner: Arc::new(Inner {
                _writer: writer.map_err(io)?,
                queue,
                database,
                current: RwLock::new(generation),
                applying: Mutex::new(()),
                layout,
                fatal,
                observer: Arc::clone(&options.observer),
                space,
                snapshots: snapshots.map_err(io)?,
            }),
        })
    }

    /// To whom the folder belongs.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.database.identity
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.layout.dir
    }

    /// Appends entries and calls `done` once they are durable; earlier writes are durable
    /// then, too. The entries can be read when this returns. It waits while the queue is
    /// full, that is while 32 MiB or 65,536 writes wait for the disk.
    ///
    /// A log without history takes any first index, but a folder whose log does not begin
    /// at 0, or behind what was purged, does not open again.
    pub fn append(&self, records: Vec<LogRecord>, done: Done) -> Result<(), AppendError> {
        self.inner.queue.append(records, done)
    }

    /// Saves the vote and calls `done` once it is durable.
    pub fn save_vote(&self, vote: Bytes, done: Done) -> Result<(), Stopped> {
        self.inner.queue.save_vote(vote, done)
    }

    /// The vote that was saved last.
    #[must_use]
    pub fn read_vote(&self) -> Option<Bytes> {
        self.inner.queue.lock().vote.clone()
    }

    /// Pins a peer to its data folder and calls `done` once that is durable. A later pin of
    /// the same peer replaces it.
    pub fn save_pin(&self, node_id: u64, store_id: [u8; 16], done: Done) -> Result<(), Stopped> {
        self.inner.queue.save_pin(node_id, store_id, done)
    }

    /// The data folders that peers are pinned to, by peer, as they were when the folder was
    /// opened and have been saved since.
    pub fn read_pins(&self) -> Result<Vec<(u64, [u8; 16])>, ArchiveError> {
        self.inner.database.read_pins()
    }

    /// Changes records of this machine's seat in the committee, all of them or none, and
    /// calls `done` once that is durable; earlier writes are durable then, too. The later one
    /// of two changes to a key stands. It waits while the queue is full.
    ///
    /// Deletions alone are not synced: `done` is called once they are written, and they are
    /// durable with the next write that waits. A crash before may undo them.
    pub fn committee_write(
        &self,
        changes: Vec<CommitteeChange>,
        done: Done,
    ) -> Result<(), CommitteeWriteError> {
        committee::check_size(&changes)?;
        Ok(self.inner.queue.write_committee(changes, done)?)
    }

    /// All records of the committee, by ascending key. Like
    /// [`committee_record`](Self::committee_record), it may show a write that was not
    /// acknowledged yet; right after the folder was opened there is none.
    pub fn committee_records(&self) -> Result<Vec<CommitteeRecord>, CommitteeReadError> {
        let mut records = Vec::new();
        committee::visit(&self.inner.database, |key, value| {
            records.push((key.to_vec(), value.to_vec()));
        })?;
        Ok(records)
    }

    /// A record of the committee. Once a write is acknowledged it is seen here; it may be
    /// seen before, when it is not durable yet, so nothing may be signed because of it.
    pub fn committee_record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CommitteeReadError> {
        committee::read(&self.inner.database, key)
    }

    /// Removes the entries from `from` on. It keeps its place among the other writes and
    /// is durable with the next one that waits.
    pub fn truncate_from(&self, from: u64) -> Result<(), Stopped> {
        self.inner.queue.truncate(from)
    }

    /// Removes the entries up to and including `upto`, whose log id is `id`. It keeps its
    /// place among the other writes. The log may end before `upto`; it then continues
    /// behind it. The entries must have been applied: a folder that was purged beyond its
    /// applied position does not open again.
    pub fn purge(&self, upto: u64, id: Bytes) -> Result<(), Stopped> {
        self.inner.queue.purge(upto, id)
    }

    /// Saves the committed position. It keeps its place among the other writes and is written
    /// together with the next one.
    pub fn save_committed(&self, committed: Bytes) -> Result<(), Stopped> {
        self.inner.queue.save_committed(committed)
    }

    /// The committed position that was saved last.
    #[must_use]
    pub fn read_committed(&self) -> Option<Bytes> {
        self.inner.queue.lock().committed.clone()
    }

    /// Where the log begins and ends.
    #[must_use]
    pub fn log_bounds(&self) -> LogBounds {
        self.inner.queue.lock().log.bounds()
    }

    /// The entries of `range` that the log has, in order and without a hole, up to
    /// `bytes_max` of payload but at least one.
    pub fn read_log(
        &self,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, ReadLogError> {
        log::read(&self.inner.queue, &self.inner.database, range, bytes_max)
    }

    /// Whether the log is written up to `index`, so that [`Store::commit_state`] need not wait
    /// for it.
    #[must_use]
    pub fn is_written(&self, index: u64) -> bool {
        self.inner.queue.is_written(index)
    }

    /// Writes the changes of applied entries and the applied position in one batch, which
    /// [`Store::tables`] and later [`View`]s show. It first waits until the log is written
    /// up to `applied.index`, so that no crash leaves the tables ahead of the log; it does
    /// not wait for a sync.
    ///
    /// Every error ends the node.
    pub fn commit_state<'c>(
        &self,
        changes: impl IntoIterator<Item = &'c Change>,
        applied: &Applied,
    ) -> Result<(), CommitError> {
        let _applying = self.inner.applying();
        let generation = self.inner.generation();
        let batch = StateBatch::new(&generation, changes, applied)?;
        self.inner.queue.wait_written(applied.index)?;
        match batch.write(&generation) {
            Ok(report) => {
                self.inner.observer.applied(&report);
                Ok(())
            }
            Err(error) => Err(self.inner.fail(&FatalError::from_write(&error)).into()),
        }
    }

    /// The applied position; `None` before the first entry.
    pub fn read_applied(&self) -> Result<Option<Applied>, ArchiveError> {
        self.inner.generation().latest().applied()
    }

    /// A frozen view of the tables and the applied position.
    #[must_use]
    pub fn view(&self) -> View {
        View::of(self.inner.generation())
    }

    /// The latest tables, for applying the next entries.
    #[must_use]
    pub fn tables(&self) -> LiveTables {
        LiveTables::of(self.inner.generation())
    }

    /// The snapshot files of the folder.
    #[must_use]
    pub fn snapshots(&self) -> &SnapshotDir {
        &self.inner.snapshots
    }

    /// Replaces the tables and the applied position by those of a snapshot file, which is
    /// verified on the way; on an error, nothing has changed. Views made before go on
    /// showing the old tables. Afterwards the log should be purged up to the snapshot.
    pub fn install(&self, snapshot: &Path) -> Result<SnapshotInfo, InstallError> {
        let _applying = self.inner.applying();
        let old = self.inner.generation();
        let prepared = install::prepare(&old, snapshot, &self.inner.space)?;
        if let Err(error) = prepared.switch(&self.inner.database) {
            return Err(self.inner.fail(&error).into());
        }
        let info = prepared.info;
        *self
            .inner
            .current
            .write()
            .expect("nothing panics while it holds the current generation") =
            Arc::new(prepared.generation);
        install::discard(&self.inner.database.db, old.number());
        Ok(info)
    }

    /// Free space, asked from the file system.
    pub fn space(&self) -> io::Result<Space> {
        self.inner.space.space()
    }

    /// Whether free space is below the floor, at most 100 ms old: then the node should
    /// take no new work. Cheap enough for every request.
    #[must_use]
    pub fn is_low_on_space(&self) -> bool {
        self.inner.space.is_low()
    }

    /// What the store takes up. It visits every file of the folder.
    pub fn stats(&self) -> io::Result<Stats> {
        collect(&self.inner.database, disk_bytes(&self.inner.layout.dir)?)
    }
}

impl Inner {
    fn generation(&self) -> Arc<Generation> {
        Arc::clone(
            &self
                .current
                .read()
                .expect("nothing panics while it holds the current generation"),
        )
    }

    fn applying(&self) -> MutexGuard<'_, ()> {
        self.applying
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Ends the process, or at least all writing.
    fn fail(&self, error: &FatalError) -> Stopped {
        self.fatal.raise(error);
        self.queue.stop();
        Stopped
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.inner.layout.dir)
            .field("identity", &self.inner.database.identity)
            .finish_non_exhaustive()
    }
}
