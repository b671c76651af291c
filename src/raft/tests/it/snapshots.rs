//! Snapshots: built, sent, resumed, installed.

use aegis_raft::Settings;

use crate::cluster::{Cluster, eventually, id};
use crate::load::Load;

/// Snapshots often, and logs that soon forget.
fn frequent() -> Settings {
    Settings {
        snapshot_every: 100,
        log_kept: 50,
        ..Settings::default()
    }
}

/// Waits until a node has purged its log beyond `index`.
async fn purged(cluster: &Cluster, number: u64, index: u64) {
    eventually("a purge of the log", async || {
        cluster
            .status(number)
            .purged_index
            .filter(|purged| *purged > index)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_is_sent_a_snapshot_under_load() {
    let mut cluster = Cluster::founded(3, frequent()).await;
    let load = Load::start_padded(&cluster, &[1, 2, 3], 16, 2_000);
    load.progress(2_000).await;
    let leader = cluster.leader().await;
    purged(&cluster, leader, 500).await;

    cluster.start(4).await;
    let raft = cluster.raft(leader).clone();
    raft.add_learner(id(4), cluster.node(4)).await.unwrap();
    eventually("promotion", async || raft.promote(id(4)).await.ok()).await;
    load.progress(200).await;
    let report = load.finish().await;
    assert_eq!(report.failed, []);
    report.check(&cluster.agreed(&[1, 2, 3, 4]).await);
    // It never had the entries that the snapshot stands for.
    assert!(cluster.status(4).purged_index > Some(100));

    cluster.kill(4).await;
    cluster.start(4).await;
    cluster
        .raft(4)
        .recovered(crate::cluster::LONG)
        .await
        .unwrap();
    report.check(&cluster.agreed(&[1, 2, 3, 4]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_long_catches_up_by_snapshot() {
    let mut cluster = Cluster::founded(3, frequent()).await;
    cluster.submit(1, "before").await.unwrap();
    cluster.agreed(&[1, 2, 3]).await;
    let away = cluster.follower().await;
    let others: Vec<_> = [1, 2, 3]
        .into_iter()
        .filter(|number| *number != away)
        .collect();
    cluster.kill(away).await;
    let load = Load::start(&cluster, &others, 16);
    load.progress(1_000).await;
    let leader = cluster.leader_among(&others).await;
    purged(&cluster, leader, 500).await;
    cluster.start(away).await;
    load.progress(100).await;
    let report = load.finish().await;
    assert_eq!(report.failed, []);
    report.check(&cluster.agreed(&[1, 2, 3]).await);
    assert!(cluster.status(away).purged_index > Some(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_survives_lost_messages() {
    let settings = Settings {
        replication_timeout: std::time::Duration::from_millis(300),
        snapshot_timeout: std::time::Duration::from_secs(10),
        ..frequent()
    };
    let mut cluster = Cluster::founded(3, settings).await;
    let load = Load::start_padded(&cluster, &[1, 2, 3], 16, 8_000);
    load.progress(1_000).await;
    let report = load.finish().await;
    let leader = cluster.leader().await;
    purged(&cluster, leader, 500).await;

    cluster.start(4).await;
    cluster
        .raft(leader)
        .add_learner(id(4), cluster.node(4))
        .await
        .unwrap();
    cluster.faults.lose(30_000);
    report.check(&cluster.agreed(&[leader, 4]).await);
    cluster.faults.heal();
    report.check(&cluster.agreed(&[1, 2, 3, 4]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_goes_on_from_its_snapshot_and_log() {
    let mut cluster = Cluster::founded(1, frequent()).await;
    let load = Load::start(&cluster, &[1], 16);
    load.progress(1_000).await;
    let report = load.finish().await;
    purged(&cluster, 1, 500).await;
    let before = cluster.journal(1);
    cluster.kill(1).await;
    cluster.start(1).await;
    assert_eq!(cluster.leader().await, 1);
    assert_eq!(cluster.journal(1), before);
    report.check(&before);
    cluster.submit(1, "after").await.unwrap();
    assert_eq!(cluster.journal(1).len(), before.len() + 1);
}

/// Bytes of a snapshot that a node has received in part.
fn partly_received(cluster: &Cluster, number: u64) -> u64 {
    let files = std::fs::read_dir(cluster.path(number).join("snapshots")).unwrap();
    let partial = files
        .map(|file| file.unwrap())
        .filter(|file| file.file_name().as_encoded_bytes().ends_with(b".partial"));
    partial
        .map(|file| file.metadata().map_or(0, |metadata| metadata.len()))
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_after_a_restart_where_it_ended() {
    let mut cluster = Cluster::founded(1, frequent()).await;
    let load = Load::start_padded(&cluster, &[1], 16, 64_000);
    load.progress(400).await;
    let report = load.finish().await;
    purged(&cluster, 1, 200).await;
    // Until no other snapshot is due, or the transfer would begin anew with that.
    eventually("the last snapshot", async || {
        let status = cluster.status(1);
        (status.last_index? < status.snapshot_index? + 100).then_some(())
    })
    .await;

    cluster.start(2).await;
    cluster
        .raft(1)
        .add_learner(id(2), cluster.node(2))
        .await
        .unwrap();
    let received = eventually("a part of the snapshot", async || {
        Some(partly_received(&cluster, 2)).filter(|bytes| *bytes > 2 << 20)
    })
    .await;
    cluster.kill(2).await;
    let before = cluster.faults.bulk_bytes();
    cluster.start(2).await;
    report.check(&cluster.agreed(&[1, 2]).await);

    let snapshots = std::fs::read_dir(cluster.path(1).join("snapshots")).unwrap();
    let whole = snapshots
        .map(|file| file.unwrap().metadata().unwrap().len())
        .max()
        .unwrap();
    let after = cluster.faults.bulk_bytes() - before;
    assert!(
        after + received < whole + (2 << 20),
        "{after} of {whole} bytes were sent after {received}"
    );
}
