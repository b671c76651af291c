//! The safety module's records, in the node's store: one sync serves them and the log.

use std::sync::mpsc;

use aegis_pbft::{Change, Disk, Evidence};
use aegis_storage::{CommitteeReadError, CommitteeRecord, CommitteeWriteError, Stopped, Store};
use bytes::Bytes;
use thiserror::Error;

/// What begins the key of a record of the safety module.
const SAFETY: u8 = b's';
/// What begins the key of a piece of evidence.
const EVIDENCE: u8 = b'e';
/// Pieces of evidence that are kept. One convicts; a liar must not fill the disk with more.
const EVIDENCE_MAX: usize = 256;

/// Why records were not written.
#[derive(Debug, Error)]
pub enum DiskError {
    /// They exceed the store's bounds.
    #[error("the store does not take the records")]
    Refused(#[from] CommitteeWriteError),
    /// The store ended; what is on the medium is unknown.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The store ended without an answer.
    #[error("the store ended without saying whether the records are on the medium")]
    Unanswered,
}

/// The store as the safety module sees it.
#[derive(Clone)]
pub(crate) struct SafetyDisk(pub(crate) Store);

impl SafetyDisk {
    /// What the safety module wrote.
    pub(crate) fn records(&self) -> Result<Vec<CommitteeRecord>, CommitteeReadError> {
        Ok(self.of_kind(SAFETY)?.collect())
    }

    /// The evidence that is kept.
    pub(crate) fn evidence(&self) -> Result<Vec<Vec<u8>>, CommitteeReadError> {
        Ok(self.of_kind(EVIDENCE)?.map(|(_, value)| value).collect())
    }

    fn of_kind(
        &self,
        kind: u8,
    ) -> Result<impl Iterator<Item = CommitteeRecord>, CommitteeReadError> {
        let records = self.0.committee_records()?.into_iter();
        Ok(records.filter_map(move |(key, value)| {
            let (first, rest) = key.split_first()?;
            (*first == kind).then(|| (rest.to_vec(), value))
        }))
    }

    /// Keeps a piece of evidence, unless there is enough. Returns whether it is new.
    pub(crate) fn keep(&mut self, evidence: &Evidence) -> Result<bool, KeepError> {
        let bytes = evidence.encode();
        let name = aegis_crypto::Digest::of(&bytes);
        let known = self.of_kind(EVIDENCE)?.collect::<Vec<_>>();
        let is_known = known.iter().any(|(key, _)| key == name.as_bytes());
        if is_known || known.len() >= EVIDENCE_MAX {
            return Ok(false);
        }
        let key = prefixed(EVIDENCE, name.as_bytes());
        self.write_all(vec![(key, Some(bytes.into()))])?;
        Ok(true)
    }

    fn write_all(&self, changes: Vec<(Bytes, Option<Bytes>)>) -> Result<(), DiskError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let done = Box::new(move |result| {
            // The receiver waits below, and goes only after it has the answer.
            let _ = answer.send(result);
        });
        self.0.committee_write(changes, done)?;
        answered.recv().map_err(|_| DiskError::Unanswered)??;
        Ok(())
    }
}

/// Why evidence was not kept.
#[derive(Debug, Error)]
pub(crate) enum KeepError {
    /// What is kept already cannot be read.
    #[error(transparent)]
    Read(#[from] CommitteeReadError),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] DiskError),
}

fn prefixed(kind: u8, key: &[u8]) -> Bytes {
    [&[kind], key].concat().into()
}

impl Disk for SafetyDisk {
    type Error = DiskError;

    fn write(&mut self, changes: Vec<Change>) -> Result<(), DiskError> {
        let changes = changes
            .into_iter()
            .map(|change| (prefixed(SAFETY, &change.key), change.value.map(Into::into)))
            .collect();
        self.write_all(changes)
    }
}
