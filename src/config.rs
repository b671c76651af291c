//! A node's configuration: a TOML file, with environment variables laid over it.
//!
//! Every key is documented in `config/aegis.example.toml`. [`Config::load`] refuses what
//! is unknown, of the wrong type, out of range or contradictory, and names the file, the
//! key and the reason. Paths are relative to the folder of the file. Nothing listens
//! beyond loopback unless a key says so.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use aegis_crypto::Digest;
use serde::{Deserialize, Serialize};

use crate::layers::{Fault, Layers};

/// The longest name of a node, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The most founding members.
const MEMBERS_MAX: usize = 31;

/// Everything that a node is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who the node is.
    pub node: NodeConfig,
    /// Which cluster it belongs to.
    pub cluster: ClusterConfig,
    /// How clients reach it.
    #[serde(default)]
    pub api: ApiConfig,
    /// How other nodes reach it.
    #[serde(default)]
    pub peers: PeersConfig,
    /// Where it keeps its data.
    #[serde(default)]
    pub storage: StorageConfig,
    /// How it takes part in the agreement.
    #[serde(default)]
    pub raft: RaftConfig,
    /// What it logs.
    #[serde(default)]
    pub log: LogConfig,
}

/// Who the node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Its number in the cluster, from 1, never used again by another.
    pub id: u64,
    /// A name for people.
    pub name: String,
}

/// Which cluster the node belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The genesis document.
    #[serde(default = "default_genesis")]
    pub genesis: PathBuf,
    /// The founding members. A node that is one of them forms the cluster with them at its
    /// first start; any other waits until it is added.
    #[serde(default)]
    pub members: Vec<MemberConfig>,
    /// SHA-256 of the administrator's token.
    pub admin_token_sha256: Digest,
}

/// A founding member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberConfig {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where its peers reach it, `host:port`.
    pub peer_address: String,
    /// Where its clients reach it, `host:port`.
    pub api_address: String,
}

/// How clients reach the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Where REST, metrics and health are served.
    pub listen: SocketAddr,
    /// Where WebSocket events are served.
    pub events_listen: SocketAddr,
    /// Whether proposals, votes, results and audit entries are read without a token.
    pub open_reads: bool,
    /// The most connections at a time.
    pub connections_max: u32,
    /// Bytes of a request's line and headers.
    pub header_bytes_max: u16,
    /// How long a client may take to send a request's headers, in milliseconds.
    pub header_timeout_ms: u64,
    /// How long a client may take to send a request's body, in milliseconds.
    pub body_timeout_ms: u64,
    /// How long an answer may take to begin, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long a client may leave bytes of an answer untaken, in milliseconds.
    pub write_timeout_ms: u64,
    /// How long busy connections may go on when the node stops, in milliseconds.
    pub linger_ms: u64,
    /// How long requests under way may take when the node stops, in milliseconds.
    pub drain_timeout_ms: u64,
    /// The most WebSocket subscribers at a time.
    pub subscribers_max: u32,
    /// How long a subscriber may leave an event untaken, in milliseconds.
    pub subscriber_timeout_ms: u64,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: loopback(8003),
            events_listen: loopback(8006),
            open_reads: true,
            connections_max: 4_096,
            header_bytes_max: 16 * 1024,
            header_timeout_ms: 30_000,
            body_timeout_ms: 30_000,
            request_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
            linger_ms: 1_000,
            drain_timeout_ms: 20_000,
            subscribers_max: 1_024,
            subscriber_timeout_ms: 10_000,
        }
    }
}

/// How other nodes reach the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeersConfig {
    /// Where it listens for them.
    pub listen: SocketAddr,
    /// The certificate of the cluster's authority.
    pub authority: PathBuf,
    /// The node's certificate.
    pub certificate: PathBuf,
    /// The certificate's private key, a file that only its owner may read.
    pub key: PathBuf,
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self {
            listen: loopback(8004),
            authority: "ca.pem".into(),
            certificate: "node.pem".into(),
            key: "node-key.pem".into(),
        }
    }
}

