//! JSON with one reading.
//!
//! Parsers disagree about repeated members, deep nesting, arrays in place of objects and
//! numbers beyond a float, and a signed text must not mean one thing to the signer and
//! another to a replica. [`from_slice_strict`] refuses what is ambiguous;
//! [`canonicalize`] gives every document one spelling.
//!
//! A document is read twice: `reader` checks its grammar, depth and member names
//! wherever they stand, also inside of [`serde_json::value::RawValue`], and `strict`
//! then builds the value with serde.
//!
//! An error may become part of replicated state, and replicas of different builds must
//! spell it alike: every word of [`JsonError::own_words`] is of this crate or of whoever
//! called [`refuse`], never of a library.

mod canonical;
mod fault;
mod number;
pub(crate) mod reader;
mod strict;

use std::fmt;

use serde::de::{Deserialize, Deserializer};
use thiserror::Error;

pub use canonical::canonicalize;
pub use fault::{Own, refuse};
pub use number::{NumberText, ParseNumberError};

use reader::Reader;

/// Bounds on a document that a stranger sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Arrays and objects inside of each other; at most [`Limits::DEPTH_MAX`], more
    /// counts as that.
    pub depth: u8,
    /// Length of the text in bytes.
    pub bytes: usize,
}

impl Limits {
    /// The deepest nesting that can be asked for, below serde_json's own bound.
    pub const DEPTH_MAX: u8 = 120;
}

impl Default for Limits {
    /// 16 levels and 64 KiB.
    fn default() -> Self {
        Self {
            depth: 16,
            bytes: 64 * 1024,
        }
    }
}

/// A position in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Byte within the line, from 1.
    pub column: usize,
    /// JSON Pointer (RFC 6901) to the value concerned, empty for the whole document.
    /// Long names are cut short.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, " ({})", self.path)?;
        }
        Ok(())
    }
}

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonError {
    /// Longer than allowed.
    #[error("the JSON text has {found} bytes, more than the {max} allowed")]
    TooLong {
        /// Length of the text in bytes.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Not UTF-8.
    #[error("the JSON text is not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// Position of the first wrong byte, from zero.
        offset: usize,
    },
    /// Not JSON.
    #[error("{at}: expected {expected}")]
    Syntax {
        /// Where.
        at: Place,
        /// What the grammar allows there.
        expected: &'static str,
    },
    /// Nested deeper than allowed.
    #[error("{at}: nested deeper than the {max} levels allowed")]
    TooDeep {
        /// Where the first level too many begins.
        at: Place,
        /// The bound.
        max: u8,
    },
    /// An object names a member twice.
    #[error("{at}: the member occurs twice in its object")]
    DuplicateMember {
        /// Where it occurs again.
        at: Place,
    },
    /// Something follows the document.
    #[error("{at}: something follows the end of the document")]
    TrailingData {
        /// Where it begins.
        at: Place,
    },
    /// JSON, but not of the form that is asked for: an array for an object, an unknown
    /// or missing member, a value of another type or out of range.
    #[error("{at}: {reason}")]
    Mismatch {
        /// Where.
        at: Place,
        /// What is wrong, in words of our own.
        reason: String,
    },
    /// A type's `Deserialize` refused the value by other means than [`refuse`].
    #[error("{at}: {reason}")]
    Refused {
        /// Where.
        at: Place,
        /// What the type said, or a library that it called.
        reason: String,
    },
}

impl JsonError {
    /// The error in words that are the same for every build of this version of the
    /// program, whatever its libraries, as replicated state may keep them.
    #[must_use]
    pub fn own_words(&self) -> String {
        match self {
            Self::Refused { at, .. } => format!("{at}: the value is refused"),
            error => error.to_string(),
        }
    }
}

/// Reads a `T` from a whole document, with one reading only.
///
/// Beyond what serde_json does it refuses an array where `T` or a part of it is a struct
/// (a derived `Deserialize` would take the fields by position), a member that occurs
/// twice in any object, even inside of a map, an ignored value or a `RawValue`, and
/// nesting or length beyond `limits`. Unknown members are for `T` to deny.
///
/// An internally tagged or untagged enum and a flattened struct buffer their input and
/// thereby hide what they expect, so inside of those an array still passes for a struct:
/// types for input from outside do without them.
///
/// # Errors
/// Whatever is refused, with its place.
pub fn from_slice_strict<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    limits: Limits,
) -> Result<T, JsonError> {
    let text = checked_text(bytes, limits)?;
    let mut reader = Reader::new(text, limits.depth);
    while reader.next()?.is_some() {}
    strict::deserialize(text)
}

fn checked_text(bytes: &[u8], limits: Limits) -> Result<&str, JsonError> {
    if bytes.len() > limits.bytes {
        return Err(JsonError::TooLong {
            found: bytes.len(),
            max: limits.bytes,
        });
    }
    std::str::from_utf8(bytes).map_err(|error| JsonError::NotUtf8 {
        offset: error.valid_up_to(),
    })
}

/// Reads an optional member that is either absent or has a value, for
/// `#[serde(default, deserialize_with = "json::present")]`; `null` is refused.
///
/// # Errors
/// Those of `T`.
pub fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
