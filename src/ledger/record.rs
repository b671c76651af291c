//! The records of the tables, their keys and their encoding.

use aegis_crypto::claims::AgentType;
use aegis_crypto::{Digest, Jwk, Kid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, ArchiveError, Change, Table};
use crate::codec;
use crate::command::{Principal, Report};
use crate::epochs::{CommitteeChange, CommitteeRecord};
use crate::ids::{AgentId, AgentNo, LedgerTime, LogIndex, Ordinal, ProposalNo, TokenNo, VoteId};
use crate::number::Ppb;
use crate::policy::{Category, Method, Policy};

/// A record: where it lives and how it is encoded.
pub trait Record: Serialize + DeserializeOwned {
    /// The table it lives in.
    const TABLE: Table;
    /// What it is called in errors.
    const NAME: &'static str;

    /// Reads the record under a key.
    ///
    /// # Errors
    /// An unreadable disk or undecodable bytes; both stop the node.
    fn read(archive: &dyn Archive, key: &[u8]) -> Result<Option<Self>, ArchiveError> {
        archive
            .get(Self::TABLE, key)?
            .map(|bytes| Self::decode(&bytes))
            .transpose()
    }

    /// Decodes a value of the table.
    ///
    /// # Errors
    /// Bytes that no version of this code wrote.
    fn decode(bytes: &[u8]) -> Result<Self, ArchiveError> {
        codec::decode_record(bytes, Self::NAME).map_err(|error| ArchiveError {
            reason: error.to_string(),
        })
    }

    /// The change that stores the record under a key.
    fn put(&self, key: Vec<u8>) -> Change {
        Change {
            table: Self::TABLE,
            key,
            value: Some(codec::encode_record(self)),
        }
    }
}

/// Keys. Numbers are big-endian so that byte order is numeric order; texts that are not
/// last are length-prefixed.
pub mod key {
    use super::{AgentId, Kid, LedgerTime, ProposalNo, TokenNo, VoteId};
    use crate::command::Principal;

    /// A number.
    #[must_use]
    pub fn number(number: u64) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    /// A proposal.
    #[must_use]
    pub fn proposal(proposal: ProposalNo) -> Vec<u8> {
        number(proposal.0)
    }

    /// A token.
    #[must_use]
    pub fn token(token: TokenNo) -> Vec<u8> {
        number(token.0)
    }

    /// An agent.
    #[must_use]
    pub fn agent(agent: &AgentId) -> Vec<u8> {
        agent.as_str().as_bytes().to_vec()
    }

    /// A ballot.
    #[must_use]
    pub fn vote(vote: VoteId) -> Vec<u8> {
        [vote.proposal.0.to_be_bytes(), vote.number.to_be_bytes()].concat()
    }

    fn prefixed(text: &str) -> Vec<u8> {
        let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
        [&len.to_be_bytes()[..], text.as_bytes()].concat()
    }

    /// The prefix of a voter's ballots.
    #[must_use]
    pub fn voter(voter: &AgentId) -> Vec<u8> {
        prefixed(voter.as_str())
    }

    /// A voter's ballot.
    #[must_use]
    pub fn voter_vote(voter: &AgentId, vote: VoteId) -> Vec<u8> {
        [
            voter_proposal(voter, vote.proposal),
            vote.number.to_be_bytes().to_vec(),
        ]
        .concat()
    }

    /// The prefix of a voter's ballots on one proposal.
    #[must_use]
    pub fn voter_proposal(voter: &AgentId, proposal: ProposalNo) -> Vec<u8> {
        [prefixed(voter.as_str()), proposal.0.to_be_bytes().to_vec()].concat()
    }

    /// A keyed request of a principal.
    #[must_use]
    pub fn request(principal: &Principal, key: &str) -> Vec<u8> {
        [prefixed(&principal.to_string()), key.as_bytes().to_vec()].concat()
    }

    /// A keyed request's expiry.
    #[must_use]
    pub fn request_expiry(expires: LedgerTime, request: &[u8]) -> Vec<u8> {
        [&expires.0.to_be_bytes()[..], request].concat()
    }

    /// Evidence of one kind against an agent on a proposal, with its number.
    #[must_use]
    pub fn evidence(proposal: ProposalNo, agent: &AgentId, number: u32) -> Vec<u8> {
        [
            &proposal.0.to_be_bytes()[..],
            &prefixed(agent.as_str()),
            &number.to_be_bytes()[..],
        ]
        .concat()
    }

    /// Whom the evidence under a key is against.
    pub(crate) fn evidence_agent(found: &[u8]) -> Option<&str> {
        let (_, agent) = found.split_at_checked(8 + 2)?;
        let (agent, _) = agent.split_last_chunk::<4>()?;
        str::from_utf8(agent).ok()
    }