/// Where the node keeps its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// The data folder.
    pub dir: PathBuf,
    /// The cache of blocks, indexes and filters, in MiB.
    pub cache_mib: u32,
    /// All memtables together, in MiB.
    pub memtable_mib: u32,
    /// The write-ahead log at which quiet tables are flushed, in MiB.
    pub wal_mib: u32,
    /// Log entries kept in memory for replication, in MiB.
    pub log_tail_mib: u32,
    /// The file that is given back when the disk is full, in MiB.
    pub ballast_mib: u32,
    /// Free space below which writes are refused, in MiB.
    pub free_floor_mib: u32,
    /// How many snapshot files are kept.
    pub snapshots_kept: u32,
    /// The largest snapshot that is received, in MiB.
    pub snapshot_mib_max: u32,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            dir: "store".into(),
            cache_mib: 32,
            memtable_mib: 40,
            wal_mib: 64,
            log_tail_mib: 8,
            ballast_mib: 16,
            free_floor_mib: 64,
            snapshots_kept: 2,
            snapshot_mib_max: 65_536,
        }
    }
}

/// How the node takes part in the agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftConfig {
    /// How often a leader tells its followers that it lives, in milliseconds.
    pub heartbeat_ms: u64,
    /// The least time without a leader before an election, in milliseconds.
    pub election_timeout_ms_min: u64,
    /// The longest such time, in milliseconds.
    pub election_timeout_ms_max: u64,
    /// How long replication to a follower may stall before it begins anew, in milliseconds.
    pub replication_timeout_ms: u64,
    /// The log is purged after so many entries.
    pub snapshot_every: u64,
    /// Entries that are kept in the log then.
    pub log_kept: u64,
    /// How long one step of a snapshot's transfer may take, in milliseconds.
    pub snapshot_timeout_ms: u64,
    /// How far clocks may differ, in milliseconds.
    pub clock_tolerance_ms: u64,
    /// How long a write waits for a leader, in milliseconds.
    pub submit_deadline_ms: u64,
    /// How long a linearizable read waits for a leader, in milliseconds.
    pub read_deadline_ms: u64,
    /// Writes that wait unanswered before more are refused.
    pub proposals_max: u32,
    /// Entries that the target of a leadership transfer may lack.
    pub transfer_lag_max: u64,
    /// Entries that a learner may lack when it is made a voter.
    pub promote_lag_max: u64,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            heartbeat_ms: 100,
            election_timeout_ms_min: 300,
            election_timeout_ms_max: 600,
            replication_timeout_ms: 2_000,
            snapshot_every: 10_000,
            log_kept: 10_000,
            snapshot_timeout_ms: 60_000,
            clock_tolerance_ms: 5_000,
            submit_deadline_ms: 5_000,
            read_deadline_ms: 5_000,
            proposals_max: 8_192,
            transfer_lag_max: 1_000,
            promote_lag_max: 1_000,
        }
    }
}

/// What the node logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// The file that lines are appended to; standard error without one.
    pub file: Option<PathBuf>,
}

/// How severe a line of the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something may fail.
    Warn,
    /// Something happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Every step of it.
    Trace,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `<time> <EVENT> <principal> key=value ...`.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn default_genesis() -> PathBuf {
    "genesis.json".into()
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A variable for a key is not UTF-8.
    #[error("environment variable {name} is not UTF-8")]
    Variable {
        /// The variable, with what is not UTF-8 replaced.
        name: String,
    },
    /// Keys cannot have the values that they were given.
    #[error("{}{}", path.display(), Faults(faults))]
    Keys {
        /// The file.
        path: PathBuf,
        /// Every fault found; at least one.
        faults: Vec<Fault>,
    },
}

/// One fault goes on the line of its file, more go on lines of their own.
struct Faults<'f>(&'f [Fault]);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [fault] => write!(f, ": {fault}"),
            faults => faults.iter().try_for_each(|fault| write!(f, "\n  {fault}")),
        }
    }
}

