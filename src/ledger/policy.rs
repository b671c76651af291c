//! Policies: the rules that a proposal freezes when its voting opens.

use aegis_crypto::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::number::{Ppb, Ratio};

/// How ballots become an outcome. The numbering is part of the stored formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// `for` reaches the threshold among `for` and `against`.
    SimpleMajority,
    /// The same comparison, under a policy with a higher threshold.
    SuperMajority,
    /// Every elector voted, and all voted `for`.
    Unanimous,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 3] = [Self::SimpleMajority, Self::SuperMajority, Self::Unanimous];

    /// The name in documents and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SimpleMajority => "simple_majority",
            Self::SuperMajority => "super_majority",
            Self::Unanimous => "unanimous",
        }
    }
}

/// What a tie between `for` and `against` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tie {
    /// A tie never approves.
    Reject,
    /// A tie approves if the threshold holds all the same.
    Approve,
}

/// When voting ends before its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyClose {
    /// Only the deadline closes.
    Never,
    /// When everyone who still may vote has voted.
    AllVoted,
    /// When no ballot still possible can alter the outcome.
    Settled,
}

/// A proposal's weight, which chooses its policy. Ordered from the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Everyday decisions.
    Standard,
    /// Changes of configuration and policy.
    Significant,
    /// Decisions that cannot be taken back.
    Critical,
    /// Emergency actions, decided within a day.
    Emergency,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 4] = [
        Self::Standard,
        Self::Significant,
        Self::Critical,
        Self::Emergency,
    ];

    /// The name in documents and answers, which is also the name of its policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Significant => "significant",
            Self::Critical => "critical",
            Self::Emergency => "emergency",
        }
    }
}

/// The shortest voting period a proposal may ask for, in seconds.
pub const VOTING_PERIOD_MIN_S: u64 = 1;
/// The longest voting period a proposal may ask for, in seconds: three years.
pub const VOTING_PERIOD_MAX_S: u64 = 3 * 366 * 86_400;

/// One version of a named policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The name.
    pub name: String,
    /// The version, from 1.
    pub version: u32,
    /// What `for` must reach.
    pub threshold: Ratio,
    /// How ballots become an outcome.
    pub method: Method,
    /// The share of the electorate, by heads, that must take part.
    pub quorum_minimum: Ratio,
    /// The number of heads that must take part whatever the share.
    pub quorum_heads_min: u64,
    /// Whether an abstention takes part.
    pub abstain_counts_quorum: bool,
    /// Whether abstentions join the threshold's denominator.
    pub abstain_in_threshold: bool,
    /// What a tie means.
    pub tie: Tie,
    /// How long voting lasts unless the proposal says otherwise, in seconds.
    pub voting_period_s: u64,
    /// The last reported consciousness level below which an agent may not vote.
    pub awareness_floor: Ppb,
    /// When voting ends early.
    pub early_close: EarlyClose,
    /// How many electors there must be at opening.
    pub min_participants: u64,
    /// How long an approved decision may be appealed, in seconds.
    pub appeal_window_s: u64,
    /// How long after the appeal window an approved decision waits, in seconds.
    pub implementation_delay_s: u64,
    /// How many unclosed proposals an agent may have.
    pub open_proposals_per_author: u64,
}

impl Policy {
    /// The policy that a category points to when a cluster begins.
    #[must_use]
    pub fn initial(category: Category) -> Self {
        let (threshold, method, voting_period_s, awareness_floor, early_close) = match category {
            Category::Standard => (
                501,
                Method::SimpleMajority,
                604_800,
                0,
                EarlyClose::AllVoted,
            ),
            Category::Significant => (667, Method::SuperMajority, 604_800, 0, EarlyClose::AllVoted),
            Category::Critical => (
                900,
                Method::SuperMajority,
                604_800,
                700_000_000,
                EarlyClose::AllVoted,
            ),
            Category::Emergency => (900, Method::SuperMajority, 86_400, 0, EarlyClose::Settled),
        };
        Self {
            name: category.as_str().to_owned(),
            version: 1,
            threshold: Ratio::per_mille(threshold),
            method,
            quorum_minimum: Ratio::per_mille(333),
            quorum_heads_min: 0,
            abstain_counts_quorum: true,
            abstain_in_threshold: false,
            tie: Tie::Reject,
            voting_period_s,
            awareness_floor: Ppb(awareness_floor),
            early_close,
            min_participants: 1,
            appeal_window_s: 259_200,
            implementation_delay_s: 86_400,
            open_proposals_per_author: 10,
        }
    }

    /// The heads that make a quorum of an electorate.
    #[must_use]
    pub fn quorum_of(&self, electorate_size: u64) -> u64 {
        self.quorum_minimum
            .ceil_of(electorate_size)
            .max(self.quorum_heads_min)
            .max(1)
    }
}

/// The digest of the policies that every cluster of this version begins with; the genesis
/// names it, so that nodes which would begin with others refuse to serve.
#[must_use]
pub fn initial_policies_digest() -> Digest {
    let mut hasher = Hasher::tagged("aegis/policies/1");
    for category in Category::ALL {
        let policy = Policy::initial(category);
        let bytes = postcard::to_allocvec(&policy).expect("a policy has only encodable fields");
        hasher = hasher.bytes(&bytes);
    }
    hasher.finish()
}
