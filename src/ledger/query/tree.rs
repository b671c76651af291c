//! Roots and proofs of the transparency tree.

use aegis_crypto::{Digest, merkle};

use super::core;
use crate::archive::{Archive, ArchiveError};
use crate::tree::{Stored, provable};

/// The root of the transparency tree over the first `size` audit entries; `None` if there
/// are fewer.
///
/// # Errors
/// The archive could not be read.
pub fn tree_root(archive: &dyn Archive, size: u64) -> Result<Option<Digest>, ArchiveError> {
    if size > core(archive)?.audit_entries {
        return Ok(None);
    }
    merkle::root_of(&Stored(archive), size).map(Some)
}

/// The proof that audit entry `entry` is in the tree of the first `size`; `None` if it is
/// not, or if there are fewer entries. For each factor of 256 in the size it reads at most 510
/// rows; so does [`consistency_proof`].
///
/// # Errors
/// The archive could not be read.
pub fn inclusion_proof(
    archive: &dyn Archive,
    entry: u64,
    size: u64,
) -> Result<Option<Vec<Digest>>, ArchiveError> {
    if size > core(archive)?.audit_entries {
        return Ok(None);
    }
    provable(merkle::inclusion_proof(&Stored(archive), entry, size))
}

/// The proof that the tree of the first `to` audit entries begins with that of the first
/// `from`; `None` if that is longer, or if there are fewer entries.
///
/// # Errors
/// The archive could not be read.
pub fn consistency_proof(
    archive: &dyn Archive,
    from: u64,
    to: u64,
) -> Result<Option<Vec<Digest>>, ArchiveError> {
    if to > core(archive)?.audit_entries {
        return Ok(None);
    }
    provable(merkle::consistency_proof(&Stored(archive), from, to))
}