impl Config {
    /// Reads a file and the environment, and makes paths absolute.
    ///
    /// # Errors
    /// Whatever is wrong with either, with its place.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::read(path, environment()?)
    }

    fn read(
        path: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let file = std::path::absolute(path).map_err(unreadable)?;
        let mut config = Self::parse(&text, variables).map_err(|faults| ConfigError::Keys {
            path: path.to_owned(),
            faults,
        })?;
        config.resolve(file.parent().unwrap_or(Path::new("/")));
        Ok(config)
    }

    /// Reads and checks a text; paths stay as they are.
    fn parse(
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Fault>> {
        let layers = Layers::parse(text)
            .and_then(|layers| layers.overlay(variables))
            .map_err(|fault| vec![fault])?;
        let config: Self = layers.clone().read().map_err(|fault| vec![fault])?;
        let mut checks = Checks {
            layers: &layers,
            faults: Vec::new(),
        };
        config.check(&mut checks);
        if checks.faults.is_empty() {
            Ok(config)
        } else {
            Err(checks.faults)
        }
    }

    fn resolve(&mut self, folder: &Path) {
        let paths = [
            &mut self.cluster.genesis,
            &mut self.peers.authority,
            &mut self.peers.certificate,
            &mut self.peers.key,
            &mut self.storage.dir,
        ];
        for path in paths.into_iter().chain(&mut self.log.file) {
            // Joining keeps a path that is absolute already.
            *path = folder.join(&*path);
        }
    }

    /// Whether the node forms the cluster at its first start.
    #[must_use]
    pub fn is_founder(&self) -> bool {
        self.cluster
            .members
            .iter()
            .any(|member| member.id == self.node.id)
    }

    fn check(&self, checks: &mut Checks<'_>) {
        checks.range("node.id", self.node.id, 1..=u64::MAX);
        checks.name("node.name", &self.node.name);
        self.check_members(checks);
        self.check_listeners(checks);
        self.api.check(checks);
        self.storage.check(checks);
        self.raft.check(checks);
    }

    fn check_members(&self, checks: &mut Checks<'_>) {
        let members = &self.cluster.members;
        if members.len() > MEMBERS_MAX {
            checks.fault(
                "cluster.members",
                format!("there are {}, at most {MEMBERS_MAX}", members.len()),
            );
        }
        let (mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for (position, member) in members.iter().enumerate() {
            let key = |field: &str| format!("cluster.members[{position}].{field}");
            checks.range(&key("id"), member.id, 1..=u64::MAX);
            checks.name(&key("name"), &member.name);
            if !ids.insert(member.id) {
                checks.fault(&key("id"), format!("{} is another member's", member.id));
            }
            for (field, address) in [
                ("peer_address", &member.peer_address),
                ("api_address", &member.api_address),
            ] {
                checks.address(&key(field), address);
                if !addresses.insert(address) {
                    checks.fault(&key(field), format!("{address} stands here twice"));
                }
            }
            if member.id == self.node.id && member.name != self.node.name {
                checks.fault(
                    &key("name"),
                    format!(
                        "it is {:?}, but `node.name` is {:?}",
                        member.name, self.node.name
                    ),
                );
            }
        }
    }

    fn check_listeners(&self, checks: &mut Checks<'_>) {
        let listeners = [
            ("api.listen", self.api.listen),
            ("peers.listen", self.peers.listen),
            ("api.events_listen", self.api.events_listen),
        ];
        for (position, (key, listen)) in listeners.iter().enumerate() {
            let earlier = listeners.iter().take(position);
            // Port 0 asks the operating system for a free one.
            for (other, _) in earlier.filter(|(_, taken)| taken == listen && listen.port() != 0) {
                checks.fault(key, format!("{listen} is also that of `{other}`"));
            }
        }
    }
}

impl ApiConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range("api.connections_max", self.connections_max, 1..=1_000_000);
        checks.range(
            "api.header_bytes_max",
            self.header_bytes_max,
            8_192..=u16::MAX,
        );
        for (key, value) in [
            ("api.header_timeout_ms", self.header_timeout_ms),
            ("api.body_timeout_ms", self.body_timeout_ms),
            ("api.request_timeout_ms", self.request_timeout_ms),
            ("api.write_timeout_ms", self.write_timeout_ms),
            ("api.drain_timeout_ms", self.drain_timeout_ms),
            ("api.subscriber_timeout_ms", self.subscriber_timeout_ms),
        ] {
            checks.range(key, value, 100..=3_600_000);
        }
        checks.range("api.linger_ms", self.linger_ms, 0..=60_000);
        checks.range("api.subscribers_max", self.subscribers_max, 1..=1_000_000);
    }
}

