//! One subscriber, from its first event to its close.

use std::sync::Arc;
use std::time::Duration;

use aegis_ledger::EventPosition;
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use super::feed::{Feed, Page};
use super::handshake::Start;
use crate::metrics::{EVENT_SUBSCRIBERS, EVENT_SUBSCRIBERS_CLOSED, EVENTS_SENT};
use crate::settings::EventLimits;

/// Pings in a row that a subscriber may leave unanswered.
const PINGS_MISSED_MAX: u32 = 2;

/// Why a subscription ends.
#[derive(Debug)]
enum End {
    /// History that was asked for is gone.
    Gone(EventPosition),
    /// The client left an event untaken for too long.
    Slow,
    /// The server stops.
    Stopping,
    /// The events cannot be read.
    Failed,
    /// The client left, or is not heard of.
    Left,
}

impl End {
    /// What the client is told, if it still listens.
    fn close_frame(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Gone(oldest) => {
                let EventPosition { index, ordinal } = oldest;
                let reason = format!("history is gone; the oldest event is {}.{ordinal}", index.0);
                (4410, reason)
            }
            Self::Slow => (
                1013,
                "too slow; resume after the last event taken".to_owned(),
            ),
            Self::Stopping => (1012, "the server is stopping; resume elsewhere".to_owned()),
            Self::Failed => (1011, "this node cannot read its events".to_owned()),
            Self::Left => return None,
        };
        Some(CloseFrame {
            code: code.into(),
            reason: reason.into(),
        })
    }

    const fn label(&self) -> &'static str {
        match self {
            Self::Gone(_) => "4410",
            Self::Slow => "1013",
            Self::Stopping => "1012",
            Self::Failed => "1011",
            Self::Left => "left",
        }
    }
}

/// A connection that follows events.
pub(super) struct Subscriber {
    feed: Arc<Feed>,
    socket: WebSocketStream<TokioIo<Upgraded>>,
    limits: EventLimits,
    sent: metrics::Counter,
}

impl Subscriber {
    pub(super) fn new(
        feed: Arc<Feed>,
        socket: WebSocketStream<TokioIo<Upgraded>>,
        limits: EventLimits,
    ) -> Self {
        Self {
            feed,
            socket,
            limits,
            sent: EVENTS_SENT.with([]),
        }
    }

    pub(super) async fn run(mut self, start: Start, stop: &CancellationToken) {
        let present = EVENT_SUBSCRIBERS.with([]);
        present.increment(1.0);
        let end = match start {
            Start::Gone(oldest) => End::Gone(oldest),
            Start::At { number, position } => self.follow(number, position, stop).await,
        };
        EVENT_SUBSCRIBERS_CLOSED
            .with([("code", end.label())])
            .increment(1);
        if let Some(frame) = end.close_frame() {
            // A client that never answers is cut off by the time.
            let closed = timeout(self.limits.close_timeout, close(&mut self.socket, frame)).await;
            tracing::debug!(?end, answered = closed.is_ok(), "subscriber closed");
        }
        present.decrement(1.0);
    }

    /// Sends events from a number on, but none before `position`.
    async fn follow(
        &mut self,
        mut next: u64,
        position: Option<EventPosition>,
        stop: &CancellationToken,
    ) -> End {
        let mut numbers = self.feed.numbers();
        let period = self.limits.ping_interval;
        let mut pings = interval_at(Instant::now() + period, period);
        let mut missed = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return End::Stopping,
                message = self.socket.next() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Left,
                    Some(Ok(_)) => missed = 0,
                },
                _ = pings.tick() => {
                    if missed == PINGS_MISSED_MAX {
                        return End::Left;
                    }
                    missed += 1;
                    if let Err(end) = self.send(Message::Ping(Default::default())).await {
                        return end;
                    }
                    if let Err(end) = self.flush().await {
                        return end;
                    }
                },
                more = more_than(&mut numbers, next) => {
                    if more.is_err() {
                        return End::Stopping;
                    }
                    match self.send_page(next, position).await {
                        Ok(after) => next = after,
                        Err(end) => return end,
                    }
                }
            }
        }
    }

    /// Sends the events of one page and gives the number to go on from.
    async fn send_page(&mut self, from: u64, position: Option<EventPosition>) -> Result<u64, End> {
        let events = match self.feed.page(from).await {
            Ok(Page::Events(events)) if !events.is_empty() => events,
            Ok(Page::Events(_)) => {
                // To ask again at once would never end if the tables never show them.
                tracing::warn!(from, "events were announced that are not there");
                return Err(End::Failed);
            }
            Ok(Page::Gone(oldest)) => return Err(End::Gone(oldest)),
            Err(problem) => {
                tracing::warn!(detail = problem.detail(), "events cannot be read");
                return Err(End::Failed);
            }
        };
        let mut next = from;
        for event in events {
            next += 1;
            if position.is_none_or(|position| event.position >= position) {
                self.send(Message::Text(event.text)).await?;
                self.sent.increment(1);
            }
        }
        self.flush().await?;
        Ok(next)
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        in_time(self.limits.send_timeout, self.socket.feed(message)).await
    }

    async fn flush(&mut self) -> Result<(), End> {
        in_time(self.limits.send_timeout, self.socket.flush()).await
    }
}

/// Waits until there are more than `seen` events; an error if there will be none.
async fn more_than(numbers: &mut watch::Receiver<u64>, seen: u64) -> Result<(), RecvError> {
    numbers.wait_for(|events| *events > seen).await.map(drop)
}

/// A write that ends in time, or the end of the subscriber.
async fn in_time(
    time: Duration,
    write: impl Future<Output = Result<(), Error>>,
) -> Result<(), End> {
    match timeout(time, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::debug!(%error, "subscriber lost");
            Err(End::Left)
        }
        Err(_) => Err(End::Slow),
    }
}

/// Closes a socket and waits for the client's own close, so that it reads why before the
/// connection ends.
async fn close(
    socket: &mut WebSocketStream<TokioIo<Upgraded>>,
    frame: CloseFrame,
) -> Result<(), Error> {
    socket.close(Some(frame)).await?;
    while let Some(message) = socket.next().await {
        message?;
    }
    Ok(())
}
