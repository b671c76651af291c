//! `aegis committee`: who certifies decisions, how they stand, and proposing to change them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use aegis_crypto::{Committee as Keys, Jwk, SecretKey};
use aegis_ledger::SeatName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::answers::{
    Committee, CommitteeEvidence, Contradiction, Member, ProposalReceipt, Status,
};
use crate::client::{Client, segment};
use crate::console::plain;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::propose::Author;
use crate::secret;
use crate::table::Table;
use crate::verify::{Epochs, Roots};

/// The words of `aegis committee`.
#[derive(Debug, Subcommand)]
pub(crate) enum CommitteeCommand {
    /// Show the committee: its seats, how far each is, and the nodes that hold them
    Status,
    /// List what the node that is asked has kept of validators that contradicted themselves,
    /// and check it here
    Evidence {
        #[command(flatten)]
        roots: Roots,
    },
    /// Propose another key for a seat
    RotateKey {
        /// The seat's name, like node-2
        name: SeatName,
        #[command(flatten)]
        key: NewKey,
        #[command(flatten)]
        author: Author,
    },
    /// Propose a seat more
    Add {
        /// The seat's name, which should be that of its node
        name: SeatName,
        #[command(flatten)]
        key: NewKey,
        #[command(flatten)]
        author: Author,
    },
    /// Propose a seat less
    Remove {
        /// The seat's name
        name: SeatName,
        #[command(flatten)]
        author: Author,
    },
}

/// The key that a seat is to sign with.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct NewKey {
    /// Make the key: the file to make (PKCS#8 PEM, 0600), to be brought to the seat's node
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The public part, a JWK as `aegis keygen` prints it, of a key that was made on the
    /// seat's node
    #[arg(long, value_name = "JWK", value_parser = parse_jwk)]
    public_key: Option<Jwk>,
}

fn parse_jwk(text: &str) -> Result<Jwk, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

impl NewKey {
    /// The public key; if it is to be made, its file is there before anyone hears of it.
    fn public(&self) -> Result<Jwk, Failure> {
        match (&self.out, self.public_key) {
            (Some(path), _) => {
                let key = SecretKey::generate().map_err(Failure::failed)?;
                secret::create(path, &key.to_pem()).map_err(Failure::failed)?;
                Ok(key.public().into())
            }
            (None, Some(jwk)) => Ok(jwk),
            (None, None) => Err(Failure::say(Exit::Usage, "give --out or --public-key")),
        }
    }
}

pub(crate) async fn run(
    context: &mut Context<'_>,
    command: &CommitteeCommand,
) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        CommitteeCommand::Status => status(context, &client).await,
        CommitteeCommand::Evidence { roots } => evidence(context, &client, roots).await,
        CommitteeCommand::RotateKey { name, key, author } => {
            let change = Change::with_key("rotate", name, key)?;
            change.propose(context, &client, author).await
        }
        CommitteeCommand::Add { name, key, author } => {
            let change = Change::with_key("add", name, key)?;
            change.propose(context, &client, author).await
        }
        CommitteeCommand::Remove { name, author } => {
            let change = Change {
                kind: "remove",
                name,
                key: None,
                file: None,
            };
            change.propose(context, &client, author).await
        }
    }
}

async fn status(context: &mut Context<'_>, client: &Client) -> Result<(), Failure> {
    let answer = client.get("/committee").await?;
    if context.wants_json() {
        return context.show_json(&answer);
    }
    let committee: Committee = answer.read()?;
    let status: Status = client.get("/status").await?.read()?;
    context.console.line(render(&committee, &status))
}

