//! Proposals from submission to their end.

use aegis_ledger::*;
use serde_json::json;

use crate::world::*;

#[test]
fn a_majority_of_a_quorum_approves() {
    let mut world = World::with_agents(9);
    let no = world.propose();
    let frozen = world.view(no).record.frozen.unwrap();
    assert_eq!(
        (frozen.electorate_size, frozen.quorum_required),
        (9, 3),
        "0.333 of 9, rounded up"
    );
    world.cast(1, no, Choice::For).unwrap();
    world.cast(2, no, Choice::For).unwrap();
    world.cast(3, no, Choice::Against).unwrap();
    world.tick_at(frozen.deadline.0 + 1);
    assert_eq!(world.status(no), Status::Voting, "the grace runs");
    world.tick_at(frozen.deadline.0 + 1 + INCLUSION_GRACE_MS + 1);
    assert_eq!(world.status(no), Status::Approved);
}

#[test]
fn thresholds_are_exact_on_both_sides() {
    for (favour, against, category, expected) in [
        (2, 1, "significant", Status::Rejected),
        (667, 333, "significant", Status::Approved),
        (666, 334, "significant", Status::Rejected),
        (501, 499, "standard", Status::Approved),
        (1, 1, "standard", Status::Rejected),
        (500, 500, "standard", Status::Rejected),
    ] {
        let mut world = World::new();
        let plain: Vec<_> = (1..=favour + against).map(|n| world.plain(n)).collect();
        for batch in plain.chunks(BATCH_MAX) {
            world.register(batch.to_vec());
        }
        let no = world.propose_with(json!({"category": category})).unwrap();
        for voter in 1..=favour + against {
            let choice = if voter <= favour {
                Choice::For
            } else {
                Choice::Against
            };
            world.cast(voter, no, choice).unwrap();
        }
        assert_eq!(world.status(no), expected, "{favour}:{against} {category}");
    }
}

#[test]
fn abstentions_make_a_quorum_but_no_majority() {
    let mut world = World::with_agents(3);
    let no = world.propose();
    for voter in 1..=3 {
        world.cast(voter, no, Choice::Abstain).unwrap();
    }
    assert_eq!(world.status(no), Status::Rejected);
    let no = world.propose();
    world.cast(1, no, Choice::For).unwrap();
    world.cast(2, no, Choice::Abstain).unwrap();
    world.cast(3, no, Choice::Abstain).unwrap();
    assert_eq!(world.status(no), Status::Approved);
}

#[test]
fn unanimous_needs_everyone() {
    let mut world = World::with_agents(3);
    let no = world.propose_with(json!({"method": "unanimous"})).unwrap();
    world.cast(1, no, Choice::For).unwrap();
    world.cast(2, no, Choice::For).unwrap();
    world.cast(3, no, Choice::Abstain).unwrap();
    assert_eq!(world.status(no), Status::Rejected);
    let no = world.propose_with(json!({"method": "unanimous"})).unwrap();
    for voter in 1..=3 {
        world.cast(voter, no, Choice::For).unwrap();
    }
    assert_eq!(world.status(no), Status::Approved);
}

#[test]
fn a_deadline_without_quorum_is_no_quorum() {
    let mut world = World::with_agents(9);
    let no = world.propose_with(json!({"voting_period_s": 60})).unwrap();
    world.cast(1, no, Choice::For).unwrap();
    world.tick_at(world.now + 60_001);
    world.tick_at(world.now + INCLUSION_GRACE_MS + 1);
    assert_eq!(world.status(no), Status::NoQuorum);
}

#[test]
fn ballots_signed_in_time_are_admitted_in_the_grace() {
    let mut world = World::with_agents(9);
    let no = world.propose_with(json!({"voting_period_s": 60})).unwrap();
    let deadline_s =
        i64::try_from(world.view(no).record.frozen.unwrap().deadline.0 / 1_000).unwrap();
    // Nobody led for an hour: the first entry past the deadline only marks the proposal.
    world.tick_at(world.now + 3_600_000);
    world.cast_altered(1, no, |c| c.iat = deadline_s).unwrap();
    let late = world
        .cast_altered(2, no, |c| c.iat = deadline_s + 1)
        .unwrap_err();
    assert_eq!(late.code(), "voting_closed");
    world.tick_at(world.now + INCLUSION_GRACE_MS + 1);
    assert_eq!(world.status(no), Status::NoQuorum);
    assert_eq!(world.view(no).tally.heads, [1, 0, 0]);
}

