//! What validators say to each other, and the exact bytes that each signature covers.
//!
//! A message is one of the paper's (OSDI '99, sections 4.2 to 4.4), signed. Two of them
//! are signed in the form in which they are published, so that no second signature is
//! needed: a Commit signs the payload of the decision's certificate, a Checkpoint the
//! text of the transparency log's note. All others sign the DSSE encoding of a digest,
//! each under a payload type of its own. No form can be taken for another: DSSE's begins
//! with its version and the payload's type, a note with the log's origin.

use std::sync::Arc;

use aegis_crypto::note::CheckpointBody;
use aegis_crypto::{Digest, SeatNo, Seats, certificate, dsse};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{Scope, Sequence, View};
use crate::proof::{PreparedProof, StableCheckpoint};
use crate::signature::Signature;
use crate::value::Value;

/// The longest encoded message, in bytes.
///
/// The longest that an honest validator sends is a NewView of 31 seats in which every one
/// of 128 sequence numbers was prepared: 21 view changes, each with 128 statements of
/// usually 1.5 KiB and their 21 signatures.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The primary's proposal of a value for a sequence number (OSDI '99, section 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrePrepare {
    /// The view whose primary signs.
    pub view: View,
    /// The sequence number.
    pub sequence: Sequence,
    /// What is proposed.
    pub value: Value,
    /// The primary's signature.
    pub signature: Signature,
}

/// A backup's agreement to the proposal (section 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The view.
    pub view: View,
    /// The sequence number.
    pub sequence: Sequence,
    /// The [whole](Value::whole) value's name.
    pub digest: Digest,
    /// Who signs.
    pub seat: SeatNo,
    /// Its signature.
    pub signature: Signature,
}

/// A validator's part of the certificate (section 4.2). It carries the statement, so that
/// its signature can be checked by whoever has not seen the proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The view.
    pub view: View,
    /// The sequence number.
    pub sequence: Sequence,
    /// What is committed to, [without attachment](Value::bare): the signature covers none.
    pub value: Value,
    /// Who signs.
    pub seat: SeatNo,
    /// Its signature over the certificate's payload.
    pub signature: Signature,
}

/// The state that a checkpoint names: the chain of decided statements, and the
/// transparency log as it stood at the closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Head {
    /// The last sequence number that is covered.
    pub sequence: Sequence,
    /// The hash chain over the names of all decided values up to it.
    pub chain: Digest,
    /// Entries of the transparency log.
    pub tree_size: u64,
    /// Root of the transparency log.
    pub tree_root: Digest,
}

/// A validator's statement that it has recorded everything up to a head (section 4.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The head.
    pub head: Head,
    /// Who signs.
    pub seat: SeatNo,
    /// Its signature over the note's text.
    pub signature: Signature,
}

/// A validator's wish for a view, with all that it prepared before (section 4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewChange {
    /// The view it asks for.
    pub view: View,
    /// Its last stable checkpoint; none before the first of the epoch.
    pub stable: Option<StableCheckpoint>,
    /// What it prepared above that, by ascending sequence number (the paper's set P).
    pub prepared: Vec<Arc<PreparedProof>>,
    /// Who signs.
    pub seat: SeatNo,
    /// Its signature.
    pub signature: Signature,
}

/// The beginning of a view by its primary (section 4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewView {
    /// The view that begins.
    pub view: View,
    /// A quorum of view changes by ascending seats (the paper's set V).
    pub view_changes: Vec<Arc<ViewChange>>,
    /// The proposals that follow from them, by ascending sequence number (the set O).
    pub proposals: Vec<Arc<PrePrepare>>,
    /// The primary's signature.
    pub signature: Signature,
}

/// Any message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A proposal.
    PrePrepare(Arc<PrePrepare>),
    /// An agreement to it.
    Prepare(Prepare),
    /// A part of the certificate.
    Commit(Commit),
    /// A statement of what is recorded.
    Checkpoint(Checkpoint),
    /// A wish for a view.
    ViewChange(Arc<ViewChange>),
    /// The beginning of a view.
    NewView(Arc<NewView>),
    /// The answer to one who still asks for what is decided: the certificate's envelope.
    Certificate(Vec<u8>),
    /// The answer to one who still asks for what is stable.
    Stable(StableCheckpoint),
}

