//! What cannot be taken now is refused so that a client knows what to do, and taken later.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::cluster::{Answer, Cluster, eventually};

/// Casts the same bytes again and again until they are counted.
async fn taken(cluster: &Cluster, node: u64, vote: &Value) {
    eventually("the ballot is taken", async || {
        let (status, _) = cluster.post(node, "/votes", vote).await;
        status.is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_writes_and_reads_are_told_to_come_back() {
    let mut cluster = Cluster::init(3);
    cluster.start_all_with(|command| {
        command
            .env("AEGIS__RAFT__SUBMIT_DEADLINE_MS", "1000")
            .env("AEGIS__RAFT__READ_DEADLINE_MS", "1000");
    });
    cluster.ready().await;
    cluster.register(1, 3).await;
    let ballot = cluster.propose(1, "Without a quorum").await;
    let leader = cluster.leader().await;
    let (gone, survivor) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.kill(leader);
    cluster.kill(gone);
    cluster.metric_is(survivor, "aegis_has_leader", 0.0).await;

    let vote = ballot.vote(1, "for");
    let write = Answer::to(
        cluster
            .request(Method::POST, survivor, "/votes")
            .json(&vote),
    )
    .await;
    write.assert_retry(StatusCode::SERVICE_UNAVAILABLE, "no_leader");
    let results = format!("/proposals/{}/results", ballot.proposal);
    let read = Answer::to(cluster.request(Method::GET, survivor, &results)).await;
    read.assert_retry(StatusCode::SERVICE_UNAVAILABLE, "no_leader");
    let stale = format!("{results}?consistency=stale");
    let stale = Answer::to(cluster.request(Method::GET, survivor, &stale)).await;
    assert_eq!(stale.status, StatusCode::OK, "{}", stale.body);
    assert_eq!(stale.body["results"]["total_votes"], 0);
    let (ready, _) = cluster.get_root(survivor, "/readyz").await;
    assert_eq!(ready, StatusCode::SERVICE_UNAVAILABLE);
    let (live, _) = cluster.get_root(survivor, "/livez").await;
    assert_eq!(live, StatusCode::OK);

    cluster.start_node(gone);
    cluster.node_ready(survivor).await;
    let (status, body) = cluster.post(survivor, "/votes", &vote).await;
    assert_eq!(status, StatusCode::CREATED, "nothing was written: {body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once_and_takes_the_same_ballot_later() {
    let mut cluster = Cluster::init(3);
    cluster.start_all_with(|command| {
        command
            .env("AEGIS__RAFT__PROPOSALS_MAX", "1")
            .env("AEGIS__RAFT__SUBMIT_DEADLINE_MS", "15000");
    });
    cluster.ready().await;
    let leader = cluster.leader().await;
    cluster.register(leader, 3).await;
    let ballot = cluster.propose(leader, "In a queue").await;
    let (held, refused) = (ballot.vote(1, "for"), ballot.vote(2, "for"));
    // Nobody confirms the first ballot, which fills the queue until somebody does.
    let followers: Vec<_> = cluster
        .ids()
        .into_iter()
        .filter(|id| *id != leader)
        .collect();
    for follower in &followers {
        cluster.signal(*follower, "-STOP");
    }
    let first = tokio::spawn(
        cluster
            .request(Method::POST, leader, "/votes")
            .json(&held)
            .send(),
    );
    cluster
        .metric_is(leader, "aegis_proposals_pending", 1.0)
        .await;
    let second = Answer::to(
        cluster
            .request(Method::POST, leader, "/votes")
            .json(&refused),
    )
    .await;
    second.assert_retry(StatusCode::TOO_MANY_REQUESTS, "busy");
    let failed = "aegis_proposals_failed_total{reason=\"busy\"}";
    assert_eq!(cluster.metric(leader, failed).await, Some(1.0));

    for follower in &followers {
        cluster.signal(*follower, "-CONT");
    }
    // Either it was held until now and is counted, or its fate is unknown: then the same
    // bytes settle it.
    let first = first.await.unwrap().unwrap().status();
    assert!(
        [StatusCode::CREATED, StatusCode::GATEWAY_TIMEOUT].contains(&first),
        "{first}"
    );
    taken(&cluster, leader, &held).await;
    taken(&cluster, leader, &refused).await;
    cluster
        .metric_is(leader, "aegis_proposals_pending", 0.0)
        .await;
    let results = cluster.results(leader, &ballot.proposal).await;
    assert_eq!(results["results"]["total_votes"], 2, "{results}");
    cluster.assert_states_agree().await;
}
