//! Events over WebSocket: whoever resumes, on this node or another, misses nothing and sees
//! nothing twice.

use std::process::Command;
use std::time::Duration;

use aegis_ledger::{Change, EVENTS_KEPT, Event, Record as _, key, query};
use aegis_storage::{Options, Store};
use futures::StreamExt as _;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::ballot::Ballot;
use crate::cluster::{Cluster, PATIENCE};

/// A client that follows a node's events.
struct Subscriber(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Subscriber {
    /// Follows from a place on, or live without one.
    async fn new(cluster: &Cluster, node: u64, from: Option<&str>) -> Self {
        let query = from.map_or_else(String::new, |from| format!("?from={from}"));
        let url = format!("ws://{}:8006/consensus{query}", cluster.ip(node));
        let (socket, _) = connect_async(url).await.unwrap();
        Self(socket)
    }

    async fn message(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await;
            match message.expect("no event came").unwrap().unwrap() {
                Message::Ping(_) => {}
                message => return message,
            }
        }
    }

    /// The texts of the next events.
    async fn events(&mut self, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        while events.len() < count {
            match self.message().await {
                Message::Text(text) => events.push(text.to_string()),
                other => panic!("{other:?}"),
            }
        }
        events
    }

    /// The close that comes next, answered.
    async fn close(&mut self) -> CloseFrame {
        match self.message().await {
            Message::Close(Some(frame)) => {
                while self.0.next().await.is_some() {}
                frame
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Where an event stands, as `from` takes it.
fn place(event: &str) -> String {
    let event: Value = serde_json::from_str(event).unwrap();
    format!("{}.{}", event["index"], event["ordinal"])
}

async fn cast(
    cluster: &Cluster,
    node: u64,
    ballot: &Ballot,
    voters: std::ops::RangeInclusive<u32>,
) {
    for voter in voters {
        let (status, body) = cluster
            .post(node, "/votes", &ballot.vote(voter, "for"))
            .await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_resumes_on_another_node_and_after_a_crash() {
    let mut cluster = Cluster::start(3).await;
    cluster.register(1, 20).await;
    let ballot = cluster.propose(1, "To be followed").await;
    let mut first = Subscriber::new(&cluster, 1, Some("0.0")).await;
    cast(&cluster, 1, &ballot, 1..=10).await;
    let mut seen = first.events(6).await;

    // It moves to node 2, and begins with the event that it saw last.
    let last = seen.pop().unwrap();
    let mut second = Subscriber::new(&cluster, 2, Some(&place(&last))).await;
    seen.extend(second.events(3).await);
    assert_eq!(seen[5], last);

    // Node 2 dies under it. It comes back there, and what was cast meanwhile is there, too.
    cluster.kill(2);
    cluster.ready().await;
    cast(&cluster, 3, &ballot, 11..=15).await;
    cluster.start_node(2);
    cluster.node_ready(2).await;
    let last = seen.pop().unwrap();
    let mut third = Subscriber::new(&cluster, 2, Some(&place(&last))).await;
    seen.extend(third.events(9).await);
    cast(&cluster, 1, &ballot, 16..=20).await;
    // Five ballots, the last of which closes the voting.
    seen.extend(third.events(7).await);

    for node in cluster.ids() {
        let whole = Subscriber::new(&cluster, node, Some("0.0"))
            .await
            .events(23)
            .await;
        assert_eq!(whole, seen, "node {node} tells another story");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_brought_up_by_snapshot_has_the_events() {
    let mut cluster = Cluster::init(3);
    let small = |command: &mut Command| {
        command
            .env("AEGIS__RAFT__SNAPSHOT_EVERY", "50")
            .env("AEGIS__RAFT__LOG_KEPT", "10");
    };
    cluster.start_all_with(small);
    cluster.ready().await;
    cluster.register(1, 201).await;
    let ballot = cluster.propose(1, "To be followed").await;
    let behind = cluster.leader().await % 3 + 1;
    let before = Subscriber::new(&cluster, behind, Some("0.0"))
        .await
        .events(1)
        .await;
    cluster.kill(behind);
    let other = behind % 3 + 1;
    cast(&cluster, other, &ballot, 1..=200).await;
    cluster.start_with(behind, small);
    cluster.node_ready(behind).await;
    cluster.logged(behind, "snapshot installed").await;
    let mut resumed = Subscriber::new(&cluster, behind, Some(&place(&before[0]))).await;
    let mut told = resumed.events(201).await;
    cast(&cluster, other, &ballot, 201..=201).await;
    // The ballot, the closing and the outcome.
    told.extend(resumed.events(3).await);
    let expected = Subscriber::new(&cluster, other, Some("0.0"))
        .await
        .events(204)
        .await;
    assert_eq!(told, expected);
}

/// Lets a stopped node have told so many more events that only the last `kept` of those
/// before are kept.
fn age(cluster: &Cluster, node: u64, kept: u64) {
    let dir = cluster.node_dir(node).join("store");
    let store = Store::open(&dir, &Options::default()).unwrap();
    let view = store.view();
    let applied = view.applied().unwrap().unwrap();
    let mut core = query::core(&view).unwrap();
    let before = core.events;
    let last = Event::read(&view, &key::number(before - 1))
        .unwrap()
        .unwrap();
    drop(view);
    let gone = (0..before - kept).map(|number| Change {
        table: Event::TABLE,
        key: key::number(number),
        value: None,
    });
    let more = (1..=EVENTS_KEPT - kept).map(|nth| {
        let mut event = last.clone();
        event.position.ordinal += u32::try_from(nth).unwrap();
        event.put(key::number(before - 1 + nth))
    });
    core.events += EVENTS_KEPT - kept;
    let changes: Vec<_> = gone.chain(more).chain([core.put(Vec::new())]).collect();
    store.commit_state(&changes, &applied).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_is_too_old_is_told_the_oldest_that_is_kept() {
    let mut cluster = Cluster::start(1).await;
    cluster.register(1, 20).await;
    let ballot = cluster.propose(1, "Long ago").await;
    cast(&cluster, 1, &ballot, 1..=9).await;
    let whole = Subscriber::new(&cluster, 1, Some("0.0"))
        .await
        .events(10)
        .await;
    cluster.stop(1).await;
    age(&cluster, 1, 4);
    cluster.start_node(1);
    cluster.node_ready(1).await;

    let close = Subscriber::new(&cluster, 1, Some(&place(&whole[5])))
        .await
        .close()
        .await;
    assert_eq!(u16::from(close.code), 4410);
    let oldest = place(&whole[6]);
    assert!(
        close
            .reason
            .ends_with(&format!("the oldest event is {oldest}")),
        "{}",
        close.reason
    );
    let kept = Subscriber::new(&cluster, 1, Some(&oldest))
        .await
        .events(4)
        .await;
    assert_eq!(kept, whole[6..]);
    let mut live = Subscriber::new(&cluster, 1, None).await;
    cast(&cluster, 1, &ballot, 10..=10).await;
    let next = live.events(1).await;
    assert!(next[0].contains("\"voter\":\"a10\""), "{next:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_sends_its_subscribers_elsewhere() {
    let mut cluster = Cluster::start(3).await;
    cluster.register(1, 3).await;
    let leader = cluster.leader().await;
    let mut subscriber = Subscriber::new(&cluster, leader, Some("0.0")).await;
    let ballot = cluster.propose(leader, "To be followed").await;
    let seen = subscriber.events(1).await;
    let stopped = tokio::time::timeout(Duration::from_secs(20), cluster.stop(leader));
    let (closed, stopped) = tokio::join!(subscriber.close(), stopped);
    stopped.expect("a subscriber holds the stop up");
    assert_eq!(u16::from(closed.code), 1012);

    let next = cluster.leader().await;
    let mut resumed = Subscriber::new(&cluster, next, Some(&place(&seen[0]))).await;
    cast(&cluster, next, &ballot, 1..=1).await;
    let told = resumed.events(2).await;
    assert_eq!(told[0], seen[0]);
    assert!(told[1].contains("vote_cast"), "{told:?}");
}
