//! From ballots to outcome: everything in a bundle computed again.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_api::bundle::{
    BundleBallot, BundleCheckpoint, BundleEvidence, BundleKey, BundlePolicy, BundleTerms,
    EvidenceKind,
};
use aegis_crypto::claims::RegistrationClaims;
use aegis_crypto::merkle::{leaf_hash, verify_inclusion};
use aegis_crypto::{Digest, Hasher, Jws, JwsError, PublicKey, Typ};
use aegis_ledger::{
    AgentId, AuditEntry, Category, CheckedBallot, Choice, ClosingRecord, FullResult, Genesis,
    Outcome, Policy, Ppb, Record as _, Recount, RecountError, RecountTerms, Refusal,
    STATEMENT_BYTES_MAX, Statement, Tally,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::bundle::{Bundle, BundleError, Head};
use super::checkpoint;
use super::checks::Checks;
use super::epochs::{Decision, Epochs};
use super::{committee_of, told};
use crate::failure::{Exit, Failure};

/// Why a bundle does not bear out its certificate.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the bundle is that of cluster {found}, and cluster {expected} is asked for")]
    OtherCluster { found: Digest, expected: Digest },
    #[error("the {what} is {found}, by the certified statement it is {certified}")]
    Differs {
        what: &'static str,
        found: String,
        certified: String,
    },
    #[error("voting opened, and the bundle has no terms")]
    NoTerms,
    #[error("voting never opened, and the bundle has {0}")]
    NotOpened(&'static str),
    #[error("the cluster begins with no policy {name}, version {version}")]
    UnknownPolicy { name: String, version: u32 },
    #[error("policy {policy} has {found} as its `{rule}`, the cluster begins with {expected}")]
    Rule {
        policy: String,
        rule: String,
        found: Value,
        expected: Value,
    },
    #[error("the key of {voter} is not shown to be the voter's")]
    Key {
        voter: AgentId,
        #[source]
        fault: Box<KeyFault>,
    },
    #[error("ballot {number} has not the form of a ballot")]
    BallotForm { number: u64, source: Refusal },
    #[error("the justification of ballot {number} has digest {found}, the voter signed {signed}")]
    Justification {
        number: u64,
        found: Digest,
        signed: String,
    },
    #[error("the evidence against {agent} shows no contradiction: {why}")]
    NoContradiction { agent: AgentId, why: String },
    #[error(transparent)]
    Recount(#[from] RecountError),
}

/// Why a key is not shown to be an agent's.
#[derive(Debug, thiserror::Error)]
enum KeyFault {
    #[error("there is no {0}")]
    Missing(&'static str),
    #[error("the {what} does not hold")]
    Statement {
        what: &'static str,
        source: JwsError,
    },
    #[error("the {what} has {found} as its `{claim}`, expected {expected}")]
    Claim {
        what: &'static str,
        claim: &'static str,
        found: String,
        expected: String,
    },
}

/// What was certified, for programs.
#[derive(Serialize)]
struct Found<'f> {
    genesis_pinned: bool,
    signers: Vec<&'f str>,
    statement: &'f Statement,
}

/// Counts a bundle again. `pin` is the cluster that it has to be of.
pub(super) fn verify(
    mut checks: Checks<'_>,
    file: &Path,
    pin: Option<Digest>,
) -> Result<(), Failure> {
    let bundle = Bundle(file);
    let head = read(&mut checks, bundle.head())?;
    let genesis = check_genesis(&mut checks, &head, pin)?;
    let epochs = check_epochs(&mut checks, &head, &genesis)?;
    let decided = epochs.verify(head.certificate.as_bytes());
    let decision = checks.check("certificate", decided, Decision::signed_by)?;
    let statement = &decision.statement;
    let document = same(
        "document's digest",
        Digest::of(&head.document),
        statement.proposal_digest,
    );
    checks.check("document", document, |()| {
        format!("its digest is {}", statement.proposal_digest)
    })?;
    let context = Recounting {
        bundle: &bundle,
        head: &head,
        genesis: &genesis,
        statement,
    };
    let tally = context.count(&mut checks)?;
    let entry = check_audit_entry(statement, tally, &head);
    checks.check("audit entry", entry, |hash| {
        format!(
            "entry {} records this closing, hash {hash}",
            statement.audit_entry
        )
    })?;
    match &head.checkpoint {
        Some(published) => check_log(&mut checks, &epochs, statement, published)?,
        None => {
            let why = head.checkpoint_missing.as_deref();
            let why = why.unwrap_or("no reason given");
            checks.lacks(format_args!("checkpoint: the bundle has none ({why})"))?;
        }
    }
    let signers = decision.signers.iter().map(|(_, name)| name.as_str());
    let found = Found {
        genesis_pinned: pin.is_some(),
        signers: signers.collect(),
        statement,
    };
    checks.finish(found, explain(statement, pin))
}

/// What was found, and what it rests on.
fn explain(statement: &Statement, pin: Option<Digest>) -> String {
    let mut text = told(statement);
    if matches!(statement.outcome, Outcome::Cancelled | Outcome::Expired) {
        let outcome = statement.outcome.as_str();
        let words =
            format!("\n\nThat it was {outcome} no ballot tells: there the certificate alone does.");
        text.push_str(&words);
    }
    let cluster = statement.cluster;
    text.push_str(&match pin {
        Some(_) => "\n\nEverything was computed here, and nothing taken on trust but the cluster's id.".to_owned(),
        None => format!(
            "\n\nEverything was computed here, but the genesis document was taken on trust from the bundle:\n\
             whoever made the bundle may have made its cluster, too. Compare the cluster's id with one\n\
             that you trust, or repeat with\n  --cluster-id {cluster}"
        ),
    });
    text
}

/// What is read, or why it cannot be: a file that is no bundle is a wrong one, a file that
/// cannot be read says nothing.
fn read<T>(checks: &mut Checks<'_>, read: Result<T, BundleError>) -> Result<T, Failure> {
    match read {
        Ok(value) => Ok(value),
        Err(error @ BundleError::Read { .. }) => Err(Failure::new(Exit::Failed, error)),
        Err(error @ (BundleError::Form { .. } | BundleError::Version { .. })) => {
            Err(checks.fails("form", error))
        }
    }
}

fn same<T: PartialEq + ToString>(what: &'static str, found: T, certified: T) -> Result<(), Fault> {
    if found == certified {
        return Ok(());
    }
    Err(Fault::Differs {
        what,
        found: found.to_string(),
        certified: certified.to_string(),
    })
}

fn check_genesis(
    checks: &mut Checks<'_>,
    head: &Head,
    pin: Option<Digest>,
) -> Result<Genesis, Failure> {
    let genesis = Genesis::parse(head.genesis.clone().into_bytes());
    let genesis = genesis.map_err(|error| checks.fails("genesis", error))?;
    let found = genesis.cluster_id();
    let pinned = match pin {
        Some(expected) if expected != found => Err(Fault::OtherCluster { found, expected }),
        _ => Ok(()),
    };
    checks.check("genesis", pinned, |()| match pin {
        Some(_) => format!("cluster {found}, as asked for"),
        None => format!("cluster {found}, taken on trust from the bundle"),
    })?;
    Ok(genesis)
}

fn check_epochs(
    checks: &mut Checks<'_>,
    head: &Head,
    genesis: &Genesis,
) -> Result<Epochs, Failure> {
    let mut epochs = checks.check("epoch 0", Epochs::of(genesis), |epochs| {
        committee_of(epochs.newest().committee.seats())
    })?;
    for (envelope, epoch) in head.committee_changes.iter().zip(1_u64..) {
        let advanced = epochs.advance(envelope.as_bytes());
        let what = format!("epoch {epoch}");
        let seats = epochs.newest().committee.seats();
        checks.check(&what, advanced, |decision| {
            let ordinal = decision.statement.ordinal;
            format!(
                "{}, decided by closing {ordinal}, signed by {}",
                committee_of(seats),
                decision.signed_by()
            )
        })?;
    }
    Ok(epochs)
}

/// What a count is made from.
struct Recounting<'r> {
    bundle: &'r Bundle<'r>,
    head: &'r Head,
    genesis: &'r Genesis,
    statement: &'r Statement,
}

impl Recounting<'_> {
    fn count(&self, checks: &mut Checks<'_>) -> Result<Tally, Failure> {
        let Some(voting) = &self.statement.voting else {
            return self.count_nothing(checks);
        };
        let begun = self.begin();
        let mut recount = checks.check("terms", begun, |_| {
            format!(
                "voting digest {}, {} electors under root {}",
                voting.digest, voting.electorate_size, voting.electorate_root
            )
        })?;
        let counted = self.ballots(&mut recount);
        let counted = read(checks, counted)?;
        let contradicted = checks.check("ballots", counted, |_| {
            let count = recount.ballots();
            format!(
                "{count} signatures hold for this proposal, round and electorate, each by a key \
                 that the registrar attests and the voter proved"
            )
        })?;
        let recounted = recount.finish();
        let agrees = recounted.check(self.statement).map_err(Fault::from);
        checks.check("count", agrees, |()| {
            let tally = &recounted.tally;
            format!(
                "{} for, {} against, {} abstain make it {}",
                tally.heads_of(Choice::For),
                tally.heads_of(Choice::Against),
                tally.heads_of(Choice::Abstain),
                self.statement.outcome.as_str()
            )
        })?;
        let evidence = self.evidence(&contradicted);
        checks.check("evidence", evidence, |()| match self.head.evidence.len() {
            0 => "none, as certified".to_owned(),
            1 => "1 piece, as certified".to_owned(),
            pieces => format!("{pieces} pieces, as certified"),
        })?;
        Ok(recounted.tally)
    }

    /// A proposal whose voting never opened has nothing to count.
    fn count_nothing(&self, checks: &mut Checks<'_>) -> Result<Tally, Failure> {
        let statement = self.statement;
        let nothing = || {
            if self.head.terms.is_some() {
                return Err(Fault::NotOpened("terms"));
            }
            if !self.head.electorate.is_empty() {
                return Err(Fault::NotOpened("electors"));
            }
            if !self.head.evidence.is_empty() {
                return Err(Fault::NotOpened("evidence"));
            }
            if !matches!(statement.outcome, Outcome::Expired | Outcome::Cancelled) {
                return Err(Fault::Differs {
                    what: "outcome",
                    found: "expired or cancelled".to_owned(),
                    certified: statement.outcome.as_str().to_owned(),
                });
            }
            let result = FullResult::new(&Tally::default(), None).digest();
            same("result", result, statement.result)?;
            same("number of ballots", 0, statement.ballots_count)?;
            same("ballots' root", Digest::of([]), statement.ballots_root)?;
            same(
                "evidence's digest",
                evidence_digest(&[]),
                statement.evidence,
            )
        };
        let counted = self
            .bundle
            .each_ballot(|_| Err(Fault::NotOpened("ballots")));
        let counted = read(checks, counted)?.and_then(|()| nothing());
        checks.check("count", counted, |()| {
            "voting never opened, and nothing was counted".to_owned()
        })?;
        Ok(Tally::default())
    }

    /// The terms of the opening, checked against the electorate and the voting digest.
    fn begin(&self) -> Result<Recount, Fault> {
        let terms = self.head.terms.as_ref().ok_or(Fault::NoTerms)?;
        check_policy(terms)?;
        let electors = &self.head.electorate;
        let terms = RecountTerms {
            cluster: self.genesis.cluster_id(),
            proposal: self.statement.proposal,
            proposal_digest: self.statement.proposal_digest,
            round: terms.round,
            frozen: terms.frozen(),
        };
        let electors = electors
            .iter()
            .map(|elector| (elector.id.clone(), Ppb(elector.power_ppb)));
        Ok(Recount::new(terms, electors)?)
    }

    /// Counts every ballot; returns those that evidence names.
    fn ballots(
        &self,
        recount: &mut Recount,
    ) -> Result<Result<BTreeMap<u64, CheckedBallot>, Fault>, BundleError> {
        let mut named = BTreeMap::new();
        let read = self.bundle.each_ballot(|form| {
            let number = recount.ballots().saturating_add(1);
            let ballot = CheckedBallot::parse(&form.jws)
                .map_err(|source| Fault::BallotForm { number, source })?;
            let key = self.key_of(&ballot.voter, &form.key)?;
            recount.add(&form.jws, key)?;
            check_justification(number, &ballot, &form)?;
            let evidence = &self.head.evidence;
            if evidence.iter().any(|piece| piece.counted == number) {
                named.insert(number, ballot);
            }
            Ok(())
        })?;
        Ok(read.map(|()| named))
    }

    /// The key, if the registrar attests that it is this voter's, and the voter has proved it.
    fn key_of<'k>(&self, voter: &AgentId, key: &'k BundleKey) -> Result<&'k PublicKey, Fault> {
        let check = || {
            let public = key.public_key.public_key();
            let registrar = self.genesis.registrar();
            let attestation = claims("attestation", key.attestation.as_deref(), registrar)?;
            let proof = claims("proof", key.proof.as_deref(), public)?;
            let agrees = |what, claim, found: String, expected: String| {
                if found == expected {
                    return Ok(());
                }
                Err(KeyFault::Claim {
                    what,
                    claim,
                    found,
                    expected,
                })
            };
            let cluster = self.genesis.cluster_id().to_string();
            for (what, claims) in [("attestation", &attestation), ("proof", &proof)] {
                let kid = claims.jwk.public_key().kid().to_string();
                agrees(what, "aud", claims.aud.to_string(), cluster.clone())?;
                agrees(what, "agent_id", claims.agent_id.clone(), voter.to_string())?;
                agrees(what, "jwk", kid, public.kid().to_string())?;
            }
            let of = |claims: &RegistrationClaims| {
                let kind = claims.agent_type.as_str().to_owned();
                (kind, claims.weight.to_string())
            };
            let ((kind, weight), (proved_kind, proved_weight)) = (of(&attestation), of(&proof));
            agrees("proof", "type", proved_kind, kind)?;
            agrees("proof", "weight", proved_weight, weight)?;
            Ok(public)
        };
        check().map_err(|fault| Fault::Key {
            voter: voter.clone(),
            fault: Box::new(fault),
        })
    }

    /// Checks that every piece of evidence shows a contradiction, and that they are those
    /// that were certified.
    fn evidence(&self, counted: &BTreeMap<u64, CheckedBallot>) -> Result<(), Fault> {
        for piece in &self.head.evidence {
            let key = self.key_of(&piece.agent, &piece.key)?;
            check_piece(piece, key, counted).map_err(|why| Fault::NoContradiction {
                agent: piece.agent.clone(),
                why,
            })?;
        }
        let digest = evidence_digest(&self.head.evidence);
        same("evidence's digest", digest, self.statement.evidence)
    }
}

