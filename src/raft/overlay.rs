//! The archive as it will be after the pending writes.
//!
//! A committed batch is applied entry by entry but written once, so entry *n* must read what
//! entries before it changed. An [`Overlay`] holds those changes over the archive on disk,
//! the last change of a key standing for all of them, and answers reads and scans as if they
//! were written.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::{Bound, ControlFlow};

use aegis_ledger::{Archive, ArchiveError, Change, Order, Table};

type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Changes that are not on disk yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    tables: BTreeMap<Table, Rows>,
}

impl Pending {
    /// Adds the changes of one entry.
    pub(crate) fn extend(&mut self, changes: Vec<Change>) {
        for Change { table, key, value } in changes {
            self.tables.entry(table).or_default().insert(key, value);
        }
    }

    /// The changes to write, one for each key, ordered by table and key.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        let rows = |(table, rows): (Table, Rows)| {
            rows.into_iter()
                .map(move |(key, value)| Change { table, key, value })
        };
        self.tables.into_iter().flat_map(rows).collect()
    }
}

/// A view of `base` with `pending` laid over it.
pub(crate) struct Overlay<'a> {
    pub(crate) base: &'a dyn Archive,
    pub(crate) pending: &'a Pending,
}

impl Archive for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        match self
            .pending
            .tables
            .get(&table)
            .and_then(|rows| rows.get(key))
        {
            Some(value) => Ok(value.clone()),
            None => self.base.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: &mut Visit<'_>,
    ) -> Result<(), ArchiveError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let Some(rows) = self.pending.tables.get(&table) else {
            return self.base.scan(table, from, to, order, visit);
        };
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let range = rows.range::<[u8], _>((Bound::Included(from), upper));
        let mut merge = Merge {
            pending: Direction::new(range, order).peekable(),
            order,
            visit,
            stopped: false,
        };

        self.base.scan(table, from, to, order, &mut |key, value| {
            merge.base(key, value)
        })?;
        merge.rest();
        Ok(())
    }
}

/// A range of pending rows, walked in the scan's order.
enum Direction<'p> {
    Ascending(btree_map::Range<'p, Vec<u8>, Option<Vec<u8>>>),
    Descending(std::iter::Rev<btree_map::Range<'p, Vec<u8>, Option<Vec<u8>>>>),
}

impl<'p> Direction<'p> {
    fn new(range: btree_map::Range<'p, Vec<u8>, Option<Vec<u8>>>, order: Order) -> Self {
        match order {
            Order::Ascending => Self::Ascending(range),
            Order::Descending => Self::Descending(range.rev()),
        }
    }
}

impl<'p> Iterator for Direction<'p> {
    type Item = (&'p Vec<u8>, &'p Option<Vec<u8>>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Ascending(rows) => rows.next(),
            Self::Descending(rows) => rows.next(),
        }
    }
}

/// Merges the rows on disk, as they are visited, with the pending ones.
struct Merge<'p, 'v, 'f> {
    pending: Peekable<Direction<'p>>,
    order: Order,
    visit: &'v mut Visit<'f>,
    stopped: bool,
}

impl Merge<'_, '_, '_> {
    /// Visits a row on disk, after the pending rows that come before it and unless a pending
    /// row replaces it.
    fn base(&mut self, key: &[u8], value: &[u8]) -> ControlFlow<()> {
        let order = self.order;
        let before = |pending: &[u8]| match order {
            Order::Ascending => pending < key,
            Order::Descending => pending > key,
        };
        while let Some((pending, change)) = self.pending.next_if(|(pending, _)| before(pending)) {
            self.emit(pending, change.as_deref())?;
        }
        match self
            .pending
            .next_if(|(pending, _)| pending.as_slice() == key)
        {
            Some((_, change)) => self.emit(key, change.as_deref()),
            None => self.emit(key, Some(value)),
        }
    }

    /// Visits the pending rows beyond the last one on disk.
    fn rest(mut self) {
        while !self.stopped {
            let Some((key, change)) = self.pending.next() else {
                return;
            };
            if self.emit(key, change.as_deref()).is_break() {
                return;
            }
        }
    }

    fn emit(&mut self, key: &[u8], value: Option<&[u8]>) -> ControlFlow<()> {
        let Some(value) = value else {
            return ControlFlow::Continue(());
        };
        let flow = (self.visit)(key, value);
        self.stopped |= flow.is_break();
        flow
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The naive oracle: one ordered map, scanned by filtering all of it.
    #[derive(Clone, Debug, Default)]
    struct Oracle(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

    impl Oracle {
        fn write(&mut self, changes: &[Change]) {
            for change in changes {
                let place = (change.table, change.key.clone());
                match &change.value {
                    Some(value) => self.0.insert(place, value.clone()),
                    None => self.0.remove(&place),
                };
            }
        }
    }

    impl Archive for Oracle {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
            Ok(self.0.get(&(table, key.to_vec())).cloned())
        }

        fn scan(
            &self,
            table: Table,
            from: &[u8],
            to: Option<&[u8]>,
            order: Order,
            visit: &mut Visit<'_>,
        ) -> Result<(), ArchiveError> {
            let inside = |((row, key), _): &(&(Table, Vec<u8>), &Vec<u8>)| {
                *row == table && key.as_slice() >= from && to.is_none_or(|to| key.as_slice() < to)
            };
            let mut rows: Vec<_> = self.0.iter().filter(inside).collect();
            if order == Order::Descending {
                rows.reverse();
            }
            for ((_, key), value) in rows {
                if visit(key, value).is_break() {
                    break;
                }
            }
            Ok(())
        }
    }

    fn tables() -> impl Strategy<Value = Table> {
        prop_oneof![Just(Table::Core), Just(Table::Agents)]
    }

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0_u8..4, 0..3)
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = (
            tables(),
            keys(),
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..2)),
        )
            .prop_map(|(table, key, value)| Change { table, key, value });
        proptest::collection::vec(change, 0..24)
    }

    fn rows(
        archive: &dyn Archive,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut seen = Vec::new();
        archive
            .scan(table, from, to, order, &mut |key, value| {
                seen.push((key.to_vec(), value.to_vec()));
                if seen.len() >= limit {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        seen
    }

    proptest! {
        #[test]
        fn reads_as_if_the_changes_were_written(
            on_disk in changes(),
            batches in proptest::collection::vec(changes(), 0..4),
            table in tables(),
            key in keys(),
            from in keys(),
            to in proptest::option::of(keys()),
            ascending in any::<bool>(),
            limit in 1_usize..8,
        ) {
            let mut base = Oracle::default();
            base.write(&on_disk);
            let mut written = base.clone();
            let mut pending = Pending::default();
            for batch in batches {
                written.write(&batch);
                pending.extend(batch);
            }

            let overlay = Overlay { base: &base, pending: &pending };
            let order = if ascending { Order::Ascending } else { Order::Descending };
            prop_assert_eq!(overlay.get(table, &key).unwrap(), written.get(table, &key).unwrap());
            prop_assert_eq!(
                rows(&overlay, table, &from, to.as_deref(), order, limit),
                rows(&written, table, &from, to.as_deref(), order, limit)
            );

            base.write(&pending.into_changes());
            prop_assert_eq!(base.0, written.0);
        }
    }
}
