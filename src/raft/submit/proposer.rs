//! The task that owns the submissions of a node.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::batch::{Attempted, Batch};
use super::{Outcome, Submission};
use crate::clock::Clock;
use crate::gate::Gate;
use crate::reach::Reach;
use crate::wire::BATCH_BYTES_MAX;

/// The most commands in one batch. Their answers must fit one message, too.
const BATCH_COMMANDS_MAX: usize = 512;
/// The most batches under way at once. More would make them smaller, not faster.
const BATCHES_MAX: usize = 4;

/// Batches, attempts, holds and answers.
pub(crate) struct Proposer {
    queue: mpsc::Receiver<Submission>,
    reach: Reach,
    clock: Arc<dyn Clock>,
    /// Submissions that wait for an attempt, the first or another.
    waiting: VecDeque<Submission>,
    attempts: FuturesUnordered<BoxFuture<'static, Attempted>>,
    gate: Gate,
}

impl Proposer {
    pub(crate) fn new(
        queue: mpsc::Receiver<Submission>,
        reach: Reach,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            queue,
            reach,
            clock,
            waiting: VecDeque::new(),
            attempts: FuturesUnordered::new(),
            gate: Gate::new(),
        }
    }

    /// Works until `stop`, then answers what still waits.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut arrived = Vec::new();
        loop {
            self.dispatch();
            let paused_until = self.gate.closed_until();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(attempted) = self.attempts.next() => self.conclude(attempted),
                count = self.queue.recv_many(&mut arrived, BATCH_COMMANDS_MAX) => {
                    if count == 0 {
                        break;
                    }
                    self.waiting.extend(arrived.drain(..));
                }
                Ok(()) = self.reach.leadership.changed() => self.gate.reset(),
                () = sleep_until(paused_until.unwrap_or_else(Instant::now)), if paused_until.is_some() => {
                    self.gate.open();
                    self.expire();
                }
            }
        }
        self.finish();
    }

    /// Starts as many attempts as may run.
    fn dispatch(&mut self) {
        while !self.waiting.is_empty()
            && self.attempts.len() < BATCHES_MAX
            && self.gate.closed_until().is_none()
        {
            let Some(leader) = self.reach.leadership.borrow().leader else {
                self.gate.close(Instant::now());
                return;
            };
            if let Some(batch) = self.take_batch(leader == self.reach.id) {
                self.attempts.push(Box::pin(batch.attempt(
                    leader,
                    self.reach.clone(),
                    Arc::clone(&self.clock),
                )));
            }
        }
    }

    /// Takes submissions from the front, up to the bounds of a batch but at least one. What
    /// came from another node is not sent on: only a node that leads makes an attempt at it.
    fn take_batch(&mut self, leads: bool) -> Option<Batch> {
        let now = Instant::now();
        let (mut commands, mut bytes) = (0, 0);
        let mut submissions = Vec::new();
        while let Some(next) = self.waiting.front() {
            commands += next.open.len();
            bytes += next
                .open
                .iter()
                .map(|(_, payload)| payload.len())
                .sum::<usize>();
            if !submissions.is_empty() && (commands > BATCH_COMMANDS_MAX || bytes > BATCH_BYTES_MAX)
            {
                break;
            }
            let next = self.waiting.pop_front().expect("there is a front");
            if next.deadline <= now || !(leads || next.hold) {
                next.settle();
            } else if !next.is_abandoned() {
                submissions.push(next);
            }
        }
        let deadline = submissions
            .iter()
            .map(|submission| submission.deadline)
            .min()?;
        Some(Batch {
            submissions,
            deadline,
        })
    }

    /// Answers what an attempt decided, and puts the rest back to the front.
    fn conclude(&mut self, attempted: Attempted) {
        let Attempted {
            submissions,
            outcomes,
        } = attempted;
        let mut outcomes = outcomes.into_iter();
        let mut undecided = Vec::new();
        for mut submission in submissions {
            let open = std::mem::take(&mut submission.open);
            for ((slot, payload), outcome) in open.into_iter().zip(&mut outcomes) {
                if matches!(outcome, Outcome::NotWritten | Outcome::Unknown) {
                    submission.open.push((slot, payload));
                }
                submission.record(slot, outcome);
            }
            if submission.open.is_empty() || !submission.hold {
                submission.settle();
            } else {
                undecided.push(submission);
            }
        }
        if undecided.is_empty() {
            self.gate.reset();
            return;
        }
        self.gate.close(Instant::now());
        for submission in undecided.into_iter().rev() {
            self.waiting.push_front(submission);
        }
    }

    /// Answers what has waited for too long.
    fn expire(&mut self) {
        let now = Instant::now();
        let (late, waiting): (VecDeque<_>, _) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|s| s.deadline <= now || s.is_abandoned());
        self.waiting = waiting;
        late.into_iter().for_each(Submission::settle);
    }

    /// Answers everything; what is under way has an unknown fate, which dropping its
    /// attempt says.
    fn finish(mut self) {
        self.queue.close();
        while let Ok(submission) = self.queue.try_recv() {
            submission.settle();
        }
        self.waiting.drain(..).for_each(Submission::settle);
    }
}

impl Submission {
    /// Notes the outcome of an attempt. Once a command may have been written, a later
    /// attempt that certainly did not write it does not make that certain.
    fn record(&mut self, slot: usize, outcome: Outcome) {
        if let Some(known) = self.outcomes.get_mut(slot)
            && !(matches!(known, Outcome::Unknown)
                && matches!(outcome, Outcome::NotWritten | Outcome::Declined(_)))
        {
            *known = outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::admission::Decline;
    use crate::machine::Position;
    use crate::submit::Committed;

    #[tokio::test]
    async fn what_may_be_written_stays_unknown_until_it_is_applied() {
        let (reply, _outcomes) = oneshot::channel();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut submission = Submission {
            open: vec![(0, Bytes::new())],
            outcomes: vec![Outcome::NotWritten],
            reply,
            deadline: Instant::now(),
            hold: true,
            permit,
        };
        let applied = Outcome::Applied(Committed {
            position: Position::default(),
            answer: Bytes::new(),
        });
        for (outcome, known) in [
            (Outcome::NotWritten, Outcome::NotWritten),
            (Outcome::Unknown, Outcome::Unknown),
            (Outcome::Declined(Decline::Busy), Outcome::Unknown),
            (Outcome::NotWritten, Outcome::Unknown),
            (applied.clone(), applied),
        ] {
            submission.record(0, outcome);
            assert_eq!(submission.outcomes, [known]);
        }
    }
}
