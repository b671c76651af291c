//! The bundle: one JSON document from which anyone recomputes a decision, offline and with
//! no word of a server taken on trust.
//!
//! Texts that something is signed or hashed over stand as strings, byte for byte. Every
//! number is a string too, an unsigned integer in decimal without leading zeros, so that no
//! reader rounds one. Digests are SHA-256 in lowercase hexadecimal, keys are JWKs (RFC 8037).
//! A member that is absent is left out, never `null`; there are no others than these.
//!
//! | member | what |
//! | --- | --- |
//! | `version` | `1` |
//! | `genesis` | the exact text of the genesis document, whose SHA-256 is the cluster id |
//! | `certificate` | the exact envelope of the decision's certificate |
//! | `document` | the exact text of the proposal's document |
//! | `audit_entry` | the closing's audit entry, an object of `seq`, `index`, `time_ms`, `principal`, `kind`, `payload`, `outcome`, `previous` and `hash` |
//! | `checkpoint` | an object of `note`, the exact text of a cosigned checkpoint that covers the closing, and `proof`, the RFC 6962 inclusion proof of the audit entry in its tree, the leaf's sibling first; absent if there is none yet |
//! | `checkpoint_missing` | why there is no `checkpoint`, for people; absent where there is one |
//! | `terms` | what the opening of voting froze; absent if voting never opened |
//! | `committee_changes` | the exact envelopes of the certificates that changed the committee: the first names the committee of epoch 1, the next that of epoch 2, and so on as far as the certificate and the checkpoint need |
//! | `electorate` | the electors in the order of their ids, each an object of `id` and `power_ppb`; empty if voting never opened |
//! | `ballots` | the ballots in the order of admission, each an object of `jws`, the exact statement, `key`, the key that it names, and `justification`, the text that it names by digest; that is absent unless it was asked for, and if it was erased |
//! | `evidence` | what was kept of voters that contradicted themselves, each an object of `kind` (`equivocation`), `agent`, `round`, `counted`, the number of the ballot that counts, from 1, `other`, the exact statement that contradicts it, `key`, the key that this one names, and `time_ms`, when it came |
//!
//! A `key` is an object of `public_key`, `attestation`, the registrar's statement that binds
//! the key to its agent, and `proof`, the same claims signed by the key itself.
//!
//! `terms` has `round`, `opened_at_ms`, `deadline_ms`, `method`, `electorate_size`,
//! `power_total_ppb`, `electorate_root`, `voting_digest`, `quorum_required`, `tally_version`
//! and `policy`, an object of `name`, `version`, `threshold`, `method`, `quorum_minimum`,
//! `quorum_heads_min`, `abstain_counts_quorum`, `abstain_in_threshold`, `tie`,
//! `voting_period_s`, `awareness_floor_ppb`, `early_close`, `min_participants`,
//! `appeal_window_s`, `implementation_delay_s` and `open_proposals_per_author`. `threshold`
//! and `quorum_minimum` are ratios: `0.501`, or `2/3` where nine decimals are not exact.
//!
//! # Verification, step by step
//! Whatever differs from a step refuses the bundle as a whole.
//! 1. SHA-256 of `genesis` is the cluster id, which is known from elsewhere: it is the one
//!    thing to trust. The document names the registrar's key and the seats of epoch 0.
//! 2. Walk the committees: each envelope of `committee_changes` is a
//!    [certificate](aegis_crypto::certificate) of an epoch that is known by then, and its
//!    [statement](aegis_ledger::Statement) names the committee of the next epoch.
//! 3. `certificate` is a certificate of its epoch's committee. Its statement names the
//!    cluster, and everything below is compared with it.
//! 4. SHA-256 of `document` is the statement's `proposal_digest`.
//! 5. For each ballot: `attestation` is signed by the registrar over this cluster, the
//!    ballot's voter and `public_key`; `proof` is over the same claims, signed by
//!    `public_key`; `jws` is signed by `public_key`, and names this cluster, proposal, round
//!    and the terms' `voting_digest`. The voter is in `electorate`, and has one ballot only.
//! 6. [Recount](aegis_ledger::Recount): the terms follow from each other and from the
//!    electorate; root and count of the ballots, full result and outcome are the statement's.
//! 7. The digest over `evidence`, as the [statement](aegis_ledger::Statement)'s form has it,
//!    is the statement's `evidence`. Each `other` is verified like a ballot.
//! 8. The hash of `audit_entry`, computed from its other members, is its `hash` and the
//!    statement's `audit_hash`; its `seq` is the statement's `audit_entry`.
//! 9. `checkpoint.note` has the origin `aegis/<cluster id>` and is signed by a quorum of the
//!    committee of the epoch that its line `epoch <number>` names, seat by seat under the
//!    names `aegis/<cluster id>/<seat's name>`. Under its root `proof` proves the entry's
//!    hash as leaf `seq`.
//!
//! Of an outcome `cancelled` or `expired` no ballot tells; there the certificate alone does.
//! That a policy is the one that the cluster had under this name and version follows from
//! the genesis document, whose `policies` is the digest of the first ones.