    /// A key that an agent had before.
    #[must_use]
    pub fn retired_key(kid: &Kid) -> Vec<u8> {
        kid.as_str().as_bytes().to_vec()
    }

    /// The complete subtree number `place` of a level of the tree over the audit entries.
    #[must_use]
    pub fn subtree(level: u8, place: u64) -> Vec<u8> {
        [&[level][..], &place.to_be_bytes()].concat()
    }

    /// The key just past every key with this prefix, or `None` at the end of the table.
    #[must_use]
    pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                return Some(end);
            }
        }
        None
    }
}

/// Where a proposal is in its life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Submitted, not open.
    Draft,
    /// Up for comment, not open.
    Review,
    /// Ballots are taken.
    Voting,
    /// Closed and approved.
    Approved,
    /// Closed and rejected.
    Rejected,
    /// Closed without a quorum.
    NoQuorum,
    /// A draft whose deadline passed.
    Expired,
    /// Withdrawn.
    Cancelled,
    /// Approved, and its effect acknowledged.
    Executed,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 9] = [
        Self::Draft,
        Self::Review,
        Self::Voting,
        Self::Approved,
        Self::Rejected,
        Self::NoQuorum,
        Self::Expired,
        Self::Cancelled,
        Self::Executed,
    ];

    /// The name in documents and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Review => "review",
            Self::Voting => "voting",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::NoQuorum => "no_quorum",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Executed => "executed",
        }
    }

    /// Whether the proposal is not closed yet.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Draft | Self::Review | Self::Voting)
    }
}

/// How a proposal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The quorum and the threshold were reached.
    Approved,
    /// The quorum was reached, the threshold was not.
    Rejected,
    /// The quorum was not reached.
    NoQuorum,
    /// The deadline passed before voting opened.
    Expired,
    /// Withdrawn.
    Cancelled,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [
        Self::Approved,
        Self::Rejected,
        Self::NoQuorum,
        Self::Expired,
        Self::Cancelled,
    ];

    /// The status of a proposal that ended so.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Approved => Status::Approved,
            Self::Rejected => Status::Rejected,
            Self::NoQuorum => Status::NoQuorum,
            Self::Expired => Status::Expired,
            Self::Cancelled => Status::Cancelled,
        }
    }

    /// The name in documents and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.status().as_str()
    }
}

/// What a ballot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// In favour.
    For,
    /// Opposed.
    Against,
    /// Present, taking no side.
    Abstain,
}

impl Choice {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::For, Self::Against, Self::Abstain];

    /// Parses `for`, `against`, `abstain` and the synonyms `approve` and `reject`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "for" | "approve" => Some(Self::For),
            "against" | "reject" => Some(Self::Against),
            "abstain" => Some(Self::Abstain),
            _ => None,
        }
    }

    /// The name in documents and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::For => "for",
            Self::Against => "against",
            Self::Abstain => "abstain",
        }
    }
}

/// The ledger's counters and the head of its audit chain: the record under the empty key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreRecord {
    /// The incarnation: 0 at first, then what the newest restore from a snapshot drew.
    pub incarnation: u64,
    /// The greatest ledger time applied.
    pub time: LedgerTime,
    /// Agents ever registered.
    pub agents: u32,
    /// Proposals ever submitted.
    pub proposals: u64,
    /// Tokens ever issued.
    pub tokens: u64,
    /// Closings so far; the next ordinal is one more.
    pub closings: u64,
    /// Ballots ever admitted.
    pub votes: u64,
    /// Audit entries so far.
    pub audit_entries: u64,
    /// Hash of the newest audit entry; zero before the first.
    pub audit_head: Digest,
    /// Events so far.
    pub events: u64,
    /// How many proposals stand in each status, in the order of [`Status::ALL`].
    pub statuses: [u64; Status::ALL.len()],
    /// Closings that have a certificate.
    pub certified: u64,
}

impl Record for CoreRecord {
    const TABLE: Table = Table::Core;
    const NAME: &'static str = "core record";
}

/// Whether an agent takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may vote and propose.
    Active,
    /// It takes no part any more.
    Removed,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Its number.
    pub no: AgentNo,
    /// Its id.
    pub id: AgentId,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub agent_type: AgentType,
    /// Its weight in whole units.
    pub weight: u32,
    /// The key it signs with.
    pub key: Jwk,
    /// The key's thumbprint.
    pub kid: Kid,
    /// The thumbprints of the keys it had before, at most
    /// [`RETIRED_KEYS_MAX`](crate::RETIRED_KEYS_MAX).
    pub retired: Vec<Kid>,
    /// The registrar's statement, verified.
    pub attestation: Option<String>,
    /// The agent's own statement, verified.
    pub proof: Option<String>,
    /// Whether it takes part.
    pub standing: Standing,
    /// When it was registered.
    pub registered_at: LedgerTime,
    /// The last report on it.
    pub report: Option<Report>,
}

