//! A bundle, verified by hand with nothing but the genesis document's digest.

use std::collections::BTreeMap;

use aegis_api::bundle::{Bundle, BundleError, BundleKey};
use aegis_crypto::claims::RegistrationClaims;
use aegis_crypto::merkle::{leaf_hash, verify_inclusion};
use aegis_crypto::note::{CheckpointBody, Note};
use aegis_crypto::{Certificate, Committee, Digest, Jws, Typ, jws};
use aegis_ledger::*;
use serde_json::{Value, json};

use crate::committee::signers;
use crate::world::*;

/// Reads a bundle, which has one spelling.
async fn read(world: &World, query: &str) -> Bundle {
    let reply = world.get(query).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.index(), world.node.index());
    let bundle = Bundle::parse(&reply.body).unwrap();
    assert_eq!(serde_json::to_vec(&bundle).unwrap(), reply.body);
    bundle
}

/// The committees that follow from the genesis by the bundle's certificates.
fn committees(bundle: &Bundle, genesis: &Genesis) -> Vec<Committee> {
    let mut known = vec![genesis.committee().unwrap().clone()];
    for envelope in &bundle.committee_changes {
        let newest = known.last().unwrap();
        let certificate = Certificate::parse(envelope.as_bytes()).unwrap();
        let certificate = certificate.verify(newest).unwrap();
        let next = Statement::parse(certificate.statement())
            .unwrap()
            .next_committee
            .unwrap();
        assert_eq!(next.epoch, newest.epoch() + 1);
        let keys = next.seats.iter().map(|seat| *seat.public_key.public_key());
        known.push(Committee::new(next.epoch, keys.collect()).unwrap());
    }
    known
}

/// Checks that the registrar and the key itself bind a key to an agent.
fn check_key(key: &BundleKey, agent: &AgentId, genesis: &Genesis) {
    let own = key.public_key.public_key();
    for (jws, by) in [(&key.attestation, genesis.registrar()), (&key.proof, own)] {
        let statement = Jws::parse(
            jws.as_ref().unwrap(),
            Typ::REGISTRATION,
            STATEMENT_BYTES_MAX,
        );
        let statement = statement.unwrap();
        statement.verify(by).unwrap();
        let claims: RegistrationClaims = statement.claims().unwrap();
        assert_eq!(claims.aud, genesis.cluster_id());
        assert_eq!(claims.agent_id, agent.as_str());
        assert_eq!(claims.jwk, key.public_key);
    }
}

/// Recomputes a decision, step by step as the form says.
fn verify(bundle: &Bundle, cluster: Digest) -> Statement {
    assert_eq!(bundle.cluster_id(), cluster);
    let genesis = Genesis::parse(bundle.genesis.clone().into_bytes()).unwrap();
    let committees = committees(bundle, &genesis);

    let certificate = Certificate::parse(bundle.certificate.as_bytes()).unwrap();
    let committee = &committees[usize::try_from(certificate.epoch()).unwrap()];
    let certificate = certificate.verify(committee).unwrap();
    let statement = Statement::parse(certificate.statement()).unwrap();
    assert_eq!(statement.ordinal.0, certificate.sequence());
    assert_eq!(statement.cluster, cluster);
    assert_eq!(statement.proposal_digest, Digest::of(&bundle.document));

    if let Some(terms) = bundle.recount_terms(statement.proposal) {
        let electors = bundle.electorate.iter();
        let electors = electors.map(|elector| (elector.id.clone(), Ppb(elector.power_ppb)));
        let mut recount = Recount::new(terms, electors).unwrap();
        for ballot in &bundle.ballots {
            let voter = CheckedBallot::parse(&ballot.jws).unwrap().voter;
            check_key(&ballot.key, &voter, &genesis);
            recount
                .add(&ballot.jws, ballot.key.public_key.public_key())
                .unwrap();
        }
        recount.finish().check(&statement).unwrap();
    } else {
        assert!(statement.voting.is_none());
        assert!(bundle.electorate.is_empty() && bundle.ballots.is_empty());
    }

    assert_eq!(bundle.evidence_digest(), statement.evidence);
    for evidence in &bundle.evidence {
        check_key(&evidence.key, &evidence.agent, &genesis);
        let key = evidence.key.public_key.public_key();
        let other = Jws::parse(&evidence.other, Typ::VOTE, STATEMENT_BYTES_MAX).unwrap();
        other.verify(key).unwrap();
        let other = CheckedBallot::parse(&evidence.other).unwrap();
        let place = usize::try_from(evidence.counted).unwrap() - 1;
        let counted = CheckedBallot::parse(&bundle.ballots[place].jws).unwrap();
        assert_eq!(
            (&counted.voter, &other.voter),
            (&evidence.agent, &evidence.agent)
        );
        assert_ne!(counted.choice, other.choice);
    }

    let entry = AuditEntry::from(bundle.audit_entry.clone());
    assert_eq!(entry.hash, entry.computed_hash());
    assert_eq!(
        (entry.hash, entry.seq),
        (statement.audit_hash, statement.audit_entry)
    );

    assert_eq!(
        bundle.checkpoint.is_some(),
        bundle.checkpoint_missing.is_none()
    );
    if let Some(checkpoint) = &bundle.checkpoint {
        let note = Note::parse(checkpoint.note.as_bytes()).unwrap();
        let body = CheckpointBody::parse(note.text()).unwrap();
        assert_eq!(body.origin(), format!("aegis/{cluster}"));
        let epoch = body.extensions()[1].strip_prefix("epoch ").unwrap();
        let committee = &committees[epoch.parse::<usize>().unwrap()];
        let quorum = usize::from(committee.seats().quorum());
        assert_eq!(signers(&note, &cluster, committee), quorum);
        let leaf = leaf_hash(entry.hash.as_bytes());
        let proof = &checkpoint.proof;
        verify_inclusion(&leaf, entry.seq, body.size(), proof, body.root()).unwrap();
    }
    statement
}

