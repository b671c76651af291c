//! A signature's bytes, and how they travel.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// Bytes in an Ed25519 signature.
const LEN: usize = 64;

/// An Ed25519 signature. Never an identity: other bytes may be a signature of the same
/// statement by the same signer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; LEN]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Signature;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{LEN} bytes of a signature")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Signature, E> {
                <[u8; LEN]>::try_from(bytes)
                    .map(Signature)
                    .map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}
