//! The committee: who sits in it, what it certifies, and what waits for that.

use aegis_crypto::{Digest, Jwk};
use aegis_ledger::*;
use serde_json::{Value, json};

use crate::history::forge;
use crate::world::*;

fn jwk(n: u32) -> Value {
    serde_json::to_value(Jwk::from(secret(n).public())).unwrap()
}

fn parse(document: &Value) -> Result<Genesis, GenesisError> {
    Genesis::parse(serde_json::to_vec(document).unwrap())
}

#[test]
fn a_genesis_names_a_committee_or_none() {
    assert!(genesis_with(0).committee().is_none());
    for seats in [1, 4, 31] {
        let genesis = genesis_with(seats);
        let committee = genesis.committee().unwrap();
        assert_eq!(u32::from(committee.seats().count()), seats);
        assert_eq!(committee.epoch(), 0);
        assert_eq!(genesis.seats()[0].name.as_str(), "v0");
    }
}

#[test]
fn a_genesis_with_no_proper_committee_is_refused() {
    let odd = |alter: fn(&mut Value)| {
        let mut document = genesis_document(4);
        alter(&mut document);
        parse(&document).unwrap_err()
    };
    let cases: [(&str, GenesisError); 7] = [
        (
            "the genesis document numbers seat 2 as 3; seats are numbered from 0 in order",
            odd(|d| d["committee"][2]["seat"] = json!(3)),
        ),
        (
            "the genesis document misnames seat 1",
            odd(|d| d["committee"][1]["name"] = json!("a+b")),
        ),
        (
            "the genesis document misnames seat 1",
            odd(|d| d["committee"][1]["name"] = json!("a b")),
        ),
        (
            "the genesis document names two seats v0",
            odd(|d| d["committee"][1]["name"] = json!("v0")),
        ),
        (
            "the genesis document names no proper committee",
            odd(|d| d["committee"][1]["public_key"] = d["committee"][0]["public_key"].clone()),
        ),
        (
            "which is that of the registrar",
            odd(|d| d["committee"][1]["public_key"] = d["registrar"].clone()),
        ),
        (
            "which is that of an administrator",
            odd(|d| d["committee"][1]["public_key"] = d["administrators"][0].clone()),
        ),
    ];
    for (words, error) in cases {
        let said = error.to_string();
        assert!(said.ends_with(words), "{said}");
    }
    assert!(matches!(
        parse(&genesis_document(32)).unwrap_err(),
        GenesisError::Seats { found: 32 }
    ));
}

/// A cluster of four seats and three agents, and a proposal that they approved.
fn approved() -> (World, ProposalNo) {
    let mut world = World::with_committee(4).and_agents(3);
    let no = world.propose();
    world.approve(no, 1..=3);
    (world, no)
}

fn code(outcome: Result<Receipt, Refusal>) -> &'static str {
    outcome.unwrap_err().code()
}

#[test]
fn a_closing_is_told_as_final_at_its_certificate() {
    let (mut world, no) = approved();
    let last = world.events.last().unwrap().clone();
    let status = Status::Approved;
    assert_eq!(
        last,
        EventKind::ProposalUpdated {
            proposal: no,
            status
        }
    );
    assert!(!query::is_certified(&world.tables, no).unwrap());
    let waiting = query::uncertified(&world.tables, None, 10).unwrap().items;
    assert_eq!(waiting[0].0, Ordinal(1));

    world.now += 60_000;
    let envelope = world.certificate(1);
    world.record(1, envelope.clone()).unwrap();
    assert_eq!(
        world.events.last(),
        Some(&EventKind::ConsensusReached {
            proposal: no,
            outcome: Outcome::Approved,
            certified: true,
            participation: Ppb::ONE,
            deciding_ms: 0,
        })
    );
    assert!(query::is_certified(&world.tables, no).unwrap());
    let stored = query::certificate(&world.tables, Ordinal(1)).unwrap();
    assert_eq!(stored, Some(envelope));
    assert_eq!(world.ledger.core().certified, 1);
    assert_eq!(world.tables.rows(Table::Uncertified), 0);
    world.restart();
}

