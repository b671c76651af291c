//! Coming, going and coming back.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use aegis_peers::{Backoff, Drained, LinkError, PeerError, Peers, RefusalCode, StreamError};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

async fn call(peers: &Peers) -> Result<Bytes, PeerError> {
    peers.call(node(1), ECHO, "x".into(), LONG).await
}

/// Pauses that no test outlives.
const FOR_EVER: Backoff = Backoff {
    base: Duration::from_secs(3600),
    cap: Duration::from_secs(3600),
};

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let cluster = Cluster::new([1, 2]);
    let port = vacant();
    let mut server = cluster.serve_at(1, port.address).await;
    let peers = cluster.peers_to(2, &server);
    for _ in 0..3 {
        until_ok(|| call(&peers)).await;
        server.tell_to_stop();
        assert_eq!(server.stopped().await, Drained { abandoned: 0 });
        let error = call(&peers).await.unwrap_err();
        assert!(error.is_without_effect(), "{error:?}");
        server = cluster.serve_at(1, port.address).await;
    }
    until_ok(|| call(&peers)).await;
}

#[tokio::test]
async fn a_peer_that_was_never_there_fails_fast_and_is_found_when_it_moves() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.backoff = FOR_EVER;
    let server = cluster.serve(1).await;
    let peers = cluster.peers(2);
    let port = vacant();
    peers.set_address(node(1), port.address.into());
    for _ in 0..3 {
        let error = call(&peers).await.unwrap_err();
        assert!(error.is_without_effect());
        let PeerError::Unreachable { source, .. } = error else {
            panic!("{error:?}");
        };
        assert!(matches!(*source.unwrap(), LinkError::Connect { .. }));
    }
    let status = peers.status(node(1)).unwrap().control;
    assert!(!status.connected && status.last_error.is_some());

    // The pause would last an hour; a new address is dialled at once.
    peers.set_address(node(1), server.address.into());
    until_ok(|| call(&peers)).await;
    let connected = server.counts.connected();
    peers.set_address(node(1), server.address.into());
    call(&peers).await.unwrap();
    assert_eq!(server.counts.connected(), connected);
}

#[tokio::test]
async fn names_are_resolved() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers(2);
    let address = format!("localhost:{}", server.address.port());
    peers.set_address(node(1), address.parse().unwrap());
    call(&peers).await.unwrap();

    peers.set_address(node(1), "no-such-host.invalid:1".parse().unwrap());
    until(async || {
        let error = peers.status(node(1))?.control.last_error?;
        matches!(*error, LinkError::Resolve { .. }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_caller_waits_for_the_first_attempt_no_longer_than_it_would() {
    let cluster = Cluster::new([1, 2]);
    // It accepts and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peers = cluster.peers(2);
    peers.set_address(node(1), mute.local_addr().unwrap().into());
    let short = Duration::from_millis(50);
    let started = Instant::now();
    let error = peers.call(node(1), ECHO, "x".into(), short).await;
    assert!(matches!(
        error.unwrap_err(),
        PeerError::Unreachable { source: None, .. }
    ));
    assert!(started.elapsed() >= short);
}

#[tokio::test]
async fn a_mute_server_is_given_up() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.handshake_timeout = Duration::from_millis(100);
    cluster.limits.backoff = FOR_EVER;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peers = cluster.peers(2);
    peers.set_address(node(1), mute.local_addr().unwrap().into());
    let PeerError::Unreachable { source, .. } = call(&peers).await.unwrap_err() else {
        panic!();
    };
    assert!(matches!(
        &*source.unwrap(),
        LinkError::Slow {
            stage: "handshake",
            ..
        }
    ));
}

/// The greeting is all that ever came on it, and it came in time.
#[tokio::test]
async fn a_connection_that_nobody_uses_stays() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.handshake_timeout = Duration::from_millis(200);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let both = || {
        let status = peers.status(node(1))?;
        (status.control.connected && status.bulk.connected).then_some(status)
    };
    let began = until(async || both()).await;
    tokio::time::sleep(4 * cluster.limits.handshake_timeout).await;
    let now = both().expect("both connections still stand");
    assert_eq!(
        (now.control.since, now.bulk.since),
        (began.control.since, began.bulk.since)
    );
}

#[tokio::test]
async fn a_server_that_stops_lets_calls_finish() {
    let cluster = Cluster::new([1, 2]);
    let mut server = cluster.serve(1).await;
    let address = server.address;
    let peers = cluster.peers_to(2, &server);
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let peers = peers.clone();
            tokio::spawn(async move { peers.call(node(1), WAIT, "x".into(), LONG).await })
        })
        .collect();
    server.wait_for_arrivals(10).await;
    server.tell_to_stop();
    // Nobody new is let in.
    until(async || TcpStream::connect(address).await.err()).await;
    server.gate.add_permits(10);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "x");
    }
    assert_eq!(server.stopped().await, Drained { abandoned: 0 });
}

