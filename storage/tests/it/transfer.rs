//! The folder of snapshots, and receiving one.

use std::fs;

use aegis_crypto::Digest;
use aegis_ledger::Table;
use aegis_storage::{Options, ReceiveError, SaveError, SnapshotFile, Store};

use crate::support::{Folder, append, applied, dump, put, records};

/// A store with a finished snapshot, and the snapshot's bytes.
fn source() -> (Folder, Store, SnapshotFile, Vec<u8>) {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..10));
    store
        .commit_state(&[put(Table::Core, b"k", &[7; 500])], &applied(9))
        .unwrap();
    let (file, info) = store.snapshots().save(&store.view()).unwrap();
    let bytes = fs::read(&file.path).unwrap();
    assert_eq!((file.index, file.digest), (9, info.digest));
    assert_eq!(file.bytes, bytes.len() as u64);
    (folder, store, file, bytes)
}

#[test]
fn an_interrupted_transfer_goes_on_where_it_ended() {
    let (_source_folder, source, sent, bytes) = source();
    let folder = Folder::new();
    let store = folder.open();
    let (first, rest) = bytes.split_at(100);
    let mut receiver = store.snapshots().receive(sent.digest, sent.bytes).unwrap();
    assert_eq!(receiver.offset(), 0);
    assert_eq!(receiver.append(0, first).unwrap(), 100);
    drop((receiver, store));

    let store = folder.open();
    let mut receiver = store.snapshots().receive(sent.digest, sent.bytes).unwrap();
    assert_eq!(receiver.offset(), 100);
    assert!(matches!(
        receiver.append(0, first),
        Err(ReceiveError::Offset {
            expected: 100,
            found: 0
        })
    ));
    receiver.append(100, rest).unwrap();
    let (file, info) = receiver.finish().unwrap();
    assert_eq!(info.digest, sent.digest);
    assert_eq!(store.snapshots().latest().unwrap(), Some(file.clone()));
    store.install(&file.path).unwrap();
    assert_eq!(dump(&store.view()), dump(&source.view()));
}

#[test]
fn another_snapshot_takes_the_place_of_a_partial_one() {
    let (_folder, store, sent, bytes) = source();
    let dir = store.snapshots();
    let other = Digest::of("other");
    let mut receiver = dir.receive(other, 10).unwrap();
    receiver.append(0, b"12345").unwrap();
    assert!(matches!(
        dir.receive(sent.digest, 10),
        Err(ReceiveError::Busy)
    ));
    drop(receiver);

    let mut receiver = dir.receive(sent.digest, sent.bytes).unwrap();
    receiver.append(0, &bytes[..50]).unwrap();
    drop(receiver);
    let receiver = dir.receive(other, 10).unwrap();
    assert_eq!(receiver.offset(), 0, "the partial file was removed");
}

#[test]
fn lies_about_a_snapshot_are_refused() {
    let (folder, store, sent, bytes) = source();
    let dir = store.snapshots();
    fs::remove_file(&sent.path).unwrap();

    let mut receiver = dir.receive(sent.digest, sent.bytes).unwrap();
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(
        receiver.append(0, &longer),
        Err(ReceiveError::Overrun { .. })
    ));
    assert!(matches!(
        receiver.finish(),
        Err(ReceiveError::Incomplete { found: 0, .. })
    ));

    let mut receiver = dir.receive(Digest::of("other"), sent.bytes).unwrap();
    receiver.append(0, &bytes).unwrap();
    assert!(matches!(
        receiver.finish(),
        Err(ReceiveError::OtherDigest { .. })
    ));

    let mut damaged = bytes.clone();
    damaged[200] ^= 1;
    let mut receiver = dir.receive(sent.digest, sent.bytes).unwrap();
    receiver.append(0, &damaged).unwrap();
    assert!(matches!(receiver.finish(), Err(ReceiveError::Bad(_))));
    let receiver = dir.receive(sent.digest, sent.bytes).unwrap();
    assert_eq!(receiver.offset(), 0, "damaged bytes are not kept");
    assert_eq!(dir.latest().unwrap(), None);
    drop(receiver);

    let max = folder.options.snapshot_bytes_max;
    assert!(matches!(
        dir.receive(sent.digest, max + 1),
        Err(ReceiveError::TooLarge { .. })
    ));
}

#[test]
fn the_floor_stays_free_of_snapshots() {
    let mut folder = Folder::new();
    folder.options.free_floor_bytes = u64::MAX / 2;
    let store = folder.open();
    assert!(matches!(
        store.snapshots().receive(Digest::of("large"), 10),
        Err(ReceiveError::NoSpace { .. })
    ));
    append(&store, records(0..1));
    store.commit_state(&[], &applied(0)).unwrap();
    let outcome = store.snapshots().save(&store.view());
    assert!(matches!(outcome, Err(SaveError::Io(_))), "{outcome:?}");
    assert_eq!(store.snapshots().list().unwrap(), []);
}

#[test]
fn only_the_newest_snapshots_are_kept() {
    let (folder, store, _, _) = source();
    append(&store, records(10..20));
    for index in 10..15 {
        store.commit_state(&[], &applied(index)).unwrap();
        store.snapshots().save(&store.view()).unwrap();
    }
    let indices = |store: &Store| -> Vec<_> {
        let files = store.snapshots().list().unwrap();
        files.iter().map(|file| file.index).collect()
    };
    assert_eq!(
        folder.options.snapshots_kept,
        Options::default().snapshots_kept
    );
    assert_eq!(indices(&store), [13, 14]);
    drop(store);
    let snapshots = folder.path().join("snapshots");
    fs::write(snapshots.join(".abc.saving"), "left by a crash").unwrap();
    assert_eq!(indices(&folder.open()), [13, 14]);
    assert_eq!(fs::read_dir(snapshots).unwrap().count(), 2);
}