/// A committee as a person reads it.
fn render(committee: &Committee, status: &Status) -> String {
    let name_of = |seat: u8| {
        let member = committee.members.iter().find(|member| member.seat == seat);
        let name = member.map_or_else(String::new, |member| plain(&member.name));
        format!("{name} (seat {seat})")
    };
    let mut text = String::new();
    let mut put = |name: &str, value: &str| {
        writeln!(text, "{name:<11}{value}").expect("writing to a string cannot fail");
    };
    let lie = match committee.tolerates {
        0 => "none".to_owned(),
        faults => faults.to_string(),
    };
    put(
        "committee",
        &format!(
            "epoch {}, since closing {}: {} seats, {lie} may lie, {} sign",
            committee.epoch, committee.since, committee.n, committee.quorum
        ),
    );
    if let Some(warning) = &committee.warning {
        put("WARNING", &plain(warning));
    }
    match (committee.view, committee.primary) {
        (Some(view), Some(primary)) => {
            let changing = match committee.changing_view {
                Some(true) => ", which has not begun yet",
                _ => "",
            };
            put(
                "view",
                &format!("{view}, primary {}{changing}", name_of(primary)),
            );
        }
        _ => put("view", "not known to the node asked, which has no seat"),
    }
    if let Some(marks) = committee.watermarks {
        let stable = committee
            .stable_checkpoint
            .map_or("none yet".to_owned(), |ordinal| {
                format!("at closing {ordinal}")
            });
        put(
            "watermarks",
            &format!(
                "{} to {}, stable checkpoint {stable}",
                marks.low, marks.high
            ),
        );
    }
    if let Some(through) = committee.certified_through {
        put("certified", &format!("every closing up to {through}"));
    }
    let asked = match committee.seat {
        Some(seat) => name_of(seat),
        None => format!("node {}, which has no seat", status.node_id),
    };
    put("asked", &asked);
    write!(text, "\n{}", seats(committee, status)).expect("writing to a string cannot fail");
    text
}

/// Each seat with how far it is, and with its node's part in the replication below.
fn seats(committee: &Committee, status: &Status) -> Table {
    let nodes: BTreeMap<&str, &Member> = status
        .members
        .iter()
        .map(|member| (member.name.as_str(), member))
        .collect();
    let newest = committee.members.iter().filter_map(|seat| seat.committed);
    let newest = newest.max().unwrap_or(0);
    let mut table = Table::new(&[
        ">SEAT",
        "NAME",
        ">COMMITTED",
        ">LAG",
        "KEY",
        ">NODE",
        "ROLE",
        "STATE",
        ">NODE LAG",
    ]);
    let dash = || "-".to_owned();
    let shown = |number: Option<u64>| number.map_or_else(dash, |number| number.to_string());
    for seat in &committee.members {
        let node = nodes.get(seat.name.as_str());
        let lag = seat.committed.map(|at| newest.saturating_sub(at));
        table.row(&[
            &seat.seat,
            &seat.name,
            &shown(seat.committed),
            &shown(lag),
            &seat.kid.chars().take(8).collect::<String>(),
            &shown(node.map(|node| node.id)),
            &node.map_or_else(dash, |node| node.role.clone()),
            &node.map_or_else(dash, |node| node.state.clone()),
            &shown(node.and_then(|node| node.lag)),
        ]);
    }
    table
}

