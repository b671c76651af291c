//! A cluster of nodes in this process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aegis_crypto::Digest;
use aegis_peers::ca::Ca;
use aegis_peers::{
    ClusterId, Credentials, Endpoint, Identity, Incarnation, NodeId, PeerServer, Peers, StoreId,
};
use aegis_raft::{
    Clock, Committed, MemberState, NoObserver, Node, Parts, Position, RaftNode, Role, Roster,
    Settings, Status, SubmitError, SystemClock,
};
use aegis_storage::{FatalError, Options, Store};
use bytes::Bytes;
use futures::future::join_all;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing_subscriber::EnvFilter;

use crate::faults::{Faults, Faulty};
use crate::journal::{self, Journal, NoPoison};

/// Long enough for anything that is to happen, short enough to fail a test.
pub const LONG: Duration = Duration::from_secs(30);

/// How often a condition that nothing signals is looked at.
const GLANCE: Duration = Duration::from_millis(5);

pub fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// Waits until `condition` gives something.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let found = timeout(LONG, async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            sleep(GLANCE).await;
        }
    });
    found
        .await
        .unwrap_or_else(|_| panic!("{what} has not happened within {LONG:?}"))
}

/// A port that is taken but not listened at, so that no other test gets it; a server may
/// listen there while this lives.
struct Port {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Port {
    fn take() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self {
            address: socket.local_addr().unwrap(),
            _socket: socket,
        }
    }
}

/// A node that runs.
pub struct Running {
    pub raft: Arc<RaftNode>,
    pub store: Store,
    /// What its journal was told to be committed.
    pub committed: Arc<Mutex<Vec<Position>>>,
    stop_server: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// Nodes, their disks and the network between them.
pub struct Cluster {
    ca: Ca,
    cluster_id: Digest,
    ports: BTreeMap<u64, Port>,
    nodes: BTreeMap<u64, Running>,
    /// Clocks that are not the system's.
    pub clocks: BTreeMap<u64, Arc<dyn Clock>>,
    pub faults: Arc<Faults>,
    pub settings: Settings,
    /// Removed last.
    dir: TempDir,
}

impl Cluster {
    /// A cluster without nodes.
    pub fn new(settings: Settings) -> Self {
        // `RUST_LOG=debug` shows what happens; another test may have asked for it already.
        let logs = tracing_subscriber::fmt().with_test_writer();
        logs.with_env_filter(EnvFilter::from_default_env())
            .try_init()
            .ok();
        let cluster_id = Digest::of(b"a cluster of a test");
        Self {
            dir: tempfile::tempdir().unwrap(),
            ca: Ca::generate(ClusterId(*cluster_id.as_bytes())).unwrap(),
            cluster_id,
            ports: BTreeMap::new(),
            nodes: BTreeMap::new(),
            clocks: BTreeMap::new(),
            faults: Arc::default(),
            settings,
        }
    }

    /// A founded cluster of `voters` voters, numbered from 1, with a leader.
    pub async fn founded(voters: u64, settings: Settings) -> Self {
        let mut cluster = Self::new(settings);
        for number in 1..=voters {
            cluster.start(number).await;
        }
        cluster.found().await;
        cluster
    }

    /// Founds the cluster on every node that runs, and waits until all follow a leader.
    pub async fn found(&self) {
        let members: BTreeMap<_, _> = self
            .nodes
            .keys()
            .map(|number| (id(*number), self.node(*number)))
            .collect();
        let founding = self
            .nodes
            .values()
            .map(|node| node.raft.bootstrap(members.clone()));
        for founded in join_all(founding).await {
            founded.unwrap();
        }
        let leader = self.leader().await;
        let all_follow = |status: &Status| {
            status.members.iter().all(|member| {
                member.id.get() == leader
                    || (member.state == MemberState::Following && member.lag == Some(0))
            })
        };
        self.raft(leader)
            .watch()
            .wait_for(all_follow)
            .await
            .unwrap();
        self.agreed(&self.numbers()).await;
    }

    /// Where a node is found.
    pub fn node(&self, number: u64) -> Node {
        let peer_addr = self.ports[&number].address.to_string();
        Node {
            name: format!("node-{number}"),
            peer_addr,
            api_addr: "127.0.0.1:8003".into(),
        }
    }

    /// The data folder of a node.
    pub fn path(&self, number: u64) -> PathBuf {
        self.dir.path().join(number.to_string())
    }

    /// Starts a node, on the disk that it has or on a new one.
    pub async fn start(&mut self, number: u64) {
        let store = self.open(number).await;
        let running = self.start_on(number, store).await;
        self.nodes.insert(number, running);
    }

    async fn open(&mut self, number: u64) -> Store {
        self.ports.entry(number).or_insert_with(Port::take);
        let path = self.path(number);
        if !path.exists() {
            let identity = aegis_storage::Identity {
                cluster_id: self.cluster_id,
                node_id: number,
                incarnation: 0,
                store_id: rand_store_id(),
            };
            Store::create(&path, &identity).unwrap();
        }
        // A node that was just stopped may still hold its folder for a moment.
        eventually("opening a data folder", async || {
            Store::open(&path, &options()).ok()
        })
        .await
    }

