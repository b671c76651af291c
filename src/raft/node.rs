//! A node: everything put together, started and stopped.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aegis_peers::{NodeId, Peers, Service};
use aegis_storage::Store;
use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{Fatal, RaftError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::change::{finish_joint, nodes};
use crate::clock::Clock;
use crate::clock_check::ClockOffsets;
use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::members::{Member, Node, members};
use crate::network::Network;
use crate::observer::Observer;
use crate::reach::Reach;
use crate::reads::{Barriers, ReadError};
use crate::roster::Roster;
use crate::server::Handlers;
use crate::settings::{Settings, SettingsError};
use crate::snapshot::{Receiver, Snapshots};
use crate::state::{Core, StateMachine};
use crate::status::{Leadership, Status, StatusWatch, fatal};
use crate::submit::{Committed, Proposer, SubmitError, Submitter};
use crate::types::{RawId, Types, node_id};

/// How often a leader compares its clock with its peers', and looks for a half-done change.
const STEWARD_INTERVAL: Duration = Duration::from_secs(1);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The store belongs to node zero, which there is not.
    #[error("the data folder belongs to node {found}, and nodes count from 1")]
    NodeId {
        /// The id that the folder has.
        found: u64,
    },
    /// The machine could not be loaded.
    #[error("the replicated machine cannot be loaded")]
    Machine(#[source] io::Error),
    /// The log or the machine's state is unusable.
    #[error("the log cannot be taken up: {reason}")]
    Core {
        /// What is wrong.
        reason: String,
    },
}

/// Why a cluster was not founded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// A founder must be among the first members.
    #[error("node {id} is not among the {members} first members")]
    NotMember {
        /// This node.
        id: NodeId,
        /// How many members were given.
        members: usize,
    },
    /// The node is stopping.
    #[error("this node is stopping")]
    Stopping,
}

/// Why a node has not recovered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The cluster has not confirmed this node's log in time.
    #[error("the cluster has not confirmed the log of this node within {after:?}")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The node is stopping.
    #[error("this node is stopping")]
    Stopping,
}

/// A running node. Stop it with [`RaftNode::step_down_and_stop`] or [`RaftNode::shutdown`].
pub struct RaftNode {
    pub(crate) id: NodeId,
    pub(crate) settings: Settings,
    pub(crate) core: Core,
    pub(crate) submitter: Submitter,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) roster: Arc<Roster>,
    barriers: Barriers,
    handlers: Handlers,
    applied: watch::Receiver<Option<u64>>,
    stop: CancellationToken,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// What a node is made of.
pub struct Parts {
    /// How it takes part.
    pub settings: Settings,
    /// Its disk. The id of the node is the one that the folder was created for.
    pub store: Store,
    /// Its way to the others.
    pub peers: Peers,
    /// The membership that its transport asks.
    pub roster: Arc<Roster>,
    /// What it replicates.
    pub machine: Box<dyn Machine>,
    /// What it proposes for others.
    pub admission: Arc<dyn Admission>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Who measures it.
    pub observer: Arc<dyn Observer>,
}

