//! Bounds in time and number, failures inside, and the orderly end.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::client::{raw, read_all};
use crate::world::*;

const SHORT: Duration = Duration::from_millis(300);
/// Far more than any bound that is set here, far less than its default.
const SOON: Duration = Duration::from_secs(10);

/// Reads until the server closes, which it must do soon.
async fn closed(stream: &mut TcpStream) -> String {
    tokio::time::timeout(SOON, read_all(stream)).await.unwrap()
}

#[tokio::test]
async fn slow_heads_are_cut() {
    let world = World::with_settings(|settings| settings.http.header_timeout = SHORT).await;
    for begun in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET /livez HTTP/1.1\r\nhost: x\r\n",
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let since = Instant::now();
        let answer = closed(&mut stream).await;
        assert!(!answer.contains("200"), "{answer}");
        assert!(since.elapsed() >= SHORT / 2, "{begun}");
    }
    // Byte by byte is no faster.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let drip = async {
        for byte in b"GET /livez HTTP/1.1\r\nhost: x\r\n".iter().cycle() {
            tokio::time::sleep(SHORT / 10).await;
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, drip).await.unwrap();
    world.get("//livez").send().await.ok(200);
}

#[tokio::test]
async fn an_http2_client_that_says_nothing_is_cut() {
    let world = World::with_settings(|settings| settings.http.header_timeout = SHORT).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    closed(&mut stream).await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let world = World::with_settings(|settings| settings.http.header_timeout = SHORT).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let answer = closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Opens an HTTP/2 connection, whose end is what the task gives.
async fn http2(
    world: &World,
    window_bytes: u32,
) -> (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window_bytes)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    (sender, tokio::spawn(connection))
}

const WINDOW_BYTES: u32 = 64 * 1024;

fn livez() -> Request<Full<Bytes>> {
    Request::get("http://x/livez")
        .body(Full::default())
        .unwrap()
}

/// It answers every ping, and is closed all the same.
#[tokio::test]
async fn idle_http2_connections_are_closed() {
    let world = World::with_settings(|settings| {
        settings.http.header_timeout = SHORT;
        settings.http.connections_max = 1;
    })
    .await;
    let (mut sender, driver) = http2(&world, WINDOW_BYTES).await;
    let reply = sender.send_request(livez()).await.unwrap();
    assert_eq!(reply.status(), 200);
    reply.into_body().collect().await.unwrap();
    let ended = tokio::time::timeout(SOON, driver).await.unwrap().unwrap();
    assert!(ended.is_ok(), "told to go, not cut: {ended:?}");
    assert!(sender.send_request(livez()).await.is_err());
    // Its place is free again.
    world.get("//livez").send().await.ok(200);
}

#[tokio::test]
async fn http2_clients_that_take_no_answer_are_cut() {
    let world = World::with_settings(|settings| {
        settings.http.header_timeout = SHORT;
        settings.http.write_timeout = SHORT;
    })
    .await;
    let (mut sender, driver) = http2(&world, 0).await;
    let reply = sender.send_request(livez()).await.unwrap();
    assert_eq!(reply.status(), 200);
    let ended = tokio::time::timeout(SOON, driver).await.unwrap();
    drop(ended);
    assert!(reply.into_body().collect().await.is_err());
}

