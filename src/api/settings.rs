//! What an operator may set at the edge.

use std::time::Duration;

use aegis_crypto::Digest;

/// The settings of the edge.
#[derive(Clone, Debug)]
pub struct Settings {
    /// SHA-256 of the administrator's token, as the text that a client sends.
    pub admin_token_sha256: Digest,
    /// Whether reads need a token. They are open otherwise; health, metrics and the
    /// documentation always are.
    pub reads_need_token: bool,
    /// Bytes of requests' bodies that may be in memory at the same time; a request whose
    /// body finds no room is answered 429.
    pub body_room_bytes: usize,
    /// Bounds of the HTTP listener.
    pub http: HttpLimits,
    /// Bounds of the events listener.
    pub events: EventLimits,
}

impl Settings {
    /// The defaults, with the administrator's token.
    #[must_use]
    pub fn new(admin_token_sha256: Digest) -> Self {
        Self {
            admin_token_sha256,
            reads_need_token: false,
            body_room_bytes: 256 * 1024 * 1024,
            http: HttpLimits::default(),
            events: EventLimits::default(),
        }
    }
}

/// Bounds of an HTTP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Open connections; one more is answered 503 and closed.
    pub connections_max: usize,
    /// Bytes of a request's line and headers; more are answered 431. At least 8 KiB.
    pub header_bytes_max: u16,
    /// How long a client may take to send a request's head, which is also how long an
    /// idle connection is kept.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
    /// How long an answer may take to begin.
    pub request_timeout: Duration,
    /// How long a client may leave bytes of an answer untaken.
    pub write_timeout: Duration,
    /// After the listener stops, how long busy connections may go on, each closing after
    /// its next answer, before idle ones are closed.
    pub linger: Duration,
    /// After the listener stops, how long requests under way may take.
    pub drain_timeout: Duration,
}

impl HttpLimits {
    /// The least that may be set for [`HttpLimits::header_bytes_max`].
    pub const HEADER_BYTES_MIN: u16 = 8 * 1024;
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            header_bytes_max: 16 * 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// Bounds of the events listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLimits {
    /// Subscribers; one more is answered 503.
    pub clients_max: usize,
    /// How long a client may take for the handshake.
    pub handshake_timeout: Duration,
    /// How often a subscriber is pinged; one that answers none of two is dropped.
    pub ping_interval: Duration,
    /// How long a subscriber may leave an event untaken before it is closed as too slow.
    pub send_timeout: Duration,
    /// How long a subscriber may take to answer a close.
    pub close_timeout: Duration,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            clients_max: 1_024,
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            send_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
        }
    }
}
