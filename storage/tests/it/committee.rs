//! The records of a committee seat: an acknowledged one is there after whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use aegis_ledger::Table;
use aegis_storage::{
    COMMITTEE_BATCH_BYTES_MAX, COMMITTEE_CHANGES_MAX, COMMITTEE_KEY_BYTES_MAX,
    COMMITTEE_VALUE_BYTES_MAX, CommitteeChange, CommitteeReadError, CommitteeWriteError, EXIT_CODE,
    Identity, OpenError, Options, Stopped, Store, restore, save_atomic,
};
use bytes::Bytes;

use crate::support::{
    Folder, HeldWriter, append, applied, committee, flip, forget, identity, keep, put, read_all,
    records, save_vote, write_committee,
};

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn a_reopened_store_has_every_record() {
    let folder = Folder::new();
    let store = folder.open();
    assert_eq!(committee(&store), []);
    write_committee(&store, vec![keep("b", "2"), keep("a", "1"), keep("c", "")]);
    write_committee(&store, vec![keep("b", "other"), forget("a")]);
    write_committee(&store, vec![keep("d", "first"), keep("d", "second")]);
    write_committee(
        &store,
        vec![keep("e", ""), forget("e"), forget("never there")],
    );
    let expected = [pair("b", "other"), pair("c", ""), pair("d", "second")];
    assert_eq!(committee(&store), expected);
    drop(store);

    let store = folder.open();
    assert_eq!(committee(&store), expected);
    assert_eq!(store.committee_record(b"b").unwrap().unwrap(), b"other");
    assert_eq!(store.committee_record(b"c").unwrap().unwrap(), b"");
    assert_eq!(store.committee_record(b"a").unwrap(), None);
}

#[test]
fn one_sync_serves_the_log_and_the_committee() {
    let folder = Folder::new();
    let store = folder.open();
    let held = HeldWriter::hold(&store);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let done = |name: String| -> aegis_storage::Done {
        let answers = Arc::clone(&answers);
        Box::new(move |result| answers.lock().unwrap().push((name, result)))
    };
    let mut expected = Vec::new();
    for index in 0..20 {
        let names = ["record", "entry", "deletion"].map(|kind| format!("{kind} {index}"));
        let [record, entry, deletion] = names.clone();
        store
            .committee_write(vec![keep(&record, "value")], done(record))
            .unwrap();
        store
            .append(records(index..index + 1), done(entry))
            .unwrap();
        store
            .committee_write(vec![forget("gone")], done(deletion))
            .unwrap();
        expected.extend(names.map(|name| (name, Ok(()))));
    }
    assert!(
        answers.lock().unwrap().is_empty(),
        "not answered before they are durable"
    );
    held.release();
    drop(store);

    assert_eq!(*answers.lock().unwrap(), expected);
    let reports = folder.reports.synced.lock().unwrap();
    assert_eq!(
        reports.len(),
        2,
        "one sync for the held vote, one for all others"
    );
    assert_eq!((reports[1].waiters, reports[1].entries), (40, 20));
}

#[test]
fn deletions_alone_are_not_synced() {
    let folder = Folder::new();
    let store = folder.open();
    write_committee(&store, vec![keep("a", "1"), keep("b", "2")]);
    let syncs = folder.reports.syncs();
    write_committee(&store, vec![forget("a")]);
    write_committee(&store, vec![]);
    assert_eq!(folder.reports.syncs(), syncs);
    assert_eq!(committee(&store), [pair("b", "2")]);
    write_committee(&store, vec![forget("b"), keep("c", "3")]);
    assert_eq!(folder.reports.syncs(), syncs + 1);
    drop(store);
    assert_eq!(committee(&folder.open()), [pair("c", "3")]);
}

