//! `aegis propose`: a proposal, from flags or from a file.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use aegis_crypto::canonicalize;
use aegis_ledger::AgentId;
use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::answers::ProposalReceipt;
use crate::client::{Answer, Client};
use crate::console::plain;
use crate::context::{Context, cluster_id};
use crate::failure::{Exit, Failure};
use crate::secret;
use crate::statements::{Signer, signed_document};

/// How deep a document may be nested, as the ledger bounds it.
const DEPTH_MAX: u8 = 16;
/// The longest document, in bytes, as the API bounds it.
const DOCUMENT_BYTES_MAX: u64 = 64 * 1024;

/// The words of `aegis propose`.
#[derive(Debug, Args)]
pub(crate) struct ProposeArgs {
    /// The document as a JSON file, or - for standard input, instead of the flags
    #[arg(long, value_name = "FILE", conflicts_with = "Flags")]
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    author: Author,
    /// Print only the proposal's id
    #[arg(short, long)]
    quiet: bool,
}

/// Who proposes.
#[derive(Debug, Args)]
pub(crate) struct Author {
    /// Sign as this agent; without it the bearer of the token proposes
    #[arg(long, value_name = "ID", env = "AEGIS_AGENT", requires = "key")]
    agent: Option<AgentId>,
    /// The agent's private key (PKCS#8 PEM, 0600)
    #[arg(long, value_name = "FILE", env = "AEGIS_KEY_FILE", requires = "agent")]
    key: Option<PathBuf>,
}

impl Author {
    /// Submits a document in the author's name.
    pub(crate) async fn submit(&self, client: &Client, text: &str) -> Result<Answer, Failure> {
        let document = canonicalize(text, DEPTH_MAX).map_err(Failure::context("the document"))?;
        if let (Some(id), Some(path)) = (&self.agent, &self.key) {
            let key = secret::read_key(path).map_err(Failure::failed)?;
            return submit_signed(client, &document, Signer { id, key: &key }).await;
        }
        let body = RawValue::from_string(document).map_err(Failure::context("the document"))?;
        Ok(client.post_once("/proposals", &body).await?)
    }
}

/// A document in flags.
#[derive(Debug, Args)]
#[group(multiple = true)]
struct Flags {
    /// What is proposed, in one line
    #[arg(long, required_unless_present = "file")]
    title: Option<String>,
    /// What is proposed, at length
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// configuration_change, policy_update, module_management, emergency_action or decision
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// What exactly, as a JSON object
    #[arg(long, value_name = "JSON")]
    content: Option<String>,
    /// standard, significant, critical or emergency
    #[arg(long)]
    category: Option<String>,
    /// simple_majority, super_majority or unanimous
    #[arg(long)]
    method: Option<String>,
    /// Who votes: agent ids with commas, or a filter as a JSON object
    #[arg(long, value_name = "IDS")]
    electorate: Option<String>,
    /// How long voting lasts, in seconds
    #[arg(long, value_name = "SECONDS", conflicts_with = "deadline")]
    period: Option<u64>,
    /// When voting ends, like 2027-12-31T23:59:59Z
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    justification: Option<String>,
    /// Open voting at once
    #[arg(long)]
    open: bool,
}

pub(crate) async fn run(context: &mut Context<'_>, args: &ProposeArgs) -> Result<(), Failure> {
    let text = match &args.file {
        Some(path) => read_document(path)?,
        None => args.flags.document()?,
    };
    let client = context.client()?;
    let answer = args.author.submit(&client, &text).await?;
    if context.wants_json() {
        return context.show_json(&answer);
    }
    let receipt: ProposalReceipt = answer.read()?;
    let id = plain(&receipt.proposal_id);
    if args.quiet {
        return context.console.line(id);
    }
    context.console.line(format_args!(
        "{id} {}\ndigest {}",
        plain(&receipt.status),
        receipt.digest
    ))
}

