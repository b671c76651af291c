//! What operators see of requests: a line in the log, and metrics.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::world::*;

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines about requests.
    fn requests(&self) -> Vec<Value> {
        let log = self.0.lock().unwrap();
        let lines = std::str::from_utf8(&log).unwrap().lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &Value| line["target"] == "aegis::http")
            .map(|line| line["fields"].clone())
            .collect()
    }
}

#[tokio::test]
async fn every_request_is_one_line() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::with_agents(2).await;
    let proposal = world.propose().await;
    let claims = world.vote(2, &proposal, "for").await;
    // A test on another thread, where there is no log, may have been the first to ask
    // whether these lines are wanted.
    tracing::callsite::rebuild_interest_cache();
    let before = log.requests().len();
    let cast = world.post("/votes").header("x-request-id", "mine-7");
    cast.json(&ballot(2, &claims)).send().await.ok(201);
    world.get(&format!("/proposals/{proposal}")).send().await;
    world.get("/nothing?secret=1").send().await;
    world.post("/votes").json(&json!({})).send().await;
    let lines = log.requests().split_off(before);
    let short: Vec<_> = lines
        .iter()
        .map(|line| {
            assert!(line["duration_us"].as_u64().unwrap() < 60_000_000);
            assert!(!line["request_id"].as_str().unwrap().is_empty());
            let text = |field: &str| line[field].as_str().unwrap().to_owned();
            let status = line["status"].as_u64().unwrap();
            (text("method"), text("route"), status, text("principal"))
        })
        .collect();
    let line = |method: &str, route: &str, status, principal: &str| {
        let text = |text: &str| text.to_owned();
        (text(method), text(route), status, text(principal))
    };
    assert_eq!(
        short,
        [
            line("POST", "/votes", 201, "a2"),
            line("GET", "/proposals/{id}", 200, "-"),
            line("GET", "none", 404, "-"),
            line("POST", "/votes", 400, "-"),
        ]
    );
    assert_eq!(lines[0]["request_id"], "mine-7");
}

/// The value of a series, 0 if it is not there.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0.0, |rest| rest.trim().parse().unwrap())
}

#[tokio::test]
async fn requests_and_refusals_are_counted() {
    let world = World::with_agents(1).await;
    let read = || async {
        let reply = world.get("//metrics").send().await;
        String::from_utf8(reply.body.to_vec()).unwrap()
    };
    let before = read().await;
    let proposal = world.propose().await;
    let vote = ballot(1, &world.vote(1, &proposal, "for").await);
    let mut forged = vote.clone();
    forged["signature"] = "x".into();
    let batch = json!({"votes": [vote, forged]});
    world.post("/votes/batch").json(&batch).send().await.ok(200);
    let after = read().await;
    // Other tests of this binary count as well, so these are lower bounds.
    for series in [
        r#"aegis_http_requests_total{method="POST",route="/votes/batch",status="200"}"#,
        r#"aegis_http_requests_total{method="GET",route="/metrics",status="200"}"#,
        r#"aegis_http_request_duration_seconds_count{method="POST",route="/votes/batch"}"#,
        r#"aegis_refusals_total{code="bad_signature"}"#,
    ] {
        assert!(
            value(&after, series) > value(&before, series),
            "{series}: {after}"
        );
    }
    assert!(value(&after, r#"aegis_connections{listener="api"}"#) >= 1.0);
    assert!(value(&after, "aegis_http_requests_in_flight") >= 1.0);
    assert!(after.contains("aegis_build_info{version="));
}

/// Prometheus's own linter on what is served, where it is installed.
#[tokio::test]
async fn promtool_agrees_with_what_is_served() {
    let world = World::new().await;
    world.get("/status").send().await.ok(200);
    let served = world.get("//metrics").send().await;
    let Ok(mut child) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return;
    };
    child.stdin.take().unwrap().write_all(&served.body).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