#[test]
fn what_is_beyond_a_bound_is_refused_before_it_is_queued() {
    let folder = Folder::new();
    let store = folder.open();
    let write = |changes: Vec<CommitteeChange>| {
        store.committee_write(changes, Box::new(|_| panic!("it was queued")))
    };
    let bytes = |len| Bytes::from(vec![7; len]);
    let key = |number: usize| Bytes::from(number.to_be_bytes().to_vec());

    let found = COMMITTEE_KEY_BYTES_MAX + 1;
    let error = Err(CommitteeWriteError::Key { found });
    assert_eq!(write(vec![keep("a", "1"), (bytes(found), None)]), error);
    let found = COMMITTEE_VALUE_BYTES_MAX + 1;
    let error = Err(CommitteeWriteError::Value { found });
    assert_eq!(write(vec![(key(0), Some(bytes(found)))]), error);
    let found = COMMITTEE_CHANGES_MAX + 1;
    let error = Err(CommitteeWriteError::Changes { found });
    assert_eq!(write((0..found).map(|n| (key(n), None)).collect()), error);
    let values = COMMITTEE_BATCH_BYTES_MAX / COMMITTEE_VALUE_BYTES_MAX;
    let largest = bytes(COMMITTEE_VALUE_BYTES_MAX);
    let changes = (0..values).map(|n| (key(n), Some(largest.clone())));
    let found = COMMITTEE_BATCH_BYTES_MAX + values * size_of::<usize>();
    let error = Err(CommitteeWriteError::Batch { found });
    assert_eq!(write(changes.collect()), error);
    assert_eq!(committee(&store), []);

    let longest = bytes(COMMITTEE_KEY_BYTES_MAX);
    write_committee(&store, vec![(longest.clone(), Some(largest.clone()))]);
    let many = (0..COMMITTEE_CHANGES_MAX).map(|n| (key(n), Some(bytes(1000))));
    write_committee(&store, many.collect());
    drop(store);
    let store = folder.open();
    assert_eq!(store.committee_record(&longest).unwrap().unwrap(), largest);
    let all = store.committee_records().unwrap();
    assert_eq!(all.len(), COMMITTEE_CHANGES_MAX + 1);
}

#[test]
fn a_store_that_has_stopped_acknowledges_nothing() {
    let folder = Folder::new();
    let store = folder.open();
    let (release, released) = mpsc::sync_channel::<()>(1);
    store
        .append(
            records(0..1),
            Box::new(move |_| {
                released.recv().unwrap();
                panic!("a planted panic");
            }),
        )
        .unwrap();
    let (done, answer) = mpsc::sync_channel(1);
    let done = Box::new(move |result| done.send(result).unwrap());
    // What follows is not in the batch whose callback panics.
    while folder.reports.syncs() == 0 {
        thread::yield_now();
    }
    store.committee_write(vec![keep("a", "1")], done).unwrap();
    release.send(()).unwrap();
    assert_eq!(answer.recv().unwrap(), Err(Stopped));
    assert_eq!(
        store.committee_write(vec![keep("b", "2")], Box::new(|_| {})),
        Err(CommitteeWriteError::Stopped(Stopped))
    );
    assert_eq!(committee(&store), []);
}

/// Wherever a power failure cuts a write that was not acknowledged, all of it is there or
/// nothing, and what was acknowledged before is there.
#[test]
fn a_torn_write_leaves_all_of_it_or_nothing() {
    let folder = Folder::new();
    let store = folder.open();
    let before = vec![keep("a", "1"), keep("b", "1"), keep("gone", "1")];
    write_committee(&store, before);
    let acknowledged = folder.crash_copy();
    let start = used_bytes(&acknowledged);
    write_committee(&store, vec![keep("a", "2"), keep("c", "2"), forget("gone")]);
    drop(store);
    let wal = fs::read(folder.db_files("log").pop().unwrap()).unwrap();
    let end = used_bytes(&folder);
    assert!(start < end, "the premise of this test");

    for cut in (start..end).step_by(3).chain([end]) {
        let torn = acknowledged.crash_copy();
        fs::write(torn.db_files("log").pop().unwrap(), &wal[..cut]).unwrap();
        let expected = if cut < end {
            [pair("a", "1"), pair("b", "1"), pair("gone", "1")]
        } else {
            [pair("a", "2"), pair("b", "1"), pair("c", "2")]
        };
        assert_eq!(committee(&torn.open()), expected, "a cut at {cut}");
    }
    for cut in [start - 1, start / 2, 0] {
        let torn = acknowledged.crash_copy();
        fs::write(torn.db_files("log").pop().unwrap(), &wal[..cut]).unwrap();
        assert!(torn.try_open().is_err(), "a cut at {cut} loses a record");
    }
}

/// Bytes of the newest file of the write-ahead log but for the zeros at its end.
fn used_bytes(folder: &Folder) -> usize {
    let wal = fs::read(folder.db_files("log").pop().unwrap()).unwrap();
    wal.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[test]
fn a_log_that_was_cut_between_two_records_does_not_open() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..3));
    let earlier = folder.crash_copy();
    write_committee(&store, vec![keep("signed", "must not be forgotten")]);
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

