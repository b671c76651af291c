//! The bounds of the transport, each with the value that it has unless the operator says
//! otherwise.

use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;

use crate::Method;

/// How long to wait before another attempt to connect: after `n` failures a random time
/// between zero and `base * 2^n`, at most `cap` ("full jitter"). The spread keeps nodes that
/// lost a peer at the same moment from returning to it at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait before the first repetition.
    pub base: Duration,
    /// The longest wait of all.
    pub cap: Duration,
}

impl Backoff {
    /// The longest wait after `failures` failures in a row.
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The wait after `failures` failures in a row, with `sample` uniformly random.
    #[must_use]
    pub fn delay(&self, failures: u32, sample: u32) -> Duration {
        let ceiling = self.ceiling(failures).as_nanos();
        let share = ceiling * u128::from(sample) / u128::from(u32::MAX);
        Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// The bounds of the transport. Both sides of a connection apply them; a cluster runs best when
/// its nodes agree on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Accepted connections whose handshake is not finished. Further ones wait in the kernel.
    pub handshakes_max: usize,
    /// Connections accepted from all peers, their handshakes finished. A further one is closed.
    pub connections_max: usize,
    /// Connections accepted from one peer. A further one closes that peer's oldest, which is
    /// most likely one that the peer has forgotten.
    pub connections_per_peer_max: usize,
    /// Calls under way with one peer on one [`crate::Lane`]. A caller waits for its turn; a
    /// server refuses what goes beyond twice this bound, and likewise with the next two.
    pub calls_in_flight_max: u32,
    /// Bytes of these calls: of each the request as large as it is, and the answer as large as
    /// the method allows.
    pub call_bytes_in_flight_max: u32,
    /// Streams open with one peer on one lane.
    pub streams_open_max: u32,
    /// The HTTP/2 flow-control window of a stream, in bytes: what a sender may have under way
    /// before the receiver has read it. The window of the whole connection is so much larger
    /// that streams which nobody reads cannot hold up the rest of the connection.
    pub stream_window_bytes: u32,
    /// The largest HTTP/2 frame, in bytes, from 16 KiB to 16 MiB: how long the bytes of one
    /// message may hold up those of another.
    pub frame_bytes_max: u32,
    /// The header fields of a request or an answer, in bytes.
    pub header_bytes_max: u32,
    /// The time for TCP to connect.
    pub connect_timeout: Duration,
    /// The time for a connection, once it stands, to finish TLS, HTTP/2 and the greeting.
    pub handshake_timeout: Duration,
    /// The time for the message of a call to arrive, once its header fields have.
    pub body_timeout: Duration,
    /// How often each side asks whether the other is alive.
    pub keep_alive_interval: Duration,
    /// How long it waits for the answer before it gives the connection up.
    pub keep_alive_timeout: Duration,
    /// How long a server that was told to stop waits for what is under way.
    pub drain_timeout: Duration,
    /// The waits between attempts to connect.
    pub backoff: Backoff,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes_max: 64,
            connections_max: 512,
            connections_per_peer_max: 8,
            calls_in_flight_max: 1024,
            call_bytes_in_flight_max: 64 << 20,
            streams_open_max: 4,
            stream_window_bytes: 8 << 20,
            frame_bytes_max: 64 << 10,
            header_bytes_max: 8 << 10,
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(2),
            keep_alive_timeout: Duration::from_secs(4),
            drain_timeout: Duration::from_secs(10),
            backoff: Backoff {
                base: Duration::from_millis(25),
                cap: Duration::from_secs(1),
            },
        }
    }
}

/// How many times its own share a server allows a peer. The peer counts a call as over when it
/// has the answer or gives up; the server learns of that later, or not before its handler is
/// done.
const SERVER_FACTOR: u32 = 2;

/// The permits with which a server enforces `bound`.
pub(crate) fn server_share(bound: u32) -> usize {
    permits(bound.saturating_mul(SERVER_FACTOR))
}

/// The permits of a semaphore that enforces `bound`.
pub(crate) fn permits(bound: u32) -> usize {
    let permits = usize::try_from(bound).unwrap_or(Semaphore::MAX_PERMITS);
    permits.min(Semaphore::MAX_PERMITS)
}

/// What HTTP/2 buffers of one stream before the network takes it, in bytes.
pub(crate) const SEND_BUFFER_BYTES: usize = 256 << 10;

/// The largest flow-control window of HTTP/2 (RFC 9113, section 6.9.1).
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// The bounds of the largest frame (RFC 9113, section 6.5.2).
const FRAME_BYTES_MIN: u32 = 1 << 14;
const FRAME_BYTES_MAX: u32 = (1 << 24) - 1;

