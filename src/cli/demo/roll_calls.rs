//! The roll calls that the demonstration replays, and what they must come to.
//!
//! The expected figures are computed here from the file alone, so that the cluster's are
//! checked against something that shares no code with them.

use aegis_ledger::Choice;

/// The Congressional Voting Records of 1984 (UCI Machine Learning Repository, CC BY 4.0).
pub(crate) const HOUSE_VOTES_84: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/data/house-votes-84.csv"
));

/// The bills in the order of the file's columns.
pub(crate) const BILLS: [&str; 16] = [
    "handicapped-infants",
    "water-project-cost-sharing",
    "adoption-of-the-budget-resolution",
    "physician-fee-freeze",
    "el-salvador-aid",
    "religious-groups-in-schools",
    "anti-satellite-test-ban",
    "aid-to-nicaraguan-contras",
    "mx-missile",
    "immigration",
    "synfuels-corporation-cutback",
    "education-spending",
    "superfund-right-to-sue",
    "crime",
    "duty-free-exports",
    "export-administration-act-south-africa",
];

/// The threshold of a standard decision, in thousandths of the votes for and against.
const THRESHOLD_PER_MILLE: u64 = 501;
/// Its quorum, in thousandths of the electorate.
const QUORUM_PER_MILLE: u64 = 333;

/// A member of the House and its votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) party: String,
    pub(crate) votes: [Choice; BILLS.len()],
}

/// What a bill must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) r#for: u64,
    pub(crate) against: u64,
    pub(crate) abstain: u64,
    pub(crate) quorum: u64,
    pub(crate) outcome: &'static str,
}

impl Expected {
    pub(crate) const fn total(&self) -> u64 {
        self.r#for
            .saturating_add(self.against)
            .saturating_add(self.abstain)
    }
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RollCalls {
    pub(crate) members: Vec<Member>,
}

/// A line that is none of the file's form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RollCallError {
    #[error("line {line} has {found} columns, a party and {} votes make {}", BILLS.len(), BILLS.len() + 1)]
    Columns { line: usize, found: usize },
    #[error("line {line}, column {column}: {found:?} is none of y, n and ?")]
    Vote {
        line: usize,
        column: usize,
        found: String,
    },
    #[error("there are no members")]
    Empty,
}

impl RollCalls {
    pub(crate) fn parse(text: &str) -> Result<Self, RollCallError> {
        let members = text
            .lines()
            .enumerate()
            .map(|(position, line)| parse_member(position.saturating_add(1), line))
            .collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err(RollCallError::Empty);
        }
        Ok(Self { members })
    }

    /// What the bill in this column must come to.
    pub(crate) fn expected(&self, bill: usize) -> Expected {
        let count = |choice: Choice| {
            let votes = self
                .members
                .iter()
                .filter_map(|member| member.votes.get(bill));
            let count = votes.filter(|vote| **vote == choice).count();
            u64::try_from(count).expect("a count in memory fits 64 bits")
        };
        let (r#for, against, abstain) = (
            count(Choice::For),
            count(Choice::Against),
            count(Choice::Abstain),
        );
        let electorate = r#for + against + abstain;
        let quorum = (electorate * QUORUM_PER_MILLE).div_ceil(1_000).max(1);
        let decided = r#for + against;
        let approved = r#for * 1_000 >= decided * THRESHOLD_PER_MILLE && r#for > against;
        Expected {
            r#for,
            against,
            abstain,
            quorum,
            outcome: if approved { "approved" } else { "rejected" },
        }
    }
}

