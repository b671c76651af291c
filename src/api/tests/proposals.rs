//! Proposals from submission to decision.

use std::collections::BTreeSet;

use aegis_crypto::claims::CommandClaims;
use aegis_crypto::{Digest, Typ, jws};
use serde_json::{Value, json};

use crate::client::Reply;
use crate::statements::b64;
use crate::votes::walk;
use crate::world::*;

#[tokio::test]
async fn a_proposal_is_submitted_and_read() {
    let world = World::with_agents(3).await;
    let token = world.token("a1").await;
    let raw = r#" {"type":"decision", "title":"Where to meet", "content":{"budget":1e3,"a":1.50},
        "description":"In spring.", "voting_deadline":null, "metadata":{"ref":"x"}} "#;
    let reply = world
        .post("/proposals")
        .token(&token)
        .text(raw)
        .send()
        .await;
    let submitted = reply.ok(201);
    let members: Vec<_> = submitted.as_object().unwrap().keys().collect();
    assert_eq!(members, ["created_at", "digest", "proposal_id", "status"]);
    assert_eq!(submitted["proposal_id"], "prop_1");
    assert_eq!(submitted["status"], "draft");
    assert_eq!(
        reply.header("location"),
        "/api/v1/consensus/proposals/prop_1"
    );
    assert_eq!(reply.index(), world.node.index());

    let document = world.get("/proposals/prop_1/document").send().await;
    let canonical = r#"{"content":{"a":1.50,"budget":1e3},"description":"In spring.","metadata":{"ref":"x"},"title":"Where to meet","type":"decision","voting_deadline":null}"#;
    assert_eq!(document.body, canonical);
    assert_eq!(submitted["digest"], Digest::of(canonical).to_string());

    let draft = world.get("/proposals/prop_1").send().await;
    let text = String::from_utf8(draft.body.to_vec()).unwrap();
    assert!(
        text.contains(r#""content":{"a":1.50,"budget":1e3}"#),
        "{text}"
    );
    let draft = draft.ok(200);
    for (field, value) in [
        ("proposal_id", json!("prop_1")),
        ("author", json!("a1")),
        ("title", json!("Where to meet")),
        ("description", json!("In spring.")),
        ("type", json!("decision")),
        ("category", json!("standard")),
        ("method", json!("simple_majority")),
        ("policy", json!({"name": "standard", "version": 1})),
        ("metadata", json!({"ref": "x"})),
        ("round", json!(1)),
        ("status", json!("draft")),
        ("electorate_size", json!(null)),
        ("voting_opened_at", json!(null)),
        ("voting_deadline", json!(null)),
        ("closed_at", json!(null)),
        ("outcome", json!(null)),
        ("winner", json!(null)),
        ("certified", json!(false)),
        (
            "votes",
            json!({"for": 0, "against": 0, "abstain": 0, "total": 0}),
        ),
        ("created_at", submitted["created_at"].clone()),
        ("digest", submitted["digest"].clone()),
    ] {
        assert_eq!(draft[field], value, "{field}");
    }
    assert!(draft.get("evidence").is_none());
}

