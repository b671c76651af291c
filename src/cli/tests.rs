//! Whole commands, from the words to the exit code.

use std::path::{Path, PathBuf};

use aegis_crypto::{Committee, Digest, SeatNo};
use clap::CommandFactory as _;
use serde_json::Value;

use super::*;
use crate::console::tests::{Written, console};
use zeroize::Zeroizing;

/// A machine whose certificates and data folders are empty files.
struct Machine;

impl Local for Machine {
    fn check_config(&self, config: &Path) -> Result<(), Failure> {
        match std::fs::read_to_string(config) {
            Ok(text) if text.starts_with("# Node") => Ok(()),
            Ok(_) => Err(Failure::say(
                Exit::Negative,
                "line 1: `node.id`: 0 is outside 1 to 9",
            )),
            Err(error) => Err(Failure::context("cannot read it")(error)),
        }
    }

    fn serve(&self, config: &Path, ready: Ready) -> Result<(), Failure> {
        ready();
        self.check_config(config)
    }

    fn new_authority(&self, cluster_id: Digest) -> Result<Credential, Failure> {
        let key = Zeroizing::new("authority's key".to_owned());
        Ok(Credential {
            certificate: cluster_id.to_string(),
            key,
        })
    }

    fn issue_certificate(
        &self,
        authority: &Credential,
        node: u64,
        hosts: &[String],
    ) -> Result<Credential, Failure> {
        if hosts.iter().any(|host| host == "bad host") {
            return Err(Failure::say(Exit::Failed, "no such host"));
        }
        let certificate = format!("{} {node} {hosts:?}", authority.certificate);
        Ok(Credential {
            certificate,
            key: Zeroizing::new("node's key".to_owned()),
        })
    }

    fn create_store(&self, dir: &Path, cluster_id: Digest, node: u64) -> Result<(), Failure> {
        std::fs::create_dir(dir).map_err(Failure::failed)?;
        std::fs::write(dir.join("id"), format!("{cluster_id} {node}")).map_err(Failure::failed)
    }

    fn snapshot_status(&self, file: &Path) -> Result<SnapshotSummary, Failure> {
        Err(Failure::say(
            Exit::Negative,
            format_args!("{} is damaged", file.display()),
        ))
    }

    fn convict(&self, _: &Committee, evidence: &[u8]) -> Result<Option<SeatNo>, Failure> {
        Ok(evidence.first().copied().map(SeatNo))
    }

    fn restore(&self, _: &Path, nodes: &[PathBuf]) -> Result<Restored, Failure> {
        Ok(Restored {
            incarnation: 1,
            index: 7,
            folders: nodes.to_vec(),
        })
    }
}

