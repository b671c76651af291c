//! The public text form of a key and its name: JSON Web Key (RFC 7517, RFC 8037) and
//! thumbprint (RFC 7638).

use std::error::Error as _;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, Visitor};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use thiserror::Error;

use super::{PUBLIC_KEY_LEN, PublicKey, PublicKeyError};
use crate::base64url::Base64Error;
use crate::digest::{DIGEST_LEN, Digest};
use crate::json;
use crate::quoted::{Quoted, shortened};

/// Characters of 32 bytes in base64url without padding.
const ENCODED_LEN: usize = 43;

pub(super) fn encode(bytes: &[u8; 32]) -> [u8; ENCODED_LEN] {
    let mut text = [0; ENCODED_LEN];
    URL_SAFE_NO_PAD
        .encode_slice(bytes, &mut text)
        .expect("32 bytes take 43 characters");
    text
}

pub(super) fn as_str(text: &[u8; ENCODED_LEN]) -> &str {
    std::str::from_utf8(text).expect("base64url is ASCII")
}

/// A key's name: the RFC 7638 thumbprint of its JWK, which is 43 characters of
/// base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid([u8; ENCODED_LEN]);

impl Kid {
    pub(super) fn of(key: &PublicKey) -> Self {
        let x = encode(&key.to_bytes());
        // The required members in lexicographic order and no others (RFC 7638, section
        // 3.2; RFC 8037, section 2).
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, as_str(&x));
        Self(encode(Digest::of(jwk).as_bytes()))
    }

    /// The thumbprint's text.
    pub fn as_str(&self) -> &str {
        as_str(&self.0)
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no thumbprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a key id is the key's RFC 7638 thumbprint, {ENCODED_LEN} characters of base64url")]
pub struct ParseKidError;

impl FromStr for Kid {
    type Err = ParseKidError;

    fn from_str(text: &str) -> Result<Self, ParseKidError> {
        let text: [u8; ENCODED_LEN] = text.as_bytes().try_into().map_err(|_| ParseKidError)?;
        decode(&text).map_err(|_| ParseKidError)?;
        Ok(Self(text))
    }
}

impl Serialize for Kid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Kid;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the RFC 7638 thumbprint of a key")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Kid, E> {
                text.parse().map_err(json::refuse)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Decodes exactly 32 bytes, strictly.
fn decode(text: &[u8; ENCODED_LEN]) -> Result<[u8; DIGEST_LEN], Base64Error> {
    // The decoder asks for room for the whole last quantum.
    let mut bytes = [0; ENCODED_LEN];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
        Ok(_) => Ok(*bytes.first_chunk().expect("43 bytes begin with 32")),
        Err(_) => Err(Base64Error::of(text)),
    }
}

/// An Ed25519 public key as a JSON Web Key.
///
/// Written with the members `crv`, `kty` and `x`. Read with these and, if present, the
/// members that JOSE libraries add, which must then agree with the key: `alg` (`EdDSA` or
/// `Ed25519`), `use` (`sig`) and `kid` (the thumbprint). Any other member is refused, and
/// a private key with an error that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jwk(PublicKey);

impl Jwk {
    /// The key.
    pub fn public_key(&self) -> &PublicKey {
        &self.0
    }
}

impl From<PublicKey> for Jwk {
    fn from(key: PublicKey) -> Self {
        Self(key)
    }
}

impl From<Jwk> for PublicKey {
    fn from(jwk: Jwk) -> Self {
        jwk.0
    }
}

