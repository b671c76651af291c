//! What can go wrong without anybody lying.

use aegis_pbft::Sequence;

use crate::history::Opinion;
use crate::net::Weather;

/// Something that happens to the world.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A seat's process ends, and its disk keeps what it acknowledged.
    PowerLoss(u8),
    /// A seat's next write fails; whether the batch is on the medium is for chance to say.
    FailWrite {
        /// Whose.
        seat: u8,
        /// Whether it is on the medium all the same.
        kept: bool,
    },
    /// A seat that is down starts.
    Restart(u8),
    /// A seat's ledger stands still.
    Pause(u8),
    /// It goes on.
    Resume(u8),
    /// Only seats of one group reach each other.
    Partition(Vec<Vec<u8>>),
    /// Only one seat reaches the others.
    Star(u8),
    /// The way from the first seat to the second is cut.
    OneWay(u8, u8),
    /// Every link works again.
    Heal,
    /// Every link behaves like this from now on.
    Weather(Weather),
    /// The ledger closes a proposal.
    Close,
    /// A seat's private checks of a closing come to this.
    Opinion(u8, Sequence, Opinion),
}
