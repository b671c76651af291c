//! `aegis snapshot`: backing up, checking a backup, and beginning again from one.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use tempfile::NamedTempFile;

use crate::client::Client;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::local::SnapshotSummary;

/// The words of `aegis snapshot`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save the state of a cluster that goes on serving; needs the administrator's token
    Save {
        /// The file to make; nothing is overwritten, and no partial file ever stands here
        file: PathBuf,
    },
    /// Check every byte of a snapshot and show what it holds
    Status {
        /// The snapshot
        file: PathBuf,
    },
    /// Build data folders of the same cluster in a new incarnation
    Restore {
        /// The snapshot
        file: PathBuf,
        /// The configuration files of all nodes that begin again, whose data folders must
        /// not be there yet
        #[arg(long, value_name = "NODE.TOML", num_args = 1.., required = true)]
        to: Vec<PathBuf>,
    },
}

pub(crate) async fn run(
    context: &mut Context<'_>,
    command: &SnapshotCommand,
) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Save { file } => save(context, file).await,
        SnapshotCommand::Status { file } => {
            let summary = context.local.snapshot_status(file)?;
            show(context, file, &summary)
        }
        SnapshotCommand::Restore { file, to } => restore(context, file, to),
    }
}

async fn save(context: &mut Context<'_>, file: &Path) -> Result<(), Failure> {
    let client = context.client()?;
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if file.exists() {
        return Err(exists(file));
    }
    let mut partial = tempfile::Builder::new()
        .prefix(".aegis-snapshot-")
        .tempfile_in(folder)
        .map_err(Failure::context(format!(
            "cannot write in {}",
            folder.display()
        )))?;
    receive(context, &client, &mut partial).await?;
    partial.as_file().sync_all().map_err(unwritten(file))?;
    // What was received is read back and checked before anyone can take it for a backup.
    let summary = context.local.snapshot_status(partial.path())?;
    partial.persist_noclobber(file).map_err(|error| {
        if error.error.kind() == std::io::ErrorKind::AlreadyExists {
            exists(file)
        } else {
            unwritten(file)(error.error)
        }
    })?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(unwritten(file))?;
    show(context, file, &summary)
}

/// Writes the snapshot as it comes, a piece at a time.
async fn receive(
    context: &mut Context<'_>,
    client: &Client,
    partial: &mut NamedTempFile,
) -> Result<(), Failure> {
    let mut stream = client.stream("/cluster/snapshot").await?;
    let len = stream.len();
    let endpoint = stream.endpoint.clone();
    let mut progress = context.console.progress("snapshot", len.unwrap_or(0));
    let mut received: u64 = 0;
    while let Some(piece) = stream.next().await? {
        let path = partial.path().to_owned();
        partial.write_all(&piece).map_err(unwritten(&path))?;
        received = received.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if len.is_some() {
            progress.at(received)?;
        }
    }
    match len {
        Some(len) if len != received => Err(Failure::say(
            Exit::Failed,
            format_args!("{endpoint} sent {received} of {len} bytes; nothing was saved"),
        )),
        _ => Ok(()),
    }
}

fn exists(file: &Path) -> Failure {
    Failure::say(
        Exit::Failed,
        format_args!("{} exists already and is never overwritten", file.display()),
    )
}

fn unwritten(file: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::context(format!("cannot write {}", file.display()))(error)
}

fn show(context: &mut Context<'_>, file: &Path, summary: &SnapshotSummary) -> Result<(), Failure> {
    if context.wants_json() {
        return context.console.json(summary);
    }
    context.console.line(render(file, summary))
}

fn render(file: &Path, summary: &SnapshotSummary) -> String {
    let mut lines = vec![
        format!("file         {}", file.display()),
        format!("cluster      {}", summary.cluster_id),
        format!("incarnation  {}", summary.incarnation),
        format!("index        {}", summary.index),
        format!("bytes        {}", summary.bytes),
        format!("digest       {}", summary.digest),
    ];
    let records = summary.records.iter();
    lines.extend(records.map(|(kind, count)| format!("  {kind:<18} {count}")));
    lines.join("\n")
}

fn restore(context: &mut Context<'_>, file: &Path, to: &[PathBuf]) -> Result<(), Failure> {
    let restored = context.local.restore(file, to)?;
    if context.wants_json() {
        return context.console.json(&restored);
    }
    let console = &mut context.console;
    console.line(format_args!(
        "Restored index {} as incarnation {} into:",
        restored.index, restored.incarnation
    ))?;
    for folder in &restored.folders {
        console.line(format_args!("  {}", folder.display()))?;
    }
    console.line("\nNodes of the incarnation before are refused from now on. Start these:")?;
    for config in to {
        console.line(format_args!("  aegis serve --config {}", config.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aegis_crypto::Digest;

    use super::*;

    #[test]
    fn a_summary_shows_index_counts_digest_and_size() {
        let summary = SnapshotSummary {
            cluster_id: Digest::ZERO,
            incarnation: 2,
            index: 7_001,
            bytes: 123_456,
            digest: Digest::of("x"),
            records: BTreeMap::from([("ballots".to_owned(), 6_960)]),
        };
        let text = render(Path::new("backup"), &summary);
        for shown in ["backup", "7001", "123456", "ballots            6960"] {
            assert!(text.contains(shown), "{text}");
        }
        assert!(text.contains(&Digest::of("x").to_string()));
    }
}
