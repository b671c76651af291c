//! The node's side of the command line: what `aegis` does with disks, certificates and a
//! running node.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_cli::{Credential, Exit, Failure, Local, Ready, Restored, SnapshotSummary};
use aegis_crypto::{Committee, Digest, SeatNo};
use aegis_ledger::Table;
use aegis_pbft::Evidence;
use aegis_peers::ca::{Ca, HostName};
use aegis_peers::{ClusterId, NodeId};
use aegis_storage::{BadSnapshot, Identity, SnapshotHeader, SnapshotReader, Store};
use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, ConfigError, LogFormat, LogLevel};
use crate::node::{Ended, Node, Part, founders, read_genesis};
use crate::{random, telemetry};

/// This binary.
pub struct Binary;

impl Local for Binary {
    fn check_config(&self, config: &Path) -> Result<(), Failure> {
        load(config).map(|_| ())
    }

    fn serve(&self, config: &Path, ready: Ready) -> Result<(), Failure> {
        let config = load(config)?;
        // The library underneath tells every step of an election at `info`; what an operator
        // needs of it, this binary says itself.
        let level = match config.log.level {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn,openraft=error",
            LogLevel::Info => "info,openraft=error",
            LogLevel::Debug => "debug,openraft=info",
            LogLevel::Trace => "trace",
        };
        let format = match config.log.format {
            LogFormat::Text => telemetry::Format::Text,
            LogFormat::Json => telemetry::Format::Json,
        };
        let logs =
            telemetry::init(level, format, config.log.file.as_deref()).map_err(Failure::failed)?;
        // Replication has a thread of its own, this one: what is asked of the edge cannot
        // delay a heartbeat, and the steps of a write wake no other thread between them.
        let failed = Failure::context("cannot start a runtime");
        let core = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let edge = tokio::runtime::Builder::new_multi_thread()
            .thread_name("edge")
            .enable_all()
            .build();
        let (core, edge) = core.and_then(|core| Ok((core, edge?))).map_err(failed)?;
        let outcome = core.block_on(serve(config, ready, edge.handle()));
        if let Err(error) = &outcome {
            tracing::error!(error = format!("{error:#}"), "the node ended");
        }
        if logs.lines_dropped() > 0 {
            tracing::warn!(
                lines = logs.lines_dropped(),
                "the log could not keep up and lost lines"
            );
        }
        drop(logs);
        outcome.map_err(Failure::failed)
    }

    fn new_authority(&self, cluster_id: Digest) -> Result<Credential, Failure> {
        let authority = Ca::generate(ClusterId(*cluster_id.as_bytes())).map_err(Failure::failed)?;
        Ok(Credential {
            certificate: authority.certificate_pem().to_owned(),
            key: authority.key_pem(),
        })
    }

    fn issue_certificate(
        &self,
        authority: &Credential,
        node: u64,
        hosts: &[String],
    ) -> Result<Credential, Failure> {
        let issue = || -> Result<Credential> {
            let authority = Ca::from_pem(&authority.certificate, &authority.key)?;
            let node = NodeId::new(node).context("node ids count from 1")?;
            let hosts = hosts
                .iter()
                .map(|host| host.parse())
                .collect::<Result<Vec<HostName>, _>>()?;
            let issued = authority.issue(node, &hosts)?;
            Ok(Credential {
                certificate: issued.certificate_pem,
                key: issued.key_pem,
            })
        };
        issue().map_err(Failure::failed)
    }

    fn create_store(&self, dir: &Path, cluster_id: Digest, node: u64) -> Result<(), Failure> {
        let store_id = random::draw().map_err(Failure::context("cannot draw a random id"))?;
        let identity = Identity {
            cluster_id,
            node_id: node,
            incarnation: 0,
            store_id,
        };
        Store::create(dir, &identity).map_err(Failure::failed)
    }

    fn convict(&self, committee: &Committee, evidence: &[u8]) -> Result<Option<SeatNo>, Failure> {
        let evidence = Evidence::decode(evidence).map_err(Failure::failed)?;
        Ok(evidence.convicts(&Arc::new(committee.clone())))
    }