#[tokio::test]
async fn voting_decides_and_results_say_how() {
    let world = World::with_agents(4).await;
    let body =
        document(json!({"open": true, "electorate": ["a1", "a2", "a3"], "voting_period_s": 3600}));
    let submitted = world.admin("/proposals", &body).await.ok(201);
    assert_eq!(submitted["status"], "voting");
    let proposal = submitted["proposal_id"].as_str().unwrap();
    let ballot = world.read(&format!("/proposals/{proposal}/ballot")).await;
    assert_eq!(ballot["aud"], world.cluster_id().to_string());
    assert_eq!(ballot["proposal"], proposal);
    assert_eq!(ballot["round"], 1);
    assert_eq!(ballot.as_object().unwrap().len(), 4);

    world.cast(1, proposal, "for").await;
    let running = world.read(&format!("/proposals/{proposal}/results")).await;
    assert_eq!(
        running,
        json!({
            "proposal_id": proposal,
            "results": {
                "total_votes": 1, "quorum_required": 1,
                "breakdown": {"for": 1, "against": 0, "abstain": 0},
                "weighted_results": {"for": 1, "against": 0, "abstain": 0},
                "status": "voting",
            },
            "participation": 0.333333333, "threshold": 0.501, "method": "simple_majority",
            "electorate_size": 3, "certified": false,
        })
    );
    world.cast(2, proposal, "for").await;
    world.cast(3, proposal, "against").await;
    let decided = world.read(&format!("/proposals/{proposal}")).await;
    assert_eq!(decided["status"], "approved");
    assert_eq!(decided["outcome"], "approved");
    assert_eq!(decided["electorate"], json!(["a1", "a2", "a3"]));
    assert_eq!(decided["electorate_size"], 3);
    assert!(decided["closed_at"].is_string() && decided["voting_deadline"].is_string());
    let results = &world.read(&format!("/proposals/{proposal}/results")).await["results"];
    let shares = json!({"for": 0.666666666, "against": 0.333333333, "abstain": 0});
    assert_eq!(results["weighted_results"], shares);
    let closed = world
        .get(&format!("/proposals/{proposal}/ballot"))
        .send()
        .await;
    closed.problem(409, "voting_closed");

    let decision = &world.read("/decisions?limit=10").await["decisions"][0];
    assert_eq!(decision["proposal_id"], proposal);
    assert_eq!(decision["ordinal"], 1);
    assert_eq!(decision["outcome"], "approved");
    assert_eq!(decision["title"], "Where to meet");
    assert_eq!(decision["votes"]["total"], 3);
}

#[tokio::test]
async fn unanimity_is_a_threshold_of_one() {
    let world = World::with_agents(2).await;
    let proposal = world
        .propose_with(json!({"open": true, "method": "unanimous"}))
        .await;
    let results = world.read(&format!("/proposals/{proposal}/results")).await;
    assert_eq!(
        (&results["threshold"], &results["method"]),
        (&json!(1), &json!("unanimous"))
    );
}

#[tokio::test]
async fn steps_are_taken_by_the_author_or_the_administrator() {
    let world = World::with_agents(2).await;
    let (author, other) = (world.token("a1").await, world.token("a2").await);
    let step = |proposal: &str, step: &str, token: &str| {
        let ask = world.post(&format!("/proposals/{proposal}/{step}"));
        ask.token(token).send()
    };
    world
        .post("/proposals")
        .token(&author)
        .json(&document(json!({})))
        .send()
        .await
        .ok(201);
    world
        .post("/proposals/prop_1/review")
        .send()
        .await
        .problem(401, "unauthenticated");
    step("prop_1", "review", &other)
        .await
        .problem(403, "forbidden");
    let reviewed = step("prop_1", "review", &author).await.ok(200);
    assert_eq!(
        reviewed,
        json!({"proposal_id": "prop_1", "status": "review"})
    );
    step("prop_1", "review", &author)
        .await
        .problem(409, "illegal_transition");
    assert_eq!(
        step("prop_1", "open", ADMIN).await.ok(200)["status"],
        "voting"
    );
    step("prop_1", "tally", &author)
        .await
        .problem(422, "policy_violation");
    step("prop_1", "execute", &author)
        .await
        .problem(409, "illegal_transition");
    for n in 1..=2 {
        world.cast(n, "prop_1", "for").await;
    }
    step("prop_1", "execute", &author)
        .await
        .problem(409, "too_early");
    step("prop_1", "cancel", &author)
        .await
        .problem(409, "illegal_transition");
    world.node.advance(1_000 * (259_200 + 86_400));
    assert_eq!(
        step("prop_1", "execute", &author).await.ok(200)["status"],
        "executed"
    );
    assert!(world.read("/proposals/prop_1").await["executed_at"].is_string());
    step("prop_9", "open", ADMIN)
        .await
        .problem(404, "unknown_proposal");
    step("x", "open", ADMIN)
        .await
        .problem(404, "unknown_proposal");

    world.propose_with(json!({})).await;
    world
        .get("/proposals/prop_2/ballot")
        .send()
        .await
        .problem(409, "not_open");
    world
        .get("/proposals/prop_2/results")
        .send()
        .await
        .problem(409, "not_open");
    // An empty object is not nothing: it lacks the signature.
    let ask = world
        .post("/proposals/prop_2/cancel")
        .token(ADMIN)
        .json(&json!({}));
    ask.send().await.problem(400, "invalid_json");
    assert_eq!(
        step("prop_2", "cancel", ADMIN).await.ok(200)["status"],
        "cancelled"
    );
}

