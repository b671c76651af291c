//! Refusals: the deterministic ways in which a command is not carried out.
//!
//! A refusal is an outcome like any other: every replica reaches the same one, it is
//! audited, and the client reads it with a stable [code](Refusal::code) and a text that
//! says what to do.
//!
//! The answer to a keyed request is replicated state, the texts in its refusal included.
//! So no text here comes from a library, whose next version may say it differently while
//! a cluster is half upgraded: errors of `aegis_crypto` are taken in their `own_words`,
//! and nothing is formatted with `{:?}`.

use aegis_crypto::Kid;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, LedgerTime, Ordinal, ProposalNo, SeatName, TokenNo, VoteId};
use crate::record::Status;

/// What a refusal says about the request, for choosing a transport's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The thing named does not exist.
    NotFound,
    /// The signature or its time does not hold.
    Unauthenticated,
    /// The principal may not do this.
    Forbidden,
    /// The state does not allow it.
    Conflict,
    /// The request's content can never be accepted.
    Unprocessable,
}

/// Why an elector's ballot does not count although the agent exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ineligibility {
    /// Not in the electorate that was frozen at opening.
    NotInElectorate,
    /// Removed since.
    Removed,
    /// Its last reported consciousness level is under the policy's awareness floor, or none was reported.
    BelowAwarenessFloor,
}

impl Ineligibility {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotInElectorate => "it is not in the electorate frozen when voting opened",
            Self::Removed => "it was removed",
            Self::BelowAwarenessFloor => {
                "its last reported consciousness level is under the policy's floor"
            }
        }
    }
}

