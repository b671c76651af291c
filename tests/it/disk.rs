//! Disks that fill up, fail and lie.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aegis_storage::{LogRecord, Options, Store};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ballot::Ballot;
use crate::cluster::{Answer, Cluster, eventually, read};

async fn prepared(cluster: &mut Cluster, voters: u32) -> Ballot {
    cluster.start_all();
    cluster.ready().await;
    cluster.register(1, voters).await;
    cluster.propose(1, "On a disk").await
}

/// A small file system in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mebibytes: u32) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mebibytes}m,mode=700");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .status()
            .unwrap();
        assert!(status.success());
        Self(at.to_owned())
    }

    /// Puts a file system of its own under a folder that has files.
    fn under(folder: &Path, mebibytes: u32) -> Self {
        let before = folder.with_extension("before");
        std::fs::rename(folder, &before).unwrap();
        let disk = Self::mount(folder, mebibytes);
        let copied = Command::new("cp")
            .arg("-a")
            .arg(before.join("."))
            .arg(folder)
            .status();
        assert!(copied.unwrap().success());
        disk
    }

    /// Fills it to the last byte, until what is returned is dropped.
    fn fill(&self) -> Hog {
        let hog = Hog(self.0.join("hog"));
        let file = std::fs::File::create(&hog.0).unwrap();
        let piece = vec![1; 1 << 20];
        let mut at = 0;
        while file.write_all_at(&piece, at).is_ok() {
            at += 1 << 20;
        }
        hog
    }
}

