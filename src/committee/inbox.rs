//! What waits for the validator's thread: messages of other nodes, each node within its own
//! bounds and served in turn, and the bell that the ledger rings.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aegis_ledger::Ordinal;
use aegis_peers::NodeId;
use bytes::Bytes;

/// Messages of one node that wait.
const MESSAGES_PER_NODE_MAX: usize = 4_096;
/// Bytes of one node that wait: two of the largest messages.
const BYTES_PER_NODE_MAX: usize = 2 * aegis_pbft::MESSAGE_BYTES_MAX;
/// Messages that the validator takes at once, so that what they ask for shares a write.
const TAKEN_MAX: usize = 256;
/// Bytes of one node's messages that are taken in a second; more than the busiest honest
/// validator sends.
const BYTES_PER_SECOND_MAX: u64 = 32 << 20;

/// Messages of one node, in order.
#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Bytes>,
    bytes: usize,
    /// The second that `taken` counts for, since the inbox was made.
    second: u64,
    taken: u64,
}

impl Queue {
    fn has_room(&self, len: usize) -> bool {
        self.messages.len() < MESSAGES_PER_NODE_MAX && self.bytes + len <= BYTES_PER_NODE_MAX
    }

    fn admits(&mut self, second: u64, len: usize) -> bool {
        if self.second != second {
            (self.second, self.taken) = (second, 0);
        }
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let taken = self.taken.saturating_add(len);
        let admitted = taken <= BYTES_PER_SECOND_MAX;
        if admitted {
            self.taken = taken;
        }
        admitted
    }
}

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<NodeId, Queue>,
    /// Whom it is the turn of.
    turn: Option<NodeId>,
    /// The ledger moved since the last take.
    rung: bool,
    /// Ordinals whose certificates were not recorded, to be tried again.
    unrecorded: Vec<Ordinal>,
    stopping: bool,
}

/// What the validator takes up at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Messages with the node that sent each.
    pub(crate) messages: Vec<(NodeId, Bytes)>,
    /// The ledger moved.
    pub(crate) rung: bool,
    /// Certificates that the ledger did not take.
    pub(crate) unrecorded: Vec<Ordinal>,
    /// The node stops.
    pub(crate) stopping: bool,
}

/// What waits for the validator.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
    filled: Condvar,
    began: Instant,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Inbox {
    /// An inbox in which nothing waits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            began: Instant::now(),
        }
    }

    // Nothing panics while the lock is held, so a poisoned one is as good as another.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger moved: closings or certificates may be new.
    pub fn ring(&self) {
        self.lock().rung = true;
        self.filled.notify_one();
    }

    /// Takes a node's message, unless the node has sent more than it may.
    pub(crate) fn push(&self, from: NodeId, message: Bytes) -> bool {
        let second = self.began.elapsed().as_secs();
        let mut state = self.lock();
        let queue = state.queues.entry(from).or_default();
        let taken = queue.has_room(message.len()) && queue.admits(second, message.len());
        if taken {
            queue.bytes += message.len();
            queue.messages.push_back(message);
            self.filled.notify_one();
        }
        taken
    }

    /// A certificate was not recorded.
    pub(crate) fn unrecorded(&self, ordinal: Ordinal) {
        self.lock().unrecorded.push(ordinal);
        self.filled.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.filled.notify_one();
    }

    /// Waits for anything, until a moment at most.
    pub(crate) fn take(&self, until: Option<Instant>) -> Batch {
        let mut state = self.lock();
        loop {
            let batch = state.drain();
            let due = until.is_some_and(|until| until <= Instant::now());
            if due || !batch.is_empty() {
                return batch;
            }
            state = match until {
                None => self
                    .filled
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let wait = until.saturating_duration_since(Instant::now());
                    self.filled
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}

impl Batch {
    const fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.unrecorded.is_empty() && !self.rung && !self.stopping
    }
}

impl State {
    fn drain(&mut self) -> Batch {
        let mut batch = Batch {
            messages: Vec::new(),
            rung: std::mem::take(&mut self.rung),
            unrecorded: std::mem::take(&mut self.unrecorded),
            stopping: self.stopping,
        };
        while batch.messages.len() < TAKEN_MAX {
            let Some(message) = self.next() else { break };
            batch.messages.push(message);
        }
        batch
    }

    /// One message of the node whose turn it is.
    fn next(&mut self) -> Option<(NodeId, Bytes)> {
        let waiting =
            |(node, queue): (&NodeId, &Queue)| (!queue.messages.is_empty()).then_some(*node);
        let after = self.turn.and_then(|turn| {
            let after = (std::ops::Bound::Excluded(turn), std::ops::Bound::Unbounded);
            self.queues.range(after).find_map(waiting)
        });
        let node = after.or_else(|| self.queues.iter().find_map(waiting))?;
        self.turn = Some(node);
        let queue = self.queues.get_mut(&node)?;
        let message = queue.messages.pop_front()?;
        queue.bytes -= message.len();
        Some((node, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn nodes_take_turns_and_one_cannot_crowd_out_the_others() {
        let inbox = Inbox::new();
        for _ in 0..MESSAGES_PER_NODE_MAX {
            assert!(inbox.push(node(1), Bytes::from_static(b"a")));
        }
        assert!(
            !inbox.push(node(1), Bytes::from_static(b"a")),
            "its room is full"
        );
        assert!(inbox.push(node(2), Bytes::from_static(b"b")));
        assert!(inbox.push(node(3), Bytes::from_static(b"c")));
        let batch = inbox.take(None);
        let first: Vec<_> = batch
            .messages
            .iter()
            .take(4)
            .map(|(from, _)| from.get())
            .collect();
        assert_eq!(first, [1, 2, 3, 1]);
        assert_eq!(batch.messages.len(), TAKEN_MAX);
        assert!(
            inbox.push(node(1), Bytes::from_static(b"a")),
            "room is given back"
        );
    }

    #[test]
    fn a_node_that_floods_is_held_to_its_rate() {
        let inbox = Inbox::new();
        let large = Bytes::from(vec![0; 8 << 20]);
        let mut taken = 0_u64;
        while inbox.push(node(1), large.clone()) {
            taken += 1;
            inbox.take(None);
            assert!(taken <= 8, "at most two seconds' worth is taken at once");
        }
        assert!(inbox.push(node(2), large), "others are not held");
    }

    #[test]
    fn whatever_comes_wakes_the_validator() {
        let inbox = Inbox::new();
        assert!(inbox.take(Some(Instant::now())).is_empty());
        inbox.ring();
        assert!(inbox.take(None).rung);
        inbox.unrecorded(Ordinal(7));
        assert_eq!(inbox.take(None).unrecorded, [Ordinal(7)]);
        inbox.stop();
        assert!(inbox.take(None).stopping);
    }
}