fn order(world: &World, sub: &str, command: &str, proposal: &str) -> CommandClaims {
    CommandClaims {
        aud: world.cluster_id(),
        sub: sub.to_owned(),
        command: command.to_owned(),
        proposal: proposal.to_owned(),
        jti: format!("{sub} {command} {proposal}"),
        iat: world.node.now_s(),
        exp: None,
    }
}

async fn give(world: &World, signer: u32, claims: &CommandClaims, path: &str) -> Reply {
    let signature = jws::sign(Typ::COMMAND, &secret(signer), claims).unwrap();
    let ask = world.post(path).json(&json!({"signature": signature}));
    ask.send().await
}

#[tokio::test]
async fn steps_are_taken_by_signed_orders() {
    let world = World::with_agents(2).await;
    let token = world.token("a1").await;
    world
        .post("/proposals")
        .token(&token)
        .json(&document(json!({})))
        .send()
        .await
        .ok(201);
    let open = "/proposals/prop_1/open";
    let good = order(&world, "a1", "open", "prop_1");
    type Alter = fn(&mut CommandClaims);
    let cases: [(u16, &str, Alter); 9] = [
        (422, "statement_mismatch", |c| c.aud = Digest::ZERO),
        (422, "statement_mismatch", |c| c.command = "cancel".into()),
        (422, "statement_mismatch", |c| c.proposal = "prop_2".into()),
        (404, "unknown_agent", |c| c.sub = "nobody".into()),
        (401, "bad_signature", |c| c.sub = "a2".into()),
        (401, "bad_signature", |c| c.sub = "administrator".into()),
        (401, "expired_statement", |c| c.iat += 120),
        (401, "expired_statement", |c| c.iat -= 86_400),
        (422, "invalid_field", |c| c.jti = String::new()),
    ];
    for (status, code, alter) in cases {
        let mut claims = good.clone();
        alter(&mut claims);
        give(&world, 1, &claims, open).await.problem(status, code);
    }
    give(&world, 2, &good, open)
        .await
        .problem(401, "bad_signature");
    let theirs = order(&world, "a2", "open", "prop_1");
    give(&world, 2, &theirs, open)
        .await
        .problem(403, "forbidden");
    let first = give(&world, 1, &good, open).await;
    assert_eq!(first.ok(200)["status"], "voting");
    // The same order again is answered as the first time.
    assert_eq!(give(&world, 1, &good, open).await.body, first.body);
    let cancel = order(&world, "administrator", "cancel", "prop_1");
    let cancelled = give(&world, ADMINISTRATOR, &cancel, "/proposals/prop_1/cancel").await;
    assert_eq!(cancelled.ok(200)["status"], "cancelled");
}

async fn submit_signed(world: &World, body: &Value, signature: String) -> Reply {
    let mut body = body.clone();
    body["signature"] = signature.into();
    world.post("/proposals").json(&body).send().await
}

