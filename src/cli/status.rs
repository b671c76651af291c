//! `aegis status`: the cluster as one of its nodes sees it.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;

use crate::answers::{CommitteeSummary, Status};
use crate::client::{Answer, Client, ClientError};
use crate::console::plain;
use crate::context::Context;
use crate::failure::Failure;
use crate::table::Table;

/// How long the leader may take to be asked besides.
const LEADER_PATIENCE: Duration = Duration::from_secs(2);

/// The words of `aegis status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show it again and again until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// How often, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1, requires = "watch",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

pub(crate) async fn run(context: &mut Context<'_>, args: &StatusArgs) -> Result<(), Failure> {
    let client = context.client()?;
    if args.watch {
        return watch(context, &client, Duration::from_secs(args.interval)).await;
    }
    if context.wants_json() {
        let answer = client.get("/status").await?;
        return context.show_json(&answer);
    }
    let status = ask(&client).await?;
    context.console.line(render(&status))
}

/// Asks a node, and the leader if it is among the endpoints, because only the leader knows
/// how its followers stand.
async fn ask(client: &Client) -> Result<Status, ClientError> {
    let status: Status = client.get("/status").await?.read()?;
    let Some(leader) = leader_among(&status, client.endpoints()) else {
        return Ok(status);
    };
    // A leader that is gone a moment later does not take away what is known.
    match client.only(leader, LEADER_PATIENCE)?.get("/status").await {
        Ok(answer) => answer.read(),
        Err(_) => Ok(status),
    }
}

/// The endpoint of the leader, unless it is the node that was asked.
fn leader_among<'e>(
    status: &Status,
    mut endpoints: impl Iterator<Item = &'e str>,
) -> Option<&'e str> {
    let leader = status.leader.filter(|leader| *leader != status.node_id)?;
    let member = status.members.iter().find(|member| member.id == leader)?;
    endpoints.find(|endpoint| {
        endpoint
            .split_once("://")
            .is_some_and(|(_, host)| host == member.api_address)
    })
}

/// Shows the status again and again: in place on a terminal, one after the other elsewhere.
/// Whoever watches wants to see a cluster go and come back, so a failure is shown, too.
async fn watch(
    context: &mut Context<'_>,
    client: &Client,
    interval: Duration,
) -> Result<(), Failure> {
    let mut ticks = tokio::time::interval(interval);
    loop {
        let json = context.wants_json();
        let shown = async {
            ticks.tick().await;
            if json {
                client.get("/status").await.map(Shown::Json)
            } else {
                ask(client)
                    .await
                    .map(|status| Shown::Table(Box::new(status)))
            }
        };
        let shown = tokio::select! {
            stopped = tokio::signal::ctrl_c() => return Ok(stopped?),
            shown = shown => shown,
        };
        match shown {
            Ok(Shown::Json(answer)) => context.show_json(&answer)?,
            Ok(Shown::Table(status)) => redraw(context, &render(&status))?,
            Err(error) if json => return Err(error.into()),
            Err(error) => redraw(context, &Failure::from(error).to_string())?,
        }
    }
}

enum Shown {
    Json(Answer),
    Table(Box<Status>),
}

fn redraw(context: &mut Context<'_>, text: &str) -> Result<(), Failure> {
    if context.console.out_is_terminal() {
        context.console.redraw(text)
    } else {
        context.console.line(text)
    }
}

