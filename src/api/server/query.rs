//! The query part of a request: known names only, each once, and opaque cursors.

use std::borrow::Cow;

use aegis_crypto::Digest;
use aegis_ledger::{AgentId, Ordinal, ProposalNo, VoteId};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::governance::Consistency;
use crate::problem::Problem;

/// How many items a list has unless asked otherwise.
pub(crate) const LIMIT_DEFAULT: usize = 100;
/// The most items that a list has.
pub(crate) const LIMIT_MAX: usize = 1_000;
/// The most parameters of a query; no route knows more.
const PARAMETERS_MAX: usize = 16;
/// The longest cursor.
const CURSOR_BYTES_MAX: usize = 256;

/// The parameters of a query that were not taken yet.
pub(crate) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Which part of a list is asked for.
pub(crate) struct PageOf<C> {
    /// Where it begins, exclusive.
    pub(crate) after: Option<C>,
    /// How many items it has.
    pub(crate) limit: usize,
}

impl<'a> Query<'a> {
    pub(crate) fn parse(text: Option<&'a str>) -> Result<Self, Problem> {
        let parsed = form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        let mut pairs: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for (name, value) in parsed {
            if pairs.iter().any(|(known, _)| *known == name) {
                let detail = format!("`{}` is given twice", shorten(&name));
                return Err(Problem::invalid_query(detail));
            }
            if pairs.len() == PARAMETERS_MAX {
                return Err(Problem::invalid_query("too many parameters"));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// Takes a parameter; an empty one counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let place = self.pairs.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.pairs.swap_remove(place);
        Some(value).filter(|value| !value.is_empty())
    }

    /// Takes a parameter that `parse` understands, or says what would be right.
    pub(crate) fn take_parsed<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        self.take(name)
            .map(|value| {
                parse(&value).ok_or_else(|| {
                    let detail = format!("`{name}` is `{}`, not {expected}", shorten(&value));
                    Problem::invalid_query(detail)
                })
            })
            .transpose()
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        let flag = self.take_parsed(name, "true or false", |value| value.parse().ok())?;
        Ok(flag.unwrap_or(false))
    }

    pub(crate) fn page<C: Cursor>(&mut self) -> Result<PageOf<C>, Problem> {
        let expected = format!("a number from 1 to {LIMIT_MAX}");
        let limit = self.take_parsed("limit", &expected, |value| {
            let limit = value.parse().ok()?;
            (1..=LIMIT_MAX).contains(&limit).then_some(limit)
        })?;
        let after = self.take_parsed("cursor", "a `next_cursor` of this list", decode)?;
        Ok(PageOf {
            after,
            limit: limit.unwrap_or(LIMIT_DEFAULT),
        })
    }

    /// Takes `consistency` and refuses whatever is left.
    pub(crate) fn finish(self) -> Result<Consistency, Problem> {
        self.finish_or(Consistency::Linearizable)
    }

    /// As [`Query::finish`], for a route that is not linearizable unless asked.
    pub(crate) fn finish_or(mut self, default: Consistency) -> Result<Consistency, Problem> {
        let consistency =
            self.take_parsed(
                "consistency",
                "linearizable or stale",
                |value| match value {
                    "linearizable" => Some(Consistency::Linearizable),
                    "stale" => Some(Consistency::Stale),
                    _ => None,
                },
            )?;
        match self.pairs.first() {
            Some((name, _)) => {
                let detail = format!("`{}` is not a parameter of this route", shorten(name));
                Err(Problem::invalid_query(detail))
            }
            None => Ok(consistency.unwrap_or(default)),
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A place in a list.
pub(crate) trait Cursor: Sized {
    /// Tells the cursors of one list from those of another.
    const KIND: &'static str;

    /// The place as text.
    fn write(&self) -> String;

    /// Reads what [`Cursor::write`] wrote.
    fn read(text: &str) -> Option<Self>;
}

/// The cursor as clients see it.
pub(crate) fn encode(cursor: &impl Cursor) -> String {
    fn kind_of<C: Cursor>(_: &C) -> &'static str {
        C::KIND
    }
    URL_SAFE_NO_PAD.encode(format!("{}:{}", kind_of(cursor), cursor.write()))
}

fn decode<C: Cursor>(text: &str) -> Option<C> {
    if text.len() > CURSOR_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (kind, place) = text.split_once(':')?;
    (kind == C::KIND).then(|| C::read(place)).flatten()
}

macro_rules! cursor {
    ($($type:ty = $kind:literal)+) => {
        $(
            impl Cursor for $type {
                const KIND: &'static str = $kind;

                fn write(&self) -> String {
                    self.to_string()
                }

                fn read(text: &str) -> Option<Self> {
                    text.parse().ok()
                }
            }
        )+
    };
}

cursor! {
    ProposalNo = "proposals"
    AgentId = "agents"
    VoteId = "votes"
    AuditSeq = "audit"
    BallotNo = "ballots"
}

impl Cursor for Ordinal {
    const KIND: &'static str = "decisions";

    fn write(&self) -> String {
        self.0.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

/// What evidence against a validator is called: the digest of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EvidenceId(pub(crate) Digest);

impl Cursor for EvidenceId {
    const KIND: &'static str = "evidence";

    fn write(&self) -> String {
        self.0.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

macro_rules! number {
    ($(#[$doc:meta] $name:ident)+) => {
        $(
            #[$doc]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub(crate) struct $name(pub(crate) u64);

            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    self.0.fmt(f)
                }
            }

            impl std::str::FromStr for $name {
                type Err = std::num::ParseIntError;

                fn from_str(text: &str) -> Result<Self, Self::Err> {
                    text.parse().map(Self)
                }
            }
        )+
    };
}

number! {
    /// The number of an audit entry.
    AuditSeq
    /// The number of a ballot within its proposal.
    BallotNo
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail<T>(result: Result<T, Problem>) -> String {
        result.err().unwrap().detail().to_owned()
    }

    #[test]
    fn cursors_come_back_and_belong_to_one_list() {
        let cursor = encode(&ProposalNo(17));
        let query = format!("cursor={cursor}&limit=5");
        let page = Query::parse(Some(&query)).unwrap().page().unwrap();
        assert_eq!((page.after, page.limit), (Some(ProposalNo(17)), 5));
        let other = Query::parse(Some(&query)).unwrap().page::<AgentId>();
        assert!(detail(other).contains("next_cursor"));
        for forged in ["", "%", "Zm9v", &"A".repeat(10_000)] {
            assert!(decode::<ProposalNo>(forged).is_none());
        }
    }

    #[test]
    fn queries_are_exact() {
        for (text, said) in [
            ("limit=0", "from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("limit=-1", "from 1 to 1000"),
            ("limit=1&limit=2", "given twice"),
        ] {
            let page = Query::parse(Some(text)).and_then(|mut query| query.page::<AgentId>());
            assert!(detail(page).contains(said), "{text}");
        }
        for (text, said) in [
            ("limit=5", "`limit` is not a parameter"),
            ("consistency=eventual", "linearizable or stale"),
        ] {
            let finished = Query::parse(Some(text)).and_then(Query::finish);
            assert!(detail(finished).contains(said), "{text}");
        }
        let stale = Query::parse(Some("consistency=stale")).and_then(Query::finish);
        assert_eq!(stale.unwrap(), Consistency::Stale);
        let absent = Query::parse(Some("consistency=")).and_then(Query::finish);
        assert_eq!(absent.unwrap(), Consistency::Linearizable);
    }
}
