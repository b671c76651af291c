//! Bundles and certificates that are made here, signed with keys of these tests, whole and
//! then altered in every place.
//!
//! What the ledger hashes is hashed here by its description alone, so that the two check each
//! other.

use std::collections::BTreeMap;

use aegis_api::bundle::{
    Bundle, BundleAuditEntry, BundleBallot, BundleCheckpoint, BundleElector, BundleEvidence,
    BundleKey, BundleTerms, EvidenceKind,
};
use aegis_crypto::claims::{AgentType, RegistrationClaims, VoteClaims};
use aegis_crypto::merkle::{Frontier, leaf_hash, node_hash};
use aegis_crypto::note::{CheckpointBody, Note, NoteKey, signed_text};
use aegis_crypto::{
    Certificate, Committee, Digest, Hasher, Jwk, NumberText, SeatNo, SecretKey, Typ, certificate,
    jws,
};
use aegis_ledger::{
    AuditEntry, Category, Choice, ClosingRecord, Frozen, FullResult, Genesis, GenesisDocument,
    LedgerTime, LogIndex, NextCommittee, Ordinal, Outcome, Policy, Ppb, ProposalNo, Record as _,
    Recount, RecountTerms, Seat, SeatRecord, Statement, TALLY_VERSION, Tally, VotingTerms,
    initial_policies_digest,
};
use tempfile::TempDir;

use crate::failure::Exit;
use crate::tests::aegis;

const REGISTRAR: u8 = 200;
const SEATS: u8 = 100;
const CLOSED_AT: LedgerTime = LedgerTime(1_800_000_060_000);
const OPENED_AT: LedgerTime = LedgerTime(1_800_000_000_000);
const DEADLINE: LedgerTime = LedgerTime(1_800_000_600_000);
const NO: ProposalNo = ProposalNo(7);

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn jwk(seed: u8) -> Jwk {
    secret(seed).public().into()
}

pub(crate) fn genesis(seats: u8) -> Genesis {
    let document = GenesisDocument {
        version: Genesis::VERSION,
        name: "trial".into(),
        created_at: "2027-01-01T00:00:00Z".into(),
        nonce: Digest::of("nonce"),
        registrar: jwk(REGISTRAR),
        administrators: vec![jwk(REGISTRAR + 1)],
        policies: initial_policies_digest(),
        committee: (0..seats)
            .map(|seat| Seat {
                seat: seat.into(),
                name: format!("node-{}", seat + 1),
                public_key: jwk(SEATS + seat),
            })
            .collect(),
    };
    Genesis::parse(serde_json::to_vec_pretty(&document).unwrap()).unwrap()
}

/// The seats of these keys, by name.
fn seats(seeds: &[u8]) -> Vec<SeatRecord> {
    let seats = seeds.iter().map(|seed| SeatRecord {
        name: format!("node-{}", seed - SEATS + 1).parse().unwrap(),
        public_key: jwk(*seed),
    });
    seats.collect()
}

/// A certificate by the first seats of a committee, as many as make a quorum.
fn certify(epoch: u64, seeds: &[u8], statement: &Statement) -> String {
    let keys = seeds.iter().map(|seed| secret(*seed).public()).collect();
    let committee = Committee::new(epoch, keys).unwrap();
    let (text, sequence) = (statement.to_canonical(), statement.ordinal.0);
    let signed = certificate::signed_bytes(epoch, 0, sequence, &text);
    let signatures: BTreeMap<_, _> = seeds
        .iter()
        .zip(0..)
        .map(|(seed, seat)| (SeatNo(seat), secret(*seed).sign(&signed)))
        .collect();
    let certificate = Certificate::assemble(&committee, 0, sequence, text, signatures).unwrap();
    certificate.to_envelope(&committee)
}

/// A statement about a closing of which nothing else is known.
fn statement(genesis: &Genesis, ordinal: u64) -> Statement {
    Statement {
        audit_entry: 2,
        audit_hash: Digest::of("entry"),
        ballots_count: 0,
        ballots_root: Digest::of([]),
        closed_at: CLOSED_AT,
        cluster: genesis.cluster_id(),
        evidence: Hasher::tagged("aegis/evidence/1").finish(),
        final_after: CLOSED_AT,
        incarnation: 0,
        index: LogIndex(9),
        next_committee: None,
        ordinal: Ordinal(ordinal),
        outcome: Outcome::Cancelled,
        proposal: NO,
        proposal_digest: Digest::of(DOCUMENT),
        result: FullResult::new(&Tally::default(), None).digest(),
        round: 1,
        supersedes: None,
        version: Statement::VERSION,
        voting: None,
    }
}

