//! Clients that submit without pause, and what became of their commands.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aegis_raft::{RaftNode, SubmitError};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, eventually};
use crate::journal;

/// Clients at work.
pub struct Load {
    clients: JoinSet<()>,
    shared: Arc<Shared>,
}

struct Shared {
    nodes: Vec<Arc<RaftNode>>,
    stop: AtomicBool,
    done: AtomicU64,
    report: Mutex<Report>,
    padding: usize,
}

/// What became of the commands of a load.
#[derive(Default)]
pub struct Report {
    /// Commands that were acknowledged, with their numbers in the journal.
    pub acknowledged: BTreeMap<String, u64>,
    /// Commands that failed.
    pub failed: Vec<(String, SubmitError)>,
}

impl Load {
    /// Starts `clients` clients, spread over `numbers`. A client whose node is stopping goes
    /// on to the next one, as it would when its connection is closed.
    pub fn start(cluster: &Cluster, numbers: &[u64], clients: usize) -> Self {
        Self::start_padded(cluster, numbers, clients, 0)
    }

    /// The same, with commands of `padding` bytes more.
    pub fn start_padded(
        cluster: &Cluster,
        numbers: &[u64],
        clients: usize,
        padding: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            nodes: numbers
                .iter()
                .map(|number| Arc::clone(cluster.raft(*number)))
                .collect(),
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
            report: Mutex::default(),
            padding,
        });
        let mut set = JoinSet::new();
        for client in 0..clients {
            set.spawn(submit(client, Arc::clone(&shared)));
        }
        Self {
            clients: set,
            shared,
        }
    }

    /// Waits until `count` more commands were acknowledged.
    pub async fn progress(&self, count: u64) {
        let goal = self.shared.done.load(Ordering::Relaxed) + count;
        eventually("progress of the load", async || {
            (self.shared.done.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }

    /// Lets every client finish what it began.
    pub async fn finish(self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        std::mem::take(&mut *self.shared.report.lock().unwrap())
    }
}

/// Letters that do not compress to nothing.
fn padding(seed: u64, length: usize) -> String {
    let mut state = seed;
    let mut letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
    };
    (0..length).map(|_| letter()).collect()
}

async fn submit(client: usize, shared: Arc<Shared>) {
    let mut node = client;
    for round in 0_u64.. {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let command = format!("{client}-{round}-{}", padding(round, shared.padding));
        let payload = Bytes::from(command.clone().into_bytes());
        loop {
            match shared.nodes[node % shared.nodes.len()]
                .submit(payload.clone())
                .await
            {
                Ok(committed) => {
                    let number = journal::number(&committed.answer);
                    shared
                        .report
                        .lock()
                        .unwrap()
                        .acknowledged
                        .insert(command, number);
                    shared.done.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(SubmitError::Stopping) => node += 1,
                Err(error) => {
                    shared.report.lock().unwrap().failed.push((command, error));
                    break;
                }
            }
        }
    }
}

impl Report {
    /// Every acknowledged command stands in `journal`, at the number that was answered, and
    /// nothing stands there twice.
    pub fn check(&self, journal: &[String]) {
        for (command, number) in &self.acknowledged {
            let place = usize::try_from(*number).unwrap() - 1;
            assert_eq!(journal.get(place), Some(command), "the journal at {number}");
        }
        let mut sorted: Vec<_> = journal.iter().collect();
        sorted.sort();
        sorted.dedup();
        assert_eq!(
            sorted.len(),
            journal.len(),
            "commands stand in the journal twice"
        );
    }
}
