//! The committee with real processes: every decision gets a certificate, whatever one
//! machine of the four does.

use std::time::{Duration, Instant};

use aegis_crypto::certificate::Certificate;
use reqwest::StatusCode;
use serde_json::json;

use crate::ballot::Ballot;
use crate::cluster::{Cluster, aegis_ok, eventually};

/// Agents that vote in these tests.
const AGENTS: u32 = 5;

/// Three voters and a witness, each with a seat, and attested agents.
async fn committee() -> Cluster {
    let mut cluster = Cluster::init_with_committee();
    cluster.start_all();
    cluster.ready().await;
    cluster.attest(AGENTS).await;
    cluster
}

/// Has everyone vote for a proposal through a node, which closes it.
async fn decide(cluster: &Cluster, node: u64, title: &str) -> String {
    let ballot = cluster.propose(node, title).await;
    for voter in 1..=AGENTS {
        cast(cluster, node, &ballot, voter).await;
    }
    ballot.proposal
}

async fn cast(cluster: &Cluster, node: u64, ballot: &Ballot, voter: u32) {
    let vote = ballot.vote(voter, "for");
    let (status, body) = cluster.post(node, "/votes", &vote).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
}

/// The certificate of a proposal, which a node has in the end.
async fn certificate(cluster: &Cluster, node: u64, proposal: &str) -> String {
    let url = cluster.url(
        node,
        &format!("/proposals/{proposal}/certificate?consistency=stale"),
    );
    eventually(&format!("{proposal} is certified"), async || {
        let answer = cluster.http.get(&url).send().await.ok()?;
        let certified = answer.status() == StatusCode::OK;
        if certified {
            answer.text().await.ok()
        } else {
            None
        }
    })
    .await
}

/// A certificate verifies offline, from the genesis alone.
fn verify(cluster: &Cluster, envelope: &str) -> Certificate {
    let genesis = std::fs::read(cluster.data().join("genesis.json")).unwrap();
    let genesis = aegis_ledger::Genesis::parse(genesis).unwrap();
    Certificate::parse(envelope.as_bytes())
        .unwrap()
        .verify(genesis.committee().unwrap())
        .unwrap()
}

#[tokio::test]
async fn every_decision_gets_one_certificate_that_verifies_offline() {
    let cluster = committee().await;
    for round in 1..=5 {
        let proposal = decide(&cluster, 1 + round % 4, &format!("Decision {round}")).await;
        let envelope = certificate(&cluster, 4, &proposal).await;
        let certificate_ = verify(&cluster, &envelope);
        assert_eq!(certificate_.signers().len(), 3);
        for node in 1..=4 {
            let same = certificate(&cluster, node, &proposal).await;
            assert_eq!(same, envelope, "every node holds the same one");
        }
        let (_, body) = cluster.get(1, &format!("/proposals/{proposal}")).await;
        assert_eq!(
            (&body["status"], &body["certified"]),
            (&json!("approved"), &json!(true))
        );
        let file = cluster.dir.path().join("certificate.json");
        std::fs::write(&file, &envelope).unwrap();
        let genesis = cluster.data().join("genesis.json");
        aegis_ok(&[
            "verify",
            file.to_str().unwrap(),
            "--genesis",
            genesis.to_str().unwrap(),
        ]);
    }
    cluster.assert_states_agree().await;
}

#[tokio::test]
async fn a_silent_primary_loses_its_view_and_its_return_is_harmless() {
    let mut cluster = committee().await;
    // The witness leads no Raft term, so the committee alone has to get over its primary.
    let first = decide(&cluster, 1, "Before").await;
    certificate(&cluster, 1, &first).await;
    cluster.kill(1);
    let node = eventually("another node leads", async || {
        let leader = cluster.leader().await;
        (leader != 1).then_some(leader)
    })
    .await;
    let began = Instant::now();
    let second = decide(&cluster, node, "Without the primary").await;
    let envelope = certificate(&cluster, node, &second).await;
    assert_eq!(verify(&cluster, &envelope).view(), 1);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "a bounded number of timeouts: {:?}",
        began.elapsed()
    );
    cluster.start_node(1);
    cluster.node_ready(1).await;
    let third = decide(&cluster, 1, "After its return").await;
    certificate(&cluster, 1, &third).await;
    cluster.metric_is(1, "aegis_committee_view", 1.0).await;
    cluster.assert_states_agree().await;
}

#[tokio::test]
async fn a_committee_that_is_killed_at_once_goes_on_where_it_was() {
    let mut cluster = committee().await;
    let mut open = Vec::new();
    for number in 0..10 {
        open.push(decide(&cluster, 1, &format!("Decision {number}")).await);
    }
    // Some are certified by now, some are not, and votes are on their way.
    cluster.kill_all();
    cluster.start_all();
    cluster.ready().await;
    for proposal in open {
        let envelope = certificate(&cluster, 2, &proposal).await;
        verify(&cluster, &envelope);
    }
    let again = decide(&cluster, 2, "After the crash").await;
    certificate(&cluster, 3, &again).await;
    cluster.assert_states_agree().await;
}

#[tokio::test]
async fn without_a_quorum_nothing_is_certified_and_nothing_is_lost() {
    let mut cluster = committee().await;
    // Two of four validators are gone, two of three voters are there.
    cluster.kill(4);
    cluster.kill(3);
    // The two that run make a majority of the three voters.
    let node = eventually("a node that runs leads", async || {
        let leader = cluster.status(1).await?["leader"].as_u64()?;
        cluster.running().contains(&leader).then_some(leader)
    })
    .await;
    let proposal = decide(&cluster, node, "Waiting").await;
    let (status, body) = cluster
        .get(node, &format!("/proposals/{proposal}/certificate"))
        .await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::NOT_FOUND, Some("not_certified"))
    );
    let (_, body) = cluster.get(node, &format!("/proposals/{proposal}")).await;
    assert_eq!(
        (&body["status"], &body["certified"]),
        (&json!("approved"), &json!(false))
    );
    cluster.start_node(4);
    let envelope = certificate(&cluster, node, &proposal).await;
    verify(&cluster, &envelope);
}