#[test]
fn the_first_certificate_stands_and_a_later_one_changes_nothing() {
    let (mut world, no) = approved();
    let first = world.certificate(1);
    world.record(1, first.clone()).unwrap();
    let told = world.events.len();
    let statement = world.statement(1).unwrap().to_canonical();
    let others = certificate(&world.committee_of(1), 1, 5, 1, &statement);
    assert_ne!(first, others);
    for again in [first.clone(), others] {
        assert_eq!(world.record(1, again), Ok(Receipt::Done));
    }
    assert_eq!(world.events.len(), told);
    assert_eq!(world.ledger.core().certified, 1);
    let stored = query::certificate(&world.tables, Ordinal(1)).unwrap();
    assert_eq!(stored, Some(first));
    // A bad one is refused however late it comes.
    assert_eq!(code(world.record(1, "{}".to_owned())), "bad_certificate");
    assert!(query::is_certified(&world.tables, no).unwrap());
}

#[test]
fn nothing_else_is_taken_for_a_certificate() {
    let (mut world, no) = approved();
    let statement = world.statement(1).unwrap();
    let text = statement.to_canonical();
    let committee = world.committee_of(1);
    let good = world.certificate(1);
    let other = |text: &str| certificate(&committee, 0, 0, 1, text);
    let strangers = genesis_with(7).committee().unwrap().clone();
    let cases = [
        ("bad_certificate", String::new()),
        (
            "bad_certificate",
            good.replace("payloadType", "payloadtype"),
        ),
        ("bad_certificate", format!("{good} ")),
        ("bad_certificate", certificate(&committee, 0, 0, 2, &text)),
        ("bad_certificate", certificate(&strangers, 0, 0, 1, &text)),
        ("certificate_mismatch", other("{}")),
        (
            "certificate_mismatch",
            other(&text.replace("approved", "rejected")),
        ),
    ];
    for (code, envelope) in cases {
        let refusal = world.record(1, envelope.clone()).unwrap_err();
        assert_eq!(refusal.code(), code, "{envelope}: {refusal}");
    }
    assert_eq!(
        world.record(1, other(&text.replace("approved", "rejected"))),
        Err(Refusal::CertificateMismatch {
            ordinal: Ordinal(1),
            field: "outcome".to_owned(),
            certified: "\"rejected\"".to_owned(),
            expected: "\"approved\"".to_owned(),
        })
    );
    let more = text.replace("\"version\"", "\"surprise\":\"x\",\"version\"");
    let Err(Refusal::CertificateMismatch {
        field, expected, ..
    }) = world.record(1, other(&more))
    else {
        panic!()
    };
    assert_eq!((field.as_str(), expected.as_str()), ("surprise", "absent"));
    assert_eq!(code(world.record(2, good.clone())), "unknown_closing");
    let long = "x".repeat(aegis_crypto::certificate::ENVELOPE_BYTES_MAX + 1);
    assert_eq!(code(world.record(1, long)), "invalid_field");
    let command = Command::RecordCertificate {
        ordinal: Ordinal(1),
        envelope: good.clone(),
    };
    assert_eq!(code(world.admin(command.clone())), "forbidden");
    assert_eq!(code(world.run(agent(1), command)), "forbidden");
    assert!(!query::is_certified(&world.tables, no).unwrap());
    assert_eq!(world.tables.rows(Table::Certificates), 0);
    world.record(1, good).unwrap();

    let mut alone = World::with_agents(1);
    let no = alone.propose();
    alone.approve(no, 1..=1);
    assert_eq!(code(alone.record(1, "{}".to_owned())), "no_committee");
    assert_eq!(alone.tables.rows(Table::Uncertified), 0);
    assert!(
        query::epoch_of(&alone.tables, &alone.genesis, Ordinal(1))
            .unwrap()
            .is_none()
    );
}

#[test]
fn execution_waits_for_the_certificate() {
    let (mut world, proposal) = approved();
    world.now += (259_200 + 86_400) * 1_000;
    let execute = Command::Step {
        proposal,
        step: Step::Execute,
    };
    let refusal = world.admin(execute.clone()).unwrap_err();
    assert_eq!(refusal.code(), "not_certified");
    assert_eq!(refusal.kind(), RefusalKind::Conflict);
    world.certify(1);
    world.admin(execute).unwrap();
    assert_eq!(world.status(proposal), Status::Executed);
    assert!(query::is_certified(&world.tables, proposal).unwrap());
}

