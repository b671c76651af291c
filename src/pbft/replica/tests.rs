//! Vote counting against an oracle that keeps every message and recomputes everything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::testing::{Seat, committee, head, scope, value};

/// The sequence numbers that the messages are about.
const SEQUENCES: std::ops::RangeInclusive<u64> = 1..=3;

/// Something that is said to the replica. Values are numbered, views are 0 and 1.
#[derive(Clone, Copy, Debug)]
enum Said {
    PrePrepare {
        view: u64,
        sequence: u64,
    },
    Prepare {
        seat: u8,
        view: u64,
        sequence: u64,
        which: u8,
    },
    Commit {
        seat: u8,
        view: u64,
        sequence: u64,
        which: u8,
    },
    Checkpoint {
        seat: u8,
        sequence: u64,
        which: u8,
    },
    /// View 1 begins, with nothing prepared.
    NewView,
}

fn named(sequence: u64, which: u8) -> Value {
    value(sequence, &format!("outcome {which}"))
}

fn count(seats: u8) -> aegis_crypto::Seats {
    aegis_crypto::Seats::new(seats.into()).unwrap()
}

/// What the primary of a view proposes; one that contradicts itself loses its view, which
/// a transcript tells.
fn proposed(view: u64, sequence: u64) -> u8 {
    u8::try_from((view + sequence) % 2).unwrap()
}

/// A replica, and all that it was told and said, in order.
struct Listener {
    me: u8,
    seats: u8,
    replica: Replica,
    heard: Vec<Said>,
}

impl Listener {
    fn new(me: u8, seats: u8) -> Self {
        let committee = committee(seats);
        let (safety, _) = Safety::restore(SeatNo(me), scope(), committee.clone(), &[]).unwrap();
        let base = Base::default();
        let (replica, _) = Replica::start(Settings::default(), committee, base, &safety, Time(0));
        let mut listener = Self {
            me,
            seats,
            replica,
            heard: Vec::new(),
        };
        for sequence in SEQUENCES {
            let value = named(sequence, proposed(0, sequence));
            listener.step(Input::Request(Request {
                sequence: Sequence(sequence),
                value,
                tree_size: 1,
                tree_root: Digest::of("tree"),
                objected: false,
            }));
        }
        listener
    }

    fn primary(&self, view: u64) -> u8 {
        u8::try_from(view % u64::from(self.seats)).unwrap()
    }

    /// Takes a step, grants all that is asked for, and accepts all that is to be judged.
    fn step(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.replica.step(Time(0), input) {
                match output {
                    Output::Sign(draft) => {
                        let Some(message) = Seat::unsigned(self.me).say(draft) else {
                            continue;
                        };
                        self.note_own(&message);
                        inputs.push(Input::Own(Verified::own(message).unwrap()));
                    }
                    Output::Judge {
                        sequence, value, ..
                    } => inputs.push(Input::Verdict {
                        sequence,
                        digest: value.digest(),
                        acceptable: true,
                    }),
                    _ => {}
                }
            }
        }
    }

    /// What this seat said counts like what it heard.
    fn note_own(&mut self, message: &Message) {
        let which = |sequence: Sequence, digest: Digest| {
            (0..=3)
                .find(|which| named(sequence.0, *which).digest() == digest)
                .unwrap()
        };
        let seat = self.me;
        self.heard.push(match message {
            Message::PrePrepare(message) => {
                let (view, sequence) = (message.view.0, message.sequence.0);
                assert_eq!(
                    message.value.digest(),
                    named(sequence, proposed(0, sequence)).digest()
                );
                Said::PrePrepare { view, sequence }
            }
            Message::Prepare(message) => Said::Prepare {
                seat,
                view: message.view.0,
                sequence: message.sequence.0,
                which: which(message.sequence, message.digest),
            },
            Message::Commit(message) => Said::Commit {
                seat,
                view: message.view.0,
                sequence: message.sequence.0,
                which: which(message.sequence, message.value.digest()),
            },
            _ => return,
        });
    }

    /// Tells the replica something, unless it would have to be its own.
    fn hear(&mut self, said: Said) {
        let known = match said {
            Said::PrePrepare { view, sequence } => {
                let primary = self.primary(view);
                let value = named(sequence, proposed(view, sequence));
                Known::PrePrepare(Seat::unsigned(primary).pre_prepare(view, sequence, &value))
            }
            Said::Prepare {
                seat,
                view,
                sequence,
                which,
            } => {
                let digest = named(sequence, which).digest();
                Known::Prepare(Seat::unsigned(seat).prepare(view, sequence, digest))
            }
            Said::Commit {
                seat,
                view,
                sequence,
                which,
            } => {
                let value = named(sequence, which);
                Known::Commit(Seat::unsigned(seat).commit(view, sequence, &value))
            }
            Said::Checkpoint {
                seat,
                sequence,
                which,
            } => {
                let head = head(sequence, &which.to_string());
                Known::Checkpoint(Seat::unsigned(seat).checkpoint(head))
            }
            Said::NewView => {
                let changes = (0..count(self.seats).quorum())
                    .map(|seat| Seat::unsigned(seat).view_change(1, None, vec![]))
                    .collect();
                Known::NewView(Seat::unsigned(self.primary(1)).begin(1, changes))
            }
        };
        let signer = known.signer(count(self.seats));
        if let Said::NewView = said {
            self.heard.push(said);
            let input = if signer == Some(SeatNo(self.me)) {
                Input::Own(Verified(known))
            } else {
                Input::Received(Verified(known))
            };
            return self.step(input);
        }
        if signer != Some(SeatNo(self.me)) {
            self.heard.push(said);
            self.step(Input::Received(Verified(known)));
        }
    }
}