async fn evidence(
    context: &mut Context<'_>,
    client: &Client,
    roots: &Roots,
) -> Result<(), Failure> {
    let trusted = roots.epochs()?;
    let mut checked = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let after = cursor.map_or_else(String::new, |cursor| {
            format!("?cursor={}", segment(&cursor))
        });
        let page: CommitteeEvidence = client
            .get(&format!("/committee/evidence{after}"))
            .await?
            .read()?;
        for piece in page.evidence {
            let keys = committee_of(client, trusted.as_ref(), piece.epoch).await?;
            let convicted = convicts(context, &keys, &piece)?;
            checked.push((piece, convicted));
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if context.wants_json() {
        let shown: Vec<Value> = checked
            .iter()
            .map(|(piece, convicted)| {
                json!({
                    "id": piece.id, "seat": piece.seat, "epoch": piece.epoch, "kind": piece.kind,
                    "view": piece.view, "sequence": piece.sequence, "holds": convicted,
                })
            })
            .collect();
        context.console.json(&shown)?;
    } else {
        context.console.line(render_evidence(&checked))?;
    }
    if checked.iter().all(|(_, convicted)| *convicted) {
        return Ok(());
    }
    Err(Failure::say(
        Exit::Negative,
        "the node keeps evidence that convicts nobody",
    ))
}

fn render_evidence(checked: &[(Contradiction, bool)]) -> String {
    if checked.is_empty() {
        return "no validator is known to have contradicted itself".to_owned();
    }
    let mut table = Table::new(&[
        ">EPOCH", ">SEAT", "MESSAGES", ">VIEW", ">CLOSING", "HOLDS", "EVIDENCE",
    ]);
    for (piece, convicted) in checked {
        let view = piece.view.map_or("-".to_owned(), |view| view.to_string());
        table.row(&[
            &piece.epoch,
            &piece.seat,
            &piece.kind,
            &view,
            &piece.sequence,
            &if *convicted { "yes" } else { "NO" },
            &piece.id,
        ]);
    }
    table.to_string()
}

/// The keys of an epoch: from the genesis on if there is one to trust, else as the node tells.
async fn committee_of(
    client: &Client,
    trusted: Option<&Epochs>,
    epoch: u64,
) -> Result<Keys, Failure> {
    if let Some(epochs) = trusted {
        let known = epochs.committee(epoch).map_err(Failure::failed)?;
        return Ok(known.committee.clone());
    }
    let told: Committee = client
        .get(&format!("/committee?epoch={epoch}"))
        .await?
        .read()?;
    let keys = told.members.iter();
    let keys = keys.map(|seat| *seat.public_key.public_key()).collect();
    Keys::new(epoch, keys).map_err(Failure::failed)
}

/// Whether a piece of evidence convicts the seat that it is said to be against.
fn convicts(context: &Context<'_>, keys: &Keys, piece: &Contradiction) -> Result<bool, Failure> {
    let Ok(encoded) = STANDARD.decode(&piece.encoded) else {
        return Ok(false);
    };
    let convicted = context.local.convict(keys, &encoded)?;
    Ok(convicted.is_some_and(|seat| seat.0 == piece.seat))
}

/// A change of one seat that is to be proposed.
struct Change<'c> {
    kind: &'static str,
    name: &'c SeatName,
    key: Option<Jwk>,
    /// Where the key was made, if it was made here.
    file: Option<&'c Path>,
}

impl<'c> Change<'c> {
    fn with_key(kind: &'static str, name: &'c SeatName, key: &'c NewKey) -> Result<Self, Failure> {
        Ok(Self {
            kind,
            name,
            key: Some(key.public()?),
            file: key.out.as_deref(),
        })
    }

    /// The proposal's document, which opens voting at once.
    fn document(&self) -> Value {
        let name = self.name;
        let (title, seat) = match self.key {
            None => (format!("Remove seat {name}"), json!({"name": name})),
            Some(key) => {
                let title = match self.kind {
                    "add" => format!("Add seat {name}"),
                    _ => format!("Another key for seat {name}"),
                };
                (title, json!({"name": name, "public_key": key}))
            }
        };
        json!({
            "title": title,
            "description": "A change of the committee that certifies decisions.",
            "type": "configuration_change",
            "content": {"committee": {self.kind: seat}},
            "open": true,
        })
    }

    async fn propose(
        &self,
        context: &mut Context<'_>,
        client: &Client,
        author: &Author,
    ) -> Result<(), Failure> {
        let submitted = author.submit(client, &self.document().to_string()).await;
        let answer = submitted.map_err(|failure| match self.file {
            Some(file) => failure.advise(format_args!(
                "{} was made; unless the proposal is found on the ledger, remove it",
                file.display()
            )),
            None => failure,
        })?;
        if context.wants_json() {
            return context.show_json(&answer);
        }
        let receipt: ProposalReceipt = answer.read()?;
        context.console.line(self.told(&receipt))
    }