impl AgentRecord {
    /// Whether the registrar stands behind it.
    #[must_use]
    pub const fn is_attested(&self) -> bool {
        self.attestation.is_some()
    }
}

impl Record for AgentRecord {
    const TABLE: Table = Table::Agents;
    const NAME: &'static str = "agent record";
}

/// What was frozen when voting opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// When voting opened.
    pub opened_at: LedgerTime,
    /// When voting ends.
    pub deadline: LedgerTime,
    /// The policy's version and all its rules.
    pub policy: Policy,
    /// The method, the policy's unless the author chose one.
    pub method: Method,
    /// Electors, by heads.
    pub electorate_size: u64,
    /// The power of all electors.
    pub power_total: u128,
    /// RFC 6962 root over the electors and their powers.
    pub electorate_root: Digest,
    /// What every ballot of this proposal names.
    pub voting_digest: Digest,
    /// Heads that make a quorum.
    pub quorum_required: u64,
    /// The version of the code that counts: [`TALLY_VERSION`](crate::TALLY_VERSION).
    pub tally_version: u32,
}

/// How voting ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The closing's ordinal.
    pub ordinal: Ordinal,
    /// When.
    pub at: LedgerTime,
    /// How.
    pub outcome: Outcome,
    /// The log index of the entry that closed it.
    pub index: LogIndex,
    /// When its certificate was recorded.
    pub certified_at: Option<LedgerTime>,
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalRecord {
    /// Its number.
    pub no: ProposalNo,
    /// Who submitted it.
    pub author: Principal,
    /// When.
    pub created_at: LedgerTime,
    /// SHA-256 of the document's exact bytes.
    pub digest: Digest,
    /// The document's title.
    pub title: String,
    /// The document's type.
    pub kind: ProposalType,
    /// The category that chose the policy.
    pub category: Category,
    /// The deadline that the document names, if it does.
    pub asked_deadline: Option<LedgerTime>,
    /// Where it is.
    pub status: Status,
    /// The round that takes ballots, from 1.
    pub round: u32,
    /// The rules, from the opening on.
    pub frozen: Option<Frozen>,
    /// The first ledger time seen past the deadline; ballots signed in time are admitted
    /// for [`INCLUSION_GRACE_MS`](crate::INCLUSION_GRACE_MS) more.
    pub closing_since: Option<LedgerTime>,
    /// The end, once there is one.
    pub closed: Option<Closed>,
    /// When its effect was acknowledged.
    pub executed_at: Option<LedgerTime>,
    /// The change of the committee that it asks for.
    pub committee_change: Option<CommitteeChange>,
}

impl ProposalRecord {
    /// Whether a certificate stands behind its outcome.
    #[must_use]
    pub fn is_certified(&self) -> bool {
        self.closed
            .as_ref()
            .is_some_and(|closed| closed.certified_at.is_some())
    }
}

impl Record for ProposalRecord {
    const TABLE: Table = Table::Proposals;
    const NAME: &'static str = "proposal record";
}

/// What a proposal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalType {
    /// Sets parameters.
    ConfigurationChange,
    /// Installs a policy.
    PolicyUpdate,
    /// Enables or disables a module.
    ModuleManagement,
    /// Acts on an agent's standing at once.
    EmergencyAction,
    /// Anything else that people decide.
    Decision,
}

impl ProposalType {
    /// Every type.
    pub const ALL: [Self; 5] = [
        Self::ConfigurationChange,
        Self::PolicyUpdate,
        Self::ModuleManagement,
        Self::EmergencyAction,
        Self::Decision,
    ];

    /// The name in documents and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigurationChange => "configuration_change",
            Self::PolicyUpdate => "policy_update",
            Self::ModuleManagement => "module_management",
            Self::EmergencyAction => "emergency_action",
            Self::Decision => "decision",
        }
    }
}

/// One elector of a frozen electorate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elector {
    /// The agent.
    pub agent: AgentNo,
    /// Its id.
    pub id: AgentId,
    /// Its voting power.
    pub power: Ppb,
}

/// A frozen electorate, in the order of agent ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectorateRecord {
    /// The electors.
    pub electors: Vec<Elector>,
}

impl Record for ElectorateRecord {
    const TABLE: Table = Table::Electorates;
    const NAME: &'static str = "electorate record";
}

