//! Streams: order, flow control, endings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use aegis_peers::{PeerError, RefusalCode, StreamError};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::support::*;

fn numbered(count: u32) -> impl futures::Stream<Item = Bytes> + Send + 'static {
    stream::iter(0..count).map(|i| {
        // Sizes from nothing to several frames.
        let mut message = i.to_be_bytes().to_vec();
        message.resize(4 + usize::try_from(i * 7919 % 200_000).unwrap(), 3);
        Bytes::from(message)
    })
}

#[tokio::test]
async fn messages_keep_their_order_and_their_bounds() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let answers = peers
        .stream(node(1), ECHO_EACH, numbered(500), LONG)
        .await
        .unwrap();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    let expected: Vec<_> = numbered(500).collect().await;
    assert!(answers == expected);
}

#[tokio::test]
async fn small_messages_that_nobody_reads_do_not_break_the_connection() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let (taken, input) = endless(1);
    let mut answers = peers.stream(node(1), GATED, input, LONG).await.unwrap();
    // As many as fit the window, five bytes each.
    assert!(settled(&taken).await > 1_000_000);
    server.gate.add_permits(10);
    for _ in 0..10 {
        assert_eq!(answers.next().await.unwrap().unwrap(), "1");
    }
}

#[tokio::test]
async fn an_empty_stream_ends_well() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let answers = peers
        .stream(node(1), ECHO_EACH, stream::empty(), LONG)
        .await;
    assert_eq!(answers.unwrap().count().await, 0);

    let one_empty = stream::iter([Bytes::new()]);
    let answers = peers.stream(node(1), ECHO_EACH, one_empty, LONG).await;
    let answers: Vec<_> = answers.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(answers, [Bytes::new()]);
}

#[tokio::test]
async fn a_conversation_goes_back_and_forth() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let (say, said) = mpsc::channel(1);
    let mut answers = peers
        .stream(node(1), ECHO_EACH, tokio_stream(said), LONG)
        .await
        .unwrap();
    for i in 0..100_u32 {
        let message = Bytes::copy_from_slice(&i.to_be_bytes());
        say.send(message.clone()).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), message);
    }
    drop(say);
    assert!(answers.next().await.is_none());
}

/// Messages without end, with a count of those taken.
fn endless(bytes: usize) -> (Arc<AtomicUsize>, impl futures::Stream<Item = Bytes> + Send) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let message = Bytes::from(vec![1; bytes]);
    let input = stream::repeat_with(move || {
        counter.fetch_add(1, SeqCst);
        message.clone()
    });
    (taken, input)
}

/// Waits until a count stands still.
async fn settled(count: &AtomicUsize) -> usize {
    let mut last = count.load(SeqCst);
    until(async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = count.load(SeqCst);
        std::mem::replace(&mut last, now).eq(&now).then_some(now)
    })
    .await
}

#[tokio::test]
async fn a_reader_that_pauses_stops_the_writer() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.stream_window_bytes = 1 << 20;
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let (taken, input) = endless(64 << 10);
    let mut answers = peers.stream(node(1), GATED, input, LONG).await.unwrap();

    // The gate is shut: what was taken fits the window and the buffers before it.
    let before = settled(&taken).await;
    assert!((16..=24).contains(&before), "{before} messages of 64 KiB");

    // Calls go on beside a stream that stands still, even on its own lane.
    let body = Bytes::from(vec![5; 4 << 20]);
    let answer = peers.call(node(1), ECHO_LARGE, body.clone(), LONG).await;
    assert!(answer.unwrap() == body);

    // Each message that is read makes room for another.
    server.gate.add_permits(100);
    for _ in 0..100 {
        assert_eq!(answers.next().await.unwrap().unwrap(), "65536");
    }
    let after = settled(&taken).await;
    assert!((90..=124).contains(&after), "{after} messages of 64 KiB");
}

#[tokio::test]
async fn a_caller_that_pauses_stops_the_server() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.stream_window_bytes = 1 << 20;
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let input = stream::pending();
    let mut answers = peers.stream(node(1), FLOOD, input, LONG).await.unwrap();
    let sent = settled(&server.counts.sent_bytes).await >> 16;
    assert!((12..=24).contains(&sent), "{sent} messages of 64 KiB");
    for _ in 0..100 {
        assert_eq!(answers.next().await.unwrap().unwrap().len(), 64 << 10);
    }
}

