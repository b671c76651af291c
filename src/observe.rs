//! What the parts of a node report, as metrics.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aegis_api::metrics::{self as catalogue, Exporter};
use aegis_ledger::{Choice, CoreRecord, Event, EventKind, Outcome, Ppb, Status};
use aegis_raft::{MemberRole, MemberState, RaftNode};
use aegis_storage::{AppliedReport, Store, SyncedReport};
use metrics::{Counter, Gauge, Histogram};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::seat::SeatMetrics;

/// How often what can only be asked for is asked for.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a leader may take to vouch for itself before a node counts as without one.
const LEADER_PATIENCE: Duration = Duration::from_secs(2);

/// A whole number as a metric's value. Beyond 2^53 the last digits are lost, which no
/// graph shows.
#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
pub(crate) const fn value(number: u64) -> f64 {
    number as f64
}

pub(crate) fn count(items: usize) -> f64 {
    value(u64::try_from(items).unwrap_or(u64::MAX))
}

pub(crate) const fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

/// Everyone who measures a node. Handles are made once, after the recorder is installed.
pub struct Observers {
    raft: Arc<RaftObserver>,
    storage: Arc<StorageObserver>,
}

impl Observers {
    /// Handles for a process whose recorder is installed.
    #[must_use]
    pub fn new() -> Self {
        Self {
            raft: Arc::new(RaftObserver::new()),
            storage: Arc::new(StorageObserver::new()),
        }
    }

    /// Who measures replication.
    #[must_use]
    pub fn raft(&self) -> Arc<dyn aegis_raft::Observer> {
        Arc::clone(&self.raft) as Arc<dyn aegis_raft::Observer>
    }

    /// Who measures the disk.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn aegis_storage::Observer> {
        Arc::clone(&self.storage) as Arc<dyn aegis_storage::Observer>
    }

    /// Who measures the node's seat in the committee.
    #[must_use]
    pub fn committee(&self) -> Arc<dyn aegis_committee::Observer> {
        Arc::new(SeatMetrics::new())
    }

    /// Who measures the ledger.
    #[must_use]
    pub fn ledger(&self) -> LedgerMetrics {
        LedgerMetrics::new()
    }
}

impl Default for Observers {
    fn default() -> Self {
        Self::new()
    }
}

struct RaftObserver {
    apply: Histogram,
    leader_changes: Counter,
    appends_refused: Counter,
}

impl RaftObserver {
    fn new() -> Self {
        let this = Self {
            apply: catalogue::APPLY_DURATION.with([]),
            leader_changes: catalogue::LEADER_CHANGES.with([]),
            appends_refused: catalogue::APPENDS_REFUSED.with([]),
        };
        this.leader_changes.absolute(0);
        this.appends_refused.absolute(0);
        catalogue::SNAPSHOT_LAST_SUCCESS.with([]).set(0.0);
        this
    }
}

impl aegis_raft::Observer for RaftObserver {
    fn applied(&self, _: usize, took: Duration) {
        self.apply.record(took.as_secs_f64());
    }

    fn proposals_failed(&self, count: usize, reason: &'static str) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        catalogue::PROPOSALS_FAILED
            .with([("reason", reason)])
            .increment(count);
    }

    fn leader_changed(&self, leader: Option<u64>) {
        if leader.is_some() {
            self.leader_changes.increment(1);
        }
    }

    fn append_refused(&self, _: Duration) {
        self.appends_refused.increment(1);
    }

    fn snapshot_written(&self, _: u64, took: Duration) {
        snapshot_written(took);
    }
}

/// Notes that a snapshot was written to a file.
pub(crate) fn snapshot_written(took: Duration) {
    catalogue::SNAPSHOT_DURATION
        .with([])
        .record(took.as_secs_f64());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    catalogue::SNAPSHOT_LAST_SUCCESS
        .with([])
        .set(now.as_secs_f64());
}

struct StorageObserver {
    sync: Histogram,
}

impl StorageObserver {
    fn new() -> Self {
        Self {
            sync: catalogue::FSYNC_DURATION.with([]),
        }
    }
}

impl aegis_storage::Observer for StorageObserver {
    fn synced(&self, report: &SyncedReport) {
        self.sync.record(report.duration.as_secs_f64());
    }

    fn applied(&self, _: &AppliedReport) {}
}

/// What the ledger did, counted as it was applied on this node.
pub struct LedgerMetrics {
    votes: [Counter; Choice::ALL.len()],
    statuses: [Gauge; Status::ALL.len()],
    participation: Histogram,
    latency: Histogram,
    achieved: Counter,
}

impl LedgerMetrics {
    fn new() -> Self {
        let this = Self {
            votes: Choice::ALL.map(|choice| catalogue::VOTES.with([("answer", choice.as_str())])),
            statuses: Status::ALL
                .map(|status| catalogue::PROPOSALS.with([("status", status.as_str())])),
            participation: catalogue::PARTICIPATION.with([]),
            latency: catalogue::CONSENSUS_LATENCY.with([]),
            achieved: catalogue::CONSENSUS_ACHIEVED.with([]),
        };
        for counter in this.votes.iter().chain([&this.achieved]) {
            counter.absolute(0);
        }
        this
    }

    /// The ledger was loaded from disk.
    pub fn loaded(&self, core: &CoreRecord) {
        self.count_statuses(&core.statuses);
    }

    /// How many proposals stand in each status.
    pub fn count_statuses(&self, statuses: &[u64; Status::ALL.len()]) {
        for (gauge, count) in self.statuses.iter().zip(statuses) {
            gauge.set(value(*count));
        }
    }

