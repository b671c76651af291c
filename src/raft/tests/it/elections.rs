//! Electing, replicating, reading, and what an old leader may not do.

use std::sync::Arc;

use aegis_raft::{Decline, Position, ReadError, Role, Settings, SubmitError};
use bytes::Bytes;

use crate::cluster::{Cluster, eventually};
use crate::journal;
use crate::load::Load;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founded_cluster_elects_replicates_and_answers() {
    let cluster = Cluster::founded(3, Settings::default()).await;
    let leader = cluster.leader().await;
    for (number, command) in [(1, "a"), (2, "b"), (3, "c"), (leader, "a")] {
        cluster.submit(number, command).await.unwrap();
    }
    assert_eq!(cluster.agreed(&[1, 2, 3]).await, ["a", "b", "c"]);

    for number in [1, 2, 3] {
        let committed = cluster.running(number).committed.lock().unwrap().clone();
        assert!(committed.is_sorted());
        let last = cluster.status(number).applied_index.unwrap();
        assert_eq!(
            committed.last().map(|position: &Position| position.index),
            Some(last)
        );
    }
    // Founding again changes nothing.
    let members = [(1, 1)].map(|(number, node)| (crate::cluster::id(number), cluster.node(node)));
    assert_eq!(cluster.raft(1).bootstrap(members.into()).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_voter_leads_itself() {
    let cluster = Cluster::founded(1, Settings::default()).await;
    let answer = cluster.submit(1, "a").await.unwrap().answer;
    assert_eq!(journal::number(&answer), 1);
    assert_eq!(
        cluster.raft(1).read_barrier().await.ok(),
        cluster.status(1).applied_index
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_forwards_and_reads_what_it_forwarded() {
    let cluster = Cluster::founded(3, Settings::default()).await;
    let follower = cluster.follower().await;
    for round in 0..20 {
        let committed = cluster
            .submit(follower, &format!("x{round}"))
            .await
            .unwrap();
        for number in [1, 2, 3] {
            let reflected = cluster.raft(number).read_barrier().await.unwrap();
            assert!(reflected >= committed.position.index);
            assert_eq!(cluster.journal(number).len(), round + 1);
        }
    }
    let many = (0..100).map(|n| Bytes::from(format!("m{n}"))).collect();
    let fates = cluster.raft(follower).submit_many(many).await.unwrap();
    let numbers: Vec<_> = fates
        .iter()
        .map(|fate| journal::number(&fate.as_ref().unwrap().answer))
        .collect();
    assert_eq!(numbers, (21..=120).collect::<Vec<_>>());
}

/// What a node of a newer version forwards must not reach the log of older ones, which would
/// all stop at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_takes_no_command_that_it_cannot_read() {
    let cluster = Cluster::founded(3, Settings::default()).await;
    let follower = cluster.follower().await;
    let unreadable = SubmitError::Declined(Decline::Unreadable);
    let poison = || Bytes::from_static(journal::POISON);
    let refused = cluster.raft(follower).submit(poison()).await;
    assert_eq!(refused, Err(unreadable.clone()));

    let around = vec!["a".into(), poison(), "b".into()];
    let fates = cluster.raft(follower).submit_many(around).await.unwrap();
    assert_eq!(fates[1], Err(unreadable));
    assert!(fates[0].is_ok() && fates[2].is_ok(), "{fates:?}");
    assert_eq!(cluster.agreed(&[1, 2, 3]).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_too_large_or_one_too_many_is_refused_at_once() {
    let settings = Settings {
        proposals_max: 4,
        ..Settings::default()
    };
    let cluster = Cluster::founded(1, settings).await;
    let bytes_max = aegis_raft::COMMAND_BYTES_MAX;
    let refused = cluster.raft(1).submit(vec![0; bytes_max + 1].into()).await;
    assert_eq!(
        refused,
        Err(SubmitError::TooLarge {
            bytes: bytes_max + 1,
            bytes_max
        })
    );
    cluster
        .raft(1)
        .submit(vec![b'x'; bytes_max].into())
        .await
        .unwrap();

    let five = (0..5).map(|n| Bytes::from(format!("{n}"))).collect();
    let refused = cluster.raft(1).submit_many(five).await;
    assert!(
        matches!(refused, Err(SubmitError::Busy { limit: 4, .. })),
        "{refused:?}"
    );
}

/// The follower has room for what the leader has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_declines_what_is_forwarded() {
    let settings = Settings {
        proposals_max: 4,
        ..Settings::default()
    };
    let mut cluster = Cluster::founded(3, settings).await;
    let follower = cluster.follower().await;
    cluster.kill(follower).await;
    cluster.settings = Settings::default();
    cluster.start(follower).await;

    let five = (0..5).map(|n| Bytes::from(format!("{n}"))).collect();
    let fates = cluster.raft(follower).submit_many(five).await.unwrap();
    assert_eq!(fates, vec![Err(SubmitError::Declined(Decline::Busy)); 5]);
    cluster.submit(follower, "one").await.unwrap();
    assert_eq!(cluster.agreed(&[1, 2, 3]).await, ["one"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_and_loses_nothing() {
    let mut cluster = Cluster::founded(3, Settings::default()).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = [1, 2, 3]
        .into_iter()
        .filter(|number| *number != leader)
        .collect();
    let load = Load::start(&cluster, &others, 16);
    load.progress(100).await;
    cluster.kill(leader).await;
    load.progress(100).await;
    cluster.start(leader).await;
    load.progress(100).await;
    let report = load.finish().await;

    // The deadline of a submission is longer than an election takes.
    assert_eq!(report.failed, []);
    report.check(&cluster.agreed(&[1, 2, 3]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_stopped_takes_up_where_it_was() {
    let mut cluster = Cluster::founded(3, Settings::default()).await;
    let load = Load::start(&cluster, &[1, 2, 3], 8);
    load.progress(200).await;
    let report = load.finish().await;
    let journal = cluster.agreed(&[1, 2, 3]).await;
    report.check(&journal);
    for number in [1, 2, 3] {
        cluster.kill(number).await;
    }
    for number in [1, 2, 3] {
        cluster.start(number).await;
    }
    for number in [1, 2, 3] {
        cluster
            .raft(number)
            .recovered(crate::cluster::LONG)
            .await
            .unwrap();
        assert_eq!(cluster.journal(number), journal);
    }
    cluster.submit(1, "after").await.unwrap();
    assert_eq!(cluster.agreed(&[1, 2, 3]).await.len(), journal.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_leader_neither_reads_nor_writes() {
    let settings = Settings {
        submit_deadline: std::time::Duration::from_secs(2),
        read_deadline: std::time::Duration::from_secs(2),
        ..Settings::default()
    };
    let cluster = Cluster::founded(3, settings).await;
    let old = cluster.leader().await;
    let others: Vec<_> = [1, 2, 3]
        .into_iter()
        .filter(|number| *number != old)
        .collect();
    cluster.submit(old, "before").await.unwrap();
    cluster.faults.isolate(old, [1, 2, 3]);

    // Asked at once, while its lease may still hold, and while others elect a successor.
    let (write, read, new) = tokio::join!(
        cluster.submit(old, "into the void"),
        cluster.raft(old).read_barrier(),
        cluster.leader_among(&others),
    );
    let after = std::time::Duration::from_secs(2);
    assert!(
        matches!(
            write,
            Err(SubmitError::Unknown { .. } | SubmitError::NoLeader { .. })
        ),
        "{write:?}"
    );
    assert_eq!(read, Err(ReadError::NoLeader { after }));

    // It still believes to lead, and is refused what it needs to answer.
    cluster.submit(new, "elsewhere").await.unwrap();
    assert_eq!(
        cluster.raft(old).read_barrier().await,
        Err(ReadError::NoLeader { after })
    );
    assert_eq!(
        cluster.submit(old, "again").await,
        Err(SubmitError::NoLeader { after })
    );
    assert_eq!(cluster.journal(old), ["before"]);

    cluster.faults.heal();
    assert_eq!(cluster.leader().await, new);
    cluster.submit(old, "healed").await.unwrap();
    let journal = cluster.agreed(&[1, 2, 3]).await;
    assert_eq!(journal, ["before", "elsewhere", "healed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_follower_comes_back_without_disturbing_the_leader() {
    let cluster = Cluster::founded(3, Settings::default()).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let term = cluster.status(leader).term;
    cluster.faults.isolate(follower, [1, 2, 3]);
    eventually("silence of the follower", async || {
        let members = cluster.raft(leader).members();
        let member = members.iter().find(|member| member.id.get() == follower)?;
        (member.state == aegis_raft::MemberState::Silent).then_some(())
    })
    .await;
    cluster.submit(leader, "without you").await.unwrap();
    cluster.faults.heal();
    assert_eq!(cluster.agreed(&[1, 2, 3]).await, ["without you"]);
    assert_eq!(
        (cluster.leader().await, cluster.status(leader).term),
        (leader, term)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_reaches_one_of_two_followers_goes_on() {
    let cluster = Cluster::founded(3, Settings::default()).await;
    let leader = cluster.leader().await;
    let lonely = cluster.follower().await;
    let term = cluster.status(leader).term;
    cluster.faults.cut(leader, lonely);
    let load = Load::start(&cluster, &[leader], 8);
    // Long enough for the lonely one to want an election more than once.
    let silent = |status: &aegis_raft::Status| {
        let member = status
            .members
            .iter()
            .find(|member| member.id.get() == lonely);
        member.and_then(|member| member.silent_for)
            > Some(cluster.settings.election_timeout_max * 4)
    };
    load.progress(50).await;
    cluster.raft(leader).watch().wait_for(silent).await.unwrap();
    load.progress(50).await;
    let report = load.finish().await;
    assert_eq!(report.failed, []);
    assert_eq!(cluster.status(leader).term, term);
    cluster.faults.heal();
    report.check(&cluster.agreed(&[1, 2, 3]).await);
    assert_eq!(
        (cluster.leader().await, cluster.status(leader).term),
        (leader, term)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_where_messages_are() {
    let settings = Settings {
        replication_timeout: std::time::Duration::from_millis(300),
        submit_deadline: std::time::Duration::from_secs(20),
        ..Settings::default()
    };
    let cluster = Cluster::founded(3, settings).await;
    cluster.faults.lose(30_000);
    let load = Load::start(&cluster, &[1, 2, 3], 16);
    load.progress(300).await;
    cluster.faults.heal();
    let report = load.finish().await;
    assert_eq!(report.failed, []);
    report.check(&cluster.agreed(&[1, 2, 3]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_tells_who_leads_and_how_the_members_stand() {
    let cluster = Cluster::founded(3, Settings::default()).await;
    let leader = cluster.leader().await;
    cluster.submit(leader, "a").await.unwrap();
    cluster.agreed(&[1, 2, 3]).await;
    let caught_up = |status: &aegis_raft::Status| {
        status
            .members
            .iter()
            .filter(|member| member.id != status.id)
            .all(|member| member.lag == Some(0))
    };
    let status = cluster
        .raft(leader)
        .watch()
        .wait_for(caught_up)
        .await
        .unwrap();
    assert_eq!(
        (status.role, status.leader),
        (Role::Leader, Some(crate::cluster::id(leader)))
    );
    assert_eq!((status.proposals_pending, status.fatal.clone()), (0, None));
    assert_eq!(status.members.len(), 3);
    assert!(
        status
            .members
            .iter()
            .all(|member| member.role == aegis_raft::MemberRole::Voter)
    );

    let follower = cluster.follower().await;
    let status = cluster.status(follower);
    assert_eq!(
        (status.role, status.leader),
        (Role::Follower, Some(crate::cluster::id(leader)))
    );
    assert!(status.members.iter().all(|member| member.lag.is_none()));
    let mut watch = cluster.raft(follower).watch();
    let raft = Arc::clone(cluster.raft(follower));
    raft.shutdown().await;
    assert_eq!(watch.wait_for(|_| false).await, None);
}
