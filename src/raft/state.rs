//! openraft's state machine over a [`Machine`] and a [`Store`].
//!
//! The machine lives on a thread of its own, because applying may take long (signatures,
//! disk) and must not hold up heartbeats. A committed batch becomes one job: apply every
//! entry over the changes of those before it, write them all in one atomic batch, answer the
//! submitters, tell the machine. Snapshots are views taken between jobs.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use aegis_ledger::Archive;
use aegis_storage::Store;
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::{mpsc, oneshot, watch};

use crate::disk::AppliedState;
use crate::machine::{self, Answer, Machine, Position};
use crate::observer::Observer;
use crate::overlay::{Overlay, Pending};
use crate::record;
use crate::roster::Roster;
use crate::snapshot::{SnapshotBuilder, SnapshotData, Snapshots};
use crate::types::{Command, Entry, LogId, StoredMembership, Types};

/// The Raft core of a node.
pub(crate) type Core = crate::types::Core<StateMachine>;

/// The most entries that are applied and written as one batch.
const BATCH_ENTRIES_MAX: usize = 1_024;
/// Jobs that may wait for the machine's thread. openraft waits for each, so one is enough.
const JOBS_MAX: usize = 1;

type Item = (Entry, Option<ApplyResponder<Types>>);

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
    jobs: mpsc::Sender<Job>,
    store: Store,
    snapshots: Snapshots,
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
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let (applied, applied_watch) = watch::channel(None);
        let applier = Applier {
            machine,
            store: store.clone(),
            state: AppliedState::default(),
            roster,
            applied,
            observer,
        };
        thread::Builder::new()
            .name("raft-apply".to_owned())
            .spawn(move || applier.run(queue))?;
        let this = Self {
            jobs,
            store,
            snapshots,
        };
        this.load().await?;
        Ok((this, applied_watch))
    }

    async fn load(&self) -> io::Result<()> {
        self.ask(|done| Job::Load { done }).await
    }

    /// Hands a job to the thread and waits for it. A thread that died took a panic with it,
    /// and the node must stop.
    async fn ask(
        &self,
        job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Job,
    ) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.jobs
            .send(job(done))
            .await
            .map_err(|_| io::Error::other(Died))?;
        answer.await.map_err(|_| io::Error::other(Died))?
    }
}

/// The machine's thread ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("the replicated machine's thread has died")]
struct Died;

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
                let items = std::mem::take(&mut items);
                self.ask(|done| Job::Apply { items, done }).await?;
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

/// What the store says was applied.
pub(crate) fn read_applied(store: &Store) -> io::Result<AppliedState> {
    let applied = store.read_applied().map_err(io::Error::other)?;
    AppliedState::decode(applied.as_ref()).map_err(io::Error::other)
}

/// The owner of the machine.
struct Applier {
    machine: Box<dyn Machine>,
    store: Store,
    state: AppliedState,
    roster: Arc<Roster>,
    applied: watch::Sender<Option<u64>>,
    observer: Arc<dyn Observer>,
}

impl Applier {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            let (result, done) = match job {
                Job::Apply { items, done } => (self.apply(items), done),
                Job::Load { done } => (self.load(), done),
            };
            // The core waits for the answer unless it is being shut down.
            done.send(result).ok();
        }
    }

    fn load(&mut self) -> io::Result<()> {
        self.state = read_applied(&self.store)?;
        self.machine
            .load(&self.store.tables())
            .map_err(io::Error::other)?;
        self.roster.applied(&self.state);
        self.applied
            .send_replace(self.state.last.map(|last| last.index));
        Ok(())
    }

    fn apply(&mut self, items: Vec<Item>) -> io::Result<()> {
        let began = Instant::now();
        let count = items.len();
        let tables = self.store.tables();
        let mut pending = Pending::default();
        let mut answers = Vec::with_capacity(count);
        let mut membership_changed = false;
        for (entry, responder) in items {
            membership_changed |= matches!(entry.payload, EntryPayload::Membership(_));
            let answer = self.apply_entry(&tables, &mut pending, entry)?;
            answers.extend(responder.map(|responder| (responder, answer)));
        }
        let Some(applied) = self.state.encode() else {
            return Ok(());
        };
        self.store
            .commit_state(&pending.into_changes(), &applied)
            .map_err(io::Error::other)?;

        self.applied.send_replace(Some(applied.index));
        for (responder, answer) in answers {
            responder.send(answer);
        }
        if membership_changed {
            self.roster.applied(&self.state);
        }
        if let Some(last) = self.state.last {
            self.machine.committed(position(last));
        }
        self.observer.applied(count, began.elapsed());
        Ok(())
    }

    fn apply_entry(
        &mut self,
        tables: &dyn Archive,
        pending: &mut Pending,
        entry: Entry,
    ) -> io::Result<Answer> {
        let at = entry.log_id;
        if let Some(last) = self.state.last.filter(|last| at.index <= last.index) {
            return Err(io::Error::other(Twice {
                last: last.index,
                found: at.index,
            }));
        }
        self.state.last = Some(at);
        match entry.payload {
            EntryPayload::Blank => Ok(Answer::new()),
            EntryPayload::Membership(membership) => {
                self.state.set_membership(at, membership);
                Ok(Answer::new())
            }
            EntryPayload::Normal(command) => self.apply_command(tables, pending, at, &command),
        }
    }

    fn apply_command(
        &mut self,
        tables: &dyn Archive,
        pending: &mut Pending,
        at: LogId,
        command: &Command,
    ) -> io::Result<Answer> {
        let (stamp_ms, payload) = record::open_command(command).map_err(io::Error::other)?;
        let archive = Overlay {
            base: tables,
            pending,
        };
        let entry = machine::Entry {
            position: position(at),
            stamp_ms,
            payload,
        };
        let applied = self
            .machine
            .apply(&archive, entry)
            .map_err(io::Error::other)?;
        pending.extend(applied.changes);
        Ok(applied.answer)
    }
}

/// An entry would be applied a second time.
#[derive(Debug, thiserror::Error)]
#[error("entry {found} is to be applied, and entry {last} was")]
struct Twice {
    last: u64,
    found: u64,
}

fn position(id: LogId) -> Position {
    Position {
        index: id.index,
        term: id.leader_id.term,
    }
}