/// Replaces an agent's key by one that is attested as well.
async fn rotate(world: &World, n: u32, key: u32) {
    let mut claims = world.registration_claims(n);
    claims.jwk = secret(key).public().into();
    let body = json!({
        "public_key": jwk(key),
        "attestation": jws::sign(Typ::REGISTRATION, &secret(REGISTRAR), &claims).unwrap(),
        "proof": jws::sign(Typ::REGISTRATION, &secret(key), &claims).unwrap(),
    });
    world
        .admin(&format!("/agents/a{n}/keys"), &body)
        .await
        .ok(201);
}

async fn change(world: &World, change: Value) -> String {
    world
        .propose_with(json!({
            "type": "configuration_change", "content": {"committee": change}, "open": true,
        }))
        .await
}

/// Everything that a bundle has to carry along, in one decision.
#[tokio::test]
async fn a_decision_is_recomputed_from_its_bundle_alone() {
    let world = World::with_committee(4, 5).await;
    let added = change(
        &world,
        json!({"add": {"name": "v4", "public_key": jwk(VALIDATOR + 4)}}),
    );
    world.approve(&added.await, 5).await;
    world.certify(1);

    let proposal = world.propose().await;
    let mut justified = world.vote(1, &proposal, "for").await;
    justified.justification_sha256 = Some(Digest::of("Because."));
    let mut body = ballot(1, &justified);
    body["justification"] = json!("Because.");
    world.post("/votes").json(&body).send().await.ok(201);
    world.cast(2, &proposal, "against").await;
    let other = ballot(2, &world.vote(2, &proposal, "for").await);
    world
        .post("/votes")
        .json(&other)
        .send()
        .await
        .problem(409, "already_voted");
    // Ballots stand that were signed with a key that its agent has no more.
    rotate(&world, 2, 22).await;
    rotate(&world, 1, 11).await;
    world.cast(3, &proposal, "abstain").await;
    world.cast(4, &proposal, "for").await;
    world.cast(5, &proposal, "for").await;
    let certificate = world.certify(2);

    // The next epoch begins, and signs the checkpoint.
    let added = change(&world, json!({"remove": {"name": "v0"}})).await;
    let claims = world.vote(1, &added, "for").await;
    world
        .post("/votes")
        .json(&ballot(11, &claims))
        .send()
        .await
        .ok(201);
    let claims = world.vote(2, &added, "for").await;
    world
        .post("/votes")
        .json(&ballot(22, &claims))
        .send()
        .await
        .ok(201);
    for n in 3..=5 {
        world.cast(n, &added, "for").await;
    }
    world.certify(3);

    let path = format!("/proposals/{proposal}/bundle");
    let without = read(&world, &path).await;
    let statement = verify(&without, world.cluster_id());
    assert_eq!(statement.outcome, Outcome::Approved);
    assert_eq!(statement.ballots_count, 5);
    assert_eq!(without.certificate, certificate);
    // The certificate's epoch is reached without the change that came after it.
    assert_eq!(without.committee_changes.len(), 1);
    let why = without.checkpoint_missing.as_deref().unwrap();
    assert!(why.contains("no seat"), "{why}");
    assert_eq!(without.evidence.len(), 1);
    assert_eq!(without.evidence[0].counted, 2);
    assert!(
        without
            .ballots
            .iter()
            .all(|ballot| ballot.justification.is_none())
    );

    let earlier = world.checkpoint(3);
    world.seat(1, Some(earlier));
    let justified = read(&world, &format!("{path}?justifications=true")).await;
    verify(&justified, world.cluster_id());
    assert!(justified.checkpoint.is_some());
    let texts: Vec<_> = justified
        .ballots
        .iter()
        .map(|b| b.justification.as_deref())
        .collect();
    assert_eq!(texts, [Some("Because."), None, None, None, None]);
}

