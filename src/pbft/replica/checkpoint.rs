//! Checkpoints and what is collected below them (OSDI '99, section 4.3).
//!
//! The paper makes one at every K-th execution. Execution is here the recording of the
//! certificate in the replicated ledger, so that nothing is collected that a validator
//! which lags could not read there. A checkpoint is also made where nothing is undecided
//! for a while: the transparency log's newest note then covers the last decision.

use aegis_crypto::{Digest, SeatNo};

use super::{Lesson, Output, Replica};
use crate::draft::Draft;
use crate::ids::Sequence;
use crate::message::{Checkpoint, Head, Message};
use crate::proof::StableCheckpoint;
use crate::settings::CHECKPOINT_INTERVAL;

/// Checkpoints of one seat that are kept until a quorum agrees with one.
const KEPT_PER_SEAT_MAX: usize = 8;

impl Replica {
    /// The ledger recorded a certificate.
    pub(super) fn on_recorded(&mut self, sequence: Sequence, digest: Digest) {
        if sequence <= self.executed || sequence > self.high() {
            return;
        }
        let slot = self.slot(sequence);
        slot.recorded = Some(digest);
        slot.deadline = None;
        self.progress();
        self.consider(sequence);
        self.execute();
    }

    /// Executes what is recorded, as far as there is no gap.
    fn execute(&mut self) {
        loop {
            let next = self.executed.next();
            let Some(digest) = self.slots.get(&next).and_then(|slot| slot.recorded) else {
                return;
            };
            self.chain = self.scope.link(&self.chain, next, &digest);
            (self.executed, self.executed_at) = (next, self.now);
            if next.0.is_multiple_of(CHECKPOINT_INTERVAL) {
                self.mark();
            }
        }
    }

    /// Asks for a signature under what is recorded now.
    pub(super) fn mark(&mut self) {
        let sequence = self.executed;
        let request = self
            .slots
            .get(&sequence)
            .and_then(|slot| slot.request.as_ref());
        let Some(request) = request.filter(|_| sequence > self.marked) else {
            return;
        };
        let head = Head {
            sequence,
            chain: self.chain,
            tree_size: request.tree_size,
            tree_root: request.tree_root,
        };
        self.marked = sequence;
        self.say(Draft::Checkpoint { head });
    }

    /// Counts the seats that signed the same head.
    pub(super) fn on_checkpoint(&mut self, message: Checkpoint) {
        let (seat, head) = (message.seat, message.head);
        if head.sequence <= self.low {
            return self.teach_stable(seat);
        }
        let kept = self.checkpoints.entry(seat).or_default();
        match kept.get(&head.sequence) {
            Some(first) if first.head != head => {
                let first = Message::Checkpoint(first.clone());
                return self.accuse(first, Message::Checkpoint(message));
            }
            Some(_) => return,
            None => {
                kept.insert(head.sequence, message);
                if kept.len() > KEPT_PER_SEAT_MAX {
                    kept.pop_first();
                }
            }
        }
        let agreeing = self
            .checkpoints
            .values()
            .filter_map(|kept| kept.get(&head.sequence))
            .filter(|checkpoint| checkpoint.head == head)
            .map(|checkpoint| (checkpoint.seat, checkpoint.signature));
        if let Some(stable) = StableCheckpoint::assemble(&self.committee, head, agreeing) {
            self.stabilize(stable);
        }
    }

    /// Moves the low watermark to a stable checkpoint and forgets what it covers.
    pub(super) fn stabilize(&mut self, stable: StableCheckpoint) {
        let theirs = *stable.head();
        let low = theirs.sequence;
        if low <= self.low {
            return;
        }
        if let Some(mine) = self.own_head(low).filter(|mine| *mine != theirs) {
            self.out.push(Output::Diverged { mine, theirs });
        }
        self.low = low;
        self.stable = Some(stable.clone());
        self.stable_at = self.now;
        if self.executed < low {
            (self.executed, self.chain) = (low, theirs.chain);
        }
        self.marked = self.marked.max(low);
        self.slots = self.slots.split_off(&low.next());
        self.taught
            .retain(|(_, lesson), _| !matches!(lesson, Lesson::Decided(at) if *at <= low));
        for kept in self.checkpoints.values_mut() {
            *kept = kept.split_off(&low.next());
        }
        self.say(Draft::Stable {
            stable: stable.clone(),
        });
        self.out.push(Output::Stable(stable));
        self.execute();
        self.take_up_later();
        self.propose();
    }

    /// The head that this seat signed for a sequence number.
    fn own_head(&self, sequence: Sequence) -> Option<Head> {
        let own: SeatNo = self.me;
        let kept = self.checkpoints.get(&own)?;
        kept.get(&sequence).map(|checkpoint| checkpoint.head)
    }
}
