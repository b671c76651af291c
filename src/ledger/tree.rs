//! The transparency tree: an RFC 6962 tree whose leaf i is the 32 bytes of the hash of audit
//! entry i, so that anyone can check that an entry is in a published head and that a head
//! extends an older one.
//!
//! In memory it is a frontier: one digest for each bit of its size. On disk only the roots
//! of complete subtrees of 256 leaves, of 256 x 256 and so on are kept, one row for 256
//! entries; whatever lies between is computed from at most 255 rows of one level, or from
//! as many audit entries.

use std::ops::ControlFlow;

use aegis_crypto::Digest;
use aegis_crypto::merkle::{self, Frontier, Nodes, ProveError};

use crate::apply::Step;
use crate::archive::{Archive, ArchiveError, Change, Order, Table};
use crate::audit::AuditEntry;
use crate::record::{Record, key};

/// A kept subtree has 2 to the power of this many of the next smaller kept subtrees.
const HEIGHT: u8 = 8;

/// Appends an audit entry's hash, and keeps the subtrees that it completes.
pub(crate) fn grow(tree: &mut Frontier, step: &mut Step<'_>, entry: &Digest) {
    let changes = &mut step.changes;
    tree.push_noting(leaf(entry), |height, place, hash| {
        if height > 0 && height.is_multiple_of(HEIGHT) {
            let level = height.div_euclid(HEIGHT);
            changes.push(Change {
                table: Table::Tree,
                key: key::subtree(level, place),
                value: Some(hash.as_bytes().to_vec()),
            });
        }
    });
}

fn leaf(entry: &Digest) -> Digest {
    merkle::leaf_hash(entry.as_bytes())
}

/// The frontier of the first `size` entries.
pub(crate) fn load(archive: &dyn Archive, size: u64) -> Result<Frontier, ArchiveError> {
    let stored = Stored(archive);
    let mut peaks = Vec::new();
    for height in (0..64_u8).rev() {
        let place = size.checked_shr(height.into()).unwrap_or(0);
        if !place.is_multiple_of(2) {
            // A size of which the bit is set ends one place after the peak of that height
            // begins, all lower bits aside.
            peaks.push(stored.node(height, place.saturating_sub(1))?);
        }
    }
    Frontier::from_peaks(size, peaks).ok_or_else(|| ArchiveError {
        reason: format!("no tree has {size} audit entries"),
    })
}

/// The tree as the tables hold it.
pub(crate) struct Stored<'a>(pub(crate) &'a dyn Archive);

impl Nodes for Stored<'_> {
    type Error = ArchiveError;

    fn node(&self, height: u8, place: u64) -> Result<Digest, ArchiveError> {
        let level = height.div_euclid(HEIGHT);
        let count = 1_u64
            .checked_shl(height.rem_euclid(HEIGHT).into())
            .unwrap_or(0);
        let first = place.saturating_mul(count);
        let end = first.saturating_add(count);
        let mut subtree = Frontier::default();
        let mut take = |hash: Result<Digest, ArchiveError>| hash.map(|hash| subtree.push(hash));
        match level {
            0 => self.scan(
                Table::Audit,
                &key::number(first),
                &key::number(end),
                &mut |value| take(AuditEntry::decode(value).map(|entry| leaf(&entry.hash))),
            )?,
            level => self.scan(
                Table::Tree,
                &key::subtree(level, first),
                &key::subtree(level, end),
                &mut |value| take(root_of_row(value)),
            )?,
        }
        if subtree.size() == count {
            return Ok(subtree.root());
        }
        Err(ArchiveError {
            reason: format!(
                "level {level} of the audit tree has {} rows of {count} from {first} on",
                subtree.size()
            ),
        })
    }
}

impl Stored<'_> {
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let mut fault = Ok(());
        self.0.scan(
            table,
            from,
            Some(to),
            Order::Ascending,
            &mut |_, value| match take(value) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    fault = Err(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        fault
    }
}

fn root_of_row(value: &[u8]) -> Result<Digest, ArchiveError> {
    let bytes = <[u8; 32]>::try_from(value).map_err(|_| ArchiveError {
        reason: format!("a root of the audit tree has {} bytes", value.len()),
    })?;
    Ok(Digest::from_bytes(bytes))
}

/// Tells what cannot be proved, which is `None`, from what cannot be read.
pub(crate) fn provable(
    proof: Result<Vec<Digest>, ProveError<ArchiveError>>,
) -> Result<Option<Vec<Digest>>, ArchiveError> {
    match proof {
        Ok(proof) => Ok(Some(proof)),
        Err(ProveError::NoSuchLeaf { .. } | ProveError::Shrunk { .. }) => Ok(None),
        Err(ProveError::Nodes(error)) => Err(error),
    }
}