    fn snapshot_status(&self, file: &Path) -> Result<SnapshotSummary, Failure> {
        let info = aegis_storage::verify(file).map_err(|error| match error {
            BadSnapshot::Io(_) => {
                Failure::context(format!("cannot read {}", file.display()))(error)
            }
            error => Failure::new(
                Exit::Negative,
                anyhow::Error::new(error)
                    .context(format!("{} is not a whole snapshot", file.display())),
            ),
        })?;
        let records = Table::ALL
            .into_iter()
            .map(|table| (table.name().to_owned(), info.records_of(table)));
        Ok(SnapshotSummary {
            cluster_id: info.header.cluster_id,
            incarnation: info.header.incarnation,
            index: info.header.applied.index,
            bytes: info.bytes,
            digest: info.digest,
            records: records.collect(),
        })
    }

    fn restore(&self, file: &Path, nodes: &[PathBuf]) -> Result<Restored, Failure> {
        // Everything is checked before the first folder is made.
        self.snapshot_status(file)?;
        restore(file, nodes).map_err(Failure::failed)
    }
}

fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|error| {
        let exit = match error {
            ConfigError::Read { .. } => Exit::Failed,
            ConfigError::Variable { .. } | ConfigError::Keys { .. } => Exit::Negative,
        };
        Failure::new(exit, error)
    })
}

/// Runs a node until a signal, or until it fails.
async fn serve(config: Config, ready: Ready, edge: &Handle) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let metrics = aegis_api::metrics::install()?;
    let mut node = Node::start(config, metrics, edge).await?;
    tokio::task::spawn_blocking(ready)
        .await
        .context("what was to happen when the node serves failed")?;
    tokio::select! {
        ended = node.ended() => match ended {
            Ended::Failed(reason) => Err(anyhow!("replication failed: {reason}")),
            Ended::SeatFailed(reason) => Err(anyhow!("the validator failed: {reason}")),
            Ended::ListenerEnded(which) => Err(anyhow!("the {which} listener ended")),
        },
        _ = terminate.recv() => node.stop().await,
        _ = interrupt.recv() => node.stop().await,
    }
}

fn restore(file: &Path, nodes: &[PathBuf]) -> Result<Restored> {
    let header = read_header(file)?;
    let configs = nodes
        .iter()
        .map(|path| Config::load(path))
        .collect::<Result<Vec<_>, _>>()?;
    let first = configs
        .first()
        .context("name at least one node's configuration with --to")?;
    let genesis = read_genesis(&first.cluster.genesis)?;
    ensure!(
        genesis.cluster_id() == header.cluster_id,
        "the snapshot belongs to cluster {}, {} names {}",
        header.cluster_id,
        first.cluster.genesis.display(),
        genesis.cluster_id()
    );
    let members = founders(first, Part::Voter)?;
    ensure!(
        !members.is_empty(),
        "the configuration names no founding members to begin with"
    );
    for config in &configs {
        let dir = &config.storage.dir;
        ensure!(
            !dir.exists(),
            "{} exists already; restore only into folders that do not",
            dir.display()
        );
        ensure!(
            config.is_named(),
            "node {} is not among the founding members",
            config.node.id
        );
        ensure!(
            config.cluster.members == first.cluster.members,
            "the configurations name different members"
        );
    }
    let beginning = aegis_raft::beginning(&header, members)?;
    let incarnation = draw_incarnation(header.incarnation)?;
    let mut folders = Vec::new();
    for config in &configs {
        let identity = Identity {
            cluster_id: header.cluster_id,
            node_id: config.node.id,
            incarnation,
            store_id: random::draw().context("cannot draw a random id")?,
        };
        let dir = &config.storage.dir;
        aegis_storage::restore(file, dir, &identity, &beginning.applied, &beginning.purged)
            .with_context(|| format!("cannot restore into {}", dir.display()))?;
        folders.push(dir.clone());
    }
    Ok(Restored {
        incarnation,
        index: header.applied.index,
        folders,
    })
}

/// A number above the snapshot's incarnation that two restorations of one snapshot do not
/// share, so that their nodes refuse each other.
fn draw_incarnation(before: u64) -> Result<u64> {
    let step = u64::from(u32::from_be_bytes(
        random::draw().context("cannot draw an incarnation")?,
    ));
    before
        .checked_add(step.max(1))
        .context("the cluster was restored too often")
}

fn read_header(file: &Path) -> Result<SnapshotHeader> {
    let open =
        std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let reader = SnapshotReader::new(std::io::BufReader::new(open))?;
    Ok(reader.header().clone())
}