/// Why a command was not carried out. Appended to, never reordered: it is answered across
/// nodes and kept for idempotent requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No such proposal.
    #[error("there is no proposal {proposal}")]
    UnknownProposal {
        /// The id as it was given.
        proposal: String,
    },
    /// No such voter.
    #[error("there is no agent {agent}; register it first with POST /agents")]
    UnknownVoter {
        /// The id as it was given.
        agent: String,
    },
    /// The voter may not vote here.
    #[error("agent {agent} may not vote on {proposal}: {}", .reason.as_str())]
    NotEligible {
        /// The voter.
        agent: AgentId,
        /// The proposal.
        proposal: ProposalNo,
        /// Why.
        reason: Ineligibility,
    },
    /// The statement is not a valid JWS of its signer.
    #[error("the signature does not hold: {reason}")]
    BadSignature {
        /// What failed.
        reason: String,
    },
    /// The statement was signed for something else.
    #[error(
        "the signed `{field}` is {signed}, expected {expected}; what a ballot signs is at GET /proposals/{{id}}/ballot"
    )]
    StatementMismatch {
        /// The claim.
        field: String,
        /// What was signed.
        signed: String,
        /// What would have been accepted.
        expected: String,
    },
    /// A `jti` was used before with other content.
    #[error(
        "jti {jti} was used by this voter for {vote} with other content; sign with a fresh jti"
    )]
    Replayed {
        /// The id of the statement.
        jti: String,
        /// The ballot that used it first.
        vote: VoteId,
    },
    /// The voter has a ballot in this round.
    #[error("the voter already has {vote} in this round{}", if *.conflicting { "; its choice differs, and both are kept as evidence" } else { "" })]
    AlreadyVoted {
        /// The ballot that counts.
        vote: VoteId,
        /// Whether the two choices differ.
        conflicting: bool,
    },
    /// Voting has not begun.
    #[error("{proposal} is in {}; voting has not been opened", .status.as_str())]
    NotOpen {
        /// The proposal.
        proposal: ProposalNo,
        /// Where it is.
        status: Status,
    },
    /// Voting is over.
    #[error("voting on {proposal} is over ({})", .status.as_str())]
    VotingClosed {
        /// The proposal.
        proposal: ProposalNo,
        /// Where it is.
        status: Status,
    },
    /// The statement's times do not fit ledger time.
    #[error(
        "the statement's {field} is {signed} (Unix seconds); at ledger time {now_s} it must be {expected}"
    )]
    ExpiredStatement {
        /// `iat` or `exp`.
        field: String,
        /// What was signed.
        signed: i64,
        /// Ledger time in Unix seconds.
        now_s: u64,
        /// What would have been accepted.
        expected: String,
    },
    /// Not a choice of this method.
    #[error("`{choice}` is not a choice here; use for, against or abstain")]
    InvalidChoice {
        /// What was signed.
        choice: String,
    },
    /// Not a confidence.
    #[error(
        "`{confidence}` is not a confidence: a decimal from 0 to 1 with at most 9 decimals, as a string"
    )]
    InvalidConfidence {
        /// What was signed.
        confidence: String,
    },
    /// No such agent.
    #[error("there is no agent {agent}")]
    UnknownAgent {
        /// The id as it was given.
        agent: String,
    },
    /// The id is taken.
    #[error("agent {agent} exists already; ids are never used twice")]
    AgentExists {
        /// The id.
        agent: AgentId,
    },
    /// The agent was removed.
    #[error("agent {agent} was removed")]
    AgentRemoved {
        /// The id.
        agent: AgentId,
    },
    /// The key belongs to someone.
    #[error("key {kid} belongs to agent {agent} already; every agent has keys of its own")]
    KeyInUse {
        /// The key's thumbprint.
        kid: Kid,
        /// Who has or had it.
        agent: AgentId,
    },
    /// A field of the request can never be accepted.
    #[error("`{field}`: {reason}")]
    InvalidField {
        /// The field.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A rule of the policy forbids what the author chose.
    #[error("{rule}: {detail}")]
    PolicyViolation {
        /// The rule's name.
        rule: String,
        /// What the rule asks.
        detail: String,
    },
    /// The principal may not do this.
    #[error("{who} may not {action}")]
    Forbidden {
        /// The principal.
        who: String,
        /// What it tried.
        action: String,
    },
    /// The life cycle has no such step here.
    #[error("{proposal} is {}; it cannot be {action}", .status.as_str())]
    IllegalTransition {
        /// The proposal.
        proposal: ProposalNo,
        /// Where it is.
        status: Status,
        /// The step, as a participle.
        action: String,
    },
    /// The step comes too early.
    #[error("{proposal} may not be {action} before {}", .until.rfc3339())]
    TooEarly {
        /// The proposal.
        proposal: ProposalNo,
        /// The step, as a participle.
        action: String,
        /// When it may.
        until: LedgerTime,
    },
    /// The author has too many unclosed proposals.
    #[error("{author} has {open} open proposals of at most {limit}; close one first")]
    TooManyOpen {
        /// The author.
        author: AgentId,
        /// How many are open.
        open: u64,
        /// How many may be.
        limit: u64,
    },
    /// The idempotency key was used for another request.
    #[error("this idempotency key was used for another request within 24 h; use a fresh key")]
    IdempotencyMismatch {
        /// The key.
        key: String,
    },
    /// No such token.
    #[error("there is no token {token}")]
    UnknownToken {
        /// The token's number.
        token: TokenNo,
    },
    /// A report that is not newer than the last.
    #[error("a report of {last} stands already; a report must be newer than the last")]
    StaleReport {
        /// The time of the last report, Unix milliseconds.
        last: u64,
    },
    /// No such seat.
    #[error("the committee has no seat {name}; its seats are at GET /committee")]
    UnknownSeat {
        /// The name.
        name: SeatName,
    },
    /// The name is taken.
    #[error("the committee has a seat {name} already; rotate its key, or choose another name")]
    SeatExists {
        /// The name.
        name: SeatName,
    },
    /// The key belongs to someone.
    #[error("key {kid} is that of {holder} already; make a new key for the seat")]
    SeatKeyInUse {
        /// The key's thumbprint.
        kid: Kid,
        /// Whose key it is.
        holder: String,
    },
    /// The cluster has no committee.
    #[error("this cluster has no committee, so nothing is certified; the genesis names the seats")]
    NoCommittee,
    /// No such closing.
    #[error("there was no closing {ordinal} before this entry")]
    UnknownClosing {
        /// Its number.
        ordinal: Ordinal,
    },
    /// Not a certificate of the committee.
    #[error("the certificate of closing {ordinal} does not hold: {reason}")]
    BadCertificate {
        /// The closing.
        ordinal: Ordinal,
        /// What failed.
        reason: String,
    },
    /// The committee certified something else than this ledger holds.
    #[error(
        "the certified `{field}` of closing {ordinal} is {certified}, this ledger has {expected}; \
         compare the nodes' audit heads before anything else"
    )]
    CertificateMismatch {
        /// The closing.
        ordinal: Ordinal,
        /// The first member of the statement that differs.
        field: String,
        /// What was certified, as JSON, shortened.
        certified: String,
        /// What the ledger holds, as JSON, shortened.
        expected: String,
    },
    /// The committee has not certified the outcome yet.
    #[error(
        "the committee has not certified the outcome of {proposal} yet; try again once \
         GET /proposals/{proposal}/certificate answers"
    )]
    NotCertified {
        /// The proposal.
        proposal: ProposalNo,
    },
}

