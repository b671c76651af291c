//! The node and the cluster: status, health, membership, and failures of either.

use std::time::Duration;

use aegis_api::*;
use aegis_crypto::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::node::{SNAPSHOT, member};
use crate::world::*;

/// Makes an error to order.
type Fault<E> = fn() -> E;

#[tokio::test]
async fn status_says_what_the_node_knows() {
    let world = World::with_agents(1).await;
    world.propose().await;
    world.propose_with(json!({})).await;
    let status = world.read("/status").await;
    for (field, value) in [
        ("cluster_id", json!(world.cluster_id().to_string())),
        ("cluster_name", json!("test")),
        ("incarnation", json!(0)),
        ("node_id", json!(1)),
        ("node_name", json!("n1")),
        ("role", json!("leader")),
        ("leader", json!(1)),
        ("term", json!(3)),
        ("applied_index", json!(3)),
        ("version", json!("0.0.0")),
        ("alarms", json!([{"code": "test", "detail": "an alarm"}])),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    assert_eq!(status["proposals"]["voting"], 1);
    assert_eq!(status["proposals"]["draft"], 1);
    assert_eq!(status["proposals"]["approved"], 0);
    assert_eq!(
        status["members"],
        json!([{
            "id": 1, "name": "n1", "role": "voter", "peer_address": "127.0.0.1:8004",
            "api_address": "127.0.0.1:8003", "state": "leading", "lag": 0, "last_contact_ms": null,
        }])
    );
    let genesis = world.get("/genesis").send().await;
    assert_eq!(Digest::of(&genesis.body), world.cluster_id());
}

#[tokio::test]
async fn health_fails_with_its_parts() {
    let world = World::new().await;
    let healthy = world.read("//health").await;
    assert_eq!(healthy["status"], "ok");
    let names: Vec<_> = healthy["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| &part["name"])
        .collect();
    assert_eq!(names, ["process", "leader"]);
    assert_eq!(healthy["alarms"][0]["code"], "test");
    world.node.faulty(|faults| faults.unready = true);
    for path in ["//health", "//readyz"] {
        let reply = world.get(path).send().await.ok(503);
        assert_eq!(reply["status"], "failing");
    }
    assert_eq!(world.read("//livez").await["parts"][0]["ok"], true);
}

#[tokio::test]
async fn documentation_is_served() {
    let world = World::new().await;
    let document = world.read("//openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert!(document["paths"]["/api/v1/consensus/votes"]["post"].is_object());
    let docs = world.get("//docs").send().await;
    assert_eq!(
        (docs.status.as_u16(), docs.header("location")),
        (308, "/docs/")
    );
    let index = world.get("//docs/").send().await;
    assert_eq!(index.header("content-type"), "text/html");
    let page = String::from_utf8(index.body.to_vec()).unwrap();
    // Everything that the page names is served here as well.
    let files: Vec<_> = page
        .split(['"', '\''])
        .filter_map(|text| text.strip_prefix("./"))
        .filter(|file| file.ends_with(".js") || file.ends_with(".css"))
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(
            world.get(&format!("//docs/{file}")).send().await.status,
            200,
            "{file}"
        );
    }
    let script = world.get("//docs/swagger-initializer.js").send().await;
    assert!(String::from_utf8_lossy(&script.body).contains("/openapi.json"));
    let metrics = world.get("//metrics").send().await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
}

#[tokio::test]
async fn every_answer_says_what_it_reflects() {
    let world = World::with_agents(2).await;
    let proposal = world.propose().await;
    world.node.fall_behind();
    let before = world.node.index();
    world.cast(1, &proposal, "for").await;
    assert_eq!(
        world
            .get(&format!("/proposals/{proposal}"))
            .send()
            .await
            .index(),
        before + 1
    );
    let stale = world
        .get(&format!("/proposals/{proposal}?consistency=stale"))
        .send()
        .await;
    assert_eq!(stale.index(), before);
    assert_eq!(stale.ok(200)["votes"]["total"], 0);
    for path in [
        "//livez",
        "//metrics",
        "//openapi.json",
        "/nothing",
        "/votes",
    ] {
        assert_eq!(world.get(path).send().await.index(), before + 1, "{path}");
    }
    let named = world
        .get("//livez")
        .header("x-request-id", "mine-1")
        .send()
        .await;
    assert_eq!(named.header("x-request-id"), "mine-1");
    let (one, other) = (
        world.get("//livez").send().await,
        world.get("//livez").send().await,
    );
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
    let long = world
        .get("//livez")
        .header("x-request-id", &"x".repeat(65))
        .send()
        .await;
    assert_ne!(long.header("x-request-id"), "x".repeat(65));
}

#[tokio::test]
async fn writes_that_fail_say_whether_to_repeat_them() {
    let world = World::with_agents(1).await;
    let proposal = world.propose().await;
    let vote = ballot(1, &world.vote(1, &proposal, "for").await);
    let faults: [(Fault<SubmitError>, u16, &str, Option<&str>); 5] = [
        (
            || SubmitError::Busy {
                retry_after: Duration::from_millis(1_500),
            },
            429,
            "busy",
            Some("2"),
        ),
        (
            || SubmitError::NoLeader {
                retry_after: Duration::from_millis(300),
            },
            503,
            "no_leader",
            Some("1"),
        ),
        (|| SubmitError::Unknown, 504, "outcome_unknown", None),
        (
            || SubmitError::LowSpace {
                free_bytes: 1,
                floor_bytes: 2,
            },
            507,
            "low_space",
            Some("30"),
        ),
        (|| SubmitError::Stopping, 503, "stopping", Some("1")),
    ];
    for (fault, status, code, retry_after) in faults {
        world.node.faulty(|faults| faults.submit = Some(fault));
        for (path, body) in [
            ("/votes", vote.clone()),
            ("/votes/batch", json!({"votes": [vote.clone()]})),
            ("/proposals", document(json!({}))),
        ] {
            let reply = world.admin(path, &body).await;
            reply.problem(status, code);
            let found = reply
                .headers
                .get("retry-after")
                .map(|value| value.to_str().unwrap());
            assert_eq!(found, retry_after, "{code}");
        }
        world.node.faulty(|faults| faults.submit = None);
    }
    world.post("/votes").json(&vote).send().await.ok(201);
}

#[tokio::test]
async fn reads_that_fail_say_so_and_stale_ones_go_on() {
    let world = World::with_agents(1).await;
    let proposal = world.propose().await;
    let mut claims = world.vote(1, &proposal, "for").await;
    let vote = ballot(1, &claims);
    claims.sub = "nobody".to_owned();
    let unknown = ballot(9, &claims);
    let faults: [(Fault<ReadError>, u16, &str, Option<&str>); 4] = [
        (
            || ReadError::Busy {
                retry_after: Duration::from_millis(1_500),
            },
            429,
            "busy",
            Some("2"),
        ),
        (
            || ReadError::NoLeader {
                retry_after: Duration::from_secs(1),
            },
            503,
            "no_leader",
            Some("1"),
        ),
        (|| ReadError::Stopping, 503, "stopping", Some("1")),
        (
            || ReadError::Failed {
                reason: "a bad sector".to_owned(),
            },
            500,
            "internal",
            None,
        ),
    ];
    for (fault, status, code, retry_after) in faults {
        world.node.faulty(|faults| faults.read = Some(fault));
        let counts = "/status?consistency=linearizable";
        for path in ["/proposals", counts, "/audit/verify", "/agents/a1"] {
            let reply = world.get(path).send().await;
            let detail = reply.problem(status, code);
            assert!(!detail.contains("sector"), "{detail}");
            let found = reply.headers.get("retry-after");
            assert_eq!(found.map(|value| value.to_str().unwrap()), retry_after);
        }
        // A write that must look something up first fails in the same way.
        let reply = world.post("/votes").json(&unknown).send().await;
        reply.problem(status, code);
    }
    // What a node knows of itself it says without a leader.
    world.get("/status").send().await.ok(200);
    for path in [
        "/proposals",
        "/status",
        "/audit/verify",
        "/agents/a1",
        "/decisions",
    ] {
        world
            .get(&format!("{path}?consistency=stale"))
            .send()
            .await
            .ok(200);
    }
    // A vote of an agent that is known here needs no such read.
    let reply = world.post("/votes").json(&vote).send().await;
    reply.ok(201);
}

#[tokio::test]
async fn tables_that_do_not_decode_are_an_error_of_this_node() {
    let world = World::with_agents(1).await;
    let damage = |record: &mut Vec<u8>| record.truncate(3);
    world
        .node
        .state
        .lock()
        .unwrap()
        .tables
        .alter(aegis_ledger::Table::Agents, b"a1", damage);
    world
        .get("/agents/a1")
        .send()
        .await
        .problem(500, "internal");
    world.get("/agents").send().await.problem(500, "internal");
}

#[tokio::test]
async fn leadership_is_handed_over() {
    let world = World::new().await;
    let leads = world
        .admin("/cluster/transfer-leader", &json!({"to": 2}))
        .await
        .ok(200);
    assert_eq!(leads, json!({"leader": 2, "term": 4}));
    world
        .admin(
            "/cluster/transfer-leader",
            &json!({"to": 3, "timeout_ms": 500}),
        )
        .await
        .ok(200);
    assert_eq!(
        *world.node.orders.lock().unwrap(),
        ["transfer 2 10000", "transfer 3 500"]
    );
    for timeout_ms in [0, 25_001] {
        let body = json!({"to": 2, "timeout_ms": timeout_ms});
        world
            .admin("/cluster/transfer-leader", &body)
            .await
            .problem(422, "invalid_field");
    }
}

#[tokio::test]
async fn changes_that_fail_have_their_codes() {
    let world = World::new().await;
    let faults: [(Fault<ChangeError>, u16, &str); 12] = [
        (
            || ChangeError::UnknownMember { node: NodeId(2) },
            404,
            "unknown_member",
        ),
        (
            || ChangeError::AlreadyMember { node: NodeId(2) },
            409,
            "already_member",
        ),
        (
            || ChangeError::WrongRole {
                node: NodeId(2),
                role: MemberRole::Learner,
                expected: MemberRole::Voter,
            },
            409,
            "wrong_role",
        ),
        (
            || ChangeError::LastVoter { node: NodeId(2) },
            409,
            "last_voter",
        ),
        (
            || ChangeError::Lagging {
                node: NodeId(2),
                lag: 9,
                max: 3,
            },
            409,
            "lagging",
        ),
        (
            || ChangeError::Unreachable { node: NodeId(2) },
            409,
            "unreachable",
        ),
        (|| ChangeError::InProgress, 409, "change_in_progress"),
        (
            || ChangeError::Invalid {
                reason: "no port".to_owned(),
            },
            422,
            "invalid_member",
        ),
        (
            || ChangeError::NoLeader {
                retry_after: Duration::ZERO,
            },
            503,
            "no_leader",
        ),
        (
            || ChangeError::TimedOut {
                deadline: Duration::from_secs(1),
            },
            504,
            "change_timed_out",
        ),
        (|| ChangeError::Stopping, 503, "stopping"),
        (
            || ChangeError::Failed {
                reason: "core".to_owned(),
            },
            500,
            "internal",
        ),
    ];
    for (fault, status, code) in faults {
        world.node.faulty(|faults| faults.change = Some(fault));
        let reply = world
            .admin("/cluster/transfer-leader", &json!({"to": 2}))
            .await;
        reply.problem(status, code);
        world
            .admin("/cluster/learners", &learner(4))
            .await
            .problem(status, code);
    }
}

fn learner(id: u64) -> Value {
    json!({
        "id": id, "name": "n4", "peer_address": "10.0.0.4:8004", "api_address": "10.0.0.4:8003",
    })
}

#[tokio::test]
async fn members_come_and_go_unless_the_quorum_hangs_by_a_thread() {
    let world = World::new().await;
    let voters = |count| {
        (1..=count)
            .map(|id| member(id, MemberRole::Voter))
            .collect()
    };
    *world.node.members.lock().unwrap() = voters(3);
    let added = world.admin("/cluster/learners", &learner(4)).await.ok(201);
    assert_eq!(added, json!({"id": 4, "role": "learner"}));
    world
        .node
        .members
        .lock()
        .unwrap()
        .push(member(4, MemberRole::Learner));
    let promoted = world
        .admin("/cluster/members", &json!({"id": 4}))
        .await
        .ok(200);
    assert_eq!(promoted, json!({"id": 4, "role": "voter"}));
    *world.node.members.lock().unwrap() = voters(4);
    assert_eq!(
        world
            .delete("/cluster/members/4")
            .token(ADMIN)
            .send()
            .await
            .status,
        204
    );
    *world.node.members.lock().unwrap() = voters(3);

    let remove = |query: &str| {
        let path = format!("/cluster/members/3{query}");
        world.delete(&path).token(ADMIN).send()
    };
    let detail = remove("").await.problem(409, "quorum_risk");
    assert!(detail.contains("force=true"), "{detail}");
    remove("?force=false").await.problem(409, "quorum_risk");
    remove("?force=yes").await.problem(400, "invalid_query");
    assert_eq!(remove("?force=true").await.status, 204);
    world.node.members.lock().unwrap()[1].state = MemberState::Silent;
    remove("").await.problem(409, "quorum_lost");
    remove("?force=true").await.problem(409, "quorum_lost");
    assert_eq!(
        *world.node.orders.lock().unwrap(),
        [
            "learner 4 n4 10.0.0.4:8004 10.0.0.4:8003",
            "promote 4",
            "remove 4",
            "remove 3"
        ]
    );
    for id in ["x", "-1", "99999999999999999999"] {
        let reply = world
            .delete(&format!("/cluster/members/{id}"))
            .token(ADMIN)
            .send()
            .await;
        reply.problem(404, "unknown_member");
    }
}

#[tokio::test]
async fn a_snapshot_is_streamed_with_its_digest() {
    let world = World::with_agents(1).await;
    let reply = world.get("/cluster/snapshot").token(ADMIN).send().await;
    assert_eq!(reply.body, SNAPSHOT);
    assert_eq!(reply.header("content-length"), SNAPSHOT.len().to_string());
    let digest = STANDARD.encode(Digest::of(SNAPSHOT).as_bytes());
    assert_eq!(reply.header("repr-digest"), format!("sha-256=:{digest}:"));
    assert_eq!(reply.index(), 1);
    let faults: [(Fault<SnapshotError>, u16, &str); 3] = [
        (
            || SnapshotError::Busy {
                retry_after: Duration::from_secs(1),
            },
            429,
            "busy",
        ),
        (|| SnapshotError::Stopping, 503, "stopping"),
        (
            || SnapshotError::Failed {
                reason: "disk".to_owned(),
            },
            500,
            "internal",
        ),
    ];
    for (fault, status, code) in faults {
        world.node.faulty(|faults| faults.snapshot = Some(fault));
        world
            .get("/cluster/snapshot")
            .token(ADMIN)
            .send()
            .await
            .problem(status, code);
    }
}
