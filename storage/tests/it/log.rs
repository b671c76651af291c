//! The log, the vote and the order in which they are written.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use aegis_storage::{AppendError, CommitError, FatalError, LogBounds, Stopped};
use bytes::Bytes;

use crate::support::{Folder, HeldWriter, append, applied, read_all, record, records, save_vote};

#[test]
fn a_reopened_store_has_everything() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..100));
    save_vote(&store, "vote");
    store
        .save_committed(Bytes::from_static(b"committed"))
        .unwrap();
    store.commit_state(&[], &applied(50)).unwrap();
    store.purge(9, Bytes::from_static(b"nine")).unwrap();
    store.truncate_from(90).unwrap();
    drop(store);

    let store = folder.open();
    assert_eq!(read_all(&store), records(10..90));
    assert_eq!(store.read_vote().unwrap(), "vote");
    assert_eq!(store.read_committed().unwrap(), "committed");
    assert_eq!(store.read_applied().unwrap(), Some(applied(50)));
    assert_eq!(
        store.log_bounds(),
        LogBounds {
            purged: Some(Bytes::from_static(b"nine")),
            first: Some(10),
            last: Some(89),
        }
    );
}

/// Nothing wakes the writer for a committed position; a later one takes the place of one that
/// waits, whatever their lengths.
#[test]
fn a_committed_position_that_waits_is_replaced() {
    let folder = Folder::new();
    let store = folder.open();
    for length in [1, 100, 10] {
        store.save_committed(Bytes::from(vec![7; length])).unwrap();
    }
    append(&store, records(0..1));
    assert_eq!(store.read_committed().unwrap(), vec![7; 10]);
    drop(store);
    assert_eq!(folder.open().read_committed().unwrap(), vec![7; 10]);
}

#[test]
fn one_sync_serves_all_who_wait_and_answers_them_in_order() {
    const WAITERS: u64 = 100;
    let folder = Folder::new();
    let store = folder.open();
    let held = HeldWriter::hold(&store);
    let answers = Arc::new(Mutex::new(Vec::new()));
    for index in 0..WAITERS {
        let answers = Arc::clone(&answers);
        store
            .append(
                records(index..index + 1),
                Box::new(move |result| answers.lock().unwrap().push((index, result))),
            )
            .unwrap();
    }
    assert_eq!(
        read_all(&store),
        records(0..WAITERS),
        "readable before they are written"
    );
    assert!(
        answers.lock().unwrap().is_empty(),
        "not answered before they are durable"
    );
    held.release();
    drop(store);

    let expected: Vec<_> = (0..WAITERS).map(|index| (index, Ok(()))).collect();
    assert_eq!(*answers.lock().unwrap(), expected);
    let reports = folder.reports.synced.lock().unwrap();
    assert_eq!(
        reports.len(),
        2,
        "one sync for the held vote, one for all others"
    );
    assert_eq!((reports[1].waiters, reports[1].entries), (100, 100));
}

#[test]
fn writers_on_many_threads_are_all_answered_and_the_last_vote_stands() {
    const THREADS: usize = 16;
    const VOTES: usize = 20;
    let folder = Folder::new();
    let store = folder.open();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                for vote in 0..VOTES {
                    save_vote(store, &format!("{thread}.{vote}"));
                }
            });
        }
    });
    let waiters: usize = {
        let reports = folder.reports.synced.lock().unwrap();
        reports.iter().map(|report| report.waiters).sum()
    };
    assert_eq!(waiters, THREADS * VOTES);
    let last = store.read_vote();
    drop(store);
    assert_eq!(
        folder.open().read_vote(),
        last,
        "disk and memory agree on the order"
    );
}

#[test]
fn what_nobody_waits_for_is_not_synced() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..10));
    store.commit_state(&[], &applied(9)).unwrap();
    let syncs = folder.reports.syncs();
    store.purge(3, Bytes::from_static(b"three")).unwrap();
    store.truncate_from(8).unwrap();
    store.save_committed(Bytes::from_static(b"seven")).unwrap();
    drop(store);
    assert_eq!(folder.reports.syncs(), syncs);
}

