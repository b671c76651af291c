//! Who leads, and who only thinks so.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::ErrorKind;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::ballot::Ballot;
use crate::cluster::{Cluster, PATIENCE, client, eventually, read};
use crate::load::{Load, OnFailure, Outcome, assert_nothing_lost};

async fn prepared(voters: u32, proposals: usize) -> (Cluster, Vec<Ballot>) {
    let cluster = Cluster::start(3).await;
    cluster.register(1, voters).await;
    let mut ballots = Vec::new();
    for n in 0..proposals {
        ballots.push(cluster.propose(2, &format!("Proposal {n}")).await);
    }
    (cluster, ballots)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_under_load_fails_no_request() {
    let (cluster, ballots) = prepared(400, 6).await;
    let load = Load::start(&cluster, &ballots, 400, 16, OnFailure::Count);
    for round in 1..=4 {
        load.reached(round * 200).await;
        let leader = cluster.leader().await;
        let to = leader % 3 + 1;
        let (status, body) = cluster
            .post(
                leader % 2 + 1,
                "/cluster/transfer-leader",
                &json!({"to": to}),
            )
            .await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(
            cluster.leader().await,
            to,
            "success means that the target leads"
        );
    }
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert_eq!(outcome.acknowledged.len(), 2_400);
    assert_nothing_lost(&cluster, 1, &outcome, &ballots).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_of_the_leader_fails_no_request() {
    let (mut cluster, ballots) = prepared(300, 6).await;
    let leader = cluster.leader().await;
    let rest: Vec<_> = cluster
        .ids()
        .into_iter()
        .filter(|id| *id != leader)
        .collect();
    // Clients of the node that stops see it go; everyone else sees nothing.
    let load = Load::start_at(&cluster, &rest, &ballots, 300, 12, OnFailure::Count);
    load.reached(300).await;
    cluster.stop(leader).await;
    let outcome = load.finish().await;
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(
        outcome.longest_gap < Duration::from_secs(2),
        "nothing was taken for {:?}",
        outcome.longest_gap
    );
    cluster.start_node(leader);
    cluster.ready().await;
    assert_nothing_lost(&cluster, leader, &outcome, &ballots).await;
}

/// A client with one connection, which casts ballots until the node says that it closes the
/// connection. Every answer before is a receipt.
async fn cast_until_told(
    url: String,
    votes: Vec<(String, Value)>,
    cast: Arc<AtomicUsize>,
) -> Receipts {
    let http = client(Duration::from_secs(12));
    let mut receipts = Receipts::new();
    // The same bytes again are answered like the first time.
    for (name, vote) in votes.iter().cycle() {
        let answer = http.post(&url).json(vote).send().await.unwrap();
        let is_last = answer
            .headers()
            .get("connection")
            .is_some_and(|c| c == "close");
        receipts.insert(name.clone(), receipt(answer).await);
        cast.fetch_add(1, Ordering::Relaxed);
        if is_last {
            break;
        }
    }
    receipts
}

/// Vote ids by `proposal/voter`.
type Receipts = BTreeMap<String, String>;

/// The vote id of an answer, which must be a receipt.
async fn receipt(answer: reqwest::Response) -> String {
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    assert!(status.is_success(), "{status} {body}");
    body["vote_id"].as_str().unwrap().to_owned()
}

/// Stops the leader while clients cast ballots there. What they have receipts for is counted.
async fn stops_under_load<F>(client: impl Fn(String, Vec<(String, Value)>, Arc<AtomicUsize>) -> F)
where
    F: Future<Output = Receipts> + Send + 'static,
{
    const CLIENTS: u32 = 12;
    let (mut cluster, ballots) = prepared(240, 2).await;
    let leader = cluster.leader().await;
    let cast = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let voters = (1..=240).filter(|voter| voter % CLIENTS == number);
        let pairs = voters.flat_map(|voter| ballots.iter().map(move |ballot| (ballot, voter)));
        let votes = pairs.map(|(ballot, voter)| {
            let name = format!("{}/{voter}", ballot.proposal);
            (name, ballot.vote(voter, "for"))
        });
        let url = cluster.url(leader, "/votes");
        clients.spawn(client(url, votes.collect(), Arc::clone(&cast)));
    }
    eventually("the clients are at work", || {
        std::future::ready((cast.load(Ordering::Relaxed) >= 100).then_some(()))
    })
    .await;
    cluster.stop(leader).await;
    let receipts = clients.join_all().await;
    assert!(!read(&cluster.log(leader)).contains("not answered"));
    let outcome = Outcome {
        acknowledged: receipts.into_iter().flatten().collect(),
        failures: Vec::new(),
        longest_gap: Duration::ZERO,
    };
    assert!(outcome.acknowledged.len() >= 100);
    assert_nothing_lost(&cluster, leader % 3 + 1, &outcome, &ballots).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_answers_what_it_took() {
    stops_under_load(cast_until_told).await;
}

/// A client that makes a connection for each ballot, until none is accepted any more.
async fn cast_until_refused(
    url: String,
    votes: Vec<(String, Value)>,
    cast: Arc<AtomicUsize>,
) -> Receipts {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(12))
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    let mut receipts = Receipts::new();
    for (name, vote) in votes.iter().cycle() {
        let answer = match http.post(&url).json(vote).send().await {
            Ok(answer) => answer,
            Err(error) => {
                assert!(
                    error.is_connect() || was_never_accepted(&error),
                    "{error:?}"
                );
                break;
            }
        };
        receipts.insert(name.clone(), receipt(answer).await);
        cast.fetch_add(1, Ordering::Relaxed);
    }
    receipts
}

/// The kernel resets connections that wait to be accepted when nobody listens any more. A
/// request that the node had read and dropped would end without a reset.
fn was_never_accepted(error: &reqwest::Error) -> bool {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| {
            matches!(
                cause.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            )
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_answers_new_connections_or_refuses_them() {
    stops_under_load(cast_until_refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_cannot_be_is_refused() {
    let (mut cluster, _) = prepared(3, 1).await;
    let leader = cluster.leader().await;
    for to in [json!(9), json!(0), json!(-1), json!("2"), json!(null)] {
        let (status, body) = cluster
            .post(leader, "/cluster/transfer-leader", &json!({"to": to}))
            .await;
        assert!(status.is_client_error(), "{to}: {status} {body}");
    }
    let silent = leader % 3 + 1;
    cluster.kill(silent);
    cluster.knows_silent(leader).await;
    let (status, body) = cluster
        .post(leader, "/cluster/transfer-leader", &json!({"to": silent}))
        .await;
    assert!(!status.is_success(), "a transfer to a dead node: {body}");
    assert_eq!(
        cluster.leader().await,
        leader,
        "a refused transfer changes nothing"
    );
}

/// Cuts a node off from its peers, while clients still reach it. What the node's process
/// sends is told by its group, which is the node's own.
struct Partition {
    rules: Vec<Vec<String>>,
}

impl Partition {
    fn around(cluster: &Cluster, node: u64) -> Self {
        let (ip, group) = (
            cluster.ip(node).to_string(),
            cluster.group(node).to_string(),
        );
        let rules = [
            format!("INPUT -d {ip} -p tcp --dport 8004 -j DROP"),
            format!("OUTPUT -m owner --gid-owner {group} -p tcp --dport 8004 -j DROP"),
        ];
        let rules = rules
            .iter()
            .map(|rule| rule.split(' ').map(str::to_owned).collect())
            .collect();
        let partition = Self { rules };
        partition.apply("-I");
        partition
    }

    fn apply(&self, action: &str) {
        for rule in &self.rules {
            let status = Command::new("iptables")
                .args(["-w", action])
                .args(rule)
                .status();
            assert!(status.unwrap().success());
        }
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.apply("-D");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_leader_takes_no_write_and_answers_no_stale_read() {
    let (cluster, ballots) = prepared(20, 1).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = cluster
        .ids()
        .into_iter()
        .filter(|id| *id != leader)
        .collect();
    let ballot = &ballots[0];
    let partition = Partition::around(&cluster, leader);
    let cut = ballot.vote(1, "against");
    let results = cluster.url(leader, &format!("/proposals/{}/results", ballot.proposal));
    let (write, read) = tokio::join!(
        cluster
            .http
            .post(cluster.url(leader, "/votes"))
            .json(&cut)
            .send(),
        cluster.http.get(&results).send(),
    );
    // It may have reached a log: its fate is unknown, and the answer says so.
    assert_eq!(write.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(read.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    let stale = cluster
        .http
        .get(format!("{results}?consistency=stale"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        stale.status(),
        StatusCode::OK,
        "a stale read is served all the same"
    );

    let vote = ballot.vote(2, "for");
    eventually("the majority takes a vote", || async {
        let answer = cluster
            .http
            .post(cluster.url(others[0], "/votes"))
            .json(&vote)
            .send()
            .await
            .ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    let read = cluster.http.get(&results).send().await.unwrap();
    assert_eq!(
        read.status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "{:?}",
        read.text().await
    );
    drop(partition);
    cluster.node_ready(leader).await;
    let (status, body) = cluster.post(leader, "/votes", &cut).await;
    assert!(
        status.is_success(),
        "the same ballot again, after the heal: {status} {body}"
    );
    cluster.assert_states_agree().await;
    assert_eq!(
        cluster.results(leader, &ballot.proposal).await["results"]["total_votes"],
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_leader_serves_nothing_stale_when_it_wakes() {
    let (cluster, ballots) = prepared(20, 1).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = cluster
        .ids()
        .into_iter()
        .filter(|id| *id != leader)
        .collect();
    cluster.signal(leader, "-STOP");
    let ballot = &ballots[0];
    let vote = ballot.vote(1, "for");
    let index = eventually("the others elect a leader and take a vote", || async {
        let answer = cluster
            .http
            .post(cluster.url(others[0], "/votes"))
            .json(&vote)
            .send()
            .await
            .ok()?;
        let index: u64 = answer
            .headers()
            .get("aegis-index")?
            .to_str()
            .ok()?
            .parse()
            .ok()?;
        answer.status().is_success().then_some(index)
    })
    .await;
    cluster.signal(leader, "-CONT");
    // Its first answers come while it still believes that it leads. It may refuse, and in the
    // end it must serve.
    let url = cluster.url(leader, &format!("/proposals/{}/results", ballot.proposal));
    let mut served = 0;
    let began = Instant::now();
    while served < 50 {
        assert!(began.elapsed() < PATIENCE, "it never serves a read");
        let Ok(answer) = cluster.http.get(&url).send().await else {
            continue;
        };
        if answer.status() == StatusCode::OK {
            let seen: u64 = answer.headers()["aegis-index"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
            let body: Value = answer.json().await.unwrap();
            assert!(
                seen >= index,
                "a linearizable read at {seen} after a vote at {index}"
            );
            assert_eq!(body["results"]["total_votes"], 1);
            served += 1;
        }
    }
    let second = ballot.vote(2, "for");
    let (status, body) = cluster.post(leader, "/votes", &second).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    cluster.assert_states_agree().await;
}
