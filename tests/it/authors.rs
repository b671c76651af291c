//! Authors who do not give up: proposals under idempotency keys, while things are broken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::ballot::uuid;
use crate::cluster::{Cluster, PATIENCE, client};

/// Authors at work, each with one proposal after the other.
pub struct Authors {
    tasks: JoinSet<Submitted>,
    shared: Arc<Shared>,
}

struct Shared {
    urls: Vec<String>,
    token: String,
    http: Client,
    stop: AtomicBool,
}

/// What authors submitted.
#[derive(Default)]
pub struct Submitted {
    /// The id of each acknowledged proposal, by its title, which no two share.
    acknowledged: BTreeMap<String, String>,
    /// Titles whose fate was never told.
    unanswered: Vec<String>,
}

impl Authors {
    /// Lets so many authors submit drafts to all nodes in turn until they are told to stop.
    pub fn start(cluster: &Cluster, authors: usize) -> Self {
        let shared = Arc::new(Shared {
            urls: cluster
                .ids()
                .into_iter()
                .map(|id| cluster.url(id, "/proposals"))
                .collect(),
            token: cluster.token.clone(),
            http: client(Duration::from_secs(12)),
            stop: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        for author in 0..authors {
            let shared = Arc::clone(&shared);
            tasks.spawn(async move { shared.work(author).await });
        }
        Self { tasks, shared }
    }

    /// Lets every author finish the request at hand, and no more.
    pub async fn stop(self) -> Submitted {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Submitted::default();
        for submitted in self.tasks.join_all().await {
            all.acknowledged.extend(submitted.acknowledged);
            all.unanswered.extend(submitted.unanswered);
        }
        all
    }
}

impl Shared {
    async fn work(&self, author: usize) -> Submitted {
        let mut submitted = Submitted::default();
        let mut node = author;
        while !self.stop.load(Ordering::Relaxed) {
            node += 1;
            let title = uuid();
            match self.submit(&title, node).await {
                Some(id) => drop(submitted.acknowledged.insert(title, id)),
                None => submitted.unanswered.push(title),
            }
        }
        submitted
    }

    /// Repeats one request at one node after the other, under the same key, until a node
    /// answers or the author is told to stop.
    async fn submit(&self, title: &str, mut node: usize) -> Option<String> {
        let document =
            json!({"title": title, "description": "", "type": "decision", "content": {}});
        let began = Instant::now();
        loop {
            let url = &self.urls[node % self.urls.len()];
            let request = self
                .http
                .post(url)
                .bearer_auth(&self.token)
                .header("idempotency-key", title)
                .json(&document);
            let failure = match request.send().await {
                Err(error) => format!("{url}: {error:?}"),
                Ok(answer) => match (answer.status(), answer.json::<Value>().await) {
                    (StatusCode::CREATED, Ok(body)) => {
                        return Some(body["proposal_id"].as_str().unwrap().to_owned());
                    }
                    (status, body) => format!("{url}: {status} {body:?}"),
                },
            };
            assert!(
                began.elapsed() < PATIENCE,
                "a proposal was never taken: {failure}"
            );
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            node += 1;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

impl Submitted {
    /// How many proposals were acknowledged.
    pub fn count(&self) -> usize {
        self.acknowledged.len()
    }

    /// Every acknowledged proposal is there once, under the id that was answered, and
    /// nothing is there that nobody submitted.
    pub async fn assert_nothing_lost(&self, cluster: &Cluster, node: u64) {
        let mut found = BTreeMap::new();
        for (id, title) in drafts(cluster, node).await {
            let before = found.insert(title.clone(), id);
            assert_eq!(
                before, None,
                "{title} was submitted once and is there twice"
            );
            assert!(
                self.acknowledged.contains_key(&title) || self.unanswered.contains(&title),
                "nobody submitted {title}"
            );
        }
        for (title, id) in &self.acknowledged {
            assert_eq!(
                found.get(title),
                Some(id),
                "the acknowledged proposal {title} is lost"
            );
        }
    }
}

/// All drafts, as pairs of id and title.
async fn drafts(cluster: &Cluster, node: u64) -> Vec<(String, String)> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/proposals?status=draft&limit=1000{cursor}");
        let (status, page) = cluster.get(node, &path).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let proposals = page["proposals"].as_array().unwrap();
        found.extend(
            proposals
                .iter()
                .map(|proposal| (text(&proposal["proposal_id"]), text(&proposal["title"]))),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}