/// Submits a canonical document under an agent's signature.
pub(crate) async fn submit_signed(
    client: &Client,
    document: &str,
    signer: Signer<'_>,
) -> Result<Answer, Failure> {
    if !document.starts_with('{') {
        return Err(Failure::say(
            Exit::Failed,
            "the document is not a JSON object",
        ));
    }
    let signature = signer.proposal(cluster_id(client).await?, document);
    Ok(client
        .post_same("/proposals", &signed_document(document, &signature))
        .await?)
}

fn read_document(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(DOCUMENT_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(DOCUMENT_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(Failure::context(format!("cannot read {}", path.display())))?;
    Ok(text)
}

impl Flags {
    fn document(&self) -> Result<String, Failure> {
        let mut document = Map::new();
        let mut put = |name: &str, value: Value| {
            document.insert(name.to_owned(), value);
        };
        let title = self.title.as_deref().unwrap_or_default();
        put("title", title.into());
        put(
            "description",
            self.description.as_deref().unwrap_or(title).into(),
        );
        put("type", self.kind.as_deref().unwrap_or("decision").into());
        put(
            "content",
            json_flag("content", self.content.as_deref().unwrap_or("{}"))?,
        );
        for (name, value) in [
            ("category", &self.category),
            ("method", &self.method),
            ("voting_deadline", &self.deadline),
            ("justification", &self.justification),
        ] {
            if let Some(value) = value {
                put(name, value.as_str().into());
            }
        }
        if let Some(period) = self.period {
            put("voting_period_s", period.into());
        }
        if let Some(electorate) = &self.electorate {
            put("electorate", parse_electorate(electorate)?);
        }
        if self.open {
            put("open", true.into());
        }
        Ok(Value::Object(document).to_string())
    }
}

fn parse_electorate(text: &str) -> Result<Value, Failure> {
    if text.trim_start().starts_with('{') {
        return json_flag("electorate", text);
    }
    Ok(text
        .split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .collect())
}

fn json_flag(flag: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::say(Exit::Usage, format_args!("--{flag} is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flags() -> Flags {
        Flags {
            title: Some("Lunch".into()),
            description: None,
            kind: None,
            content: None,
            category: None,
            method: None,
            electorate: None,
            period: None,
            deadline: None,
            justification: None,
            open: false,
        }
    }

    #[test]
    fn a_title_is_enough() {
        let document: Value = serde_json::from_str(&flags().document().unwrap()).unwrap();
        assert_eq!(
            document,
            json!({"title": "Lunch", "description": "Lunch", "type": "decision", "content": {}})
        );
    }

    #[test]
    fn every_flag_reaches_the_document() {
        let flags = Flags {
            description: Some("At noon".into()),
            kind: Some("policy_update".into()),
            content: Some(r#"{"a": 1}"#.into()),
            category: Some("critical".into()),
            method: Some("unanimous".into()),
            electorate: Some("a, b,".into()),
            period: Some(60),
            justification: Some("hunger".into()),
            open: true,
            ..flags()
        };
        let document: Value = serde_json::from_str(&flags.document().unwrap()).unwrap();
        assert_eq!(
            document,
            json!({
                "title": "Lunch", "description": "At noon", "type": "policy_update",
                "content": {"a": 1}, "category": "critical", "method": "unanimous",
                "electorate": ["a", "b"], "voting_period_s": 60, "justification": "hunger",
                "open": true,
            })
        );
        let flags = Flags {
            deadline: Some("2027-01-01T00:00:00Z".into()),
            ..self::flags()
        };
        assert!(
            flags
                .document()
                .unwrap()
                .contains(r#""voting_deadline":"2027-01-01T00:00:00Z""#)
        );
        let filter = parse_electorate(r#"{"types": ["llm"]}"#).unwrap();
        assert_eq!(filter, json!({"types": ["llm"]}));
    }

    #[test]
    fn faulty_json_is_a_usage_error() {
        let flags = Flags {
            content: Some("{".into()),
            ..flags()
        };
        assert_eq!(flags.document().unwrap_err().exit(), Exit::Usage);
        assert_eq!(parse_electorate("{").unwrap_err().exit(), Exit::Usage);
    }
}
