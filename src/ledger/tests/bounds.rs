//! What grows has a bound, so that no record outgrows what storage takes: such a record
//! would stop every node at the entry that it comes of.

use aegis_ledger::*;
use serde_json::json;

use crate::world::*;

/// The longest value that storage takes.
const VALUE_BYTES_MAX: usize = 16 << 20;

#[test]
fn the_largest_electorate_fits_into_its_record() {
    let largest = Elector {
        agent: AgentNo(u32::MAX),
        id: "a".repeat(AgentId::BYTES_MAX).parse().unwrap(),
        power: Ppb(u64::MAX),
    };
    let record = ElectorateRecord {
        electors: vec![largest; ELECTORATE_MAX],
    };
    let value = record.put(Vec::new()).value.unwrap();
    assert!(value.len() <= VALUE_BYTES_MAX / 2, "{} bytes", value.len());
}

#[test]
fn electors_stand_in_the_order_of_their_ids_however_they_are_named() {
    let mut world = World::with_agents(12);
    let no = world
        .propose_with(json!({"electorate": ["a9", "a10", "a2", "a1"]}))
        .unwrap();
    let electorate = query::electorate(&world.tables, no).unwrap().unwrap();
    let ids = electorate
        .electors
        .iter()
        .map(|elector| elector.id.as_str());
    assert_eq!(ids.collect::<Vec<_>>(), ["a1", "a10", "a2", "a9"]);
}

#[test]
fn an_agent_has_had_so_many_keys_and_no_more() {
    let mut world = World::with_agents(2);
    let mut fresh = 1_000;
    let mut replace = |world: &mut World, by: Principal| {
        fresh += 1;
        let command = Command::ReplaceKey {
            agent: id(1),
            key: secret(fresh).public().into(),
            attestation: None,
            proof: None,
        };
        world.run(by, command)
    };
    for _ in 0..RETIRED_KEYS_BY_AGENT_MAX {
        replace(&mut world, agent(1)).unwrap();
    }
    let refusal = replace(&mut world, agent(1)).unwrap_err();
    assert_eq!(refusal.code(), "policy_violation");
    assert_eq!(
        refusal.to_string(),
        "retired_keys_max: the agent has had 64 keys before this one, at most 64; \
         ask the administrator to replace it"
    );
    // The administrator can still take the agent back from whoever exhausted its own.
    for _ in RETIRED_KEYS_BY_AGENT_MAX..RETIRED_KEYS_MAX {
        replace(&mut world, Principal::Administrator).unwrap();
    }
    for by in [agent(1), Principal::Administrator] {
        assert_eq!(
            replace(&mut world, by).unwrap_err().code(),
            "policy_violation"
        );
    }
    let record = query::agent(&world.tables, &id(1)).unwrap().unwrap();
    assert_eq!(record.retired.len(), RETIRED_KEYS_MAX);
    // No key of all these is taken again, by nobody, after a restart either.
    world.ledger = Ledger::load(&world.tables, &world.genesis).unwrap();
    for seed in [1, 1_001, 1_000 + 64] {
        let registration = Registration {
            key: secret(seed).public().into(),
            ..world.plain(9)
        };
        let refusal = world.register(vec![registration]).remove(0).unwrap_err();
        assert_eq!(refusal.code(), "key_in_use");
    }
}

#[test]
fn a_report_is_not_from_the_future() {
    let mut world = World::with_agents(1);
    let report = |measured_at| Command::Report {
        agent: id(1),
        report: Report {
            measured_at,
            phi_ppb: 0,
            coherence_ppb: 0,
            stability_ppb: 0,
            divergence_ppb: 0,
            consciousness_level_ppb: 0,
        },
    };
    let latest = LedgerTime(world.now).plus_s(60).0;
    for measured_at in [latest + 1, 253_402_300_799_999, u64::MAX] {
        let refusal = world.admin(report(measured_at)).unwrap_err();
        assert_eq!(refusal.code(), "invalid_field");
    }
    assert_eq!(
        world.admin(report(u64::MAX)).unwrap_err().to_string(),
        "`measured_at`: it is 9999-12-31T23:59:59.999Z, which is more than 60 s ahead of \
         ledger time 2026-05-28T20:26:40.000Z; set the oracle's clock"
    );
    world.admin(report(latest)).unwrap();
    world.now += 1;
    world.admin(report(latest + 1)).unwrap();
}

#[test]
fn what_the_edge_bounds_the_ledger_bounds_again() {
    let mut world = World::with_agents(1);
    let refused = |world: &mut World, entry: Entry| {
        let answer = world.apply(entry);
        let refusal = answer.outcome.unwrap_err();
        assert_eq!(refusal.code(), "invalid_field");
        refusal.to_string()
    };
    let plain = |command| Entry {
        principal: Principal::Administrator,
        request: None,
        command,
    };
    let many = vec![world.plain(2); BATCH_MAX + 1];
    assert_eq!(
        refused(&mut world, plain(Command::RegisterAgents(many))),
        "`agents`: it has 257 items, at most 256"
    );
    let ballot = Ballot {
        jws: String::new(),
        justification: None,
    };
    let many = Command::Cast(vec![ballot; BATCH_MAX + 1]);
    assert_eq!(
        refused(&mut world, plain(many)),
        "`votes`: it has 257 items, at most 256"
    );
    let keyed = |len: usize| Entry {
        request: Some(RequestKey {
            key: "k".repeat(len),
            body: aegis_crypto::Digest::ZERO,
        }),
        ..plain(Command::IssueToken {
            agent: id(1),
            secret: aegis_crypto::Digest::ZERO,
        })
    };
    assert_eq!(
        refused(&mut world, keyed(REQUEST_KEY_BYTES_MAX + 1)),
        "`request`: it has 257 bytes, at most 256"
    );
    assert_eq!(world.tables.rows(Table::Requests), 0);
    assert_eq!(world.tables.rows(Table::Tokens), 0);
    world.apply(keyed(REQUEST_KEY_BYTES_MAX)).outcome.unwrap();
    assert_eq!(world.tables.rows(Table::Requests), 1);
}
