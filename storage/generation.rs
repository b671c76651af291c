//! A generation of the tables: the column families that one snapshot, or genesis, filled.
//!
//! Installing a snapshot fills a new generation beside the one in use and then switches.
//! RocksDB keeps a dropped column family readable until its last handle is gone, so a
//! view that holds the old generation stays valid, and its files go with it.

use std::ops::ControlFlow;
use std::sync::Arc;

use aegis_ledger::{ArchiveError, Order, Table};
use bytes::Bytes;
use rocksdb::{BoundColumnFamily, ReadOptions, SnapshotWithThreadMode};
use self_cell::self_cell;

use crate::codec::{self, key};
use crate::database::Database;
use crate::schema::{Db, Family, owned_key, table_end, with_key};
use crate::state::Applied;

/// What a generation keeps alive.
pub(crate) struct Owner {
    pub(crate) database: Arc<Database>,
    pub(crate) number: u64,
}

/// The open column families of a generation, in the order of [`Family::ALL`].
pub(crate) struct Columns<'db> {
    handles: [Arc<BoundColumnFamily<'db>>; 4],
    read: ReadOptions,
}

impl<'db> Columns<'db> {
    pub(crate) fn get(&self, family: Family) -> &Arc<BoundColumnFamily<'db>> {
        let [ledger, ballots, events, audit] = &self.handles;
        match family {
            Family::Ledger => ledger,
            Family::Ballots => ballots,
            Family::Events => events,
            Family::Audit => audit,
        }
    }
}

self_cell!(
    /// Column families together with the database that they borrow from.
    pub(crate) struct Generation {
        owner: Owner,

        #[covariant]
        dependent: Columns,
    }
);

impl Generation {
    /// The column families of generation `number`; `None` if one is missing.
    pub(crate) fn of(database: Arc<Database>, number: u64) -> Option<Self> {
        Self::try_new(Owner { database, number }, |owner| {
            let handle = |family: Family| {
                let column = family.column(owner.number);
                owner.database.db.cf_handle(&column).ok_or(())
            };
            Ok::<_, ()>(Columns {
                handles: [
                    handle(Family::Ledger)?,
                    handle(Family::Ballots)?,
                    handle(Family::Events)?,
                    handle(Family::Audit)?,
                ],
                read: ReadOptions::default(),
            })
        })
        .ok()
    }

    pub(crate) fn number(&self) -> u64 {
        self.borrow_owner().number
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.borrow_owner().database
    }

    pub(crate) fn columns(&self) -> &Columns<'_> {
        self.borrow_dependent()
    }

    /// Reads of the latest state.
    pub(crate) fn latest(&self) -> Reader<'_> {
        Reader {
            db: &self.database().db,
            columns: self.columns(),
            read: &self.columns().read,
            snapshot: None,
        }
    }
}

/// Reads of one generation, of the latest state or of a RocksDB snapshot.
pub(crate) struct Reader<'a> {
    pub(crate) db: &'a Db,
    pub(crate) columns: &'a Columns<'a>,
    pub(crate) read: &'a ReadOptions,
    pub(crate) snapshot: Option<&'a SnapshotWithThreadMode<'a, Db>>,
}

/// Called with each key and value; breaking ends the scan.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// How much a scan of everything reads ahead, in bytes.
const READAHEAD_BYTES: usize = 1 << 20;

impl Reader<'_> {
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        let column = self.columns.get(Family::of(table));
        with_key(table, key, |key| {
            self.db.get_pinned_cf_opt(column, key, self.read)
        })
        .map(|value| value.map(|value| value.to_vec()))
        .map_err(unreadable)
    }

    pub(crate) fn applied(&self) -> Result<Option<Applied>, ArchiveError> {
        let column = self.columns.get(Family::Ledger);
        let value = self
            .db
            .get_pinned_cf_opt(column, key::APPLIED, self.read)
            .map_err(unreadable)?;
        value
            .map(|value| codec::decode_applied(&value))
            .transpose()
            .map_err(|error| ArchiveError {
                reason: format!("the applied position: {error}"),
            })
    }

    pub(crate) fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), ArchiveError> {
        let mut options = self.bounds(table, from, to);
        options.set_auto_readahead_size(true);
        self.walk(table, options, order, visit)
    }

    /// Visits a whole table once, without displacing what others read from the cache.
    pub(crate) fn scan_once(
        &self,
        table: Table,
        visit: &mut Visit<'_>,
    ) -> Result<(), ArchiveError> {
        let mut options = self.bounds(table, &[], None);
        options.fill_cache(false);
        options.set_readahead_size(READAHEAD_BYTES);
        self.walk(table, options, Order::Ascending, visit)
    }

    fn bounds(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = self.snapshot {
            options.set_snapshot(snapshot);
        }
        options.set_iterate_lower_bound(owned_key(table, from));
        options.set_iterate_upper_bound(match to {
            Some(to) => owned_key(table, to),
            None => table_end(table).to_vec(),
        });
        options
    }

    fn walk(
        &self,
        table: Table,
        options: ReadOptions,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), ArchiveError> {
        let column = self.columns.get(Family::of(table));
        let mut iterator = self.db.raw_iterator_cf_opt(column, options);
        match order {
            Order::Ascending => iterator.seek_to_first(),
            Order::Descending => iterator.seek_to_last(),
        }
        while let Some((key, value)) = iterator.item() {
            let (_, key) = key
                .split_first()
                .expect("the bounds admit only keys that begin with the table's byte");
            if visit(key, value).is_break() {
                return Ok(());
            }
            match order {
                Order::Ascending => iterator.next(),
                Order::Descending => iterator.prev(),
            }
        }
        iterator.status().map_err(unreadable)
    }
}

pub(crate) fn unreadable(error: rocksdb::Error) -> ArchiveError {
    ArchiveError {
        reason: error.into_string(),
    }
}

/// The vote and the committed position are opaque.
pub(crate) fn opaque(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}
