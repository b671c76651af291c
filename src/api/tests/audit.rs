//! The audit chain over HTTP.

use aegis_ledger::Table;
use serde_json::{Value, json};

use crate::votes::walk;
use crate::world::*;

async fn some_history() -> World {
    let world = World::with_agents(2).await;
    for _ in 0..3 {
        let proposal = world.propose().await;
        world.cast(1, &proposal, "for").await;
        world.cast(2, &proposal, "against").await;
    }
    world
}

#[tokio::test]
async fn entries_are_walked_by_cursor_or_number() {
    let world = some_history().await;
    let walked = walk(&world, "/audit?limit=4", "entries", 4).await;
    // One for each command, and one for each close.
    assert_eq!(walked.len(), 1 + 3 * 4);
    for (seq, pair) in walked.windows(2).enumerate() {
        assert_eq!(pair[0]["seq"], seq);
        assert_eq!(pair[1]["previous"], pair[0]["hash"]);
    }
    let first = &walked[0];
    assert_eq!(first["kind"], "register_agents");
    assert_eq!(first["principal"], "administrator");
    assert_eq!(first["outcome"], "ok");
    assert_eq!(first["previous"], "0".repeat(64));
    let from = world.read("/audit?from=5&limit=2").await;
    assert_eq!(from["entries"], json!(walked[5..7]));
    let rest = world.read("/audit?from=5").await;
    assert_eq!(
        (&rest["entries"], &rest["next_cursor"]),
        (&json!(walked[5..]), &json!(null))
    );
    let cursor = from["next_cursor"].as_str().unwrap();
    let both = world
        .get(&format!("/audit?from=1&cursor={cursor}"))
        .send()
        .await;
    both.problem(400, "invalid_query");
}

#[tokio::test]
async fn the_chain_is_verified_and_a_fault_is_found() {
    let world = some_history().await;
    let verdict = world.read("/audit/verify").await;
    let head = world.read("/audit?from=12").await["entries"][0]["hash"].clone();
    assert_eq!(verdict, json!({"valid": true, "entries": 13, "head": head}));
    world
        .node
        .state
        .lock()
        .unwrap()
        .tables
        .alter(Table::Audit, &4_u64.to_be_bytes(), |entry| {
            // A byte of the digest of what was asked.
            let place = entry.len() - 70;
            entry[place] ^= 1;
        });
    let verdict = world.read("/audit/verify").await;
    assert_eq!(verdict["valid"], false);
    assert_eq!(verdict["entries"], 4);
    assert!(
        verdict["fault"].as_str().unwrap().contains("entry 4"),
        "{verdict}"
    );
}

#[tokio::test]
async fn an_export_is_the_whole_chain_line_by_line() {
    let world = World::with_agents(1).await;
    let proposal = world.propose().await;
    world.cast(1, &proposal, "for").await;
    for _ in 0..1_200 {
        world.node.apply(aegis_ledger::Entry {
            principal: aegis_ledger::Principal::System,
            request: None,
            command: aegis_ledger::Command::Tick,
        });
    }
    let export = world.get("/audit/export").token(ADMIN).send().await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let text = String::from_utf8(export.body.to_vec()).unwrap();
    let entries: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(entries.len(), 1_204);
    assert_eq!(
        entries[1_203]["hash"],
        world.read("/audit/verify").await["head"]
    );
    let walked = walk(&world, "/audit?limit=1000", "entries", 1_000).await;
    assert_eq!(entries, walked);
}

#[tokio::test]
async fn an_empty_chain_is_valid() {
    let world = World::new().await;
    let verdict = world.read("/audit/verify").await;
    assert_eq!(
        verdict,
        json!({"valid": true, "entries": 0, "head": "0".repeat(64)})
    );
    let export = world.get("/audit/export").token(ADMIN).send().await;
    assert_eq!((export.status.as_u16(), export.body.len()), (200, 0));
}
