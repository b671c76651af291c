//! SHA-256 digests, and the canonical way to hash a record of several fields.
//!
//! [`Hasher`] writes a record as its domain tag followed by its fields. Fields of
//! variable length, the tag included, are preceded by their length in bytes as a 64-bit
//! big-endian integer; integers are big-endian and have their type's width. So two
//! different records of one domain never feed the same bytes to SHA-256, and records of
//! different domains never do.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::json;

/// Bytes in a digest.
pub const DIGEST_LEN: usize = 32;

/// A SHA-256 digest.
///
/// As text, and in JSON, it is 64 lowercase hexadecimal digits; in binary formats it is
/// its 32 bytes without a length.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; DIGEST_LEN]);

impl Digest {
    /// 32 zero bytes: the predecessor of the first link of a hash chain.
    pub const ZERO: Self = Self([0; DIGEST_LEN]);

    /// The SHA-256 of `bytes` as they stand.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes.as_ref()).into())
    }

    /// A digest that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; DIGEST_LEN]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; DIGEST_LEN] {
        &self.0
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 2 * DIGEST_LEN];
        f.pad(encode_hex(&self.0, &mut text))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn encode_hex<'a>(bytes: &[u8; DIGEST_LEN], text: &'a mut [u8; 2 * DIGEST_LEN]) -> &'a str {
    hex::encode_to_slice(bytes, text).expect("the buffer has two places for every byte");
    std::str::from_utf8(text).expect("hexadecimal digits are ASCII")
}

/// Why a text is not a [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseDigestError {
    /// The text has the wrong length.
    #[error("a SHA-256 digest has 64 hexadecimal digits, not {found} bytes")]
    Length {
        /// Length of the text in bytes.
        found: usize,
    },
    /// The text has something other than `0-9a-f`; uppercase digits are refused so that
    /// a digest has one spelling.
    #[error("byte {offset} of a digest is not one of 0-9a-f")]
    Digit {
        /// Position of the first wrong byte, from zero.
        offset: usize,
    },
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 2 * DIGEST_LEN {
            return Err(ParseDigestError::Length { found: text.len() });
        }
        if let Some(offset) = text
            .bytes()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(ParseDigestError::Digit { offset });
        }
        let mut bytes = [0; DIGEST_LEN];
        hex::decode_to_slice(text, &mut bytes).expect("length and digits were checked");
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let mut text = [0; 2 * DIGEST_LEN];
            serializer.serialize_str(encode_hex(&self.0, &mut text))
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;

        impl Visitor<'_> for Hex {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a SHA-256 digest as 64 lowercase hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(json::refuse)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Hex)
        } else {
            <[u8; DIGEST_LEN]>::deserialize(deserializer).map(Self)
        }
    }
}

/// SHA-256 over a domain tag and the fields of one record; see the module's head.
#[derive(Clone)]
#[must_use = "a hasher has no effect until it is finished"]
pub struct Hasher(Sha256);

impl Hasher {
    /// Begins a record of the domain `domain`, for example `aegis/audit-entry/v1`.
    pub fn tagged(domain: &str) -> Self {
        Self(Sha256::new()).bytes(domain.as_bytes())
    }

    /// Appends a field of variable length, preceded by its length.
    pub fn bytes(self, field: &[u8]) -> Self {
        let len = u64::try_from(field.len()).expect("a length in memory fits 64 bits");
        self.u64(len).raw(field)
    }

    /// Appends a 64-bit integer.
    pub fn u64(self, field: u64) -> Self {
        self.raw(&field.to_be_bytes())
    }

    /// Appends a byte.
    pub fn u8(self, field: u8) -> Self {
        self.raw(&[field])
    }

    /// Appends the 32 bytes of a digest; their number is fixed, so no length precedes
    /// them.
    pub fn digest(self, field: &Digest) -> Self {
        self.raw(field.as_bytes())
    }

    /// The digest of the record.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn of_is_plain_sha256() {
        assert_eq!(Digest::of([]).to_string(), EMPTY);
        assert_eq!(Digest::of("").as_ref(), hex::decode(EMPTY).unwrap());
    }

    #[test]
    fn records_have_golden_bytes() {
        // Computed with Python's hashlib over the bytes that the module's head describes.
        assert_eq!(
            Hasher::tagged("aegis/test/v1").finish().to_string(),
            "59a7925faf5c22a3c5e3383950f0059afc2f3ccde0645d1896b5ce89363eec5c"
        );
        let record = Hasher::tagged("aegis/test/v1")
            .bytes(b"abc")
            .u64(258)
            .u8(7)
            .digest(&Digest::of([]));
        assert_eq!(
            record.finish().to_string(),
            "4007373f34192ae2cea6b65bdd37db2b4e7e1cf01ff21216470adab79e0b0e50"
        );
    }

    #[test]
    fn fields_do_not_run_together() {
        let split = |a: &[u8], b: &[u8]| Hasher::tagged("t").bytes(a).bytes(b).finish();
        assert_ne!(split(b"ab", b"c"), split(b"a", b"bc"));
        assert_ne!(
            Hasher::tagged("ta").bytes(b"b").finish(),
            Hasher::tagged("t").bytes(b"ab").finish()
        );
    }

    #[test]
    fn text_has_one_spelling() {
        let digest = Digest::of("x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(format!("{digest:?}"), digest.to_string());
        assert_eq!(
            EMPTY.to_uppercase().parse::<Digest>(),
            Err(ParseDigestError::Digit { offset: 0 })
        );
        assert_eq!(
            EMPTY.replace('5', "g").parse::<Digest>(),
            Err(ParseDigestError::Digit { offset: 51 })
        );
        assert_eq!(
            EMPTY[1..].parse::<Digest>(),
            Err(ParseDigestError::Length { found: 63 })
        );
    }

    #[test]
    fn json_is_hex_and_binary_is_bytes() {
        let digest = Digest::of([]);
        assert_eq!(
            serde_json::to_string(&digest).unwrap(),
            format!("\"{EMPTY}\"")
        );
        let json = format!("\"{EMPTY}\"");
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>(&json.to_uppercase()).is_err());
        assert!(serde_json::from_str::<Digest>("[0]").is_err());
        assert_eq!(postcard::to_stdvec(&digest).unwrap(), digest.as_bytes());
        assert_eq!(
            postcard::from_bytes::<Digest>(digest.as_bytes()).unwrap(),
            digest
        );
    }
}
