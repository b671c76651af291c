//! What is sent twice happens once: on every node, and whatever dies in between.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ballot::{Ballot, secret};
use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_ballot_counts_once_on_every_node_and_after_a_crash() {
    let mut cluster = Cluster::start(3).await;
    cluster.register(1, 3).await;
    let (first, second) = (
        cluster.propose(1, "First").await,
        cluster.propose(1, "Second").await,
    );
    let claims = first.claims(1, "for");
    let vote = Ballot::signed(1, &claims);
    let (status, receipt) = cluster.post(1, "/votes", &vote).await;
    assert_eq!(status, StatusCode::CREATED, "{receipt}");
    let again = cluster.post(2, "/votes", &vote).await;
    assert_eq!(again, (StatusCode::OK, receipt.clone()));

    cluster.kill_all();
    cluster.start_all();
    cluster.ready().await;
    let again = cluster.post(3, "/votes", &vote).await;
    assert_eq!(again, (StatusCode::OK, receipt.clone()));
    // Another statement under the same name: nobody but the voter could have signed it.
    let mut elsewhere = second.claims(1, "for");
    elsewhere.jti.clone_from(&claims.jti);
    let (status, refused) = cluster
        .post(2, "/votes", &Ballot::signed(1, &elsewhere))
        .await;
    assert_eq!(
        (status, &refused["code"]),
        (StatusCode::CONFLICT, &json!("replayed"))
    );

    for node in cluster.ids() {
        let counted = |results: Value| results["results"]["total_votes"].clone();
        assert_eq!(counted(cluster.results(node, &first.proposal).await), 1);
        assert_eq!(counted(cluster.results(node, &second.proposal).await), 0);
        let path = format!("/proposals/{}/votes", first.proposal);
        let (_, log) = cluster.get(node, &path).await;
        let ids: Vec<_> = log["votes"].as_array().unwrap().iter().collect();
        assert_eq!(ids.len(), 1, "{log}");
        assert_eq!(ids[0]["vote_id"], receipt["vote_id"]);
    }
    cluster.assert_states_agree().await;
}

fn document(title: &str) -> Value {
    json!({"title": title, "description": "", "type": "decision", "content": {}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_is_known_to_every_node_and_outlives_its_leader() {
    let mut cluster = Cluster::start(3).await;
    let (leader, key, body) = (cluster.leader().await, "k-1", document("Once"));
    let others: Vec<_> = cluster
        .ids()
        .into_iter()
        .filter(|id| *id != leader)
        .collect();
    let first = cluster.post_keyed(leader, "/proposals", key, &body).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
    let second = cluster
        .post_keyed(others[0], "/proposals", key, &body)
        .await;
    assert_eq!((second.status, &second.body), (first.status, &first.body));

    cluster.kill(leader);
    cluster.ready().await;
    let third = cluster
        .post_keyed(others[1], "/proposals", key, &body)
        .await;
    assert_eq!((third.status, &third.body), (first.status, &first.body));
    let other_body = document("Twice");
    let other = cluster
        .post_keyed(others[0], "/proposals", key, &other_body)
        .await;
    assert_eq!(
        (other.status, &other.body["code"]),
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!("idempotency_mismatch")
        )
    );
    let (_, list) = cluster.get(others[0], "/proposals").await;
    assert_eq!(list["proposals"].as_array().unwrap().len(), 1, "{list}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_belongs_to_its_principal() {
    let cluster = Cluster::start(1).await;
    let jwk = aegis_crypto::Jwk::from(secret(1).public());
    let agent = json!({"agent_id": "a1", "name": "Agent 1", "type": "llm", "public_key": jwk});
    let registered = cluster.post_keyed(1, "/agents", "k-1", &agent).await;
    assert_eq!(
        registered.status,
        StatusCode::CREATED,
        "{}",
        registered.body
    );
    let again = cluster.post_keyed(1, "/agents", "k-1", &agent).await;
    assert_eq!(
        (again.status, again.body),
        (registered.status, registered.body)
    );
    let (status, token) = cluster.post(1, "/tokens", &json!({"agent_id": "a1"})).await;
    assert_eq!(status, StatusCode::CREATED, "{token}");
    // The administrator's key names nothing of the agent's.
    let proposed = cluster
        .http
        .request(Method::POST, cluster.url(1, "/proposals"))
        .bearer_auth(token["token"].as_str().unwrap())
        .header("idempotency-key", "k-1")
        .json(&document("By an agent"))
        .send()
        .await
        .unwrap();
    assert_eq!(proposed.status(), StatusCode::CREATED);
}
