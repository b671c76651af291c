//! Proof that a validator contradicted itself, which anyone can check.

use aegis_crypto::{Committee, Digest, SeatNo};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::ids::{Scope, Sequence, View};
use crate::message::{DecodeError, Frame, Message, decode, encode};
use crate::verify::Verifier;

/// Two messages of one seat of which an honest one sends at most one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The scope in which both were signed.
    pub scope: Scope,
    /// The one that came first.
    pub first: Message,
    /// The one that contradicts it.
    pub second: Message,
}

/// What a message says, apart from its signature: where, and what.
fn claim(message: &Message) -> Option<(Option<View>, Sequence, Digest)> {
    match message {
        Message::PrePrepare(message) => {
            Some((Some(message.view), message.sequence, message.value.whole()))
        }
        Message::Prepare(message) => Some((Some(message.view), message.sequence, message.digest)),
        Message::Commit(message) => {
            Some((Some(message.view), message.sequence, message.value.digest()))
        }
        Message::Checkpoint(message) => {
            let head = &message.head;
            let named = Digest::of(encode(head));
            Some((None, head.sequence, named))
        }
        Message::Stable(_)
        | Message::ViewChange(_)
        | Message::NewView(_)
        | Message::Certificate(_) => None,
    }
}

impl Evidence {
    /// The seat that it convicts, if it does: both messages are valid, of one kind and one
    /// signer, for one view and sequence number, and say different things.
    #[must_use]
    pub fn convicts(&self, committee: &Arc<Committee>) -> Option<SeatNo> {
        let (first, second) = (claim(&self.first)?, claim(&self.second)?);
        let seats = committee.seats();
        let signer = self.first.signer(seats)?;
        let contradicts = self.first.kind() == self.second.kind()
            && self.second.signer(seats) == Some(signer)
            && (first.0, first.1) == (second.0, second.1)
            && first.2 != second.2;
        let verifier = Verifier::new(self.scope, committee.clone());
        let valid = |message: &Message| {
            let frame = Frame {
                scope: self.scope,
                message: message.clone(),
            };
            verifier.verify(frame).is_ok()
        };
        (contradicts && valid(&self.first) && valid(&self.second)).then_some(signer)
    }

    /// The bytes to keep.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads what [`Evidence::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that are no evidence.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes, "evidence")
    }
}
