//! Recounting: a closing computed again from what its voters signed.
//!
//! From the terms that the opening froze, the electorate and the exact ballots in the order
//! of admission, a [`Recount`] verifies every signature and what it is bound to, counts, and
//! comes to the roots, the result and the outcome that a [`Statement`] should have. It is
//! what a validator compares a closing with, ballot by ballot as they arrive, and what
//! anyone runs offline over a bundle; so it shares with the admission of ballots nothing but
//! the reading of a statement and the arithmetic of a count.
//!
//! What it cannot see is what only the moment of arrival knew: whether the voter had been
//! removed or was below the awareness floor, and whether a ballot came that was left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_crypto::merkle::Frontier;
use aegis_crypto::{Digest, Jws, JwsError, Kid, PublicKey, Typ};

use crate::ballots::{CheckedBallot, LEEWAY_S, STATEMENT_BYTES_MAX};
use crate::ids::{AgentId, ProposalNo};
use crate::number::Ppb;
use crate::proposals::{elector_leaf, voting_digest};
use crate::record::{Frozen, Outcome, Tally};
use crate::refusal::Refusal;
use crate::result::{FullResult, TALLY_VERSION};
use crate::statement::{Statement, VotingTerms};
use crate::tally::Outstanding;
use crate::verified::{Memory, Verified};

/// What the opening of voting fixed, and for which proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecountTerms {
    /// The cluster.
    pub cluster: Digest,
    /// The proposal.
    pub proposal: ProposalNo,
    /// SHA-256 of its document.
    pub proposal_digest: Digest,
    /// The round.
    pub round: u32,
    /// The frozen rules.
    pub frozen: Frozen,
}

/// A closing does not come out as it is said to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecountError {
    /// The electors are not in the order of their ids, each once.
    #[error("elector {elector} stands out of order or twice")]
    Order {
        /// The first that does.
        elector: AgentId,
    },
    /// The terms contradict themselves, the electorate or this binary.
    #[error("the terms have {stated} as their {field}, recomputed it is {recomputed}")]
    Terms {
        /// The term.
        field: &'static str,
        /// What the terms say.
        stated: String,
        /// What follows from the rest.
        recomputed: String,
    },
    /// A ballot does not count.
    #[error("ballot {number} does not count")]
    Ballot {
        /// Its place in the order of admission, from 1.
        number: u64,
        /// Why.
        #[source]
        fault: Box<BallotFault>,
    },
    /// The statement says something else.
    #[error("the statement has {stated} as its {field}, recounted it is {recounted}")]
    Statement {
        /// The member of the statement.
        field: &'static str,
        /// What the statement says.
        stated: String,
        /// What the recount came to.
        recounted: String,
    },
}

