//! A real Prometheus scrapes a real cluster with the configuration that ships: every panel
//! of every dashboard gets an answer, every rule evaluates, and none cries wolf.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, eventually};
use crate::monitoring::{panel_queries, project};

/// Voters; with three of them a proposal is decided at once when all have voted.
const VOTERS: u32 = 3;
/// The address of Prometheus in the network of a test's cluster, where no node is.
const PROMETHEUS: u64 = 99;

/// A Prometheus process with its data.
struct Prometheus {
    process: Child,
    base: String,
    http: Client,
    _data: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It holds nothing worth keeping; an error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Starts one with `config/prometheus/local.yml`, its targets and intervals replaced.
    fn start(cluster: &Cluster) -> Self {
        let data = TempDir::new().unwrap();
        let shipped = project("config/prometheus");
        let mut config = fs::read_to_string(shipped.join("local.yml")).unwrap();
        config = config.replace(": 5s", ": 1s");
        for (id, target) in cluster.ids().into_iter().zip(["8003", "8013", "8023"]) {
            let before = format!("127.0.0.1:{target}");
            assert!(
                config.contains(&before),
                "local.yml does not scrape {before}"
            );
            config = config.replace(&before, &format!("{}:8003", cluster.ip(id)));
        }
        let file = data.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        fs::copy(shipped.join("alerts.yml"), data.path().join("alerts.yml")).unwrap();
        let listen = format!("{}:9090", cluster.ip(PROMETHEUS));
        let process = spawn(&file, data.path(), &listen);
        Self {
            process,
            base: format!("http://{listen}"),
            http: cluster.http.clone(),
            _data: data,
        }
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let answer = self
            .http
            .get(format!("{}{path}", self.base))
            .send()
            .await
            .ok()?;
        answer.json().await.ok()
    }

    /// The values that a query has now, one for each series.
    async fn query(&self, expr: &str) -> Vec<f64> {
        let url = format!("{}/api/v1/query?query={}", self.base, percent_encoded(expr));
        let answer: Value = self
            .http
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(answer["status"], "success", "{expr}: {answer}");
        let series = answer["data"]["result"].as_array().unwrap();
        series
            .iter()
            .map(|series| series["value"][1].as_str().unwrap().parse().unwrap())
            .collect()
    }
}

fn spawn(config: &Path, data: &Path, listen: &str) -> Child {
    let log = fs::File::create(data.join("log")).unwrap();
    Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            data.join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={listen}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("prometheus runs; `make test-deps` installs it")
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// One proposal after another is approved and rejected, and somebody tries to vote twice.
async fn decide(cluster: &Cluster, number: usize) {
    let node = u64::try_from(number % 3).unwrap() + 1;
    let ballot = cluster.propose(node, &format!("Proposal {number}")).await;
    let choice = if number.is_multiple_of(2) {
        "for"
    } else {
        "against"
    };
    for voter in 1..VOTERS {
        let (status, body) = cluster
            .post(node, "/votes", &ballot.vote(voter, choice))
            .await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    let (status, body) = cluster
        .post(node, "/votes", &ballot.vote(1, "abstain"))
        .await;
    assert_eq!(
        (status, &body["code"]),
        (StatusCode::CONFLICT, &json!("already_voted"))
    );
    let (status, body) = cluster
        .post(node, "/votes", &ballot.vote(VOTERS, choice))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
}

/// Decides until `query` has an answer that a panel can draw.
async fn answered(
    cluster: &Cluster,
    prometheus: &Prometheus,
    place: &str,
    expr: &str,
    decisions: &mut usize,
) {
    let mut left = 100;
    loop {
        if prometheus
            .query(expr)
            .await
            .iter()
            .any(|value| value.is_finite())
        {
            return;
        }
        assert!(left > 0, "{place} shows nothing: {expr}");
        left -= 1;
        *decisions += 1;
        decide(cluster, *decisions).await;
        scraped_again(prometheus).await;
    }
}

/// Waits for the next scrape of all nodes.
async fn scraped_again(prometheus: &Prometheus) {
    let scrapes = async || {
        let targets = prometheus.get("/api/v1/targets").await?;
        let targets = targets["data"]["activeTargets"].as_array()?.clone();
        let up = targets.iter().all(|target| target["health"] == "up");
        let times = targets
            .iter()
            .map(|target| target["lastScrape"].to_string())
            .collect::<Vec<_>>();
        (up && times.len() == 3).then_some(times)
    };
    let before = eventually("Prometheus has scraped every node", &scrapes).await;
    eventually("Prometheus scrapes every node again", async || {
        let now = scrapes().await?;
        before
            .iter()
            .zip(&now)
            .all(|(before, now)| before != now)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_shows_something_and_no_alert_cries_wolf() {
    let cluster = Cluster::start(3).await;
    cluster.register(1, VOTERS).await;
    let prometheus = Prometheus::start(&cluster);
    scraped_again(&prometheus).await;
    let mut decisions = 0;
    for query in panel_queries() {
        answered(
            &cluster,
            &prometheus,
            &query.place,
            &query.expr,
            &mut decisions,
        )
        .await;
    }

    let reached = prometheus.query("consensus_achieved_total").await;
    assert_eq!(reached.len(), 3, "every node counts");
    eventually("every node has counted every decision once", async || {
        let counted = prometheus.query("consensus_achieved_total").await;
        let expected = f64::from(u32::try_from(decisions).unwrap());
        counted
            .iter()
            .all(|count| (count - expected).abs() < 0.5)
            .then_some(())
    })
    .await;

    let rules = prometheus.get("/api/v1/rules").await.unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules: Vec<_> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    assert!(rules.len() > 10, "{rules:?}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        // What is pending may be the machine's doing: a disk that other programs fill.
        assert_ne!(rule["state"], "firing", "a healthy cluster alerts: {rule}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_serves_is_what_prometheus_expects() {
    let cluster = Cluster::start(1).await;
    cluster.register(1, VOTERS).await;
    decide(&cluster, 0).await;
    let answer = cluster
        .http
        .get(format!("{}/metrics", cluster.root(1)))
        .send()
        .await
        .unwrap();
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("text/plain"), "{kind}");
    let text = answer.text().await.unwrap();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs; `make test-deps` installs it");
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

async fn has_leader(cluster: &Cluster, node: u64, expected: f64) {
    cluster.metric_is(node, "aegis_has_leader", expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_does_not_claim_a_leader_that_is_gone() {
    let mut cluster = Cluster::start(3).await;
    for id in cluster.ids() {
        has_leader(&cluster, id, 1.0).await;
    }
    let leader = cluster.leader().await;
    let survivor = leader % 3 + 1;
    let gone: Vec<_> = cluster
        .ids()
        .into_iter()
        .filter(|id| *id != survivor)
        .collect();
    for id in &gone {
        cluster.kill(*id);
    }
    has_leader(&cluster, survivor, 0.0).await;
    cluster.start_node(gone[0]);
    has_leader(&cluster, survivor, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_followers_is_none() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    has_leader(&cluster, leader, 1.0).await;
    for id in cluster.ids().into_iter().filter(|id| *id != leader) {
        cluster.kill(id);
    }
    has_leader(&cluster, leader, 0.0).await;
    let answering = cluster.metric(leader, "aegis_voters_answering").await;
    assert_eq!(answering, Some(1.0));
}
