//! The examples, run as a reader would run them, against `aegis dev`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cluster::{BIN, aegis_ok, eventually, read};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `aegis dev`, and what it says about itself.
struct Dev {
    process: Running,
    about: Value,
}

impl Dev {
    fn start() -> Self {
        let mut child = Command::new(BIN)
            .args(["-o", "json", "dev", "--free-ports"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let about = serde_json::from_str(&line).unwrap();
        Self {
            process: Running(child),
            about,
        }
    }

    fn text(&self, name: &str) -> &str {
        self.about[name].as_str().unwrap()
    }

    fn agent(&self, number: usize) -> (&str, &str) {
        let agent = &self.about["agents"][number];
        (
            agent["id"].as_str().unwrap(),
            agent["key"].as_str().unwrap(),
        )
    }

    fn aegis(&self, words: &[&str]) -> String {
        let place = [
            "--endpoint",
            self.text("endpoint"),
            "--token-file",
            self.text("token_file"),
        ];
        aegis_ok(&place.iter().chain(words).copied().collect::<Vec<_>>())
    }

    /// Runs an example that casts a ballot; says whether it succeeded, and what it printed.
    fn vote(&self, name: &str, proposal: &str, agent: usize, choice: &str) -> (bool, String) {
        let (id, key) = self.agent(agent);
        let mut command = Command::new(example(name));
        if name.ends_with(".py") {
            // The interpreter that the distribution's packages belong to.
            command = Command::new("/usr/bin/python3");
            command.arg("-B").arg(example(name));
        }
        let output = command
            .args([self.text("endpoint"), proposal, id, key, choice])
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

/// Node, with the flag under which versions 20 and 21 have a WebSocket.
fn node() -> Command {
    let flag = "--experimental-websocket";
    let asked = format!("process.exit(process.allowedNodeEnvironmentFlags.has('{flag}') ? 0 : 1)");
    let knows = Command::new("node")
        .args(["-e", &asked])
        .status()
        .unwrap()
        .success();
    let mut node = Command::new("node");
    node.args(knows.then_some(flag));
    node
}

#[tokio::test]
async fn three_languages_decide_and_the_events_tell() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start();
    let seen = folder.path().join("events");
    let _follower = Running(
        node()
            .arg(example("ws.mjs"))
            .args([dev.text("events"), "0.0"])
            .stdout(File::create(&seen).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let electorate: Vec<&str> = (0..3).map(|agent| dev.agent(agent).0).collect();
    let electorate = electorate.join(",");
    let proposal = dev.aegis(&[
        "propose",
        "--quiet",
        "--open",
        "--title",
        "Lunch",
        "--electorate",
        &electorate,
    ]);
    let proposal = proposal.trim();
    for (agent, (name, choice)) in [
        ("vote.py", "for"),
        ("vote.mjs", "against"),
        ("vote.sh", "for"),
    ]
    .into_iter()
    .enumerate()
    {
        let (done, said) = dev.vote(name, proposal, agent, choice);
        assert!(done && said.contains("\"recorded\""), "{name}: {said}");
        let (done, said) = dev.vote(name, "prop_99", agent, choice);
        assert!(!done && said.contains("unknown_proposal"), "{name}: {said}");
    }
    let results: Value =
        serde_json::from_str(&dev.aegis(&["-o", "json", "results", proposal])).unwrap();
    assert_eq!(
        results["results"]["breakdown"],
        serde_json::json!({"for": 2, "against": 1, "abstain": 0})
    );

    let events = eventually("the events have told the end", || {
        let text = read(&seen);
        std::future::ready(text.contains("consensus_reached").then_some(text))
    })
    .await;
    let types: Vec<String> = events
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        types,
        [
            "proposal_created",
            "vote_cast",
            "vote_cast",
            "vote_cast",
            "proposal_updated",
            "consensus_reached"
        ]
    );

    // Ctrl-C ends it well and leaves nothing behind.
    let interrupted = Command::new("kill")
        .args(["-INT", &dev.process.0.id().to_string()])
        .status();
    assert!(interrupted.unwrap().success());
    let child = &mut dev.process.0;
    let status = eventually("it has ended", || {
        std::future::ready(child.try_wait().unwrap())
    })
    .await;
    assert!(status.success(), "{status}");
    assert!(!Path::new(dev.text("dir")).exists());
}
