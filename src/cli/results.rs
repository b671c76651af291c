//! `aegis results`: counts and outcomes.

use std::fmt::Write as _;

use clap::Args;

use crate::answers::Results;
use crate::client::segment;
use crate::console::{bar, plain};
use crate::context::Context;
use crate::failure::Failure;

/// The width of a bar, in characters.
const BAR_CHARS: usize = 40;

/// The words of `aegis results`.
#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    /// The proposals, like prop_17
    #[arg(required = true)]
    proposals: Vec<String>,
}

pub(crate) async fn run(context: &mut Context<'_>, args: &ResultsArgs) -> Result<(), Failure> {
    let client = context.client()?;
    for (position, proposal) in args.proposals.iter().enumerate() {
        let answer = client
            .get(&format!("/proposals/{}/results", segment(proposal)))
            .await?;
        if context.wants_json() {
            context.show_json(&answer)?;
            continue;
        }
        if position > 0 {
            context.console.line("")?;
        }
        let results: Results = answer.read()?;
        context.console.line(render(&results))?;
    }
    Ok(())
}

/// A result as a person reads it.
fn render(results: &Results) -> String {
    let count = &results.results;
    let breakdown = &count.breakdown;
    let mut text = format!(
        "{}  {}\n",
        plain(&results.proposal_id),
        plain(&count.status)
    );
    for (name, votes) in [
        ("for", breakdown.r#for),
        ("against", breakdown.against),
        ("abstain", breakdown.abstain),
    ] {
        let bar = bar(votes, count.total_votes, BAR_CHARS);
        writeln!(text, "  {name:<8}{bar} {votes}").expect("writing to a string cannot fail");
    }
    write!(
        text,
        "  {} of {} voted, quorum {}, method {}, threshold {}, {}",
        count.total_votes,
        results.electorate_size,
        count.quorum_required,
        plain(&results.method),
        results.threshold,
        if results.certified {
            "certified"
        } else {
            "not certified"
        },
    )
    .expect("writing to a string cannot fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_read_at_a_glance() {
        let results: Results = serde_json::from_str(
            r#"{"proposal_id": "prop_12345",
                "results": {"total_votes": 25, "quorum_required": 17,
                    "breakdown": {"for": 18, "against": 4, "abstain": 3},
                    "weighted_results": {"for": 0.72, "against": 0.16, "abstain": 0.12},
                    "status": "approved"},
                "participation": 0.490196078, "threshold": 0.501,
                "method": "simple_majority", "electorate_size": 51, "certified": true}"#,
        )
        .unwrap();
        let text = render(&results);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "prop_12345  approved");
        assert!(lines[1].starts_with("  for     ████") && lines[1].ends_with("░ 18"));
        assert!(lines[3].starts_with("  abstain ████░") && lines[3].ends_with(" 3"));
        assert_eq!(
            lines[4],
            "  25 of 51 voted, quorum 17, method simple_majority, threshold 0.501, certified"
        );
    }
}
