//! What the committee agrees on about one closing.
//!
//! A statement is a JSON object in the canonical form of RFC 8785. Every number in it is a
//! string: an unsigned integer in decimal without leading zeros. Digests are SHA-256 in
//! lowercase hexadecimal. A member that is absent is left out, never `null`.
//!
//! | member | what |
//! | --- | --- |
//! | `audit_entry` | number of the audit entry of this closing, from 0 |
//! | `audit_hash` | that entry's hash, which covers every entry before it and the record of this closing |
//! | `ballots_count` | how many ballots were admitted |
//! | `ballots_root` | RFC 6962 root over them in the order of admission; a leaf is the exact bytes of a ballot's compact JWS |
//! | `closed_at` | ledger time of the closing, Unix milliseconds |
//! | `cluster` | the cluster id: SHA-256 of the genesis document |
//! | `evidence` | digest over the evidence kept on the proposal, see below |
//! | `final_after` | `closed_at`, and if it was approved the appeal window that its opening froze |
//! | `incarnation` | the incarnation in which it is certified: 0, or what the newest restore drew |
//! | `index` | log index of the entry that closed it |
//! | `next_committee` | the committee that follows, where this closing decides one: an object of `epoch` and `seats`, an array from seat 0 of objects of `name` and `public_key` (a JWK) |
//! | `ordinal` | number of the closing over the whole cluster, from 1 |
//! | `outcome` | `approved`, `rejected`, `no_quorum`, `expired` or `cancelled` |
//! | `proposal` | the proposal's id, like `prop_17` |
//! | `proposal_digest` | SHA-256 of the exact bytes of its document |
//! | `result` | SHA-256 of the canonical JSON of the [full result](crate::FullResult) |
//! | `round` | the round that closed, from 1 |
//! | `supersedes` | ordinal of the closing that this one replaces; absent where there is none |
//! | `version` | `1` |
//! | `voting` | absent if voting never opened; else an object of `digest`, the voting digest that every ballot names, `electorate_root`, RFC 6962 root over the electors in the order of their ids (a leaf is the length of the id in bytes as a 64-bit big-endian integer, the id, and the power in parts per billion as a 64-bit big-endian integer), and `electorate_size` |
//!
//! The evidence digest is SHA-256 over the tag `aegis/evidence/1` and then, for each piece,
//! the kind (`equivocation`), the agent's id, the round, the number of the ballot that
//! counts, the JWS of the other ballot, and the ledger time at which that arrived. Texts are
//! preceded by their length in bytes; lengths and numbers are 64-bit big-endian integers.
//! Pieces stand in the order of (length of the agent's id as a 16-bit integer, id, round).

use std::collections::BTreeMap;

