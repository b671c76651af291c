//! Submissions: from a caller on any node to the log, and the answer back.
//!
//! A submission waits in a bounded queue; a full one refuses at once. One task per node, the
//! [`Proposer`], takes what waits as one batch and either proposes it, where this node leads,
//! or forwards it to the leader as one message. A batch that finds no leader, meets a
//! transfer of leadership or loses its connection is **held and repeated** until its
//! deadline. Some of a repeated batch may have been written the first time, which is why
//! every command must be idempotent (see [`machine`](crate::machine)).
//!
//! Batches are kept few and large by limiting how many are under way at once: what arrives
//! meanwhile forms the next one.

mod batch;
mod proposer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

pub(crate) use self::proposer::Proposer;
use crate::admission::Decline;
use crate::machine::{Answer, Position};
use crate::observer::Observer;
use crate::wire::COMMAND_BYTES_MAX;

/// A submission that was committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Where the command stands in the log. Of a command that was written twice it is one
    /// of the two places.
    pub position: Position,
    /// What the machine answered.
    pub answer: Answer,
}

/// Why a submission has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The node holds as many proposals as it may. Nothing was written.
    #[error("this node holds {pending} of at most {limit} proposals")]
    Busy {
        /// Proposals that are not answered yet.
        pending: usize,
        /// The most that there may be.
        limit: usize,
    },
    /// The command is too large. Nothing was written.
    #[error("the command has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The bound in bytes.
        bytes_max: usize,
    },
    /// No leader took the command in time. Nothing was written.
    #[error("no leader took the command within {after:?}")]
    NoLeader {
        /// How long it was held.
        after: Duration,
    },
    /// A leader may have taken the command, and its fate is not known: it may be committed,
    /// or still become so. It can be submitted again safely.
    #[error("the fate of the command is unknown after {after:?}")]
    Unknown {
        /// How long it was held.
        after: Duration,
    },
    /// The leader did not take the command. Nothing was written.
    #[error(transparent)]
    Declined(#[from] Decline),
    /// The node is stopping. Nothing was written.
    #[error("this node is stopping")]
    Stopping,
}

impl SubmitError {
    /// A constant word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::TooLarge { .. } => "too_large",
            Self::NoLeader { .. } => "no_leader",
            Self::Unknown { .. } => "unknown",
            Self::Declined(Decline::Busy) => "leader_busy",
            Self::Declined(Decline::LowSpace { .. }) => "leader_low_space",
            Self::Declined(Decline::Unreadable) => "leader_outdated",
            Self::Stopping => "stopping",
        }
    }
}

/// What became of one proposal so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is committed and applied.
    Applied(Committed),
    /// It was certainly not written.
    NotWritten,
    /// It may or may not be written, now or later.
    Unknown,
    /// The leader declined it: it was certainly not written, and another attempt would fare
    /// no better.
    Declined(Decline),
}

impl Outcome {
    /// The length of the answer, if there is one.
    pub(crate) fn answer_bytes(&self) -> usize {
        match self {
            Self::Applied(committed) => committed.answer.len(),
            Self::NotWritten | Self::Unknown | Self::Declined(_) => 0,
        }
    }
}

/// One or more commands that are answered together.
pub(crate) struct Submission {
    /// The commands that have no answer yet, with their places in `outcomes`.
    open: Vec<(usize, Bytes)>,
    outcomes: Vec<Outcome>,
    reply: oneshot::Sender<Vec<Outcome>>,
    deadline: Instant,
    /// Whether to repeat it until the deadline, or to answer after the first attempt: the
    /// node that forwarded a submission repeats it itself.
    hold: bool,
    permit: OwnedSemaphorePermit,
}

