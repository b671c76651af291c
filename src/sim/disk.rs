//! A disk that keeps what it acknowledged, fails when it is told to, and, as a planted
//! bug, forgets.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use aegis_pbft::{Change, Disk};

/// A write that did not return well. What is on the medium is unknown to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteFailed {
    /// Whether the batch is on the medium all the same.
    pub kept: bool,
}

impl std::fmt::Display for WriteFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the write could not be synced")
    }
}

impl std::error::Error for WriteFailed {}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct Medium {
    durable: Records,
    /// Acknowledged and not durable: nothing but the planted bug puts a batch here.
    cached: VecDeque<Vec<Change>>,
    forgets: usize,
    fault: Option<WriteFailed>,
    writes: u64,
}

fn put(records: &mut Records, changes: Vec<Change>) {
    for Change { key, value } in changes {
        match value {
            Some(value) => records.insert(key, value),
            None => records.remove(&key),
        };
    }
}

/// One seat's disk. Clones are handles to the same medium, which outlives the validator.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Rc<RefCell<Medium>>);

impl SimDisk {
    /// The next write fails, and the batch is on the medium or not.
    pub fn fail_next(&self, kept: bool) {
        self.0.borrow_mut().fault = Some(WriteFailed { kept });
    }

    /// The next write is good.
    pub fn repair(&self) {
        self.0.borrow_mut().fault = None;
    }

    /// Plants a bug: so many of the last acknowledged batches are lost with the power.
    pub fn forget(&self, batches: usize) {
        self.0.borrow_mut().forgets = batches;
    }

    /// The power goes: what is durable stays.
    pub fn lose_power(&self) {
        self.0.borrow_mut().cached.clear();
    }

    /// What a loss of power would leave.
    #[must_use]
    pub fn durable(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.0.borrow().durable.clone().into_iter().collect()
    }

    /// What a restarted process reads.
    #[must_use]
    pub fn read(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let medium = self.0.borrow();
        let mut records = medium.durable.clone();
        for batch in &medium.cached {
            put(&mut records, batch.clone());
        }
        records.into_iter().collect()
    }

    /// Batches that were written.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.0.borrow().writes
    }
}

impl Disk for SimDisk {
    type Error = WriteFailed;

    fn write(&mut self, changes: Vec<Change>) -> Result<(), WriteFailed> {
        let medium = &mut *self.0.borrow_mut();
        let fault = medium.fault.take();
        if fault.is_some_and(|fault| !fault.kept) {
            return Err(WriteFailed { kept: false });
        }
        medium.writes += 1;
        medium.cached.push_back(changes);
        while medium.cached.len() > medium.forgets {
            let oldest = medium.cached.pop_front().unwrap_or_default();
            put(&mut medium.durable, oldest);
        }
        fault.map_or(Ok(()), Err)
    }
}