use aegis_crypto::{Certificate, Digest, Hasher, JsonError, JsonLimits, from_slice_strict, json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::apply::Trust;
use crate::archive::{Archive, ArchiveError, Table};
use crate::audit::AuditEntry;
use crate::epochs::{self, Epoch, SeatRecord};
use crate::ids::{LedgerTime, LogIndex, Ordinal, ProposalNo};
use crate::record::{
    ClosingRecord, CoreRecord, EvidenceRecord, Outcome, ProposalRecord, Record, key,
};
use crate::result::FullResult;

/// What validators agree on; see the module's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    // In the order of their names, which is the canonical one.
    /// The closing's audit entry.
    #[serde(with = "decimal")]
    pub audit_entry: u64,
    /// Its hash.
    pub audit_hash: Digest,
    /// How many ballots were admitted.
    #[serde(with = "decimal")]
    pub ballots_count: u64,
    /// RFC 6962 root over them.
    pub ballots_root: Digest,
    /// When it closed.
    #[serde(with = "decimal")]
    pub closed_at: LedgerTime,
    /// The cluster.
    pub cluster: Digest,
    /// Digest over the evidence kept on the proposal.
    pub evidence: Digest,
    /// When the outcome can no longer be appealed.
    #[serde(with = "decimal")]
    pub final_after: LedgerTime,
    /// The incarnation that certifies it.
    #[serde(with = "decimal")]
    pub incarnation: u64,
    /// The log index of the entry that closed it.
    #[serde(with = "decimal")]
    pub index: LogIndex,
    /// The committee that follows, where this closing decides one.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub next_committee: Option<NextCommittee>,
    /// The closing's number.
    #[serde(with = "decimal")]
    pub ordinal: Ordinal,
    /// How it ended.
    pub outcome: Outcome,
    /// The proposal.
    #[serde(with = "text")]
    pub proposal: ProposalNo,
    /// SHA-256 of its document.
    pub proposal_digest: Digest,
    /// Digest of the full result.
    pub result: Digest,
    /// The round that closed.
    #[serde(with = "decimal")]
    pub round: u32,
    /// The closing that this one replaces.
    #[serde(
        default,
        deserialize_with = "present_decimal",
        serialize_with = "optional_decimal",
        skip_serializing_if = "Option::is_none"
    )]
    pub supersedes: Option<Ordinal>,
    /// The version of this form: [`Statement::VERSION`].
    #[serde(with = "decimal")]
    pub version: u32,
    /// What was fixed when voting opened, if it did.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub voting: Option<VotingTerms>,
}

/// The committee of the next epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextCommittee {
    /// Its epoch.
    #[serde(with = "decimal")]
    pub epoch: u64,
    /// Its seats, from seat 0.
    pub seats: Vec<SeatRecord>,
}

/// What was fixed when voting opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VotingTerms {
    /// What every ballot names.
    pub digest: Digest,
    /// RFC 6962 root over the electors and their powers.
    pub electorate_root: Digest,
    /// How many electors there are.
    #[serde(with = "decimal")]
    pub electorate_size: u64,
}

/// A text is not a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not the JSON of a statement.
    #[error("the statement does not parse")]
    Json(#[source] JsonError),
    /// Longer than any statement.
    #[error("the statement has {found} bytes, at most {max}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Another spelling of a statement.
    #[error("the statement is not in its canonical form")]
    NotCanonical,
    /// Of another version.
    #[error("the statement has version {found}, this binary knows version {known}")]
    Version {
        /// The statement's.
        found: u32,
        /// This binary's.
        known: u32,
    },
}

/// Where two statements differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The first member that differs.
    pub field: String,
    /// What the one says of it, as JSON; `absent` where it lacks it.
    pub found: String,
    /// What the other says.
    pub expected: String,
}

impl Statement {
    /// The version of the form that this code writes and reads.
    pub const VERSION: u32 = 1;
    /// The longest statement that names no next committee, in bytes.
    pub const BYTES_MAX: usize = 4 * 1024;
    /// The longest statement that names one, in bytes.
    pub const WITH_COMMITTEE_BYTES_MAX: usize = 16 * 1024;

    /// The canonical text, which is what a certificate holds.
    #[must_use]
    pub fn to_canonical(&self) -> String {
        serde_json::to_string(self).expect("a statement has only fields that JSON can write")
    }

    /// Reads a canonical text.
    ///
    /// # Errors
    /// Anything that [`Statement::to_canonical`] did not write.
    pub fn parse(text: &str) -> Result<Self, StatementError> {
        let too_long = |max| {
            let found = text.len();
            Err(StatementError::TooLong { found, max })
        };
        if text.len() > Self::WITH_COMMITTEE_BYTES_MAX {
            return too_long(Self::WITH_COMMITTEE_BYTES_MAX);
        }
        let statement: Self = from_slice_strict(text.as_bytes(), JsonLimits::default())
            .map_err(StatementError::Json)?;
        if statement.version != Self::VERSION {
            return Err(StatementError::Version {
                found: statement.version,
                known: Self::VERSION,
            });
        }
        if statement.next_committee.is_none() && text.len() > Self::BYTES_MAX {
            return too_long(Self::BYTES_MAX);
        }
        if statement.to_canonical() != text {
            return Err(StatementError::NotCanonical);
        }
        Ok(statement)
    }

