//! Reading a request's body within bounds of size and time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::router::BodyRule;
use crate::problem::Problem;

/// How much of a body beyond the limit is read and dropped, so that a client in the middle
/// of sending it finds the answer instead of a reset connection.
const DROPPED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What room is counted in.
const ROOM_BYTES: usize = 1_024;
/// When to come back if there is no room.
const ROOM_RETRY: Duration = Duration::from_secs(1);

/// Room in memory for the bodies of all requests. A body takes of it what has come, not
/// what was declared or is allowed: a client that sends nothing takes nothing from the
/// others.
pub(crate) struct Room(Semaphore);

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Semaphore::new(bytes / ROOM_BYTES))
    }

    /// Room for a body of which nothing has come.
    fn share(&self) -> Share<'_> {
        Share {
            room: &self.0,
            held: None,
        }
    }
}

/// What one body takes of the room.
pub(crate) struct Share<'a> {
    room: &'a Semaphore,
    held: Option<SemaphorePermit<'a>>,
}

impl Share<'_> {
    /// Makes room for a body of `bytes` so far.
    fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        let held = self.held.as_ref().map_or(0, SemaphorePermit::num_permits);
        let missing = bytes.div_ceil(ROOM_BYTES).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = self.room.try_acquire_many(missing).map_err(|_| {
            Problem::busy(
                "too many requests are under way; send this one again after a pause",
                ROOM_RETRY,
            )
        })?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

/// A body and the room that it takes until it is dropped.
pub(crate) struct Received<'a> {
    pub(crate) bytes: Bytes,
    pub(crate) share: Share<'a>,
}

/// Reads the body that an operation takes.
pub(crate) async fn read<'a>(
    rule: BodyRule,
    head: &Parts,
    incoming: Body,
    timeout: Duration,
    room: &'a Room,
) -> Result<Received<'a>, Problem> {
    let nothing = || Received {
        bytes: Bytes::new(),
        share: room.share(),
    };
    let (max, optional) = match rule {
        BodyRule::Nothing => return Ok(nothing()),
        BodyRule::Json(max) => (max, false),
        BodyRule::OptionalJson(max) => (max, true),
    };
    if optional && incoming.is_end_stream() {
        return Ok(nothing());
    }
    check_content_type(&head.headers)?;
    collect(incoming, &head.headers, max, timeout, room).await
}

/// `application/json`, with any parameters: JSON is UTF-8 whatever they say.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let essence = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or(value).trim());
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "send the body as Content-Type: application/json",
    ))
}

async fn collect<'a>(
    mut incoming: Body,
    headers: &HeaderMap,
    max: usize,
    timeout: Duration,
    room: &'a Room,
) -> Result<Received<'a>, Problem> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok())
        .unwrap_or(0);
    if declared > max {
        if declared <= DROPPED_BYTES_MAX && !expects_continue(headers) {
            drop_rest(incoming, max, timeout).await;
        }
        return Err(Problem::too_large(max));
    }
    let gathered = tokio::time::timeout(timeout, gather(&mut incoming, max, room)).await;
    match gathered.map_err(|_| too_slow(timeout))?? {
        Gathered::All(received) => Ok(received),
        Gathered::Stopped { at, problem } => {
            drop_rest(incoming, at, timeout).await;
            Err(problem)
        }
    }
}

/// What came of reading a body.
enum Gathered<'a> {
    /// All of it.
    All(Received<'a>),
    /// After so many bytes it was not to be taken; the rest may be on its way.
    Stopped { at: usize, problem: Problem },
}

async fn gather<'a>(
    incoming: &mut Body,
    max: usize,
    room: &'a Room,
) -> Result<Gathered<'a>, Problem> {
    let mut share = room.share();
    // A body that came with its head is one piece already, and is not copied.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(piece) = frame.map_err(|error| cut_short(&error))?.into_data() else {
            continue;
        };
        let at = first.len() + whole.len() + piece.len();
        let taken = if at > max {
            Err(Problem::too_large(max))
        } else {
            share.grow_to(at)
        };
        if let Err(problem) = taken {
            return Ok(Gathered::Stopped { at, problem });
        }
        if first.is_empty() && whole.is_empty() {
            first = piece;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&piece);
    }
    let bytes = if whole.is_empty() {
        first
    } else {
        whole.freeze()
    };
    Ok(Gathered::All(Received { bytes, share }))
}

