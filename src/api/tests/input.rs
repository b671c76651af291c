//! Input that is not what it should be, on every route that takes a body.

use serde_json::json;

use crate::client::raw;
use crate::world::*;

const TAKES_JSON: [&str; 13] = [
    "/votes",
    "/votes/batch",
    "/proposals",
    "/proposals/prop_1/open",
    "/agents",
    "/agents/batch",
    "/agents/a1/keys",
    "/agents/a1/reports",
    "/tokens",
    "/cluster/transfer-leader",
    "/cluster/learners",
    "/cluster/members",
    "/proposals/prop_1/execute",
];

#[tokio::test]
async fn bodies_have_one_reading_and_say_where_not() {
    let world = World::with_agents(1).await;
    world.propose_with(json!({})).await;
    let index = world.node.index();
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let bodies: [(&[u8], &str); 12] = [
        (b"", "expected"),
        (b"   ", "expected"),
        (b"nope", "line 1 column 1"),
        (b"{\"a\":1", "line 1 column 7"),
        (b"{\"a\":1,\"a\":2}", "(/a)"),
        (b"{\"a\":{\"b\":1,\"b\":2}}", "(/a/b)"),
        (b"{} {}", "end of the document"),
        (b"[]", "found an array"),
        (b"null", "null"),
        (b"{\"no such field\":1}", "unknown field"),
        (b"{\"a\":\"\xff\"}", "not UTF-8 at byte 6"),
        (deep.as_bytes(), "deeper than the 16 levels"),
    ];
    for path in TAKES_JSON {
        for (body, said) in bodies {
            let optional = path.ends_with("/open") || path.ends_with("/execute");
            if optional && body.is_empty() {
                continue;
            }
            let ask = world.post(path).token(ADMIN).text(body.to_vec());
            let detail = ask.send().await.problem(400, "invalid_json");
            assert!(detail.contains(said), "{path} {body:?}: {detail}");
        }
    }
    assert_eq!(world.node.index(), index);
}

#[tokio::test]
async fn fields_have_one_type() {
    let world = World::with_agents(1).await;
    let body = ballot(1, &world.vote(1, &world.propose().await, "for").await);
    for (field, value) in [
        ("proposal_id", json!(1)),
        ("proposal_id", json!(null)),
        ("vote", json!(["for"])),
        ("confidence", json!("0.9")),
        ("confidence", json!(null)),
        ("confidence", json!(true)),
        ("justification", json!(null)),
        ("justification", json!({})),
        ("signature", json!({})),
        ("ranking", json!(["a"])),
        ("seq", json!(1)),
    ] {
        let mut body = body.clone();
        body[field] = value.clone();
        let detail = world
            .post("/votes")
            .json(&body)
            .send()
            .await
            .problem(400, "invalid_json");
        assert!(
            detail.contains(&format!("/{field}")),
            "{field} {value}: {detail}"
        );
    }
    for field in ["proposal_id", "vote", "signature"] {
        let mut body = body.clone();
        body.as_object_mut().unwrap().remove(field);
        let detail = world
            .post("/votes")
            .json(&body)
            .send()
            .await
            .problem(400, "invalid_json");
        assert!(
            detail.contains(&format!("missing field `{field}`")),
            "{detail}"
        );
    }
    // One bad form in a batch is the batch's.
    let batch = json!({"votes": [body, {"vote": "for"}]});
    let detail = world
        .post("/votes/batch")
        .json(&batch)
        .send()
        .await
        .problem(400, "invalid_json");
    assert!(detail.contains("/votes/1"), "{detail}");
}

#[tokio::test]
async fn bodies_are_json_and_say_so() {
    let world = World::with_agents(1).await;
    for path in TAKES_JSON {
        world
            .post(path)
            .token(ADMIN)
            .raw("{}")
            .send()
            .await
            .problem(415, "unsupported_media_type");
        let ask = world
            .post(path)
            .token(ADMIN)
            .header("content-type", "text/plain");
        ask.raw("{}")
            .send()
            .await
            .problem(415, "unsupported_media_type");
    }
    for content_type in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json;x=y",
    ] {
        let ask = world
            .post("/votes")
            .header("content-type", content_type)
            .raw("{}");
        ask.send().await.problem(400, "invalid_json");
    }
}

