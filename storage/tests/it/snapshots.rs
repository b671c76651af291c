//! Snapshot files: saving, verifying, installing, restoring.

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use aegis_crypto::Digest;
use aegis_ledger::{Archive, Change, Table};
use aegis_storage::{
    BadSnapshot, CreateError, Identity, InstallError, OpenError, RestoreError, SaveError,
    SnapshotInfo, SnapshotReader, Store, restore, save_atomic, verify,
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::support::{
    Folder, append, applied, delete, dump, flip, identity, put, read_all, records,
};

fn sample_changes() -> Vec<Change> {
    Table::ALL
        .into_iter()
        .flat_map(|table| {
            (0..3u8).map(move |key| put(table, &[key; 3], format!("{table:?} {key}").as_bytes()))
        })
        .collect()
}

/// A store with some history, applied up to entry 9.
fn folder_with_state() -> (Folder, Store) {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..12));
    store.commit_state(&sample_changes(), &applied(9)).unwrap();
    (folder, store)
}

fn check(bytes: &[u8]) -> Result<SnapshotInfo, BadSnapshot> {
    SnapshotReader::new(Cursor::new(bytes))?.read(|_| Ok(()))
}

fn saved(folder: &Folder, store: &Store) -> (PathBuf, Vec<u8>, SnapshotInfo) {
    let path = folder.beside("state.snapshot");
    let info = save_atomic(&store.view(), &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    (path, bytes, info)
}

#[test]
fn a_snapshot_says_what_is_in_it() {
    let (folder, store) = folder_with_state();
    let (path, bytes, info) = saved(&folder, &store);
    assert_eq!(verify(&path).unwrap(), info);
    assert_eq!(info.header.applied, applied(9));
    assert_eq!(info.header.cluster_id, identity().cluster_id);
    assert_eq!(info.records, [3; Table::ALL.len()]);
    assert_eq!(info.records_of(Table::Events), 3);
    assert_eq!(info.bytes, bytes.len() as u64);
    let (body, digest) = bytes.split_last_chunk::<32>().unwrap();
    assert_eq!(info.digest, Digest::of(body));
    assert_eq!(info.digest.as_bytes(), digest);
}

/// The format does not change by accident.
#[test]
fn the_format_is_pinned() {
    let (folder, store) = folder_with_state();
    let (_, _, info) = saved(&folder, &store);
    assert_eq!(
        info.digest.to_string(),
        "d8c01bd0446ab66d2d7d8670509399a37d7c88faa4db3fd3316e37a46c12cf45"
    );
}

#[test]
fn the_same_state_gives_the_same_bytes_on_every_node() {
    let (folder, store) = folder_with_state();
    let (_, bytes, _) = saved(&folder, &store);

    let other = Folder::without_store(tempfile::tempdir().unwrap());
    let node = Identity {
        node_id: 2,
        store_id: [9; 16],
        ..identity()
    };
    Store::create(&other.path(), &node).unwrap();
    let store = other.open();
    append(&store, records(0..20));
    let mut changes = sample_changes();
    changes.reverse();
    store
        .commit_state(&[put(Table::Core, b"gone", b"")], &applied(2))
        .unwrap();
    for change in &changes {
        store.commit_state([change], &applied(5)).unwrap();
    }
    store
        .commit_state(&[delete(Table::Core, b"gone")], &applied(9))
        .unwrap();
    drop(store);
    let store = other.open();
    assert_eq!(saved(&other, &store).1, bytes);
}

#[test]
fn every_flipped_bit_is_found() {
    let (folder, store) = folder_with_state();
    let (_, bytes, _) = saved(&folder, &store);
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            assert!(check(&flipped).is_err(), "bit {bit} of byte {position}");
        }
    }
}

