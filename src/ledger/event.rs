//! What happened, in log order, for subscribers, logs and metrics.

use serde::{Deserialize, Serialize};

use crate::command::Principal;
use crate::ids::{AgentId, LedgerTime, LogIndex, ProposalNo, VoteId};
use crate::number::Ppb;
use crate::record::{Choice, Outcome, Status};

/// Where an event stands: several may come from one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventPosition {
    /// The log index of the entry.
    pub index: LogIndex,
    /// The number within the entry, from 0.
    pub ordinal: u32,
}

/// An event with its place and ledger time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Where it stands.
    pub position: EventPosition,
    /// When it happened.
    pub time: LedgerTime,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A proposal was submitted, with the status it began in.
    ProposalCreated {
        /// The proposal.
        proposal: ProposalNo,
        /// Who submitted it.
        author: Principal,
        /// Draft, or voting where it opened at once.
        status: Status,
    },
    /// A ballot was admitted.
    VoteCast {
        /// The ballot.
        vote: VoteId,
        /// Whose it is.
        voter: AgentId,
        /// What it says.
        choice: Choice,
    },
    /// A proposal's status changed.
    ProposalUpdated {
        /// The proposal.
        proposal: ProposalNo,
        /// Its new status.
        status: Status,
    },
    /// A decision is final: at its certificate, or at the close where there is no committee.
    ConsensusReached {
        /// The proposal.
        proposal: ProposalNo,
        /// How it ended.
        outcome: Outcome,
        /// Whether a certificate stands behind it.
        certified: bool,
        /// The share of the electorate, by heads, that took part.
        participation: Ppb,
        /// From the opening of voting to the close, in milliseconds; 0 if it never opened.
        deciding_ms: u64,
    },
}
