//! The ledger's view of what is on disk, and the changes it asks to be written there.
//!
//! The ledger never writes. [`Ledger::apply`](crate::Ledger::apply) reads history through
//! an [`Archive`] and returns [`Change`]s; the shell writes them, together with the applied
//! log position, in one atomic batch. The archive handed to the next `apply` must already
//! show those changes, whether or not they have reached the disk.

use std::ops::ControlFlow;

/// A keyspace. The discriminant is part of the disk and snapshot formats, and the table's
/// place in [`Table::ALL`]: tables are appended, never renumbered and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Singletons: counters, clock, audit head.
    Core = 0,
    /// Agents by id.
    Agents = 1,
    /// Proposals by number.
    Proposals = 2,
    /// Proposals that are not closed yet, by number; values are empty.
    Open = 3,
    /// Exact document bytes by proposal number.
    Documents = 4,
    /// Frozen electorates by proposal number.
    Electorates = 5,
    /// Running tallies of open proposals by proposal number.
    Tallies = 6,
    /// Ballots by proposal number, round and voter.
    Ballots = 7,
    /// Ballot keys by voter and vote number.
    VotesByVoter = 8,
    /// Closings by ordinal.
    Closings = 9,
    /// Audit entries by sequence number.
    Audit = 10,
    /// Bearer tokens by id.
    Tokens = 11,
    /// Outcomes of keyed requests by principal and key.
    Requests = 12,
    /// Keyed requests by expiry.
    RequestExpiry = 13,
    /// Evidence of misbehaviour by agent, proposal, round and kind.
    Evidence = 14,
    /// Events by log index and ordinal.
    Events = 15,
    /// Text that a person may have erased, by digest.
    Justifications = 16,
    /// Committees by epoch, from the first that the genesis does not name.
    Committees = 17,
    /// Certificates by the ordinal of their closing: the exact envelopes.
    Certificates = 18,
    /// Closings that wait for their certificate, by ordinal.
    Uncertified = 19,
    /// Roots of complete subtrees over the audit entries, by level and place.
    Tree = 20,
    /// Keys that agents had before, by thumbprint.
    RetiredKeys = 21,
}

impl Table {
    /// Every table, in the order in which snapshots carry them.
    pub const ALL: [Self; 22] = [
        Self::Core,
        Self::Agents,
        Self::Proposals,
        Self::Open,
        Self::Documents,
        Self::Electorates,
        Self::Tallies,
        Self::Ballots,
        Self::VotesByVoter,
        Self::Closings,
        Self::Audit,
        Self::Tokens,
        Self::Requests,
        Self::RequestExpiry,
        Self::Evidence,
        Self::Events,
        Self::Justifications,
        Self::Committees,
        Self::Certificates,
        Self::Uncertified,
        Self::Tree,
        Self::RetiredKeys,
    ];

    /// The byte that names the table on disk.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The name in what people and scripts read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Agents => "agents",
            Self::Proposals => "proposals",
            Self::Open => "open_proposals",
            Self::Documents => "documents",
            Self::Electorates => "electorates",
            Self::Tallies => "tallies",
            Self::Ballots => "ballots",
            Self::VotesByVoter => "ballots_by_voter",
            Self::Closings => "closings",
            Self::Audit => "audit_entries",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
            Self::RequestExpiry => "request_expiry",
            Self::Evidence => "evidence",
            Self::Events => "events",
            Self::Justifications => "justifications",
            Self::Committees => "committees",
            Self::Certificates => "certificates",
            Self::Uncertified => "uncertified_closings",
            Self::Tree => "audit_subtrees",
            Self::RetiredKeys => "retired_keys",
        }
    }

    /// The table that a byte names, if any.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.id() == id)
    }
}

/// One write that the shell must make; `None` deletes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The keyspace.
    pub table: Table,
    /// The key; tables are ordered by its bytes.
    pub key: Vec<u8>,
    /// The encoded record, or `None` to delete.
    pub value: Option<Vec<u8>>,
}

/// The order of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ascending keys.
    Ascending,
    /// Descending keys.
    Descending,
}

/// A read failed: the disk, or a record that does not decode. Never a property of the
/// command being applied, so the node must stop.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the archive: {reason}")]
pub struct ArchiveError {
    /// What the storage engine or the decoder said.
    pub reason: String,
}

/// Takes the key and value of each row of a scan, and says whether to go on.
pub type Visitor<'a> = &'a mut (dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a);

/// A consistent, read-only view of the tables.
pub trait Archive: Send + Sync {
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError>;

    /// Visits the keys in `[from, to)`, in `order`, until the visitor breaks.
    /// `to: None` means the end of the table.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: Visitor<'_>,
    ) -> Result<(), ArchiveError>;
}
