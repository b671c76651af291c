//! Refusals: the answer of a peer that received a request and did not carry it out.
//!
//! A refusal travels in HTTP header fields, or in trailer fields once a stream is under way, so
//! that it can be read whatever version the messages have.

use std::fmt;

use http::{HeaderMap, HeaderValue, StatusCode};
use thiserror::Error;

/// The header field with the code of a refusal.
pub(crate) const CODE_FIELD: &str = "aegis-refusal";
/// The header field with its text.
const TEXT_FIELD: &str = "aegis-refusal-text";
/// The header field with the version that the refusing side speaks.
pub(crate) const VERSION_FIELD: &str = "aegis-version";

/// The longest text that a refusal carries, in bytes.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 512;

/// Declares the codes once, with what each is on the wire.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident;)*) => {
        /// Why a request was refused. The list grows at its end; a code that this node does
        /// not know reads as [`RefusalCode::Unknown`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RefusalCode {
            $($(#[$doc])* $name,)*
        }

        impl RefusalCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it travels and as it is shown.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    /// The request does not follow the protocol.
    Malformed = "malformed", BAD_REQUEST;
    /// The messages are of a version that the peer does not speak.
    Version = "version", NOT_ACCEPTABLE;
    /// The peer's membership does not admit this node.
    NotAdmitted = "not-admitted", FORBIDDEN;
    /// This node belongs to another incarnation of the cluster.
    OtherIncarnation = "other-incarnation", CONFLICT;
    /// This node's id is bound to another data folder.
    OtherStore = "other-store", CONFLICT;
    /// The peer could not bind this node's id to its data folder just now.
    StoreUnpinned = "store-unpinned", SERVICE_UNAVAILABLE;
    /// The connection has not been opened with a greeting.
    NoGreeting = "no-greeting", PRECONDITION_REQUIRED;
    /// The peer has no such method.
    UnknownMethod = "unknown-method", NOT_FOUND;
    /// The message exceeds the bound of its method.
    TooLarge = "too-large", PAYLOAD_TOO_LARGE;
    /// The message did not arrive in time.
    TooSlow = "too-slow", REQUEST_TIMEOUT;
    /// This node has as much under way at the peer as it may.
    Overloaded = "overloaded", TOO_MANY_REQUESTS;
    /// The peer is stopping.
    ShuttingDown = "shutting-down", SERVICE_UNAVAILABLE;
    /// The service cannot take the request now: another time, or another node.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE;
    /// The service tried and failed.
    Failed = "failed", INTERNAL_SERVER_ERROR;
    /// A code of a newer version.
    Unknown = "unknown", INTERNAL_SERVER_ERROR;
}

impl RefusalCode {
    /// Whether the request certainly had no effect. The transport gives every other code
    /// before the service sees the request.
    #[must_use]
    pub const fn is_without_effect(self) -> bool {
        !matches!(self, Self::Failed | Self::Unknown)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refusal: a code for programs and a text for people.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{code}: {text}")]
pub struct Refusal {
    code: RefusalCode,
    text: String,
}

impl Refusal {
    /// A refusal. What is not visible ASCII in `text` travels as `?`, and what exceeds
    /// [`REFUSAL_TEXT_BYTES_MAX`] does not travel.
    pub fn new(code: RefusalCode, text: impl fmt::Display) -> Self {
        let mut text: String = text
            .to_string()
            .chars()
            .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
            .collect();
        text.truncate(REFUSAL_TEXT_BYTES_MAX);
        Self { code, text }
    }

    /// The service cannot take the request now, and it has had no effect.
    pub fn unavailable(text: impl fmt::Display) -> Self {
        Self::new(RefusalCode::Unavailable, text)
    }

    /// The service tried and failed; what effect the request had is unknown.
    pub fn failed(text: impl fmt::Display) -> Self {
        Self::new(RefusalCode::Failed, text)
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> RefusalCode {
        self.code
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The fields that carry it.
    pub(crate) fn to_fields(&self) -> HeaderMap {
        let text = HeaderValue::from_str(&self.text)
            .expect("the constructor leaves visible ASCII and spaces alone");
        HeaderMap::from_iter([
            (
                http::HeaderName::from_static(CODE_FIELD),
                HeaderValue::from_static(self.code.name()),
            ),
            (http::HeaderName::from_static(TEXT_FIELD), text),
        ])
    }

    /// The refusal that `fields` carry, if they do.
    pub(crate) fn from_fields(fields: &HeaderMap) -> Option<Self> {
        let code = fields.get(CODE_FIELD)?.as_bytes();
        let code = RefusalCode::ALL
            .iter()
            .find(|known| known.name().as_bytes() == code)
            .copied()
            .unwrap_or(RefusalCode::Unknown);
        let text = fields.get(TEXT_FIELD).and_then(|text| text.to_str().ok());
        Some(Self::new(code, text.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_survives_its_fields() {
        for &code in RefusalCode::ALL {
            let refusal = Refusal::new(code, "ours 3, theirs 2");
            assert_eq!(Refusal::from_fields(&refusal.to_fields()), Some(refusal));
            assert!(!code.status().is_success());
        }
        let names: BTreeSet<_> = RefusalCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), RefusalCode::ALL.len());
    }

    #[test]
    fn texts_are_made_safe_for_a_header() {
        let refusal = Refusal::failed(format!("a\r\nb\u{e9}{}", "x".repeat(9000)));
        assert!(refusal.text().starts_with("a??b?xx"));
        assert_eq!(refusal.text().len(), REFUSAL_TEXT_BYTES_MAX);
        assert_eq!(Refusal::from_fields(&refusal.to_fields()), Some(refusal));
    }

    #[test]
    fn a_code_from_the_future_is_still_a_refusal() {
        let mut fields = Refusal::failed("x").to_fields();
        fields.insert(CODE_FIELD, HeaderValue::from_static("from-the-future"));
        assert_eq!(
            Refusal::from_fields(&fields).map(|refusal| refusal.code()),
            Some(RefusalCode::Unknown)
        );
        assert_eq!(Refusal::from_fields(&HeaderMap::new()), None);
    }
}
