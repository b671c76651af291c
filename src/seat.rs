//! The node's seat in the committee: its configuration, its way into the ledger, and its
//! metrics.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aegis_api::metrics as catalogue;
use aegis_cli::secret;
use aegis_committee::{CommitteeSeat, Dropped, Observer, RecordError, Recorder, Settings};
use aegis_crypto::committee::SEATS_MAX;
use aegis_crypto::{SeatNo, SecretKey};
use aegis_ledger::{Answer, Command, Entry, Genesis, Ordinal, Principal};
use aegis_pbft::{Phase, Reason, Status};
use aegis_peers::Peers;
use aegis_raft::RaftNode;
use aegis_storage::Store;
use anyhow::{Context as _, Result, bail};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use metrics::{Counter, Gauge, Histogram};

use crate::config::Config;
use crate::machine::Follower;
use crate::observe::{count, flag, value};

/// What a seat is made of.
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a Config,
    pub(crate) genesis: Arc<Genesis>,
    pub(crate) store: Store,
    pub(crate) peers: Peers,
    pub(crate) raft: Arc<RaftNode>,
    pub(crate) follower: Follower,
    pub(crate) observer: Arc<dyn Observer>,
}

/// Whether the node has a key for a committee that there is.
pub(crate) fn has_seat(config: &Config, genesis: &Genesis) -> Result<bool> {
    match (&config.committee.key, genesis.committee()) {
        (None, _) => Ok(false),
        (Some(_), Some(_)) => Ok(true),
        (Some(key), None) => bail!(
            "`committee.key` names {}, but the genesis document names no committee; remove the key",
            key.display()
        ),
    }
}

/// Takes the seat of a node that has one.
pub(crate) fn take(parts: Parts<'_>) -> Result<CommitteeSeat> {
    let config = &parts.config.committee;
    let path = config.key.as_ref().context("`committee.key` is not set")?;
    let pem = secret::read(path)?;
    let key = SecretKey::from_pem(&pem)
        .with_context(|| format!("{} is no seat's key", path.display()))?;
    let recorder = LeaderRecorder { raft: parts.raft };
    let seat = aegis_committee::Parts {
        genesis: parts.genesis,
        key,
        settings: Settings {
            timeout_ms: config.timeout_ms,
            timeout_max_ms: config.timeout_ms_max,
            resend_ms: config.resend_ms,
            quiet_ms: config.quiet_ms,
        },
        store: parts.store,
        peers: parts.peers,
        memory: parts.follower.memory,
        recorder: Arc::new(recorder),
        observer: parts.observer,
    };
    CommitteeSeat::take(seat, parts.follower.inbox).context("cannot take the committee's seat")
}

/// Submits certificates like any command of the cluster itself.
struct LeaderRecorder {
    raft: Arc<RaftNode>,
}

impl Recorder for LeaderRecorder {
    fn record(
        &self,
        ordinal: Ordinal,
        envelope: String,
    ) -> BoxFuture<'static, Result<(), RecordError>> {
        let raft = Arc::clone(&self.raft);
        let entry = Entry {
            principal: Principal::System,
            request: None,
            command: Command::RecordCertificate { ordinal, envelope },
        };
        async move {
            let not_taken = |error: String| RecordError::NotTaken(error);
            let committed = raft
                .submit(entry.encode().into())
                .await
                .map_err(|error| not_taken(error.to_string()))?;
            let answer =
                Answer::decode(&committed.answer).map_err(|error| not_taken(error.to_string()))?;
            match answer.outcome {
                Ok(_) => Ok(()),
                Err(refusal) => Err(RecordError::Refused(refusal.to_string())),
            }
        }
        .boxed()
    }
}

const fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Timeout(_) => "timeout",
        Reason::NewViewTimeout => "new_view_timeout",
        Reason::Equivocation => "equivocation",
        Reason::Slow => "slow_primary",
        Reason::Joined => "joined",
    }
}

