//! A tree that grows, in the memory of its edge.

use serde::{Deserialize, Deserializer, Serialize};

use super::{leaf_hash, node_hash, root_of_peaks};
use crate::digest::Digest;
use crate::json;

/// A tree to which leaves are appended: its size and its *peaks*, the roots of the
/// complete subtrees that it consists of, the largest and leftmost first. There is one
/// peak for each one in the binary form of the size.
///
/// Read back, it is checked as [`Frontier::from_peaks`] does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// The most leaves of a tree that is restored: far more than can be appended one by
    /// one, and far fewer than would overflow the size of one to which they are.
    pub const RESTORED_SIZE_MAX: u64 = 1 << 62;

    /// The tree of `size` leaves with these peaks, the largest first; `None` if a tree of
    /// that size has another number of peaks, or if it is larger than
    /// [`Frontier::RESTORED_SIZE_MAX`].
    #[must_use]
    pub fn from_peaks(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        let count = usize::try_from(size.count_ones()).ok()?;
        (peaks.len() == count && size <= Self::RESTORED_SIZE_MAX).then_some(Self { size, peaks })
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf_hash: Digest) {
        self.push_noting(leaf_hash, |_, _, _| ());
    }

    /// Appends a leaf by its bytes.
    pub fn push_leaf(&mut self, leaf: &[u8]) {
        self.push(leaf_hash(leaf));
    }

    /// Appends a leaf by its hash and hands every subtree that it completes to `note`,
    /// the leaf itself first: level, index and hash, as [`super::Nodes`] gives them out.
    pub fn push_noting(&mut self, leaf_hash: Digest, mut note: impl FnMut(u8, u64, Digest)) {
        let (mut level, mut index, mut hash) = (0_u8, self.size, leaf_hash);
        note(level, index, hash);
        // As in a binary counter: while the new subtree is a right one, its left sibling
        // is the last peak, and the two make one of the next level.
        while index % 2 == 1 {
            let left = self
                .peaks
                .pop()
                .expect("a right subtree has a left sibling");
            hash = node_hash(&left, &hash);
            level = level.checked_add(1).expect("a level is below 64");
            index /= 2;
            note(level, index, hash);
        }
        self.peaks.push(hash);
        self.size = self
            .size
            .checked_add(1)
            .expect("nobody appends 2^62 leaves one by one");
    }

    /// How many leaves there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its complete subtrees, the largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// The root over all leaves.
    #[must_use]
    pub fn root(&self) -> Digest {
        root_of_peaks(self.peaks.iter().copied())
    }
}

impl<'de> Deserialize<'de> for Frontier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename = "Frontier")]
        struct Members {
            size: u64,
            peaks: Vec<Digest>,
        }

        let Members { size, peaks } = Members::deserialize(deserializer)?;
        let found = peaks.len();
        Self::from_peaks(size, peaks).ok_or_else(|| {
            json::refuse(format_args!(
                "a tree of {size} leaves does not have {found} peaks, or is too large"
            ))
        })
    }
}
