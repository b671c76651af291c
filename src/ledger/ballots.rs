//! The admission of ballots.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use aegis_crypto::claims::VoteClaims;
use aegis_crypto::{Digest, Jws, Typ};

use crate::apply::{CastReceipt, Ledger, Receipt, Step, Stop, outcome_of};
use crate::archive::{ArchiveError, Order, Table};
use crate::command::Ballot;
use crate::event::EventKind;
use crate::ids::{AgentId, AgentNo, LedgerTime, ProposalNo, VoteId};
use crate::number::Ppb;
use crate::open::{Cast, OpenProposal, StatementId, Voting};
use crate::record::{
    AgentRecord, BallotRecord, Choice, EvidenceRecord, ProposalRecord, Standing, Status, key,
};
use crate::refusal::{Ineligibility, Refusal};
use crate::requests::REQUEST_KEPT_S;

/// The longest statement, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 8 * 1024;
/// How far a statement's times may be off ledger time, in seconds.
pub const LEEWAY_S: i64 = 60;
/// The longest `jti`, in bytes.
pub const JTI_BYTES_MAX: usize = 128;

/// A ballot whose form is checked: what the voter claims and under which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedBallot {
    /// The voter.
    pub voter: AgentId,
    /// The proposal.
    pub proposal: ProposalNo,
    /// The voting digest that was signed.
    pub digest: Digest,
    /// The round that was signed.
    pub round: u32,
    /// What it says.
    pub choice: Choice,
    /// How sure the voter is.
    pub confidence: Ppb,
    /// The thumbprint of the key that it names.
    pub kid: aegis_crypto::Kid,
    /// The statement's own id.
    pub jti: String,
    /// When it was signed, in Unix seconds.
    pub iat: i64,
    /// When it ceases to be valid, in Unix seconds.
    pub exp: Option<i64>,
    /// SHA-256 of the justification.
    pub justification: Option<Digest>,
    /// The cluster it was signed for.
    pub cluster_id: Digest,
}

impl CheckedBallot {
    /// Reads a statement and checks all that needs no state. The signature is not
    /// verified here: whoever takes the ballot from outside verifies it first, and where
    /// there is a committee apply does.
    ///
    /// # Errors
    /// The refusal to answer.
    pub fn parse(jws: &str) -> Result<Self, Refusal> {
        let bad = |error| Refusal::bad_signature(&error);
        let statement = Jws::parse(jws, Typ::VOTE, STATEMENT_BYTES_MAX).map_err(bad)?;
        let claims: VoteClaims = statement.claims().map_err(bad)?;
        Self::check(claims, *statement.kid())
    }

    /// Checks all of the claims that needs no state; `kid` is the key that the statement
    /// names.
    ///
    /// # Errors
    /// The refusal to answer.
    pub fn check(claims: VoteClaims, kid: aegis_crypto::Kid) -> Result<Self, Refusal> {
        let voter = claims.sub.parse().map_err(|_| Refusal::UnknownVoter {
            agent: claims.sub.chars().take(80).collect(),
        })?;
        let proposal = claims
            .proposal
            .parse()
            .map_err(|_| Refusal::UnknownProposal {
                proposal: claims.proposal.chars().take(80).collect(),
            })?;
        let choice = Choice::parse(&claims.choice).ok_or_else(|| Refusal::InvalidChoice {
            choice: claims.choice.chars().take(80).collect(),
        })?;
        let confidence = Ppb::unit(&claims.confidence).map_err(|_| Refusal::InvalidConfidence {
            confidence: claims.confidence.chars().take(40).collect(),
        })?;
        if claims.jti.is_empty() || claims.jti.len() > JTI_BYTES_MAX {
            return Err(Refusal::InvalidField {
                field: "jti".to_owned(),
                reason: format!(
                    "it has {} bytes, use 1 to {JTI_BYTES_MAX}",
                    claims.jti.len()
                ),
            });
        }
        Ok(Self {
            voter,
            proposal,
            digest: claims.digest,
            round: claims.round,
            choice,
            confidence,
            kid,
            jti: claims.jti,
            iat: claims.iat,
            exp: claims.exp,
            justification: claims.justification_sha256,
            cluster_id: claims.aud,
        })
    }

