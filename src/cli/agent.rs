//! `aegis agent`: who takes part.

use std::path::PathBuf;

use aegis_crypto::claims::AgentType;
use aegis_ledger::{AgentId, Ppb, WEIGHT_MAX};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::answers::{Agent, AgentReceipt, Agents, TokenReceipt};
use crate::client::{Client, segment};
use crate::console::plain;
use crate::context::{Context, cluster_id};
use crate::failure::{Exit, Failure};
use crate::secret;
use crate::statements::NewAgent;
use crate::table::Table;

/// How many agents a page has.
const PAGE: usize = 1_000;

/// The words of `aegis agent`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Register an agent, attested by the registrar
    Register(RegisterArgs),
    /// List agents
    List,
    /// Show an agent
    Show {
        /// Its id
        id: AgentId,
    },
    /// End an agent's part in everything that is open or comes
    Remove {
        /// Its id
        id: AgentId,
    },
    /// Issue a bearer token to an agent
    Token {
        /// Its id
        id: AgentId,
        /// The file to put it into (0600); nothing is overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Report an oracle's figures on an agent, each from 0 to 1
    Report(ReportArgs),
}

/// The words of `aegis agent register`.
#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// The agent's id: letters, digits and . _ : -
    id: AgentId,
    /// What people call it; its id by default
    #[arg(long)]
    name: Option<String>,
    /// What it is
    #[arg(long = "type", value_enum, default_value_t = Kind::Llm)]
    kind: Kind,
    /// Its weight
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(WEIGHT_MAX)))]
    weight: u32,
    /// The agent's private key (PKCS#8 PEM, 0600), which signs the proof and is not sent
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The registrar's private key, which signs the attestation and is not sent; without it
    /// nobody vouches for the agent
    #[arg(long, value_name = "FILE", env = "AEGIS_REGISTRAR_KEY")]
    registrar_key: Option<PathBuf>,
}

/// What an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A language model
    Llm,
    /// A person
    Human,
    /// A source of facts
    Oracle,
    /// A program
    System,
}

impl From<Kind> for AgentType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Llm => Self::Llm,
            Kind::Human => Self::Human,
            Kind::Oracle => Self::Oracle,
            Kind::System => Self::System,
        }
    }
}

/// The words of `aegis agent report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The agent reported on
    id: AgentId,
    /// Integrated information
    #[arg(long, value_name = "DECIMAL")]
    phi: String,
    /// Coherence
    #[arg(long, value_name = "DECIMAL")]
    coherence: String,
    /// Stability
    #[arg(long, value_name = "DECIMAL")]
    stability: String,
    /// Divergence
    #[arg(long, value_name = "DECIMAL")]
    divergence: String,
    /// Consciousness level
    #[arg(long, value_name = "DECIMAL")]
    consciousness_level: String,
    /// When it was measured, like 2027-12-31T23:59:59Z; now by default
    #[arg(long, value_name = "TIME")]
    measured_at: Option<String>,
}

pub(crate) async fn run(context: &mut Context<'_>, command: &AgentCommand) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        AgentCommand::Register(args) => register(context, &client, args).await,
        AgentCommand::List => list(context, &client).await,
        AgentCommand::Show { id } => show(context, &client, id).await,
        AgentCommand::Remove { id } => {
            let answer = client.delete(&path(id, "")).await?;
            done(context, &answer, format_args!("{id} removed"))
        }
        AgentCommand::Token { id, out } => token(context, &client, id, out.clone()).await,
        AgentCommand::Report(args) => {
            let answer = client
                .post_once(&path(&args.id, "/reports"), &args.body()?)
                .await?;
            done(context, &answer, format_args!("reported on {}", args.id))
        }
    }
}

fn path(id: &AgentId, rest: &str) -> String {
    format!("/agents/{}{rest}", segment(id.as_str()))
}

fn done(
    context: &mut Context<'_>,
    answer: &crate::client::Answer,
    words: std::fmt::Arguments<'_>,
) -> Result<(), Failure> {
    if context.wants_json() {
        context.show_json(answer)
    } else {
        context.console.line(words)
    }
}

async fn register(
    context: &mut Context<'_>,
    client: &Client,
    args: &RegisterArgs,
) -> Result<(), Failure> {
    let key = secret::read_key(&args.key).map_err(Failure::failed)?;
    let agent = NewAgent {
        id: args.id.clone(),
        name: args.name.clone().unwrap_or_else(|| args.id.to_string()),
        agent_type: args.kind.into(),
        weight: args.weight,
    };
    let body = match &args.registrar_key {
        Some(path) => {
            let registrar = secret::read_key(path).map_err(Failure::failed)?;
            agent.attested(cluster_id(client).await?, &registrar, &key)
        }
        None => agent.unattested(key.public().into()),
    };
    let answer = client.post_once("/agents", &body).await?;
    if context.wants_json() {
        return context.show_json(&answer);
    }
    let receipt: AgentReceipt = answer.read()?;
    let attested = if receipt.attested {
        "attested"
    } else {
        "not attested"
    };
    context.console.line(format_args!(
        "{} {attested}\nkid {}",
        plain(&receipt.agent_id),
        plain(&receipt.kid)
    ))
}

