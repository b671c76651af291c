//! Closings: by deadline, early, or by a step. Each has an ordinal of its own, an audit
//! entry of its own, and happens once.

use crate::apply::{CLOSINGS_PER_ENTRY_MAX, Ledger, Step, closing_digest};
use crate::archive::Table;
use crate::event::EventKind;
use crate::ids::{LedgerTime, Ordinal, ProposalNo};
use crate::number::Ppb;
use crate::policy::EarlyClose;
use crate::record::{Closed, ClosingRecord, Outcome, Record, key};

impl Ledger {
    /// Closes what is due, in (deadline, id) order. The first entry past a deadline only
    /// marks the proposal; it closes [`INCLUSION_GRACE_MS`](crate::INCLUSION_GRACE_MS) of
    /// ledger time later, so that ballots signed in time but on their way still count,
    /// also when no leader was there at the deadline.
    pub(crate) fn close_due(&mut self, step: &mut Step<'_>) {
        for _ in 0..CLOSINGS_PER_ENTRY_MAX {
            let Some((due, no)) = self.first_due(step.time) else {
                return;
            };
            let Some(proposal) = self.open.get_mut(&no) else {
                self.due.remove(&(due, no));
                continue;
            };
            match &proposal.voting {
                None => self.close(step, no, Outcome::Expired),
                Some(voting) if proposal.record.closing_since.is_some() => {
                    let outcome = voting.tally.outcome(&voting.rules());
                    self.close(step, no, outcome);
                }
                Some(_) => {
                    proposal.record.closing_since = Some(step.time);
                    step.put(key::proposal(no), &proposal.record);
                    self.due.remove(&(due, no));
                    if let Some(due) = proposal.record.due() {
                        self.due.insert((due, no));
                    }
                }
            }
        }
    }

    /// The proposal that is first to close at `time`, and since when it should have.
    pub(crate) fn first_due(&self, time: LedgerTime) -> Option<(LedgerTime, ProposalNo)> {
        self.due.first().copied().filter(|(due, _)| *due < time)
    }

    /// Closes a proposal before its deadline if its policy says that it may. Its tally is
    /// written first: those of open proposals are written at the end of an entry.
    pub(crate) fn close_early(&mut self, step: &mut Step<'_>, no: ProposalNo) {
        let Some(voting) = self
            .open
            .get(&no)
            .and_then(|proposal| proposal.voting.as_ref())
        else {
            return;
        };
        let ends = match voting.frozen.policy.early_close {
            EarlyClose::Never => false,
            EarlyClose::AllVoted => voting.outstanding.heads == 0,
            EarlyClose::Settled => voting.tally.is_settled(&voting.rules(), voting.outstanding),
        };
        if ends {
            let outcome = voting.tally.outcome(&voting.rules());
            self.keep_tally(step, no);
            self.close(step, no, outcome);
        }
    }

    /// Ends an open proposal and forgets its open work.
    pub(crate) fn close(&mut self, step: &mut Step<'_>, no: ProposalNo, outcome: Outcome) {
        let Some(mut proposal) = self.open.remove(&no) else {
            return;
        };
        if let Some(due) = proposal.record.due() {
            self.due.remove(&(due, no));
        }
        self.core.closings = self.core.closings.saturating_add(1);
        let ordinal = Ordinal(self.core.closings);
        let closing = ClosingRecord {
            proposal: no,
            round: proposal.record.round,
            outcome,
            at: step.time,
            index: step.index,
            tally: proposal
                .voting
                .as_ref()
                .map(|voting| voting.tally)
                .unwrap_or_default(),
            audit_entry: self.core.audit_entries,
        };
        let change = closing.put(key::number(ordinal.0));
        let digest = closing_digest(change.value.as_deref().unwrap_or_default());
        step.changes.push(change);
        self.chain(step, "system", "closing", digest, outcome.as_str());

        let before = proposal.record.status;
        proposal.record.status = outcome.status();
        proposal.record.closed = Some(Closed {
            ordinal,
            at: step.time,
            outcome,
            index: step.index,
        });
        self.count_status(Some(before), outcome.status());
        step.put(key::proposal(no), &proposal.record);
        step.delete(Table::Open, key::proposal(no));
        for (agent, seat) in proposal.voting.iter().flat_map(|voting| &voting.electors) {
            if let Some(cast) = seat.cast {
                self.statements.remove(&(*agent, cast.statement));
            }
        }
        self.tell(
            step,
            EventKind::ProposalUpdated {
                proposal: no,
                status: outcome.status(),
            },
        );
        let opened_at = proposal
            .voting
            .as_ref()
            .map_or(step.time, |voting| voting.frozen.opened_at);
        let participation = proposal.voting.as_ref().map_or(Ppb(0), |voting| {
            let electorate = u128::from(voting.frozen.electorate_size);
            Ppb::fraction(u128::from(voting.tally.heads_cast()), electorate)
        });
        let deciding_ms = step.time.since_ms(opened_at);
        self.tell(
            step,
            EventKind::ConsensusReached {
                proposal: no,
                outcome,
                certified: false,
                participation,
                deciding_ms,
            },
        );
    }
}
