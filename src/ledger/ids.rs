//! Identifiers and units. Each has one textual form, parsed strictly.

use std::fmt;
use std::str::FromStr;

use aegis_crypto::json;
use serde::{Deserialize, Deserializer, Serialize};

/// A text is not an identifier of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct IdError {
    /// The text, shortened to 80 characters.
    pub text: String,
    /// What would have been one.
    pub expected: &'static str,
}

impl IdError {
    fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            expected,
        }
    }
}

/// Parses decimal digits without sign, leading zero or overflow.
fn parse_number(digits: &str) -> Option<u64> {
    let canonical = digits == "0" || !digits.starts_with('0');
    let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && decimal {
        digits.parse().ok()
    } else {
        None
    }
}

/// A proposal's number, from 1 in the order of submission; its text is `prop_<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProposalNo(pub u64);

impl fmt::Display for ProposalNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prop_{}", self.0)
    }
}

impl FromStr for ProposalNo {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("prop_")
            .and_then(parse_number)
            .map(Self)
            .ok_or_else(|| IdError::new(text, "a proposal id like prop_17"))
    }
}

/// A ballot's place: its proposal, and its number there, from 1 in the order of
/// admission; its text is `vote_<proposal>_<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VoteId {
    /// The proposal.
    pub proposal: ProposalNo,
    /// The number within the proposal.
    pub number: u64,
}

impl fmt::Display for VoteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vote_{}_{}", self.proposal.0, self.number)
    }
}

impl FromStr for VoteId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("vote_")
            .and_then(|rest| rest.split_once('_'))
            .and_then(|(proposal, number)| {
                Some(Self {
                    proposal: ProposalNo(parse_number(proposal)?),
                    number: parse_number(number)?,
                })
            })
            .ok_or_else(|| IdError::new(text, "a vote id like vote_17_203"))
    }
}

/// The name of an agent: 1 to 64 of `A-Z a-z 0-9 . _ : -`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AgentId(String);

impl AgentId {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AgentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for AgentId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        if is_plain(&text, b"._:-", Self::BYTES_MAX) {
            Ok(Self(text))
        } else {
            Err(IdError::new(
                &text,
                "an agent id: 1 to 64 of A-Z a-z 0-9 . _ : - beginning with a letter or digit",
            ))
        }
    }
}

impl<'de> Deserialize<'de> for AgentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Derived, it would not say that the words are ours.
        Self::try_from(text).map_err(json::refuse)
    }
}

impl From<AgentId> for String {
    fn from(id: AgentId) -> Self {
        id.0
    }
}

/// The name of a validator: 1 to 64 of `A-Z a-z 0-9 . _ : / -`, beginning with a letter or
/// digit. It names the validator's key in signed notes (C2SP signed-note), which take
/// neither a space nor a `+`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SeatName(String);

impl SeatName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SeatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SeatName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if is_plain(text, b"._:/-", Self::BYTES_MAX) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::new(
                text,
                "a validator's name: 1 to 64 of A-Z a-z 0-9 . _ : / - beginning with a letter or digit",
            ))
        }
    }
}

impl<'de> Deserialize<'de> for SeatName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(json::refuse)
    }
}

/// Whether a text is 1 to `bytes_max` ASCII letters, digits and `marks`, the first no mark.
fn is_plain(text: &str, marks: &[u8], bytes_max: usize) -> bool {
    let head = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let body = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte));
    head && body && text.len() <= bytes_max
}

/// An agent's number, from 1 in the order of registration; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgentNo(pub u32);

/// A bearer token's public number; its text is `tok_<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenNo(pub u64);

impl fmt::Display for TokenNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tok_{}", self.0)
    }
}

impl FromStr for TokenNo {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("tok_")
            .and_then(parse_number)
            .map(Self)
            .ok_or_else(|| IdError::new(text, "a token id like tok_3"))
    }
}

/// Ledger time: milliseconds since the Unix epoch, as stamped by leaders, never going back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LedgerTime(pub u64);

