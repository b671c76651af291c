//! Agents, their keys, their tokens and who may do what.

use aegis_crypto::{Typ, jws};
use serde_json::{Value, json};

use crate::votes::walk;
use crate::world::*;

fn plain(n: u32) -> Value {
    json!({"name": format!("Agent {n}"), "type": "llm", "public_key": jwk(n)})
}

fn attested(world: &World, n: u32) -> Value {
    let registration = world.attested(n);
    json!({
        "agent_id": registration.id.unwrap().as_str(), "name": registration.name,
        "type": "human", "public_key": jwk(n), "weight": 1,
        "attestation": registration.attestation, "proof": registration.proof,
    })
}

#[tokio::test]
async fn agents_are_registered_with_and_without_attestation() {
    let world = World::new().await;
    let reply = world.admin("/agents", &plain(1)).await;
    let body = reply.ok(201);
    let kid = secret(1).public().kid().to_string();
    assert_eq!(
        body,
        json!({"agent_id": "agent_1", "kid": kid, "attested": false})
    );
    assert_eq!(reply.header("location"), "/api/v1/consensus/agents/agent_1");
    let reply = world.admin("/agents", &attested(&world, 2)).await;
    assert_eq!(reply.ok(201)["attested"], true);

    let agent = world.read("/agents/a2").await;
    assert_eq!(agent["name"], "Agent 2");
    assert_eq!(agent["type"], "human");
    assert_eq!(agent["public_key"], jwk(2));
    assert_eq!(agent["status"], "active");
    assert_eq!(agent["weight"], 1);
    assert_eq!(agent["report"], json!(null));
    assert!(agent["attestation"].as_str().unwrap().contains('.'));
    world
        .get("/agents/nobody")
        .send()
        .await
        .problem(404, "unknown_agent");
    world
        .get("/agents/no%20id")
        .send()
        .await
        .problem(404, "unknown_agent");
    world
        .get("/agents/%ff")
        .send()
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn refusals_of_registrations_have_their_codes() {
    let world = World::new().await;
    world.admin("/agents", &attested(&world, 1)).await.ok(201);
    let with = |n: u32, field: &str, value: Value| {
        let mut body = attested(&world, n);
        body[field] = value;
        body
    };
    for (status, code, body) in [
        (409, "agent_exists", attested(&world, 1)),
        (409, "key_in_use", plain(1)),
        (422, "invalid_field", with(2, "name", json!(""))),
        (422, "invalid_field", with(2, "weight", json!(0))),
        (401, "bad_signature", with(2, "proof", json!(""))),
        (422, "statement_mismatch", with(2, "agent_id", json!("a3"))),
        (422, "statement_mismatch", with(2, "weight", json!(2))),
        (422, "statement_mismatch", with(2, "public_key", jwk(3))),
        (401, "bad_signature", with(2, "attestation", json!("a.b.c"))),
        (
            422,
            "invalid_field",
            json!({
                "agent_id": "administrator", "name": "Mallory", "type": "llm", "public_key": jwk(4),
            }),
        ),
        (400, "invalid_json", with(2, "agent_id", json!("no id"))),
        (400, "invalid_json", with(2, "agent_id", json!(null))),
        (400, "invalid_json", with(2, "type", json!("robot"))),
        (400, "invalid_json", with(2, "weight", json!(1.0))),
        (400, "invalid_json", with(2, "admin", json!(true))),
    ] {
        let reply = world.admin("/agents", &body).await;
        reply.problem(status, code);
    }
}

#[tokio::test]
async fn a_batch_registers_each_alone_and_lists_are_walked() {
    let world = World::new().await;
    let mut agents: Vec<_> = (1..=5).map(|n| attested(&world, n)).collect();
    agents.push(attested(&world, 5));
    let mut weak = plain(7);
    weak["public_key"]["x"] = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into();
    agents.push(weak);
    let reply = world
        .admin("/agents/batch", &json!({"agents": agents}))
        .await
        .ok(200);
    let short: Vec<_> = reply["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| (result["status"].as_u64().unwrap(), result["code"].as_str()))
        .collect();
    assert_eq!(short[..5], [(201, None); 5]);
    assert_eq!(
        short[5..],
        [(409, Some("agent_exists")), (422, Some("invalid_key"))]
    );
    let walked = walk(&world, "/agents?limit=2", "agents", 2).await;
    let ids: Vec<_> = walked
        .iter()
        .map(|agent| agent["agent_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["a1", "a2", "a3", "a4", "a5"]);
    world
        .admin("/agents/batch", &json!({"agents": []}))
        .await
        .problem(422, "invalid_field");
}

#[tokio::test]
async fn an_idempotency_key_repeats_the_first_answer() {
    let world = World::new().await;
    let post = |path: &'static str, body: Value, key: &'static str| {
        let ask = world.post(path).token(ADMIN).header("idempotency-key", key);
        ask.json(&body).send()
    };
    let first = post("/agents", plain(1), "k").await;
    first.ok(201);
    world.node.advance(60_000);
    let again = post("/agents", plain(1), "k").await;
    again.ok(201);
    assert_eq!((&again.body, again.index()), (&first.body, first.index()));
    assert_eq!(again.header("location"), first.header("location"));
    post("/agents", plain(2), "k")
        .await
        .problem(422, "idempotency_mismatch");
    post("/agents/batch", json!({"agents": [plain(1)]}), "k")
        .await
        .problem(422, "idempotency_mismatch");
    // A refusal is an answer like any other.
    let refused = post("/agents", plain(1), "other").await;
    refused.problem(409, "key_in_use");
    assert_eq!(post("/agents", plain(1), "other").await.body, refused.body);
    // After a day the key is free again.
    world.node.advance(86_400_001);
    post("/agents", plain(2), "k").await.ok(201);
    for key in ["", "with space", &"k".repeat(129)] {
        let ask = world
            .post("/agents")
            .token(ADMIN)
            .header("idempotency-key", key);
        ask.json(&plain(3))
            .send()
            .await
            .problem(400, "invalid_header");
    }
}

#[tokio::test]
async fn keys_are_replaced_by_the_agent_or_the_administrator() {
    let world = World::with_agents(2).await;
    let (own, other) = (world.token("a1").await, world.token("a2").await);
    let body = json!({"public_key": jwk(10)});
    let replace = |token: String, body: Value| {
        world
            .post("/agents/a1/keys")
            .token(&token)
            .json(&body)
            .send()
    };
    world
        .post("/agents/a1/keys")
        .json(&body)
        .send()
        .await
        .problem(401, "unauthenticated");
    replace(other, body.clone()).await.problem(403, "forbidden");
    let replaced = replace(own.clone(), body.clone()).await.ok(201);
    assert_eq!(replaced["attested"], false);
    assert_eq!(replaced["kid"], secret(10).public().kid().to_string());
    replace(own, json!({"public_key": jwk(2)}))
        .await
        .problem(409, "key_in_use");

    let mut claims = world.registration_claims(1);
    claims.jwk = secret(11).public().into();
    let sign = |n: u32| jws::sign(Typ::REGISTRATION, &secret(n), &claims).unwrap();
    let body = json!({"public_key": jwk(11), "attestation": sign(REGISTRAR), "proof": sign(11)});
    assert_eq!(
        world.admin("/agents/a1/keys", &body).await.ok(201)["attested"],
        true
    );
    let agent = world.read("/agents/a1").await;
    let retired = [1, 10].map(|n| secret(n).public().kid().to_string());
    assert_eq!(agent["retired_kids"], json!(retired));
    world
        .admin("/agents/nobody/keys", &json!({"public_key": jwk(12)}))
        .await
        .problem(404, "unknown_agent");
}

#[tokio::test]
async fn agents_are_removed_for_good() {
    let world = World::with_agents(2).await;
    world
        .delete("/agents/a1")
        .send()
        .await
        .problem(401, "unauthenticated");
    let token = world.token("a1").await;
    world
        .delete("/agents/a1")
        .token(&token)
        .send()
        .await
        .problem(403, "forbidden");
    let removed = world.delete("/agents/a1").token(ADMIN).send().await;
    assert_eq!((removed.status.as_u16(), removed.body.len()), (204, 0));
    assert_eq!(removed.index(), world.node.index());
    assert_eq!(world.read("/agents/a1").await["status"], "removed");
    world
        .delete("/agents/a1")
        .token(ADMIN)
        .send()
        .await
        .problem(409, "agent_removed");
    world
        .delete("/agents/nobody")
        .token(ADMIN)
        .send()
        .await
        .problem(404, "unknown_agent");
    // Its token opens nothing any more.
    let body = json!({"public_key": jwk(10)});
    world
        .post("/agents/a1/keys")
        .token(&token)
        .json(&body)
        .send()
        .await
        .problem(401, "unauthenticated");
    world
        .admin("/tokens", &json!({"agent_id": "a1"}))
        .await
        .problem(409, "agent_removed");
}

fn report(measured_at: &str) -> Value {
    json!({
        "measured_at": measured_at, "phi": 0.5, "coherence": 0.25, "stability": 1,
        "divergence": 0, "consciousness_level": 0.700000001,
    })
}

#[tokio::test]
async fn oracles_report_exact_figures() {
    let world = World::with_agents(2).await;
    let oracle =
        json!({"agent_id": "oracle", "name": "O", "type": "oracle", "public_key": jwk(30)});
    world.admin("/agents", &oracle).await.ok(201);
    let (oracle, other) = (world.token("oracle").await, world.token("a2").await);
    let send = |token: String, body: Value| {
        world
            .post("/agents/a1/reports")
            .token(&token)
            .json(&body)
            .send()
    };
    let at = "2026-05-01T12:00:00.25Z";
    send(other, report(at)).await.problem(403, "forbidden");
    let recorded = send(oracle.clone(), report(at)).await.ok(201);
    assert_eq!(recorded["agent_id"], "a1");
    let shown = &world.read("/agents/a1").await["report"];
    assert_eq!(*shown, recorded["report"]);
    assert_eq!(shown["consciousness_level"], json!(0.700000001));
    assert_eq!(shown["measured_at"], "2026-05-01T12:00:00.250Z");
    send(oracle.clone(), report(at))
        .await
        .problem(409, "stale_report");
    for (field, value) in [
        ("phi", json!(1.1)),
        ("phi", json!(-0.1)),
        ("coherence", json!(0.1234567891)),
        ("measured_at", json!("yesterday")),
        ("measured_at", json!("1960-01-01T00:00:00Z")),
    ] {
        let mut body = report("2026-05-02T00:00:00Z");
        body[field] = value;
        let detail = send(oracle.clone(), body)
            .await
            .problem(422, "invalid_field");
        assert!(detail.contains(field), "{detail}");
    }
    let mut body = report("2026-05-02T00:00:00Z");
    body["phi"] = "0.5".into();
    send(oracle.clone(), body)
        .await
        .problem(400, "invalid_json");
    world
        .admin("/agents/nobody/reports", &report(at))
        .await
        .problem(404, "unknown_agent");
}

#[tokio::test]
async fn tokens_are_shown_once_and_end() {
    let world = World::with_agents(2).await;
    let issued = world.admin("/tokens", &json!({"agent_id": "a1"})).await;
    assert_eq!(issued.header("cache-control"), "no-store");
    let body = issued.ok(201);
    assert_eq!(body["token_id"], "tok_1");
    let token = body["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("aegis_1_"), "{token}");
    let other = world.token("a1").await;

    let propose = |token: String| {
        world
            .post("/proposals")
            .token(&token)
            .json(&document(json!({})))
            .send()
    };
    propose(token.clone()).await.ok(201);
    assert_eq!(world.read("/proposals/prop_1").await["author"], "a1");
    let ended = world.delete("/tokens/tok_1").token(ADMIN).send().await;
    assert_eq!(ended.status, 204);
    assert_eq!(
        world
            .delete("/tokens/tok_1")
            .token(ADMIN)
            .send()
            .await
            .status,
        204
    );
    propose(token.clone()).await.problem(401, "unauthenticated");
    propose(other.clone()).await.ok(201);
    // Another number with the same secret, another secret, no secret.
    propose(token.replace("aegis_1_", "aegis_2_"))
        .await
        .problem(401, "unauthenticated");
    propose(other.replace("aegis_2_", "aegis_9_"))
        .await
        .problem(401, "unauthenticated");
    propose("aegis_2_".to_owned())
        .await
        .problem(401, "unauthenticated");
    for token in ["tok_9", "tok_01", "x"] {
        world
            .delete(&format!("/tokens/{token}"))
            .token(ADMIN)
            .send()
            .await
            .problem(404, "unknown_token");
    }
    world
        .admin("/tokens", &json!({"agent_id": "nobody"}))
        .await
        .problem(404, "unknown_agent");
    // The secret is nowhere in what the ledger keeps.
    let secret = token.rsplit_once('_').unwrap().1.to_owned();
    let export = world.get("/audit/export").token(ADMIN).send().await;
    assert!(!String::from_utf8_lossy(&export.body).contains(&secret));
}

/// The first secret could not be told again, so a client that counts on a repeat is told.
#[tokio::test]
async fn a_token_is_not_issued_under_an_idempotency_key() {
    let world = World::with_agents(1).await;
    let index = world.node.index();
    let ask = world
        .post("/tokens")
        .token(ADMIN)
        .header("idempotency-key", "k");
    let reply = ask.json(&json!({"agent_id": "a1"})).send().await;
    let detail = reply.problem(400, "invalid_header");
    assert!(detail.contains("Idempotency-Key"), "{detail}");
    assert_eq!(world.node.index(), index);
}

#[tokio::test]
async fn what_needs_the_administrator_is_refused_to_all_others() {
    let world = World::with_agents(1).await;
    let token = world.token("a1").await;
    let index = world.node.index();
    for (method, path) in [
        ("POST", "/agents"),
        ("POST", "/agents/batch"),
        ("DELETE", "/agents/a1"),
        ("POST", "/tokens"),
        ("DELETE", "/tokens/tok_1"),
        ("GET", "/audit/export"),
        ("GET", "/cluster/snapshot"),
        ("POST", "/cluster/transfer-leader"),
        ("POST", "/cluster/learners"),
        ("POST", "/cluster/members"),
        ("DELETE", "/cluster/members/2"),
    ] {
        let ask = || match method {
            "POST" => world.post(path).json(&json!({})),
            "DELETE" => world.delete(path),
            _ => world.get(path),
        };
        ask().send().await.problem(401, "unauthenticated");
        ask()
            .token("wrong")
            .send()
            .await
            .problem(401, "unauthenticated");
        ask()
            .header("authorization", "Basic YWRtaW4=")
            .send()
            .await
            .problem(401, "unauthenticated");
        ask().token(&token).send().await.problem(403, "forbidden");
    }
    assert_eq!(world.node.index(), index);
    assert!(world.node.orders.lock().unwrap().is_empty());
}

#[tokio::test]
async fn reads_may_be_closed() {
    let world = World::with_settings(|settings| settings.reads_need_token = true).await;
    world.register(1);
    let token = world.token("a1").await;
    for path in [
        "/agents",
        "/proposals",
        "/decisions",
        "/audit",
        "/audit/verify",
        "/status",
    ] {
        world.get(path).send().await.problem(401, "unauthenticated");
        world
            .get(path)
            .token("wrong")
            .send()
            .await
            .problem(401, "unauthenticated");
        world.get(path).token(&token).send().await.ok(200);
        world.get(path).token(ADMIN).send().await.ok(200);
    }
    for path in ["//livez", "//readyz", "//health", "//openapi.json"] {
        world.get(path).send().await.ok(200);
    }
    assert_eq!(world.get("//metrics").send().await.status, 200);
}

/// A token that was issued on another node counts here, and one that was ended does not.
#[tokio::test]
async fn tokens_count_as_the_cluster_knows_them() {
    let world = World::with_agents(1).await;
    let ended = world.token("a1").await;
    world.node.fall_behind();
    let issued = world.token("a1").await;
    world.delete("/tokens/tok_1").token(ADMIN).send().await;
    let propose = |token: String| {
        world
            .post("/proposals")
            .token(&token)
            .json(&document(json!({})))
            .send()
    };
    propose(issued).await.ok(201);
    propose(ended).await.problem(401, "unauthenticated");
}
