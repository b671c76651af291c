//! The genesis document: the root of every cluster's trust.
//!
//! It is a JSON file that every node holds. Its SHA-256 is the cluster id, which every
//! signed statement names, so a statement made for one cluster means nothing in another.

use aegis_crypto::{Digest, JsonError, JsonLimits, Jwk, from_slice_strict};
use serde::{Deserialize, Serialize};

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
    /// What people call the validator.
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
    /// Names a committee, whose certificates this binary cannot make.
    #[error("the genesis document names a committee of {seats}, which this binary does not run")]
    Committee {
        /// How many seats.
        seats: usize,
    },
}

/// A checked genesis: the document, its exact bytes and the cluster id.
#[derive(Clone, Debug)]
pub struct Genesis {
    bytes: Vec<u8>,
    cluster_id: Digest,
    name: String,
    registrar: aegis_crypto::PublicKey,
    administrators: Vec<aegis_crypto::PublicKey>,
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
        if !document.committee.is_empty() {
            return Err(GenesisError::Committee {
                seats: document.committee.len(),
            });
        }
        let cluster_id = Digest::of(&bytes);
        Ok(Self {
            bytes,
            cluster_id,
            name: document.name,
            registrar: *document.registrar.public_key(),
            administrators: document
                .administrators
                .iter()
                .map(|jwk| *jwk.public_key())
                .collect(),
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
        self.cluster_id
    }

    /// What people call the cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that attests agents.
    #[must_use]
    pub const fn registrar(&self) -> &aegis_crypto::PublicKey {
        &self.registrar
    }

    /// The keys that administer.
    #[must_use]
    pub fn administrators(&self) -> &[aegis_crypto::PublicKey] {
        &self.administrators
    }
}
