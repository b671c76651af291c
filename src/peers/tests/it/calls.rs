//! Calls between nodes that trust each other.

use std::collections::BTreeSet;
use std::time::Duration;

use aegis_peers::{Direction, FailureKind, Limits, Message, PeerError, RefusalCode};
use bytes::Bytes;
use futures::future::join_all;

use crate::support::*;

#[tokio::test]
async fn a_call_goes_there_and_back() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    for body in ["", "x", "hello"] {
        let answer = peers.call(node(1), ECHO, body.into(), LONG).await.unwrap();
        assert_eq!(answer, body);
    }
    let who = peers.call(node(1), WHO, Bytes::new(), LONG).await.unwrap();
    assert_eq!(who, format!("2 {}", identity(2).store_id));

    let status = peers.status(node(1)).unwrap();
    assert!(status.control.connected);
    assert!(status.control.last_error.is_none());
    assert_eq!(status.address, server.address.into());
    assert!(peers.status(node(3)).is_none());
    assert_eq!(peers.nodes(), [node(1)]);
}

#[tokio::test]
async fn large_messages_fit() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let body: Bytes = (0..8 << 20).map(|i: u32| i.to_be_bytes()[2]).collect();
    let calls = (0..4).map(|_| peers.call(node(1), ECHO_LARGE, body.clone(), LONG));
    for answer in join_all(calls).await {
        assert!(answer.unwrap() == body);
    }
}

#[tokio::test]
async fn many_calls_go_at_once() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.calls_in_flight_max = 64;
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let calls = (0..2000).map(|i| {
        let peers = peers.clone();
        tokio::spawn(async move {
            let body = Bytes::from(format!("{i}"));
            let answer = peers.call(node(1), ECHO, body.clone(), LONG).await.unwrap();
            assert_eq!(answer, body);
        })
    });
    for call in join_all(calls).await {
        call.unwrap();
    }
    // One connection for each lane, whatever the number of callers.
    assert_eq!(server.counts.connected(), 2);
}

#[tokio::test]
async fn messages_beyond_their_bound_are_refused_on_both_sides() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let bounded = ECHO.request_bytes_max();

    // The caller's side.
    let large = Bytes::from(vec![0; bounded + 1]);
    let error = peers.call(node(1), ECHO, large.clone(), LONG).await;
    assert!(matches!(
        error.as_ref().unwrap_err(),
        PeerError::TooLarge { what: Message::Request, bytes, bytes_max, .. }
            if (*bytes, *bytes_max) == (bounded + 1, bounded)
    ));
    assert!(error.unwrap_err().is_without_effect());

    // The server's side, when the caller believes otherwise.
    let error = peers
        .call(node(1), ECHO_TOO_MUCH, large, LONG)
        .await
        .unwrap_err();
    assert!(matches!(
        &error,
        PeerError::Refused { source, .. } if source.code() == RefusalCode::TooLarge
    ));
    assert!(error.is_without_effect());

    // An answer beyond its bound, noticed where it is made.
    let bytes = |count: u64| Bytes::copy_from_slice(&count.to_be_bytes());
    assert_eq!(
        peers
            .call(node(1), ANSWER, bytes(100), LONG)
            .await
            .unwrap()
            .len(),
        100
    );
    let error = peers
        .call(node(1), ANSWER, bytes(101), LONG)
        .await
        .unwrap_err();
    assert!(matches!(
        &error,
        PeerError::Refused { source, .. } if source.code() == RefusalCode::Failed
    ));
    assert!(!error.is_without_effect());

    // None of this harmed the connection.
    assert_eq!(server.counts.connected(), 2);
    peers.call(node(1), ECHO, "x".into(), LONG).await.unwrap();
}

#[tokio::test]
async fn refusals_arrive_with_code_and_text() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let refusal = |error| match error {
        PeerError::Refused { source, .. } => source,
        other => panic!("{other:?}"),
    };
    let failed = peers.call(node(1), FAIL, Bytes::new(), LONG).await;
    let failed = refusal(failed.unwrap_err());
    assert_eq!(
        (failed.code(), failed.text()),
        (RefusalCode::Failed, "as asked")
    );
    let unknown = peers.call(node(1), UNKNOWN, Bytes::new(), LONG).await;
    let unknown = refusal(unknown.unwrap_err());
    assert_eq!(unknown.code(), RefusalCode::UnknownMethod);
    assert!(server.counts.saw(Direction::Inbound, FailureKind::Refused));
}