#[test]
fn a_truncated_tail_is_replaced_in_order() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..10));
    let held = HeldWriter::hold(&store);
    store.truncate_from(4).unwrap();
    store
        .append(
            vec![record(4, "other 4"), record(5, "other 5")],
            Box::new(|_| {}),
        )
        .unwrap();
    store.truncate_from(5).unwrap();
    store
        .append(vec![record(5, "third 5")], Box::new(|_| {}))
        .unwrap();
    let mut expected = records(0..4);
    expected.extend([record(4, "other 4"), record(5, "third 5")]);
    assert_eq!(read_all(&store), expected, "before anything is written");
    held.release();
    drop(store);
    assert_eq!(read_all(&folder.open()), expected, "after a restart");
}

#[test]
fn purging_beyond_the_end_lets_the_log_continue_there() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..3));
    store.commit_state(&[], &applied(2)).unwrap();
    store.purge(9, Bytes::from_static(b"nine")).unwrap();
    assert_eq!(
        store.append(records(3..4), Box::new(|_| {})),
        Err(AppendError::Gap {
            expected: 10,
            found: 3
        })
    );
    append(&store, records(10..12));
    assert_eq!(read_all(&store), records(10..12));
    assert_eq!(store.log_bounds().first, Some(10));
    assert_eq!(store.log_bounds().last, Some(11));
}

#[test]
fn reads_cross_from_disk_into_memory() {
    let folder = Folder::new();
    let store = folder.open();
    // The tail holds 256 bytes: most entries are on disk only.
    for start in (0..200).step_by(10) {
        append(&store, records(start..start + 10));
    }
    assert_eq!(read_all(&store), records(0..200));
    assert_eq!(
        store.read_log(150..199, usize::MAX).unwrap(),
        records(150..199)
    );
    assert_eq!(store.read_log(5..5, usize::MAX).unwrap(), []);
    assert_eq!(store.read_log(200..300, usize::MAX).unwrap(), []);
    assert_eq!(store.read_log(7..200, 0).unwrap(), records(7..8));
    let len = records(100..101)[0].payload.len();
    assert_eq!(
        store.read_log(100..200, 3 * len).unwrap(),
        records(100..103)
    );
    assert_eq!(
        store.read_log(190..200, 3 * len).unwrap(),
        records(190..193)
    );
}

#[test]
fn reads_stay_consistent_beside_truncations_and_purges() {
    const ROUNDS: u64 = 200;
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..40));
    store.commit_state(&[], &applied(39)).unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let reader = &store;
        scope.spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                let found = read_all(reader);
                let first = found.first().map_or(0, |record| record.index);
                assert_eq!(found, records(first..first + found.len() as u64));
            }
        });
        let mut next = 40;
        for round in 0..ROUNDS {
            store.truncate_from(next - 5).unwrap();
            append(&store, records(next - 5..next + 5));
            next += 5;
            store
                .purge(round * 5, Bytes::from_static(b"purged"))
                .unwrap();
        }
        drop(stop);
    });
    assert_eq!(folder.fatal.lock().unwrap().len(), 0);
}

#[test]
fn the_death_of_the_writer_is_fatal() {
    let folder = Folder::new();
    let store = folder.open();
    store
        .append(records(0..1), Box::new(|_| panic!("a planted panic")))
        .unwrap();
    // The hook returns, so the store says that it has stopped.
    while store.save_committed(Bytes::new()).is_ok() {
        thread::yield_now();
    }
    let died = FatalError::WriterDied {
        reason: "a planted panic".to_owned(),
    };
    assert_eq!(*folder.fatal.lock().unwrap(), [died]);
    assert_eq!(
        store.append(records(1..2), Box::new(|_| {})),
        Err(AppendError::Stopped(Stopped))
    );
    assert_eq!(
        store.commit_state(&[], &applied(0)),
        Err(CommitError::Stopped(Stopped))
    );
}
