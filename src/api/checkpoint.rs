//! The published checkpoint, read back from its note.

use aegis_crypto::Digest;
use aegis_crypto::note::{CheckpointBody, Note};
use aegis_ledger::Ordinal;

use crate::governance::SeatStanding;

/// A cosigned checkpoint of the transparency tree.
pub(crate) struct Published {
    /// The signed note, byte for byte.
    pub(crate) note: String,
    /// How many audit entries the tree has.
    pub(crate) size: u64,
    /// The tree's root.
    pub(crate) root: Digest,
    /// Whose seats have signed.
    pub(crate) epoch: u64,
    /// The last closing that it covers.
    pub(crate) ordinal: Ordinal,
}

impl Published {
    /// The newest checkpoint that a seat knows of.
    pub(crate) fn newest(seat: &SeatStanding) -> Option<Self> {
        let note = seat.checkpoint.clone()?;
        let read = Self::read(note);
        if read.is_none() {
            // The node has written it itself.
            tracing::error!("this node's own checkpoint cannot be read");
        }
        read
    }

    fn read(note: String) -> Option<Self> {
        let signed = Note::parse(note.as_bytes()).ok()?;
        let body = CheckpointBody::parse(signed.text()).ok()?;
        let number = |name: &str| {
            let line = body.extensions().iter();
            let mut found = line.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found.next()?.parse().ok()
        };
        Some(Self {
            size: body.size(),
            root: *body.root(),
            epoch: number("epoch")?,
            ordinal: Ordinal(number("ordinal")?),
            note,
        })
    }
}