impl Refusal {
    /// A statement that is not a valid JWS of its signer.
    #[must_use]
    pub fn bad_signature(error: &aegis_crypto::JwsError) -> Self {
        Self::BadSignature {
            reason: error.own_words(),
        }
    }

    /// The stable code of API.md.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownProposal { .. } => "unknown_proposal",
            Self::UnknownVoter { .. } => "unknown_voter",
            Self::NotEligible { .. } => "not_eligible",
            Self::BadSignature { .. } => "bad_signature",
            Self::StatementMismatch { .. } => "statement_mismatch",
            Self::Replayed { .. } => "replayed",
            Self::AlreadyVoted { .. } => "already_voted",
            Self::NotOpen { .. } => "not_open",
            Self::VotingClosed { .. } => "voting_closed",
            Self::ExpiredStatement { .. } => "expired_statement",
            Self::InvalidChoice { .. } => "invalid_choice",
            Self::InvalidConfidence { .. } => "invalid_confidence",
            Self::UnknownAgent { .. } => "unknown_agent",
            Self::AgentExists { .. } => "agent_exists",
            Self::AgentRemoved { .. } => "agent_removed",
            Self::KeyInUse { .. } => "key_in_use",
            Self::InvalidField { .. } => "invalid_field",
            Self::PolicyViolation { .. } => "policy_violation",
            Self::Forbidden { .. } => "forbidden",
            Self::IllegalTransition { .. } => "illegal_transition",
            Self::TooEarly { .. } => "too_early",
            Self::TooManyOpen { .. } => "too_many_open",
            Self::IdempotencyMismatch { .. } => "idempotency_mismatch",
            Self::UnknownToken { .. } => "unknown_token",
            Self::StaleReport { .. } => "stale_report",
            Self::UnknownSeat { .. } => "unknown_seat",
            Self::SeatExists { .. } => "seat_exists",
            Self::SeatKeyInUse { .. } => "key_in_use",
            Self::NoCommittee => "no_committee",
            Self::UnknownClosing { .. } => "unknown_closing",
            Self::BadCertificate { .. } => "bad_certificate",
            Self::CertificateMismatch { .. } => "certificate_mismatch",
            Self::NotCertified { .. } => "not_certified",
        }
    }

    /// What the refusal says about the request.
    #[must_use]
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::UnknownProposal { .. }
            | Self::UnknownAgent { .. }
            | Self::UnknownToken { .. }
            | Self::UnknownSeat { .. }
            | Self::UnknownClosing { .. } => RefusalKind::NotFound,
            Self::BadSignature { .. } | Self::ExpiredStatement { .. } => {
                RefusalKind::Unauthenticated
            }
            Self::UnknownVoter { .. } | Self::NotEligible { .. } | Self::Forbidden { .. } => {
                RefusalKind::Forbidden
            }
            Self::Replayed { .. }
            | Self::AlreadyVoted { .. }
            | Self::NotOpen { .. }
            | Self::VotingClosed { .. }
            | Self::AgentExists { .. }
            | Self::AgentRemoved { .. }
            | Self::KeyInUse { .. }
            | Self::IllegalTransition { .. }
            | Self::TooEarly { .. }
            | Self::TooManyOpen { .. }
            | Self::StaleReport { .. }
            | Self::SeatExists { .. }
            | Self::SeatKeyInUse { .. }
            | Self::NoCommittee
            | Self::CertificateMismatch { .. }
            | Self::NotCertified { .. } => RefusalKind::Conflict,
            Self::StatementMismatch { .. }
            | Self::InvalidChoice { .. }
            | Self::InvalidConfidence { .. }
            | Self::InvalidField { .. }
            | Self::PolicyViolation { .. }
            | Self::IdempotencyMismatch { .. }
            | Self::BadCertificate { .. } => RefusalKind::Unprocessable,
        }
    }
}
