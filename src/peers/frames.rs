//! Streams of messages over an HTTP/2 stream, with its flow control at both ends: a sender takes
//! the next message only when the one before it has room, and a receiver gives room back only
//! for what its consumer has taken.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use h2::{RecvStream, SendStream};
use thiserror::Error;
use tracing::debug;

use crate::wire::{LENGTH_BYTES, Outgoing, WIRE_VERSION};
use crate::{Refusal, RefusalCode};

/// The messages of one direction of a stream. After an error it ends.
pub type FrameStream = Pin<Box<dyn Stream<Item = Result<Bytes, StreamError>> + Send>>;

/// Why a stream of messages broke off.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The peer ended it, and says why.
    #[error("the peer ended the stream")]
    Refused(#[from] Refusal),
    /// The connection or the stream is gone.
    #[error("the stream broke")]
    Broken {
        /// What HTTP/2 says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The stream ended in the middle of a message.
    #[error("the stream ended within a message, after {received} of its bytes")]
    Truncated {
        /// How many bytes of the message and its prefix had come.
        received: usize,
    },
    /// A message exceeds the bound of its method.
    #[error("a message of {bytes} bytes exceeds the bound of {bytes_max}")]
    TooLarge {
        /// Its size, in bytes.
        bytes: usize,
        /// The bound, in bytes.
        bytes_max: usize,
    },
    /// The peer sends messages of another version.
    #[error("the stream is of version {theirs}, not {ours}")]
    Version {
        /// The version of this node.
        ours: u8,
        /// The version of the peer.
        theirs: u8,
    },
    /// The peer is no longer a member.
    #[error("the peer is no longer admitted")]
    NotAdmitted,
    /// This node's server is stopping.
    #[error("the server is stopping")]
    ShuttingDown,
}

impl StreamError {
    fn broken(source: h2::Error) -> Self {
        Self::Broken {
            source: source.into(),
        }
    }

    /// What the peer is told when a stream ends with this error.
    pub(crate) fn to_refusal(&self) -> Refusal {
        let code = match self {
            Self::Refused(refusal) => return refusal.clone(),
            Self::TooLarge { .. } => RefusalCode::TooLarge,
            Self::Version { .. } => RefusalCode::Version,
            Self::Truncated { .. } => RefusalCode::Malformed,
            Self::NotAdmitted => RefusalCode::NotAdmitted,
            Self::ShuttingDown => RefusalCode::ShuttingDown,
            Self::Broken { .. } => RefusalCode::Failed,
        };
        Refusal::new(code, self)
    }
}

/// Reads the messages of a stream.
pub(crate) struct FrameReader {
    receiver: RecvStream,
    bytes_max: usize,
    /// What came last and is not yet taken.
    chunk: Bytes,
    /// How much of the window it holds.
    chunk_bytes: usize,
    state: ReadState,
}

enum ReadState {
    /// Within the length of the next message.
    Length {
        bytes: [u8; LENGTH_BYTES],
        filled: usize,
    },
    /// Within a message that came in several chunks.
    Payload { collected: BytesMut, length: usize },
    /// After the end or an error.
    Ended,
}

impl ReadState {
    const START: Self = Self::Length {
        bytes: [0; LENGTH_BYTES],
        filled: 0,
    };
}

impl FrameReader {
    pub(crate) fn new(receiver: RecvStream, bytes_max: usize) -> Self {
        Self {
            receiver,
            bytes_max,
            chunk: Bytes::new(),
            chunk_bytes: 0,
            state: ReadState::START,
        }
    }

    /// Reads no more.
    pub(crate) fn stop(&mut self) {
        self.state = ReadState::Ended;
    }

    /// Reads the version that begins the stream.
    pub(crate) async fn read_version(&mut self) -> Result<(), StreamError> {
        if !poll_fn(|cx| self.poll_chunk(cx)).await? {
            return Err(StreamError::Truncated { received: 0 });
        }
        match self.chunk.get_u8() {
            WIRE_VERSION => Ok(()),
            theirs => Err(StreamError::Version {
                ours: WIRE_VERSION,
                theirs,
            }),
        }
    }

    /// Waits until `chunk` has a byte; false at the end of the stream.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        while self.chunk.is_empty() {
            if self.chunk_bytes > 0 {
                self.receiver
                    .flow_control()
                    .release_capacity(std::mem::take(&mut self.chunk_bytes))
                    .map_err(StreamError::broken)?;
            }
            match ready!(self.receiver.poll_data(cx)) {
                Some(Ok(chunk)) => {
                    self.chunk_bytes = chunk.len();
                    self.chunk = chunk;
                }
                Some(Err(error)) => return Poll::Ready(Err(StreamError::broken(error))),
                None => return self.poll_end(cx),
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Learns from the trailer fields whether the peer meant the stream to end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        let trailers = ready!(self.receiver.poll_trailers(cx)).map_err(StreamError::broken)?;
        Poll::Ready(match trailers.as_ref().and_then(Refusal::from_fields) {
            Some(refusal) => Err(StreamError::Refused(refusal)),
            None => Ok(false),
        })
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        loop {
            if matches!(self.state, ReadState::Ended) {
                return Poll::Ready(Ok(None));
            }
            if let Some(message) = self.take_from_chunk()? {
                return Poll::Ready(Ok(Some(message)));
            }
            if !ready!(self.poll_chunk(cx))? {
                return Poll::Ready(match self.received() {
                    0 => Ok(None),
                    received => Err(StreamError::Truncated { received }),
                });
            }
        }
    }

    /// Takes from the chunk what the next message lacks, and the message if it is then whole.
    fn take_from_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        if let ReadState::Length { bytes, filled } = &mut self.state {
            let count = (LENGTH_BYTES - *filled).min(self.chunk.len());
            self.chunk
                .copy_to_slice(&mut bytes[*filled..*filled + count]);
            *filled += count;
            if *filled < LENGTH_BYTES {
                return Ok(None);
            }
            let length = usize::try_from(u32::from_be_bytes(*bytes)).unwrap_or(usize::MAX);
            if length > self.bytes_max {
                return Err(StreamError::TooLarge {
                    bytes: length,
                    bytes_max: self.bytes_max,
                });
            }
            if length <= self.chunk.len() {
                self.state = ReadState::START;
                return Ok(Some(self.chunk.split_to(length)));
            }
            self.state = ReadState::Payload {
                collected: BytesMut::with_capacity(length),
                length,
            };
        }
        if let ReadState::Payload { collected, length } = &mut self.state {
            let count = (*length - collected.len()).min(self.chunk.len());
            collected.extend_from_slice(&self.chunk.split_to(count));
            if collected.len() == *length {
                let message = std::mem::take(collected).freeze();
                self.state = ReadState::START;
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// How much of an unfinished message has come.
    fn received(&self) -> usize {
        match &self.state {
            ReadState::Length { filled, .. } => *filled,
            ReadState::Payload { collected, .. } => LENGTH_BYTES + collected.len(),
            ReadState::Ended => 0,
        }
    }
}

impl Stream for FrameReader {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = ready!(self.poll_message(cx));
        if !matches!(message, Ok(Some(_))) {
            self.state = ReadState::Ended;
        }
        Poll::Ready(message.transpose())
    }
}

/// The largest message that is copied into a frame with others, in bytes.
const GATHERED_MESSAGE_BYTES_MAX: usize = 4 << 10;

/// How many bytes of small messages make a frame.
const BATCH_BYTES: usize = 16 << 10;

/// Writes the messages of a stream. Small messages that are ready at the same time share a
/// frame: that is faster, and it spares the peer the bookkeeping for many small frames, of
/// which HTTP/2 implementations tolerate only so many unread (`h2` closes the connection).
pub(crate) struct FrameWriter {
    sender: SendStream<Outgoing>,
    bytes_max: usize,
}

impl FrameWriter {
    /// A writer on a stream whose header fields are sent; sends the version.
    pub(crate) fn start(
        mut sender: SendStream<Outgoing>,
        bytes_max: usize,
    ) -> Result<Self, h2::Error> {
        sender.send_data(Outgoing::stream_version(), false)?;
        Ok(Self { sender, bytes_max })
    }

    /// Sends what `messages` yields until it ends, errs, or the peer wants no more; reports
    /// each message's size to `sent`. The error is the one that the messages ended with or that
    /// kept them from being sent; a peer that is gone is none, because its answers say so.
    pub(crate) async fn send_all(
        mut self,
        mut messages: impl Stream<Item = Result<Bytes, StreamError>> + Unpin,
        sent: impl Fn(usize),
    ) -> Result<(), StreamError> {
        let mut batch = BytesMut::new();
        let outcome = loop {
            let message = match self.next(&mut messages, !batch.is_empty()).await {
                Next::Message(message) => message,
                Next::Pause => match self.flush(&mut batch).await {
                    Ok(()) => continue,
                    Err(Closed) => return Ok(()),
                },
                Next::End => break Ok(()),
                Next::Error(error) => break Err(error),
                Next::Left => return Ok(()),
            };
            let (bytes, bytes_max) = (message.len(), self.bytes_max);
            if bytes > bytes_max {
                break Err(StreamError::TooLarge { bytes, bytes_max });
            }
            match self.add(&mut batch, message).await {
                Ok(()) => sent(bytes),
                Err(Closed) => return Ok(()),
            }
        };
        if let Err(Closed) = self.flush(&mut batch).await {
            return Ok(());
        }
        match outcome {
            Ok(()) => {
                self.end();
                Ok(())
            }
            Err(error) => Err(self.refuse(error)),
        }
    }

    /// The next message; if there is something to `flush` first, does not wait for it.
    async fn next(
        &mut self,
        messages: &mut (impl Stream<Item = Result<Bytes, StreamError>> + Unpin),
        flush: bool,
    ) -> Next {
        poll_fn(|cx| {
            if self.sender.poll_reset(cx).is_ready() {
                return Poll::Ready(Next::Left);
            }
            match messages.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(message))) => Poll::Ready(Next::Message(message)),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Next::Error(error)),
                Poll::Ready(None) => Poll::Ready(Next::End),
                Poll::Pending if flush => Poll::Ready(Next::Pause),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Sends a large message as it is; gathers small ones until they are worth a frame.
    async fn add(&mut self, batch: &mut BytesMut, message: Bytes) -> Result<(), Closed> {
        if message.len() > GATHERED_MESSAGE_BYTES_MAX {
            self.flush(batch).await?;
            return send_message(&mut self.sender, Outgoing::frame(message), false).await;
        }
        batch.put(Outgoing::frame(message));
        if batch.len() >= BATCH_BYTES {
            self.flush(batch).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, batch: &mut BytesMut) -> Result<(), Closed> {
        let gathered = Outgoing::gathered(batch.split().freeze());
        send_message(&mut self.sender, gathered, false).await
    }

    /// Ends the stream in good order.
    fn end(&mut self) {
        if let Err(error) = self.sender.send_data(Outgoing::end(), true) {
            debug!(%error, "peer left the stream before its end");
        }
    }

    /// Ends the stream with the reason in its trailer fields.
    fn refuse(&mut self, error: StreamError) -> StreamError {
        if let Err(gone) = self.sender.send_trailers(error.to_refusal().to_fields()) {
            debug!(error = %gone, "peer left the stream before its end");
        }
        error
    }
}

/// What a writer meets next.
enum Next {
    Message(Bytes),
    Error(StreamError),
    /// There is no message yet.
    Pause,
    /// There are no more messages.
    End,
    /// The peer wants no more.
    Left,
}

/// Hands over a message piece by piece, as the peer's windows allow, and ends the stream with
/// it if `end`.
pub(crate) async fn send_message(
    sender: &mut SendStream<Outgoing>,
    mut message: Outgoing,
    end: bool,
) -> Result<(), Closed> {
    while message.has_remaining() {
        sender.reserve_capacity(message.remaining());
        while sender.capacity() == 0 {
            match poll_fn(|cx| sender.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Closed),
            }
        }
        let piece = message.split_to(sender.capacity());
        let last = end && !message.has_remaining();
        sender.send_data(piece, last).map_err(|_| Closed)?;
    }
    Ok(())
}

/// The peer has left the stream.
#[derive(Debug, Error)]
#[error("the peer has left the stream")]
pub(crate) struct Closed;