/// The metrics of a seat.
pub(crate) struct SeatMetrics {
    view: Gauge,
    changing: Gauge,
    low: Gauge,
    high: Gauge,
    sequence: Gauge,
    undecided: Gauge,
    buffered: Gauge,
    /// By seat; those of a committee are made when it is first seen.
    lags: [OnceLock<Gauge>; SEATS_MAX as usize],
    accepted: Histogram,
    prepared: Histogram,
    decided: Histogram,
    recorded: Histogram,
    dropped: [Counter; Dropped::ALL.len()],
    miscounted: Gauge,
    diverged: Gauge,
    unsafe_draft: Gauge,
}

impl SeatMetrics {
    pub(crate) fn new() -> Self {
        let phase = |name| catalogue::COMMITTEE_PHASE_DURATION.with([("phase", name)]);
        let alarm = |code| {
            let alarm = catalogue::COMMITTEE_ALARM.with([("code", code)]);
            alarm.set(0.0);
            alarm
        };
        let dropped = |why: Dropped| {
            let counter = catalogue::COMMITTEE_DROPPED.with([("reason", why.name())]);
            counter.absolute(0);
            counter
        };
        Self {
            view: catalogue::COMMITTEE_VIEW.with([]),
            changing: catalogue::COMMITTEE_CHANGING_VIEW.with([]),
            low: catalogue::COMMITTEE_WATERMARK_LOW.with([]),
            high: catalogue::COMMITTEE_WATERMARK_HIGH.with([]),
            sequence: catalogue::COMMITTEE_SEQUENCE.with([]),
            undecided: catalogue::COMMITTEE_UNDECIDED.with([]),
            buffered: catalogue::COMMITTEE_BUFFERED.with([]),
            lags: std::array::from_fn(|_| OnceLock::new()),
            accepted: phase("accepted"),
            prepared: phase("prepared"),
            decided: phase("decided"),
            recorded: phase("recorded"),
            dropped: Dropped::ALL.map(dropped),
            miscounted: alarm("miscounted"),
            diverged: alarm("diverged"),
            unsafe_draft: alarm("unsafe_draft"),
        }
    }
}

impl Observer for SeatMetrics {
    fn dropped(&self, why: Dropped, count: u64) {
        for (counter, known) in self.dropped.iter().zip(Dropped::ALL) {
            if known == why {
                counter.increment(count);
            }
        }
    }

    fn stands(&self, status: &Status) {
        self.view.set(value(status.view.0));
        self.changing.set(flag(status.changing_view));
        self.low.set(value(status.low.0));
        self.high.set(value(status.high.0));
        self.sequence.set(value(status.executed.0));
        self.undecided.set(count(status.undecided));
        self.buffered.set(count(status.buffered));
        let newest = status
            .committed
            .iter()
            .map(|(_, sequence)| sequence.0)
            .max();
        for (seat, sequence) in &status.committed {
            let lag = newest.unwrap_or(0).saturating_sub(sequence.0);
            if let Some(gauge) = self.lags.get(usize::from(seat.0)) {
                let made = || catalogue::COMMITTEE_SEAT_LAG.with([("seat", &seat.to_string())]);
                gauge.get_or_init(made).set(value(lag));
            }
        }
    }

    fn reached(&self, phase: Phase, after: Duration) {
        match phase {
            Phase::PrePrepare => self.accepted.record(after.as_secs_f64()),
            Phase::Prepare => self.prepared.record(after.as_secs_f64()),
            Phase::Commit => {}
        }
    }

    fn decided(&self, after: Duration) {
        self.decided.record(after.as_secs_f64());
    }

    fn recorded(&self, after: Duration) {
        self.recorded.record(after.as_secs_f64());
    }

    fn changes_view(&self, reason: Reason) {
        catalogue::COMMITTEE_VIEW_CHANGES
            .with([("reason", reason_name(reason))])
            .increment(1);
    }

    fn evidence(&self, seat: SeatNo) {
        catalogue::COMMITTEE_EVIDENCE
            .with([("seat", &seat.to_string())])
            .increment(1);
    }

    fn disagrees(&self, primary: SeatNo, field: &str) {
        catalogue::COMMITTEE_DISAGREEMENTS
            .with([("seat", &primary.to_string()), ("field", field)])
            .increment(1);
    }

    fn miscounted(&self) {
        self.miscounted.set(1.0);
    }

    fn diverged(&self) {
        self.diverged.set(1.0);
    }

    fn refused_to_sign(&self) {
        self.unsafe_draft.set(1.0);
    }
}
