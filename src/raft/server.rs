//! The receiving side of the protocol: what a node answers its peers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_peers::{FrameStream, Method, Peer, Refusal, RefusalCode, Service, StreamError};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, future, stream};
use openraft::errors::Fatal;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, VoteRequest,
};
use tokio::sync::watch;

use crate::admission::{Admission, Decline};
use crate::clock::Clock;
use crate::observer::Observer;
use crate::reads::read_index;
use crate::record;
use crate::snapshot::Receiver;
use crate::state::Core;
use crate::status::Leadership;
use crate::submit::{Outcome, SubmitError, Submitter};
use crate::types::{Payload, RawId, Types, Vote};
use crate::wire::{self, AppendAnswer, AppendResult, Blob, Forward, ForwardAnswer};

/// Answers the methods in [`wire::METHODS`].
#[derive(Clone)]
pub(crate) struct Handlers {
    pub(crate) id: RawId,
    pub(crate) core: Core,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) clock_tolerance: Duration,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) submitter: Submitter,
    pub(crate) admission: Arc<dyn Admission>,
    pub(crate) receiver: Arc<Receiver>,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Service for Handlers {
    fn call(
        &self,
        from: Peer,
        method: Method,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let this = self.clone();
        async move {
            match method {
                wire::APPEND => this.append(body).await,
                wire::VOTE => this.vote(body, false).await,
                wire::PRE_VOTE => this.vote(body, true).await,
                wire::TRANSFER => this.transfer(body).await,
                wire::FORWARD => this.forward(body).await,
                wire::BARRIER => this.barrier(body).await,
                wire::SNAPSHOT => this.receiver.step(from.node_id, body).await,
                _ => Err(unknown_method(method)),
            }
        }
        .boxed()
    }

    fn stream(
        &self,
        _from: Peer,
        method: Method,
        input: FrameStream,
    ) -> BoxFuture<'static, Result<FrameStream, Refusal>> {
        let answer = match method {
            wire::REPLICATE => Ok(self.replicate(input)),
            _ => Err(unknown_method(method)),
        };
        future::ready(answer).boxed()
    }
}

fn unknown_method(method: Method) -> Refusal {
    Refusal::new(RefusalCode::UnknownMethod, method.path())
}

/// The core takes no more requests, and took this one neither.
fn stopped(fatal: &Fatal<Types>) -> Refusal {
    Refusal::unavailable(fatal)
}

/// Why a stream of appends ends from this side.
enum Stop {
    Answer(AppendResult),
    Refusal(Refusal),
}

impl Handlers {
    fn answer(&self, result: AppendResult) -> Bytes {
        wire::encode(&AppendAnswer::V1 {
            result,
            clock_ms: self.clock.now_ms(),
        })
    }

    /// Decodes an append and checks its stamps.
    fn open_append(&self, frame: &Bytes) -> Result<AppendEntriesRequest<Types>, Stop> {
        let request =
            wire::append_to_core(frame).map_err(|error| Stop::Refusal(error.to_refusal()))?;
        match self.stamped_ahead(&request) {
            Some(stamp_ms) => Err(Stop::Answer(AppendResult::Ahead { stamp_ms })),
            None => Ok(request),
        }
    }

    /// A stamp that is further ahead of this node's clock than the tolerance: the leader's
    /// clock is wrong, or this node's, and its entries could expire what is not due.
    fn stamped_ahead(&self, request: &AppendEntriesRequest<Types>) -> Option<u64> {
        let tolerance_ms = u64::try_from(self.clock_tolerance.as_millis()).unwrap_or(u64::MAX);
        let now_ms = self.clock.now_ms();
        let stamps = request
            .entries
            .iter()
            .filter_map(|entry| match &entry.payload {
                Payload::Normal(command) => record::open_command(command)
                    .ok()
                    .map(|(stamp_ms, _)| stamp_ms),
                _ => None,
            });
        let latest_ms = stamps
            .max()
            .filter(|stamp_ms| *stamp_ms > now_ms.saturating_add(tolerance_ms))?;
        let ahead = Duration::from_millis(latest_ms - now_ms);
        tracing::warn!(?ahead, tolerance = ?self.clock_tolerance, "an append was refused: its stamp is ahead of this node's clock");
        self.observer.append_refused(ahead);
        Some(latest_ms)
    }

    async fn append(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let request = match self.open_append(&body) {
            Ok(request) => request,
            Err(Stop::Answer(result)) => return Ok(self.answer(result)),
            Err(Stop::Refusal(refusal)) => return Err(refusal),
        };
        let previous = request.prev_log_id;
        let last = request
            .entries
            .last()
            .map(|entry| entry.log_id)
            .or(previous);
        let response = self
            .core
            .append_entries(request)
            .await
            .map_err(Refusal::unavailable)?;
        Ok(self.answer(append_result(response.into_stream_result(previous, last))))
    }

