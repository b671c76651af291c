//! Membership, incarnations and data folders.

use std::sync::Arc;

use aegis_peers::{
    Direction, FailureKind, Identity, Incarnation, LinkError, PeerError, Peers, PinError,
    RefusalCode, StoreId, StreamError,
};
use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use tokio::sync::mpsc;

use crate::raw::{Proof, RawClient, greeted, hello};
use crate::support::*;

fn refusal_code(error: &PeerError) -> Option<RefusalCode> {
    match error {
        PeerError::Refused { source, .. } => Some(source.code()),
        _ => None,
    }
}

async fn call(peers: &Peers) -> Result<Bytes, PeerError> {
    peers.call(node(1), ECHO, "x".into(), LONG).await
}

#[tokio::test]
async fn a_node_gets_in_once_it_is_a_member() {
    let cluster = Cluster::new([1]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let error = call(&peers).await.unwrap_err();
    assert_eq!(refusal_code(&error), Some(RefusalCode::NotAdmitted));
    assert!(error.is_without_effect());
    assert!(
        server
            .counts
            .saw(Direction::Inbound, FailureKind::NotAdmitted)
    );
    assert_eq!(server.counts.connected(), 0);

    cluster.members.admit(2);
    until_ok(|| call(&peers)).await;
}

#[tokio::test]
async fn a_node_is_out_as_soon_as_it_is_no_member() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let (say, said) = mpsc::channel(1);
    let input = tokio_stream(said);
    let mut answers = peers.stream(node(1), ECHO_EACH, input, LONG).await.unwrap();
    say.send("before".into()).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap(), "before");

    cluster.members.expel(2);
    let error = call(&peers).await.unwrap_err();
    assert_eq!(refusal_code(&error), Some(RefusalCode::NotAdmitted));
    // A stream that was open carries nothing more either.
    say.send("after".into()).await.unwrap();
    match answers.next().await.unwrap().unwrap_err() {
        StreamError::Refused(refusal) => assert_eq!(refusal.code(), RefusalCode::NotAdmitted),
        other => panic!("{other:?}"),
    }

    cluster.members.admit(2);
    until_ok(|| call(&peers)).await;
}

