//! The Merkle tree of RFC 6962, section 2.1, with SHA-256: its root, and proofs about it.
//!
//! A leaf is hashed as `SHA-256(0x00 || leaf)` and a node as
//! `SHA-256(0x01 || left || right)`, so that no leaf can be passed off as a node. A tree
//! of n leaves splits at the largest power of two below n. The root of no leaves is the
//! SHA-256 of nothing.
//!
//! A tree grows by a [`Frontier`], which holds the roots of its complete subtrees and
//! nothing below them. Whoever keeps the complete subtrees of every size, as [`Nodes`],
//! makes proofs from them: that a leaf is in a tree ([`inclusion_proof`]) and that a tree
//! begins with another ([`consistency_proof`]). Whoever has only roots checks them
//! ([`verify_inclusion`], [`verify_consistency`]).

mod frontier;
mod proof;
mod verify;

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

pub use frontier::Frontier;
pub use proof::{Nodes, ProveError, consistency_proof, inclusion_proof, root_of};
pub use verify::{ProofError, verify_consistency, verify_inclusion};

const LEAF_PREFIX: [u8; 1] = [0x00];
const NODE_PREFIX: [u8; 1] = [0x01];

/// The hash of one leaf.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    let hash = Sha256::new().chain_update(LEAF_PREFIX).chain_update(leaf);
    Digest::from_bytes(hash.finalize().into())
}

/// The hash of a node over the hashes of its two children.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let hash = Sha256::new()
        .chain_update(NODE_PREFIX)
        .chain_update(left)
        .chain_update(right);
    Digest::from_bytes(hash.finalize().into())
}

/// The root over `leaves` in their order; of no leaves, the SHA-256 of nothing.
///
/// Memory is one digest for each bit of the number of leaves.
pub fn root<L: AsRef<[u8]>>(leaves: impl Iterator<Item = L>) -> Digest {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push_leaf(leaf.as_ref());
    }
    frontier.root()
}

/// The root over complete subtrees, the largest and leftmost first.
fn root_of_peaks(peaks: impl DoubleEndedIterator<Item = Digest>) -> Digest {
    peaks
        .rev()
        .reduce(|right, left| node_hash(&left, &right))
        .unwrap_or_else(|| Digest::of([]))
}

#[cfg(test)]
mod tests;
