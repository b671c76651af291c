//! The procedures that nodes offer each other, and the bounds on their messages.

use std::collections::BTreeMap;

use thiserror::Error;

/// The path of the greeting, which no method may have.
pub(crate) const HELLO_PATH: &str = "/hello";

/// Which connection to a peer a method uses. Each lane has a connection of its own, so that a
/// snapshot never delays a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Small and urgent: votes, heartbeats, appends, forwarded requests.
    Control,
    /// Large and patient: snapshots.
    Bulk,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 2] = [Self::Control, Self::Bulk];

    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
        }
    }
}

/// Whether a method answers once or converses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One message each way.
    Call,
    /// Any number of messages each way, interleaved at will.
    Stream,
}

/// A procedure that a peer offers: its name, the connection it uses, and the bounds on its
/// messages. Both sides declare the same one, as a constant.
///
/// ```
/// use aegis_peers::{Lane, Method};
/// const VOTE: Method = Method::call("/raft/vote", Lane::Control, 4 << 10, 4 << 10);
/// const APPEND: Method = Method::stream("/raft/append", Lane::Control, 8 << 20, 4 << 10);
/// assert_ne!(VOTE, APPEND);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    path: &'static str,
    shape: Shape,
    lane: Lane,
    request_bytes_max: usize,
    response_bytes_max: usize,
}

impl Method {
    /// A method that takes one message and answers one. Keep the bound of the answer close to
    /// what there is to say: each call under way counts with all of it
    /// ([`crate::Limits::call_bytes_in_flight_max`]).
    ///
    /// # Panics
    /// When `path` does not begin with a slash or has anything but lowercase letters, digits,
    /// `-`, `_` and `/`; for a constant this is an error of the compiler's.
    #[must_use]
    pub const fn call(
        path: &'static str,
        lane: Lane,
        request_bytes_max: usize,
        response_bytes_max: usize,
    ) -> Self {
        Self::new(
            path,
            Shape::Call,
            lane,
            request_bytes_max,
            response_bytes_max,
        )
    }

    /// A method that takes a stream of messages and answers another; the bounds are those of
    /// one message.
    ///
    /// # Panics
    /// As [`Method::call`].
    #[must_use]
    pub const fn stream(
        path: &'static str,
        lane: Lane,
        request_bytes_max: usize,
        response_bytes_max: usize,
    ) -> Self {
        Self::new(
            path,
            Shape::Stream,
            lane,
            request_bytes_max,
            response_bytes_max,
        )
    }

    const fn new(
        path: &'static str,
        shape: Shape,
        lane: Lane,
        request_bytes_max: usize,
        response_bytes_max: usize,
    ) -> Self {
        assert!(is_path(path.as_bytes()), "a method's path is /lower-case");
        assert!(
            request_bytes_max <= MESSAGE_BYTES_MAX && response_bytes_max <= MESSAGE_BYTES_MAX,
            "a message is bounded by MESSAGE_BYTES_MAX"
        );
        Self {
            path,
            shape,
            lane,
            request_bytes_max,
            response_bytes_max,
        }
    }

    /// The name, which is the path of its requests.
    #[must_use]
    pub const fn path(self) -> &'static str {
        self.path
    }

    /// Whether it answers once or converses.
    #[must_use]
    pub const fn shape(self) -> Shape {
        self.shape
    }

    /// The connection that it uses.
    #[must_use]
    pub const fn lane(self) -> Lane {
        self.lane
    }

    /// The largest message that the caller may send, in bytes.
    #[must_use]
    pub const fn request_bytes_max(self) -> usize {
        self.request_bytes_max
    }

    /// The largest message that the peer may answer, in bytes.
    #[must_use]
    pub const fn response_bytes_max(self) -> usize {
        self.response_bytes_max
    }
}

/// No method may have messages larger than this, so that one always fits a flow-control window.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

const fn is_path(path: &[u8]) -> bool {
    if path.len() < 2 || path[0] != b'/' {
        return false;
    }
    let mut at = 0;
    while at < path.len() {
        if !matches!(path[at], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'/') {
            return false;
        }
        at += 1;
    }
    true
}

/// The methods that a node serves.
#[derive(Clone, Debug, Default)]
pub struct Methods(BTreeMap<&'static str, Method>);

impl Methods {
    /// The table of `methods`.
    ///
    /// # Errors
    /// When two have one path, or one has the path of the greeting.
    pub fn new(methods: impl IntoIterator<Item = Method>) -> Result<Self, MethodsError> {
        let mut table = BTreeMap::new();
        for method in methods {
            let path = method.path;
            if path == HELLO_PATH || table.insert(path, method).is_some() {
                return Err(MethodsError::PathTaken { path });
            }
        }
        Ok(Self(table))
    }

    /// This table with one more method.
    ///
    /// # Errors
    /// When its path is taken.
    pub fn and(self, method: Method) -> Result<Self, MethodsError> {
        Self::new(self.0.into_values().chain([method]))
    }

    pub(crate) fn get(&self, path: &str) -> Option<Method> {
        self.0.get(path).copied()
    }
}

/// Why methods make no table.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MethodsError {
    /// Each method needs a path of its own.
    #[error("the path {path} is taken")]
    PathTaken {
        /// The path.
        path: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Method = Method::call("/one", Lane::Control, 1, 1);
    const OTHER_ONE: Method = Method::stream("/one", Lane::Bulk, 2, 2);
    const GREETING: Method = Method::call(HELLO_PATH, Lane::Control, 1, 1);

    #[test]
    fn each_method_has_a_path_of_its_own() {
        let methods = Methods::new([ONE]).unwrap();
        assert_eq!(methods.get("/one"), Some(ONE));
        assert_eq!(methods.get("/on"), None);
        let taken = |path| Some(MethodsError::PathTaken { path });
        assert_eq!(methods.and(OTHER_ONE).err(), taken("/one"));
        assert_eq!(Methods::new([GREETING]).err(), taken(HELLO_PATH));
    }

    #[test]
    fn paths_are_plain() {
        for good in ["/a", "/raft/append", "/x-1_y"] {
            assert!(is_path(good.as_bytes()), "{good}");
        }
        for bad in ["", "/", "a", "/A", "/a b", "/a?b", "/\u{e9}"] {
            assert!(!is_path(bad.as_bytes()), "{bad}");
        }
    }
}
