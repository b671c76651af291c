//! What was acknowledged survives: any node killed at any moment, all of them at once, and
//! the power.

use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::authors::Authors;
use crate::ballot::Ballot;
use crate::cluster::{Cluster, eventually};
use crate::load::{Load, OnFailure, assert_nothing_lost};

async fn prepared(nodes: u8, voters: u32, proposals: usize) -> (Cluster, Vec<Ballot>) {
    let cluster = Cluster::start(nodes).await;
    let ballots = populate(&cluster, voters, proposals).await;
    (cluster, ballots)
}

async fn populate(cluster: &Cluster, voters: u32, proposals: usize) -> Vec<Ballot> {
    cluster.register(1, voters).await;
    let mut ballots = Vec::new();
    for n in 0..proposals {
        ballots.push(cluster.propose(1, &format!("Proposal {n}")).await);
    }
    ballots
}

/// Random choices, which a seed repeats.
struct Chance(u64);

impl Chance {
    /// By the seed in `AEGIS_TEST_SEED`, or by a fresh one; a test that fails shows it.
    fn new() -> Self {
        let seed = match std::env::var("AEGIS_TEST_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).unwrap();
                u64::from_ne_bytes(bytes)
            }
        };
        eprintln!("AEGIS_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number below a bound.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_nodes_lose_nothing_acknowledged() {
    let mut chance = Chance::new();
    let (mut cluster, ballots) = prepared(3, 400, 6).await;
    let load = Load::start(&cluster, &ballots, 400, 16, OnFailure::Repeat);
    let authors = Authors::start(&cluster, 2);
    for round in 1..=4 {
        load.reached(round * 250).await;
        let victim = 1 + chance.below(3);
        cluster.kill(victim);
        load.reached(round * 250 + 60).await;
        cluster.start_node(victim);
        cluster.node_ready(victim).await;
    }
    // All of them at once, wherever their writes are at that moment.
    load.reached(1_100 + usize::try_from(chance.below(1_000)).unwrap())
        .await;
    tokio::time::sleep(Duration::from_micros(chance.below(20_000))).await;
    cluster.kill_all();
    cluster.start_all();
    cluster.ready().await;
    let outcome = load.finish().await;
    let submitted = authors.stop().await;
    assert_eq!(
        outcome.acknowledged.len(),
        2_400,
        "every voter got through on every proposal"
    );
    assert!(submitted.count() > 0);
    assert_nothing_lost(&cluster, 2, &outcome, &ballots).await;
    submitted.assert_nothing_lost(&cluster, 3).await;
    cluster.assert_states_agree().await;
}

/// A file system in a file, mounted; the copy of the file is what a power loss leaves.
struct LoopDisk {
    image: std::path::PathBuf,
    mount: std::path::PathBuf,
}

impl LoopDisk {
    fn run(program: &str, args: &[&std::ffi::OsStr]) {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(
            output.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn make(image: std::path::PathBuf, mount: std::path::PathBuf) -> Self {
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(512 << 20).unwrap();
        Self::run(
            "mkfs.ext4",
            &["-q".as_ref(), "-F".as_ref(), image.as_os_str()],
        );
        Self::mount(image, mount)
    }

    fn mount(image: std::path::PathBuf, mount: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(&mount).unwrap();
        Self::run(
            "mount",
            &[
                "-o".as_ref(),
                "loop".as_ref(),
                image.as_os_str(),
                mount.as_os_str(),
            ],
        );
        Self { image, mount }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_loss_loses_no_acknowledged_vote() {
    let place = TempDir::new().unwrap();
    let disk = LoopDisk::make(place.path().join("disk.img"), place.path().join("disk"));
    let home = tempfile::Builder::new().tempdir_in(&disk.mount).unwrap();
    let inside = home.path().strip_prefix(&disk.mount).unwrap().to_owned();
    let mut cluster = Cluster::init_in(home, 1);
    cluster.start_all();
    cluster.ready().await;
    let ballots = populate(&cluster, 200, 8).await;
    let load = Load::start(&cluster, &ballots, 200, 16, OnFailure::Repeat);
    load.reached(700).await;
    // The process stands still; what the disk has at this moment is what a power loss leaves.
    cluster.signal(1, "-STOP");
    let copy = place.path().join("copy.img");
    std::fs::copy(&disk.image, &copy).unwrap();
    cluster.kill(1);
    let outcome = load.stop().await;
    assert!(outcome.acknowledged.len() >= 700);

    let after = LoopDisk::mount(copy, place.path().join("after"));
    let survivor = after.mount.join(inside).join("c/node-1");
    // The node's own folder is exchanged for the one from the copy.
    let dead = cluster.node_dir(1);
    std::fs::rename(&dead, dead.with_extension("dead")).unwrap();
    std::os::unix::fs::symlink(&survivor, &dead).unwrap();
    cluster.start_node(1);
    cluster.node_ready(1).await;
    assert_nothing_lost(&cluster, 1, &outcome, &ballots).await;
    cluster.kill(1);
    drop(after);
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_is_brought_up_by_snapshot_under_load() {
    let mut cluster = Cluster::init(3);
    let small = |command: &mut Command| {
        command
            .env("AEGIS__RAFT__SNAPSHOT_EVERY", "300")
            .env("AEGIS__RAFT__LOG_KEPT", "50");
    };
    for id in cluster.ids() {
        cluster.start_with(id, small);
    }
    cluster.ready().await;
    let ballots = populate(&cluster, 300, 6).await;
    let load = Load::start(&cluster, &ballots, 300, 8, OnFailure::Repeat);
    load.reached(900).await;
    // A lagging follower: the log that it lacks is purged meanwhile.
    cluster.kill(3);
    load.reached(1_500).await;
    cluster.start_with(3, small);
    cluster.node_ready(3).await;
    let outcome = load.finish().await;
    assert_nothing_lost(&cluster, 3, &outcome, &ballots).await;
    cluster.assert_states_agree().await;
    cluster.logged(3, "snapshot installed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_resume_soon_after_the_leader_is_killed() {
    let (mut cluster, ballots) = prepared(3, 300, 6).await;
    let load = Load::start(&cluster, &ballots, 300, 8, OnFailure::Repeat);
    load.reached(200).await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let (killed, before) = (Instant::now(), load.count());
    eventually("writes resume", || {
        std::future::ready((load.count() > before + 20).then_some(()))
    })
    .await;
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "writes resumed after {:?}",
        killed.elapsed()
    );
    cluster.start_node(leader);
    cluster.ready().await;
    let outcome = load.stop().await;
    assert_nothing_lost(&cluster, leader, &outcome, &ballots).await;
    cluster.assert_states_agree().await;
}
