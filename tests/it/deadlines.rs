//! Deadlines end voting by themselves: nobody writes, and the leader may be gone.

use serde_json::json;

use crate::cluster::Cluster;

/// Opens a proposal that ends after `period_s`, and lets two of three agents approve it.
async fn approved_in_time(cluster: &Cluster, period_s: u64) -> String {
    cluster.register(1, 3).await;
    let document = json!({
        "title": "Soon", "description": "", "type": "decision", "content": {},
        "voting_period_s": period_s, "open": true,
    });
    let (_, created) = cluster.post(1, "/proposals", &document).await;
    let proposal = created["proposal_id"].as_str().unwrap().to_owned();
    let ballot = cluster.ballot(1, &proposal).await;
    for voter in 1..=2 {
        let (status, body) = cluster.post(1, "/votes", &ballot.vote(voter, "for")).await;
        assert!(status.is_success(), "{body}");
    }
    proposal
}

/// Every node has closed it as approved, at the same moment and once.
async fn closed_everywhere(cluster: &Cluster, proposal: &str) {
    let mut moments = Vec::new();
    for node in cluster.ids() {
        let body = cluster.proposal_is(node, proposal, "approved").await;
        assert_eq!(body["votes"]["total"], 2, "{body}");
        moments.push(body["closed_at"].as_str().unwrap().to_owned());
        let (_, audit) = cluster.get(node, "/audit?limit=1000").await;
        let closings = audit["entries"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["kind"] == "closing");
        assert_eq!(closings.count(), 1, "{audit}");
    }
    moments.dedup();
    assert_eq!(moments.len(), 1, "{moments:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_closes_on_every_node_without_a_write() {
    let cluster = Cluster::start(3).await;
    let proposal = approved_in_time(&cluster, 1).await;
    closed_everywhere(&cluster, &proposal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_closes_although_its_leader_died_before() {
    let mut cluster = Cluster::start(3).await;
    let proposal = approved_in_time(&cluster, 2).await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    for survivor in cluster.running() {
        let body = cluster.proposal_is(survivor, &proposal, "approved").await;
        assert_eq!(body["outcome"], "approved", "{body}");
    }
    cluster.start_node(leader);
    cluster.node_ready(leader).await;
    closed_everywhere(&cluster, &proposal).await;
}
