//! One call or one stream.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use h2::{Reason, RecvStream};
use http::Response;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::dial::{read_answer, refused, request};
use super::link::{self, Link, Opened};
use super::{LinkError, Message, PeerError};
use crate::frames::{FrameReader, FrameWriter};
use crate::message::{ReadError, version_of};
use crate::wire::{Outgoing, WIRE_VERSION};
use crate::{Endpoint, FrameStream, Method, NodeId, RefusalCode, StreamError};

/// What a call or a stream needs to know.
pub(super) struct Exchange {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) runtime: Handle,
    pub(super) link: Arc<Link>,
    pub(super) node: NodeId,
    pub(super) method: Method,
    pub(super) timeout: Duration,
    pub(super) started: Instant,
}

impl Exchange {
    pub(super) async fn call(self, body: Bytes) -> Result<Bytes, PeerError> {
        let bytes = body.len();
        let bytes_max = self.method.request_bytes_max();
        if bytes > bytes_max {
            return Err(self.too_large(Message::Request, bytes, bytes_max));
        }
        let _admitted = self.admit_call(bytes).await?;
        let (response, mut sender) = self.open(Some(bytes)).await?;
        let answered = async {
            sender
                .send_data(Outgoing::message(body), true)
                .map_err(|error| self.broken(error))?;
            self.sent(bytes);
            let response = response.await.map_err(|error| self.broken(error))?;
            self.check(&response)?;
            let answer = read_answer(response, self.method.response_bytes_max()).await;
            answer.map_err(|error| self.unreadable(error))
        };
        let answer = timeout(self.left(), answered)
            .await
            .map_err(|_| self.timed_out())??;
        self.received(answer.len());
        Ok(answer)
    }

