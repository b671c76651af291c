//! Signed statements: JSON Web Signatures (RFC 7515) in compact form, signed with Ed25519
//! (RFC 8037).
//!
//! A statement is checked in three steps, each of which its caller may take when it needs
//! it: [`Jws::parse`] admits one form of the envelope and no other, [`Jws::claims`] reads
//! the payload, [`Jws::verify`] checks the signature. Only after the last does any of it
//! mean anything.
//!
//! The header has exactly `alg`, `typ` and `kid`. It cannot choose a weaker algorithm,
//! bring a key of its own, or pass a statement of one kind off as another, the usual
//! ways in which verifiers of JWS are fooled (RFC 8725). The base64url of every part is
//! strict, so a statement has one spelling.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::base64url::{self, Base64Error};
use crate::json::reader::{Event, Reader};
use crate::json::{self, JsonError, Limits};
use crate::key::{Kid, PublicKey, SIGNATURE_LEN, SecretKey};
use crate::quoted::{Quoted, shortened};

/// Characters of a signature in base64url without padding.
const SIGNATURE_CHARS: usize = 86;

/// Header members that bring or point to a key (RFC 7515, sections 4.1.2 to 4.1.8).
const KEY_MEMBERS: [&str; 6] = ["jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256"];

/// The kind of a statement, as its header's `typ` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Typ(&'static str);

impl Typ {
    /// A ballot, [`crate::claims::VoteClaims`].
    pub const VOTE: Self = Self("aegis-vote+jws");
    /// An agent's attestation or proof, [`crate::claims::RegistrationClaims`].
    pub const REGISTRATION: Self = Self("aegis-registration+jws");
    /// An order by an author, administrator, registrar, agent or oracle.
    pub const COMMAND: Self = Self("aegis-command+jws");
    /// An author's signature under a proposal, [`crate::claims::ProposalClaims`].
    pub const PROPOSAL: Self = Self("aegis-proposal+jws");

    /// The text that stands in the header.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Typ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// One of the three parts of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Says how it is signed.
    Header,
    /// What is signed.
    Payload,
    /// The signature.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// Why a statement is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JwsError {
    /// Longer than allowed.
    #[error("the statement has {found} bytes, more than the {max} allowed")]
    TooLong {
        /// Its length in bytes.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Not a compact JWS.
    #[error("the statement has {found} parts instead of header, payload and signature")]
    Parts {
        /// Parts between the dots.
        found: usize,
    },
    /// A part is not base64url, is padded, or has another spelling.
    #[error("the {part} is not base64url without padding")]
    Base64 {
        /// The part.
        part: Part,
        /// What is wrong with it.
        source: Base64Error,
    },
    /// The signature has the wrong length.
    #[error("the signature has {found} characters, not {SIGNATURE_CHARS}")]
    SignatureLength {
        /// Length of the encoded signature.
        found: usize,
    },
    /// The header is not JSON in UTF-8.
    #[error("the header is not JSON")]
    Header(#[source] JsonError),
    /// The header is JSON but no object.
    #[error("the header is not an object")]
    HeaderNotObject,
    /// The header names a member twice.
    #[error("the header's \"{member}\" occurs twice")]
    DuplicateMember {
        /// The member.
        member: &'static str,
    },
    /// The header lacks a member.
    #[error("the header has no \"{member}\"")]
    MissingMember {
        /// The member.
        member: &'static str,
    },
    /// A member of the header is not a string.
    #[error("the header's \"{member}\" is not a string")]
    MemberNotString {
        /// The member.
        member: &'static str,
    },
    /// The header has a member that statements do not have.
    #[error("the header has {}; it may have only alg, typ and kid", Quoted(.member))]
    UnknownMember {
        /// The member.
        member: String,
    },
    /// The header marks extensions as critical.
    #[error("the header has \"crit\", and no extension is understood")]
    Critical,
    /// The header brings or points to a key.
    #[error("the header has \"{member}\"; only a registered key counts, named by its kid")]
    EmbeddedKey {
        /// The member.
        member: &'static str,
    },
    /// The statement is not signed at all.
    #[error("the header's \"alg\" is \"none\"; a statement must be signed")]
    AlgorithmNone,
    /// The statement is signed with another algorithm.
    #[error(
        "the header's \"alg\" is {}, neither \"EdDSA\" nor \"Ed25519\"",
        Quoted(.found)
    )]
    Algorithm {
        /// What the header says.
        found: String,
    },
    /// A statement of another kind.
    #[error("the header's \"typ\" is {}, not \"{expected}\"", Quoted(.found))]
    Type {
        /// What the header says.
        found: String,
        /// What is asked for.
        expected: &'static str,
    },
    /// The key id is no thumbprint.
    #[error(
        "the header's \"kid\" is {}, which is no RFC 7638 thumbprint",
        Quoted(.found)
    )]
    KeyId {
        /// What the header says.
        found: String,
    },
    /// The payload is not the JSON that is asked for.
    #[error("the payload is refused")]
    Claims(#[source] JsonError),
    /// The statement names another key than the one that it is verified with.
    #[error("the header's \"kid\" is {found}, but the signer's key is {expected}")]
    OtherKey {
        /// What the header says.
        found: Kid,
        /// The key's thumbprint.
        expected: Kid,
    },
    /// The signature does not verify.
    #[error("the signature does not verify with key {kid}")]
    BadSignature {
        /// The key.
        kid: Kid,
    },
}

