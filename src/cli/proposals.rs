//! `aegis proposals`: a list, and what proves how one of them ended.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::time::Instant;

use crate::answers::{Proposal, Proposals};
use crate::client::{Answer, Client, ClientError, segment};
use crate::console::bar;
use crate::context::Context;
use crate::download;
use crate::failure::Failure;
use crate::next::quoted;
use crate::table::Table;

/// The width of a bar, in characters.
const BAR_CHARS: usize = 10;
/// How many proposals a page has.
const PAGE: usize = 100;
/// What the API calls a decision without a certificate.
const NOT_CERTIFIED: &str = "not_certified";
/// How often a certificate is asked for while it is waited for.
pub(crate) const CERTIFICATE_POLL: Duration = Duration::from_millis(10);

/// The words of `aegis proposals`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ProposalsArgs {
    #[command(subcommand)]
    command: Option<ProposalsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

/// What is asked of one proposal.
#[derive(Debug, Subcommand)]
enum ProposalsCommand {
    /// Fetch the certificate of a decision, which `aegis verify` checks offline
    Certificate {
        /// The proposal, like prop_17
        proposal: String,
        #[command(flatten)]
        destination: Destination,
    },
    /// Fetch everything from which a decision can be counted again offline
    Bundle {
        /// The proposal, like prop_17
        proposal: String,
        #[command(flatten)]
        destination: Destination,
        /// With the voters' justifications, as far as they were not erased
        #[arg(long)]
        justifications: bool,
    },
}

/// Where an answer goes, and how long it is waited for.
#[derive(Debug, Args)]
struct Destination {
    /// The file to make; standard output without one
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Wait for a decision that is not certified yet, as long as --timeout says
    #[arg(long)]
    wait: bool,
}

/// Which proposals are listed.
#[derive(Debug, Args)]
struct ListArgs {
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
    match &args.command {
        None => list(context, &client, &args.list).await,
        Some(ProposalsCommand::Certificate {
            proposal,
            destination,
        }) => {
            let path = format!("/proposals/{}/certificate", segment(proposal));
            let hint = |file: &str| {
                format!(
                    "written to {file}; check it offline:\n  aegis verify {file} --genesis GENESIS"
                )
            };
            save(context, &client, (proposal, &path), destination, hint).await
        }
        Some(ProposalsCommand::Bundle {
            proposal,
            destination,
            justifications,
        }) => {
            let asked = if *justifications {
                "?justifications=true"
            } else {
                ""
            };
            let path = format!("/proposals/{}/bundle{asked}", segment(proposal));
            let hint = |file: &str| {
                format!(
                    "written to {file}; count it again offline:\n  aegis verify --bundle {file} --genesis GENESIS"
                )
            };
            save(context, &client, (proposal, &path), destination, hint).await
        }
    }
}

/// The certificate of a decision, once there is one, unless patience ends before.
pub(crate) async fn certificate(
    client: &Client,
    proposal: &str,
    patience: Duration,
) -> Result<Answer, ClientError> {
    let path = format!("/proposals/{}/certificate", segment(proposal));
    let deadline = Instant::now() + patience;
    loop {
        match client.get(&path).await {
            Err(error) if error.refusal() == Some(NOT_CERTIFIED) && Instant::now() < deadline => {
                tokio::time::sleep(CERTIFICATE_POLL).await;
            }
            answer => return answer,
        }
    }
}

/// Writes an answer as it came to a file, or to standard output.
async fn save(
    context: &mut Context<'_>,
    client: &Client,
    (proposal, path): (&str, &str),
    destination: &Destination,
    hint: impl FnOnce(&str) -> String,
) -> Result<(), Failure> {
    if destination.wait {
        let patience = Duration::from_secs(context.global.timeout);
        certificate(client, proposal, patience).await?;
    }
    let mut stream = client.stream(path).await?;
    let Some(out) = destination.out.as_deref() else {
        while let Some(piece) = stream.next().await? {
            context.console.raw(&piece)?;
        }
        return Ok(());
    };
    let bytes = download::save(&mut stream, out).await?;
    if context.wants_json() {
        return context.console.json(&json!({"file": out, "bytes": bytes}));
    }
    context
        .console
        .line(hint(&quoted(&out.display().to_string())))
}

async fn list(context: &mut Context<'_>, client: &Client, args: &ListArgs) -> Result<(), Failure> {
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
