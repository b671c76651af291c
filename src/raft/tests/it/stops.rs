//! Leadership that is handed over, and nodes that stop, without a failed request.

use std::time::Duration;

use aegis_raft::{Settings, SubmitError, TransferError};
use futures::future::join_all;
use tokio::time::timeout;

use crate::cluster::{Cluster, LONG, id};
use crate::load::Load;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_under_load_and_no_request_fails() {
    let cluster = Cluster::founded(3, Settings::default()).await;
    let load = Load::start(&cluster, &[1, 2, 3], 24);
    for _ in 0..6 {
        load.progress(100).await;
        let leader = cluster.leader().await;
        let to = leader % 3 + 1;
        // A read that meets the gap is held, too.
        let reads = join_all([1, 2, 3].map(|number| cluster.raft(number).read_barrier()));
        let (moved, reads) =
            tokio::join!(cluster.raft(leader).transfer_leader(id(to), LONG), reads);
        moved.unwrap();
        assert_eq!(cluster.leader().await, to);
        assert!(reads.iter().all(Result::is_ok), "{reads:?}");
    }
    load.progress(100).await;
    let report = load.finish().await;
    assert_eq!(report.failed, []);
    report.check(&cluster.agreed(&[1, 2, 3]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_stop_one_after_another_under_load_and_no_request_fails() {
    let mut cluster = Cluster::founded(3, Settings::default()).await;
    for _ in 0..3 {
        let load = Load::start(&cluster, &[1, 2, 3], 24);
        load.progress(100).await;
        let leader = cluster.leader().await;
        let stopped = cluster.raft(leader).step_down_and_stop(LONG).await;
        assert_ne!(stopped.handed_to, None);
        assert_eq!(stopped.unanswered, 0);
        load.progress(100).await;
        let report = load.finish().await;
        assert_eq!(report.failed, []);

        cluster.bury(leader).await;
        cluster.start(leader).await;
        report.check(&cluster.agreed(&[1, 2, 3]).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_stops_without_a_trace() {
    let cluster = Cluster::founded(3, Settings::default()).await;
    let load = Load::start(&cluster, &[1, 2, 3], 24);
    load.progress(100).await;
    let follower = cluster.follower().await;
    let stopped = cluster.raft(follower).step_down_and_stop(LONG).await;
    assert_eq!((stopped.handed_to, stopped.unanswered), (None, 0));
    let refused = cluster.submit(follower, "too late").await;
    assert_eq!(refused, Err(SubmitError::Stopping));
    load.progress(100).await;
    assert_eq!(load.finish().await.failed, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_only_to_a_voter_that_can_take_it() {
    let mut cluster = Cluster::founded(3, Settings::default()).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let raft = cluster.raft(leader).clone();
    let transfer = async |to| raft.transfer_leader(id(to), LONG).await;

    assert_eq!(transfer(leader).await, Ok(()));
    assert_eq!(
        transfer(9).await,
        Err(TransferError::NotVoter { to: id(9) })
    );
    cluster.start(4).await;
    raft.add_learner(id(4), cluster.node(4)).await.unwrap();
    assert_eq!(
        transfer(4).await,
        Err(TransferError::NotVoter { to: id(4) })
    );
    let elsewhere = cluster.raft(follower).transfer_leader(id(4), LONG).await;
    assert_eq!(
        elsewhere,
        Err(TransferError::NotLeader {
            leader: Some(id(leader))
        })
    );

    cluster.faults.isolate(follower, [1, 2, 3]);
    crate::cluster::eventually("refusal of a silent target", async || {
        matches!(raft.status().members.iter().find(|member| member.id == id(follower))?.silent_for, Some(silent) if silent > cluster.settings.election_timeout_min).then_some(())
    })
    .await;
    assert!(matches!(
        transfer(follower).await,
        Err(TransferError::Silent { .. })
    ));
    assert_eq!(cluster.leader_among(&[leader]).await, leader);
    cluster.submit(leader, "still here").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_not_handed_to_a_voter_that_lags() {
    let settings = Settings {
        transfer_lag_max: 0,
        ..Settings::default()
    };
    let cluster = Cluster::founded(3, settings).await;
    let load = Load::start(&cluster, &[1, 2, 3], 24);
    // A target that lacks nothing at that moment comes to lead, and the next is asked.
    let refused = crate::cluster::eventually("refusal of a target that lags", async || {
        let leader = cluster.leader().await;
        let to = id(leader % 3 + 1);
        cluster.raft(leader).transfer_leader(to, LONG).await.err()
    })
    .await;
    assert!(
        matches!(refused, TransferError::Lagging { lag, lag_max: 0, .. } if lag > 0),
        "{refused:?}"
    );
    assert_eq!(load.finish().await.failed, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_fails_says_so_and_the_cluster_recovers() {
    let cluster = Cluster::founded(3, Settings::default()).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    // The target looks well, and is cut off before it hears that it shall lead.
    cluster.faults.isolate(follower, [1, 2, 3]);
    let after = Duration::from_millis(50);
    let failed = cluster
        .raft(leader)
        .transfer_leader(id(follower), after)
        .await;
    assert_eq!(
        failed,
        Err(TransferError::TimedOut {
            to: id(follower),
            after
        })
    );

    let others: Vec<_> = [1, 2, 3]
        .into_iter()
        .filter(|number| *number != follower)
        .collect();
    cluster.submit(leader, "in spite of it").await.unwrap();
    cluster.raft(leader).read_barrier().await.unwrap();
    cluster.faults.heal();
    assert_eq!(cluster.agreed(&[1, 2, 3]).await, ["in spite of it"]);
    assert_eq!(others.len(), 2);
}

/// A command that is brief is applied on another thread than one that is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_the_machine_fails_the_node_wherever_it_applies() {
    for command in ["panic", "panic!"] {
        let cluster = Cluster::founded(1, Settings::default()).await;
        let raft = cluster.raft(1);
        let submitted = cluster.submit(1, command);
        let failed = async { timeout(LONG, raft.failed()).await.unwrap() };
        let (answer, reason) = tokio::join!(submitted, failed);
        assert!(
            matches!(answer, Err(SubmitError::Unknown { .. })),
            "{answer:?}"
        );
        assert!(
            reason.contains("the replicated machine has died"),
            "{reason}"
        );
    }
}
