//! The audit chain over HTTP.

use aegis_crypto::Digest;
use aegis_crypto::merkle::{leaf_hash, verify_consistency, verify_inclusion};
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

fn digest(value: &Value) -> Digest {
    serde_json::from_value(value.clone()).unwrap()
}

fn digests(value: &Value) -> Vec<Digest> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Every entry in every tree, and every tree in every later one, with or without a committee.
#[tokio::test]
async fn every_entry_and_every_growth_is_proved() {
    let world = some_history().await;
    let entries = walk(&world, "/audit?limit=1000", "entries", 1_000).await;
    let mut roots = vec![Digest::of([])];
    for size in 1..=13 {
        for entry in 0..size {
            let path = format!("/audit/proof?entry={entry}&size={size}");
            let proof = world.read(&path).await;
            let hash = digest(&entries[usize::try_from(entry).unwrap()]["hash"]);
            let leaf = leaf_hash(hash.as_bytes());
            assert_eq!(digest(&proof["leaf_hash"]), leaf);
            let (nodes, root) = (digests(&proof["proof"]), digest(&proof["root"]));
            verify_inclusion(&leaf, entry, size, &nodes, &root).unwrap();
            assert_eq!(
                (&proof["entry"], &proof["size"]),
                (&json!(entry), &json!(size))
            );
            if entry == 0 {
                roots.push(root);
            }
            assert_eq!(roots.last(), Some(&root));
        }
    }
    for (to, new) in (0..).zip(&roots) {
        for (from, old) in (0..=to).zip(&roots) {
            let path = format!("/audit/consistency?from={from}&to={to}");
            let proof = world.read(&path).await;
            assert_eq!(
                (digest(&proof["from_root"]), digest(&proof["to_root"])),
                (*old, *new)
            );
            verify_consistency(from, old, to, new, &digests(&proof["proof"])).unwrap();
        }
    }
    // The tree of all entries is meant if none is named.
    let newest = world.read("/audit/proof?entry=4&size=13").await;
    assert_eq!(world.read("/audit/proof?entry=4").await, newest);
    let newest = world.read("/audit/consistency?from=5&to=13").await;
    assert_eq!(world.read("/audit/consistency?from=5").await, newest);
}

#[tokio::test]
async fn what_is_not_there_is_not_proved() {
    let world = some_history().await;
    for (path, said) in [
        ("/audit/proof?entry=13", "0 to 12"),
        ("/audit/proof?entry=5&size=5", "0 to 4"),
        ("/audit/proof?entry=0&size=14", "0 to 13"),
        ("/audit/proof?entry=0&size=0", "a tree of 0 entries"),
        ("/audit/proof?entry=18446744073709551615", "0 to 12"),
        ("/audit/proof?entry=0&size=18446744073709551615", "0 to 13"),
        ("/audit/consistency?from=14", "0 to 13"),
        ("/audit/consistency?from=6&to=5", "0 to 5"),
        ("/audit/consistency?from=0&to=14", "0 to 13"),
    ] {
        let refused = world.get(path).send().await;
        let detail = refused.problem(422, "out_of_range");
        assert!(detail.contains(said), "{path}: {detail}");
        assert_eq!(refused.index(), world.node.index());
    }
    for (path, said) in [
        ("/audit/proof", "`entry` is missing"),
        ("/audit/proof?size=3", "`entry` is missing"),
        ("/audit/proof?entry=", "`entry` is missing"),
        ("/audit/proof?entry=-1", "`entry` is `-1`"),
        ("/audit/proof?entry=1e2", "`entry` is `1e2`"),
        ("/audit/proof?entry=18446744073709551616", "not the number"),
        ("/audit/proof?entry=1&entry=2", "given twice"),
        ("/audit/proof?entry=1&to=2", "not a parameter"),
        ("/audit/consistency?to=5", "`from` is missing"),
        ("/audit/consistency?from=0&to=x", "`to` is `x`"),
        ("/audit/consistency?from=0&size=1", "not a parameter"),
    ] {
        let detail = world.get(path).send().await.problem(400, "invalid_query");
        assert!(detail.contains(said), "{path}: {detail}");
    }
    let empty = World::new().await;
    let detail = empty
        .get("/audit/proof?entry=0")
        .send()
        .await
        .problem(422, "out_of_range");
    assert!(
        detail.contains("ask again once something happened"),
        "{detail}"
    );
    let nothing = empty.read("/audit/consistency?from=0").await;
    assert_eq!(nothing["to_root"], Digest::of([]).to_string());
}