fn parse_member(line: usize, text: &str) -> Result<Member, RollCallError> {
    let columns: Vec<&str> = text.trim_end().split(',').collect();
    let wrong = RollCallError::Columns {
        line,
        found: columns.len(),
    };
    let Some((party, votes)) = columns.split_first() else {
        return Err(wrong);
    };
    let votes = votes
        .iter()
        .zip(2..)
        .map(|(vote, column)| match *vote {
            "y" => Ok(Choice::For),
            "n" => Ok(Choice::Against),
            "?" => Ok(Choice::Abstain),
            found => Err(RollCallError::Vote {
                line,
                column,
                found: found.to_owned(),
            }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Member {
        party: (*party).to_owned(),
        votes: votes.try_into().map_err(|_| wrong)?,
    })
}

#[cfg(test)]
mod tests {
    use aegis_crypto::Digest;

    use super::*;

    #[test]
    fn the_file_is_the_one_that_was_published() {
        assert_eq!(
            Digest::of(HOUSE_VOTES_84).to_string(),
            "40a09e12204d633e373926ca9f6adf4b6f7f55a7c383682a8cb12986f34e8de7"
        );
    }

    #[test]
    fn the_figures_are_those_of_the_file() {
        let calls = RollCalls::parse(HOUSE_VOTES_84).unwrap();
        assert_eq!(calls.members.len(), 435);
        let parties = |party| {
            calls
                .members
                .iter()
                .filter(|member| member.party == party)
                .count()
        };
        assert_eq!((parties("democrat"), parties("republican")), (267, 168));
        // Counted with `cut -d, -f<column> house-votes-84.csv | sort | uniq -c`.
        let counted = [
            (187, 236, 12, "rejected"),
            (195, 192, 48, "approved"),
            (253, 171, 11, "approved"),
            (177, 247, 11, "rejected"),
            (212, 208, 15, "approved"),
            (272, 152, 11, "approved"),
            (239, 182, 14, "approved"),
            (242, 178, 15, "approved"),
            (207, 206, 22, "approved"),
            (216, 212, 7, "approved"),
            (150, 264, 21, "rejected"),
            (171, 233, 31, "rejected"),
            (209, 201, 25, "approved"),
            (248, 170, 17, "approved"),
            (174, 233, 28, "rejected"),
            (269, 62, 104, "approved"),
        ];
        for (bill, (r#for, against, abstain, outcome)) in counted.into_iter().enumerate() {
            let expected = Expected {
                r#for,
                against,
                abstain,
                quorum: 145,
                outcome,
            };
            assert_eq!(calls.expected(bill), expected, "{}", BILLS[bill]);
            assert_eq!(expected.total(), 435);
        }
    }

    fn calls(votes: &str) -> RollCalls {
        let line = |vote: char| format!("p{}\n", format!(",{vote}").repeat(BILLS.len()));
        RollCalls::parse(&votes.chars().map(line).collect::<String>()).unwrap()
    }

    #[test]
    fn thresholds_and_ties_are_exact() {
        for (votes, quorum, outcome) in [
            ("yn", 1, "rejected"),
            ("yyn", 1, "approved"),
            ("yyyn", 2, "approved"),
            ("????", 2, "rejected"),
            ("y???", 2, "approved"),
        ] {
            let expected = calls(votes).expected(15);
            assert_eq!(
                (expected.quorum, expected.outcome),
                (quorum, outcome),
                "{votes}"
            );
        }
        // 501 of 1,000 is the threshold exactly; one vote less does not reach it.
        let split = |yes: usize| format!("{}{}", "y".repeat(yes), "n".repeat(1_000 - yes));
        assert_eq!(calls(&split(501)).expected(0).outcome, "approved");
        assert_eq!(calls(&split(500)).expected(0).outcome, "rejected");
    }

    #[test]
    fn another_form_is_refused_with_its_place() {
        let votes = ",y".repeat(16);
        for (text, expected) in [
            (String::new(), RollCallError::Empty),
            ("a,y".into(), RollCallError::Columns { line: 1, found: 2 }),
            (
                format!("a{votes}\nb{votes},n\n"),
                RollCallError::Columns { line: 2, found: 18 },
            ),
            (
                format!("a{}", votes.replacen('y', "Y", 1)),
                RollCallError::Vote {
                    line: 1,
                    column: 2,
                    found: "Y".into(),
                },
            ),
        ] {
            assert_eq!(RollCalls::parse(&text), Err(expected));
        }
    }
}
