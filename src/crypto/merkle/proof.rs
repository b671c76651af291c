//! Proofs made from the complete subtrees of a tree (RFC 6962, sections 2.1.1 and 2.1.2).

use thiserror::Error;

use super::root_of_peaks;
use crate::digest::Digest;

/// Where the hashes of complete subtrees are kept.
pub trait Nodes {
    /// Why a hash cannot be had.
    type Error;

    /// The hash of the complete subtree of 2^`level` leaves that begins with the leaf
    /// `index` * 2^`level`.
    ///
    /// # Errors
    /// If the tree is not that large, or reading fails.
    fn node(&self, level: u8, index: u64) -> Result<Digest, Self::Error>;
}

/// Why there is no proof.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProveError<E> {
    /// The tree has no such leaf.
    #[error("a tree of {size} leaves has no leaf {index}, counted from 0")]
    NoSuchLeaf {
        /// The leaf.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// A tree does not begin with a larger one.
    #[error("a tree of {new} leaves cannot begin with one of {old}")]
    Shrunk {
        /// Size of the tree that should be the older.
        old: u64,
        /// Size of the tree that should be the newer.
        new: u64,
    },
    /// A hash cannot be had.
    #[error("a node of the tree cannot be read")]
    Nodes(#[source] E),
}

/// A node of the tree, complete or not, by the leaves below it. It starts at a multiple of
/// a power of two that is no smaller than its length, so that each complete subtree within
/// it has a whole index.
#[derive(Clone, Copy)]
struct Subtree {
    start: u64,
    len: u64,
}

impl Subtree {
    /// The whole tree.
    const fn of(size: u64) -> Self {
        Self {
            start: 0,
            len: size,
        }
    }

    /// The two children of a node of two leaves or more: it splits at k, the largest
    /// power of two below its length.
    fn split(self) -> (Self, Self) {
        let k = self.len.div_ceil(2).next_power_of_two();
        let left = Self { len: k, ..self };
        let right = Self {
            start: self.start.checked_add(k).expect("within the tree"),
            len: self.len.checked_sub(k).expect("k is below the length"),
        };
        (left, right)
    }

    /// Its hash, from those of the complete subtrees that it consists of.
    fn hash<N: Nodes>(self, nodes: &N) -> Result<Digest, N::Error> {
        let mut peaks = Vec::new();
        let mut start = self.start;
        // A complete subtree for every one in the binary form of the length.
        for level in (0..64_u8).rev() {
            let len = 1_u64 << level;
            if self.len & len != 0 {
                peaks.push(nodes.node(level, start >> level)?);
                start = start.saturating_add(len);
            }
        }
        Ok(root_of_peaks(peaks.into_iter()))
    }
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// Those of `nodes`.
pub fn root_of<N: Nodes>(nodes: &N, size: u64) -> Result<Digest, N::Error> {
    Subtree::of(size).hash(nodes)
}

/// The proof that the leaf `index` is in the tree of the first `size` leaves: `PATH` of
/// RFC 6962, section 2.1.1, the leaf's sibling first.
///
/// # Errors
/// If there is no such leaf, and those of `nodes`.
pub fn inclusion_proof<N: Nodes>(
    nodes: &N,
    index: u64,
    size: u64,
) -> Result<Vec<Digest>, ProveError<N::Error>> {
    if index >= size {
        return Err(ProveError::NoSuchLeaf { index, size });
    }
    let mut siblings = Vec::new();
    let mut tree = Subtree::of(size);
    while tree.len > 1 {
        let (left, right) = tree.split();
        let (child, sibling) = if index < right.start {
            (left, right)
        } else {
            (right, left)
        };
        siblings.push(sibling);
        tree = child;
    }
    hashes(nodes, siblings)
}

/// The proof that the tree of the first `new` leaves begins with that of the first `old`:
/// `PROOF` of RFC 6962, section 2.1.2. It is empty if the two are the same, and if the
/// older has no leaves, of which the RFC says nothing: every tree begins with that one.
///
/// # Errors
/// If `old` is above `new`, and those of `nodes`.
pub fn consistency_proof<N: Nodes>(
    nodes: &N,
    old: u64,
    new: u64,
) -> Result<Vec<Digest>, ProveError<N::Error>> {
    if old > new {
        return Err(ProveError::Shrunk { old, new });
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let mut siblings = Vec::new();
    let mut tree = Subtree::of(new);
    // Down to the node that ends where the older tree ends.
    while tree.start.saturating_add(tree.len) != old {
        let (left, right) = tree.split();
        let (child, sibling) = if old <= right.start {
            (left, right)
        } else {
            (right, left)
        };
        siblings.push(sibling);
        tree = child;
    }
    // The verifier knows that node if it is the older tree itself.
    if tree.start > 0 {
        siblings.push(tree);
    }
    hashes(nodes, siblings)
}

/// The hashes of subtrees that were met on the way down, the last one first.
fn hashes<N: Nodes>(nodes: &N, met: Vec<Subtree>) -> Result<Vec<Digest>, ProveError<N::Error>> {
    let hashes = met.into_iter().rev().map(|tree| tree.hash(nodes));
    hashes.collect::<Result<_, _>>().map_err(ProveError::Nodes)
}
