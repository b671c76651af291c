//! One node: its parts put together, started in order, and stopped in order.
//!
//! Starting opens the disk, the transport to the peers, Raft, and last the edge, so that
//! nothing answers before it can answer truly. A graceful stop goes the other way about:
//! leadership is handed over while the edge still serves, then the edge drains, then Raft
//! and the disk end. A failure of the core or of the disk ends the process instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aegis_api::metrics::Exporter;
use aegis_cli::secret;
use aegis_committee::{CommitteeSeat, MESSAGES};
use aegis_ledger::{Command, Entry, Genesis, LedgerTime, Principal, query};
use aegis_peers::{
    ClusterId, Credentials, Endpoint, Identity, Incarnation, Limits, NodeId, PeerServer, Peers,
    StoreId,
};
use aegis_raft::{
    Admission, ChangeError, Clock, Node as RaftMember, Parts, RaftNode, Roster, Settings,
    SystemClock,
};
use aegis_storage::Store;
use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{NodeService, ORDER, Orders};
use crate::config::{Config, MemberConfig, RaftConfig, StorageConfig};
use crate::edge::{self, Serving};
use crate::governance::{self, Gate, NodeGovernance};
use crate::machine::{Follower, LedgerMachine, Progress};
use crate::observe::{self, Observers};
use crate::seat;

/// How long a leader that is told to stop may take to hand over: many times what it takes.
/// A target that stops as well never leads, and is not waited for longer.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(2);
/// How long a node that is told to stop may take to finish what it holds.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long after a due time the leader waits before it proposes a tick, so that a write
/// on its way may do instead.
const TICK_DELAY: Duration = Duration::from_millis(20);
/// How long the ticker waits after a tick that was not taken.
const TICK_RETRY: Duration = Duration::from_millis(500);

/// A running node.
pub struct Node {
    raft: Arc<RaftNode>,
    seat: Option<CommitteeSeat>,
    edge: Serving,
    peers: JoinHandle<aegis_peers::Drained>,
    tasks: Vec<JoinHandle<()>>,
    stop_edge: CancellationToken,
    stop_peers: CancellationToken,
    stop_tasks: CancellationToken,
}

/// What a running node came to.
#[derive(Debug)]
pub enum Ended {
    /// The core failed; the process must end with an error.
    Failed(String),
    /// The validator failed; the process must end with an error.
    SeatFailed(String),
    /// A listener ended, which it never does by itself.
    ListenerEnded(&'static str),
}

impl Node {
    /// Starts a node as its configuration says. It serves clients on the runtime `edge` and
    /// does everything else on the one that it is started on.
    ///
    /// # Errors
    /// Whatever keeps it from starting, with what to do.
    pub async fn start(config: Config, metrics: Exporter, edge: &Handle) -> Result<Self> {
        let observers = Observers::new();
        let genesis = Arc::new(read_genesis(&config.cluster.genesis)?);
        let credentials = credentials(&config, &genesis)?;
        let store = open_store(&config, &genesis, &observers)?;
        let endpoint = endpoint(&store, credentials, &config)?;
        let roster =
            Roster::open(&store).context("cannot read the members from the data folder")?;
        let endpoint = Arc::new(endpoint.finish(Arc::clone(&roster))?);
        let peers = Peers::new(Arc::clone(&endpoint));
        let follower = seat::has_seat(&config, &genesis)?.then(Follower::default);
        let (machine, progress) =
            LedgerMachine::new(Arc::clone(&genesis), follower.clone(), observers.ledger());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let floor_bytes = u64::from(config.storage.free_floor_mib) << 20;
        let gate = Arc::new(Gate::new(store.clone(), floor_bytes));
        let raft = RaftNode::start(Parts {
            settings: raft_settings(&config.raft),
            store: store.clone(),
            peers: peers.clone(),
            roster,
            machine: Box::new(machine),
            admission: Arc::clone(&gate) as Arc<dyn Admission>,
            clock: Arc::clone(&clock),
            observer: observers.raft(),
        });
        let raft = Arc::new(raft.await.context("cannot start replication")?);

        let seat = match follower {
            Some(follower) => Some(seat::take(seat::Parts {
                config: &config,
                genesis: Arc::clone(&genesis),
                store: store.clone(),
                peers: peers.clone(),
                raft: Arc::clone(&raft),
                follower,
                observer: observers.committee(),
            })?),
            None => None,
        };
        let door = seat.as_ref().map(CommitteeSeat::door);
        let stop_peers = CancellationToken::new();
        let service = NodeService::new(Arc::clone(&raft), door.clone());
        let server = serve_peers(&config, endpoint, service, stop_peers.clone()).await?;
        if config.is_founder() {
            let founded = raft
                .bootstrap(founders(&config, Part::Voter)?)
                .await
                .context("cannot found the cluster")?;
            if founded {
                tracing::info!("cluster founded");
            }
        }
        let orders = Orders::new(Arc::clone(&raft), peers);
        let governance = Arc::new(NodeGovernance::new(governance::Parts {
            genesis,
            name: config.node.name.clone(),
            store: store.clone(),
            gate,
            raft: Arc::clone(&raft),
            orders,
            progress: progress.clone(),
            seat: door,
        }));
        let stop_edge = CancellationToken::new();
        let serving = serve_edge(
            config.clone(),
            governance,
            metrics.clone(),
            stop_edge.clone(),
        );
        let edge = edge
            .spawn(serving)
            .await
            .context("the edge's task died")??;
        let witnesses = founders(&config, Part::Witness)?;
        let stop_tasks = CancellationToken::new();
        let keeper = Keeper {
            raft: Arc::clone(&raft),
            store: store.clone(),
            clock,
            stop: stop_tasks.clone(),
        };
        let tasks = vec![
            tokio::spawn(keeper.clone().tick(progress)),
            tokio::spawn(keeper.clone().begin_incarnation()),
            tokio::spawn(keeper.add_witnesses(witnesses)),
            tokio::spawn(observe::watch(
                Arc::clone(&raft),
                store,
                metrics,
                stop_tasks.clone(),
            )),
        ];
        tracing::info!(node = config.node.id, name = %config.node.name, api = %config.api.listen, "node started");
        Ok(Self {
            raft,
            seat,
            edge,
            peers: server,
            tasks,
            stop_edge,
            stop_peers,
            stop_tasks,
        })
    }

