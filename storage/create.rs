//! A new data folder, and to whom it belongs.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use aegis_crypto::Digest;
use rocksdb::{WriteBatch, WriteOptions};

use crate::codec::{self, FORMAT, GenerationRecord, key};
use crate::database::{Database, Layout};
use crate::files::{
    create_durable, create_private_dir, is_empty_dir, private_file, remove_durable, sync_dir,
    sync_parent,
};
use crate::options::Options;
use crate::schema::{COMMITTEE, DEFAULT, Db, Family, LOG, META, Tuning};
use crate::watermark::Watermark;

/// To whom a data folder belongs; written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// SHA-256 of the cluster's genesis document.
    pub cluster_id: Digest,
    /// Id of the node; never used again once its folder is lost.
    pub node_id: u64,
    /// Counts restorations of the cluster from a snapshot.
    pub incarnation: u64,
    /// Random, drawn for this folder alone, so that peers notice a wiped one.
    pub store_id: [u8; 16],
}

/// Why a data folder was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The folder has files in it.
    #[error("{} has data in it; choose a new folder, or remove it first", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot create {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// RocksDB failed.
    #[error("cannot create a database in {}", dir.display())]
    Engine {
        /// The folder.
        dir: PathBuf,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
}

impl CreateError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Creates an empty data folder.
pub(crate) fn create(dir: &Path, identity: &Identity) -> Result<(), CreateError> {
    let folder = NewFolder::begin(dir)?;
    folder.create_database(identity)?;
    NewFolder::complete(&folder.layout)
}

/// A folder that is being created; until it is complete it does not open.
pub(crate) struct NewFolder {
    pub(crate) layout: Layout,
    lock: File,
}

impl NewFolder {
    /// Claims an empty folder.
    pub(crate) fn begin(dir: &Path) -> Result<Self, CreateError> {
        if !is_empty_dir(dir).map_err(CreateError::io(dir))? {
            return Err(CreateError::NotEmpty {
                dir: dir.to_owned(),
            });
        }
        let layout = Layout::new(dir);
        create_private_dir(dir).map_err(CreateError::io(dir))?;
        let marker = layout.incomplete();
        create_durable(&marker, b"").map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CreateError::NotEmpty {
                dir: dir.to_owned(),
            },
            _ => CreateError::Io {
                path: marker,
                source,
            },
        })?;
        let lock = lock(&layout.lock()).map_err(|error| match error {
            TryLockError::WouldBlock => CreateError::NotEmpty {
                dir: dir.to_owned(),
            },
            TryLockError::Error(source) => CreateError::Io {
                path: layout.lock(),
                source,
            },
        })?;
        let snapshots = layout.snapshots();
        create_private_dir(&snapshots).map_err(CreateError::io(&snapshots))?;
        let watermark = layout.watermark();
        Watermark::create(&watermark).map_err(CreateError::io(&watermark))?;
        Ok(Self { layout, lock })
    }

    /// Creates RocksDB with empty tables in generation zero.
    pub(crate) fn create_database(&self, identity: &Identity) -> Result<Database, CreateError> {
        let path = self.layout.db();
        create_private_dir(&path).map_err(CreateError::io(&path))?;
        let engine = |source| CreateError::Engine {
            dir: path.clone(),
            source,
        };
        let options = Options::default();
        let tuning = Tuning::new(&options);
        let mut settings = tuning.database();
        settings.create_if_missing(true);
        settings.create_missing_column_families(true);
        settings.set_error_if_exists(true);
        let columns = Family::ALL.map(|family| family.column(0));
        let names = [DEFAULT, META, LOG, COMMITTEE]
            .into_iter()
            .chain(columns.iter().map(String::as_str));
        let descriptors = names.map(|name| tuning.descriptor(name));
        let db = Db::open_cf_descriptors(&settings, &path, descriptors).map_err(engine)?;
        let database = Database {
            db,
            tuning,
            identity: *identity,
            _lock: self
                .lock
                .try_clone()
                .map_err(CreateError::io(&self.layout.lock()))?,
        };
        write_first_records(&database).map_err(engine)?;
        Ok(database)
    }

    /// Makes everything durable and lets the folder be opened.
    pub(crate) fn complete(layout: &Layout) -> Result<(), CreateError> {
        let marker = layout.incomplete();
        sync_dir(&layout.db())
            .and_then(|()| sync_dir(&layout.dir))
            .and_then(|()| sync_parent(&layout.dir))
            .and_then(|()| remove_durable(&marker))
            .map_err(CreateError::io(&layout.dir))
    }
}

fn write_first_records(database: &Database) -> Result<(), rocksdb::Error> {
    let meta = database.meta();
    let generation = GenerationRecord {
        number: 0,
        base_index: None,
    };
    let mut batch = WriteBatch::default();
    batch.put_cf(&meta, key::FORMAT, codec::encode_format(FORMAT));
    batch.put_cf(
        &meta,
        key::IDENTITY,
        codec::encode_identity(&database.identity),
    );
    batch.put_cf(
        &meta,
        key::GENERATION,
        codec::encode_generation(&generation),
    );
    batch.put_cf(&meta, key::BATCH, codec::encode_number(0));
    batch.put_cf(&meta, key::COMMITTEE, []);
    database.db.write_opt(batch, &synced())
}

/// Options of a write that is durable when it returns.
pub(crate) fn synced() -> WriteOptions {
    let mut options = WriteOptions::new();
    options.set_sync(true);
    options
}

/// Takes the folder's lock, which lasts as long as the file is open.
pub(crate) fn lock(path: &Path) -> Result<File, TryLockError> {
    let file = private_file()
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}
