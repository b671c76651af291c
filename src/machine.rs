//! The ledger as the machine that Raft replicates.
//!
//! It applies on the thread that owns it, keeps the events of a batch until the batch is
//! on disk, and only then logs them, counts them and wakes who follows them.

use std::sync::Arc;

use aegis_committee::{Inbox, SignatureMemory};
use aegis_ledger::{Archive, Entry, Event, Genesis, Ledger, LedgerTime, LogIndex, Verified, query};
use aegis_raft::{Applied, Machine, MachineError, Position};
use tokio::sync::watch;

use crate::observe::LedgerMetrics;
use crate::telemetry;

/// The largest command that is surely applied soon, in bytes.
const BRIEF_BYTES_MAX: usize = 4 << 10;
/// The most agents with which a small command is surely applied soon.
const BRIEF_AGENTS_MAX: u32 = 10_000;

/// What others follow of the ledger's progress.
#[derive(Clone, Debug)]
pub struct Progress {
    /// How many events were ever applied.
    pub events: watch::Receiver<u64>,
    /// When the next proposal closes by itself.
    pub due: watch::Receiver<Option<LedgerTime>>,
}

/// What a node's validator shares with its ledger.
#[derive(Clone, Default)]
pub struct Follower {
    /// Rung whenever there may be something for the validator to read.
    pub inbox: Arc<Inbox>,
    /// Signatures that were verified already.
    pub memory: Arc<SignatureMemory>,
}

/// The ledger, between two batches.
pub struct LedgerMachine {
    genesis: Arc<Genesis>,
    follower: Option<Follower>,
    ledger: Option<Ledger>,
    pending: Vec<Event>,
    events: watch::Sender<u64>,
    due: watch::Sender<Option<LedgerTime>>,
    metrics: LedgerMetrics,
}

impl LedgerMachine {
    /// A machine that begins empty; Raft loads it before it applies.
    #[must_use]
    pub fn new(
        genesis: Arc<Genesis>,
        follower: Option<Follower>,
        metrics: LedgerMetrics,
    ) -> (Self, Progress) {
        let (events, events_seen) = watch::channel(0);
        let (due, due_seen) = watch::channel(None);
        let machine = Self {
            genesis,
            follower,
            ledger: None,
            pending: Vec::new(),
            events,
            due,
            metrics,
        };
        (
            machine,
            Progress {
                events: events_seen,
                due: due_seen,
            },
        )
    }
}

impl Machine for LedgerMachine {
    fn load(&mut self, archive: &dyn Archive) -> Result<(), MachineError> {
        let mut ledger = Ledger::load(archive, &self.genesis).map_err(MachineError::new)?;
        if let Some(follower) = &self.follower {
            let memory = Arc::clone(&follower.memory);
            ledger = ledger.with_memory(memory as Arc<dyn Verified>);
        }
        let core = query::core(archive).map_err(MachineError::new)?;
        self.pending.clear();
        self.metrics.loaded(&core);
        self.due.send_replace(ledger.next_due());
        self.events.send_replace(core.events);
        self.ledger = Some(ledger);
        if let Some(follower) = &self.follower {
            follower.inbox.ring();
        }
        Ok(())
    }

    fn apply(
        &mut self,
        archive: &dyn Archive,
        entry: aegis_raft::Entry,
    ) -> Result<Applied, MachineError> {
        let ledger = self
            .ledger
            .as_mut()
            .ok_or_else(|| MachineError::new("applied before it was loaded"))?;
        // An entry that does not decode was written by a newer version: this binary must
        // not guess what it says.
        let command = Entry::decode(&entry.payload).map_err(MachineError::new)?;
        let (index, stamp) = (LogIndex(entry.position.index), LedgerTime(entry.stamp_ms));
        let applied = ledger
            .apply(archive, index, stamp, command)
            .map_err(MachineError::new)?;
        let answer = applied.answer.encode().into();
        self.pending.extend(applied.events);
        Ok(Applied {
            changes: applied.changes,
            answer,
        })
    }

    /// A small command's work is bounded by the number of agents, unless proposals close
    /// before it.
    fn is_brief(&self, entry: &aegis_raft::Entry) -> bool {
        entry.payload.len() <= BRIEF_BYTES_MAX
            && self.ledger.as_ref().is_some_and(|ledger| {
                ledger.core().agents <= BRIEF_AGENTS_MAX
                    && !ledger.is_due(LedgerTime(entry.stamp_ms))
            })
    }

    fn committed(&mut self, _: Position) {
        let count = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        for event in self.pending.drain(..) {
            telemetry::log_event(&event);
            self.metrics.happened(&event);
        }
        if let Some(ledger) = &self.ledger {
            let due = ledger.next_due();
            self.due
                .send_if_modified(|known| std::mem::replace(known, due) != due);
        }
        if count > 0 {
            if let Some(ledger) = &self.ledger {
                self.metrics.count_statuses(&ledger.core().statuses);
            }
            self.events
                .send_modify(|events| *events = events.saturating_add(count));
            if let Some(follower) = &self.follower {
                follower.inbox.ring();
            }
        }
    }
}