#[test]
fn settled_emergencies_close_at_once() {
    let mut world = World::with_agents(10);
    let no = world
        .propose_with(json!({"type": "emergency_action", "action": "quarantine", "target": "a1"}))
        .unwrap();
    assert_eq!(world.view(no).record.category, Category::Emergency);
    world.cast(1, no, Choice::Against).unwrap();
    world.cast(2, no, Choice::Against).unwrap();
    assert_eq!(world.status(no), Status::Voting, "a quorum of 4 is missing");
    world.cast(3, no, Choice::For).unwrap();
    world.cast(4, no, Choice::For).unwrap();
    assert_eq!(
        world.status(no),
        Status::Rejected,
        "8 of 10 cannot reach 0.9"
    );
}

#[test]
fn drafts_are_reviewed_opened_cancelled_or_expire() {
    let mut world = World::with_agents(2);
    let draft = |world: &mut World| {
        world
            .propose_with(json!({"open": false, "voting_period_s": 60}))
            .unwrap()
    };
    let no = draft(&mut world);
    let step = |proposal, step| Command::Step { proposal, step };
    assert_eq!(
        world
            .run(agent(1), step(no, Step::Open))
            .unwrap_err()
            .code(),
        "forbidden"
    );
    world.admin(step(no, Step::Review)).unwrap();
    assert_eq!(
        world.admin(step(no, Step::Review)).unwrap_err().code(),
        "illegal_transition"
    );
    world.admin(step(no, Step::Open)).unwrap();
    assert_eq!(world.status(no), Status::Voting);
    assert_eq!(
        world.admin(step(no, Step::Open)).unwrap_err().code(),
        "illegal_transition"
    );
    assert_eq!(
        world.admin(step(no, Step::Tally)).unwrap_err().code(),
        "policy_violation"
    );
    world.admin(step(no, Step::Cancel)).unwrap();
    assert_eq!(world.status(no), Status::Cancelled);
    assert_eq!(
        world.admin(step(no, Step::Cancel)).unwrap_err().code(),
        "illegal_transition"
    );
    assert_eq!(
        world
            .admin(step(ProposalNo(99), Step::Open))
            .unwrap_err()
            .code(),
        "unknown_proposal"
    );

    let deadline = LedgerTime(world.now + 60_000).rfc3339();
    let no = world
        .propose_with(json!({"open": false, "voting_deadline": deadline}))
        .unwrap();
    world.tick_at(world.now + 60_001);
    assert_eq!(world.status(no), Status::Expired);
}

#[test]
fn execution_waits_for_the_appeal_window_and_the_delay() {
    let mut world = World::with_agents(1);
    let no = world.propose();
    world.cast(1, no, Choice::For).unwrap();
    let execute = Command::Step {
        proposal: no,
        step: Step::Execute,
    };
    assert_eq!(
        world.admin(execute.clone()).unwrap_err().code(),
        "too_early"
    );
    world.now += (259_200 + 86_400) * 1_000;
    world.admin(execute.clone()).unwrap();
    assert_eq!(world.status(no), Status::Executed);
    assert_eq!(
        world.admin(execute).unwrap_err().code(),
        "illegal_transition"
    );
}

