//! A small cluster whose nodes run one scripted service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aegis_peers::ca::Ca;
use aegis_peers::{
    ClusterId, Credentials, Direction, Drained, Endpoint, FailureKind, FrameStream, Identity,
    Incarnation, Lane, Limits, Membership, Method, Methods, NodeId, Observer, Peer, PeerError,
    PeerServer, Peers, PinError, Refusal, Service, StoreId, StreamError,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::net::TcpSocket;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

pub const CLUSTER: ClusterId = ClusterId([1; 32]);

/// Long enough for anything that is to happen, short enough to fail a test.
pub const LONG: Duration = Duration::from_secs(20);

/// Answers what it is sent.
pub const ECHO: Method = Method::call("/echo", Lane::Control, 64 << 10, 64 << 10);
/// Answers what it is sent, and takes a lot.
pub const ECHO_LARGE: Method = Method::call("/echo-large", Lane::Bulk, 8 << 20, 8 << 20);
/// Answers as many bytes as it is told to, though it may not answer more than 100.
pub const ANSWER: Method = Method::call("/answer", Lane::Control, 8, 100);
/// Refuses.
pub const FAIL: Method = Method::call("/fail", Lane::Control, 100, 100);
/// Answers when the test opens the gate.
pub const WAIT: Method = Method::call("/wait", Lane::Control, 64 << 10, 64 << 10);
/// Answers who calls.
pub const WHO: Method = Method::call("/who", Lane::Control, 0, 100);
/// Answers each message with itself.
pub const ECHO_EACH: Method = Method::stream("/echo-each", Lane::Control, 1 << 20, 1 << 20);
/// Reads a message for each permit of the gate, and answers its length.
pub const GATED: Method = Method::stream("/gated", Lane::Bulk, 1 << 20, 100);
/// Answers three messages and then a refusal.
pub const THREE: Method = Method::stream("/three", Lane::Control, 100, 100);
/// Answers messages of 64 KiB without end.
pub const FLOOD: Method = Method::stream("/flood", Lane::Bulk, 100, 64 << 10);
/// Declared by callers only.
pub const UNKNOWN: Method = Method::call("/unknown", Lane::Control, 100, 100);
/// What a caller that believes in larger messages thinks of [`ECHO`].
pub const ECHO_TOO_MUCH: Method = Method::call("/echo", Lane::Control, 1 << 20, 1 << 20);

pub fn methods() -> Methods {
    Methods::new([
        ECHO, ECHO_LARGE, ANSWER, FAIL, WAIT, WHO, ECHO_EACH, GATED, THREE, FLOOD,
    ])
    .unwrap()
}

pub fn node(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

pub fn identity(number: u64) -> Identity {
    Identity {
        cluster_id: CLUSTER,
        incarnation: Incarnation(1),
        node_id: node(number),
        store_id: StoreId([u8::try_from(number).unwrap(); 16]),
    }
}

/// The members, which every node of a test shares.
#[derive(Default)]
pub struct Members {
    pub admitted: Mutex<BTreeSet<NodeId>>,
    pub pinned: Mutex<BTreeMap<NodeId, StoreId>>,
}

impl Members {
    pub fn of(numbers: impl IntoIterator<Item = u64>) -> Arc<Self> {
        let members = Self::default();
        for number in numbers {
            members.admit(number);
        }
        Arc::new(members)
    }

    pub fn admit(&self, number: u64) {
        self.admitted.lock().unwrap().insert(node(number));
    }

    pub fn expel(&self, number: u64) {
        self.admitted.lock().unwrap().remove(&node(number));
    }
}

impl Membership for Members {
    fn admits(&self, node: NodeId) -> bool {
        self.admitted.lock().unwrap().contains(&node)
    }

    fn pin_store(&self, node: NodeId, presented: StoreId) -> BoxFuture<'_, Result<(), PinError>> {
        let pinned = *self.pinned.lock().unwrap().entry(node).or_insert(presented);
        let outcome = if pinned == presented {
            Ok(())
        } else {
            Err(PinError::Mismatch {
                node,
                pinned,
                presented,
            })
        };
        std::future::ready(outcome).boxed()
    }
}

/// Counts what it is told.
#[derive(Default)]
pub struct Counts {
    pub connected: AtomicUsize,
    pub disconnected: AtomicUsize,
    pub sent_bytes: AtomicUsize,
    pub received_bytes: AtomicUsize,
    pub failures: Mutex<Vec<(Option<NodeId>, Direction, FailureKind)>>,
}

impl Counts {
    pub fn saw(&self, direction: Direction, kind: FailureKind) -> bool {
        let failures = self.failures.lock().unwrap();
        failures
            .iter()
            .any(|(_, d, k)| (*d, *k) == (direction, kind))
    }

    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }
}

