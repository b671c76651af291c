//! The audit chain as clients see it.

use aegis_crypto::Digest;
use aegis_ledger::AuditEntry;
use aegis_ledger::query::AuditVerdict;
use serde::Serialize;
use utoipa::ToSchema;

use super::text::Time;

/// One link of the chain.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(crate) struct AuditBody {
    /// Its number, from 0.
    seq: u64,
    /// The log index of the entry that was applied.
    index: u64,
    /// Ledger time, which the hash covers in milliseconds.
    #[schema(value_type = String, format = DateTime)]
    time: Time,
    /// On whose behalf.
    principal: String,
    /// What was asked, or `closing`.
    kind: String,
    /// The digest of the command or of the closing.
    #[schema(value_type = String)]
    payload: Digest,
    /// `ok`, the code of the refusal, or how the proposal ended.
    outcome: String,
    /// The hash of the entry before; zeros for the first.
    #[schema(value_type = String)]
    previous: Digest,
    /// The hash of all the above.
    #[schema(value_type = String)]
    hash: Digest,
}

impl From<AuditEntry> for AuditBody {
    fn from(entry: AuditEntry) -> Self {
        Self {
            seq: entry.seq,
            index: entry.index.0,
            time: Time(entry.time),
            principal: entry.principal,
            kind: entry.kind,
            payload: entry.payload,
            outcome: entry.outcome,
            previous: entry.previous,
            hash: entry.hash,
        }
    }
}

/// A part of the chain.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditList)]
pub(crate) struct AuditList {
    /// The entries, in order.
    pub(crate) entries: Vec<AuditBody>,
    /// Where the next part begins, if there is one.
    pub(crate) next_cursor: Option<String>,
}

/// What walking the whole chain found.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditVerdict)]
pub(crate) struct VerdictBody {
    /// Whether every entry holds.
    valid: bool,
    /// How many hold, from the first on.
    entries: u64,
    /// The hash of the last of them.
    #[schema(value_type = String)]
    head: Digest,
    /// The first fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl From<AuditVerdict> for VerdictBody {
    fn from(verdict: AuditVerdict) -> Self {
        Self {
            valid: verdict.fault.is_none(),
            entries: verdict.entries,
            head: verdict.head,
            fault: verdict.fault.map(|fault| fault.to_string()),
        }
    }
}

/// Proof that an audit entry is in the transparency tree (RFC 6962, section 2.1.1).
#[derive(Serialize, ToSchema)]
#[schema(as = InclusionProof)]
pub(crate) struct InclusionBody {
    /// The entry's number, which is its leaf's.
    pub(crate) entry: u64,
    /// How many entries the tree has.
    pub(crate) size: u64,
    /// SHA-256 of a zero byte and the 32 bytes of the entry's `hash`.
    #[schema(value_type = String)]
    pub(crate) leaf_hash: Digest,
    /// The tree's root.
    #[schema(value_type = String)]
    pub(crate) root: Digest,
    /// The nodes on the way from the leaf to the root, the leaf's sibling first.
    #[schema(value_type = Vec<String>)]
    pub(crate) proof: Vec<Digest>,
}

/// Proof that the transparency tree only grew (RFC 6962, section 2.1.2).
#[derive(Serialize, ToSchema)]
#[schema(as = ConsistencyProof)]
pub(crate) struct ConsistencyBody {
    /// How many entries the older tree has.
    pub(crate) from: u64,
    /// How many entries the newer tree has.
    pub(crate) to: u64,
    /// The older tree's root.
    #[schema(value_type = String)]
    pub(crate) from_root: Digest,
    /// The newer tree's root.
    #[schema(value_type = String)]
    pub(crate) to_root: Digest,
    /// The nodes from which both roots follow; none if the trees are the same, or the older
    /// one is empty.
    #[schema(value_type = Vec<String>)]
    pub(crate) proof: Vec<Digest>,
}
