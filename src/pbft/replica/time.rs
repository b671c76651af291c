//! What the passing of time brings: timeouts, and saying again what may have been lost.

use aegis_crypto::SeatNo;

use super::{Lesson, Mode, Reason, Replica, Resending, To};
use crate::ids::{Sequence, Time, View};
use crate::message::Message;
use crate::settings::RESENT_MAX;

/// The longest wait between two resendings is this many doublings of the shortest.
const DOUBLINGS_MAX: u32 = 3;

impl Replica {
    /// When [`Input::Wake`](super::Input::Wake) is due, if nothing else comes before.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        let waiting = self.slots.values().filter_map(|slot| slot.deadline);
        let beginning = match &self.mode {
            Mode::Changing { until, .. } => *until,
            Mode::Normal { .. } => None,
        };
        waiting
            .chain(beginning)
            .chain(self.resending.at)
            .chain(self.quiet_at())
            .min()
    }

    /// Acts on every time that has come.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        let next: View = self.view.next();
        match &self.mode {
            Mode::Changing { until, .. } => {
                if until.is_some_and(|until| until <= now) {
                    self.change_view(next, Reason::NewViewTimeout);
                }
            }
            Mode::Normal { .. } => {
                let late = self
                    .slots
                    .iter()
                    .find(|(_, slot)| slot.deadline.is_some_and(|deadline| deadline <= now))
                    .map(|(sequence, _)| *sequence);
                if let Some(sequence) = late {
                    self.change_view(next, Reason::Timeout(sequence));
                }
            }
        }
        if self.quiet_at().is_some_and(|at| at <= now) {
            self.mark();
        }
        self.resend_if_due();
    }

    /// Something was decided or recorded: patience is as short as it was at first, and so
    /// are the pauses. What is due to be said again is not put off: it may be about
    /// something else.
    pub(super) fn progress(&mut self) {
        self.patience_ms = self.settings.timeout_ms;
        let soon = self.now.plus_ms(self.settings.resend_ms);
        self.resending = Resending {
            at: self.resending.at.map(|at| at.min(soon)),
            doublings: 0,
        };
    }

    /// When a checkpoint is made between the intervals: a while after the last recording,
    /// if nothing is undecided.
    fn quiet_at(&self) -> Option<Time> {
        let markable = self.executed > self.marked
            && self
                .slots
                .get(&self.executed)
                .is_some_and(|slot| slot.request.is_some());
        let quiet = markable && !self.slots.values().any(super::Slot::is_undecided);
        quiet.then(|| self.executed_at.plus_ms(self.settings.quiet_ms))
    }

    /// Whether this seat waits for others, who may not have heard it.
    fn waits(&self) -> bool {
        !self.is_normal()
            || self.marked > self.low
            || self.slots.values().any(super::Slot::is_undecided)
    }

    fn resend_if_due(&mut self) {
        if !self.waits() {
            self.resending = Resending::default();
            return;
        }
        let doublings = self.resending.doublings;
        let pause = self.settings.resend_ms.saturating_mul(1 << doublings);
        match self.resending.at {
            None => self.resending.at = Some(self.now.plus_ms(pause)),
            Some(at) if at <= self.now => {
                let grown = u32::from(self.say_again());
                let doublings = doublings.saturating_add(grown).min(DOUBLINGS_MAX);
                let pause = self.settings.resend_ms.saturating_mul(1 << doublings);
                self.resending = Resending {
                    at: Some(self.now.plus_ms(pause)),
                    doublings,
                };
            }
            Some(_) => {}
        }
    }

    /// Sends again what this seat said about all that has been open for a while, within a
    /// bound; false if that is nothing.
    fn say_again(&mut self) -> bool {
        let (me, now, pause) = (self.me, self.now, self.settings.resend_ms);
        let mut said = Vec::new();
        if self.is_normal() {
            let open = self.slots.values().filter(|slot| {
                slot.certain().is_none() && now.since_ms(slot.requested_at) >= pause
            });
            let mut resent = 0_usize;
            for slot in open {
                let before = said.len();
                let proposed = slot
                    .proposal
                    .as_ref()
                    .filter(|proposal| slot.proposing && !proposal.locked);
                said.extend(proposed.map(|own| Message::PrePrepare(own.message.clone())));
                said.extend(slot.prepares.get(&me).cloned().map(Message::Prepare));
                said.extend(slot.commits.get(&me).cloned().map(Message::Commit));
                resent = resent.saturating_add(usize::from(said.len() > before));
                if resent >= RESENT_MAX {
                    break;
                }
            }
        } else {
            said.extend(self.view_changes.get(&me).cloned().map(Message::ViewChange));
        }
        let marked = self
            .checkpoints
            .get(&me)
            .and_then(|kept| kept.last_key_value());
        said.extend(marked.map(|(_, checkpoint)| Message::Checkpoint(checkpoint.clone())));
        let any = !said.is_empty();
        for message in said {
            self.send(To::All, message);
        }
        any
    }

    /// Tells a seat that is behind what it lacks, none of it more often than it asks again.
    pub(super) fn teach(&mut self, seat: SeatNo, lesson: Lesson, message: Message) {
        if seat == self.me {
            return;
        }
        let known = self.taught.get(&(seat, lesson)).copied();
        let again = known.is_none_or(|at| self.now.since_ms(at) >= self.settings.resend_ms);
        if again {
            self.taught.insert((seat, lesson), self.now);
            self.send(To::Seat(seat), message);
        }
    }

    /// A vote that comes long after the decision is a question.
    pub(super) fn teach_decided(&mut self, seat: SeatNo, sequence: Sequence) {
        let Some(decided) = self
            .slots
            .get(&sequence)
            .and_then(|slot| slot.decided.as_ref())
            .filter(|decided| self.now.since_ms(decided.at) >= self.settings.resend_ms)
        else {
            return;
        };
        let envelope = decided.certificate.to_envelope(&self.committee);
        let message = Message::Certificate(envelope.into_bytes());
        self.teach(seat, Lesson::Decided(sequence), message);
    }

    /// Proves to a seat that is behind that what it votes on is stable, and has been for a
    /// while: the last votes of every round come when a quorum is there already.
    pub(super) fn teach_stable(&mut self, seat: SeatNo) {
        if self.now.since_ms(self.stable_at) < self.settings.resend_ms {
            return;
        }
        if let Some(stable) = self.stable.clone() {
            self.teach(seat, Lesson::Stable, Message::Stable(stable));
        }
    }
}
