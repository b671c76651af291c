//! Keyed requests: what a repeat gets, and for how long.

use aegis_crypto::Digest;
use aegis_ledger::*;

use crate::world::*;

/// A request of the administrator, to submit a draft.
fn request(key: &str, body: &str) -> Entry {
    Entry {
        principal: Principal::Administrator,
        request: Some(RequestKey {
            key: key.to_owned(),
            body: Digest::of(body),
        }),
        command: Command::Propose {
            document: r#"{"content":{},"description":"","title":"T","type":"decision"}"#.into(),
            signature: None,
        },
    }
}

fn rows(world: &World) -> (usize, usize) {
    (
        world.tables.rows(Table::Requests),
        world.tables.rows(Table::RequestExpiry),
    )
}

#[test]
fn a_keyed_request_is_answered_once() {
    let mut world = World::with_agents(1);
    let first = world.apply(request("k", "b"));
    let again = world.apply(request("k", "b"));
    assert_eq!(first, again);
    assert_eq!(query::core(&world.tables).unwrap().proposals, 1);
    let other = world.apply(request("k", "c"));
    assert_eq!(other.outcome.unwrap_err().code(), "idempotency_mismatch");
    world.now += (REQUEST_KEPT_S + 1) * 1_000;
    let later = world.apply(request("k", "c"));
    assert!(later.outcome.is_ok(), "keys are free again after a day");
    assert_eq!(rows(&world), (1, 1));
}

/// The rows of the first day are cleared a few at a time. That of a key which is used
/// again meanwhile says nothing about the new answer.
#[test]
fn a_key_used_again_outlives_the_expiry_of_its_first_use() {
    let mut world = World::with_agents(1);
    for n in 0..20 {
        world.apply(request(&format!("k{n}"), "b")).outcome.unwrap();
    }
    world.now += REQUEST_KEPT_S * 1_000 + 1;
    let first = world.apply(request("k19", "b"));
    for n in 0..10 {
        world.apply(request(&format!("n{n}"), "b")).outcome.unwrap();
    }
    assert_eq!(world.apply(request("k19", "b")), first);
    assert_eq!(query::core(&world.tables).unwrap().proposals, 20 + 1 + 10);
    assert_eq!(rows(&world), (11, 11), "nothing of the first day is left");

    world.now += REQUEST_KEPT_S * 1_000 + 1;
    for n in 0..4 {
        world.apply(request(&format!("m{n}"), "b")).outcome.unwrap();
    }
    assert_eq!(rows(&world), (4, 4), "nor of the second");
}

#[test]
fn an_answer_is_kept_for_the_whole_day_and_no_longer() {
    let mut world = World::with_agents(1);
    let first = world.apply(request("k", "b"));
    world.now += REQUEST_KEPT_S * 1_000;
    assert_eq!(world.apply(request("k", "b")), first);
    world.now += 1;
    assert_ne!(world.apply(request("k", "b")), first);
}