#[test]
fn what_an_author_may_choose_is_bounded() {
    let mut world = World::with_agents(3);
    for (extra, code) in [
        (json!({"category": "emergency"}), "policy_violation"),
        (
            json!({"type": "policy_update", "category": "standard"}),
            "policy_violation",
        ),
        (
            json!({"type": "decision", "action": "terminate", "category": "significant"}),
            "policy_violation",
        ),
        (
            json!({"type": "policy_update", "method": "unanimous"}),
            "policy_violation",
        ),
        (
            json!({"action": "release", "electorate": ["a1"]}),
            "policy_violation",
        ),
        (json!({"method": "dictatorship"}), "policy_violation"),
        (json!({"max_rounds": 2}), "policy_violation"),
        (json!({"voting_period_s": 0}), "policy_violation"),
        (
            json!({"voting_period_s": 1_000_000_000}),
            "policy_violation",
        ),
        (
            json!({"voting_deadline": "2020-01-01T00:00:00Z"}),
            "policy_violation",
        ),
        (json!({"voting_deadline": "soon"}), "invalid_field"),
        (
            json!({"voting_deadline": "2099-01-01T00:00:00Z", "voting_period_s": 1}),
            "invalid_field",
        ),
        (json!({"electorate": ["nobody"]}), "unknown_agent"),
        (json!({"electorate": ["a1", "a1"]}), "invalid_field"),
        (json!({"electorate": []}), "invalid_field"),
        (json!({"electorate": [["human"], true]}), "invalid_field"),
        (
            json!({"electorate": {"types": ["oracle"]}}),
            "policy_violation",
        ),
        (json!({"title": " "}), "invalid_field"),
        (json!({"title": "a\nb"}), "invalid_field"),
        (json!({"content": []}), "invalid_field"),
        (json!({"surprise": 1}), "invalid_field"),
    ] {
        let before = query::core(&world.tables).unwrap().proposals;
        let refusal = world.propose_with(extra.clone()).unwrap_err();
        assert_eq!(refusal.code(), code, "{extra}: {refusal}");
        assert_eq!(query::core(&world.tables).unwrap().proposals, before);
    }
    let no = world
        .propose_with(json!({"electorate": ["a3", "a1"], "method": "unanimous"}))
        .unwrap();
    assert_eq!(world.view(no).record.frozen.unwrap().electorate_size, 2);
    let no = world
        .propose_with(json!({"electorate": {"types": ["human"], "attested": true}}))
        .unwrap();
    assert_eq!(world.view(no).record.frozen.unwrap().electorate_size, 3);
}

#[test]
fn an_author_has_at_most_ten_open_proposals() {
    let mut world = World::with_agents(1);
    let raw = r#"{"title":"T","description":"","type":"decision","content":{}}"#;
    for _ in 0..10 {
        world.propose_document(agent(1), raw).unwrap();
    }
    assert_eq!(
        world.propose_document(agent(1), raw).unwrap_err().code(),
        "too_many_open"
    );
    let first = Command::Step {
        proposal: ProposalNo(1),
        step: Step::Cancel,
    };
    world.run(agent(1), first).unwrap();
    world.propose_document(agent(1), raw).unwrap();
}

#[test]
fn attestations_need_both_signatures_over_the_same_claims() {
    let mut world = World::new();
    let good = world.attested(1);
    let other_claims = world.attested(2);
    let cases = [
        (
            Registration {
                proof: None,
                ..good.clone()
            },
            "invalid_field",
        ),
        (
            Registration {
                attestation: None,
                ..good.clone()
            },
            "invalid_field",
        ),
        (
            Registration {
                attestation: good.proof.clone(),
                ..good.clone()
            },
            "bad_signature",
        ),
        (
            Registration {
                proof: good.attestation.clone(),
                ..good.clone()
            },
            "bad_signature",
        ),
        (
            Registration {
                attestation: other_claims.attestation.clone(),
                ..good.clone()
            },
            "statement_mismatch",
        ),
        (
            Registration {
                weight: 2,
                ..good.clone()
            },
            "statement_mismatch",
        ),
        (
            Registration {
                agent_type: AgentType::Llm,
                ..good.clone()
            },
            "statement_mismatch",
        ),
        (
            Registration {
                id: None,
                ..good.clone()
            },
            "invalid_field",
        ),
        (
            Registration {
                name: "\u{7}".into(),
                ..good.clone()
            },
            "invalid_field",
        ),
        (
            Registration {
                weight: 0,
                attestation: None,
                proof: None,
                ..good.clone()
            },
            "invalid_field",
        ),
    ];
    for (registration, code) in cases {
        let refusal = world.register(vec![registration]).remove(0).unwrap_err();
        assert_eq!(refusal.code(), code, "{refusal}");
    }
    assert!(
        world
            .register(vec![good.clone()])
            .remove(0)
            .unwrap()
            .attested
    );
    assert_eq!(
        world.register(vec![good]).remove(0).unwrap_err().code(),
        "agent_exists"
    );
    let thief = Registration {
        id: Some(id(9)),
        ..world.plain(1)
    };
    assert_eq!(
        world.register(vec![thief]).remove(0).unwrap_err().code(),
        "key_in_use"
    );
    let unnamed = Registration {
        id: None,
        ..world.plain(5)
    };
    assert_eq!(
        world.register(vec![unnamed]).remove(0).unwrap().id.as_str(),
        "agent_2"
    );
    let stranger = Command::RegisterAgents(vec![world.plain(6)]);
    assert_eq!(
        world.run(agent(1), stranger).unwrap_err().code(),
        "forbidden"
    );
}

