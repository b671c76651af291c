//! What the transport costs on loopback: round trips of small calls, messages of a stream, and
//! bytes of large calls. `cargo bench --profile dev -p aegis-peers --bench transport` prints a
//! table.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_peers::ca::Ca;
use aegis_peers::{
    ClusterId, Credentials, Endpoint, FrameStream, Identity, Incarnation, Lane, Membership, Method,
    Methods, NodeId, Peer, PeerServer, Peers, PinError, Refusal, Service, StoreId,
};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, StreamExt, stream};

const ECHO: Method = Method::call("/echo", Lane::Control, 1 << 10, 1 << 10);
const SINK: Method = Method::call("/sink", Lane::Bulk, 8 << 20, 8);
const EACH: Method = Method::stream("/each", Lane::Control, 8 << 20, 1 << 10);

const CLUSTER: ClusterId = ClusterId([1; 32]);
const TIMEOUT: Duration = Duration::from_secs(30);
const RUN: Duration = Duration::from_secs(3);

struct Everybody;

impl Membership for Everybody {
    fn admits(&self, _: NodeId) -> bool {
        true
    }
    fn pin_store(&self, _: NodeId, _: StoreId) -> BoxFuture<'_, Result<(), PinError>> {
        std::future::ready(Ok(())).boxed()
    }
}

struct Echo;

impl Service for Echo {
    fn call(
        &self,
        _: Peer,
        method: Method,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        std::future::ready(Ok(if method == SINK { Bytes::new() } else { body })).boxed()
    }
    fn stream(
        &self,
        _: Peer,
        _: Method,
        input: FrameStream,
    ) -> BoxFuture<'static, Result<FrameStream, Refusal>> {
        let answers =
            input.map(|message| message.map(|message| message.slice(..message.len().min(8))));
        std::future::ready(Ok(Box::pin(answers) as FrameStream)).boxed()
    }
}

fn node(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn endpoint(ca: &Ca, number: u64) -> Arc<Endpoint> {
    let issued = ca.issue(node(number), &[]).unwrap();
    let credentials = Credentials::from_pem(
        ca.certificate_pem(),
        &issued.certificate_pem,
        &issued.key_pem,
    )
    .unwrap();
    let identity = Identity {
        cluster_id: CLUSTER,
        incarnation: Incarnation(1),
        node_id: node(number),
        store_id: StoreId([2; 16]),
    };
    Arc::new(Endpoint::new(identity, credentials, Arc::new(Everybody)).unwrap())
}

#[tokio::main]
async fn main() {
    let ca = Ca::generate(CLUSTER).unwrap();
    let methods = Methods::new([ECHO, SINK, EACH]).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let server = PeerServer::bind(address, endpoint(&ca, 1), methods, Arc::new(Echo))
        .await
        .unwrap();
    let peers = Peers::new(endpoint(&ca, 2));
    peers.set_address(node(1), server.local_address().into());
    tokio::spawn(server.serve(std::future::pending()));
    peers
        .call(node(1), ECHO, Bytes::new(), TIMEOUT)
        .await
        .unwrap();

    for callers in [1, 64] {
        calls(&peers, callers).await;
    }
    conversation(&peers).await;
    for (bytes, name) in [(100, "100 B"), (64 << 10, "64 KiB"), (8 << 20, "8 MiB")] {
        one_way(&peers, bytes, name).await;
    }
    large_calls(&peers).await;
}

/// Small calls, each caller waiting for its answer before it calls again.
async fn calls(peers: &Peers, callers: usize) {
    let tasks = (0..callers).map(|_| {
        let peers = peers.clone();
        tokio::spawn(async move {
            let (started, mut times) = (Instant::now(), Vec::new());
            while started.elapsed() < RUN {
                let begun = Instant::now();
                let body = Bytes::from_static(&[0; 100]);
                peers.call(node(1), ECHO, body, TIMEOUT).await.unwrap();
                times.push(begun.elapsed());
            }
            times
        })
    });
    let mut times: Vec<Duration> = Vec::new();
    for task in join_all(tasks).await {
        times.extend(task.unwrap());
    }
    report(&format!("calls of 100 B, {callers} callers"), times);
}

/// One message each way at a time, on one stream.
async fn conversation(peers: &Peers) {
    let (say, mut said) = tokio::sync::mpsc::channel(1);
    let input = stream::poll_fn(move |cx| said.poll_recv(cx));
    let mut answers = peers.stream(node(1), EACH, input, TIMEOUT).await.unwrap();
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < RUN {
        let begun = Instant::now();
        say.send(Bytes::from_static(&[0; 100])).await.unwrap();
        answers.next().await.unwrap().unwrap();
        times.push(begun.elapsed());
    }
    report("stream of 100 B, one at a time", times);
}

/// Messages as fast as they go, each answered.
async fn one_way(peers: &Peers, bytes: usize, name: &str) {
    let (message, started) = (Bytes::from(vec![7; bytes]), Instant::now());
    let input = stream::repeat_with(move || message.clone())
        .take_while(move |_| std::future::ready(started.elapsed() < RUN));
    let answers = peers.stream(node(1), EACH, input, TIMEOUT).await.unwrap();
    let count = answers.map(Result::unwrap).count().await;
    rate(
        &format!("stream of {name}"),
        count,
        bytes,
        started.elapsed(),
    );
}

/// Large calls, four at a time.
async fn large_calls(peers: &Peers) {
    let (body, started) = (Bytes::from(vec![7; 8 << 20]), Instant::now());
    let tasks = (0..4).map(|_| async {
        let mut count = 0;
        while started.elapsed() < RUN {
            peers
                .call(node(1), SINK, body.clone(), TIMEOUT)
                .await
                .unwrap();
            count += 1;
        }
        count
    });
    let count = join_all(tasks).await.into_iter().sum();
    rate(
        "calls of 8 MiB, 4 callers",
        count,
        body.len(),
        started.elapsed(),
    );
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{what:32} {:>8} /s   p50 {:>9.1?}   p99 {:>9.1?}",
        times.len() / usize::try_from(RUN.as_secs()).unwrap(),
        at(50),
        at(99)
    );
}

fn rate(what: &str, count: usize, bytes: usize, took: Duration) {
    let ms = usize::try_from(took.as_millis()).unwrap();
    println!(
        "{what:32} {:>8} /s   {:>6} MiB/s",
        count * 1000 / ms,
        (count * bytes * 1000 / ms) >> 20
    );
}