#[tokio::test]
async fn a_proposal_may_be_signed_instead() {
    let world = World::with_agents(2).await;
    let body = document(json!({}));
    let signature = world.sign_proposal(1, &body, "first");
    let first = submit_signed(&world, &body, signature.clone()).await;
    first.ok(201);
    assert_eq!(world.read("/proposals/prop_1").await["author"], "a1");
    // The statement names the request: sent again it does nothing again.
    let again = submit_signed(&world, &body, signature.clone()).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    let other = document(json!({"title": "Something else"}));
    submit_signed(&world, &other, signature.clone())
        .await
        .problem(422, "statement_mismatch");
    let reused = world.sign_proposal(1, &other, "first");
    submit_signed(&world, &other, reused)
        .await
        .problem(422, "idempotency_mismatch");
    // A name of the request beside that of the statement must be the same.
    let ask = |key: &'static str| {
        let mut body = body.clone();
        body["signature"] = signature.clone().into();
        world
            .post("/proposals")
            .header("idempotency-key", key)
            .json(&body)
            .send()
    };
    ask("another").await.problem(400, "invalid_header");
    assert_eq!(ask("first").await.body, first.body);

    // Whose token it is sent with does not make another its author.
    let mut signed = body.clone();
    signed["signature"] = world.sign_proposal(1, &body, "second").into();
    let token = world.token("a2").await;
    let reply = world
        .post("/proposals")
        .token(&token)
        .json(&signed)
        .send()
        .await;
    reply.problem(403, "forbidden");
    let reply = world.admin("/proposals", &signed).await.ok(201);
    let id = reply["proposal_id"].as_str().unwrap();
    assert_eq!(
        world.read(&format!("/proposals/{id}")).await["author"],
        "a1"
    );

    let forged = world.sign_proposal(2, &body, "third");
    let (text, _) = forged.rsplit_once('.').unwrap();
    let (_, bytes) = signature.rsplit_once('.').unwrap();
    submit_signed(&world, &body, format!("{text}.{bytes}"))
        .await
        .problem(401, "bad_signature");
    let unknown = world.sign_proposal(9, &body, "fourth");
    submit_signed(&world, &body, unknown)
        .await
        .problem(404, "unknown_agent");
    submit_signed(&world, &body, "x".to_owned())
        .await
        .problem(401, "bad_signature");
    world
        .post("/proposals")
        .json(&body)
        .send()
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn what_an_author_may_not_choose_is_refused_before_the_log() {
    let world = World::with_agents(1).await;
    let index = world.node.index();
    for (status, code, extra) in [
        (422, "policy_violation", json!({"method": "condorcet"})),
        (422, "policy_violation", json!({"options": ["a", "b"]})),
        (422, "policy_violation", json!({"max_rounds": 3})),
        (422, "policy_violation", json!({"category": "emergency"})),
        (422, "policy_violation", json!({"voting_period_s": 0})),
        (422, "invalid_field", json!({"title": " "})),
        (422, "invalid_field", json!({"content": []})),
        (422, "invalid_field", json!({"voting_deadline": "soon"})),
        (422, "invalid_field", json!({"electorate": []})),
        (400, "invalid_json", json!({"type": "whim"})),
        (400, "invalid_json", json!({"category": "trivial"})),
        (
            400,
            "invalid_json",
            json!({"electorate": {"colour": "red"}}),
        ),
        (400, "invalid_json", json!({"electorate": "all"})),
        (400, "invalid_json", json!({"consensus_threshold": 0.67})),
        (400, "invalid_json", json!({"signature": null})),
    ] {
        let reply = world.admin("/proposals", &document(extra.clone())).await;
        let detail = reply.problem(status, code);
        assert_eq!(world.node.index(), index, "{extra}: {detail}");
    }
    let electorate = json!({"electorate": ["a1", "nobody"]});
    world
        .admin("/proposals", &document(electorate))
        .await
        .problem(404, "unknown_agent");
    let past = json!({"voting_deadline": "2020-01-01T00:00:00Z"});
    world
        .admin("/proposals", &document(past))
        .await
        .problem(422, "policy_violation");
    let filter = json!({"electorate": {"types": ["human"], "attested": true}, "open": true});
    world.admin("/proposals", &document(filter)).await.ok(201);
}

#[tokio::test]
async fn an_author_has_a_limit_of_open_proposals() {
    let world = World::with_agents(1).await;
    let token = world.token("a1").await;
    let submit = || {
        world
            .post("/proposals")
            .token(&token)
            .json(&document(json!({})))
            .send()
    };
    for _ in 0..10 {
        submit().await.ok(201);
    }
    submit().await.problem(409, "too_many_open");
}

