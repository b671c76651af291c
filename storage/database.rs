//! The open RocksDB together with what must live exactly as long.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_ledger::ArchiveError;
use rocksdb::{BoundColumnFamily, Direction, IteratorMode};

use crate::codec::{self, key};
use crate::create::Identity;
use crate::generation::unreadable;
use crate::schema::{COMMITTEE, Db, LOG, META, Tuning};

/// Paths of the parts of a data folder.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.dir.join("db")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    pub(crate) fn watermark(&self) -> PathBuf {
        self.dir.join("synced")
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    pub(crate) fn incomplete(&self) -> PathBuf {
        self.dir.join("incomplete")
    }

    pub(crate) fn failed(&self) -> PathBuf {
        self.dir.join("failed")
    }
}

/// RocksDB, its settings, the folder's lock and identity. Views keep it open.
pub(crate) struct Database {
    pub(crate) db: Db,
    pub(crate) tuning: Tuning,
    pub(crate) identity: Identity,
    /// Released after RocksDB is closed: fields drop in this order.
    pub(crate) _lock: File,
}

impl Database {
    pub(crate) fn meta(&self) -> Arc<BoundColumnFamily<'_>> {
        fixed(&self.db, META)
    }

    pub(crate) fn log(&self) -> Arc<BoundColumnFamily<'_>> {
        fixed(&self.db, LOG)
    }

    pub(crate) fn committee(&self) -> Arc<BoundColumnFamily<'_>> {
        fixed(&self.db, COMMITTEE)
    }

    /// The data folders that peers are pinned to.
    pub(crate) fn read_pins(&self) -> Result<Vec<(u64, [u8; 16])>, ArchiveError> {
        let from = IteratorMode::From(key::PIN, Direction::Forward);
        let mut pins = Vec::new();
        for item in self.db.iterator_cf(&self.meta(), from) {
            let (key, value) = item.map_err(unreadable)?;
            if !key.starts_with(key::PIN) {
                break;
            }
            let pin = codec::decode_pin(&key, &value).map_err(|error| ArchiveError {
                reason: format!("the pin of a peer: {error}"),
            })?;
            pins.push(pin);
        }
        Ok(pins)
    }
}

/// A column family that every folder has.
pub(crate) fn fixed<'db>(db: &'db Db, name: &str) -> Arc<BoundColumnFamily<'db>> {
    db.cf_handle(name)
        .expect("the fixed column families are opened with the database and never dropped")
}
