//! What is agreed on.

use std::sync::Arc;

use aegis_crypto::{Digest, Hasher};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// The longest statement, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 16 * 1024;
/// The longest attachment, in bytes.
pub const ATTACHMENT_BYTES_MAX: usize = 192 * 1024;

/// A statement about one closing, with what is needed to judge it.
///
/// Its name is the SHA-256 of the statement alone: it contains neither view nor epoch, so
/// that one decision has one name in whichever view it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    statement: Arc<str>,
    attachment: Arc<[u8]>,
    digest: Digest,
}

/// A value longer than validators take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the {part} has {found} bytes, at most {max}")]
pub struct ValueTooLong {
    /// Which part of it.
    pub part: &'static str,
    /// Its length.
    pub found: usize,
    /// The bound.
    pub max: usize,
}

impl Value {
    /// A value of a statement, which is RFC 8785 JSON, and of an attachment, which the
    /// statement names by digest where it needs one and which may be empty.
    ///
    /// The statement is an object with at least the members `cluster`, `incarnation` and
    /// `ordinal`, the numbers as strings, by which a commitment is bound to its scope.
    ///
    /// # Errors
    /// A part that is too long.
    pub fn new(statement: &str, attachment: &[u8]) -> Result<Self, ValueTooLong> {
        let bounded = |part, found, max| {
            if found <= max {
                Ok(())
            } else {
                Err(ValueTooLong { part, found, max })
            }
        };
        bounded("statement", statement.len(), STATEMENT_BYTES_MAX)?;
        bounded("attachment", attachment.len(), ATTACHMENT_BYTES_MAX)?;
        Ok(Self {
            digest: Digest::of(statement),
            statement: statement.into(),
            attachment: attachment.into(),
        })
    }

    /// The statement.
    #[must_use]
    pub fn statement(&self) -> &str {
        &self.statement
    }

    /// What is needed to judge it beside the ledger.
    #[must_use]
    pub fn attachment(&self) -> &[u8] {
        &self.attachment
    }

    /// The same value without its attachment.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self {
            attachment: Arc::default(),
            ..self.clone()
        }
    }

    /// SHA-256 of the statement.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The name of the whole: the statement's, and where something is attached, the
    /// attachment's with it. Proposals and agreements sign it, so that what was judged with
    /// an attachment comes to every later view with that very one, and nobody on the way can
    /// spoil it until it is refused.
    #[must_use]
    pub fn whole(&self) -> Digest {
        if self.attachment.is_empty() {
            return self.digest;
        }
        Hasher::tagged("aegis/pbft/value/1")
            .digest(&self.digest)
            .bytes(&self.attachment)
            .finish()
    }
}

#[derive(Serialize, Deserialize)]
struct Parts<'a> {
    statement: &'a str,
    attachment: &'a [u8],
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Parts {
            statement: &self.statement,
            attachment: &self.attachment,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Parts::deserialize(deserializer)?;
        Self::new(parts.statement, parts.attachment).map_err(de::Error::custom)
    }
}
