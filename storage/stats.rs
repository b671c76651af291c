//! What a store takes up.

use std::io;

use rocksdb::perf::MemoryUsageBuilder;

use crate::database::Database;

/// What a store takes up, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The whole data folder, snapshots and ballast included.
    pub disk_bytes: u64,
    /// All memtables.
    pub memtable_bytes: u64,
    /// The cache of blocks, indexes and filters.
    pub block_cache_bytes: u64,
    /// What open table files keep outside the cache.
    pub table_reader_bytes: u64,
}

/// Memory that RocksDB uses, and `disk_bytes` as given.
pub(crate) fn collect(database: &Database, disk_bytes: u64) -> io::Result<Stats> {
    let usage = MemoryUsageBuilder::new()
        .and_then(|mut usage| {
            usage.add_db(&database.db);
            usage.add_cache(database.tuning.cache());
            usage.build()
        })
        .map_err(io::Error::other)?;
    Ok(Stats {
        disk_bytes,
        memtable_bytes: usage.approximate_mem_table_total(),
        block_cache_bytes: usage.approximate_cache_total(),
        table_reader_bytes: usage.approximate_mem_table_readers_total(),
    })
}