#[test]
fn at_most_64_proposals_close_in_one_entry_in_deadline_order() {
    let mut world = World::with_agents(1);
    let deadline = LedgerTime(world.now + 60_000).rfc3339();
    for _ in 0..100 {
        world
            .propose_with(json!({"open": false, "voting_deadline": deadline}))
            .unwrap();
    }
    world.now += 60_001;
    world.events.clear();
    world.tick_at(world.now);
    let closed = |world: &World| {
        world
            .events
            .iter()
            .filter_map(|event| match event {
                EventKind::ConsensusReached { proposal, .. } => Some(proposal.0),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(closed(&world), (1..=64).collect::<Vec<_>>());
    world.tick_at(world.now);
    assert_eq!(closed(&world), (1..=100).collect::<Vec<_>>());
    assert_eq!(world.ledger.next_due(), None);
}

#[test]
fn tokens_are_issued_once_and_end() {
    let mut world = World::with_agents(1);
    let secret = aegis_crypto::Digest::of("s");
    let issue = Command::IssueToken {
        agent: id(1),
        secret,
    };
    assert_eq!(
        world.run(agent(1), issue.clone()).unwrap_err().code(),
        "forbidden"
    );
    assert_eq!(world.admin(issue).unwrap(), Receipt::Token(TokenNo(1)));
    world
        .admin(Command::RevokeToken { token: TokenNo(1) })
        .unwrap();
    assert!(
        query::token(&world.tables, TokenNo(1))
            .unwrap()
            .unwrap()
            .revoked_at
            .is_some()
    );
    assert_eq!(
        world
            .admin(Command::RevokeToken { token: TokenNo(2) })
            .unwrap_err()
            .code(),
        "unknown_token"
    );
}

#[test]
fn lists_are_paged_and_events_resume() {
    let mut world = World::with_agents(5);
    for _ in 0..7 {
        world.propose();
    }
    let no = ProposalNo(3);
    for voter in 1..=4 {
        world.cast(voter, no, Choice::For).unwrap();
    }
    let filter = query::ProposalFilter {
        statuses: vec![Status::Voting],
        ..Default::default()
    };
    let first = query::proposals(&world.tables, &filter, None, 5).unwrap();
    let second = query::proposals(&world.tables, &filter, first.next, 5).unwrap();
    let numbers: Vec<_> = first
        .items
        .iter()
        .chain(&second.items)
        .map(|view| view.record.no.0)
        .collect();
    assert_eq!((numbers, second.next), (vec![7, 6, 5, 4, 3, 2, 1], None));
    let all = query::proposals(&world.tables, &Default::default(), Some(ProposalNo(3)), 5).unwrap();
    assert_eq!(all.items.len(), 2);

    let votes = query::ballots(&world.tables, no, None, 3).unwrap();
    let rest = query::ballots(&world.tables, no, votes.next, 3).unwrap();
    assert_eq!(
        (votes.items.len(), rest.items.len(), rest.next),
        (3, 1, None)
    );
    let mine = query::voter_ballots(&world.tables, &id(2), None, 10).unwrap();
    assert_eq!(mine.items.len(), 1);
    assert_eq!(
        query::agents(&world.tables, Some(&id(3)), 10)
            .unwrap()
            .items
            .len(),
        2
    );

    let position = EventPosition {
        index: LogIndex(0),
        ordinal: 0,
    };
    let from = query::event_number(&world.tables, position)
        .unwrap()
        .unwrap();
    let query::Events::Page { events, next } = query::events(&world.tables, from, 100).unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (events.len() as u64, next),
        (world.events.len() as u64, world.events.len() as u64)
    );
    let third = events[2].position;
    assert_eq!(query::event_number(&world.tables, third).unwrap(), Ok(2));
    let verdict = query::verify_audit(&world.tables).unwrap();
    assert_eq!(
        (verdict.fault, verdict.head),
        (None, query::core(&world.tables).unwrap().audit_head)
    );
}

#[test]
fn only_the_cluster_itself_begins_an_incarnation() {
    let mut world = World::with_agents(1);
    let head = query::core(&world.tables).unwrap().audit_head;
    let restored = Command::Restored {
        incarnation: 7,
        head,
    };
    assert_eq!(
        world.admin(restored.clone()).unwrap_err().code(),
        "forbidden"
    );
    world.run(Principal::System, restored).unwrap();
    assert_eq!(query::core(&world.tables).unwrap().incarnation, 7);
}

#[test]
fn no_agent_takes_the_name_of_another_principal() {
    let mut world = World::new();
    for name in Principal::RESERVED {
        let mut registration = world.plain(1);
        registration.id = Some(name.parse().unwrap());
        let refusal = world.register(vec![registration]).remove(0).unwrap_err();
        assert_eq!(refusal.code(), "invalid_field", "{name}");
    }
    let shown = [
        Principal::System,
        Principal::Administrator,
        Principal::Voters,
    ]
    .map(|principal| principal.to_string());
    assert_eq!(
        shown.map(|name| Principal::RESERVED.contains(&name.as_str())),
        [true; 3]
    );
}

/// Proposes as `a1` with a statement whose claims were altered first.
fn propose_signed(
    world: &mut World,
    alter: impl FnOnce(&mut aegis_crypto::claims::ProposalClaims),
) -> Result<Receipt, Refusal> {
    let raw = json!({"title": "T", "description": "D", "type": "decision", "content": {}});
    let document = aegis_crypto::canonicalize(&raw.to_string(), 16).unwrap();
    let mut claims = aegis_crypto::claims::ProposalClaims {
        aud: world.genesis.cluster_id(),
        sub: id(1).into(),
        digest: aegis_crypto::Digest::of(&document),
        jti: "j".to_owned(),
        iat: (world.now / 1_000) as i64,
        exp: None,
    };
    alter(&mut claims);
    let signature =
        aegis_crypto::jws::sign(aegis_crypto::Typ::PROPOSAL, &secret(1), &claims).unwrap();
    world.run(
        agent(1),
        Command::Propose {
            document,
            signature: Some(signature),
        },
    )
}

#[test]
fn a_signed_proposal_is_for_this_document_and_this_day() {
    let mut world = World::with_agents(1);
    let kept_s = REQUEST_KEPT_S as i64;
    type Alter = fn(&mut aegis_crypto::claims::ProposalClaims);
    let cases: [(&str, Alter); 5] = [
        ("statement_mismatch", |c| c.aud = aegis_crypto::Digest::ZERO),
        ("statement_mismatch", |c| c.sub = "a2".to_owned()),
        ("statement_mismatch", |c| {
            c.digest = aegis_crypto::Digest::ZERO
        }),
        ("expired_statement", |c| c.iat += 61),
        ("expired_statement", |c| c.exp = Some(c.iat - 61)),
    ];
    for (code, alter) in cases {
        assert_eq!(propose_signed(&mut world, alter).unwrap_err().code(), code);
    }
    // Its jti is forgotten after a day, so a statement must be younger than that.
    let old = propose_signed(&mut world, |c| c.iat -= kept_s - LEEWAY_S + 1).unwrap_err();
    assert_eq!(old.code(), "expired_statement");
    propose_signed(&mut world, |c| c.iat -= kept_s - LEEWAY_S).unwrap();
    propose_signed(&mut world, |_| ()).unwrap();
}
