//! The table of outcomes, and its check against the file.

use jiff::Timestamp;

use super::replay::Decided;
use super::roll_calls::{BILLS, RollCalls};
use crate::table::Table;

/// The outcomes as a person reads them.
pub(crate) fn table(decided: &[Decided]) -> Table {
    let mut table = Table::new(&[
        "PROPOSAL",
        "BILL",
        ">FOR",
        ">AGAINST",
        ">ABSTAIN",
        ">QUORUM",
        "OUTCOME",
        ">DECIDED IN",
    ]);
    for Decided {
        bill,
        results,
        proposal,
    } in decided
    {
        let count = &results.results;
        table.row(&[
            &bill.proposal_id,
            &BILLS.get(bill.column).copied().unwrap_or_default(),
            &count.breakdown.r#for,
            &count.breakdown.against,
            &count.breakdown.abstain,
            &count.quorum_required,
            &proposal.outcome.as_deref().unwrap_or("-"),
            &deciding(proposal.voting_opened_at, proposal.closed_at),
        ]);
    }
    table
}

/// The time from the opening of voting to the close.
fn deciding(opened: Option<Timestamp>, closed: Option<Timestamp>) -> String {
    let (Some(opened), Some(closed)) = (opened, closed) else {
        return "-".to_owned();
    };
    let ms = closed
        .as_millisecond()
        .saturating_sub(opened.as_millisecond());
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

/// Every figure that is not what the file says.
pub(crate) fn differences(decided: &[Decided], calls: &RollCalls) -> Vec<String> {
    let mut found = Vec::new();
    for Decided {
        bill,
        results,
        proposal,
    } in decided
    {
        let (expected, count) = (calls.expected(bill.column), &results.results);
        let total = expected.total();
        let name = BILLS.get(bill.column).copied().unwrap_or_default();
        let mut compare = |figure: &str, shown: &str, expected: &str| {
            if shown != expected {
                let id = &bill.proposal_id;
                found.push(format!(
                    "{name} ({id}): {figure} is {shown}, the file says {expected}"
                ));
            }
        };
        for (figure, shown, expected) in [
            ("for", count.breakdown.r#for, expected.r#for),
            ("against", count.breakdown.against, expected.against),
            ("abstain", count.breakdown.abstain, expected.abstain),
            ("the number of votes", count.total_votes, total),
            ("the electorate", results.electorate_size, total),
            ("the quorum", count.quorum_required, expected.quorum),
        ] {
            compare(figure, &shown.to_string(), &expected.to_string());
        }
        compare("the result", &count.status, expected.outcome);
        compare(
            "the outcome",
            proposal.outcome.as_deref().unwrap_or("-"),
            expected.outcome,
        );
        compare("participation", &results.participation.to_string(), "1");
    }
    found
}
