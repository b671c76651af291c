//! Snapshot files: saving, verifying, and the folder that a node keeps them in.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aegis_crypto::Digest;

use super::encode::{SaveError, write_snapshot};
use super::receive::{PARTIAL_SUFFIX, ReceiveError, SnapshotReceiver};
use super::{BadSnapshot, SnapshotInfo, SnapshotReader};
use crate::files::{parent, sync_dir};
use crate::options::Options;
use crate::space::SpaceMonitor;
use crate::view::View;

/// Ending of a file that is being saved.
const TEMPORARY_SUFFIX: &str = ".saving";
/// Ending of a finished snapshot in a [`SnapshotDir`].
const SNAPSHOT_SUFFIX: &str = ".snapshot";
const WRITE_BUFFER_BYTES: usize = 256 << 10;
/// A long file is synced in steps of this many bytes, so that the sync at its end does
/// not stall those of the log.
const SYNC_STEP_BYTES: usize = 8 << 20;

/// Saves the snapshot of a view at `path`: written beside it, synced, then renamed, so
/// that a partial file never stands there. A file that stands there is replaced.
pub fn save_atomic(view: &View, path: &Path) -> Result<SnapshotInfo, SaveError> {
    let (temporary, info) = save_beside(view, parent(path), None)?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_dir(parent(path))?;
    Ok(info)
}

/// Writes and syncs a temporary file in `dir`; with `space`, only while more than its
/// floor is free.
fn save_beside(
    view: &View,
    dir: &Path,
    space: Option<&SpaceMonitor>,
) -> Result<(tempfile::NamedTempFile, SnapshotInfo), SaveError> {
    let temporary = tempfile::Builder::new()
        .prefix(".")
        .suffix(TEMPORARY_SUFFIX)
        .tempfile_in(dir)?;
    let sink = SteppedSync {
        file: temporary.as_file(),
        unsynced: 0,
        space,
    };
    sink.check_space()?;
    let mut buffered = BufWriter::with_capacity(WRITE_BUFFER_BYTES, sink);
    let info = write_snapshot(view, &mut buffered)?;
    buffered
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    temporary.as_file().sync_all()?;
    Ok((temporary, info))
}

struct SteppedSync<'a> {
    file: &'a File,
    unsynced: usize,
    space: Option<&'a SpaceMonitor>,
}

impl SteppedSync<'_> {
    fn check_space(&self) -> io::Result<()> {
        match self.space {
            Some(space) if space.space()?.below_floor => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "free space is down to the floor",
            )),
            _ => Ok(()),
        }
    }
}

impl Write for SteppedSync<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_STEP_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
            self.check_space()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads a snapshot file to its end and checks everything about it.
pub fn verify(path: &Path) -> Result<SnapshotInfo, BadSnapshot> {
    let file = File::open(path).map_err(BadSnapshot::Io)?;
    SnapshotReader::new(file)?.read(|_| Ok(()))
}

/// A finished snapshot in a [`SnapshotDir`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The applied index that it reflects.
    pub index: u64,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
}

impl SnapshotFile {
    /// Opens the file for reading; it can be read to its end even if it is removed from
    /// the folder meanwhile.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    fn name(index: u64, digest: &Digest) -> String {
        format!("{index:020}-{digest}{SNAPSHOT_SUFFIX}")
    }

    fn parse(path: PathBuf) -> io::Result<Option<Self>> {
        let parsed = path.file_name().and_then(|name| {
            let name = name.to_str()?.strip_suffix(SNAPSHOT_SUFFIX)?;
            let (index, digest) = name.split_once('-')?;
            Some((index.parse().ok()?, digest.parse().ok()?))
        });
        let Some((index, digest)) = parsed else {
            return Ok(None);
        };
        let bytes = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?.len(),
        };
        Ok(Some(Self {
            path,
            index,
            digest,
            bytes,
        }))
    }
}

/// The folder in which a node keeps its newest snapshots. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SnapshotDir {
    pub(super) inner: Arc<DirInner>,
}

#[derive(Debug)]
pub(super) struct DirInner {
    pub(super) path: PathBuf,
    kept: usize,
    pub(super) bytes_max: u64,
    pub(super) space: Arc<SpaceMonitor>,
    /// Whether a snapshot is being received.
    pub(super) receiving: Mutex<bool>,
}

impl SnapshotDir {
    /// Opens the folder and removes what an earlier process left unfinished; what was
    /// partly received stays, so that the transfer can be resumed.
    pub(crate) fn open(
        path: &Path,
        options: &Options,
        space: Arc<SpaceMonitor>,
    ) -> io::Result<Self> {
        for entry in fs::read_dir(path)? {
            let entry = entry?.path();
            if has_suffix(&entry, TEMPORARY_SUFFIX) {
                fs::remove_file(entry)?;
            }
        }
        Ok(Self {
            inner: Arc::new(DirInner {
                path: path.to_owned(),
                kept: options.snapshots_kept.max(1),
                bytes_max: options.snapshot_bytes_max,
                space,
                receiving: Mutex::new(false),
            }),
        })
    }

    /// Saves the snapshot of a view, and removes the oldest ones. It gives up when the
    /// free space falls to the floor.
    pub fn save(&self, view: &View) -> Result<(SnapshotFile, SnapshotInfo), SaveError> {
        let (temporary, info) = save_beside(view, &self.inner.path, Some(&self.inner.space))?;
        let file = self.file_of(&info);
        temporary.persist(&file.path).map_err(|error| error.error)?;
        self.added(&file)?;
        Ok((file, info))
    }

    /// The finished snapshots, oldest first.
    pub fn list(&self) -> io::Result<Vec<SnapshotFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.inner.path)? {
            files.extend(SnapshotFile::parse(entry?.path())?);
        }
        files.sort_by_key(|file| (file.index, file.digest));
        Ok(files)
    }

    /// The newest finished snapshot.
    pub fn latest(&self) -> io::Result<Option<SnapshotFile>> {
        Ok(self.list()?.pop())
    }

    /// Begins to receive a snapshot of this digest and size, or goes on where an earlier
    /// transfer of the same one ended. One snapshot is received at a time; what was
    /// received of another one is removed.
    pub fn receive(&self, digest: Digest, bytes: u64) -> Result<SnapshotReceiver, ReceiveError> {
        SnapshotReceiver::begin(self.clone(), digest, bytes)
    }

    pub(super) fn file_of(&self, info: &SnapshotInfo) -> SnapshotFile {
        let index = info.header.applied.index;
        SnapshotFile {
            path: self
                .inner
                .path
                .join(SnapshotFile::name(index, &info.digest)),
            index,
            digest: info.digest,
            bytes: info.bytes,
        }
    }

    /// Makes a new file's name durable and removes the oldest other files.
    pub(super) fn added(&self, new: &SnapshotFile) -> io::Result<()> {
        sync_dir(&self.inner.path)?;
        let mut others = self.list()?;
        others.retain(|file| file.path != new.path);
        let surplus = (others.len() + 1).saturating_sub(self.inner.kept);
        for file in others.iter().take(surplus) {
            fs::remove_file(&file.path)?;
        }
        Ok(())
    }

    pub(super) fn remove_partials_but(&self, keep: &Path) -> io::Result<()> {
        for entry in fs::read_dir(&self.inner.path)? {
            let entry = entry?.path();
            if has_suffix(&entry, PARTIAL_SUFFIX) && entry != keep {
                fs::remove_file(entry)?;
            }
        }
        Ok(())
    }
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().ends_with(suffix.as_bytes()))
}