/// The definitions, over everything that was said so far.
struct Oracle<'a> {
    seats: u8,
    /// Which value the primary of view 1 proposes, if that is the replica itself.
    me: u8,
    heard: &'a [Said],
}

impl Oracle<'_> {
    fn quorum(&self) -> usize {
        count(self.seats).quorum().into()
    }

    /// When view 1 began.
    fn began(&self) -> Option<usize> {
        self.heard
            .iter()
            .position(|said| matches!(said, Said::NewView))
    }

    fn view(&self) -> u64 {
        u64::from(self.began().is_some())
    }

    /// `committed`: a quorum of seats whose commit of their newest view, the first of
    /// that, is for one value of one view. The earliest such value stands.
    fn committed(&self, upto: usize, sequence: u64) -> Option<u8> {
        let mut newest: BTreeMap<u8, (u64, u8)> = BTreeMap::new();
        self.heard[..upto].iter().find_map(|said| {
            let Said::Commit {
                seat,
                view,
                sequence: about,
                which,
            } = *said
            else {
                return None;
            };
            let known = newest.get(&seat);
            if about == sequence && known.is_none_or(|(newer, _)| *newer < view) {
                newest.insert(seat, (view, which));
            }
            let mut votes = newest.values();
            let same = |vote: (u64, u8)| newest.values().filter(|other| **other == vote).count();
            votes
                .find(|vote| same(**vote) >= self.quorum())
                .map(|(_, which)| *which)
        })
    }

    /// `prepared` in the view: the proposal, and a quorum with its primary of backups
    /// whose first prepare of the view agrees.
    fn prepared(&self, sequence: u64) -> Option<u8> {
        let view = self.view();
        let primary = u8::try_from(view % u64::from(self.seats)).unwrap();
        let place = self.heard.iter().position(|said| {
            matches!(said, Said::PrePrepare { view: in_view, sequence: about }
                if (*in_view, *about) == (view, sequence))
        })?;
        let own_proposal = primary == self.me;
        let which = if own_proposal {
            proposed(0, sequence)
        } else {
            proposed(view, sequence)
        };
        // A proposal against what is decided already is not agreed to. One that came
        // before its view is looked at when that begins.
        let place = place.max(self.began().unwrap_or(0));
        if self
            .committed(place, sequence)
            .is_some_and(|decided| decided != which && !own_proposal)
        {
            return None;
        }
        let mut first: BTreeMap<u8, u8> = BTreeMap::new();
        for said in self.heard {
            if let Said::Prepare {
                seat,
                view: in_view,
                sequence: about,
                which,
            } = *said
                && (in_view, about) == (view, sequence)
                && seat != primary
            {
                first.entry(seat).or_insert(which);
            }
        }
        let agreeing = first.values().filter(|agreed| **agreed == which).count();
        (agreeing + 1 >= self.quorum()).then_some(which)
    }

    /// The newest sequence number for which a quorum of seats signed one head first.
    fn stable(&self) -> u64 {
        let mut first: BTreeMap<(u64, u8), u8> = BTreeMap::new();
        for said in self.heard {
            if let Said::Checkpoint {
                seat,
                sequence,
                which,
            } = *said
            {
                first.entry((sequence, seat)).or_insert(which);
            }
        }
        SEQUENCES
            .filter(|sequence| {
                let heads: BTreeSet<u8> = first.values().copied().collect();
                heads.iter().any(|head| {
                    let agreeing = first
                        .iter()
                        .filter(|((about, _), signed)| about == sequence && *signed == head);
                    agreeing.count() >= self.quorum()
                })
            })
            .max()
            .unwrap_or(0)
    }
}

