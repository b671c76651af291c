//! What an operator may set, with the values that fit a cluster of three on one continent.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

/// How a node takes part in the cluster. The default is the recommended setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often a leader tells its followers that it lives. 100 ms.
    pub heartbeat_interval: Duration,
    /// The least time without a leader before a follower stands for election. 300 ms.
    pub election_timeout_min: Duration,
    /// The longest such time, and the length of the lease during which followers refuse
    /// their vote to others. A dead leader is replaced after this time and a random one
    /// between the two. 600 ms.
    pub election_timeout_max: Duration,
    /// How long a replication stream may go without an answer before it is given up and
    /// opened again. It must bear the slowest fsync of a follower. 2 s.
    pub replication_timeout: Duration,
    /// A snapshot is taken, and the log purged, after so many entries since the last. 10,000.
    pub snapshot_every: u64,
    /// Entries kept in the log although a snapshot has them. A follower that lacks more is
    /// sent a snapshot. 10,000.
    pub log_kept: u64,
    /// How long one step of a snapshot transfer may take: a chunk, or installing it all
    /// at the end. 60 s.
    pub snapshot_timeout: Duration,
    /// How far ahead of its own clock a follower accepts stamps, and how far a leader's clock
    /// may be from its peers' before it hands leadership over. 5 s.
    pub clock_tolerance: Duration,
    /// How long a submission is held and repeated while there is no leader to take it. 5 s.
    pub submit_deadline: Duration,
    /// The same for a linearizable read. 5 s.
    pub read_deadline: Duration,
    /// The most proposals that a node holds unanswered; more are refused at once. 8,192.
    pub proposals_max: u32,
    /// The most entries by which the target of a leadership transfer may lag. 1,000.
    pub transfer_lag_max: u64,
    /// The most entries by which a learner may lag when it is made a voter. 1,000.
    pub promote_lag_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout_min: Duration::from_millis(300),
            election_timeout_max: Duration::from_millis(600),
            replication_timeout: Duration::from_secs(2),
            snapshot_every: 10_000,
            log_kept: 10_000,
            snapshot_timeout: Duration::from_secs(60),
            clock_tolerance: Duration::from_secs(5),
            submit_deadline: Duration::from_secs(5),
            read_deadline: Duration::from_secs(5),
            proposals_max: 8_192,
            transfer_lag_max: 1_000,
            promote_lag_max: 1_000,
        }
    }
}

/// Settings that contradict themselves or cannot work.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A time or number is outside its range.
    #[error("`{key}` is {value}, it must be {expected}")]
    OutOfRange {
        /// The setting.
        key: &'static str,
        /// What it is set to.
        value: String,
        /// What it may be.
        expected: String,
    },
}

