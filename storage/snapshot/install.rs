//! Installing a snapshot: a fresh generation of the tables is filled beside the one in
//! use, made durable, and then takes its place in one synced batch.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use aegis_crypto::Digest;
use aegis_ledger::ArchiveError;
use rocksdb::{FlushOptions, WriteBatch, WriteOptions};

use super::decode::Chunk;
use super::{BadSnapshot, SnapshotInfo, SnapshotReader};
use crate::codec::{self, GenerationRecord, key};
use crate::create::synced;
use crate::database::Database;
use crate::fatal::FatalError;
use crate::generation::Generation;
use crate::schema::{Db, Family, with_key};
use crate::space::SpaceMonitor;
use crate::writer::Stopped;

/// The tables take at most about this many times the space of the file.
const SPACE_FACTOR: u64 = 2;

/// Why a snapshot was not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The file is not a whole snapshot.
    #[error("the snapshot cannot be installed")]
    Bad(#[from] BadSnapshot),
    /// The snapshot is another cluster's.
    #[error("the snapshot belongs to cluster {found}, and this node to {expected}")]
    OtherCluster {
        /// This node's cluster.
        expected: Digest,
        /// The snapshot's cluster.
        found: Digest,
    },
    /// The snapshot is from before or after a restoration of the cluster.
    #[error("the snapshot has incarnation {found}, and this node {expected}")]
    OtherIncarnation {
        /// This node's incarnation.
        expected: u64,
        /// The snapshot's incarnation.
        found: u64,
    },
    /// The tables are further than the snapshot.
    #[error("the snapshot ends at log entry {found}, and the tables at {applied}")]
    Older {
        /// The applied index.
        applied: u64,
        /// The snapshot's applied index.
        found: u64,
    },
    /// The disk has too little free space for the tables.
    #[error("{needed} bytes of free space are needed for the tables, and {free} are there")]
    NoSpace {
        /// An estimate and the free-space floor, in bytes.
        needed: u64,
        /// Free bytes.
        free: u64,
    },
    /// The tables in use cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file operation failed.
    #[error("cannot read the snapshot")]
    Io(#[from] std::io::Error),
    /// RocksDB failed.
    #[error("cannot fill the tables")]
    Engine(#[from] rocksdb::Error),
    /// The store writes no more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A filled generation that nobody uses yet.
pub(crate) struct Prepared {
    pub(crate) generation: Generation,
    pub(crate) info: SnapshotInfo,
}

/// Fills the generation after `current` from a snapshot file.
pub(crate) fn prepare(
    current: &Generation,
    path: &Path,
    space: &SpaceMonitor,
) -> Result<Prepared, InstallError> {
    let file = File::open(path)?;
    check_space(space, file.metadata()?.len())?;
    let reader = SnapshotReader::new(file)?;
    check_header(current, &reader)?;

    let database = current.database();
    let number = current.number() + 1;
    // What an earlier attempt left.
    drop_columns(&database.db, number)?;
    create_columns(database, number)?;
    let generation = Generation::of(Arc::clone(database), number)
        .expect("its column families were just created");
    match fill(&generation, reader) {
        Ok(info) => Ok(Prepared { generation, info }),
        Err(error) => {
            discard(&database.db, number);
            Err(error)
        }
    }
}

fn check_space(space: &SpaceMonitor, bytes: u64) -> Result<(), InstallError> {
    let needed = bytes
        .saturating_mul(SPACE_FACTOR)
        .saturating_add(space.floor_bytes());
    let free = space.space()?.free_bytes;
    if free < needed {
        return Err(InstallError::NoSpace { needed, free });
    }
    Ok(())
}

fn check_header(current: &Generation, reader: &SnapshotReader<File>) -> Result<(), InstallError> {
    let identity = &current.database().identity;
    let header = reader.header();
    if header.cluster_id != identity.cluster_id {
        return Err(InstallError::OtherCluster {
            expected: identity.cluster_id,
            found: header.cluster_id,
        });
    }
    if header.incarnation != identity.incarnation {
        return Err(InstallError::OtherIncarnation {
            expected: identity.incarnation,
            found: header.incarnation,
        });
    }
    if let Some(applied) = current.latest().applied()?
        && applied.index > header.applied.index
    {
        return Err(InstallError::Older {
            applied: applied.index,
            found: header.applied.index,
        });
    }
    Ok(())
}

fn create_columns(database: &Database, number: u64) -> Result<(), rocksdb::Error> {
    for family in Family::ALL {
        let name = family.column(number);
        database
            .db
            .create_cf(&name, &database.tuning.column(&name))?;
    }
    Ok(())
}

/// Drops the column families of a generation, as far as they are there. Views that hold
/// them go on.
fn drop_columns(db: &Db, number: u64) -> Result<(), rocksdb::Error> {
    for family in Family::ALL {
        let name = family.column(number);
        if db.cf_handle(&name).is_some() {
            db.drop_cf(&name)?;
        }
    }
    Ok(())
}

/// Drops the column families of a generation that nobody needs any more. Should that
/// fail, the next start drops them.
pub(crate) fn discard(db: &Db, number: u64) {
    if let Err(error) = drop_columns(db, number) {
        tracing::warn!(generation = number, %error, "cannot drop a generation of the tables");
    }
}

/// Writes all records past the log and flushes them: nothing refers to the generation
/// yet, so only its being complete on disk matters.
pub(super) fn fill<E>(
    generation: &Generation,
    reader: SnapshotReader<File>,
) -> Result<SnapshotInfo, E>
where
    E: From<BadSnapshot> + From<rocksdb::Error>,
{
    let db = &generation.database().db;
    let columns = generation.columns();
    let mut past_log = WriteOptions::new();
    past_log.disable_wal(true);
    let info = reader.read(|chunk: Chunk<'_>| {
        let mut batch = WriteBatch::with_capacity_bytes(chunk.bytes());
        for record in chunk.records() {
            let column = columns.get(Family::of(record.table));
            with_key(record.table, record.key, |key| {
                batch.put_cf(column, key, record.value);
            });
        }
        db.write_opt(batch, &past_log).map_err(E::from)
    })?;
    let families = Family::ALL.map(|family| columns.get(family));
    db.flush_cfs_opt(&families, &FlushOptions::default())?;
    Ok(info)
}

impl Prepared {
    /// Makes the generation the one that counts, durably.
    pub(crate) fn switch(&self, database: &Database) -> Result<(), FatalError> {
        let batch = self.switch_batch(database);
        database
            .db
            .write_opt(batch, &synced())
            .map_err(|error| FatalError::from_sync(&error))
    }

    fn switch_batch(&self, database: &Database) -> WriteBatch {
        let applied = &self.info.header.applied;
        let record = GenerationRecord {
            number: self.generation.number(),
            base_index: Some(applied.index),
        };
        let mut batch = WriteBatch::default();
        batch.put_cf(
            &database.meta(),
            key::GENERATION,
            codec::encode_generation(&record),
        );
        batch.put_cf(
            self.generation.columns().get(Family::Ledger),
            key::APPLIED,
            codec::encode_applied(applied.index, &applied.bytes),
        );
        batch
    }
}
