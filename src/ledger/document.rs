//! The proposal document: what an author submits, in canonical form.
//!
//! The document is the body of `POST /proposals` without its `signature`, canonicalised
//! (members sorted, no white space, numbers as written). Its exact bytes are kept, and
//! their SHA-256 is the proposal's digest, so an author can compute and sign it first.

use std::fmt;

use aegis_crypto::{JsonLimits, canonicalize, from_slice_strict};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use aegis_crypto::claims::AgentType;
use aegis_crypto::json::Own;

use crate::ids::{AgentId, LedgerTime};
use crate::policy::{Category, Method, VOTING_PERIOD_MAX_S, VOTING_PERIOD_MIN_S};
use crate::record::ProposalType;
use crate::refusal::Refusal;

/// The most electors a document may name, and the most pieces of evidence.
const ELECTORS_MAX: usize = 1_000;
const EVIDENCE_MAX: usize = 64;
const TITLE_CHARS_MAX: usize = 200;
const TEXT_BYTES_MAX: usize = 32 * 1024;
const DEPTH_MAX: u8 = 16;

/// The document's JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    title: String,
    description: String,
    r#type: ProposalType,
    #[serde(borrow)]
    content: &'a RawValue,
    voting_deadline: Option<String>,
    voting_period_s: Option<u64>,
    category: Option<Category>,
    method: Option<String>,
    options: Option<Vec<String>>,
    action: Option<String>,
    target: Option<String>,
    justification: Option<String>,
    #[serde(borrow)]
    evidence: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    impact: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    electorate: Option<Electorate>,
    max_rounds: Option<u32>,
    open: Option<bool>,
}

/// Who votes, where the author may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Electorate {
    /// These agents.
    Agents(Vec<AgentId>),
    /// All agents that pass the filter.
    Filter(ElectorateFilter),
}

impl<'de> Deserialize<'de> for Electorate {
    /// A list or an object, told apart by their first token; serde's untagged enums would
    /// read a list as the filter's fields.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Electorate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&Own("a list of agent ids or a filter object"), f)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Electorate, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Electorate::Agents)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Electorate, A::Error> {
                ElectorateFilter::deserialize(MapAccessDeserializer::new(map))
                    .map(Electorate::Filter)
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// A filter over the active agents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElectorateFilter {
    /// Only these types.
    #[serde(default)]
    pub types: Option<Vec<AgentType>>,
    /// Only the attested, or only the others.
    #[serde(default)]
    pub attested: Option<bool>,
}

/// When voting ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// At this time.
    At(LedgerTime),
    /// This many seconds after the opening.
    After(u64),
    /// The policy's period after the opening.
    Policy,
}

/// A checked document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The title.
    pub title: String,
    /// What it is about.
    pub kind: ProposalType,
    /// The category in force: the default of the action or the type, or what the author raised it to.
    pub category: Category,
    /// The method, where the author chose one.
    pub method: Option<Method>,
    /// The electorate, where the author chose one.
    pub electorate: Option<Electorate>,
    /// When voting ends.
    pub deadline: Deadline,
    /// Whether voting opens at once.
    pub open: bool,
    /// The content of a configuration change, as JSON.
    pub configuration: Option<String>,
}