impl Settings {
    /// Checks every value against its range and against the others.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let heartbeat = self.heartbeat_interval;
        at_least("heartbeat_interval", heartbeat, Duration::from_millis(10))?;
        // A follower must miss two heartbeats before it doubts its leader.
        at_least(
            "election_timeout_min",
            self.election_timeout_min,
            heartbeat * 2,
        )?;
        at_least(
            "election_timeout_max",
            self.election_timeout_max,
            self.election_timeout_min + heartbeat,
        )?;
        at_most(
            "election_timeout_max",
            self.election_timeout_max,
            Duration::from_secs(60),
        )?;
        at_least("replication_timeout", self.replication_timeout, heartbeat)?;
        at_least(
            "snapshot_timeout",
            self.snapshot_timeout,
            Duration::from_secs(10),
        )?;
        at_least(
            "clock_tolerance",
            self.clock_tolerance,
            Duration::from_millis(100),
        )?;
        at_least(
            "submit_deadline",
            self.submit_deadline,
            Duration::from_millis(100),
        )?;
        at_least(
            "read_deadline",
            self.read_deadline,
            Duration::from_millis(100),
        )?;
        at_least("snapshot_every", self.snapshot_every, 1)?;
        at_least("proposals_max", self.proposals_max, 1)?;
        at_most("proposals_max", self.proposals_max, 1 << 20)?;
        Ok(())
    }

    /// The settings as openraft takes them.
    pub(crate) fn to_config(&self) -> Result<Arc<Config>, SettingsError> {
        self.validate()?;
        let lease_ms = millis(self.election_timeout_max);
        let config = Config {
            cluster_name: "aegis".to_owned(),
            heartbeat_interval: millis(self.heartbeat_interval),
            election_timeout_min: millis(self.election_timeout_min),
            election_timeout_max: lease_ms,
            install_snapshot_timeout: millis(self.snapshot_timeout),
            max_payload_entries: REPLICATION_ENTRIES_MAX,
            max_append_entries: Some(APPEND_ENTRIES_MAX),
            replication_lag_threshold: self.snapshot_every.saturating_add(self.log_kept),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.log_kept,
            api_channel_size: Some(CORE_QUEUE_MESSAGES),
            notification_channel_size: Some(CORE_QUEUE_MESSAGES),
            removed_leader_step_down: StepDownPolicy::After(millis(self.heartbeat_interval)),
            // A leader without its quorum stays quiet until its followers' leases have run
            // out and they had one full election timeout to replace it.
            quorum_loss_probe_interval: Some(lease_ms.saturating_mul(2)),
            enable_pre_vote: Some(true),
            // A restarted leader must be elected again: restoring itself could serve a state
            // that it cannot know to be stale.
            enable_leader_restore: Some(false),
            backoff: RECONNECT_BACKOFF.to_owned(),
            ..Config::default()
        };
        let config = config
            .validate()
            .expect("what `validate` lets through satisfies openraft's own checks");
        Ok(Arc::new(config))
    }
}

/// Entries in one replication message; its bytes are bounded by the log reader.
const REPLICATION_ENTRIES_MAX: u64 = 4_096;
/// Entries in one append to the log.
const APPEND_ENTRIES_MAX: u64 = 4_096;
/// The bound of openraft's two internal queues.
const CORE_QUEUE_MESSAGES: u64 = 8_192;
/// The delays before an unreachable peer is tried again. It is short, because the transport
/// below keeps its own backoff towards addresses that do not answer.
const RECONNECT_BACKOFF: &str = "20ms 50ms 100ms ...500ms";

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn at_least<T: PartialOrd + std::fmt::Debug>(
    key: &'static str,
    value: T,
    least: T,
) -> Result<(), SettingsError> {
    if value >= least {
        return Ok(());
    }
    Err(SettingsError::OutOfRange {
        key,
        value: format!("{value:?}"),
        expected: format!("at least {least:?}"),
    })
}

fn at_most<T: PartialOrd + std::fmt::Debug>(
    key: &'static str,
    value: T,
    most: T,
) -> Result<(), SettingsError> {
    if value <= most {
        return Ok(());
    }
    Err(SettingsError::OutOfRange {
        key,
        value: format!("{value:?}"),
        expected: format!("at most {most:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_reach_openraft() {
        let config = Settings::default().to_config().unwrap();
        assert_eq!(
            (
                config.heartbeat_interval,
                config.election_timeout_min,
                config.election_timeout_max
            ),
            (100, 300, 600)
        );
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.quorum_loss_probe_interval, Some(1_200));
    }

    #[test]
    fn what_cannot_work_is_named() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.validate().unwrap_err().to_string()
        };
        assert_eq!(
            refused(|s| s.election_timeout_min = Duration::from_millis(150)),
            "`election_timeout_min` is 150ms, it must be at least 200ms"
        );
        assert_eq!(
            refused(|s| s.election_timeout_max = Duration::from_millis(300)),
            "`election_timeout_max` is 300ms, it must be at least 400ms"
        );
        assert_eq!(
            refused(|s| s.snapshot_timeout = Duration::from_secs(1)),
            "`snapshot_timeout` is 1s, it must be at least 10s"
        );
        assert_eq!(
            refused(|s| s.proposals_max = 0),
            "`proposals_max` is 0, it must be at least 1"
        );
    }
}
