//! Every refusal of a ballot, by its code, and what it leaves behind: nothing.

use aegis_crypto::Digest;
use aegis_ledger::*;

use crate::world::*;

/// Casts and expects a refusal that changes no count.
fn refused(
    world: &mut World,
    no: ProposalNo,
    cast: impl FnOnce(&mut World) -> Result<CastReceipt, Refusal>,
) -> Refusal {
    let before = world.view(no).tally;
    let votes = query::core(&world.tables).unwrap().votes;
    let refusal = cast(world).unwrap_err();
    assert_eq!(world.view(no).tally, before, "{refusal}");
    assert_eq!(
        query::core(&world.tables).unwrap().votes,
        votes,
        "{refusal}"
    );
    refusal
}

#[test]
fn each_refusal_has_its_code() {
    let mut world = World::with_agents(3);
    let no = world.propose();
    type Alter = fn(&mut aegis_crypto::claims::VoteClaims);
    let cases: [(&str, Alter); 11] = [
        ("unknown_proposal", |c| c.proposal = "prop_99".into()),
        ("unknown_proposal", |c| c.proposal = "prop_1x".into()),
        ("unknown_voter", |c| c.sub = "nobody".into()),
        ("unknown_voter", |c| c.sub = "not an id".into()),
        ("statement_mismatch", |c| {
            c.aud = Digest::of("another cluster")
        }),
        ("statement_mismatch", |c| {
            c.digest = Digest::of("other rules")
        }),
        ("statement_mismatch", |c| c.round = 2),
        ("expired_statement", |c| c.exp = Some(c.iat - 61)),
        ("expired_statement", |c| c.iat += 61),
        ("invalid_choice", |c| c.choice = "maybe".into()),
        ("invalid_confidence", |c| c.confidence = "1.1".into()),
    ];
    for (code, alter) in cases {
        let refusal = refused(&mut world, no, |world| world.cast_altered(1, no, alter));
        assert_eq!(refusal.code(), code, "{refusal}");
    }
    for confidence in [
        "",
        "-1",
        "NaN",
        "1e-1",
        "0.1234567891",
        ".5",
        "1.",
        "+1",
        " 1",
        "0x1",
        "1,0",
    ] {
        let refusal = refused(&mut world, no, |world| {
            world.cast_altered(1, no, |c| c.confidence = confidence.into())
        });
        assert_eq!(refusal.code(), "invalid_confidence", "{confidence}");
    }
    let refusal = refused(&mut world, no, |world| {
        world.cast_altered(1, no, |c| c.jti = String::new())
    });
    assert_eq!(refusal.code(), "invalid_field");
    world.cast(1, no, Choice::For).unwrap();
}

#[test]
fn leeway_is_sixty_seconds_on_both_sides() {
    let mut world = World::with_agents(3);
    let no = world.propose();
    world.cast_altered(1, no, |c| c.iat += 60).unwrap();
    world
        .cast_altered(2, no, |c| c.exp = Some(c.iat - 60))
        .unwrap();
}

#[test]
fn a_key_of_another_agent_signs_for_nobody() {
    let mut world = World::with_agents(2);
    let no = world.propose();
    let ballot = world.sign(2, &world.vote(1, no, Choice::For));
    let refusal = refused(&mut world, no, |world| world.cast_ballot(ballot));
    assert_eq!(refusal.code(), "bad_signature");
}

#[test]
fn the_same_bytes_answer_the_same_before_and_after_the_close() {
    let mut world = World::with_agents(2);
    let no = world.propose();
    let ballot = world.sign(1, &world.vote(1, no, Choice::For));
    let first = world.cast_ballot(ballot.clone()).unwrap();
    assert!(!first.repeated);
    world.now += 1;
    let again = world.cast_ballot(ballot.clone()).unwrap();
    assert_eq!(
        (again.vote, again.time, again.repeated),
        (first.vote, first.time, true)
    );
    world.cast(2, no, Choice::For).unwrap();
    assert_eq!(world.status(no), Status::Approved);
    let closed = world.cast_ballot(ballot).unwrap();
    assert_eq!((closed.vote, closed.repeated), (first.vote, true));
    assert_eq!(world.view(no).tally.heads, [2, 0, 0]);
}