impl RaftNode {
    /// Starts a node on what its store has. Serve [`RaftNode::service`] to its peers at once:
    /// elections need it.
    // A box, so that openraft is compiled once, here, and not wherever this is awaited.
    pub fn start(parts: Parts) -> BoxFuture<'static, Result<Self, StartError>> {
        Box::pin(Self::start_parts(parts))
    }

    async fn start_parts(parts: Parts) -> Result<Self, StartError> {
        let Parts {
            settings,
            store,
            peers,
            roster,
            machine,
            admission,
            clock,
            observer,
        } = parts;
        let identity = *store.identity();
        let id = NodeId::new(identity.node_id).ok_or(StartError::NodeId {
            found: identity.node_id,
        })?;
        let config = settings.to_config()?;
        let offsets = Arc::new(ClockOffsets::new(Arc::clone(&clock)));

        let snapshots = Snapshots::new(store.clone(), Arc::clone(&observer));
        let (machine, applied) = StateMachine::start(
            machine,
            store.clone(),
            snapshots.clone(),
            Arc::clone(&roster),
            Arc::clone(&observer),
        )
        .await
        .map_err(StartError::Machine)?;
        let network = Network {
            peers: peers.clone(),
            snapshots,
            offsets: Arc::clone(&offsets),
            replication_timeout: settings.replication_timeout,
        };
        let log = LogStore {
            store: store.clone(),
            observer: Arc::clone(&observer),
        };
        let core = Core::new(id.get(), config, network, log, machine)
            .await
            .map_err(|fatal| StartError::Core {
                reason: fatal.to_string(),
            })?;

        let (leads, leadership) = watch::channel(Leadership::default());
        let deadline = settings.submit_deadline;
        let (submitter, queue) =
            Submitter::new(settings.proposals_max, deadline, Arc::clone(&observer));
        let reach = Reach {
            id: id.get(),
            core: core.clone(),
            peers: peers.clone(),
            leadership: leadership.clone(),
        };
        let (barriers, rounds) =
            Barriers::new(reach.clone(), applied.clone(), settings.read_deadline);
        let handlers = Handlers {
            id: id.get(),
            core: core.clone(),
            clock: Arc::clone(&clock),
            clock_tolerance: settings.clock_tolerance,
            leadership: leadership.clone(),
            submitter: submitter.clone(),
            admission,
            receiver: Arc::new(Receiver::new(core.clone(), store)),
            observer: Arc::clone(&observer),
        };

        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Proposer::new(queue, reach, clock).run(stop.clone()));
        tasks.spawn(rounds.run(stop.clone()));
        let follower = Follower {
            id: id.get(),
            core: core.clone(),
            peers,
            roster: Arc::clone(&roster),
            observer,
        };
        tasks.spawn(follower.run(leads, stop.clone()));
        let steward = Steward {
            core: core.clone(),
            offsets,
            settings: settings.clone(),
        };
        tasks.spawn(steward.run(stop.clone()));
        let tasks = tokio::sync::Mutex::new(tasks);

        Ok(Self {
            id,
            settings,
            core,
            submitter,
            leadership,
            roster,
            barriers,
            handlers,
            applied,
            stop,
            tasks,
        })
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// What this node answers its peers; see [`methods`](crate::methods).
    #[must_use]
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::new(self.handlers.clone())
    }

    /// Founds a cluster of these voters. Every founder does it with the same members; a node
    /// that belongs to a cluster already ignores it, and answers false.
    ///
    /// The founder with the smallest id goes first, and the others follow it; if it does not
    /// come, they go on without it. Otherwise all would stand for election at once.
    pub async fn bootstrap(&self, members: BTreeMap<NodeId, Node>) -> Result<bool, BootstrapError> {
        if !members.contains_key(&self.id) {
            return Err(BootstrapError::NotMember {
                id: self.id,
                members: members.len(),
            });
        }
        let goes_first = members.keys().next() == Some(&self.id);
        if !goes_first
            && self
                .is_founded_within(self.settings.election_timeout_max)
                .await
        {
            return Ok(false);
        }
        let members: BTreeMap<RawId, Node> = members
            .into_iter()
            .map(|(id, node)| (id.get(), node))
            .collect();
        match self.core.initialize(members).await {
            Ok(()) => Ok(true),
            Err(RaftError::APIError(_)) => Ok(false),
            Err(RaftError::Fatal(_)) => Err(BootstrapError::Stopping),
        }
    }

    /// Whether this node belongs to a cluster, or comes to within a time.
    async fn is_founded_within(&self, time: Duration) -> bool {
        let wait = self.core.wait(Some(time));
        let founded = wait.metrics(|now| now.last_log_index.is_some(), "founding");
        founded.await.is_ok()
    }

    /// Submits a command and waits until it is committed and applied.
    pub async fn submit(&self, payload: Bytes) -> Result<Committed, SubmitError> {
        let mut fates = self.submitter.submit(vec![payload]).await?;
        fates.pop().expect("one command has one fate")
    }

    /// Submits commands that are answered together, each with its own fate. They may be
    /// separated in the log, and one may fail where another does not.
    pub async fn submit_many(
        &self,
        payloads: Vec<Bytes>,
    ) -> Result<Vec<Result<Committed, SubmitError>>, SubmitError> {
        self.submitter.submit(payloads).await
    }

    /// Waits until this node has applied everything that was committed anywhere when the call
    /// began, and returns the index that it has applied.
    pub async fn read_barrier(&self) -> Result<u64, ReadError> {
        self.barriers.wait().await
    }

    /// The last index that this node has applied, and its changes.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<u64>> {
        self.applied.clone()
    }

    /// Waits, once after a start, until this node shows at least what it showed before it
    /// stopped: until the cluster has confirmed its log, and it has applied it.
    pub async fn recovered(&self, deadline: Duration) -> Result<(), RecoverError> {
        match self.core.wait_for_recovery(Some(deadline)).await {
            Ok(_) => Ok(()),
            Err(openraft::metrics::WaitError::Timeout(..)) => {
                Err(RecoverError::TimedOut { after: deadline })
            }
            Err(openraft::metrics::WaitError::ShuttingDown) => Err(RecoverError::Stopping),
        }
    }

    /// The status now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.watch().get()
    }

    /// Follows the status.
    #[must_use]
    pub fn watch(&self) -> StatusWatch {
        let lease = self.settings.election_timeout_max;
        StatusWatch {
            metrics: self.core.metrics(),
            applied: self.applied.clone(),
            lease,
            submitter: self.submitter.clone(),
        }
    }

    /// Waits until this node leads, or until it does not. It never completes once the node
    /// has stopped.
    pub async fn leads(&self, leads: bool) {
        let mut leadership = self.leadership.clone();
        let id = self.id.get();
        let changed = leadership.wait_for(|now| (now.leader == Some(id)) == leads);
        if changed.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The members of the cluster, as this node knows them.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        members(
            &self.core.metrics().borrow_watched(),
            self.settings.election_timeout_max,
        )
    }

    /// Completes when a failure has stopped the node: the process must end with an error. It
    /// never completes if the node is shut down.
    pub async fn failed(&self) -> String {
        // These change with the term and the members only, and end with the core.
        let mut server = self.core.server_metrics();
        while server.changed().await.is_ok() {}
        if let Some(reason) = fatal(&self.core.metrics().borrow_watched()) {
            return reason;
        }
        // The core is gone without a word: it was shut down, or it panicked.
        if self.stop.is_cancelled() {
            std::future::pending::<()>().await;
        }
        Fatal::<Types>::Panicked.to_string()
    }

    /// Stops at once: what is under way has an unknown fate. A leader's followers need an
    /// election timeout to replace it.
    pub async fn shutdown(&self) {
        self.submitter.refuse();
        self.stop.cancel();
        if let Err(error) = self.core.shutdown().await {
            tracing::warn!(%error, "the core did not end well");
        }
        // The machine's thread lets go of it when the core has.
        let mut applied = self.applied.clone();
        while applied.changed().await.is_ok() {}
        let mut tasks = self.tasks.lock().await;
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the node has died");
            }
        }
    }
}

