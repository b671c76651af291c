//! Free space: the floor below which the node should refuse writes, and the ballast that
//! is given back when the disk is full all the same.
//!
//! RocksDB stops accepting writes after a write failed for lack of space, and the Rust
//! binding has no way to resume it. So a caller that asks [`SpaceMonitor::is_low`] before
//! it takes new work keeps the disk from filling up, and refuses early, while reads and
//! administration go on. Should the disk be full nevertheless, the ballast is removed and
//! the process ends; the ballast's space is what the next start needs to replay the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::files::{private_file, remove_if_present};

/// How old the answer of [`SpaceMonitor::is_low`] may be.
const SAMPLE_AGE_MAX: Duration = Duration::from_millis(100);

/// Space of the file system that holds the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that the node may still use.
    pub free_bytes: u64,
    /// Bytes of the whole file system.
    pub total_bytes: u64,
    /// Whether the free bytes are below the floor.
    pub below_floor: bool,
}

/// Asks the file system at most every [`SAMPLE_AGE_MAX`].
#[derive(Debug)]
pub(crate) struct SpaceMonitor {
    dir: PathBuf,
    floor_bytes: u64,
    is_low: Mutex<Option<(Instant, bool)>>,
}

impl SpaceMonitor {
    pub(crate) fn new(dir: PathBuf, floor_bytes: u64) -> Self {
        Self {
            dir,
            floor_bytes,
            is_low: Mutex::new(None),
        }
    }

    pub(crate) fn floor_bytes(&self) -> u64 {
        self.floor_bytes
    }

    /// Asks the file system.
    pub(crate) fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(Space {
            free_bytes,
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            below_floor: free_bytes < self.floor_bytes,
        })
    }

    /// Whether the free space is below the floor, or cannot be found out.
    pub(crate) fn is_low(&self) -> bool {
        let mut sample = self
            .is_low
            .lock()
            .expect("nothing panics while it holds the sample");
        if let Some((at, is_low)) = *sample
            && at.elapsed() < SAMPLE_AGE_MAX
        {
            return is_low;
        }
        let is_low = self.space().map_or_else(
            |error| {
                tracing::error!(path = %self.dir.display(), %error, "cannot ask for free space");
                true
            },
            |space| space.below_floor,
        );
        *sample = Some((Instant::now(), is_low));
        is_low
    }
}

/// A file that only takes up space.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    pub(crate) fn new(path: &Path, bytes: u64) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
        }
    }

    /// Gives the space back.
    pub(crate) fn release(&self) -> io::Result<()> {
        remove_if_present(&self.path)
    }

    /// Takes the space, if the floor stays free.
    pub(crate) fn take(&self, space: &SpaceMonitor) -> io::Result<()> {
        let present = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        if present == self.bytes {
            return Ok(());
        }
        self.release()?;
        let needed = space.floor_bytes().saturating_add(self.bytes);
        if self.bytes == 0 || space.space()?.free_bytes < needed {
            return Ok(());
        }
        let file = private_file().create_new(true).open(&self.path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.bytes)?;
        Ok(())
    }
}
