//! openraft's state machine over a [`Machine`] and a [`Store`].
//!
//! The machine is applied to on a thread of its own, because applying may take long
//! (signatures, disk) and must not hold up heartbeats; only a brief batch that a submitter
//! waits for is applied where it is. openraft waits for each batch, so that there is one at a
//! time. Snapshots are views taken between them.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use aegis_storage::Store;
use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use tokio::sync::{mpsc, oneshot, watch};

use crate::applier::{Applier, Item, read_applied};
use crate::machine::Machine;
use crate::observer::Observer;
use crate::roster::Roster;
use crate::snapshot::{SnapshotBuilder, SnapshotData, Snapshots};
use crate::types::{LogId, StoredMembership, Types};

/// The Raft core of a node.
pub(crate) type Core = crate::types::Core<StateMachine>;

/// The most entries that are applied and written as one batch.
const BATCH_ENTRIES_MAX: usize = 1_024;
/// Jobs that may wait for the machine's thread. openraft waits for each, so one is enough.
const JOBS_MAX: usize = 1;

/// What the machine's thread is asked to do.
enum Job {
    Apply {
        items: Vec<Item>,
        done: oneshot::Sender<io::Result<()>>,
    },
    Load {
        done: oneshot::Sender<io::Result<()>>,
    },
}

/// The handle that openraft drives.
pub(crate) struct StateMachine {
    worker: Worker,
    applier: Arc<Mutex<Applier>>,
    store: Store,
    snapshots: Snapshots,
}

/// The machine's thread. It ends with the handle, and not after it: it holds the store, which
/// must be closed before the process ends.
struct Worker {
    /// Taken when the thread is to end.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(applier: Arc<Mutex<Applier>>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let thread = thread::Builder::new()
            .name("raft-apply".to_owned())
            .spawn(move || run(&applier, queue))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    async fn give(&self, job: Job) -> io::Result<()> {
        let jobs = self.jobs.as_ref().ok_or_else(|| io::Error::other(Died))?;
        jobs.send(job).await.map_err(|_| io::Error::other(Died))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of its was told to whoever waited for the job.
            thread.join().ok();
        }
    }
}

impl StateMachine {
    /// Starts the machine's thread and loads the machine. Returns, beside the handle, where
    /// the last applied index is published; it is none before the first entry.
    pub(crate) async fn start(
        machine: Box<dyn Machine>,
        store: Store,
        snapshots: Snapshots,
        roster: Arc<Roster>,
        observer: Arc<dyn Observer>,
    ) -> io::Result<(Self, watch::Receiver<Option<u64>>)> {
        let (applier, applied_watch) = Applier::new(machine, store.clone(), roster, observer);
        let applier = Arc::new(Mutex::new(applier));
        let this = Self {
            worker: Worker::start(Arc::clone(&applier))?,
            applier,
            store,
            snapshots,
        };
        this.load().await?;
        Ok((this, applied_watch))
    }

    async fn load(&self) -> io::Result<()> {
        self.ask(|done| Job::Load { done }).await
    }

    async fn apply_batch(&self, items: Vec<Item>) -> io::Result<()> {
        if lock(&self.applier)?.is_brief(&items) {
            let apply = || lock(&self.applier)?.apply(items);
            return panic::catch_unwind(AssertUnwindSafe(apply))
                .unwrap_or_else(|_| Err(io::Error::other(Died)));
        }
        self.ask(|done| Job::Apply { items, done }).await
    }

    /// Hands a job to the thread and waits for it. A thread that died took a panic with it,
    /// and the node must stop.
    async fn ask(
        &self,
        job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Job,
    ) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.worker.give(job(done)).await?;
        answer.await.map_err(|_| io::Error::other(Died))?
    }
}

/// A panic in the machine: it must not be used again.
#[derive(Debug, thiserror::Error)]
#[error("the replicated machine has died")]
struct Died;

fn lock(applier: &Mutex<Applier>) -> io::Result<MutexGuard<'_, Applier>> {
    applier.lock().map_err(|_| io::Error::other(Died))
}

/// Works on the machine's thread until the handle is gone.
fn run(applier: &Mutex<Applier>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        let (result, done) = match job {
            Job::Apply { items, done } => (lock(applier).and_then(|mut it| it.apply(items)), done),
            Job::Load { done } => (lock(applier).and_then(|mut it| it.load()), done),
        };
        // The core waits for the answer unless it is being shut down.
        done.send(result).ok();
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let state = read_applied(&self.store)?;
        Ok((state.last, state.membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut items = Vec::new();
        loop {
            let item = entries.next().await.transpose()?;
            let at_end = item.is_none();
            items.extend(item);
            if items.len() >= BATCH_ENTRIES_MAX || (at_end && !items.is_empty()) {
                self.apply_batch(std::mem::take(&mut items)).await?;
            }
            if at_end {
                return Ok(());
            }
        }
    }

    /// Takes the view now: openraft calls this between two applies.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        if force {
            return Some(self.snapshots.required_builder());
        }
        self.snapshots.builder()
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.snapshots.required_builder()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types>,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        self.snapshots.install(meta, snapshot).await?;
        self.load().await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<Types, SnapshotData>>> {
        self.snapshots.current().await
    }
}
