//! The safety module: check, persist, then sign. No other path leads to a signature.

use std::sync::Arc;

use aegis_crypto::{Committee, SecretKey};
use thiserror::Error;

use crate::draft::Draft;
use crate::ids::{Scope, Sequence, View};
use crate::message::{Checkpoint, Commit, Message, NewView, PrePrepare, Prepare, ViewChange};
use crate::safety::{Change, RestoreError, Safety, Unsafe};
use crate::signature::Signature;
use crate::value::Value;

/// Where the safety module keeps what was said.
pub trait Disk {
    /// Why a write failed.
    type Error: std::error::Error;

    /// Writes all changes or none; when it returns, they survive a loss of power.
    ///
    /// # Errors
    /// The writes may or may not be there. The safety module signs nothing more.
    fn write(&mut self, changes: Vec<Change>) -> Result<(), Self::Error>;
}

/// A validator's key behind the rules of [`Safety`].
#[derive(Debug)]
pub struct Guard<D> {
    key: SecretKey,
    safety: Safety,
    disk: D,
    failed: bool,
}

/// Why the safety module cannot begin.
#[derive(Debug, Error)]
pub enum OpenError<E: std::error::Error> {
    /// The key is none of the committee's.
    #[error("the key has no seat in the committee of epoch {epoch}")]
    NoSeat {
        /// The committee's epoch.
        epoch: u64,
    },
    /// What was said before cannot be read.
    #[error("what this seat has said before cannot be read")]
    Restore(#[from] RestoreError),
    /// A write failed.
    #[error("the safety module cannot write")]
    Disk(#[source] E),
    /// An earlier write failed.
    #[error("the safety module failed before and signs nothing more")]
    Failed,
}

/// Why nothing is signed.
#[derive(Debug, Error)]
pub enum SignError<E: std::error::Error> {
    /// The write failed. What is on the medium is unknown, so nothing is signed any more.
    #[error("the safety module cannot write")]
    Disk(#[source] E),
    /// An earlier write failed.
    #[error("the safety module failed before and signs nothing more")]
    Failed,
}

/// What came of a draft.
#[derive(Debug)]
pub enum Granted {
    /// It is signed; it may be sent, and the replica must take it as its own.
    Said(Message),
    /// It is kept; there is nothing to send.
    Kept,
    /// It would contradict what was said before, so this seat stays silent.
    Refused(Draft, Unsafe),
}

impl<D: Disk> Guard<D> {
    /// The safety module of the seat that the key has, with what it has said so far.
    ///
    /// # Errors
    /// A key without a seat, records that do not read, or a first write that fails.
    pub fn open(
        key: SecretKey,
        scope: Scope,
        committee: Arc<Committee>,
        records: &[(Vec<u8>, Vec<u8>)],
        mut disk: D,
    ) -> Result<Self, OpenError<D::Error>> {
        let me = committee
            .seat_of(&key.public())
            .ok_or(OpenError::NoSeat { epoch: scope.epoch })?;
        let (safety, changes) = Safety::restore(me, scope, committee, records)?;
        if !changes.is_empty() {
            disk.write(changes).map_err(OpenError::Disk)?;
        }
        Ok(Self {
            key,
            safety,
            disk,
            failed: false,
        })
    }

    /// What was said so far.
    pub const fn safety(&self) -> &Safety {
        &self.safety
    }

    /// Judges the drafts in order, writes all that is granted in one write, and signs.
    ///
    /// # Errors
    /// The write failed, now or before.
    pub fn sign(&mut self, drafts: Vec<Draft>) -> Result<Vec<Granted>, SignError<D::Error>> {
        if self.failed {
            return Err(SignError::Failed);
        }
        let mut changes = Vec::new();
        let mut judged = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let verdict = self.safety.review(&draft);
            judged.push((draft, verdict.map(|change| changes.extend(change))));
        }
        if !changes.is_empty() {
            self.failed = true;
            self.disk.write(changes).map_err(SignError::Disk)?;
            self.failed = false;
        }
        let signed = judged.into_iter().map(|(draft, verdict)| match verdict {
            Ok(()) => self.signed(draft),
            Err(contradiction) => Granted::Refused(draft, contradiction),
        });
        Ok(signed.collect())
    }

    fn seal(&self, bytes: &[u8]) -> Signature {
        Signature(self.key.sign(bytes))
    }

    fn propose(&self, view: View, sequence: Sequence, value: Value) -> Arc<PrePrepare> {
        let bytes = self
            .safety
            .scope()
            .pre_prepare(view, sequence, &value.whole());
        Arc::new(PrePrepare {
            view,
            sequence,
            value,
            signature: self.seal(&bytes),
        })
    }

    fn signed(&self, draft: Draft) -> Granted {
        let (scope, seat) = (self.safety.scope(), self.safety.seat());
        let message = match draft {
            Draft::PrePrepare {
                view,
                sequence,
                value,
            } => Message::PrePrepare(self.propose(view, sequence, value)),
            Draft::Prepare {
                view,
                sequence,
                digest,
            } => Message::Prepare(Prepare {
                view,
                sequence,
                digest,
                seat,
                signature: self.seal(&scope.prepare(view, sequence, &digest)),
            }),
            Draft::Commit { proof } => {
                let (view, sequence) = (proof.view(), proof.sequence());
                let value = proof.value().bare();
                let signature = self.seal(&scope.commit(view, sequence, value.statement()));
                Message::Commit(Commit {
                    view,
                    sequence,
                    value,
                    seat,
                    signature,
                })
            }
            Draft::Checkpoint { head } => Message::Checkpoint(Checkpoint {
                head,
                seat,
                signature: self.seal(scope.note(&head).to_text().as_bytes()),
            }),
            Draft::ViewChange {
                view,
                stable,
                prepared,
            } => {
                let digest = scope.view_change_digest(view, stable.as_ref(), &prepared);
                Message::ViewChange(Arc::new(ViewChange {
                    view,
                    stable,
                    prepared,
                    seat,
                    signature: self.seal(&Scope::view_change(&digest)),
                }))
            }
            Draft::NewView {
                view,
                view_changes,
                proposals,
            } => Message::NewView(self.begin(view, view_changes, proposals)),
            Draft::Enter { .. } | Draft::Stable { .. } => return Granted::Kept,
        };
        Granted::Said(message)
    }

    fn begin(
        &self,
        view: View,
        view_changes: Vec<Arc<ViewChange>>,
        proposals: Vec<(Sequence, Value)>,
    ) -> Arc<NewView> {
        let proposals: Vec<_> = proposals
            .into_iter()
            .map(|(sequence, value)| self.propose(view, sequence, value))
            .collect();
        let digests = proposals
            .iter()
            .map(|proposal| (proposal.sequence, proposal.value.digest()));
        let digest = self
            .safety
            .scope()
            .new_view_digest(view, &view_changes, digests);
        Arc::new(NewView {
            view,
            view_changes,
            proposals,
            signature: self.seal(&Scope::new_view(&digest)),
        })
    }
}
