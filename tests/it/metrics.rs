//! The values of metrics are true.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;

use crate::cluster::{Cluster, eventually};

fn now_s() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

/// A whole number as a metric has it.
fn value(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

async fn last_index(cluster: &Cluster, node: u64) -> u64 {
    cluster.status(node).await.unwrap()["last_index"]
        .as_u64()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ballots_and_entries_are_counted_on_every_node() {
    let cluster = Cluster::start(3).await;
    cluster.register(1, 8).await;
    let ballot = cluster.propose(1, "To be counted").await;
    let answers = [("for", 4), ("against", 2), ("abstain", 1)];
    let choices = answers
        .iter()
        .flat_map(|(choice, count)| std::iter::repeat_n(*choice, *count));
    for (voter, choice) in (1..).zip(choices) {
        let node = u64::from(voter) % 3 + 1;
        let vote = ballot.vote(voter, choice);
        let (status, body) = cluster.post(node, "/votes", &vote).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        // Neither a repeat nor a refusal is a ballot.
        let (status, body) = cluster.post(node, "/votes", &vote).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let (status, body) = cluster
            .post(node, "/votes", &ballot.vote(voter, "against"))
            .await;
        assert_eq!(status, StatusCode::CONFLICT, "{body}");
    }
    let last = last_index(&cluster, cluster.leader().await).await;
    for node in cluster.ids() {
        for (answer, count) in answers {
            let series = format!("aegis_votes_total{{answer=\"{answer}\"}}");
            let expected = f64::from(u32::try_from(count).unwrap());
            cluster.metric_is(node, &series, expected).await;
        }
        for series in [
            "aegis_last_index",
            "aegis_committed_index",
            "aegis_applied_index",
        ] {
            cluster.metric_is(node, series, value(last)).await;
        }
        let voting = "aegis_proposals{status=\"voting\"}";
        cluster.metric_is(node, voting, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_shows_what_a_silent_peer_lacks() {
    let mut cluster = Cluster::start(3).await;
    cluster.register(1, 40).await;
    let ballot = cluster.propose(1, "Behind its back").await;
    let leader = cluster.leader().await;
    let silent = leader % 3 + 1;
    let lag = |peer: u64| format!("aegis_peer_lag_entries{{peer=\"{peer}\"}}");
    eventually(
        "the leader knows that the peer has everything",
        async || {
            let status = cluster.status(leader).await?;
            let members = status["members"].as_array()?;
            members
                .iter()
                .any(|member| member["id"] == silent && member["lag"] == 0)
                .then_some(())
        },
    )
    .await;
    cluster.kill(silent);
    let before = last_index(&cluster, leader).await;
    for voter in 1..=30 {
        let (status, body) = cluster
            .post(leader, "/votes", &ballot.vote(voter, "for"))
            .await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    let lacks = last_index(&cluster, leader).await - before;
    assert!(lacks >= 30, "{lacks}");
    cluster.metric_is(leader, &lag(silent), value(lacks)).await;
    cluster.metric_is(leader, "aegis_voters", 3.0).await;
    cluster
        .metric_is(leader, "aegis_voters_answering", 2.0)
        .await;
    cluster.start_node(silent);
    cluster.metric_is(leader, &lag(silent), 0.0).await;
    cluster
        .metric_is(leader, "aegis_voters_answering", 3.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_shows_when_it_was_saved() {
    const LAST: &str = "aegis_snapshot_last_success_timestamp_seconds";
    const COUNT: &str = "aegis_snapshot_duration_seconds_count";
    let cluster = Cluster::start(1).await;
    assert_eq!(cluster.metric(1, LAST).await, Some(0.0));
    assert_eq!(cluster.metric(1, COUNT).await.unwrap_or(0.0), 0.0);
    for count in 1..=2 {
        let file = cluster.dir.path().join(format!("{count}.snap"));
        let began = now_s();
        cluster.cli_ok(&["snapshot", "save", file.to_str().unwrap()]);
        let ended = now_s();
        let shown = cluster.metric(1, LAST).await.unwrap();
        assert!((began..=ended).contains(&shown), "{began} {shown} {ended}");
        assert_eq!(cluster.metric(1, COUNT).await, Some(f64::from(count)));
    }
}

/// The bytes of all files under a folder.
fn bytes_in(folder: &Path) -> u64 {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                bytes_in(&entry.path())
            } else {
                metadata.len()
            }
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_folder_is_as_large_as_its_files() {
    let cluster = Cluster::start(1).await;
    cluster.register(1, 256).await;
    let file = cluster.dir.path().join("a.snap");
    cluster.cli_ok(&["snapshot", "save", file.to_str().unwrap()]);
    let store = cluster.node_dir(1).join("store");
    eventually("the metric is what the files have", async || {
        let shown = cluster.metric(1, "aegis_storage_bytes").await?;
        ((shown - value(bytes_in(&store))).abs() < 0.5).then_some(())
    })
    .await;
}
