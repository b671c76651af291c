//! Whether the requests of a connection get anywhere.
//!
//! An HTTP/2 client that only answers pings would keep its connection for ever, and so
//! would one that never takes the answer that it asked for. Neither moves anything here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// What moved on a connection, and when.
pub(crate) struct Activity {
    opened: Instant,
    /// Milliseconds from the opening to the last movement.
    moved_ms: AtomicU64,
    /// Whether there ever was a request.
    begun: AtomicBool,
    /// Requests that are being read and handled, which have their own bounds in time.
    at_work: AtomicUsize,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            moved_ms: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            at_work: AtomicUsize::new(0),
        })
    }

    /// Whether there ever was a request.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// A request came, and is worked on until the answer is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> AtWork {
        self.begun.store(true, Ordering::Relaxed);
        self.at_work.fetch_add(1, Ordering::AcqRel);
        AtWork(Arc::clone(self))
    }

    fn moved(&self) {
        let now = self.opened.elapsed().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        self.moved_ms.fetch_max(now, Ordering::AcqRel);
    }

    /// Ends once no request is worked on and nothing has moved for `limit`.
    pub(crate) async fn quiet(&self, limit: Duration) {
        loop {
            let at_work = self.at_work.load(Ordering::Acquire) > 0;
            let moved = Duration::from_millis(self.moved_ms.load(Ordering::Acquire));
            let since = self.opened.elapsed().saturating_sub(moved);
            let rest = limit.saturating_sub(since);
            match (at_work, rest.is_zero()) {
                (false, true) => return,
                (false, false) => tokio::time::sleep(rest).await,
                // Its end is a movement, after which there are `limit` more.
                (true, _) => tokio::time::sleep(limit).await,
            }
        }
    }
}

/// A request that is worked on.
pub(crate) struct AtWork(Arc<Activity>);

impl AtWork {
    /// The work is done, and the body of its answer is to be taken.
    pub(crate) fn answer(self, body: Body) -> Answer {
        Answer {
            body,
            activity: Arc::clone(&self.0),
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.moved();
        self.0.at_work.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A body that tells when a piece of it is taken.
pub(crate) struct Answer {
    body: Body,
    activity: Arc<Activity>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if polled.is_ready() {
            this.activity.moved();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const PART: Duration = Duration::from_secs(20);

    /// How long it takes until the connection counts as quiet.
    async fn quiet_after(activity: &Activity) -> Duration {
        let since = Instant::now();
        activity.quiet(LIMIT).await;
        since.elapsed()
    }

    fn about(took: Duration, expected: Duration) {
        assert!(took.abs_diff(expected).as_millis() < 10, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_is_quiet() {
        let activity = Activity::new();
        about(quiet_after(&activity).await, LIMIT);
        assert!(!activity.has_begun());
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_never_quiet_and_the_time_runs_from_its_end() {
        let activity = Activity::new();
        let (one, other) = (activity.begin(), activity.begin());
        assert!(activity.has_begun());
        let work = async {
            tokio::time::sleep(5 * LIMIT).await;
            drop(one);
            tokio::time::sleep(PART).await;
            drop(other);
        };
        let (took, ()) = tokio::join!(quiet_after(&activity), work);
        about(took, 5 * LIMIT + PART + LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_taken_is_not_quiet_and_one_that_is_left_is() {
        use http_body_util::BodyExt as _;
        let activity = Activity::new();
        let pieces = [(); 9].map(|()| Ok::<_, std::io::Error>(Bytes::from_static(b"x")));
        let body = Body::from_stream(futures::stream::iter(pieces));
        let mut answer = activity.begin().answer(body);
        let take = async {
            for _ in 0..5 {
                tokio::time::sleep(PART).await;
                answer.frame().await.unwrap().unwrap();
            }
        };
        let (took, ()) = tokio::join!(quiet_after(&activity), take);
        about(took, 5 * PART + LIMIT);
    }
}
