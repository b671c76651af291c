//! A committee of real nodes: what operators, authors and auditors type, from the first
//! certificate to another key for a seat.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{BIN, aegis, aegis_ok, eventually};

/// An address that the clusters of the other tests do not use.
fn host() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("127.{}.253.{number}", std::process::id() % 250 + 1)
}

/// Three voters and a witness, each with a seat.
struct Four {
    dir: TempDir,
    host: String,
    nodes: Vec<Option<Child>>,
}

impl Drop for Four {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Four {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = host();
        let data = dir.path().join("c");
        let words = ["init", "--committee", "--host", &host, "--dir"];
        let told = aegis_ok(&[&words[..], &[data.to_str().unwrap()]].concat());
        assert!(told.contains("tolerates 1 liar (n = 4, f = 1)"), "{told}");
        assert!(told.contains("node 4, a witness"), "{told}");
        let mut four = Self {
            dir,
            host,
            nodes: vec![None, None, None, None],
        };
        for id in 1..=4 {
            four.start_node(id);
        }
        eventually("every node is a member and has its seat", || {
            let status = four.ask(&["-o", "json", "status"]);
            let members = status.map(|status| status["members"].as_array().map_or(0, Vec::len));
            std::future::ready(members.filter(|members| *members == 4))
        })
        .await;
        for agent in ["a", "b", "c"] {
            let key = four.path(&format!("{agent}.pem"));
            aegis_ok(&["keygen", &key]);
            let registrar = four.path("c/operator/registrar.pem");
            let words = ["agent", "register", agent, "--type", "human"];
            four.ok(&[&words[..], &["--key", &key, "--registrar-key", &registrar]].concat());
        }
        four
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn node(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("c/node-{id}"))
    }