use aegis_crypto::json::{self, JsonError, Limits};
use aegis_crypto::{Digest, Hasher, Jwk};
use aegis_ledger::{
    AgentId, AuditEntry, EarlyClose, Frozen, LedgerTime, LogIndex, Method, Policy, Ppb, ProposalNo,
    Ratio, RecountTerms, Tie,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The version of the form that this code writes and reads.
pub const VERSION: u32 = 1;

/// The deepest nesting of a bundle.
const DEPTH_MAX: u8 = 5;

/// Everything from which a decision is recomputed; see the module's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The version of this form: `1`. Every number in a bundle is a string in decimal.
    #[serde(with = "number")]
    #[schema(value_type = String, example = "1")]
    pub version: u32,
    /// The exact text of the genesis document, whose SHA-256 is the cluster id.
    pub genesis: String,
    /// The exact envelope of the decision's certificate.
    pub certificate: String,
    /// The exact text of the proposal's document.
    pub document: String,
    /// The closing's audit entry.
    pub audit_entry: BundleAuditEntry,
    /// The newest cosigned checkpoint; absent if it does not cover the closing yet.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub checkpoint: Option<BundleCheckpoint>,
    /// Why there is no checkpoint; absent where there is one.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub checkpoint_missing: Option<String>,
    /// What the opening of voting froze; absent if voting never opened.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub terms: Option<BundleTerms>,
    /// The exact envelopes of the certificates that changed the committee, from epoch 1 on.
    pub committee_changes: Vec<String>,
    /// The electors, in the order of their ids.
    pub electorate: Vec<BundleElector>,
    /// The ballots, in the order of admission.
    pub ballots: Vec<BundleBallot>,
    /// What was kept of voters that contradicted themselves, in the order of the digest.
    pub evidence: Vec<BundleEvidence>,
}

/// Why a text is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not the JSON of a bundle.
    #[error("the bundle does not parse")]
    Json(#[source] JsonError),
    /// Of another version.
    #[error("the bundle has version {found}, this binary knows version {VERSION}")]
    Version {
        /// The bundle's.
        found: u32,
    },
}

impl Bundle {
    /// Reads a bundle of any length, which is for the caller to bound. Nothing in it is
    /// verified by that.
    ///
    /// # Errors
    /// A text of another form.
    pub fn parse(text: &[u8]) -> Result<Self, BundleError> {
        let limits = Limits {
            depth: DEPTH_MAX,
            bytes: usize::MAX,
        };
        let bundle: Self = json::from_slice_strict(text, limits).map_err(BundleError::Json)?;
        if bundle.version != VERSION {
            let found = bundle.version;
            return Err(BundleError::Version { found });
        }
        Ok(bundle)
    }

    /// The cluster id: SHA-256 of the genesis document.
    #[must_use]
    pub fn cluster_id(&self) -> Digest {
        Digest::of(&self.genesis)
    }

    /// The terms to recount the proposal `proposal` under; none if voting never opened.
    #[must_use]
    pub fn recount_terms(&self, proposal: ProposalNo) -> Option<RecountTerms> {
        let terms = self.terms.as_ref()?;
        Some(RecountTerms {
            cluster: self.cluster_id(),
            proposal,
            proposal_digest: Digest::of(&self.document),
            round: terms.round,
            frozen: terms.frozen(),
        })
    }

    /// The digest over the evidence, which the statement names.
    #[must_use]
    pub fn evidence_digest(&self) -> Digest {
        let tagged = Hasher::tagged("aegis/evidence/1");
        let evidence = self.evidence.iter();
        let hasher = evidence.fold(tagged, |hasher, evidence| {
            let EvidenceKind::Equivocation = evidence.kind;
            hasher
                .bytes(b"equivocation")
                .bytes(evidence.agent.as_str().as_bytes())
                .u64(u64::from(evidence.round))
                .u64(evidence.counted)
                .bytes(evidence.other.as_bytes())
                .u64(evidence.time_ms)
        });
        hasher.finish()
    }
}