    /// Checks that the statement names this text, or none.
    ///
    /// # Errors
    /// The digests differ.
    pub fn check_justification(&self, text: Option<&str>) -> Result<(), Refusal> {
        let computed = text.map(Digest::of);
        if computed == self.justification {
            return Ok(());
        }
        let show = |digest: Option<Digest>| {
            digest.map_or_else(|| "absent".to_owned(), |digest| digest.to_string())
        };
        Err(mismatch(
            "justification_sha256",
            show(self.justification),
            show(computed),
        ))
    }

    /// Whether the ballot was signed by the deadline.
    fn is_signed_by(&self, deadline: LedgerTime) -> bool {
        u64::try_from(self.iat).unwrap_or(0).saturating_mul(1_000) <= deadline.0
    }
}

/// Judges a statement's times at ledger time, with [`LEEWAY_S`].
///
/// # Errors
/// [`Refusal::ExpiredStatement`].
pub fn check_times(iat: i64, exp: Option<i64>, now: LedgerTime) -> Result<(), Refusal> {
    let now_s = now.0 / 1_000;
    let now_signed = i64::try_from(now_s).unwrap_or(i64::MAX);
    let expired = |field: &str, signed: i64, expected: String| {
        Err(Refusal::ExpiredStatement {
            field: field.to_owned(),
            signed,
            now_s,
            expected,
        })
    };
    let latest = now_signed.saturating_add(LEEWAY_S);
    if iat > latest {
        return expired("iat", iat, format!("at most {latest}"));
    }
    let earliest = now_signed.saturating_sub(LEEWAY_S);
    match exp {
        Some(exp) if exp < earliest => expired("exp", exp, format!("at least {earliest}")),
        _ => Ok(()),
    }
}

/// Judges the times of a statement that is named by its `jti` alone: besides
/// [`check_times`], it must be younger than its `jti` is remembered, or it could be
/// replayed once that is forgotten.
///
/// # Errors
/// [`Refusal::ExpiredStatement`].
pub fn check_order_times(iat: i64, exp: Option<i64>, now: LedgerTime) -> Result<(), Refusal> {
    check_times(iat, exp, now)?;
    let kept_s = i64::try_from(REQUEST_KEPT_S).unwrap_or(i64::MAX);
    let now_s = now.0 / 1_000;
    let earliest = i64::try_from(now_s)
        .unwrap_or(i64::MAX)
        .saturating_sub(kept_s)
        .saturating_add(LEEWAY_S);
    if iat < earliest {
        return Err(Refusal::ExpiredStatement {
            field: "iat".to_owned(),
            signed: iat,
            now_s,
            expected: format!("at least {earliest}"),
        });
    }
    Ok(())
}

fn mismatch(field: &str, signed: impl ToString, expected: impl ToString) -> Refusal {
    Refusal::StatementMismatch {
        field: field.to_owned(),
        signed: signed.to_string(),
        expected: expected.to_string(),
    }
}

impl Ledger {
    /// Admits or refuses each ballot alone, in order.
    pub(crate) fn cast(
        &mut self,
        step: &mut Step<'_>,
        ballots: Vec<Ballot>,
    ) -> Result<Receipt, Stop> {
        let mut receipts = Vec::with_capacity(ballots.len());
        for ballot in ballots {
            receipts.push(outcome_of(self.cast_one(step, ballot))?);
        }
        let counted: BTreeSet<ProposalNo> = receipts
            .iter()
            .flatten()
            .filter(|receipt| !receipt.repeated)
            .map(|receipt| receipt.vote.proposal)
            .collect();
        for no in counted {
            self.keep_tally(step, no);
        }
        Ok(Receipt::Cast(receipts))
    }

