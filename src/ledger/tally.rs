//! Counting: a tally becomes an outcome. Incremental, so that a result costs the same
//! after a million ballots, and pure, so that a naive oracle can check it.

use crate::number::Ppb;
use crate::policy::{Method, Policy, Tie};
use crate::record::{Choice, Frozen, Outcome, Tally};

impl Choice {
    const fn slot<T: Copy>(self, [favour, against, abstain]: [T; 3]) -> T {
        match self {
            Self::For => favour,
            Self::Against => against,
            Self::Abstain => abstain,
        }
    }
}

/// What a count is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The frozen policy.
    pub policy: &'a Policy,
    /// The frozen method.
    pub method: Method,
    /// Electors by heads.
    pub electorate_size: u64,
    /// Heads that make a quorum.
    pub quorum_required: u64,
}

impl Frozen {
    /// What a count under these rules is judged by.
    #[must_use]
    pub const fn rules(&self) -> Rules<'_> {
        Rules {
            policy: &self.policy,
            method: self.method,
            electorate_size: self.electorate_size,
            quorum_required: self.quorum_required,
        }
    }
}

/// Electors who may still vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// By heads.
    pub heads: u64,
    /// By power.
    pub power: u128,
}

impl Tally {
    /// Counts one ballot.
    pub const fn add(&mut self, choice: Choice, power: Ppb) {
        let [heads_for, heads_against, heads_abstain] = &mut self.heads;
        let [power_for, power_against, power_abstain] = &mut self.power;
        let (heads, sum) = match choice {
            Choice::For => (heads_for, power_for),
            Choice::Against => (heads_against, power_against),
            Choice::Abstain => (heads_abstain, power_abstain),
        };
        *heads = heads.saturating_add(1);
        *sum = sum.saturating_add(power.0 as u128);
    }

    /// The heads behind a choice.
    #[must_use]
    pub const fn heads_of(&self, choice: Choice) -> u64 {
        choice.slot(self.heads)
    }

    /// The power behind a choice.
    #[must_use]
    pub const fn power_of(&self, choice: Choice) -> u128 {
        choice.slot(self.power)
    }

    /// All ballots.
    #[must_use]
    pub fn heads_cast(&self) -> u64 {
        self.heads
            .iter()
            .fold(0, |sum, heads| sum.saturating_add(*heads))
    }

    /// All power cast, abstentions included.
    #[must_use]
    pub fn power_cast(&self) -> u128 {
        self.power
            .iter()
            .fold(0, |sum, power| sum.saturating_add(*power))
    }

    /// A choice's share of all power cast, truncated at nine decimals.
    #[must_use]
    pub fn share_of(&self, choice: Choice) -> Ppb {
        Ppb::fraction(self.power_of(choice), self.power_cast())
    }

    fn quorum_heads(&self, policy: &Policy) -> u64 {
        if policy.abstain_counts_quorum {
            self.heads_cast()
        } else {
            self.heads_of(Choice::For)
                .saturating_add(self.heads_of(Choice::Against))
        }
    }

    /// The outcome if voting ended now: quorum first, then the method.
    #[must_use]
    pub fn outcome(&self, rules: &Rules<'_>) -> Outcome {
        if self.quorum_heads(rules.policy) < rules.quorum_required {
            Outcome::NoQuorum
        } else if self.approves(rules, Outstanding::default()) {
            Outcome::Approved
        } else {
            Outcome::Rejected
        }
    }

    /// Whether the method approves once all of `opposed` has voted `against` as well.
    fn approves(&self, rules: &Rules<'_>, opposed: Outstanding) -> bool {
        let favour = self.power_of(Choice::For);
        let against = self.power_of(Choice::Against).saturating_add(opposed.power);
        match rules.method {
            Method::Unanimous => {
                opposed.heads == 0
                    && self.heads_of(Choice::For) == rules.electorate_size
                    && favour > 0
            }
            Method::SimpleMajority | Method::SuperMajority => {
                let abstained = if rules.policy.abstain_in_threshold {
                    self.power_of(Choice::Abstain)
                } else {
                    0
                };
                let whole = favour.saturating_add(against).saturating_add(abstained);
                // Where ties reject, `for` must exceed `against`: under a threshold below one
                // half, refusing only the exact tie would let one more `against` approve.
                let outweighed = favour <= against && rules.policy.tie == Tie::Reject;
                favour > 0 && !outweighed && rules.policy.threshold.is_reached_by(favour, whole)
            }
        }
    }