const DOCUMENT: &str = r#"{"content":{},"title":"Lunch","type":"decision"}"#;

fn voter(number: u8) -> String {
    format!("a{number:03}")
}

fn key_of(genesis: &Genesis, number: u8) -> BundleKey {
    let claims = RegistrationClaims {
        aud: genesis.cluster_id(),
        agent_id: voter(number),
        agent_type: AgentType::Human,
        weight: NumberText::from(1),
        jwk: jwk(number),
        iat: None,
    };
    let sign = |seed| Some(jws::sign(Typ::REGISTRATION, &secret(seed), &claims).unwrap());
    BundleKey {
        public_key: jwk(number),
        attestation: sign(REGISTRAR),
        proof: sign(number),
    }
}

fn ballot(genesis: &Genesis, digest: Digest, number: u8, choice: Choice) -> String {
    let claims = VoteClaims {
        aud: genesis.cluster_id(),
        sub: voter(number),
        proposal: NO.to_string(),
        digest,
        round: 1,
        choice: choice.as_str().into(),
        confidence: "1".into(),
        justification_sha256: (number == 1).then(|| Digest::of("hunger")),
        jti: format!("{number}-{}", choice.as_str()),
        iat: 1_800_000_010,
        exp: None,
        seq: None,
    };
    jws::sign(Typ::VOTE, &secret(number), &claims).unwrap()
}

/// The terms of a vote among agents 1 to `electors`, each with power 1.
fn frozen(electors: u8) -> Frozen {
    let policy = Policy::initial(Category::Standard);
    let mut tree = Frontier::default();
    for number in 1..=electors {
        let id = voter(number);
        let len = u64::try_from(id.len()).unwrap().to_be_bytes();
        tree.push_leaf(&[&len, id.as_bytes(), &1_000_000_000_u64.to_be_bytes()].concat());
    }
    let voting_digest = Hasher::tagged("aegis/voting/1")
        .digest(&Digest::of(DOCUMENT))
        .bytes(b"standard")
        .u64(1)
        .bytes(b"simple_majority")
        .u64(0)
        .digest(&tree.root())
        .u64(DEADLINE.0)
        .finish();
    Frozen {
        opened_at: OPENED_AT,
        deadline: DEADLINE,
        quorum_required: policy.quorum_of(electors.into()),
        method: policy.method,
        policy,
        electorate_size: electors.into(),
        power_total: u128::from(electors) * 1_000_000_000,
        electorate_root: tree.root(),
        voting_digest,
        tally_version: TALLY_VERSION,
    }
}

