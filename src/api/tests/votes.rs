//! Ballots: what is admitted, what is refused and why.

use aegis_crypto::Digest;
use aegis_crypto::claims::VoteClaims;
use aegis_ledger::{AgentId, Command, Entry, Principal, VOTING_PERIOD_MIN_S};
use serde_json::{Value, json};

use crate::world::*;

#[tokio::test]
async fn a_vote_is_recorded_and_its_repeat_answers_the_same_bytes() {
    let world = World::with_agents(3).await;
    let proposal = world.propose().await;
    let claims = world.vote(1, &proposal, "for").await;
    let body = ballot(1, &claims);
    let first = world.post("/votes").json(&body).send().await;
    let recorded = first.ok(201);
    assert_eq!(recorded["vote_id"], "vote_1_1");
    assert_eq!(recorded["status"], "recorded");
    let members: Vec<_> = recorded.as_object().unwrap().keys().collect();
    assert_eq!(members, ["status", "timestamp", "vote_id"]);
    assert_eq!(first.index(), world.node.index());

    world.node.advance(5_000);
    let again = world.post("/votes").json(&body).send().await;
    again.ok(200);
    assert_eq!(again.body, first.body);

    // Also on the alias, and after the close.
    world.cast(2, &proposal, "for").await;
    world.cast(3, &proposal, "against").await;
    let alias = world.post("//api/consensus/votes").json(&body).send().await;
    alias.ok(200);
    assert_eq!(alias.body, first.body);
}

#[tokio::test]
async fn synonyms_mean_the_same_on_both_sides() {
    let world = World::with_agents(5).await;
    let proposal = world.propose().await;
    for (voter, signed, outer) in [
        (1, "for", "approve"),
        (2, "approve", "for"),
        (3, "reject", "against"),
    ] {
        let mut body = ballot(voter, &world.vote(voter, &proposal, signed).await);
        body["vote"] = outer.into();
        world.post("/votes").json(&body).send().await.ok(201);
    }
    let votes = &world.read(&format!("/proposals/{proposal}")).await["votes"];
    assert_eq!(
        *votes,
        json!({"for": 2, "against": 1, "abstain": 0, "total": 3})
    );
}

#[tokio::test]
async fn confidences_are_compared_exactly() {
    let world = World::with_agents(8).await;
    let proposal = world.propose().await;
    for (voter, signed, outer) in [
        (1, "0.9", "0.9"),
        (2, "0.9", "0.90"),
        (3, "0.9", "9e-1"),
        (4, "0.000000001", "1E-9"),
        (5, "1", "1.0"),
    ] {
        let mut claims = world.vote(voter, &proposal, "for").await;
        claims.confidence = signed.to_owned();
        let body = ballot(voter, &claims).to_string();
        let outer = format!("\"confidence\":{outer},");
        let start = body.find("\"confidence\":").unwrap();
        let end = start + body[start..].find(',').unwrap() + 1;
        let body = format!("{}{outer}{}", &body[..start], &body[end..]);
        world.post("/votes").text(body).send().await.ok(201);
    }
    // Absent is one.
    let mut claims = world.vote(6, &proposal, "for").await;
    claims.confidence = "1".to_owned();
    let mut body = ballot(6, &claims);
    body.as_object_mut().unwrap().remove("confidence");
    world.post("/votes").json(&body).send().await.ok(201);
    let mut body = ballot(7, &world.vote(7, &proposal, "for").await);
    body.as_object_mut().unwrap().remove("confidence");
    world
        .post("/votes")
        .json(&body)
        .send()
        .await
        .problem(422, "statement_mismatch");
}

