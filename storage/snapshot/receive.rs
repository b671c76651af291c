//! Receiving a snapshot piece by piece, so that an interrupted transfer goes on where it
//! ended, also after a restart.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use aegis_crypto::Digest;

use super::files::{SnapshotDir, SnapshotFile, verify};
use super::{BadSnapshot, SnapshotInfo};
use crate::files::private_file;

/// Ending of a file that is being received; its name is the digest.
pub(super) const PARTIAL_SUFFIX: &str = ".partial";

/// Why a snapshot was not received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Another transfer is under way.
    #[error("another snapshot is being received")]
    Busy,
    /// It is larger than what is accepted.
    #[error("the snapshot has {found} bytes; at most {max} are accepted")]
    TooLarge {
        /// Announced size, in bytes.
        found: u64,
        /// [`Options::snapshot_bytes_max`](crate::Options::snapshot_bytes_max).
        max: u64,
    },
    /// The disk has too little free space for it.
    #[error("{needed} bytes of free space are needed for the snapshot, and {free} are there")]
    NoSpace {
        /// What remains to be received and the free-space floor, in bytes.
        needed: u64,
        /// Free bytes.
        free: u64,
    },
    /// A piece does not follow the last one.
    #[error("a piece at offset {found} was sent; the transfer continues at {expected}")]
    Offset {
        /// Where the transfer continues.
        expected: u64,
        /// Where the piece belongs.
        found: u64,
    },
    /// More was sent than announced.
    #[error("{found} bytes were sent; the snapshot has {size}")]
    Overrun {
        /// Announced size, in bytes.
        size: u64,
        /// Bytes with the refused piece.
        found: u64,
    },
    /// The transfer is not complete.
    #[error("{found} bytes were received; the snapshot has {size}")]
    Incomplete {
        /// Announced size, in bytes.
        size: u64,
        /// Received bytes.
        found: u64,
    },
    /// It is not a whole snapshot. What was received is gone.
    #[error("what was received is not a whole snapshot")]
    Bad(#[from] BadSnapshot),
    /// It is another snapshot than announced. What was received is gone.
    #[error("a snapshot with the digest {found} was received; {announced} was announced")]
    OtherDigest {
        /// The announced digest.
        announced: Digest,
        /// The digest of what was received.
        found: Digest,
    },
    /// A file operation failed.
    #[error("cannot store the snapshot")]
    Io(#[from] io::Error),
}

/// A snapshot that is being received. Dropping it keeps what was received.
#[derive(Debug)]
pub struct SnapshotReceiver {
    dir: SnapshotDir,
    file: File,
    path: PathBuf,
    digest: Digest,
    bytes: u64,
    offset: u64,
}

impl SnapshotReceiver {
    pub(super) fn begin(
        dir: SnapshotDir,
        digest: Digest,
        bytes: u64,
    ) -> Result<Self, ReceiveError> {
        let max = dir.inner.bytes_max;
        if bytes > max {
            return Err(ReceiveError::TooLarge { found: bytes, max });
        }
        claim(&dir)?;
        let path = dir.inner.path.join(format!("{digest}{PARTIAL_SUFFIX}"));
        Self::open(&dir, path, digest, bytes).inspect_err(|_| release(&dir))
    }

    fn open(
        dir: &SnapshotDir,
        path: PathBuf,
        digest: Digest,
        bytes: u64,
    ) -> Result<Self, ReceiveError> {
        dir.remove_partials_but(&path)?;
        let file = private_file().create(true).truncate(false).open(&path)?;
        let mut offset = file.metadata()?.len();
        if offset > bytes {
            file.set_len(0)?;
            offset = 0;
        }
        check_space(dir, bytes - offset)?;
        Ok(Self {
            dir: dir.clone(),
            file,
            path,
            digest,
            bytes,
            offset,
        })
    }

    /// How much was received: where the transfer continues.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Adds a piece and returns the offset behind it.
    pub fn append(&mut self, offset: u64, piece: &[u8]) -> Result<u64, ReceiveError> {
        if offset != self.offset {
            return Err(ReceiveError::Offset {
                expected: self.offset,
                found: offset,
            });
        }
        let end = offset.saturating_add(piece.len() as u64);
        if end > self.bytes {
            return Err(ReceiveError::Overrun {
                size: self.bytes,
                found: end,
            });
        }
        check_space(&self.dir, piece.len() as u64)?;
        self.file.write_all_at(piece, offset)?;
        self.offset = end;
        Ok(end)
    }

    /// Checks what was received and makes it a finished snapshot.
    pub fn finish(self) -> Result<(SnapshotFile, SnapshotInfo), ReceiveError> {
        if self.offset != self.bytes {
            return Err(ReceiveError::Incomplete {
                size: self.bytes,
                found: self.offset,
            });
        }
        self.file.sync_all()?;
        let info = match self.check() {
            Ok(info) => info,
            Err(error) => {
                fs::remove_file(&self.path)?;
                return Err(error);
            }
        };
        let file = self.dir.file_of(&info);
        fs::rename(&self.path, &file.path)?;
        self.dir.added(&file)?;
        Ok((file, info))
    }

    fn check(&self) -> Result<SnapshotInfo, ReceiveError> {
        let info = verify(&self.path)?;
        if info.digest != self.digest {
            return Err(ReceiveError::OtherDigest {
                announced: self.digest,
                found: info.digest,
            });
        }
        Ok(info)
    }
}

impl Drop for SnapshotReceiver {
    fn drop(&mut self) {
        release(&self.dir);
    }
}

/// A transfer may fill the disk only down to the floor.
fn check_space(dir: &SnapshotDir, bytes: u64) -> Result<(), ReceiveError> {
    let needed = bytes.saturating_add(dir.inner.space.floor_bytes());
    let free = dir.inner.space.space()?.free_bytes;
    if free < needed {
        return Err(ReceiveError::NoSpace { needed, free });
    }
    Ok(())
}

fn claim(dir: &SnapshotDir) -> Result<(), ReceiveError> {
    let mut receiving = dir
        .inner
        .receiving
        .lock()
        .expect("nothing panics while it holds the flag");
    if *receiving {
        return Err(ReceiveError::Busy);
    }
    *receiving = true;
    Ok(())
}

fn release(dir: &SnapshotDir) {
    *dir.inner
        .receiving
        .lock()
        .expect("nothing panics while it holds the flag") = false;
}
