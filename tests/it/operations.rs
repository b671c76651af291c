//! What operators do: back up, restore, grow, replace.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::ballot::Ballot;
use crate::cluster::{Answer, BIN, Cluster, aegis, aegis_ok, eventually};
use crate::load::{Load, OnFailure, assert_nothing_lost};

async fn prepared(voters: u32) -> (Cluster, Ballot) {
    let cluster = Cluster::start(3).await;
    cluster.register(1, voters).await;
    let ballot = cluster.propose(1, "To be kept").await;
    (cluster, ballot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_under_load_restores_into_a_new_incarnation() {
    let (mut cluster, ballot) = prepared(300).await;
    let ballots = [ballot.clone()];
    let load = Load::start(&cluster, &ballots, 299, 4, OnFailure::Repeat);
    load.reached(100).await;
    let file = cluster.dir.path().join("backup.snap");
    let path = file.to_str().unwrap().to_owned();
    let follower = cluster.leader().await % 3 + 1;
    cluster.cli_ok(&[
        "--endpoint",
        &cluster.root(follower),
        "snapshot",
        "save",
        &path,
    ]);
    load.finish().await;
    assert!(
        !std::fs::read_dir(cluster.dir.path()).unwrap().any(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".aegis-snapshot-")
        })
    );
    let summary: Value =
        serde_json::from_str(&aegis_ok(&["-o", "json", "snapshot", "status", &path])).unwrap();
    let kept = summary["records"]["ballots"].as_u64().unwrap();
    assert!((100..=299).contains(&kept), "{summary}");
    finds_every_flipped_bit(&path);

    for id in cluster.ids() {
        cluster.stop(id).await;
        std::fs::rename(
            cluster.node_dir(id),
            cluster.dir.path().join(format!("old-{id}")),
        )
        .unwrap();
    }
    let data = cluster.data();
    let data = data.to_str().unwrap();
    let hosts: Vec<String> = cluster
        .ids()
        .into_iter()
        .map(|id| cluster.ip(id).to_string())
        .collect();
    let mut rebuild = vec!["init", "--rebuild", "--dir", data, "--nodes", "3"];
    rebuild.extend(hosts.iter().flat_map(|host| ["--host", host.as_str()]));
    aegis_ok(&rebuild);
    let configs: Vec<String> = cluster
        .ids()
        .into_iter()
        .map(|id| cluster.node_dir(id).join("node.toml").display().to_string())
        .collect();
    let mut restore = vec!["snapshot", "restore", &path, "--to"];
    restore.extend(configs.iter().map(String::as_str));
    aegis_ok(&restore);
    let again = aegis(&restore);
    assert!(
        !again.status.success(),
        "a restore cannot run twice by accident"
    );

    cluster.start_all();
    cluster.ready().await;
    let results = cluster.results(2, &ballot.proposal).await;
    assert_eq!(results["results"]["total_votes"].as_u64(), Some(kept));
    let (status, body) = cluster.post(3, "/votes", &ballot.vote(300, "for")).await;
    assert_eq!(
        status,
        StatusCode::CREATED,
        "voting goes on where it was: {body}"
    );
    let status = cluster.status(1).await.unwrap();
    assert_ne!(status["incarnation"], json!(0), "{status}");
    eventually("the restore stands in the audit log", || async {
        let (_, page) = cluster.get(1, "/audit?limit=1000").await;
        page.to_string().contains("restored").then_some(())
    })
    .await;

    // A member of the old incarnation comes back: its peers refuse it.
    cluster.kill(3);
    std::fs::rename(cluster.node_dir(3), cluster.dir.path().join("new-3")).unwrap();
    std::fs::rename(cluster.dir.path().join("old-3"), cluster.node_dir(3)).unwrap();
    cluster.start_node(3);
    cluster.logged(3, "incarnation").await;
    let old = cluster.status(3).await;
    assert!(
        old.is_none_or(|status| status["leader"].is_null()),
        "an old member leads nobody"
    );
}