/// Seats, views and values are few, so that quorums are likely and so are repetitions.
fn said(seats: u8) -> impl Strategy<Value = Said> {
    let (seat, view, which) = (0..seats, 0..2_u64, prop_oneof![4 => 0..2_u8, 1 => 2..4_u8]);
    let vote = (seat.clone(), view.clone(), SEQUENCES, which.clone());
    prop_oneof![
        2 => (view, SEQUENCES).prop_map(|(view, sequence)| Said::PrePrepare { view, sequence }),
        10 => vote.clone().prop_map(|(seat, view, sequence, which)| Said::Prepare {
            seat, view, sequence, which
        }),
        10 => vote.prop_map(|(seat, view, sequence, which)| Said::Commit {
            seat, view, sequence, which
        }),
        3 => (seat, SEQUENCES, 0..2_u8).prop_map(|(seat, sequence, which)| Said::Checkpoint {
            seat, sequence, which
        }),
        1 => Just(Said::NewView),
    ]
}

fn room() -> impl Strategy<Value = (u8, u8, Vec<Said>)> {
    (1..=10_u8).prop_flat_map(|seats| {
        (
            0..seats,
            Just(seats),
            prop::collection::vec(said(seats), 0..150),
        )
    })
}

proptest! {
    #[test]
    fn votes_are_counted_as_the_definitions_say((me, seats, all) in room()) {
        let mut listener = Listener::new(me, seats);
        let mut entered = false;
        for said in all {
            if matches!(said, Said::NewView) && std::mem::replace(&mut entered, true) {
                continue;
            }
            listener.hear(said);
            let oracle = Oracle { seats, me, heard: &listener.heard };
            prop_assert_eq!(listener.replica.low.0, oracle.stable(), "after {:?}", said);
            prop_assert_eq!(listener.replica.view.0, oracle.view());
            for sequence in SEQUENCES.filter(|sequence| *sequence > oracle.stable()) {
                let slot = &listener.replica.slots[&Sequence(sequence)];
                let committing = slot.committing.then(|| {
                    let proof = slot.prepared.as_ref().unwrap();
                    assert_eq!(proof.view(), listener.replica.view);
                    proof.value().digest()
                });
                let prepared = oracle.prepared(sequence);
                prop_assert_eq!(
                    committing,
                    prepared.map(|which| named(sequence, which).digest()),
                    "prepared {} after {:?}", sequence, said
                );
                let decided = slot.decided.as_ref().map(|decided| decided.digest);
                let committed = oracle.committed(listener.heard.len(), sequence);
                prop_assert_eq!(
                    decided,
                    committed.map(|which| named(sequence, which).digest()),
                    "decided {} after {:?}", sequence, said
                );
            }
        }
    }
}

/// What comes for a window that is far away is not kept, and what is kept is bounded.
#[test]
fn early_messages_are_kept_within_a_bound() {
    let mut listener = Listener::new(1, 4);
    let bound = crate::settings::LATER_PER_SEAT_MAX;
    for sequence in 1..=300 {
        listener.hear(Said::Prepare {
            seat: 2,
            view: 1,
            sequence: sequence % 128 + 1,
            which: 0,
        });
        listener.hear(Said::Commit {
            seat: 3,
            view: 0,
            sequence: WINDOW + sequence,
            which: 0,
        });
    }
    assert_eq!(listener.replica.later[&SeatNo(2)].len(), bound);
    let kept = usize::try_from(WINDOW).unwrap();
    assert_eq!(listener.replica.later[&SeatNo(3)].len(), kept);
}
