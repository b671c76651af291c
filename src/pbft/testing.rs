//! What the tests of this crate are made of: seats that sign whatever they are asked to.

use std::sync::{Arc, OnceLock};

use aegis_crypto::{Committee, Digest, SeatNo, SecretKey};

use crate::draft::Draft;
use crate::ids::{Scope, Sequence, View};
use crate::message::{Checkpoint, Commit, Head, Message, NewView, PrePrepare, Prepare, ViewChange};
use crate::proof::{PreparedProof, StableCheckpoint};
use crate::signature::Signature;
use crate::value::Value;
use crate::verify::selection;

pub(crate) fn scope() -> Scope {
    Scope {
        cluster: Digest::of("a cluster"),
        incarnation: 3,
        epoch: 0,
    }
}

fn key(seat: u8) -> SecretKey {
    SecretKey::from_seed(&[seat; 32])
}

/// The committee of so many seats; its keys are made once.
pub(crate) fn committee(count: u8) -> Arc<Committee> {
    static COMMITTEES: OnceLock<Vec<Arc<Committee>>> = OnceLock::new();
    let committees = COMMITTEES.get_or_init(|| {
        (1..=10)
            .map(|count| {
                let keys = (0..count).map(|seat| key(seat).public()).collect();
                Arc::new(Committee::new(0, keys).unwrap())
            })
            .collect()
    });
    committees[usize::from(count) - 1].clone()
}

pub(crate) fn value(sequence: u64, outcome: &str) -> Value {
    value_in(scope(), sequence, outcome)
}

pub(crate) fn value_in(scope: Scope, sequence: u64, outcome: &str) -> Value {
    let Scope {
        cluster,
        incarnation,
        ..
    } = scope;
    let statement = format!(
        r#"{{"cluster":"{cluster}","incarnation":"{incarnation}","ordinal":"{sequence}","outcome":"{outcome}"}}"#
    );
    Value::new(&statement, &[]).unwrap()
}

pub(crate) fn head(sequence: u64, tree: &str) -> Head {
    Head {
        sequence: Sequence(sequence),
        chain: Digest::of("chain"),
        tree_size: 10,
        tree_root: Digest::of(tree),
    }
}

/// A seat of the committee without a safety module.
pub(crate) struct Seat {
    no: SeatNo,
    scope: Scope,
    /// None where only the replica is tested, which looks at no signature.
    key: Option<SecretKey>,
}

impl Seat {
    pub(crate) fn signing(no: u8) -> Self {
        Self::signing_in(scope(), no)
    }

    pub(crate) fn signing_in(scope: Scope, no: u8) -> Self {
        let key = Some(key(no));
        let no = SeatNo(no);
        Self { no, scope, key }
    }

    pub(crate) fn unsigned(no: u8) -> Self {
        Self {
            no: SeatNo(no),
            scope: scope(),
            key: None,
        }
    }

    pub(crate) fn sign(&self, bytes: impl FnOnce(&Scope) -> Vec<u8>) -> Signature {
        Signature(match &self.key {
            Some(key) => key.sign(&bytes(&self.scope)),
            None => [self.no.0; 64],
        })
    }

    pub(crate) fn pre_prepare(&self, view: u64, sequence: u64, value: &Value) -> Arc<PrePrepare> {
        let (view, sequence) = (View(view), Sequence(sequence));
        Arc::new(PrePrepare {
            view,
            sequence,
            value: value.clone(),
            signature: self.sign(|scope| scope.pre_prepare(view, sequence, &value.whole())),
        })
    }

    pub(crate) fn prepare(&self, view: u64, sequence: u64, digest: Digest) -> Prepare {
        let (view, sequence) = (View(view), Sequence(sequence));
        Prepare {
            view,
            sequence,
            digest,
            seat: self.no,
            signature: self.sign(|scope| scope.prepare(view, sequence, &digest)),
        }
    }

    pub(crate) fn commit(&self, view: u64, sequence: u64, value: &Value) -> Commit {
        let (view, sequence) = (View(view), Sequence(sequence));
        Commit {
            view,
            sequence,
            value: value.bare(),
            seat: self.no,
            signature: self.sign(|scope| scope.commit(view, sequence, value.statement())),
        }
    }

    pub(crate) fn checkpoint(&self, head: Head) -> Checkpoint {
        Checkpoint {
            head,
            seat: self.no,
            signature: self.sign(|scope| scope.note(&head).to_text().into_bytes()),
        }
    }