#[tokio::test]
async fn a_node_that_is_no_member_hears_nothing_more() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let input = futures::stream::pending();
    let mut flood = peers.stream(node(1), FLOOD, input, LONG).await.unwrap();
    flood.next().await.unwrap().unwrap();
    cluster.members.expel(2);
    let error = tokio::time::timeout(LONG, async {
        loop {
            if let Err(error) = flood.next().await.unwrap() {
                return error;
            }
        }
    });
    match error.await.unwrap() {
        StreamError::Refused(refusal) => assert_eq!(refusal.code(), RefusalCode::NotAdmitted),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stranger_is_told_403() {
    let cluster = Cluster::new([1]);
    let server = cluster.serve(1).await;
    for path in ["/hello", "/echo", "/unknown"] {
        let client = RawClient::connect(server.address, Proof::issued(&cluster.ca, 2)).await;
        let answer = client.post(path, vec![1]).await.unwrap();
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.refusal(), "not-admitted");
        // And the connection is closed.
        let closed = tokio::time::timeout(LONG, client.connection).await;
        closed.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn another_incarnation_is_refused() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let restored = Identity {
        incarnation: Incarnation(2),
        ..identity(2)
    };
    let peers = Peers::new(Arc::new(cluster.endpoint_as(restored)));
    peers.set_address(node(1), server.address.into());
    let error = call(&peers).await.unwrap_err();
    assert_eq!(refusal_code(&error), Some(RefusalCode::OtherIncarnation));
    assert!(
        server
            .counts
            .saw(Direction::Inbound, FailureKind::Incarnation)
    );
    // It has left no trace.
    assert!(cluster.members.pinned.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_of_another_incarnation_is_left() {
    let cluster = Cluster::new([1, 2]);
    let server = crate::raw::RawServer::bind(Proof::issued(&cluster.ca, 1)).await;
    let peers = cluster.peers(2);
    peers.set_address(node(1), server.address().into());
    let serving = tokio::spawn(async move {
        let restored = Identity {
            incarnation: Incarnation(9),
            ..identity(1)
        };
        loop {
            let mut connection = server.accept_greeting(&hello(1, restored)).await;
            while connection.accept().await.is_some() {}
        }
    });
    let error = call(&peers).await.unwrap_err();
    let PeerError::Unreachable { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(matches!(
        **source.as_ref().unwrap(),
        LinkError::OtherIncarnation {
            ours: Incarnation(1),
            theirs: Incarnation(9)
        }
    ));
    serving.abort();
}

#[tokio::test]
async fn a_wiped_node_does_not_return_under_its_id() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    call(&peers).await.unwrap();
    drop(peers);

    let wiped = Identity {
        store_id: StoreId([0xff; 16]),
        ..identity(2)
    };
    let peers = Peers::new(Arc::new(cluster.endpoint_as(wiped)));
    peers.set_address(node(1), server.address.into());
    let error = call(&peers).await.unwrap_err();
    assert_eq!(refusal_code(&error), Some(RefusalCode::OtherStore));
    assert!(server.counts.saw(Direction::Inbound, FailureKind::Store));
    drop(peers);

    // With its own folder it is welcome.
    call(&cluster.peers_to(2, &server)).await.unwrap();
}

#[tokio::test]
async fn a_wiped_server_is_left() {
    let cluster = Cluster::new([1, 2]);
    let known = StoreId([0xee; 16]);
    cluster
        .members
        .pinned
        .lock()
        .unwrap()
        .insert(node(1), known);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let error = call(&peers).await.unwrap_err();
    let PeerError::Unreachable { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(matches!(
        source.as_deref(),
        Some(LinkError::Store(PinError::Mismatch { pinned, presented, .. }))
            if (*pinned, *presented) == (known, identity(1).store_id)
    ));
}

#[tokio::test]
async fn a_connection_begins_with_one_greeting() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let client = RawClient::connect(server.address, Proof::issued(&cluster.ca, 2)).await;
    let answer = client.post("/echo", vec![1]).await.unwrap();
    assert_eq!(answer.refusal(), "no-greeting");
    let closed = tokio::time::timeout(LONG, client.connection).await;
    closed.unwrap().unwrap().unwrap();

    let client = greeted(server.address, &cluster.ca, 2).await;
    let answer = client.greet(identity(2)).await.unwrap();
    assert_eq!(answer.refusal(), "malformed");
    let answer = client.post("/echo", vec![1, 5]).await.unwrap();
    assert_eq!(answer.body, [1, 5]);
}

#[tokio::test]
async fn a_peer_that_forgets_its_connections_gets_new_ones() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.connections_per_peer_max = 2;
    let server = cluster.serve(1).await;
    let first = greeted(server.address, &cluster.ca, 2).await;
    let second = greeted(server.address, &cluster.ca, 2).await;
    let third = greeted(server.address, &cluster.ca, 2).await;
    let ended = tokio::time::timeout(LONG, first.connection).await;
    assert!(ended.is_ok());
    for client in [second, third] {
        let answer = client.post("/echo", vec![1]).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn connections_are_bounded_over_all_peers() {
    let mut cluster = Cluster::new([1, 2, 3]);
    cluster.limits.connections_max = 1;
    let server = cluster.serve(1).await;
    let first = greeted(server.address, &cluster.ca, 2).await;
    let second = RawClient::connect(server.address, Proof::issued(&cluster.ca, 3)).await;
    assert!(second.greet(identity(3)).await.is_err());
    assert!(
        server
            .counts
            .saw(Direction::Inbound, FailureKind::Saturated)
    );

    drop(first);
    until(async || {
        let client = RawClient::connect(server.address, Proof::issued(&cluster.ca, 3)).await;
        client.greet(identity(3)).await.ok()
    })
    .await;
}
