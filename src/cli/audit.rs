//! `aegis audit`: checking and exporting the chain that nobody can quietly rewrite.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use aegis_crypto::{Digest, merkle};
use aegis_ledger::{AuditEntry, ChainError, ChainVerifier, LedgerTime, LogIndex};
use clap::Subcommand;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::answers::{AuditVerdict, ConsistencyProof, InclusionProof};
use crate::client::Client;
use crate::console::plain;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::secret;

/// How many entries a page has.
const PAGE: u64 = 1_000;

/// The words of `aegis audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Ask a node whether its chain holds, then compute every hash again here; or, with a
    /// file, compute them without any node
    Verify {
        /// An export to check offline
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// The head that the chain must have, as someone trustworthy told it
        #[arg(long, value_name = "HEX")]
        head: Option<Digest>,
    },
    /// Write the chain as lines of JSON; needs the administrator's token
    Export {
        /// The file to make; standard output without one
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Fetch the proof that an entry is in the transparency tree, and check it here
    Proof {
        /// The entry's number, from 0
        entry: u64,
        /// How many entries the tree has; all that there are by default
        #[arg(long, value_name = "N")]
        size: Option<u64>,
        /// The root that the tree must have, as a checkpoint says
        #[arg(long, value_name = "HEX")]
        root: Option<Digest>,
    },
    /// Fetch the proof that the transparency tree only grew, and check it here
    Consistency {
        /// How many entries the older tree has
        from: u64,
        /// How many the newer one has; all that there are by default
        to: Option<u64>,
        /// The root of the older tree, as it was told then
        #[arg(long, value_name = "HEX")]
        from_root: Option<Digest>,
        /// The root of the newer tree, as a checkpoint says
        #[arg(long, value_name = "HEX")]
        to_root: Option<Digest>,
    },
}

/// An entry as an export has it.
#[derive(Deserialize)]
struct Line {
    seq: u64,
    index: u64,
    time: Timestamp,
    principal: String,
    kind: String,
    payload: Digest,
    outcome: String,
    previous: Digest,
    hash: Digest,
}

/// A part of a chain.
#[derive(Deserialize)]
struct Page {
    entries: Vec<Line>,
    next_cursor: Option<String>,
}

/// Why an export proves nothing.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("line {line} is no audit entry")]
    Form {
        line: u64,
        source: serde_json::Error,
    },
    #[error("line {line} has a time before 1970")]
    Time { line: u64 },
    #[error("the chain does not hold at line {line}")]
    Chain { line: u64, source: ChainError },
}

impl Line {
    fn entry(self, line: u64) -> Result<AuditEntry, ExportError> {
        let time =
            u64::try_from(self.time.as_millisecond()).map_err(|_| ExportError::Time { line })?;
        Ok(AuditEntry {
            seq: self.seq,
            index: LogIndex(self.index),
            time: LedgerTime(time),
            principal: self.principal,
            kind: self.kind,
            payload: self.payload,
            outcome: self.outcome,
            previous: self.previous,
            hash: self.hash,
        })
    }
}

/// Computes a chain's hashes entry by entry.
#[derive(Default)]
struct Verifier {
    chain: ChainVerifier,
    lines: u64,
}

impl Verifier {
    /// Takes a line of an export.
    fn push_line(&mut self, text: &[u8]) -> Result<(), ExportError> {
        let line = self.lines.saturating_add(1);
        let read =
            serde_json::from_slice(text).map_err(|source| ExportError::Form { line, source })?;
        self.push(read)
    }

    fn push(&mut self, read: Line) -> Result<(), ExportError> {
        self.lines = self.lines.saturating_add(1);
        let line = self.lines;
        let entry = read.entry(line)?;
        self.chain
            .push(&entry)
            .map_err(|source| ExportError::Chain { line, source })
    }
}

/// A chain that was walked to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chain {
    entries: u64,
    head: Digest,
}

impl From<Verifier> for Chain {
    fn from(verifier: Verifier) -> Self {
        Self {
            entries: verifier.chain.entries(),
            head: verifier.chain.head(),
        }
    }
}

pub(crate) async fn run(context: &mut Context<'_>, command: &AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Verify {
            file: Some(file),
            head,
        } => {
            let chain = verify_file(file)?;
            check_head(chain, *head)?;
            report(context, chain, "computed here from the file")
        }
        AuditCommand::Verify { file: None, head } => {
            let client = context.client()?;
            let chain = verify_online(&client).await?;
            check_head(chain, *head)?;
            report(context, chain, "said by the node and computed again here")
        }
        AuditCommand::Export { out } => {
            let client = context.client()?;
            export(context, &client, out.as_deref()).await
        }
        AuditCommand::Proof { entry, size, root } => {
            let client = context.client()?;
            prove_entry(context, &client, (*entry, *size), *root).await
        }
        AuditCommand::Consistency {
            from,
            to,
            from_root,
            to_root,
        } => {
            let client = context.client()?;
            prove_growth(context, &client, (*from, *to), (*from_root, *to_root)).await
        }
    }
}