impl Message {
    /// The kind, as logs, metrics and transcripts call it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::PrePrepare(_) => "pre_prepare",
            Self::Prepare(_) => "prepare",
            Self::Commit(_) => "commit",
            Self::Checkpoint(_) => "checkpoint",
            Self::ViewChange(_) => "view_change",
            Self::NewView(_) => "new_view",
            Self::Certificate(_) => "certificate",
            Self::Stable(_) => "stable",
        }
    }

    /// The seat that claims to have signed; none for what a quorum signed.
    #[must_use]
    pub fn signer(&self, seats: Seats) -> Option<SeatNo> {
        match self {
            Self::PrePrepare(message) => Some(seats.primary(message.view.0)),
            Self::Prepare(message) => Some(message.seat),
            Self::Commit(message) => Some(message.seat),
            Self::Checkpoint(message) => Some(message.seat),
            Self::ViewChange(message) => Some(message.seat),
            Self::NewView(message) => Some(seats.primary(message.view.0)),
            Self::Certificate(_) | Self::Stable(_) => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
enum Versioned<T> {
    V1(T),
}

/// Bytes that are no message of this version.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More bytes than any message has.
    #[error("a message has at most {MESSAGE_BYTES_MAX} bytes, not {found}")]
    Long {
        /// How many there are.
        found: usize,
    },
    /// Not the encoding of a message.
    #[error("{len} bytes are no {what}: {reason}")]
    Format {
        /// What they should have been.
        what: &'static str,
        /// How many bytes there are.
        len: usize,
        /// What the decoder said.
        reason: String,
    },
}

/// Encodes in the latest version.
pub(crate) fn encode<T: Serialize>(item: &T) -> Vec<u8> {
    postcard::to_allocvec(&Versioned::V1(item)).expect("messages have only encodable fields")
}

/// Decodes any version; trailing bytes are refused.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    what: &'static str,
) -> Result<T, DecodeError> {
    let format = |reason: String| DecodeError::Format {
        what,
        len: bytes.len(),
        reason,
    };
    match postcard::take_from_bytes::<Versioned<T>>(bytes) {
        Ok((Versioned::V1(item), [])) => Ok(item),
        Ok((_, rest)) => Err(format(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(format(error.to_string())),
    }
}

/// A message on its way, with the scope in which its signatures hold: they cover it, so
/// that a wrong one is found anyway, but this way its receiver can say what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The cluster, incarnation and epoch that it belongs to.
    pub scope: Scope,
    /// The message.
    pub message: Message,
}

impl Frame {
    /// The bytes that travel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads what [`Frame::encode`] wrote. Nothing is verified by that.
    ///
    /// # Errors
    /// Bytes that are no message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError::Long { found: bytes.len() });
        }
        decode(bytes, "message")
    }
}

/// The bytes that signatures cover.
impl Scope {
    fn sealed(payload_type: &str, digest: &Digest) -> Vec<u8> {
        dsse::pae(payload_type, digest.as_bytes())
    }

    /// What a PrePrepare signs.
    pub(crate) fn pre_prepare(&self, view: View, sequence: Sequence, value: &Digest) -> Vec<u8> {
        let digest = self
            .hasher("aegis/pbft/pre-prepare/1")
            .u64(view.0)
            .u64(sequence.0)
            .digest(value)
            .finish();
        Self::sealed("application/vnd.aegis.pre-prepare.v1", &digest)
    }

    /// What a Prepare signs.
    pub(crate) fn prepare(&self, view: View, sequence: Sequence, value: &Digest) -> Vec<u8> {
        let digest = self
            .hasher("aegis/pbft/prepare/1")
            .u64(view.0)
            .u64(sequence.0)
            .digest(value)
            .finish();
        Self::sealed("application/vnd.aegis.prepare.v1", &digest)
    }

    /// What a Commit signs: the certificate's payload. Cluster and incarnation stand in
    /// the statement, where the verifier looks for them.
    pub(crate) fn commit(&self, view: View, sequence: Sequence, statement: &str) -> Vec<u8> {
        certificate::signed_bytes(self.epoch, view.0, sequence.0, statement)
    }

    /// What a Checkpoint signs: the text of the transparency log's note.
    #[must_use]
    pub fn note(&self, head: &Head) -> CheckpointBody {
        CheckpointBody::new(
            format!("aegis/{}", self.cluster),
            head.tree_size,
            head.tree_root,
            vec![
                format!("incarnation {}", self.incarnation),
                format!("epoch {}", self.epoch),
                format!("ordinal {}", head.sequence),
                format!("chain {}", head.chain),
            ],
        )
        .expect("the origin and the lines are of letters, digits and single spaces")
    }

    /// The name of a view change: its view, checkpoint and prepared values. The proofs'
    /// own signatures are left out, since they prove themselves.
    pub(crate) fn view_change_digest(
        &self,
        view: View,
        stable: Option<&StableCheckpoint>,
        prepared: &[Arc<PreparedProof>],
    ) -> Digest {
        let stable = stable.map_or(Sequence(0), |stable| stable.head().sequence);
        prepared
            .iter()
            .fold(
                self.hasher("aegis/pbft/view-change/1")
                    .u64(view.0)
                    .u64(stable.0),
                |hasher, proof| {
                    hasher
                        .u64(proof.sequence().0)
                        .u64(proof.view().0)
                        .digest(&proof.value().digest())
                },
            )
            .finish()
    }

    /// What a ViewChange signs.
    pub(crate) fn view_change(digest: &Digest) -> Vec<u8> {
        Self::sealed("application/vnd.aegis.view-change.v1", digest)
    }

    /// The name of a new view: whose view changes it stands on, and what it proposes.
    pub(crate) fn new_view_digest(
        &self,
        view: View,
        view_changes: &[Arc<ViewChange>],
        proposals: impl Iterator<Item = (Sequence, Digest)>,
    ) -> Digest {
        let count = u64::try_from(view_changes.len()).unwrap_or(u64::MAX);
        let hasher = view_changes.iter().fold(
            self.hasher("aegis/pbft/new-view/1").u64(view.0).u64(count),
            |hasher, change| {
                let digest =
                    self.view_change_digest(change.view, change.stable.as_ref(), &change.prepared);
                hasher.u8(change.seat.0).digest(&digest)
            },
        );
        proposals
            .fold(hasher, |hasher, (sequence, digest)| {
                hasher.u64(sequence.0).digest(&digest)
            })
            .finish()
    }

    /// What a NewView signs.
    pub(crate) fn new_view(digest: &Digest) -> Vec<u8> {
        Self::sealed("application/vnd.aegis.new-view.v1", digest)
    }

    /// Continues the chain of decided values.
    #[must_use]
    pub(crate) fn link(&self, chain: &Digest, sequence: Sequence, value: &Digest) -> Digest {
        self.hasher("aegis/pbft/chain/1")
            .digest(chain)
            .u64(sequence.0)
            .digest(value)
            .finish()
    }
}

#[cfg(test)]
mod tests;