/// A file that fills a disk.
struct Hog(PathBuf);

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A node asks for its free space not more often than it must.
async fn knows_that_it_is_full(cluster: &Cluster, node: u64) {
    eventually("the node knows that its disk is full", async || {
        let status = cluster.status(node).await?;
        status["alarms"]
            .to_string()
            .contains("low_space")
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let place = TempDir::new().unwrap();
    let disk = SmallDisk::mount(&place.path().join("small"), 256);
    let home = tempfile::Builder::new().tempdir_in(&disk.0).unwrap();
    let mut cluster = Cluster::init_in(home, 1);
    let ballot = prepared(&mut cluster, 10).await;
    let (status, body) = cluster.post(1, "/votes", &ballot.vote(1, "for")).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");

    let hog = disk.fill();
    knows_that_it_is_full(&cluster, 1).await;
    let (status, refused) = cluster.post(1, "/votes", &ballot.vote(2, "for")).await;
    assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE, "{refused}");
    assert_eq!(refused["code"], "low_space", "{refused}");
    assert_eq!(
        cluster.results(1, &ballot.proposal).await["results"]["total_votes"],
        1
    );
    let (_, health) = cluster.get_root(1, "/health").await;
    assert!(health.to_string().contains("low_space"), "{health}");

    drop(hog);
    eventually("writes are taken again", || async {
        let (status, _) = cluster.post(1, "/votes", &ballot.vote(3, "for")).await;
        (status == StatusCode::CREATED).then_some(())
    })
    .await;
    drop(cluster);
}

/// The node ends with EX_IOERR of sysexits.h, and its last words say why.
async fn ended_by_its_disk(cluster: &mut Cluster, node: u64, why: &str) {
    let status = cluster.ended(node).await;
    assert_eq!(status.code(), Some(aegis_storage::EXIT_CODE), "{status}");
    let log = read(&cluster.log(node));
    let last = log.lines().last().unwrap();
    assert!(last.contains(" ERROR ") && last.contains(why), "{last}");
}

/// A proposal that takes about as much space as one may.
fn large() -> Value {
    json!({
        "title": "Large", "description": "", "type": "decision",
        "content": {"text": "x".repeat(60_000)},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_full_kills_no_node_and_loses_no_write() {
    let mut cluster = Cluster::init(3);
    let disk = SmallDisk::under(&cluster.node_dir(1).join("store"), 256);
    let ballot = prepared(&mut cluster, 31).await;
    let to = json!({"to": 1});
    let (status, body) = cluster.post(2, "/cluster/transfer-leader", &to).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let hog = disk.fill();
    knows_that_it_is_full(&cluster, 1).await;

    // Another leader may take what this one refuses, and it must refuse also what others
    // pass on to it. If it took all this, its disk would not have the room.
    let mut written = 0;
    for turn in 1..=200 {
        let node = turn % 3 + 1;
        let request = cluster.request(Method::POST, node, "/proposals");
        let answer = Answer::to(request.json(&large())).await;
        if answer.status == StatusCode::CREATED {
            written += 1;
        } else {
            answer.assert_retry(StatusCode::INSUFFICIENT_STORAGE, "low_space");
        }
    }
    for node in cluster.ids() {
        assert!(cluster.is_alive(node), "node {node} has ended");
        let (_, status) = cluster.get(node, "/status").await;
        assert_eq!(status["proposals"]["draft"], written, "{status}");
    }

    drop(hog);
    for voter in 1..=30 {
        let node = u64::from(voter) % 3 + 1;
        let vote = ballot.vote(voter, "for");
        eventually("the ballot is taken", async || {
            let (status, _) = cluster.post(node, "/votes", &vote).await;
            status.is_success().then_some(())
        })
        .await;
    }
    cluster.assert_states_agree().await;
    let results = cluster.results(1, &ballot.proposal).await;
    assert_eq!(results["results"]["total_votes"], 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_disk_is_full_ends_and_comes_back() {
    let mut cluster = Cluster::init(3);
    let disk = SmallDisk::under(&cluster.node_dir(3).join("store"), 256);
    cluster.start_all();
    cluster.ready().await;
    let to = json!({"to": 1});
    let (status, body) = cluster.post(2, "/cluster/transfer-leader", &to).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let hog = disk.fill();
    let mut written = 0;
    // RocksDB has some space in hand.
    while cluster.is_alive(3) {
        assert!(written < 1_000, "its disk takes more than it has");
        let (status, body) = cluster.post(2, "/proposals", &large()).await;
        assert_eq!(status, StatusCode::CREATED, "the others go on: {body}");
        written += 1;
    }
    ended_by_its_disk(&mut cluster, 3, "the disk is full").await;
    drop(hog);
    cluster.start_node(3);
    cluster.node_ready(3).await;
    cluster.assert_states_agree().await;
}

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int broken(void) { const char *flag = getenv("BREAK_SYNC"); return flag && access(flag, F_OK) == 0; }
int fdatasync(int fd) {
    if (broken()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
int fsync(int fd) {
    if (broken()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_the_process_and_the_folder() {
    let mut cluster = Cluster::init(1);
    let source = cluster.dir.path().join("shim.c");
    let shim = cluster.dir.path().join("shim.so");
    let flag = cluster.dir.path().join("broken");
    std::fs::write(&source, SHIM).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&shim)
        .arg(&source)
        .arg("-ldl")
        .status();
    assert!(built.unwrap().success());
    cluster.start_with(1, |command| {
        command.env("LD_PRELOAD", &shim).env("BREAK_SYNC", &flag);
    });
    cluster.ready().await;
    cluster.register(1, 3).await;
    let ballot = cluster.propose(1, "On a failing disk").await;
    std::fs::write(&flag, "").unwrap();
    let answer = cluster
        .http
        .post(cluster.url(1, "/votes"))
        .json(&ballot.vote(1, "for"))
        .send()
        .await;
    assert!(
        answer.is_err() || !answer.unwrap().status().is_success(),
        "nothing unsynced is acknowledged"
    );
    ended_by_its_disk(&mut cluster, 1, "a sync of the log failed").await;
    // The disk seems well again, but what it kept is unknown.
    cluster.start_node(1);
    let status = cluster.ended(1).await;
    assert!(!status.success(), "{status}");
    let log = read(&cluster.log(1));
    assert!(log.contains("new id"), "it says what to do: {log}");
}

/// Damages a stopped node's folder and expects that the node says so and ends.
async fn refuses_to_start(cluster: &mut Cluster, expected: &[&str]) {
    let before = read(&cluster.log(1)).len();
    cluster.start_node(1);
    let status = tokio::time::timeout(Duration::from_secs(30), cluster.ended(1))
        .await
        .expect("it ends by itself");
    assert!(!status.success(), "{status}");
    let log = read(&cluster.log(1));
    assert!(
        expected.iter().any(|text| log[before..].contains(text)),
        "{}",
        &log[before..]
    );
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(suffix))
        .collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_not_opened() {
    let mut cluster = Cluster::init(1);
    let ballot = prepared(&mut cluster, 200).await;
    for voter in 1..=100 {
        let (status, body) = cluster.post(1, "/votes", &ballot.vote(voter, "for")).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    cluster.kill(1);
    let db = cluster.node_dir(1).join("store/db");
    let logs = files(&db, ".log");
    let newest = logs.last().unwrap().clone();
    let whole = std::fs::read(&newest).unwrap();

    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    std::fs::write(&newest, &flipped).unwrap();
    refuses_to_start(&mut cluster, &["orrupt", "checksum"]).await;

    std::fs::remove_file(&newest).unwrap();
    refuses_to_start(&mut cluster, &["missing", "lost", "Missing"]).await;

    std::fs::write(&newest, &whole).unwrap();
    cluster.start_node(1);
    cluster.node_ready(1).await;
    assert_eq!(
        cluster.results(1, &ballot.proposal).await["results"]["total_votes"],
        100
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_folder_does_not_come_back_under_its_id() {
    let mut cluster = Cluster::init(1);
    cluster.start_all();
    cluster.ready().await;
    cluster.kill(1);
    std::fs::remove_dir_all(cluster.node_dir(1).join("store")).unwrap();
    refuses_to_start(&mut cluster, &["new id"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_others_may_read_stops_the_node() {
    use std::os::unix::fs::PermissionsExt;
    let mut cluster = Cluster::init(1);
    let key = cluster.node_dir(1).join("node-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refuses_to_start(&mut cluster, &["chmod 600"]).await;
}

/// CRC-32C (RFC 3720, appendix B.4), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

/// Replaces bytes in a data folder that was never opened, whose records are all still in
/// RocksDB's log. A record there is its masked checksum, its length, its type and its
/// payload.
fn rewrite(db: &Path, from: &[u8], to: &[u8]) {
    const HEAD: usize = 7;
    let log = files(db, ".log").pop().unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let mut at = 0;
    let record = loop {
        let len = usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        let record = at..at + HEAD + len;
        if let Some(place) = bytes[record.clone()]
            .windows(from.len())
            .position(|window| window == from)
        {
            bytes[at + place..][..to.len()].copy_from_slice(to);
            break record;
        }
        at = record.end;
    };
    let crc = crc32c(&bytes[record.start + 6..record.end]);
    let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    bytes[record.start..][..4].copy_from_slice(&masked.to_le_bytes());
    std::fs::write(&log, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_a_newer_binary_is_not_opened() {
    let mut cluster = Cluster::init(1);
    let db = cluster.node_dir(1).join("store/db");
    rewrite(&db, b"format\x04\0\0\0\x01", b"format\x04\0\0\0\x02");
    let expected = "the data has format 2, and this program knows 1";
    refuses_to_start(&mut cluster, &[expected]).await;
}

/// An entry that this binary cannot read must not be skipped: the core fails, and the process
/// with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_a_newer_binary_ends_the_process() {
    let mut cluster = Cluster::start(1).await;
    cluster.stop(1).await;
    append_unreadable(&cluster.node_dir(1).join("store"));
    cluster.start_node(1);
    let status = cluster.ended(1).await;
    assert_eq!(status.code(), Some(1), "{status}");
    let log = read(&cluster.log(1));
    let says_why = |line: &str| {
        line.contains("replication failed") && line.contains("1 bytes are not an encoded entry")
    };
    let mut errors = log.lines().filter(|line| line.contains(" ERROR "));
    assert!(errors.any(says_why), "{log}");
}

/// Appends a command of one byte to the log, in the term of the last entry.
fn append_unreadable(dir: &Path) {
    let store = Store::open(dir, &Options::default()).unwrap();
    let last = store.log_bounds().last.unwrap();
    let last = store
        .read_log(last..last + 1, usize::MAX)
        .unwrap()
        .remove(0);
    let (term, kind, stamp) = (&last.payload[..8], [1], [0; 8]);
    let record = LogRecord {
        index: last.index + 1,
        payload: [term, &kind, &stamp, &[0xff]].concat().into(),
    };
    let (done, appended) = std::sync::mpsc::channel();
    let done = Box::new(move |result| done.send(result).unwrap());
    store.append(vec![record], done).unwrap();
    appended.recv().unwrap().unwrap();
}
