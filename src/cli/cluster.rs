//! `aegis cluster`: leadership and membership.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::time::Instant;

use crate::answers::Status;
use crate::client::{Answer, Client, ClientError};
use crate::console::plain;
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// What the API calls a step that leaves the cluster one failure from losing its quorum.
const QUORUM_RISK: &str = "quorum_risk";
/// How often the leader is asked for while it is waited for.
const LEADER_POLL: Duration = Duration::from_millis(100);

/// The words of `aegis cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Hand the leadership to another voter
    TransferLeader {
        /// The number of the node that is to lead
        to: u64,
        /// Wait until the node that is asked sees it lead, too
        #[arg(long)]
        wait: bool,
    },
    /// Add a node that receives the log and does not vote
    AddLearner {
        /// The node's number, which no node has or had
        id: u64,
        /// A name for people
        #[arg(long)]
        name: String,
        /// Where other nodes reach it, host:port
        #[arg(long, value_name = "ADDRESS")]
        peer_address: String,
        /// Where clients reach it, host:port
        #[arg(long, value_name = "ADDRESS")]
        api_address: String,
    },
    /// Let a learner vote
    Promote {
        /// The learner's number
        id: u64,
        #[command(flatten)]
        consent: Consent,
    },
    /// Take a node out of the cluster for good
    Remove {
        /// The node's number
        id: u64,
        #[command(flatten)]
        consent: Consent,
    },
}

/// How a person agrees to a step that is dangerous.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Consent {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Do it even if the next failure of a node then stops the cluster
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(
    context: &mut Context<'_>,
    command: &ClusterCommand,
) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        ClusterCommand::TransferLeader { to, wait } => transfer(context, &client, *to, *wait).await,
        ClusterCommand::AddLearner {
            id,
            name,
            peer_address,
            api_address,
        } => {
            let body = json!({
                "id": id, "name": name, "peer_address": peer_address, "api_address": api_address,
            });
            let answer = client.post("/cluster/learners", &body).await?;
            done(
                context,
                &answer,
                &format!("node {id} receives the log; promote it when it has caught up"),
            )
        }
        ClusterCommand::Promote { id, consent } => {
            Change::Promote(*id)
                .carry_out(context, &client, *consent)
                .await
        }
        ClusterCommand::Remove { id, consent } => {
            Change::Remove(*id)
                .carry_out(context, &client, *consent)
                .await
        }
    }
}

fn done(context: &mut Context<'_>, answer: &Answer, words: &str) -> Result<(), Failure> {
    if context.wants_json() {
        context.show_json(answer)
    } else {
        context.console.line(words)
    }
}

async fn transfer(
    context: &mut Context<'_>,
    client: &Client,
    to: u64,
    wait: bool,
) -> Result<(), Failure> {
    let answer = client
        .post("/cluster/transfer-leader", &json!({"to": to}))
        .await?;
    if wait {
        wait_for_leader(client, to, Duration::from_secs(context.global.timeout)).await?;
    }
    done(context, &answer, &format!("node {to} leads"))
}

/// Waits until the cluster's nodes see who leads.
async fn wait_for_leader(client: &Client, to: u64, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let status: Status = client.get("/status").await?.read()?;
        if status.leader == Some(to) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let leads = status
                .leader
                .map_or("nobody leads".to_owned(), |id| format!("node {id} leads"));
            return Err(Failure::say(
                Exit::Negative,
                format_args!("{leads} after {} s, not node {to}", patience.as_secs()),
            ));
        }
        tokio::time::sleep(LEADER_POLL).await;
    }
}

/// A change of who votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Promote(u64),
    Remove(u64),
}

impl Change {
    fn question(self) -> String {
        match self {
            Self::Promote(id) => format!("Let node {id} vote?"),
            Self::Remove(id) => {
                format!("Take node {id} out of the cluster? It can come back only as a new node.")
            }
        }
    }

    fn outcome(self) -> String {
        match self {
            Self::Promote(id) => format!("node {id} votes"),
            Self::Remove(id) => format!("node {id} is no member any more; stop it"),
        }
    }

    async fn send(self, client: &Client, force: bool) -> Result<Answer, ClientError> {
        let suffix = if force { "?force=true" } else { "" };
        match self {
            Self::Promote(id) => {
                client
                    .post(&format!("/cluster/members{suffix}"), &json!({"id": id}))
                    .await
            }
            Self::Remove(id) => {
                client
                    .delete(&format!("/cluster/members/{id}{suffix}"))
                    .await
            }
        }
    }

    /// Asks the person, then the cluster; and if the cluster warns, the person again.
    async fn carry_out(
        self,
        context: &mut Context<'_>,
        client: &Client,
        consent: Consent,
    ) -> Result<(), Failure> {
        if !consent.yes && !context.console.confirm(&self.question())? {
            return Err(not_confirmed("--yes"));
        }
        let answer = match self.send(client, consent.force).await {
            Err(ClientError::Refused(problem)) if problem.code == QUORUM_RISK => {
                context
                    .console
                    .note(format_args!("warning: {}", plain(&problem.detail)))?;
                if !context.console.confirm("Do it all the same?")? {
                    return Err(not_confirmed("--force"));
                }
                self.send(client, true).await?
            }
            other => other?,
        };
        done(context, &answer, &self.outcome())
    }
}

fn not_confirmed(flag: &str) -> Failure {
    Failure::say(Exit::Failed, "not confirmed; nothing was changed")
        .advise(format_args!("agree on a terminal, or with {flag}"))
}