/// Runs a command line.
pub(crate) fn aegis(words: &[&str]) -> (Exit, String, String) {
    let (console, out, err): (_, Written, Written) = console(false);
    let words = std::iter::once("aegis").chain(words.iter().copied());
    let exit = run(&Machine, words.map(OsString::from), console);
    (exit, out.text(), err.text())
}

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn help_is_a_result_and_a_mistake_is_not() {
    let (exit, out, err) = aegis(&["--help"]);
    assert_eq!((exit, err.as_str()), (Exit::Done, ""));
    assert!(out.contains("Exit codes:"), "{out}");
    let (exit, out, err) = aegis(&["fly"]);
    assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
    assert!(err.contains("unrecognized subcommand 'fly'"), "{err}");
    for words in [
        &["vote", "prop_1", "maybe", "--agent", "a", "--key", "k"][..],
        &["vote", "prop_1", "for", "--agent", "-a", "--key", "k"],
        &[
            "vote",
            "prop_1",
            "for",
            "--agent",
            "a",
            "--key",
            "k",
            "--confidence",
            "1.5",
        ],
        &["propose"],
        &["propose", "--title", "a", "--file", "b"],
        &["propose", "--title", "a", "--agent", "b"],
        &["init", "--nodes", "0"],
        &["init", "--add-node", "--rebuild"],
        &["status", "--timeout", "0"],
        &["snapshot", "restore", "a"],
        &["config", "check"],
    ] {
        assert_eq!(aegis(words).0, Exit::Usage, "{words:?}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (exit, out, _) = aegis(&["completions", shell]);
        assert_eq!(exit, Exit::Done);
        assert!(out.contains("transfer-leader"), "{shell}");
    }
}

#[test]
fn a_cluster_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let path = dir.to_str().unwrap();
    let (exit, out, err) = aegis(&["init", "--dir", path, "--name", "trial"]);
    assert_eq!((exit, err.as_str()), (Exit::Done, ""));
    assert!(
        out.contains("aegis serve --config") && out.contains("http://127.0.0.1:8023"),
        "{out}"
    );

    let genesis = std::fs::read(dir.join("genesis.json")).unwrap();
    let cluster_id = Digest::of(&genesis);
    let document: Value = serde_json::from_slice(&genesis).unwrap();
    assert_eq!(document["committee"], serde_json::json!([]));
    assert!(
        out.contains(&format!("Made cluster {cluster_id} (trial)")),
        "{out}"
    );
    let token = secret::read(&dir.join("operator/admin.token")).unwrap();
    let registrar = secret::read_key(&dir.join("operator/registrar.pem")).unwrap();
    assert_eq!(
        document["registrar"]["x"],
        serde_json::to_value(registrar.public()).unwrap()["x"]
    );
    let config = std::fs::read_to_string(dir.join("node-2/node.toml")).unwrap();
    assert!(
        config.contains(&Digest::of(token.as_bytes()).to_string()),
        "{config}"
    );
    assert!(!config.contains(token.as_str()));
    let config: toml::Table = config.parse().unwrap();
    assert_eq!(config["peers"]["listen"].as_str(), Some("127.0.0.1:8014"));
    assert_eq!(config["cluster"]["members"].as_array().unwrap().len(), 3);
    assert_eq!(
        std::fs::read_to_string(dir.join("node-3/store/id")).unwrap(),
        format!("{cluster_id} 3")
    );

    let (exit, _, err) = aegis(&["init", "--dir", path]);
    assert_eq!(exit, Exit::Failed);
    assert!(err.contains("not empty; nothing was changed"), "{err}");
    assert_eq!(std::fs::read(dir.join("genesis.json")).unwrap(), genesis);
}

#[test]
fn every_secret_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    assert_eq!(
        aegis(&["init", "--dir", dir.to_str().unwrap(), "--nodes", "1"]).0,
        Exit::Done
    );
    let mode = |path: &str| {
        std::fs::metadata(dir.join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    for path in ["", "operator", "node-1"] {
        assert_eq!(mode(path), 0o700, "{path}");
    }
    for path in [
        "admin.token",
        "registrar.pem",
        "administrator.pem",
        "ca-key.pem",
    ] {
        assert_eq!(mode(&format!("operator/{path}")), 0o600, "{path}");
    }
    assert_eq!(mode("node-1/node-key.pem"), 0o600);
}

#[test]
fn a_committee_has_a_seat_for_each_node() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let path = dir.to_str().unwrap();
    let (exit, out, err) = aegis(&["init", "--dir", path, "--committee"]);
    assert_eq!((exit, err.as_str()), (Exit::Done, ""));
    assert!(out.contains("node 4, a witness, to be copied to"), "{out}");
    assert!(
        out.contains("A committee of 4 tolerates 1 liar (n = 4, f = 1): a certificate takes 3"),
        "{out}"
    );
    let genesis: Value =
        serde_json::from_slice(&std::fs::read(dir.join("genesis.json")).unwrap()).unwrap();
    for (seat, node) in (0..4).zip(1..) {
        let key = dir.join(format!("node-{node}/seat-key.pem"));
        let mode = std::fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let public = serde_json::to_value(secret::read_key(&key).unwrap().public()).unwrap();
        let expected = serde_json::json!({
            "seat": seat, "name": format!("node-{node}"), "public_key": public,
        });
        assert_eq!(genesis["committee"][seat], expected);
        let config = std::fs::read_to_string(dir.join(format!("node-{node}/node.toml"))).unwrap();
        let config: toml::Table = config.parse().unwrap();
        assert_eq!(config["committee"]["key"].as_str(), Some("seat-key.pem"));
        let members = config["cluster"]["members"].as_array().unwrap();
        let witnesses: Vec<_> = members
            .iter()
            .map(|member| member.get("witness").and_then(toml::Value::as_bool))
            .collect();
        assert_eq!(witnesses, [None, None, None, Some(true)]);
    }

    // A node that is added later has no seat, and a rebuilt one waits for its key.
    let (exit, out, _) = aegis(&["init", "--dir", path, "--add-node"]);
    assert_eq!(exit, Exit::Done);
    assert!(out.contains("no seat in the committee until"), "{out}");
    assert!(!dir.join("node-5/seat-key.pem").exists());
    for node in 1..=5 {
        std::fs::remove_dir_all(dir.join(format!("node-{node}"))).unwrap();
    }
    let (exit, out, _) = aegis(&["init", "--dir", path, "--rebuild"]);
    assert_eq!(exit, Exit::Done);
    assert!(
        out.contains("Bring the seat-key.pem of each node's old folder"),
        "{out}"
    );
    let config = std::fs::read_to_string(dir.join("node-4/node.toml")).unwrap();
    assert!(
        config.contains("witness = true") && config.contains("seat-key.pem"),
        "{config}"
    );
    assert!(!dir.join("node-4/seat-key.pem").exists());
}

