//! Statements: their one spelling, and where each of their members comes from.

use aegis_crypto::{Digest, Jwk, canonicalize, merkle};
use aegis_ledger::*;
use serde_json::{Value, json};

use crate::world::*;

/// Three voters, one of whom contradicts itself, on a proposal that is approved.
fn world() -> World {
    let mut world = World::with_committee(4).and_agents(3);
    let no = world.propose();
    for (voter, choice) in [(1, Choice::For), (2, Choice::Against)] {
        world.now += 1_000;
        world.cast(voter, no, choice).unwrap();
    }
    world.cast(2, no, Choice::For).unwrap_err();
    world.now += 1_000;
    world.cast(3, no, Choice::For).unwrap();
    world
}

fn value(statement: &Statement) -> Value {
    serde_json::from_str(&statement.to_canonical()).unwrap()
}

#[test]
fn a_statement_has_the_members_that_are_written_down() {
    let world = world();
    let statement = world.statement(1).unwrap();
    let record = world.view(ProposalNo(1)).record;
    let frozen = record.frozen.unwrap();
    let ballots = query::ballots(&world.tables, ProposalNo(1), None, 10).unwrap();
    let closing = query::closing(&world.tables, Ordinal(1)).unwrap().unwrap();
    let audit = query::audit(&world.tables, closing.audit_entry, 1).unwrap();
    let document = query::document(&world.tables, ProposalNo(1)).unwrap();
    let jws = |n: usize| ballots.items[n].1.jws.as_bytes();
    let result = concat!(
        r#"{"choices":{"abstain":{"heads":"0","power":"0"},"#,
        r#""against":{"heads":"1","power":"1000000000"},"for":{"heads":"2","power":"2000000000"}},"#,
        r#""rules":{"electorate_size":"3","method":"simple_majority","#,
        r#""policy":{"name":"standard","version":"1"},"power_total":"3000000000","#,
        r#""quorum_required":"1","tally_version":"1","threshold":"0.501"}}"#
    );
    // SHA-256 over the fields that the module's head names, one after the other.
    let evidence = {
        let [EvidenceRecord::Equivocation { other, time, .. }] =
            &query::evidence(&world.tables, ProposalNo(1)).unwrap()[..]
        else {
            panic!()
        };
        let mut bytes = Vec::new();
        let mut text = |text: &[u8]| {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text);
        };
        text(b"aegis/evidence/1");
        text(b"equivocation");
        text(b"a2");
        bytes.extend(1_u64.to_be_bytes());
        bytes.extend(2_u64.to_be_bytes());
        bytes.extend((other.len() as u64).to_be_bytes());
        bytes.extend(other.as_bytes());
        bytes.extend(time.0.to_be_bytes());
        Digest::of(bytes)
    };
    assert_eq!(
        value(&statement),
        json!({
            "audit_entry": closing.audit_entry.to_string(),
            "audit_hash": audit.items[0].hash,
            "ballots_count": "3",
            "ballots_root": merkle::root([jws(0), jws(1), jws(2)].into_iter()),
            "closed_at": world.now.to_string(),
            "cluster": world.genesis.cluster_id(),
            "evidence": evidence,
            "final_after": (world.now + 259_200_000).to_string(),
            "incarnation": "0",
            "index": world.index.to_string(),
            "ordinal": "1",
            "outcome": "approved",
            "proposal": "prop_1",
            "proposal_digest": Digest::of(document.unwrap()),
            "result": Digest::of(result),
            "round": "1",
            "version": "1",
            "voting": {
                "digest": frozen.voting_digest,
                "electorate_root": frozen.electorate_root,
                "electorate_size": "3",
            },
        })
    );
    assert_eq!(audit.items[0].kind, "closing");
}