fn invalid(field: &str, reason: impl Into<String>) -> Refusal {
    Refusal::InvalidField {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

fn violation(rule: &str, detail: impl Into<String>) -> Refusal {
    Refusal::PolicyViolation {
        rule: rule.to_owned(),
        detail: detail.into(),
    }
}

impl Document {
    /// Checks a canonical document.
    ///
    /// # Errors
    /// The first rule it breaks, as the refusal to answer.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let canonical = canonicalize(text, DEPTH_MAX)
            .map_err(|error| invalid("document", error.own_words()))?;
        if canonical != text {
            return Err(invalid("document", "it is not in canonical form"));
        }
        let wire: Wire<'_> = from_slice_strict(text.as_bytes(), JsonLimits::default())
            .map_err(|error| invalid("document", error.own_words()))?;
        wire.check()
    }
}

impl Wire<'_> {
    fn check(self) -> Result<Document, Refusal> {
        self.check_texts()?;
        let category = self.category()?;
        let free = self.r#type == ProposalType::Decision && self.action.is_none();
        let deadline = self.deadline()?;
        self.check_rounds_and_options()?;
        let method = self.method.as_deref().map(parse_method).transpose()?;
        if !free && (method.is_some() || self.electorate.is_some()) {
            return Err(violation(
                "electorate_and_method",
                "only a `decision` without an `action` may name its electorate or its method",
            ));
        }
        if let Some(Electorate::Agents(agents)) = &self.electorate {
            check_electors(agents)?;
        }
        let configuration = (self.r#type == ProposalType::ConfigurationChange)
            .then(|| self.content.get().to_owned());
        Ok(Document {
            configuration,
            title: self.title,
            kind: self.r#type,
            category,
            method,
            electorate: self.electorate,
            deadline,
            open: self.open.unwrap_or(false),
        })
    }

    fn check_texts(&self) -> Result<(), Refusal> {
        let title_chars = self.title.chars().count();
        if self.title.trim().is_empty() || title_chars > TITLE_CHARS_MAX {
            return Err(invalid(
                "title",
                format!("it has {title_chars} characters, use 1 to {TITLE_CHARS_MAX}"),
            ));
        }
        if self.title.chars().any(char::is_control) {
            return Err(invalid(
                "title",
                "it has control characters, use one line of text",
            ));
        }
        let texts = [
            ("description", Some(&self.description)),
            ("justification", self.justification.as_ref()),
            ("action", self.action.as_ref()),
            ("target", self.target.as_ref()),
        ];
        for (field, text) in texts {
            if let Some(text) = text.filter(|text| text.len() > TEXT_BYTES_MAX) {
                return Err(invalid(
                    field,
                    format!("it has {} bytes, at most {TEXT_BYTES_MAX}", text.len()),
                ));
            }
        }
        let objects = [
            ("content", Some(self.content)),
            ("impact", self.impact),
            ("metadata", self.metadata),
        ];
        for (field, value) in objects {
            if value.is_some_and(|value| !value.get().starts_with('{')) {
                return Err(invalid(field, "it must be an object"));
            }
        }
        let evidence = self.evidence.as_ref().map_or(0, Vec::len);
        if evidence > EVIDENCE_MAX {
            return Err(invalid(
                "evidence",
                format!("it has {evidence} items, at most {EVIDENCE_MAX}"),
            ));
        }
        Ok(())
    }

    /// An action's category beats its type's; an author may raise it, never lower it.
    fn category(&self) -> Result<Category, Refusal> {
        let by_action = match self.action.as_deref() {
            Some("terminate" | "escalate") => Some(Category::Critical),
            _ => None,
        };
        let default = by_action.unwrap_or(match self.r#type {
            ProposalType::ConfigurationChange | ProposalType::PolicyUpdate => Category::Significant,
            ProposalType::ModuleManagement | ProposalType::Decision => Category::Standard,
            ProposalType::EmergencyAction => Category::Emergency,
        });
        match self.category {
            None => Ok(default),
            Some(asked) if asked == default => Ok(asked),
            Some(Category::Emergency) if self.r#type != ProposalType::EmergencyAction => Err(
                violation("category", "`emergency` is for `emergency_action` alone"),
            ),
            Some(asked) if asked < default => Err(violation(
                "category",
                format!(
                    "`{}` may be raised, never lowered to `{}`",
                    default.as_str(),
                    asked.as_str()
                ),
            )),
            Some(asked) => Ok(asked),
        }
    }

    fn deadline(&self) -> Result<Deadline, Refusal> {
        match (&self.voting_deadline, self.voting_period_s) {
            (Some(_), Some(_)) => Err(invalid(
                "voting_period_s",
                "give either voting_deadline or voting_period_s, not both",
            )),
            (Some(text), None) => parse_deadline(text).map(Deadline::At),
            (None, Some(period))
                if (VOTING_PERIOD_MIN_S..=VOTING_PERIOD_MAX_S).contains(&period) =>
            {
                Ok(Deadline::After(period))
            }
            (None, Some(period)) => Err(violation(
                "voting_period",
                format!("{period} s is outside {VOTING_PERIOD_MIN_S} to {VOTING_PERIOD_MAX_S} s"),
            )),
            (None, None) => Ok(Deadline::Policy),
        }
    }

    fn check_rounds_and_options(&self) -> Result<(), Refusal> {
        if self.max_rounds.is_some_and(|rounds| rounds != 1) {
            return Err(violation(
                "max_rounds",
                "the policy of this category has one round",
            ));
        }
        if self.options.is_some() {
            return Err(violation(
                "options",
                "the methods of this cluster decide between for and against",
            ));
        }
        Ok(())
    }
}

fn parse_method(text: &str) -> Result<Method, Refusal> {
    Method::ALL
        .into_iter()
        .find(|method| method.as_str() == text)
        .ok_or_else(|| {
            let known = Method::ALL.map(Method::as_str).join(", ");
            violation(
                "method",
                format!(
                    "`{}` is not one of {known}",
                    text.chars().take(40).collect::<String>()
                ),
            )
        })
}

fn parse_deadline(text: &str) -> Result<LedgerTime, Refusal> {
    let shown: String = text.chars().take(40).collect();
    let not_a_time = || {
        invalid(
            "voting_deadline",
            format!("`{shown}` is not an RFC 3339 time like 2027-12-31T23:59:59Z"),
        )
    };
    let timestamp: jiff::Timestamp = text.parse().map_err(|_| not_a_time())?;
    u64::try_from(timestamp.as_millisecond())
        .map(LedgerTime)
        .map_err(|_| not_a_time())
}

fn check_electors(agents: &[AgentId]) -> Result<(), Refusal> {
    if agents.is_empty() || agents.len() > ELECTORS_MAX {
        return Err(invalid(
            "electorate",
            format!("it names {} agents, use 1 to {ELECTORS_MAX}", agents.len()),
        ));
    }
    let distinct: std::collections::BTreeSet<_> = agents.iter().collect();
    if distinct.len() != agents.len() {
        return Err(invalid("electorate", "it names an agent twice"));
    }
    Ok(())
}
