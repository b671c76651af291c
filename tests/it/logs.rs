//! What a node logs, for people and for machines.

use std::os::unix::fs::PermissionsExt as _;

use reqwest::StatusCode;
use serde_json::Value;

use crate::cluster::{Cluster, read};

/// Two agents approve one proposal and reject another.
async fn decide_two(cluster: &Cluster) {
    cluster.register(1, 2).await;
    for (title, choice) in [("Good", "for"), ("Bad", "against")] {
        let ballot = cluster.propose(1, title).await;
        for voter in 1..=2 {
            let (status, body) = cluster.post(1, "/votes", &ballot.vote(voter, choice)).await;
            assert_eq!(status, StatusCode::CREATED, "{body}");
        }
    }
}

/// The line of an event, less its time and from the log index on. Other lines have a level
/// in its place.
fn event(line: &str) -> Option<&str> {
    let (time, rest) = line.split_once(' ')?;
    time.parse::<jiff::Timestamp>().ok()?;
    let word = rest.split(' ').next()?;
    if ["ERROR", "WARN", "INFO"].contains(&word) {
        return None;
    }
    let (event, index) = rest.rsplit_once(" index=")?;
    index.parse::<u64>().ok()?;
    // How long a decision took is not the test's to know.
    Some(event.split(" deciding_ms=").next().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_log_tells_who_did_what() {
    let cluster = Cluster::start(1).await;
    decide_two(&cluster).await;
    let expected = [
        "PROPOSAL_CREATED administrator proposal=prop_1 status=voting",
        "VOTE_CAST a1 proposal=prop_1 vote=vote_1_1 choice=for",
        "VOTE_CAST a2 proposal=prop_1 vote=vote_1_2 choice=for",
        "PROPOSAL_APPROVED system proposal=prop_1 certified=false",
        "PROPOSAL_CREATED administrator proposal=prop_2 status=voting",
        "VOTE_CAST a1 proposal=prop_2 vote=vote_2_1 choice=against",
        "VOTE_CAST a2 proposal=prop_2 vote=vote_2_2 choice=against",
        "PROPOSAL_REJECTED system proposal=prop_2 certified=false",
    ];
    let log = cluster.logged(1, "PROPOSAL_REJECTED").await;
    let told: Vec<_> = log.lines().filter_map(event).collect();
    assert_eq!(told, expected, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_json_log_goes_to_its_file_a_document_a_line() {
    let mut cluster = Cluster::init(1);
    let file = cluster.dir.path().join("aegis.json");
    cluster.start_all_with(|command| {
        command
            .env("AEGIS__LOG__FORMAT", "json")
            .env("AEGIS__LOG__FILE", &file);
    });
    cluster.ready().await;
    decide_two(&cluster).await;
    cluster.stop(1).await;
    assert_eq!(
        read(&cluster.log(1)),
        "",
        "nothing but the file has the log"
    );
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let lines: Vec<Value> = read(&file)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        let time = line["timestamp"].as_str().unwrap();
        time.parse::<jiff::Timestamp>().unwrap();
        assert!(
            line["level"].is_string() && line["target"].is_string(),
            "{line}"
        );
    }
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line["event"].is_string())
        .map(|line| (line["event"].as_str().unwrap(), line["principal"].as_str()))
        .collect();
    let (by_admin, by_system) = (Some("administrator"), Some("system"));
    assert_eq!(
        told,
        [
            ("PROPOSAL_CREATED", by_admin),
            ("VOTE_CAST", Some("a1")),
            ("VOTE_CAST", Some("a2")),
            ("PROPOSAL_APPROVED", by_system),
            ("PROPOSAL_CREATED", by_admin),
            ("VOTE_CAST", Some("a1")),
            ("VOTE_CAST", Some("a2")),
            ("PROPOSAL_REJECTED", by_system),
        ]
    );
    let last = lines.last().unwrap();
    assert_eq!(last["message"], "stopped", "a stop loses no line: {last}");
}