fn check_justification(
    number: u64,
    ballot: &CheckedBallot,
    form: &BundleBallot,
) -> Result<(), Fault> {
    let Some(text) = &form.justification else {
        return Ok(());
    };
    let found = Digest::of(text);
    if ballot.justification == Some(found) {
        return Ok(());
    }
    let signed = ballot.justification;
    Err(Fault::Justification {
        number,
        found,
        signed: signed.map_or_else(|| "none".to_owned(), |digest| digest.to_string()),
    })
}

/// Checks that the two ballots that a piece of evidence names contradict each other.
fn check_piece(
    piece: &BundleEvidence,
    key: &PublicKey,
    counted: &BTreeMap<u64, CheckedBallot>,
) -> Result<(), String> {
    let counts = counted
        .get(&piece.counted)
        .ok_or_else(|| format!("there is no ballot {}", piece.counted))?;
    let other = CheckedBallot::parse(&piece.other).map_err(|error| error.to_string())?;
    Jws::parse(&piece.other, Typ::VOTE, STATEMENT_BYTES_MAX)
        .and_then(|jws| jws.verify(key))
        .map_err(|error| error.to_string())?;
    let of_one_voter = other.voter == piece.agent && counts.voter == piece.agent;
    let vote_of = |ballot: &CheckedBallot| {
        let (cluster, proposal) = (ballot.cluster_id, ballot.proposal);
        (cluster, proposal, ballot.digest, ballot.round)
    };
    let of_one_vote = vote_of(&other) == vote_of(counts) && other.round == piece.round;
    if of_one_voter && of_one_vote && other.choice != counts.choice {
        return Ok(());
    }
    Err(format!(
        "{} votes {} on {} in round {}, {} votes {} on {} in round {}",
        other.voter,
        other.choice.as_str(),
        other.proposal,
        other.round,
        counts.voter,
        counts.choice.as_str(),
        counts.proposal,
        counts.round
    ))
}

