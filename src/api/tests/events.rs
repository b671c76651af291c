//! Events as subscribers see them.

use std::time::Duration;

use aegis_ledger::{EVENTS_KEPT, Ledger, Record as _, query};
use futures::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::client::raw;
use crate::world::*;

const SOON: Duration = Duration::from_secs(20);

struct Subscriber(WebSocketStream<TcpStream>);

impl Subscriber {
    async fn new(world: &World, query: &str) -> Self {
        Self::try_new(world, query).await.unwrap()
    }

    async fn try_new(world: &World, query: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(world.events).await.unwrap();
        let (socket, _) = client_async(format!("ws://aegis/consensus{query}"), stream).await?;
        Ok(Self(socket))
    }

    async fn message(&mut self) -> Message {
        let message = tokio::time::timeout(SOON, self.0.next()).await;
        message.expect("nothing came").unwrap().unwrap()
    }

    async fn event(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.event().await);
        }
        events
    }

    /// The close that must come next, after events that may come before.
    async fn close(&mut self) -> CloseFrame {
        loop {
            match self.message().await {
                Message::Close(frame) => return frame.unwrap(),
                Message::Text(_) | Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

fn place(event: &Value) -> String {
    format!("{}.{}", event["index"], event["ordinal"])
}

#[tokio::test]
async fn events_come_in_log_order_with_all_that_the_contract_names() {
    let world = World::with_agents(2).await;
    let mut subscriber = Subscriber::new(&world, "").await;
    let body = document(json!({"metadata": {"ref": 1.50}}));
    let submitted = world.admin("/proposals", &body).await.ok(201);
    world
        .post("/proposals/prop_1/open")
        .token(ADMIN)
        .send()
        .await
        .ok(200);
    world.cast(1, "prop_1", "for").await;
    world.cast(2, "prop_1", "for").await;
    let events = subscriber.events(6).await;
    assert_eq!(
        kinds(&events),
        [
            "proposal_created",
            "proposal_updated",
            "vote_cast",
            "vote_cast",
            "proposal_updated",
            "consensus_reached",
        ]
    );
    let places: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event["index"].as_u64().unwrap(),
                event["ordinal"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(places, [(2, 0), (3, 0), (4, 0), (5, 0), (5, 1), (5, 2)]);
    let created = &events[0]["proposal"];
    assert_eq!(created["proposal_id"], "prop_1");
    assert_eq!(created["status"], "draft");
    assert_eq!(created["digest"], submitted["digest"]);
    assert_eq!(created["author"], "administrator");
    assert_eq!(created["title"], body["title"]);
    assert_eq!(created["content"], body["content"]);
    assert_eq!(created["category"], "standard");
    assert!(
        events
            .iter()
            .all(|event| event["time"].as_str().unwrap().ends_with('Z'))
    );
    let without = |event: &Value, fields: [&str; 4]| {
        let mut event = event.clone();
        for field in fields {
            event.as_object_mut().unwrap().remove(field).unwrap();
        }
        event
    };
    let common = ["type", "index", "ordinal", "time"];
    let vote = json!({"proposal_id": "prop_1", "vote_id": "vote_1_2", "voter": "a2"});
    assert_eq!(without(&events[3], common), vote);
    let updated = json!({"proposal_id": "prop_1", "status": "approved"});
    assert_eq!(without(&events[4], common), updated);
    let reached = json!({"proposal_id": "prop_1", "outcome": "approved", "certified": false});
    assert_eq!(without(&events[5], common), reached);
}

/// Where there is a committee, a decision is final at its certificate and not before.
#[tokio::test]
async fn consensus_is_reached_at_the_certificate() {
    let world = World::with_committee(4, 1).await;
    let proposal = world.propose().await;
    let mut subscriber = Subscriber::new(&world, "").await;
    world.approve(&proposal, 1).await;
    let closed = subscriber.events(2).await;
    assert_eq!(kinds(&closed), ["vote_cast", "proposal_updated"]);
    world.certify(1);
    world.propose().await;
    let later = subscriber.events(2).await;
    assert_eq!(kinds(&later), ["consensus_reached", "proposal_created"]);
    let reached = json!({
        "type": "consensus_reached", "index": world.node.index() - 1, "ordinal": 0,
        "time": later[0]["time"], "proposal_id": proposal, "outcome": "approved",
        "certified": true,
    });
    assert_eq!(later[0], reached);
}

/// Wherever a subscriber resumes it sees the same events, on this node and on another.
#[tokio::test]
async fn resuming_is_inclusive_and_loses_and_doubles_nothing() {
    let world = World::with_agents(2).await;
    for _ in 0..3 {
        let proposal = world.propose().await;
        world.cast(1, &proposal, "for").await;
        world.cast(2, &proposal, "against").await;
    }
    let all = Subscriber::new(&world, "?from=0.0").await.events(15).await;
    for (skipped, event) in all.iter().enumerate() {
        let mut resumed = Subscriber::new(&world, &format!("?from={}", place(event))).await;
        assert_eq!(resumed.events(15 - skipped).await, all[skipped..]);
    }
    let other = World::over(world.node.clone(), |_| ()).await;
    assert_eq!(
        Subscriber::new(&other, "?from=0.0").await.events(15).await,
        all
    );

    // Between two events, and ahead of all of them.
    let last = &all[14];
    let after = format!(
        "?from={}.{}",
        last["index"],
        last["ordinal"].as_u64().unwrap() + 1
    );
    let mut next = Subscriber::new(&world, &after).await;
    let ahead = world.node.index() + 3;
    let mut later = Subscriber::new(&world, &format!("?from={ahead}.0")).await;
    let mut live = Subscriber::new(&world, "").await;
    for _ in 0..3 {
        world.propose_with(json!({})).await;
    }
    let indices = |events: Vec<Value>| -> Vec<u64> {
        events
            .iter()
            .map(|event| event["index"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(indices(next.events(3).await), [ahead - 2, ahead - 1, ahead]);
    assert_eq!(indices(live.events(3).await), [ahead - 2, ahead - 1, ahead]);
    assert_eq!(indices(later.events(1).await), [ahead]);
}

#[tokio::test]
async fn many_subscribers_see_the_same() {
    let world = World::with_agents(1).await;
    let mut subscribers = Vec::new();
    for _ in 0..20 {
        subscribers.push(Subscriber::new(&world, "").await);
    }
    for n in 0..400 {
        world.node.apply(aegis_ledger::Entry {
            principal: aegis_ledger::Principal::Administrator,
            request: None,
            command: aegis_ledger::Command::Propose {
                document: aegis_crypto::canonicalize(
                    &document(json!({"title": format!("P{n}")})).to_string(),
                    16,
                )
                .unwrap(),
                signature: None,
            },
        });
    }
    let first = subscribers[0].events(400).await;
    let titles: Vec<_> = first
        .iter()
        .map(|event| event["proposal"]["title"].clone())
        .collect();
    let expected: Vec<_> = (0..400).map(|n| json!(format!("P{n}"))).collect();
    assert_eq!(titles, expected);
    for subscriber in &mut subscribers[1..] {
        assert_eq!(subscriber.events(400).await, first);
    }
}

#[tokio::test]
async fn history_that_is_gone_closes_with_4410() {
    let world = World::with_agents(1).await;
    for _ in 0..10 {
        world.propose_with(json!({})).await;
    }
    // As if so many events had happened that the first five are no longer kept.
    {
        let mut state = world.node.state.lock().unwrap();
        let mut core = query::core(&state.tables).unwrap();
        core.events = EVENTS_KEPT + 5;
        state.tables.write(vec![core.put(Vec::new())]);
        state.ledger = Ledger::load(&state.tables, &world.node.genesis).unwrap();
    }
    let close = Subscriber::new(&world, "?from=2.0").await.close().await;
    assert_eq!(u16::from(close.code), 4410);
    // The first proposal was entry 2 of the log, so event 5 came from entry 7.
    assert!(
        close.reason.contains("oldest event is 7.0"),
        "{}",
        close.reason
    );
    let mut live = Subscriber::new(&world, "").await;
    world.propose_with(json!({})).await;
    assert_eq!(live.event().await["index"], 12);
}

#[tokio::test]
async fn a_stopping_server_closes_with_1012() {
    let mut world = World::new().await;
    let mut subscriber = Subscriber::new(&world, "").await;
    world.stop.cancel();
    let close = subscriber.close().await;
    assert_eq!(u16::from(close.code), 1012);
    assert!(subscriber.0.next().await.is_none());
    tokio::time::timeout(SOON, &mut world.served_events)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(world.events).await.is_err());
}

#[tokio::test]
async fn a_slow_reader_closes_with_1013_and_others_go_on() {
    let world = World::with_settings(|settings| {
        settings.events.send_timeout = Duration::from_millis(300);
        settings.events.close_timeout = SOON;
    })
    .await;
    let mut slow = Subscriber::new(&world, "").await;
    let mut quick = Subscriber::new(&world, "").await;
    let text = "x".repeat(60_000);
    let body = document(json!({"content": {"text": text}})).to_string();
    let canonical = aegis_crypto::canonicalize(&body, 16).unwrap();
    // More than the buffers of both ends take.
    for _ in 0..400 {
        world.node.apply(aegis_ledger::Entry {
            principal: aegis_ledger::Principal::Administrator,
            request: None,
            command: aegis_ledger::Command::Propose {
                document: canonical.clone(),
                signature: None,
            },
        });
        quick.event().await;
    }
    // Only once the server gave it up does it read again.
    let given_up = async {
        while !METRICS
            .render()
            .contains("subscribers_closed_total{code=\"1013\"}")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, given_up).await.unwrap();
    let close = slow.close().await;
    assert_eq!(u16::from(close.code), 1013);
}

#[tokio::test]
async fn pings_are_sent_and_the_silent_are_dropped() {
    let world = World::with_settings(|settings| {
        settings.events.ping_interval = Duration::from_millis(100);
    })
    .await;
    let mut subscriber = Subscriber::new(&world, "").await;
    for _ in 0..5 {
        // Reading answers them.
        assert!(matches!(subscriber.message().await, Message::Ping(_)));
    }
    // A raw client that answers none.
    let opening = opening("/consensus");
    let answer = tokio::time::timeout(SOON, raw(world.events, opening.as_bytes()));
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let pings = answer.as_bytes().iter().filter(|byte| **byte == 0).count();
    assert!(pings <= 6, "{answer:?}");
}

fn opening(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test]
async fn handshakes_are_answered_as_the_rfc_says() {
    let world = World::with_settings(|settings| {
        settings.events.ping_interval = Duration::from_millis(50);
    })
    .await;
    let answer = raw(world.events, opening("/consensus").as_bytes()).await;
    // RFC 6455, section 1.3.
    assert!(
        answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answer}"
    );
    for (ask, status, code) in [
        (opening("/"), "404", "not_found"),
        (opening("/consensus/"), "404", "not_found"),
        (opening("/consensus?from=5"), "400", "invalid_query"),
        (opening("/consensus?from=x.0"), "400", "invalid_query"),
        (opening("/consensus?since=1.0"), "400", "invalid_query"),
        (
            opening("/consensus").replace("GET", "POST"),
            "405",
            "method_not_allowed",
        ),
        (
            opening("/consensus").replace("version: 13", "version: 8"),
            "426",
            "upgrade_required",
        ),
        (
            opening("/consensus").replace("upgrade: WebSocket\r\n", ""),
            "426",
            "upgrade_required",
        ),
        (
            "GET /consensus HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
            "426",
            "upgrade_required",
        ),
    ] {
        let answer = raw(world.events, ask.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{ask}: {answer}"
        );
        assert!(
            answer.contains(&format!("\"code\":\"{code}\"")),
            "{ask}: {answer}"
        );
    }
}

#[tokio::test]
async fn large_handshakes_are_refused() {
    let world = World::new().await;
    let ask = format!("GET /consensus?{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    let answer = raw(world.events, ask.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    Subscriber::new(&world, "").await;
}

#[tokio::test]
async fn slow_handshakes_are_cut() {
    let world = World::with_settings(|settings| {
        settings.events.handshake_timeout = Duration::from_millis(200);
    })
    .await;
    let answer = tokio::time::timeout(SOON, raw(world.events, b"GET /consensus HTTP/1.1\r\n"));
    assert_eq!(answer.await.unwrap(), "");
}

#[tokio::test]
async fn subscribers_are_bounded() {
    let world = World::with_settings(|settings| settings.events.clients_max = 1).await;
    let first = Subscriber::new(&world, "").await;
    match Subscriber::try_new(&world, "").await {
        Err(Error::Http(reply)) => {
            assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(reply.headers()["aegis-index"], "0");
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("admitted"),
    }
    drop(first);
    let admitted = async { while Subscriber::try_new(&world, "").await.is_err() {} };
    tokio::time::timeout(SOON, admitted).await.unwrap();
}

#[tokio::test]
async fn what_subscribers_say_is_bounded() {
    let world = World::new().await;
    let mut subscriber = Subscriber::new(&world, "").await;
    subscriber.0.send(Message::text("hello")).await.unwrap();
    world.propose_with(json!({})).await;
    assert_eq!(subscriber.event().await["type"], "proposal_created");
    subscriber
        .0
        .send(Message::text("x".repeat(10_000)))
        .await
        .unwrap();
    let ended = tokio::time::timeout(SOON, async {
        while subscriber.0.next().await.is_some_and(|m| m.is_ok()) {}
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn events_need_a_token_where_reads_do() {
    let world = World::with_settings(|settings| settings.reads_need_token = true).await;
    world.register(1);
    assert!(matches!(
        Subscriber::try_new(&world, "").await,
        Err(Error::Http(reply)) if reply.status() == StatusCode::UNAUTHORIZED
    ));
    let token = world.token("a1").await;
    let mut request = "ws://aegis/consensus".into_client_request().unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let stream = TcpStream::connect(world.events).await.unwrap();
    let (socket, _) = client_async(request, stream).await.unwrap();
    world.propose_with(json!({})).await;
    assert_eq!(Subscriber(socket).event().await["type"], "proposal_created");
}