/// Its files go once RocksDB has flushed every column family that has something in them.
#[test]
fn records_outlive_the_file_of_the_log_that_they_were_written_to() {
    let mut folder = Folder::new();
    folder.options.wal_bytes = 1 << 20;
    let store = folder.open();
    append(&store, records(0..10));
    write_committee(&store, vec![keep("a", "1"), keep("b", "2")]);
    write_committee(&store, vec![forget("b")]);
    let first = folder.db_files("log").pop().unwrap();
    let value = vec![7; 1 << 18];
    while first.exists() {
        store
            .commit_state(&[put(Table::Core, b"k", &value)], &applied(9))
            .unwrap();
    }
    assert_eq!(committee(&store), [pair("a", "1")]);
    let killed = folder.crash_copy();
    assert_eq!(committee(&killed.open()), [pair("a", "1")]);
    drop(store);
    assert_eq!(committee(&folder.open()), [pair("a", "1")]);
}

#[test]
fn no_snapshot_has_records_and_none_replaces_them() {
    let source = Folder::new();
    let store = source.open();
    append(&store, records(0..10));
    store
        .commit_state(&[put(Table::Core, b"k", b"v")], &applied(9))
        .unwrap();
    let path = source.beside("state.snapshot");
    let without = save_atomic(&store.view(), &path).unwrap();
    write_committee(&store, vec![keep("source", "1")]);
    let with = save_atomic(&store.view(), &path).unwrap();
    assert_eq!(with, without);

    let folder = Folder::new();
    let store = folder.open();
    write_committee(&store, vec![keep("a", "1")]);
    let unwritten = HeldWriter::hold(&store);
    store
        .committee_write(vec![keep("b", "2")], Box::new(|_| {}))
        .unwrap();
    store.install(&path).unwrap();
    unwritten.release();
    write_committee(&store, vec![keep("c", "3")]);
    let expected = [pair("a", "1"), pair("b", "2"), pair("c", "3")];
    assert_eq!(committee(&store), expected);
    let killed = folder.crash_copy();
    drop(store);
    assert_eq!(committee(&folder.open()), expected);
    assert_eq!(committee(&killed.open()), expected);

    let restored = Folder::without_store(tempfile::tempdir().unwrap());
    let identity = Identity {
        incarnation: 1,
        ..identity()
    };
    restore(&path, &restored.path(), &identity, b"applied", b"purged").unwrap();
    let store = restored.open();
    assert_eq!(committee(&store), []);
    write_committee(&store, vec![keep("new", "1")]);
    drop(store);
    assert_eq!(committee(&restored.open()), [pair("new", "1")]);
}

/// The bytes on disk do not change by accident.
#[test]
fn the_bytes_on_disk_are_pinned() {
    let folder = Folder::new();
    let store = folder.open();
    write_committee(&store, vec![keep("commit/7", "a signed statement")]);
    write_committee(&store, vec![keep("", "")]);
    drop(store);
    let mut found = Vec::new();
    folder.edit(|db| {
        let column = db.cf_handle("committee").unwrap();
        let all = db.iterator_cf(&column, rocksdb::IteratorMode::Start);
        found = all.map(Result::unwrap).collect();
    });
    // A version, CRC-32C over the key's length (8 bytes), the key and the value, and the value.
    let expected = [
        (b"".to_vec(), b"\x01\x8c\x28\xb2\x8a".to_vec()),
        (
            b"commit/7".to_vec(),
            b"\x01\xe3\x2a\x91\x31a signed statement".to_vec(),
        ),
    ];
    let found: Vec<_> = found
        .into_iter()
        .map(|(key, value)| (key.into_vec(), value.into_vec()))
        .collect();
    assert_eq!(found, expected);
}

/// A folder with two records, the second of which `damage` replaces by what it makes of it.
fn damaged(damage: impl Fn(&mut Vec<u8>)) -> Folder {
    let folder = Folder::new();
    let store = folder.open();
    write_committee(&store, vec![keep("a", "1"), keep("b", "2")]);
    drop(store);
    folder.edit(|db| {
        let column = db.cf_handle("committee").unwrap();
        let mut value = db.get_cf(&column, "b").unwrap().unwrap();
        damage(&mut value);
        db.put_cf(&column, "b", value).unwrap();
    });
    folder
}

#[test]
fn a_damaged_record_does_not_open() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 6] = [
        ("a flipped bit", |value| *value.last_mut().unwrap() ^= 1),
        ("another checksum", |value| value[1] ^= 1),
        ("a newer version", |value| value[0] += 1),
        ("a byte too few", |value| {
            value.pop();
        }),
        ("a byte too many", |value| value.push(0)),
        ("nothing", Vec::clear),
    ];
    for (name, damage) in damages {
        let Err(error) = damaged(damage).try_open() else {
            panic!("opened a folder whose record has {name}");
        };
        let text = error.to_string();
        let OpenError::CommitteeDamaged { key, .. } = error else {
            panic!("{name}: {text}");
        };
        assert_eq!(key, b"b");
        assert!(text.contains("new key"), "it says what to do: {text}");
    }
    damaged(|_| {}).open();
}