    /// What was done, and what is to be done.
    fn told(&self, receipt: &ProposalReceipt) -> String {
        let (id, name) = (plain(&receipt.proposal_id), self.name);
        let what = match (self.kind, self.key) {
            ("add", Some(key)) => {
                format!("adds seat {name} with key {}", key.public_key().kid())
            }
            (_, Some(key)) => format!("gives seat {name} key {}", key.public_key().kid()),
            (_, None) => format!("removes seat {name}"),
        };
        let mut text = format!(
            "{id} {}: {what}.\nIt takes effect when it is approved and its certificate is recorded: \
             `aegis results {id}` says certified.",
            plain(&receipt.status)
        );
        let from = self.file.map_or_else(
            || "the private key".to_owned(),
            |file| file.display().to_string(),
        );
        let then = match self.kind {
            "remove" => {
                "\nThen take `committee.key` out of its node's configuration, destroy the key and \
                 restart the node."
                    .to_owned()
            }
            _ => format!(
                "\nThen bring {from} to the node that holds seat {name}, as the file that\n\
                 `committee.key` in its configuration names (0600), and restart it. Until then it\n\
                 signs nothing in the new epoch. Destroy a key that was replaced."
            ),
        };
        text.push_str(&then);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTEE: &str = r#"{"epoch": 1, "since": 6, "n": 2, "tolerates": 0, "quorum": 2,
        "warning": "one lying validator is not tolerated", "seat": 1, "view": 3, "primary": 1,
        "changing_view": true, "watermarks": {"low": 8, "high": 136}, "certified_through": 16,
        "stable_checkpoint": 8, "members": [
            {"seat": 0, "name": "node-1", "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
             "public_key": {"kty": "OKP", "crv": "Ed25519",
                            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
             "committed": 12},
            {"seat": 1, "name": "elsewhere", "kid": "0eYf7l5XzPO1F0aWlJpZJzZmW6oHCGiZJp0uYvMZ0kE",
             "public_key": {"kty": "OKP", "crv": "Ed25519",
                            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
             "committed": 17}]}"#;
    const STATUS: &str = r#"{"cluster_id": "c", "cluster_name": "demo", "incarnation": 0,
        "node_id": 2, "role": "follower", "leader": 1, "term": 3, "last_index": 9,
        "applied_index": 9, "proposals": {}, "version": "0.1.0", "alarms": [], "committee": null,
        "members": [{"id": 1, "name": "node-1", "role": "voter", "state": "leading",
                     "api_address": "h:8003", "lag": 0}]}"#;

    #[test]
    fn seats_stand_beside_their_nodes() {
        let committee = serde_json::from_str(COMMITTEE).unwrap();
        let status = serde_json::from_str(STATUS).unwrap();
        let expected = "\
committee  epoch 1, since closing 6: 2 seats, none may lie, 2 sign
WARNING    one lying validator is not tolerated
view       3, primary elsewhere (seat 1), which has not begun yet
watermarks 8 to 136, stable checkpoint at closing 8
certified  every closing up to 16
asked      elsewhere (seat 1)

SEAT  NAME       COMMITTED  LAG  KEY       NODE  ROLE   STATE    NODE LAG
   0  node-1            12    5  kPrK_qmx     1  voter  leading         0
   1  elsewhere         17    0  0eYf7l5X     -  -      -               -";
        assert_eq!(render(&committee, &status), expected);
    }

    #[test]
    fn a_change_is_the_document_that_the_ledger_reads() {
        let name: SeatName = "node-2".parse().unwrap();
        let key = Jwk::from(SecretKey::from_seed(&[1; 32]).public());
        let change = |kind, key| Change {
            kind,
            name: &name,
            key,
            file: None,
        };
        for (change, title, content) in [
            (
                change("add", Some(key)),
                "Add seat node-2",
                json!({"add": {"name": "node-2", "public_key": key}}),
            ),
            (
                change("rotate", Some(key)),
                "Another key for seat node-2",
                json!({"rotate": {"name": "node-2", "public_key": key}}),
            ),
            (
                change("remove", None),
                "Remove seat node-2",
                json!({"remove": {"name": "node-2"}}),
            ),
        ] {
            let document = change.document();
            assert_eq!(document["title"], title);
            assert_eq!(document["type"], "configuration_change");
            assert_eq!(document["content"], json!({"committee": content}));
        }
    }

    #[test]
    fn a_new_key_is_there_before_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seat.pem");
        let made = NewKey {
            out: Some(file.clone()),
            public_key: None,
        };
        let public = made.public().unwrap();
        assert_eq!(
            secret::read_key(&file).unwrap().public(),
            *public.public_key()
        );
        assert!(made.public().is_err(), "nothing is overwritten");
    }

    #[test]
    fn evidence_that_convicts_nobody_is_told() {
        assert_eq!(
            render_evidence(&[]),
            "no validator is known to have contradicted itself"
        );
        let piece = Contradiction {
            id: aegis_crypto::Digest::ZERO,
            seat: 2,
            epoch: 0,
            kind: "prepare".into(),
            view: Some(1),
            sequence: 7,
            encoded: String::new(),
        };
        let told = render_evidence(&[(piece, false)]);
        assert!(told.contains("prepare      1        7  NO"), "{told}");
    }
}