#[tokio::test]
async fn an_idempotency_key_submits_once() {
    let world = World::with_agents(1).await;
    let token = world.token("a1").await;
    let submit = |token: String, body: Value| {
        let ask = world
            .post("/proposals")
            .token(&token)
            .header("Idempotency-Key", "k-1");
        ask.json(&body).send()
    };
    let first = submit(token.clone(), document(json!({}))).await;
    first.ok(201);
    let again = submit(token.clone(), document(json!({}))).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    let other = submit(token, document(json!({"title": "Other"}))).await;
    other.problem(422, "idempotency_mismatch");
    // Keys are each principal's own.
    assert_eq!(
        submit(ADMIN.to_owned(), document(json!({}))).await.ok(201)["proposal_id"],
        "prop_2"
    );
    // Without a key each request is one of its own.
    assert_eq!(world.propose_with(json!({})).await, "prop_3");
    assert_eq!(world.propose_with(json!({})).await, "prop_4");
}

#[tokio::test]
async fn lists_are_filtered_and_walked() {
    let world = World::with_agents(1).await;
    let token = world.token("a1").await;
    for n in 0..5 {
        world
            .propose_with(json!({"title": format!("P{n}"), "open": n % 2 == 0}))
            .await;
    }
    world
        .post("/proposals")
        .token(&token)
        .json(&document(json!({})))
        .send()
        .await
        .ok(201);
    let change = json!({"type": "configuration_change", "title": "C"});
    world.propose_with(change).await;
    world
        .post("/proposals/prop_2/cancel")
        .token(ADMIN)
        .send()
        .await
        .ok(200);

    let ids = |list: Vec<Value>| -> Vec<String> {
        let id = |item: &Value| item["proposal_id"].as_str().unwrap().to_owned();
        list.iter().map(id).collect()
    };
    let all = ids(walk(&world, "/proposals?limit=2", "proposals", 2).await);
    assert_eq!(
        all,
        [
            "prop_7", "prop_6", "prop_5", "prop_4", "prop_3", "prop_2", "prop_1"
        ]
    );
    for (query, expected) in [
        (
            "status=active&type=&author=",
            vec!["prop_7", "prop_6", "prop_5", "prop_4", "prop_3", "prop_1"],
        ),
        ("status=voting", vec!["prop_5", "prop_3", "prop_1"]),
        ("status=cancelled", vec!["prop_2"]),
        ("author=a1", vec!["prop_6"]),
        (
            "author=administrator&status=draft",
            vec!["prop_7", "prop_4"],
        ),
        ("type=configuration_change", vec!["prop_7"]),
        ("author=nobody", vec![]),
    ] {
        let found = walk(
            &world,
            &format!("/proposals?{query}&limit=3"),
            "proposals",
            3,
        )
        .await;
        assert_eq!(ids(found), expected, "{query}");
    }
    for query in [
        "status=halted",
        "type=whim",
        "author=no%20id",
        "colour=red",
        "limit=0",
        "cursor=x",
    ] {
        let reply = world.get(&format!("/proposals?{query}")).send().await;
        reply.problem(400, "invalid_query");
    }
    let cursor = world.read("/agents?limit=1").await;
    assert_eq!(cursor["next_cursor"], json!(null));
    let cursor = &world.read("/proposals?limit=1").await["next_cursor"];
    let reply = world
        .get(&format!("/agents?cursor={}", cursor.as_str().unwrap()))
        .send()
        .await;
    reply.problem(400, "invalid_query");
}

/// A page of large documents ends early, and the walk still finds all.
#[tokio::test]
async fn large_documents_do_not_make_large_pages() {
    let world = World::with_agents(1).await;
    for n in 0..30 {
        let text = "x".repeat(60_000);
        world
            .propose_with(json!({"title": format!("P{n}"), "content": {"text": text}}))
            .await;
    }
    let first = world.get("/proposals?limit=1000").send().await;
    assert!(first.body.len() < 3 << 19, "{}", first.body.len());
    assert!(first.ok(200)["next_cursor"].is_string());
    let all = walk(&world, "/proposals?limit=1000", "proposals", 1_000).await;
    assert_eq!(all.len(), 30);
}

