//! The catalogue of every metric of the product: name, kind, unit, help and buckets.
//!
//! The edge records its own; the composition root records what the log, the storage and
//! the ledger report, through the constants here. Nothing else names a metric. Handles are
//! cheap to keep and cost a look-up to make, so whoever records often keeps them.

use metrics::{Label, Unit};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// A number that only rises.
#[derive(Debug)]
pub struct Counter {
    name: &'static str,
    unit: Unit,
    help: &'static str,
}

/// A number that rises and falls.
#[derive(Debug)]
pub struct Gauge {
    name: &'static str,
    unit: Unit,
    help: &'static str,
}

/// How often values fell into each of several buckets.
#[derive(Debug)]
pub struct Histogram {
    name: &'static str,
    unit: Unit,
    help: &'static str,
    buckets: &'static [f64],
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Vec<Label> {
    pairs
        .into_iter()
        .map(|(name, value)| Label::new(name, value.to_owned()))
        .collect()
}

impl Counter {
    /// Its name, for queries.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The handle of one series.
    pub fn with<const N: usize>(&self, pairs: [(&'static str, &str); N]) -> metrics::Counter {
        metrics::counter!(self.name, labels(pairs))
    }
}

impl Gauge {
    /// Its name, for queries.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The handle of one series.
    pub fn with<const N: usize>(&self, pairs: [(&'static str, &str); N]) -> metrics::Gauge {
        metrics::gauge!(self.name, labels(pairs))
    }
}

impl Histogram {
    /// Its name, for queries.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The handle of one series.
    pub fn with<const N: usize>(&self, pairs: [(&'static str, &str); N]) -> metrics::Histogram {
        metrics::histogram!(self.name, labels(pairs))
    }
}

/// From an eighth of a millisecond to eight seconds: a healthy disk syncs within the first
/// five, a sick one shows in the last.
const SYNC_SECONDS: &[f64] = &[
    0.000_125, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256,
    0.512, 1.024, 2.048, 4.096, 8.192,
];
/// From sixteen microseconds, which is one ballot, to a second.
const APPLY_SECONDS: &[f64] = &[
    0.000_016, 0.000_032, 0.000_064, 0.000_128, 0.000_256, 0.000_512, 0.001, 0.002, 0.004, 0.008,
    0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024,
];
/// From a stale read out of memory to the request timeout.
const HTTP_SECONDS: &[f64] = &[
    0.000_125, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256,
    0.512, 1.0, 2.5, 5.0, 10.0, 30.0,
];
const SNAPSHOT_SECONDS: &[f64] = &[
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0,
];
/// From a program's votes to a week of people's, and the longest periods beyond.
const DECISION_SECONDS: &[f64] = &[
    0.01,
    0.05,
    0.1,
    0.5,
    1.0,
    5.0,
    15.0,
    60.0,
    300.0,
    900.0,
    3_600.0,
    21_600.0,
    86_400.0,
    259_200.0,
    604_800.0,
    2_592_000.0,
];
/// From one sync of a fast disk to several timeouts.
const PHASE_SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.003, 0.005, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024,
    2.048, 4.096, 8.192, 16.384, 65.536,
];
const RATIOS: &[f64] = &[0.1, 0.2, 0.3, 0.333, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

macro_rules! catalogue {
    ($($kind:ident $constant:ident = $name:literal, $unit:ident $(, $buckets:ident)?; $help:literal)+) => {
        $(
            #[doc = $help]
            pub const $constant: $kind = $kind {
                name: $name,
                unit: Unit::$unit,
                help: $help,
                $(buckets: $buckets,)?
            };
        )+

        /// Gives every metric its help text and unit.
        fn describe() {
            $($constant.describe();)+
        }

        /// The buckets of every histogram, which the exporter must know before the first value.
        fn buckets() -> Vec<(&'static str, &'static [f64])> {
            [$($constant.buckets()),+].into_iter().flatten().collect()
        }

        /// Records something in one series of every metric.
        #[cfg(test)]
        fn touch() {
            $($constant.touch();)+
        }

        /// The names of all metrics.
        pub const NAMES: &[&str] = &[$($name),+];
    };
}

catalogue! {
    Gauge HAS_LEADER = "aegis_has_leader", Count;
        "Whether this node reaches a leader that a majority follows: 1 or 0."
    Gauge IS_LEADER = "aegis_is_leader", Count;
        "Whether this node leads: 1 or 0."
    Counter LEADER_CHANGES = "aegis_leader_changes_total", Count;
        "Changes of leader that this node has seen."
    Gauge TERM = "aegis_term", Count;
        "The election term that this node is in."
    Gauge LAST_INDEX = "aegis_last_index", Count;
        "The last entry in this node's log."
    Gauge COMMITTED_INDEX = "aegis_committed_index", Count;
        "The last entry that this node knows to be committed."
    Gauge APPLIED_INDEX = "aegis_applied_index", Count;
        "The last entry that this node has applied."
    Gauge PEER_LAG = "aegis_peer_lag_entries", Count;
        "Entries that a peer's log lacks, by peer; only the leader knows."
    Gauge VOTERS = "aegis_voters", Count;
        "Voters of the cluster; only the leader knows, elsewhere 0."
    Gauge VOTERS_ANSWERING = "aegis_voters_answering", Count;
        "Voters that answered the leader lately, itself among them; elsewhere 0."
    Counter APPENDS_REFUSED = "aegis_appends_refused_total", Count;
        "Appends refused because they were stamped too far ahead of this node's clock."
    Gauge PROPOSALS_PENDING = "aegis_proposals_pending", Count;
        "Log entries proposed by this node and not answered yet."
    Counter PROPOSALS_FAILED = "aegis_proposals_failed_total", Count;
        "Log entries proposed by this node that were not committed, or whose fate is unknown."
    Histogram FSYNC_DURATION = "aegis_fsync_duration_seconds", Seconds, SYNC_SECONDS;
        "How long a synced write of the log takes."
    Histogram APPLY_DURATION = "aegis_apply_duration_seconds", Seconds, APPLY_SECONDS;
        "How long applying a batch of entries and writing its changes takes."
    Histogram SNAPSHOT_DURATION = "aegis_snapshot_duration_seconds", Seconds, SNAPSHOT_SECONDS;
        "How long writing a snapshot to a file takes, for an operator or a follower."
    Gauge SNAPSHOT_LAST_SUCCESS = "aegis_snapshot_last_success_timestamp_seconds", Seconds;
        "When this node last wrote a snapshot to a file, in Unix seconds; 0 before the first."
    Gauge SNAPSHOT_INDEX = "aegis_snapshot_index", Count;
        "The entry up to which the log may be purged, less what is kept of it; 0 before the first."
    Gauge STORAGE_BYTES = "aegis_storage_bytes", Bytes;
        "Space that the data folder takes."
    Gauge DISK_FREE_BYTES = "aegis_disk_free_bytes", Bytes;
        "Free space on the data folder's file system."
    Gauge ALARM = "aegis_alarm", Count;
        "Whether an alarm is raised, by code: 1 or 0."
    Gauge PROPOSALS = "aegis_proposals", Count;
        "Proposals by status."
    Counter VOTES = "aegis_votes_total", Count;
        "Ballots admitted, by answer."
    Counter REFUSALS = "aegis_refusals_total", Count;
        "Requests and parts of batches that were refused, by code."
    Histogram PARTICIPATION = "aegis_participation_ratio", Percent, RATIOS;
        "The share of the electorate that took part, at each close of voting."
    Histogram DECISION_DURATION = "aegis_decision_duration_seconds", Seconds, DECISION_SECONDS;
        "Time to decide: from the opening of voting to its close, by outcome."
    Gauge COMMITTEE_VIEW = "aegis_committee_view", Count;
        "The view that this validator is in, or asks for."
    Gauge COMMITTEE_CHANGING_VIEW = "aegis_committee_changing_view", Count;
        "Whether this validator waits for a view to begin: 1 or 0."
    Counter COMMITTEE_VIEW_CHANGES = "aegis_committee_view_changes_total", Count;
        "View changes that this validator asked for, by reason."
    Gauge COMMITTEE_WATERMARK_LOW = "aegis_committee_watermark_low", Count;
        "The last closing that is under a stable checkpoint."
    Gauge COMMITTEE_WATERMARK_HIGH = "aegis_committee_watermark_high", Count;
        "The last closing that may be agreed on before the next stable checkpoint."
    Gauge COMMITTEE_SEQUENCE = "aegis_committee_sequence", Count;
        "The last closing up to which all certificates are recorded."
    Gauge COMMITTEE_UNDECIDED = "aegis_committee_undecided", Count;
        "Closings that this validator waits for a decision on."
    Gauge COMMITTEE_BUFFERED = "aegis_committee_buffered_messages", Count;
        "Messages that wait for a view to begin or for a watermark to move."
    Gauge COMMITTEE_SEAT_LAG = "aegis_committee_seat_lag", Count;
        "Closings that were committed to since a seat last committed to one, by seat."
    Histogram COMMITTEE_PHASE_DURATION = "aegis_committee_phase_duration_seconds", Seconds, PHASE_SECONDS;
        "From a closing in this node's ledger to a phase of its agreement, by phase."
    Counter COMMITTEE_DROPPED = "aegis_committee_messages_dropped_total", Count;
        "Messages between validators that were dropped, by reason."
    Counter COMMITTEE_EVIDENCE = "aegis_committee_evidence_total", Count;
        "Proofs that a validator contradicted itself, by seat."
    Counter COMMITTEE_DISAGREEMENTS = "aegis_committee_disagreements_total", Count;
        "Proposed statements that are not what this node's ledger says, by seat and field."
    Gauge COMMITTEE_ALARM = "aegis_committee_alarm", Count;
        "Whether an alarm of the committee was raised since the start, by code: 1 or 0."
    Histogram CONSENSUS_LATENCY = "consensus_latency_seconds", Seconds, DECISION_SECONDS;
        "From the opening of voting to a decision that was reached: approved or rejected."
    Counter CONSENSUS_ACHIEVED = "consensus_achieved_total", Count;
        "Decisions that were reached: approved or rejected."
    Counter HTTP_REQUESTS = "aegis_http_requests_total", Count;
        "HTTP requests answered, by method, route and status."
    Histogram HTTP_DURATION = "aegis_http_request_duration_seconds", Seconds, HTTP_SECONDS;
        "From a request's head to the head of its answer, by method and route."
    Gauge HTTP_IN_FLIGHT = "aegis_http_requests_in_flight", Count;
        "HTTP requests that are being answered."
    Gauge CONNECTIONS = "aegis_connections", Count;
        "Open connections, by listener."
    Counter CONNECTIONS_REFUSED = "aegis_connections_refused_total", Count;
        "Connections refused because the listener had its most already, by listener."
    Gauge EVENT_SUBSCRIBERS = "aegis_event_subscribers", Count;
        "Clients that follow events."
    Counter EVENTS_SENT = "aegis_events_sent_total", Count;
        "Events sent to subscribers."
    Counter EVENT_SUBSCRIBERS_CLOSED = "aegis_event_subscribers_closed_total", Count;
        "Event subscriptions that ended, by close code."
    Gauge BUILD_INFO = "aegis_build_info", Count;
        "Always 1; the labels say what runs."
}

impl Counter {
    fn describe(&self) {
        metrics::describe_counter!(self.name, self.unit, self.help);
    }

    const fn buckets(&self) -> Option<(&'static str, &'static [f64])> {
        None
    }
}

impl Gauge {
    fn describe(&self) {
        metrics::describe_gauge!(self.name, self.unit, self.help);
    }

    const fn buckets(&self) -> Option<(&'static str, &'static [f64])> {
        None
    }
}

impl Histogram {
    fn describe(&self) {
        metrics::describe_histogram!(self.name, self.unit, self.help);
    }

    const fn buckets(&self) -> Option<(&'static str, &'static [f64])> {
        Some((self.name, self.buckets))
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    buckets()
        .into_iter()
        .try_fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
            builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)
        })
}

/// The process's metrics.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// All metrics in Prometheus's text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Moves recorded values into their buckets. Rendering does it too; whoever serves
    /// metrics that nobody may scrape calls this every few seconds, or the values pile up.
    pub fn run_upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Why metrics could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("metrics could not be installed")]
pub struct InstallError(#[from] BuildError);

/// Installs the process's recorder, once, with every metric described. It comes before
/// anything that keeps handles, since those made earlier record nothing.
///
/// # Errors
/// A recorder was installed before.
pub fn install() -> Result<Exporter, InstallError> {
    let handle = builder()?.install_recorder()?;
    describe();
    BUILD_INFO
        .with([("version", env!("CARGO_PKG_VERSION"))])
        .set(1.0);
    Ok(Exporter(handle))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    impl Counter {
        pub(super) fn touch(&self) {
            self.with([]).increment(1);
        }
    }

    impl Gauge {
        pub(super) fn touch(&self) {
            self.with([]).set(1.0);
        }
    }

    impl Histogram {
        pub(super) fn touch(&self) {
            self.with([]).record(0.5);
        }
    }

    /// A value in one series of every metric.
    fn rendered() -> String {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            touch();
        });
        handle.render()
    }

    #[test]
    fn every_metric_is_rendered_with_its_help_and_type() {
        let text = rendered();
        for name in NAMES {
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
        assert!(
            text.contains("aegis_fsync_duration_seconds_bucket{le=\"0.000125\"}"),
            "{text}"
        );
        assert!(
            !text.contains("quantile"),
            "a histogram has no buckets: {text}"
        );
    }

    #[test]
    fn names_are_ours_or_asked_for() {
        for name in NAMES {
            assert!(
                name.starts_with("aegis_") || name.starts_with("consensus_"),
                "{name}"
            );
        }
        let distinct: std::collections::BTreeSet<_> = NAMES.iter().collect();
        assert_eq!(distinct.len(), NAMES.len());
    }

    /// Prometheus's own linter, where it is installed.
    #[test]
    fn promtool_agrees() {
        let Ok(mut child) = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        else {
            return;
        };
        child
            .stdin
            .take()
            .unwrap()
            .write_all(rendered().as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