    fn cast_one(&mut self, step: &mut Step<'_>, ballot: Ballot) -> Result<CastReceipt, Stop> {
        let checked = CheckedBallot::parse(&ballot.jws)?;
        if checked.cluster_id != self.trust.cluster_id {
            return Err(mismatch("aud", checked.cluster_id, self.trust.cluster_id).into());
        }
        let voter = self
            .agents
            .get(&checked.voter)
            .ok_or_else(|| Refusal::UnknownVoter {
                agent: checked.voter.to_string(),
            })?;
        let Some(proposal) = self.open.get(&checked.proposal) else {
            return closed_or_unknown(step, &checked, &ballot.jws);
        };
        let voting = match &proposal.voting {
            Some(voting) => voting,
            None => {
                return Err(Refusal::NotOpen {
                    proposal: checked.proposal,
                    status: proposal.record.status,
                }
                .into());
            }
        };
        let seat = voting.electors.get(&voter.no).copied();
        let counted = match seat.and_then(|seat| seat.cast) {
            Some(cast) => Some(counted_ballot(
                step,
                VoteId {
                    proposal: checked.proposal,
                    number: cast.number,
                },
            )?),
            None => None,
        };
        if let Some((vote, record)) = counted
            .as_ref()
            .filter(|(_, record)| record.jws == ballot.jws)
        {
            return Ok(CastReceipt {
                vote: *vote,
                time: record.time,
                repeated: true,
            });
        }
        check_binding(&checked, voter, proposal, voting, step.time)?;
        let ineligible = |reason| Refusal::NotEligible {
            agent: voter.id.clone(),
            proposal: checked.proposal,
            reason,
        };
        let seat = seat.ok_or_else(|| ineligible(Ineligibility::NotInElectorate))?;
        check_standing(voter, voting).map_err(ineligible)?;
        check_times(checked.iat, checked.exp, step.time)?;
        checked.check_justification(ballot.justification.as_deref())?;
        self.check_signature(&ballot.jws, Typ::VOTE, voter)?;
        let conflicting = counted
            .as_ref()
            .is_some_and(|(_, record)| record.choice != checked.choice);
        // Before any other answer: whoever contradicts itself does not hide that by using
        // a jti again.
        if let Some((vote, _)) = counted.as_ref().filter(|_| conflicting) {
            keep_evidence(step, &checked, *vote, &ballot.jws)?;
        }
        let statement = (voter.no, StatementId::of(&checked.jti));
        if let Some(vote) = self.statements.get(&statement) {
            return Err(Refusal::Replayed {
                jti: checked.jti,
                vote: *vote,
            }
            .into());
        }
        if let Some((vote, _)) = counted {
            return Err(Refusal::AlreadyVoted { vote, conflicting }.into());
        }
        let agent = voter.no;
        Ok(self.admit(step, agent, seat.power, checked, ballot)?)
    }

    /// Where there is a committee nobody's word is taken for a signature: what an agent is
    /// said to have signed counts only if it has.
    pub(crate) fn check_signature(
        &self,
        jws: &str,
        typ: Typ,
        signer: &AgentRecord,
    ) -> Result<(), Refusal> {
        if self.committee.is_none() {
            return Ok(());
        }
        let statement = Jws::parse(jws, typ, STATEMENT_BYTES_MAX);
        statement
            .and_then(|statement| self.memory.verify(&statement, signer.key.public_key()))
            .map_err(|error| Refusal::bad_signature(&error))
    }

    /// Writes the tally of a proposal that is open.
    pub(crate) fn keep_tally(&self, step: &mut Step<'_>, no: ProposalNo) {
        if let Some(proposal) = self.open.get(&no)
            && let Some(voting) = &proposal.voting
        {
            step.put(key::proposal(no), &voting.tally);
        }
    }

    /// Counts a ballot that passed every check; the tally is written once for the whole entry.
    fn admit(
        &mut self,
        step: &mut Step<'_>,
        agent: AgentNo,
        power: Ppb,
        checked: CheckedBallot,
        ballot: Ballot,
    ) -> Result<CastReceipt, ArchiveError> {
        let no = checked.proposal;
        let statement = StatementId::of(&checked.jti);
        let voting = self
            .open
            .get_mut(&no)
            .and_then(|proposal| proposal.voting.as_mut())
            .expect("the ballot was checked against this voting");
        let vote = VoteId {
            proposal: no,
            number: voting.number(&ballot.jws),
        };
        if let Some(seat) = voting.electors.get_mut(&agent) {
            seat.cast = Some(Cast {
                number: vote.number,
                statement,
            });
        }
        voting.tally.add(checked.choice, power);
        voting.no_longer_outstanding(power);

        if let Some((digest, text)) = checked.justification.zip(ballot.justification) {
            let key = digest.as_bytes().to_vec();
            step.changes.push(crate::Change {
                table: Table::Justifications,
                key,
                value: Some(text.into_bytes()),
            });
        }
        step.mark(Table::VotesByVoter, key::voter_vote(&checked.voter, vote));
        self.statements.insert((agent, statement), vote);
        self.core.votes = self.core.votes.saturating_add(1);
        let record = BallotRecord {
            voter: checked.voter,
            round: checked.round,
            choice: checked.choice,
            confidence: checked.confidence,
            power,
            jti: checked.jti,
            time: step.time,
            index: step.index,
            justification: checked.justification,
            jws: ballot.jws,
        };
        step.put(key::vote(vote), &record);
        self.tell(
            step,
            EventKind::VoteCast {
                vote,
                voter: record.voter,
                choice: record.choice,
            },
        );
        self.close_early(step, no)?;
        Ok(CastReceipt {
            vote,
            time: step.time,
            repeated: false,
        })
    }
}

