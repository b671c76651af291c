//! Folders that must not open, each with its own reason.

use std::fs;

use aegis_ledger::Table;
use aegis_storage::{CreateError, FatalError, OpenError, Store};
use bytes::Bytes;

use crate::support::{Folder, append, applied, flip, identity, put, read_all, records, save_vote};

/// A folder whose first entries are in table files and whose last ones are in the log.
fn folder_with_history() -> Folder {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..50));
    store
        .commit_state(&[put(Table::Core, b"k", b"v")], &applied(20))
        .unwrap();
    drop(store);
    // Opening replays the log into table files.
    let store = folder.open();
    append(&store, records(50..100));
    drop(store);
    folder
}

#[test]
fn a_folder_without_a_store() {
    let folder = Folder::new();
    let missing = folder.beside("missing");
    assert!(matches!(
        Store::open(&missing, &folder.options),
        Err(OpenError::Missing { .. })
    ));
    assert!(!missing.exists(), "opening creates nothing");
}

#[test]
fn creating_twice() {
    let folder = Folder::new();
    assert!(matches!(
        Store::create(&folder.path(), &identity()),
        Err(CreateError::NotEmpty { .. })
    ));
    assert_eq!(*folder.open().identity(), identity());
}

#[test]
fn a_second_process() {
    let folder = Folder::new();
    let store = folder.open();
    let view = store.view();
    assert!(matches!(folder.try_open(), Err(OpenError::Locked { .. })));
    drop(store);
    assert!(
        matches!(folder.try_open(), Err(OpenError::Locked { .. })),
        "a view keeps the folder open"
    );
    drop(view);
    folder.open();
}

#[test]
fn an_interrupted_creation() {
    let folder = Folder::new();
    fs::write(folder.path().join("incomplete"), "").unwrap();
    assert!(matches!(
        folder.try_open(),
        Err(OpenError::Incomplete { .. })
    ));
}

#[test]
fn a_failed_sync_in_an_earlier_process() {
    let folder = Folder::new();
    let error = FatalError::Sync {
        reason: "IO error: planted".to_owned(),
    };
    fs::write(folder.path().join("failed"), error.to_string()).unwrap();
    let Err(OpenError::Failed { reason, .. }) = folder.try_open() else {
        panic!("opened a folder whose last sync failed");
    };
    assert!(
        reason.contains("planted") && reason.contains("unknown"),
        "{reason}"
    );
}

#[test]
fn newer_data() {
    let folder = Folder::new();
    folder.edit(|db| {
        let meta = db.cf_handle("meta").unwrap();
        db.put_cf(&meta, b"format", 2u32.to_be_bytes()).unwrap();
    });
    assert!(matches!(
        folder.try_open(),
        Err(OpenError::Newer {
            found: 2,
            supported: 1
        })
    ));
}

#[test]
fn an_unknown_column_family() {
    let folder = Folder::new();
    folder.edit(|db| {
        db.create_cf("tenants", &rocksdb::Options::default())
            .unwrap();
    });
    let Err(OpenError::UnknownColumn { name }) = folder.try_open() else {
        panic!("opened a folder with an unknown part");
    };
    assert_eq!(name, "tenants");
}

#[test]
fn a_flipped_bit_in_the_middle_of_the_write_ahead_log() {
    let folder = folder_with_history();
    let wal = folder.db_files("log").pop().unwrap();
    let middle = fs::read(&wal).unwrap().len() / 2;
    flip(&wal, middle);
    let outcome = folder.try_open();
    assert!(
        matches!(outcome, Err(OpenError::Corrupt { .. })),
        "{outcome:?}"
    );
}