#[tokio::test]
async fn a_server_that_stops_refuses_what_it_has_not_seen() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.backoff = FOR_EVER;
    let mut server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let waiting = {
        let peers = peers.clone();
        tokio::spawn(async move { peers.call(node(1), WAIT, "x".into(), LONG).await })
    };
    server.wait_for_arrivals(1).await;
    server.tell_to_stop();
    // The connection takes nothing more, though it still waits for an answer.
    let error = until(async || call(&peers).await.err()).await;
    assert!(error.is_without_effect(), "{error:?}");
    server.gate.add_permits(1);
    assert_eq!(waiting.await.unwrap().unwrap(), "x");
    server.stopped().await;
}

#[tokio::test]
async fn a_server_that_stops_tells_streams() {
    let cluster = Cluster::new([1, 2]);
    let mut server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let input = stream::pending();
    let mut answers = peers.stream(node(1), ECHO_EACH, input, LONG).await.unwrap();
    server.tell_to_stop();
    match answers.next().await.unwrap().unwrap_err() {
        StreamError::Refused(refusal) => assert_eq!(refusal.code(), RefusalCode::ShuttingDown),
        other => panic!("{other:?}"),
    }
    drop(answers);
    assert_eq!(server.stopped().await, Drained { abandoned: 0 });
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_ever() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.drain_timeout = Duration::from_millis(100);
    let mut server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let waiting = {
        let peers = peers.clone();
        tokio::spawn(async move { peers.call(node(1), WAIT, "x".into(), LONG).await })
    };
    server.wait_for_arrivals(1).await;
    server.tell_to_stop();
    assert_eq!(server.stopped().await, Drained { abandoned: 1 });
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, PeerError::Broken { .. }), "{error:?}");
    assert!(!error.is_without_effect());
}

#[tokio::test]
async fn removing_a_peer_breaks_what_is_under_way() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let waiting = {
        let peers = peers.clone();
        tokio::spawn(async move { peers.call(node(1), WAIT, "x".into(), LONG).await })
    };
    server.wait_for_arrivals(1).await;
    peers.remove(node(1));
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, PeerError::Broken { .. }), "{error:?}");
    assert!(matches!(
        call(&peers).await.unwrap_err(),
        PeerError::UnknownPeer { .. }
    ));
    assert!(peers.status(node(1)).is_none());
}

#[tokio::test]
async fn dropping_the_pool_closes_its_connections() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    call(&peers).await.unwrap();
    until(async || (server.counts.connected() == 2).then_some(())).await;
    let clone = peers.clone();
    drop(peers);
    call(&clone).await.unwrap();
    drop(clone);
    until(async || (server.counts.disconnected.load(SeqCst) == 2).then_some(())).await;
}

#[tokio::test]
async fn a_snapshot_does_not_hold_up_a_heartbeat() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    // A flood on the bulk lane, read as fast as it comes.
    let input = stream::pending();
    let mut flood = peers.stream(node(1), FLOOD, input, LONG).await.unwrap();
    let reading = tokio::spawn(async move { while flood.next().await.is_some() {} });
    for _ in 0..100 {
        call(&peers).await.unwrap();
    }
    reading.abort();
}