impl LedgerTime {
    /// The time `seconds` later, stopping at the end of time.
    #[must_use]
    pub const fn plus_s(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000)))
    }

    /// The time `ms` milliseconds later, stopping at the end of time.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here, 0 if it is not earlier.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The last millisecond that RFC 3339 can write.
    const RFC3339_MAX: Self = Self(253_402_300_799_999);

    /// RFC 3339 in UTC with milliseconds; times beyond the year 9999 show as its end. It
    /// is spelled out here because refusals that a cluster replicates quote it.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let Self(ms) = self.min(Self::RFC3339_MAX);
        let (seconds, millis) = (ms / 1_000, ms % 1_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let (year, month, day) = date_of(days);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year and months
/// begin at whole multiples of 153/5 days; eras are the calendar's periods of 400 years
/// (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
#[expect(
    clippy::arithmetic_side_effects,
    reason = "no day is beyond the year 9999, and every part is taken from a larger whole"
)]
const fn date_of(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_ERA: u64 = 146_097;
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let leaps = day / 1_460 - day / 36_524 + day / (DAYS_OF_ERA - 1);
    let year = (day - leaps) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

/// A position in the replicated log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogIndex(pub u64);

/// A closing's number over the whole cluster, from 1; the committee's sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ordinal(pub u64);

impl Ordinal {
    /// The ordinal that comes next.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_text_each() {
        assert_eq!("prop_17".parse(), Ok(ProposalNo(17)));
        assert_eq!(
            "vote_17_203".parse::<VoteId>().map(|id| id.to_string()),
            Ok("vote_17_203".to_owned())
        );
        for text in [
            "prop_",
            "prop_017",
            "prop_+1",
            "prop_-1",
            "prop_1 ",
            "vote_1",
            "prop_18446744073709551616",
        ] {
            assert!(text.parse::<ProposalNo>().is_err(), "{text}");
            assert!(text.parse::<VoteId>().is_err(), "{text}");
        }
    }

    #[test]
    fn agent_ids_are_plain_ascii() {
        assert!("agent-1.a:b_c".parse::<AgentId>().is_ok());
        for text in ["", "-a", "a b", "a/b", "é", "a\n", &"a".repeat(65)] {
            assert!(text.parse::<AgentId>().is_err(), "{text}");
        }
    }

    /// The names go into signed notes, where a `+` or a space would end them.
    #[test]
    fn seat_names_are_plain_ascii() {
        for text in ["v1", "example.com/aegis/v-1_a:b", &"a".repeat(64)] {
            assert!(text.parse::<SeatName>().is_ok(), "{text}");
        }
        for text in [
            "",
            "-a",
            "a b",
            "a+b",
            "é",
            "a\n",
            "a\u{a0}b",
            &"a".repeat(65),
        ] {
            assert!(text.parse::<SeatName>().is_err(), "{text}");
        }
    }

    #[test]
    fn time_prints_as_rfc3339() {
        assert_eq!(LedgerTime(1_500).rfc3339(), "1970-01-01T00:00:01.500Z");
        assert_eq!(LedgerTime(u64::MAX).rfc3339(), "9999-12-31T23:59:59.999Z");
        assert_eq!(
            LedgerTime::RFC3339_MAX.rfc3339(),
            "9999-12-31T23:59:59.999Z"
        );
        assert_eq!(
            LedgerTime(951_782_400_000).rfc3339(),
            "2000-02-29T00:00:00.000Z"
        );
    }

    fn jiff(time: LedgerTime) -> String {
        let time = jiff::Timestamp::from_millisecond(i64::try_from(time.0).unwrap()).unwrap();
        format!("{time:.3}")
    }

    #[test]
    fn every_day_has_its_date() {
        // The last day is beyond what jiff can hold.
        for day in 0..LedgerTime::RFC3339_MAX.0 / 86_400_000 {
            let time = LedgerTime(day * 86_400_000);
            assert_eq!(time.rfc3339(), jiff(time));
        }
    }

    proptest::proptest! {
        #[test]
        fn every_millisecond_has_its_time(ms in 0_u64..253_402_000_000_000) {
            proptest::prop_assert_eq!(LedgerTime(ms).rfc3339(), jiff(LedgerTime(ms)));
        }
    }
}