/// So does one of votes with long justifications, by proposal and by agent.
#[tokio::test]
async fn long_justifications_do_not_make_large_pages() {
    const VOTES: u32 = 30;
    let text = "x".repeat(60_000);
    let world = World::with_agents(VOTES).await;
    let cast = async |n: u32, proposal: &str| {
        let mut claims = world.vote(n, proposal, "for").await;
        claims.justification_sha256 = Some(Digest::of(&text));
        let mut body = ballot(n, &claims);
        body["justification"] = text.as_str().into();
        world.post("/votes").json(&body).send().await.ok(201);
    };
    // Nothing is decided before the last vote, so that each is taken.
    let unanimous = json!({"open": true, "method": "unanimous"});
    let proposal = world.propose_with(unanimous).await;
    for n in 1..=VOTES {
        cast(n, &proposal).await;
    }
    for _ in 1..VOTES {
        cast(1, &world.propose().await).await;
    }
    for path in [
        format!("/proposals/{proposal}/votes"),
        "/agents/a1/votes".to_owned(),
    ] {
        let path = format!("{path}?limit=1000");
        let first = world.get(&path).send().await;
        assert!(first.body.len() < 3 << 19, "{path}: {}", first.body.len());
        assert!(first.ok(200)["next_cursor"].is_string());
        let all = walk(&world, &path, "votes", 1_000).await;
        let votes: BTreeSet<_> = all.iter().map(|vote| vote["vote_id"].to_string()).collect();
        assert_eq!((all.len(), votes.len()), (30, 30), "{path}");
    }
}

/// And one of agents whose attestations are padded.
#[tokio::test]
async fn long_attestations_do_not_make_large_pages() {
    const AGENTS: u32 = 120;
    let world = World::new().await;
    let padded = |n: u32, signer: u32| {
        let claims = serde_json::to_string(&world.registration_claims(n)).unwrap();
        let typ = "aegis-registration+jws";
        let kid = secret(signer).public().kid();
        let header = format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"{kid}"}}"#);
        let text = format!("{}.{}", b64(header), b64(format!("{claims:5000}")));
        let signature = secret(signer).sign(text.as_bytes());
        Some(format!("{text}.{}", b64(signature)))
    };
    let registrations = (1..=AGENTS).map(|n| aegis_ledger::Registration {
        attestation: padded(n, REGISTRAR),
        proof: padded(n, n),
        ..world.attested(n)
    });
    world.register_all(registrations.collect());
    let first = world.get("/agents?limit=1000").send().await;
    assert!(first.body.len() < 3 << 19, "{}", first.body.len());
    assert!(first.ok(200)["next_cursor"].is_string());
    let all = walk(&world, "/agents?limit=1000", "agents", 1_000).await;
    let agents: BTreeSet<_> = all
        .iter()
        .map(|agent| agent["agent_id"].to_string())
        .collect();
    assert_eq!((all.len(), agents.len()), (120, 120));
}

#[tokio::test]
async fn decisions_are_walked_newest_first() {
    let world = World::with_agents(1).await;
    for _ in 0..5 {
        let proposal = world.propose().await;
        world.cast(1, &proposal, "for").await;
    }
    let walked = walk(&world, "/decisions?limit=2", "decisions", 2).await;
    let ordinals: Vec<_> = walked
        .iter()
        .map(|d| d["ordinal"].as_u64().unwrap())
        .collect();
    assert_eq!(ordinals, [5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_unknown() {
    let world = World::new().await;
    for path in ["", "/document", "/ballot", "/results", "/votes"] {
        for id in [
            "prop_1",
            "prop_01",
            "prop_",
            "x",
            "prop_99999999999999999999",
        ] {
            let reply = world.get(&format!("/proposals/{id}{path}")).send().await;
            reply.problem(404, "unknown_proposal");
        }
    }
}