#[tokio::test]
async fn a_justification_is_kept_with_its_digest() {
    let world = World::with_agents(2).await;
    let proposal = world.propose().await;
    let mut claims = world.vote(1, &proposal, "against").await;
    claims.justification_sha256 = Some(Digest::of("too \"far\""));
    let mut body = ballot(1, &claims);
    world
        .post("/votes")
        .json(&body)
        .send()
        .await
        .problem(422, "statement_mismatch");
    body["justification"] = "too far".into();
    world
        .post("/votes")
        .json(&body)
        .send()
        .await
        .problem(422, "statement_mismatch");
    body["justification"] = "too \"far\"".into();
    let vote = world.post("/votes").json(&body).send().await.ok(201);
    let vote = world
        .read(&format!("/votes/{}", vote["vote_id"].as_str().unwrap()))
        .await;
    assert_eq!(vote["justification"], "too \"far\"");
    assert_eq!(
        vote["justification_sha256"],
        Digest::of("too \"far\"").to_string()
    );
    assert_eq!(vote["voter"], "a1");
    assert_eq!(vote["vote"], "against");
    assert_eq!(vote["confidence"], json!(0.9));
    assert_eq!(vote["signature"], body["signature"]);
    assert_eq!(vote["proposal_id"], proposal);
}

/// Exponents at and beyond the bounds of 32 bits.
const EXTREME_NUMBERS: [&str; 4] = [
    "1e-2147483648",
    "1e2147483647",
    "1e-2147483649",
    "1E+99999999999999999999",
];

#[tokio::test]
async fn every_refusal_has_its_status_and_code() {
    let world = World::with_agents(4).await;
    let proposal = world.propose().await;
    type Alter = fn(&mut VoteClaims);
    let signed: [(u16, &str, Alter); 13] = [
        (404, "unknown_proposal", |c| c.proposal = "prop_99".into()),
        (404, "unknown_proposal", |c| c.proposal = "prop_01".into()),
        (403, "unknown_voter", |c| c.sub = "nobody".into()),
        (403, "unknown_voter", |c| c.sub = "no id".into()),
        (422, "statement_mismatch", |c| {
            c.aud = Digest::of("another cluster")
        }),
        (422, "statement_mismatch", |c| {
            c.digest = Digest::of("other rules")
        }),
        (422, "statement_mismatch", |c| c.round = 2),
        (401, "expired_statement", |c| c.exp = Some(c.iat - 61)),
        (401, "expired_statement", |c| c.iat += 61),
        (422, "invalid_choice", |c| c.choice = "maybe".into()),
        (422, "invalid_confidence", |c| c.confidence = "1.5".into()),
        (422, "invalid_confidence", |c| c.confidence = "1e-1".into()),
        (422, "invalid_field", |c| c.jti = String::new()),
    ];
    for (status, code, alter) in signed {
        let mut claims = world.vote(1, &proposal, "for").await;
        alter(&mut claims);
        world
            .refuses(ballot(1, &claims).to_string(), status, code)
            .await;
    }
    let body = ballot(1, &world.vote(1, &proposal, "for").await);
    let outer = [
        (404, "unknown_proposal", "proposal_id", json!("x")),
        (422, "statement_mismatch", "proposal_id", json!("prop_2")),
        (422, "statement_mismatch", "vote", json!("abstain")),
        (422, "invalid_choice", "vote", json!("maybe")),
        (422, "statement_mismatch", "confidence", json!(0.8)),
        (422, "invalid_confidence", "confidence", json!(1.1)),
        (422, "invalid_confidence", "confidence", json!(-0.1)),
        (422, "invalid_confidence", "confidence", json!(1e-10)),
        (400, "invalid_json", "confidence", json!("0.9")),
        (401, "bad_signature", "signature", json!("a.b.c")),
    ];
    for (status, code, field, value) in outer {
        let mut body = body.clone();
        body[field] = value;
        world.refuses(body.to_string(), status, code).await;
    }
    // Numbers that no JSON library of ours writes.
    for number in EXTREME_NUMBERS {
        let body = body
            .to_string()
            .replace("\"confidence\":0.9", &format!("\"confidence\":{number}"));
        let detail = world.refuses(body, 422, "invalid_confidence").await;
        assert!(detail.contains(&number[..5]), "{detail}");
    }
    // Another agent's key.
    let claims = world.vote(1, &proposal, "for").await;
    world
        .refuses(ballot(2, &claims).to_string(), 401, "bad_signature")
        .await;
    // What only the ledger knows.
    world.cast(1, &proposal, "for").await;
    let mut claims = world.vote(1, &proposal, "against").await;
    world
        .refuses(ballot(1, &claims).to_string(), 409, "already_voted")
        .await;
    claims.jti = "1-prop_1-for".into();
    world
        .refuses(ballot(1, &claims).to_string(), 409, "replayed")
        .await;
    let only = world
        .propose_with(json!({"open": true, "electorate": ["a1", "a2"]}))
        .await;
    let claims = world.vote(3, &only, "for").await;
    world
        .refuses(ballot(3, &claims).to_string(), 403, "not_eligible")
        .await;
    let draft = world.propose_with(json!({})).await;
    let mut claims = world.vote(2, &proposal, "for").await;
    claims.proposal = draft;
    world
        .refuses(ballot(2, &claims).to_string(), 409, "not_open")
        .await;
    let claims = world.vote(2, &only, "for").await;
    world
        .post(&format!("/proposals/{only}/cancel"))
        .token(ADMIN)
        .send()
        .await
        .ok(200);
    world
        .refuses(ballot(2, &claims).to_string(), 409, "voting_closed")
        .await;
}

