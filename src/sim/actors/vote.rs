//! Liars that vote.

use std::collections::BTreeSet;

use aegis_crypto::{SeatNo, SecretKey};
use aegis_pbft::{Commit, Message, PrePrepare, Prepare, Sequence, To, View};

use super::{Actor, Hands};
use crate::forge::Forge;

/// Where a vote belongs.
pub(super) fn place(message: &Message) -> Option<(View, Sequence)> {
    match message {
        Message::PrePrepare(one) => {
            let PrePrepare { view, sequence, .. } = **one;
            Some((view, sequence))
        }
        Message::Prepare(Prepare { view, sequence, .. })
        | Message::Commit(Commit { view, sequence, .. }) => Some((*view, *sequence)),
        _ => None,
    }
}

/// Says nothing at all.
#[derive(Debug)]
pub struct Silent;

impl Actor for Silent {
    fn say(&mut self, _hands: &mut Hands<'_>, _to: To, _message: Message) {}

    fn hear(&mut self, _hands: &mut Hands<'_>, _message: &Message) -> bool {
        false
    }
}

/// Says everything three times, as if three votes were more than one.
#[derive(Debug)]
pub struct Repeater;

impl Actor for Repeater {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        for _ in 0..3 {
            hands.send(to, message.clone());
        }
    }
}

/// Votes as every other seat too, with its own key.
#[derive(Debug)]
pub struct Impersonator;

impl Actor for Impersonator {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        let me = hands.forge.seat;
        if let Some((view, sequence)) = place(&message) {
            let value = hands.history.contested(sequence);
            for seat in hands.committee.seats().iter().filter(|seat| *seat != me) {
                hands.forge.seat = seat;
                let prepare = hands.forge.prepare(view, sequence, value.whole());
                let commit = hands.forge.commit(view, sequence, &value);
                let proposal = hands.forge.pre_prepare(view, sequence, &value);
                let change = hands.forge.view_change(view.next(), None, Vec::new());
                hands.send(to, prepare);
                hands.send(to, commit);
                hands.send(to, proposal);
                hands.send(to, Message::ViewChange(change));
            }
        }
        hands.forge.seat = me;
        hands.send(to, message);
    }
}

/// Votes with a key that sits in no seat, as every seat and as one that does not exist.
#[derive(Debug)]
pub struct Outsider;

impl Actor for Outsider {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        if let Some((view, sequence)) = place(&message) {
            let value = hands.history.contested(sequence);
            let count = hands.committee.seats().count();
            for seat in (0..=count).chain([31, 32, 200, 255]).map(SeatNo) {
                let forge = Forge::new(SecretKey::from_seed(&[99; 32]), hands.forge.scope, seat);
                hands.send(to, forge.prepare(view, sequence, value.whole()));
                hands.send(to, forge.commit(view, sequence, &value));
            }
        }
        hands.send(to, message);
    }
}

/// Signs for the epoch before, for another incarnation and for another cluster, in frames
/// that say so and in frames that do not.
#[derive(Debug)]
pub struct OldEpoch;

impl Actor for OldEpoch {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        let scope = hands.forge.scope;
        let mut old = scope;
        old.epoch -= 1;
        let mut restored = scope;
        restored.incarnation += 1;
        let mut elsewhere = scope;
        elsewhere.cluster = aegis_crypto::Digest::of("another cluster");
        if let Some((view, sequence)) = place(&message) {
            let value = hands.history.contested(sequence);
            for other in [old, restored, elsewhere] {
                hands.forge.scope = other;
                let forged = [
                    hands.forge.prepare(view, sequence, value.whole()),
                    hands.forge.pre_prepare(view, sequence, &value),
                    Message::ViewChange(hands.forge.view_change(view.next(), None, Vec::new())),
                ];
                for forged in forged {
                    hands.send(to, forged.clone());
                    hands.forge.scope = scope;
                    hands.send(to, forged);
                    hands.forge.scope = other;
                }
            }
        }
        hands.forge.scope = scope;
        hands.send(to, message);
    }
}

/// Votes for both of two values, in every phase, for everything that it hears of.
#[derive(Debug, Default)]
pub struct DoubleVoter {
    voted: BTreeSet<(View, Sequence)>,
}

impl Actor for DoubleVoter {
    fn hear(&mut self, hands: &mut Hands<'_>, message: &Message) -> bool {
        let Some((view, sequence)) = place(message) else {
            return true;
        };
        if self.voted.len() < 4_096 && self.voted.insert((view, sequence)) {
            let values = [
                hands.history.plain(sequence),
                hands.history.contested(sequence),
            ];
            for value in values {
                let prepare = hands.forge.prepare(view, sequence, value.whole());
                hands.send(To::All, prepare);
                let commit = hands.forge.commit(view, sequence, &value);
                hands.send(To::All, commit);
            }
        }
        true
    }
}

/// Follows the protocol, but lets only some seats know, and each time others.
#[derive(Debug)]
pub struct Withholder {
    mask: u64,
}

impl Withholder {
    /// Begins with the seats of a mask.
    #[must_use]
    pub const fn new(mask: u64) -> Self {
        Self { mask }
    }
}

impl Actor for Withholder {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        let me = hands.forge.seat;
        for seat in hands.committee.seats().iter().filter(|seat| *seat != me) {
            let meant = to == To::All || to == To::Seat(seat);
            if meant && self.mask >> (seat.0 % 32) & 1 == 1 {
                hands.send(To::Seat(seat), message.clone());
            }
        }
    }

    fn tick(&mut self, hands: &mut Hands<'_>) {
        if hands.random.chance(100) {
            self.mask = hands.random.next();
        }
    }
}

/// Follows the protocol, and is dead and deaf from some moment on.
#[derive(Debug)]
pub struct Deserter {
    /// When it falls silent.
    pub at_ms: u64,
}

impl Actor for Deserter {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        if hands.now_ms < self.at_ms {
            hands.send(to, message);
        }
    }

    fn hear(&mut self, hands: &mut Hands<'_>, _message: &Message) -> bool {
        hands.now_ms < self.at_ms
    }
}

/// Asks for views far ahead, again and again.
#[derive(Debug)]
pub struct Hasty {
    ahead: u64,
}

impl Hasty {
    /// Asks for a view so far ahead.
    #[must_use]
    pub const fn new(ahead: u64) -> Self {
        Self { ahead }
    }
}

impl Actor for Hasty {
    fn tick(&mut self, hands: &mut Hands<'_>) {
        let view = hands.status.as_ref().map_or(View(0), |status| status.view);
        if hands.random.chance(200) {
            let ahead = hands.random.between(1, self.ahead);
            let wish = View(view.0 + ahead);
            let change = hands.forge.view_change(wish, None, Vec::new());
            hands.send(To::All, Message::ViewChange(change));
        }
    }
}