    /// The first member in which a canonical JSON object differs from this statement.
    #[must_use]
    pub fn differs_from(&self, found: &str) -> Option<Difference> {
        let expected = self.to_canonical();
        if found == expected {
            return None;
        }
        let (mut found, expected) = (members(found), members(&expected));
        let absent = || "absent".to_owned();
        for (field, expected) in expected {
            let found = found.remove(&field).unwrap_or_else(absent);
            if found != expected {
                return Some(Difference {
                    field,
                    found,
                    expected,
                });
            }
        }
        let (field, found) = found.pop_first().unwrap_or_default();
        Some(Difference {
            field,
            found,
            expected: absent(),
        })
    }
}

/// The members of a JSON object, each as it is written; none of anything else.
fn members(text: &str) -> BTreeMap<String, String> {
    let members: BTreeMap<String, &RawValue> =
        from_slice_strict(text.as_bytes(), JsonLimits::default()).unwrap_or_default();
    members
        .into_iter()
        .map(|(name, value)| (name, value.get().to_owned()))
        .collect()
}

/// The statement that a closing's certificate was recorded over.
fn certified(archive: &dyn Archive, ordinal: Ordinal) -> Result<Option<Statement>, ArchiveError> {
    let Some(envelope) = archive.get(Table::Certificates, &key::number(ordinal.0))? else {
        return Ok(None);
    };
    let corrupt = |reason: String| ArchiveError {
        reason: format!("the certificate of closing {ordinal}: {reason}"),
    };
    let certificate = Certificate::parse(&envelope).map_err(|error| corrupt(error.to_string()))?;
    Statement::parse(certificate.statement())
        .map(Some)
        .map_err(|error| corrupt(error.to_string()))
}

/// The statement about a closing; `None` if there is no such closing, or while the epoch
/// that its change of the committee starts from is undecided.
pub(crate) fn statement(
    archive: &dyn Archive,
    trust: &Trust,
    ordinal: Ordinal,
) -> Result<Option<Statement>, ArchiveError> {
    let Some(closing) = ClosingRecord::read(archive, &key::number(ordinal.0))? else {
        return Ok(None);
    };
    if let Some(certified) = certified(archive, ordinal)? {
        return Ok(Some(certified));
    }
    let missing = |what: &str| ArchiveError {
        reason: format!("closing {ordinal} has no {what}"),
    };
    let proposal = ProposalRecord::read(archive, &key::proposal(closing.proposal))?
        .ok_or_else(|| missing("proposal"))?;
    let audit = AuditEntry::read(archive, &key::number(closing.audit_entry))?
        .ok_or_else(|| missing("audit entry"))?;
    let next_committee = match next_committee(archive, trust, ordinal, &closing, &proposal)? {
        Next::None => None,
        Next::Decided(next) => Some(next),
        Next::Undecided => return Ok(None),
    };
    let frozen = proposal.frozen.as_ref();
    let appeal_window_s = match closing.outcome {
        Outcome::Approved => frozen.map_or(0, |frozen| frozen.policy.appeal_window_s),
        _ => 0,
    };
    Ok(Some(Statement {
        audit_entry: closing.audit_entry,
        audit_hash: audit.hash,
        ballots_count: closing.ballots,
        ballots_root: closing.ballots_root,
        closed_at: closing.at,
        cluster: trust.cluster_id,
        evidence: closing.evidence,
        final_after: closing.at.plus_s(appeal_window_s),
        incarnation: CoreRecord::read(archive, &[])?
            .unwrap_or_default()
            .incarnation,
        index: closing.index,
        next_committee,
        ordinal,
        outcome: closing.outcome,
        proposal: closing.proposal,
        proposal_digest: proposal.digest,
        result: FullResult::new(&closing.tally, frozen).digest(),
        round: closing.round,
        supersedes: closing.supersedes,
        version: Statement::VERSION,
        voting: frozen.map(|frozen| VotingTerms {
            digest: frozen.voting_digest,
            electorate_root: frozen.electorate_root,
            electorate_size: frozen.electorate_size,
        }),
    }))
}