impl Observer for Counts {
    fn connected(&self, _: NodeId, _: Direction) {
        self.connected.fetch_add(1, Ordering::SeqCst);
    }
    fn disconnected(&self, _: NodeId, _: Direction) {
        self.disconnected.fetch_add(1, Ordering::SeqCst);
    }
    fn sent(&self, _: NodeId, _: Lane, bytes: usize) {
        self.sent_bytes.fetch_add(bytes, Ordering::SeqCst);
    }
    fn received(&self, _: NodeId, _: Lane, bytes: usize) {
        self.received_bytes.fetch_add(bytes, Ordering::SeqCst);
    }
    fn failed(&self, peer: Option<NodeId>, direction: Direction, kind: FailureKind) {
        let mut failures = self.failures.lock().unwrap();
        failures.push((peer, direction, kind));
    }
}

/// The service of every node.
pub struct Script {
    /// What [`WAIT`] and [`GATED`] wait for.
    pub gate: Arc<Semaphore>,
    /// Calls that wait at the gate, or have passed it.
    pub arrived: Arc<Semaphore>,
    /// How [`GATED`] streams ended on this side.
    pub endings: mpsc::UnboundedSender<Result<(), StreamError>>,
}

impl Service for Script {
    fn call(
        &self,
        from: Peer,
        method: Method,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let (gate, arrived) = (Arc::clone(&self.gate), Arc::clone(&self.arrived));
        async move {
            match method {
                ECHO | ECHO_LARGE => Ok(body),
                ANSWER => {
                    let bytes = u64::from_be_bytes(body[..].try_into().unwrap());
                    Ok(vec![7; usize::try_from(bytes).unwrap()].into())
                }
                FAIL => Err(Refusal::failed("as asked")),
                WAIT => {
                    arrived.add_permits(1);
                    gate.acquire().await.unwrap().forget();
                    Ok(body)
                }
                WHO => Ok(format!("{} {}", from.node_id, from.store_id).into()),
                other => Err(Refusal::unavailable(other.path())),
            }
        }
        .boxed()
    }

    fn stream(
        &self,
        _: Peer,
        method: Method,
        mut input: FrameStream,
    ) -> BoxFuture<'static, Result<FrameStream, Refusal>> {
        let (gate, endings) = (Arc::clone(&self.gate), self.endings.clone());
        async move {
            let output: FrameStream = match method {
                ECHO_EACH => input,
                GATED => {
                    let (answers, output) = mpsc::channel(1);
                    tokio::spawn(async move {
                        loop {
                            gate.acquire().await.unwrap().forget();
                            match input.next().await {
                                Some(Ok(message)) => {
                                    let length = message.len().to_string();
                                    // The caller may be gone while its messages still come.
                                    answers.send(Ok(Bytes::from(length))).await.unwrap_or(());
                                }
                                Some(Err(error)) => return endings.send(Err(error)).unwrap(),
                                None => return endings.send(Ok(())).unwrap(),
                            }
                        }
                    });
                    tokio_stream(output)
                }
                THREE => {
                    let three = ["1", "2", "3"].map(|text| Ok(Bytes::from(text)));
                    let refusal = Err(StreamError::Refused(Refusal::unavailable("no more")));
                    Box::pin(futures::stream::iter(three.into_iter().chain([refusal])))
                }
                FLOOD => Box::pin(futures::stream::repeat_with(|| {
                    Ok(Bytes::from_static(&[0; 64 << 10]))
                })),
                other => return Err(Refusal::unavailable(other.path())),
            };
            Ok(output)
        }
        .boxed()
    }
}

/// A port that is taken but not listened at, so that nobody answers there and no other test
/// gets it; a server may still listen there while this lives.
pub struct Vacant {
    pub address: SocketAddr,
    _socket: TcpSocket,
}

pub fn vacant() -> Vacant {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    Vacant {
        address: socket.local_addr().unwrap(),
        _socket: socket,
    }
}