/// Wherever the bit is, no acknowledged write is dropped without a word.
#[test]
fn a_flipped_bit_anywhere_in_the_write_ahead_log() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..3));
    drop(store);
    drop(folder.open());
    let store = folder.open();
    append(&store, records(3..5));
    let expected = read_all(&store);
    let written = folder.crash_copy();
    let wal = written.db_files("log").pop().unwrap();
    let used = fs::read(&wal)
        .unwrap()
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap();
    for position in (0..=used).step_by(7) {
        let damaged = written.crash_copy();
        flip(&damaged.db_files("log").pop().unwrap(), position);
        if let Ok(store) = damaged.try_open() {
            assert_eq!(read_all(&store), expected, "a flip at {position}");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_table_file_of_the_log() {
    let folder = folder_with_history();
    let largest = folder
        .db_files("sst")
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    flip(&largest, 40);
    let outcome = folder.try_open();
    assert!(
        matches!(
            outcome,
            Err(OpenError::Corrupt { .. } | OpenError::LogDamaged { .. })
        ),
        "{outcome:?}"
    );
}

#[test]
fn a_missing_older_log_file() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..10));
    // Fills the memtable of one column family, so that RocksDB begins a new log file,
    // while the entries above are in the old one only.
    let value = vec![7; 1 << 18];
    for key in 0..6u8 {
        store
            .commit_state(&[put(Table::Core, &[key], &value)], &applied(9))
            .unwrap();
    }
    append(&store, records(10..11));
    drop(store);
    let logs = folder.db_files("log");
    assert!(logs.len() > 1, "the premise of this test");
    fs::remove_file(&logs[0]).unwrap();
    let outcome = folder.try_open();
    assert!(
        matches!(outcome, Err(OpenError::MissingWal { .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_missing_newest_log_file() {
    let folder = folder_with_history();
    fs::remove_file(folder.db_files("log").pop().unwrap()).unwrap();
    let outcome = folder.try_open();
    assert!(
        matches!(outcome, Err(OpenError::SyncedWriteMissing { .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_log_that_was_cut_between_two_records() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..3));
    let earlier = folder.crash_copy();
    save_vote(&store, "a vote that must not be forgotten");
    drop(store);
    let wal = folder.db_files("log").pop().unwrap();
    fs::copy(earlier.db_files("log").pop().unwrap(), &wal).unwrap();
    let outcome = folder.try_open();
    assert!(
        matches!(
            outcome,
            Err(OpenError::SyncedWriteMissing {
                synced: 2,
                recovered: 1
            })
        ),
        "{outcome:?}"
    );
}

#[test]
fn a_torn_last_record_is_what_a_crash_leaves() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..3));
    // Applied changes are written but not synced: a power failure may tear them.
    let synced = fs::read(folder.db_files("log").pop().unwrap()).unwrap();
    let end = synced.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    store
        .commit_state(&[put(Table::Core, b"k", &[7; 500])], &applied(2))
        .unwrap();
    let torn = folder.crash_copy();
    let wal = torn.db_files("log").pop().unwrap();
    let written = fs::read(&wal).unwrap();
    fs::write(&wal, &written[..end + 100]).unwrap();
    let store = torn.open();
    assert_eq!(read_all(&store), records(0..3));
    assert_eq!(store.read_applied().unwrap(), None);
}

#[test]
fn a_damaged_watermark() {
    let folder = Folder::new();
    fs::write(folder.path().join("synced"), [0xff; 5000]).unwrap();
    assert!(matches!(
        folder.try_open(),
        Err(OpenError::WatermarkDamaged { .. })
    ));
    fs::remove_file(folder.path().join("synced")).unwrap();
    assert!(matches!(folder.try_open(), Err(OpenError::Io { .. })));
}

#[test]
fn a_hole_in_the_log() {
    let folder = folder_with_history();
    folder.edit(|db| {
        let log = db.cf_handle("log").unwrap();
        db.delete_cf(&log, 42u64.to_be_bytes()).unwrap();
    });
    assert!(matches!(
        folder.try_open(),
        Err(OpenError::LogHole { index: 42 })
    ));
}

#[test]
fn a_log_without_its_beginning() {
    let folder = folder_with_history();
    folder.edit(|db| {
        let log = db.cf_handle("log").unwrap();
        db.delete_cf(&log, 0u64.to_be_bytes()).unwrap();
    });
    assert!(matches!(
        folder.try_open(),
        Err(OpenError::LogHole { index: 0 })
    ));
}

#[test]
fn an_entry_under_the_wrong_index() {
    let folder = folder_with_history();
    folder.edit(|db| {
        let log = db.cf_handle("log").unwrap();
        let other = db.get_cf(&log, 41u64.to_be_bytes()).unwrap().unwrap();
        db.put_cf(&log, 42u64.to_be_bytes(), other).unwrap();
    });
    assert!(matches!(
        folder.try_open(),
        Err(OpenError::LogDamaged { index: 42, .. })
    ));
}

#[test]
fn tables_ahead_of_the_log() {
    let folder = folder_with_history();
    folder.edit(|db| {
        let ledger = db.cf_handle("ledger@0").unwrap();
        db.put_cf(&ledger, [0xff], 100u64.to_be_bytes()).unwrap();
    });
    assert!(matches!(
        folder.try_open(),
        Err(OpenError::AppliedAhead {
            applied: 100,
            last: Some(99)
        })
    ));
}

#[test]
fn a_log_purged_beyond_the_tables() {
    let folder = folder_with_history();
    let store = folder.open();
    store.purge(30, Bytes::from_static(b"thirty")).unwrap();
    drop(store);
    assert!(matches!(
        folder.try_open(),
        Err(OpenError::AppliedBehind {
            applied: Some(20),
            purged: 30
        })
    ));
}

#[test]
fn missing_records() {
    for key in ["format", "identity", "generation", "batch"] {
        let folder = Folder::new();
        folder.edit(|db| {
            let meta = db.cf_handle("meta").unwrap();
            db.delete_cf(&meta, key).unwrap();
        });
        let Err(OpenError::MissingRecord { record }) = folder.try_open() else {
            panic!("opened a folder without its {key}");
        };
        assert_eq!(record, key);
    }
}