/// A status as a person reads it.
fn render(status: &Status) -> String {
    let leader = match status.leader {
        Some(id) => format!("node {id}"),
        None => "nobody".to_owned(),
    };
    let mut text = format!(
        "cluster    {} ({}), incarnation {}\nleader     {leader}, term {}\n\
         asked      node {} ({}), applied {} of {}, version {}\n",
        plain(&status.cluster_id),
        plain(&status.cluster_name),
        status.incarnation,
        status.term,
        status.node_id,
        plain(&status.role),
        status.applied_index,
        status.last_index,
        plain(&status.version),
    );
    for alarm in &status.alarms {
        writeln!(
            text,
            "ALARM      {}: {}",
            plain(&alarm.code),
            plain(&alarm.detail)
        )
        .expect("writing to a string cannot fail");
    }
    let counts: Vec<String> = status
        .proposals
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(status, count)| format!("{count} {}", plain(status)))
        .collect();
    if !counts.is_empty() {
        writeln!(text, "proposals  {}", counts.join(", "))
            .expect("writing to a string cannot fail");
    }
    if let Some(committee) = &status.committee {
        writeln!(text, "committee  {}", render_committee(committee))
            .expect("writing to a string cannot fail");
    }
    let mut table = Table::new(&[">NODE", "NAME", "ROLE", "STATE", ">LAG", "API"]);
    for member in &status.members {
        let lag = member.lag.map_or("-".to_owned(), |lag| lag.to_string());
        table.row(&[
            &member.id,
            &member.name,
            &member.role,
            &member.state,
            &lag,
            &member.api_address,
        ]);
    }
    write!(text, "\n{table}").expect("writing to a string cannot fail");
    text
}

/// The layer above the replication, in a line.
fn render_committee(committee: &CommitteeSummary) -> String {
    let agreement = match (committee.view, committee.primary) {
        (Some(view), Some(primary)) => format!("view {view}, primary seat {primary}"),
        _ => "the node asked has no seat in it".to_owned(),
    };
    format!(
        "epoch {}, {agreement}, {} certified, {} waiting",
        committee.epoch, committee.certified, committee.uncertified
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"cluster_id": "c1", "cluster_name": "demo", "incarnation": 0,
        "node_id": 2, "node_name": "node-2", "role": "follower", "leader": 1, "term": 3,
        "last_index": 120, "committed_index": 120, "applied_index": 119,
        "members": [
            {"id": 1, "name": "node-1", "role": "voter", "peer_address": "h:8004",
             "api_address": "h:8003", "state": "leading", "lag": null, "last_contact_ms": null},
            {"id": 4, "name": "node-4", "role": "learner", "peer_address": "h:8034",
             "api_address": "h:8033", "state": "silent", "lag": 17, "last_contact_ms": 900}],
        "proposals": {"draft": 0, "voting": 2, "approved": 11},
        "committee": {"epoch": 0, "view": 4, "primary": 1, "certified": 11, "uncertified": 1},
        "free_bytes": 1000, "version": "0.1.0",
        "alarms": [{"code": "low_space", "detail": "make room\u001b[2J"}]}"#;

    #[test]
    fn the_leader_is_asked_only_at_an_endpoint_that_was_given() {
        let mut status: Status = serde_json::from_str(STATUS).unwrap();
        let given = ["http://h:8013", "http://h:8003"];
        assert_eq!(
            leader_among(&status, given.into_iter()),
            Some("http://h:8003")
        );
        assert_eq!(leader_among(&status, ["http://other"].into_iter()), None);
        status.leader = Some(2);
        assert_eq!(leader_among(&status, given.into_iter()), None);
        status.leader = None;
        assert_eq!(leader_among(&status, given.into_iter()), None);
    }

    #[test]
    fn a_status_shows_who_leads_and_how_everyone_stands() {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        let expected = "\
cluster    c1 (demo), incarnation 0
leader     node 1, term 3
asked      node 2 (follower), applied 119 of 120, version 0.1.0
ALARM      low_space: make room\u{fffd}[2J
proposals  11 approved, 2 voting
committee  epoch 0, view 4, primary seat 1, 11 certified, 1 waiting

NODE  NAME    ROLE     STATE    LAG  API
   1  node-1  voter    leading    -  h:8003
   4  node-4  learner  silent    17  h:8033";
        assert_eq!(render(&status), expected);
        let without = Status {
            committee: None,
            ..status
        };
        assert!(!render(&without).contains("committee"));
    }
}