/// The committee that a closing decides.
enum Next {
    None,
    Decided(NextCommittee),
    Undecided,
}

fn next_committee(
    archive: &dyn Archive,
    trust: &Trust,
    ordinal: Ordinal,
    closing: &ClosingRecord,
    proposal: &ProposalRecord,
) -> Result<Next, ArchiveError> {
    let change = match (closing.outcome, &proposal.committee_change) {
        (Outcome::Approved, Some(change)) => change,
        _ => return Ok(Next::None),
    };
    let record = match epochs::of_ordinal(archive, trust, ordinal)? {
        Some(Epoch::Decided(record)) => record,
        Some(Epoch::Undecided { .. }) => return Ok(Next::Undecided),
        None => return Ok(Next::None),
    };
    let seats = record.changed(change, trust).ok();
    Ok(seats.map_or(Next::None, |seats| {
        Next::Decided(NextCommittee {
            epoch: record.epoch.saturating_add(1),
            seats,
        })
    }))
}

/// The digest over a proposal's evidence, in the order of its keys.
pub(crate) fn evidence_digest<'a>(
    evidence: impl IntoIterator<Item = (&'a str, &'a EvidenceRecord)>,
) -> Digest {
    let tagged = Hasher::tagged("aegis/evidence/1");
    let hasher = evidence
        .into_iter()
        .fold(tagged, |hasher, (agent, evidence)| match evidence {
            EvidenceRecord::Equivocation {
                round,
                counted,
                other,
                time,
            } => hasher
                .bytes(b"equivocation")
                .bytes(agent.as_bytes())
                .u64(u64::from(*round))
                .u64(counted.number)
                .bytes(other.as_bytes())
                .u64(time.0),
        });
    hasher.finish()
}

/// An unsigned integer as a string in decimal.
pub(crate) mod decimal {
    use aegis_crypto::json::{self, Own};
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::ids::{LedgerTime, LogIndex, Ordinal};

    /// A number, or a newtype of one.
    pub(crate) trait Number: Copy {
        fn to_u64(self) -> u64;
        fn from_u64(number: u64) -> Option<Self>;
    }

    macro_rules! number {
        ($($newtype:ident),*) => {$(
            impl Number for $newtype {
                fn to_u64(self) -> u64 {
                    self.0
                }
                fn from_u64(number: u64) -> Option<Self> {
                    Some(Self(number))
                }
            }
        )*};
    }
    number!(LedgerTime, LogIndex, Ordinal);

    impl Number for u64 {
        fn to_u64(self) -> u64 {
            self
        }
        fn from_u64(number: u64) -> Option<Self> {
            Some(number)
        }
    }

    impl Number for u32 {
        fn to_u64(self) -> u64 {
            self.into()
        }
        fn from_u64(number: u64) -> Option<Self> {
            number.try_into().ok()
        }
    }

    pub(crate) fn serialize<N: Number, S: Serializer>(
        number: &N,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&number.to_u64())
    }

    pub(crate) fn deserialize<'de, N: Number, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<N, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.parse().ok().filter(|n: &u64| n.to_string() == text);
        number
            .and_then(N::from_u64)
            .ok_or_else(|| json::refuse(Own("not an unsigned integer as a string in decimal")))
    }
}

fn optional_decimal<S: serde::Serializer>(
    number: &Option<Ordinal>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => decimal::serialize(number, serializer),
        None => serializer.serialize_none(),
    }
}

fn present_decimal<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Ordinal>, D::Error> {
    decimal::deserialize(deserializer).map(Some)
}

/// A value by its text.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use aegis_crypto::json;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(json::refuse)
    }
}