/// Why a ballot does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BallotFault {
    /// It is no ballot.
    #[error("it has not the form of a ballot")]
    Form(#[source] Refusal),
    /// The voter has not signed it.
    #[error("its signature does not hold")]
    Signature(#[source] JwsError),
    /// It names a key that its voter never had.
    #[error("it names key {kid}, which {voter} never had")]
    UnknownKey {
        /// Whose ballot it claims to be.
        voter: AgentId,
        /// The key.
        kid: Kid,
    },
    /// It was signed for something else.
    #[error("its signed `{field}` is {signed}, expected {expected}")]
    Mismatch {
        /// The claim.
        field: &'static str,
        /// What was signed.
        signed: String,
        /// What counts here.
        expected: String,
    },
    /// Its voter may not vote here.
    #[error("{voter} is not in the electorate")]
    NotAnElector {
        /// The voter.
        voter: AgentId,
    },
    /// Its voter has a ballot already.
    #[error("{voter} has a ballot already")]
    SecondBallot {
        /// The voter.
        voter: AgentId,
    },
    /// It was signed after voting had ended.
    #[error("it was signed at {iat} s, voting ended at {deadline_s} s")]
    TooLate {
        /// When it was signed, in Unix seconds.
        iat: i64,
        /// When voting ended, in Unix seconds.
        deadline_s: u64,
    },
}

/// An elector's place.
#[derive(Clone, Copy, Debug)]
struct Place {
    power: Ppb,
    voted: bool,
}

/// A count in progress.
#[derive(Clone, Debug)]
pub struct Recount {
    terms: RecountTerms,
    electors: BTreeMap<AgentId, Place>,
    tally: Tally,
    ballots: Frontier,
    memory: Memory,
}

impl Recount {
    /// Begins a count among these electors, in the order of their ids.
    ///
    /// # Errors
    /// Terms that do not follow from each other and from the electors.
    pub fn new(
        terms: RecountTerms,
        electors: impl IntoIterator<Item = (AgentId, Ppb)>,
    ) -> Result<Self, RecountError> {
        let mut places = BTreeMap::new();
        let mut leaves = Frontier::default();
        for (id, power) in electors {
            let ascends = places.last_key_value().is_none_or(|(last, _)| *last < id);
            if !ascends {
                return Err(RecountError::Order { elector: id });
            }
            leaves.push_leaf(&elector_leaf(&id, power));
            places.insert(
                id,
                Place {
                    power,
                    voted: false,
                },
            );
        }
        check_terms(&terms, &places, leaves.root())?;
        Ok(Self {
            terms,
            electors: places,
            tally: Tally::default(),
            ballots: Frontier::default(),
            memory: Memory::default(),
        })
    }

    /// The count with a memory of the signatures that were verified already.
    #[must_use]
    pub fn with_memory(mut self, memory: Arc<dyn Verified>) -> Self {
        self.memory = Memory::of(memory);
        self
    }

    /// The proposal whose ballots are counted.
    #[must_use]
    pub const fn proposal(&self) -> ProposalNo {
        self.terms.proposal
    }

    /// How many ballots are counted.
    #[must_use]
    pub fn ballots(&self) -> u64 {
        self.ballots.size()
    }

    /// Counts the next ballot: its exact JWS, and the key of the voter that it names. That
    /// the key is this voter's is for the caller to know, from the registrar's attestation.
    ///
    /// # Errors
    /// [`RecountError::Ballot`]; the ballot is not counted.
    pub fn add(&mut self, jws: &str, key: &PublicKey) -> Result<(), RecountError> {
        self.count(jws, key).map_err(|fault| self.fault(fault))
    }

    /// The fault of the ballot that would be the next.
    pub(crate) fn fault(&self, fault: BallotFault) -> RecountError {
        RecountError::Ballot {
            number: self.ballots.size().saturating_add(1),
            fault: Box::new(fault),
        }
    }

    fn count(&mut self, jws: &str, key: &PublicKey) -> Result<(), BallotFault> {
        let ballot = CheckedBallot::parse(jws).map_err(BallotFault::Form)?;
        self.check_binding(&ballot)?;
        let place = self.electors.get_mut(&ballot.voter);
        let Some(place) = place else {
            return Err(BallotFault::NotAnElector {
                voter: ballot.voter,
            });
        };
        if place.voted {
            return Err(BallotFault::SecondBallot {
                voter: ballot.voter,
            });
        }
        Jws::parse(jws, Typ::VOTE, STATEMENT_BYTES_MAX)
            .and_then(|statement| self.memory.verify(&statement, key))
            .map_err(BallotFault::Signature)?;
        place.voted = true;
        self.tally.add(ballot.choice, place.power);
        self.ballots.push_leaf(jws.as_bytes());
        Ok(())
    }

    fn check_binding(&self, ballot: &CheckedBallot) -> Result<(), BallotFault> {
        let terms = &self.terms;
        let bindings = [
            (
                "aud",
                ballot.cluster_id.to_string(),
                terms.cluster.to_string(),
            ),
            (
                "proposal",
                ballot.proposal.to_string(),
                terms.proposal.to_string(),
            ),
            (
                "digest",
                ballot.digest.to_string(),
                terms.frozen.voting_digest.to_string(),
            ),
            ("round", ballot.round.to_string(), terms.round.to_string()),
        ];
        for (field, signed, expected) in bindings {
            if signed != expected {
                return Err(BallotFault::Mismatch {
                    field,
                    signed,
                    expected,
                });
            }
        }
        // Whoever signs ahead of the ledger's clock may do so up to the leeway.
        let deadline_s = terms.frozen.deadline.0.div_euclid(1_000);
        let latest = deadline_s.saturating_add(LEEWAY_S.unsigned_abs());
        if u64::try_from(ballot.iat).unwrap_or(0) > latest {
            let iat = ballot.iat;
            return Err(BallotFault::TooLate { iat, deadline_s });
        }
        Ok(())
    }

    /// What the ballots come to.
    #[must_use]
    pub fn finish(self) -> Recounted {
        let frozen = &self.terms.frozen;
        let waiting = self.electors.values().filter(|place| !place.voted);
        let outstanding = waiting.fold(Outstanding::default(), |sum, place| Outstanding {
            heads: sum.heads.saturating_add(1),
            power: sum.power.saturating_add(u128::from(place.power.0)),
        });
        Recounted {
            tally: self.tally,
            ballots_root: self.ballots.root(),
            ballots_count: self.ballots.size(),
            result: FullResult::new(&self.tally, Some(frozen)),
            outcome: self.tally.outcome(&frozen.rules()),
            outstanding,
            terms: self.terms,
        }
    }
}

fn check_terms(
    terms: &RecountTerms,
    electors: &BTreeMap<AgentId, Place>,
    electorate_root: Digest,
) -> Result<(), RecountError> {
    let frozen = &terms.frozen;
    let size = u64::try_from(electors.len()).unwrap_or(u64::MAX);
    let power = electors.values().fold(0, |sum, place| {
        u128::saturating_add(sum, u128::from(place.power.0))
    });
    let voting = voting_digest(
        terms.proposal_digest,
        &frozen.policy,
        frozen.method,
        electorate_root,
        frozen.deadline,
    );
    compare(
        [
            (
                "tally_version",
                frozen.tally_version.to_string(),
                TALLY_VERSION.to_string(),
            ),
            (
                "electorate_size",
                frozen.electorate_size.to_string(),
                size.to_string(),
            ),
            (
                "power_total",
                frozen.power_total.to_string(),
                power.to_string(),
            ),
            (
                "electorate_root",
                frozen.electorate_root.to_string(),
                electorate_root.to_string(),
            ),
            (
                "quorum_required",
                frozen.quorum_required.to_string(),
                frozen.policy.quorum_of(size).to_string(),
            ),
            (
                "voting_digest",
                frozen.voting_digest.to_string(),
                voting.to_string(),
            ),
        ],
        |field, stated, recomputed| RecountError::Terms {
            field,
            stated,
            recomputed,
        },
    )
}

fn compare<const N: usize>(
    pairs: [(&'static str, String, String); N],
    error: impl Fn(&'static str, String, String) -> RecountError,
) -> Result<(), RecountError> {
    for (field, stated, recomputed) in pairs {
        if stated != recomputed {
            return Err(error(field, stated, recomputed));
        }
    }
    Ok(())
}

/// What a recount came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recounted {
    /// The count.
    pub tally: Tally,
    /// RFC 6962 root over the ballots.
    pub ballots_root: Digest,
    /// How many there are.
    pub ballots_count: u64,
    /// The full result.
    pub result: FullResult,
    /// What the rules make of it; a proposal that was cancelled has another outcome.
    pub outcome: Outcome,
    /// The electors who have no ballot. A proposal that closed before its deadline without
    /// having been cancelled should have none who still might have voted, or be settled.
    pub outstanding: Outstanding,
    /// The terms.
    pub terms: RecountTerms,
}

impl Recounted {
    /// Compares all that a statement says of the terms, the ballots and the result.
    ///
    /// # Errors
    /// [`RecountError::Statement`] with the first member that differs.
    pub fn check(&self, statement: &Statement) -> Result<(), RecountError> {
        let terms = &self.terms;
        let frozen = &terms.frozen;
        let voting = statement.voting.as_ref();
        let stated = |of: fn(&VotingTerms) -> String| voting.map_or_else(absent, of);
        // Whether a proposal was withdrawn no ballot tells.
        let outcome = match statement.outcome {
            Outcome::Cancelled => Outcome::Cancelled,
            _ => self.outcome,
        };
        let appeal_window_s = match outcome {
            Outcome::Approved => frozen.policy.appeal_window_s,
            _ => 0,
        };
        let final_after = statement.closed_at.plus_s(appeal_window_s);
        compare(
            [
                (
                    "cluster",
                    statement.cluster.to_string(),
                    terms.cluster.to_string(),
                ),
                (
                    "proposal",
                    statement.proposal.to_string(),
                    terms.proposal.to_string(),
                ),
                (
                    "proposal_digest",
                    statement.proposal_digest.to_string(),
                    terms.proposal_digest.to_string(),
                ),
                (
                    "round",
                    statement.round.to_string(),
                    terms.round.to_string(),
                ),
                (
                    "voting.digest",
                    stated(|voting| voting.digest.to_string()),
                    frozen.voting_digest.to_string(),
                ),
                (
                    "voting.electorate_root",
                    stated(|voting| voting.electorate_root.to_string()),
                    frozen.electorate_root.to_string(),
                ),
                (
                    "voting.electorate_size",
                    stated(|voting| voting.electorate_size.to_string()),
                    frozen.electorate_size.to_string(),
                ),
                (
                    "ballots_count",
                    statement.ballots_count.to_string(),
                    self.ballots_count.to_string(),
                ),
                (
                    "ballots_root",
                    statement.ballots_root.to_string(),
                    self.ballots_root.to_string(),
                ),
                (
                    "result",
                    statement.result.to_string(),
                    self.result.digest().to_string(),
                ),
                (
                    "outcome",
                    statement.outcome.as_str().to_owned(),
                    outcome.as_str().to_owned(),
                ),
                (
                    "final_after",
                    statement.final_after.0.to_string(),
                    final_after.0.to_string(),
                ),
            ],
            |field, stated, recounted| RecountError::Statement {
                field,
                stated,
                recounted,
            },
        )
    }
}

fn absent() -> String {
    "absent".to_owned()
}
