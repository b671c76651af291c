//! Proofs checked against roots (RFC 9162, sections 2.1.3.2 and 2.1.4.2, which spell out
//! for RFC 6962's proofs how).

use thiserror::Error;

use super::node_hash;
use crate::digest::Digest;

/// Why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProofError {
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
    /// The proof has fewer nodes than the sizes ask for.
    #[error("the proof has {found} nodes, fewer than the way to the root takes")]
    TooShort {
        /// How many it has.
        found: usize,
    },
    /// The proof has more nodes than the sizes ask for.
    #[error("the proof has {found} nodes, more than the way to the root takes")]
    TooLong {
        /// How many it has.
        found: usize,
    },
    /// The proof leads to another root of the tree, or of the newer tree.
    #[error("the proof leads to the root {found}, not to {expected}")]
    Root {
        /// Where it leads.
        found: Digest,
        /// The root that is known.
        expected: Digest,
    },
    /// The proof leads to another root of the older tree.
    #[error("the proof leads to the older root {found}, not to {expected}")]
    OldRoot {
        /// Where it leads.
        found: Digest,
        /// The root that is known.
        expected: Digest,
    },
}

/// Checks that the leaf `index` of the tree of `size` leaves under `root` has the hash
/// `leaf_hash`.
///
/// # Errors
/// If the proof shows anything else, or has a node more or less than it takes.
pub fn verify_inclusion(
    leaf_hash: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: &Digest,
) -> Result<(), ProofError> {
    let last = size.checked_sub(1).filter(|last| index <= *last);
    let last = last.ok_or(ProofError::NoSuchLeaf { index, size })?;
    let mut climb = Climb { index, last };
    let mut hash = *leaf_hash;
    for sibling in proof {
        hash = match climb.step(proof.len())? {
            Side::Left => node_hash(sibling, &hash),
            Side::Right => node_hash(&hash, sibling),
        };
    }
    climb.finish(proof.len())?;
    same_root(hash, root)
}

/// Checks that the tree of `new_size` leaves under `new_root` begins with all leaves of
/// the tree of `old_size` leaves under `old_root`.
///
/// Of an older tree without leaves it is known that every tree begins with it, so that
/// nothing is learnt about the newer root.
///
/// # Errors
/// If the proof shows anything else, or has a node more or less than it takes.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Digest,
    new_size: u64,
    new_root: &Digest,
    proof: &[Digest],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::Shrunk {
            old: old_size,
            new: new_size,
        });
    }
    let Some(last_old) = old_size.checked_sub(1) else {
        same_old_root(Digest::of([]), old_root)?;
        no_nodes(proof)?;
        return if new_size == 0 {
            same_root(*old_root, new_root)
        } else {
            Ok(())
        };
    };
    if old_size == new_size {
        no_nodes(proof)?;
        return same_root(*old_root, new_root);
    }
    let last_new = new_size
        .checked_sub(1)
        .expect("the newer tree is the larger one");
    // The climb begins at the largest complete subtree that ends where the older tree
    // ends. If that is the older tree itself, its hash is known and not in the proof.
    let level = last_old.trailing_ones();
    let mut climb = Climb {
        index: last_old >> level,
        last: last_new >> level,
    };
    let (start, siblings) = if old_size.is_power_of_two() {
        (old_root, proof)
    } else {
        proof
            .split_first()
            .ok_or(ProofError::TooShort { found: 0 })?
    };
    let (mut old, mut new) = (*start, *start);
    for sibling in siblings {
        match climb.step(proof.len())? {
            Side::Left => {
                old = node_hash(sibling, &old);
                new = node_hash(sibling, &new);
            }
            // Beyond the end of the older tree.
            Side::Right => new = node_hash(&new, sibling),
        }
    }
    climb.finish(proof.len())?;
    same_old_root(old, old_root)?;
    same_root(new, new_root)
}

/// On which side of the way the next node of the proof stands.
enum Side {
    Left,
    Right,
}

/// The way from a node up to the root: `index` is its place on its level and `last` the
/// place of the level's last node (`fn` and `sn` of the RFC).
struct Climb {
    index: u64,
    last: u64,
}

impl Climb {
    /// One level up, or several: the last node of a level that has no sibling stands for
    /// its parents too.
    fn step(&mut self, found: usize) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::TooLong { found });
        }
        let side = if self.index % 2 == 1 || self.index == self.last {
            let lonely = self.index.trailing_zeros();
            self.index >>= lonely;
            self.last >>= lonely;
            Side::Left
        } else {
            Side::Right
        };
        self.index /= 2;
        self.last /= 2;
        Ok(side)
    }

    /// Checks that the root is reached.
    fn finish(&self, found: usize) -> Result<(), ProofError> {
        if self.last != 0 {
            return Err(ProofError::TooShort { found });
        }
        Ok(())
    }
}

fn no_nodes(proof: &[Digest]) -> Result<(), ProofError> {
    let found = proof.len();
    if found > 0 {
        return Err(ProofError::TooLong { found });
    }
    Ok(())
}

fn same_root(found: Digest, expected: &Digest) -> Result<(), ProofError> {
    if found != *expected {
        let expected = *expected;
        return Err(ProofError::Root { found, expected });
    }
    Ok(())
}

fn same_old_root(found: Digest, expected: &Digest) -> Result<(), ProofError> {
    if found != *expected {
        let expected = *expected;
        return Err(ProofError::OldRoot { found, expected });
    }
    Ok(())
}
