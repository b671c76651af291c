//! Encodings are pinned by digest: a change to what is stored or logged is never an accident.

use aegis_crypto::Digest;
use aegis_ledger::*;

use crate::world::*;

#[test]
fn entries_encode_as_they_always_did() {
    let entry = |principal, command| {
        Entry {
            principal,
            request: None,
            command,
        }
        .encode()
    };
    let tick = entry(Principal::System, Command::Tick);
    assert_eq!(hex(&tick), "00000000");
    let step = entry(
        agent(1),
        Command::Step {
            proposal: ProposalNo(300),
            step: Step::Cancel,
        },
    );
    assert_eq!(hex(&step), "0002026131000".to_owned() + "8ac0202");
    let cast = entry(
        Principal::Voters,
        Command::Cast(vec![Ballot {
            jws: "a.b.c".into(),
            justification: Some("x".into()),
        }]),
    );
    assert_eq!(hex(&cast), "000300090105612e622e630101".to_owned() + "78");
    let certificate = entry(
        Principal::System,
        Command::RecordCertificate {
            ordinal: Ordinal(300),
            envelope: "{}".into(),
        },
    );
    assert_eq!(hex(&certificate), "0000000bac02027b7d");
}

#[test]
fn what_no_version_wrote_is_refused() {
    let bytes = Entry {
        principal: Principal::System,
        request: None,
        command: Command::Tick,
    }
    .encode();
    assert!(Entry::decode(&bytes).is_ok());
    for cut in 0..bytes.len() {
        assert!(Entry::decode(&bytes[..cut]).is_err());
    }
    assert!(
        Entry::decode(&[&bytes[..], &[0]].concat()).is_err(),
        "trailing bytes"
    );
    assert!(Entry::decode(&[1, 0, 0, 0]).is_err(), "a version to come");
}

#[test]
fn a_history_leaves_the_tables_that_it_always_left() {
    let mut world = World::with_agents(4);
    let no = world.propose();
    for (voter, choice) in [
        (1, Choice::For),
        (2, Choice::For),
        (3, Choice::Against),
        (4, Choice::Abstain),
    ] {
        world.now += 1_000;
        world.cast(voter, no, choice).unwrap();
    }
    assert_eq!(world.status(no), Status::Approved);
    let digest = world.tables.digest();
    let pinned: Digest = PINNED_STATE.parse().unwrap();
    assert_eq!(
        digest, pinned,
        "the stored formats or the rules changed: old clusters must still replay"
    );
}

const PINNED_STATE: &str = "cf59bd553b545d0432ccebc5a4e9eeb5f1ddd01d44ed4ccd6346019e34250e5f";

/// The same where there is a committee: a decision, a change of the committee and their
/// certificates, a ballot that conflicts and a key that was replaced.
#[test]
fn a_certified_history_leaves_the_tables_that_it_always_left() {
    let mut world = World::with_committee(4).and_agents(3);
    let no = world.propose();
    world.cast(1, no, Choice::For).unwrap();
    world.cast(1, no, Choice::Against).unwrap_err();
    let plain = world.plain(9);
    world.register(vec![plain]).remove(0).unwrap();
    let replace = Command::ReplaceKey {
        agent: id(9),
        key: secret(10).public().into(),
        attestation: None,
        proof: None,
    };
    world.admin(replace).unwrap();
    world.approve(no, 2..=3);
    let change = serde_json::json!({"remove": {"name": "v1"}});
    let no = world.propose_change(change).unwrap();
    world.approve(no, 1..=3);
    let statements = [1, 2].map(|ordinal| world.statement(ordinal).unwrap().to_canonical());
    for ordinal in [1, 2] {
        world.certify(ordinal);
    }
    let found = [Digest::of(statements.concat()), world.tables.digest()];
    assert_eq!(
        found.map(|digest| digest.to_string()),
        PINNED_CERTIFIED,
        "statements that were certified must still come out as they were"
    );
}

/// The statements, and the tables.
const PINNED_CERTIFIED: [&str; 2] = [
    "61e3b09de28fcf42e27af240f9fa4f9fa4e273b687a54ab18ef41c5df5ffc60f",
    "cdb67977e318463cc80eb8d9bcf82440f1fcd7be641179d2841ccffb284eb7e6",
];

/// Snapshots count records by a table's place, and scripts ask for them by its name.
#[test]
fn tables_have_a_place_and_a_name_each() {
    let ids: Vec<_> = Table::ALL.map(Table::id).into();
    assert_eq!(ids, (0..22).collect::<Vec<u8>>());
    assert_eq!(Table::from_id(22), None);
    assert_eq!(
        Table::ALL.map(Table::name).join(" "),
        "core agents proposals open_proposals documents electorates tallies ballots \
         ballots_by_voter closings audit_entries tokens requests request_expiry evidence \
         events justifications committees certificates uncertified_closings audit_subtrees \
         retired_keys"
    );
}

#[test]
fn events_that_are_no_longer_kept_are_said_to_be_gone() {
    let tables = world_with_many_events();
    let core = query::core(&tables).unwrap();
    let gone = query::events(&tables, 0, 10).unwrap();
    assert!(matches!(gone, query::Events::Gone { .. }));
    let oldest = core.events - EVENTS_KEPT;
    assert!(matches!(
        query::events(&tables, oldest, 10).unwrap(),
        query::Events::Page { .. }
    ));
    let start = EventPosition {
        index: LogIndex(0),
        ordinal: 0,
    };
    assert!(query::event_number(&tables, start).unwrap().is_err());
}

/// Tables as a long history leaves them, without playing it.
fn world_with_many_events() -> Tables {
    let mut tables = Tables::default();
    let total = EVENTS_KEPT + 10;
    let core = CoreRecord {
        events: total,
        ..CoreRecord::default()
    };
    let mut changes = vec![core.put(Vec::new())];
    for number in 10..total {
        let event = Event {
            position: EventPosition {
                index: LogIndex(number),
                ordinal: 0,
            },
            time: LedgerTime(0),
            kind: EventKind::ProposalUpdated {
                proposal: ProposalNo(1),
                status: Status::Voting,
            },
        };
        changes.push(event.put(key::number(number)));
    }
    tables.write(changes);
    tables
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