/// Such a client waits for leave to send the body, and is not given it.
fn expects_continue(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::EXPECT)
}

/// Reads what is not to be taken, for so long at most.
async fn drop_rest(mut incoming: Body, read: usize, timeout: Duration) {
    let dropping = async {
        let mut dropped = read;
        while dropped <= DROPPED_BYTES_MAX {
            match incoming.frame().await {
                Some(Ok(frame)) => dropped += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => return,
            }
        }
    };
    if tokio::time::timeout(timeout, dropping).await.is_err() {
        tracing::debug!("a refused body did not end");
    }
}

fn too_slow(timeout: Duration) -> Problem {
    let detail = format!("the body did not come within {} s", timeout.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
}

fn cut_short(error: &axum::Error) -> Problem {
    let detail = format!("the body was cut short: {error}");
    Problem::new(StatusCode::BAD_REQUEST, "invalid_body", detail)
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, poll, stream};

    use super::*;

    #[test]
    fn room_is_taken_as_bytes_come_and_comes_back() {
        let room = Room::new(8 * ROOM_BYTES);
        let free = || room.0.available_permits();
        let mut idle: Vec<_> = (0..100).map(|_| room.share()).collect();
        for share in &mut idle {
            share.grow_to(0).unwrap();
        }
        assert_eq!(free(), 8);
        let mut slow = room.share();
        for (bytes, left) in [(1, 7), (ROOM_BYTES, 7), (ROOM_BYTES + 1, 6)] {
            slow.grow_to(bytes).unwrap();
            assert_eq!(free(), left, "{bytes}");
        }
        let mut other = room.share();
        other.grow_to(6 * ROOM_BYTES).unwrap();
        let refused = slow.grow_to(2 * ROOM_BYTES + 1).unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.code()), (429, "busy"));
        // What was refused took nothing, and what was held is still held.
        assert_eq!(free(), 0);
        drop(other);
        slow.grow_to(8 * ROOM_BYTES).unwrap();
        drop(slow);
        assert_eq!(free(), 8);
    }

    /// A request's head that says that its body is JSON.
    fn json_head() -> Parts {
        let request = http::Request::post("/").header(CONTENT_TYPE, "application/json");
        request.body(()).unwrap().into_parts().0
    }

    /// A body of so many units, which ends or stalls.
    fn body(units: usize, ends: bool) -> Body {
        let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b' '; ROOM_BYTES]));
        let pieces = stream::iter((0..units).map(move |_| piece()));
        if ends {
            Body::from_stream(pieces)
        } else {
            Body::from_stream(pieces.chain(stream::pending()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_body_keeps_what_came_from_others_until_it_is_cut() {
        const TIMEOUT: Duration = Duration::from_secs(30);
        let (room, head) = (Room::new(8 * ROOM_BYTES), json_head());
        let free = || room.0.available_permits();
        let read = |body| read(BodyRule::Json(1 << 20), &head, body, TIMEOUT, &room);
        let mut stalled = Box::pin(read(body(6, false)));
        assert!(poll!(&mut stalled).is_pending());
        assert_eq!(free(), 2);
        let refused = read(body(3, true)).await.err().unwrap();
        assert_eq!((refused.status().as_u16(), refused.code()), (429, "busy"));
        assert_eq!(free(), 2);
        let small = read(body(2, true)).await.unwrap();
        assert_eq!((small.bytes.len(), free()), (2 * ROOM_BYTES, 0));
        drop(small);
        let cut = stalled.await.err().unwrap();
        assert_eq!(cut.code(), "request_timeout");
        assert_eq!(free(), 8);
        // One that is refused and then stalls is answered what it was refused for.
        let refused = read(body(9, false)).await.err().unwrap();
        assert_eq!(refused.code(), "busy");
        assert_eq!(free(), 8);
    }
}