#[test]
fn every_way_to_close_is_certified() {
    let mut world = World::with_committee(1).and_agents(3);
    let voted = world.propose_with(json!({"voting_period_s": 60})).unwrap();
    let draft = world
        .propose_with(
            json!({"open": false, "voting_deadline": LedgerTime(world.now + 60_000).rfc3339()}),
        )
        .unwrap();
    let withdrawn = world.propose();
    world
        .admin(Command::Step {
            proposal: withdrawn,
            step: Step::Cancel,
        })
        .unwrap();
    world.tick_at(world.now + 60_001);
    world.tick_at(world.now + INCLUSION_GRACE_MS + 1);
    assert_eq!(world.status(voted), Status::NoQuorum);
    assert_eq!(world.status(draft), Status::Expired);
    // In any order.
    for ordinal in [3, 1, 2] {
        world.certify(ordinal);
    }
    for no in [voted, draft, withdrawn] {
        assert!(query::is_certified(&world.tables, no).unwrap());
    }
    let expired = world.view(draft).record.closed.unwrap().ordinal;
    let statement = world.statement(expired.0).unwrap();
    assert_eq!(statement.voting, None);
    assert_eq!(statement.final_after, statement.closed_at);
}

#[test]
fn a_forged_ballot_counts_nowhere() {
    let mut world = World::with_committee(4).and_agents(3);
    let no = world.propose();
    let mut forged = world.sign(1, &world.vote(1, no, Choice::Against));
    forged.jws = forge(&forged.jws);
    assert_eq!(
        world.cast_ballot(forged.clone()).unwrap_err().code(),
        "bad_signature"
    );
    world.cast(1, no, Choice::For).unwrap();
    // It conflicts with the true one, and is no evidence of anything.
    assert_eq!(
        world.cast_ballot(forged).unwrap_err().code(),
        "bad_signature"
    );
    assert!(query::evidence(&world.tables, no).unwrap().is_empty());
    assert_eq!(world.view(no).tally.heads, [1, 0, 0]);
}

#[test]
fn a_forged_proposal_is_refused() {
    let mut world = World::with_committee(4).and_agents(1);
    let raw = json!({"title": "T", "description": "D", "type": "decision", "content": {}});
    let document = aegis_crypto::canonicalize(&raw.to_string(), 16).unwrap();
    let claims = aegis_crypto::claims::ProposalClaims {
        aud: world.genesis.cluster_id(),
        sub: id(1).into(),
        digest: Digest::of(&document),
        jti: "j".to_owned(),
        iat: (world.now / 1_000) as i64,
        exp: None,
    };
    let good = aegis_crypto::jws::sign(aegis_crypto::Typ::PROPOSAL, &secret(1), &claims).unwrap();
    let mut propose = |signature| {
        let document = document.clone();
        let signature = Some(signature);
        world.run(
            agent(1),
            Command::Propose {
                document,
                signature,
            },
        )
    };
    assert_eq!(code(propose(forge(&good))), "bad_signature");
    propose(good).unwrap();
}

#[test]
fn only_the_attested_vote() {
    let mut world = World::with_committee(4).and_agents(2);
    world.register(vec![world.plain(3)]).remove(0).unwrap();
    let no = world.propose();
    assert_eq!(world.view(no).record.frozen.unwrap().electorate_size, 2);
    let named = json!({"electorate": ["a1", "a3"]});
    assert_eq!(
        world.propose_with(named).unwrap_err().to_string(),
        "attested_electors: agent a3 is not attested, and where there is a committee only attested \
         agents vote; have the registrar attest it, or name others"
    );
    let filter = json!({"electorate": {"attested": false}});
    assert_eq!(
        world.propose_with(filter).unwrap_err().code(),
        "policy_violation"
    );
    assert_eq!(
        world.cast(3, no, Choice::For).unwrap_err().code(),
        "not_eligible"
    );
    // Nor does whoever holds an agent's token take its vote with a key of its own.
    let replace = Command::ReplaceKey {
        agent: id(1),
        key: secret(50).public().into(),
        attestation: None,
        proof: None,
    };
    assert_eq!(code(world.run(agent(1), replace)), "invalid_field");
}

/// Remembers everything: what a node must never do, and what shows that apply asks.
struct Gullible;

