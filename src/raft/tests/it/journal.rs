//! The replicated machine of the tests: a journal in which every command stands once.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use aegis_crypto::Digest;
use aegis_ledger::{Archive, Change, Order, Table};
use aegis_raft::{Admission, Applied, Decline, Entry, Machine, MachineError, Position};
use bytes::Bytes;

const COUNT: &[u8] = b"count";

/// Admits every command but one, which stands for what a newer version would send.
pub struct NoPoison;

/// The command that [`NoPoison`] cannot read.
pub const POISON: &[u8] = b"poison";

impl Admission for NoPoison {
    fn admit(&self, payload: &[u8]) -> Result<(), Decline> {
        if payload == POISON {
            return Err(Decline::Unreadable);
        }
        Ok(())
    }
}

/// A command that begins so makes the journal panic.
pub const PANIC: &[u8] = b"panic";

/// Appends each command to a list, unless it stands there already, and answers with its
/// number, from 1.
#[derive(Default)]
pub struct Journal {
    count: u64,
    /// The positions that were told to be committed.
    committed: Arc<Mutex<Vec<Position>>>,
}

impl Journal {
    /// A journal that reports here what it is told to be committed.
    pub fn reporting(committed: Arc<Mutex<Vec<Position>>>) -> Self {
        Self {
            count: 0,
            committed,
        }
    }
}

impl Machine for Journal {
    fn load(&mut self, archive: &dyn Archive) -> Result<(), MachineError> {
        let count = archive.get(Table::Core, COUNT).map_err(MachineError::new)?;
        self.count = count.map_or(0, |count| u64::from_be_bytes(count.try_into().unwrap()));
        Ok(())
    }

    fn apply(&mut self, archive: &dyn Archive, entry: Entry) -> Result<Applied, MachineError> {
        assert!(!entry.payload.starts_with(PANIC), "as it was told to");
        let name = *Digest::of(&entry.payload).as_bytes();
        let known = archive
            .get(Table::Requests, &name)
            .map_err(MachineError::new)?;
        if let Some(number) = known {
            return Ok(Applied {
                changes: Vec::new(),
                answer: number.into(),
            });
        }
        self.count += 1;
        let number = self.count.to_be_bytes().to_vec();
        let put = |table, key: &[u8], value: &[u8]| Change {
            table,
            key: key.to_vec(),
            value: Some(value.to_vec()),
        };
        let changes = vec![
            put(Table::Core, COUNT, &number),
            put(Table::Requests, &name, &number),
            put(Table::Audit, &number, &entry.payload),
        ];
        Ok(Applied {
            changes,
            answer: number.into(),
        })
    }

    /// Some are and some are not, so that both ways are taken.
    fn is_brief(&self, entry: &Entry) -> bool {
        entry.payload.len().is_multiple_of(2)
    }

    fn committed(&mut self, upto: Position) {
        self.committed.lock().unwrap().push(upto);
    }
}

/// The number in an answer.
pub fn number(answer: &Bytes) -> u64 {
    u64::from_be_bytes(answer[..].try_into().unwrap())
}

/// Everything that stands in a journal, in its order.
pub fn read(archive: &dyn Archive) -> Vec<Vec<u8>> {
    let mut commands = Vec::new();
    archive
        .scan(
            Table::Audit,
            &[],
            None,
            Order::Ascending,
            &mut |_, command| {
                commands.push(command.to_vec());
                ControlFlow::Continue(())
            },
        )
        .unwrap();
    commands
}