    fn start_node(&mut self, id: usize) {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.node(id).join("log"))
            .unwrap();
        let child = Command::new(BIN)
            .args(["serve", "--config"])
            .arg(self.node(id).join("node.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.nodes[id - 1] = Some(child);
    }

    fn kill(&mut self, id: usize) {
        let mut child = self.nodes[id - 1].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn run(&self, words: &[&str]) -> Output {
        let endpoints: Vec<_> = (0..4)
            .map(|node| format!("http://{}:{}", self.host, 8003 + 10 * node))
            .collect();
        Command::new(BIN)
            .args(words)
            .env("AEGIS_ENDPOINT", endpoints.join(","))
            .env("AEGIS_TOKEN_FILE", self.path("c/operator/admin.token"))
            .output()
            .unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn ask(&self, words: &[&str]) -> Option<Value> {
        serde_json::from_slice(&self.run(words).stdout).ok()
    }

    /// Everyone votes for it, and its certificate goes into a file.
    fn approve(&self, proposal: &str) -> String {
        for agent in ["a", "b", "c"] {
            let key = self.path(&format!("{agent}.pem"));
            self.ok(&["vote", "--agent", agent, "--key", &key, proposal, "for"]);
        }
        let file = self.path(&format!("{proposal}.certificate"));
        self.ok(&[
            "proposals",
            "certificate",
            proposal,
            "--wait",
            "--out",
            &file,
        ]);
        file
    }

    fn decide(&self, title: &str) -> (String, String) {
        let proposal = self.ok(&["propose", "--quiet", "--open", "--title", title]);
        let proposal = proposal.trim().to_owned();
        let file = self.approve(&proposal);
        (proposal, file)
    }
}

/// Runs the verifier that shares no code with this one.
fn verify_in_python(files: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/verify_certificate.py");
    // The interpreter that the distribution's packages belong to.
    Command::new("/usr/bin/python3")
        .arg("-B")
        .arg(script)
        .args(files)
        .output()
        .unwrap()
}

fn code_of(words: &[&str]) -> Option<i32> {
    aegis(words).status.code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_is_certified_verified_and_altered() {
    let four = Four::start().await;
    let (proposal, file) = four.decide("Lunch");
    let genesis = four.path("c/genesis.json");
    let told = aegis_ok(&["verify", &file, "--genesis", &genesis]);
    assert!(told.contains(&format!("{proposal} is approved")), "{told}");
    let python = verify_in_python(&[&file, &genesis]);
    let said = String::from_utf8_lossy(&python.stdout).into_owned();
    assert!(
        python.status.success() && said.contains("\"approved\""),
        "{said}"
    );

    // The bundle may have to wait for a checkpoint that covers it.
    let bundle = four.path("bundle");
    let told = eventually("a checkpoint covers the decision", || {
        let _ = std::fs::remove_file(&bundle);
        four.ok(&["proposals", "bundle", &proposal, "--out", &bundle]);
        let told = aegis_ok(&["verify", "--bundle", &bundle, "--genesis", &genesis]);
        std::future::ready(told.contains("ok   inclusion").then_some(told))
    })
    .await;
    assert!(
        told.contains("3 for, 0 against, 0 abstain make it approved"),
        "{told}"
    );
    four.ok(&["checkpoint", "--verify", "--genesis", &genesis]);
    four.ok(&["audit", "proof", "0"]);
    four.ok(&["audit", "consistency", "1"]);

    // One bit of the statement, one of the bundle, another cluster.
    let whole = std::fs::read_to_string(&file).unwrap();
    let altered = whole.replacen("\"payload\":\"ey", "\"payload\":\"fy", 1);
    assert_ne!(altered, whole);
    std::fs::write(&file, altered).unwrap();
    assert_eq!(code_of(&["verify", &file, "--genesis", &genesis]), Some(5));
    assert_eq!(verify_in_python(&[&file, &genesis]).status.code(), Some(1));
    let whole = std::fs::read_to_string(&bundle).unwrap();
    std::fs::write(
        &bundle,
        whole.replacen("\"title\\\":\\\"Lunch", "\"title\\\":\\\"Lynch", 1),
    )
    .unwrap();
    assert_eq!(
        code_of(&["verify", "--bundle", &bundle, "--genesis", &genesis]),
        Some(5)
    );
    let other = "0".repeat(64);
    assert_eq!(
        code_of(&["verify", "--bundle", &bundle, "--cluster-id", &other]),
        Some(5)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_gets_another_key_and_a_dead_primary_is_replaced() {
    let mut four = Four::start().await;
    let (genesis, key) = (four.path("c/genesis.json"), four.path("new.pem"));
    let words = [
        "-o",
        "json",
        "committee",
        "rotate-key",
        "node-4",
        "--out",
        &key,
    ];
    let asked = four.ask(&words).unwrap();
    let change = four.approve(asked["proposal_id"].as_str().unwrap());
    // What comes after it is the next epoch's, which the change's certificate leads to.
    let (_, next) = four.decide("Dinner");
    assert_eq!(code_of(&["verify", &next, "--genesis", &genesis]), Some(1));
    let verify = |file: &str| {
        let words = ["verify", file, "--genesis", &genesis];
        aegis_ok(&[&words[..], &["--committee-certificates", &change]].concat())
    };
    assert!(verify(&next).contains("3 of 4 seats of epoch 1 (node-1, node-2, node-3)"));

    std::fs::copy(&key, four.node(4).join("seat-key.pem")).unwrap();
    four.kill(4);
    four.start_node(4);
    // Now every seat that is left has to sign: the one with its new key as well.
    four.kill(1);
    let (proposal, last) = four.decide("Supper");
    assert!(verify(&last).contains("3 of 4 seats of epoch 1 (node-2, node-3, node-4)"));
    let python = verify_in_python(&[&last, &genesis, &change]);
    assert!(python.status.success());
    let bundle = four.path("bundle");
    four.ok(&["proposals", "bundle", &proposal, "--out", &bundle]);
    let told = aegis_ok(&["verify", "--bundle", &bundle, "--genesis", &genesis]);
    assert!(
        told.contains("decided by closing 1, signed by 3 of 4"),
        "{told}"
    );
    let committee = four.ask(&["-o", "json", "committee", "status"]).unwrap();
    assert_eq!(
        (committee["epoch"].as_u64(), committee["n"].as_u64()),
        (Some(1), Some(4))
    );
    assert!(committee["view"].as_u64() > Some(0), "{committee}");
}
