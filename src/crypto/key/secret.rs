//! Private keys: made, kept and written out so that no copy outlives its use.

use std::fmt;

use ed25519::pkcs8::spki::der::pem::LineEnding;
use ed25519::pkcs8::{self, DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signer as _, SigningKey};
use thiserror::Error;
use zeroize::Zeroizing;

use super::jwk::{as_str, encode};
use super::{Kid, PublicKey, SIGNATURE_LEN};

/// Bytes in an Ed25519 private key.
const SEED_LEN: usize = 32;

/// An Ed25519 private key. Its memory is wiped when it is dropped, it is never
/// serialized but on request, and its `Debug` shows only the key's name.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

/// The operating system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the operating system gave no randomness for a new key")]
pub struct GenerateKeyError(#[source] getrandom::Error);

/// Why a text is not the private key that it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PemError {
    /// Not a PKCS#8 Ed25519 private key in PEM.
    #[error(
        "not an Ed25519 private key in PKCS#8 PEM, as \
         `openssl genpkey -algorithm ed25519` writes it"
    )]
    Format(#[source] pkcs8::Error),
    /// The file also holds a public key, and it belongs to another private key.
    #[error("the file's public key is not that of its private key, which is {expected}")]
    PublicKey {
        /// Name of the public key that belongs to the private key.
        expected: Kid,
    },
}

impl SecretKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// If the operating system has none to give.
    pub fn generate() -> Result<Self, GenerateKeyError> {
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        getrandom::fill(seed.as_mut_slice()).map_err(GenerateKeyError)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of the given 32 bytes, which must be secret and uniformly random.
    pub fn from_seed(seed: &[u8; SEED_LEN]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        // A clamped scalar is no multiple of the group's order, so its public point is
        // in the prime-order group and not the identity: every check holds already.
        PublicKey(self.0.verifying_key())
    }

    /// Signs a message (RFC 8032, section 5.1.6).
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(message).to_bytes()
    }

    /// The key as PKCS#8 version 1 in PEM, byte for byte as
    /// `openssl genpkey -algorithm ed25519` writes it.
    pub fn to_pem(&self) -> Zeroizing<String> {
        KeypairBytes {
            secret_key: self.0.to_bytes(),
            public_key: None,
        }
        .to_pkcs8_pem(LineEnding::LF)
        .expect("48 bytes of DER encode")
    }

    /// Reads a key from PKCS#8 in PEM, version 1 or 2; a public key in it must agree.
    ///
    /// # Errors
    /// If the text is anything else, an encrypted key or another algorithm's included.
    pub fn from_pem(pem: &str) -> Result<Self, PemError> {
        let pair = KeypairBytes::from_pkcs8_pem(pem).map_err(PemError::Format)?;
        let key = Self::from_seed(&pair.secret_key);
        match pair.public_key {
            Some(public) if public.to_bytes() != key.public().to_bytes() => {
                Err(PemError::PublicKey {
                    expected: key.public().kid(),
                })
            }
            Some(_) | None => Ok(key),
        }
    }

    /// The key as a private JWK (RFC 8037, section 2), for JOSE libraries that want one.
    pub fn to_jwk_json(&self) -> Zeroizing<String> {
        let x = encode(&self.public().to_bytes());
        let d = Zeroizing::new(encode(self.0.as_bytes()));
        let parts = [
            r#"{"crv":"Ed25519","d":""#,
            as_str(&d),
            r#"","kty":"OKP","x":""#,
            as_str(&x),
            r#""}"#,
        ];
        // `concat` reserves the whole length first, so that no outgrown buffer is left
        // behind unwiped.
        Zeroizing::new(parts.concat())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public().kid())
    }
}
