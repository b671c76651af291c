//! The owner of the machine: applies committed batches and answers who waits for them.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use aegis_ledger::Archive;
use aegis_storage::Store;
use openraft::EntryPayload;
use openraft::storage::ApplyResponder;
use tokio::sync::watch;

use crate::disk::AppliedState;
use crate::machine::{self, Answer, Machine, Position};
use crate::observer::Observer;
use crate::overlay::{Overlay, Pending};
use crate::record::{self, RecordError};
use crate::roster::Roster;
use crate::types::{Command, Entry, LogId, Types};

/// What the store says was applied.
pub(crate) fn read_applied(store: &Store) -> io::Result<AppliedState> {
    let applied = store.read_applied().map_err(io::Error::other)?;
    AppliedState::decode(applied.as_ref()).map_err(io::Error::other)
}

/// An entry, and where its submitter waits on this node, if one does.
pub(crate) type Item = (Entry, Option<ApplyResponder<Types>>);

/// The most entries of a brief batch.
const BRIEF_ENTRIES_MAX: usize = 4;

/// The owner of the machine.
pub(crate) struct Applier {
    machine: Box<dyn Machine>,
    store: Store,
    state: AppliedState,
    roster: Arc<Roster>,
    applied: watch::Sender<Option<u64>>,
    observer: Arc<dyn Observer>,
}

impl Applier {
    /// An applier that is still to load the machine. Returns, beside it, where the last applied
    /// index is published; it is none before the first entry.
    pub(crate) fn new(
        machine: Box<dyn Machine>,
        store: Store,
        roster: Arc<Roster>,
        observer: Arc<dyn Observer>,
    ) -> (Self, watch::Receiver<Option<u64>>) {
        let (applied, applied_watch) = watch::channel(None);
        let this = Self {
            machine,
            store,
            state: AppliedState::default(),
            roster,
            applied,
            observer,
        };
        (this, applied_watch)
    }

    /// Rebuilds the machine from what is on disk.
    pub(crate) fn load(&mut self) -> io::Result<()> {
        self.state = read_applied(&self.store)?;
        self.machine
            .load(&self.store.tables())
            .map_err(io::Error::other)?;
        self.roster.applied(&self.state);
        self.applied
            .send_replace(self.state.last.map(|last| last.index));
        Ok(())
    }

    /// Whether someone waits for the batch on this node, and applying it surely takes well
    /// under a heartbeat and waits for nothing: then a wake-up of another thread, and one
    /// back, would cost more than the work.
    pub(crate) fn is_brief(&self, items: &[Item]) -> bool {
        let is_brief = |entry: &Entry| match &entry.payload {
            EntryPayload::Blank => true,
            EntryPayload::Membership(_) => false,
            EntryPayload::Normal(command) => machine_entry(entry.log_id, command)
                .is_ok_and(|entry| self.machine.is_brief(&entry)),
        };
        items.len() <= BRIEF_ENTRIES_MAX
            && items.iter().any(|(_, responder)| responder.is_some())
            && items.iter().all(|(entry, _)| is_brief(entry))
            && items
                .last()
                .is_some_and(|(last, _)| self.store.is_written(last.log_id.index))
    }

    /// Applies every entry over the changes of those before it, writes them all in one atomic
    /// batch, answers the submitters and tells the machine.
    pub(crate) fn apply(&mut self, items: Vec<Item>) -> io::Result<()> {
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
        let entry = machine_entry(at, command).map_err(io::Error::other)?;
        let archive = Overlay {
            base: tables,
            pending,
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

fn machine_entry(at: LogId, command: &Command) -> Result<machine::Entry, RecordError> {
    let (stamp_ms, payload) = record::open_command(command)?;
    Ok(machine::Entry {
        position: position(at),
        stamp_ms,
        payload,
    })
}

fn position(id: LogId) -> Position {
    Position {
        index: id.index,
        term: id.leader_id.term,
    }
}