#[test]
fn a_record_under_another_key_does_not_open() {
    let folder = damaged(|_| {});
    folder.edit(|db| {
        let column = db.cf_handle("committee").unwrap();
        let value = db.get_cf(&column, "a").unwrap().unwrap();
        db.put_cf(&column, "c", value).unwrap();
    });
    let outcome = folder.try_open();
    assert!(
        matches!(&outcome, Err(OpenError::CommitteeDamaged { key, .. }) if key == b"c"),
        "{outcome:?}"
    );
}

#[test]
fn a_record_that_is_damaged_while_the_store_is_open_is_not_read() {
    let folder = Folder::new();
    let store = folder.open();
    write_committee(&store, vec![keep("a", "a record to be damaged")]);
    drop(store);
    // Opening replays the log into table files.
    drop(folder.open());
    let wanted = b"a record to be damaged";
    let (table, position) = folder
        .db_files("sst")
        .into_iter()
        .find_map(|path| {
            let bytes = fs::read(&path).unwrap();
            let mut windows = bytes.windows(wanted.len());
            let position = windows.position(|window| window == wanted)?;
            Some((path, position))
        })
        .unwrap();
    let store = folder.open();
    flip(&table, position);
    assert!(matches!(
        store.committee_records(),
        Err(CommitteeReadError::Engine { .. })
    ));
    assert!(matches!(
        store.committee_record(b"a"),
        Err(CommitteeReadError::Engine { .. })
    ));
    drop(store);
    let outcome = folder.try_open();
    assert!(
        matches!(outcome, Err(OpenError::Corrupt { .. })),
        "{outcome:?}"
    );
}

/// Takes away what a folder has for the committee; with `mark`, also the sign that it had it.
fn without_committee(mark: bool) -> Folder {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..3));
    drop(store);
    folder.edit(|db| {
        db.drop_cf("committee").unwrap();
        if mark {
            let meta = db.cf_handle("meta").unwrap();
            db.delete_cf(&meta, "committee").unwrap();
        }
    });
    folder
}

#[test]
fn a_folder_from_before_the_committee_gets_a_place_for_its_records() {
    let folder = without_committee(true);
    assert!(!folder.columns().iter().any(|name| name == "committee"));
    let store = folder.open();
    assert_eq!(committee(&store), []);
    assert_eq!(read_all(&store), records(0..3));
    write_committee(&store, vec![keep("a", "1")]);
    let killed = folder.crash_copy();
    drop(store);
    assert_eq!(committee(&folder.open()), [pair("a", "1")]);
    assert_eq!(committee(&killed.open()), [pair("a", "1")]);

    // As a crash leaves it that came before the sign.
    folder.edit(|db| {
        let meta = db.cf_handle("meta").unwrap();
        db.delete_cf(&meta, "committee").unwrap();
    });
    assert_eq!(committee(&folder.open()), [pair("a", "1")]);
    folder.edit(|db| db.drop_cf("committee").unwrap());
    assert!(folder.try_open().is_err());
}

#[test]
fn a_folder_that_lost_the_committees_records_does_not_open() {
    let folder = without_committee(false);
    for _ in 0..2 {
        let outcome = folder.try_open();
        assert!(
            matches!(
                outcome,
                Err(OpenError::MissingRecord {
                    record: "committee"
                })
            ),
            "{outcome:?}"
        );
    }
}

/// The folder of a test that runs in a process of its own.
const FOLDER: &str = "AEGIS_TEST_FOLDER";
/// What such a test says once a write was acknowledged.
const ACKNOWLEDGED: &str = "acknowledged ";
/// A file beside the folder; once it is there, every sync fails.
const BROKEN: &str = "broken";

/// Runs an ignored test of this module in a process of its own.
fn spawn(test: &str, folder: &Folder, preload: Option<&Path>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("committee::{test}")])
        .args(["--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
        command.env("BREAK_SYNC", folder.beside(BROKEN));
    }
    command.spawn().unwrap()
}

/// The store of the process that this is, if another test has spawned it.
fn spawned() -> Option<Store> {
    let dir = std::env::var_os(FOLDER)?;
    Some(Store::open(dir.as_ref(), &Options::default()).unwrap())
}

fn acknowledge(what: &str) {
    let _ = std::io::stderr().write_all(format!("{ACKNOWLEDGED}{what}\n").as_bytes());
}