/// Only idleness ends a connection: a request may take longer than that.
#[tokio::test]
async fn a_long_request_keeps_its_http2_connection() {
    let world = World::with_settings(|settings| {
        settings.http.header_timeout = SHORT;
        settings.http.write_timeout = SHORT;
    })
    .await;
    let permits = world.node.gate.available_permits();
    world.node.gate.forget_permits(permits);
    let (mut sender, _driver) = http2(&world, WINDOW_BYTES).await;
    let request = Request::post("http://x/api/v1/consensus/proposals")
        .header("authorization", format!("Bearer {ADMIN}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(document(json!({})).to_string())))
        .unwrap();
    let answered = sender.send_request(request);
    let release = async {
        tokio::time::sleep(3 * SHORT).await;
        world.node.gate.add_permits(1);
    };
    let (reply, ()) = tokio::join!(answered, release);
    assert_eq!(reply.unwrap().status(), 201);
}

#[tokio::test]
async fn large_http2_heads_are_refused() {
    let world = World::new().await;
    let (mut sender, _driver) = http2(&world, WINDOW_BYTES).await;
    let request = Request::get("http://x/livez").header("x", "x".repeat(20_000));
    let reply = sender.send_request(request.body(Full::default()).unwrap());
    assert_eq!(reply.await.unwrap().status(), 431);
    let reply = sender.send_request(livez()).await.unwrap();
    assert_eq!(reply.status(), 200);
}

/// The head of a batch of votes of a megabyte, which comes once the server asks for it.
const BATCH_HEAD: &str = "POST /api/v1/consensus/votes/batch HTTP/1.1\r\nhost: x\r\n\
    content-type: application/json\r\ncontent-length: 1048576\r\nexpect: 100-continue\r\n\r\n";

/// Opens a connection whose request waits for its body.
async fn sender_of_a_batch(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(BATCH_HEAD.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test]
async fn bodies_that_do_not_come_take_no_room() {
    let world = World::with_settings(|settings| settings.body_room_bytes = 1 << 20).await;
    world.register(2);
    let proposal = world.propose().await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(sender_of_a_batch(&world).await);
    }
    world.cast(1, &proposal, "for").await;
}

#[tokio::test]
async fn a_body_without_room_is_refused_and_others_are_not() {
    let world = World::with_settings(|settings| settings.body_room_bytes = 64 << 10).await;
    world.register(2);
    let proposal = world.propose().await;
    let large = world.post("/votes/batch").text(vec![b'x'; 100 << 10]);
    let refused = large.send().await;
    refused.problem(429, "busy");
    assert_eq!(refused.header("retry-after"), "1");
    world.cast(1, &proposal, "for").await;
}

#[tokio::test]
async fn slow_bodies_are_cut() {
    let world = World::with_settings(|settings| settings.http.body_timeout = SHORT).await;
    let head = "POST /api/v1/consensus/votes HTTP/1.1\r\nhost: x\r\n\
        content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"proposal";
    let answer = tokio::time::timeout(SOON, raw(world.address, head.as_bytes()))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
}

#[tokio::test]
async fn bodies_that_end_early_are_nothing() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = "POST /api/v1/consensus/proposals HTTP/1.1\r\nhost: x\r\n\
        content-type: application/json\r\ncontent-length: 100\r\n\r\n{\"title\":\"T\"}";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    closed(&mut stream).await;
    assert_eq!(world.node.submitted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn large_heads_are_refused() {
    let world = World::new().await;
    for head in [
        format!(
            "GET /livez HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
            "x".repeat(20_000)
        ),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(20_000)),
        format!(
            "GET /livez HTTP/1.1\r\nhost: x\r\n{}\r\n",
            "x: y\r\n".repeat(100)
        ),
    ] {
        let answer = raw(world.address, head.as_bytes()).await;
        let expected = "HTTP/1.1 431 Request Header Fields Too Large\r\n";
        assert!(answer.starts_with(expected), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        world.get("//livez").send().await.ok(200);
    }
    let fits = format!(
        "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {}\r\n\r\n",
        "x".repeat(8_000)
    );
    assert!(
        raw(world.address, fits.as_bytes())
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn connections_beyond_the_cap_are_told_so() {
    let world = World::with_settings(|settings| settings.http.connections_max = 2).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut begun = [0; 15];
        stream.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200 OK");
        kept.push(stream);
    }
    world.register(1);
    let answer = raw(world.address, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("HTTP/1.1 503 Service Unavailable"));
    let headers: BTreeMap<_, _> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    for (name, value) in [
        ("aegis-index", "1"),
        ("connection", "close"),
        ("content-length", &body.len().to_string()),
        ("content-type", "application/problem+json"),
        ("retry-after", "1"),
    ] {
        assert_eq!(headers.get(name), Some(&value), "{answer}");
    }
    assert!(headers.contains_key("x-request-id"), "{answer}");
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["code"], "too_many_connections");
    assert_eq!(problem["status"], 503);
    // Once one leaves there is room again.
    kept.pop();
    let served = async {
        loop {
            let ask = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            if raw(world.address, ask).await.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, served).await.unwrap();
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_all_the_same() {
    let world = World::with_settings(|settings| settings.http.request_timeout = SHORT).await;
    let permits = world.node.gate.available_permits();
    assert_eq!(world.node.gate.forget_permits(permits), permits);
    let reply = world.admin("/proposals", &document(json!({}))).await;
    assert!(reply.problem(504, "timed_out").contains("Idempotency-Key"));
}

#[tokio::test]
async fn a_panic_is_one_requests_problem() {
    let world = World::new().await;
    world.node.faulty(|faults| faults.panic = true);
    world.get("/status").send().await.problem(500, "internal");
    world.get("/genesis").send().await.ok(200);
    world.node.faulty(|faults| faults.panic = false);
    world.get("/status").send().await.ok(200);
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_is_given_up() {
    let world = World::with_settings(|settings| {
        settings.http.write_timeout = SHORT;
        settings.http.connections_max = 1;
    })
    .await;
    for _ in 0..80 {
        let text = "x".repeat(60_000);
        world.node.apply(aegis_ledger::Entry {
            principal: aegis_ledger::Principal::Administrator,
            request: None,
            command: aegis_ledger::Command::Propose {
                document: aegis_crypto::canonicalize(
                    &document(json!({"content": {"text": text}})).to_string(),
                    16,
                )
                .unwrap(),
                signature: None,
            },
        });
    }
    // Answers of megabytes that nobody reads fill every buffer between.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let ask = "GET /api/v1/consensus/proposals?limit=1000 HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(ask.repeat(32).as_bytes()).await.unwrap();
    let served = async {
        loop {
            let ask = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            if raw(world.address, ask).await.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, served).await.unwrap();
}

#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge() {
    let world = World::with_agents(2).await;
    let proposal = world.propose().await;
    let (mut sender, driver) = http2(&world, WINDOW_BYTES).await;
    for n in 1..=2 {
        let body = ballot(n, &world.vote(n, &proposal, "for").await).to_string();
        let request = Request::post("http://x/api/v1/consensus/votes")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let reply = sender.send_request(request).await.unwrap();
        assert_eq!(reply.status(), 201);
        assert_eq!(reply.version(), http::Version::HTTP_2);
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["vote_id"], format!("vote_1_{n}"));
    }
    drop(sender);
    driver.await.unwrap().unwrap();
}

/// Stopping fails no request: those under way are answered, and a connection that is used
/// again is told to close first.
#[tokio::test]
async fn stopping_answers_what_was_begun() {
    let mut world = World::with_agents(1).await;
    let permits = world.node.gate.available_permits();
    world.node.gate.forget_permits(permits);
    let mut reused = TcpStream::connect(world.address).await.unwrap();
    let livez = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    reused.write_all(livez).await.unwrap();
    let mut begun = [0; 15];
    reused.read_exact(&mut begun).await.unwrap();
    let mut idle = TcpStream::connect(world.address).await.unwrap();

    let under_way = {
        let ask = world
            .post("/proposals")
            .token(ADMIN)
            .json(&document(json!({})));
        tokio::spawn(ask.send())
    };
    while world.node.submitted.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    world.stop.cancel();
    // A request on a connection that was open before is still answered, for the last time.
    reused.write_all(livez).await.unwrap();
    let answers = closed(&mut reused).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 1, "{answers}");
    assert!(answers.contains("connection: close"), "{answers}");
    closed(&mut idle).await;
    assert!(TcpStream::connect(world.address).await.is_err());

    world.node.gate.add_permits(1);
    let reply = under_way.await.unwrap();
    reply.ok(201);
    assert_eq!(reply.header("connection"), "close");
    tokio::time::timeout(SOON, &mut world.served)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn stopping_cuts_what_does_not_end() {
    let mut world = World::with_settings(|settings| {
        settings.http.linger = Duration::from_millis(10);
        settings.http.drain_timeout = SHORT;
    })
    .await;
    let permits = world.node.gate.available_permits();
    world.node.gate.forget_permits(permits);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let body = document(json!({})).to_string();
    let ask = format!(
        "POST /api/v1/consensus/proposals HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    while world.node.submitted.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    world.stop.cancel();
    tokio::time::timeout(SOON, &mut world.served)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(closed(&mut stream).await, "");
}
