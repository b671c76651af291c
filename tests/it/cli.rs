//! The command line against real nodes: what a person sees, what a script parses, and how
//! each command ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::cluster::{BIN, Cluster, aegis, aegis_ok, client, eventually};

/// A command's code and what it printed on either side.
fn ended(output: &Output) -> (Option<i32>, String) {
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// What a command prints for programs.
fn json_of(cluster: &Cluster, words: &[&str]) -> Value {
    let words: Vec<_> = ["-o", "json"].iter().chain(words).copied().collect();
    let text = cluster.cli_ok(&words);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
}

/// A command that goes on until it is stopped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It holds nothing; an error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> (Self, BufReader<std::process::ChildStdout>) {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        (Self(child), out)
    }

    /// Ctrl-C, after which it must end well.
    async fn interrupt(mut self) {
        let interrupted = Command::new("kill")
            .args(["-INT", &self.0.id().to_string()])
            .status();
        assert!(interrupted.unwrap().success());
        let status = eventually("the command ends", || {
            std::future::ready(self.0.try_wait().unwrap())
        })
        .await;
        assert!(status.success(), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_registered_listed_shown_and_removed() {
    let cluster = Cluster::start(1).await;
    let path = |name: &str| cluster.dir.path().join(name).display().to_string();
    let (key, token) = (path("alice.pem"), path("alice.token"));
    let registrar = cluster.data().join("operator/registrar.pem");
    let made: Value = serde_json::from_str(&aegis_ok(&["-o", "json", "keygen", &key])).unwrap();
    let register = [
        "agent",
        "register",
        "alice",
        "--name",
        "Alice",
        "--type",
        "human",
        "--key",
        &key,
        "--registrar-key",
        registrar.to_str().unwrap(),
    ];
    let registered = json_of(&cluster, &register);
    assert_eq!(registered["kid"], made["kid"]);
    assert_eq!(registered["attested"], true);
    let (code, said) = ended(&cluster.cli(&register));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("[agent_exists]"), "{said}");

    let list = json_of(&cluster, &["agent", "list"]);
    assert_eq!(list["agents"][0]["agent_id"], "alice");
    let table = cluster.cli_ok(&["agent", "list"]);
    let row = table.lines().nth(1).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells, ["alice", "human", "1", "active", "yes", "Alice"]);
    let shown = json_of(&cluster, &["agent", "show", "alice"]);
    assert_eq!(shown, list["agents"][0]);
    assert!(
        cluster
            .cli_ok(&["agent", "show", "alice"])
            .contains("Alice")
    );
    let (code, said) = ended(&cluster.cli(&["agent", "show", "bob"]));
    assert_eq!(code, Some(3), "{said}");

    // With a token of her own she may do what an agent may, and no more.
    cluster.cli_ok(&["agent", "token", "alice", "--out", &token]);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&token).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let hers = ["--token-file", &token];
    let words = ["propose", "--quiet", "--title", "Lunch"];
    cluster.cli_ok(&hers.iter().chain(&words).copied().collect::<Vec<_>>());
    let words = ["agent", "remove", "alice"];
    let (code, said) = ended(&cluster.cli(&hers.iter().chain(&words).copied().collect::<Vec<_>>()));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("[forbidden]"), "{said}");
    cluster.cli_ok(&words);
    let shown = json_of(&cluster, &["agent", "show", "alice"]);
    assert_eq!(shown["status"], "removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_are_made_voted_on_and_listed() {
    let cluster = Cluster::start(1).await;
    cluster.register(1, 1).await;
    let key = cluster.dir.path().join("voter.pem");
    let pem = crate::ballot::secret(1).to_pem();
    write_secret(&key, &pem);
    let decided = json_of(&cluster, &["propose", "--title", "Lunch", "--open"]);
    assert_eq!(decided["status"], "voting");
    let draft = json_of(
        &cluster,
        &["propose", "--title", "Dinner", "--type", "policy_update"],
    );
    assert_eq!(draft["status"], "draft");
    let [decided, draft] = [&decided, &draft].map(|made| made["proposal_id"].as_str().unwrap());
    let vote = [
        "vote",
        decided,
        "for",
        "--agent",
        "a1",
        "--key",
        key.to_str().unwrap(),
    ];
    let first = json_of(&cluster, &vote);
    assert_eq!(first["status"], "recorded");
    // A second ballot is another statement, and the voting is over.
    let (code, said) = ended(&cluster.cli(&vote));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("[voting_closed]"), "{said}");

    let ids = |list: &Value| {
        let proposals = list["proposals"].as_array().unwrap();
        proposals
            .iter()
            .map(|proposal| proposal["proposal_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for (words, expected) in [
        (&[][..], &[draft, decided][..]),
        (&["--status", "active"], &[draft]),
        (&["--status", "approved"], &[decided]),
        (&["--type", "policy_update"], &[draft]),
        (&["--author", "a1"], &[]),
        (&["--limit", "1"], &[draft]),
    ] {
        let words: Vec<_> = ["proposals"].iter().chain(words).copied().collect();
        assert_eq!(ids(&json_of(&cluster, &words)), expected, "{words:?}");
    }
    let table = cluster.cli_ok(&["proposals", "--status", "approved"]);
    let row = table.lines().nth(1).unwrap();
    assert!(
        row.starts_with(decided) && row.ends_with("Lunch"),
        "{table}"
    );
    let results = json_of(&cluster, &["results", decided]);
    assert_eq!(results["results"]["breakdown"]["for"], 1);
    let text = cluster.cli_ok(&["results", decided]);
    assert!(
        text.starts_with(&format!("{decided}  approved\n")),
        "{text}"
    );
    let (code, said) = ended(&cluster.cli(&["results", "prop_99"]));
    assert_eq!(code, Some(3), "{said}");
}

fn write_secret(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_verifies_offline_and_an_altered_one_does_not() {
    let cluster = Cluster::start(1).await;
    cluster.register(1, 5).await;
    let ballot = cluster.propose(1, "To be audited").await;
    for voter in 1..=5 {
        cluster.post(1, "/votes", &ballot.vote(voter, "for")).await;
    }
    let file = cluster.dir.path().join("audit.ndjson");
    let file = file.to_str().unwrap();
    let exported = json_of(&cluster, &["audit", "export", "--out", file]);
    // Registration, proposal, five ballots and the closing.
    assert_eq!(exported["entries"], 8, "{exported}");
    let offline: Value = serde_json::from_str(&aegis_ok(&[
        "-o", "json", "audit", "verify", "--file", file,
    ]))
    .unwrap();
    assert_eq!(offline, exported);
    assert_eq!(json_of(&cluster, &["audit", "verify"]), exported);
    let head = exported["head"].as_str().unwrap();
    aegis_ok(&["audit", "verify", "--file", file, "--head", head]);

    let whole = std::fs::read_to_string(file).unwrap();
    let altered = whole.replacen("\"outcome\":\"ok\"", "\"outcome\":\"no\"", 1);
    assert_ne!(altered, whole);
    std::fs::write(file, altered).unwrap();
    let (code, said) = ended(&aegis(&["audit", "verify", "--file", file]));
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("the chain does not hold at line 1"), "{said}");
    // A chain whose end was cut off holds, but it has another head.
    let cut: Vec<_> = whole.lines().take(7).collect();
    std::fs::write(file, cut.join("\n")).unwrap();
    aegis_ok(&["audit", "verify", "--file", file]);
    let (code, said) = ended(&aegis(&["audit", "verify", "--file", file, "--head", head]));
    assert_eq!(code, Some(5), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_and_whoever_watches_sees_it() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let to = leader % 3 + 1;
    let mut command = Command::new(BIN);
    command
        .args(["-o", "json", "status", "--watch"])
        .env("AEGIS_ENDPOINT", cluster.endpoints());
    let (watching, mut out) = Running::start(&mut command);
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["leader"].as_u64()
    };
    assert_eq!(next(), Some(leader));

    let number = to.to_string();
    let moved = json_of(&cluster, &["cluster", "transfer-leader", &number, "--wait"]);
    assert_eq!(moved["leader"], to);
    assert_eq!(json_of(&cluster, &["status"])["leader"], to);
    let text = cluster.cli_ok(&["status"]);
    assert!(text.contains(&format!("leader     node {to}")), "{text}");
    eventually("the watcher sees it", || {
        std::future::ready((next() == Some(to)).then_some(()))
    })
    .await;
    watching.interrupt().await;
    let (code, said) = ended(&cluster.cli(&["cluster", "transfer-leader", "9"]));
    assert_eq!(code, Some(1), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_measurement_counts_what_the_cluster_took() {
    let cluster = Cluster::start(1).await;
    let registrar = cluster.data().join("operator/registrar.pem");
    let table = cluster.dir.path().join("bench.md");
    let runs = json_of(
        &cluster,
        &[
            "bench",
            "--connections",
            "2,4",
            "--duration",
            "5",
            "--warmup",
            "0",
            "--ballots",
            "400",
            "--agents",
            "50",
            "--registrar-key",
            registrar.to_str().unwrap(),
            "--markdown",
            table.to_str().unwrap(),
        ],
    );
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for (run, connections) in runs.iter().zip([2, 4]) {
        assert_eq!(run["connections"], connections);
        assert_eq!(run["votes"], 200, "{run}");
        assert_eq!(run["errors"], json!({}), "{run}");
        assert_eq!(run["exhausted"], true, "{run}");
        assert!(run["p50_us"].as_u64().unwrap() > 0, "{run}");
    }
    let status = cluster.status(1).await.unwrap();
    assert_eq!(
        status["proposals"]["approved"], 8,
        "every proposal was decided: {status}"
    );
    let rows = std::fs::read_to_string(&table).unwrap();
    assert_eq!(
        rows.lines().filter(|row| row.starts_with("| 2 |")).count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_cluster_tells_its_token_and_leaves_nothing_behind() {
    let (trial, mut out) = Running::start(Command::new(BIN).args(["dev", "--free-ports"]));
    let mut told = String::new();
    while !told.contains("Ctrl-C stops it") {
        let begun = told.len();
        out.read_line(&mut told).unwrap();
        assert!(told.len() > begun, "it ended: {told}");
    }
    let value = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let url = format!("{}/api/v1/consensus/audit/export", value("api "));
    let http = client(crate::cluster::PATIENCE);
    let anonymous = http.get(&url).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    let admin = http
        .get(&url)
        .bearer_auth(value("token "))
        .send()
        .await
        .unwrap();
    assert_eq!(admin.status(), 200);
    let folder = value("folder ");
    assert!(Path::new(&folder).exists());
    trial.interrupt().await;
    assert!(!Path::new(&folder).exists());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn a_command_that_cannot_be_tells_a_script_why() {
    let nobody = [
        "--endpoint",
        "http://127.0.0.1:1",
        "--timeout",
        "1",
        "status",
    ];
    for (words, code) in [
        (&["status", "--no-such-flag"][..], 2),
        (&["--endpoint", "nowhere", "status"], 2),
        (&nobody, 4),
        (&["audit", "verify", "--file", "/nonexistent"], 1),
        (&["config", "check", "/dev/null"], 5),
        (&["snapshot", "status", "/dev/null"], 5),
        (&["--version"], 0),
    ] {
        let (found, said) = ended(&aegis(words));
        assert_eq!(found, Some(code), "{words:?}: {said}");
    }
}
