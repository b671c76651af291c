//! A fresh data folder from a snapshot.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use aegis_crypto::Digest;
use rocksdb::WriteBatch;

use super::install::fill;
use super::{BadSnapshot, SnapshotInfo, SnapshotReader};
use crate::codec::{self, GenerationRecord, key};
use crate::create::{CreateError, Identity, NewFolder, synced};
use crate::generation::Generation;
use crate::schema::Family;

/// Why a data folder was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file is not a whole snapshot.
    #[error("the snapshot cannot be restored")]
    Bad(#[from] BadSnapshot),
    /// The snapshot is another cluster's.
    #[error("the snapshot belongs to cluster {found}, and the new folder to {expected}")]
    OtherCluster {
        /// The new folder's cluster.
        expected: Digest,
        /// The snapshot's cluster.
        found: Digest,
    },
    /// The new folder's incarnation does not follow the snapshot's.
    #[error("the snapshot has incarnation {found}, so the new folder cannot have {given}")]
    Incarnation {
        /// The snapshot's incarnation.
        found: u64,
        /// The new folder's incarnation.
        given: u64,
    },
    /// The folder cannot be created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// RocksDB failed.
    #[error("cannot fill the tables")]
    Engine(#[from] rocksdb::Error),
}

/// Builds a data folder whose tables are those of a snapshot and whose log is empty and
/// goes on behind it. It has no records of a committee seat. `dir` must be missing or empty. `applied` are the new applied bytes
/// (log id and membership) and `purged` the log id at the snapshot's index, as the caller
/// encodes them.
///
/// The snapshot is verified on the way. A folder whose restoration failed or was
/// interrupted refuses to open, and restoring into it again is refused, too.
pub fn restore(
    snapshot: &Path,
    dir: &Path,
    identity: &Identity,
    applied: &[u8],
    purged: &[u8],
) -> Result<SnapshotInfo, RestoreError> {
    let file = File::open(snapshot).map_err(BadSnapshot::Io)?;
    let reader = SnapshotReader::new(file)?;
    let header = reader.header();
    if header.cluster_id != identity.cluster_id {
        return Err(RestoreError::OtherCluster {
            expected: identity.cluster_id,
            found: header.cluster_id,
        });
    }
    if identity.incarnation <= header.incarnation {
        return Err(RestoreError::Incarnation {
            found: header.incarnation,
            given: identity.incarnation,
        });
    }
    let folder = NewFolder::begin(dir)?;
    let database = Arc::new(folder.create_database(identity)?);
    let generation =
        Generation::of(Arc::clone(&database), 0).expect("a new folder has generation zero");
    let info = fill::<RestoreError>(&generation, reader)?;

    let index = info.header.applied.index;
    let record = GenerationRecord {
        number: 0,
        base_index: Some(index),
    };
    let meta = database.meta();
    let mut batch = WriteBatch::default();
    batch.put_cf(&meta, key::GENERATION, codec::encode_generation(&record));
    batch.put_cf(&meta, key::PURGED, codec::encode_purged(index, purged));
    batch.put_cf(
        generation.columns().get(Family::Ledger),
        key::APPLIED,
        codec::encode_applied(index, applied),
    );
    database.db.write_opt(batch, &synced())?;
    NewFolder::complete(&folder.layout)?;
    Ok(info)
}
