//! What deserialization holds against a document, in words of our own.
//!
//! serde tells a `Deserialize` to report through [`de::Error`], whose default methods
//! spell the error out in serde's words. A refusal may become replicated state, which
//! must not depend on the version of a library, so [`Fault`] keeps what those methods
//! are told and leaves their words: names of fields and variants are the program's own,
//! and what was found is read from the document.
//!
//! The exception is [`de::Error::custom`], which hands over nothing but a text. It may
//! be a library's. A text of ours is marked by [`Own`], and only a marked one counts as
//! our words.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::reader::Event;
use super::{JsonError, Place};
use crate::quoted::shortened;

/// Longest text of a type that is passed on, in bytes: it may repeat the document.
const TEXT_BYTES: usize = 300;

/// Stands before a text of our own where the alternate form is asked for.
const MARK: char = '\u{1}';

/// Refuses a value in words of our own, which survive [`de::Error::custom`].
///
/// `words` must not contain the text of another crate's error: the ledger replicates
/// them.
pub fn refuse<E: de::Error>(words: impl fmt::Display) -> E {
    E::custom(Own(words))
}

/// Words of our own, also for [`de::Visitor::expecting`].
///
/// They are marked only in the alternate form (`{:#}`), for which nobody asks but
/// `Fault`, so that other deserializers show them as they are.
pub struct Own<T>(pub T);

impl<T: fmt::Display> fmt::Display for Own<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            write!(f, "{MARK}")?;
        }
        write!(f, "{}", self.0)
    }
}

/// What a type asks its deserializer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Text(&'static str),
    OneOf(&'static [&'static str]),
    Elements(usize),
    Struct,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::OneOf(names) => {
                f.write_str("one of ")?;
                list(f, names)
            }
            Self::Elements(count) => write!(f, "an array of {count}"),
            Self::Struct => f.write_str("an object"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, names: &[&str]) -> fmt::Result {
    for (index, name) in names.iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        write!(f, "{separator}`{name}`")?;
    }
    Ok(())
}

/// Why a value is refused, without its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// A required field is not there.
    Missing(&'static str),
    /// A field stands twice, under two of its names.
    Twice(&'static str),
    /// A field is none of these.
    Unknown(&'static [&'static str]),
    /// A name is none of these.
    UnknownVariant(&'static [&'static str]),
    /// A value of another type or out of range.
    Unfit(Option<Wanted>),
    /// As above, and a type of ours says what it wants.
    UnfitFor(String),
    /// A type of ours refused the value in these words.
    Own(String),
    /// A type refused the value in these words, and nobody knows whose they are.
    Foreign(String),
}

impl Fault {
    /// Says what was wanted, where that is not known yet.
    pub(super) fn or_wanted(self, wanted: Wanted) -> Self {
        match self {
            Self::Unfit(None) => Self::Unfit(Some(wanted)),
            known => known,
        }
    }

    /// The error for a document in which `found` stands at the place of the fault.
    pub(super) fn at(self, at: Place, found: &Event<'_>) -> JsonError {
        match self {
            Self::Foreign(reason) => JsonError::Refused { at, reason },
            fault => {
                let reason = Said {
                    fault: &fault,
                    found,
                }
                .to_string();
                JsonError::Mismatch { at, reason }
            }
        }
    }

    fn unfit(expected: &dyn Expected) -> Self {
        match own(&format!("{expected:#}")) {
            Some(wanted) => Self::UnfitFor(wanted),
            None => Self::Unfit(None),
        }
    }
}

/// A text that [`Own`] marked, without the mark.
fn own(text: &str) -> Option<String> {
    text.strip_prefix(MARK).map(cut)
}

fn cut(text: &str) -> String {
    match text.get(..text.floor_char_boundary(TEXT_BYTES)) {
        Some(start) if start.len() < text.len() => format!("{start}…"),
        Some(_) | None => text.to_owned(),
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        let text = format!("{text:#}");
        match own(&text) {
            Some(words) => Self::Own(words),
            None => Self::Foreign(cut(&text)),
        }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::unfit(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::unfit(expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::unfit(expected)
    }

    fn unknown_variant(_: &str, names: &'static [&'static str]) -> Self {
        Self::UnknownVariant(names)
    }

    fn unknown_field(_: &str, names: &'static [&'static str]) -> Self {
        Self::Unknown(names)
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::Twice(name)
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    /// Never shown: it is what serde requires of an error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A fault in words, beside what stands in the document.
struct Said<'a> {
    fault: &'a Fault,
    found: &'a Event<'a>,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Missing(name) => write!(f, "missing field `{name}`"),
            Fault::Twice(name) => write!(f, "the field `{name}` is named twice"),
            Fault::Unknown([]) => f.write_str("unknown field; there are none"),
            Fault::Unknown(names) => {
                f.write_str("unknown field; the known ones are ")?;
                list(f, names)
            }
            Fault::UnknownVariant(names) => write!(f, "expected {}", Wanted::OneOf(names)),
            Fault::Unfit(wanted) => {
                let wanted = wanted.unwrap_or(Wanted::Text("another value"));
                write!(f, "expected {wanted}, found ")?;
                describe(f, self.found)
            }
            Fault::UnfitFor(wanted) => {
                write!(f, "expected {wanted}, found ")?;
                describe(f, self.found)
            }
            Fault::Own(words) | Fault::Foreign(words) => f.write_str(words),
        }
    }
}

/// Says what a value is. A string is not repeated: it could be a secret in the wrong
/// place.
fn describe(f: &mut fmt::Formatter<'_>, found: &Event<'_>) -> fmt::Result {
    match found {
        Event::String(_) | Event::Name(_) => f.write_str("a string"),
        Event::BeginArray | Event::EndArray => f.write_str("an array"),
        Event::BeginObject | Event::EndObject => f.write_str("an object"),
        Event::Bare(text) => {
            let number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
            let float = number && text.contains(['.', 'e', 'E']);
            let kind = if float {
                "the floating point number "
            } else {
                ""
            };
            write!(f, "{kind}`{}`", shortened(text))
        }
    }
}