#[tokio::test]
async fn late_ballots_are_refused_as_closed() {
    let world = World::with_agents(2).await;
    let period = VOTING_PERIOD_MIN_S;
    let proposal = world
        .propose_with(json!({"open": true, "voting_period_s": period}))
        .await;
    world.node.advance(1_000 * (period + 1));
    let claims = world.vote(1, &proposal, "for").await;
    world
        .refuses(ballot(1, &claims).to_string(), 409, "voting_closed")
        .await;
}

#[tokio::test]
async fn what_is_refused_by_itself_never_enters_the_log() {
    let world = World::with_agents(2).await;
    let proposal = world.propose().await;
    let claims = world.vote(1, &proposal, "for").await;
    let index = world.node.index();
    world
        .refuses(ballot(2, &claims).to_string(), 401, "bad_signature")
        .await;
    let mut other = claims.clone();
    other.sub = "nobody".into();
    world
        .refuses(ballot(1, &other).to_string(), 403, "unknown_voter")
        .await;
    other.aud = Digest::of("another cluster");
    world
        .refuses(ballot(1, &other).to_string(), 422, "statement_mismatch")
        .await;
    assert_eq!(world.node.index(), index);
}

/// An agent that was registered on another node is found there before it is refused here.
#[tokio::test]
async fn an_agent_this_node_has_not_heard_of_is_asked_for() {
    let world = World::new().await;
    world.node.fall_behind();
    world.register(2);
    let proposal = world.propose().await;
    world.cast(1, &proposal, "for").await;
    // A registered agent with a key of its own, seen through the cache as well.
    let again = world.propose().await;
    world.cast(1, &again, "for").await;
}

#[tokio::test]
async fn a_replaced_key_counts_at_once_although_the_old_one_is_remembered() {
    let world = World::with_agents(2).await;
    let proposals = [
        world.propose().await,
        world.propose().await,
        world.propose().await,
    ];
    world.cast(1, &proposals[0], "for").await;
    let body = json!({"public_key": jwk(50)});
    world.admin("/agents/a1/keys", &body).await.ok(201);
    let claims = world.vote(1, &proposals[1], "for").await;
    let old = world.post("/votes").json(&ballot(1, &claims)).send().await;
    old.problem(401, "bad_signature");
    world
        .post("/votes")
        .json(&ballot(50, &claims))
        .send()
        .await
        .ok(201);
}

#[tokio::test]
async fn keys_are_read_once() {
    let world = World::with_agents(2).await;
    let (one, other) = (world.propose().await, world.propose().await);
    world.cast(1, &one, "for").await;
    // With the agent's record gone, only a remembered key verifies; apply has its own.
    world
        .node
        .state
        .lock()
        .unwrap()
        .tables
        .alter(aegis_ledger::Table::Agents, b"a1", |record| record.clear());
    world.cast(1, &other, "for").await;
}

