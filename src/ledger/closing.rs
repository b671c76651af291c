//! Closings: by deadline, early, or by a step. Each has an ordinal of its own, an audit
//! entry of its own, and happens once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use aegis_crypto::Digest;
use aegis_crypto::merkle::Frontier;

use crate::apply::{CLOSINGS_PER_ENTRY_MAX, Ledger, Step, closing_digest};
use crate::archive::{ArchiveError, Order, Table};
use crate::event::EventKind;
use crate::ids::{LedgerTime, Ordinal, ProposalNo};
use crate::number::Ppb;
use crate::open::OpenProposal;
use crate::policy::EarlyClose;
use crate::record::{
    Closed, ClosingRecord, EvidenceRecord, Frozen, Outcome, Record, UncertifiedRecord, key,
};
use crate::statement::evidence_digest;

impl Ledger {
    /// Closes what is due, in (deadline, id) order. The first entry past a deadline only
    /// marks the proposal; it closes [`INCLUSION_GRACE_MS`](crate::INCLUSION_GRACE_MS) of
    /// ledger time later, so that ballots signed in time but on their way still count,
    /// also when no leader was there at the deadline.
    pub(crate) fn close_due(&mut self, step: &mut Step<'_>) -> Result<(), ArchiveError> {
        for _ in 0..CLOSINGS_PER_ENTRY_MAX {
            let Some((due, no)) = self.first_due(step.time) else {
                return Ok(());
            };
            let Some(proposal) = self.open.get_mut(&no) else {
                self.due.remove(&(due, no));
                continue;
            };
            match &proposal.voting {
                None => self.close(step, no, Outcome::Expired)?,
                Some(voting) if proposal.record.closing_since.is_some() => {
                    let outcome = voting.tally.outcome(&voting.rules());
                    self.close(step, no, outcome)?;
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
        Ok(())
    }

    /// The proposal that is first to close at `time`, and since when it should have.
    pub(crate) fn first_due(&self, time: LedgerTime) -> Option<(LedgerTime, ProposalNo)> {
        self.due.first().copied().filter(|(due, _)| *due < time)
    }

    /// Closes a proposal before its deadline if its policy says that it may. Its tally is
    /// written first: those of open proposals are written at the end of an entry.
    pub(crate) fn close_early(
        &mut self,
        step: &mut Step<'_>,
        no: ProposalNo,
    ) -> Result<(), ArchiveError> {
        let Some(voting) = self
            .open
            .get(&no)
            .and_then(|proposal| proposal.voting.as_ref())
        else {
            return Ok(());
        };
        let ends = match voting.frozen.policy.early_close {
            EarlyClose::Never => false,
            EarlyClose::AllVoted => voting.outstanding.heads == 0,
            EarlyClose::Settled => voting.tally.is_settled(&voting.rules(), voting.outstanding),
        };
        if ends {
            let outcome = voting.tally.outcome(&voting.rules());
            self.keep_tally(step, no);
            self.close(step, no, outcome)?;
        }
        Ok(())
    }

    /// Ends an open proposal and forgets its open work.
    pub(crate) fn close(
        &mut self,
        step: &mut Step<'_>,
        no: ProposalNo,
        outcome: Outcome,
    ) -> Result<(), ArchiveError> {
        let Some(mut proposal) = self.open.remove(&no) else {
            return Ok(());
        };
        if let Some(due) = proposal.record.due() {
            self.due.remove(&(due, no));
        }
        self.core.closings = self.core.closings.saturating_add(1);
        let ordinal = Ordinal(self.core.closings);
        let closing = self.closing(step, &proposal, outcome)?;
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
            certified_at: None,
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
        if self.committee.is_some() {
            let change = proposal.record.committee_change;
            let waiting = UncertifiedRecord {
                proposal: no,
                change: change.filter(|_| outcome == Outcome::Approved),
                tree_root: self.tree.root(),
            };
            step.put(key::number(ordinal.0), &waiting);
        } else {
            self.tell_consensus(step, &closing, proposal.record.frozen.as_ref(), false);
        }
        Ok(())
    }

    /// The record of a closing whose audit entry comes next.
    fn closing(
        &self,
        step: &Step<'_>,
        proposal: &OpenProposal,
        outcome: Outcome,
    ) -> Result<ClosingRecord, ArchiveError> {
        let voting = proposal.voting.as_ref();
        let no_ballots = Frontier::default();
        let ballots = voting.map_or(&no_ballots, |voting| &voting.ballots);
        Ok(ClosingRecord {
            proposal: proposal.record.no,
            round: proposal.record.round,
            outcome,
            at: step.time,
            index: step.index,
            tally: voting.map(|voting| voting.tally).unwrap_or_default(),
            ballots_root: ballots.root(),
            ballots: ballots.size(),
            evidence: match voting {
                Some(_) => step.evidence_digest(proposal.record.no)?,
                None => evidence_digest([]),
            },
            supersedes: None,
            audit_entry: self.core.audit_entries,
        })
    }

    /// Tells that a decision is final.
    pub(crate) fn tell_consensus(
        &mut self,
        step: &mut Step<'_>,
        closing: &ClosingRecord,
        frozen: Option<&Frozen>,
        certified: bool,
    ) {
        let opened_at = frozen.map_or(closing.at, |frozen| frozen.opened_at);
        let participation = frozen.map_or(Ppb(0), |frozen| {
            let electorate = u128::from(frozen.electorate_size);
            Ppb::fraction(u128::from(closing.tally.heads_cast()), electorate)
        });
        self.tell(
            step,
            EventKind::ConsensusReached {
                proposal: closing.proposal,
                outcome: closing.outcome,
                certified,
                participation,
                deciding_ms: closing.at.since_ms(opened_at),
            },
        );
    }
}

impl Step<'_> {
    /// The digest over a proposal's evidence, with what this entry has added.
    fn evidence_digest(&self, no: ProposalNo) -> Result<Digest, ArchiveError> {
        let prefix = key::proposal(no);
        let end = key::after_prefix(&prefix);
        let mut rows = BTreeMap::new();
        self.archive.scan(
            Table::Evidence,
            &prefix,
            end.as_deref(),
            Order::Ascending,
            &mut |found, value| {
                rows.insert(found.to_vec(), value.to_vec());
                ControlFlow::Continue(())
            },
        )?;
        let added = self
            .changes
            .iter()
            .filter(|change| change.table == Table::Evidence && change.key.starts_with(&prefix));
        for change in added {
            let value = change.value.clone().unwrap_or_default();
            rows.insert(change.key.clone(), value);
        }
        let evidence = rows
            .iter()
            .map(|(found, value)| {
                let agent = key::evidence_agent(found).ok_or_else(|| ArchiveError {
                    reason: format!("{no} has evidence under a key of {} bytes", found.len()),
                })?;
                Ok((agent, EvidenceRecord::decode(value)?))
            })
            .collect::<Result<Vec<_>, ArchiveError>>()?;
        Ok(evidence_digest(
            evidence.iter().map(|(agent, evidence)| (*agent, evidence)),
        ))
    }
}