impl Verified for Gullible {
    fn is_verified(&self, _: &Digest) -> bool {
        true
    }

    fn remember(&self, _: Digest) {}
}

/// Remembers nothing but one statement.
struct Knows(Digest);

impl Verified for Knows {
    fn is_verified(&self, statement: &Digest) -> bool {
        *statement == self.0
    }

    fn remember(&self, _: Digest) {}
}

#[test]
fn a_memory_saves_verification_and_is_no_state() {
    let mut world = World::with_committee(4).and_agents(3);
    let no = world.propose();
    let mut forged = world.sign(1, &world.vote(1, no, Choice::For));
    forged.jws = forge(&forged.jws);
    let reload = |world: &World, memory: std::sync::Arc<dyn Verified>| {
        let ledger = Ledger::load(&world.tables, &world.genesis).unwrap();
        ledger.with_memory(memory)
    };
    let kid = secret(1).public().kid();
    let digest = verification_digest(&kid, &forged.jws);
    let other = verification_digest(&secret(2).public().kid(), &forged.jws);
    assert_ne!(digest, other);
    world.ledger = reload(&world, std::sync::Arc::new(Knows(other)));
    assert!(world.cast_ballot(forged.clone()).is_err());
    world.ledger = reload(&world, std::sync::Arc::new(Knows(digest)));
    world.cast_ballot(forged).unwrap();
    assert_eq!(
        world.ledger,
        reload(&world, std::sync::Arc::new(Gullible)),
        "equal whatever they remember"
    );
    // A key that the statement does not name is never skipped over.
    world.ledger = reload(&world, std::sync::Arc::new(Gullible));
    let thief = world.sign(3, &world.vote(2, no, Choice::For));
    assert_eq!(
        world.cast_ballot(thief).unwrap_err().code(),
        "bad_signature"
    );
    let mut registration = world.attested(4);
    registration.attestation = registration.proof.clone();
    let refusal = world.register(vec![registration]).remove(0).unwrap_err();
    assert_eq!(refusal.code(), "bad_signature", "it is not the registrar's");
}

fn names(world: &World, ordinal: u64) -> Vec<String> {
    match world.epoch_of(ordinal) {
        Epoch::Decided(record) => record.seats.iter().map(|s| s.name.to_string()).collect(),
        Epoch::Undecided { .. } => Vec::new(),
    }
}

#[test]
fn a_change_that_can_never_apply_is_refused_when_it_is_proposed() {
    let mut world = World::with_committee(4).and_agents(2);
    let free = jwk(VALIDATOR + 9);
    let cases = [
        (json!({"remove": {"name": "v9"}}), "unknown_seat"),
        (
            json!({"rotate": {"name": "v9", "public_key": free}}),
            "unknown_seat",
        ),
        (
            json!({"add": {"name": "v3", "public_key": free}}),
            "seat_exists",
        ),
        (
            json!({"add": {"name": "v9", "public_key": jwk(VALIDATOR)}}),
            "key_in_use",
        ),
        (
            json!({"rotate": {"name": "v1", "public_key": jwk(VALIDATOR + 1)}}),
            "key_in_use",
        ),
        (
            json!({"add": {"name": "v9", "public_key": jwk(REGISTRAR)}}),
            "key_in_use",
        ),
        (
            json!({"rotate": {"name": "v1", "public_key": jwk(REGISTRAR + 1)}}),
            "key_in_use",
        ),
        (
            json!({"add": {"name": "v 9", "public_key": free}}),
            "invalid_field",
        ),
        (json!({"add": {"name": "v9"}}), "invalid_field"),
        (
            json!({"remove": {"name": "v1", "public_key": free}}),
            "invalid_field",
        ),
        (json!({"replace": {"name": "v1"}}), "invalid_field"),
        (json!({"add": ["v9", free]}), "invalid_field"),
        (
            json!({"remove": {"name": "v1"}, "add": {"name": "v9", "public_key": free}}),
            "invalid_field",
        ),
        (json!(null), "invalid_field"),
    ];
    for (change, code) in cases {
        let refusal = world.propose_change(change.clone()).unwrap_err();
        assert_eq!(refusal.code(), code, "{change}: {refusal}");
    }
    let beside = json!({
        "type": "configuration_change",
        "content": {"committee": {"remove": {"name": "v1"}}, "other": 1},
    });
    assert_eq!(
        world.propose_with(beside).unwrap_err().to_string(),
        "`content`: a change of the committee stands alone; propose anything else by itself"
    );
    // What is no change of the committee is none of its business.
    let other = json!({"type": "configuration_change", "content": {"quorum": 1}});
    let no = world.propose_with(other).unwrap();
    assert_eq!(world.view(no).record.committee_change, None);
    let decision = json!({"content": {"committee": {"remove": {"name": "v9"}}}});
    let no = world.propose_with(decision).unwrap();
    assert_eq!(world.view(no).record.committee_change, None);

    let mut one = World::with_committee(1).and_agents(1);
    let refusal = one.propose_change(json!({"remove": {"name": "v0"}}));
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "committee_size: the committee has 1 seats, it may have 1 to 31; add one first"
    );
    let mut full = World::with_committee(31).and_agents(1);
    let add = json!({"add": {"name": "v40", "public_key": jwk(VALIDATOR + 40)}});
    assert_eq!(
        full.propose_change(add).unwrap_err().code(),
        "policy_violation"
    );
    let mut none = World::with_agents(1);
    let no = none
        .propose_change(json!({"remove": {"name": "v0"}}))
        .unwrap();
    assert_eq!(none.view(no).record.committee_change, None);
}