fn finds_every_flipped_bit(path: &str) {
    let whole = std::fs::read(path).unwrap();
    let damaged = format!("{path}.damaged");
    for place in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        std::fs::write(&damaged, &bytes).unwrap();
        let output = aegis(&["snapshot", "status", &damaged]);
        assert_eq!(output.status.code(), Some(5), "byte {place}");
    }
    std::fs::write(&damaged, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(
        aegis(&["snapshot", "status", &damaged]).status.code(),
        Some(5)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_replaced_by_one_with_a_new_id() {
    let (mut cluster, ballot) = prepared(60).await;
    for voter in 1..=20 {
        let (status, body) = cluster.post(1, "/votes", &ballot.vote(voter, "for")).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    let added = cluster.add_node();
    assert_eq!(added, 4);
    cluster.start_node(4);
    let (peer, api) = (
        format!("{}:8004", cluster.ip(4)),
        format!("{}:8003", cluster.ip(4)),
    );
    let words = [
        "cluster",
        "add-learner",
        "4",
        "--name",
        "node-4",
        "--peer-address",
        &peer,
        "--api-address",
        &api,
    ];
    cluster.cli_ok(&words);
    cluster.node_ready(4).await;
    eventually("the learner has caught up and may vote", || async {
        cluster
            .cli(&["cluster", "promote", "4", "--yes"])
            .status
            .success()
            .then_some(())
    })
    .await;
    let leader = cluster.leader().await;
    cluster.cli_ok(&["cluster", "remove", &leader.to_string(), "--yes"]);
    cluster.kill(leader);
    let rest: Vec<_> = cluster.running();
    assert_eq!(rest.len(), 3);
    let results = cluster.results(4, &ballot.proposal).await;
    assert_eq!(results["results"]["total_votes"], 20, "{results}");
    let next = [cluster.propose(rest[0], "After the replacement").await];
    let outcome = Load::start_at(&cluster, &rest, &next, 60, 4, OnFailure::Repeat)
        .finish()
        .await;
    assert_nothing_lost(&cluster, 4, &outcome, &next).await;
    cluster.assert_states_agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_risks_the_quorum_is_refused_unless_forced() {
    let (mut cluster, ballot) = prepared(3).await;
    let leader = cluster.leader().await;
    let (down, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.kill(down);
    cluster.knows_silent(leader).await;
    let remove = |node: u64, words: &[&str]| {
        let node = node.to_string();
        let words: Vec<_> = ["cluster", "remove", &node, "--yes"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        let output = cluster.cli(&words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };

    // Without the live one too few would be left to agree on it, and no force helps.
    for words in [&[][..], &["--force"]] {
        let (code, said) = remove(other, words);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("quorum_lost"), "{said}");
    }
    // Without the dead one the two that are left must both live.
    let (code, said) = remove(down, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("warning: afterwards 2 of 2 voters answer and 2 must")
            && said.contains("--force"),
        "{said}"
    );
    let path = format!("/cluster/members/{down}");
    let refused = Answer::to(cluster.request(Method::DELETE, other, &path)).await;
    assert_eq!(
        (refused.status, refused.body["code"].as_str()),
        (StatusCode::CONFLICT, Some("quorum_risk"))
    );
    let members = async || {
        let status = cluster.status(leader).await.unwrap();
        let members = status["members"].as_array().unwrap();
        members
            .iter()
            .map(|member| member["id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(members().await, [1, 2, 3], "a refused step changes nothing");

    let (code, said) = remove(down, &["--force"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!members().await.contains(&down));
    // The two could spare none of them; that is a risk again, and not taken unasked.
    let (code, said) = remove(other, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("warning: afterwards 1 of 1"), "{said}");
    let (status, body) = cluster.post(other, "/votes", &ballot.vote(1, "for")).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
}

/// What becomes of the second half of an answer on its way to a client.
#[derive(Clone, Copy)]
enum SecondHalf {
    /// It never comes, and the connection breaks when the test says so.
    Cut,
    /// One bit of it is flipped.
    Damaged,
}

/// A way to a node that does something to the answers.
struct Wire {
    endpoint: String,
    cut: Arc<Notify>,
}

impl Wire {
    /// The address of a wire in the network of a test's cluster, where no node is.
    const ADDRESS: u64 = 98;

    /// A wire to a node, which lets `bytes` of an answer pass as they are.
    async fn new(cluster: &Cluster, node: u64, bytes: usize, then: SecondHalf) -> Self {
        let place = format!("{}:8003", cluster.ip(Self::ADDRESS));
        let listener = TcpListener::bind(&place).await.unwrap();
        let node = format!("{}:8003", cluster.ip(node));
        let cut = Arc::new(Notify::new());
        let told = Arc::clone(&cut);
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(node).await.unwrap();
            let (mut requests, mut answers) = client.split();
            let (mut from, mut to) = server.split();
            let sent = async {
                tokio::io::copy(&mut requests, &mut to).await.unwrap();
                std::future::pending::<()>().await;
            };
            let answered = async {
                let mut half = vec![0; bytes];
                from.read_exact(&mut half).await.unwrap();
                answers.write_all(&half).await.unwrap();
                match then {
                    SecondHalf::Cut => told.notified().await,
                    SecondHalf::Damaged => {
                        let byte = from.read_u8().await.unwrap();
                        answers.write_u8(byte ^ 1).await.unwrap();
                        tokio::io::copy(&mut from, &mut answers).await.unwrap();
                    }
                }
            };
            tokio::select! {
                () = sent => {}
                () = answered => {}
            }
        });
        Self {
            endpoint: format!("http://{place}"),
            cut,
        }
    }

    /// Begins to save a snapshot over the wire.
    fn save(&self, cluster: &Cluster, file: &Path) -> Child {
        Command::new(BIN)
            .args(["--endpoint", &self.endpoint, "snapshot", "save"])
            .arg(file)
            .env("AEGIS_TOKEN_FILE", cluster.token_file())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// A folder for backups, the file to make there, and how large it would be.
fn backup(cluster: &Cluster) -> (PathBuf, PathBuf, usize) {
    let folder = cluster.dir.path().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let whole = cluster.dir.path().join("whole.snap");
    let saved = cluster.cli_ok(&["-o", "json", "snapshot", "save", whole.to_str().unwrap()]);
    let summary: Value = serde_json::from_str(&saved).unwrap();
    let bytes = usize::try_from(summary["bytes"].as_u64().unwrap()).unwrap();
    let file = folder.join("backup.snap");
    (folder, file, bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_breaks_off_leaves_no_file() {
    let cluster = Cluster::start(1).await;
    cluster.register(1, 200).await;
    let (folder, file, bytes) = backup(&cluster);
    let wire = Wire::new(&cluster, 1, bytes / 2, SecondHalf::Cut).await;
    let saving = wire.save(&cluster, &file);
    let partial = eventually("half of the snapshot was received", async || {
        let names = names_in(&folder);
        let len = |name: &String| std::fs::metadata(folder.join(name)).unwrap().len();
        names.into_iter().find(|name| len(name) > 0)
    })
    .await;
    assert!(partial.starts_with(".aegis-snapshot-"), "{partial}");
    wire.cut.notify_one();
    let output = saving.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it broke off"), "{said}");
    assert_eq!(names_in(&folder), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_damaged_on_its_way_leaves_no_file() {
    let cluster = Cluster::start(1).await;
    cluster.register(1, 200).await;
    let (folder, file, bytes) = backup(&cluster);
    let wire = Wire::new(&cluster, 1, bytes / 2, SecondHalf::Damaged).await;
    let output = wire.save(&cluster, &file).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("is not a whole snapshot"), "{said}");
    assert_eq!(names_in(&folder), Vec::<String>::new());
}
