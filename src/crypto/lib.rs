//! Cryptography of the decision ledger: digests, keys, signed statements, strict JSON,
//! the Merkle tree and its proofs, signed checkpoints, and what a committee's signatures
//! mean, decision certificates above all.
//!
//! Every check that decides whether a statement counts is made here, once, and the same
//! way on every replica: [`key`] admits only Ed25519 keys for which all verifiers agree,
//! [`jws`] admits one spelling of a signed statement, [`json`] one reading of its text.
//! Nothing in this crate reaches a file, a socket or a clock; the only source of
//! randomness is [`key::SecretKey::generate`].

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod base64url;
pub mod certificate;
pub mod claims;
pub mod committee;
pub mod digest;
pub mod dsse;
pub mod json;
pub mod jws;
pub mod key;
pub mod merkle;
pub mod note;
mod quoted;

pub use base64url::Base64Error;
pub use certificate::{Certificate, CertificateError};
pub use committee::{Committee, CommitteeError, SeatNo, SeatSet, Seats};
pub use digest::{Digest, Hasher};
pub use json::{JsonError, Limits as JsonLimits, NumberText, canonicalize, from_slice_strict};
pub use jws::{Jws, JwsError, Typ};
pub use key::{BadSignature, Jwk, JwkError, Kid, PublicKey, PublicKeyError, SecretKey};
