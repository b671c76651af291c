//! What must hold after every event, each under its name.

mod honesty;
mod progress;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use aegis_crypto::certificate::Certificate;
use aegis_crypto::{Committee, Digest, SeatNo, SeatSet};
use aegis_pbft::{
    Draft, Evidence, Head, Note, Phase, Scope, Sequence, StableCheckpoint, Unsafe, View,
};

use crate::history::History;
use crate::node::Node;
use crate::packet::Packet;

/// An invariant that does not hold, and in what.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// In what.
    pub detail: String,
}

/// What one event brought about.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Valid messages, and who sent them; its signer may be another.
    pub(crate) said: Vec<(SeatNo, Rc<Packet>)>,
    pub(crate) decided: Vec<(SeatNo, Arc<Certificate>)>,
    pub(crate) submitted: Vec<(SeatNo, Vec<u8>)>,
    pub(crate) stable: Vec<(SeatNo, StableCheckpoint)>,
    pub(crate) evidence: Vec<(SeatNo, Box<Evidence>)>,
    pub(crate) diverged: Vec<(SeatNo, Head, Head)>,
    pub(crate) refused: Vec<(SeatNo, Box<Draft>, Unsafe)>,
    pub(crate) notes: Vec<(SeatNo, Note)>,
    /// What the shell of a seat stands behind.
    pub(crate) accepted: Vec<(SeatNo, Sequence, Digest)>,
    pub(crate) opened: Vec<SeatNo>,
    pub(crate) touched: Vec<SeatNo>,
    pub(crate) woken: Vec<SeatNo>,
    pub(crate) to_self: Vec<SeatNo>,
}

/// Where they came about.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) committee: &'a Arc<Committee>,
    pub(crate) history: &'a History,
    pub(crate) nodes: &'a [Node],
    pub(crate) honest: SeatSet,
    pub(crate) now_ms: u64,
}

impl Stage<'_> {
    fn node(&self, seat: SeatNo) -> Option<&Node> {
        self.nodes.get(usize::from(seat.0))
    }

    /// The honest among seats, each once.
    fn honest_of(&self, seats: &[SeatNo]) -> impl Iterator<Item = SeatNo> {
        let seats: SeatSet = seats.iter().copied().collect();
        let honest = self.honest;
        seats.iter().filter(move |seat| honest.contains(*seat))
    }
}

/// What one seat voted in one phase: the first value and all that follow must be one.
type Votes = BTreeMap<(View, Sequence, Phase), Digest>;

/// What an honest seat has said over all its runs.
#[derive(Debug, Default)]
struct Said {
    votes: Votes,
    heads: BTreeMap<Sequence, Digest>,
    view_changes: BTreeMap<View, Digest>,
    new_views: BTreeMap<View, Digest>,
    /// The highest view that it asked for or began.
    promised: View,
    /// The newest commitment for each sequence number.
    committed: BTreeMap<Sequence, (View, Digest)>,
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub struct Invariants {
    /// Who committed to what, liars included, each signer once.
    commits: BTreeMap<(Sequence, View, Digest), SeatSet>,
    /// Everything for which a quorum of commits exists, or a certificate.
    certifiable: BTreeMap<Sequence, BTreeSet<Digest>>,
    /// What some honest seat's shell stood behind.
    accepted: BTreeSet<(Sequence, Digest)>,
    certificates: BTreeSet<Digest>,
    said: BTreeMap<SeatNo, Said>,
    /// What each honest seat said for the first time in this event.
    fresh: BTreeSet<SeatNo>,
    marks: BTreeMap<SeatNo, Marks>,
    stable: BTreeMap<Sequence, Head>,
    convicted: BTreeSet<SeatNo>,
    /// What each validator decided since it was started last.
    decided: BTreeSet<(SeatNo, Sequence)>,
    views_entered: u64,
    refusals: u64,
    events: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    low: Sequence,
    view: View,
    executed: Sequence,
}

type Rule = fn(&mut Invariants, &Facts, &Stage<'_>) -> Result<(), String>;

/// All of them, in the order in which they are checked.
const ALL: [(&str, Rule); 16] = [
    ("NoContradiction", Invariants::no_contradiction),
    ("Durability", Invariants::durability),
    ("NothingLeftOut", Invariants::nothing_left_out),
    ("CertificatesVerify", Invariants::certificates_verify),
    ("Agreement", Invariants::agreement),
    ("Validity", Invariants::validity),
    ("DecidedOnce", Invariants::decided_once),
    ("StableIsRecorded", Invariants::stable_is_recorded),
    ("OneHistory", Invariants::one_history),
    ("WatermarksMonotone", Invariants::watermarks_monotone),
    ("ExecutedInOrder", Invariants::executed_in_order),
    ("BoundedBuffers", Invariants::bounded_buffers),
    ("WakesAdvance", Invariants::wakes_advance),
    ("NothingRefused", Invariants::nothing_refused),
    ("HonestNotConvicted", Invariants::honest_not_convicted),
    ("NoneToOneself", Invariants::none_to_oneself),
];

impl Invariants {
    /// Checks every invariant against what an event brought about.
    pub(crate) fn check(&mut self, facts: &Facts, stage: &Stage<'_>) -> Result<(), Violation> {
        self.events += 1;
        for (invariant, rule) in ALL {
            rule(self, facts, stage).map_err(|detail| Violation { invariant, detail })?;
        }
        Ok(())
    }

    /// Seats that evidence convicts.
    #[must_use]
    pub const fn convicted(&self) -> &BTreeSet<SeatNo> {
        &self.convicted
    }

    /// Whether a seat decided a sequence number since it was started last.
    #[must_use]
    pub fn has_decided(&self, seat: u8, sequence: Sequence) -> bool {
        self.decided.contains(&(SeatNo(seat), sequence))
    }

    /// How often a view began somewhere.
    #[must_use]
    pub const fn views_entered(&self) -> u64 {
        self.views_entered
    }

    /// Events so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// What a quorum of commits, on the wire or in a certificate, exists for.
    #[must_use]
    pub fn certifiable(&self, sequence: Sequence) -> Vec<Digest> {
        let values = self.certifiable.get(&sequence);
        values.into_iter().flatten().copied().collect()
    }
}
