//! The log tells of changes, not of attempts.

use std::cell::RefCell;
use std::sync::{Arc, Once};
use std::time::Duration;

use aegis_peers::{Backoff, Direction, FailureKind, Peers};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::support::*;

thread_local! {
    /// The warnings of this thread, on which everything in one test runs.
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the messages of warnings.
struct Keep;

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        if *event.metadata().level() == Level::WARN {
            let mut message = Message(String::new());
            event.record(&mut message);
            WARNINGS.with_borrow_mut(|warnings| warnings.push(message.0));
        }
    }
}

/// Listens from here on. One subscriber serves all tests, because `tracing` asks whether a line
/// interests anyone only of the thread that comes upon it first.
fn listen() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Keep);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

fn warnings() -> Vec<String> {
    WARNINGS.take()
}

fn brisk() -> Backoff {
    let pause = Duration::from_millis(2);
    Backoff {
        base: pause,
        cap: pause,
    }
}

async fn failures(counts: &Counts, direction: Direction, kind: FailureKind, at_least: usize) {
    until(async || {
        let failures = counts.failures.lock().unwrap();
        let count = failures
            .iter()
            .filter(|(_, d, k)| (*d, *k) == (direction, kind))
            .count();
        (count >= at_least).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_absent_peer_is_warned_of_once() {
    listen();
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.backoff = brisk();
    let port = vacant();
    let counts = Arc::new(Counts::default());
    let endpoint = cluster
        .endpoint_as(identity(2))
        .with_observer(counts.clone());
    let peers = Peers::new(Arc::new(endpoint));
    peers.set_address(node(1), port.address.into());
    failures(&counts, Direction::Outbound, FailureKind::Connect, 20).await;
    assert_eq!(warnings(), ["peer unreachable"]);

    // It comes and goes: that is another one, for each way that it is missed.
    let mut server = cluster.serve_at(1, port.address).await;
    until(async || {
        let status = peers.status(node(1))?;
        (status.control.connected && status.bulk.connected).then_some(())
    })
    .await;
    assert!(warnings().is_empty());
    server.tell_to_stop();
    server.stopped().await;
    counts.failures.lock().unwrap().clear();
    failures(&counts, Direction::Outbound, FailureKind::Connect, 20).await;
    let told = warnings();
    assert!((1..=3).contains(&told.len()), "{told:?}");
}

#[tokio::test]
async fn a_rejected_peer_is_warned_of_once() {
    listen();
    let mut cluster = Cluster::new([1]);
    cluster.limits.backoff = brisk();
    let server = cluster.serve(1).await;
    let peers = cluster.peers_to(2, &server);
    let (inbound, kind) = (Direction::Inbound, FailureKind::NotAdmitted);
    failures(&server.counts, inbound, kind, 20).await;
    let mut told = warnings();
    told.sort();
    assert_eq!(told, ["peer rejected", "peer unreachable"]);
    drop(peers);
}
