//! Proposals, results and decisions, on their way in and out.

use std::borrow::Cow;

use aegis_crypto::{Digest, json};
use aegis_ledger::query::ProposalView;
use aegis_ledger::{
    Category, ClosingRecord, Electorate, Frozen, Method, Ordinal, Outcome, Policy, Ppb, Principal,
    ProposalNo, ProposalRecord, ProposalType, Ratio, Status, Tally,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::text::{Decimal, Text, Time};

/// A proposal to submit. Without its `signature`, in canonical form, it is the document
/// whose SHA-256 the answer gives. The same type reads the stored document.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProposalRequest)]
#[expect(
    dead_code,
    reason = "some members are only checked here; records answer for them"
)]
pub(crate) struct ProposalRequest<'a> {
    /// One line of 1 to 200 characters.
    title: String,
    /// What it is about, for people.
    description: String,
    /// `configuration_change`, `policy_update`, `module_management`, `emergency_action` or
    /// `decision`.
    #[schema(value_type = String, example = "decision")]
    r#type: ProposalType,
    /// What it is about, for programs.
    #[serde(borrow)]
    #[schema(value_type = Object)]
    content: &'a RawValue,
    /// When voting ends; not together with `voting_period_s`.
    #[schema(format = DateTime)]
    voting_deadline: Option<String>,
    /// How long voting lasts from its opening, in seconds; the policy's period if neither
    /// is given.
    voting_period_s: Option<u64>,
    /// `standard`, `significant`, `critical` or `emergency`: the default of the type or the
    /// action, or a higher one.
    #[schema(value_type = Option<String>)]
    category: Option<Category>,
    /// `simple_majority`, `super_majority` or `unanimous`, where the author may choose.
    method: Option<String>,
    /// The options of a many-option method.
    options: Option<Vec<String>>,
    /// What is to be done to the target.
    action: Option<String>,
    /// The agent or thing that the action is about.
    target: Option<String>,
    /// Why.
    justification: Option<String>,
    /// What supports it.
    #[serde(borrow)]
    #[schema(value_type = Option<Vec<Object>>)]
    evidence: Option<Vec<&'a RawValue>>,
    /// What it would change.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    impact: Option<&'a RawValue>,
    /// Whatever the author's programs need.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
    /// Who votes: a list of agent ids, or a filter over the agents.
    #[serde(default, borrow, deserialize_with = "electorate")]
    #[schema(value_type = Option<Object>)]
    electorate: Option<&'a RawValue>,
    /// How many rounds there may be.
    max_rounds: Option<u32>,
    /// Whether voting opens at once.
    open: Option<bool>,
    /// The author's statement over the document's digest: a compact JWS of type
    /// `aegis-proposal+jws`.
    #[serde(default, deserialize_with = "json::present")]
    pub(crate) signature: Option<String>,
}

/// Keeps the electorate as it is written, once it has the form of one.
fn electorate<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    let raw = Option::<&RawValue>::deserialize(deserializer)?;
    if let Some(raw) = raw {
        serde_json::from_str::<Electorate>(raw.get()).map_err(D::Error::custom)?;
    }
    Ok(raw)
}

/// A submitted proposal.
#[derive(Serialize, ToSchema)]
#[schema(as = ProposalSubmitted)]
pub(crate) struct SubmittedBody {
    /// Its id.
    #[schema(value_type = String, example = "prop_12345")]
    pub(crate) proposal_id: Text<ProposalNo>,
    /// `draft`, or `voting` where it opened at once.
    #[schema(value_type = String)]
    pub(crate) status: Status,
    /// When it was submitted.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Time,
    /// SHA-256 of the exact bytes of its document.
    #[schema(value_type = String)]
    pub(crate) digest: Digest,
}

/// A step's order, where it is not given by a token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StepRequest)]
pub(crate) struct StepRequest<'a> {
    /// The author's or an administrator's statement: a compact JWS of type
    /// `aegis-command+jws` with `aud`, `sub`, `command`, `proposal`, `jti` and `iat`.
    #[serde(borrow)]
    pub(crate) signature: Cow<'a, str>,
}

/// A proposal that took a step.
#[derive(Serialize, ToSchema)]
#[schema(as = ProposalStepped)]
pub(crate) struct SteppedBody {
    /// Its id.
    #[schema(value_type = String)]
    pub(crate) proposal_id: Text<ProposalNo>,
    /// Where it stands now.
    #[schema(value_type = String)]
    pub(crate) status: Status,
}

/// The name and version of a policy.
#[derive(Serialize, ToSchema)]
#[schema(as = PolicyName)]
pub(crate) struct PolicyName {
    name: String,
    version: u32,
}

/// Ballots by heads.
#[derive(Serialize, ToSchema)]
#[schema(as = VoteCounts)]
pub(crate) struct VoteCounts {
    #[serde(flatten)]
    heads: Breakdown,
    total: u64,
}

/// Ballots by heads and answer.
#[derive(Serialize, ToSchema)]
#[schema(as = Breakdown)]
pub(crate) struct Breakdown {
    r#for: u64,
    against: u64,
    abstain: u64,
}