    /// Something happened.
    pub fn happened(&self, event: &Event) {
        match &event.kind {
            EventKind::VoteCast { choice, .. } => {
                if let Some((counter, _)) = self
                    .votes
                    .iter()
                    .zip(Choice::ALL)
                    .find(|(_, known)| known == choice)
                {
                    counter.increment(1);
                }
            }
            EventKind::ConsensusReached {
                outcome,
                participation,
                deciding_ms,
                ..
            } => {
                self.decided(
                    *outcome,
                    *participation,
                    Duration::from_millis(*deciding_ms),
                );
            }
            EventKind::ProposalCreated { .. } | EventKind::ProposalUpdated { .. } => {}
        }
    }

    fn decided(&self, outcome: Outcome, participation: Ppb, deciding: Duration) {
        let seconds = deciding.as_secs_f64();
        catalogue::DECISION_DURATION
            .with([("outcome", outcome.as_str())])
            .record(seconds);
        if matches!(
            outcome,
            Outcome::Approved | Outcome::Rejected | Outcome::NoQuorum
        ) {
            self.participation
                .record(value(participation.0) / value(Ppb::ONE.0));
        }
        if matches!(outcome, Outcome::Approved | Outcome::Rejected) {
            self.latency.record(seconds);
            self.achieved.increment(1);
        }
    }
}

/// Samples what has no event of its own, until `stop`.
pub async fn watch(raft: Arc<RaftNode>, store: Store, metrics: Exporter, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = watch_leader(&raft) => {}
        () = watch_state(&raft, &store, &metrics) => {}
    }
}

fn sampling() -> Interval {
    let mut ticks = interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Asks for a leader whenever a sample is due. A follower's own belief would not do: it names
/// its last leader until another is elected, also while no majority is there to elect one.
async fn watch_leader(raft: &RaftNode) {
    let has_leader = catalogue::HAS_LEADER.with([]);
    let mut ticks = sampling();
    loop {
        ticks.tick().await;
        let vouched = timeout(LEADER_PATIENCE, raft.read_barrier()).await;
        has_leader.set(flag(matches!(vouched, Ok(Ok(_)))));
    }
}

async fn watch_state(raft: &RaftNode, store: &Store, metrics: &Exporter) {
    let mut ticks = sampling();
    let mut sampler = Sampler::new();
    loop {
        ticks.tick().await;
        sampler.sample_raft(raft);
        let (disk, metrics) = (store.clone(), metrics.clone());
        let sampled = tokio::task::spawn_blocking(move || {
            // Or what nobody scrapes piles up. It takes a while under load.
            metrics.run_upkeep();
            (disk.space(), disk.stats())
        });
        match sampled.await {
            Ok((Ok(space), Ok(stats))) => {
                sampler.disk_free.set(value(space.free_bytes));
                sampler.storage.set(value(stats.disk_bytes));
                sampler.low_space.set(flag(space.below_floor));
            }
            Ok((Err(error), _) | (_, Err(error))) => {
                tracing::warn!(%error, "the disk cannot be measured");
            }
            Err(error) => tracing::warn!(%error, "the disk cannot be measured"),
        }
    }
}

struct Sampler {
    is_leader: Gauge,
    term: Gauge,
    last: Gauge,
    committed: Gauge,
    applied: Gauge,
    snapshot: Gauge,
    pending: Gauge,
    voters: Gauge,
    voters_answering: Gauge,
    disk_free: Gauge,
    storage: Gauge,
    low_space: Gauge,
    /// Peers whose lag is shown.
    peers: Vec<String>,
}

impl Sampler {
    fn new() -> Self {
        Self {
            is_leader: catalogue::IS_LEADER.with([]),
            term: catalogue::TERM.with([]),
            last: catalogue::LAST_INDEX.with([]),
            committed: catalogue::COMMITTED_INDEX.with([]),
            applied: catalogue::APPLIED_INDEX.with([]),
            snapshot: catalogue::SNAPSHOT_INDEX.with([]),
            pending: catalogue::PROPOSALS_PENDING.with([]),
            voters: catalogue::VOTERS.with([]),
            voters_answering: catalogue::VOTERS_ANSWERING.with([]),
            disk_free: catalogue::DISK_FREE_BYTES.with([]),
            storage: catalogue::STORAGE_BYTES.with([]),
            low_space: catalogue::ALARM.with([("code", "low_space")]),
            peers: Vec::new(),
        }
    }

    fn sample_raft(&mut self, raft: &RaftNode) {
        let status = raft.status();
        let leads = status.leader == Some(status.id);
        self.is_leader.set(flag(leads));
        self.term.set(value(status.term));
        self.last.set(value(status.last_index.unwrap_or(0)));
        self.committed
            .set(value(status.committed_index.unwrap_or(0)));
        self.applied.set(value(status.applied_index.unwrap_or(0)));
        self.snapshot.set(value(status.snapshot_index.unwrap_or(0)));
        self.pending.set(count(status.proposals_pending));
        let voters = || {
            status
                .members
                .iter()
                .filter(|member| leads && member.role == MemberRole::Voter)
        };
        let answering = voters().filter(|member| member.state != MemberState::Silent);
        self.voters.set(count(voters().count()));
        self.voters_answering.set(count(answering.count()));
        // A node that leads no longer, or a peer that left, must not show an old lag.
        for peer in self.peers.drain(..) {
            catalogue::PEER_LAG.with([("peer", &peer)]).set(0.0);
        }
        for member in status
            .members
            .iter()
            .filter(|member| leads && member.id != status.id)
        {
            let peer = member.id.to_string();
            catalogue::PEER_LAG
                .with([("peer", &peer)])
                .set(value(member.lag.unwrap_or(0)));
            self.peers.push(peer);
        }
    }
}
