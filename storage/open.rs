//! Opening a data folder: every check that stands between a damaged folder and a node
//! that would go on with it.

use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::ErrorKind;

use crate::codec::{self, DecodeError, FORMAT, GenerationRecord, Purged, key};
use crate::committee::{self, CommitteeReadError};
use crate::create::{Identity, lock, synced};
use crate::database::{Database, Layout, fixed};
use crate::fatal::{is_no_space, read_mark};
use crate::generation::{Generation, opaque};
use crate::log::{LogTail, ReadLogError, visit_disk};
use crate::options::Options;
use crate::schema::{COMMITTEE, Column, Db, META, Tuning};
use crate::space::{Ballast, SpaceMonitor};
use crate::watermark::Watermark;

/// Why a data folder was not opened. Nothing in it was changed, except that RocksDB may
/// have replayed its log.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store in the folder.
    #[error("{} has no data; create it with `aegis init` or restore it from a snapshot", dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// Another process has the folder open.
    #[error("{} is in use by another process; stop that one first", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// Creating or restoring the folder was interrupted.
    #[error("{} was not completely created or restored; remove it and begin again", dir.display())]
    Incomplete {
        /// The folder.
        dir: PathBuf,
    },
    /// An earlier process ended because a write or sync failed.
    #[error("{} must not be used any more: {reason}", dir.display())]
    Failed {
        /// The folder.
        dir: PathBuf,
        /// What that process left behind.
        reason: String,
    },
    /// A newer program wrote the folder.
    #[error(
        "the data has format {found}, and this program knows {supported}; start the newer \
         program that wrote it"
    )]
    Newer {
        /// Format of the folder.
        found: u32,
        /// The newest format that this program knows.
        supported: u32,
    },
    /// The database has a column family that this program does not know.
    #[error(
        "the data has a part named {name:?} that this program does not know; start the \
         newer program that wrote it"
    )]
    UnknownColumn {
        /// Name of the column family.
        name: String,
    },
    /// A file of the write-ahead log is gone.
    #[error(
        "a file of the write-ahead log is missing ({reason}); acknowledged writes are \
         lost. {REPLACE}"
    )]
    MissingWal {
        /// What RocksDB said.
        reason: String,
    },
    /// Something does not match its checksum.
    #[error("the data is damaged ({reason}). {REPLACE}")]
    Corrupt {
        /// What was found.
        reason: String,
    },
    /// A record that every folder has is not there.
    #[error("the record {record:?} is missing. {REPLACE}")]
    MissingRecord {
        /// Name of the record.
        record: &'static str,
    },
    /// An entry of the log is missing.
    #[error("the log has no entry {index}, but later ones. {REPLACE}")]
    LogHole {
        /// The missing entry.
        index: u64,
    },
    /// An entry of the log does not match its checksum.
    #[error("log entry {index} is damaged ({reason}). {REPLACE}")]
    LogDamaged {
        /// The entry.
        index: u64,
        /// How it is damaged.
        reason: String,
    },
    /// A record of this machine's seat in the committee does not match its checksum.
    #[error(
        "the committee record \"{}\" is damaged ({reason}), so what this seat signed is \
         unknown. {REPLACE}", key.escape_ascii()
    )]
    CommitteeDamaged {
        /// The record's key.
        key: Vec<u8>,
        /// How it is damaged.
        reason: String,
    },
    /// The tables contain entries that the log lacks.
    #[error(
        "the tables contain log entry {applied}, but the log ends at {}: acknowledged \
         writes are lost. {REPLACE}", Position(*last)
    )]
    AppliedAhead {
        /// The applied index.
        applied: u64,
        /// The last index of the log, or the one that the tables were restored from.
        last: Option<u64>,
    },
    /// The log was purged beyond what the tables contain.
    #[error(
        "the log begins behind entry {purged}, but the tables end at {}: entries between \
         them are lost. {REPLACE}", Position(*applied)
    )]
    AppliedBehind {
        /// The applied index.
        applied: Option<u64>,
        /// The last purged index.
        purged: u64,
    },
    /// A write that was synced is gone.
    #[error(
        "batch {synced} of the log was synced, but the log ends with batch {recovered}: \
         acknowledged writes are lost. {REPLACE}"
    )]
    SyncedWriteMissing {
        /// Number of the last batch that was synced.
        synced: u64,
        /// Number of the last batch that is there.
        recovered: u64,
    },
    /// Both slots of the watermark are damaged.
    #[error("{} is damaged, so it is unknown where the log must end. {REPLACE}", path.display())]
    WatermarkDamaged {
        /// The file.
        path: PathBuf,
    },
    /// The disk is too full to replay the log.
    #[error("the disk is too full to open the data ({reason}); free some space")]
    NoSpace {
        /// What RocksDB said.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot access {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// RocksDB failed in another way.
    #[error("cannot open the database")]
    Engine {
        /// What RocksDB said.
        source: rocksdb::Error,
    },
}