    pub(crate) fn view_change(
        &self,
        view: u64,
        stable: Option<StableCheckpoint>,
        prepared: Vec<Arc<PreparedProof>>,
    ) -> Arc<ViewChange> {
        let view = View(view);
        let signature = self.sign(|scope| {
            Scope::view_change(&scope.view_change_digest(view, stable.as_ref(), &prepared))
        });
        Arc::new(ViewChange {
            view,
            stable,
            prepared,
            seat: self.no,
            signature,
        })
    }

    pub(crate) fn new_view(
        &self,
        view: u64,
        view_changes: Vec<Arc<ViewChange>>,
        proposals: Vec<Arc<PrePrepare>>,
    ) -> Arc<NewView> {
        let view = View(view);
        let signature = self.sign(|scope| {
            let digests = proposals
                .iter()
                .map(|proposal| (proposal.sequence, proposal.value.digest()));
            Scope::new_view(&scope.new_view_digest(view, &view_changes, digests))
        });
        Arc::new(NewView {
            view,
            view_changes,
            proposals,
            signature,
        })
    }

    /// A new view with the proposals that follow from its view changes.
    pub(crate) fn begin(&self, view: u64, view_changes: Vec<Arc<ViewChange>>) -> Arc<NewView> {
        let proposals = selection(&view_changes)
            .iter()
            .map(|(sequence, value)| self.pre_prepare(view, sequence.0, value))
            .collect();
        self.new_view(view, view_changes, proposals)
    }

    /// What the safety module makes of a draft that it grants; nothing where it only keeps.
    pub(crate) fn say(&self, draft: Draft) -> Option<Message> {
        Some(match draft {
            Draft::PrePrepare {
                view,
                sequence,
                value,
            } => Message::PrePrepare(self.pre_prepare(view.0, sequence.0, &value)),
            Draft::Prepare {
                view,
                sequence,
                digest,
            } => Message::Prepare(self.prepare(view.0, sequence.0, digest)),
            Draft::Commit { proof } => {
                Message::Commit(self.commit(proof.view().0, proof.sequence().0, proof.value()))
            }
            Draft::Checkpoint { head } => Message::Checkpoint(self.checkpoint(head)),
            Draft::ViewChange {
                view,
                stable,
                prepared,
            } => Message::ViewChange(self.view_change(view.0, stable, prepared)),
            Draft::NewView {
                view,
                view_changes,
                proposals,
            } => {
                let proposals = proposals
                    .iter()
                    .map(|(sequence, value)| self.pre_prepare(view.0, sequence.0, value))
                    .collect();
                Message::NewView(self.new_view(view.0, view_changes, proposals))
            }
            Draft::Enter { .. } | Draft::Stable { .. } => return None,
        })
    }
}

/// A proof of whatever is asked for, right or wrong: it is decoded, as a stranger's is.
pub(crate) fn proof(
    pre_prepare: Arc<PrePrepare>,
    prepares: &[(SeatNo, Signature)],
) -> Arc<PreparedProof> {
    let bytes = postcard::to_allocvec(&(pre_prepare, prepares)).unwrap();
    Arc::new(postcard::from_bytes(&bytes).unwrap())
}

/// The same for a stable checkpoint.
pub(crate) fn stable_of(head: Head, signatures: &[(SeatNo, Signature)]) -> StableCheckpoint {
    let bytes = postcard::to_allocvec(&(head, signatures)).unwrap();
    postcard::from_bytes(&bytes).unwrap()
}

/// Proof that the lowest seats of a committee prepared a value.
pub(crate) fn prepared(
    committee: &Committee,
    seat: fn(u8) -> Seat,
    view: u64,
    sequence: u64,
    value: &Value,
) -> Arc<PreparedProof> {
    let primary = committee.seats().primary(view);
    let backups = usize::from(committee.seats().quorum()) - 1;
    let prepares: Vec<_> = committee
        .seats()
        .iter()
        .filter(|backup| *backup != primary)
        .take(backups)
        .map(|backup| {
            let prepare = seat(backup.0).prepare(view, sequence, value.whole());
            (backup, prepare.signature)
        })
        .collect();
    proof(
        seat(primary.0).pre_prepare(view, sequence, value),
        &prepares,
    )
}

/// Proof that the lowest seats of a committee recorded everything up to a head.
pub(crate) fn stable(committee: &Committee, seat: fn(u8) -> Seat, head: Head) -> StableCheckpoint {
    let signatures: Vec<_> = committee
        .seats()
        .iter()
        .take(committee.seats().quorum().into())
        .map(|signer| (signer, seat(signer.0).checkpoint(head).signature))
        .collect();
    stable_of(head, &signatures)
}