/// A channel as a stream.
pub fn tokio_stream<T: Send + 'static>(
    mut channel: mpsc::Receiver<T>,
) -> std::pin::Pin<Box<dyn futures::Stream<Item = T> + Send>> {
    Box::pin(futures::stream::poll_fn(move |cx| channel.poll_recv(cx)))
}

/// A running server.
pub struct Running {
    pub number: u64,
    pub address: SocketAddr,
    pub gate: Arc<Semaphore>,
    pub arrived: Arc<Semaphore>,
    pub counts: Arc<Counts>,
    pub endings: mpsc::UnboundedReceiver<Result<(), StreamError>>,
    stop: Option<oneshot::Sender<()>>,
    done: JoinHandle<Drained>,
}

impl Running {
    /// Tells the server to stop.
    pub fn tell_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until it has.
    pub async fn stopped(self) -> Drained {
        tokio::time::timeout(LONG, self.done)
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until `count` calls stand at the gate.
    pub async fn wait_for_arrivals(&self, count: u32) {
        let arrivals = self.arrived.acquire_many(count);
        tokio::time::timeout(LONG, arrivals)
            .await
            .unwrap()
            .unwrap()
            .forget();
    }
}

/// What the nodes of a test have in common.
pub struct Cluster {
    pub ca: Ca,
    pub members: Arc<Members>,
    pub limits: Limits,
}

impl Cluster {
    pub fn new(numbers: impl IntoIterator<Item = u64>) -> Self {
        Self {
            ca: Ca::generate(CLUSTER).unwrap(),
            members: Members::of(numbers),
            limits: Limits {
                drain_timeout: LONG,
                ..Limits::default()
            },
        }
    }

    pub fn credentials(&self, number: u64) -> Credentials {
        credentials(&self.ca, number)
    }

    pub fn endpoint_as(&self, identity: Identity) -> Endpoint {
        let credentials = self.credentials(identity.node_id.get());
        Endpoint::new(identity, credentials, self.members.clone())
            .unwrap()
            .with_limits(self.limits)
            .unwrap()
    }

    pub async fn serve(&self, number: u64) -> Running {
        self.serve_at(number, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn serve_at(&self, number: u64, address: SocketAddr) -> Running {
        serve(self.endpoint_as(identity(number)), address).await
    }

    /// The pool of node `number`.
    pub fn peers(&self, number: u64) -> Peers {
        Peers::new(Arc::new(self.endpoint_as(identity(number))))
    }

    /// The pool of node `number`, which knows where `server` is.
    pub fn peers_to(&self, number: u64, server: &Running) -> Peers {
        let peers = self.peers(number);
        peers.set_address(node(server.number), server.address.into());
        peers
    }
}

pub fn credentials(ca: &Ca, number: u64) -> Credentials {
    let issued = ca.issue(node(number), &[]).unwrap();
    Credentials::from_pem(
        ca.certificate_pem(),
        &issued.certificate_pem,
        &issued.key_pem,
    )
    .unwrap()
}

pub async fn serve(endpoint: Endpoint, address: SocketAddr) -> Running {
    let (counts, gate, arrived) = (
        Arc::new(Counts::default()),
        Arc::new(Semaphore::new(0)),
        Arc::new(Semaphore::new(0)),
    );
    let (sender, endings) = mpsc::unbounded_channel();
    let service = Arc::new(Script {
        gate: gate.clone(),
        arrived: arrived.clone(),
        endings: sender,
    });
    let number = endpoint.identity().node_id.get();
    let endpoint = Arc::new(endpoint.with_observer(counts.clone()));
    let server = PeerServer::bind(address, endpoint, methods(), service)
        .await
        .unwrap();
    let (stop, stopped) = oneshot::channel();
    Running {
        number,
        address: server.local_address(),
        gate,
        arrived,
        counts,
        endings,
        stop: Some(stop),
        done: tokio::spawn(server.serve(async {
            // A test that ends drops its end, and with it the server.
            stopped.await.unwrap_or(());
        })),
    }
}

/// Repeats `attempt` until it succeeds. Each failure waits for the link to change, so this spins
/// no faster than the backoff.
pub async fn until_ok<T, F>(mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, PeerError>>,
{
    until(async || attempt().await.ok()).await
}

/// Repeats `attempt` until it yields something.
pub async fn until<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let repeated = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, repeated).await.unwrap()
}