#[test]
fn the_same_bytes_twice_in_one_batch_count_once() {
    let mut world = World::with_agents(3);
    let no = world.propose();
    let ballot = world.sign(1, &world.vote(1, no, Choice::For));
    let receipt = world
        .run(
            Principal::Voters,
            Command::Cast(vec![ballot.clone(), ballot]),
        )
        .unwrap();
    let Receipt::Cast(receipts) = receipt else {
        panic!("{receipt:?}")
    };
    assert!(!receipts[0].as_ref().unwrap().repeated);
    assert!(receipts[1].as_ref().unwrap().repeated);
    assert_eq!(world.view(no).tally.heads, [1, 0, 0]);
}

#[test]
fn a_second_ballot_is_refused_and_a_conflicting_one_is_evidence() {
    let mut world = World::with_agents(3);
    let no = world.propose();
    world.cast(1, no, Choice::For).unwrap();
    let same = refused(&mut world, no, |w| {
        w.cast_altered(1, no, |c| c.jti = "again".into())
    });
    assert!(matches!(
        same,
        Refusal::AlreadyVoted {
            conflicting: false,
            ..
        }
    ));
    assert!(query::evidence(&world.tables, no).unwrap().is_empty());
    let other = refused(&mut world, no, |w| w.cast(1, no, Choice::Against));
    assert!(matches!(
        other,
        Refusal::AlreadyVoted {
            conflicting: true,
            ..
        }
    ));
    let more = refused(&mut world, no, |w| w.cast(1, no, Choice::Abstain));
    assert_eq!(more.code(), "already_voted");
    assert_eq!(query::evidence(&world.tables, no).unwrap().len(), 1);
}

#[test]
fn a_jti_names_one_statement_of_its_signer() {
    let mut world = World::with_agents(3);
    let (first, second) = (world.propose(), world.propose());
    world
        .cast_altered(1, first, |c| c.jti = "j".into())
        .unwrap();
    let refusal = refused(&mut world, second, |w| {
        w.cast_altered(1, second, |c| c.jti = "j".into())
    });
    assert_eq!(refusal.code(), "replayed");
    let refusal = refused(&mut world, first, |w| {
        w.cast_altered(1, first, |c| {
            c.jti = "j".into();
            c.choice = "against".into();
        })
    });
    assert_eq!(refusal.code(), "replayed");
    // The jti does not hide that the two ballots contradict each other.
    let evidence = query::evidence(&world.tables, first).unwrap();
    let [EvidenceRecord::Equivocation { counted, other, .. }] = &evidence[..] else {
        panic!("{evidence:?}");
    };
    assert_eq!(counted.to_string(), "vote_1_1");
    let other = CheckedBallot::parse(other).unwrap();
    assert_eq!((other.jti.as_str(), other.choice), ("j", Choice::Against));
    world
        .cast_altered(2, second, |c| c.jti = "j".into())
        .unwrap();
    // Nor does the jti of a ballot on another proposal.
    world
        .cast_altered(1, second, |c| c.jti = "k".into())
        .unwrap();
    let refusal = refused(&mut world, second, |w| {
        w.cast_altered(1, second, |c| {
            c.jti = "j".into();
            c.choice = "abstain".into();
        })
    });
    assert_eq!(refusal.code(), "replayed");
    assert_eq!(query::evidence(&world.tables, second).unwrap().len(), 1);
}

/// A statement that expired unseen was never cast: its signer was free to decide anew.
#[test]
fn an_expired_ballot_is_no_evidence() {
    let mut world = World::with_agents(3);
    let no = world.propose();
    let mut expiring = world.vote(1, no, Choice::Against);
    expiring.exp = Some(expiring.iat + 1);
    let expiring = world.sign(1, &expiring);
    world.now += 120_000;
    world.cast(1, no, Choice::For).unwrap();
    let refusal = refused(&mut world, no, |w| w.cast_ballot(expiring));
    assert_eq!(refusal.code(), "expired_statement");
    assert!(query::evidence(&world.tables, no).unwrap().is_empty());
}

