//! The committee over HTTP: its seats, its checkpoint, and evidence against its members.

use aegis_api::Contradiction;
use aegis_crypto::note::{CheckpointBody, Note};
use aegis_crypto::{Committee, Digest, SeatNo};
use aegis_ledger::Ordinal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::votes::walk;
use crate::world::*;

#[tokio::test]
async fn the_committee_is_shown_with_its_keys_and_its_arithmetic() {
    let world = World::with_committee(4, 1).await;
    let shown = world.read("/committee").await;
    for (field, value) in [
        ("epoch", json!(0)),
        ("since", json!(1)),
        ("n", json!(4)),
        ("tolerates", json!(1)),
        ("quorum", json!(3)),
        // This node has no seat.
        ("seat", json!(null)),
        ("view", json!(null)),
        ("primary", json!(null)),
        ("changing_view", json!(null)),
        ("watermarks", json!(null)),
        ("certified_through", json!(null)),
        ("stable_checkpoint", json!(null)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert!(shown.get("warning").is_none());
    let member = |n: u32| {
        let kid = secret(VALIDATOR + n).public().kid().to_string();
        json!({
            "seat": n, "name": format!("v{n}"), "public_key": jwk(VALIDATOR + n), "kid": kid,
            "committed": null,
        })
    };
    assert_eq!(
        shown["members"],
        json!([member(0), member(1), member(2), member(3)])
    );
}

#[tokio::test]
async fn a_node_with_a_seat_says_where_it_stands() {
    let world = World::with_committee(4, 1).await;
    let proposal = world.propose().await;
    world.approve(&proposal, 1).await;
    world.certify(1);
    world.seat(0, Some(world.checkpoint(1)));
    let shown = world.read("/committee").await;
    for (field, value) in [
        ("seat", json!(2)),
        ("view", json!(7)),
        ("primary", json!(3)),
        ("changing_view", json!(false)),
        ("watermarks", json!({"low": 0, "high": 128})),
        ("certified_through", json!(4)),
        ("stable_checkpoint", json!(1)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    let members = shown["members"].as_array().unwrap().iter();
    let committed: Vec<_> = members.map(|member| member["committed"].clone()).collect();
    assert_eq!(committed, [5, 4, 5, 0]);
    // A seat of another epoch than the one that is shown says nothing about it.
    world.seat(1, None);
    assert_eq!(world.read("/committee").await["view"], json!(null));
}

#[tokio::test]
async fn a_committee_that_no_liar_may_sit_in_says_so() {
    for (seats, quorum) in [(1, 1), (2, 2), (3, 2)] {
        let world = World::with_committee(seats, 0).await;
        let shown = world.read("/committee").await;
        assert_eq!(
            (&shown["tolerates"], &shown["quorum"]),
            (&json!(0), &json!(quorum))
        );
        let warning = shown["warning"].as_str().unwrap();
        assert!(
            warning.contains("one lying validator is not tolerated"),
            "{warning}"
        );
    }
}

#[tokio::test]
async fn earlier_epochs_stay_known() {
    let world = World::with_committee(4, 1).await;
    let added = json!({"add": {"name": "v4", "public_key": jwk(VALIDATOR + 4)}});
    let proposal = world
        .propose_with(json!({
            "type": "configuration_change", "content": {"committee": added}, "open": true,
        }))
        .await;
    world.approve(&proposal, 1).await;
    let before = world.read("/committee").await;
    let detail = world
        .get("/committee?epoch=1")
        .send()
        .await
        .problem(404, "unknown_epoch");
    assert!(detail.contains("newest is epoch 0"), "{detail}");
    world.certify(1);
    let after = world.read("/committee").await;
    assert_eq!(
        (&after["epoch"], &after["since"], &after["n"]),
        (&json!(1), &json!(2), &json!(5))
    );
    assert_eq!(after["members"][4]["name"], "v4");
    assert_eq!(world.read("/committee?epoch=1").await, after);
    assert_eq!(world.read("/committee?epoch=0").await, before);
    for text in ["-1", "x", "1.0", "18446744073709551616", "0&epoch=1"] {
        let path = format!("/committee?epoch={text}");
        world.get(&path).send().await.problem(400, "invalid_query");
    }
    let path = format!("/committee?epoch={}", u64::MAX);
    world.get(&path).send().await.problem(404, "unknown_epoch");
}

#[tokio::test]
async fn without_a_committee_there_is_guidance() {
    let world = World::new().await;
    for path in ["/committee", "/committee?epoch=0", "/committee/evidence"] {
        let detail = world.get(path).send().await.problem(404, "no_committee");
        assert!(detail.contains("genesis document"), "{detail}");
    }
    let detail = world
        .get("/checkpoint")
        .send()
        .await
        .problem(404, "no_checkpoint");
    assert!(detail.contains("no committee"), "{detail}");
    assert_eq!(world.read("/status").await["committee"], json!(null));
}

#[tokio::test]
async fn a_checkpoint_is_served_byte_for_byte() {
    let world = World::with_committee(4, 1).await;
    let detail = world
        .get("/checkpoint")
        .send()
        .await
        .problem(404, "no_checkpoint");
    assert!(detail.contains("no seat"), "{detail}");
    world.seat(0, None);
    let detail = world
        .get("/checkpoint")
        .send()
        .await
        .problem(404, "no_checkpoint");
    assert!(detail.contains("signed no checkpoint yet"), "{detail}");
    let proposal = world.propose().await;
    world.approve(&proposal, 1).await;
    world.certify(1);
    let note = world.checkpoint(1);
    world.seat(0, Some(note.clone()));
    let served = world.get("/checkpoint").send().await;
    assert_eq!(served.status, 200);
    assert_eq!(served.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(served.body, note);
    // Anyone verifies it with the keys that GET /committee shows, and proofs fit it.
    let committee = world.node.genesis.committee().unwrap();
    let note = Note::parse(&served.body).unwrap();
    assert_eq!(signers(&note, &world.cluster_id(), committee), 3);
    let body = CheckpointBody::parse(note.text()).unwrap();
    let proof = world
        .read(&format!("/audit/proof?entry=0&size={}", body.size()))
        .await;
    assert_eq!(proof["root"], body.root().to_string());
}

/// How many seats have signed a note.
pub fn signers(note: &Note, cluster: &Digest, committee: &Committee) -> usize {
    let seats = committee.seats().iter();
    let keys: Vec<_> = seats
        .map(|seat| note_key(cluster, committee, seat))
        .collect();
    note.verify(&keys).unwrap().len()
}

fn contradiction(n: u8, bytes: usize) -> Contradiction {
    Contradiction {
        seat: SeatNo(n % 4),
        epoch: 0,
        kind: if n == 0 { "checkpoint" } else { "prepare" },
        view: (n > 0).then_some(3),
        sequence: Ordinal(17),
        first: Digest::of([n, 1]),
        second: Digest::of([n, 2]),
        encoded: Bytes::from(vec![n; bytes]),
    }
}

#[tokio::test]
async fn evidence_is_there_for_anyone_to_check() {
    let world = World::with_committee(4, 1).await;
    let empty = json!({"evidence": [], "next_cursor": null});
    assert_eq!(world.read("/committee/evidence").await, empty);
    *world.node.contradictions.lock().unwrap() = vec![contradiction(0, 40), contradiction(2, 50)];
    let shown = world.read("/committee/evidence").await;
    let mut expected: Vec<Value> = [
        (0, json!(null), "checkpoint", 40),
        (2, json!(3), "prepare", 50),
    ]
    .into_iter()
    .map(|(n, view, kind, bytes)| {
        let encoded = vec![n; bytes];
        json!({
            "id": Digest::of(&encoded), "seat": n, "epoch": 0, "kind": kind, "view": view,
            "sequence": 17, "first": Digest::of([n, 1]), "second": Digest::of([n, 2]),
            "encoded": STANDARD.encode(encoded),
        })
    })
    .collect();
    expected.sort_by_key(|piece| piece["id"].as_str().unwrap().to_owned());
    assert_eq!(shown, json!({"evidence": expected, "next_cursor": null}));
}

#[tokio::test]
async fn much_evidence_comes_in_parts() {
    let world = World::with_committee(4, 1).await;
    let kept = (0..9).map(|n| contradiction(n, 300_000)).collect();
    *world.node.contradictions.lock().unwrap() = kept;
    // A megabyte ends a part before its limit does.
    let first = world.read("/committee/evidence").await;
    assert!(first["evidence"].as_array().unwrap().len() < 9);
    assert!(first["next_cursor"].is_string());
    let all = walk(&world, "/committee/evidence?limit=2", "evidence", 2).await;
    let ids: Vec<_> = all
        .iter()
        .map(|piece| piece["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 9);
    assert!(ids.is_sorted());
    let other = world.read("/audit?limit=1").await["next_cursor"].clone();
    let path = format!(
        "/committee/evidence?cursor={}",
        other.as_str().unwrap_or("x")
    );
    world.get(&path).send().await.problem(400, "invalid_query");
}

#[tokio::test]
async fn evidence_that_cannot_be_read_is_the_nodes_fault() {
    let world = World::with_committee(4, 1).await;
    world.node.faulty(|faults| faults.unreadable = true);
    world
        .get("/committee/evidence")
        .send()
        .await
        .problem(500, "internal");
}

#[tokio::test]
async fn status_shows_both_layers() {
    let world = World::with_committee(4, 1).await;
    let status = async || world.read("/status").await["committee"].clone();
    let none = json!({"epoch": 0, "view": null, "primary": null, "certified": 0, "uncertified": 0});
    assert_eq!(status().await, none);
    for ordinal in 1..=3 {
        let proposal = world.propose().await;
        world.approve(&proposal, 1).await;
        if ordinal < 3 {
            world.certify(ordinal);
        }
    }
    world.seat(0, None);
    let some = json!({"epoch": 0, "view": 7, "primary": 3, "certified": 2, "uncertified": 1});
    assert_eq!(status().await, some);
}

/// Whoever may read anything may read all of this, and nobody else.
#[tokio::test]
async fn reads_of_the_committee_are_as_open_as_other_reads() {
    let world = World::with_settings(|settings| settings.reads_need_token = true).await;
    for path in [
        "/committee",
        "/committee/evidence",
        "/checkpoint",
        "/audit/proof?entry=0",
        "/audit/consistency?from=0",
        "/proposals/prop_1/certificate",
        "/proposals/prop_1/bundle",
    ] {
        world.get(path).send().await.problem(401, "unauthenticated");
        let read = world.get(path).token(ADMIN).send().await;
        assert!(
            [200, 404, 422].contains(&read.status.as_u16()),
            "{path}: {read:?}"
        );
    }
}

/// What a node says of itself it says without a leader, too.
#[tokio::test]
async fn what_is_the_nodes_own_needs_no_leader() {
    let world = World::with_committee(4, 1).await;
    world.seat(0, Some("a note".to_owned()));
    world.node.faulty(|faults| {
        faults.read = Some(|| aegis_api::ReadError::NoLeader {
            retry_after: std::time::Duration::from_secs(1),
        });
    });
    assert_eq!(world.get("/checkpoint").send().await.status, 200);
    world.read("/committee/evidence").await;
    world
        .get("/committee")
        .send()
        .await
        .problem(503, "no_leader");
    world.read("/committee?consistency=stale").await;
}