/// A checkpoint may be signed by a committee that was decided long after the certificate's.
#[tokio::test]
async fn committees_reach_as_far_as_the_checkpoint() {
    let world = World::with_committee(4, 1).await;
    let proposal = world.propose().await;
    world.approve(&proposal, 1).await;
    world.certify(1);
    for (ordinal, seat) in [(2, 4), (3, 5)] {
        let name = format!("v{seat}");
        let key = jwk(VALIDATOR + seat);
        let added = change(&world, json!({"add": {"name": name, "public_key": key}})).await;
        world.approve(&added, 1).await;
        world.certify(ordinal);
    }
    world.seat(2, Some(world.checkpoint(4)));
    let bundle = read(&world, &format!("/proposals/{proposal}/bundle")).await;
    assert_eq!(verify(&bundle, world.cluster_id()).ordinal.0, 1);
    assert_eq!(bundle.committee_changes.len(), 2);
}

#[tokio::test]
async fn a_checkpoint_that_does_not_fit_is_left_out_with_a_reason() {
    let world = World::with_committee(4, 1).await;
    let early = world.checkpoint(1);
    let proposal = world.propose().await;
    world.approve(&proposal, 1).await;
    world.certify(1);
    let fits = world.checkpoint(1);
    let path = format!("/proposals/{proposal}/bundle");
    let why = async |note: Option<String>| {
        world.seat(0, note);
        let bundle = read(&world, &path).await;
        verify(&bundle, world.cluster_id());
        bundle.checkpoint_missing.unwrap_or_default()
    };
    assert_eq!(why(Some(fits.clone())).await, "");
    for (note, said) in [
        (None, "signed no checkpoint yet"),
        (Some(early), "after the next checkpoint"),
        (Some("no note".to_owned()), "signed no checkpoint yet"),
        (
            Some(fits.replace("\n5\n", "\n999\n")),
            "more than this node has applied",
        ),
        (
            Some(fits.replace("\n5\n", "\n4\n")),
            "the nodes' ledgers differ",
        ),
        (
            Some(fits.replace("epoch 0", "epoch 9")),
            "more than this node has applied",
        ),
    ] {
        let why = why(note.clone()).await;
        assert!(why.contains(said), "{note:?}: {why}");
    }
}

#[tokio::test]
async fn a_proposal_that_nobody_voted_on_has_a_bundle_too() {
    let world = World::with_committee(4, 2).await;
    let draft = world.propose_with(json!({})).await;
    let cancel = format!("/proposals/{draft}/cancel");
    world.post(&cancel).token(ADMIN).send().await.ok(200);
    world.certify(1);
    let bundle = read(&world, &format!("/proposals/{draft}/bundle")).await;
    let statement = verify(&bundle, world.cluster_id());
    assert_eq!(statement.outcome, Outcome::Cancelled);
    assert!(bundle.terms.is_none());

    let open = world.propose().await;
    let cancel = format!("/proposals/{open}/cancel");
    world.post(&cancel).token(ADMIN).send().await.ok(200);
    world.certify(2);
    let bundle = read(&world, &format!("/proposals/{open}/bundle")).await;
    verify(&bundle, world.cluster_id());
    assert_eq!((bundle.electorate.len(), bundle.ballots.len()), (2, 0));
}