#[test]
fn every_other_length_is_refused() {
    let (folder, store) = folder_with_state();
    let (_, bytes, _) = saved(&folder, &store);
    for len in 0..bytes.len() {
        let outcome = check(&bytes[..len]);
        assert!(
            matches!(outcome, Err(BadSnapshot::Truncated { .. })),
            "{len}: {outcome:?}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(check(&longer), Err(BadSnapshot::Trailing)));
}

#[test]
fn a_long_snapshot_is_read_in_chunks() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..1));
    let mut seed = 1u64;
    let changes: Vec<_> = (0..100u8)
        .map(|key| {
            let mut value = vec![0; 20_000 + usize::from(key)];
            for byte in &mut value {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = seed.to_be_bytes()[0];
            }
            put(Table::Documents, &[key], &value)
        })
        .collect();
    store.commit_state(&changes, &applied(0)).unwrap();
    let (path, bytes, info) = saved(&folder, &store);
    assert!(info.chunks > 5, "{}", info.chunks);
    assert!(info.raw_bytes > 2_000_000);

    let mut found = Vec::new();
    let reader = SnapshotReader::new(&bytes[..]).unwrap();
    reader
        .read::<BadSnapshot>(|chunk| {
            for record in chunk.records() {
                found.push(put(record.table, record.key, record.value));
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(found, changes);

    let target = Folder::new();
    let installed = target.open();
    installed.install(&path).unwrap();
    assert_eq!(dump(&installed.view()), dump(&store.view()));
}

#[test]
fn nothing_to_save() {
    let folder = Folder::new();
    let path = folder.beside("empty.snapshot");
    let outcome = save_atomic(&folder.open().view(), &path);
    assert!(matches!(outcome, Err(SaveError::NothingApplied)));
    assert!(!path.exists());
    assert_eq!(
        fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1,
        "no temporary file is left"
    );
}

/// Builds snapshots whose checksums and digest are right, whatever they contain.
struct Forger(Vec<u8>);

impl Forger {
    fn new(version: u16, header_len: u32) -> Self {
        let mut bytes = b"AEGISNAP".to_vec();
        bytes.extend(version.to_be_bytes());
        bytes.extend(header_len.to_be_bytes());
        bytes.extend(identity().cluster_id.as_bytes());
        bytes.extend(0u64.to_be_bytes());
        bytes.extend(9u64.to_be_bytes());
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        Self(bytes)
    }

    fn frame(mut self, kind: u8, raw_len: usize, stored: &[u8]) -> Self {
        let mut head = vec![kind];
        head.extend(u32::try_from(raw_len).unwrap().to_be_bytes());
        head.extend(u32::try_from(stored.len()).unwrap().to_be_bytes());
        let checksum = crc32c::crc32c(&[&head[..], stored].concat());
        self.0.extend(head);
        self.0.extend(checksum.to_be_bytes());
        self.0.extend(stored);
        self
    }

    fn chunk(self, raw: &[u8]) -> Self {
        self.frame(1, raw.len(), &lz4_flex::block::compress(raw))
    }

    fn footer(self, chunks: u64, raw_bytes: u64, tables: &[(u8, u64)]) -> Self {
        let mut footer = chunks.to_be_bytes().to_vec();
        footer.extend(raw_bytes.to_be_bytes());
        for (table, records) in tables {
            footer.push(*table);
            footer.extend(records.to_be_bytes());
        }
        self.frame(2, footer.len(), &footer)
    }

    fn finish(mut self) -> Vec<u8> {
        let digest = Sha256::digest(&self.0);
        self.0.extend(digest);
        self.0
    }
}

fn raw_record(table: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut raw = vec![table];
    raw.extend(u32::try_from(key.len()).unwrap().to_be_bytes());
    raw.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
    raw.extend(key);
    raw.extend(value);
    raw
}

#[test]
fn a_snapshot_by_another_hand_is_read() {
    let raw = [raw_record(0, b"a", b"1"), raw_record(7, b"a", b"2")].concat();
    let bytes = Forger::new(1, 48)
        .chunk(&raw)
        .footer(1, raw.len() as u64, &[(0, 1), (7, 1)])
        .finish();
    let info = check(&bytes).unwrap();
    assert_eq!(info.records_of(Table::Ballots), 1);
    assert_eq!(info.header.applied.index, 9);
}

#[test]
fn well_formed_lies_are_refused() {
    let good = raw_record(0, b"a", b"1");
    let after = |raw: &[u8]| Forger::new(1, 48).chunk(raw);
    let len = |raw: &[u8]| raw.len() as u64;
    let unknown = u8::try_from(Table::ALL.len()).unwrap();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "a newer format",
            Forger::new(2, 48).footer(0, 0, &[]).finish(),
        ),
        (
            "a header too short",
            Forger::new(1, 47).footer(0, 0, &[]).finish(),
        ),
        (
            "a header too long",
            Forger::new(1, u32::MAX).footer(0, 0, &[]).finish(),
        ),
        (
            "an unknown part",
            Forger::new(1, 48).frame(3, 1, b"x").finish(),
        ),
        (
            "an empty chunk",
            Forger::new(1, 48).frame(1, 0, b"").finish(),
        ),
        (
            "a chunk beyond the bound",
            Forger::new(1, 48).frame(1, 1 << 30, b"x").finish(),
        ),
        (
            "a chunk that grows",
            Forger::new(1, 48).frame(1, 1, &[0; 4096]).finish(),
        ),
        (
            "no LZ4 block",
            Forger::new(1, 48).frame(1, 100, &[0xff; 20]).finish(),
        ),
        (
            "a chunk shorter than it says",
            Forger::new(1, 48)
                .frame(1, good.len() + 1, &lz4_flex::block::compress(&good))
                .finish(),
        ),
        (
            "an unknown table",
            after(&raw_record(unknown, b"a", b"")).finish(),
        ),
        ("half a record", after(&good[..good.len() - 1]).finish()),
        ("half a record's head", after(&good[..5]).finish()),
        (
            "a key beyond the bound",
            after(&raw_record(0, &[0; 4097], b"")).finish(),
        ),
        (
            "a repeated key",
            after(&[&good[..], &good[..]].concat()).finish(),
        ),
        (
            "a key in the next chunk that goes back",
            after(&raw_record(1, b"a", b"")).chunk(&good).finish(),
        ),
        (
            "a wrong number of chunks",
            after(&good).footer(2, len(&good), &[(0, 1)]).finish(),
        ),
        (
            "a wrong number of bytes",
            after(&good).footer(1, 0, &[(0, 1)]).finish(),
        ),
        (
            "a wrong number of records",
            after(&good).footer(1, len(&good), &[(0, 2)]).finish(),
        ),
        (
            "records of another table",
            after(&good).footer(1, len(&good), &[(1, 1)]).finish(),
        ),
        (
            "a table counted twice",
            after(&good)
                .footer(1, len(&good), &[(0, 1), (0, 1)])
                .finish(),
        ),
        ("half a count", after(&good).frame(2, 20, &[0; 20]).finish()),
    ];
    for (lie, bytes) in cases {
        let outcome = check(&bytes);
        assert!(
            !matches!(
                outcome,
                Ok(_) | Err(BadSnapshot::Truncated { .. } | BadSnapshot::Io(_))
            ),
            "{lie}: {outcome:?}"
        );
    }
}

