//! Liars that send bytes, and what others said.

use std::sync::Arc;

use aegis_crypto::SeatNo;
use aegis_pbft::{
    Frame, MESSAGE_BYTES_MAX, Message, NewView, Prepare, Sequence, Signature, To, View, ViewChange,
};

use super::{Actor, Hands};

/// Sends spoiled bytes and messages whose parts do not fit together.
#[derive(Debug)]
pub struct Fuzzer;

impl Fuzzer {
    fn spoil(hands: &mut Hands<'_>, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=hands.random.below(4) {
            let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let at = usize::try_from(hands.random.below(len)).unwrap_or(0);
            let byte = u8::try_from(hands.random.below(256)).unwrap_or(0);
            match hands.random.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.push(byte),
                2 => bytes.insert(at, byte),
                // What is read as a length becomes a huge one.
                3 => {
                    let end = bytes.len().min(at + 9);
                    bytes.splice(at..end, [0xFF; 9]);
                }
                _ => {
                    if let Some(place) = bytes.get_mut(at) {
                        *place = byte;
                    }
                }
            }
        }
        bytes
    }

    /// Well-formed and wrong.
    fn misfits(hands: &Hands<'_>, message: &Message) -> Vec<Message> {
        let forge = &hands.forge;
        let signature = Signature([7; 64]);
        let mut misfits = vec![
            Message::Prepare(Prepare {
                view: View(u64::MAX),
                sequence: Sequence(u64::MAX),
                digest: aegis_crypto::Digest::ZERO,
                seat: SeatNo(255),
                signature,
            }),
            forge.prepare(
                View(u64::MAX),
                Sequence(u64::MAX),
                aegis_crypto::Digest::ZERO,
            ),
            forge.prepare(View(0), Sequence(0), aegis_crypto::Digest::ZERO),
            Message::ViewChange(forge.view_change(View(u64::MAX), None, Vec::new())),
            Message::ViewChange(forge.view_change(View(0), None, Vec::new())),
            forge.new_view(View(0), Vec::new(), &[]),
            Message::Certificate(vec![0xFF; 70_000]),
            Message::Certificate(Vec::new()),
        ];
        match message {
            Message::ViewChange(change) => misfits.extend(Self::changes(hands, change)),
            Message::NewView(new_view) => {
                let mut other = NewView::clone(new_view);
                other.view_changes.reverse();
                misfits.push(Message::NewView(Arc::new(other)));
                let mut other = NewView::clone(new_view);
                other.proposals.reverse();
                other.proposals.extend(other.proposals.clone());
                misfits.push(Message::NewView(Arc::new(other)));
            }
            _ => {}
        }
        misfits
    }

    fn changes(hands: &Hands<'_>, change: &ViewChange) -> Vec<Message> {
        let ViewChange {
            view,
            stable,
            prepared,
            ..
        } = change;
        let mut reversed = prepared.clone();
        reversed.reverse();
        let mut doubled = prepared.clone();
        doubled.extend(prepared.iter().cloned());
        [reversed, doubled]
            .into_iter()
            .map(|prepared| hands.forge.view_change(*view, stable.clone(), prepared))
            .map(Message::ViewChange)
            .collect()
    }
}

impl Actor for Fuzzer {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        let scope = hands.forge.scope;
        for message in Self::misfits(hands, &message) {
            if hands.random.chance(200) {
                hands.send(to, message);
            }
        }
        let bytes = Frame {
            scope,
            message: message.clone(),
        }
        .encode();
        for _ in 0..3 {
            let spoiled = Self::spoil(hands, bytes.clone());
            hands.send_raw(to, spoiled);
        }
        if hands.random.chance(2) {
            hands.send_raw(to, vec![0; MESSAGE_BYTES_MAX + 1]);
        }
        hands.send(to, message);
    }
}

/// Says what was said before, by anybody, to anybody, at any time.
#[derive(Debug, Default)]
pub struct Replayer {
    heard: Vec<Message>,
}

/// Messages that a replayer remembers.
const HEARD_MAX: usize = 512;

impl Actor for Replayer {
    fn hear(&mut self, hands: &mut Hands<'_>, message: &Message) -> bool {
        if self.heard.len() < HEARD_MAX {
            self.heard.push(message.clone());
        } else {
            let at = hands.random.below(512);
            if let Some(place) = self.heard.get_mut(usize::try_from(at).unwrap_or(0)) {
                *place = message.clone();
            }
        }
        true
    }

    fn tick(&mut self, hands: &mut Hands<'_>) {
        for _ in 0..5 {
            if let Some(message) = hands.random.pick(&self.heard).cloned() {
                hands.send(To::All, message);
            }
        }
    }
}
