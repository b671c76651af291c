//! `aegis proposals`: a list.

use clap::Args;

use crate::answers::{Proposal, Proposals};
use crate::client::{Client, segment};
use crate::console::bar;
use crate::context::Context;
use crate::failure::Failure;
use crate::table::Table;

/// The width of a bar, in characters.
const BAR_CHARS: usize = 10;
/// How many proposals a page has.
const PAGE: usize = 100;

/// The words of `aegis proposals`.
#[derive(Debug, Args)]
pub(crate) struct ProposalsArgs {
    /// Only these: a status, or `active` for what is not decided
    #[arg(long)]
    status: Option<String>,
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only by this author
    #[arg(long, value_name = "ID")]
    author: Option<String>,
    /// How many at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Where an earlier list ended (its `next_cursor`)
    #[arg(long)]
    cursor: Option<String>,
}

/// Which proposals are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query<'q> {
    pub(crate) status: Option<&'q str>,
    pub(crate) kind: Option<&'q str>,
    pub(crate) author: Option<&'q str>,
}

impl Query<'_> {
    fn path(&self, limit: usize, cursor: Option<&str>) -> String {
        let mut path = format!("/proposals?limit={limit}");
        for (name, value) in [
            ("status", self.status),
            ("type", self.kind),
            ("author", self.author),
            ("cursor", cursor),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", segment(value)));
            }
        }
        path
    }

    /// All of them, page by page.
    pub(crate) async fn all(&self, client: &Client) -> Result<Vec<Proposal>, Failure> {
        let (mut found, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page: Proposals = client
                .get(&self.path(PAGE, cursor.as_deref()))
                .await?
                .read()?;
            found.extend(page.proposals);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(found);
            }
        }
    }
}

pub(crate) async fn run(context: &mut Context<'_>, args: &ProposalsArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let query = Query {
        status: args.status.as_deref(),
        kind: args.kind.as_deref(),
        author: args.author.as_deref(),
    };
    let answer = client
        .get(&query.path(args.limit, args.cursor.as_deref()))
        .await?;
    if context.wants_json() {
        return context.show_json(&answer);
    }
    let page: Proposals = answer.read()?;
    context.console.line(render(&page.proposals))?;
    if let Some(cursor) = page.next_cursor {
        context
            .console
            .note(format_args!("there are more: --cursor {cursor}"))?;
    }
    Ok(())
}

fn render(proposals: &[Proposal]) -> Table {
    let mut table = Table::new(&[
        "PROPOSAL", "STATUS", ">FOR", ">AGAINST", ">ABSTAIN", "VOTED", "AUTHOR", "TITLE",
    ]);
    for proposal in proposals {
        let votes = &proposal.votes;
        let voted = format!(
            "{} {}/{}",
            bar(
                votes.total,
                proposal.electorate_size.unwrap_or(0),
                BAR_CHARS
            ),
            votes.total,
            proposal
                .electorate_size
                .map_or("-".to_owned(), |size| size.to_string()),
        );
        table.row(&[
            &proposal.proposal_id,
            &proposal.status,
            &votes.r#for,
            &votes.against,
            &votes.abstain,
            &voted,
            &proposal.author,
            &proposal.title,
        ]);
    }
    table
}