#[test]
fn an_installed_snapshot_replaces_the_tables_under_an_open_view() {
    let (source_folder, source) = folder_with_state();
    let (path, _, info) = saved(&source_folder, &source);

    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..3));
    store
        .commit_state(&[put(Table::Ballots, b"old", b"1")], &applied(2))
        .unwrap();
    let old = store.view();
    let old_content = dump(&old);
    let old_tables = store.tables();

    assert_eq!(store.install(&path).unwrap(), info);
    assert_eq!(dump(&store.view()), dump(&source.view()));
    assert_eq!(store.read_applied().unwrap(), Some(applied(9)));
    assert_eq!(dump(&old), old_content);
    assert_eq!(dump(&old_tables), old_content);
    assert_eq!(old.applied().unwrap(), Some(applied(2)));
    assert_eq!(
        store.view().get(Table::Ballots, b"old").unwrap(),
        None,
        "nothing of the old tables shows through"
    );

    let killed = folder.crash_copy();
    store.purge(9, Bytes::from_static(b"nine")).unwrap();
    append(&store, records(10..12));
    store
        .commit_state(&[put(Table::Core, b"new", b"")], &applied(11))
        .unwrap();
    drop((store, old, old_tables));

    let store = folder.open();
    assert_eq!(store.read_applied().unwrap(), Some(applied(11)));
    assert_eq!(read_all(&store), records(10..12));
    drop(store);
    assert_eq!(columns_of_tables(&folder), 4, "the old generation is gone");

    // Killed before the log followed: the tables are ahead of the log, as they may.
    let store = killed.open();
    assert_eq!(store.read_applied().unwrap(), Some(applied(9)));
    assert_eq!(read_all(&store), records(0..3));
}

fn columns_of_tables(folder: &Folder) -> usize {
    folder
        .columns()
        .iter()
        .filter(|name| name.contains('@'))
        .count()
}

#[test]
fn a_snapshot_that_fails_to_install_changes_nothing() {
    let (source_folder, source) = folder_with_state();
    let (path, bytes, _) = saved(&source_folder, &source);
    let (folder, store) = folder_with_state();
    let content = dump(&store.view());

    flip(&path, bytes.len() - 1);
    assert!(matches!(store.install(&path), Err(InstallError::Bad(_))));
    assert_eq!(dump(&store.view()), content);
    fs::write(&path, &bytes).unwrap();
    store.install(&path).unwrap();

    append(&store, records(12..13));
    store.commit_state(&[], &applied(12)).unwrap();
    assert!(matches!(
        store.install(&path),
        Err(InstallError::Older {
            applied: 12,
            found: 9
        })
    ));
    drop(store);
    assert_eq!(dump(&folder.open().view()), content);
}

