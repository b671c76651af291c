//! The normal case (OSDI '99, section 4.2): pre-prepare, prepare, commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_crypto::certificate::Certificate;
use aegis_crypto::{Digest, SeatNo};

use super::slot::{Decided, Proposal, Standing};
use super::{Mode, Note, Output, Reason, Replica, Request};
use crate::draft::Draft;
use crate::evidence::Evidence;
use crate::ids::{Sequence, View};
use crate::message::{Commit, Message, PrePrepare, Prepare};
use crate::proof::PreparedProof;
use crate::safety::Phase;
use crate::settings::{LATER_PER_SEAT_MAX, SLOW_PROPOSALS_MAX, WINDOW};
use crate::value::Value;
use crate::verify::Known;

/// Where a message of a view and sequence number belongs.
enum Place {
    /// It can be used.
    Here,
    /// It may be of use later.
    Later,
    /// Its view is past.
    PastView,
    /// Its sequence number is stable.
    Stable,
    /// Too far ahead to keep.
    TooFar,
}

impl Replica {
    fn place(&self, view: View, sequence: Sequence) -> Place {
        if sequence <= self.low {
            Place::Stable
        } else if sequence > self.high().plus(WINDOW) {
            Place::TooFar
        } else if view < self.view {
            Place::PastView
        } else if view > self.view || !self.is_normal() || sequence > self.high() {
            Place::Later
        } else {
            Place::Here
        }
    }

    /// Keeps a message that is too early, within the seat's bound.
    pub(super) fn keep_for_later(&mut self, seat: SeatNo, known: Known) {
        let kept = self.later.entry(seat).or_default();
        if kept.len() >= LATER_PER_SEAT_MAX {
            kept.pop_front();
        }
        kept.push_back(known);
    }

    /// Takes up what was too early, now that a view began or a watermark moved.
    pub(super) fn take_up_later(&mut self) {
        for known in std::mem::take(&mut self.later).into_values().flatten() {
            self.receive(known);
        }
    }

    /// Whether a message is for now; if not, it is kept, answered or dropped.
    fn is_here(&mut self, seat: SeatNo, view: View, sequence: Sequence, known: Known) -> bool {
        match self.place(view, sequence) {
            Place::Here => return true,
            Place::Later => self.keep_for_later(seat, known),
            Place::PastView => self.teach_view(seat),
            Place::Stable => self.teach_stable(seat),
            Place::TooFar => {}
        }
        false
    }

    /// The ledger closed something: the primary proposes it, the backups begin to wait.
    pub(super) fn on_request(&mut self, request: Request) {
        let sequence = request.sequence;
        if sequence <= self.low || sequence > self.high() {
            return;
        }
        let now = self.now;
        let slot = self.slot(sequence);
        if slot.request.is_none() {
            slot.requested_at = now;
        }
        slot.request = Some(request);
        if let Some(proposal) = &mut slot.proposal
            && proposal.standing == Standing::Refused
        {
            proposal.standing = Standing::Waiting;
        }
        self.arm(sequence);
        self.consider(sequence);
        self.propose();
    }

    /// Begins to wait for a decision, or ceases to.
    pub(super) fn arm(&mut self, sequence: Sequence) {
        let until = self.now.plus_ms(self.patience_ms);
        let normal = self.is_normal();
        let Some(slot) = self.slots.get_mut(&sequence) else {
            return;
        };
        let objected = slot
            .request
            .as_ref()
            .is_some_and(|request| request.objected);
        slot.deadline = if normal && slot.is_undecided() && !objected {
            slot.deadline.or(Some(until))
        } else {
            None
        };
    }

    /// As the primary, proposes all that the ledger closed and that is not proposed.
    pub(super) fn propose(&mut self) {
        if !self.is_normal() || self.primary() != self.me {
            return;
        }
        let (view, high) = (self.view, self.high());
        for (sequence, slot) in self.slots.range_mut(..=high) {
            if slot.proposing || slot.proposal.is_some() || !slot.is_undecided() {
                continue;
            }
            let Some(request) = slot.request.as_ref().filter(|request| !request.objected) else {
                continue;
            };
            slot.proposing = true;
            self.out.push(Output::Sign(Draft::PrePrepare {
                view,
                sequence: *sequence,
                value: request.value.clone(),
            }));
        }
    }

    /// The safety module granted a proposal of this seat.
    pub(super) fn on_own_pre_prepare(&mut self, message: Arc<PrePrepare>) {
        if !matches!(self.place(message.view, message.sequence), Place::Here) {
            return;
        }
        let sequence = message.sequence;
        self.slot(sequence).proposal = Some(Proposal {
            message,
            locked: false,
            standing: Standing::Accepted,
        });
        self.note(Note::Reached {
            sequence,
            phase: Phase::PrePrepare,
        });
        self.try_prepared(sequence);
    }