    /// Follows the node's leadership and progress.
    #[must_use]
    pub fn raft(&self) -> &RaftNode {
        &self.raft
    }

    /// Completes only if something ends that never should.
    pub async fn ended(&mut self) -> Ended {
        tokio::select! {
            reason = self.raft.failed() => Ended::Failed(reason),
            reason = seat_ended(&mut self.seat) => Ended::SeatFailed(reason),
            _ = &mut self.edge.api => Ended::ListenerEnded("api"),
            _ = &mut self.edge.events => Ended::ListenerEnded("events"),
            _ = &mut self.peers => Ended::ListenerEnded("peers"),
        }
    }

    /// Stops gracefully: hands leadership over first, so that no request fails.
    ///
    /// # Errors
    /// A part that did not end well.
    pub async fn stop(self) -> Result<()> {
        tracing::info!("stopping");
        let handed = self.raft.hand_over(HAND_OVER_DEADLINE).await;
        match handed {
            Ok(Some(to)) => tracing::info!(to = to.get(), "leadership handed over"),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "leadership was not handed over"),
        }
        self.stop_edge.cancel();
        self.edge.api.await.context("the API's task died")?;
        self.edge
            .events
            .await
            .context("the event stream's task died")?;
        self.stop_tasks.cancel();
        for task in self.tasks {
            task.await.context("a task of the node died")?;
        }
        if let Some(seat) = self.seat
            && let Some(reason) = seat.stop().await
        {
            bail!("the validator did not end well: {reason}");
        }
        let stopped = self.raft.step_down_and_stop(STOP_DEADLINE).await;
        if stopped.unanswered > 0 {
            tracing::warn!(
                unanswered = stopped.unanswered,
                "some writes were not answered"
            );
        }
        self.stop_peers.cancel();
        self.peers.await.context("the peers' task died")?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Completes if there is a validator and it fails.
async fn seat_ended(seat: &mut Option<CommitteeSeat>) -> String {
    match seat {
        Some(seat) => match seat.ended().await {
            Some(reason) => reason,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

pub(crate) fn read_genesis(path: &Path) -> Result<Genesis> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read the genesis document {}", path.display()))?;
    Genesis::parse(bytes)
        .with_context(|| format!("{} is no genesis document for this binary", path.display()))
}

fn credentials(config: &Config, genesis: &Genesis) -> Result<Credentials> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let key = secret::read(&config.peers.key)?;
    let credentials = Credentials::from_pem(
        &read(&config.peers.authority)?,
        &read(&config.peers.certificate)?,
        &key,
    )
    .context("the node's certificate cannot be used")?;
    let (proved, named) = (credentials.node_id().get(), config.node.id);
    ensure!(
        proved == named,
        "the certificate proves node {proved}, `node.id` is {named}"
    );
    let (proved, named) = (credentials.cluster_id().0, *genesis.cluster_id().as_bytes());
    ensure!(
        proved == named,
        "the certificate and the genesis document belong to different clusters"
    );
    Ok(credentials)
}

/// Opens the data folder that `aegis init` or `aegis snapshot restore` made. A node never
/// makes its own: one that lost its folder must not come back as if it had promised nothing.
fn open_store(config: &Config, genesis: &Genesis, observers: &Observers) -> Result<Store> {
    let dir = &config.storage.dir;
    if !dir.exists() {
        bail!(
            "there is no data folder {}. If it was lost, this node cannot return under its id: remove it from \
             the cluster and add one with a new id (`aegis init --add-node`, `aegis cluster add-learner`)",
            dir.display()
        );
    }
    let options = storage_options(&config.storage, observers);
    let store = Store::open(dir, &options)
        .with_context(|| format!("cannot open the data folder {}", dir.display()))?;
    let identity = store.identity();
    if identity.cluster_id != genesis.cluster_id() {
        bail!(
            "{} holds cluster {}, the genesis document names {}",
            dir.display(),
            identity.cluster_id,
            genesis.cluster_id()
        );
    }
    if identity.node_id != config.node.id {
        bail!(
            "{} belongs to node {}, `node.id` is {}",
            dir.display(),
            identity.node_id,
            config.node.id
        );
    }
    Ok(store)
}

/// An endpoint that lacks its membership, which is on the disk.
struct EndpointDraft {
    identity: Identity,
    credentials: Credentials,
}

fn endpoint(store: &Store, credentials: Credentials, config: &Config) -> Result<EndpointDraft> {
    let found = store.identity();
    let node_id = NodeId::new(config.node.id).context("`node.id` counts from 1")?;
    let identity = Identity {
        cluster_id: ClusterId(*found.cluster_id.as_bytes()),
        incarnation: Incarnation(found.incarnation),
        node_id,
        store_id: StoreId(found.store_id),
    };
    Ok(EndpointDraft {
        identity,
        credentials,
    })
}

impl EndpointDraft {
    fn finish(self, roster: Arc<Roster>) -> Result<Endpoint> {
        let endpoint = Endpoint::new(self.identity, self.credentials, roster)
            .context("the node's certificate does not fit its data folder")?;
        endpoint
            .with_limits(Limits::default())
            .context("the limits towards peers make no sense")
    }
}

async fn serve_peers(
    config: &Config,
    endpoint: Arc<Endpoint>,
    service: NodeService,
    stop: CancellationToken,
) -> Result<JoinHandle<aegis_peers::Drained>> {
    let methods = aegis_raft::methods()
        .and(ORDER)
        .and_then(|methods| methods.and(MESSAGES))
        .context("two procedures have one path")?;
    let server = PeerServer::bind(config.peers.listen, endpoint, methods, Arc::new(service))
        .await
        .context("cannot listen for peers; set `peers.listen`")?;
    Ok(tokio::spawn(
        server.serve(async move { stop.cancelled().await }),
    ))
}

async fn serve_edge(
    config: Config,
    governance: Arc<NodeGovernance>,
    metrics: Exporter,
    stop: CancellationToken,
) -> Result<Serving> {
    let listen = |address, key: &'static str| async move {
        TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen at {address}; set `{key}`"))
    };
    let api = listen(config.api.listen, "api.listen").await?;
    let events = listen(config.api.events_listen, "api.events_listen").await?;
    edge::serve(&config, governance, metrics, (api, events), &stop)
}

/// The part of a founding member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It votes.
    Voter,
    /// It follows, and is added by the first leader.
    Witness,
}

/// The founding members that have a part.
pub(crate) fn founders(config: &Config, part: Part) -> Result<BTreeMap<NodeId, RaftMember>> {
    let members = config.cluster.members.iter();
    members
        .filter(|founder| founder.witness == (part == Part::Witness))
        .map(member)
        .collect()
}

fn member(member: &MemberConfig) -> Result<(NodeId, RaftMember)> {
    let id = NodeId::new(member.id).context("node ids count from 1")?;
    let node = RaftMember {
        name: member.name.clone(),
        peer_addr: member.peer_address.clone(),
        api_addr: member.api_address.clone(),
    };
    Ok((id, node))
}

fn raft_settings(config: &RaftConfig) -> Settings {
    let ms = Duration::from_millis;
    Settings {
        heartbeat_interval: ms(config.heartbeat_ms),
        election_timeout_min: ms(config.election_timeout_ms_min),
        election_timeout_max: ms(config.election_timeout_ms_max),
        replication_timeout: ms(config.replication_timeout_ms),
        snapshot_every: config.snapshot_every,
        log_kept: config.log_kept,
        snapshot_timeout: ms(config.snapshot_timeout_ms),
        clock_tolerance: ms(config.clock_tolerance_ms),
        submit_deadline: ms(config.submit_deadline_ms),
        read_deadline: ms(config.read_deadline_ms),
        proposals_max: config.proposals_max,
        transfer_lag_max: config.transfer_lag_max,
        promote_lag_max: config.promote_lag_max,
    }
}

/// The settings of the disk, with who measures it.
pub(crate) fn storage_options(
    config: &StorageConfig,
    observers: &Observers,
) -> aegis_storage::Options {
    let mib = |mib: u32| u64::from(mib) << 20;
    let memory = |mib: u32| usize::try_from(u64::from(mib) << 20).unwrap_or(usize::MAX);
    aegis_storage::Options {
        block_cache_bytes: memory(config.cache_mib),
        memtable_bytes: memory(config.memtable_mib),
        wal_bytes: mib(config.wal_mib),
        log_tail_bytes: memory(config.log_tail_mib),
        ballast_bytes: mib(config.ballast_mib),
        free_floor_bytes: mib(config.free_floor_mib),
        snapshots_kept: usize::try_from(config.snapshots_kept).unwrap_or(usize::MAX),
        snapshot_bytes_max: mib(config.snapshot_mib_max),
        observer: observers.storage(),
        ..aegis_storage::Options::default()
    }
}

/// What a leader does of its own accord.
#[derive(Clone)]
struct Keeper {
    raft: Arc<RaftNode>,
    store: Store,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
}

impl Keeper {
    /// Proposes a tick when something is due and nobody writes.
    async fn tick(self, mut progress: Progress) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { loop { self.tick_once(&mut progress).await } } => {}
        }
    }

    async fn tick_once(&self, progress: &mut Progress) {
        self.raft.leads(true).await;
        let due = *progress.due.borrow_and_update();
        let Some(LedgerTime(due_ms)) = due else {
            tokio::select! {
                changed = progress.due.changed() => if changed.is_err() { std::future::pending().await },
                () = self.raft.leads(false) => {}
            }
            return;
        };
        let wait = Duration::from_millis(due_ms.saturating_sub(self.clock.now_ms()))
            .saturating_add(TICK_DELAY);
        tokio::select! {
            changed = progress.due.changed() => if changed.is_err() { std::future::pending().await },
            () = self.raft.leads(false) => {}
            () = tokio::time::sleep(wait) => self.submit(Command::Tick).await,
        }
    }

    /// As the leader, adds the founding witnesses that are not members and never were.
    async fn add_witnesses(self, mut witnesses: BTreeMap<NodeId, RaftMember>) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { while !witnesses.is_empty() { self.add_witness(&mut witnesses).await } } => {}
        }
    }

    async fn add_witness(&self, witnesses: &mut BTreeMap<NodeId, RaftMember>) {
        self.raft.leads(true).await;
        let Some((id, node)) = witnesses.first_key_value() else {
            return;
        };
        let id = *id;
        // A new leader changes no membership before its first entry is committed.
        if self.raft.read_barrier().await.is_err() {
            return tokio::time::sleep(TICK_RETRY).await;
        }
        match self.raft.add_learner(id, node.clone()).await {
            // One that was removed stays away.
            Ok(()) | Err(ChangeError::AlreadyMember { .. } | ChangeError::UsedId { .. }) => {
                witnesses.remove(&id);
            }
            Err(error) => {
                tracing::debug!(node = id.get(), %error, "a witness is not added yet");
                tokio::time::sleep(TICK_RETRY).await;
            }
        }
    }

    /// Records a restore as the first thing of its incarnation.
    async fn begin_incarnation(self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.record_incarnation() => {}
        }
    }

    async fn record_incarnation(&self) {
        let incarnation = self.store.identity().incarnation;
        loop {
            self.raft.leads(true).await;
            let core = match query::core(&self.store.view()) {
                Ok(core) => core,
                Err(error) => {
                    tracing::error!(%error, "the restore cannot be recorded");
                    return;
                }
            };
            if core.incarnation == incarnation {
                return;
            }
            self.submit(Command::Restored {
                incarnation,
                head: core.audit_head,
            })
            .await;
        }
    }

    /// Submits for the cluster itself. What is not taken is tried again by the caller.
    async fn submit(&self, command: Command) {
        let entry = Entry {
            principal: Principal::System,
            request: None,
            command,
        };
        if let Err(error) = self.raft.submit(entry.encode().into()).await {
            tracing::warn!(%error, "the cluster's own command was not taken");
            tokio::time::sleep(TICK_RETRY).await;
        }
    }
}