fn acknowledged(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stderr.take().unwrap())
        .lines()
        .filter_map(|line| Some(line.unwrap().strip_prefix(ACKNOWLEDGED)?.to_owned()))
}

const WRITERS: u64 = 4;

/// The records that a writer puts in its turn, and one that it replaces in every turn.
fn turn_of(writer: u64, turn: u64) -> Vec<CommitteeChange> {
    let value = format!("{turn} ").repeat(100);
    vec![
        keep(&format!("{writer}/{turn}/left"), &value),
        keep(&format!("{writer}/last"), &turn.to_string()),
        keep(&format!("{writer}/{turn}/right"), &value),
    ]
}

#[test]
#[ignore = "another test spawns it and kills it"]
fn writers_that_are_killed() {
    let Some(store) = spawned() else {
        return;
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for index in 0..1_000_000 {
                append(&store, records(index..index + 1));
            }
        });
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || {
                for turn in 0..1_000_000 {
                    write_committee(store, turn_of(writer, turn));
                    acknowledge(&format!("{writer} {turn}"));
                }
            });
        }
    });
}

#[test]
fn a_killed_process_keeps_every_acknowledged_record_and_no_half_of_one() {
    let folder = Folder::new();
    for kill in 1..=3 {
        let mut child = spawn("writers_that_are_killed", &folder, None);
        let mut acknowledged = acknowledged(&mut child);
        let mut said: Vec<_> = acknowledged.by_ref().take(200 * kill).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        said.extend(acknowledged);
        assert!(said.len() >= 200 * kill, "it ended by itself");

        let store = folder.open();
        let found: BTreeMap<_, _> = committee(&store).into_iter().collect();
        for writer in 0..WRITERS {
            check_writer(writer, &said, &found);
        }
        let keys = found.into_keys().map(|key| forget(&key)).collect();
        write_committee(&store, keys);
        store.truncate_from(0).unwrap();
        save_vote(&store, "the next round begins anew");
    }
}

fn check_writer(writer: u64, said: &[String], found: &BTreeMap<String, String>) {
    let prefix = format!("{writer} ");
    let acknowledged: BTreeSet<u64> = said
        .iter()
        .filter_map(|line| line.strip_prefix(&prefix)?.parse().ok())
        .collect();
    let value = |key: &str| found.get(&format!("{writer}/{key}"));
    let Some(last) = value("last") else {
        assert!(acknowledged.is_empty());
        return;
    };
    let last: u64 = last.parse().unwrap();
    assert!(acknowledged.last().is_none_or(|turn| *turn <= last));
    for turn in 0..=last {
        for (key, expected) in turn_of(writer, turn) {
            let key = std::str::from_utf8(&key).unwrap();
            if !key.ends_with("last") {
                assert_eq!(found[key].as_bytes(), expected.unwrap());
            }
        }
    }
    let half = format!("{}/left", last + 1);
    assert_eq!(value(&half), None);
}

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int broken(void) { const char *flag = getenv("BREAK_SYNC"); return flag && access(flag, F_OK) == 0; }
int fdatasync(int fd) {
    if (broken()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
int fsync(int fd) {
    if (broken()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"#;

#[test]
#[ignore = "another test spawns it on a disk that fails"]
fn a_writer_whose_disk_fails() {
    let Some(store) = spawned() else {
        return;
    };
    write_committee(&store, vec![keep("before", "1")]);
    acknowledge("before");
    fs::write(store.dir().with_file_name(BROKEN), "").unwrap();
    write_committee(&store, vec![forget("a deletion needs no sync")]);
    acknowledge("deletion");
    write_committee(&store, vec![keep("after", "2")]);
    acknowledge("after");
}

#[test]
fn a_failed_sync_ends_the_process_and_acknowledges_nothing() {
    let folder = Folder::new();
    let source = folder.beside("shim.c");
    let shim = folder.beside("shim.so");
    fs::write(&source, SHIM).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&shim, &source])
        .arg("-ldl")
        .status();
    assert!(built.unwrap().success());

    let mut child = spawn("a_writer_whose_disk_fails", &folder, Some(&shim));
    let said: Vec<_> = acknowledged(&mut child).collect();
    assert_eq!(said, ["before", "deletion"]);
    assert_eq!(child.wait().unwrap().code(), Some(EXIT_CODE));
    let outcome = folder.try_open();
    let Err(OpenError::Failed { reason, .. }) = outcome else {
        panic!("opened a folder whose last sync failed: {outcome:?}");
    };
    assert!(reason.contains("unknown"), "{reason}");
}
