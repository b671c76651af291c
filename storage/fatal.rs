//! Failures that end the process, and the mark that some of them leave.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::create_durable;

/// The exit status of a process that [`Options::on_fatal`](crate::Options::on_fatal) ends
/// by default: `EX_IOERR` of `sysexits.h`.
pub const EXIT_CODE: i32 = 74;

/// Called once with the failure; it should not return.
pub type FatalHook = Arc<dyn Fn(&FatalError) + Send + Sync>;

/// A failure after which the node must not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FatalError {
    /// A sync failed. What it covered may or may not be on the medium.
    #[error(
        "a sync of the log failed ({reason}); the result of the last writes is unknown. {REPLACE}"
    )]
    Sync {
        /// What RocksDB said.
        reason: String,
    },
    /// The device failed under a write.
    #[error("the disk failed ({reason}); the result of the last writes is unknown. {REPLACE}")]
    Device {
        /// What RocksDB or the operating system said.
        reason: String,
    },
    /// The disk is full. The folder opens again once there is space.
    #[error(
        "the disk is full ({reason}); nothing acknowledged is lost. Free some space and \
         start the node again"
    )]
    NoSpace {
        /// What RocksDB said.
        reason: String,
    },
    /// A write failed for another reason, for example a limit of the process. To the
    /// folder that is no more than a crash.
    #[error(
        "a write to the data folder failed ({reason}); nothing acknowledged is lost. \
         Remove the cause and start the node again"
    )]
    Write {
        /// What RocksDB or the operating system said.
        reason: String,
    },
    /// The thread that writes the log panicked.
    #[error("the thread that writes the log died: {reason}")]
    WriterDied {
        /// The panic's message.
        reason: String,
    },
}

/// What to do with a node whose disk cannot be trusted.
const REPLACE: &str = "Check the disk, remove this node from the cluster and add it again \
    under a new id, and with a new key if it has a seat in the committee";

impl FatalError {
    /// The failure that an error of an unsynced RocksDB write stands for. It may have
    /// happened in the background earlier: from then on every write fails.
    pub(crate) fn from_write(error: &rocksdb::Error) -> Self {
        let reason = error.to_string();
        if is_no_space(error) {
            Self::NoSpace { reason }
        } else if reason.contains("Input/output error") {
            Self::Device { reason }
        } else {
            Self::Write { reason }
        }
    }

    /// The failure that an error of a synced RocksDB write stands for: it may have been
    /// the sync.
    /// A full disk makes no difference here: after any failed sync the cache may show what
    /// the medium does not have.
    pub(crate) fn from_sync(error: &rocksdb::Error) -> Self {
        Self::Sync {
            reason: error.to_string(),
        }
    }

    /// The failure that an error of a write to a file beside RocksDB stands for.
    pub(crate) fn from_io(file: &str, error: &io::Error) -> Self {
        let reason = format!("{file}: {error}");
        match error.raw_os_error() {
            Some(libc::EIO) => Self::Device { reason },
            _ if error.kind() == io::ErrorKind::StorageFull => Self::NoSpace { reason },
            _ => Self::Write { reason },
        }
    }

    /// Whether the folder must never be opened again. Not after a full disk or a limit:
    /// those may meet all nodes at once, and lose nothing.
    fn marks_folder(&self) -> bool {
        matches!(self, Self::Sync { .. } | Self::Device { .. })
    }
}

/// Whether RocksDB failed because the disk, or the quota, is full. The crate passes on
/// the text of the status only.
pub(crate) fn is_no_space(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}

/// Carries out what a [`FatalError`] asks for.
#[derive(Clone)]
pub(crate) struct Fatal {
    mark: PathBuf,
    ballast: PathBuf,
    hook: FatalHook,
}

impl Fatal {
    pub(crate) fn new(mark: PathBuf, ballast: PathBuf, hook: FatalHook) -> Self {
        Self {
            mark,
            ballast,
            hook,
        }
    }

    /// Leaves the mark or gives back the ballast, then calls the hook.
    pub(crate) fn raise(&self, error: &FatalError) {
        if error.marks_folder() {
            self.leave_mark(error);
        }
        if matches!(error, FatalError::NoSpace { .. }) {
            self.give_back_ballast();
        }
        (self.hook)(error);
    }

    fn leave_mark(&self, error: &FatalError) {
        if let Err(cause) = create_durable(&self.mark, error.to_string().as_bytes()) {
            tracing::error!(path = %self.mark.display(), error = %cause, "cannot mark the data folder");
        }
    }

    /// So that the node can be opened again on a disk that is still full.
    fn give_back_ballast(&self) {
        if let Err(cause) = crate::files::remove_if_present(&self.ballast) {
            tracing::error!(path = %self.ballast.display(), error = %cause, "cannot remove the ballast");
        }
    }
}

/// What an earlier process wrote into the mark, if there is one.
pub(crate) fn read_mark(mark: &Path) -> io::Result<Option<String>> {
    match std::fs::read(mark) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The default hook: logs the failure and ends the process without running exit
/// handlers, for those of RocksDB wait for background work, which a failing disk may
/// never finish.
pub(crate) fn exit_process(error: &FatalError) {
    tracing::error!(%error, "storage failed, the process ends");
    exit_now(EXIT_CODE);
}

#[expect(
    unsafe_code,
    reason = "std::process::exit runs exit handlers, and abort may dump keys into a core file"
)]
fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn raise(error: FatalError) -> (Option<String>, bool) {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("failed");
        let ballast = dir.path().join("ballast");
        std::fs::write(&ballast, "ballast").unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let hook: FatalHook = {
            let seen = Arc::clone(&seen);
            Arc::new(move |error| seen.lock().unwrap().push(error.clone()))
        };
        Fatal::new(mark.clone(), ballast.clone(), hook).raise(&error);
        assert_eq!(*seen.lock().unwrap(), [error]);
        (read_mark(&mark).unwrap(), ballast.exists())
    }

    #[test]
    fn only_a_failed_disk_marks_the_folder() {
        let reason = || "planted".to_owned();
        let sync = FatalError::Sync { reason: reason() };
        assert_eq!(raise(sync.clone()), (Some(sync.to_string()), true));
        let device = FatalError::from_io("file", &io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(raise(device.clone()), (Some(device.to_string()), true));

        let full = FatalError::from_io("file", &io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(matches!(full, FatalError::NoSpace { .. }));
        assert_eq!(raise(full), (None, false));
        let limit = FatalError::from_io("file", &io::Error::from_raw_os_error(libc::EMFILE));
        assert!(matches!(limit, FatalError::Write { .. }));
        assert_eq!(raise(limit), (None, true));
        assert_eq!(
            raise(FatalError::WriterDied { reason: reason() }),
            (None, true)
        );
    }
}