    /// Feeds a stream of appends to the core and streams its answers back. It ends with the
    /// first append that is not taken.
    fn replicate(&self, input: FrameStream) -> FrameStream {
        let stop = Arc::new(Mutex::new(None));
        let this = self.clone();
        let stopper = Arc::clone(&stop);
        let requests = input.scan((), move |(), frame| {
            let request = match frame {
                Ok(frame) => this.open_append(&frame),
                // The leader has gone; nobody reads what is answered.
                Err(error) => Err(Stop::Refusal(Refusal::new(RefusalCode::Malformed, error))),
            };
            let keep =
                |reason| *stopper.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            future::ready(request.map_err(keep).ok())
        });
        let this = self.clone();
        let answers = self
            .core
            .stream_append(requests)
            .map(move |result| match result {
                Ok(result) => Ok(this.answer(append_result(result))),
                Err(fatal) => Err(StreamError::Refused(stopped(&fatal))),
            });
        let this = self.clone();
        let last = stream::iter([()]).filter_map(move |()| {
            let reason = stop.lock().unwrap_or_else(PoisonError::into_inner).take();
            future::ready(reason.map(|reason| match reason {
                Stop::Answer(result) => Ok(this.answer(result)),
                Stop::Refusal(refusal) => Err(StreamError::Refused(refusal)),
            }))
        });
        answers.chain(last).boxed()
    }

    async fn vote(&self, body: Bytes, is_trial: bool) -> Result<Bytes, Refusal> {
        let wire::VoteRequest::V1 {
            vote,
            last,
            transfer,
        } = wire::decode(&body).map_err(|error| error.to_refusal())?;
        let mut request = VoteRequest::new(Vote::from(vote), last.map(Into::into));
        request.leadership_transfer = transfer;
        let answer = if is_trial {
            self.core.pre_vote(request).await
        } else {
            self.core.vote(request).await
        };
        let answer = answer.map_err(Refusal::unavailable)?;
        Ok(wire::encode(&wire::VoteAnswer::V1 {
            vote: answer.vote.into(),
            granted: answer.vote_granted,
            last: answer.last_log_id.map(Into::into),
        }))
    }

    async fn transfer(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let wire::Transfer::V1 { leader, to, last } =
            wire::decode(&body).map_err(|error| error.to_refusal())?;
        let request = TransferLeaderRequest::new(leader.into(), to, last.map(Into::into));
        let result = match self
            .core
            .handle_transfer_leader(request)
            .await
            .map_err(Refusal::unavailable)?
        {
            Ok(()) => wire::TransferResult::Accepted,
            Err(TransferLeaderError::VoteChanged { actual, .. }) => {
                wire::TransferResult::Outvoted {
                    actual: actual.into(),
                }
            }
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
                wire::TransferResult::Behind {
                    actual: actual.map(Into::into),
                }
            }
        };
        Ok(wire::encode(&wire::TransferAnswer::V1(result)))
    }

    /// Proposes what another node holds, if this node leads.
    async fn forward(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let Forward::V1 { payloads } = wire::decode(&body).map_err(|error| error.to_refusal())?;
        if self.leadership.borrow().leader != Some(self.id) {
            return Err(Refusal::unavailable("this node does not lead"));
        }
        let verdicts: Vec<_> = payloads
            .iter()
            .map(|payload| self.admission.admit(payload.0))
            .collect();
        let admitted = payloads
            .iter()
            .zip(&verdicts)
            .filter(|(_, verdict)| verdict.is_ok())
            .map(|(payload, _)| body.slice_ref(payload.0))
            .collect();
        let mut attempted = self.attempt(admitted).await?.into_iter();
        let outcomes: Vec<_> = verdicts
            .into_iter()
            .map(|verdict| match verdict {
                Ok(()) => attempted.next().unwrap_or(Outcome::Unknown),
                Err(why) => Outcome::Declined(why),
            })
            .collect();
        let answer_bytes = outcomes.iter().map(Outcome::answer_bytes).sum();
        let outcomes = outcomes.iter().map(|outcome| match outcome {
            Outcome::Applied(committed) => wire::Outcome::Applied {
                at: crate::types::log_id(committed.position.term, committed.position.index).into(),
                answer: Blob(&committed.answer),
            },
            Outcome::NotWritten => wire::Outcome::NotWritten,
            Outcome::Unknown => wire::Outcome::Unknown,
            Outcome::Declined(why) => wire::Outcome::Declined((*why).into()),
        });
        let outcomes: Vec<_> = outcomes.collect();
        let count = outcomes.len();
        Ok(wire::encode_large(
            &ForwardAnswer::V1 { outcomes },
            count,
            answer_bytes,
        ))
    }

    async fn attempt(&self, payloads: Vec<Bytes>) -> Result<Vec<Outcome>, Refusal> {
        let count = payloads.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        match self.submitter.attempt(payloads).await {
            Ok(outcomes) => Ok(outcomes),
            Err(SubmitError::Busy { .. }) => Ok(vec![Outcome::Declined(Decline::Busy); count]),
            Err(error) => Err(Refusal::unavailable(error)),
        }
    }

    async fn barrier(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let wire::Barrier::V1 = wire::decode(&body).map_err(|error| error.to_refusal())?;
        Ok(wire::encode(&wire::BarrierAnswer::V1 {
            index: read_index(&self.core).await,
        }))
    }
}

fn append_result(result: StreamAppendResult<Types>) -> AppendResult {
    match result {
        Ok(matching) => AppendResult::Matches(matching.map(Into::into)),
        Err(StreamAppendError::Conflict(at)) => AppendResult::Conflicts(at.into()),
        Err(StreamAppendError::HigherVote(vote)) => AppendResult::Outvoted(vote.into()),
    }
}