/// The statement must be bound to this voter's key and to these frozen rules, and come in time.
fn check_binding(
    checked: &CheckedBallot,
    voter: &AgentRecord,
    proposal: &OpenProposal,
    voting: &Voting,
    now: LedgerTime,
) -> Result<(), Refusal> {
    if checked.kid != voter.kid {
        let reason = format!(
            "it names key {}, the agent's key is {}",
            checked.kid, voter.kid
        );
        return Err(Refusal::BadSignature { reason });
    }
    let late = now > voting.frozen.deadline && !checked.is_signed_by(voting.frozen.deadline);
    if late {
        return Err(Refusal::VotingClosed {
            proposal: checked.proposal,
            status: Status::Voting,
        });
    }
    if checked.digest != voting.frozen.voting_digest {
        return Err(mismatch(
            "digest",
            checked.digest,
            voting.frozen.voting_digest,
        ));
    }
    if checked.round != proposal.record.round {
        return Err(mismatch("round", checked.round, proposal.record.round));
    }
    Ok(())
}

/// Standing and awareness are read when the ballot arrives; the electorate was frozen.
fn check_standing(voter: &AgentRecord, voting: &Voting) -> Result<(), Ineligibility> {
    if voter.standing == Standing::Removed {
        return Err(Ineligibility::Removed);
    }
    let floor = voting.frozen.policy.awareness_floor;
    let level = voter
        .report
        .as_ref()
        .map_or(Ppb(0), |report| Ppb(report.consciousness_level_ppb));
    if level < floor {
        return Err(Ineligibility::BelowAwarenessFloor);
    }
    Ok(())
}

fn counted_ballot(step: &Step<'_>, vote: VoteId) -> Result<(VoteId, BallotRecord), ArchiveError> {
    let record = step
        .read::<BallotRecord>(&key::vote(vote))?
        .ok_or_else(|| ArchiveError {
            reason: format!("{vote} was counted but is not on disk"),
        })?;
    Ok((vote, record))
}

/// The same bytes answer as they did the first time, also after the close.
fn closed_or_unknown(
    step: &Step<'_>,
    checked: &CheckedBallot,
    jws: &str,
) -> Result<CastReceipt, Stop> {
    let record = step
        .read::<ProposalRecord>(&key::proposal(checked.proposal))?
        .ok_or_else(|| Refusal::UnknownProposal {
            proposal: checked.proposal.to_string(),
        })?;
    let prefix = key::voter_proposal(&checked.voter, checked.proposal);
    let end = key::after_prefix(&prefix);
    let mut numbers = Vec::new();
    step.archive.scan(
        Table::VotesByVoter,
        &prefix,
        end.as_deref(),
        Order::Ascending,
        &mut |found, _| {
            if let Some(number) = found.last_chunk::<8>() {
                numbers.push(u64::from_be_bytes(*number));
            }
            ControlFlow::Continue(())
        },
    )?;
    for number in numbers {
        let (vote, ballot) = counted_ballot(
            step,
            VoteId {
                proposal: checked.proposal,
                number,
            },
        )?;
        if ballot.jws == jws {
            return Ok(CastReceipt {
                vote,
                time: ballot.time,
                repeated: true,
            });
        }
    }
    Err(Refusal::VotingClosed {
        proposal: checked.proposal,
        status: record.status,
    }
    .into())
}

/// Keeps the first pair of conflicting ballots: more of them prove nothing more.
fn keep_evidence(
    step: &mut Step<'_>,
    checked: &CheckedBallot,
    counted: VoteId,
    other: &str,
) -> Result<(), ArchiveError> {
    let key = key::evidence(checked.proposal, &checked.voter, checked.round);
    if step.read::<EvidenceRecord>(&key)?.is_none() {
        let evidence = EvidenceRecord::Equivocation {
            round: checked.round,
            counted,
            other: other.to_owned(),
            time: step.time,
        };
        step.put(key, &evidence);
    }
    Ok(())
}
