//! Liars that have what honest seats signed elsewhere, and liars that are too many.

use std::collections::BTreeMap;

use aegis_crypto::certificate::Certificate;
use aegis_pbft::{Message, Sequence, To, View};

use super::vote::place;
use super::{Actor, Hands};
use crate::forge::Forge;
use crate::history::History;
use crate::node::key;

/// Has the commits of all seats from before a restore, when the same ordinal was another
/// closing, and shows them in frames of today.
#[derive(Debug)]
pub struct Foreigner {
    early: bool,
}

impl Foreigner {
    /// Shows them also before the ledger has closed what now has the ordinal.
    #[must_use]
    pub const fn new(early: bool) -> Self {
        Self { early }
    }

    fn show(hands: &mut Hands<'_>, view: View, sequence: Sequence) {
        let mut scope = hands.forge.scope;
        scope.incarnation -= 1;
        let value = History::new(scope).plain(sequence);
        let mut signatures = BTreeMap::new();
        for seat in hands.committee.seats().iter() {
            let message = Forge::new(key(seat), scope, seat).commit(view, sequence, &value);
            if let Message::Commit(commit) = &message {
                signatures.insert(seat, commit.signature.0);
            }
            hands.send(To::All, message);
        }
        let statement = value.statement().to_owned();
        let committee = hands.committee;
        let certificate =
            Certificate::assemble(committee, view.0, sequence.0, statement, signatures);
        if let Ok(certificate) = certificate {
            let envelope = certificate.to_envelope(committee).into_bytes();
            hands.submit(envelope.clone());
            hands.send(To::All, Message::Certificate(envelope));
        }
    }
}

impl Actor for Foreigner {
    fn hear(&mut self, hands: &mut Hands<'_>, message: &Message) -> bool {
        if let Message::PrePrepare(proposal) = message {
            Self::show(hands, proposal.view, proposal.sequence);
        }
        true
    }

    fn tick(&mut self, hands: &mut Hands<'_>) {
        let view = hands.status.as_ref().map_or(View(0), |status| status.view);
        let closings = hands.history.closings();
        if self.early {
            Self::show(hands, view, Sequence(closings + 1));
        }
        if closings > 0 {
            Self::show(hands, view, Sequence(closings));
        }
    }
}

/// One of more liars than a committee bears: proposes two values, and votes for both.
#[derive(Debug)]
pub struct Colluder;

impl Actor for Colluder {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        let Message::PrePrepare(proposal) = &message else {
            return hands.send(to, message);
        };
        let (view, sequence) = (proposal.view, proposal.sequence);
        let other = hands.history.contested(sequence);
        let other = hands.forge.pre_prepare(view, sequence, &other);
        for seat in hands.committee.seats().iter() {
            let said = if seat.0 % 2 == 0 { &other } else { &message };
            if seat != hands.forge.seat {
                hands.send(To::Seat(seat), said.clone());
            }
        }
        self.hear(hands, &message);
    }

    fn hear(&mut self, hands: &mut Hands<'_>, message: &Message) -> bool {
        if let (Some((view, sequence)), Message::PrePrepare(_)) = (place(message), message) {
            let both = [
                hands.history.plain(sequence),
                hands.history.contested(sequence),
            ];
            for value in both {
                let prepare = hands.forge.prepare(view, sequence, value.whole());
                let commit = hands.forge.commit(view, sequence, &value);
                hands.send(To::All, prepare);
                hands.send(To::All, commit);
            }
        }
        true
    }
}