#[test]
fn the_next_epoch_begins_after_the_certificate_of_its_change() {
    let mut world = World::with_committee(4).and_agents(2);
    let change = json!({"add": {"name": "v9", "public_key": jwk(VALIDATOR + 9)}});
    let no = world.propose_change(change).unwrap();
    let after = world.propose();
    world.approve(no, 1..=2);
    world.approve(after, 1..=2);
    let statement = world.statement(1).unwrap();
    let next = statement.next_committee.clone().unwrap();
    assert_eq!((next.epoch, next.seats.len()), (1, 5));
    assert_eq!(names(&world, 1).len(), 4);
    let undecided = Epoch::Undecided { until: Ordinal(1) };
    for ordinal in [2, 3, 100] {
        assert_eq!(world.epoch_of(ordinal), undecided);
    }
    // Nobody can certify what comes after: not the old committee, nor the one to come.
    let statement = world.statement(2).unwrap().to_canonical();
    let mut keys = world.committee_of(1).keys().to_vec();
    let old = world.committee_of(1);
    keys.push(secret(VALIDATOR + 9).public());
    let new = aegis_crypto::Committee::new(1, keys).unwrap();
    for committee in [&old, &new] {
        let envelope = certificate(committee, 0, 0, 2, &statement);
        let refusal = world.record(2, envelope).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "the certificate of closing 2 does not hold: its epoch is undecided until closing 1 \
             is certified"
        );
    }
    assert_eq!(
        query::committee(&world.tables, &world.genesis, 1).unwrap(),
        None
    );

    world.certify(1);
    world.restart();
    assert_eq!(world.ledger.committee().unwrap().epoch, 1);
    assert_eq!(world.ledger.committee().unwrap().since, Ordinal(2));
    assert_eq!(names(&world, 1).len(), 4);
    assert_eq!(names(&world, 2).len(), 5);
    let envelope = certificate(&old, 0, 0, 2, &statement);
    assert_eq!(code(world.record(2, envelope)), "bad_certificate");
    let envelope = certificate(&new, 0, 0, 2, &statement);
    world.record(2, envelope).unwrap();
    // What the first one certified stays certified by the first one.
    let again = world.certificate(1);
    assert_eq!(world.record(1, again), Ok(Receipt::Done));
    assert_eq!(world.ledger.committee().unwrap().epoch, 1);
}

#[test]
fn closings_before_a_change_keep_their_committee() {
    let mut world = World::with_committee(4).and_agents(2);
    let before = world.propose();
    let rotate = json!({"rotate": {"name": "v1", "public_key": jwk(VALIDATOR + 9)}});
    let change = world.propose_change(rotate).unwrap();
    world.approve(before, 1..=2);
    world.approve(change, 1..=2);
    world.certify(2);
    assert_eq!(world.ledger.committee().unwrap().epoch, 1);
    let Epoch::Decided(record) = world.epoch_of(1) else {
        panic!()
    };
    assert_eq!(record.epoch, 0);
    world.certify(1);
    assert_eq!(world.epoch_of(0), world.epoch_of(1), "no closing has it");
    let last = query::newest_committee(&world.tables, &world.genesis).unwrap();
    assert_eq!(last.as_ref(), world.ledger.committee());
    assert_eq!(
        last.unwrap().seats[1].public_key,
        secret(VALIDATOR + 9).public().into()
    );
}