/// Fetches an entry and its proof, and checks the one with the other.
async fn prove_entry(
    context: &mut Context<'_>,
    client: &Client,
    (entry, size): (u64, Option<u64>),
    root: Option<Digest>,
) -> Result<(), Failure> {
    let size = size.map_or_else(String::new, |size| format!("&size={size}"));
    let answer = client
        .get(&format!("/audit/proof?entry={entry}{size}"))
        .await?;
    let found: InclusionProof = answer.read()?;
    let page: Page = client
        .get(&format!("/audit?from={entry}&limit=1"))
        .await?
        .read()?;
    let line = page.entries.into_iter().next();
    let line = line.filter(|line| line.seq == entry).ok_or_else(|| {
        Failure::say(
            Exit::Negative,
            format_args!("the node proves entry {entry} and does not show it"),
        )
    })?;
    let shown = line.entry(1).map_err(negative)?;
    let leaf = merkle::leaf_hash(shown.computed_hash().as_bytes());
    expect_root("the root", found.root, root)?;
    let proof = &found.proof;
    merkle::verify_inclusion(&leaf, entry, found.size, proof, &found.root).map_err(negative)?;
    if context.wants_json() {
        return context.show_json(&answer);
    }
    context.console.line(format_args!(
        "entry {entry} ({}) with hash {} is in the tree of {} entries under root {}",
        plain(&shown.kind),
        shown.hash,
        found.size,
        found.root
    ))
}

/// Fetches the proof that the tree only grew, and checks it.
async fn prove_growth(
    context: &mut Context<'_>,
    client: &Client,
    (from, to): (u64, Option<u64>),
    (from_root, to_root): (Option<Digest>, Option<Digest>),
) -> Result<(), Failure> {
    let to = to.map_or_else(String::new, |to| format!("&to={to}"));
    let answer = client
        .get(&format!("/audit/consistency?from={from}{to}"))
        .await?;
    let found: ConsistencyProof = answer.read()?;
    expect_root("the older root", found.from_root, from_root)?;
    expect_root("the newer root", found.to_root, to_root)?;
    let (older, newer) = (&found.from_root, &found.to_root);
    merkle::verify_consistency(from, older, found.to, newer, &found.proof).map_err(negative)?;
    if context.wants_json() {
        return context.show_json(&answer);
    }
    context.console.line(format_args!(
        "the tree of {} entries under root {newer}\nbegins with the {from} under root {older}",
        found.to
    ))
}

fn expect_root(what: &str, found: Digest, expected: Option<Digest>) -> Result<(), Failure> {
    match expected {
        Some(expected) if expected != found => Err(Failure::say(
            Exit::Negative,
            format_args!("{what} is {found}, not {expected}"),
        )),
        _ => Ok(()),
    }
}

fn report(context: &mut Context<'_>, chain: Chain, how: &str) -> Result<(), Failure> {
    if context.wants_json() {
        let verdict = json!({"valid": true, "entries": chain.entries, "head": chain.head});
        return context.console.json(&verdict);
    }
    context.console.line(format_args!(
        "the chain holds: {} entries, head {} ({how})",
        chain.entries, chain.head
    ))
}

fn negative(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::Negative, error)
}

fn check_head(chain: Chain, expected: Option<Digest>) -> Result<(), Failure> {
    match expected {
        Some(expected) if expected != chain.head => Err(Failure::say(
            Exit::Negative,
            format_args!(
                "the chain holds, but its head is {}, not {expected}",
                chain.head
            ),
        )),
        _ => Ok(()),
    }
}

fn verify_file(path: &Path) -> Result<Chain, Failure> {
    let unreadable = |error| Failure::context(format!("cannot read {}", path.display()))(error);
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut verifier, mut line) = (Verifier::default(), Vec::new());
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            return Ok(verifier.into());
        }
        verifier.push_line(&line).map_err(negative)?;
    }
}

