//! The full result of a closing, which its statement names by digest.
//!
//! It is a JSON object in the canonical form of RFC 8785, numbers as strings in decimal:
//!
//! | member | what |
//! | --- | --- |
//! | `choices` | an object of `abstain`, `against` and `for`, each an object of `heads`, how many ballots, and `power`, their power in parts per billion |
//! | `rules` | absent if voting never opened; else what the count is judged by, an object of the members below |
//! | `rules.electorate_size` | how many electors there are |
//! | `rules.method` | how ballots become an outcome |
//! | `rules.policy` | an object of `name` and `version` |
//! | `rules.power_total` | the power of all electors in parts per billion |
//! | `rules.quorum_required` | how many heads make a quorum |
//! | `rules.tally_version` | the version of the code that counts |
//! | `rules.threshold` | what `for` must reach, as the policy writes it: `0.501` or `2/3` |

use aegis_crypto::Digest;
use serde::Serialize;

use crate::record::{Choice, Frozen, Tally};
use crate::statement::decimal;

/// The version of the code that turns ballots into an outcome. A proposal freezes it.
pub const TALLY_VERSION: u32 = 1;

/// The full result; see the module's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FullResult {
    // In the order of their names, which is the canonical one.
    choices: Choices,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Judged>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Choices {
    abstain: Count,
    against: Count,
    r#for: Count,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Count {
    #[serde(with = "decimal")]
    heads: u64,
    power: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Judged {
    #[serde(with = "decimal")]
    electorate_size: u64,
    method: &'static str,
    policy: PolicyVersion,
    power_total: String,
    #[serde(with = "decimal")]
    quorum_required: u64,
    #[serde(with = "decimal")]
    tally_version: u32,
    threshold: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PolicyVersion {
    name: String,
    #[serde(with = "decimal")]
    version: u32,
}

impl FullResult {
    /// The result of a count under frozen rules; without rules, of one that never began.
    #[must_use]
    pub fn new(tally: &Tally, frozen: Option<&Frozen>) -> Self {
        let count = |choice| Count {
            heads: tally.heads_of(choice),
            power: tally.power_of(choice).to_string(),
        };
        Self {
            choices: Choices {
                abstain: count(Choice::Abstain),
                against: count(Choice::Against),
                r#for: count(Choice::For),
            },
            rules: frozen.map(Judged::by),
        }
    }

    /// The canonical text.
    #[must_use]
    pub fn to_canonical(&self) -> String {
        serde_json::to_string(self).expect("a result has only fields that JSON can write")
    }

    /// SHA-256 of the canonical text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_canonical())
    }
}

impl Judged {
    fn by(frozen: &Frozen) -> Self {
        Self {
            electorate_size: frozen.electorate_size,
            method: frozen.method.as_str(),
            policy: PolicyVersion {
                name: frozen.policy.name.clone(),
                version: frozen.policy.version,
            },
            power_total: frozen.power_total.to_string(),
            quorum_required: frozen.quorum_required,
            tally_version: frozen.tally_version,
            threshold: frozen.policy.threshold.to_string(),
        }
    }
}