/// The running count of a proposal's ballots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// By heads, in the order of [`Choice::ALL`].
    pub heads: [u64; 3],
    /// By power, in the order of [`Choice::ALL`].
    pub power: [u128; 3],
}

impl Record for Tally {
    const TABLE: Table = Table::Tallies;
    const NAME: &'static str = "tally";
}

/// An admitted ballot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BallotRecord {
    /// Whose it is.
    pub voter: AgentId,
    /// The round it counts in.
    pub round: u32,
    /// What it says.
    pub choice: Choice,
    /// How sure the voter is.
    pub confidence: Ppb,
    /// The power it was counted with.
    pub power: Ppb,
    /// The statement's own id.
    pub jti: String,
    /// When it was admitted.
    pub time: LedgerTime,
    /// The log index of the entry that carried it.
    pub index: LogIndex,
    /// SHA-256 of the justification, where there is one.
    pub justification: Option<Digest>,
    /// The exact bytes that were signed, with the signature.
    pub jws: String,
}

impl Record for BallotRecord {
    const TABLE: Table = Table::Ballots;
    const NAME: &'static str = "ballot record";
}

/// A closing, from which the [statement](crate::Statement) that the committee is asked to
/// agree on is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosingRecord {
    /// The proposal.
    pub proposal: ProposalNo,
    /// The round that closed.
    pub round: u32,
    /// How.
    pub outcome: Outcome,
    /// When.
    pub at: LedgerTime,
    /// The log index of the entry that closed it.
    pub index: LogIndex,
    /// The final count.
    pub tally: Tally,
    /// RFC 6962 root over the admitted ballots: leaf i is the exact JWS of ballot i + 1.
    pub ballots_root: Digest,
    /// How many ballots were admitted.
    pub ballots: u64,
    /// Digest over the evidence kept on the proposal.
    pub evidence: Digest,
    /// The closing whose outcome this one replaces.
    pub supersedes: Option<Ordinal>,
    /// The sequence number of the closing's own audit entry.
    pub audit_entry: u64,
}

impl Record for ClosingRecord {
    const TABLE: Table = Table::Closings;
    const NAME: &'static str = "closing record";
}

/// A closing that waits for its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncertifiedRecord {
    /// The proposal that closed.
    pub proposal: ProposalNo,
    /// The change of the committee that it decided.
    pub change: Option<CommitteeChange>,
    /// Root of the transparency tree with the closing's audit entry as its last.
    pub tree_root: Digest,
}

impl Record for UncertifiedRecord {
    const TABLE: Table = Table::Uncertified;
    const NAME: &'static str = "uncertified closing";
}

/// A key that an agent had before, with what bound it to the agent: ballots that were
/// signed with it stand, and are verified with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredKeyRecord {
    /// The agent.
    pub agent: AgentId,
    /// The key.
    pub key: Jwk,
    /// The registrar's statement over it, verified.
    pub attestation: Option<String>,
    /// The key's own statement, verified.
    pub proof: Option<String>,
    /// When it was replaced.
    pub retired_at: LedgerTime,
}

impl Record for RetiredKeyRecord {
    const TABLE: Table = Table::RetiredKeys;
    const NAME: &'static str = "retired key";
}

impl Record for CommitteeRecord {
    const TABLE: Table = Table::Committees;
    const NAME: &'static str = "committee record";
}

/// A bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Whose it is.
    pub agent: AgentId,
    /// SHA-256 of the secret.
    pub secret: Digest,
    /// When it was issued.
    pub issued_at: LedgerTime,
    /// When it was ended.
    pub revoked_at: Option<LedgerTime>,
}

impl Record for TokenRecord {
    const TABLE: Table = Table::Tokens;
    const NAME: &'static str = "token record";
}

/// The first answer to a keyed request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The digest of the request's body.
    pub body: Digest,
    /// The answer.
    pub answer: crate::apply::Answer,
}

impl Record for RequestRecord {
    const TABLE: Table = Table::Requests;
    const NAME: &'static str = "request record";
}

/// Proof that an agent misbehaved, which anyone can check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EvidenceRecord {
    /// Two ballots of one round, signed by one agent, with different choices.
    Equivocation {
        /// The round.
        round: u32,
        /// The ballot that counts.
        counted: VoteId,
        /// The other statement.
        other: String,
        /// When the other arrived.
        time: LedgerTime,
    },
}

impl Record for EvidenceRecord {
    const TABLE: Table = Table::Evidence;
    const NAME: &'static str = "evidence record";
}

impl Record for crate::event::Event {
    const TABLE: Table = Table::Events;
    const NAME: &'static str = "event";
}

impl Record for crate::audit::AuditEntry {
    const TABLE: Table = Table::Audit;
    const NAME: &'static str = "audit entry";
}
