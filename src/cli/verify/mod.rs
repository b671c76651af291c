//! `aegis verify`: certificates and bundles, checked here with nothing but public keys.
//!
//! A certificate says what a closing came to, and that a quorum of the committee counted it.
//! A bundle has, besides, everything that the closing was counted from, so that whoever has
//! one counts again. Neither asks a server, and neither takes anything on trust but the
//! genesis document.

mod bundle;
mod checkpoint;
mod checks;
mod epochs;
mod recount;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use aegis_crypto::{Certificate, Digest, Seats};
use aegis_ledger::{Genesis, Statement};
use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Exit, Failure};
pub(crate) use checkpoint::verify as verify_checkpoint;
use checks::Checks;
use epochs::EpochError;
pub(crate) use epochs::{Decision, Epochs};

/// The words of `aegis verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A certificate, as `aegis proposals certificate` writes it
    #[arg(
        required_unless_present = "bundle",
        conflicts_with = "bundle",
        requires = "genesis"
    )]
    file: Option<PathBuf>,
    /// A bundle, as `aegis proposals bundle` writes it: everything is counted again from the
    /// ballots
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    roots: Roots,
    /// The cluster's id, from someone you trust, instead of the genesis document of a bundle
    #[arg(
        long,
        value_name = "HEX",
        requires = "bundle",
        conflicts_with = "genesis"
    )]
    cluster_id: Option<Digest>,
}

/// Where trust begins, and the certificates that lead from there to later committees.
#[derive(Debug, Args)]
pub(crate) struct Roots {
    /// The genesis document, from someone you trust: it names the first committee, and its
    /// SHA-256 is the cluster's id
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// The certificates that decided later committees, if the first one has changed
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "genesis")]
    committee_certificates: Vec<PathBuf>,
}

impl Roots {
    /// The genesis document, if one is named.
    fn genesis(&self) -> Result<Option<Genesis>, Failure> {
        let Some(path) = &self.genesis else {
            return Ok(None);
        };
        let genesis = Genesis::parse(read(path)?).map_err(Failure::context(path.display()))?;
        Ok(Some(genesis))
    }

    /// The committees from the genesis on, if one is named.
    pub(crate) fn epochs(&self) -> Result<Option<Epochs>, Failure> {
        let Some(genesis) = self.genesis()? else {
            return Ok(None);
        };
        let mut epochs = Epochs::of(&genesis).map_err(Failure::failed)?;
        for (path, envelope) in in_order(&self.committee_certificates)? {
            epochs.advance(&envelope).map_err(|error| {
                let what = path.display().to_string();
                Failure::new(Exit::Negative, anyhow::Error::new(error).context(what))
            })?;
        }
        Ok(Some(epochs))
    }
}

pub(crate) fn run(context: &mut Context<'_>, args: &VerifyArgs) -> Result<(), Failure> {
    let json = context.wants_json();
    if args.bundle.is_some() && !args.roots.committee_certificates.is_empty() {
        return Err(Failure::say(
            Exit::Usage,
            "a bundle has the certificates that decided its committees; leave --committee-certificates out",
        ));
    }
    let pinned = args.roots.genesis()?;
    let checks = Checks::new(&mut context.console, json);
    match (&args.file, &args.bundle, pinned) {
        (_, Some(bundle), pinned) => {
            let pin = match (pinned, args.cluster_id) {
                (Some(genesis), _) => Some(genesis.cluster_id()),
                (None, cluster_id) => cluster_id,
            };
            recount::verify(checks, bundle, pin)
        }
        (Some(file), None, Some(genesis)) => {
            verify_certificate(checks, file, &genesis, &args.roots.committee_certificates)
        }
        _ => Err(Failure::say(
            Exit::Usage,
            "a certificate is verified with --genesis",
        )),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(Failure::context(format!("cannot read {}", path.display())))
}

/// A certificate as it was written, without the end of line that an editor or a shell adds.
fn read_envelope(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut envelope = read(path)?;
    if envelope.ends_with(b"\n") {
        envelope.pop();
    }
    Ok(envelope)
}

fn verify_certificate(
    mut checks: Checks<'_>,
    file: &Path,
    genesis: &Genesis,
    later: &[PathBuf],
) -> Result<(), Failure> {
    let what = format!("genesis of {}", genesis.cluster_id());
    let mut epochs = checks.check(&what, Epochs::of(genesis), |epochs| {
        committee_of(epochs.newest().committee.seats())
    })?;
    for (path, envelope) in in_order(later)? {
        let what = path.display().to_string();
        checks.check(&what, epochs.advance(&envelope), decided_committee)?;
    }
    let decided = epochs.verify(&read_envelope(file)?);
    if let Err(EpochError::Unknown { epoch, newest }) = decided {
        return Err(unknown(epoch, newest));
    }
    let decision = checks.check("certificate", decided, Decision::signed_by)?;
    let text = explain(&decision);
    checks.finish(Found::of(&decision), text)
}

/// The committee of the certificate's epoch is not known, so that nothing can be said.
fn unknown(epoch: u64, newest: u64) -> Failure {
    Failure::say(
        Exit::Failed,
        format_args!("the certificate is of epoch {epoch}, and the committees given end with epoch {newest}"),
    )
    .advise(
        "name the certificates that decided the committees in between with --committee-certificates",
    )
}

/// The certificates that decided committees, the first first.
fn in_order(paths: &[PathBuf]) -> Result<Vec<(&Path, Vec<u8>)>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        let envelope = read_envelope(path)?;
        // What is no certificate is told when its turn comes.
        let epoch = Certificate::parse(&envelope).map_or(0, |certificate| certificate.epoch());
        found.push((epoch, path.as_path(), envelope));
    }
    found.sort_by_key(|(epoch, ..)| *epoch);
    Ok(found
        .into_iter()
        .map(|(_, path, envelope)| (path, envelope))
        .collect())
}

