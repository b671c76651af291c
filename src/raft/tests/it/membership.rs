//! Nodes that join, are promoted and leave.

use aegis_raft::{ChangeError, MemberRole, Role, Settings};

use crate::cluster::{Cluster, eventually, id};
use crate::load::Load;

/// The voters and learners that a node knows.
fn members(cluster: &Cluster, number: u64) -> (Vec<u64>, Vec<u64>) {
    let members = cluster.raft(number).members();
    let of = |role| {
        let members = members.iter().filter(move |member| member.role == role);
        members.map(|member| member.id.get()).collect()
    };
    (of(MemberRole::Voter), of(MemberRole::Learner))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_is_promoted_and_another_leaves_under_load() {
    let mut cluster = Cluster::founded(3, Settings::default()).await;
    let leader = cluster.leader().await;
    let leaving = cluster.follower().await;
    cluster.start(4).await;
    let staying: Vec<_> = [1, 2, 3]
        .into_iter()
        .filter(|number| *number != leaving)
        .collect();
    let load = Load::start(&cluster, &staying, 16);
    load.progress(100).await;

    let raft = cluster.raft(leader).clone();
    raft.add_learner(id(4), cluster.node(4)).await.unwrap();
    assert_eq!(members(&cluster, leader), (vec![1, 2, 3], vec![4]));
    raft.add_learner(id(4), cluster.node(4)).await.unwrap();
    eventually("promotion", async || raft.promote(id(4)).await.ok()).await;
    raft.promote(id(4)).await.unwrap();
    assert_eq!(members(&cluster, leader), (vec![1, 2, 3, 4], vec![]));
    load.progress(100).await;
    raft.remove(id(leaving)).await.unwrap();
    load.progress(100).await;
    let report = load.finish().await;
    assert_eq!(report.failed, []);

    let voters: Vec<_> = [1, 2, 3, 4]
        .into_iter()
        .filter(|number| *number != leaving)
        .collect();
    report.check(&cluster.agreed(&voters).await);
    for number in &voters {
        assert_eq!(members(&cluster, *number), (voters.clone(), vec![]));
    }
    // The new member does its part: without it and one other there is no quorum.
    cluster.submit(4, "from the new one").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_hands_over_and_no_request_fails() {
    let cluster = Cluster::founded(3, Settings::default()).await;
    let old = cluster.leader().await;
    let others: Vec<_> = [1, 2, 3]
        .into_iter()
        .filter(|number| *number != old)
        .collect();
    let load = Load::start(&cluster, &others, 16);
    load.progress(100).await;
    cluster.raft(old).remove(id(old)).await.unwrap();
    let new = cluster.leader_among(&others).await;
    assert_ne!(new, old);
    load.progress(100).await;
    let report = load.finish().await;
    assert_eq!(report.failed, []);
    report.check(&cluster.agreed(&others).await);
    assert_eq!(members(&cluster, new), (others, vec![]));

    // It leads no more, and is refused by those that it left.
    let stepped_down = cluster
        .raft(old)
        .watch()
        .wait_for(|now| now.role != Role::Leader)
        .await;
    assert!(stepped_down.is_some());
    let term = cluster.status(new).term;
    cluster.submit(new, "after").await.unwrap();
    assert_eq!(cluster.status(new).term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_shrinks_to_one_voter_and_grows_again() {
    let mut cluster = Cluster::founded(2, Settings::default()).await;
    let leader = cluster.leader().await;
    let other = cluster.follower().await;
    let raft = cluster.raft(leader).clone();
    raft.remove(id(other)).await.unwrap();
    cluster.submit(leader, "alone").await.unwrap();
    assert_eq!(
        raft.remove(id(leader)).await,
        Err(ChangeError::LastVoter { id: id(leader) })
    );

    cluster.kill(other).await;
    cluster.start(3).await;
    raft.add_learner(id(3), cluster.node(3)).await.unwrap();
    eventually("promotion", async || raft.promote(id(3)).await.ok()).await;
    assert_eq!(cluster.agreed(&[leader, 3]).await, ["alone"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_changed_is_named() {
    let mut cluster = Cluster::founded(3, Settings::default()).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let raft = cluster.raft(leader).clone();

    let elsewhere = cluster.raft(follower).remove(id(leader)).await;
    assert_eq!(
        elsewhere,
        Err(ChangeError::NotLeader {
            leader: Some(id(leader))
        })
    );
    assert_eq!(
        raft.promote(id(9)).await,
        Err(ChangeError::NotMember { id: id(9) })
    );
    assert_eq!(
        raft.remove(id(9)).await,
        Err(ChangeError::NotMember { id: id(9) })
    );
    assert_eq!(raft.promote(id(follower)).await, Ok(()));
    let present = cluster.node(follower);
    let taken = raft.add_learner(id(follower), cluster.node(leader)).await;
    assert_eq!(
        taken,
        Err(ChangeError::AlreadyMember {
            id: id(follower),
            present
        })
    );
    let mut nowhere = cluster.node(follower);
    nowhere.peer_addr = "nowhere".into();
    let refused = raft.add_learner(id(4), nowhere).await;
    assert_eq!(
        refused,
        Err(ChangeError::BadAddress {
            address: "nowhere".into()
        })
    );

    // A learner that nobody has heard of cannot be promoted.
    cluster.start(4).await;
    let node = cluster.node(4);
    cluster.kill(4).await;
    raft.add_learner(id(4), node.clone()).await.unwrap();
    assert_eq!(
        raft.promote(id(4)).await,
        Err(ChangeError::Silent {
            id: id(4),
            silent_for: None
        })
    );
    raft.remove(id(4)).await.unwrap();
    // Its id is spent.
    assert_eq!(
        raft.add_learner(id(4), node).await,
        Err(ChangeError::UsedId { id: id(4) })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_is_not_let_in_again() {
    let mut cluster = Cluster::founded(3, Settings::default()).await;
    cluster.submit(1, "kept").await.unwrap();
    cluster.agreed(&[1, 2, 3]).await;
    let wiped = cluster.follower().await;
    cluster.kill(wiped).await;
    cluster.wipe(wiped).await;
    cluster.start(wiped).await;
    let others: Vec<_> = [1, 2, 3]
        .into_iter()
        .filter(|number| *number != wiped)
        .collect();
    let leader = cluster.leader_among(&others).await;
    eventually("refusal of the wiped node", async || {
        let members = cluster.raft(leader).members();
        let member = members.iter().find(|member| member.id == id(wiped))?;
        (member.state == aegis_raft::MemberState::Silent).then_some(())
    })
    .await;
    cluster.submit(leader, "without it").await.unwrap();
    assert_eq!(cluster.agreed(&others).await, ["kept", "without it"]);
    assert_eq!(cluster.status(wiped).last_index, None);

    // It comes back under another id.
    cluster.kill(wiped).await;
    cluster.start(4).await;
    let raft = cluster.raft(leader).clone();
    raft.add_learner(id(4), cluster.node(4)).await.unwrap();
    eventually("promotion", async || raft.promote(id(4)).await.ok()).await;
    raft.remove(id(wiped)).await.unwrap();
    assert_eq!(
        cluster.agreed(&[others[0], others[1], 4]).await,
        ["kept", "without it"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_leader_dies_is_finished_or_undone() {
    // The leader dies at another point of its own removal each time.
    for entries in 1..=2 {
        let mut cluster = Cluster::founded(3, Settings::default()).await;
        let old = cluster.leader().await;
        let others: Vec<_> = [1, 2, 3]
            .into_iter()
            .filter(|number| *number != old)
            .collect();
        let begin = cluster.status(old).last_index.unwrap();
        let raft = cluster.raft(old).clone();
        let removal = tokio::spawn(async move { raft.remove(id(old)).await });
        let has_begun = |status: &aegis_raft::Status| status.last_index >= Some(begin + entries);
        cluster.raft(old).watch().wait_for(has_begun).await.unwrap();
        cluster.kill(old).await;
        removal.await.unwrap().ok();

        let new = cluster.leader_among(&others).await;
        cluster.submit(new, "in between").await.unwrap();
        // Whatever became of it, the change can be made now, and the cluster is whole.
        eventually("the removal", async || {
            match cluster.raft(new).remove(id(old)).await {
                Ok(()) | Err(ChangeError::NotMember { .. }) => Some(()),
                Err(_) => None,
            }
        })
        .await;
        eventually("the final members", async || {
            (members(&cluster, new) == (others.clone(), vec![])).then_some(())
        })
        .await;
        assert_eq!(cluster.agreed(&others).await, ["in between"]);
    }
}
