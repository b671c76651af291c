//! The API's answers as far as the commands show them.
//!
//! Members that are not listed are passed over, so that this client reads the answers of
//! newer nodes as well.

use std::collections::BTreeMap;

use aegis_crypto::{Digest, Jwk, NumberText};
use jiff::Timestamp;
use serde::Deserialize;

use crate::console::plain;
use crate::failure::{Exit, Failure};

/// Votes by answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Breakdown {
    pub(crate) r#for: u64,
    pub(crate) against: u64,
    pub(crate) abstain: u64,
}

/// Votes by answer and in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct VoteCounts {
    pub(crate) r#for: u64,
    pub(crate) against: u64,
    pub(crate) abstain: u64,
    pub(crate) total: u64,
}

/// A proposal.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Proposal {
    pub(crate) proposal_id: String,
    pub(crate) title: String,
    pub(crate) status: String,
    pub(crate) author: String,
    pub(crate) electorate_size: Option<u64>,
    pub(crate) voting_opened_at: Option<Timestamp>,
    pub(crate) closed_at: Option<Timestamp>,
    pub(crate) votes: VoteCounts,
    pub(crate) outcome: Option<String>,
}

/// A part of the list of proposals.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Proposals {
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) next_cursor: Option<String>,
}

/// A submitted proposal.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ProposalReceipt {
    pub(crate) proposal_id: String,
    pub(crate) status: String,
    pub(crate) digest: Digest,
}

/// A recorded ballot.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct VoteReceipt {
    pub(crate) vote_id: String,
    pub(crate) status: String,
}

/// A ballot in the vote log.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Vote {
    pub(crate) voter: String,
}

/// A part of a vote log.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Votes {
    pub(crate) votes: Vec<Vote>,
    pub(crate) next_cursor: Option<String>,
}

/// The count of a proposal.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Count {
    pub(crate) total_votes: u64,
    pub(crate) quorum_required: u64,
    pub(crate) breakdown: Breakdown,
    pub(crate) status: String,
}

/// The count of a proposal with the rules that it was made by.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Results {
    pub(crate) proposal_id: String,
    pub(crate) results: Count,
    pub(crate) participation: NumberText,
    pub(crate) threshold: NumberText,
    pub(crate) method: String,
    pub(crate) electorate_size: u64,
    pub(crate) certified: bool,
}

/// An agent.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Agent {
    pub(crate) agent_id: String,
    pub(crate) name: String,
    pub(crate) r#type: String,
    pub(crate) weight: u32,
    pub(crate) attested: bool,
    pub(crate) status: String,
}

/// A part of the list of agents.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Agents {
    pub(crate) agents: Vec<Agent>,
    pub(crate) next_cursor: Option<String>,
}

/// A registered agent.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AgentReceipt {
    pub(crate) agent_id: String,
    pub(crate) kid: String,
    pub(crate) attested: bool,
}

/// An issued token.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TokenReceipt {
    pub(crate) token_id: String,
    pub(crate) token: String,
}

/// What came of one item of a batch.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BatchResult {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) detail: String,
}

/// What came of a batch, in order.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BatchResults {
    pub(crate) results: Vec<BatchResult>,
}

impl BatchResults {
    /// Fails with the first refusal there is.
    pub(crate) fn all_succeeded(&self, what: &str) -> Result<(), Failure> {
        match self.results.iter().find(|result| result.status >= 300) {
            None => Ok(()),
            Some(refused) => Err(Failure::say(
                Exit::Failed,
                format_args!(
                    "cannot {what}: {} [{}]",
                    plain(&refused.detail),
                    plain(&refused.code)
                ),
            )),
        }
    }
}

/// The verdict on an audit chain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct AuditVerdict {
    pub(crate) valid: bool,
    pub(crate) entries: u64,
    pub(crate) head: Digest,
    pub(crate) fault: Option<String>,
}

/// Proof that an audit entry is in the transparency tree.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct InclusionProof {
    pub(crate) size: u64,
    pub(crate) root: Digest,
    pub(crate) proof: Vec<Digest>,
}

/// Proof that the transparency tree only grew.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConsistencyProof {
    pub(crate) to: u64,
    pub(crate) from_root: Digest,
    pub(crate) to_root: Digest,
    pub(crate) proof: Vec<Digest>,
}

/// A committee, and where the seat of the node that answers stands.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Committee {
    pub(crate) epoch: u64,
    pub(crate) since: u64,
    pub(crate) n: u8,
    pub(crate) tolerates: u8,
    pub(crate) quorum: u8,
    pub(crate) warning: Option<String>,
    pub(crate) members: Vec<Seat>,
    pub(crate) seat: Option<u8>,
    pub(crate) view: Option<u64>,
    pub(crate) primary: Option<u8>,
    pub(crate) changing_view: Option<bool>,
    pub(crate) watermarks: Option<Watermarks>,
    pub(crate) certified_through: Option<u64>,
    pub(crate) stable_checkpoint: Option<u64>,
}

/// A validator's seat.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Seat {
    pub(crate) seat: u8,
    pub(crate) name: String,
    pub(crate) public_key: Jwk,
    pub(crate) kid: String,
    pub(crate) committed: Option<u64>,
}

/// Between which closings a validator agrees.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Watermarks {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

/// What a node has kept of validators that contradicted themselves.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CommitteeEvidence {
    pub(crate) evidence: Vec<Contradiction>,
    pub(crate) next_cursor: Option<String>,
}

/// Two messages of one seat, of which an honest one signs at most one.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Contradiction {
    pub(crate) id: Digest,
    pub(crate) seat: u8,
    pub(crate) epoch: u64,
    pub(crate) kind: String,
    pub(crate) view: Option<u64>,
    pub(crate) sequence: u64,
    pub(crate) encoded: String,
}

/// The committee in a few words.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CommitteeSummary {
    pub(crate) epoch: u64,
    pub(crate) view: Option<u64>,
    pub(crate) primary: Option<u8>,
    pub(crate) certified: u64,
    pub(crate) uncertified: u64,
}

/// A node and the cluster as it sees it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) cluster_id: String,
    pub(crate) cluster_name: String,
    pub(crate) incarnation: u64,
    pub(crate) node_id: u64,
    pub(crate) role: String,
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) last_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) proposals: BTreeMap<String, u64>,
    pub(crate) committee: Option<CommitteeSummary>,
    pub(crate) alarms: Vec<Alarm>,
    pub(crate) version: String,
}

/// A member of the cluster.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) state: String,
    pub(crate) api_address: String,
    pub(crate) lag: Option<u64>,
}

/// Something that an operator should know of.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Alarm {
    pub(crate) code: String,
    pub(crate) detail: String,
}