    /// A backup accepts the first proposal of the view for a sequence number between the
    /// watermarks, if it can stand behind the value.
    pub(super) fn on_pre_prepare(&mut self, message: Arc<PrePrepare>) {
        let (view, sequence) = (message.view, message.sequence);
        let primary = self.committee.seats().primary(view.0);
        if !self.is_here(primary, view, sequence, Known::PrePrepare(message.clone())) {
            return;
        }
        self.teach_decided(primary, sequence);
        let slot = self.slot(sequence);
        if let Some(proposal) = &slot.proposal {
            if proposal.message.value.whole() != message.value.whole() {
                let first = Message::PrePrepare(proposal.message.clone());
                self.accuse(first, Message::PrePrepare(message));
                self.change_view(view.next(), Reason::Equivocation);
            }
            return;
        }
        slot.proposal = Some(Proposal {
            message,
            locked: false,
            standing: Standing::Waiting,
        });
        self.time_proposal(sequence);
        self.consider(sequence);
    }

    /// A primary that stays just below the timeout could slow everything down for ever.
    /// One that delays so many proposals in a row, each by a fourth of the timeout, loses
    /// its view.
    fn time_proposal(&mut self, sequence: Sequence) {
        let Some(slot) = self.slots.get(&sequence) else {
            return;
        };
        let requested = slot.request.as_ref().map(|_| slot.requested_at);
        let Mode::Normal { since, slow, .. } = &mut self.mode else {
            return;
        };
        let delayed = requested.is_some_and(|requested| {
            self.now.since_ms(requested.max(*since)) > self.patience_ms / 4
        });
        *slow = if delayed { slow.saturating_add(1) } else { 0 };
        if *slow >= SLOW_PROPOSALS_MAX {
            self.change_view(self.view.next(), Reason::Slow);
        }
    }

    /// Makes up this validator's mind about a proposal, as far as that is possible now.
    pub(super) fn consider(&mut self, sequence: Sequence) {
        let Some(slot) = self.slots.get_mut(&sequence) else {
            return;
        };
        let certain = slot.certain();
        let Some(proposal) = &mut slot.proposal else {
            return;
        };
        if proposal.standing != Standing::Waiting {
            return;
        }
        let digest = proposal.message.value.digest();
        if let Some(certain) = certain {
            return self.settle(sequence, certain == digest);
        }
        let Some(request) = &slot.request else {
            return;
        };
        if request.value.whole() == proposal.message.value.whole() {
            if proposal.locked || !request.objected {
                self.settle(sequence, true);
            }
            return;
        }
        proposal.standing = Standing::Judged;
        self.out.push(Output::Judge {
            view: proposal.message.view,
            sequence,
            value: proposal.message.value.clone(),
            locked: proposal.locked,
        });
    }

    pub(super) fn on_verdict(&mut self, sequence: Sequence, digest: Digest, acceptable: bool) {
        let asked = self
            .slots
            .get(&sequence)
            .and_then(|slot| slot.proposal.as_ref())
            .is_some_and(|proposal| {
                proposal.standing == Standing::Judged && proposal.message.value.digest() == digest
            });
        if asked {
            self.settle(sequence, acceptable);
        }
    }

    /// Agrees to a proposal, or does not.
    fn settle(&mut self, sequence: Sequence, acceptable: bool) {
        let (view, me, backup) = (self.view, self.me, self.primary() != self.me);
        let slot = self.slot(sequence);
        let Some(proposal) = &mut slot.proposal else {
            return;
        };
        // Before a restart this seat may have agreed to another proposal of a lying primary,
        // which is all that it remembers of that one.
        let whole = proposal.message.value.whole();
        let own = slot.prepares.get(&me);
        let agreed_to_another = own.is_some_and(|prepare| prepare.digest != whole);
        if !acceptable || agreed_to_another {
            proposal.standing = Standing::Refused;
            let proposed = proposal.message.value.digest();
            return self.note(Note::Disagreed {
                view,
                sequence,
                proposed,
            });
        }
        proposal.standing = Standing::Accepted;
        let prepares = backup && !std::mem::replace(&mut slot.preparing, true);
        self.note(Note::Reached {
            sequence,
            phase: Phase::PrePrepare,
        });
        if prepares {
            self.say(Draft::Prepare {
                view,
                sequence,
                digest: whole,
            });
        }
        self.try_prepared(sequence);
    }

    pub(super) fn on_prepare(&mut self, message: Prepare) {
        let (seat, view, sequence) = (message.seat, message.view, message.sequence);
        if self.is_here(seat, view, sequence, Known::Prepare(message.clone())) {
            self.teach_decided(seat, sequence);
            self.count_prepare(message);
        }
    }