#[test]
fn a_half_installed_generation_is_dropped_at_start() {
    let (folder, store) = folder_with_state();
    let content = dump(&store.view());
    drop(store);
    folder.edit(|db| {
        for name in ["ledger@1", "ballots@1"] {
            db.create_cf(name, &rocksdb::Options::default()).unwrap();
            let column = db.cf_handle(name).unwrap();
            db.put_cf(&column, b"\0half", b"installed").unwrap();
        }
    });
    assert_eq!(columns_of_tables(&folder), 6);
    let store = folder.open();
    assert_eq!(dump(&store.view()), content);
    drop(store);
    assert_eq!(columns_of_tables(&folder), 4);
}

#[test]
fn another_clusters_snapshot_is_refused() {
    let (source_folder, source) = folder_with_state();
    let (path, _, _) = saved(&source_folder, &source);
    let install = |identity: Identity| {
        let folder = Folder::without_store(tempfile::tempdir().unwrap());
        Store::create(&folder.path(), &identity).unwrap();
        folder.open().install(&path).unwrap_err()
    };
    let error = install(Identity {
        cluster_id: Digest::of("other"),
        ..identity()
    });
    assert!(matches!(error, InstallError::OtherCluster { .. }));
    let error = install(Identity {
        incarnation: 1,
        ..identity()
    });
    assert!(matches!(
        error,
        InstallError::OtherIncarnation {
            expected: 1,
            found: 0
        }
    ));
}

fn restored() -> Identity {
    Identity {
        node_id: 11,
        incarnation: 1,
        store_id: [1; 16],
        ..identity()
    }
}

#[test]
fn a_restored_folder_opens_and_continues_behind_the_snapshot() {
    let (source_folder, source) = folder_with_state();
    let (path, _, info) = saved(&source_folder, &source);
    let folder = Folder::without_store(tempfile::tempdir().unwrap());
    let dir = folder.path();
    assert_eq!(
        restore(&path, &dir, &restored(), b"applied", b"purged").unwrap(),
        info
    );

    let store = folder.open();
    assert_eq!(*store.identity(), restored());
    assert_eq!(dump(&store.view()), dump(&source.view()));
    let position = store.read_applied().unwrap().unwrap();
    assert_eq!((position.index, &position.bytes[..]), (9, &b"applied"[..]));
    let bounds = store.log_bounds();
    assert_eq!((bounds.first, bounds.last), (None, Some(9)));
    assert_eq!(bounds.purged.unwrap(), "purged");
    append(&store, records(10..11));
    drop(store);
    assert_eq!(read_all(&folder.open()), records(10..11));

    let again = restore(&path, &dir, &restored(), b"applied", b"purged");
    assert!(
        matches!(
            again,
            Err(RestoreError::Create(CreateError::NotEmpty { .. }))
        ),
        "{again:?}"
    );
}

#[test]
fn a_restoration_that_failed_leaves_a_folder_that_does_not_open() {
    let (source_folder, source) = folder_with_state();
    let (path, bytes, _) = saved(&source_folder, &source);
    flip(&path, bytes.len() - 1);
    let folder = Folder::without_store(tempfile::tempdir().unwrap());
    let dir = folder.path();
    let outcome = restore(&path, &dir, &restored(), b"", b"");
    assert!(matches!(outcome, Err(RestoreError::Bad(_))), "{outcome:?}");
    assert!(matches!(
        folder.try_open(),
        Err(OpenError::Incomplete { .. })
    ));
    flip(&path, bytes.len() - 1);
    assert!(restore(&path, &dir, &restored(), b"", b"").is_err());
    fs::remove_dir_all(&dir).unwrap();
    restore(&path, &dir, &restored(), b"", b"").unwrap();
}

#[test]
fn a_restoration_draws_a_later_incarnation() {
    let (source_folder, source) = folder_with_state();
    let (path, _, _) = saved(&source_folder, &source);
    let dir = source_folder.beside("restored");
    let outcome = restore(&path, &dir, &identity(), b"", b"");
    assert!(matches!(
        outcome,
        Err(RestoreError::Incarnation { found: 0, given: 0 })
    ));
    let other = Identity {
        cluster_id: Digest::of("other"),
        ..restored()
    };
    let outcome = restore(&path, &dir, &other, b"", b"");
    assert!(matches!(outcome, Err(RestoreError::OtherCluster { .. })));
    assert!(!dir.exists(), "nothing was begun");
}
