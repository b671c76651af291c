//! What enters the ledger: one entry per log position.
//!
//! Encodings are postcard inside enums that are only appended to. A command is idempotent:
//! a ballot by its signed bytes, everything else by its request key, so the shell may
//! submit again whatever it does not know the fate of.

use std::fmt;

use aegis_crypto::claims::AgentType;
use aegis_crypto::{Digest, Hasher, Jwk};
use serde::{Deserialize, Serialize};

use crate::codec::DecodeError;
use crate::ids::{AgentId, Ordinal, ProposalNo, TokenNo};

/// On whose behalf a command is made. The edge has authenticated it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Principal {
    /// The cluster itself: ticks.
    System,
    /// The bearer of the administrator's token.
    Administrator,
    /// An agent, by its token or its signature.
    Agent(AgentId),
    /// Voters, each by the signature on its ballot.
    Voters,
}

impl Principal {
    /// The texts of the principals that are no agents, which no agent may have as its id:
    /// in the audit chain and among request keys a principal stands by its text.
    pub const RESERVED: [&'static str; 3] = [SYSTEM, ADMINISTRATOR, VOTERS];
}

const SYSTEM: &str = "system";
const ADMINISTRATOR: &str = "administrator";
const VOTERS: &str = "voters";

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str(SYSTEM),
            Self::Administrator => f.write_str(ADMINISTRATOR),
            Self::Agent(id) => f.write_str(id.as_str()),
            Self::Voters => f.write_str(VOTERS),
        }
    }
}

/// Names a request, so that repeating it repeats the first answer for 24 hours of ledger time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestKey {
    /// The client's `Idempotency-Key`, or one drawn by the node that took the request; at
    /// most [`REQUEST_KEY_BYTES_MAX`](crate::REQUEST_KEY_BYTES_MAX).
    pub key: String,
    /// The digest of the request's body: the same key with another body is refused.
    pub body: Digest,
}

/// A command with its context, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// On whose behalf.
    pub principal: Principal,
    /// The request's name; ballots need none, their signature is one.
    pub request: Option<RequestKey>,
    /// What is asked.
    pub command: Command,
}

#[derive(Serialize, Deserialize)]
enum VersionedEntry {
    V1(Entry),
}

impl Entry {
    /// The bytes that go into the log.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        postcard::to_allocvec(&VersionedEntry::V1(self))
            .expect("an entry has only encodable fields")
    }

    /// Reads what [`Entry::encode`] wrote; trailing bytes are refused.
    ///
    /// # Errors
    /// Bytes that no version of this code wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let VersionedEntry::V1(entry) = crate::codec::decode(bytes, "entry")?;
        Ok(entry)
    }
}

/// The most agents or ballots in one command.
pub const BATCH_MAX: usize = 256;

/// What is asked of the ledger. Appended to, never reordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Nothing but the passing of time: closes what is due.
    Tick,
    /// Registers up to [`BATCH_MAX`] agents; each succeeds or fails alone.
    RegisterAgents(Vec<Registration>),
    /// Ends an agent's part in everything that is open or comes.
    RemoveAgent {
        /// The agent.
        agent: AgentId,
    },
    /// Replaces an agent's key; ballots signed with the old one stand.
    ReplaceKey {
        /// The agent.
        agent: AgentId,
        /// The new key.
        key: Jwk,
        /// The registrar's statement over the new key; without it the agent is no longer attested.
        attestation: Option<String>,
        /// The new key's own statement.
        proof: Option<String>,
    },
    /// An oracle's report on an agent.
    Report {
        /// The agent reported on.
        agent: AgentId,
        /// The figures.
        report: Report,
    },
    /// Issues a bearer token to an agent.
    IssueToken {
        /// The agent.
        agent: AgentId,
        /// SHA-256 of the token's secret; the secret itself is never stored.
        secret: Digest,
    },
    /// Ends a bearer token.
    RevokeToken {
        /// The token.
        token: TokenNo,
    },
    /// Submits a proposal.
    Propose {
        /// The canonical document, whose exact bytes are kept and digested.
        document: String,
        /// The author's statement over the document's digest, where there is one.
        signature: Option<String>,
    },
    /// Takes a step of a proposal's life cycle.
    Step {
        /// The proposal.
        proposal: ProposalNo,
        /// The step.
        step: Step,
    },
    /// Casts up to [`BATCH_MAX`] ballots; each succeeds or fails alone.
    Cast(Vec<Ballot>),
    /// Records that the cluster was restored from a snapshot.
    Restored {
        /// The incarnation that begins.
        incarnation: u64,
        /// The audit head of the snapshot.
        head: Digest,
    },
    /// Records that the committee has certified a closing. Idempotent by itself.
    RecordCertificate {
        /// The closing.
        ordinal: Ordinal,
        /// The certificate: the exact DSSE envelope.
        envelope: String,
    },
}

