//! Where a validator stands, for people, metrics and auditors.

use std::sync::Arc;

use aegis_crypto::SeatNo;
use aegis_crypto::note::{Note, NoteKey};
use aegis_ledger::CommitteeRecord;
use aegis_pbft::{Scope, StableCheckpoint, Status};

/// A validator's standing in the epoch that is under way.
#[derive(Clone, Debug)]
pub struct SeatStanding {
    /// The epoch.
    pub epoch: u64,
    /// This node's seat.
    pub seat: SeatNo,
    /// Where the agreement stands.
    pub status: Status,
    /// The newest stable checkpoint of the epoch, as a signed note.
    pub checkpoint: Option<Arc<str>>,
}

/// The name under which a seat signs notes.
#[must_use]
pub fn note_key_name(cluster: &aegis_crypto::Digest, seat: &str) -> String {
    format!("aegis/{cluster}/{seat}")
}

/// A stable checkpoint as a signed note in the form of C2SP's `tlog-checkpoint`.
pub(crate) fn note(scope: &Scope, record: &CommitteeRecord, stable: &StableCheckpoint) -> Arc<str> {
    let lines = stable.signatures().iter().map(|(seat, signature)| {
        let record = record
            .seats
            .get(usize::from(seat.0))
            .expect("a stable checkpoint is signed by seats of its committee");
        let name = note_key_name(&scope.cluster, record.name.as_str());
        NoteKey::new(name, record.public_key.into())
            .expect("the names of seats are fit for notes")
            .line(&signature.0)
    });
    let text = scope.note(stable.head()).to_text();
    Note::new(text, lines.collect())
        .expect("a checkpoint's text and a quorum of lines make a note")
        .to_text()
        .into()
}
