//! Random histories against a model that is nothing but maps.

use std::collections::BTreeMap;

use aegis_ledger::{Archive, Change, Table};
use aegis_storage::{LogRecord, Store};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Folder, append, applied, dump, read_all, save_vote, write_committee};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Vec<u8>>),
    TruncateLast(u64),
    PurgeApplied(u64),
    Vote(u8),
    Committed(u8),
    Committee(Vec<(u8, Option<Vec<u8>>)>),
    Apply(u64, Vec<(u8, u8, Option<Vec<u8>>)>),
    Reinstall,
    Reopen,
    Kill,
}

fn steps() -> impl Strategy<Value = Step> {
    let payload = vec(any::<u8>(), 0..200);
    let change = (
        0..17u8,
        0..8u8,
        proptest::option::of(vec(any::<u8>(), 0..50)),
    );
    let committee = (0..8u8, proptest::option::of(vec(any::<u8>(), 0..50)));
    prop_oneof![
        6 => vec(payload, 1..6).prop_map(Step::Append),
        2 => (1..5u64).prop_map(Step::TruncateLast),
        1 => (0..4u64).prop_map(Step::PurgeApplied),
        1 => any::<u8>().prop_map(Step::Vote),
        1 => any::<u8>().prop_map(Step::Committed),
        3 => vec(committee, 0..6).prop_map(Step::Committee),
        4 => (1..5u64, vec(change, 0..6)).prop_map(|(count, changes)| Step::Apply(count, changes)),
        1 => Just(Step::Reinstall),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

/// What the store must contain.
#[derive(Debug, Default)]
struct Model {
    log: BTreeMap<u64, Bytes>,
    next: u64,
    purged: Option<u64>,
    applied: Option<u64>,
    vote: Option<u8>,
    committed: Option<u8>,
    committee: BTreeMap<Vec<u8>, Vec<u8>>,
    tables: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
}

impl Model {
    fn check(&self, store: &Store) {
        let log: Vec<_> = self
            .log
            .iter()
            .map(|(index, payload)| LogRecord {
                index: *index,
                payload: payload.clone(),
            })
            .collect();
        assert_eq!(read_all(store), log);
        let bounds = store.log_bounds();
        assert_eq!(bounds.first, self.log.keys().next().copied());
        assert_eq!(bounds.last, self.next.checked_sub(1));
        assert_eq!(bounds.purged, self.purged.map(|index| applied(index).bytes));
        assert_eq!(
            store.read_vote(),
            self.vote.map(|vote| Bytes::from(vec![vote]))
        );
        let committed = self.committed.map(|committed| Bytes::from(vec![committed]));
        assert_eq!(store.read_committed(), committed);
        assert_eq!(store.read_applied().unwrap(), self.applied.map(applied));
        let committee: Vec<_> = self.committee.clone().into_iter().collect();
        assert_eq!(store.committee_records().unwrap(), committee);
        for key in 0..8u8 {
            let found = store.committee_record(&[key]).unwrap();
            assert_eq!(found.as_ref(), self.committee.get(&[key][..]));
        }
        let tables: Vec<_> = self
            .tables
            .iter()
            .map(|((table, key), value)| (*table, key.clone(), value.clone()))
            .collect();
        assert_eq!(dump(&store.view()), tables);
        for ((table, key), value) in &self.tables {
            assert_eq!(
                store.tables().get(*table, key).unwrap().as_ref(),
                Some(value)
            );
        }
    }

    fn append(&mut self, store: &Store, payloads: Vec<Vec<u8>>) {
        let mut records = Vec::new();
        for payload in payloads {
            let payload = Bytes::from(payload);
            self.log.insert(self.next, payload.clone());
            records.push(LogRecord {
                index: self.next,
                payload,
            });
            self.next += 1;
        }
        append(store, records);
    }

    /// Entries that were applied are never truncated.
    fn truncate(&mut self, store: &Store, count: u64) {
        let keep = self.applied.map_or(0, |applied| applied + 1);
        let from = self.next.saturating_sub(count).max(keep).min(self.next);
        store.truncate_from(from).unwrap();
        self.log.split_off(&from);
        self.next = from;
    }

    fn purge(&mut self, store: &Store, behind: u64) {
        let Some(upto) = self.applied.and_then(|applied| applied.checked_sub(behind)) else {
            return;
        };
        store.purge(upto, applied(upto).bytes).unwrap();
        self.log = self.log.split_off(&(upto + 1));
        self.purged = self.purged.max(Some(upto));
    }

    fn committee(&mut self, store: &Store, changes: Vec<(u8, Option<Vec<u8>>)>) {
        for (key, value) in changes.clone() {
            match value {
                Some(value) => self.committee.insert(vec![key], value),
                None => self.committee.remove(&[key][..]),
            };
        }
        let changes = changes
            .into_iter()
            .map(|(key, value)| (Bytes::from(vec![key]), value.map(Bytes::from)))
            .collect();
        write_committee(store, changes);
    }

    fn apply(&mut self, store: &Store, count: u64, changes: Vec<(u8, u8, Option<Vec<u8>>)>) {
        let from = self.applied.map_or(0, |applied| applied + 1);
        let to = (from + count).min(self.next);
        if from >= to {
            return;
        }
        let changes: Vec<_> = changes
            .into_iter()
            .map(|(table, key, value)| Change {
                table: Table::from_id(table).unwrap(),
                key: vec![key],
                value,
            })
            .collect();
        for Change { table, key, value } in changes.clone() {
            match value {
                Some(value) => self.tables.insert((table, key), value),
                None => self.tables.remove(&(table, key)),
            };
        }
        store.commit_state(&changes, &applied(to - 1)).unwrap();
        self.applied = Some(to - 1);
    }
}

fn run(history: Vec<Step>) {
    let mut folder = Folder::new();
    let mut store = folder.open();
    let mut model = Model::default();
    for step in history {
        match step {
            Step::Append(payloads) => model.append(&store, payloads),
            Step::TruncateLast(count) => model.truncate(&store, count),
            Step::PurgeApplied(behind) => model.purge(&store, behind),
            Step::Vote(vote) => {
                model.vote = Some(vote);
                let (done, answer) = std::sync::mpsc::sync_channel(1);
                let done = Box::new(move |result| done.send(result).unwrap());
                store.save_vote(Bytes::from(vec![vote]), done).unwrap();
                answer.recv().unwrap().unwrap();
            }
            Step::Committed(committed) => {
                model.committed = Some(committed);
                store.save_committed(Bytes::from(vec![committed])).unwrap();
            }
            Step::Committee(changes) => model.committee(&store, changes),
            Step::Apply(count, changes) => model.apply(&store, count, changes),
            Step::Reinstall if model.applied.is_some() => {
                let (file, _) = store.snapshots().save(&store.view()).unwrap();
                store.install(&file.path).unwrap();
            }
            Step::Reinstall => {}
            Step::Reopen => {
                drop(store);
                store = folder.open();
            }
            Step::Kill => {
                // Whatever was queued before a durable vote is written.
                save_vote(&store, "barrier");
                model.vote = None;
                let killed = folder.crash_copy();
                drop(store);
                folder = killed;
                store = folder.open();
                assert_eq!(store.read_vote().unwrap(), "barrier");
                continue_after_barrier(&mut model, &store);
            }
        }
        model.check(&store);
    }
    drop(store);
    model.check(&folder.open());
    assert!(folder.fatal.lock().unwrap().is_empty());
}

/// The barrier's vote is replaced by one that the model knows.
fn continue_after_barrier(model: &mut Model, store: &Store) {
    let (done, answer) = std::sync::mpsc::sync_channel(1);
    let done = Box::new(move |result| done.send(result).unwrap());
    store.save_vote(Bytes::from(vec![0]), done).unwrap();
    answer.recv().unwrap().unwrap();
    model.vote = Some(0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_histories_match_the_model(history in vec(steps(), 1..40)) {
        run(history);
    }
}
