//! Nothing goes backwards, nothing grows without bound, nothing stands still.

use aegis_pbft::{LATER_PER_SEAT_MAX, Note, Status, WINDOW};

use super::{Facts, Invariants, Marks, Stage};

impl Invariants {
    /// Neither the low watermark nor the view of an honest validator ever falls, restarts
    /// included.
    pub(super) fn watermarks_monotone(
        &mut self,
        facts: &Facts,
        stage: &Stage<'_>,
    ) -> Result<(), String> {
        let entered = facts
            .notes
            .iter()
            .filter(|(_, note)| matches!(note, Note::Entered(_)));
        self.views_entered += u64::try_from(entered.count()).unwrap_or(0);
        for seat in stage.honest_of(&facts.opened) {
            self.marks.entry(seat).or_default().executed = aegis_pbft::Sequence(0);
        }
        let seen: Vec<_> = facts.opened.iter().chain(&facts.touched).copied().collect();
        for seat in stage.honest_of(&seen) {
            let Some(status) = stage.node(seat).and_then(crate::node::Node::status) else {
                continue;
            };
            let marks = self.marks.entry(seat).or_default();
            let Status {
                low,
                view,
                executed,
                ..
            } = status;
            if low < marks.low || view < marks.view || executed < marks.executed {
                return Err(format!(
                    "seat {seat} falls back from {marks:?} to {status:?}"
                ));
            }
            *marks = Marks {
                low,
                view,
                executed,
            };
        }
        Ok(())
    }

    /// What an honest validator has executed, its ledger has recorded without a gap, or a
    /// stable checkpoint covers.
    pub(super) fn executed_in_order(
        &mut self,
        facts: &Facts,
        stage: &Stage<'_>,
    ) -> Result<(), String> {
        for seat in stage.honest_of(&facts.touched) {
            let Some(node) = stage.node(seat) else {
                continue;
            };
            let Some(status) = node.status() else {
                continue;
            };
            let may = node.recorded_above(node.recorded_upto().max(status.low));
            if status.executed > may || status.executed < status.low {
                return Err(format!(
                    "seat {seat} may have executed {may}, not {status:?}"
                ));
            }
        }
        Ok(())
    }

    /// No honest validator keeps more than its bounds.
    pub(super) fn bounded_buffers(
        &mut self,
        facts: &Facts,
        stage: &Stage<'_>,
    ) -> Result<(), String> {
        let seats = usize::from(stage.committee.seats().count());
        let window = usize::try_from(WINDOW).unwrap_or(usize::MAX);
        for seat in stage.honest_of(&facts.touched) {
            let Some(status) = stage.node(seat).and_then(crate::node::Node::status) else {
                continue;
            };
            if status.buffered > seats * LATER_PER_SEAT_MAX || status.undecided > window {
                return Err(format!("seat {seat} keeps too much: {status:?}"));
            }
        }
        Ok(())
    }

    /// Who was woken does not ask to be woken at the same moment again.
    pub(super) fn wakes_advance(&mut self, facts: &Facts, stage: &Stage<'_>) -> Result<(), String> {
        for seat in stage.honest_of(&facts.woken) {
            let Some(node) = stage.node(seat) else {
                continue;
            };
            if node
                .wake_at()
                .is_some_and(|at| at <= node.clock.shows(stage.now_ms))
            {
                return Err(format!("seat {seat} asks to be woken again at once"));
            }
        }
        Ok(())
    }
}
