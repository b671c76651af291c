//! Signatures that need not be verified twice.
//!
//! Where there is a committee every replica verifies every statement that it applies, so
//! that a lying leader cannot have a forged one counted. The node that took a statement
//! from outside has done so before, and its validator does it as statements arrive; both
//! can remember that by digest and share it with the ledger. A memory only saves work:
//! what it does not know is verified, and what it knows would verify.

use std::fmt;
use std::sync::Arc;

use aegis_crypto::{Digest, Hasher, Jws, JwsError, Kid, PublicKey};

use crate::apply::Ledger;

/// Remembers statements whose signatures were verified.
pub trait Verified: Send + Sync {
    /// Whether the statement with this [`verification_digest`] was verified under the key
    /// that it names. It must never say so of one that was not.
    fn is_verified(&self, statement: &Digest) -> bool;

    /// The statement was verified just now.
    fn remember(&self, statement: Digest);
}

/// Names a statement and the key that it was verified under.
#[must_use]
pub fn verification_digest(kid: &Kid, jws: &str) -> Digest {
    Hasher::tagged("aegis/verified/1")
        .bytes(kid.as_str().as_bytes())
        .bytes(jws.as_bytes())
        .finish()
}

/// The memory that a ledger asks. It is no part of the ledger's state.
#[derive(Clone, Default)]
pub(crate) struct Memory(Option<Arc<dyn Verified>>);

impl Memory {
    pub(crate) fn of(memory: Arc<dyn Verified>) -> Self {
        Self(Some(memory))
    }

    /// Checks that `key` is the key that the statement names and has signed it.
    pub(crate) fn verify(&self, statement: &Jws<'_>, key: &PublicKey) -> Result<(), JwsError> {
        let Some(memory) = &self.0 else {
            return statement.verify(key);
        };
        let kid = key.kid();
        let digest = verification_digest(&kid, statement.compact());
        if *statement.kid() == kid && memory.is_verified(&digest) {
            return Ok(());
        }
        statement.verify(key)?;
        memory.remember(digest);
        Ok(())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

impl PartialEq for Memory {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Memory {}

impl Ledger {
    /// The ledger with a memory of what was verified already.
    #[must_use]
    pub fn with_memory(mut self, memory: Arc<dyn Verified>) -> Self {
        self.memory = Memory::of(memory);
        self
    }
}