    pub(super) async fn stream(
        self,
        input: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<FrameStream, PeerError> {
        let admitted = self.admit_stream().await?;
        let (response, sender) = self.open(None).await?;
        let (failed, failure) = oneshot::channel();
        let writer = FrameWriter::start(sender, self.method.request_bytes_max())
            .map_err(|error| self.broken(error))?;
        let sent = {
            let (endpoint, node, lane) =
                (Arc::clone(&self.endpoint), self.node, self.method.lane());
            move |bytes| endpoint.observer.sent(node, lane, bytes)
        };
        let sender = self.runtime.spawn(async move {
            let input = Box::pin(input.map(Ok));
            if let Err(error) = writer.send_all(input, sent).await
                && let Err(error) = failed.send(error)
            {
                debug!(%error, "requests broke off after their answers were dropped");
            }
        });
        let sender = AbortOnDropHandle::new(sender);
        let opened = async {
            let response = response.await.map_err(|error| self.broken(error))?;
            self.check(&response)?;
            let mut reader =
                FrameReader::new(response.into_body(), self.method.response_bytes_max());
            match reader.read_version().await {
                Ok(()) => Ok(reader),
                Err(StreamError::Refused(source)) => Err(PeerError::Refused {
                    node: self.node,
                    source,
                }),
                Err(error) => Err(self.lost(error)),
            }
        };
        let reader = timeout(self.left(), opened)
            .await
            .map_err(|_| self.timed_out())??;
        Ok(Box::pin(Answers {
            reader,
            failure: Some(failure),
            exchange: self,
            _sender: sender,
            _admitted: admitted,
        }))
    }

    /// Waits for the call's place among those under way.
    async fn admit_call(
        &self,
        bytes: usize,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), PeerError> {
        let limits = self.endpoint.limits();
        let (calls, call_bytes) = (limits.calls_in_flight_max, limits.call_bytes_in_flight_max);
        let call = timeout(self.left(), link::take(&self.link.calls, 1))
            .await
            .map_err(|_| self.saturated("calls_in_flight_max", calls))?;
        let bytes = limits.call_bytes(self.method, bytes);
        let room = timeout(self.left(), link::take(&self.link.call_bytes, bytes))
            .await
            .map_err(|_| self.saturated("call_bytes_in_flight_max", call_bytes))?;
        Ok((call, room))
    }

    /// Waits for the stream's place among those open.
    async fn admit_stream(&self) -> Result<OwnedSemaphorePermit, PeerError> {
        let streams = self.endpoint.limits().streams_open_max;
        timeout(self.left(), link::take(&self.link.streams, 1))
            .await
            .map_err(|_| self.saturated("streams_open_max", streams))
    }

    /// Sends the head of the request, once there is a connection.
    async fn open(&self, bytes: Option<usize>) -> Result<Opened, PeerError> {
        let opened = self.link.open(request(self.method.path(), bytes));
        match timeout(self.left(), opened).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(cause)) => Err(self.unreachable(cause)),
            Err(_) => Err(self.unreachable(self.link.last_error())),
        }
    }

    /// Reads what the peer has to say before its answer.
    fn check(&self, response: &Response<RecvStream>) -> Result<(), PeerError> {
        match refused(response) {
            None => Ok(()),
            Some(refusal) if refusal.code() == RefusalCode::Version => {
                Err(self.version(version_of(response.headers())))
            }
            Some(source) => Err(PeerError::Refused {
                node: self.node,
                source,
            }),
        }
    }

    fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.started.elapsed())
    }

    fn sent(&self, bytes: usize) {
        let observer = &self.endpoint.observer;
        observer.sent(self.node, self.method.lane(), bytes);
    }

    fn received(&self, bytes: usize) {
        let observer = &self.endpoint.observer;
        observer.received(self.node, self.method.lane(), bytes);
    }

    fn unreachable(&self, cause: Option<Arc<LinkError>>) -> PeerError {
        let node = self.node;
        match cause.as_deref() {
            Some(LinkError::Identity { source, .. }) => PeerError::WrongIdentity {
                node,
                source: source.clone(),
            },
            // A refusal of the greeting that leaves open what it means is no answer to this.
            Some(LinkError::Refused(refusal)) if refusal.code().is_without_effect() => {
                PeerError::Refused {
                    node,
                    source: refusal.clone(),
                }
            }
            Some(&LinkError::Version { ours, theirs }) => PeerError::Version { node, ours, theirs },
            _ => PeerError::Unreachable {
                node,
                source: cause,
            },
        }
    }

    /// The error of a request whose head is on its way.
    fn broken(&self, error: h2::Error) -> PeerError {
        if is_unprocessed(&error) {
            return self.unreachable(Some(Arc::new(LinkError::Lost {
                source: error.into(),
            })));
        }
        self.lost(error)
    }

    fn lost(&self, error: impl Error + Send + Sync + 'static) -> PeerError {
        PeerError::Broken {
            node: self.node,
            method: self.method.path(),
            source: error.into(),
        }
    }

    fn unreadable(&self, error: ReadError) -> PeerError {
        match error {
            ReadError::Broken(error) => self.broken(error),
            ReadError::TooLarge { bytes, bytes_max } => {
                self.too_large(Message::Answer, bytes, bytes_max)
            }
            // Whoever answers has carried the request out, even in a version that is not ours.
            ReadError::Version { .. } | ReadError::NoLength | ReadError::Empty => self.lost(error),
        }
    }

    fn version(&self, theirs: u8) -> PeerError {
        PeerError::Version {
            node: self.node,
            ours: WIRE_VERSION,
            theirs,
        }
    }

    fn too_large(&self, what: Message, bytes: usize, bytes_max: usize) -> PeerError {
        PeerError::TooLarge {
            what,
            method: self.method.path(),
            bytes,
            bytes_max,
        }
    }

    fn timed_out(&self) -> PeerError {
        PeerError::TimedOut {
            node: self.node,
            method: self.method.path(),
            after: self.timeout,
        }
    }

    fn saturated(&self, bound: &'static str, limit: u32) -> PeerError {
        PeerError::Saturated {
            node: self.node,
            bound,
            limit,
        }
    }
}

/// Whether the peer says that it has not looked at the request (RFC 9113, sections 6.8 and
/// 8.7). HTTP/2 gives the error of a GOAWAY only to the streams beyond its last.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

/// The answers of a stream.
struct Answers {
    reader: FrameReader,
    /// Why the requests broke off on this side, if they do.
    failure: Option<oneshot::Receiver<StreamError>>,
    exchange: Exchange,
    _sender: AbortOnDropHandle<()>,
    _admitted: OwnedSemaphorePermit,
}

impl Stream for Answers {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(failure) = &mut self.failure
            && let Poll::Ready(failed) = failure.poll_unpin(cx)
        {
            self.failure = None;
            if let Ok(error) = failed {
                self.reader.stop();
                return Poll::Ready(Some(Err(error)));
            }
        }
        let next = self.reader.poll_next_unpin(cx);
        if let Poll::Ready(Some(Ok(message))) = &next {
            self.exchange.received(message.len());
        }
        next
    }
}
