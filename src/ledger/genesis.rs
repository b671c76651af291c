//! The genesis document: the root of every cluster's trust.
//!
//! It is a JSON file that every node holds. Its SHA-256 is the cluster id, which every
//! signed statement names, so a statement made for one cluster means nothing in another.

use aegis_crypto::committee::SEATS_MAX;
use aegis_crypto::{
    Committee, CommitteeError, Digest, JsonError, JsonLimits, Jwk, Kid, from_slice_strict,
};
use serde::{Deserialize, Serialize};

use crate::apply::Trust;
use crate::epochs::{CommitteeRecord, SeatRecord};
use crate::ids::{IdError, Ordinal, SeatName};
use crate::policy::initial_policies_digest;

/// The parsed document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisDocument {
    /// The version of this format: 1.
    pub version: u32,
    /// What people call the cluster.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// 32 random bytes, so that no two clusters share an id.
    pub nonce: Digest,
    /// The key that attests agents.
    pub registrar: Jwk,
    /// The keys that administer.
    pub administrators: Vec<Jwk>,
    /// The digest of the first policies.
    pub policies: Digest,
    /// The committee's first seats; empty where there is no committee.
    pub committee: Vec<Seat>,
}

/// A validator's seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// The seat's number, from 0.
    pub seat: u32,
    /// What people call the validator: 1 to 64 of `A-Z a-z 0-9 . _ : / -`.
    pub name: String,
    /// The key it signs with.
    pub public_key: Jwk,
}

/// A document that no cluster can begin from.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// Not the JSON of a genesis document.
    #[error("the genesis document does not parse")]
    Json(#[source] JsonError),
    /// Made for another version.
    #[error("the genesis document has version {found}, this binary knows version {known}")]
    Version {
        /// The document's.
        found: u32,
        /// This binary's.
        known: u32,
    },
    /// Begins with other policies.
    #[error("the genesis document begins with policies {found}, this binary with {known}")]
    Policies {
        /// The document's.
        found: Digest,
        /// This binary's.
        known: Digest,
    },
    /// Names more seats than a committee may have.
    #[error("the genesis document names {found} seats, a committee has at most {SEATS_MAX}")]
    Seats {
        /// How many it names.
        found: usize,
    },
    /// A seat's number is not its place.
    #[error(
        "the genesis document numbers seat {place} as {found}; seats are numbered from 0 in order"
    )]
    SeatNumber {
        /// Its place, from 0.
        place: usize,
        /// The number it has.
        found: u32,
    },
    /// A seat has no proper name.
    #[error("the genesis document misnames seat {place}")]
    SeatName {
        /// Its place, from 0.
        place: usize,
        /// What is wrong.
        source: IdError,
    },
    /// Two seats have one name.
    #[error("the genesis document names two seats {name}")]
    SharedName {
        /// The name.
        name: SeatName,
    },
    /// The keys make no committee.
    #[error("the genesis document names no proper committee")]
    Committee(#[source] CommitteeError),
    /// A validator would hold a key that administers.
    #[error("the genesis document gives seat {name} key {kid}, which is that of {holder}")]
    AuthorityKey {
        /// The seat.
        name: SeatName,
        /// The key's thumbprint.
        kid: Kid,
        /// Whose key it is.
        holder: &'static str,
    },
}

/// A checked genesis: the document, its exact bytes and the cluster id.
#[derive(Clone, Debug)]
pub struct Genesis {
    bytes: Vec<u8>,
    name: String,
    trust: Trust,
    committee: Option<Committee>,
}

impl Genesis {
    /// The version of the format that this code writes and reads.
    pub const VERSION: u32 = 1;

    /// Checks a document.
    ///
    /// # Errors
    /// Any way in which the document cannot begin a cluster of this version.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, GenesisError> {
        let document: GenesisDocument =
            from_slice_strict(&bytes, JsonLimits::default()).map_err(GenesisError::Json)?;
        if document.version != Self::VERSION {
            return Err(GenesisError::Version {
                found: document.version,
                known: Self::VERSION,
            });
        }
        let known = initial_policies_digest();
        if document.policies != known {
            return Err(GenesisError::Policies {
                found: document.policies,
                known,
            });
        }
        let mut trust = Trust {
            cluster_id: Digest::of(&bytes),
            registrar: *document.registrar.public_key(),
            administrators: document
                .administrators
                .iter()
                .map(|jwk| *jwk.public_key())
                .collect(),
            committee: None,
        };
        trust.committee = check_seats(document.committee, &trust)?;
        let committee = trust.committee.as_ref().map(CommitteeRecord::committee);
        Ok(Self {
            bytes,
            name: document.name,
            committee: committee.transpose().map_err(GenesisError::Committee)?,
            trust,
        })
    }

    /// The exact bytes, which `GET /genesis` serves.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the exact bytes.
    #[must_use]
    pub const fn cluster_id(&self) -> Digest {
        self.trust.cluster_id
    }

    /// What people call the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that attests agents.
    #[must_use]
    pub const fn registrar(&self) -> &aegis_crypto::PublicKey {
        &self.trust.registrar
    }

    /// The keys that administer.
    #[must_use]
    pub fn administrators(&self) -> &[aegis_crypto::PublicKey] {
        &self.trust.administrators
    }

    /// The committee of epoch 0, if the cluster has one.
    #[must_use]
    pub const fn committee(&self) -> Option<&Committee> {
        self.committee.as_ref()
    }

    /// The seats of epoch 0, from seat 0.
    #[must_use]
    pub fn seats(&self) -> &[SeatRecord] {
        let committee = self.trust.committee.as_ref();
        committee.map_or(&[], |committee| &committee.seats)
    }

    pub(crate) const fn trust(&self) -> &Trust {
        &self.trust
    }
}

/// The committee of epoch 0; `None` where no seat is named.
fn check_seats(seats: Vec<Seat>, trust: &Trust) -> Result<Option<CommitteeRecord>, GenesisError> {
    if seats.is_empty() {
        return Ok(None);
    }
    if seats.len() > usize::from(SEATS_MAX) {
        return Err(GenesisError::Seats { found: seats.len() });
    }
    let mut checked: Vec<SeatRecord> = Vec::with_capacity(seats.len());
    for (place, seat) in seats.into_iter().enumerate() {
        let found = seat.seat;
        if usize::try_from(found) != Ok(place) {
            return Err(GenesisError::SeatNumber { place, found });
        }
        let name = seat.name.parse();
        let name: SeatName = name.map_err(|source| GenesisError::SeatName { place, source })?;
        if checked.iter().any(|other| other.name == name) {
            return Err(GenesisError::SharedName { name });
        }
        let key = seat.public_key.public_key();
        if let Some(holder) = trust.authority_of(key) {
            let kid = key.kid();
            return Err(GenesisError::AuthorityKey { name, kid, holder });
        }
        checked.push(SeatRecord {
            name,
            public_key: seat.public_key,
        });
    }
    Ok(Some(CommitteeRecord {
        epoch: 0,
        since: Ordinal(1),
        seats: checked,
    }))
}
