//! What goes to other nodes: each has a queue of its own and a stream that empties it, so
//! that one which is slow or gone delays nobody else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aegis_peers::{Lane, Method, NodeId, Peers};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The procedure by which validators talk: a stream of messages, without answers.
pub const MESSAGES: Method = Method::stream(
    "/committee/messages",
    Lane::Bulk,
    aegis_pbft::MESSAGE_BYTES_MAX,
    0,
);

/// Messages that wait for one node. The oldest leave first: whoever sent them sends them
/// again as long as they matter.
const WAITING_MAX: usize = 4_096;
/// Bytes that wait for one node: two of the largest messages.
const WAITING_BYTES_MAX: usize = 2 * aegis_pbft::MESSAGE_BYTES_MAX;
/// How long a node may take to accept the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

impl Queue {
    // Nothing panics while the lock is held, so a poisoned one is as good as another.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many older messages had to leave for this one.
    fn push(&self, message: Bytes) -> u64 {
        let mut waiting = self.lock();
        let mut dropped = 0;
        while waiting.messages.len() >= WAITING_MAX
            || (waiting.bytes + message.len() > WAITING_BYTES_MAX && waiting.bytes > 0)
        {
            let Some(oldest) = waiting.messages.pop_front() else {
                break;
            };
            waiting.bytes -= oldest.len();
            dropped += 1;
        }
        waiting.bytes += message.len();
        waiting.messages.push_back(message);
        drop(waiting);
        self.filled.notify_one();
        dropped
    }

    fn pop(&self) -> Option<Bytes> {
        let mut waiting = self.lock();
        let message = waiting.messages.pop_front()?;
        waiting.bytes -= message.len();
        Some(message)
    }

    async fn next(&self) -> Bytes {
        loop {
            let filled = self.filled.notified();
            if let Some(message) = self.pop() {
                return message;
            }
            filled.await;
        }
    }
}

/// The stream to one node; it ends when this is dropped.
#[derive(Debug)]
struct Link {
    queue: Arc<Queue>,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The queues to all other nodes.
pub(crate) struct Outbox {
    peers: Peers,
    runtime: Handle,
    links: BTreeMap<NodeId, Link>,
}

impl Outbox {
    pub(crate) const fn new(peers: Peers, runtime: Handle) -> Self {
        Self {
            peers,
            runtime,
            links: BTreeMap::new(),
        }
    }

    /// Queues a message for a node, or for all of them. Returns how many older ones were
    /// dropped for it.
    pub(crate) fn send(&mut self, to: Option<NodeId>, message: &Bytes) -> u64 {
        let nodes = self.peers.nodes();
        self.links.retain(|node, _| nodes.contains(node));
        let mut dropped = 0;
        for node in nodes {
            if to.is_none_or(|to| to == node) {
                let link = self
                    .links
                    .entry(node)
                    .or_insert_with(|| open(&self.runtime, self.peers.clone(), node));
                dropped += link.queue.push(message.clone());
            }
        }
        dropped
    }
}

fn open(runtime: &Handle, peers: Peers, node: NodeId) -> Link {
    let queue = Arc::new(Queue::default());
    let task = runtime.spawn(keep_sending(peers, node, Arc::clone(&queue)));
    Link {
        queue,
        task: task.abort_handle(),
    }
}

/// Keeps a stream to the node open as long as there is something to send. What was on its way
/// when one breaks is lost, and sent again by whoever still waits for it.
async fn keep_sending(peers: Peers, node: NodeId, queue: Arc<Queue>) {
    loop {
        let first = queue.next().await;
        let rest = stream::unfold(Arc::clone(&queue), |queue| async move {
            let message = queue.next().await;
            Some((message, queue))
        });
        let messages = stream::once(async { first }).chain(rest);
        let opened = peers.stream(node, MESSAGES, messages, OPEN_TIMEOUT).await;
        match opened {
            // It answers nothing, so that whatever comes is its end.
            Ok(mut answers) => {
                if let Some(Err(error)) = answers.next().await {
                    tracing::debug!(node = node.get(), %error, "the stream to a validator ended");
                }
            }
            Err(error) => tracing::debug!(node = node.get(), %error, "no stream to a validator"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leave_when_a_node_takes_nothing() {
        let queue = Queue::default();
        let message = |number: usize| Bytes::from(number.to_be_bytes().to_vec());
        let dropped: u64 = (0..WAITING_MAX + 3).map(|n| queue.push(message(n))).sum();
        assert_eq!(dropped, 3);
        assert_eq!(queue.pop(), Some(message(3)));
        let large = Bytes::from(vec![0; aegis_pbft::MESSAGE_BYTES_MAX]);
        queue.push(large.clone());
        queue.push(large.clone());
        assert_eq!(queue.lock().messages.len(), 2, "its bytes are bounded");
        assert_eq!(queue.pop(), Some(large));
    }
}