/// The claims of one of the two statements that bind a key to an agent, once it is verified.
fn claims(
    what: &'static str,
    jws: Option<&str>,
    signer: &PublicKey,
) -> Result<RegistrationClaims, KeyFault> {
    let bad = |source| KeyFault::Statement { what, source };
    let jws = jws.ok_or(KeyFault::Missing(what))?;
    let statement = Jws::parse(jws, Typ::REGISTRATION, STATEMENT_BYTES_MAX).map_err(bad)?;
    statement.verify(signer).map_err(bad)?;
    statement.claims().map_err(bad)
}

/// Checks that the cluster begins with this policy: the genesis document names the digest of
/// the first ones, and no decision changes them.
fn check_policy(terms: &BundleTerms) -> Result<(), Fault> {
    let (name, version) = (terms.policy.name.clone(), terms.policy.version);
    let mut first = Category::ALL.into_iter().map(Policy::initial);
    let known = first
        .find(|known| known.name == name && known.version == version)
        .ok_or(Fault::UnknownPolicy { name, version })?;
    // By their texts: a ratio may be held in different terms.
    let (found, expected) = (rules(&terms.policy), rules(&BundlePolicy::from(known)));
    for (rule, expected) in expected {
        let found = found.get(&rule).cloned().unwrap_or_default();
        if found != expected {
            let policy = terms.policy.name.clone();
            return Err(Fault::Rule {
                policy,
                rule,
                found,
                expected,
            });
        }
    }
    Ok(())
}

