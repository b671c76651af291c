//! Tables in memory: as a node has them on its disk, behind a batch that is not written
//! yet, and as a snapshot that travels.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use aegis_crypto::Digest;
use aegis_ledger::*;

/// A key of a table.
type Place = (u8, Vec<u8>);

/// The tables, in memory.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Tables(BTreeMap<Place, Vec<u8>>);

impl Tables {
    pub fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            let key = (change.table.id(), change.key);
            match change.value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }

    pub fn digest(&self) -> Digest {
        query::state_digest(self).unwrap()
    }

    pub fn rows(&self, table: Table) -> usize {
        self.0.keys().filter(|(id, _)| *id == table.id()).count()
    }

    /// The bytes of every record, as a snapshot carries them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for table in Table::ALL {
            self.scan(table, &[], None, Order::Ascending, &mut |key, value| {
                bytes.push(table.id());
                for part in [key, value] {
                    bytes.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
                    bytes.extend(part);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        }
        bytes
    }

    /// Fresh tables with what [`Tables::to_bytes`] wrote, each record decoded and encoded
    /// again on the way.
    pub fn from_bytes(mut bytes: &[u8]) -> Self {
        fn take<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
            let (len, rest) = bytes.split_first_chunk::<4>().unwrap();
            let (part, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
            *bytes = rest;
            part
        }
        let mut changes = Vec::new();
        while let Some((id, rest)) = bytes.split_first() {
            bytes = rest;
            let table = Table::from_id(*id).unwrap();
            let key = take(&mut bytes).to_vec();
            let value = take(&mut bytes);
            changes.push(recoded(table, key, value));
        }
        let mut tables = Self::default();
        tables.write(changes);
        tables
    }
}

/// The change that stores what a row's bytes decode to.
fn recoded(table: Table, key: Vec<u8>, value: &[u8]) -> Change {
    fn of<R: Record>(key: Vec<u8>, value: &[u8]) -> Change {
        R::decode(value).unwrap().put(key)
    }
    match table {
        Table::Core => of::<CoreRecord>(key, value),
        Table::Agents => of::<AgentRecord>(key, value),
        Table::Proposals => of::<ProposalRecord>(key, value),
        Table::Electorates => of::<ElectorateRecord>(key, value),
        Table::Tallies => of::<Tally>(key, value),
        Table::Ballots => of::<BallotRecord>(key, value),
        Table::Closings => of::<ClosingRecord>(key, value),
        Table::Audit => of::<AuditEntry>(key, value),
        Table::Tokens => of::<TokenRecord>(key, value),
        Table::Requests => of::<RequestRecord>(key, value),
        Table::Evidence => of::<EvidenceRecord>(key, value),
        Table::Events => of::<Event>(key, value),
        Table::Committees => of::<CommitteeRecord>(key, value),
        Table::Uncertified => of::<UncertifiedRecord>(key, value),
        Table::RetiredKeys => of::<RetiredKeyRecord>(key, value),
        Table::Documents | Table::Justifications | Table::Certificates | Table::Tree => Change {
            table,
            key,
            value: Some(value.to_vec()),
        },
        Table::Open | Table::VotesByVoter | Table::RequestExpiry => {
            assert!(value.is_empty(), "{table:?}");
            Change {
                table,
                key,
                value: Some(Vec::new()),
            }
        }
    }
}

impl Archive for Tables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        Ok(self.0.get(&(table.id(), key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: Visitor<'_>,
    ) -> Result<(), ArchiveError> {
        let rows = rows_between(&self.0, table, from, to)
            .map(|((_, key), value)| (key.as_slice(), value.as_slice()));
        in_order(rows, order, visit);
        Ok(())
    }
}

/// The tables as the next entry of a batch sees them, before any of the batch is written.
pub struct Batch<'a> {
    tables: &'a Tables,
    changed: BTreeMap<Place, Change>,
}

impl<'a> Batch<'a> {
    pub const fn over(tables: &'a Tables) -> Self {
        Self {
            tables,
            changed: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, changes: Vec<Change>) {
        for change in changes {
            let place = (change.table.id(), change.key.clone());
            self.changed.insert(place, change);
        }
    }

    /// What is to be written: the last change of each key.
    pub fn into_changes(self) -> Vec<Change> {
        self.changed.into_values().collect()
    }
}

impl Archive for Batch<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        match self.changed.get(&(table.id(), key.to_vec())) {
            Some(change) => Ok(change.value.clone()),
            None => self.tables.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: Visitor<'_>,
    ) -> Result<(), ArchiveError> {
        let mut rows: BTreeMap<&[u8], &[u8]> = rows_between(&self.tables.0, table, from, to)
            .map(|((_, key), value)| (key.as_slice(), value.as_slice()))
            .collect();
        for ((_, key), change) in rows_between(&self.changed, table, from, to) {
            match &change.value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(key.as_slice()),
            };
        }
        in_order(rows.into_iter(), order, visit);
        Ok(())
    }
}

fn rows_between<'a, V>(
    rows: &'a BTreeMap<Place, V>,
    table: Table,
    from: &[u8],
    to: Option<&[u8]>,
) -> impl DoubleEndedIterator<Item = (&'a Place, &'a V)> {
    let start = (table.id(), from.to_vec());
    let end = match to {
        Some(to) => (table.id(), to.to_vec()),
        None => (table.id() + 1, Vec::new()),
    };
    // An empty range is no error here, as it is none on a disk.
    let end = end.max(start.clone());
    rows.range((Bound::Included(start), Bound::Excluded(end)))
}

fn in_order<'a>(
    mut rows: impl DoubleEndedIterator<Item = (&'a [u8], &'a [u8])>,
    order: Order,
    visit: Visitor<'_>,
) {
    let mut visit = |(key, value): (&[u8], &[u8])| visit(key, value);
    let _ = match order {
        Order::Ascending => rows.try_for_each(&mut visit),
        Order::Descending => rows.rev().try_for_each(&mut visit),
    };
}
