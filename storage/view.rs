//! What is on disk, as the ledger's [`Archive`]: frozen in a [`View`], or the latest in
//! [`LiveTables`].

use std::ops::ControlFlow;
use std::sync::Arc;

use aegis_ledger::{Archive, ArchiveError, Order, Table};
use rocksdb::{ReadOptions, SnapshotWithThreadMode};
use self_cell::self_cell;

use crate::create::Identity;
use crate::generation::{Generation, Reader};
use crate::schema::Db;
use crate::state::Applied;

/// A RocksDB snapshot and the options that read from it. The options are dropped first:
/// they hold the snapshot's address.
struct Frozen<'db> {
    read: ReadOptions,
    snapshot: SnapshotWithThreadMode<'db, Db>,
}

self_cell!(
    struct FrozenGeneration {
        owner: Arc<Generation>,

        #[covariant]
        dependent: Frozen,
    }
);

/// A consistent view of the tables and the applied position. Cheap to make and to clone;
/// it stays valid while snapshots are installed, and keeps the folder open.
#[derive(Clone)]
pub struct View {
    frozen: Arc<FrozenGeneration>,
}

impl View {
    pub(crate) fn of(generation: Arc<Generation>) -> Self {
        let frozen = FrozenGeneration::new(generation, |generation| {
            let snapshot = generation.database().db.snapshot();
            let mut read = ReadOptions::default();
            read.set_snapshot(&snapshot);
            Frozen { read, snapshot }
        });
        Self {
            frozen: Arc::new(frozen),
        }
    }

    /// The applied position, from the same snapshot as the tables; `None` before the
    /// first entry.
    pub fn applied(&self) -> Result<Option<Applied>, ArchiveError> {
        self.reader().applied()
    }

    /// To whom the folder belongs.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.frozen.borrow_owner().database().identity
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        let generation = self.frozen.borrow_owner();
        let frozen = self.frozen.borrow_dependent();
        Reader {
            db: &generation.database().db,
            columns: generation.columns(),
            read: &frozen.read,
            snapshot: Some(&frozen.snapshot),
        }
    }
}

impl Archive for View {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.reader().get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        self.reader().scan(table, from, to, order, visit)
    }
}

/// The latest state of the generation that was current when it was made: what `apply`
/// reads. Make a new one for every batch.
#[derive(Clone)]
pub struct LiveTables {
    generation: Arc<Generation>,
}

impl LiveTables {
    pub(crate) fn of(generation: Arc<Generation>) -> Self {
        Self { generation }
    }
}

impl Archive for LiveTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.generation.latest().get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        self.generation.latest().scan(table, from, to, order, visit)
    }
}
