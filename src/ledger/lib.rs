//! The rules of governance: what a cluster decides, and how.
//!
//! [`Ledger::apply`] is the one way in which anything changes: it takes an [`Entry`] of the
//! replicated log and returns an [`Answer`], [`Event`]s and [`Change`]s. It is pure: no
//! clock, randomness, float, hash-map order, locale or IO. The same log gives the same
//! bytes on every machine and for every way in which the log is cut into batches.
//!
//! Memory holds open work, disk holds history: the ledger reads history through an
//! [`Archive`] and never writes; the shell writes the changes of a batch and the applied
//! position in one atomic write. Whoever only reads needs no ledger: [`query`] answers
//! from any consistent view of the tables.
//!
//! Where the genesis names a committee, what it certifies about a closing is a
//! [`Statement`], made from the tables alone; a certificate is recorded through the log and
//! verified by every replica, and nothing follows a closing before it.
//!
//! A refusal is an outcome, typed and deterministic ([`Refusal`]); a failure of the disk
//! ([`ArchiveError`]) is not, and stops the node.
//!
//! Nothing under this crate can reach a network, a file or a thread.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::disallowed_types
    )
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod agents;
mod apply;
mod archive;
mod audit;
mod ballots;
mod certificates;
mod closing;
pub mod codec;
mod command;
mod document;
mod epochs;
mod event;
mod genesis;
mod ids;
mod number;
mod open;
mod policy;
mod proposals;
pub mod query;
mod record;
mod recount;
mod refusal;
mod requests;
mod result;
mod statement;
mod tally;
mod tree;
mod verified;

pub use aegis_crypto::claims::AgentType;
pub use agents::{RETIRED_KEYS_BY_AGENT_MAX, RETIRED_KEYS_MAX, WEIGHT_MAX};
pub use apply::{
    AgentReceipt, Answer, Applied, CLOSINGS_PER_ENTRY_MAX, CastReceipt, EVENTS_KEPT,
    INCLUSION_GRACE_MS, Ledger, Receipt,
};
pub use archive::{Archive, ArchiveError, Change, Order, Table, Visitor};
pub use audit::{AuditEntry, ChainError, ChainVerifier};
pub use ballots::{
    CheckedBallot, JTI_BYTES_MAX, LEEWAY_S, STATEMENT_BYTES_MAX, check_order_times, check_times,
};
pub use command::{
    BATCH_MAX, Ballot, Command, Entry, Principal, Registration, Report, RequestKey, Step,
};
pub use document::{Deadline, Document, Electorate, ElectorateFilter};
pub use epochs::{CommitteeChange, CommitteeRecord, Epoch, SeatRecord};
pub use event::{Event, EventKind, EventPosition};
pub use genesis::{Genesis, GenesisDocument, GenesisError, Seat};
pub use ids::{
    AgentId, AgentNo, IdError, LedgerTime, LogIndex, Ordinal, ProposalNo, SeatName, TokenNo, VoteId,
};
pub use number::{NumberError, Ppb, Ratio};
pub use policy::{
    Category, EarlyClose, Method, Policy, Tie, VOTING_PERIOD_MAX_S, VOTING_PERIOD_MIN_S,
    initial_policies_digest,
};
pub use proposals::ELECTORATE_MAX;
pub use record::{
    AgentRecord, BallotRecord, Choice, Closed, ClosingRecord, CoreRecord, Elector,
    ElectorateRecord, EvidenceRecord, Frozen, Outcome, ProposalRecord, ProposalType, Record,
    RequestRecord, RetiredKeyRecord, Standing, Status, Tally, TokenRecord, UncertifiedRecord, key,
};
pub use recount::{BallotFault, Recount, RecountError, RecountTerms, Recounted};
pub use refusal::{Ineligibility, Refusal, RefusalKind};
pub use requests::{REQUEST_KEPT_S, REQUEST_KEY_BYTES_MAX};
pub use result::{FullResult, TALLY_VERSION};
pub use statement::{Difference, NextCommittee, Statement, StatementError, VotingTerms};
pub use tally::{Outstanding, Rules};
pub use verified::{Verified, verification_digest};