impl From<&Tally> for Breakdown {
    fn from(tally: &Tally) -> Self {
        let [r#for, against, abstain] = tally.heads;
        Self {
            r#for,
            against,
            abstain,
        }
    }
}

impl From<&Tally> for VoteCounts {
    fn from(tally: &Tally) -> Self {
        Self {
            heads: Breakdown::from(tally),
            total: tally.heads_cast(),
        }
    }
}

/// What of a proposal never changes: its document, and what its submission added.
#[derive(Serialize, ToSchema)]
#[schema(as = ProposalCore)]
pub(crate) struct ProposalCore<'a> {
    /// Its id.
    #[schema(value_type = String)]
    proposal_id: Text<ProposalNo>,
    /// Where it stands.
    #[schema(value_type = String)]
    status: Status,
    /// The id of its author, or `administrator`.
    #[schema(value_type = String)]
    author: Text<Principal>,
    /// When it was submitted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    /// SHA-256 of the exact bytes of its document.
    #[schema(value_type = String)]
    digest: Digest,
    title: String,
    description: String,
    #[schema(value_type = String)]
    r#type: ProposalType,
    #[schema(value_type = Object)]
    content: &'a RawValue,
    #[schema(value_type = String)]
    category: Category,
    /// The method in force.
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    voting_period_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    justification: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    evidence: Option<Vec<&'a RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    impact: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    electorate: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rounds: Option<u32>,
}

impl<'a> ProposalCore<'a> {
    pub(crate) fn new(
        record: &ProposalRecord,
        document: ProposalRequest<'a>,
        status: Status,
    ) -> Self {
        let chosen = Method::ALL
            .into_iter()
            .find(|method| document.method.as_deref() == Some(method.as_str()));
        let in_force = record.frozen.as_ref().map(|frozen| frozen.method);
        let of_policy = || Policy::initial(record.category).method;
        Self {
            proposal_id: Text(record.no),
            status,
            author: Text(record.author.clone()),
            created_at: Time(record.created_at),
            digest: record.digest,
            title: document.title,
            description: document.description,
            r#type: record.kind,
            content: document.content,
            category: record.category,
            method: in_force.or(chosen).unwrap_or_else(of_policy).as_str(),
            voting_period_s: document.voting_period_s,
            action: document.action,
            target: document.target,
            justification: document.justification,
            evidence: document.evidence,
            impact: document.impact,
            metadata: document.metadata,
            electorate: document.electorate,
            max_rounds: document.max_rounds,
        }
    }
}

/// A proposal.
#[derive(Serialize, ToSchema)]
#[schema(as = Proposal)]
pub(crate) struct ProposalBody<'a> {
    #[serde(flatten)]
    core: ProposalCore<'a>,
    /// The policy in force.
    policy: PolicyName,
    /// The round that takes ballots, from 1.
    round: u32,
    /// How many may vote, from the opening on.
    electorate_size: Option<u64>,
    /// When voting ends, where that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    voting_deadline: Option<Time>,
    /// When voting opened.
    #[schema(value_type = Option<String>, format = DateTime)]
    voting_opened_at: Option<Time>,
    /// When it was closed.
    #[schema(value_type = Option<String>, format = DateTime)]
    closed_at: Option<Time>,
    /// When its effect was acknowledged.
    #[schema(value_type = Option<String>, format = DateTime)]
    executed_at: Option<Time>,
    /// The ballots so far, or the final count.
    votes: VoteCounts,
    /// How it ended: `approved`, `rejected`, `no_quorum`, `expired` or `cancelled`.
    #[schema(value_type = Option<String>)]
    outcome: Option<Outcome>,
    /// The option that won, in many-option methods.
    winner: Option<String>,
    /// Whether a certificate stands behind the outcome.
    certified: bool,
}

impl<'a> ProposalBody<'a> {
    pub(crate) fn new(view: &ProposalView, document: ProposalRequest<'a>) -> Self {
        let record = &view.record;
        let frozen = record.frozen.as_ref();
        let policy = frozen.map_or_else(
            || Policy::initial(record.category),
            |frozen| frozen.policy.clone(),
        );
        let deadline = frozen
            .map(|frozen| frozen.deadline)
            .or(record.asked_deadline);
        Self {
            core: ProposalCore::new(record, document, record.status),
            policy: PolicyName {
                name: policy.name,
                version: policy.version,
            },
            round: record.round,
            electorate_size: frozen.map(|frozen| frozen.electorate_size),
            voting_deadline: deadline.map(Time),
            voting_opened_at: frozen.map(|frozen| Time(frozen.opened_at)),
            closed_at: record.closed.as_ref().map(|closed| Time(closed.at)),
            executed_at: record.executed_at.map(Time),
            votes: VoteCounts::from(&view.tally),
            outcome: record.closed.as_ref().map(|closed| closed.outcome),
            winner: None,
            certified: record.is_certified(),
        }
    }
}