/// The audit entry of a closing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleAuditEntry {
    /// Its number, from 0, which is that of its leaf in the transparency tree.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub seq: u64,
    /// The log index of the entry that closed the proposal.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub index: u64,
    /// Ledger time, Unix milliseconds.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub time_ms: u64,
    /// On whose behalf.
    pub principal: String,
    /// Always `closing`.
    pub kind: String,
    /// The digest of the closing's record.
    #[schema(value_type = String)]
    pub payload: Digest,
    /// How the proposal ended.
    pub outcome: String,
    /// The hash of the entry before.
    #[schema(value_type = String)]
    pub previous: Digest,
    /// The hash of all the above: SHA-256 over the tag `aegis/audit/1`, `seq`, `index`,
    /// `time_ms`, `principal`, `kind`, `payload`, `outcome` and `previous`, texts preceded by
    /// their length in bytes, lengths and numbers as 64-bit big-endian integers.
    #[schema(value_type = String)]
    pub hash: Digest,
}

impl From<AuditEntry> for BundleAuditEntry {
    fn from(entry: AuditEntry) -> Self {
        Self {
            seq: entry.seq,
            index: entry.index.0,
            time_ms: entry.time.0,
            principal: entry.principal,
            kind: entry.kind,
            payload: entry.payload,
            outcome: entry.outcome,
            previous: entry.previous,
            hash: entry.hash,
        }
    }
}

impl From<BundleAuditEntry> for AuditEntry {
    fn from(entry: BundleAuditEntry) -> Self {
        Self {
            seq: entry.seq,
            index: LogIndex(entry.index),
            time: LedgerTime(entry.time_ms),
            principal: entry.principal,
            kind: entry.kind,
            payload: entry.payload,
            outcome: entry.outcome,
            previous: entry.previous,
            hash: entry.hash,
        }
    }
}

/// A cosigned checkpoint, and proof that the closing's audit entry is in its tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleCheckpoint {
    /// The exact text of the signed note.
    pub note: String,
    /// The nodes on the way from the entry's leaf to the root, the leaf's sibling first.
    #[schema(value_type = Vec<String>)]
    pub proof: Vec<Digest>,
}

/// What the opening of voting froze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleTerms {
    /// The round that decided.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub round: u32,
    /// When voting opened, Unix milliseconds.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub opened_at_ms: u64,
    /// When voting ended, Unix milliseconds.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub deadline_ms: u64,
    /// How ballots became an outcome: `simple_majority`, `super_majority` or `unanimous`.
    #[schema(value_type = String)]
    pub method: Method,
    /// How many electors there are.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub electorate_size: u64,
    /// The power of all electors, in parts per billion.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub power_total_ppb: u128,
    /// RFC 6962 root over the electors and their powers.
    #[schema(value_type = String)]
    pub electorate_root: Digest,
    /// What every ballot names.
    #[schema(value_type = String)]
    pub voting_digest: Digest,
    /// How many ballots made a quorum.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub quorum_required: u64,
    /// The version of the code that counts.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub tally_version: u32,
    /// The policy with all its parameters.
    pub policy: BundlePolicy,
}

impl BundleTerms {
    pub(crate) fn new(round: u32, frozen: Frozen) -> Self {
        Self {
            round,
            opened_at_ms: frozen.opened_at.0,
            deadline_ms: frozen.deadline.0,
            method: frozen.method,
            electorate_size: frozen.electorate_size,
            power_total_ppb: frozen.power_total,
            electorate_root: frozen.electorate_root,
            voting_digest: frozen.voting_digest,
            quorum_required: frozen.quorum_required,
            tally_version: frozen.tally_version,
            policy: frozen.policy.into(),
        }
    }

    /// The terms as the ledger has them.
    #[must_use]
    pub fn frozen(&self) -> Frozen {
        Frozen {
            opened_at: LedgerTime(self.opened_at_ms),
            deadline: LedgerTime(self.deadline_ms),
            policy: self.policy.clone().into(),
            method: self.method,
            electorate_size: self.electorate_size,
            power_total: self.power_total_ppb,
            electorate_root: self.electorate_root,
            voting_digest: self.voting_digest,
            quorum_required: self.quorum_required,
            tally_version: self.tally_version,
        }
    }
}

