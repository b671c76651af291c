//! Numbers as their authors wrote them.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;
use thiserror::Error;

use super::refuse;

/// The text of a JSON number, kept verbatim and never made a float, so that whoever needs
/// its value parses exactly what was signed.
///
/// In JSON it is a number, in binary formats a string. Compared as text: `1` and `1.0`
/// differ.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NumberText(Box<str>);

impl NumberText {
    /// The text, in the grammar of RFC 8259, section 6.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text is no JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a JSON number")]
pub struct ParseNumberError;

impl FromStr for NumberText {
    type Err = ParseNumberError;

    fn from_str(text: &str) -> Result<Self, ParseNumberError> {
        // Only numbers end in a digit, and a document that begins and ends in its value
        // has no white space around it.
        let begins = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        let ends = text.ends_with(|last: char| last.is_ascii_digit());
        let parsed = serde_json::from_str::<de::IgnoredAny>(text);
        if begins && ends && parsed.is_ok() {
            Ok(Self(text.into()))
        } else {
            Err(ParseNumberError)
        }
    }
}

impl From<u64> for NumberText {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

impl fmt::Display for NumberText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NumberText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for NumberText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_str(&self.0);
        }
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NumberText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: Box<str> = if deserializer.is_human_readable() {
            Box::<RawValue>::deserialize(deserializer)?.into()
        } else {
            Box::deserialize(deserializer)?
        };
        text.parse().map_err(refuse)
    }
}
