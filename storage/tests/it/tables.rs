//! The tables and the applied position.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use aegis_ledger::{Archive, Order, Table};
use aegis_storage::{AppliedReport, CommitError, Observer};

use crate::support::{Folder, HeldWriter, append, applied, delete, dump, put, records};

#[test]
fn changes_and_position_are_written_together_and_seen_at_once() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..10));
    let before = store.view();
    let changes = [
        put(Table::Ballots, b"a", b"1"),
        put(Table::Ballots, b"b", b"2"),
        put(Table::Audit, b"a", b"3"),
        delete(Table::Ballots, b"a"),
    ];
    store.commit_state(&changes, &applied(4)).unwrap();

    let expected = vec![
        (Table::Ballots, b"b".to_vec(), b"2".to_vec()),
        (Table::Audit, b"a".to_vec(), b"3".to_vec()),
    ];
    assert_eq!(dump(&store.tables()), expected);
    let after = store.view();
    store
        .commit_state(&[delete(Table::Audit, b"a")], &applied(5))
        .unwrap();
    assert_eq!(dump(&before), []);
    assert_eq!(before.applied().unwrap(), None);
    assert_eq!(dump(&after), expected);
    assert_eq!(after.applied().unwrap(), Some(applied(4)));
    assert_eq!(dump(&store.tables()), expected[..1]);
    drop((store, before, after));

    let store = folder.open();
    assert_eq!(dump(&store.view()), expected[..1]);
    assert_eq!(store.read_applied().unwrap(), Some(applied(5)));
    assert_eq!(folder.reports.applied.lock().unwrap().len(), 2);
}

#[test]
fn a_killed_node_keeps_what_it_applied_and_its_log() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..10));
    store
        .commit_state(&[put(Table::Core, b"k", b"v")], &applied(9))
        .unwrap();
    let killed = folder.crash_copy();
    let copy = killed.open();
    assert_eq!(copy.read_applied().unwrap(), Some(applied(9)));
    assert_eq!(copy.log_bounds().last, Some(9));
    assert_eq!(dump(&copy.view()), dump(&store.view()));
}

/// Otherwise a crash could leave the tables ahead of the log.
#[test]
fn changes_are_not_written_before_their_log_entries() {
    struct WrittenInOrder {
        is_released: AtomicBool,
        is_early: AtomicBool,
    }
    impl Observer for WrittenInOrder {
        fn applied(&self, _: &AppliedReport) {
            let is_released = self.is_released.load(SeqCst);
            self.is_early.store(!is_released, SeqCst);
        }
    }

    let mut folder = Folder::new();
    let order = Arc::new(WrittenInOrder {
        is_released: AtomicBool::new(false),
        is_early: AtomicBool::new(false),
    });
    folder.options.observer = Arc::clone(&order) as Arc<dyn Observer>;
    let store = folder.open();
    let held = HeldWriter::hold(&store);
    store.append(records(0..5), Box::new(|_| {})).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| store.commit_state(&[], &applied(4)).unwrap());
        // Time in which a store that does not wait would write.
        for _ in 0..1000 {
            assert_eq!(store.read_applied().unwrap(), None);
            thread::yield_now();
        }
        order.is_released.store(true, SeqCst);
        held.release();
    });
    assert_eq!(store.read_applied().unwrap(), Some(applied(4)));
    assert!(!order.is_early.load(SeqCst));
}

#[test]
fn scans_stay_within_their_table_and_bounds() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..1));
    let mut changes = Vec::new();
    for table in Table::ALL {
        for key in [&b""[..], b"a", b"b", b"\xff", b"\xff\xff"] {
            changes.push(put(table, key, &[table.id()]));
        }
    }
    store.commit_state(&changes, &applied(0)).unwrap();
    let view = store.view();
    let scan = |table, from: &[u8], to: Option<&[u8]>, order| {
        let mut keys = Vec::new();
        view.scan(table, from, to, order, &mut |key, value| {
            assert_eq!(value, [table.id()]);
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
        keys
    };
    for table in Table::ALL {
        let all = scan(table, b"", None, Order::Ascending);
        assert_eq!(all, [&b""[..], b"a", b"b", b"\xff", b"\xff\xff"]);
        let mut reversed = scan(table, b"", None, Order::Descending);
        reversed.reverse();
        assert_eq!(reversed, all);
        assert_eq!(
            scan(table, b"a", Some(b"\xff"), Order::Ascending),
            [b"a", b"b"]
        );
        assert_eq!(
            scan(table, b"a", Some(b"\xff"), Order::Descending),
            [b"b", b"a"]
        );
        assert_eq!(scan(table, b"b", Some(b"a"), Order::Ascending).len(), 0);
        assert_eq!(scan(table, b"b", Some(b"b"), Order::Descending).len(), 0);
        assert_eq!(view.get(table, b"\xff").unwrap(), Some(vec![table.id()]));
        assert_eq!(view.get(table, b"c").unwrap(), None);
    }
    let mut visited = 0;
    view.scan(Table::Audit, b"", None, Order::Ascending, &mut |_, _| {
        visited += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(visited, 1);
}

#[test]
fn a_record_that_no_snapshot_could_carry_is_refused() {
    let folder = Folder::new();
    let store = folder.open();
    let long_key = vec![0; 4097];
    assert_eq!(
        store.commit_state(&[put(Table::Core, &long_key, b"")], &applied(0)),
        Err(CommitError::TooLarge {
            table: Table::Core,
            key_bytes: 4097,
            value_bytes: 0
        })
    );
    let long_value = vec![0; (16 << 20) + 1];
    assert!(
        store
            .commit_state(&[put(Table::Core, b"", &long_value)], &applied(0))
            .is_err()
    );
    assert_eq!(store.read_applied().unwrap(), None);
}

#[test]
fn stats_tell_what_is_used() {
    let folder = Folder::new();
    let store = folder.open();
    append(&store, records(0..1000));
    let stats = store.stats().unwrap();
    assert!(stats.disk_bytes > folder.options.ballast_bytes);
    assert!(stats.memtable_bytes > 0);
    let space = store.space().unwrap();
    assert!(space.free_bytes <= space.total_bytes);
}