#[test]
fn a_committee_is_as_large_as_it_is_asked_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let init = |name: &str, words: &[&str]| {
        let dir = folder.path().join(name);
        let fixed = ["-o", "json", "init", "--dir", dir.to_str().unwrap()];
        aegis(&fixed.iter().chain(words).copied().collect::<Vec<_>>())
    };
    let sizes = |name: &str, words: &[&str]| {
        let (exit, out, err) = init(name, words);
        assert_eq!(exit, Exit::Done, "{err}");
        let told: Value = serde_json::from_str(&out).unwrap();
        let committee = &told["committee"];
        ["seats", "faults_max", "quorum"].map(|member| committee[member].as_u64())
    };
    for (name, words, expected) in [
        ("a", &["--committee"][..], [Some(4), Some(1), Some(3)]),
        (
            "b",
            &["--committee", "--witnesses", "0"],
            [Some(3), Some(0), Some(2)],
        ),
        (
            "c",
            &["--committee", "--nodes", "5", "--witnesses", "2"],
            [Some(7), Some(2), Some(5)],
        ),
        (
            "d",
            &["--committee", "--nodes", "1"],
            [Some(1), Some(0), Some(1)],
        ),
        ("e", &[], [None; 3]),
    ] {
        assert_eq!(sizes(name, words), expected, "{words:?}");
    }
    for words in [
        &["--witnesses", "1"][..],
        &["--committee", "--nodes", "31", "--witnesses", "1"],
        &["--committee", "--add-node"],
    ] {
        assert_eq!(init("f", words).0, Exit::Usage, "{words:?}");
    }
    let (exit, _, err) = init("e", &["--rebuild", "--committee"]);
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("names no committee"), "{err}");
}

#[test]
fn what_a_person_may_not_have_meant_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let init = |name: &str, words: &[&str]| {
        let dir = folder.path().join(name);
        let fixed = ["init", "--dir", dir.to_str().unwrap()];
        aegis(&fixed.iter().chain(words).copied().collect::<Vec<_>>()).2
    };
    assert_eq!(init("three", &[]), "");
    let noted = init("two", &["--nodes", "2", "--host", "localhost"]);
    assert_eq!(noted, "note: 2 voters bear no more failures than 1 do\n");
    let noted = init("remote", &["--nodes", "1", "--host", "node.example"]);
    assert!(noted.contains("without TLS"), "{noted}");
}