impl Limits {
    /// Checks what HTTP/2 and progress demand.
    pub(crate) fn check(&self) -> Result<(), LimitsError> {
        let range = |name, value: u32, min, max| match value {
            value if (min..=max).contains(&value) => Ok(()),
            value => Err(LimitsError::OutOfRange {
                name,
                value,
                min,
                max,
            }),
        };
        let (window, frame) = (self.stream_window_bytes, self.frame_bytes_max);
        range("stream_window_bytes", window, frame, WINDOW_BYTES_MAX)?;
        range("frame_bytes_max", frame, FRAME_BYTES_MIN, FRAME_BYTES_MAX)?;
        let counts = [
            ("handshakes_max", self.handshakes_max == 0),
            ("connections_max", self.connections_max == 0),
            (
                "connections_per_peer_max",
                self.connections_per_peer_max == 0,
            ),
            ("calls_in_flight_max", self.calls_in_flight_max == 0),
            (
                "call_bytes_in_flight_max",
                self.call_bytes_in_flight_max == 0,
            ),
            ("streams_open_max", self.streams_open_max == 0),
            ("header_bytes_max", self.header_bytes_max == 0),
        ];
        let times = [
            ("connect_timeout", self.connect_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("body_timeout", self.body_timeout),
            ("keep_alive_interval", self.keep_alive_interval),
            ("keep_alive_timeout", self.keep_alive_timeout),
            ("backoff.base", self.backoff.base),
            ("backoff.cap", self.backoff.cap),
        ]
        .map(|(name, time)| (name, time.is_zero()));
        match counts.into_iter().chain(times).find(|(_, zero)| *zero) {
            Some((name, _)) => Err(LimitsError::Zero { name }),
            None => Ok(()),
        }
    }

    /// The window of a connection: that of every stream it may have, and as much again for its
    /// calls.
    pub(crate) fn connection_window_bytes(&self) -> u32 {
        let streams = self.streams_open_max.saturating_mul(SERVER_FACTOR);
        self.stream_window_bytes
            .saturating_mul(streams.saturating_add(1))
            .min(WINDOW_BYTES_MAX)
    }

    /// What a call counts towards `call_bytes_in_flight_max`; one that exceeds it may go alone.
    pub(crate) fn call_bytes(&self, method: Method, request_bytes: usize) -> u32 {
        let bytes = request_bytes.saturating_add(method.response_bytes_max());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        bytes.min(self.call_bytes_in_flight_max)
    }

    /// The HTTP/2 streams of a connection: its calls, its streams and the greeting.
    pub(crate) fn http2_streams_max(&self) -> u32 {
        self.calls_in_flight_max
            .saturating_add(self.streams_open_max)
            .saturating_add(1)
    }
}

/// Why limits make no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LimitsError {
    /// Nothing would ever happen.
    #[error("{name} must not be zero")]
    Zero {
        /// The field of [`Limits`].
        name: &'static str,
    },
    /// HTTP/2 does not allow it.
    #[error("{name} is {value}, and must be from {min} to {max}")]
    OutOfRange {
        /// The field of [`Limits`].
        name: &'static str,
        /// Its value.
        value: u32,
        /// The least that it may be.
        min: u32,
        /// The most that it may be.
        max: u32,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_millis(25),
        cap: Duration::from_secs(1),
    };

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let ceilings: Vec<_> = (0..8).map(|n| BACKOFF.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [25, 50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(BACKOFF.ceiling(u32::MAX), BACKOFF.cap);
    }

    #[test]
    fn jitter_spans_from_zero_to_the_ceiling() {
        assert_eq!(BACKOFF.delay(3, 0), Duration::ZERO);
        assert_eq!(BACKOFF.delay(3, u32::MAX), BACKOFF.ceiling(3));
        let half = BACKOFF.delay(3, u32::MAX / 2).as_micros();
        assert!((99_000..=100_000).contains(&half), "{half}");
    }

    proptest! {
        #[test]
        fn delays_stay_within_their_ceiling(failures: u32, sample: u32, base_ms in 0u64..100_000, cap_ms in 0u64..100_000) {
            let backoff = Backoff {
                base: Duration::from_millis(base_ms),
                cap: Duration::from_millis(cap_ms),
            };
            let delay = backoff.delay(failures, sample);
            prop_assert!(delay <= backoff.ceiling(failures) && delay <= backoff.cap);
        }
    }

    #[test]
    fn limits_that_make_no_sense_are_named() {
        let usual = Limits::default();
        assert_eq!(usual.check(), Ok(()));
        let zero = Limits {
            keep_alive_interval: Duration::ZERO,
            ..usual
        };
        assert_eq!(
            zero.check(),
            Err(LimitsError::Zero {
                name: "keep_alive_interval"
            })
        );
        let narrow = Limits {
            frame_bytes_max: 100,
            ..usual
        };
        assert!(matches!(
            narrow.check(),
            Err(LimitsError::OutOfRange {
                name: "frame_bytes_max",
                value: 100,
                ..
            })
        ));
    }

    #[test]
    fn stalled_streams_leave_room_on_their_connection() {
        let limits = Limits::default();
        let stalled = u32::try_from(server_share(limits.streams_open_max)).unwrap();
        assert_eq!(
            limits.connection_window_bytes() - stalled * limits.stream_window_bytes,
            limits.stream_window_bytes
        );
    }
}
