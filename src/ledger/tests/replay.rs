//! Ways to replay a log.

use aegis_crypto::{Digest, Hasher};
use aegis_ledger::*;

use crate::history::Log;
use crate::tables::{Batch, Tables};

/// What a replay does between two batches.
#[derive(Clone, Copy, Debug)]
pub enum Between {
    Nothing,
    /// The node restarts on its tables.
    Restart,
    /// Another node goes on, from a snapshot.
    Snapshot,
}

/// What a replay comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Replayed {
    pub tables: Tables,
    pub ledger: Ledger,
    pub answers: Vec<Answer>,
    pub events: Vec<EventKind>,
    /// A digest over every answer and every change, in order.
    pub trace: Digest,
}

/// Extends a trace by what applying an entry came to.
fn traced(trace: Digest, applied: &Applied) -> Digest {
    let answer = applied.answer.encode();
    let start = Hasher::tagged("test/trace").digest(&trace).bytes(&answer);
    let change = |hasher: Hasher, change: &Change| {
        let hasher = hasher.u8(change.table.id()).bytes(&change.key);
        match &change.value {
            Some(value) => hasher.u8(1).bytes(value),
            None => hasher.u8(0),
        }
    };
    applied.changes.iter().fold(start, change).finish()
}

/// Replays a log from its bytes into a new cluster; the entries of a batch are applied
/// before any of them is written.
pub fn replay(genesis: &Genesis, log: &Log, batch: usize, between: Between) -> Replayed {
    let mut tables = Tables::default();
    let mut ledger = Ledger::load(&tables, genesis).unwrap();
    let (mut answers, mut events) = (Vec::new(), Vec::new());
    let (mut index, mut trace) = (0, Digest::ZERO);
    for entries in log.chunks(batch) {
        let mut pending = Batch::over(&tables);
        for (now, entry) in entries {
            index += 1;
            let entry = Entry::decode(&entry.clone().encode()).unwrap();
            let applied = ledger
                .apply(&pending, LogIndex(index), LedgerTime(*now), entry)
                .unwrap();
            trace = traced(trace, &applied);
            pending.add(applied.changes);
            answers.push(applied.answer);
            events.extend(applied.events.into_iter().map(|event| event.kind));
        }
        let changes = pending.into_changes();
        tables.write(changes);
        match between {
            Between::Nothing => continue,
            Between::Restart => {}
            Between::Snapshot => tables = Tables::from_bytes(&tables.to_bytes()),
        }
        ledger = Ledger::load(&tables, genesis).unwrap();
    }
    Replayed {
        tables,
        ledger,
        answers,
        events,
        trace,
    }
}