#[tokio::test]
async fn a_refusal_ends_a_stream_after_its_messages() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let input = stream::pending();
    let mut answers = peers.stream(node(1), THREE, input, LONG).await.unwrap();
    for expected in ["1", "2", "3"] {
        assert_eq!(answers.next().await.unwrap().unwrap(), expected);
    }
    match answers.next().await.unwrap().unwrap_err() {
        StreamError::Refused(refusal) => {
            assert_eq!(refusal.code(), RefusalCode::Unavailable);
            assert_eq!(refusal.text(), "no more");
        }
        other => panic!("{other:?}"),
    }
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn dropping_the_answers_ends_the_requests() {
    /// Tells when it is dropped.
    struct Tell(Arc<AtomicBool>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }

    let cluster = Cluster::new([1, 2]);
    let mut server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let dropped = Arc::new(AtomicBool::new(false));
    let tell = Tell(dropped.clone());
    let input = stream::repeat_with(move || {
        let _ = &tell;
        Bytes::from_static(&[0; 64 << 10])
    });
    let mut answers = peers.stream(node(1), GATED, input, LONG).await.unwrap();
    server.gate.add_permits(1);
    answers.next().await.unwrap().unwrap();
    drop(answers);
    until(async || dropped.load(SeqCst).then_some(())).await;

    // The server sees that this is no regular end.
    server.gate.add_permits(1000);
    let ending = tokio::time::timeout(LONG, server.endings.recv()).await;
    assert!(matches!(
        ending.unwrap().unwrap(),
        Err(StreamError::Broken { .. })
    ));
}

#[tokio::test]
async fn a_stream_tells_a_regular_end() {
    let cluster = Cluster::new([1, 2]);
    let mut server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    server.gate.add_permits(100);
    let answers = peers.stream(node(1), GATED, numbered(3), LONG).await;
    assert_eq!(answers.unwrap().count().await, 3);
    assert!(server.endings.recv().await.unwrap().is_ok());
}

#[tokio::test]
async fn a_message_beyond_its_bound_ends_the_stream_on_both_sides() {
    let cluster = Cluster::new([1, 2]);
    let mut server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    server.gate.add_permits(100);
    let large = Bytes::from(vec![0; (1 << 20) + 1]);
    let input = stream::iter([Bytes::from_static(b"fits"), large]);
    let mut answers = peers.stream(node(1), GATED, input, LONG).await.unwrap();
    let error = loop {
        match answers.next().await.unwrap() {
            Ok(answer) => assert_eq!(answer, "4"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StreamError::TooLarge { bytes, bytes_max }
        if (bytes, bytes_max) == ((1 << 20) + 1, 1 << 20)));
    assert!(answers.next().await.is_none());
    match server.endings.recv().await.unwrap().unwrap_err() {
        StreamError::Refused(refusal) => assert_eq!(refusal.code(), RefusalCode::TooLarge),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn streams_beyond_the_bound_wait() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.streams_open_max = 1;
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let first = peers
        .stream(node(1), ECHO_EACH, stream::pending(), LONG)
        .await
        .unwrap();
    let short = Duration::from_millis(50);
    let second = peers.stream(node(1), ECHO_EACH, stream::empty(), short);
    assert!(matches!(
        second.await.err().unwrap(),
        PeerError::Saturated {
            bound: "streams_open_max",
            limit: 1,
            ..
        }
    ));
    drop(first);
    let third = peers.stream(node(1), ECHO_EACH, stream::empty(), LONG);
    assert_eq!(third.await.unwrap().count().await, 0);
}

#[tokio::test]
async fn a_stream_that_is_refused_does_not_open() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    const MISSING: aegis_peers::Method =
        aegis_peers::Method::stream("/missing", aegis_peers::Lane::Control, 1, 1);
    let opened = peers.stream(node(1), MISSING, stream::pending(), LONG);
    assert!(matches!(
        opened.await.err().unwrap(),
        PeerError::Refused { source, .. } if source.code() == RefusalCode::UnknownMethod
    ));
}