/// A whole bundle: three of five vote for, one against, one contradicts itself.
fn bundle() -> Bundle {
    let genesis = genesis(4);
    let frozen = frozen(5);
    let digest = frozen.voting_digest;
    let choices = [Choice::For, Choice::Against, Choice::For, Choice::For];
    let ballots: Vec<_> = (1..)
        .zip(choices)
        .map(|(number, choice)| BundleBallot {
            jws: ballot(&genesis, digest, number, choice),
            key: key_of(&genesis, number),
            justification: (number == 1).then(|| "hunger".to_owned()),
        })
        .collect();
    let evidence = vec![BundleEvidence {
        kind: EvidenceKind::Equivocation,
        agent: voter(2).parse().unwrap(),
        round: 1,
        counted: 2,
        other: ballot(&genesis, digest, 2, Choice::For),
        key: key_of(&genesis, 2),
        time_ms: 1_800_000_020_000,
    }];
    let electors = (1..=5).map(|number| (voter(number).parse().unwrap(), Ppb::ONE));
    let terms = RecountTerms {
        cluster: genesis.cluster_id(),
        proposal: NO,
        proposal_digest: Digest::of(DOCUMENT),
        round: 1,
        frozen: frozen.clone(),
    };
    let mut recount = Recount::new(terms, electors).unwrap();
    for (ballot, number) in ballots.iter().zip(1..) {
        recount.add(&ballot.jws, &secret(number).public()).unwrap();
    }
    let recounted = recount.finish();
    let mut statement = Statement {
        ballots_count: recounted.ballots_count,
        ballots_root: recounted.ballots_root,
        evidence: Hasher::tagged("aegis/evidence/1")
            .bytes(b"equivocation")
            .bytes(voter(2).as_bytes())
            .u64(1)
            .u64(2)
            .bytes(evidence[0].other.as_bytes())
            .u64(1_800_000_020_000)
            .finish(),
        final_after: CLOSED_AT.plus_s(frozen.policy.appeal_window_s),
        outcome: Outcome::Approved,
        result: recounted.result.digest(),
        voting: Some(VotingTerms {
            digest,
            electorate_root: frozen.electorate_root,
            electorate_size: 5,
        }),
        ..statement(&genesis, 1)
    };
    let entry = entry(&statement, recounted.tally);
    statement.audit_hash = entry.hash;
    Bundle {
        version: 1,
        certificate: certify(0, &[100, 101, 102, 103], &statement),
        document: DOCUMENT.into(),
        checkpoint: Some(published(&genesis, entry.hash, 3)),
        audit_entry: entry.into(),
        checkpoint_missing: None,
        terms: Some(BundleTerms {
            round: 1,
            opened_at_ms: frozen.opened_at.0,
            deadline_ms: frozen.deadline.0,
            method: frozen.method,
            electorate_size: 5,
            power_total_ppb: frozen.power_total,
            electorate_root: frozen.electorate_root,
            voting_digest: digest,
            quorum_required: frozen.quorum_required,
            tally_version: TALLY_VERSION,
            policy: frozen.policy.into(),
        }),
        committee_changes: Vec::new(),
        electorate: (1..=5)
            .map(|number| BundleElector {
                id: voter(number).parse().unwrap(),
                power_ppb: 1_000_000_000,
            })
            .collect(),
        ballots,
        evidence,
        genesis: String::from_utf8(genesis.bytes().to_vec()).unwrap(),
    }
}

/// The audit entry of a closing, the third of its log.
fn entry(statement: &Statement, tally: Tally) -> AuditEntry {
    let closing = ClosingRecord {
        proposal: NO,
        round: 1,
        outcome: statement.outcome,
        at: CLOSED_AT,
        index: LogIndex(9),
        tally,
        ballots_root: statement.ballots_root,
        ballots: statement.ballots_count,
        evidence: statement.evidence,
        supersedes: None,
        audit_entry: 2,
    };
    let record = closing.put(Vec::new()).value.unwrap();
    let mut entry = AuditEntry {
        seq: 2,
        index: LogIndex(9),
        time: CLOSED_AT,
        principal: "system".into(),
        kind: "closing".into(),
        payload: Hasher::tagged("aegis/closing/1").bytes(&record).finish(),
        outcome: statement.outcome.as_str().into(),
        previous: Digest::of("entry 1"),
        hash: Digest::ZERO,
    };
    entry.hash = entry.computed_hash();
    entry
}

/// A checkpoint of a log of three entries, signed by so many seats.
fn published(genesis: &Genesis, entry: Digest, signers: u8) -> BundleCheckpoint {
    let leaf = |hash: Digest| leaf_hash(hash.as_bytes());
    let before = node_hash(&leaf(Digest::of("entry 0")), &leaf(Digest::of("entry 1")));
    let root = node_hash(&before, &leaf(entry));
    let origin = format!("aegis/{}", genesis.cluster_id());
    let lines = [
        "incarnation 0",
        "epoch 0",
        "ordinal 1",
        &format!("chain {}", Digest::of("chain")),
    ];
    let body = CheckpointBody::new(origin.clone(), 3, root, lines.map(str::to_owned).into());
    let body = body.unwrap();
    let signatures = (0..signers).map(|seat| {
        let key = secret(SEATS + seat);
        let name = format!("{origin}/node-{}", seat + 1);
        let note_key = NoteKey::new(name, key.public()).unwrap();
        note_key.line(&key.sign(&signed_text(&body)))
    });
    let note = Note::new(body.to_text(), signatures.collect()).unwrap();
    BundleCheckpoint {
        note: note.to_text(),
        proof: vec![before],
    }
}

/// A folder with the genesis document and whatever is put there.
struct Folder(TempDir);

