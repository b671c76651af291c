//! Ed25519 keys (RFC 8032) and their names.
//!
//! Verifiers of Ed25519 disagree about a few encodings: keys of small order verify
//! almost any message, keys with a component of small order verify in one library and
//! not in another, and a point may have more than one spelling. [`PublicKey`] admits
//! none of them, so whoever holds one needs no further check, and every replica and
//! every careful third party reaches the same verdict.
//!
//! A key's name is its [`Kid`], the thumbprint of RFC 7638; its public text form is the
//! [`Jwk`] of RFC 8037; its private file form is PKCS#8 (RFC 8410).

mod jwk;
mod secret;

use std::cmp::Ordering;
use std::fmt;
use std::hash;

use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use thiserror::Error;

use crate::json;

pub use jwk::{Jwk, JwkError, Kid, ParseKidError};
pub use secret::{GenerateKeyError, PemError, SecretKey};

/// Bytes in an Ed25519 public key.
pub const PUBLIC_KEY_LEN: usize = 32;

/// Bytes in an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;

/// The neutral point of the curve, encoded.
const IDENTITY: [u8; PUBLIC_KEY_LEN] = {
    let mut bytes = [0; PUBLIC_KEY_LEN];
    bytes[0] = 1;
    bytes
};

/// An Ed25519 public key that every verifier reads alike.
///
/// Compared and ordered by its bytes. In JSON it is a [`Jwk`]; in binary formats it is
/// its 32 bytes, which are checked again on reading.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Why 32 bytes are not a [`PublicKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PublicKeyError {
    /// No point of the curve has this encoding.
    #[error("the public key is not a point of the curve")]
    NotOnCurve,
    /// The bytes decode to a point whose proper encoding is another.
    #[error("the public key is not the canonical encoding of its point")]
    NotCanonical,
    /// The neutral point, under which one signature fits every message.
    #[error("the public key is the identity point")]
    Identity,
    /// A point of order 2, 4 or 8, under which signatures are forged at will.
    #[error("the public key is weak: its point has small order")]
    SmallOrder,
    /// A sum of an ordinary point and one of small order. No honest key is one, and
    /// whether its signatures hold depends on who verifies them.
    #[error("the public key is outside of the prime-order group")]
    MixedOrder,
}

/// A signature does not belong to the message and the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl PublicKey {
    /// Reads and checks an encoded point. It costs about as much as verifying a
    /// signature, since it multiplies the point by the group's order.
    ///
    /// # Errors
    /// One for each kind of encoding that is refused.
    pub fn from_bytes(bytes: &[u8; PUBLIC_KEY_LEN]) -> Result<Self, PublicKeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| PublicKeyError::NotOnCurve)?;
        let point = key.to_edwards();
        if VerifyingKey::from(point).as_bytes() != bytes {
            return Err(PublicKeyError::NotCanonical);
        }
        if *bytes == IDENTITY {
            return Err(PublicKeyError::Identity);
        }
        if point.is_small_order() {
            return Err(PublicKeyError::SmallOrder);
        }
        if !point.is_torsion_free() {
            return Err(PublicKeyError::MixedOrder);
        }
        Ok(Self(key))
    }

    /// The canonical encoding.
    pub fn to_bytes(&self) -> [u8; PUBLIC_KEY_LEN] {
        self.0.to_bytes()
    }

    /// Verifies a signature strictly: the scalar must be reduced and neither the key nor
    /// the signature's point R may have small order.
    ///
    /// R = S * B - k * A is in the group of prime order, as A is, so that the identity is the
    /// one R of small order that could pass. The library's `verify_strict` trusts no key, and
    /// decompresses R to find out: a tenth more time for the same verdict.
    ///
    /// # Errors
    /// [`BadSignature`], which does not tell why: the bytes come from a stranger.
    pub fn verify(
        &self,
        message: &[u8],
        signature: &[u8; SIGNATURE_LEN],
    ) -> Result<(), BadSignature> {
        if signature.starts_with(&IDENTITY) {
            return Err(BadSignature);
        }
        self.0
            .verify(message, &Signature::from_bytes(signature))
            .map_err(|_| BadSignature)
    }

    /// The key's name, its RFC 7638 thumbprint.
    pub fn kid(&self) -> Kid {
        Kid::of(self)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.kid())
    }
}

impl hash::Hash for PublicKey {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            Jwk::from(*self).serialize(serializer)
        } else {
            self.to_bytes().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Jwk::deserialize(deserializer).map(Self::from)
        } else {
            let bytes = <[u8; PUBLIC_KEY_LEN]>::deserialize(deserializer)?;
            Self::from_bytes(&bytes).map_err(json::refuse)
        }
    }
}

#[cfg(test)]
mod tests;
