//! One validator's part in the agreement: a pure function from inputs to outputs.
//!
//! It is the protocol of Castro and Liskov with signatures (OSDI '99, section 4; TOCS
//! '02, section 3), and departs from it where the head of the crate says so. Nothing in
//! here sends, signs, writes or reads a clock: what is to be said leaves as a [`Draft`],
//! and comes back as this seat's own message when the safety module has granted it, so
//! that a vote counts here only once it is on disk.

mod agree;
mod checkpoint;
#[cfg(test)]
mod model;
mod slot;
#[cfg(test)]
mod tests;
mod time;
mod view_change;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use aegis_crypto::certificate::Certificate;
use aegis_crypto::{Committee, Digest, SeatNo, SeatSet};

use crate::draft::Draft;
use crate::evidence::Evidence;
use crate::ids::{Scope, Sequence, Time, View};
use crate::message::{Checkpoint, Head, Message, NewView, ViewChange};
use crate::proof::StableCheckpoint;
use crate::safety::{Phase, Safety};
use crate::settings::{Settings, WINDOW};
use crate::value::Value;
use crate::verify::{Known, Verified};
use slot::Slot;

/// What a replica is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The local ledger has this closing, and says so much about it: the client's request
    /// of the paper. Told again, it replaces what was told before. One above the high
    /// watermark is not kept: it is to be told again when [`Output::Stable`] has moved that.
    Request(Request),
    /// The answer to [`Output::Judge`].
    Verdict {
        /// The sequence number that was asked about.
        sequence: Sequence,
        /// The value that was asked about.
        digest: Digest,
        /// Whether this validator may agree to it.
        acceptable: bool,
    },
    /// A message of another validator.
    Received(Verified),
    /// A message of this seat, as the safety module granted it.
    Own(Verified),
    /// The local ledger has recorded a certificate: the execution of the paper. What was
    /// said of a [request](Self::Request) above the high watermark holds here too.
    Recorded {
        /// The sequence number.
        sequence: Sequence,
        /// The name of the certified value.
        digest: Digest,
    },
    /// Nothing but the passing of time.
    Wake,
}

/// A closing, as the local ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The closing's ordinal.
    pub sequence: Sequence,
    /// What this validator holds to be true of it.
    pub value: Value,
    /// Entries of the transparency log as it stood at the closing.
    pub tree_size: u64,
    /// Root of the transparency log at the closing.
    pub tree_root: Digest,
    /// Whether a private check speaks against it, such as a ballot that was left out.
    /// Then this seat agrees to it only where it was prepared before, and waits.
    pub objected: bool,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Every other validator.
    All,
    /// One of them.
    Seat(SeatNo),
}

/// What a replica asks for, in order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Have this checked, written and signed, in this order, before anything that follows.
    Sign(Draft),
    /// Send what was signed before.
    Send {
        /// To whom.
        to: To,
        /// What.
        message: Message,
    },
    /// A proposal differs from what the local ledger says: may this validator agree to it?
    Judge {
        /// The view of the proposal.
        view: View,
        /// The sequence number.
        sequence: Sequence,
        /// What is proposed.
        value: Value,
        /// Whether it was prepared in an earlier view. Then only what every validator
        /// would find the same may speak against it.
        locked: bool,
    },
    /// A value is decided.
    Decided(Arc<Certificate>),
    /// A checkpoint is stable.
    Stable(StableCheckpoint),
    /// A validator has contradicted itself.
    Evidence(Box<Evidence>),
    /// A quorum signed another head than this seat: this ledger, or theirs, is not what
    /// was decided.
    Diverged {
        /// What this seat signed.
        mine: Head,
        /// What a quorum signed.
        theirs: Head,
    },
    /// Something that logs and metrics want to know.
    Note(Note),
}

/// A step that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A phase of a sequence number was reached here.
    Reached {
        /// The sequence number.
        sequence: Sequence,
        /// `PrePrepare`: the proposal was accepted; `Prepare`: it is prepared.
        phase: Phase,
    },
    /// This seat asks for a view.
    ChangingView {
        /// The view.
        view: View,
        /// Why.
        reason: Reason,
    },
    /// A view has begun here.
    Entered(View),
    /// A proposal disagrees with what the local ledger says, and was refused.
    Disagreed {
        /// Its view.
        view: View,
        /// The sequence number.
        sequence: Sequence,
        /// What was proposed.
        proposed: Digest,
    },
}

/// Why a view is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A closing was not decided in time.
    Timeout(Sequence),
    /// The new view did not begin in time.
    NewViewTimeout,
    /// The primary contradicted itself.
    Equivocation,
    /// The primary delays its proposals.
    Slow,
    /// So many others ask for it that one of them is honest.
    Joined,
}