impl Folder {
    fn new(genesis: &Genesis) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.put("genesis.json", genesis.bytes());
        folder
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

/// Verifies a bundle against the genesis document.
fn verify(bundle: &str) -> (Exit, String, String) {
    let folder = Folder::new(&genesis(4));
    let (file, genesis) = (folder.put("bundle", bundle), folder.path("genesis.json"));
    aegis(&["verify", "--bundle", &file, "--genesis", &genesis])
}

fn text(bundle: &Bundle) -> String {
    serde_json::to_string(bundle).unwrap()
}

#[test]
fn a_bundle_is_counted_again_from_its_ballots() {
    let (exit, out, err) = verify(&text(&bundle()));
    assert_eq!((exit, err.as_str()), (Exit::Done, ""), "{out}");
    for line in [
        "ok   genesis: cluster ",
        "ok   epoch 0: a committee of 4, of which 1 may lie and 3 sign",
        "ok   certificate: 3 of 4 seats of epoch 0 (node-1, node-2, node-3), in view 0",
        "ok   document: ",
        "ok   terms: ",
        "ok   ballots: 4 signatures hold",
        "ok   count: 3 for, 1 against, 0 abstain make it approved",
        "ok   evidence: 1 piece, as certified",
        "ok   audit entry: entry 2 records this closing",
        "ok   checkpoint: 3 entries under root ",
        "ok   inclusion: entry 2 is among them",
        "prop_7 is approved: round 1, closing 1 of cluster ",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(!out.contains("on trust from the bundle"), "{out}");
}

#[test]
fn a_bundle_alone_is_taken_at_its_own_genesis() {
    let folder = Folder::new(&genesis(4));
    let file = folder.put("bundle", text(&bundle()));
    let (exit, out, _) = aegis(&["verify", "--bundle", &file]);
    assert_eq!(exit, Exit::Done);
    assert!(out.contains("taken on trust from the bundle"), "{out}");
    let cluster = genesis(4).cluster_id().to_string();
    let (exit, out, _) = aegis(&["verify", "--bundle", &file, "--cluster-id", &cluster]);
    assert_eq!(exit, Exit::Done);
    assert!(!out.contains("taken on trust from the bundle"), "{out}");
    let other = genesis(3).cluster_id().to_string();
    let (exit, _, err) = aegis(&["verify", "--bundle", &file, "--cluster-id", &other]);
    assert_eq!(exit, Exit::Negative);
    assert!(err.contains(&cluster) && err.contains(&other), "{err}");
}

#[test]
fn programs_get_one_object() {
    let folder = Folder::new(&genesis(4));
    let file = folder.put("bundle", text(&bundle()));
    let words = ["-o", "json", "verify", "--bundle", &file];
    let read = |out: &str| serde_json::from_str::<serde_json::Value>(out).unwrap();
    let (exit, out, _) = aegis(&words);
    assert_eq!(exit, Exit::Done);
    let shown = read(&out);
    assert_eq!(shown["valid"], true);
    assert_eq!(shown["genesis_pinned"], false);
    assert_eq!(shown["statement"]["outcome"], "approved");
    assert_eq!(shown["checks"].as_array().unwrap().len(), 11);
    folder.put("bundle", text(&bundle()).replace("hunger", "thirst"));
    let (exit, out, err) = aegis(&words);
    assert_eq!(exit, Exit::Negative);
    let shown = read(&out);
    assert_eq!(shown["valid"], false);
    assert!(err.contains(shown["fault"].as_str().unwrap()), "{err}");
}

#[test]
fn the_order_of_the_members_means_nothing() {
    let whole: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&text(&bundle())).unwrap();
    let sorted = serde_json::to_string(&whole).unwrap();
    assert!(sorted.starts_with(r#"{"audit_entry""#));
    let (exit, out, err) = verify(&sorted);
    assert_eq!(exit, Exit::Done, "{out}{err}");
}

/// Alters a bundle, which must be told by the check of this name and in these words.
fn refused(check: &str, words: &str, alter: impl FnOnce(&mut Bundle)) {
    let mut altered = bundle();
    alter(&mut altered);
    assert_ne!(altered, bundle(), "{check}: nothing is altered");
    let (exit, out, err) = verify(&text(&altered));
    assert_eq!(exit, Exit::Negative, "{check}: {out}{err}");
    let last = out.lines().last().unwrap();
    assert_eq!(last, format!("FAIL {check}"), "{err}");
    assert!(err.contains(words), "{check}: {err}");
}

#[test]
fn whatever_is_altered_is_told() {
    let genesis = genesis(4);
    let digest = frozen(5).voting_digest;
    refused("genesis", "cluster ", |bundle| {
        bundle.genesis = bundle.genesis.replace("trial", "other");
    });
    refused("certificate", "no certificate of the committee", |bundle| {
        bundle.certificate = certify(0, &[110, 111, 112, 113], &statement(&genesis, 1));
    });
    refused("document", "document's digest", |bundle| {
        bundle.document = bundle.document.replace("Lunch", "Dinner");
    });
    refused("terms", "has no terms", |bundle| bundle.terms = None);
    refused(
        "terms",
        "has \"3\" as its `quorum_heads_min`, the cluster begins with \"0\"",
        |bundle| {
            bundle.terms.as_mut().unwrap().policy.quorum_heads_min = 3;
        },
    );
    refused("terms", "no policy standard, version 2", |bundle| {
        bundle.terms.as_mut().unwrap().policy.version = 2;
    });
    refused("terms", "voting_digest", |bundle| {
        bundle.terms.as_mut().unwrap().deadline_ms += 1;
    });
    refused("terms", "electorate_size", |bundle| {
        bundle.electorate.pop();
    });
    refused("terms", "power_total", |bundle| {
        bundle.electorate[0].power_ppb += 1;
    });
    refused("terms", "stands out of order or twice", |bundle| {
        bundle.electorate.swap(0, 1);
    });
    refused("ballots", "the key of a003 is not shown", |bundle| {
        bundle.ballots[2].key.attestation = bundle.ballots[2].key.proof.clone();
    });
    refused("ballots", "there is no attestation", |bundle| {
        bundle.ballots[2].key.attestation = None;
    });
    refused(
        "ballots",
        "the attestation has a002 as its `agent_id`, expected a003",
        |bundle| {
            bundle.ballots[2].key = bundle.ballots[1].key.clone();
        },
    );
    refused("ballots", "ballot 3 does not count", |bundle| {
        let jws = &mut bundle.ballots[2].jws;
        let (rest, signature) = jws.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        *jws = format!("{rest}.{first}{}", &signature[1..]);
    });
    refused("ballots", "a001 has a ballot already", |bundle| {
        bundle.ballots[2] = bundle.ballots[0].clone();
    });
    refused("ballots", "`digest`", |bundle| {
        bundle.ballots[2].jws = ballot(&genesis, Digest::of("other"), 3, Choice::For);
    });
    refused("ballots", "justification", |bundle| {
        bundle.ballots[0].justification = Some("thirst".into());
    });
    refused("count", "ballots_count", |bundle| {
        bundle.ballots.pop();
    });
    refused("count", "ballots_root", |bundle| bundle.ballots.swap(2, 3));
    refused("count", "ballots_root", |bundle| {
        bundle.ballots[2].jws = ballot(&genesis, digest, 3, Choice::Against);
    });
    refused("evidence", "evidence's digest", |bundle| {
        bundle.evidence.clear()
    });
    refused("evidence", "shows no contradiction", |bundle| {
        bundle.evidence[0].other = bundle.ballots[1].jws.clone();
    });
    refused(
        "evidence",
        "shows no contradiction: there is no ballot 9",
        |bundle| {
            bundle.evidence[0].counted = 9;
        },
    );
    let entry = |alter: fn(&mut BundleAuditEntry)| {
        move |bundle: &mut Bundle| alter(&mut bundle.audit_entry)
    };
    refused(
        "audit entry",
        "entry's number is 3",
        entry(|entry| entry.seq = 3),
    );
    refused(
        "audit entry",
        "entry's payload",
        entry(|entry| entry.payload = Digest::ZERO),
    );
    refused(
        "audit entry",
        "hash of the entry's content",
        entry(|entry| entry.previous = Digest::ZERO),
    );
    refused(
        "checkpoint",
        "2 seats of epoch 0 have signed it, a quorum is 3",
        |bundle| {
            let hash = bundle.audit_entry.hash;
            bundle.checkpoint = Some(published(&genesis, hash, 2));
        },
    );
    refused("checkpoint", "signatures do not hold", |bundle| {
        let note = &mut bundle.checkpoint.as_mut().unwrap().note;
        *note = note.replace("\nordinal 1\n", "\nordinal 2\n");
    });
    refused("checkpoint", "its origin is", |bundle| {
        let note = &mut bundle.checkpoint.as_mut().unwrap().note;
        *note = note.replacen("aegis/", "aegis.", 1);
    });
    refused("inclusion", "the proof leads to the root", |bundle| {
        bundle.checkpoint.as_mut().unwrap().proof[0] = Digest::ZERO;
    });
}

#[test]
fn what_is_no_bundle_is_told_apart_from_what_cannot_be_read() {
    for (bundle, expected) in [
        ("{}", "is no bundle: missing field"),
        ("[", "is no bundle"),
        (
            &text(&bundle()).replacen(r#""version":"1""#, r#""version":"2""#, 1),
            "version 2",
        ),
        (
            &text(&bundle()).replacen('{', r#"{"extra":1,"#, 1),
            "unknown field `extra`",
        ),
        (&format!("{} 1", text(&bundle())), "trailing characters"),
        (
            &text(&bundle()).replacen('{', r#"{"ballots":[],"#, 1),
            "duplicate field `ballots`",
        ),
    ] {
        let (exit, out, err) = verify(bundle);
        assert_eq!(exit, Exit::Negative, "{out}{err}");
        assert!(err.contains(expected), "{expected}: {err}");
    }
    let (exit, ..) = aegis(&["verify", "--bundle", "/nonexistent"]);
    assert_eq!(exit, Exit::Failed);
}

#[test]
fn a_closing_before_voting_opened_has_nothing_to_count() {
    let genesis = genesis(4);
    let mut statement = statement(&genesis, 1);
    let entry = entry(&statement, Tally::default());
    statement.audit_hash = entry.hash;
    let cancelled = Bundle {
        certificate: certify(0, &[100, 101, 102, 103], &statement),
        checkpoint: None,
        checkpoint_missing: Some("none yet".into()),
        audit_entry: entry.into(),
        terms: None,
        electorate: Vec::new(),
        ballots: Vec::new(),
        evidence: Vec::new(),
        ..bundle()
    };
    let (exit, out, err) = verify(&text(&cancelled));
    assert_eq!(exit, Exit::Done, "{out}{err}");
    assert!(out.contains("ok   count: voting never opened"), "{out}");
    assert!(
        out.contains("-    checkpoint: the bundle has none (none yet)"),
        "{out}"
    );
    let with_ballots = Bundle {
        ballots: bundle().ballots,
        ..cancelled
    };
    let (exit, _, err) = verify(&text(&with_ballots));
    assert_eq!(exit, Exit::Negative);
    assert!(
        err.contains("voting never opened, and the bundle has ballots"),
        "{err}"
    );
}

#[test]
fn a_certificate_is_verified_with_the_genesis_alone() {
    let genesis = genesis(4);
    let folder = Folder::new(&genesis);
    let path = folder.path("genesis.json");
    let whole = certify(0, &[100, 101, 102, 103], &statement(&genesis, 1));
    let verify = |envelope: &str| {
        let file = folder.put("certificate", envelope);
        aegis(&["verify", &file, "--genesis", &path])
    };
    // An end of line that a shell adds is no part of it.
    for envelope in [whole.clone(), format!("{whole}\n")] {
        let (exit, out, err) = verify(&envelope);
        assert_eq!((exit, err.as_str()), (Exit::Done, ""), "{out}");
        assert!(out.contains("prop_7 is cancelled"), "{out}");
        assert!(out.contains("It does not prove"), "{out}");
    }
    let other = Statement {
        cluster: Digest::ZERO,
        ..statement(&genesis, 1)
    };
    for (envelope, expected) in [
        (
            whole.replacen("\"sig\":\"", "\"sig\":\"A", 1),
            "no certificate of the committee",
        ),
        (format!("{whole} "), "not in its canonical form"),
        (
            certify(0, &[100, 101, 102], &statement(&genesis, 1)),
            "exactly a quorum of 3",
        ),
        (
            certify(0, &[110, 101, 102, 103], &statement(&genesis, 1)),
            "sits in no seat",
        ),
        (
            certify(0, &[100, 101, 102, 103], &other),
            "closing of cluster 0000",
        ),
    ] {
        let (exit, out, err) = verify(&envelope);
        assert_eq!(exit, Exit::Negative, "{out}");
        assert!(out.ends_with("FAIL certificate\n"), "{out}");
        assert!(err.contains(expected), "{expected}: {err}");
    }
    let file = folder.path("certificate");
    for words in [
        &["verify", &file][..],
        &["verify", &file, "--cluster-id", "00"],
        &["verify", "--genesis", &path],
        &[
            "verify",
            "--bundle",
            &file,
            "--genesis",
            &path,
            "--committee-certificates",
            &file,
        ],
    ] {
        assert_eq!(aegis(words).0, Exit::Usage, "{words:?}");
    }
    let (exit, ..) = aegis(&["verify", "/nonexistent", "--genesis", &path]);
    assert_eq!(exit, Exit::Failed);
}

/// A statement that decides the committee of the next epoch.
fn decides(genesis: &Genesis, ordinal: u64, epoch: u64, seeds: &[u8]) -> Statement {
    Statement {
        next_committee: Some(NextCommittee {
            epoch,
            seats: seats(seeds),
        }),
        outcome: Outcome::Approved,
        ..statement(genesis, ordinal)
    }
}

#[test]
fn later_committees_are_walked_to_by_certificates() {
    let genesis = genesis(4);
    let (first, second) = ([100, 101, 102, 103], [100, 101, 102, 113]);
    let third = [101, 102, 113];
    let folder = Folder::new(&genesis);
    let one = folder.put("one", certify(0, &first, &decides(&genesis, 5, 1, &second)));
    let two = folder.put("two", certify(1, &second, &decides(&genesis, 8, 2, &third)));
    let verify = |envelope: &str, later: &[&str]| {
        let file = folder.put("certificate", envelope);
        let path = folder.path("genesis.json");
        let mut words = vec!["verify", &file, "--genesis", &path];
        if !later.is_empty() {
            words.push("--committee-certificates");
            words.extend(later);
        }
        aegis(&words)
    };
    let newest = certify(2, &third, &statement(&genesis, 9));
    // Their order on the command line means nothing.
    let (exit, out, err) = verify(&newest, &[&two, &one]);
    assert_eq!(exit, Exit::Done, "{out}{err}");
    assert!(
        out.contains("closing 8 decides the 3 seats of epoch 2"),
        "{out}"
    );
    // A committee that is not known says nothing either way.
    let (exit, _, err) = verify(&newest, &[&one]);
    assert_eq!(exit, Exit::Failed);
    assert!(err.contains("--committee-certificates"), "{err}");
    // The one after a gap does not follow.
    let (exit, ..) = verify(&newest, &[&two]);
    assert_eq!(exit, Exit::Negative);
    for (envelope, expected) in [
        (
            certify(0, &first, &statement(&genesis, 6)),
            "epoch 0 certifies the closings 1 to 5, and this is one of closing 6",
        ),
        (
            certify(2, &third, &statement(&genesis, 8)),
            "epoch 2 certifies the closings 9 and on, and this is one of closing 8",
        ),
        (
            certify(1, &[103, 100, 101, 102], &statement(&genesis, 6)),
            "sits in no seat",
        ),
    ] {
        let (exit, out, err) = verify(&envelope, &[&one, &two]);
        assert_eq!(exit, Exit::Negative, "{out}");
        assert!(err.contains(expected), "{expected}: {err}");
    }
    // A committee that skips an epoch, and a certificate that decides none.
    for (envelope, expected) in [
        (
            certify(0, &first, &decides(&genesis, 5, 2, &second)),
            "the committee of epoch 2, after epoch 0",
        ),
        (
            certify(0, &first, &statement(&genesis, 5)),
            "it decides no committee",
        ),
    ] {
        let wrong = folder.put("wrong", envelope);
        let (exit, _, err) = verify(&newest, &[&wrong]);
        assert_eq!(exit, Exit::Negative);
        assert!(err.contains(expected), "{expected}: {err}");
    }
}

#[test]
fn a_cluster_without_a_committee_certifies_nothing() {
    let folder = Folder::new(&genesis(0));
    let file = folder.put("certificate", "{}");
    let (exit, _, err) = aegis(&["verify", &file, "--genesis", &folder.path("genesis.json")]);
    assert_eq!(exit, Exit::Negative);
    assert!(err.contains("names no committee"), "{err}");
}