    /// Whether no ballot still possible can alter the outcome. Exact for the two-option
    /// methods: the quorum only grows, and approval is monotone in the power for and
    /// against, so the two extreme continuations decide; an abstention moves a count
    /// between them.
    #[must_use]
    pub fn is_settled(&self, rules: &Rules<'_>, outstanding: Outstanding) -> bool {
        if outstanding.heads == 0 {
            return true;
        }
        let heads = self.quorum_heads(rules.policy);
        if heads.saturating_add(outstanding.heads) < rules.quorum_required {
            return true;
        }
        if heads < rules.quorum_required {
            return false;
        }
        self.approves(rules, outstanding) || !self.could_approve(rules, outstanding)
    }

    /// Whether the method approves once all of `outstanding` has voted `for`.
    fn could_approve(&self, rules: &Rules<'_>, outstanding: Outstanding) -> bool {
        let mut best = *self;
        let [heads, _, _] = &mut best.heads;
        *heads = heads.saturating_add(outstanding.heads);
        let [power, _, _] = &mut best.power;
        *power = power.saturating_add(outstanding.power);
        best.approves(rules, Outstanding::default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::number::Ratio;
    use crate::policy::{Category, EarlyClose};

    /// Every continuation, one elector after another.
    fn reachable(tally: Tally, rules: &Rules<'_>, left: &[Ppb], seen: &mut Vec<Outcome>) {
        let outcome = tally.outcome(rules);
        if !seen.contains(&outcome) {
            seen.push(outcome);
        }
        for (i, power) in left.iter().enumerate() {
            let rest: Vec<_> = left
                .iter()
                .enumerate()
                .filter(|(j, _)| *j > i)
                .map(|(_, p)| *p)
                .collect();
            for choice in Choice::ALL {
                let mut next = tally;
                next.add(choice, *power);
                reachable(next, rules, &rest, seen);
            }
        }
    }

    fn policy() -> impl Strategy<Value = Policy> {
        (
            0u64..=6,
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            0u64..4,
        )
            .prop_map(|(sixths, quorum, denominator, tie, heads)| Policy {
                threshold: Ratio::new(sixths, 6).unwrap(),
                abstain_counts_quorum: quorum,
                abstain_in_threshold: denominator,
                tie: if tie { Tie::Approve } else { Tie::Reject },
                quorum_heads_min: heads,
                early_close: EarlyClose::Settled,
                ..Policy::initial(Category::Standard)
            })
    }

    proptest! {
        #[test]
        fn settled_means_that_nothing_else_can_come(
            policy in policy(),
            method in 0usize..3,
            cast in proptest::collection::vec((0usize..3, 1u64..4), 0..4),
            left in proptest::collection::vec(1u64..4, 0..4),
        ) {
            let mut tally = Tally::default();
            for (choice, power) in &cast {
                tally.add(Choice::ALL[*choice], Ppb(*power));
            }
            let electorate_size = (cast.len() + left.len()) as u64;
            let rules = Rules {
                policy: &policy,
                method: Method::ALL[method],
                electorate_size,
                quorum_required: policy.quorum_of(electorate_size),
            };
            let outstanding = Outstanding {
                heads: left.len() as u64,
                power: left.iter().map(|p| u128::from(*p)).sum(),
            };
            let left: Vec<_> = left.into_iter().map(Ppb).collect();
            let mut seen = Vec::new();
            reachable(tally, &rules, &left, &mut seen);
            prop_assert_eq!(tally.is_settled(&rules, outstanding), seen.len() == 1, "{:?}", seen);
        }
    }
}