/// Where agreement begins: the last sequence number of the epoch before, and what was
/// decided up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// The last sequence number that needs no agreement any more; 0 in the first epoch.
    pub sequence: Sequence,
    /// The chain of decided values up to it; zero in the first epoch.
    pub chain: Digest,
}

/// What a replica is doing about its view.
#[derive(Clone, Debug)]
enum Mode {
    /// The view has begun.
    Normal {
        /// With what; nothing in the first view.
        begun: Option<Arc<NewView>>,
        /// When, so that proposals can be timed.
        since: Time,
        /// Proposals in a row that the primary delayed.
        slow: u32,
    },
    /// This seat has asked for the view and waits for it to begin.
    Changing {
        /// Since a quorum asks for it, until when it must have begun.
        until: Option<Time>,
        /// Whether this seat, as its primary, has begun it.
        led: bool,
    },
}

/// When what was said is said again.
#[derive(Clone, Copy, Debug, Default)]
struct Resending {
    at: Option<Time>,
    /// Doublings so far.
    doublings: u32,
}

/// What a seat that is behind is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lesson {
    /// How the view began.
    View,
    /// What is stable.
    Stable,
    /// What was decided.
    Decided(Sequence),
}

/// One validator's state. See the module's head.
#[derive(Clone, Debug)]
pub struct Replica {
    me: SeatNo,
    scope: Scope,
    committee: Arc<Committee>,
    settings: Settings,
    now: Time,
    view: View,
    mode: Mode,
    /// The low watermark: up to it everything is stable.
    low: Sequence,
    stable: Option<StableCheckpoint>,
    /// Since when it is.
    stable_at: Time,
    /// Up to it the ledger has recorded every certificate.
    executed: Sequence,
    /// The chain of decided values up to `executed`.
    chain: Digest,
    /// When the last certificate was recorded.
    executed_at: Time,
    /// The last sequence number of which this seat signed a checkpoint.
    marked: Sequence,
    slots: BTreeMap<Sequence, Slot>,
    checkpoints: BTreeMap<SeatNo, BTreeMap<Sequence, Checkpoint>>,
    /// The newest view change of each seat.
    view_changes: BTreeMap<SeatNo, Arc<ViewChange>>,
    later: BTreeMap<SeatNo, VecDeque<Known>>,
    /// How long a closing, or a new view, may take.
    patience_ms: u64,
    resending: Resending,
    /// When a seat that lags was last told what it lacks.
    taught: BTreeMap<(SeatNo, Lesson), Time>,
    /// The newest sequence number to which each seat committed.
    committed: BTreeMap<SeatNo, Sequence>,
    /// Seats against which there is evidence. One proof is enough: a liar could make any
    /// number of them.
    accused: SeatSet,
    out: Vec<Output>,
}

/// Where a replica stands, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The view that it is in, or asks for.
    pub view: View,
    /// That view's primary.
    pub primary: SeatNo,
    /// Whether it waits for the view to begin.
    pub changing_view: bool,
    /// The low watermark.
    pub low: Sequence,
    /// The high watermark.
    pub high: Sequence,
    /// Up to here every certificate is recorded.
    pub executed: Sequence,
    /// Closings that the ledger has and that are not decided.
    pub undecided: usize,
    /// Messages that wait for a view to begin or for a watermark to move.
    pub buffered: usize,
    /// The newest sequence number to which each seat committed.
    pub committed: Vec<(SeatNo, Sequence)>,
}

impl Replica {
    /// A replica that goes on where its safety module left off, and its first outputs.
    #[must_use]
    pub fn start(
        settings: Settings,
        committee: Arc<Committee>,
        base: Base,
        safety: &Safety,
        now: Time,
    ) -> (Self, Vec<Output>) {
        let stable = safety.stable().cloned();
        let (low, chain) = stable
            .as_ref()
            .map_or((base.sequence, base.chain), |stable| {
                (stable.head().sequence, stable.head().chain)
            });
        let mut replica = Self {
            me: safety.seat(),
            scope: *safety.scope(),
            committee,
            settings,
            now,
            view: safety.promised(),
            mode: Mode::Normal {
                begun: safety.entered().cloned(),
                since: now,
                slow: 0,
            },
            low,
            stable,
            stable_at: now,
            executed: low,
            chain,
            executed_at: now,
            marked: low,
            slots: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            view_changes: BTreeMap::new(),
            later: BTreeMap::new(),
            patience_ms: settings.timeout_ms,
            resending: Resending::default(),
            taught: BTreeMap::new(),
            committed: BTreeMap::new(),
            accused: SeatSet::default(),
            out: Vec::new(),
        };
        replica.resume(safety);
        let out = std::mem::take(&mut replica.out);
        (replica, out)
    }