impl JwsError {
    /// The error and its cause in words that are the same for every build of this version
    /// of the program, as [`JsonError::own_words`] are.
    #[must_use]
    pub fn own_words(&self) -> String {
        match self {
            Self::Header(cause) | Self::Claims(cause) => format!("{self}: {}", cause.own_words()),
            Self::Base64 { source, .. } => format!("{self}: {source}"),
            error => error.to_string(),
        }
    }
}

/// A statement of the right form, whose signature need not be good.
#[derive(Debug, Clone)]
pub struct Jws<'a> {
    compact: &'a str,
    signed: &'a str,
    payload: Vec<u8>,
    signature: [u8; SIGNATURE_LEN],
    kid: Kid,
}

impl<'a> Jws<'a> {
    /// Takes a statement of kind `expected` apart, if it has at most `max_len` bytes.
    ///
    /// # Errors
    /// One for each way to be something else.
    pub fn parse(compact: &'a str, expected: Typ, max_len: usize) -> Result<Self, JwsError> {
        if compact.len() > max_len {
            return Err(JwsError::TooLong {
                found: compact.len(),
                max: max_len,
            });
        }
        let parts = || JwsError::Parts {
            found: compact.split('.').count(),
        };
        let (signed, signature) = compact.rsplit_once('.').ok_or_else(parts)?;
        let (header, payload) = signed.split_once('.').ok_or_else(parts)?;
        if payload.contains('.') {
            return Err(parts());
        }
        Ok(Self {
            compact,
            signed,
            kid: parse_header(&decode(Part::Header, header)?, expected)?,
            payload: decode(Part::Payload, payload)?,
            signature: decode_signature(signature)?,
        })
    }

    /// The statement as it came, signature included.
    pub fn compact(&self) -> &'a str {
        self.compact
    }

    /// Name of the key that the statement claims to be signed with.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The payload's bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Reads the payload as [`json::from_slice_strict`] does. `T` must deny unknown
    /// members.
    ///
    /// # Errors
    /// [`JwsError::Claims`].
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, JwsError> {
        let limits = Limits {
            // The statement's own bound covers it.
            bytes: usize::MAX,
            ..Limits::default()
        };
        json::from_slice_strict(&self.payload, limits).map_err(JwsError::Claims)
    }

    /// Checks that `key` is the key that the statement names and has signed it.
    ///
    /// # Errors
    /// [`JwsError::OtherKey`] or [`JwsError::BadSignature`].
    pub fn verify(&self, key: &PublicKey) -> Result<(), JwsError> {
        let expected = key.kid();
        if self.kid != expected {
            return Err(JwsError::OtherKey {
                found: self.kid,
                expected,
            });
        }
        key.verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| JwsError::BadSignature { kid: expected })
    }
}