    async fn start_on(&self, number: u64, store: Store) -> Running {
        let roster = Roster::open(&store).unwrap();
        let certificate = self.ca.issue(id(number), &[]).unwrap();
        let credentials = Credentials::from_pem(
            self.ca.certificate_pem(),
            &certificate.certificate_pem,
            &certificate.key_pem,
        );
        let identity = Identity {
            cluster_id: ClusterId(*self.cluster_id.as_bytes()),
            incarnation: Incarnation(0),
            node_id: id(number),
            store_id: StoreId(store.identity().store_id),
        };
        let endpoint =
            Arc::new(Endpoint::new(identity, credentials.unwrap(), roster.clone()).unwrap());
        let committed = Arc::default();
        let clock = self.clocks.get(&number).cloned();
        let parts = Parts {
            settings: self.settings.clone(),
            store: store.clone(),
            peers: Peers::new(Arc::clone(&endpoint)),
            roster,
            machine: Box::new(Journal::reporting(Arc::clone(&committed))),
            admission: Arc::new(NoPoison),
            clock: clock.unwrap_or_else(|| Arc::new(SystemClock)),
            observer: Arc::new(NoObserver),
        };
        let raft = Arc::new(RaftNode::start(parts).await.unwrap());
        let service = Arc::new(Faulty {
            node: number,
            faults: Arc::clone(&self.faults),
            service: raft.service(),
        });
        let address = self.ports[&number].address;
        let server = PeerServer::bind(address, endpoint, aegis_raft::methods(), service)
            .await
            .unwrap();
        let (stop_server, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            server
                .serve(async {
                    stopped.await.ok();
                })
                .await;
        });
        Running {
            raft,
            store,
            committed,
            stop_server,
            server,
        }
    }

    /// Stops a node without any grace.
    pub async fn kill(&mut self, number: u64) {
        let node = self.nodes.remove(&number).unwrap();
        node.server.abort();
        node.raft.shutdown().await;
        drop(node.stop_server);
    }

    /// Removes a node whose core was stopped already.
    pub async fn bury(&mut self, number: u64) {
        let node = self.nodes.remove(&number).unwrap();
        drop(node.stop_server);
        node.server.abort();
    }

    /// Destroys the disk of a node that does not run.
    pub async fn wipe(&mut self, number: u64) {
        drop(self.open(number).await);
        std::fs::remove_dir_all(self.path(number)).unwrap();
    }

    pub fn running(&self, number: u64) -> &Running {
        &self.nodes[&number]
    }

    pub fn raft(&self, number: u64) -> &Arc<RaftNode> {
        &self.nodes[&number].raft
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub fn status(&self, number: u64) -> Status {
        self.raft(number).status()
    }

    /// The node that leads, once all that run agree on one that runs.
    pub async fn leader(&self) -> u64 {
        self.leader_among(&self.numbers()).await
    }

    /// The node that leads, once all of `numbers` agree on one of them.
    pub async fn leader_among(&self, numbers: &[u64]) -> u64 {
        eventually("agreement on a leader", async || {
            let mut leaders = numbers.iter().map(|number| self.status(*number).leader);
            let leader = leaders.next()??;
            let is_agreed = leaders.all(|other| other == Some(leader));
            let leads =
                numbers.contains(&leader.get()) && self.status(leader.get()).role == Role::Leader;
            (is_agreed && leads).then(|| leader.get())
        })
        .await
    }

    /// A node that runs and does not lead.
    pub async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        self.numbers()
            .into_iter()
            .find(|number| *number != leader)
            .unwrap()
    }

    pub async fn submit(&self, number: u64, command: &str) -> Result<Committed, SubmitError> {
        self.raft(number)
            .submit(Bytes::copy_from_slice(command.as_bytes()))
            .await
    }

    /// The journal of a node, as it is on its disk now.
    pub fn journal(&self, number: u64) -> Vec<String> {
        let commands = journal::read(&self.nodes[&number].store.view());
        commands
            .into_iter()
            .map(|command| String::from_utf8(command).unwrap())
            .collect()
    }

    /// Waits until all of `numbers` have applied the same index, and compares what it made of
    /// them. Returns the journal.
    pub async fn agreed(&self, numbers: &[u64]) -> Vec<String> {
        eventually("agreement on the applied index", async || {
            let mut applied = numbers.iter().map(|number| {
                let status = self.status(*number);
                (status.applied_index == status.last_index).then_some(status.applied_index)
            });
            let first = applied.next()??;
            applied.all(|other| other == Some(first)).then_some(())
        })
        .await;
        let mut journals = numbers.iter().map(|number| self.journal(*number));
        let first = journals.next().unwrap();
        for other in journals {
            assert_eq!(other, first);
        }
        first
    }
}

/// A failure of one node's disk must not end the process that all tests share; the node
/// notices it. At the end of a test the folders go before the nodes do.
fn options() -> Options {
    let on_fatal = |error: &FatalError| tracing::error!(%error, "a disk has failed");
    Options {
        on_fatal: Arc::new(on_fatal),
        ..Options::default()
    }
}

/// A name for a data folder that no other has.
fn rand_store_id() -> [u8; 16] {
    use std::hash::{BuildHasher, RandomState};
    let word = || RandomState::new().hash_one(0).to_ne_bytes();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&word());
    id[8..].copy_from_slice(&word());
    id
}