    /// Says again what was said before the restart, as far as it is still of use.
    fn resume(&mut self, safety: &Safety) {
        for proof in safety.prepared() {
            self.slot(proof.sequence()).prepared = Some(proof.clone());
        }
        let entered = safety.entered().map_or(View(0), |begun| begun.view);
        if safety.promised() > entered {
            self.mode = Mode::Changing {
                until: None,
                led: false,
            };
            // In the words that were signed: a checkpoint may have become stable since.
            self.out.extend(safety.asked().map(Output::Sign));
            return;
        }
        if let Some(begun) = safety.entered().cloned() {
            self.take_proposals(&begun);
        }
        let low = self.low;
        for vote in safety.votes().filter(|vote| vote.sequence > low) {
            let draft = match vote.phase {
                Phase::PrePrepare => vote.proposed.clone().map(|value| Draft::PrePrepare {
                    view: vote.view,
                    sequence: vote.sequence,
                    value,
                }),
                Phase::Prepare => Some(Draft::Prepare {
                    view: vote.view,
                    sequence: vote.sequence,
                    digest: vote.digest,
                }),
                Phase::Commit => self
                    .slots
                    .get(&vote.sequence)
                    .and_then(|slot| slot.prepared.clone())
                    .filter(|proof| proof.view() == vote.view)
                    .map(|proof| Draft::Commit { proof }),
            };
            let slot = self.slot(vote.sequence);
            match vote.phase {
                Phase::PrePrepare => slot.proposing = true,
                Phase::Prepare => slot.preparing = true,
                Phase::Commit => slot.committing = true,
            }
            self.out.extend(draft.map(Output::Sign));
        }
    }

    /// Takes one input at a moment that is not before the last one.
    pub fn step(&mut self, now: Time, input: Input) -> Vec<Output> {
        self.now = self.now.max(now);
        match input {
            Input::Request(request) => self.on_request(request),
            Input::Verdict {
                sequence,
                digest,
                acceptable,
            } => self.on_verdict(sequence, digest, acceptable),
            Input::Received(Verified(known)) => self.receive(known),
            Input::Own(Verified(known)) => self.on_own(known),
            Input::Recorded { sequence, digest } => self.on_recorded(sequence, digest),
            Input::Wake => {}
        }
        self.expire();
        std::mem::take(&mut self.out)
    }

    fn receive(&mut self, known: Known) {
        let signer = known.signer(self.committee.seats());
        // What this seat said comes back to it only by way of the safety module.
        if signer == Some(self.me) {
            return;
        }
        match known {
            Known::PrePrepare(message) => self.on_pre_prepare(message),
            Known::Prepare(message) => self.on_prepare(message),
            Known::Commit(message) => self.on_commit(message),
            Known::Checkpoint(message) => self.on_checkpoint(message),
            Known::Stable(stable) => self.stabilize(stable),
            Known::ViewChange(message) => self.on_view_change(message),
            Known::NewView(message) => self.on_new_view(&message),
            Known::Certificate(certificate) => self.on_certificate(certificate),
        }
    }

    /// What the safety module granted counts from now on, like any other's.
    fn on_own(&mut self, known: Known) {
        match known {
            Known::PrePrepare(message) => self.on_own_pre_prepare(message),
            Known::Prepare(message) => self.count_prepare(message),
            Known::Commit(message) => self.on_commit(message),
            Known::Checkpoint(message) => self.on_checkpoint(message),
            Known::ViewChange(message) => self.on_own_view_change(message),
            Known::NewView(message) => self.on_new_view(&message),
            Known::Stable(_) | Known::Certificate(_) => {}
        }
    }

    /// The high watermark.
    const fn high(&self) -> Sequence {
        self.low.plus(WINDOW)
    }

    /// The primary of the view.
    fn primary(&self) -> SeatNo {
        self.committee.seats().primary(self.view.0)
    }

    const fn is_normal(&self) -> bool {
        matches!(self.mode, Mode::Normal { .. })
    }

    fn slot(&mut self, sequence: Sequence) -> &mut Slot {
        self.slots.entry(sequence).or_default()
    }

    fn say(&mut self, draft: Draft) {
        self.out.push(Output::Sign(draft));
    }

    fn send(&mut self, to: To, message: Message) {
        self.out.push(Output::Send { to, message });
    }

    fn note(&mut self, note: Note) {
        self.out.push(Output::Note(note));
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            view: self.view,
            primary: self.primary(),
            changing_view: !self.is_normal(),
            low: self.low,
            high: self.high(),
            executed: self.executed,
            undecided: self
                .slots
                .values()
                .filter(|slot| slot.is_undecided())
                .count(),
            buffered: self.later.values().map(VecDeque::len).sum(),
            committed: self.committed.clone().into_iter().collect(),
        }
    }
}