impl Command {
    /// The kind that audit entries name.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tick => "tick",
            Self::RegisterAgents(_) => "register_agents",
            Self::RemoveAgent { .. } => "remove_agent",
            Self::ReplaceKey { .. } => "replace_key",
            Self::Report { .. } => "report",
            Self::IssueToken { .. } => "issue_token",
            Self::RevokeToken { .. } => "revoke_token",
            Self::Propose { .. } => "propose",
            Self::Step { step, .. } => step.kind(),
            Self::Cast(_) => "cast",
            Self::Restored { .. } => "restored",
            Self::RecordCertificate { .. } => "record_certificate",
        }
    }
}

impl Command {
    /// The digest that the audit chain keeps. It covers the whole command but for texts
    /// that a person can have erased, which the statements in it name by digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let hasher = Hasher::tagged("aegis/command/1").bytes(self.kind().as_bytes());
        match self {
            Self::Cast(ballots) => ballots
                .iter()
                .fold(hasher, |hasher, ballot| hasher.bytes(ballot.jws.as_bytes()))
                .finish(),
            other => {
                let bytes =
                    postcard::to_allocvec(other).expect("a command has only encodable fields");
                hasher.bytes(&bytes).finish()
            }
        }
    }
}

/// A step that an author or the administrator takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A draft is put up for comment.
    Review,
    /// Voting opens and the rules freeze.
    Open,
    /// A proposal that is not decided is withdrawn.
    Cancel,
    /// Voting is closed and counted now, where the policy allows it.
    Tally,
    /// The outside effect of an approved proposal is acknowledged.
    Execute,
}

impl Step {
    /// The name in audit entries, routes and signed orders.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Open => "open",
            Self::Cancel => "cancel",
            Self::Tally => "tally",
            Self::Execute => "execute",
        }
    }

    /// The step as a participle, for refusals.
    #[must_use]
    pub const fn participle(self) -> &'static str {
        match self {
            Self::Review => "put up for review",
            Self::Open => "opened",
            Self::Cancel => "cancelled",
            Self::Tally => "tallied",
            Self::Execute => "executed",
        }
    }
}

/// One agent to register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The id; the ledger names an agent `agent_<number>` if there is none.
    pub id: Option<AgentId>,
    /// What people call it: 1 to 200 characters.
    pub name: String,
    /// What it is.
    pub agent_type: AgentType,
    /// Its key.
    pub key: Jwk,
    /// Its weight, in whole units, at most 1,000,000.
    pub weight: u32,
    /// The registrar's statement (compact JWS).
    pub attestation: Option<String>,
    /// The agent's own statement over the same claims (compact JWS).
    pub proof: Option<String>,
}

/// An oracle's figures, each from 0 to 1 in parts per billion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When the oracle measured, Unix milliseconds; rising for each agent, and at most
    /// [`LEEWAY_S`](crate::LEEWAY_S) ahead of ledger time.
    pub measured_at: u64,
    /// Integrated information.
    pub phi_ppb: u64,
    /// Coherence.
    pub coherence_ppb: u64,
    /// Stability.
    pub stability_ppb: u64,
    /// Divergence.
    pub divergence_ppb: u64,
    /// Consciousness level.
    pub consciousness_level_ppb: u64,
}

/// One ballot: the voter's statement and the text it names by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The exact compact JWS, whose signature the edge has verified; where there is a
    /// committee, apply verifies it as well.
    pub jws: String,
    /// The justification, whose SHA-256 the statement names.
    pub justification: Option<String>,
}
