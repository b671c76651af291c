//! The nodes of the demonstration: child processes of this one, in its process group, so
//! that Ctrl-C reaches them all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{pending, select_all};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::failure::{Exit, Failure};
use crate::folder::ClusterFolder;

/// How long a node may take to stop when it is asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a log's end is looked at, in bytes, and how many lines of it are shown.
const TAIL_BYTES: u64 = 16 * 1024;
const TAIL_LINES: usize = 12;

/// A node that runs here.
struct Node {
    id: u64,
    pid: Pid,
    child: Child,
    log: PathBuf,
    config: PathBuf,
}

/// A node that ended although nobody asked it to.
pub(crate) struct Ended {
    pub(crate) id: u64,
    pub(crate) config: PathBuf,
    status: ExitStatus,
    log: PathBuf,
    tail: String,
}

impl Ended {
    /// What became of it, in one line.
    pub(crate) fn how(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("node {} exited with code {code}", self.id),
            (None, Some(signal)) => format!("node {} was killed by signal {signal}", self.id),
            (None, None) => format!("node {} ended: {}", self.id, self.status),
        }
    }

    /// The same as a failure, with the end of its log.
    pub(crate) fn failure(&self) -> Failure {
        Failure::say(Exit::Failed, self.how()).advise(format_args!(
            "the end of {}:\n{}",
            self.log.display(),
            self.tail
        ))
    }
}

/// The nodes that run.
pub(crate) struct Nodes(Vec<Node>);

impl Nodes {
    /// Starts a process of this binary for each node.
    pub(crate) fn start(folder: &ClusterFolder, ids: &[u64]) -> Result<Self, Failure> {
        let binary = std::env::current_exe()
            .map_err(Failure::context("cannot find the file of this program"))?;
        ids.iter()
            .map(|id| Node::start(&binary, folder, *id))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The process of a node, while it runs.
    pub(crate) fn pid(&self, id: u64) -> Option<i32> {
        let node = self.0.iter().find(|node| node.id == id)?;
        Some(node.pid.as_raw_nonzero().get())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Completes when a node ends by itself, and forgets it; never if none runs.
    pub(crate) async fn ended(&mut self) -> Result<Ended, Failure> {
        if self.0.is_empty() {
            return pending().await;
        }
        let waits = self.0.iter_mut().map(|node| node.child.wait().boxed());
        let (status, position, _) = select_all(waits).await;
        let node = self.0.remove(position);
        Ok(Ended {
            id: node.id,
            status: status.map_err(Failure::context(format!(
                "cannot wait for node {}",
                node.id
            )))?,
            tail: tail(&node.log),
            log: node.log,
            config: node.config,
        })
    }

    /// Asks every node to stop and waits until all have; one that does not is killed.
    pub(crate) async fn stop(mut self) -> Result<Vec<u64>, Failure> {
        for node in &mut self.0 {
            // A child that was waited for has no process any more, and its number may be
            // another's.
            if node.child.id().is_some() {
                ask_to_stop(node)?;
            }
        }
        let mut killed = Vec::new();
        for node in &mut self.0 {
            let stopped = tokio::time::timeout(STOP_TIMEOUT, node.child.wait()).await;
            let lost = Failure::context(format!("cannot wait for node {}", node.id));
            match stopped {
                Ok(status) => status.map(|_| ()).map_err(lost)?,
                Err(_) => {
                    node.child.kill().await.map_err(lost)?;
                    killed.push(node.id);
                }
            }
        }
        Ok(killed)
    }
}

impl Node {
    fn start(binary: &Path, folder: &ClusterFolder, id: u64) -> Result<Self, Failure> {
        let (config, log) = (folder.node_config(id), folder.node(id).join("aegis.log"));
        let starting = || format!("cannot start node {id}");
        let file = open_log(&log).map_err(Failure::context(starting()))?;
        let copy = file.try_clone().map_err(Failure::context(starting()))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&config);
        // What would set the same key of all nodes is meant for none of them.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"AEGIS_") {
                command.env_remove(name);
            }
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .kill_on_drop(true)
            .spawn()
            .map_err(Failure::context(starting()))?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self {
            id,
            pid: pid.expect("a child that was not waited for has a number"),
            child,
            log,
            config,
        })
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn ask_to_stop(node: &Node) -> Result<(), Failure> {
    match kill_process(node.pid, Signal::TERM) {
        // It ended just now.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(Failure::context(format!("cannot stop node {}", node.id))(
            error,
        )),
    }
}

/// The last lines of a log, or why there are none.
fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    match read() {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("  (cannot be read: {error})"),
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES));
    let shown: Vec<String> = shown
        .map(|line| format!("  {}", crate::console::plain(line)))
        .collect();
    if shown.is_empty() {
        "  (it is empty)".to_owned()
    } else {
        shown.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_short() {
        let text: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let shown = last_lines(&text);
        assert_eq!(shown.lines().count(), TAIL_LINES);
        assert!(shown.starts_with("  line 88\n") && shown.ends_with("  line 99"));
        assert_eq!(last_lines(""), "  (it is empty)");
        assert!(tail(Path::new("/nowhere/log")).contains("cannot be read"));
    }

    #[test]
    fn an_end_is_told_as_it_was() {
        let ended = |raw: i32| Ended {
            id: 2,
            config: PathBuf::new(),
            status: ExitStatus::from_raw(raw),
            log: "aegis.log".into(),
            tail: "  last words".into(),
        };
        assert_eq!(ended(9).how(), "node 2 was killed by signal 9");
        assert_eq!(ended(3 << 8).how(), "node 2 exited with code 3");
        let text = ended(9).failure().to_string();
        assert!(
            text.ends_with("the end of aegis.log:\n  last words"),
            "{text}"
        );
    }
}