/// A policy with all its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundlePolicy {
    /// The name.
    pub name: String,
    /// The version, from 1.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub version: u32,
    /// What `for` must reach.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub threshold: Ratio,
    /// How ballots become an outcome, unless the author chose otherwise.
    #[schema(value_type = String)]
    pub method: Method,
    /// The share of the electorate, by heads, that must take part.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub quorum_minimum: Ratio,
    /// How many heads must take part whatever the share.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub quorum_heads_min: u64,
    /// Whether an abstention takes part.
    pub abstain_counts_quorum: bool,
    /// Whether abstentions join the threshold's denominator.
    pub abstain_in_threshold: bool,
    /// What a tie means: `reject`, or `approve` if the threshold holds all the same.
    #[schema(value_type = String)]
    pub tie: Tie,
    /// How long voting lasts unless the proposal says otherwise, in seconds.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub voting_period_s: u64,
    /// The consciousness level below which an agent may not vote, in parts per billion.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub awareness_floor_ppb: u64,
    /// When voting ends before its deadline: `never`, `all_voted` or `settled`.
    #[schema(value_type = String)]
    pub early_close: EarlyClose,
    /// How many electors there must be at opening.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub min_participants: u64,
    /// How long an approved decision may be appealed, in seconds.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub appeal_window_s: u64,
    /// How long after that it waits, in seconds.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub implementation_delay_s: u64,
    /// How many unclosed proposals an agent may have.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub open_proposals_per_author: u64,
}

impl From<Policy> for BundlePolicy {
    fn from(policy: Policy) -> Self {
        Self {
            name: policy.name,
            version: policy.version,
            threshold: policy.threshold,
            method: policy.method,
            quorum_minimum: policy.quorum_minimum,
            quorum_heads_min: policy.quorum_heads_min,
            abstain_counts_quorum: policy.abstain_counts_quorum,
            abstain_in_threshold: policy.abstain_in_threshold,
            tie: policy.tie,
            voting_period_s: policy.voting_period_s,
            awareness_floor_ppb: policy.awareness_floor.0,
            early_close: policy.early_close,
            min_participants: policy.min_participants,
            appeal_window_s: policy.appeal_window_s,
            implementation_delay_s: policy.implementation_delay_s,
            open_proposals_per_author: policy.open_proposals_per_author,
        }
    }
}

impl From<BundlePolicy> for Policy {
    fn from(policy: BundlePolicy) -> Self {
        Self {
            name: policy.name,
            version: policy.version,
            threshold: policy.threshold,
            method: policy.method,
            quorum_minimum: policy.quorum_minimum,
            quorum_heads_min: policy.quorum_heads_min,
            abstain_counts_quorum: policy.abstain_counts_quorum,
            abstain_in_threshold: policy.abstain_in_threshold,
            tie: policy.tie,
            voting_period_s: policy.voting_period_s,
            awareness_floor: Ppb(policy.awareness_floor_ppb),
            early_close: policy.early_close,
            min_participants: policy.min_participants,
            appeal_window_s: policy.appeal_window_s,
            implementation_delay_s: policy.implementation_delay_s,
            open_proposals_per_author: policy.open_proposals_per_author,
        }
    }
}

/// An elector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleElector {
    /// The agent.
    #[schema(value_type = String)]
    pub id: AgentId,
    /// Its voting power, in parts per billion.
    #[serde(with = "number")]
    #[schema(value_type = String, example = "1000000000")]
    pub power_ppb: u64,
}

/// A ballot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleBallot {
    /// The exact statement: a compact JWS of type `aegis-vote+jws`.
    pub jws: String,
    /// The key that it names.
    pub key: BundleKey,
    /// Why, for people: the text whose SHA-256 the statement names as `justification_sha256`.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub justification: Option<String>,
}

/// A voter's key, with what binds it to the voter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleKey {
    /// The Ed25519 key.
    #[schema(value_type = Object)]
    pub public_key: Jwk,
    /// The registrar's statement: a compact JWS of type `aegis-registration+jws`. Where there
    /// is a committee every voter's key has one.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub attestation: Option<String>,
    /// The same claims, signed by the key itself.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub proof: Option<String>,
}

/// Proof that a voter contradicted itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleEvidence {
    /// What it proves.
    #[schema(value_type = String, example = "equivocation")]
    pub kind: EvidenceKind,
    /// Whom it is against.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// The round.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub round: u32,
    /// The ballot that counts: its place among `ballots`, from 1.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub counted: u64,
    /// The exact statement that contradicts it.
    pub other: String,
    /// The key that this one names.
    pub key: BundleKey,
    /// Ledger time at which it came, Unix milliseconds.
    #[serde(with = "number")]
    #[schema(value_type = String)]
    pub time_ms: u64,
}

/// What evidence proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// Two ballots of one round, signed by one agent, with different choices.
    Equivocation,
}

/// A number by its only text.
mod number {
    use std::fmt::Display;
    use std::str::FromStr;

    use aegis_crypto::json::{self, Own};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<N: Display, S: Serializer>(
        number: &N,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, N, D>(deserializer: D) -> Result<N, D::Error>
    where
        N: FromStr + Display,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        let number = text.parse().ok().filter(|n: &N| n.to_string() == text);
        number.ok_or_else(|| json::refuse(Own("not the text of a number that fits here")))
    }
}
