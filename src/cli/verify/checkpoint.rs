//! Checkpoints of the transparency log, as a committee signs them.

use std::collections::BTreeSet;
use std::str::FromStr;

use aegis_crypto::note::{
    CheckpointBody, CheckpointError, NameError, Note, NoteError, NoteKey, VerifyNoteError,
};
use aegis_crypto::{Digest, SeatNo};
use aegis_ledger::{Ordinal, SeatName};

use super::epochs::{EpochError, Epochs};

/// Why a checkpoint is none of this cluster's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointFault {
    #[error("it is no signed note")]
    Note(#[source] NoteError),
    #[error("its text is no checkpoint")]
    Body(#[source] CheckpointError),
    #[error("its origin is {found}, this cluster's is {expected}")]
    Origin { found: String, expected: String },
    #[error("its line {number} is {found:?}, and should be `{name}` and a value")]
    Line {
        number: usize,
        name: &'static str,
        found: String,
    },
    #[error("it has {found} lines below the root, and should have 4")]
    Lines { found: usize },
    #[error("its epoch is not known")]
    Epoch(#[source] EpochError),
    #[error("seat {name} can sign no notes")]
    SeatName { name: SeatName, source: NameError },
    #[error("its signatures do not hold")]
    Signatures(#[source] VerifyNoteError),
    #[error("{found} seats of epoch {epoch} have signed it, a quorum is {quorum}")]
    Quorum {
        found: usize,
        epoch: u64,
        quorum: u8,
    },
}

/// A checkpoint that a quorum has signed.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) size: u64,
    pub(crate) root: Digest,
    pub(crate) incarnation: u64,
    pub(crate) epoch: u64,
    pub(crate) ordinal: Ordinal,
    /// Digest of the chain of decided statements.
    pub(crate) chain: Digest,
    pub(crate) signers: Vec<(SeatNo, SeatName)>,
}

impl Checkpoint {
    /// The signers, for people.
    pub(crate) fn signed_by(&self) -> String {
        let names: Vec<_> = self.signers.iter().map(|(_, name)| name.as_str()).collect();
        names.join(", ")
    }
}

/// What the log of a cluster calls itself.
fn origin(cluster: Digest) -> String {
    format!("aegis/{cluster}")
}

/// Reads a checkpoint and checks that a quorum of the committee of its epoch has signed it.
pub(crate) fn verify(epochs: &Epochs, text: &[u8]) -> Result<Checkpoint, CheckpointFault> {
    let note = Note::parse(text).map_err(CheckpointFault::Note)?;
    let body = CheckpointBody::parse(note.text()).map_err(CheckpointFault::Body)?;
    let expected = origin(epochs.cluster());
    if body.origin() != expected {
        let found = body.origin().to_owned();
        return Err(CheckpointFault::Origin { found, expected });
    }
    let [incarnation, epoch, ordinal, chain] = body.extensions() else {
        let found = body.extensions().len();
        return Err(CheckpointFault::Lines { found });
    };
    let (incarnation, epoch) = (
        line(4, "incarnation", incarnation)?,
        line(5, "epoch", epoch)?,
    );
    let (ordinal, chain) = (line(6, "ordinal", ordinal)?, line(7, "chain", chain)?);
    Ok(Checkpoint {
        size: body.size(),
        root: *body.root(),
        incarnation,
        epoch,
        ordinal: Ordinal(ordinal),
        chain,
        signers: signers(epochs, epoch, &note)?,
    })
}

/// The value of a line `<name> <value>`, which has one spelling.
fn line<T: FromStr + ToString>(
    number: usize,
    name: &'static str,
    line: &str,
) -> Result<T, CheckpointFault> {
    let value = line
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(' '));
    value
        .and_then(|text| {
            text.parse::<T>()
                .ok()
                .filter(|value| value.to_string() == text)
        })
        .ok_or_else(|| CheckpointFault::Line {
            number,
            name,
            found: line.to_owned(),
        })
}

fn signers(
    epochs: &Epochs,
    epoch: u64,
    note: &Note,
) -> Result<Vec<(SeatNo, SeatName)>, CheckpointFault> {
    let known = epochs.committee(epoch).map_err(CheckpointFault::Epoch)?;
    let origin = origin(epochs.cluster());
    let keys = known.seats.iter().map(|seat| {
        let name = format!("{origin}/{}", seat.name);
        NoteKey::new(name, *seat.public_key.public_key()).map_err(|source| {
            let name = seat.name.clone();
            CheckpointFault::SeatName { name, source }
        })
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let signed = note.verify(&keys).map_err(CheckpointFault::Signatures)?;
    let seats: BTreeSet<_> = signed
        .iter()
        .filter_map(|key| known.committee.seat_of(key.public_key()))
        .collect();
    let (found, quorum) = (seats.len(), known.committee.seats().quorum());
    if found < usize::from(quorum) {
        return Err(CheckpointFault::Quorum {
            found,
            epoch,
            quorum,
        });
    }
    let named = |seat| (seat, known.name(seat).clone());
    Ok(seats.into_iter().map(named).collect())
}