/// Claims could not be written as JSON.
#[derive(Debug, Error)]
#[error("the claims cannot be written as JSON")]
pub struct SignError(#[source] serde_json::Error);

/// Signs `claims` as a statement of kind `typ`.
///
/// # Errors
/// Only if the claims' own `Serialize` fails; those of [`crate::claims`] do not.
pub fn sign(typ: Typ, key: &SecretKey, claims: &impl Serialize) -> Result<String, SignError> {
    let payload = serde_json::to_vec(claims).map_err(SignError)?;
    let kid = key.public().kid();
    let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{typ}"}}"#);
    let mut compact = String::new();
    URL_SAFE_NO_PAD.encode_string(header, &mut compact);
    compact.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut compact);
    let signature = key.sign(compact.as_bytes());
    compact.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut compact);
    Ok(compact)
}

fn decode(part: Part, text: &str) -> Result<Vec<u8>, JwsError> {
    base64url::decode(text).map_err(|source| JwsError::Base64 { part, source })
}

fn decode_signature(text: &str) -> Result<[u8; SIGNATURE_LEN], JwsError> {
    let length = || JwsError::SignatureLength { found: text.len() };
    if text.len() != SIGNATURE_CHARS {
        return Err(length());
    }
    let bytes = decode(Part::Signature, text)?;
    bytes.try_into().map_err(|_| length())
}

fn parse_header(bytes: &[u8], expected: Typ) -> Result<Kid, JwsError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        JwsError::Header(JsonError::NotUtf8 {
            offset: error.valid_up_to(),
        })
    })?;
    // The header is flat.
    let mut reader = Reader::new(text, 1);
    let mut next = || reader.next().map_err(JwsError::Header);
    if next()? != Some(Event::BeginObject) {
        return Err(JwsError::HeaderNotObject);
    }
    let (mut alg, mut typ, mut kid) = (None, None, None);
    while let Some(Event::Name(name)) = next()? {
        let (member, slot) = match &*name {
            "alg" => ("alg", &mut alg),
            "typ" => ("typ", &mut typ),
            "kid" => ("kid", &mut kid),
            other => return Err(refused_member(other)),
        };
        if slot.is_some() {
            return Err(JwsError::DuplicateMember { member });
        }
        match next() {
            Ok(Some(Event::String(value))) => *slot = Some(value),
            Ok(_) | Err(JwsError::Header(JsonError::TooDeep { .. })) => {
                return Err(JwsError::MemberNotString { member });
            }
            Err(error) => return Err(error),
        }
    }
    // Only the end of the text may follow that of the object.
    next()?;
    let required = |member| move || JwsError::MissingMember { member };
    check_algorithm(&alg.ok_or_else(required("alg"))?)?;
    let typ = typ.ok_or_else(required("typ"))?;
    if typ != expected.as_str() {
        return Err(JwsError::Type {
            found: shortened(&typ),
            expected: expected.as_str(),
        });
    }
    let kid = kid.ok_or_else(required("kid"))?;
    kid.parse().map_err(|_| JwsError::KeyId {
        found: shortened(&kid),
    })
}

fn refused_member(member: &str) -> JwsError {
    if member == "crit" {
        return JwsError::Critical;
    }
    match KEY_MEMBERS.into_iter().find(|known| *known == member) {
        Some(member) => JwsError::EmbeddedKey { member },
        None => JwsError::UnknownMember {
            member: shortened(member),
        },
    }
}

fn check_algorithm(alg: &str) -> Result<(), JwsError> {
    match alg {
        "EdDSA" | "Ed25519" => Ok(()),
        // Whatever its case: a verifier has been fooled by "nOnE".
        none if none.eq_ignore_ascii_case("none") => Err(JwsError::AlgorithmNone),
        other => Err(JwsError::Algorithm {
            found: shortened(other),
        }),
    }
}

#[cfg(test)]
mod tests;
