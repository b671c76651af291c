//! The transparency tree: roots and proofs from the tables, against all entries.

use std::sync::atomic::{AtomicUsize, Ordering};

use aegis_crypto::{Digest, merkle};
use aegis_ledger::*;
use proptest::prelude::*;

use crate::tables::Tables;
use crate::world::*;

/// A cluster with so many audit entries, and their hashes.
fn grown(entries: usize) -> (World, Vec<Digest>) {
    let mut world = World::new();
    let mut hashes = Vec::with_capacity(entries);
    for _ in 0..entries {
        world.tick_at(world.now + 1);
        hashes.push(world.ledger.core().audit_head);
    }
    (world, hashes)
}

fn naive_root(hashes: &[Digest]) -> Digest {
    merkle::root(hashes.iter())
}

/// Checks root and proofs between two sizes.
fn check(tables: &Tables, hashes: &[Digest], entry: u64, from: u64, to: u64) {
    let root = |size: u64| query::tree_root(tables, size).unwrap().unwrap();
    let expected = naive_root(&hashes[..usize::try_from(to).unwrap()]);
    assert_eq!(root(to), expected, "of {to}");
    let consistency = query::consistency_proof(tables, from, to).unwrap().unwrap();
    merkle::verify_consistency(from, &root(from), to, &expected, &consistency).unwrap();
    let proof = query::inclusion_proof(tables, entry, to).unwrap();
    assert_eq!(proof.is_some(), entry < to);
    if let Some(proof) = proof {
        let hash = hashes[usize::try_from(entry).unwrap()];
        let leaf = merkle::leaf_hash(hash.as_bytes());
        merkle::verify_inclusion(&leaf, entry, to, &proof, &expected).unwrap();
    }
}

/// Past three subtrees of 256 entries, at every size, restarting now and then.
#[test]
fn the_tree_is_that_of_all_entries_at_every_size() {
    let mut world = World::new();
    let mut hashes = Vec::new();
    for size in 1..=800_u64 {
        world.tick_at(world.now + 1);
        hashes.push(world.ledger.core().audit_head);
        if size % 37 == 0 || size % 256 < 2 {
            world.restart();
        }
        assert_eq!(world.ledger.tree_root(), naive_root(&hashes), "{size}");
        assert_eq!(world.tables.rows(Table::Tree) as u64, size / 256);
    }
    for size in 0..=800 {
        let root = query::tree_root(&world.tables, size as u64).unwrap();
        assert_eq!(root, Some(naive_root(&hashes[..size])), "{size}");
    }
    assert_eq!(query::tree_root(&world.tables, 801).unwrap(), None);
    assert_eq!(query::inclusion_proof(&world.tables, 0, 801).unwrap(), None);
    assert_eq!(
        query::inclusion_proof(&world.tables, 800, 800).unwrap(),
        None
    );
    assert_eq!(
        query::consistency_proof(&world.tables, 0, 801).unwrap(),
        None
    );
    assert_eq!(query::consistency_proof(&world.tables, 9, 8).unwrap(), None);
}

#[test]
fn a_tree_of_two_levels_is_kept_and_proved() {
    let size = 65_536 + 256 + 3;
    let (mut world, hashes) = grown(size);
    let size = size as u64;
    world.restart();
    assert_eq!(world.ledger.tree_root(), naive_root(&hashes));
    assert_eq!(world.tables.rows(Table::Tree), 257 + 1);
    let edges = [0, 1, 255, 256, 257, 65_535, 65_536, 65_537, size - 1, size];
    for to in edges {
        for from in edges.into_iter().filter(|from| *from <= to) {
            check(&world.tables, &hashes, from, from, to);
        }
    }
}

#[test]
fn proofs_hold_between_any_sizes() {
    let (world, hashes) = grown(1_500);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(200)
    };
    proptest!(config, |(sizes in (0..=1_500_u64, 0..=1_500_u64), entry in 0..1_500_u64)| {
        let (a, b) = sizes;
        check(&world.tables, &hashes, entry, a.min(b), a.max(b));
    });
}

/// Counts the rows that are read.
struct Counting<'a> {
    tables: &'a Tables,
    rows: AtomicUsize,
}

impl Archive for Counting<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.rows.fetch_add(1, Ordering::Relaxed);
        self.tables.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: Visitor<'_>,
    ) -> Result<(), ArchiveError> {
        self.tables.scan(table, from, to, order, &mut |key, value| {
            self.rows.fetch_add(1, Ordering::Relaxed);
            visit(key, value)
        })
    }
}

#[test]
fn a_proof_reads_few_rows() {
    let size = 65_535;
    let (world, _) = grown(size);
    let size = size as u64;
    let rows = |prove: &dyn Fn(&dyn Archive)| {
        let counting = Counting {
            tables: &world.tables,
            rows: AtomicUsize::new(0),
        };
        prove(&counting);
        counting.rows.into_inner()
    };
    for entry in [0, 1, 32_767, 32_768, size - 1] {
        let inclusion = rows(&|archive| {
            query::inclusion_proof(archive, entry, size)
                .unwrap()
                .unwrap();
        });
        let consistency = rows(&|archive| {
            query::consistency_proof(archive, entry, size)
                .unwrap()
                .unwrap();
        });
        // For each factor of 256 at most 255 rows on the way, and 255 at the right edge.
        assert!(inclusion <= 4 * 255 + 1, "{entry}: {inclusion}");
        assert!(consistency <= 4 * 255 + 1, "{entry}: {consistency}");
    }
    let loaded = rows(&|archive| {
        Ledger::load(archive, &world.genesis).unwrap();
    });
    assert!(loaded <= 2 * 255 + 1, "{loaded}");
}

/// A missing row is a failure of the disk, and never another root.
#[test]
fn a_lost_row_is_noticed() {
    let (mut world, _) = grown(300);
    world.tables.write(vec![Change {
        table: Table::Tree,
        key: key::subtree(1, 0),
        value: None,
    }]);
    assert!(query::tree_root(&world.tables, 300).is_err());
    assert!(Ledger::load(&world.tables, &world.genesis).is_err());
}