impl Submission {
    fn settle(self) {
        let Self {
            outcomes,
            reply,
            permit,
            ..
        } = self;
        drop(permit);
        // A submitter that went away wants no answer.
        reply.send(outcomes).ok();
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// The way into the queue; cheap to clone.
#[derive(Clone)]
pub(crate) struct Submitter {
    queue: mpsc::Sender<Submission>,
    permits: Arc<Semaphore>,
    limit: usize,
    deadline: Duration,
    is_refusing: Arc<AtomicBool>,
    observer: Arc<dyn Observer>,
}

impl Submitter {
    /// The queue's two ends.
    pub(crate) fn new(
        proposals_max: u32,
        deadline: Duration,
        observer: Arc<dyn Observer>,
    ) -> (Self, mpsc::Receiver<Submission>) {
        let limit = usize::try_from(proposals_max).unwrap_or(usize::MAX);
        let (queue, receiver) = mpsc::channel(limit);
        (
            Self {
                queue,
                permits: Arc::new(Semaphore::new(limit)),
                limit,
                deadline,
                is_refusing: Arc::default(),
                observer,
            },
            receiver,
        )
    }

    /// Submits commands and waits for all their fates.
    pub(crate) async fn submit(
        &self,
        payloads: Vec<Bytes>,
    ) -> Result<Vec<Result<Committed, SubmitError>>, SubmitError> {
        let count = payloads.len();
        let fates = self.hold(payloads).await;
        match &fates {
            Err(error) => self.observer.proposals_failed(count, error.reason()),
            Ok(fates) => {
                for error in fates.iter().filter_map(|fate| fate.as_ref().err()) {
                    self.observer.proposals_failed(1, error.reason());
                }
            }
        }
        fates
    }

    async fn hold(
        &self,
        payloads: Vec<Bytes>,
    ) -> Result<Vec<Result<Committed, SubmitError>>, SubmitError> {
        if let Some(large) = payloads
            .iter()
            .find(|payload| payload.len() > COMMAND_BYTES_MAX)
        {
            return Err(SubmitError::TooLarge {
                bytes: large.len(),
                bytes_max: COMMAND_BYTES_MAX,
            });
        }
        let after = self.deadline;
        let outcomes = self.enqueue(payloads, true)?.await;
        let fate = |outcome| match outcome {
            Outcome::Applied(committed) => Ok(committed),
            Outcome::NotWritten => Err(SubmitError::NoLeader { after }),
            Outcome::Unknown => Err(SubmitError::Unknown { after }),
            Outcome::Declined(why) => Err(why.into()),
        };
        // The proposer answers every submission unless it is torn down with its runtime.
        outcomes
            .map(|outcomes| outcomes.into_iter().map(fate).collect())
            .map_err(|_| SubmitError::Unknown { after })
    }

    /// Makes one attempt at commands that another node holds and repeats.
    pub(crate) async fn attempt(&self, payloads: Vec<Bytes>) -> Result<Vec<Outcome>, SubmitError> {
        let count = payloads.len();
        let outcomes = self.enqueue(payloads, false)?.await;
        Ok(outcomes.unwrap_or_else(|_| vec![Outcome::Unknown; count]))
    }

    fn enqueue(
        &self,
        payloads: Vec<Bytes>,
        hold: bool,
    ) -> Result<oneshot::Receiver<Vec<Outcome>>, SubmitError> {
        if self.is_refusing.load(Ordering::Acquire) {
            return Err(SubmitError::Stopping);
        }
        let count = u32::try_from(payloads.len()).unwrap_or(u32::MAX);
        let busy = || SubmitError::Busy {
            pending: self.pending(),
            limit: self.limit,
        };
        let permit = Arc::clone(&self.permits)
            .try_acquire_many_owned(count)
            .map_err(|_| busy())?;
        let (reply, outcomes) = oneshot::channel();
        let submission = Submission {
            outcomes: vec![Outcome::NotWritten; payloads.len()],
            open: payloads.into_iter().enumerate().collect(),
            reply,
            deadline: Instant::now() + self.deadline,
            hold,
            permit,
        };
        self.queue
            .try_send(submission)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Closed(_) => SubmitError::Stopping,
                mpsc::error::TrySendError::Full(_) => busy(),
            })?;
        Ok(outcomes)
    }

    /// Proposals that are not answered yet.
    pub(crate) fn pending(&self) -> usize {
        self.limit.saturating_sub(self.permits.available_permits())
    }

    /// Waits until every proposal is answered.
    pub(crate) async fn drained(&self) {
        let all = u32::try_from(self.limit).unwrap_or(u32::MAX);
        drop(
            self.permits
                .acquire_many(all)
                .await
                .expect("the permits are never closed"),
        );
    }

    /// Refuses every later submission.
    pub(crate) fn refuse(&self) {
        self.is_refusing.store(true, Ordering::Release);
    }
}