#[test]
fn a_statement_is_canonical_and_parses_back() {
    let mut world = world();
    let change =
        json!({"add": {"name": "v9", "public_key": Jwk::from(secret(VALIDATOR + 9).public())}});
    let no = world.propose_change(change).unwrap();
    world.approve(no, 1..=3);
    for ordinal in [1, 2] {
        let statement = world.statement(ordinal).unwrap();
        let text = statement.to_canonical();
        assert_eq!(canonicalize(&text, 16).unwrap(), text);
        aegis_crypto::certificate::check_statement(&text).unwrap();
        assert_eq!(Statement::parse(&text), Ok(statement.clone()));
        assert_eq!(statement.differs_from(&text), None);
    }
    let next = world.statement(2).unwrap();
    let text = next.to_canonical();
    for odd in [
        text.replace("{", "{ "),
        text.replace("\"round\":\"1\"", "\"round\":1"),
        text.replace("\"round\":\"1\"", "\"round\":\"01\""),
        text.replace("\"round\":\"1\"", "\"round\":\"+1\""),
        text.replace("\"round\":\"1\"", "\"round\":\"4294967296\""),
        text.replace("\"round\":\"1\",", ""),
        text.replace("\"round\":\"1\"", "\"round\":\"1\",\"supersedes\":null"),
        text.replace("\"round\":\"1\"", "\"round\":\"1\",\"surprise\":\"1\""),
        text.replace("\"version\":\"1\"", "\"version\":\"2\""),
        text.replace("\"prop_2\"", "\"prop_02\""),
        text.replace("approved", "adopted"),
        text.replace("\"epoch\":\"1\"", "\"epoch\":\"-1\""),
        format!("{text} "),
        "{}".to_owned(),
        "[]".to_owned(),
        format!(
            "{}{}",
            text,
            " ".repeat(Statement::WITH_COMMITTEE_BYTES_MAX)
        ),
    ] {
        assert_ne!(odd, text);
        assert!(Statement::parse(&odd).is_err(), "{odd}");
    }
    let superseding = Statement {
        supersedes: Some(Ordinal(1)),
        ..next
    };
    let text = superseding.to_canonical();
    assert!(text.contains("\"round\":\"1\",\"supersedes\":\"1\",\"version\""));
    assert_eq!(Statement::parse(&text), Ok(superseding));
}

/// Each number at its longest, and as many seats with names as long as there may be.
#[test]
fn the_longest_statement_is_within_its_bounds() {
    let seat = |n: u32| SeatRecord {
        name: format!("v{n:063}").parse().unwrap(),
        public_key: secret(n).public().into(),
    };
    let plain = Statement {
        audit_entry: u64::MAX,
        ballots_count: u64::MAX,
        closed_at: LedgerTime(u64::MAX),
        final_after: LedgerTime(u64::MAX),
        incarnation: u64::MAX,
        index: LogIndex(u64::MAX),
        ordinal: Ordinal(u64::MAX),
        proposal: ProposalNo(u64::MAX),
        round: u32::MAX,
        supersedes: Some(Ordinal(u64::MAX)),
        outcome: Outcome::NoQuorum,
        ..world().statement(1).unwrap()
    };
    let len = plain.to_canonical().len();
    assert!(len <= Statement::BYTES_MAX / 2, "{len}");
    let epoch = Statement {
        next_committee: Some(NextCommittee {
            epoch: u64::MAX,
            seats: (0..31).map(seat).collect(),
        }),
        ..plain
    };
    let len = epoch.to_canonical().len();
    assert!(len <= Statement::WITH_COMMITTEE_BYTES_MAX / 2, "{len}");
    assert_eq!(Statement::parse(&epoch.to_canonical()), Ok(epoch));
}

/// A restore draws another incarnation, in which validators sign whatever is not certified.
/// What is certified keeps its statement.
#[test]
fn a_statement_is_of_the_incarnation_that_certifies_it() {
    let mut world = World::with_committee(4).and_agents(3);
    for _ in 0..2 {
        let no = world.propose();
        world.approve(no, 1..=3);
    }
    world.certify(1);
    let certified = world.statement(1).unwrap();
    let head = query::core(&world.tables).unwrap().audit_head;
    let restored = Command::Restored {
        incarnation: 7,
        head,
    };
    world.run(Principal::System, restored).unwrap();
    assert_eq!(world.statement(1).unwrap(), certified);
    assert_eq!(certified.incarnation, 0);
    assert_eq!(world.statement(2).unwrap().incarnation, 7);
    world.certify(2);
    assert_eq!(world.statement(2).unwrap().incarnation, 7);
    assert_eq!(world.statement(3), None);
}

/// The conflicting ballot and the one that closes may come in one entry.
#[test]
fn evidence_of_the_closing_entry_itself_is_covered() {
    let ballots = |world: &World| {
        let no = ProposalNo(1);
        vec![
            world.sign(1, &world.vote(1, no, Choice::Against)),
            world.sign(2, &world.vote(2, no, Choice::For)),
        ]
    };
    let closed = |together: bool| {
        let mut world = World::with_agents(2);
        let no = world.propose();
        world.cast(1, no, Choice::For).unwrap();
        let ballots = ballots(&world);
        let batches = if together {
            vec![ballots]
        } else {
            ballots.into_iter().map(|ballot| vec![ballot]).collect()
        };
        for batch in batches {
            world.run(Principal::Voters, Command::Cast(batch)).unwrap();
        }
        world.statement(1).unwrap().evidence
    };
    assert_eq!(closed(true), closed(false));
    let none = Digest::of([&16_u64.to_be_bytes()[..], b"aegis/evidence/1"].concat());
    assert_ne!(closed(true), none);
}