/// What helps whenever a folder cannot be trusted: the other nodes have the data.
const REPLACE: &str = "Keep the folder for inspection, remove this node from the cluster, \
    and add it again under a new id with an empty folder, and with a new key if it has a seat in \
    the committee; the other nodes bring it up to date";

/// An index that may not exist.
struct Position(Option<u64>);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(index) => write!(f, "{index}"),
            None => f.write_str("nothing"),
        }
    }
}

impl OpenError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    fn record(record: &'static str) -> impl FnOnce(DecodeError) -> Self {
        move |error| Self::Corrupt {
            reason: format!("the record {record:?}: {error}"),
        }
    }
}

impl From<rocksdb::Error> for OpenError {
    fn from(source: rocksdb::Error) -> Self {
        let reason = || source.to_string();
        if is_no_space(&source) {
            Self::NoSpace { reason: reason() }
        } else if source.as_ref().contains("Missing WAL") {
            Self::MissingWal { reason: reason() }
        } else if source.kind() == ErrorKind::Corruption {
            Self::Corrupt { reason: reason() }
        } else {
            Self::Engine { source }
        }
    }
}

impl From<ReadLogError> for OpenError {
    fn from(error: ReadLogError) -> Self {
        match error {
            ReadLogError::Missing { index } => Self::LogHole { index },
            ReadLogError::Damaged { index, reason } => Self::LogDamaged { index, reason },
            ReadLogError::Engine { reason } => Self::Corrupt { reason },
        }
    }
}

impl From<CommitteeReadError> for OpenError {
    fn from(error: CommitteeReadError) -> Self {
        match error {
            CommitteeReadError::Damaged { key, reason } => Self::CommitteeDamaged { key, reason },
            CommitteeReadError::Engine { reason } => Self::Corrupt { reason },
        }
    }
}

/// A folder that passed every check.
pub(crate) struct Opened {
    pub(crate) layout: Layout,
    pub(crate) database: Arc<Database>,
    pub(crate) generation: Arc<Generation>,
    pub(crate) log: LogTail,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    pub(crate) watermark: Watermark,
    pub(crate) batch: u64,
    pub(crate) space: SpaceMonitor,
}

pub(crate) fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    let layout = Layout::new(dir);
    let missing = !layout.db().is_dir() && !layout.incomplete().exists();
    if missing {
        return Err(OpenError::Missing {
            dir: dir.to_owned(),
        });
    }
    let lock = lock(&layout.lock()).map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::Locked {
            dir: dir.to_owned(),
        },
        TryLockError::Error(source) => OpenError::Io {
            path: layout.lock(),
            source,
        },
    })?;
    check_marks(&layout)?;
    let space = SpaceMonitor::new(dir.to_owned(), options.free_floor_bytes);
    let ballast = Ballast::new(&layout.ballast(), options.ballast_bytes);
    if space.space().map_err(OpenError::io(dir))?.below_floor {
        ballast
            .release()
            .map_err(OpenError::io(&layout.ballast()))?;
    }
    let database = open_database(&layout, options, lock)?;
    let generation = read_generation(&database)?;
    drop_other_generations(&layout, &database, generation.number)?;
    let opened = check(layout, database, generation, options, space)?;
    add_committee(&opened.database)?;
    committee::visit(&opened.database, |_, _| {})?;
    // Best effort: a node without ballast is only worse off on a full disk.
    if let Err(error) = ballast.take(&opened.space) {
        tracing::warn!(path = %opened.layout.ballast().display(), %error, "cannot take the ballast");
    }
    Ok(opened)
}

fn check_marks(layout: &Layout) -> Result<(), OpenError> {
    let failed = layout.failed();
    if let Some(reason) = read_mark(&failed).map_err(OpenError::io(&failed))? {
        return Err(OpenError::Failed {
            dir: layout.dir.clone(),
            reason,
        });
    }
    let incomplete = layout.incomplete();
    if incomplete
        .try_exists()
        .map_err(OpenError::io(&incomplete))?
    {
        return Err(OpenError::Incomplete {
            dir: layout.dir.clone(),
        });
    }
    Ok(())
}

fn open_database(
    layout: &Layout,
    options: &Options,
    lock: std::fs::File,
) -> Result<Arc<Database>, OpenError> {
    let tuning = Tuning::new(options);
    let settings = tuning.database();
    let names = Db::list_cf(&settings, layout.db())?;
    if let Some(name) = names.iter().find(|name| Column::parse(name).is_none()) {
        return Err(OpenError::UnknownColumn { name: name.clone() });
    }
    let descriptors = names.iter().map(|name| tuning.descriptor(name));
    let db = Db::open_cf_descriptors(&settings, layout.db(), descriptors)?;
    if !names.iter().any(|name| name == META) {
        return Err(OpenError::MissingRecord { record: META });
    }
    let found = require(&db, "format", key::FORMAT, codec::decode_format)?;
    if found > FORMAT {
        return Err(OpenError::Newer {
            found,
            supported: FORMAT,
        });
    }
    let identity: Identity = require(&db, "identity", key::IDENTITY, codec::decode_identity)?;
    Ok(Arc::new(Database {
        db,
        tuning,
        identity,
        _lock: lock,
    }))
}