/// What the node says must be what its own entries prove. The chain may have grown between
/// the two, so the node's verdict must be a part of it.
async fn verify_online(client: &Client) -> Result<Chain, Failure> {
    let verdict: AuditVerdict = client.get("/audit/verify").await?.read()?;
    if !verdict.valid {
        let fault = plain(verdict.fault.as_deref().unwrap_or("no reason given"));
        return Err(Failure::say(
            Exit::Negative,
            format_args!(
                "the node's chain does not hold after {} entries: {fault}",
                verdict.entries
            ),
        ));
    }
    let (mut verifier, mut agrees) = (Verifier::default(), verdict.entries == 0);
    loop {
        let from = verifier.chain.entries();
        let page: Page = client
            .get(&format!("/audit?from={from}&limit={PAGE}"))
            .await?
            .read()?;
        for line in page.entries {
            verifier.push(line).map_err(negative)?;
            if verifier.chain.entries() == verdict.entries {
                agrees = verifier.chain.head() == verdict.head;
            }
        }
        if page.next_cursor.is_none() {
            break;
        }
        if verifier.chain.entries() == from {
            return Err(Failure::say(
                Exit::Negative,
                "the node says that there is more and shows nothing",
            ));
        }
    }
    let chain = Chain::from(verifier);
    if agrees {
        return Ok(chain);
    }
    Err(Failure::say(
        Exit::Negative,
        format_args!(
            "the node said {} entries with head {}, and it shows {} with head {}",
            verdict.entries, verdict.head, chain.entries, chain.head
        ),
    ))
}

async fn export(
    context: &mut Context<'_>,
    client: &Client,
    out: Option<&Path>,
) -> Result<(), Failure> {
    let mut stream = client.stream("/audit/export").await?;
    let Some(path) = out else {
        while let Some(piece) = stream.next().await? {
            context.console.raw(&piece)?;
        }
        return Ok(());
    };
    let unwritten = |error| Failure::context(format!("cannot write {}", path.display()))(error);
    secret::create(path, "").map_err(Failure::failed)?;
    let mut file = File::options().append(true).open(path).map_err(unwritten)?;
    while let Some(piece) = stream.next().await? {
        file.write_all(&piece).map_err(unwritten)?;
    }
    file.sync_all().map_err(unwritten)?;
    let chain = verify_file(path)?;
    report(context, chain, &format!("written to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An export of a chain of so many entries.
    fn export(entries: u64) -> (String, Digest) {
        let (mut text, mut previous) = (String::new(), Digest::ZERO);
        for seq in 0..entries {
            let mut entry = AuditEntry {
                seq,
                index: LogIndex(seq + 5),
                time: LedgerTime(1_700_000_000_123 + seq),
                principal: "voters".into(),
                kind: "cast".into(),
                payload: Digest::of(seq.to_string()),
                outcome: "ok".into(),
                previous,
                hash: Digest::ZERO,
            };
            entry.hash = entry.computed_hash();
            previous = entry.hash;
            let line = json!({
                "seq": entry.seq, "index": entry.index.0, "time": entry.time.rfc3339(),
                "principal": entry.principal, "kind": entry.kind, "payload": entry.payload,
                "outcome": entry.outcome, "previous": entry.previous, "hash": entry.hash,
            });
            text.push_str(&format!("{line}\n"));
        }
        (text, previous)
    }

    fn verify(text: &str) -> Result<Chain, Failure> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        verify_file(file.path())
    }

    #[test]
    fn a_chain_is_computed_again_from_its_export() {
        let (text, head) = export(3);
        let chain = verify(&text).unwrap();
        assert_eq!(chain, Chain { entries: 3, head });
        assert!(check_head(chain, None).is_ok() && check_head(chain, Some(head)).is_ok());
        let other = check_head(chain, Some(Digest::ZERO)).unwrap_err();
        assert_eq!(other.exit(), Exit::Negative);
        assert_eq!(
            verify("").unwrap(),
            Chain {
                entries: 0,
                head: Digest::ZERO
            }
        );
    }

    #[test]
    fn whatever_is_altered_is_found_and_told_with_its_line() {
        let (text, _) = export(3);
        let lines: Vec<&str> = text.lines().collect();
        for (altered, expected) in [
            (
                text.replacen("voters", "admin", 1),
                "the chain does not hold at line 1: entry 0 carries hash",
            ),
            (
                text.replacen(".124Z", ".125Z", 1),
                "the chain does not hold at line 2: entry 1 carries hash",
            ),
            (
                [lines[0], lines[2]].join("\n"),
                "the chain does not hold at line 2: entry 2 stands where entry 1 should",
            ),
            (
                text.replacen("\"seq\":1", "\"seq\":1.5", 1),
                "line 2 is no audit entry",
            ),
            (
                text.replacen("2023", "1923", 1),
                "line 1 has a time before 1970",
            ),
        ] {
            let failure = verify(&altered).unwrap_err();
            assert_eq!(failure.exit(), Exit::Negative);
            assert!(failure.to_string().starts_with(expected), "{failure}");
        }
    }
}
