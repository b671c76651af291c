//! What a validator tells whoever measures it.

use std::time::Duration;

use aegis_crypto::SeatNo;
use aegis_pbft::{Phase, Reason, Status};

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Its node had sent more than it may.
    Flood,
    /// It is no message.
    Malformed,
    /// It belongs to another cluster, incarnation or epoch.
    OtherScope,
    /// A signature or a proof in it does not hold.
    Invalid,
    /// The node that it is for takes nothing.
    Unsent,
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Flood,
        Self::Malformed,
        Self::OtherScope,
        Self::Invalid,
        Self::Unsent,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Malformed => "malformed",
            Self::OtherScope => "other_scope",
            Self::Invalid => "invalid",
            Self::Unsent => "unsent",
        }
    }
}

/// Measures a validator. Called on its thread, so nothing here may wait.
pub trait Observer: Send + Sync {
    /// Messages were dropped.
    fn dropped(&self, why: Dropped, count: u64);
    /// Where the validator stands, after each round of its thread.
    fn stands(&self, status: &Status);
    /// A phase was reached so long after the ledger had the closing.
    fn reached(&self, phase: Phase, after: Duration);
    /// A closing was decided so long after the ledger had it.
    fn decided(&self, after: Duration);
    /// A closing's certificate was recorded so long after the ledger had it.
    fn recorded(&self, after: Duration);
    /// The validator asks for another view.
    fn changes_view(&self, reason: Reason);
    /// A validator contradicted itself.
    fn evidence(&self, seat: SeatNo);
    /// A proposal was refused because a field of it is not what this ledger says.
    fn disagrees(&self, primary: SeatNo, field: &str);
    /// A closing does not come out as this ledger says, recounted from its ballots.
    fn miscounted(&self);
    /// A quorum signed another state of the transparency log than this validator.
    fn diverged(&self);
    /// The safety module refused to sign.
    fn refused_to_sign(&self);
}
