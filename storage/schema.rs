//! Column families: which table lies where, and how each is tuned.
//!
//! Tables whose keys only grow (ballots by proposal, events, audit entries) have a column
//! family each: their files never overlap, so compaction moves them instead of rewriting
//! them. All others share one. Within a column family a key begins with its table's byte.
//!
//! Bloom filters pay where the ledger asks for keys that are usually absent (has this
//! voter voted, was this request seen); events and audit entries are scanned, or asked
//! for only when they exist.

use aegis_ledger::Table;
use rocksdb::{
    BlockBasedOptions, Cache, ChecksumType, ColumnFamilyDescriptor, DBCompressionType,
    DBRecoveryMode, DBWithThreadMode, InfoLogger, LogLevel, LruCacheOptions, MultiThreaded,
};

use crate::options::Options;

/// RocksDB with column families that come and go while it is open.
pub(crate) type Db = DBWithThreadMode<MultiThreaded>;

/// Positions, vote and identity.
pub(crate) const META: &str = "meta";
/// The Raft log.
pub(crate) const LOG: &str = "log";
/// The records of this machine's seat in the committee.
pub(crate) const COMMITTEE: &str = "committee";
/// RocksDB insists on it; it stays empty.
pub(crate) const DEFAULT: &str = "default";

/// Background flushes and compactions at a time; three nodes share two cores.
const BACKGROUND_JOBS: i32 = 2;
/// Table files that RocksDB keeps open.
const OPEN_FILES_MAX: i32 = 512;
/// Filter bits a key: about one false positive in a hundred.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// Blocks are read, checked and decompressed whole: small enough for point reads, large
/// enough to compress.
const BLOCK_BYTES: usize = 8 << 10;
/// The cache has two to the power of this many parts, each with a lock of its own: few,
/// so that the filter of a whole file is small beside a part.
const CACHE_SHARD_BITS: i32 = 2;
/// Bound of one table file, in bytes.
const FILE_BYTES: u64 = 32 << 20;
/// Files are written out in steps of this many bytes, so that the sync at their end does
/// not stall those of the log.
const WRITE_OUT_BYTES: u64 = 1 << 20;

/// A column family of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Ledger,
    Ballots,
    Events,
    Audit,
}

impl Family {
    pub(crate) const ALL: [Self; 4] = [Self::Ledger, Self::Ballots, Self::Events, Self::Audit];

    /// Where a table lies.
    pub(crate) const fn of(table: Table) -> Self {
        match table {
            Table::Ballots => Self::Ballots,
            Table::Events => Self::Events,
            Table::Audit => Self::Audit,
            _ => Self::Ledger,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Ballots => "ballots",
            Self::Events => "events",
            Self::Audit => "audit",
        }
    }

    /// The column family of this kind in a generation of the tables.
    pub(crate) fn column(self, generation: u64) -> String {
        format!("{}@{generation}", self.name())
    }

    /// The family and generation that a name stands for.
    fn parse(column: &str) -> Option<(Self, u64)> {
        let (name, generation) = column.split_once('@')?;
        let family = Self::ALL.into_iter().find(|family| family.name() == name)?;
        let generation = generation.parse().ok()?;
        (family.column(generation) == column).then_some((family, generation))
    }

    const fn has_filter(self) -> bool {
        matches!(self, Self::Ledger | Self::Ballots)
    }
}

/// What a column family's name says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Fixed,
    Generation { family: Family, number: u64 },
}

impl Column {
    /// `None` for a name that this program does not know.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            META | LOG | COMMITTEE | DEFAULT => Some(Self::Fixed),
            _ => Family::parse(name).map(|(family, number)| Self::Generation { family, number }),
        }
    }
}

/// The tuning of everything that is opened with one block cache.
pub(crate) struct Tuning {
    memtable_bytes: usize,
    wal_bytes: u64,
    cache: Cache,
}