/// More ballots than one piece takes, and than one page of the tables.
#[tokio::test]
async fn a_long_bundle_is_the_same_document() {
    const VOTERS: u32 = 900;
    let world = World::with_committee(4, 0).await;
    let all: Vec<u32> = (1..=VOTERS).collect();
    for some in all.chunks(BATCH_MAX) {
        world.register_all(some.iter().map(|n| world.attested(*n)).collect());
    }
    let proposal = world.propose().await;
    let claims = world.vote(1, &proposal, "for").await;
    for some in all.chunks(BATCH_MAX) {
        let ballots = some.iter().map(|n| {
            let mut claims = claims.clone();
            claims.sub = id(*n).into();
            claims.jti = format!("{n}");
            let justification = "x".repeat(2_000);
            claims.justification_sha256 = Some(Digest::of(&justification));
            Ballot {
                jws: jws::sign(Typ::VOTE, &secret(*n), &claims).unwrap(),
                justification: Some(justification),
            }
        });
        world.node.apply(Entry {
            principal: Principal::Voters,
            request: None,
            command: Command::Cast(ballots.collect()),
        });
    }
    world.certify(1);
    let path = format!("/proposals/{proposal}/bundle?justifications=true");
    let bundle = read(&world, &path).await;
    let statement = verify(&bundle, world.cluster_id());
    assert_eq!(statement.ballots_count, u64::from(VOTERS));
    let ballots = bundle.ballots.iter().zip(&all);
    for (ballot, n) in ballots {
        assert_eq!(CheckedBallot::parse(&ballot.jws).unwrap().voter, id(*n));
        assert!(ballot.justification.is_some());
    }
}

/// Pieces are never read from an older state than the beginning was, and what is cut short
/// cannot be mistaken for a whole.
#[tokio::test]
async fn a_bundle_that_breaks_off_is_no_bundle() {
    let world = World::with_committee(4, 1).await;
    world.node.fall_behind();
    let proposal = world.propose().await;
    world.approve(&proposal, 1).await;
    world.certify(1);
    let path = format!("{}/proposals/{proposal}/bundle", crate::client::BASE);
    let request = format!("GET {path} HTTP/1.1\r\nhost: aegis\r\nconnection: close\r\n\r\n");
    let answer = crate::client::raw(world.address, request.as_bytes()).await;
    // Neither the document nor the transfer coding comes to its end.
    assert!(!answer.contains("\"evidence\""), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

/// The form is read strictly: a bundle that says anything twice, more or otherwise is none.
#[tokio::test]
async fn the_form_is_strict() {
    let world = World::with_committee(4, 1).await;
    let proposal = world.propose().await;
    world.approve(&proposal, 1).await;
    world.certify(1);
    let reply = world
        .get(&format!("/proposals/{proposal}/bundle"))
        .send()
        .await;
    let whole = reply.json();
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    for (altered, said) in [
        (text.replacen('{', "{\"more\":1,", 1), "unknown field"),
        (text.replacen('{', "{\"version\":\"1\",", 1), "version"),
        (
            text.replace("\"version\":\"1\"", "\"version\":1"),
            "expected",
        ),
        (
            text.replace("\"round\":\"1\"", "\"round\":\"01\""),
            "number",
        ),
        (
            text.replace("\"round\":\"1\"", "\"round\":\"4294967296\""),
            "number",
        ),
        (
            text.replace("\"evidence\":[]", "\"evidence\":[[]]"),
            "an object",
        ),
        (
            text.replace("\"tie\":\"reject\"", "\"tie\":\"other\""),
            "reject",
        ),
        (text[..text.len() - 1].to_owned(), "expected"),
    ] {
        assert_ne!(altered, text);
        let Err(BundleError::Json(error)) = Bundle::parse(altered.as_bytes()) else {
            panic!("{said}");
        };
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
    let mut newer = whole.clone();
    newer["version"] = json!("2");
    let newer = Bundle::parse(newer.to_string().as_bytes());
    assert_eq!(newer, Err(BundleError::Version { found: 2 }));
    // Null is not absent, and what must be there is missed.
    let terms = whole["terms"].as_object().unwrap();
    let members = whole.as_object().unwrap().keys().chain(terms.keys());
    let missed: BTreeMap<&String, bool> = members
        .map(|name| {
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(name);
            if let Some(terms) = without.get_mut("terms") {
                terms.as_object_mut().unwrap().remove(name);
            }
            (name, Bundle::parse(without.to_string().as_bytes()).is_err())
        })
        .collect();
    for (name, is_missed) in missed {
        let optional = name == "checkpoint_missing" || name == "terms";
        assert_eq!(is_missed, !optional, "{name}");
    }
    let mut null = whole;
    null["checkpoint"] = json!(null);
    assert!(Bundle::parse(null.to_string().as_bytes()).is_err());
}