/// Follows the core's view of the cluster and tells everyone who needs it.
struct Follower {
    id: RawId,
    core: Core,
    peers: Peers,
    roster: Arc<Roster>,
    observer: Arc<dyn Observer>,
}

impl Follower {
    async fn run(self, leadership: watch::Sender<Leadership>, stop: CancellationToken) {
        let mut server = self.core.server_metrics();
        let mut known = BTreeMap::new();
        loop {
            let now = server.borrow_and_update().clone();
            let lead = Leadership {
                term: now.vote.leader_id.term,
                leader: now.current_leader,
            };
            let before = leadership.send_replace(lead);
            if before.leader != lead.leader {
                tracing::info!(leader = lead.leader, term = lead.term, "leader changed");
                self.roster.led_by(lead.leader);
                self.observer.leader_changed(lead.leader);
            }
            self.connect(&mut known, nodes(&now.membership_config));
            tokio::select! {
                changed = server.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    /// Keeps the transport's addresses those of the members.
    fn connect(&self, known: &mut BTreeMap<RawId, Node>, nodes: BTreeMap<RawId, Node>) {
        if *known == nodes {
            return;
        }
        for (id, node) in nodes.iter().filter(|(id, _)| **id != self.id) {
            match node.peer_addr.parse() {
                Ok(address) => self.peers.set_address(node_id(*id), address),
                Err(error) => tracing::error!(node = id, %error, "a member has no usable address"),
            }
        }
        for id in known.keys().filter(|id| !nodes.contains_key(id)) {
            self.peers.remove(node_id(*id));
        }
        *known = nodes;
    }
}

/// Does what a leader owes its cluster beside leading it.
struct Steward {
    core: Core,
    offsets: Arc<ClockOffsets>,
    settings: Settings,
}

impl Steward {
    async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(STEWARD_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.check_clock().await;
                    finish_joint(&self.core).await;
                }
                () = stop.cancelled() => return,
            }
        }
    }

    /// Hands leadership over if most peers say that this clock is wrong.
    async fn check_clock(&self) {
        let metrics = self.core.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(metrics.id) {
            return;
        }
        let voters = metrics
            .membership_config
            .membership()
            .voter_ids()
            .filter(|voter| *voter != metrics.id);
        let voters: Vec<RawId> = voters.collect();
        let Some(median) = self.offsets.median(voters.iter().copied()) else {
            return;
        };
        let off = Duration::from_millis(median.unsigned_abs());
        if off <= self.settings.clock_tolerance {
            return;
        }
        // The voter whose clock is nearest to what most clocks show.
        let nearest = voters
            .into_iter()
            .filter_map(|voter| Some((self.offsets.of(voter)?.abs_diff(median), voter)))
            .min();
        let Some((_, to)) = nearest else { return };
        tracing::error!(?off, tolerance = ?self.settings.clock_tolerance, to, "this clock is wrong: handing leadership over");
        // A core that has stopped leads no more.
        drop(self.core.trigger().transfer_leader(to).await);
    }
}
