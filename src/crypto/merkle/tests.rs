use std::collections::BTreeMap;
use std::convert::Infallible;

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

/// `PATH` of RFC 6962, section 2.1.1, word for word.
fn naive_path(index: usize, leaves: &[Vec<u8>]) -> Vec<Digest> {
    if leaves.len() == 1 {
        return vec![];
    }
    let split = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(split);
    let (mut path, sibling) = if index < split {
        (naive_path(index, left), naive(right))
    } else {
        (naive_path(index - split, right), naive(left))
    };
    path.push(sibling);
    path
}

/// `PROOF` of RFC 6962, section 2.1.2, word for word.
fn naive_proof(old: usize, leaves: &[Vec<u8>]) -> Vec<Digest> {
    naive_subproof(old, leaves, true)
}

fn naive_subproof(old: usize, leaves: &[Vec<u8>], known: bool) -> Vec<Digest> {
    if old == leaves.len() {
        return if known { vec![] } else { vec![naive(leaves)] };
    }
    let split = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(split);
    let (mut proof, sibling) = if old <= split {
        (naive_subproof(old, left, known), naive(right))
    } else {
        (naive_subproof(old - split, right, false), naive(left))
    };
    proof.push(sibling);
    proof
}

/// Every complete subtree, as a frontier tells of them.
#[derive(Default)]
struct Kept {
    frontier: Frontier,
    nodes: BTreeMap<(u8, u64), Digest>,
}

impl Kept {
    fn of<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> Self {
        let mut kept = Self::default();
        for leaf in leaves {
            let note =
                |level, index, hash| assert_eq!(kept.nodes.insert((level, index), hash), None);
            kept.frontier.push_noting(leaf_hash(leaf.as_ref()), note);
        }
        kept
    }
}

impl Nodes for Kept {
    type Error = (u8, u64);

    fn node(&self, level: u8, index: u64) -> Result<Digest, Self::Error> {
        self.nodes
            .get(&(level, index))
            .copied()
            .ok_or((level, index))
    }
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|leaf| leaf.to_be_bytes().to_vec()).collect()
}

fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

fn size(count: usize) -> u64 {
    count.try_into().unwrap()
}

/// Both neighbours of a proof in length: a node is lost, or one too many at either end.
fn of_other_lengths(proof: &[Digest]) -> Vec<Vec<Digest>> {
    let mut others: Vec<Vec<Digest>> = (0..proof.len())
        .map(|lost| [&proof[..lost], &proof[lost + 1..]].concat())
        .collect();
    for extra in [Digest::ZERO, Digest::of([])].iter().chain(proof) {
        others.push([&[*extra], proof].concat());
        others.push([proof, &[*extra]].concat());
    }
    others
}

/// Every bit of every node flipped, one at a time.
fn with_flipped_bits(proof: &[Digest]) -> impl Iterator<Item = Vec<Digest>> {
    (0..proof.len() * 256).map(|bit| {
        let mut bytes = *proof[bit / 256].as_bytes();
        bytes[bit % 256 / 8] ^= 1 << (bit % 8);
        let mut flipped = proof.to_vec();
        flipped[bit / 256] = Digest::from_bytes(bytes);
        flipped
    })
}

const N10: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const N12: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
const N13: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const N21: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
const LEAF_1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const LEAF_4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";

#[test]
fn certificate_transparency_inclusion_vectors() {
    let kept = Kept::of(LEAVES.map(|leaf| hex::decode(leaf).unwrap()));
    for (index, size, expected) in [
        (0, 1, vec![]),
        (0, 8, vec![LEAF_1, N10, N21]),
        (5, 8, vec![LEAF_4, N13, ROOTS[4]]),
        (2, 3, vec![ROOTS[2]]),
        (1, 5, vec![ROOTS[1], N10, LEAF_4]),
    ] {
        let expected: Vec<Digest> = expected.into_iter().map(digest).collect();
        let proof = inclusion_proof(&kept, index, size).unwrap();
        assert_eq!(proof, expected, "{index} of {size}");
        let leaf = kept.node(0, index).unwrap();
        let root = digest(ROOTS[usize::try_from(size).unwrap()]);
        assert_eq!(verify_inclusion(&leaf, index, size, &proof, &root), Ok(()));
    }
}

#[test]
fn certificate_transparency_consistency_vectors() {
    let kept = Kept::of(LEAVES.map(|leaf| hex::decode(leaf).unwrap()));
    for (old, new, expected) in [
        (1, 1, vec![]),
        (1, 8, vec![LEAF_1, N10, N21]),
        (6, 8, vec![N12, N13, ROOTS[4]]),
        (2, 5, vec![N10, LEAF_4]),
    ] {
        let expected: Vec<Digest> = expected.into_iter().map(digest).collect();
        let proof = consistency_proof(&kept, old, new).unwrap();
        assert_eq!(proof, expected, "{old} to {new}");
        let root = |size: u64| digest(ROOTS[usize::try_from(size).unwrap()]);
        assert_eq!(
            verify_consistency(old, &root(old), new, &root(new), &proof),
            Ok(())
        );
    }
}