#[tokio::test]
async fn a_batch_answers_each_ballot_in_order() {
    let world = World::with_agents(5).await;
    let proposal = world.propose().await;
    let mut votes = Vec::new();
    for n in 1..=3 {
        votes.push(ballot(n, &world.vote(n, &proposal, "for").await));
    }
    votes.push(votes[0].clone());
    votes.push(ballot(4, &world.vote(5, &proposal, "for").await));
    let mut unknown = world.vote(4, &proposal, "for").await;
    unknown.sub = "nobody".into();
    votes.push(ballot(4, &unknown));
    votes.push(ballot(1, &world.vote(1, &proposal, "against").await));
    let reply = world
        .post("/votes/batch")
        .json(&json!({"votes": votes}))
        .send()
        .await;
    let results = reply.ok(200)["results"].as_array().unwrap().clone();
    let short: Vec<_> = results
        .iter()
        .map(|result| (result["status"].as_u64().unwrap(), result["code"].as_str()))
        .collect();
    assert_eq!(
        short,
        [
            (201, None),
            (201, None),
            (201, None),
            (200, None),
            (401, Some("bad_signature")),
            (403, Some("unknown_voter")),
            (409, Some("already_voted")),
        ]
    );
    assert_eq!(results[0], json!({"status": 201, "vote_id": "vote_1_1"}));
    assert_eq!(results[3]["vote_id"], "vote_1_1");
    assert_eq!(reply.index(), world.node.index());
    assert_eq!(
        world.read(&format!("/proposals/{proposal}")).await["votes"]["total"],
        3
    );
}

/// A number that nobody can mean is its own ballot's problem.
#[tokio::test]
async fn an_extreme_number_in_a_batch_leaves_the_others() {
    let world = World::with_agents(3).await;
    let proposal = world.propose().await;
    let mut votes = Vec::new();
    for n in 1..=3 {
        votes.push(ballot(n, &world.vote(n, &proposal, "for").await));
    }
    for number in EXTREME_NUMBERS {
        let extreme = votes[1]
            .to_string()
            .replace("\"confidence\":0.9", &format!("\"confidence\":{number}"));
        let batch = format!("{{\"votes\":[{},{extreme},{}]}}", votes[0], votes[2]);
        let reply = world.post("/votes/batch").text(batch).send().await.ok(200);
        let results = &reply["results"];
        assert_eq!(results[1]["status"], 422, "{number}: {reply}");
        assert_eq!(results[1]["code"], "invalid_confidence");
        assert!(results[0]["vote_id"].is_string() && results[2]["vote_id"].is_string());
    }
    assert_eq!(
        world.read(&format!("/proposals/{proposal}")).await["votes"]["total"],
        2
    );
}

#[tokio::test]
async fn a_batch_is_one_entry_and_one_of_nothing_but_refusals_is_none() {
    let world = World::new().await;
    world.register(256);
    let proposal = world.propose().await;
    let first = world.vote(1, &proposal, "for").await;
    let mut votes = Vec::new();
    for n in 1..=256 {
        let claims = VoteClaims {
            sub: id(n).into(),
            jti: n.to_string(),
            ..first.clone()
        };
        votes.push(ballot(n, &claims));
    }
    let index = world.node.index();
    let forged = {
        let mut forged = votes[0].clone();
        forged["signature"] = votes[1]["signature"].clone();
        forged["vote"] = "against".into();
        json!({"votes": [forged]})
    };
    let reply = world
        .post("/votes/batch")
        .json(&forged)
        .send()
        .await
        .ok(200);
    assert_eq!(reply["results"][0]["code"], "statement_mismatch");
    assert_eq!(world.node.index(), index);
    let reply = world
        .post("/votes/batch")
        .json(&json!({"votes": votes}))
        .send()
        .await
        .ok(200);
    let results = reply["results"].as_array().unwrap();
    assert!(
        results.iter().all(|result| result["status"] == 201),
        "{results:?}"
    );
    assert_eq!(world.node.index(), index + 1);
    assert_eq!(
        world.read(&format!("/proposals/{proposal}")).await["status"],
        "approved"
    );

    votes.push(votes[0].clone());
    for votes in [json!([]), json!(votes)] {
        let reply = world
            .post("/votes/batch")
            .json(&json!({"votes": votes}))
            .send()
            .await;
        assert!(reply.problem(422, "invalid_field").contains("1 to 256"));
    }
}