#[test]
fn what_fails_half_way_is_taken_away_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let (exit, _, err) = aegis(&["init", "--dir", dir.to_str().unwrap(), "--host", "bad host"]);
    assert_eq!(
        (exit, err.as_str()),
        (Exit::Failed, "error: no such host\n")
    );
    assert!(!dir.exists());
    // A folder that was there stays, empty.
    let (exit, ..) = aegis(&[
        "init",
        "--dir",
        folder.path().to_str().unwrap(),
        "--host",
        "bad host",
    ]);
    assert_eq!(exit, Exit::Failed);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_cluster_grows_and_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let path = dir.to_str().unwrap();
    let (exit, ..) = aegis(&["init", "--dir", path, "--add-node"]);
    assert_eq!(exit, Exit::NotFound);
    assert_eq!(aegis(&["init", "--dir", path]).0, Exit::Done);
    let (exit, out, _) = aegis(&["init", "--dir", path, "--add-node"]);
    assert_eq!(exit, Exit::Done);
    assert!(
        out.contains(
            "add-learner 4 --name node-4 --peer-address 127.0.0.1:8034 --api-address 127.0.0.1:8033"
        ),
        "{out}"
    );
    let read = |path: &str| std::fs::read_to_string(dir.join(path)).unwrap();
    assert!(!read("node-4/node.toml").contains("members"));
    assert_eq!(read("node-4/genesis.json"), read("genesis.json"));
    let (exit, out, _) = aegis(&[
        "-o",
        "json",
        "init",
        "--dir",
        path,
        "--add-node",
        "--id",
        "9",
        "--host",
        "10.0.0.9",
    ]);
    assert_eq!(exit, Exit::Done);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["peer_address"], "10.0.0.9:8004");

    let (exit, _, err) = aegis(&["init", "--dir", path, "--rebuild"]);
    assert_eq!(exit, Exit::Failed, "{err}");
    for node in 1..=3 {
        std::fs::remove_dir_all(dir.join(format!("node-{node}"))).unwrap();
    }
    let (exit, out, _) = aegis(&["init", "--dir", path, "--rebuild"]);
    assert_eq!(exit, Exit::Done);
    assert!(out.contains("snapshot restore FILE --to"), "{out}");
    assert!(dir.join("node-1/node.toml").exists() && !dir.join("node-1/store").exists());
}

#[test]
fn a_key_is_made_once_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let path = file.to_str().unwrap();
    let (exit, out, _) = aegis(&["-o", "json", "keygen", path]);
    assert_eq!(exit, Exit::Done);
    let shown: Value = serde_json::from_str(&out).unwrap();
    let key = secret::read_key(&file).unwrap();
    assert_eq!(shown["kid"], key.public().kid().as_str());
    assert!(shown["jwk"].get("d").is_none());
    let (exit, _, err) = aegis(&["keygen", path]);
    assert_eq!(exit, Exit::Failed);
    assert!(err.contains("never overwritten"), "{err}");
    let (exit, out, _) = aegis(&["keygen", "--show", path]);
    assert_eq!(exit, Exit::Done);
    assert!(out.contains(key.public().kid().as_str()));
}

#[test]
fn commands_end_as_the_machine_says() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    std::fs::write(&good, "# Node 1").unwrap();
    std::fs::write(&bad, "").unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (exit, out, _) = aegis(&["config", "check", &text(&good)]);
    assert_eq!(
        (exit, out),
        (Exit::Done, format!("{} is valid\n", good.display()))
    );
    let (exit, out, err) = aegis(&["config", "check", &text(&bad)]);
    assert_eq!((exit, out.as_str()), (Exit::Negative, ""));
    assert_eq!(err, "error: line 1: `node.id`: 0 is outside 1 to 9\n");
    assert_eq!(aegis(&["config", "check", "/none"]).0, Exit::Failed);
    assert_eq!(aegis(&["serve", "--config", &text(&good)]).0, Exit::Done);
    assert_eq!(
        aegis(&["snapshot", "status", &text(&good)]).0,
        Exit::Negative
    );
    let (exit, out, _) = aegis(&[
        "snapshot",
        "restore",
        &text(&bad),
        "--to",
        "a/node.toml",
        "b/node.toml",
    ]);
    assert_eq!(exit, Exit::Done);
    assert!(out.contains("aegis serve --config b/node.toml"), "{out}");
}

#[test]
fn a_token_file_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "t").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, _, err) = aegis(&["--token-file", file.to_str().unwrap(), "status"]);
    assert_eq!(exit, Exit::Failed);
    assert!(err.contains("chmod 600"), "{err}");
}