/// The later of two changes sees what the earlier did, whether that is certified before the
/// later closes or only afterwards.
#[test]
fn overlapping_changes_follow_each_other_or_fall_away() {
    for certified_between in [true, false] {
        let mut world = World::with_committee(4).and_agents(2);
        let changes = [
            json!({"remove": {"name": "v1"}}),
            // Falls away: its seat is gone.
            json!({"rotate": {"name": "v1", "public_key": jwk(VALIDATOR + 9)}}),
            // Falls away: it is the first once more.
            json!({"remove": {"name": "v1"}}),
            json!({"add": {"name": "v9", "public_key": jwk(VALIDATOR + 9)}}),
        ];
        let proposals = changes.map(|change| world.propose_change(change).unwrap());
        world.approve(proposals[0], 1..=2);
        if certified_between {
            world.certify(1);
        }
        for no in &proposals[1..] {
            world.approve(*no, 1..=2);
        }
        if !certified_between {
            let undecided = Epoch::Undecided { until: Ordinal(1) };
            assert_eq!(world.epoch_of(2), undecided);
            assert_eq!(world.statement(2), None, "nobody knows its next committee");
            world.certify(1);
        }
        world.restart();
        for ordinal in [2, 3] {
            assert_eq!(world.statement(ordinal).unwrap().next_committee, None);
        }
        assert_eq!(
            world.epoch_of(5),
            Epoch::Undecided { until: Ordinal(4) },
            "those that fall away hold nobody up"
        );
        // The third is certified after the fourth, and decides nothing all the same.
        for ordinal in [2, 4, 3] {
            world.certify(ordinal);
        }
        assert_eq!(names(&world, 4), ["v0", "v2", "v3"]);
        assert_eq!(names(&world, 5), ["v0", "v2", "v3", "v9"]);
        assert_eq!(world.ledger.committee().unwrap().epoch, 2);
        let second = query::committee(&world.tables, &world.genesis, 2).unwrap();
        assert_eq!(second.unwrap().since, Ordinal(5));
        assert_eq!(
            query::committee(&world.tables, &world.genesis, 3).unwrap(),
            None
        );
        world.restart();
    }
}

/// What fell away once never comes back, although a later committee would suit it.
#[test]
fn a_change_that_fell_away_is_gone_for_good() {
    let mut world = World::with_committee(4).and_agents(2);
    let remove = world.propose_change(json!({"remove": {"name": "v1"}}));
    let rotate = json!({"rotate": {"name": "v1", "public_key": jwk(VALIDATOR + 9)}});
    let rotate = world.propose_change(rotate).unwrap();
    world.approve(remove.unwrap(), 1..=2);
    world.certify(1);
    world.approve(rotate, 1..=2);
    let add = json!({"add": {"name": "v1", "public_key": jwk(VALIDATOR + 1)}});
    let add = world.propose_change(add).unwrap();
    world.approve(add, 1..=2);
    world.certify(3);
    assert_eq!(names(&world, 4), ["v0", "v2", "v3", "v1"]);
    assert_eq!(world.statement(2).unwrap().next_committee, None);
    world.certify(2);
    world.restart();
    assert_eq!(world.ledger.committee().unwrap().epoch, 2);
    assert_eq!(names(&world, 4), ["v0", "v2", "v3", "v1"]);
}

#[test]
fn a_rejected_change_changes_nothing() {
    let mut world = World::with_committee(4).and_agents(2);
    let no = world
        .propose_change(json!({"remove": {"name": "v1"}}))
        .unwrap();
    for voter in 1..=2 {
        world.cast(voter, no, Choice::Against).unwrap();
    }
    assert_eq!(world.status(no), Status::Rejected);
    assert_eq!(world.statement(1).unwrap().next_committee, None);
    assert!(matches!(world.epoch_of(2), Epoch::Decided(_)));
    world.certify(1);
    assert_eq!(world.ledger.committee().unwrap().epoch, 0);
}
