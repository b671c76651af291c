//! Keys, a committee and a disk that live in memory, the same in every run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use aegis_crypto::{Committee, Digest, SecretKey};
use aegis_pbft::{Change, Disk, Scope, Value};
use thiserror::Error;

/// The scope of every test that does not ask for another.
pub(crate) fn scope() -> Scope {
    Scope {
        cluster: Digest::of("a cluster"),
        incarnation: 0,
        epoch: 0,
    }
}

/// The key of a seat.
pub(crate) fn key(seat: u8) -> SecretKey {
    SecretKey::from_seed(&[seat; 32])
}

/// A committee of so many seats, of epoch 0.
pub(crate) fn committee(count: u8) -> Arc<Committee> {
    committee_of(0, count)
}

/// The same seats in an epoch.
pub(crate) fn committee_of(epoch: u64, count: u8) -> Arc<Committee> {
    let keys = (0..count).map(|seat| key(seat).public()).collect();
    Arc::new(Committee::new(epoch, keys).unwrap())
}

/// A statement about a closing, with no more than what binds it, and its outcome.
pub(crate) fn value(sequence: u64, outcome: &str) -> Value {
    let Scope {
        cluster,
        incarnation,
        ..
    } = scope();
    let statement = format!(
        r#"{{"cluster":"{cluster}","incarnation":"{incarnation}","ordinal":"{sequence}","outcome":"{outcome}"}}"#
    );
    Value::new(&statement, &[]).unwrap()
}

/// Records by key, as a disk holds them.
pub(crate) type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// What a [`MemoryDisk`] holds and was asked for.
#[derive(Debug, Default)]
pub(crate) struct Medium {
    pub(crate) records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Every write so far, in order.
    pub(crate) writes: Vec<Vec<Change>>,
    /// Fails the next writes.
    pub(crate) broken: bool,
}

/// A disk in memory, which the test looks at and breaks from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryDisk(pub(crate) Rc<RefCell<Medium>>);

/// The medium is broken.
#[derive(Debug, Error)]
#[error("the medium is broken")]
pub(crate) struct Broken;

impl MemoryDisk {
    pub(crate) fn records(&self) -> Records {
        self.0.borrow().records.clone().into_iter().collect()
    }

    /// Takes the writes since it was last asked.
    pub(crate) fn take_writes(&self) -> Vec<Vec<Change>> {
        std::mem::take(&mut self.0.borrow_mut().writes)
    }
}

impl Disk for MemoryDisk {
    type Error = Broken;

    fn write(&mut self, changes: Vec<Change>) -> Result<(), Broken> {
        let mut medium = self.0.borrow_mut();
        if medium.broken {
            return Err(Broken);
        }
        for Change { key, value } in changes.clone() {
            match value {
                Some(value) => medium.records.insert(key, value),
                None => medium.records.remove(&key),
            };
        }
        medium.writes.push(changes);
        Ok(())
    }
}
