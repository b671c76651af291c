//! How certificates get into the replicated ledger.

use aegis_ledger::Ordinal;
use futures::future::BoxFuture;
use thiserror::Error;

/// Why a certificate was not recorded.
#[derive(Debug, Error)]
pub enum RecordError {
    /// There was no leader, or no room; it may be offered again.
    #[error("the certificate was not taken: {0}")]
    NotTaken(String),
    /// The ledger finds that it certifies something else than what it holds.
    #[error("the certificate was refused: {0}")]
    Refused(String),
}

/// Submits certificates to the cluster's leader.
pub trait Recorder: Send + Sync {
    /// Records a closing's certificate. One that is there already stands, and that is no
    /// error.
    fn record(
        &self,
        ordinal: Ordinal,
        envelope: String,
    ) -> BoxFuture<'static, Result<(), RecordError>>;
}