#[tokio::test]
async fn vote_logs_are_walked_by_cursor() {
    let world = World::with_agents(7).await;
    let (one, other) = (world.propose().await, world.propose().await);
    for n in 1..=7 {
        world.cast(n, &one, "for").await;
    }
    world.cast(3, &other, "against").await;
    let walked = walk(
        &world,
        &format!("/proposals/{one}/votes?limit=3"),
        "votes",
        3,
    )
    .await;
    let voters: Vec<_> = walked
        .iter()
        .map(|vote| vote["voter"].as_str().unwrap())
        .collect();
    assert_eq!(voters, ["a1", "a2", "a3", "a4", "a5", "a6", "a7"]);
    let walked = walk(&world, "/agents/a3/votes?limit=1", "votes", 1).await;
    let votes: Vec<_> = walked
        .iter()
        .map(|vote| vote["vote_id"].as_str().unwrap())
        .collect();
    assert_eq!(votes, ["vote_1_3", "vote_2_1"]);
    world
        .get("/proposals/prop_9/votes")
        .send()
        .await
        .problem(404, "unknown_proposal");
    world
        .get("/agents/nobody/votes")
        .send()
        .await
        .problem(404, "unknown_agent");
    for vote in ["vote_1_8", "vote_9_1", "vote_1", "x"] {
        world
            .get(&format!("/votes/{vote}"))
            .send()
            .await
            .problem(404, "unknown_vote");
    }
}

/// All items of a list, read page by page.
pub async fn walk(world: &World, path: &str, items: &str, limit: usize) -> Vec<Value> {
    let mut all = Vec::new();
    let mut next = path.to_owned();
    loop {
        let page = world.read(&next).await;
        let found = page[items].as_array().unwrap();
        assert!(found.len() <= limit);
        all.extend(found.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("{path}&cursor={cursor}"),
            None => return all,
        }
        assert!(all.len() < 10_000, "the walk does not end");
    }
}

/// A ballot by the JWS library of another language: other order of members, white space.
#[tokio::test]
async fn a_statement_may_be_spelled_in_other_ways() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let world = World::with_agents(2).await;
    let proposal = world.propose().await;
    let claims = serde_json::to_string_pretty(&world.vote(1, &proposal, "for").await).unwrap();
    let kid = secret(1).public().kid();
    let header =
        format!("{{ \"typ\" : \"aegis-vote+jws\", \"alg\":\"Ed25519\", \"kid\":\"{kid}\" }}");
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = URL_SAFE_NO_PAD.encode(secret(1).sign(signed.as_bytes()));
    let body = json!({
        "proposal_id": proposal, "vote": "for", "confidence": 0.9,
        "signature": format!("{signed}.{signature}"),
    });
    world.post("/votes").json(&body).send().await.ok(201);
}

/// A removed agent's ballot is refused by the ledger, whatever the edge remembers.
#[tokio::test]
async fn a_removed_agent_votes_no_more() {
    let world = World::with_agents(3).await;
    let (one, other) = (world.propose().await, world.propose().await);
    world.cast(1, &one, "for").await;
    let agent: AgentId = id(1);
    world.node.apply(Entry {
        principal: Principal::Administrator,
        request: None,
        command: Command::RemoveAgent { agent },
    });
    let claims = world.vote(1, &other, "for").await;
    let reply = world.post("/votes").json(&ballot(1, &claims)).send().await;
    reply.problem(403, "not_eligible");
}