#[tokio::test]
async fn a_call_is_bounded_in_time_but_carried_to_its_end() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    peers.call(node(1), ECHO, "x".into(), LONG).await.unwrap();
    let short = Duration::from_millis(50);
    let error = peers.call(node(1), WAIT, "x".into(), short).await;
    let error = error.unwrap_err();
    assert!(matches!(error, PeerError::TimedOut { after, .. } if after == short));
    assert!(!error.is_without_effect());

    // The handler was not dropped with its caller: it takes what the gate gives.
    server.wait_for_arrivals(1).await;
    server.gate.add_permits(1);
    until(async || (server.gate.available_permits() == 0).then_some(())).await;
}

#[tokio::test]
async fn calls_beyond_the_bound_wait_and_then_fail_unsent() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.calls_in_flight_max = 2;
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let peers = peers.clone();
            tokio::spawn(async move { peers.call(node(1), WAIT, "x".into(), LONG).await })
        })
        .collect();
    server.wait_for_arrivals(2).await;
    let short = Duration::from_millis(50);
    let error = peers.call(node(1), ECHO, "x".into(), short).await;
    let error = error.unwrap_err();
    assert!(matches!(
        error,
        PeerError::Saturated {
            bound: "calls_in_flight_max",
            limit: 2,
            ..
        }
    ));
    assert!(error.is_without_effect());

    server.gate.add_permits(2);
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    peers.call(node(1), ECHO, "x".into(), LONG).await.unwrap();
}

#[tokio::test]
async fn bytes_of_calls_are_bounded() {
    let mut cluster = Cluster::new([1, 2]);
    // Room for the answer that WAIT may give, and a little more.
    cluster.limits.call_bytes_in_flight_max = (64 << 10) + 10;
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let waiting = {
        let peers = peers.clone();
        tokio::spawn(async move { peers.call(node(1), WAIT, "0123456789".into(), LONG).await })
    };
    server.wait_for_arrivals(1).await;
    let short = Duration::from_millis(50);
    let error = peers.call(node(1), ECHO, "x".into(), short).await;
    assert!(matches!(
        error.unwrap_err(),
        PeerError::Saturated {
            bound: "call_bytes_in_flight_max",
            ..
        }
    ));
    server.gate.add_permits(1);
    waiting.await.unwrap().unwrap();
    // What exceeds the whole bound goes alone.
    peers
        .call(node(1), ECHO, vec![0; 64 << 10].into(), LONG)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_refuses_a_peer_that_exceeds_its_share() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.calls_in_flight_max = 1;
    let server = cluster.serve(1).await;
    // The caller believes that it may have more under way than the server allows, which is 2.
    cluster.limits = Limits::default();
    let peers = cluster.peers_to(2, &server);
    peers.call(node(1), ECHO, "x".into(), LONG).await.unwrap();
    let short = Duration::from_millis(50);
    for _ in 0..2 {
        let given_up = peers.call(node(1), WAIT, "x".into(), short).await;
        assert!(matches!(given_up, Err(PeerError::TimedOut { .. })));
        server.wait_for_arrivals(1).await;
    }
    // Calls that were given up count until their handlers are done.
    let error = peers.call(node(1), ECHO, "x".into(), LONG).await;
    let error = error.unwrap_err();
    assert!(matches!(
        &error,
        PeerError::Refused { source, .. } if source.code() == RefusalCode::Overloaded
    ));
    assert!(error.is_without_effect());
    server.gate.add_permits(2);
    until_ok(|| peers.call(node(1), ECHO, "x".into(), LONG)).await;
}

#[tokio::test]
async fn an_unknown_peer_is_no_peer() {
    let cluster = Cluster::new([1, 2]);
    let peers = cluster.peers(2);
    let error = peers.call(node(1), ECHO, "x".into(), LONG).await;
    let error = error.unwrap_err();
    assert!(matches!(error, PeerError::UnknownPeer { .. }));
    assert!(error.is_without_effect());
}

#[tokio::test]
async fn the_observer_sees_payloads() {
    use std::sync::atomic::Ordering::SeqCst;

    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    peers
        .call(node(1), ECHO, vec![0; 1000].into(), LONG)
        .await
        .unwrap();
    until(async || (server.counts.sent_bytes.load(SeqCst) == 1000).then_some(())).await;
    assert_eq!(server.counts.received_bytes.load(SeqCst), 1000);
}

#[test]
fn failure_kinds_have_distinct_names() {
    let names: BTreeSet<_> = FailureKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names.len(), FailureKind::ALL.len());
}
