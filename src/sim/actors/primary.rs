//! Liars that lead a view.

use std::sync::Arc;

use aegis_pbft::{Frame, Message, NewView, PrePrepare, To, ViewChange};

use super::{Actor, Hands};

/// Proposes one value first to some and another one first to the others, both of which
/// everybody would accept.
#[derive(Debug)]
pub struct Equivocator;

impl Actor for Equivocator {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        let Message::PrePrepare(proposal) = &message else {
            return hands.send(to, message);
        };
        let PrePrepare { view, sequence, .. } = **proposal;
        let other = hands.history.contested(sequence);
        let other = hands.forge.pre_prepare(view, sequence, &other);
        let me = hands.forge.seat;
        let others: Vec<_> = hands
            .committee
            .seats()
            .iter()
            .filter(|seat| *seat != me)
            .collect();
        for (index, seat) in others.into_iter().enumerate() {
            let said = if index % 2 == 0 {
                [&message, &other]
            } else {
                [&other, &message]
            };
            for said in said {
                hands.send(To::Seat(seat), said.clone());
            }
        }
    }
}

/// Proposes another value than the ledger's, which everybody would accept, and does so
/// too where a value was prepared before.
#[derive(Debug)]
pub struct SecondProposal;

impl Actor for SecondProposal {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        match &message {
            Message::PrePrepare(proposal) => {
                let PrePrepare { view, sequence, .. } = **proposal;
                let other = hands.history.contested(sequence);
                let other = hands.forge.pre_prepare(view, sequence, &other);
                hands.send(to, other);
            }
            Message::NewView(new_view) => {
                let values: Vec<_> = new_view
                    .proposals
                    .iter()
                    .map(|one| (one.sequence, hands.history.contested(one.sequence)))
                    .collect();
                let changes = new_view.view_changes.clone();
                let other = hands.forge.new_view(new_view.view, changes, &values);
                hands.send(to, other);
                for (sequence, value) in values {
                    let other = hands.forge.pre_prepare(new_view.view, sequence, &value);
                    hands.send(to, other);
                }
            }
            _ => hands.send(to, message),
        }
    }
}

/// Proposes the ledger's value until some moment, and another one, which everybody would
/// accept, for the same sequence numbers from then on.
#[derive(Debug)]
pub struct Turncoat {
    /// When it changes its mind.
    pub at_ms: u64,
}

impl Actor for Turncoat {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        match &message {
            Message::PrePrepare(proposal) if hands.now_ms >= self.at_ms => {
                let PrePrepare { view, sequence, .. } = **proposal;
                let other = hands.history.contested(sequence);
                let other = hands.forge.pre_prepare(view, sequence, &other);
                hands.send(to, other);
            }
            _ => hands.send(to, message),
        }
    }
}

/// Proposes what no ledger says.
#[derive(Debug)]
pub struct LyingPrimary;

impl Actor for LyingPrimary {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        let Message::PrePrepare(proposal) = &message else {
            return hands.send(to, message);
        };
        let PrePrepare { view, sequence, .. } = **proposal;
        let lie = hands.history.value(sequence, "rejected");
        let proposal = hands.forge.pre_prepare(view, sequence, &lie);
        let commit = hands.forge.commit(view, sequence, &lie);
        hands.send(to, proposal);
        hands.send(to, commit);
    }
}

/// Agrees to its own proposals, as if it were two.
#[derive(Debug)]
pub struct PreparingPrimary;

impl Actor for PreparingPrimary {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        if let Message::PrePrepare(proposal) = &message {
            let PrePrepare { view, sequence, .. } = **proposal;
            let digest = proposal.value.whole();
            let prepare = hands.forge.prepare(view, sequence, digest);
            hands.send(to, prepare);
        }
        hands.send(to, message);
    }
}

/// Holds every proposal back for a while.
#[derive(Debug)]
pub struct Delayer {
    delay_ms: u64,
    held: Vec<(u64, To, Message)>,
}

impl Delayer {
    /// Holds proposals back for so long.
    #[must_use]
    pub const fn new(delay_ms: u64) -> Self {
        Self {
            delay_ms,
            held: Vec::new(),
        }
    }
}

impl Actor for Delayer {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        if matches!(message, Message::PrePrepare(_) | Message::NewView(_)) {
            let due = hands.now_ms + self.delay_ms;
            self.held.push((due, to, message));
        } else {
            hands.send(to, message);
        }
    }

    fn tick(&mut self, hands: &mut Hands<'_>) {
        let now = hands.now_ms;
        for (_, to, message) in self.held.extract_if(.., |(due, _, _)| *due <= now) {
            hands.send(to, message);
        }
    }
}

/// Begins its views on too few view changes: one of them twice, or for another view.
#[derive(Debug)]
pub struct Padder;

impl Padder {
    fn padded(new_view: &NewView, hands: &Hands<'_>) -> Vec<Vec<Arc<ViewChange>>> {
        let honest = &new_view.view_changes;
        let mut twice = honest.clone();
        if let (Some(first), Some(last)) = (honest.first(), twice.last_mut()) {
            *last = first.clone();
        }
        let mut resigned = honest.clone();
        if let Some(last) = resigned.last_mut() {
            *last = hands.forge.view_change(new_view.view, None, Vec::new());
        }
        resigned.extend(resigned.last().cloned());
        let mut elsewhere = honest.clone();
        for change in &mut elsewhere {
            if change.seat == hands.forge.seat {
                *change = hands
                    .forge
                    .view_change(new_view.view.next(), None, Vec::new());
            }
        }
        let few = honest.iter().skip(1).cloned().collect();
        vec![twice, resigned, elsewhere, few, Vec::new()]
    }
}

impl Actor for Padder {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        let Message::NewView(new_view) = &message else {
            return hands.send(to, message);
        };
        let values: Vec<_> = new_view
            .proposals
            .iter()
            .map(|one| (one.sequence, one.value.clone()))
            .collect();
        for changes in Self::padded(new_view, hands) {
            for values in [values.as_slice(), &[]] {
                let padded = hands.forge.new_view(new_view.view, changes.clone(), values);
                hands.send(to, padded);
            }
        }
    }
}

/// Spoils what is attached to values on its way, its own proposals perhaps excepted.
#[derive(Debug)]
pub struct Stripper {
    /// Whether its own proposals go out as they should.
    pub proposes: bool,
}

impl Actor for Stripper {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        let spoils = match message {
            Message::PrePrepare(_) => !self.proposes,
            Message::ViewChange(_) | Message::NewView(_) => true,
            _ => false,
        };
        if !spoils {
            return hands.send(to, message);
        }
        let scope = hands.forge.scope;
        let mut bytes = Frame { scope, message }.encode();
        let attached = b"objections to ";
        let found: Vec<usize> = bytes
            .windows(attached.len())
            .enumerate()
            .filter(|(_, window)| window == attached)
            .map(|(at, _)| at)
            .collect();
        for at in found {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = b'x';
            }
        }
        hands.send_raw(to, bytes);
    }
}
