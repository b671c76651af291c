//! The audit chain: one entry per applied command and one per closing, each naming the
//! hash of the one before, so that nothing can be altered, inserted or left out without
//! changing every hash that follows.

use aegis_crypto::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::ids::{LedgerTime, LogIndex};

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number, from 0.
    pub seq: u64,
    /// The log index of the entry that was applied.
    pub index: LogIndex,
    /// Ledger time.
    pub time: LedgerTime,
    /// On whose behalf.
    pub principal: String,
    /// The command's kind, or `closing`.
    pub kind: String,
    /// The digest of the command or of the closing.
    pub payload: Digest,
    /// `ok`, or the code of the refusal.
    pub outcome: String,
    /// The hash of the entry before; zero for the first.
    pub previous: Digest,
    /// The hash of all the above.
    pub hash: Digest,
}

/// What an entry says, before it is chained.
pub(crate) struct Link<'a> {
    pub(crate) index: LogIndex,
    pub(crate) time: LedgerTime,
    pub(crate) principal: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) payload: Digest,
    pub(crate) outcome: &'a str,
}

impl AuditEntry {
    /// Chains a link after the entry whose hash is `previous`.
    pub(crate) fn chain(seq: u64, previous: Digest, link: &Link<'_>) -> Self {
        let mut entry = Self {
            seq,
            index: link.index,
            time: link.time,
            principal: link.principal.to_owned(),
            kind: link.kind.to_owned(),
            payload: link.payload,
            outcome: link.outcome.to_owned(),
            previous,
            hash: Digest::ZERO,
        };
        entry.hash = entry.computed_hash();
        entry
    }

    /// The hash that the entry's content asks for.
    #[must_use]
    pub fn computed_hash(&self) -> Digest {
        Hasher::tagged("aegis/audit/1")
            .u64(self.seq)
            .u64(self.index.0)
            .u64(self.time.0)
            .bytes(self.principal.as_bytes())
            .bytes(self.kind.as_bytes())
            .digest(&self.payload)
            .bytes(self.outcome.as_bytes())
            .digest(&self.previous)
            .finish()
    }
}

/// A chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// An entry is missing or out of place.
    #[error("entry {found} stands where entry {expected} should")]
    Gap {
        /// The number found.
        found: u64,
        /// The number expected.
        expected: u64,
    },
    /// An entry names another predecessor.
    #[error("entry {seq} names {named} as its predecessor, whose hash is {actual}")]
    Previous {
        /// The entry.
        seq: u64,
        /// The hash it names.
        named: Digest,
        /// The hash of the entry before it.
        actual: Digest,
    },
    /// An entry's content was altered.
    #[error("entry {seq} carries hash {carried}, its content hashes to {computed}")]
    Hash {
        /// The entry.
        seq: u64,
        /// The hash it carries.
        carried: Digest,
        /// The hash of its content.
        computed: Digest,
    },
}

/// Checks a chain entry by entry, with constant memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainVerifier {
    next: u64,
    head: Digest,
}

impl Default for ChainVerifier {
    fn default() -> Self {
        Self {
            next: 0,
            head: Digest::ZERO,
        }
    }
}

impl ChainVerifier {
    /// Checks the next entry.
    ///
    /// # Errors
    /// The first way in which the chain does not hold.
    pub fn push(&mut self, entry: &AuditEntry) -> Result<(), ChainError> {
        if entry.seq != self.next {
            return Err(ChainError::Gap {
                found: entry.seq,
                expected: self.next,
            });
        }
        if entry.previous != self.head {
            return Err(ChainError::Previous {
                seq: entry.seq,
                named: entry.previous,
                actual: self.head,
            });
        }
        let computed = entry.computed_hash();
        if computed != entry.hash {
            return Err(ChainError::Hash {
                seq: entry.seq,
                carried: entry.hash,
                computed,
            });
        }
        self.next = self.next.saturating_add(1);
        self.head = entry.hash;
        Ok(())
    }

    /// How many entries held.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.next
    }

    /// The hash of the last.
    #[must_use]
    pub const fn head(&self) -> Digest {
        self.head
    }
}