async fn list(context: &mut Context<'_>, client: &Client) -> Result<(), Failure> {
    if context.wants_json() {
        let answer = client.get(&format!("/agents?limit={PAGE}")).await?;
        return context.show_json(&answer);
    }
    let mut table = Table::new(&["AGENT", "TYPE", ">WEIGHT", "STATUS", "ATTESTED", "NAME"]);
    for agent in all(client).await? {
        let attested = if agent.attested { "yes" } else { "no" };
        table.row(&[
            &agent.agent_id,
            &agent.r#type,
            &agent.weight,
            &agent.status,
            &attested,
            &agent.name,
        ]);
    }
    context.console.line(table)
}

/// Every agent, page by page.
pub(crate) async fn all(client: &Client) -> Result<Vec<Agent>, Failure> {
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let after = cursor.map_or_else(String::new, |cursor| {
            format!("&cursor={}", segment(&cursor))
        });
        let page: Agents = client
            .get(&format!("/agents?limit={PAGE}{after}"))
            .await?
            .read()?;
        found.extend(page.agents);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(found);
        }
    }
}

async fn show(context: &mut Context<'_>, client: &Client, id: &AgentId) -> Result<(), Failure> {
    let answer = client.get(&path(id, "")).await?;
    if context.wants_json() {
        return context.show_json(&answer);
    }
    let members: Map<String, Value> = answer.read()?;
    let width = members.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in &members {
        let value = match value {
            Value::String(text) => plain(text),
            other => plain(&other.to_string()),
        };
        context
            .console
            .line(format_args!("{name:<width$}  {value}"))?;
    }
    Ok(())
}

async fn token(
    context: &mut Context<'_>,
    client: &Client,
    id: &AgentId,
    out: PathBuf,
) -> Result<(), Failure> {
    if out.exists() {
        return Err(Failure::failed(secret::SecretError::Exists { path: out }));
    }
    let answer = client.post("/tokens", &json!({"agent_id": id})).await?;
    let receipt: TokenReceipt = answer.read()?;
    secret::create(&out, &receipt.token).map_err(|error| {
        Failure::failed(error).advise(format_args!(
            "the token was issued and is lost; end it with DELETE /tokens/{}",
            receipt.token_id
        ))
    })?;
    if context.wants_json() {
        let shown = json!({"token_id": receipt.token_id, "agent_id": id, "file": out});
        return context.console.json(&shown);
    }
    context.console.line(format_args!(
        "{} of {id} is in {}",
        plain(&receipt.token_id),
        out.display()
    ))
}

impl ReportArgs {
    fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        for (name, text) in [
            ("phi", &self.phi),
            ("coherence", &self.coherence),
            ("stability", &self.stability),
            ("divergence", &self.divergence),
            ("consciousness_level", &self.consciousness_level),
        ] {
            let wrong =
                |reason: String| Failure::say(Exit::Usage, format_args!("--{name}: {reason}"));
            Ppb::unit(text).map_err(|error| wrong(error.to_string()))?;
            let value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
            body.insert(name.to_owned(), value);
        }
        let now = || format!("{:.3}", jiff::Timestamp::now());
        let measured_at = self.measured_at.clone().unwrap_or_else(now);
        body.insert("measured_at".to_owned(), measured_at.into());
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(phi: &str) -> ReportArgs {
        ReportArgs {
            id: "a".parse().unwrap(),
            phi: phi.into(),
            coherence: "1".into(),
            stability: "0".into(),
            divergence: "0.5".into(),
            consciousness_level: "0.75".into(),
            measured_at: Some("2027-12-31T23:59:59Z".into()),
        }
    }

    #[test]
    fn a_report_has_its_figures() {
        let body = report("0.25").body().unwrap();
        assert_eq!(
            Value::Object(body),
            json!({
                "phi": 0.25, "coherence": 1, "stability": 0, "divergence": 0.5,
                "consciousness_level": 0.75, "measured_at": "2027-12-31T23:59:59Z",
            })
        );
        for wrong in ["1.5", "x", "-0.1"] {
            assert_eq!(
                report(wrong).body().unwrap_err().exit(),
                Exit::Usage,
                "{wrong}"
            );
        }
    }
}
