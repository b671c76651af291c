//! What a leader checks before it takes a command that another node holds.

/// Decides what this node proposes for others. What is submitted on this node itself, its
/// owner has admitted.
pub trait Admission: Send + Sync + 'static {
    /// Whether the command may be proposed. Every node must be able to read it: one that is
    /// committed and cannot be read stops them all.
    fn admit(&self, payload: &[u8]) -> Result<(), Decline>;
}

/// Why a leader did not take a command. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Decline {
    /// It holds as many proposals as it may.
    #[error("the leader holds as many proposals as it may")]
    Busy,
    /// Its disk is nearly full.
    #[error("the leader has {free_bytes} bytes free, at least {floor_bytes} are needed")]
    LowSpace {
        /// What is free, in bytes.
        free_bytes: u64,
        /// What must be, in bytes.
        floor_bytes: u64,
    },
    /// It cannot read the command, which is a newer version's.
    #[error("the leader cannot read the command: it runs an older version")]
    Unreadable,
}
