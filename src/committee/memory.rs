//! Signatures that this node has verified already.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_crypto::Digest;
use aegis_ledger::Verified;

/// Statements of one generation; two are kept, 32 bytes each.
const GENERATION_MAX: usize = 1 << 17;

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<Digest>,
    old: HashSet<Digest>,
}

/// Remembers the newest statements whose signatures were verified, at least 131,072 of them:
/// the ledger verifies a ballot when it is applied, and the validator, which counts it right
/// after, need not do so again.
#[derive(Debug, Default)]
pub struct SignatureMemory(Mutex<Generations>);

impl SignatureMemory {
    // Sets are whole between any two operations, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verified for SignatureMemory {
    fn is_verified(&self, statement: &Digest) -> bool {
        let known = self.lock();
        known.young.contains(statement) || known.old.contains(statement)
    }

    fn remember(&self, statement: Digest) {
        let mut known = self.lock();
        if known.young.len() >= GENERATION_MAX {
            known.old = std::mem::take(&mut known.young);
        }
        known.young.insert(statement);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_memory_is_bounded() {
        let memory = SignatureMemory::default();
        let nth = |number: usize| Digest::of(number.to_be_bytes());
        for number in 0..3 * GENERATION_MAX {
            memory.remember(nth(number));
        }
        assert!(!memory.is_verified(&nth(0)));
        for newest in [1, GENERATION_MAX / 2, GENERATION_MAX] {
            assert!(memory.is_verified(&nth(3 * GENERATION_MAX - newest)));
        }
        let known = memory.lock();
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION_MAX);
    }
}
