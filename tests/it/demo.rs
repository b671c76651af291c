//! What `make run` runs, and the commands that it leaves to be pasted.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::cluster::{BIN, aegis, eventually, read};

const VOTES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/house-votes-84.csv");

/// An address that the clusters of the other tests do not use.
fn host() -> String {
    format!("127.{}.251.1", std::process::id() % 250 + 1)
}

/// A demonstration that runs until it is told to stop.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Demo {
    fn start(folder: &Path) -> Self {
        let create = |name| File::create(folder.join(name)).unwrap();
        let child = Command::new(BIN)
            .current_dir(folder)
            .args(["demo", "--data", "data", "--host", &host()])
            .stdin(Stdio::null())
            .stdout(create("out"))
            .stderr(create("err"))
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Waits until the cluster is left up, and returns what was printed.
    async fn is_up(&mut self, folder: &Path) -> String {
        eventually("the demonstration is up", || {
            let ended = self.0.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", read(&folder.join("err")));
            let out = read(&folder.join("out"));
            std::future::ready(out.contains("Ctrl-C stops it").then_some(out))
        })
        .await
    }

    async fn interrupt(&mut self) {
        let interrupted = Command::new("kill")
            .args(["-INT", &self.0.id().to_string()])
            .status();
        assert!(interrupted.unwrap().success());
        let status = eventually("it has stopped", || {
            std::future::ready(self.0.try_wait().unwrap())
        })
        .await;
        assert!(status.success(), "{status}");
    }
}

fn once(folder: &Path, words: &[&str]) -> Output {
    let data = folder.join("data");
    let fixed = ["demo", "--once", "--data", data.to_str().unwrap()];
    aegis(&fixed.iter().chain(words).copied().collect::<Vec<_>>())
}

/// The table of outcomes without the proposals' times.
fn outcomes(text: &str) -> Vec<String> {
    let table = text
        .lines()
        .skip_while(|line| !line.starts_with("PROPOSAL"))
        .take(17);
    table
        .map(|line| {
            line.trim_end_matches(|last: char| !last.is_ascii_lowercase())
                .to_owned()
        })
        .collect()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn real_votes_are_replayed_checked_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(folder.path());
    let out = demo.is_up(folder.path()).await;
    assert!(
        out.contains("Every figure is the file's, and the 4 nodes hold the same audit chain"),
        "{out}"
    );
    assert!(
        out.contains("16 certificates hold, verified here with data/genesis.json alone"),
        "{out}"
    );
    let told = read(&folder.path().join("err"));
    assert!(told.contains("16 certificates, each "), "{told}");
    let decided = outcomes(&out);
    assert_eq!(decided.len(), 17);
    assert!(decided[16].contains(
        "export-administration-act-south-africa  269       62      104     145  approved"
    ));

    let pasted: String = out
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(pasted.contains("kill -9"), "{pasted}");
    let shell = Command::new("bash")
        .current_dir(folder.path())
        .args(["-euc", &pasted])
        .output()
        .unwrap();
    let said = stdout(&shell);
    assert!(shell.status.success(), "{said}\n{}", stderr(&shell));
    for expected in [
        "prop_17  approved",
        "prop_18  approved",
        "the chain holds",
        "prop_1 is rejected: round 1, closing 1 of cluster ",
        "ok   count: 187 for, 236 against, 12 abstain make it rejected",
        "ok   inclusion: ",
        "prop_17 is approved",
        "prop_18 is approved",
        "threshold 0.501, certified",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    eventually("the death of a node is told", || {
        std::future::ready(
            read(&folder.path().join("err"))
                .contains("was killed by signal 9")
                .then_some(()),
        )
    })
    .await;
    let busy = once(folder.path(), &[]);
    assert_eq!(busy.status.code(), Some(1));
    assert!(
        stderr(&busy).contains("is in use by process"),
        "{}",
        stderr(&busy)
    );
    demo.interrupt().await;

    let again = once(folder.path(), &[]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(outcomes(&stdout(&again)), decided);
    assert!(stderr(&again).contains("every ballot was cast in an earlier run"));
    assert!(stdout(&again).contains("16 certificates hold"));
}

#[tokio::test]
async fn a_figure_that_is_not_the_files_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let host = format!("127.{}.252.1", std::process::id() % 250 + 1);
    let votes: String = read(Path::new(VOTES))
        .lines()
        .take(20)
        .map(|line| format!("{line}\n"))
        .collect();
    let file = folder.path().join("votes.csv");
    std::fs::write(&file, &votes).unwrap();
    let words = ["--host", &host, "--votes", file.to_str().unwrap()];
    let first = once(folder.path(), &words);
    assert!(first.status.success(), "{}", stderr(&first));
    // The file is altered behind the cluster's back: its first vote is another.
    std::fs::write(&file, votes.replacen(",n,", ",y,", 1)).unwrap();
    let second = once(folder.path(), &words);
    assert_eq!(second.status.code(), Some(5));
    let said = stderr(&second);
    assert!(
        said.contains("handicapped-infants (prop_1): for is "),
        "{said}"
    );
}
