//! Validators that lie. Each behaviour is a type with a name.
//!
//! An actor stands between a seat's own validator, its *shadow*, and the network: it
//! hears first what comes in, may alter, hold back or drop what the shadow says, and may
//! sign anything with the seat's real key.

mod foreign;
mod fuzz;
mod planted;
mod primary;
mod vote;

use std::fmt;
use std::sync::Arc;

use aegis_crypto::Committee;
use aegis_pbft::{Message, Safety, Scope, Status, To};

use crate::forge::Forge;
use crate::history::History;
use crate::random::Random;

pub use foreign::{Colluder, Foreigner};
pub use fuzz::{Fuzzer, Replayer};
pub use planted::{
    Amnesiac, Backslider, Bypass, Eager, FewSigners, Miscounter, Omitter, Regressor,
};
pub use primary::{
    Delayer, Equivocator, LyingPrimary, Padder, PreparingPrimary, SecondProposal, Stripper,
    Turncoat,
};
pub use vote::{
    Deserter, DoubleVoter, Hasty, Impersonator, OldEpoch, Outsider, Repeater, Silent, Withholder,
};

/// Somebody who holds a seat and does not follow the protocol.
pub trait Actor: fmt::Debug {
    /// The shadow wants this said.
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        hands.send(to, message);
    }

    /// This came in. Says whether the shadow shall hear it too.
    fn hear(&mut self, _hands: &mut Hands<'_>, _message: &Message) -> bool {
        true
    }

    /// Some time has passed.
    fn tick(&mut self, _hands: &mut Hands<'_>) {}

    /// Whether it poses as honest: a planted bug, which the invariants must find.
    fn poses(&self) -> bool {
        false
    }
}

/// What leaves a liar's hands.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message {
        to: To,
        message: Message,
        scope: Scope,
    },
    Raw {
        to: To,
        bytes: Vec<u8>,
    },
    Submit(Vec<u8>),
}

/// What an actor sees and can do.
#[derive(Debug)]
pub struct Hands<'a> {
    /// Its pen.
    pub forge: &'a mut Forge,
    /// The world's time.
    pub now_ms: u64,
    /// Chance.
    pub random: &'a mut Random,
    /// The whole ledger, lags of others included.
    pub history: &'a History,
    /// The committee.
    pub committee: &'a Arc<Committee>,
    /// Where the shadow stands, while it runs.
    pub status: Option<Status>,
    /// What the shadow has said, while it runs.
    pub safety: Option<&'a Safety>,
    pub(crate) out: Vec<Outgoing>,
}

impl Hands<'_> {
    /// Sends a message in the pen's scope.
    pub fn send(&mut self, to: To, message: Message) {
        let scope = self.forge.scope;
        self.out.push(Outgoing::Message { to, message, scope });
    }

    /// Sends any bytes.
    pub fn send_raw(&mut self, to: To, bytes: Vec<u8>) {
        self.out.push(Outgoing::Raw { to, bytes });
    }

    /// Submits a certificate to the ledger.
    pub fn submit(&mut self, envelope: Vec<u8>) {
        self.out.push(Outgoing::Submit(envelope));
    }
}

/// Any of the liars that make sense without a script.
#[must_use]
pub fn any(random: &mut Random) -> Box<dyn Actor> {
    match random.below(19) {
        0 => Box::new(Silent),
        1 => Box::new(Equivocator),
        2 => Box::new(Repeater),
        3 => Box::new(Impersonator),
        4 => Box::new(Outsider),
        5 => Box::new(OldEpoch),
        6 => Box::new(Fuzzer),
        7 => Box::new(PreparingPrimary),
        8 => Box::new(Delayer::new(random.between(50, 900))),
        9 => Box::new(Replayer::default()),
        10 => Box::new(Padder),
        11 => Box::new(SecondProposal),
        12 => Box::new(Stripper {
            proposes: random.chance(500),
        }),
        13 => Box::new(DoubleVoter::default()),
        14 => Box::new(Withholder::new(random.next())),
        15 => Box::new(LyingPrimary),
        16 => Box::new(Foreigner::new(random.chance(500))),
        17 => Box::new(Turncoat {
            at_ms: random.below(10_000),
        }),
        _ => Box::new(Hasty::new(random.between(1, 30))),
    }
}
