//! A node's configuration: a TOML file, with environment variables laid over it.
//!
//! Every key is documented in `config/aegis.example.toml`. [`Config::load`] refuses what
//! is unknown, of the wrong type, out of range or contradictory, and names the file, the
//! key and the reason. Paths are relative to the folder of the file. Nothing listens
//! beyond loopback unless a key says so.

mod checks;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use aegis_crypto::Digest;
use serde::{Deserialize, Serialize};

use crate::layers::{Fault, Layers};

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
    /// Its seat in the committee.
    #[serde(default)]
    pub committee: CommitteeConfig,
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
    /// Whether it receives the log without a vote: a seat in the committee asks for no
    /// more.
    #[serde(default)]
    pub witness: bool,
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

/// The node's seat in the committee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommitteeConfig {
    /// The seat's private key, a file that only its owner may read. A node without one has
    /// no seat.
    pub key: Option<PathBuf>,
    /// How long a closing may take to be decided before the view is changed, in
    /// milliseconds.
    pub timeout_ms: u64,
    /// The longest such time, in milliseconds: it doubles with each view change that brings
    /// no progress.
    pub timeout_ms_max: u64,
    /// How long nothing may come before messages are sent again, in milliseconds.
    pub resend_ms: u64,
    /// How long nothing is undecided before the transparency log gets a checkpoint between
    /// the regular ones, in milliseconds.
    pub quiet_ms: u64,
}

impl Default for CommitteeConfig {
    fn default() -> Self {
        Self {
            key: None,
            timeout_ms: 1_000,
            timeout_ms_max: 60_000,
            resend_ms: 250,
            quiet_ms: 250,
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
        let faults = config.faults(&layers);
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(faults)
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
        let optional = self.log.file.iter_mut().chain(&mut self.committee.key);
        for path in paths.into_iter().chain(optional) {
            // Joining keeps a path that is absolute already.
            *path = folder.join(&*path);
        }
    }

    /// Whether the node forms the cluster, as one of its voters, at its first start.
    #[must_use]
    pub fn is_founder(&self) -> bool {
        self.own_entry().is_some_and(|member| !member.witness)
    }

    /// Whether the node is named among the founding members.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.own_entry().is_some()
    }

    fn own_entry(&self) -> Option<&MemberConfig> {
        let own = self.node.id;
        self.cluster.members.iter().find(|member| member.id == own)
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
