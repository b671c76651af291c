//! View changes (OSDI '99, section 4.4).

use std::sync::Arc;

use aegis_crypto::SeatNo;

use super::slot::{Proposal, Slot, Standing};
use super::{Mode, Note, Reason, Replica};
use crate::draft::Draft;
use crate::ids::{Sequence, View};
use crate::message::{NewView, ViewChange};
use crate::verify::{newest_stable, selection};

impl Replica {
    /// Stops taking part in the view and asks for another, with twice the patience.
    pub(super) fn change_view(&mut self, view: View, reason: Reason) {
        if view <= self.view {
            return;
        }
        self.patience_ms = self
            .patience_ms
            .saturating_mul(2)
            .min(self.settings.timeout_max_ms);
        self.view = view;
        self.mode = Mode::Changing {
            until: None,
            led: false,
        };
        self.slots.values_mut().for_each(Slot::leave_view);
        self.note(Note::ChangingView { view, reason });
        self.ask_for_view();
    }

    /// Asks for the view with everything that was prepared above the stable checkpoint.
    pub(super) fn ask_for_view(&mut self) {
        let prepared = self
            .slots
            .values()
            .filter_map(|slot| slot.prepared.clone())
            .collect();
        self.say(Draft::ViewChange {
            view: self.view,
            stable: self.stable.clone(),
            prepared,
        });
    }

    /// The safety module granted this seat's own view change.
    pub(super) fn on_own_view_change(&mut self, message: Arc<ViewChange>) {
        self.view_changes.insert(self.me, message);
        self.weigh_view_changes();
    }

    /// Keeps the newest view change of each seat. Whoever asks for a view that has begun,
    /// or is past, gets its beginning.
    pub(super) fn on_view_change(&mut self, message: Arc<ViewChange>) {
        let seat = message.seat;
        if message.view <= self.view {
            self.teach_view(seat);
        }
        let known = self.view_changes.get(&seat);
        if known.is_some_and(|known| known.view >= message.view) {
            return;
        }
        self.view_changes.insert(seat, message);
        self.weigh_view_changes();
    }

    fn weigh_view_changes(&mut self) {
        self.join();
        let view = self.view;
        let quorum = usize::from(self.committee.seats().quorum());
        let asking: Vec<_> = self
            .view_changes
            .values()
            .filter(|change| change.view == view)
            .take(quorum)
            .cloned()
            .collect();
        let reached = self.view_changes.values();
        let reached = reached.filter(|change| change.view >= view).count();
        let leads = self.primary() == self.me;
        let until_when = self.now.plus_ms(self.patience_ms);
        let Mode::Changing { until, led } = &mut self.mode else {
            return;
        };
        // Only now does the clock run: where no quorum has left the views before, this one
        // cannot begin, and asking for the next would only drive the validators apart. Who
        // has gone on to a later view counts: this one may then never begin, and f or fewer
        // of them are not joined.
        if reached >= quorum {
            until.get_or_insert(until_when);
        }
        if asking.len() == quorum && leads && !std::mem::replace(led, true) {
            let proposals = selection(&asking).into_iter().collect();
            self.say(Draft::NewView {
                view,
                view_changes: asking,
                proposals,
            });
        }
    }

    /// Where f + 1 others ask for views above this one, one of them is honest and this
    /// seat asks as well, without waiting for its own clock (section 4.5.2). They need not
    /// ask for the same view: the highest that f + 1 of them have reached or passed will do.
    fn join(&mut self) {
        let mut asked: Vec<View> = self
            .view_changes
            .iter()
            .filter(|(seat, _)| **seat != self.me)
            .map(|(_, change)| change.view)
            .collect();
        asked.sort_unstable_by(|a, b| b.cmp(a));
        let last_of_them = usize::from(self.committee.seats().faults_max());
        if let Some(view) = asked.get(last_of_them).filter(|view| **view > self.view) {
            self.change_view(*view, Reason::Joined);
        }
    }

    /// The view begins: what its quorum prepared is agreed to again, before anything else
    /// is said in it.
    pub(super) fn on_new_view(&mut self, message: &Arc<NewView>) {
        let view = message.view;
        if view < self.view || (view == self.view && self.is_normal()) {
            return;
        }
        self.say(Draft::Enter {
            new_view: message.clone(),
        });
        self.view = view;
        // A checkpoint that stands in the view changes moves the watermarks first. Nothing is
        // proposed or taken up on its account before what the view begins with is here.
        self.mode = Mode::Changing {
            until: None,
            led: true,
        };
        self.slots.values_mut().for_each(Slot::leave_view);
        self.note(Note::Entered(view));
        if let Some(stable) = newest_stable(&message.view_changes) {
            self.stabilize(stable.clone());
        }
        self.mode = Mode::Normal {
            begun: Some(message.clone()),
            since: self.now,
            slow: 0,
        };
        self.take_proposals(message);
        let waiting: Vec<Sequence> = self.slots.keys().copied().collect();
        for sequence in waiting {
            self.arm(sequence);
            self.consider(sequence);
        }
        self.take_up_later();
        self.propose();
    }

    /// Takes what the view began with as proposals that nothing private speaks against.
    pub(super) fn take_proposals(&mut self, begun: &NewView) {
        for message in &begun.proposals {
            if message.sequence > self.low && message.sequence <= self.high() {
                self.slot(message.sequence).proposal = Some(Proposal {
                    message: message.clone(),
                    locked: true,
                    standing: Standing::Waiting,
                });
            }
        }
    }

    /// Shows a seat that is behind how the view began, so that it need not wait for the
    /// next one. The last words of the view before, and the last wishes for this one, come
    /// when it has just begun; whoever still says them a while later is behind.
    pub(super) fn teach_view(&mut self, seat: SeatNo) {
        let Mode::Normal {
            begun: Some(begun),
            since,
            ..
        } = &self.mode
        else {
            return;
        };
        if self.now.since_ms(*since) < self.settings.resend_ms {
            return;
        }
        let message = crate::message::Message::NewView(begun.clone());
        self.teach(seat, super::Lesson::View, message);
    }
}