#[test]
fn a_justification_must_be_the_one_that_was_signed() {
    let mut world = World::with_agents(3);
    let no = world.propose();
    let mut claims = world.vote(1, no, Choice::For);
    claims.justification_sha256 = Some(Digest::of("because"));
    for text in [None, Some("Because")] {
        let mut ballot = world.sign(1, &claims);
        ballot.justification = text.map(str::to_owned);
        let refusal = refused(&mut world, no, |world| world.cast_ballot(ballot));
        assert_eq!(refusal.code(), "statement_mismatch");
    }
    let mut ballot = world.sign(1, &claims);
    ballot.justification = Some("because".to_owned());
    world.cast_ballot(ballot).unwrap();
    let text = query::justification(&world.tables, &Digest::of("because")).unwrap();
    assert_eq!(text.as_deref(), Some("because"));
}

#[test]
fn only_electors_vote_and_only_while_voting_is_open() {
    let mut world = World::with_agents(2);
    let draft = world
        .propose_with(serde_json::json!({"open": false}))
        .unwrap();
    assert_eq!(
        refused(&mut world, draft, |w| w.cast(1, draft, Choice::For)).code(),
        "not_open"
    );
    let no = world.propose();
    let late = world.attested(3);
    world.register(vec![late]).remove(0).unwrap();
    assert_eq!(
        refused(&mut world, no, |w| w.cast(3, no, Choice::For)).code(),
        "not_eligible"
    );
    world.admin(Command::RemoveAgent { agent: id(1) }).unwrap();
    assert_eq!(
        refused(&mut world, no, |w| w.cast(1, no, Choice::For)).code(),
        "not_eligible"
    );
    world.cast(2, no, Choice::For).unwrap();
    assert_eq!(
        world.status(no),
        Status::Approved,
        "everyone who still may vote has voted"
    );
    assert_eq!(
        refused(&mut world, no, |w| w.cast(3, no, Choice::For)).code(),
        "voting_closed"
    );
}

#[test]
fn a_replaced_key_signs_no_more_but_its_ballots_stand() {
    let mut world = World::with_agents(3);
    let (no, other) = (world.propose(), world.propose());
    world.cast(1, no, Choice::For).unwrap();
    let replace = Command::ReplaceKey {
        agent: id(1),
        key: secret(50).public().into(),
        attestation: None,
        proof: None,
    };
    assert_eq!(
        world.run(agent(2), replace.clone()).unwrap_err().code(),
        "forbidden"
    );
    world.run(agent(1), replace).unwrap();
    assert_eq!(world.view(no).tally.heads, [1, 0, 0]);
    assert_eq!(
        refused(&mut world, other, |w| w.cast(1, other, Choice::For)).code(),
        "bad_signature"
    );
    let ballot = world.sign(50, &world.vote(1, other, Choice::For));
    world.cast_ballot(ballot).unwrap();
    let back = Command::ReplaceKey {
        agent: id(1),
        key: secret(1).public().into(),
        attestation: None,
        proof: None,
    };
    assert_eq!(world.run(agent(1), back).unwrap_err().code(), "key_in_use");
}

#[test]
fn critical_proposals_ask_for_awareness() {
    let mut world = World::with_agents(2);
    let no = world
        .propose_with(serde_json::json!({"category": "critical"}))
        .unwrap();
    assert_eq!(
        refused(&mut world, no, |w| w.cast(1, no, Choice::For)).code(),
        "not_eligible"
    );
    let report = |measured_at, level| Command::Report {
        agent: id(1),
        report: Report {
            measured_at,
            phi_ppb: 0,
            coherence_ppb: 0,
            stability_ppb: 0,
            divergence_ppb: 0,
            consciousness_level_ppb: level,
        },
    };
    assert_eq!(
        world.run(agent(2), report(1, 1)).unwrap_err().code(),
        "forbidden"
    );
    assert_eq!(
        world.admin(report(1, 1_000_000_001)).unwrap_err().code(),
        "invalid_field"
    );
    world.admin(report(5, 699_999_999)).unwrap();
    assert_eq!(
        refused(&mut world, no, |w| w.cast(1, no, Choice::For)).code(),
        "not_eligible"
    );
    assert_eq!(
        world.admin(report(5, 700_000_000)).unwrap_err().code(),
        "stale_report"
    );
    world.admin(report(6, 700_000_000)).unwrap();
    world.cast(1, no, Choice::For).unwrap();
}