impl StorageConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range("storage.cache_mib", self.cache_mib, 8..=1_048_576);
        checks.range("storage.memtable_mib", self.memtable_mib, 8..=65_536);
        checks.range("storage.wal_mib", self.wal_mib, 8..=65_536);
        checks.range("storage.log_tail_mib", self.log_tail_mib, 1..=65_536);
        checks.range("storage.ballast_mib", self.ballast_mib, 0..=65_536);
        checks.range("storage.free_floor_mib", self.free_floor_mib, 0..=1_048_576);
        checks.range("storage.snapshots_kept", self.snapshots_kept, 1..=1_000);
        checks.range(
            "storage.snapshot_mib_max",
            self.snapshot_mib_max,
            1..=u32::MAX,
        );
    }
}

impl RaftConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        const MINUTE_MS: u64 = 60_000;
        checks.range("raft.heartbeat_ms", self.heartbeat_ms, 10..=MINUTE_MS / 4);
        // A follower misses two heartbeats before it doubts its leader.
        let least = self.heartbeat_ms.saturating_mul(2);
        checks.at_least(
            "raft.election_timeout_ms_min",
            self.election_timeout_ms_min,
            least,
            "twice `raft.heartbeat_ms`",
        );
        let least = self
            .election_timeout_ms_min
            .saturating_add(self.heartbeat_ms);
        checks.at_least(
            "raft.election_timeout_ms_max",
            self.election_timeout_ms_max,
            least,
            "`raft.election_timeout_ms_min` and a heartbeat",
        );
        checks.range(
            "raft.election_timeout_ms_max",
            self.election_timeout_ms_max,
            0..=MINUTE_MS,
        );
        checks.at_least(
            "raft.replication_timeout_ms",
            self.replication_timeout_ms,
            self.heartbeat_ms,
            "`raft.heartbeat_ms`",
        );
        checks.range("raft.snapshot_every", self.snapshot_every, 1..=u64::MAX);
        checks.range(
            "raft.snapshot_timeout_ms",
            self.snapshot_timeout_ms,
            10_000..=60 * MINUTE_MS,
        );
        for (key, value) in [
            ("raft.clock_tolerance_ms", self.clock_tolerance_ms),
            ("raft.submit_deadline_ms", self.submit_deadline_ms),
            ("raft.read_deadline_ms", self.read_deadline_ms),
        ] {
            checks.range(key, value, 100..=MINUTE_MS);
        }
        checks.range("raft.proposals_max", self.proposals_max, 1..=1 << 20);
    }
}

/// Collects what is out of range or contradictory.
struct Checks<'c> {
    layers: &'c Layers,
    faults: Vec<Fault>,
}

impl Checks<'_> {
    fn fault(&mut self, key: &str, reason: String) {
        self.faults.push(Fault {
            key: key.to_owned(),
            origin: self.layers.origin(key).cloned(),
            reason,
        });
    }

    fn range<T: PartialOrd + fmt::Display>(
        &mut self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            self.fault(key, format!("{value} is outside {least} to {most}"));
        }
    }

    fn at_least(&mut self, key: &str, value: u64, least: u64, what: &str) {
        if value < least {
            self.fault(
                key,
                format!("{value} is less than {least}, which is {what}"),
            );
        }
    }

    fn name(&mut self, key: &str, name: &str) {
        let plain = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !plain {
            self.fault(
                key,
                format!(
                    "{name:?} is not 1 to {NAME_BYTES_MAX} visible ASCII characters without spaces"
                ),
            );
        }
    }

    fn address(&mut self, key: &str, address: &str) {
        let port = address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            self.fault(
                key,
                format!("{address:?} is not a host and a port like 10.0.0.1:8004"),
            );
        }
    }
}