fn rules(policy: &BundlePolicy) -> Map<String, Value> {
    match serde_json::to_value(policy) {
        Ok(Value::Object(rules)) => rules,
        _ => unreachable!("a policy is written as an object"),
    }
}

/// The digest over evidence, as the form of the ledger's statement has it.
fn evidence_digest(evidence: &[BundleEvidence]) -> Digest {
    let tagged = Hasher::tagged("aegis/evidence/1");
    let hasher = evidence.iter().fold(tagged, |hasher, piece| {
        let EvidenceKind::Equivocation = piece.kind;
        hasher
            .bytes(b"equivocation")
            .bytes(piece.agent.as_str().as_bytes())
            .u64(u64::from(piece.round))
            .u64(piece.counted)
            .bytes(piece.other.as_bytes())
            .u64(piece.time_ms)
    });
    hasher.finish()
}

/// Checks that the audit entry records this very closing.
fn check_audit_entry(statement: &Statement, tally: Tally, head: &Head) -> Result<Digest, Fault> {
    let entry = AuditEntry::from(head.audit_entry.clone());
    let record = ClosingRecord {
        proposal: statement.proposal,
        round: statement.round,
        outcome: statement.outcome,
        at: statement.closed_at,
        index: statement.index,
        tally,
        ballots_root: statement.ballots_root,
        ballots: statement.ballots_count,
        evidence: statement.evidence,
        supersedes: statement.supersedes,
        audit_entry: statement.audit_entry,
    };
    let bytes = record.put(Vec::new()).value.unwrap_or_default();
    let payload = Hasher::tagged("aegis/closing/1").bytes(&bytes).finish();
    same("entry's number", entry.seq, statement.audit_entry)?;
    same("entry's log index", entry.index.0, statement.index.0)?;
    same("entry's time", entry.time.0, statement.closed_at.0)?;
    same("entry's payload", entry.payload, payload)?;
    same(
        "hash of the entry's content",
        entry.computed_hash(),
        entry.hash,
    )?;
    same("entry's hash", entry.hash, statement.audit_hash)?;
    Ok(entry.hash)
}

/// Checks that the entry is in the log that a quorum has signed.
fn check_log(
    checks: &mut Checks<'_>,
    epochs: &Epochs,
    statement: &Statement,
    published: &BundleCheckpoint,
) -> Result<(), Failure> {
    let signed = checkpoint::verify(epochs, published.note.as_bytes());
    let signed = checks.check("checkpoint", signed, |checkpoint| {
        format!(
            "{} entries under root {}, signed by {}",
            checkpoint.size,
            checkpoint.root,
            checkpoint.signed_by()
        )
    })?;
    let leaf = leaf_hash(statement.audit_hash.as_bytes());
    let (entry, size) = (statement.audit_entry, signed.size);
    let included = verify_inclusion(&leaf, entry, size, &published.proof, &signed.root);
    checks
        .check("inclusion", included, |()| {
            format!("entry {entry} is among them")
        })
        .map(|_| ())
}
