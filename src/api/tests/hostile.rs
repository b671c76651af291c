//! The list of bad input to a vote: each item is refused with its code, counts no ballot,
//! and leaves the node answering.

use aegis_crypto::Digest;
use aegis_crypto::claims::VoteClaims;
use serde_json::{Value, json};

use crate::statements::{b64, kid, signed};
use crate::world::*;

/// A vote that must be refused.
struct Bad {
    what: &'static str,
    status: u16,
    code: &'static str,
    body: Vec<u8>,
}

/// A good vote of agent 1, to be spoilt.
struct Good {
    claims: VoteClaims,
    vote: Value,
}

impl Good {
    async fn new(world: &World, proposal: &str) -> Self {
        let claims = world.vote(1, proposal, "for").await;
        let vote = ballot(1, &claims);
        Self { claims, vote }
    }

    fn text(&self) -> String {
        self.vote.to_string()
    }

    fn header(&self) -> String {
        let kid = kid(1);
        format!(r#"{{"alg":"EdDSA","typ":"aegis-vote+jws","kid":"{kid}"}}"#)
    }

    fn payload(&self) -> String {
        serde_json::to_string(&self.claims).unwrap()
    }

    /// The vote with a member in place of another.
    fn with(&self, member: &str, value: Value) -> Vec<u8> {
        let mut vote = self.vote.clone();
        vote[member] = value;
        vote.to_string().into_bytes()
    }

    /// The vote with another signature.
    fn with_signature(&self, signature: String) -> Vec<u8> {
        self.with("signature", signature.into())
    }

    /// The vote with other claims, rightly signed.
    fn with_claims(&self, alter: impl FnOnce(&mut VoteClaims)) -> Vec<u8> {
        let mut claims = self.claims.clone();
        alter(&mut claims);
        ballot(1, &claims).to_string().into_bytes()
    }

    /// The vote with one of its signature's parts as another text.
    fn with_part(&self, part: usize, alter: impl FnOnce(&str) -> String) -> Vec<u8> {
        let mut parts: Vec<String> = self.vote["signature"]
            .as_str()
            .unwrap()
            .split('.')
            .map(str::to_owned)
            .collect();
        parts[part] = alter(&parts[part]);
        self.with_signature(parts.join("."))
    }
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// A text with so much white space behind it.
fn padded(text: &str, spaces: usize) -> String {
    format!("{text}{}", " ".repeat(spaces))
}

/// Members of an object as an array, in their order.
fn as_array(object: &str) -> String {
    let object: serde_json::Map<String, Value> = serde_json::from_str(object).unwrap();
    Value::from_iter(object.into_iter().map(|(_, value)| value)).to_string()
}

/// An object with one more member at its end.
fn and(object: &str, member: &str) -> String {
    format!("{},{member}}}", object.strip_suffix('}').unwrap())
}

/// What is wrong with the body itself.
fn bad_bodies(good: &Good) -> Vec<Bad> {
    let bad = |what, body: Vec<u8>| Bad {
        what,
        status: 400,
        code: "invalid_json",
        body,
    };
    let text = good.text();
    let not_utf8 = [&text.as_bytes()[..text.len() - 2], b"\xff\"}"].concat();
    vec![
        Bad {
            status: 413,
            code: "body_too_large",
            ..bad("oversized", padded(&text, 64 << 10).into())
        },
        bad("deeply nested", nested(20_000).into()),
        bad(
            "deeply nested member",
            and(&text, &format!("\"x\":{}", nested(20))).into(),
        ),
        bad("duplicate key", and(&text, "\"vote\":\"for\"").into()),
        bad("unknown field", and(&text, "\"admin\":true").into()),
        bad("confidence as text", good.with("confidence", json!("0.9"))),
        bad("vote as number", good.with("vote", json!(1))),
        bad("signature as object", good.with("signature", json!({}))),
        bad("null", good.with("confidence", json!(null))),
        bad("array for object", as_array(&text).into()),
        bad("array around object", format!("[{text}]").into()),
        bad("invalid UTF-8", not_utf8),
        bad("nothing", Vec::new()),
    ]
}

/// What is wrong with the signature's form.
fn bad_statements(good: &Good) -> Vec<Bad> {
    let bad = |what, body: Vec<u8>| Bad {
        what,
        status: 401,
        code: "bad_signature",
        body,
    };
    let (header, payload) = (good.header(), good.payload());
    let with_header = |header: String| good.with_signature(signed(header, &payload));
    let with_payload = |payload: String| good.with_signature(signed(&header, payload));
    let embedded = format!("\"jwk\":{}", jwk(1));
    let unsigned = format!(
        "{}.{}.",
        b64(header.replace("EdDSA", "none")),
        b64(&payload)
    );
    vec![
        bad(
            "oversized statement",
            with_payload(padded(&payload, 8 << 10)),
        ),
        bad(
            "deeply nested header",
            with_header(and(&header, &format!("\"x\":{}", nested(20)))),
        ),
        bad(
            "deeply nested payload",
            with_payload(and(&payload, &format!("\"x\":{}", nested(20)))),
        ),
        bad(
            "duplicate key in header",
            with_header(and(&header, "\"alg\":\"EdDSA\"")),
        ),
        bad(
            "duplicate key in payload",
            with_payload(and(&payload, "\"round\":1")),
        ),
        bad(
            "unknown field in header",
            with_header(and(&header, "\"x\":1")),
        ),
        bad(
            "unknown field in payload",
            with_payload(and(&payload, "\"x\":1")),
        ),
        bad(
            "wrong type in header",
            with_header(header.replace("\"EdDSA\"", "1")),
        ),
        bad(
            "wrong type in payload",
            with_payload(payload.replace("\"round\":1", "\"round\":\"1\"")),
        ),
        bad("array for header", with_header(as_array(&header))),
        bad("array for payload", with_payload(as_array(&payload))),
        bad(
            "invalid UTF-8 in header",
            good.with_signature(signed(b"{\"\xff\"}", &payload)),
        ),
        bad(
            "invalid UTF-8 in payload",
            good.with_signature(signed(&header, b"{\"\xff\"}")),
        ),
        bad(
            "padded base64 of header",
            good.with_part(0, |part| format!("{part}=")),
        ),
        bad(
            "padded base64 of payload",
            good.with_part(1, |part| format!("{part}=")),
        ),
        bad(
            "bad base64 of header",
            good.with_part(0, |part| format!("!{}", &part[1..])),
        ),
        bad(
            "bad base64 of payload",
            good.with_part(1, |part| format!("+{}", &part[1..])),
        ),
        bad(
            "bad base64 of signature",
            good.with_part(2, |part| format!("/{}", &part[1..])),
        ),
        bad("another alg", with_header(header.replace("EdDSA", "ES256"))),
        bad(
            "a symmetric alg",
            with_header(header.replace("EdDSA", "HS256")),
        ),
        bad("alg none", with_header(header.replace("EdDSA", "none"))),
        bad("alg none without signature", good.with_signature(unsigned)),
        bad("crit", with_header(and(&header, "\"crit\":[\"exp\"]"))),
        bad("an embedded key", with_header(and(&header, &embedded))),
        bad(
            "wrong typ",
            with_header(header.replace("aegis-vote", "aegis-command")),
        ),
        bad("another's key", {
            let mut vote = ballot(2, &good.claims);
            vote["vote"] = "for".into();
            vote.to_string().into_bytes()
        }),
    ]
}

/// What a well signed statement says wrongly.
fn bad_claims(good: &Good, other: &Good) -> Vec<Bad> {
    let bad = |what, status, code, body| Bad {
        what,
        status,
        code,
        body,
    };
    let mismatch = |what, body| bad(what, 422, "statement_mismatch", body);
    let extreme = good
        .text()
        .replace("\"confidence\":0.9", "\"confidence\":1e-2147483648");
    vec![
        mismatch("wrong audience", good.with_claims(|c| c.aud = Digest::ZERO)),
        mismatch(
            "another proposal's signature",
            good.with_signature(other.vote["signature"].as_str().unwrap().to_owned()),
        ),
        mismatch(
            "another proposal under this digest",
            good.with_claims(|c| c.proposal.clone_from(&other.claims.proposal)),
        ),
        mismatch("another round", good.with_claims(|c| c.round = 2)),
        mismatch("another choice", good.with("vote", json!("against"))),
        bad(
            "expired",
            401,
            "expired_statement",
            good.with_claims(|c| c.exp = Some(c.iat - 120)),
        ),
        bad(
            "signed in the future",
            401,
            "expired_statement",
            good.with_claims(|c| c.iat += 120),
        ),
        bad(
            "by nobody",
            403,
            "unknown_voter",
            good.with_claims(|c| c.sub = "mallory".into()),
        ),
        bad(
            "an extreme number",
            422,
            "invalid_confidence",
            extreme.into(),
        ),
    ]
}

#[tokio::test]
async fn bad_votes_are_refused_and_counted_nowhere() {
    let world = World::with_agents(3).await;
    let proposal = world.propose().await;
    let other = world
        .propose_with(json!({"open": true, "title": "Another"}))
        .await;
    let good = Good::new(&world, &proposal).await;
    let other = Good::new(&world, &other).await;
    for Bad {
        what,
        status,
        code,
        body,
    } in bad_bodies(&good)
    {
        let detail = world.refuses(body, status, code).await;
        assert!(!detail.is_empty(), "{what}");
    }
    let signed = bad_statements(&good)
        .into_iter()
        .chain(bad_claims(&good, &other));
    for Bad {
        what,
        status,
        code,
        body,
    } in signed
    {
        world.refuses(body.clone(), status, code).await;
        // In a batch it fails in the same way, and alone.
        let batch = [b"{\"votes\":[", body.as_slice(), b"]}"].concat();
        let reply = world.post("/votes/batch").text(batch).send().await.ok(200);
        let result = &reply["results"][0];
        assert_eq!(
            (&result["status"], &result["code"]),
            (&json!(status), &json!(code)),
            "{what}: {result}"
        );
    }
    for proposal in ["prop_1", "prop_2"] {
        let votes = &world.read(&format!("/proposals/{proposal}")).await["votes"];
        assert_eq!(votes["total"], 0);
    }
    // What was spoilt was good, and its repeat counts no second time.
    for status in [201, 200] {
        world
            .post("/votes")
            .json(&good.vote)
            .send()
            .await
            .ok(status);
    }
    assert_eq!(world.read("/proposals/prop_1").await["votes"]["total"], 1);
}

/// Forms that spoil a batch as a whole.
#[tokio::test]
async fn bad_batches_are_refused_and_counted_nowhere() {
    let world = World::with_agents(3).await;
    let proposal = world.propose().await;
    let good = Good::new(&world, &proposal).await;
    let text = good.text();
    for (status, code, batch) in [
        (413, "body_too_large", padded(&text, 1 << 20)),
        (400, "invalid_json", nested(200_000)),
        (400, "invalid_json", format!("[{text}]")),
        (400, "invalid_json", format!("[[{text}]]")),
        (400, "invalid_json", format!("{{\"votes\":{text}}}")),
        (
            400,
            "invalid_json",
            format!("{{\"votes\":[{text},{}]}}", as_array(&text)),
        ),
        (
            400,
            "invalid_json",
            format!("{{\"votes\":[{text}],\"votes\":[{text}]}}"),
        ),
        (
            400,
            "invalid_json",
            format!("{{\"votes\":[{text}],\"force\":true}}"),
        ),
        (422, "invalid_field", "{\"votes\":[]}".to_owned()),
    ] {
        let reply = world.post("/votes/batch").text(batch).send().await;
        reply.problem(status, code);
        assert_eq!(world.read("/proposals/prop_1").await["votes"]["total"], 0);
    }
}
