//! Clocks that are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aegis_raft::{Clock, Settings, SystemClock};

use crate::cluster::{Cluster, id};

/// A clock that a test sets wrong.
#[derive(Default)]
struct Wrong(AtomicI64);

impl Wrong {
    fn set_ahead(&self, offset: Duration) {
        self.0.store(
            i64::try_from(offset.as_millis()).unwrap(),
            Ordering::Relaxed,
        );
    }
}

impl Clock for Wrong {
    fn now_ms(&self) -> u64 {
        SystemClock
            .now_ms()
            .saturating_add_signed(self.0.load(Ordering::Relaxed))
    }
}

async fn cluster(clocks: &[Arc<Wrong>; 3]) -> Cluster {
    let mut cluster = Cluster::new(Settings::default());
    for (number, clock) in (1..).zip(clocks) {
        cluster.clocks.insert(number, clock.clone());
        cluster.start(number).await;
    }
    cluster.found().await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_runs_ahead_stamps_nothing_and_is_replaced() {
    let clocks: [Arc<Wrong>; 3] = Default::default();
    let cluster = cluster(&clocks).await;
    let old = cluster.leader().await;
    cluster.submit(old, "on time").await.unwrap();
    clocks[usize::try_from(old).unwrap() - 1].set_ahead(Duration::from_secs(60));

    // Held while no follower accepts the stamp, until another node leads and stamps it.
    cluster.submit(old, "late").await.unwrap();
    let new = cluster.leader().await;
    assert_ne!(new, old);
    assert_eq!(cluster.agreed(&[1, 2, 3]).await, ["on time", "late"]);
    assert_eq!(cluster.status(new).leader, Some(id(new)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_follower_with_a_wrong_clock_changes_nothing() {
    let clocks: [Arc<Wrong>; 3] = Default::default();
    let cluster = cluster(&clocks).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    clocks[usize::try_from(follower).unwrap() - 1].set_ahead(Duration::from_secs(60));
    let term = cluster.status(leader).term;
    for round in 0..50 {
        cluster.submit(follower, &format!("{round}")).await.unwrap();
    }
    assert_eq!(cluster.agreed(&[1, 2, 3]).await.len(), 50);
    assert_eq!(
        (cluster.leader().await, cluster.status(leader).term),
        (leader, term)
    );
}
