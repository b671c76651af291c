//! What the shell may want to measure, told as it happens.

use std::time::Duration;

/// Receives measurements. Calls come from hot paths and must not block; every method does
/// nothing unless it is overridden.
pub trait Observer: Send + Sync + 'static {
    /// Entries were handed to the log in one append of `bytes` payload bytes.
    fn appended(&self, entries: usize, bytes: usize) {
        let _ = (entries, bytes);
    }

    /// A committed batch was applied, written and answered.
    fn applied(&self, entries: usize, took: Duration) {
        let _ = (entries, took);
    }

    /// Submissions ended with an error; `reason` is one of a few constant words.
    fn proposals_failed(&self, count: usize, reason: &'static str) {
        let _ = (count, reason);
    }

    /// This node learnt of another leader, or of none.
    fn leader_changed(&self, leader: Option<u64>) {
        let _ = leader;
    }

    /// A snapshot was written to a file, for a follower.
    fn snapshot_written(&self, bytes: u64, took: Duration) {
        let _ = (bytes, took);
    }

    /// A snapshot from the leader was installed.
    fn snapshot_installed(&self, bytes: u64, took: Duration) {
        let _ = (bytes, took);
    }

    /// An append was refused because it was stamped too far ahead of this node's clock.
    fn append_refused(&self, ahead: Duration) {
        let _ = ahead;
    }
}

/// Measures nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
