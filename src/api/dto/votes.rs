//! Ballots, on their way in and out.

use std::borrow::Cow;

use aegis_crypto::{Digest, NumberText, json};
use aegis_ledger::{
    AgentId, BallotRecord, CastReceipt, CheckedBallot, Choice, NumberError, Ppb, ProposalNo,
    Refusal, VoteId,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::text::{Decimal, Text, Time, ppb};
use crate::problem::Problem;

/// A ballot: the voter's signed statement, and what it says for people to read.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Vote)]
pub(crate) struct VoteRequest<'a> {
    /// The proposal.
    #[serde(borrow)]
    #[schema(example = "prop_12345")]
    pub(crate) proposal_id: Cow<'a, str>,
    /// `for`, `against` or `abstain`; `approve` and `reject` mean the same as the first two.
    #[serde(borrow)]
    #[schema(example = "for")]
    pub(crate) vote: Cow<'a, str>,
    /// How sure the voter is, from 0 to 1 with at most 9 decimals; 1 if absent.
    #[serde(default, deserialize_with = "json::present")]
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 1)]
    pub(crate) confidence: Option<NumberText>,
    /// Why; the statement names its SHA-256.
    #[serde(default, borrow, deserialize_with = "json::present")]
    pub(crate) justification: Option<Cow<'a, str>>,
    /// The statement: a compact JWS of type `aegis-vote+jws`.
    #[serde(borrow)]
    pub(crate) signature: Cow<'a, str>,
}

impl VoteRequest<'_> {
    /// What stands beside the statement must agree with it.
    pub(crate) fn check_agreement(&self, signed: &CheckedBallot) -> Result<(), Refusal> {
        let proposal: ProposalNo =
            self.proposal_id
                .parse()
                .map_err(|_| Refusal::UnknownProposal {
                    proposal: self.proposal_id.chars().take(80).collect(),
                })?;
        let choice = Choice::parse(&self.vote).ok_or_else(|| Refusal::InvalidChoice {
            choice: self.vote.chars().take(80).collect(),
        })?;
        let confidence = self.confidence().map_err(|_| Refusal::InvalidConfidence {
            confidence: self
                .confidence
                .as_ref()
                .map(|number| number.as_str().chars().take(40).collect())
                .unwrap_or_default(),
        })?;
        if proposal != signed.proposal {
            return Err(mismatch("proposal", signed.proposal, proposal));
        }
        if choice != signed.choice {
            return Err(mismatch("choice", signed.choice.as_str(), choice.as_str()));
        }
        if confidence != signed.confidence {
            return Err(mismatch("confidence", signed.confidence, confidence));
        }
        signed.check_justification(self.justification.as_deref())
    }

    fn confidence(&self) -> Result<Ppb, NumberError> {
        let Some(number) = &self.confidence else {
            return Ok(Ppb::ONE);
        };
        let confidence = ppb(number.as_str())?;
        if confidence > Ppb::ONE {
            return Err(NumberError::TooLarge {
                text: confidence.to_string(),
                max: "1",
            });
        }
        Ok(confidence)
    }
}

/// A signed claim is not what was expected.
pub(crate) fn mismatch(field: &str, signed: impl ToString, expected: impl ToString) -> Refusal {
    Refusal::StatementMismatch {
        field: field.to_owned(),
        signed: signed.to_string(),
        expected: expected.to_string(),
    }
}

/// Up to 256 ballots.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VoteBatch)]
pub(crate) struct VoteBatch<'a> {
    /// The ballots; each succeeds or fails alone.
    #[serde(borrow)]
    #[schema(max_items = 256)]
    pub(crate) votes: Vec<VoteRequest<'a>>,
}

/// A recorded ballot.
#[derive(Serialize, ToSchema)]
#[schema(as = VoteRecorded)]
pub(crate) struct VoteReceipt {
    /// The ballot.
    #[schema(value_type = String, example = "vote_17_203")]
    vote_id: Text<VoteId>,
    /// Always `recorded`.
    status: &'static str,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Time,
}

impl From<&CastReceipt> for VoteReceipt {
    fn from(receipt: &CastReceipt) -> Self {
        Self {
            vote_id: Text(receipt.vote),
            status: "recorded",
            timestamp: Time(receipt.time),
        }
    }
}

/// What came of one ballot of a batch.
#[derive(Serialize, ToSchema)]
#[schema(as = VoteResult)]
pub(crate) struct VoteResult {
    /// The status that the ballot would have had alone.
    status: u16,
    /// The ballot, where it is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    vote_id: Option<Text<VoteId>>,
    /// Why not, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// Why not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<Result<CastReceipt, Problem>> for VoteResult {
    fn from(result: Result<CastReceipt, Problem>) -> Self {
        match result {
            Ok(receipt) => Self {
                status: if receipt.repeated { 200 } else { 201 },
                vote_id: Some(Text(receipt.vote)),
                code: None,
                detail: None,
            },
            Err(problem) => Self {
                status: problem.status().as_u16(),
                vote_id: None,
                code: Some(problem.code()),
                detail: Some(problem.detail().to_owned()),
            },
        }
    }
}

/// What came of a batch of ballots.
#[derive(Serialize, ToSchema)]
#[schema(as = VoteResults)]
pub(crate) struct VoteResults {
    /// One for each ballot, in order.
    pub(crate) results: Vec<VoteResult>,
}

/// A ballot as the vote log has it.
#[derive(Serialize, ToSchema)]
#[schema(as = VoteEntry)]
pub(crate) struct VoteBody {
    /// The ballot.
    #[schema(value_type = String)]
    vote_id: Text<VoteId>,
    /// The proposal.
    #[schema(value_type = String)]
    proposal_id: Text<ProposalNo>,
    /// Whose it is.
    #[schema(value_type = String)]
    voter: Text<AgentId>,
    /// The round it counts in.
    round: u32,
    /// `for`, `against` or `abstain`.
    vote: &'static str,
    /// How sure the voter is.
    #[schema(value_type = f64)]
    confidence: Decimal,
    /// The power it counts with.
    #[schema(value_type = f64)]
    power: Decimal,
    /// Why, unless there is no text or it was erased.
    justification: Option<String>,
    /// SHA-256 of the justification, as it was signed.
    #[schema(value_type = Option<String>)]
    justification_sha256: Option<Digest>,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Time,
    /// The log index of the entry that carried it.
    index: u64,
    /// The exact statement, with its signature.
    signature: String,
}

impl VoteBody {
    pub(crate) fn new(vote: VoteId, record: BallotRecord, justification: Option<String>) -> Self {
        Self {
            vote_id: Text(vote),
            proposal_id: Text(vote.proposal),
            voter: Text(record.voter),
            round: record.round,
            vote: record.choice.as_str(),
            confidence: Decimal(record.confidence),
            power: Decimal(record.power),
            justification,
            justification_sha256: record.justification,
            timestamp: Time(record.time),
            index: record.index.0,
            signature: record.jws,
        }
    }
}

/// A part of a vote log.
#[derive(Serialize, ToSchema)]
#[schema(as = VoteList)]
pub(crate) struct VoteList {
    /// The ballots.
    #[schema(value_type = Vec<VoteBody>)]
    pub(crate) votes: Vec<Box<RawValue>>,
    /// Where the next part begins, if there is one.
    pub(crate) next_cursor: Option<String>,
}
