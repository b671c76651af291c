//! A liar's pen: the real key of a seat, without a safety module before it.
//!
//! The bytes that signatures cover are computed here a second time, from what the protocol
//! says of them, so that honest code cannot be the only one that agrees with itself.

use std::sync::Arc;

use aegis_crypto::{Digest, Hasher, SeatNo, SecretKey, certificate, dsse};
use aegis_pbft::{
    Checkpoint, Commit, Head, Message, NewView, PrePrepare, Prepare, PreparedProof, Scope,
    Sequence, Signature, StableCheckpoint, Value, View, ViewChange,
};

/// Signs anything.
#[derive(Debug)]
pub struct Forge {
    key: SecretKey,
    /// What is signed for; the committee's own unless a liar changes it.
    pub scope: Scope,
    /// Whom it signs as; its own seat unless a liar changes it.
    pub seat: SeatNo,
}

impl Forge {
    /// The pen of a key.
    #[must_use]
    pub const fn new(key: SecretKey, scope: Scope, seat: SeatNo) -> Self {
        Self { key, scope, seat }
    }

    fn hasher(&self, domain: &str) -> Hasher {
        Hasher::tagged(domain)
            .digest(&self.scope.cluster)
            .u64(self.scope.incarnation)
            .u64(self.scope.epoch)
    }

    fn seal(&self, kind: &str, digest: &Digest) -> Signature {
        let name = format!("application/vnd.aegis.{kind}.v1");
        Signature(self.key.sign(&dsse::pae(&name, digest.as_bytes())))
    }

    fn voted(&self, kind: &str, view: View, sequence: Sequence, digest: &Digest) -> Signature {
        let hashed = self
            .hasher(&format!("aegis/pbft/{kind}/1"))
            .u64(view.0)
            .u64(sequence.0)
            .digest(digest)
            .finish();
        self.seal(kind, &hashed)
    }

    /// A proposal.
    #[must_use]
    pub fn propose(&self, view: View, sequence: Sequence, value: &Value) -> Arc<PrePrepare> {
        Arc::new(PrePrepare {
            view,
            sequence,
            value: value.clone(),
            signature: self.voted("pre-prepare", view, sequence, &value.whole()),
        })
    }

    /// A proposal as a message.
    #[must_use]
    pub fn pre_prepare(&self, view: View, sequence: Sequence, value: &Value) -> Message {
        Message::PrePrepare(self.propose(view, sequence, value))
    }

    /// An agreement.
    #[must_use]
    pub fn prepare(&self, view: View, sequence: Sequence, digest: Digest) -> Message {
        Message::Prepare(Prepare {
            view,
            sequence,
            digest,
            seat: self.seat,
            signature: self.voted("prepare", view, sequence, &digest),
        })
    }

    /// A commitment.
    #[must_use]
    pub fn commit(&self, view: View, sequence: Sequence, value: &Value) -> Message {
        let signed =
            certificate::signed_bytes(self.scope.epoch, view.0, sequence.0, value.statement());
        Message::Commit(Commit {
            view,
            sequence,
            value: value.bare(),
            seat: self.seat,
            signature: Signature(self.key.sign(&signed)),
        })
    }

    /// A head.
    #[must_use]
    pub fn checkpoint(&self, head: Head) -> Message {
        let text = self.scope.note(&head).to_text();
        Message::Checkpoint(Checkpoint {
            head,
            seat: self.seat,
            signature: Signature(self.key.sign(text.as_bytes())),
        })
    }

    fn view_change_digest(
        &self,
        view: View,
        stable: Option<&StableCheckpoint>,
        prepared: &[Arc<PreparedProof>],
    ) -> Digest {
        let stable = stable.map_or(0, |stable| stable.head().sequence.0);
        let hasher = self
            .hasher("aegis/pbft/view-change/1")
            .u64(view.0)
            .u64(stable);
        prepared
            .iter()
            .fold(hasher, |hasher, proof| {
                hasher
                    .u64(proof.sequence().0)
                    .u64(proof.view().0)
                    .digest(&proof.value().digest())
            })
            .finish()
    }

    /// A wish for a view.
    #[must_use]
    pub fn view_change(
        &self,
        view: View,
        stable: Option<StableCheckpoint>,
        prepared: Vec<Arc<PreparedProof>>,
    ) -> Arc<ViewChange> {
        let digest = self.view_change_digest(view, stable.as_ref(), &prepared);
        Arc::new(ViewChange {
            view,
            stable,
            prepared,
            seat: self.seat,
            signature: self.seal("view-change", &digest),
        })
    }

    /// The beginning of a view.
    #[must_use]
    pub fn new_view(
        &self,
        view: View,
        view_changes: Vec<Arc<ViewChange>>,
        values: &[(Sequence, Value)],
    ) -> Message {
        let count = u64::try_from(view_changes.len()).unwrap_or(u64::MAX);
        let hasher = self.hasher("aegis/pbft/new-view/1").u64(view.0).u64(count);
        let hasher = view_changes.iter().fold(hasher, |hasher, change| {
            let stable = change.stable.as_ref();
            let digest = self.view_change_digest(change.view, stable, &change.prepared);
            hasher.u8(change.seat.0).digest(&digest)
        });
        let digest = values
            .iter()
            .fold(hasher, |hasher, (sequence, value)| {
                hasher.u64(sequence.0).digest(&value.digest())
            })
            .finish();
        Message::NewView(Arc::new(NewView {
            view,
            view_changes,
            proposals: values
                .iter()
                .map(|(sequence, value)| self.propose(view, *sequence, value))
                .collect(),
            signature: self.seal("new-view", &digest),
        }))
    }
}
