//! Linearizable reads on any node.
//!
//! A read barrier is the ReadIndex protocol (Ongaro's dissertation, section 6.4): the leader
//! confirms by a round of heartbeats that it still leads, and names the index that the read
//! must reflect; the reader waits until its own node has applied that index. Leases are never
//! relied upon. Readers that arrive while a round is under way share the next one, since only
//! a round that began after a read arrived can vouch for it; so a follower asks its leader
//! once for many readers.
//!
//! A round that finds no leader, or meets a transfer, is held and repeated until the deadline.

use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use openraft::LinearizerOption;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::gate::{Gate, attempt_timeout};
use crate::reach::Reach;
use crate::state::Core;
use crate::types::{RawId, node_id};
use crate::wire::{self, BARRIER, Barrier, BarrierAnswer};

/// Readers that may wait; more are refused at once.
const READERS_MAX: usize = 65_536;
/// Rounds under way at once: one that confirms, and others that wait to be applied.
const ROUNDS_MAX: usize = 4;

/// Why a linearizable read is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too many readers wait already.
    #[error("{limit} readers wait already")]
    Busy {
        /// The most that may wait.
        limit: usize,
    },
    /// No leader could vouch for the read in time.
    #[error("no leader has vouched for the read within {after:?}")]
    NoLeader {
        /// How long the read was held.
        after: Duration,
    },
    /// The node is stopping.
    #[error("this node is stopping")]
    Stopping,
}

struct Reader {
    reply: oneshot::Sender<u64>,
    deadline: Instant,
}

/// The readers' way to the barrier; cheap to clone.
#[derive(Clone)]
pub(crate) struct Barriers {
    queue: mpsc::Sender<Reader>,
    deadline: Duration,
}

impl Barriers {
    /// The readers' end and the task behind it.
    pub(crate) fn new(
        reach: Reach,
        applied: watch::Receiver<Option<u64>>,
        deadline: Duration,
    ) -> (Self, ReadRounds) {
        let source = Source { reach, applied };
        let (queue, readers) = mpsc::channel(READERS_MAX);
        let rounds = ReadRounds {
            readers,
            source,
            waiting: Vec::new(),
            rounds: FuturesUnordered::new(),
            gate: Gate::new(),
        };
        (Self { queue, deadline }, rounds)
    }

    /// Waits until this node has applied everything that was committed anywhere when the
    /// call began, and returns the index that it has applied.
    pub(crate) async fn wait(&self) -> Result<u64, ReadError> {
        let (reply, reflected) = oneshot::channel();
        let reader = Reader {
            reply,
            deadline: Instant::now() + self.deadline,
        };
        self.queue.try_send(reader).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReadError::Busy { limit: READERS_MAX },
            mpsc::error::TrySendError::Closed(_) => ReadError::Stopping,
        })?;
        reflected.await.map_err(|_| ReadError::NoLeader {
            after: self.deadline,
        })
    }
}

/// How a round reaches the leader and the applied index.
#[derive(Clone)]
struct Source {
    reach: Reach,
    applied: watch::Receiver<Option<u64>>,
}

impl Source {
    /// One round. None if it failed.
    async fn round(mut self, leader: RawId, deadline: Instant) -> Option<u64> {
        let mut leadership = self.reach.leadership.clone();
        let replaced = leadership.wait_for(|now| now.leader != Some(leader));
        let index = tokio::select! {
            index = confirm(&self.reach, leader, deadline) => index?,
            _ = replaced => return None,
        };
        let applied = timeout_at(
            deadline,
            self.applied.wait_for(|applied| *applied >= Some(index)),
        )
        .await
        .ok()?
        .ok()?;
        *applied
    }
}

/// The index that a read must reflect, if `leader` leads.
async fn confirm(reach: &Reach, leader: RawId, deadline: Instant) -> Option<u64> {
    if leader == reach.id {
        return timeout_at(deadline, read_index(&reach.core)).await.ok()?;
    }
    let within = attempt_timeout(deadline);
    let answer = reach
        .peers
        .call(node_id(leader), BARRIER, wire::encode(&Barrier::V1), within)
        .await;
    let answer = answer
        .inspect_err(|error| tracing::debug!(leader, %error, "no answer to a read barrier"))
        .ok()?;
    match wire::decode(&answer) {
        Ok(BarrierAnswer::V1 { index }) => index,
        Err(error) => {
            tracing::warn!(leader, %error, "the leader's answer to a read barrier cannot be read");
            None
        }
    }
}

/// Confirms on the leader that it still leads, and names the index that a read must reflect.
/// The core gathers concurrent confirmations into one round of heartbeats.
pub(crate) async fn read_index(core: &Core) -> Option<u64> {
    let fresh_round = LinearizerOption::new(Some(Duration::ZERO), true);
    let linearizer = core.get_read_linearizer(fresh_round).await.ok()?;
    Some(linearizer.read_log_id().log_id().index)
}

/// A round after its end.
struct Concluded {
    readers: Vec<Reader>,
    reflected: Option<u64>,
}

/// The task that runs the rounds.
pub(crate) struct ReadRounds {
    readers: mpsc::Receiver<Reader>,
    source: Source,
    waiting: Vec<Reader>,
    rounds: FuturesUnordered<BoxFuture<'static, Concluded>>,
    gate: Gate,
}

impl ReadRounds {
    /// Works until `stop`; readers that wait then are told that there is no leader.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            self.begin();
            let paused_until = self.gate.closed_until();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(concluded) = self.rounds.next() => self.conclude(concluded),
                count = self.readers.recv_many(&mut self.waiting, READERS_MAX) => if count == 0 { return },
                Ok(()) = self.source.reach.leadership.changed() => self.gate.reset(),
                () = sleep_until(paused_until.unwrap_or_else(Instant::now)), if paused_until.is_some() => {
                    self.gate.open();
                    self.expire();
                }
            }
        }
    }

    /// Begins a round for all who wait, unless one must be waited for.
    fn begin(&mut self) {
        if self.waiting.is_empty()
            || self.rounds.len() >= ROUNDS_MAX
            || self.gate.closed_until().is_some()
        {
            return;
        }
        let Some(leader) = self.source.reach.leadership.borrow().leader else {
            self.gate.close(Instant::now());
            return;
        };
        let readers = std::mem::take(&mut self.waiting);
        let deadline = readers
            .iter()
            .map(|reader| reader.deadline)
            .min()
            .unwrap_or_else(Instant::now);
        let round = self.source.clone().round(leader, deadline);
        self.rounds.push(Box::pin(async move {
            Concluded {
                reflected: round.await,
                readers,
            }
        }));
    }

    fn conclude(&mut self, concluded: Concluded) {
        match concluded.reflected {
            Some(index) => {
                self.gate.reset();
                for reader in concluded.readers {
                    // A reader that went away wants no answer.
                    reader.reply.send(index).ok();
                }
            }
            None => {
                self.gate.close(Instant::now());
                self.waiting.extend(concluded.readers);
                self.expire();
            }
        }
    }

    /// Lets go of readers that have waited too long or went away; dropping one tells it.
    fn expire(&mut self) {
        let now = Instant::now();
        self.waiting
            .retain(|reader| reader.deadline > now && !reader.reply.is_closed());
    }
}