/// The variables of the process that may name keys.
fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    std::env::vars_os()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(b"AEGIS__"))
        .map(|(name, value)| match (name.to_str(), value.to_str()) {
            (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
            _ => Err(ConfigError::Variable {
                name: name.to_string_lossy().into_owned(),
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    const EXAMPLE: &str = include_str!("../config/aegis.example.toml");
    const LEAST: &str = "[node]\nid = 1\nname = 'a'\n[cluster]\nadmin_token_sha256 = \
        '0000000000000000000000000000000000000000000000000000000000000000'\n";

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(text, variables)
            .map_err(|faults| faults.iter().map(Fault::to_string).collect())
    }

    fn keys(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    keys(&format!("{prefix}.{name}"), value, found);
                }
            }
            Value::Array(items) => {
                for item in items {
                    keys(prefix, item, found);
                }
            }
            _ => {
                found.insert(prefix.to_owned());
            }
        }
    }

    #[test]
    fn the_example_has_every_key_and_only_those() {
        let config = parse(EXAMPLE, &[]).unwrap();
        let (mut known, mut written) = (BTreeSet::new(), BTreeSet::new());
        keys("", &serde_json::to_value(config).unwrap(), &mut known);
        let table: toml::Table = EXAMPLE.parse().unwrap();
        keys("", &serde_json::to_value(table).unwrap(), &mut written);
        assert_eq!(known, written);
    }

    #[test]
    fn every_key_of_the_example_is_explained() {
        let mut explained = false;
        for line in EXAMPLE.lines() {
            let is_key = line.contains(" = ") && !line.starts_with('#');
            assert!(!is_key || explained, "nothing explains {line:?}");
            explained = line.starts_with('#');
        }
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let example = parse(EXAMPLE, &[]).unwrap();
        let least = parse(LEAST, &[]).unwrap();
        assert_eq!(example.cluster.genesis, least.cluster.genesis);
        assert!(example.is_founder() && !least.is_founder());
        assert_eq!(example.api, least.api);
        assert_eq!(example.peers, least.peers);
        assert_eq!(example.storage, least.storage);
        assert_eq!(example.raft, least.raft);
        assert_eq!(
            LogConfig {
                file: None,
                ..example.log
            },
            least.log
        );
    }

    #[test]
    fn nothing_listens_beyond_loopback_by_default() {
        let config = parse(LEAST, &[]).unwrap();
        for listen in [
            config.api.listen,
            config.api.events_listen,
            config.peers.listen,
        ] {
            assert!(listen.ip().is_loopback());
        }
    }

    #[test]
    fn the_environment_beats_the_file() {
        let config = parse(
            LEAST,
            &[
                ("AEGIS__NODE__ID", "7"),
                ("AEGIS__API__LISTEN", "0.0.0.0:80"),
                ("AEGIS__API__OPEN_READS", "false"),
                ("AEGIS__LOG__FORMAT", "json"),
                ("AEGIS__LOG__FILE", "aegis.log"),
            ],
        )
        .unwrap();
        assert_eq!(config.node.id, 7);
        assert_eq!(config.api.listen.to_string(), "0.0.0.0:80");
        assert!(!config.api.open_reads);
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.log.file, Some("aegis.log".into()));
    }

    /// Sets one key of the example to another value.
    fn example_with(key: &str, value: &str) -> Vec<String> {
        let mut table: toml::Table = EXAMPLE.parse().unwrap();
        let (section, name) = key.split_once('.').unwrap();
        let value: toml::Table = format!("value = {value}").parse().unwrap();
        table[section]
            .as_table_mut()
            .unwrap()
            .insert(name.into(), value["value"].clone());
        match parse(&table.to_string(), &[]) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(|fault| without_origin(fault)).collect(),
        }
    }

    fn without_origin(fault: &str) -> String {
        fault.split_once(": ").unwrap().1.to_owned()
    }

    #[test]
    fn every_bound_is_checked_and_named() {
        for (key, value, reason) in [
            ("node.id", "0", "0 is outside 1 to 18446744073709551615"),
            ("api.connections_max", "0", "0 is outside 1 to 1000000"),
            (
                "api.header_timeout_ms",
                "99",
                "99 is outside 100 to 3600000",
            ),
            (
                "api.body_timeout_ms",
                "3600001",
                "3600001 is outside 100 to 3600000",
            ),
            ("api.request_timeout_ms", "0", "0 is outside 100 to 3600000"),
            ("api.subscribers_max", "0", "0 is outside 1 to 1000000"),
            (
                "api.header_bytes_max",
                "8191",
                "8191 is outside 8192 to 65535",
            ),
            (
                "api.header_bytes_max",
                "65536",
                "invalid value: integer `65536`, expected u16",
            ),
            ("api.write_timeout_ms", "99", "99 is outside 100 to 3600000"),
            ("api.drain_timeout_ms", "99", "99 is outside 100 to 3600000"),
            (
                "api.subscriber_timeout_ms",
                "99",
                "99 is outside 100 to 3600000",
            ),
            ("api.linger_ms", "60001", "60001 is outside 0 to 60000"),
            ("storage.cache_mib", "7", "7 is outside 8 to 1048576"),
            ("storage.memtable_mib", "7", "7 is outside 8 to 65536"),
            ("storage.wal_mib", "7", "7 is outside 8 to 65536"),
            ("storage.log_tail_mib", "0", "0 is outside 1 to 65536"),
            (
                "storage.ballast_mib",
                "65537",
                "65537 is outside 0 to 65536",
            ),
            (
                "storage.free_floor_mib",
                "1048577",
                "1048577 is outside 0 to 1048576",
            ),
            ("storage.snapshots_kept", "0", "0 is outside 1 to 1000"),
            (
                "storage.snapshot_mib_max",
                "0",
                "0 is outside 1 to 4294967295",
            ),
            (
                "raft.election_timeout_ms_min",
                "199",
                "199 is less than 200, which is twice `raft.heartbeat_ms`",
            ),
            (
                "raft.election_timeout_ms_max",
                "399",
                "399 is less than 400, which is `raft.election_timeout_ms_min` and a heartbeat",
            ),
            (
                "raft.election_timeout_ms_max",
                "60001",
                "60001 is outside 0 to 60000",
            ),
            (
                "raft.replication_timeout_ms",
                "99",
                "99 is less than 100, which is `raft.heartbeat_ms`",
            ),
            (
                "raft.snapshot_every",
                "0",
                "0 is outside 1 to 18446744073709551615",
            ),
            (
                "raft.snapshot_timeout_ms",
                "9999",
                "9999 is outside 10000 to 3600000",
            ),
            (
                "raft.clock_tolerance_ms",
                "99",
                "99 is outside 100 to 60000",
            ),
            (
                "raft.submit_deadline_ms",
                "99",
                "99 is outside 100 to 60000",
            ),
            (
                "raft.read_deadline_ms",
                "60001",
                "60001 is outside 100 to 60000",
            ),
            ("raft.proposals_max", "0", "0 is outside 1 to 1048576"),
            (
                "peers.listen",
                "'127.0.0.1:8003'",
                "127.0.0.1:8003 is also that of `api.listen`",
            ),
            (
                "api.events_listen",
                "'127.0.0.1:8004'",
                "127.0.0.1:8004 is also that of `peers.listen`",
            ),
            (
                "cluster.admin_token_sha256",
                "'00'",
                "a SHA-256 digest has 64 hexadecimal digits, not 2 bytes",
            ),
            (
                "log.level",
                "'loud'",
                "unknown variant `loud`, expected one of `error`, `warn`, `info`, `debug`, `trace`",
            ),
            ("raft.fast", "true", RAFT_KEYS),
        ] {
            assert_eq!(
                example_with(key, value),
                [format!("`{key}`: {reason}")],
                "{key} = {value}"
            );
        }
        assert_eq!(
            example_with("raft.heartbeat_ms", "9"),
            ["`raft.heartbeat_ms`: 9 is outside 10 to 15000"]
        );
        assert!(example_with("api.listen", "'127.0.0.1:0'").is_empty());
    }

    const RAFT_KEYS: &str = "there is no such key; there are heartbeat_ms, election_timeout_ms_min, \
        election_timeout_ms_max, replication_timeout_ms, snapshot_every, log_kept, \
        snapshot_timeout_ms, clock_tolerance_ms, submit_deadline_ms, read_deadline_ms, proposals_max, \
        transfer_lag_max, promote_lag_max";

    #[test]
    fn members_are_checked_against_each_other() {
        let member = |id: u64, name: &str, port: u16| {
            format!(
                "[[cluster.members]]\nid = {id}\nname = '{name}'\n\
                 peer_address = 'h:{port}'\napi_address = 'h:{}'\n",
                port.saturating_sub(1)
            )
        };
        let with = |members: &[String]| parse(&format!("{LEAST}{}", members.concat()), &[]);
        assert!(with(&[member(1, "a", 8004), member(2, "b", 8014)]).is_ok());
        for (members, expected) in [
            (
                [member(1, "a", 8004), member(1, "a", 8014)],
                "`cluster.members[1].id`: 1 is another member's",
            ),
            (
                [member(1, "a", 8004), member(2, "b", 8003)],
                "`cluster.members[1].peer_address`: h:8003 stands here twice",
            ),
            (
                [member(1, "x", 8004), member(2, "b", 8014)],
                "`cluster.members[0].name`: it is \"x\", but `node.name` is \"a\"",
            ),
            (
                [member(1, "a", 8004), member(0, "b", 8014)],
                "`cluster.members[1].id`: 0 is outside 1 to 18446744073709551615",
            ),
            (
                [member(1, "a", 8004), member(2, "b c", 8014)],
                "`cluster.members[1].name`: \"b c\" is not 1 to 64 visible ASCII characters without spaces",
            ),
            (
                [member(1, "a", 8004), member(2, "b", 1)],
                "`cluster.members[1].api_address`: \"h:0\" is not a host and a port like 10.0.0.1:8004",
            ),
        ] {
            let faults = with(&members).unwrap_err();
            let faults: Vec<String> = faults.iter().map(|fault| without_origin(fault)).collect();
            assert_eq!(faults, [expected]);
        }
        let many: Vec<String> = (2..=33)
            .map(|id: u16| member(id.into(), "m", id.saturating_mul(10)))
            .collect();
        assert_eq!(
            with(&many).unwrap_err(),
            ["line 6: `cluster.members`: there are 32, at most 31"]
        );
    }

    #[test]
    fn all_faults_of_a_file_are_told_together() {
        let text = format!("{LEAST}[raft]\nproposals_max = 0\n[storage]\nwal_mib = 1\n");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let error = Config::read(&path, []).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{}\n  line 9: `storage.wal_mib`: 1 is outside 8 to 65536\
                 \n  line 7: `raft.proposals_max`: 0 is outside 1 to 1048576",
                path.display()
            )
        );
        let missing = Config::read(&folder.path().join("none"), []).unwrap_err();
        assert!(
            missing.to_string().starts_with("cannot read /"),
            "{missing}"
        );
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, format!("{LEAST}[storage]\ndir = '/elsewhere'\n")).unwrap();
        let config = Config::read(&path, []).unwrap();
        assert_eq!(config.peers.key, folder.path().join("node-key.pem"));
        assert_eq!(config.cluster.genesis, folder.path().join("genesis.json"));
        assert_eq!(config.storage.dir, Path::new("/elsewhere"));
        assert_eq!(config.log.file, None);
    }
}