#[tokio::test]
async fn bodies_are_bounded() {
    let world = World::with_agents(1).await;
    for (path, max) in [
        ("/votes", 64 * 1024),
        ("/proposals", 64 * 1024),
        ("/votes/batch", 1024 * 1024),
        ("/agents/batch", 1024 * 1024),
    ] {
        let fits = format!("{{\"x\":\"{}\"}}", "x".repeat(max - 8));
        assert_eq!(fits.len(), max);
        world
            .post(path)
            .token(ADMIN)
            .text(fits)
            .send()
            .await
            .problem(400, "invalid_json");
        for len in [max + 1, 2 * max] {
            let detail = world
                .post(path)
                .token(ADMIN)
                .text("x".repeat(len))
                .send()
                .await
                .problem(413, "body_too_large");
            assert!(detail.contains(&max.to_string()), "{detail}");
        }
    }
    // The same without a declared length.
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let chunked = format!(
        "POST /api/v1/consensus/votes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(3)
    );
    let answer = raw(world.address, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // A client that asks first is told before it sends.
    let asked = "POST /api/v1/consensus/votes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: 100000\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    let answer = raw(world.address, asked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn routes_and_methods_are_exact() {
    let world = World::new().await;
    for path in [
        "/",
        "/votes/",
        "/propose",
        "/committee/",
        "/committee/members",
        "/checkpoints",
        "/policies",
        "/delegations",
        "/proposals/prop_1/certificates",
        "/proposals/prop_1/bundle/",
        "/audit/proofs",
        "/Votes",
        "//",
        "//api",
        "//api/v1",
        "//api/v1/consensus",
        "//api/v1/consensusvotes",
        "//api/v2/consensus/votes",
        "//votes",
        "//api/consensus/health",
        "//docs/nothing.html",
        "//docs/../metrics",
    ] {
        world.get(path).send().await.problem(404, "not_found");
    }
    for (path, allow) in [
        ("/votes", "POST"),
        ("/status", "GET,HEAD"),
        ("/proposals", "GET,HEAD,POST"),
        ("/agents/a1", "DELETE,GET,HEAD"),
        ("//health", "GET,HEAD"),
    ] {
        for method in ["PUT", "PATCH", "OPTIONS", "NONSENSE"] {
            let method = http::Method::from_bytes(method.as_bytes()).unwrap();
            let reply = crate::client::Ask::new(world.address, method, path)
                .send()
                .await;
            reply.problem(405, "method_not_allowed");
            let mut allowed: Vec<_> = reply.header("allow").split(',').collect();
            allowed.sort_unstable();
            assert_eq!(allowed.join(","), allow, "{path}");
        }
    }
    // HEAD is GET without the body.
    let get = world.get("/genesis").send().await;
    let head = crate::client::Ask::new(world.address, http::Method::HEAD, "/genesis")
        .send()
        .await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), get.body.len().to_string());
}

#[tokio::test]
async fn queries_are_exact() {
    let world = World::new().await;
    for path in [
        "/proposals?consistency=eventual",
        "/proposals?limit=5&limit=5",
        "/proposals?limit=1001",
        "/proposals?limit=five",
        "/agents?cursor=%00",
        "/status?x",
        "/audit?from=-1",
        "/audit?from=x",
        "/genesis?limit=1",
        "/votes/vote_1_1?limit=1",
    ] {
        world.get(path).send().await.problem(400, "invalid_query");
    }
    let many: Vec<_> = (0..20).map(|n| format!("p{n}=1")).collect();
    world
        .get(&format!("/status?{}", many.join("&")))
        .send()
        .await
        .problem(400, "invalid_query");
    world
        .get("/proposals?consistency=stale")
        .send()
        .await
        .ok(200);
    world
        .get("/proposals?consistency=linearizable")
        .send()
        .await
        .ok(200);
}

/// Such heads are answered by hyper, which puts nothing of ours into the answer.
#[tokio::test]
async fn bytes_that_are_no_http_harm_nobody() {
    let world = World::new().await;
    for head in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: \0\r\n\r\n",
        b"POST /api/v1/consensus/votes HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
        b"POST /api/v1/consensus/votes HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /api/v1/consensus/votes HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        let answer = raw(world.address, head).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        world.get("//livez").send().await.ok(200);
    }
    let not_frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot frames at all, not at all";
    let answer = raw(world.address, not_frames).await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
    world.get("//livez").send().await.ok(200);
}
