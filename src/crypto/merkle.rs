//! The Merkle tree hash of RFC 6962, section 2.1, with SHA-256.
//!
//! A leaf is hashed as `SHA-256(0x00 || leaf)` and a node as
//! `SHA-256(0x01 || left || right)`, so that no leaf can be passed off as a node. A tree
//! of n leaves splits at the largest power of two below n.

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

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
    // Roots of the complete subtrees so far, the largest first, with their heights. A
    // binary counter: two subtrees of one height merge into one of the next, so heights
    // strictly fall along the stack.
    let mut peaks: Vec<(u32, Digest)> = Vec::new();
    for leaf in leaves {
        let mut height = 0_u32;
        let mut hash = leaf_hash(leaf.as_ref());
        while let Some((_, left)) = peaks.pop_if(|(peak, _)| *peak == height) {
            hash = node_hash(&left, &hash);
            height = height.saturating_add(1);
        }
        peaks.push((height, hash));
    }
    peaks
        .into_iter()
        .map(|(_, peak)| peak)
        .rev()
        .reduce(|right, left| node_hash(&left, &right))
        .unwrap_or_else(|| Digest::of([]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The leaves and roots that the reference implementation of Certificate Transparency
    /// tests with.
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn certificate_transparency_vectors() {
        let leaves = LEAVES.map(|leaf| hex::decode(leaf).unwrap());
        for (size, expected) in ROOTS.into_iter().enumerate() {
            assert_eq!(
                root(leaves[..size].iter()).to_string(),
                expected,
                "of {size}"
            );
        }
    }

    #[test]
    fn a_node_is_no_leaf() {
        let (left, right) = (leaf_hash(b"a"), leaf_hash(b"b"));
        let node = [left.as_bytes().as_slice(), right.as_bytes()].concat();
        assert_ne!(root([node].iter()), root(["a", "b"].iter()));
    }

    /// The definition in RFC 6962, section 2.1, word for word.
    fn naive(leaves: &[Vec<u8>]) -> Digest {
        match leaves {
            [] => Digest::of([]),
            [leaf] => Digest::of([&[0][..], leaf].concat()),
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                let (left, right) = (naive(left), naive(right));
                Digest::of([&[1][..], left.as_ref(), right.as_ref()].concat())
            }
        }
    }

    proptest! {
        #[test]
        fn streaming_equals_the_definition(
            leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..70)
        ) {
            prop_assert_eq!(root(leaves.iter()), naive(&leaves));
        }
    }
}