#[test]
fn proofs_of_every_size_are_those_of_the_definition() {
    let leaves = numbered(70);
    let kept = Kept::of(&leaves);
    for count in 0..=leaves.len() {
        let (tree, new) = (&leaves[..count], size(count));
        let root = naive(tree);
        assert_eq!(root_of(&kept, new), Ok(root));
        for (index, leaf) in tree.iter().enumerate() {
            let proof = inclusion_proof(&kept, size(index), new).unwrap();
            assert_eq!(proof, naive_path(index, tree), "{index} of {count}");
            let leaf = leaf_hash(leaf);
            let verify =
                |index, proof: &[Digest]| verify_inclusion(&leaf, index, new, proof, &root);
            assert_eq!(verify(size(index), &proof), Ok(()));
            for other in (0..new + 2).filter(|other| *other != size(index)) {
                assert!(
                    verify(other, &proof).is_err(),
                    "{index} as {other} of {count}"
                );
            }
            for other in of_other_lengths(&proof) {
                assert!(verify(size(index), &other).is_err(), "{index} of {count}");
            }
        }
        for before in 1..=count {
            let (old, old_root) = (size(before), naive(&leaves[..before]));
            let proof = consistency_proof(&kept, old, new).unwrap();
            assert_eq!(proof, naive_proof(before, tree), "{before} to {count}");
            let verify = |proof: &[Digest]| verify_consistency(old, &old_root, new, &root, proof);
            assert_eq!(verify(&proof), Ok(()), "{before} to {count}");
            for other in of_other_lengths(&proof) {
                assert!(verify(&other).is_err(), "{before} to {count}");
            }
            let wrong = &Digest::ZERO;
            assert!(verify_consistency(old, wrong, new, &root, &proof).is_err());
            assert!(verify_consistency(old, &old_root, new, wrong, &proof).is_err());
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let leaves = numbered(17);
    let kept = Kept::of(&leaves);
    for count in 1..=leaves.len() {
        let (new, root) = (size(count), naive(&leaves[..count]));
        for (index, leaf) in leaves[..count].iter().enumerate() {
            let (leaf, index) = (leaf_hash(leaf), size(index));
            let proof = inclusion_proof(&kept, index, new).unwrap();
            for flipped in with_flipped_bits(&proof) {
                let refusal = verify_inclusion(&leaf, index, new, &flipped, &root);
                assert!(matches!(refusal, Err(ProofError::Root { .. })));
            }
            for flipped in with_flipped_bits(&[leaf]) {
                assert!(verify_inclusion(&flipped[0], index, new, &proof, &root).is_err());
            }
        }
        for before in 1..count {
            let (old, old_root) = (size(before), naive(&leaves[..before]));
            let proof = consistency_proof(&kept, old, new).unwrap();
            for flipped in with_flipped_bits(&proof) {
                let refusal = verify_consistency(old, &old_root, new, &root, &flipped);
                assert!(matches!(
                    refusal,
                    Err(ProofError::Root { .. } | ProofError::OldRoot { .. })
                ));
            }
        }
    }
}

#[test]
fn every_tree_begins_with_the_empty_one() {
    let kept = Kept::of(numbered(5));
    let (empty, root) = (Digest::of([]), kept.frontier.root());
    assert_eq!(consistency_proof(&kept, 0, 5), Ok(vec![]));
    assert_eq!(verify_consistency(0, &empty, 5, &root, &[]), Ok(()));
    assert_eq!(verify_consistency(0, &empty, 0, &empty, &[]), Ok(()));
    assert_eq!(
        verify_consistency(0, &root, 5, &root, &[]),
        Err(ProofError::OldRoot {
            found: empty,
            expected: root
        })
    );
    assert!(verify_consistency(0, &empty, 0, &root, &[]).is_err());
    assert!(verify_consistency(0, &root, 0, &root, &[]).is_err());
    assert_eq!(
        verify_consistency(0, &empty, 5, &root, &[root]),
        Err(ProofError::TooLong { found: 1 })
    );
}

#[test]
fn what_is_out_of_range_has_no_proof() {
    let kept = Kept::of(numbered(5));
    for (index, size) in [(5, 5), (0, 0), (u64::MAX, 5), (u64::MAX, u64::MAX)] {
        assert_eq!(
            inclusion_proof(&kept, index, size),
            Err(ProveError::NoSuchLeaf { index, size })
        );
        let root = kept.frontier.root();
        assert_eq!(
            verify_inclusion(&root, index, size, &[], &root),
            Err(ProofError::NoSuchLeaf { index, size })
        );
    }
    for (old, new) in [(6, 5), (1, 0), (u64::MAX, 5)] {
        assert_eq!(
            consistency_proof(&kept, old, new),
            Err(ProveError::Shrunk { old, new })
        );
        let root = kept.frontier.root();
        assert_eq!(
            verify_consistency(old, &root, new, &root, &[]),
            Err(ProofError::Shrunk { old, new })
        );
    }
    assert_eq!(root_of(&kept, 6), Err((1, 2)));
    assert_eq!(inclusion_proof(&kept, 0, 8), Err(ProveError::Nodes((2, 1))));
    assert_eq!(
        consistency_proof(&kept, 4, 8),
        Err(ProveError::Nodes((2, 1)))
    );
}

/// A tree of any size, of which no node is the hash of its children.
struct Imagined;

impl Nodes for Imagined {
    type Error = Infallible;

    fn node(&self, level: u8, index: u64) -> Result<Digest, Infallible> {
        assert!(index <= u64::MAX >> level, "node {index} of level {level}");
        Ok(Digest::of([&[level][..], &index.to_be_bytes()].concat()))
    }
}

/// The largest sizes have proofs of the right length, which verifiers walk without
/// overflow, and which lead somewhere else in a tree that does not add up.
#[test]
fn hostile_sizes_do_not_panic() {
    let sizes = [0, 1, 2, 3, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 63) + 1];
    let sizes = || sizes.into_iter().chain([u64::MAX - 1, u64::MAX]);
    let long = [Digest::ZERO; 130];
    for (low, high) in sizes().flat_map(|low| sizes().map(move |high| (low, high))) {
        for length in [0, 1, 2, 62, 63, 64, 65, 128, 130] {
            let (proof, root) = (&long[..length], &Digest::ZERO);
            assert!(verify_inclusion(root, low, high, proof, root).is_err() || high == 1);
            let same = verify_consistency(low, root, high, root, proof);
            assert!(same.is_err() || (low == high && low > 0 && length == 0));
        }
        let inclusion = inclusion_proof(&Imagined, low, high);
        assert_eq!(inclusion.is_ok(), low < high);
        if let Ok(proof) = inclusion {
            let leaf = Imagined.node(0, low).unwrap();
            let found = verify_inclusion(&leaf, low, high, &proof, &leaf);
            assert!(found.is_ok() == (high == 1) && !is_of_length(&found));
        }
        let consistency = consistency_proof(&Imagined, low, high);
        assert_eq!(consistency.is_ok(), low <= high);
        if let Ok(proof) = consistency {
            let found = verify_consistency(low, &leaf_hash(b""), high, &leaf_hash(b""), &proof);
            assert!(!is_of_length(&found), "{low} to {high}");
        }
        root_of(&Imagined, high).unwrap();
    }
}

fn is_of_length(found: &Result<(), ProofError>) -> bool {
    matches!(
        found,
        Err(ProofError::TooShort { .. } | ProofError::TooLong { .. })
    )
}

#[test]
fn a_frontier_is_restored_from_its_peaks() {
    let mut frontier = Frontier::default();
    for leaf in numbered(70) {
        let restored = Frontier::from_peaks(frontier.size(), frontier.peaks().to_vec());
        assert_eq!(restored.as_ref(), Some(&frontier));
        let json = serde_json::to_string(&frontier).unwrap();
        assert_eq!(serde_json::from_str::<Frontier>(&json).unwrap(), frontier);
        let bytes = postcard::to_stdvec(&frontier).unwrap();
        assert_eq!(postcard::from_bytes::<Frontier>(&bytes).unwrap(), frontier);
        frontier.push_leaf(&leaf);
    }
    assert_eq!(frontier.size(), 70);
    let peak = Digest::ZERO;
    for (size, count) in [(0, 1), (1, 0), (3, 1), (4, 2), (u64::MAX, 64), (1 << 63, 1)] {
        assert_eq!(Frontier::from_peaks(size, vec![peak; count]), None);
        let bytes = postcard::to_stdvec(&(size, vec![peak; count])).unwrap();
        assert!(postcard::from_bytes::<Frontier>(&bytes).is_err());
    }
    let mut largest = Frontier::from_peaks(Frontier::RESTORED_SIZE_MAX, vec![peak]).unwrap();
    largest.push(peak);
    assert_eq!(largest.size(), (1 << 62) + 1);
}

proptest! {
    #[test]
    fn streaming_equals_the_definition(
        leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..70)
    ) {
        let kept = Kept::of(&leaves);
        prop_assert_eq!(root(leaves.iter()), naive(&leaves));
        prop_assert_eq!(kept.frontier.root(), naive(&leaves));
        prop_assert_eq!(root_of(&kept, size(leaves.len())), Ok(naive(&leaves)));
    }

    #[test]
    fn verifiers_never_panic(
        low in any::<u64>(), high in any::<u64>(), count in 0_usize..130, seed in any::<u8>()
    ) {
        let proof = vec![Digest::of([seed]); count];
        let root = Digest::ZERO;
        prop_assert!(verify_inclusion(&root, low, high, &proof, &root).is_err());
        prop_assert!(verify_consistency(low, &root, high, &root, &proof).is_err());
    }
}