/// A part of the list of proposals.
#[derive(Serialize, ToSchema)]
#[schema(as = ProposalList)]
pub(crate) struct ProposalList {
    /// The proposals, newest first.
    #[schema(value_type = Vec<ProposalBody>)]
    pub(crate) proposals: Vec<Box<RawValue>>,
    /// Where the next part begins, if there is one.
    pub(crate) next_cursor: Option<String>,
}

/// What a voter signs, less what the voter adds.
#[derive(Serialize, ToSchema)]
#[schema(as = Ballot)]
pub(crate) struct BallotBody {
    /// The cluster.
    #[schema(value_type = String)]
    pub(crate) aud: Digest,
    /// The proposal.
    #[schema(value_type = String)]
    pub(crate) proposal: Text<ProposalNo>,
    /// The voting digest, which binds the proposal, its rules, its electorate and its deadline.
    #[schema(value_type = String)]
    pub(crate) digest: Digest,
    /// The round.
    pub(crate) round: u32,
}

/// A result, running or final.
#[derive(Serialize, ToSchema)]
#[schema(as = ProposalResults)]
pub(crate) struct ResultsBody {
    /// The proposal.
    #[schema(value_type = String)]
    proposal_id: Text<ProposalNo>,
    results: ResultFigures,
    /// The share of the electorate that has voted, by heads.
    #[schema(value_type = f64)]
    participation: Decimal,
    /// What `for` must reach.
    #[schema(value_type = f64)]
    threshold: Decimal,
    /// How ballots become an outcome.
    method: &'static str,
    /// How many may vote.
    electorate_size: u64,
    /// Whether a certificate stands behind the result.
    certified: bool,
}

/// The figures of a result.
#[derive(Serialize, ToSchema)]
#[schema(as = ResultFigures)]
pub(crate) struct ResultFigures {
    total_votes: u64,
    quorum_required: u64,
    /// By heads.
    breakdown: Breakdown,
    /// By power, as shares of all power cast.
    weighted_results: Shares,
    /// Where the proposal stands.
    #[schema(value_type = String)]
    status: Status,
}

/// Shares by answer.
#[derive(Serialize, ToSchema)]
#[schema(as = Shares)]
pub(crate) struct Shares {
    #[schema(value_type = f64)]
    r#for: Decimal,
    #[schema(value_type = f64)]
    against: Decimal,
    #[schema(value_type = f64)]
    abstain: Decimal,
}

impl ResultsBody {
    /// The result of a proposal whose rules are frozen.
    pub(crate) fn new(view: &ProposalView, frozen: &Frozen) -> Self {
        let cast = view
            .tally
            .power
            .iter()
            .fold(0, |sum: u128, power| sum.saturating_add(*power));
        let [r#for, against, abstain] = view
            .tally
            .power
            .map(|power| Decimal(Ppb::fraction(power, cast)));
        Self {
            proposal_id: Text(view.record.no),
            results: ResultFigures {
                total_votes: view.tally.heads_cast(),
                quorum_required: frozen.quorum_required,
                breakdown: Breakdown::from(&view.tally),
                weighted_results: Shares {
                    r#for,
                    against,
                    abstain,
                },
                status: view.record.status,
            },
            participation: Decimal(view.participation()),
            threshold: Decimal(threshold(frozen)),
            method: frozen.method.as_str(),
            electorate_size: frozen.electorate_size,
            certified: view.record.is_certified(),
        }
    }
}

/// Unanimity asks for everyone whatever the policy's threshold.
fn threshold(frozen: &Frozen) -> Ppb {
    match frozen.method {
        Method::Unanimous => Ppb::ONE,
        Method::SimpleMajority | Method::SuperMajority => Ratio::ppb(frozen.policy.threshold),
    }
}

/// A decision.
#[derive(Serialize, ToSchema)]
#[schema(as = Decision)]
pub(crate) struct DecisionBody {
    /// Its number over the whole cluster, from 1.
    ordinal: u64,
    /// The proposal.
    #[schema(value_type = String)]
    proposal_id: Text<ProposalNo>,
    title: String,
    /// How it ended.
    #[schema(value_type = String)]
    outcome: Outcome,
    /// The round that decided.
    round: u32,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    closed_at: Time,
    /// The log index of the entry that closed it.
    index: u64,
    /// The final count.
    votes: VoteCounts,
    /// Whether a certificate stands behind it.
    certified: bool,
}

impl DecisionBody {
    pub(crate) fn new(
        ordinal: Ordinal,
        closing: &ClosingRecord,
        title: String,
        certified: bool,
    ) -> Self {
        Self {
            ordinal: ordinal.0,
            proposal_id: Text(closing.proposal),
            title,
            outcome: closing.outcome,
            round: closing.round,
            closed_at: Time(closing.at),
            index: closing.index.0,
            votes: VoteCounts::from(&closing.tally),
            certified,
        }
    }
}

/// A part of the list of decisions.
#[derive(Serialize, ToSchema)]
#[schema(as = DecisionList)]
pub(crate) struct DecisionList {
    /// The decisions, newest first.
    pub(crate) decisions: Vec<DecisionBody>,
    /// Where the next part begins, if there is one.
    pub(crate) next_cursor: Option<String>,
}
