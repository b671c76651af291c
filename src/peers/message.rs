//! The parts that requests and answers have in common on both sides.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::{Ping, PingPong, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use thiserror::Error;

use crate::refusal::VERSION_FIELD;
use crate::wire::WIRE_VERSION;

/// Why the body of a call or of its answer cannot be had.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error("there is no content-length, or not one")]
    NoLength,
    #[error("the body has not even a version")]
    Empty,
    #[error("a message of {bytes} bytes exceeds the bound of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("the message is of version {theirs}, not {ours}")]
    Version { ours: u8, theirs: u8 },
    #[error("the body broke off")]
    Broken(#[source] h2::Error),
}

/// The size of the message that `fields` announce, without its version byte.
pub(crate) fn message_bytes(fields: &HeaderMap, bytes_max: usize) -> Result<usize, ReadError> {
    let length: usize = fields
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .ok_or(ReadError::NoLength)?;
    let bytes = length.checked_sub(1).ok_or(ReadError::Empty)?;
    if bytes > bytes_max {
        return Err(ReadError::TooLarge { bytes, bytes_max });
    }
    Ok(bytes)
}

/// The value of `content-length` for a message of `bytes` bytes.
pub(crate) fn content_length(bytes: usize) -> HeaderValue {
    HeaderValue::from(bytes + 1)
}

/// Reads a message of `bytes` bytes; HTTP/2 sees to it that the body is as long as announced.
/// The window is given back at once, since the memory is already accounted for.
pub(crate) async fn read_message(body: &mut RecvStream, bytes: usize) -> Result<Bytes, ReadError> {
    let mut collected = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(ReadError::Broken)?;
        body.flow_control()
            .release_capacity(chunk.len())
            .map_err(ReadError::Broken)?;
        if collected.is_empty() && chunk.len() == bytes + 1 {
            return strip_version(chunk);
        }
        collected.reserve(bytes + 1 - collected.len().min(bytes + 1));
        collected.extend_from_slice(&chunk);
    }
    strip_version(collected.freeze())
}

fn strip_version(mut body: Bytes) -> Result<Bytes, ReadError> {
    match body.try_get_u8() {
        Ok(WIRE_VERSION) => Ok(body),
        Ok(theirs) => Err(ReadError::Version {
            ours: WIRE_VERSION,
            theirs,
        }),
        Err(_) => Err(ReadError::Empty),
    }
}

/// The version that the sender of a refusal speaks; the one before all versions if it does not
/// say.
pub(crate) fn version_of(fields: &HeaderMap) -> u8 {
    fields
        .get(VERSION_FIELD)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

/// Asks the other side every `interval` whether it is alive, and returns when it has not
/// answered for `timeout`.
pub(crate) async fn keep_alive(mut pings: PingPong, interval: Duration, timeout: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        match tokio::time::timeout(timeout, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection ends by itself, and says why.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// Shows an error with all its causes, for a field of a log line.
pub struct Causes<'a>(pub &'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