/// How many seats there are, and what follows from it.
pub(crate) fn committee_of(seats: Seats) -> String {
    let lie = match seats.faults_max() {
        0 => "none".to_owned(),
        faults => faults.to_string(),
    };
    format!(
        "a committee of {}, of which {lie} may lie and {} sign",
        seats.count(),
        seats.quorum()
    )
}

fn decided_committee(decision: &Decision) -> String {
    let next = decision.statement.next_committee.as_ref();
    format!(
        "closing {} decides the {} seats of epoch {}, signed by {}",
        decision.statement.ordinal,
        next.map_or(0, |next| next.seats.len()),
        next.map_or(0, |next| next.epoch),
        decision.signed_by()
    )
}

/// What a certificate says, for programs.
#[derive(Serialize)]
struct Found<'f> {
    epoch: u64,
    view: u64,
    sequence: u64,
    signers: Vec<&'f str>,
    statement: &'f Statement,
}

impl<'f> Found<'f> {
    fn of(decision: &'f Decision) -> Self {
        let certificate = &decision.certificate;
        let signers = decision.signers.iter().map(|(_, name)| name.as_str());
        Self {
            epoch: certificate.epoch(),
            view: certificate.view(),
            sequence: certificate.sequence(),
            signers: signers.collect(),
            statement: &decision.statement,
        }
    }
}

/// What a statement says, for people.
fn told(statement: &Statement) -> String {
    let mut text = format!(
        "{} is {}: round {}, closing {} of cluster {}",
        statement.proposal,
        statement.outcome.as_str(),
        statement.round,
        statement.ordinal,
        statement.cluster,
    );
    let mut put = |name: &str, value: String| {
        write!(text, "\n  {name:<10}{value}").expect("writing to a string cannot fail");
    };
    put("closed", statement.closed_at.rfc3339());
    put(
        "final",
        format!("after {}", statement.final_after.rfc3339()),
    );
    put("document", statement.proposal_digest.to_string());
    let electors = statement
        .voting
        .as_ref()
        .map_or(0, |voting| voting.electorate_size);
    put(
        "ballots",
        format!(
            "{} of {electors} electors, root {}",
            statement.ballots_count, statement.ballots_root
        ),
    );
    put("result", statement.result.to_string());
    if statement.incarnation > 0 {
        put(
            "restored",
            format!("in incarnation {}", statement.incarnation),
        );
    }
    if let Some(next) = &statement.next_committee {
        let names: Vec<_> = next.seats.iter().map(|seat| seat.name.as_str()).collect();
        let decided = format!(
            "the committee of epoch {}: {}",
            next.epoch,
            names.join(", ")
        );
        put("decides", decided);
    }
    if let Some(ordinal) = statement.supersedes {
        put("replaces", format!("closing {ordinal}"));
    }
    text
}

fn explain(decision: &Decision) -> String {
    let seats = decision.committee.committee.seats();
    format!(
        "{}\n\n\
         It proves that {} of the {} seats of epoch {} counted these ballots and came to this\n\
         outcome; so it is what the ballots say unless more than {} of the seats lie.\n\
         It does not prove who voted how, that no ballot was withheld before the count, or that\n\
         nothing has replaced the decision since. The ballots are in the bundle:\n  \
         aegis proposals bundle {} --out FILE\n  aegis verify --bundle FILE",
        told(&decision.statement),
        seats.quorum(),
        seats.count(),
        decision.certificate.epoch(),
        seats.faults_max(),
        decision.statement.proposal,
    )
}
