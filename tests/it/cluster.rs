//! Real clusters for tests: real processes of the real binary, each node at a loopback
//! address of its own, so that tests run in parallel and a partition is a firewall rule.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use aegis_crypto::{Digest, Jwk, SecretKey, Typ, jws};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ballot::{Ballot, secret};

pub const BIN: &str = env!("CARGO_BIN_EXE_aegis");

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `probe` gives a value.
pub async fn eventually<T, F>(what: &str, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain until {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs the binary to its end and returns what it printed.
pub fn aegis(args: &[&str]) -> std::process::Output {
    let mut command = Command::new(BIN);
    command
        .args(args)
        .env_remove("AEGIS_ENDPOINT")
        .env_remove("AEGIS_TOKEN_FILE");
    command.output().expect("the binary runs")
}

/// Runs the binary, which must succeed.
pub fn aegis_ok(args: &[&str]) -> String {
    let output = aegis(args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "aegis {args:?}: {}\n{text}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// A client that gives up after `timeout`.
pub fn client(timeout: Duration) -> Client {
    // The first test of the process installs it; the others find it there.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().timeout(timeout).build().unwrap()
}

/// A network of loopback addresses that no other test uses.
fn fresh_network() -> [u8; 3] {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = u8::try_from(std::process::id() % 250).unwrap() + 1;
    [127, process, number]
}

/// A cluster whose nodes are processes.
pub struct Cluster {
    pub dir: TempDir,
    network: [u8; 3],
    nodes: BTreeMap<u64, Option<Child>>,
    pub http: Client,
    pub token: String,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.values_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for id in self.nodes.keys() {
                let log = std::fs::read_to_string(self.log(*id)).unwrap_or_default();
                let tail: Vec<_> = log
                    .lines()
                    .filter(|line| !line.contains("VOTE_CAST"))
                    .collect();
                eprintln!(
                    "--- node {id}\n{}",
                    tail[tail.len().saturating_sub(25)..].join("\n")
                );
            }
        }
    }
}

impl Cluster {
    /// Makes the files of a cluster; no node runs yet.
    pub fn init(nodes: u8) -> Self {
        Self::init_in(TempDir::new().unwrap(), nodes)
    }

    /// Three voters and a witness, each with a seat in the committee.
    pub fn init_with_committee() -> Self {
        Self::make(TempDir::new().unwrap(), 4, &["--committee"])
    }

    /// The same in a folder of the test's choice.
    pub fn init_in(dir: TempDir, nodes: u8) -> Self {
        let count = nodes.to_string();
        Self::make(dir, nodes, &["--nodes", &count])
    }

    fn make(dir: TempDir, nodes: u8, words: &[&str]) -> Self {
        let network = fresh_network();
        let data = dir.path().join("c");
        let hosts: Vec<String> = (1..=nodes)
            .map(|n| address(network, n.into()).to_string())
            .collect();
        let mut args = vec!["init", "--dir", data.to_str().unwrap()];
        args.extend(words);
        args.extend(hosts.iter().flat_map(|host| ["--host", host.as_str()]));
        aegis_ok(&args);
        let token = std::fs::read_to_string(data.join("operator/admin.token"))
            .unwrap()
            .trim()
            .to_owned();
        let http = client(Duration::from_secs(20));
        let nodes = (1..=u64::from(nodes)).map(|id| (id, None)).collect();
        Self {
            dir,
            network,
            nodes,
            http,
            token,
        }
    }

    /// Makes the files of one more node and returns its id.
    pub fn add_node(&mut self) -> u64 {
        let id = self.nodes.keys().next_back().unwrap() + 1;
        let (data, host, number) = (self.data(), self.ip(id).to_string(), id.to_string());
        // The nodes of this cluster have an address each, so each has the first ports.
        let words = [
            "init",
            "--add-node",
            "--dir",
            data.to_str().unwrap(),
            "--host",
            &host,
            "--id",
            &number,
        ];
        aegis_ok(&words);
        let config = self.node_dir(id).join("node.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let ports = [(8003, "api"), (8004, "peers"), (8006, "events")];
        let text = ports.iter().fold(text, |text, (port, _)| {
            let shifted = port + 10 * (u16::try_from(id).unwrap() - 1);
            text.replace(&format!(":{shifted}\""), &format!(":{port}\""))
        });
        std::fs::write(&config, text).unwrap();
        self.nodes.insert(id, None);
        id
    }

    /// A cluster that runs and has a leader.
    pub async fn start(nodes: u8) -> Self {
        let mut cluster = Self::init(nodes);
        cluster.start_all();
        cluster.ready().await;
        cluster
    }

    pub fn start_all(&mut self) {
        self.start_all_with(|_| {});
    }

    /// Starts every node with its command altered first.
    pub fn start_all_with(&mut self, alter: impl Fn(&mut Command)) {
        for id in self.ids() {
            self.start_with(id, &alter);
        }
    }

    pub fn start_node(&mut self, id: u64) {
        self.start_with(id, |_| {});
    }

    /// Starts a node whose command was altered first.
    pub fn start_with(&mut self, id: u64, alter: impl FnOnce(&mut Command)) {
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.log(id))
            .unwrap();
        let mut command = Command::new(BIN);
        command
            .args(["serve", "--config"])
            .arg(self.node_dir(id).join("node.toml"));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        alter(&mut command);
        // A test that is killed takes its nodes along.
        let command = command.process_group(0).gid(self.group(id));
        let child = command.spawn().unwrap();
        let before = self.nodes.insert(id, Some(child)).flatten();
        assert!(before.is_none(), "node {id} runs already");
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("c")
    }

    pub fn node_dir(&self, id: u64) -> PathBuf {
        self.data().join(format!("node-{id}"))
    }

    /// Waits until a node's log has `text`, and gives all of it: lines are written a moment
    /// after they are logged.
    pub async fn logged(&self, id: u64, text: &str) -> String {
        eventually(&format!("node {id} has logged {text:?}"), || {
            let log = read(&self.log(id));
            std::future::ready(log.contains(text).then_some(log))
        })
        .await
    }

    pub fn log(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node-{id}.log"))
    }

    pub fn ip(&self, id: u64) -> Ipv4Addr {
        address(self.network, id)
    }

    /// The group that a node's process runs as, which firewall rules tell it by.
    pub fn group(&self, id: u64) -> u32 {
        let [_, process, number] = self.network;
        0x1000_0000 | u32::from(process) << 16 | u32::from(number) << 8 | u32::try_from(id).unwrap()
    }

    pub fn root(&self, id: u64) -> String {
        format!("http://{}:8003", self.ip(id))
    }

    pub fn url(&self, id: u64, path: &str) -> String {
        format!("{}/api/v1/consensus{path}", self.root(id))
    }

    pub fn endpoints(&self) -> String {
        self.nodes
            .keys()
            .map(|id| self.root(*id))
            .collect::<Vec<_>>()
            .join(",")
    }

    pub fn token_file(&self) -> PathBuf {
        self.data().join("operator/admin.token")
    }

    /// Runs a command against this cluster as its administrator.
    pub fn cli(&self, args: &[&str]) -> std::process::Output {
        let mut command = Command::new(BIN);
        command
            .env("AEGIS_ENDPOINT", self.endpoints())
            .env("AEGIS_TOKEN_FILE", self.token_file());
        command.args(args).output().unwrap()
    }

    pub fn cli_ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "aegis {args:?}: {}\n{text}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub fn running(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .filter(|(_, child)| child.is_some())
            .map(|(id, _)| *id)
            .collect()
    }

    pub fn pid(&self, id: u64) -> u32 {
        self.nodes[&id].as_ref().expect("the node runs").id()
    }

    pub fn signal(&self, id: u64, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.pid(id).to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// `kill -9`, and the end of the process.
    pub fn kill(&mut self, id: u64) {
        let mut child = self
            .nodes
            .get_mut(&id)
            .unwrap()
            .take()
            .expect("the node runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// `kill -9` of every node before any of them is waited for.
    pub fn kill_all(&mut self) {
        for id in self.running() {
            self.signal(id, "-KILL");
        }
        for id in self.running() {
            self.kill(id);
        }
    }

    /// Whether a node's process goes on.
    pub fn is_alive(&mut self, id: u64) -> bool {
        let child = self.nodes.get_mut(&id).unwrap();
        child
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Waits for the end of a process that was told to end, or ends itself.
    pub async fn ended(&mut self, id: u64) -> ExitStatus {
        let mut child = self
            .nodes
            .get_mut(&id)
            .unwrap()
            .take()
            .expect("the node runs");
        eventually("the process ends", || {
            std::future::ready(child.try_wait().unwrap())
        })
        .await
    }

    /// SIGTERM, and the orderly end.
    pub async fn stop(&mut self, id: u64) {
        self.signal(id, "-TERM");
        let status = self.ended(id).await;
        assert!(status.success(), "node {id} did not stop well: {status}");
    }

    /// Waits until every running node is ready.
    pub async fn ready(&self) {
        for id in self.running() {
            self.node_ready(id).await;
        }
    }

    pub async fn node_ready(&self, id: u64) {
        let url = format!("{}/readyz", self.root(id));
        eventually(&format!("node {id} is ready"), || async {
            let answer = self.http.get(&url).send().await.ok()?;
            (answer.status() == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Waits until the leader has noticed that a member does not answer.
    pub async fn knows_silent(&self, leader: u64) {
        eventually("the leader knows that a node is silent", || async {
            let status = self.status(leader).await?;
            let members = status["members"].as_array()?;
            members
                .iter()
                .any(|member| member["state"] == "silent")
                .then_some(())
        })
        .await;
    }

    pub async fn status(&self, id: u64) -> Option<Value> {
        self.http
            .get(self.url(id, "/status?consistency=stale"))
            .send()
            .await
            .ok()?
            .json()
            .await
            .ok()
    }

    /// The leader that a majority of the running nodes names.
    pub async fn leader(&self) -> u64 {
        eventually("a majority knows one leader", || async {
            let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
            for id in self.running() {
                if let Some(leader) = self
                    .status(id)
                    .await
                    .and_then(|status| status["leader"].as_u64())
                {
                    *votes.entry(leader).or_default() += 1;
                }
            }
            let (leader, count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
            (count * 2 > self.nodes.len()).then_some(leader)
        })
        .await
    }

    pub async fn get(&self, id: u64, path: &str) -> (StatusCode, Value) {
        let answer = self
            .http
            .get(self.url(id, path))
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// A request to a node's API by the administrator, to be completed and sent.
    pub fn request(&self, method: Method, id: u64, path: &str) -> RequestBuilder {
        self.http
            .request(method, self.url(id, path))
            .bearer_auth(&self.token)
    }

    /// Writes under an idempotency key.
    pub async fn post_keyed(&self, id: u64, path: &str, key: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, id, path);
        Answer::to(request.header("idempotency-key", key).json(body)).await
    }

    /// What a node shows of a series now, for example `aegis_term` or
    /// `aegis_votes_total{answer="for"}`.
    pub async fn metric(&self, id: u64, series: &str) -> Option<f64> {
        let url = format!("{}/metrics", self.root(id));
        let text = self.http.get(url).send().await.ok()?.text().await.ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a node shows a value of a series.
    pub async fn metric_is(&self, id: u64, series: &str, expected: f64) {
        eventually(
            &format!("{series} of node {id} is {expected}"),
            async || {
                let value = self.metric(id, series).await?;
                ((value - expected).abs() < 0.5).then_some(())
            },
        )
        .await;
    }

    /// Waits until a proposal stands in a status, as a node sees it without asking others.
    pub async fn proposal_is(&self, id: u64, proposal: &str, status: &str) -> Value {
        let path = format!("/proposals/{proposal}?consistency=stale");
        eventually(
            &format!("{proposal} is {status} on node {id}"),
            async || {
                let (_, body) = self.get(id, &path).await;
                (body["status"] == status).then_some(body)
            },
        )
        .await
    }

    /// Asks for something beside the API: health, metrics.
    pub async fn get_root(&self, id: u64, path: &str) -> (StatusCode, Value) {
        let answer = self
            .http
            .get(format!("{}{path}", self.root(id)))
            .send()
            .await
            .unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    pub async fn post(&self, id: u64, path: &str, body: &Value) -> (StatusCode, Value) {
        let answer = self
            .http
            .post(self.url(id, path))
            .bearer_auth(&self.token)
            .json(body)
            .send()
            .await
            .unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Registers agents `a1` to `a<count>`, each with the key of its number and with the
    /// registrar's attestation.
    pub async fn attest(&self, count: u32) {
        let registrar = read(&self.data().join("operator/registrar.pem"));
        let registrar = SecretKey::from_pem(&registrar).unwrap();
        let genesis = std::fs::read(self.data().join("genesis.json")).unwrap();
        let aud = Digest::of(genesis);
        let agents: Vec<_> = (1..=count)
            .map(|n| {
                let jwk = Jwk::from(secret(n).public());
                let claims = json!({"aud": aud, "agent_id": format!("a{n}"), "type": "llm", "weight": 1, "jwk": jwk});
                let sign = |key| jws::sign(Typ::REGISTRATION, key, &claims).unwrap();
                json!({"agent_id": format!("a{n}"), "name": format!("Agent {n}"), "type": "llm", "public_key": jwk,
                       "attestation": sign(&registrar), "proof": sign(&secret(n))})
            })
            .collect();
        for batch in agents.chunks(64) {
            let (status, body) = self
                .post(1, "/agents/batch", &json!({"agents": batch}))
                .await;
            assert_eq!(status, StatusCode::OK, "{body}");
            for result in body["results"].as_array().unwrap() {
                assert_eq!(result["status"], 201, "{result}");
            }
        }
    }

    /// Registers agents `a1` to `a<count>`, each with the key of its number.
    pub async fn register(&self, node: u64, count: u32) {
        let agents: Vec<_> = (1..=count)
            .map(|n| {
                let jwk = Jwk::from(secret(n).public());
                json!({"agent_id": format!("a{n}"), "name": format!("Agent {n}"), "type": "llm", "public_key": jwk})
            })
            .collect();
        for batch in agents.chunks(256) {
            let (status, body) = self
                .post(node, "/agents/batch", &json!({"agents": batch}))
                .await;
            assert_eq!(status, StatusCode::OK, "{body}");
            for result in body["results"].as_array().unwrap() {
                assert!(
                    [201, 409].contains(&result["status"].as_u64().unwrap()),
                    "{result}"
                );
            }
        }
    }

    /// Opens a decision and returns its id and what its voters sign.
    pub async fn propose(&self, node: u64, title: &str) -> Ballot {
        let document = json!({"title": title, "description": "", "type": "decision", "content": {}, "open": true});
        let (status, body) = self.post(node, "/proposals", &document).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        self.ballot(node, body["proposal_id"].as_str().unwrap())
            .await
    }

    pub async fn ballot(&self, node: u64, proposal: &str) -> Ballot {
        let (status, body) = self
            .get(node, &format!("/proposals/{proposal}/ballot"))
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
        Ballot {
            aud: body["aud"].as_str().unwrap().parse().unwrap(),
            proposal: proposal.to_owned(),
            digest: body["digest"].as_str().unwrap().parse().unwrap(),
        }
    }

    pub async fn results(&self, node: u64, proposal: &str) -> Value {
        let (status, body) = self
            .get(node, &format!("/proposals/{proposal}/results"))
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// Every node's state digest, once all have applied the same entries.
    pub async fn assert_states_agree(&self) {
        eventually("every node has applied the same entries", || async {
            let mut positions = Vec::new();
            for id in self.running() {
                positions.push(self.status(id).await?["applied_index"].as_u64()?);
            }
            positions
                .windows(2)
                .all(|pair| pair[0] == pair[1])
                .then_some(())
        })
        .await;
        let mut digests = BTreeMap::new();
        for id in self.running() {
            let file = self.dir.path().join(format!("state-{id}.snap"));
            let endpoint = self.root(id);
            let path = file.to_str().unwrap();
            let _ = std::fs::remove_file(&file);
            self.cli_ok(&["--endpoint", &endpoint, "snapshot", "save", path]);
            let summary: Value =
                serde_json::from_str(&aegis_ok(&["-o", "json", "snapshot", "status", path]))
                    .unwrap();
            digests.insert(id, (summary["index"].clone(), summary["digest"].clone()));
        }
        let first = digests.values().next().unwrap();
        assert!(
            digests.values().all(|digest| digest == first),
            "states differ: {digests:?}"
        );
    }
}

fn address([a, b, c]: [u8; 3], node: u64) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, u8::try_from(node).unwrap())
}

/// An answer with its headers.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The answer to a request, which must be JSON.
    pub async fn to(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        Self {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: answer.json().await.unwrap(),
        }
    }

    /// A refusal that goes away by itself says when to come back, in whole seconds.
    pub fn assert_retry(&self, status: StatusCode, code: &str) {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.body
        );
        let after = self.headers["retry-after"].to_str().unwrap();
        assert!((1..=60).contains(&after.parse::<u32>().unwrap()), "{after}");
    }
}

/// The text of a file.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
