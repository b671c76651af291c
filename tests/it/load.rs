//! Voters who do not give up: the load under which things are broken.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::ballot::Ballot;
use crate::cluster::{Cluster, client};

/// Whether a voter repeats a request that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It tries the next node, with the same signed bytes, until one answers.
    Repeat,
    /// It gives up, and the failure is counted.
    Count,
}

/// Voters at work.
pub struct Load {
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
}

struct Shared {
    urls: Vec<String>,
    http: Client,
    acknowledged: Mutex<BTreeMap<String, String>>,
    failures: Mutex<Vec<String>>,
    gaps: Mutex<Gaps>,
    stop: AtomicBool,
    cast: AtomicUsize,
}

struct Gaps {
    last: Instant,
    longest: Duration,
}

/// What came of a load.
pub struct Outcome {
    /// The vote id of each acknowledged ballot, by `proposal/voter`.
    pub acknowledged: BTreeMap<String, String>,
    /// Requests that failed.
    pub failures: Vec<String>,
    /// The longest time without any acknowledgement.
    pub longest_gap: Duration,
}

impl Load {
    /// Lets `workers` cast one ballot of each voter on each proposal, over all nodes, until
    /// they are through or told to stop.
    pub fn start(
        cluster: &Cluster,
        ballots: &[Ballot],
        voters: u32,
        workers: u32,
        on_failure: OnFailure,
    ) -> Self {
        Self::start_at(
            cluster,
            &cluster.ids(),
            ballots,
            voters,
            workers,
            on_failure,
        )
    }

    /// The same over some of the nodes.
    pub fn start_at(
        cluster: &Cluster,
        nodes: &[u64],
        ballots: &[Ballot],
        voters: u32,
        workers: u32,
        on_failure: OnFailure,
    ) -> Self {
        let shared = Arc::new(Shared {
            urls: nodes.iter().map(|id| cluster.url(*id, "/votes")).collect(),
            http: client(Duration::from_secs(12)),
            acknowledged: Mutex::default(),
            failures: Mutex::default(),
            gaps: Mutex::new(Gaps {
                last: Instant::now(),
                longest: Duration::ZERO,
            }),
            stop: AtomicBool::new(false),
            cast: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        for worker in 0..workers {
            let (shared, ballots) = (Arc::clone(&shared), ballots.to_vec());
            tasks.spawn(async move {
                for (turn, ballot) in ballots.iter().enumerate() {
                    for voter in (1..=voters).filter(|voter| voter % workers == worker) {
                        if shared.stop.load(Ordering::Relaxed) {
                            return;
                        }
                        shared
                            .cast(ballot, voter, turn + voter as usize, on_failure)
                            .await;
                    }
                }
            });
        }
        Self { tasks, shared }
    }

    /// Waits until so many ballots are acknowledged.
    pub async fn reached(&self, count: usize) {
        crate::cluster::eventually(&format!("{count} ballots are acknowledged"), || {
            std::future::ready((self.shared.cast.load(Ordering::Relaxed) >= count).then_some(()))
        })
        .await;
    }

    /// Ballots acknowledged so far.
    pub fn count(&self) -> usize {
        self.shared.cast.load(Ordering::Relaxed)
    }

    /// Waits until every voter is through.
    pub async fn finish(mut self) -> Outcome {
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let shared = Arc::into_inner(self.shared).unwrap();
        Outcome {
            acknowledged: shared.acknowledged.into_inner().unwrap(),
            failures: shared.failures.into_inner().unwrap(),
            longest_gap: shared.gaps.into_inner().unwrap().longest,
        }
    }

    /// Lets every voter finish the request at hand, and no more.
    pub async fn stop(self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }
}

impl Shared {
    async fn cast(&self, ballot: &Ballot, voter: u32, mut node: usize, on_failure: OnFailure) {
        let choice = ["for", "against", "abstain"][voter as usize % 3];
        let body = ballot.vote(voter, choice);
        let began = Instant::now();
        loop {
            let url = &self.urls[node % self.urls.len()];
            let failure = match self.http.post(url).json(&body).send().await {
                Err(error) => format!("{url}: {error:?}"),
                Ok(answer) => match (answer.status(), answer.json::<Value>().await) {
                    (StatusCode::CREATED | StatusCode::OK, Ok(body)) => {
                        return self.acknowledge(ballot, voter, body["vote_id"].as_str().unwrap());
                    }
                    (status, body) => format!("{url}: {status} {body:?}"),
                },
            };
            if on_failure == OnFailure::Count {
                self.failures.lock().unwrap().push(failure);
                return;
            }
            assert!(
                began.elapsed() < crate::cluster::PATIENCE,
                "a ballot was never taken: {failure}"
            );
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            node += 1;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    fn acknowledge(&self, ballot: &Ballot, voter: u32, vote: &str) {
        let mut gaps = self.gaps.lock().unwrap();
        gaps.longest = gaps.longest.max(gaps.last.elapsed());
        gaps.last = Instant::now();
        drop(gaps);
        self.acknowledged
            .lock()
            .unwrap()
            .insert(format!("{}/{voter}", ballot.proposal), vote.to_owned());
        self.cast.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every acknowledged ballot is there, once, under the id that was answered, and nothing
/// else is counted.
pub async fn assert_nothing_lost(
    cluster: &Cluster,
    node: u64,
    outcome: &Outcome,
    ballots: &[Ballot],
) {
    let mut found = BTreeMap::new();
    for ballot in ballots {
        let mut cursor = String::new();
        loop {
            let path = format!("/proposals/{}/votes?limit=1000{cursor}", ballot.proposal);
            let (status, page) = cluster.get(node, &path).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            for vote in page["votes"].as_array().unwrap() {
                let voter = vote["voter"].as_str().unwrap().trim_start_matches('a');
                let key = format!("{}/{voter}", ballot.proposal);
                let before =
                    found.insert(key.clone(), vote["vote_id"].as_str().unwrap().to_owned());
                assert_eq!(before, None, "{key} was counted twice");
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let results = cluster.results(node, &ballot.proposal).await;
        let listed = found
            .keys()
            .filter(|key| key.starts_with(&format!("{}/", ballot.proposal)))
            .count();
        assert_eq!(
            results["results"]["total_votes"].as_u64(),
            Some(listed as u64)
        );
    }
    for (key, vote) in &outcome.acknowledged {
        assert_eq!(
            found.get(key),
            Some(vote),
            "the acknowledged ballot {key} is lost"
        );
    }
}