impl Tuning {
    pub(crate) fn new(options: &Options) -> Self {
        let mut cache = LruCacheOptions::default();
        cache.set_capacity(options.block_cache_bytes);
        cache.set_num_shard_bits(CACHE_SHARD_BITS);
        Self {
            memtable_bytes: options.memtable_bytes,
            wal_bytes: options.wal_bytes,
            cache: Cache::new_lru_cache_opts(&cache),
        }
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Settings of the database.
    pub(crate) fn database(&self) -> rocksdb::Options {
        let mut database = rocksdb::Options::default();
        // A torn record at the very end is what a crash leaves; anything else that does
        // not check is corruption, and opening fails. The mode RocksDB has by default
        // silently drops everything behind a flipped bit.
        database.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        database.set_track_and_verify_wals_in_manifest(true);
        database.set_paranoid_checks(true);
        database.set_max_total_wal_size(self.wal_bytes);
        database.set_db_write_buffer_size(self.memtable_bytes);
        database.set_max_background_jobs(BACKGROUND_JOBS);
        database.set_max_open_files(OPEN_FILES_MAX);
        database.set_bytes_per_sync(WRITE_OUT_BYTES);
        // The thread that drops the last view of a generation does not delete its files.
        database.set_avoid_unnecessary_blocking_io(true);
        database.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, forward_log));
        database
    }

    /// Descriptor of a column family by its name.
    pub(crate) fn descriptor(&self, name: &str) -> ColumnFamilyDescriptor {
        ColumnFamilyDescriptor::new(name, self.column(name))
    }

    /// Settings of a column family by its name.
    pub(crate) fn column(&self, name: &str) -> rocksdb::Options {
        // What is not in a generation, the log above all, is deleted soon.
        let (filter, compression) = match Column::parse(name) {
            Some(Column::Generation { family, .. }) => {
                (family.has_filter(), DBCompressionType::Lz4)
            }
            _ => (false, DBCompressionType::None),
        };
        let mut column = rocksdb::Options::default();
        column.set_compression_type(compression);
        column.set_write_buffer_size(self.memtable_bytes / 4);
        column.set_target_file_size_base(FILE_BYTES);
        column.set_block_based_table_factory(&self.blocks(filter));
        column
    }

    fn blocks(&self, filter: bool) -> BlockBasedOptions {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        blocks.set_block_size(BLOCK_BYTES);
        blocks.set_checksum_type(ChecksumType::XXH3);
        // So that the cache's bound covers indexes and filters, however long the history.
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        if filter {
            blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        }
        blocks
    }
}

/// RocksDB's own log joins ours.
fn forward_log(level: LogLevel, message: &str) {
    let message = message.trim_end();
    match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(message, "rocksdb"),
        LogLevel::Warn => tracing::warn!(message, "rocksdb"),
        LogLevel::Debug | LogLevel::Info | LogLevel::Header => {
            tracing::debug!(message, "rocksdb");
        }
    }
}

/// Keys up to this many bytes are put together on the stack.
const STACK_KEY_LEN: usize = 128;

/// Calls `body` with the key under which a table's key lies in its column family.
pub(crate) fn with_key<R>(table: Table, key: &[u8], body: impl FnOnce(&[u8]) -> R) -> R {
    let len = key.len() + 1;
    if len <= STACK_KEY_LEN {
        let mut buffer = [0; STACK_KEY_LEN];
        buffer[0] = table.id();
        buffer[1..len].copy_from_slice(key);
        body(&buffer[..len])
    } else {
        body(&owned_key(table, key))
    }
}

/// The key under which a table's key lies in its column family.
pub(crate) fn owned_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut owned = Vec::with_capacity(key.len() + 1);
    owned.push(table.id());
    owned.extend_from_slice(key);
    owned
}

/// The first key behind those of a table.
pub(crate) const fn table_end(table: Table) -> [u8; 1] {
    [table.id() + 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_column_families_round_trip() {
        for family in Family::ALL {
            let column = Column::Generation { family, number: 12 };
            assert_eq!(Column::parse(&family.column(12)), Some(column));
        }
        for name in [META, LOG, COMMITTEE, DEFAULT] {
            assert_eq!(Column::parse(name), Some(Column::Fixed));
        }
        for name in [
            "",
            "ledger",
            "ledger@",
            "ledger@01",
            "ledger@-1",
            "other@1",
            "Log",
        ] {
            assert_eq!(Column::parse(name), None, "{name}");
        }
    }

    #[test]
    fn no_table_collides_with_the_applied_position() {
        for table in Table::ALL {
            assert!(&table_end(table)[..] <= crate::codec::key::APPLIED);
        }
    }

    #[test]
    fn keys_on_the_stack_and_on_the_heap_agree() {
        for len in [0, 1, STACK_KEY_LEN - 1, STACK_KEY_LEN, 1000] {
            let key = vec![7; len];
            let expected = owned_key(Table::Ballots, &key);
            with_key(Table::Ballots, &key, |found| assert_eq!(found, expected));
        }
    }
}