/// Why a JSON object is not a [`Jwk`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JwkError {
    /// The member `d` is there: somebody sent a private key.
    #[error(
        "the JWK contains the private key (member \"d\"); a private key must never be sent: \
         make a new key and send only its public part"
    )]
    PrivateKey,
    /// A key of another kind.
    #[error("the JWK's \"kty\" is {}, not \"OKP\"", Quoted(.found))]
    KeyType {
        /// What the JWK says.
        found: String,
    },
    /// A key of another curve.
    #[error("the JWK's \"crv\" is {}, not \"Ed25519\"", Quoted(.found))]
    Curve {
        /// What the JWK says.
        found: String,
    },
    /// The key is meant for another algorithm.
    #[error("the JWK's \"alg\" is {}, neither \"EdDSA\" nor \"Ed25519\"", Quoted(.found))]
    Algorithm {
        /// What the JWK says.
        found: String,
    },
    /// The key is meant for something other than signing.
    #[error("the JWK's \"use\" is {}, not \"sig\"", Quoted(.found))]
    Use {
        /// What the JWK says.
        found: String,
    },
    /// The key id is not the key's thumbprint.
    #[error(
        "the JWK's \"kid\" is {}, not the key's thumbprint {expected}",
        Quoted(.found)
    )]
    KeyId {
        /// What the JWK says.
        found: String,
        /// The thumbprint.
        expected: Kid,
    },
    /// The coordinate has the wrong length.
    #[error("the JWK's \"x\" has {found} characters, not {ENCODED_LEN}")]
    Length {
        /// Length of the text in bytes.
        found: usize,
    },
    /// The coordinate is not base64url, or not its only spelling.
    #[error("the JWK's \"x\" is not base64url without padding")]
    Base64(#[source] Base64Error),
    /// The coordinate is a key that is refused.
    #[error("the JWK's \"x\" is refused")]
    Key(#[source] PublicKeyError),
}

/// The members of a JWK as they come, before they are checked against each other.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename = "Jwk")]
struct Members {
    kty: String,
    crv: String,
    x: String,
    #[serde(default, deserialize_with = "json::present")]
    alg: Option<String>,
    #[serde(default, deserialize_with = "json::present")]
    kid: Option<String>,
    #[serde(default, rename = "use", deserialize_with = "json::present")]
    usage: Option<String>,
    // Never stored: its presence alone decides.
    #[serde(default, deserialize_with = "json::present")]
    d: Option<IgnoredAny>,
}

impl TryFrom<Members> for Jwk {
    type Error = JwkError;

    fn try_from(members: Members) -> Result<Self, JwkError> {
        if members.d.is_some() {
            return Err(JwkError::PrivateKey);
        }
        if members.kty != "OKP" {
            return Err(JwkError::KeyType {
                found: shortened(&members.kty),
            });
        }
        if members.crv != "Ed25519" {
            return Err(JwkError::Curve {
                found: shortened(&members.crv),
            });
        }
        if let Some(found) = members.alg
            && !matches!(found.as_str(), "EdDSA" | "Ed25519")
        {
            return Err(JwkError::Algorithm {
                found: shortened(&found),
            });
        }
        if let Some(found) = members.usage
            && found != "sig"
        {
            return Err(JwkError::Use {
                found: shortened(&found),
            });
        }
        let x: [u8; ENCODED_LEN] =
            members
                .x
                .as_bytes()
                .try_into()
                .map_err(|_| JwkError::Length {
                    found: members.x.len(),
                })?;
        let x: [u8; PUBLIC_KEY_LEN] = decode(&x).map_err(JwkError::Base64)?;
        let key = PublicKey::from_bytes(&x).map_err(JwkError::Key)?;
        if let Some(found) = members.kid {
            let expected = key.kid();
            if found != expected.as_str() {
                let found = shortened(&found);
                return Err(JwkError::KeyId { found, expected });
            }
        }
        Ok(Self(key))
    }
}

impl Serialize for Jwk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let x = encode(&self.0.to_bytes());
        let mut jwk = serializer.serialize_struct("Jwk", 3)?;
        jwk.serialize_field("crv", "Ed25519")?;
        jwk.serialize_field("kty", "OKP")?;
        jwk.serialize_field("x", as_str(&x))?;
        jwk.end()
    }
}

impl<'de> Deserialize<'de> for Jwk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return PublicKey::deserialize(deserializer).map(Self);
        }
        let members = Members::deserialize(deserializer)?;
        // The cause is folded into the text because a deserializer's error has none.
        Self::try_from(members).map_err(|error| match error.source() {
            Some(cause) => json::refuse(format_args!("{error}: {cause}")),
            None => json::refuse(error),
        })
    }
}