/// Reads a record of `meta`.
fn read<T>(
    db: &Db,
    name: &'static str,
    key: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<Option<T>, OpenError> {
    let Some(value) = db.get_pinned_cf(&fixed(db, META), key)? else {
        return Ok(None);
    };
    decode(&value).map(Some).map_err(OpenError::record(name))
}

/// Reads a record of `meta` that every folder has.
fn require<T>(
    db: &Db,
    name: &'static str,
    key: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<T, OpenError> {
    read(db, name, key, decode)?.ok_or(OpenError::MissingRecord { record: name })
}

fn read_generation(database: &Database) -> Result<GenerationRecord, OpenError> {
    require(
        &database.db,
        "generation",
        key::GENERATION,
        codec::decode_generation,
    )
}

/// Drops what a snapshot's installation left half done, or did not get to drop.
fn drop_other_generations(
    layout: &Layout,
    database: &Database,
    current: u64,
) -> Result<(), OpenError> {
    for name in Db::list_cf(&database.tuning.database(), layout.db())? {
        if let Some(Column::Generation { number, .. }) = Column::parse(&name)
            && number != current
        {
            database.db.drop_cf(&name)?;
        }
    }
    Ok(())
}

fn check(
    layout: Layout,
    database: Arc<Database>,
    record: GenerationRecord,
    options: &Options,
    space: SpaceMonitor,
) -> Result<Opened, OpenError> {
    let db = &database.db;
    let batch = require(db, "batch", key::BATCH, codec::decode_number)?;
    let watermark = check_watermark(&layout, batch)?;
    let vote = read(db, "vote", key::VOTE, |value| Ok(opaque(value)))?;
    let committed = read(db, "committed", key::COMMITTED, |value| Ok(opaque(value)))?;
    let purged = read(db, "purged", key::PURGED, codec::decode_purged)?;

    let first = purged.as_ref().map_or(0, |purged| purged.index + 1);
    let mut next = first;
    visit_disk(&database, first..u64::MAX, |index, _| {
        next = index + 1;
        true
    })?;

    let generation = Generation::of(Arc::clone(&database), record.number)
        .ok_or(OpenError::MissingRecord { record: "tables" })?;
    check_applied(&generation, &record, purged.as_ref(), next)?;
    Ok(Opened {
        layout,
        generation: Arc::new(generation),
        log: LogTail::new(purged, first..next, options.log_tail_bytes),
        vote,
        committed,
        watermark,
        batch,
        space,
        database,
    })
}

fn check_watermark(layout: &Layout, recovered: u64) -> Result<Watermark, OpenError> {
    let path = layout.watermark();
    let (watermark, synced) = Watermark::open(&path).map_err(OpenError::io(&path))?;
    let synced = synced.ok_or(OpenError::WatermarkDamaged { path })?;
    if synced > recovered {
        return Err(OpenError::SyncedWriteMissing { synced, recovered });
    }
    Ok(watermark)
}

/// The tables must stand between the last purged and the last entry of the log, or at
/// the position of the snapshot that filled them: the log may not have followed yet.
fn check_applied(
    generation: &Generation,
    record: &GenerationRecord,
    purged: Option<&Purged>,
    next: u64,
) -> Result<(), OpenError> {
    let applied = generation
        .latest()
        .applied()
        .map_err(|error| OpenError::Corrupt {
            reason: error.reason,
        })?
        .map(|applied| applied.index);
    let last = next.checked_sub(1).max(record.base_index);
    if let Some(applied) = applied
        && last.is_none_or(|last| applied > last)
    {
        return Err(OpenError::AppliedAhead { applied, last });
    }
    if let Some(purged) = purged
        && applied.is_none_or(|applied| applied < purged.index)
    {
        return Err(OpenError::AppliedBehind {
            applied,
            purged: purged.index,
        });
    }
    Ok(())
}

/// Gives a folder that was made before there was a committee the column family for its
/// records. One that had it gets no other: it would forget what its seat signed.
fn add_committee(database: &Database) -> Result<(), OpenError> {
    let db = &database.db;
    let meta = database.meta();
    let has_column = db.cf_handle(COMMITTEE).is_some();
    if db.get_pinned_cf(&meta, key::COMMITTEE)?.is_some() {
        return has_column
            .then_some(())
            .ok_or(OpenError::MissingRecord { record: COMMITTEE });
    }
    // A crash may have come between the two steps.
    if !has_column {
        db.create_cf(COMMITTEE, &database.tuning.column(COMMITTEE))?;
    }
    Ok(db.put_cf_opt(&meta, key::COMMITTEE, [], &synced())?)
}
