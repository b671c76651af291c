//! What is known about one sequence number.

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_crypto::certificate::Certificate;
use aegis_crypto::{Digest, SeatNo};

use super::Request;
use crate::ids::Time;
use crate::message::{Commit, PrePrepare, Prepare};
use crate::proof::PreparedProof;

#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// What the local ledger says.
    pub(super) request: Option<Request>,
    /// Since when, so that proposals can be timed.
    pub(super) requested_at: Time,
    /// The proposal of the view.
    pub(super) proposal: Option<Proposal>,
    /// The first prepare of each backup in the view.
    pub(super) prepares: BTreeMap<SeatNo, Prepare>,
    /// Proof of the newest view in which it was prepared here.
    pub(super) prepared: Option<Arc<PreparedProof>>,
    /// The commit of each seat in the newest view of which it sent one.
    pub(super) commits: BTreeMap<SeatNo, Commit>,
    pub(super) decided: Option<Decided>,
    /// The value whose certificate the ledger has recorded.
    pub(super) recorded: Option<Digest>,
    /// What was asked of the safety module in the view.
    pub(super) proposing: bool,
    pub(super) preparing: bool,
    pub(super) committing: bool,
    /// Until when it must be decided.
    pub(super) deadline: Option<Time>,
}

/// A proposal of the view.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) message: Arc<PrePrepare>,
    /// Whether it was prepared in an earlier view.
    pub(super) locked: bool,
    pub(super) standing: Standing,
}

/// What this validator makes of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It waits for the local ledger, or for an objection to be lifted.
    Waiting,
    /// Somebody is asked whether it is acceptable.
    Judged,
    /// This validator agrees to it.
    Accepted,
    /// This validator does not.
    Refused,
}

/// A decision that was reached here, or that another validator proved.
#[derive(Clone, Debug)]
pub(super) struct Decided {
    pub(super) certificate: Arc<Certificate>,
    pub(super) digest: Digest,
    pub(super) at: Time,
}

impl Slot {
    /// The value that is certain to be the decided one.
    pub(super) fn certain(&self) -> Option<Digest> {
        self.recorded
            .or_else(|| self.decided.as_ref().map(|decided| decided.digest))
    }

    /// Whether the ledger asks for a decision and there is none.
    pub(super) fn is_undecided(&self) -> bool {
        self.request.is_some() && self.certain().is_none()
    }

    /// Forgets what belongs to a view that ends. What was prepared or committed stays.
    pub(super) fn leave_view(&mut self) {
        self.proposal = None;
        self.prepares.clear();
        (self.proposing, self.preparing, self.committing) = (false, false, false);
        self.deadline = None;
    }
}
