//! What the node replicates: a deterministic machine, and the contract between it and this
//! crate.
//!
//! Entries are applied one after another, in the order of the log. The machine reads history
//! through an [`Archive`] that already shows the changes of every earlier entry, whether or
//! not they have reached the disk; the changes of a whole committed batch are then written,
//! together with the applied position, in one atomic write. Only after that write are
//! submitters answered and [`Machine::committed`] called.
//!
//! **Every command must be idempotent.** A submission whose fate is unknown (the leader died
//! after it took the command) is submitted again, so the same bytes may be applied twice, at
//! two positions. The machine recognises the second by the command's own identity (a request
//! id, a signature) and answers it as it answered the first.

use std::error::Error;

use aegis_ledger::{Archive, Change};
use bytes::Bytes;

/// What the machine tells the submitter of a command; opaque to this crate.
pub type Answer = Bytes;

/// A place in the replicated log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The index, from 0, without holes over the life of the cluster.
    pub index: u64,
    /// The term of the leader that wrote the entry.
    pub term: u64,
}

/// A committed command on its way into the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands in the log.
    pub position: Position,
    /// The leader's clock when it was proposed, in milliseconds since the epoch. Later
    /// entries may carry earlier stamps, when leadership moved to a slower clock.
    pub stamp_ms: u64,
    /// The bytes that were submitted.
    pub payload: Bytes,
}

/// What applying one command did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The writes to make; a later change of a key overrides an earlier one.
    pub changes: Vec<Change>,
    /// What the submitter is told.
    pub answer: Answer,
}

/// A local failure of the machine: it cannot read what is on disk, or what it reads cannot
/// be. Never a property of the command being applied, so the node stops.
#[derive(Debug, thiserror::Error)]
#[error("the replicated machine cannot go on")]
pub struct MachineError(#[source] pub Box<dyn Error + Send + Sync>);

impl MachineError {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// The replicated state machine: pure in its inputs, fed in log order.
pub trait Machine: Send + 'static {
    /// Forgets what is in memory and rebuilds it from what is on disk: after opening, and
    /// again after a snapshot was installed.
    fn load(&mut self, archive: &dyn Archive) -> Result<(), MachineError>;

    /// Applies one committed command. A command that the rules refuse is an answer, not an
    /// error.
    fn apply(&mut self, archive: &dyn Archive, entry: Entry) -> Result<Applied, MachineError>;

    /// Whether applying the command surely takes no more than a few milliseconds: such a one
    /// may be applied on the thread that also sends heartbeats.
    fn is_brief(&self, entry: &Entry) -> bool;

    /// Everything up to and including `upto` is on disk and visible to readers: the moment
    /// to publish events.
    fn committed(&mut self, upto: Position);
}
