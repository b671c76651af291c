//! Decisions as the committee certifies them.

use aegis_crypto::Certificate;
use aegis_ledger::Statement;
use serde_json::json;

use crate::world::*;

const DSSE: &str = "application/vnd.dsse.envelope.v1+json";

#[tokio::test]
async fn a_certificate_is_served_byte_for_byte_as_it_was_recorded() {
    let world = World::with_committee(4, 2).await;
    let proposal = world.propose().await;
    let path = format!("/proposals/{proposal}/certificate");
    let detail = world.get(&path).send().await.problem(404, "not_certified");
    assert!(detail.contains("is in voting"), "{detail}");
    world.approve(&proposal, 2).await;
    let waiting = world.get(&path).send().await;
    let detail = waiting.problem(404, "not_certified");
    assert!(detail.contains("closing 1"), "{detail}");
    assert_eq!(waiting.index(), world.node.index());

    let envelope = world.certify(1);
    let served = world.get(&path).send().await;
    assert_eq!(served.body, envelope);
    assert_eq!(served.header("content-type"), "application/json");
    assert_eq!(served.header("vary"), "accept");
    assert_eq!(served.index(), world.node.index());
    for (accept, content_type) in [
        (DSSE, DSSE),
        (
            "text/html, Application/Vnd.Dsse.Envelope.v1+JSON;q=0.9",
            DSSE,
        ),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/vnd.dsse.envelope.v2+json", "application/json"),
    ] {
        let served = world.get(&path).header("accept", accept).send().await;
        assert_eq!(served.header("content-type"), content_type, "{accept}");
        assert_eq!(served.body, envelope);
    }
    // It verifies with nothing but the genesis.
    let committee = world.node.genesis.committee().unwrap();
    let certificate = Certificate::parse(&served.body).unwrap().verify(committee);
    let statement = Statement::parse(certificate.unwrap().statement()).unwrap();
    assert_eq!(statement.proposal.to_string(), proposal);
}

#[tokio::test]
async fn what_cannot_be_certified_says_why() {
    let world = World::with_committee(4, 1).await;
    world.propose_with(json!({})).await;
    for document in ["certificate", "bundle"] {
        let draft = world.get(&format!("/proposals/prop_1/{document}"));
        let detail = draft.send().await.problem(404, "not_certified");
        assert!(detail.contains("is in draft"), "{detail}");
        for unknown in ["prop_9", "nonsense", "prop_01"] {
            let path = format!("/proposals/{unknown}/{document}");
            let detail = world
                .get(&path)
                .send()
                .await
                .problem(404, "unknown_proposal");
            assert!(detail.contains(unknown), "{detail}");
        }
        let path = format!("/proposals/prop_1/{document}?format=x");
        world.get(&path).send().await.problem(400, "invalid_query");
    }
    let alone = World::with_agents(1).await;
    let proposal = alone.propose().await;
    alone.approve(&proposal, 1).await;
    for document in ["certificate", "bundle"] {
        let path = format!("/proposals/{proposal}/{document}");
        let detail = alone.get(&path).send().await.problem(404, "not_certified");
        assert!(detail.contains("no committee"), "{detail}");
    }
}

/// A decision says that it is certified wherever it is shown, and never before it is.
#[tokio::test]
async fn certified_is_the_truth_everywhere() {
    let world = World::with_committee(4, 2).await;
    let proposal = world.propose().await;
    world.approve(&proposal, 2).await;
    let shown = async |world: &World| {
        let list = world.read("/proposals").await;
        let decisions = world.read("/decisions").await;
        [
            world.read(&format!("/proposals/{proposal}")).await["certified"].clone(),
            world.read(&format!("/proposals/{proposal}/results")).await["certified"].clone(),
            list["proposals"][0]["certified"].clone(),
            decisions["decisions"][0]["certified"].clone(),
        ]
    };
    assert_eq!(shown(&world).await, [false, false, false, false]);
    world.certify(1);
    assert_eq!(shown(&world).await, [true, true, true, true]);
}

#[tokio::test]
async fn nothing_is_executed_before_its_certificate() {
    let world = World::with_committee(4, 2).await;
    let proposal = world.propose().await;
    world.approve(&proposal, 2).await;
    world.node.advance(30 * 86_400_000);
    let path = format!("/proposals/{proposal}/execute");
    let early = world.post(&path).token(ADMIN).send().await;
    let detail = early.problem(409, "not_certified");
    assert!(detail.contains("/certificate"), "{detail}");
    assert!(!detail.contains("  "), "{detail}");
    world.certify(1);
    world.post(&path).token(ADMIN).send().await.ok(200);
}

/// What the ledger refuses of a change of the committee reaches its author as a problem.
#[tokio::test]
async fn changes_of_the_committee_are_refused_with_reasons() {
    let world = World::with_committee(4, 1).await;
    let change = |change| {
        document(json!({
            "type": "configuration_change", "content": {"committee": change},
        }))
    };
    let add = |name: &str, key| json!({"add": {"name": name, "public_key": jwk(key)}});
    for (content, status, code, said) in [
        (
            json!({"remove": {"name": "v9"}}),
            404,
            "unknown_seat",
            "GET /committee",
        ),
        (
            add("v1", VALIDATOR + 5),
            409,
            "seat_exists",
            "seat v1 already",
        ),
        (add("v5", VALIDATOR + 1), 409, "key_in_use", "seat v1"),
        (add("v5", REGISTRAR), 409, "key_in_use", "the registrar"),
        (
            add("no such name!", 1),
            422,
            "invalid_field",
            "content.committee",
        ),
        (
            json!({"replace": {}}),
            422,
            "invalid_field",
            "content.committee",
        ),
        (json!({}), 422, "invalid_field", "content.committee"),
    ] {
        let reply = world.admin("/proposals", &change(content.clone())).await;
        let detail = reply.problem(status, code);
        assert!(detail.contains(said), "{content}: {detail}");
    }
    assert_eq!(world.read("/proposals").await["proposals"], json!([]));
    let fine = change(add("v4", VALIDATOR + 4));
    world.admin("/proposals", &fine).await.ok(201);
}