    /// Counts the first prepare of a backup. The primary's own proposal is its agreement,
    /// so a prepare of its would count it twice.
    pub(super) fn count_prepare(&mut self, message: Prepare) {
        let (seat, view, sequence) = (message.seat, message.view, message.sequence);
        if seat == self.primary() || !matches!(self.place(view, sequence), Place::Here) {
            return;
        }
        let slot = self.slot(sequence);
        match slot.prepares.get(&seat) {
            None => {
                slot.prepares.insert(seat, message);
                self.try_prepared(sequence);
            }
            Some(first) if first.digest != message.digest => {
                let first = Message::Prepare(first.clone());
                self.accuse(first, Message::Prepare(message));
            }
            Some(_) => {}
        }
    }

    /// The predicate `prepared`: the proposal, and agreeing backups that make a quorum
    /// together with its primary.
    fn try_prepared(&mut self, sequence: Sequence) {
        let Some(slot) = self.slots.get_mut(&sequence) else {
            return;
        };
        let Some(proposal) = slot
            .proposal
            .as_ref()
            .filter(|proposal| proposal.standing == Standing::Accepted)
        else {
            return;
        };
        if slot.committing {
            return;
        }
        let digest = proposal.message.value.whole();
        let agreeing = slot
            .prepares
            .values()
            .filter(|prepare| prepare.digest == digest)
            .map(|prepare| (prepare.seat, prepare.signature));
        let message = proposal.message.clone();
        let Some(proof) = PreparedProof::assemble(&self.committee, message, agreeing) else {
            return;
        };
        let proof = Arc::new(proof);
        slot.committing = true;
        slot.prepared = Some(proof.clone());
        self.note(Note::Reached {
            sequence,
            phase: Phase::Prepare,
        });
        self.say(Draft::Commit { proof });
    }

    /// Counts a seat's commit of its newest view. A quorum of one view makes the
    /// certificate, which proves itself: it is taken whatever view this replica is in.
    pub(super) fn on_commit(&mut self, message: Commit) {
        let (seat, view, sequence) = (message.seat, message.view, message.sequence);
        if sequence <= self.low {
            return self.teach_stable(seat);
        }
        if sequence > self.high() {
            if sequence <= self.high().plus(WINDOW) {
                self.keep_for_later(seat, Known::Commit(message));
            }
            return;
        }
        let newest = self.committed.entry(seat).or_default();
        *newest = (*newest).max(sequence);
        let slot = self.slot(sequence);
        match slot.commits.get(&seat) {
            Some(known) if known.view > view => return,
            Some(known) if known.view == view => {
                if known.value.digest() != message.value.digest() {
                    let first = Message::Commit(known.clone());
                    self.accuse(first, Message::Commit(message));
                }
                return;
            }
            Some(_) | None => {}
        }
        let value = message.value.clone();
        slot.commits.insert(seat, message);
        if slot.decided.is_none() {
            self.try_committed(view, sequence, &value);
        }
    }

    /// The predicate `committed`.
    fn try_committed(&mut self, view: View, sequence: Sequence, value: &Value) {
        let digest = value.digest();
        let signatures: BTreeMap<_, _> = self
            .slot(sequence)
            .commits
            .values()
            .filter(|commit| commit.view == view && commit.value.digest() == digest)
            .map(|commit| (commit.seat, commit.signature.0))
            .collect();
        if signatures.len() < usize::from(self.committee.seats().quorum()) {
            return;
        }
        let certificate = Certificate::assemble(
            &self.committee,
            view.0,
            sequence.0,
            value.statement().to_owned(),
            signatures,
        );
        // A quorum signs no statement that is not canonical; what more liars than f sign is
        // no certificate.
        if let Ok(certificate) = certificate {
            self.decide(sequence, digest, Arc::new(certificate));
        }
    }

    /// Another validator proved what was decided.
    pub(super) fn on_certificate(&mut self, certificate: Arc<Certificate>) {
        let sequence = Sequence(certificate.sequence());
        if sequence <= self.low || sequence > self.high() {
            return;
        }
        if self.slot(sequence).certain().is_none() {
            let digest = Digest::of(certificate.statement());
            self.decide(sequence, digest, certificate);
        }
    }

    fn decide(&mut self, sequence: Sequence, digest: Digest, certificate: Arc<Certificate>) {
        let at = self.now;
        let slot = self.slot(sequence);
        slot.decided = Some(Decided {
            certificate: certificate.clone(),
            digest,
            at,
        });
        slot.deadline = None;
        self.progress();
        self.out.push(Output::Decided(certificate));
        self.consider(sequence);
    }

    /// Keeps the first proof that a seat contradicted itself.
    pub(super) fn accuse(&mut self, first: Message, second: Message) {
        let signer = second.signer(self.committee.seats());
        if !signer.is_some_and(|signer| self.accused.insert(signer)) {
            return;
        }
        let evidence = Evidence {
            scope: self.scope,
            first,
            second,
        };
        self.out.push(Output::Evidence(Box::new(evidence)));
    }
}
