//! Statements that look signed and are not: each way in which verifiers have been fooled.

use aegis_crypto::claims::VoteClaims;
use aegis_crypto::{PublicKey, Typ, jws};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signature, SigningKey, Verifier as _};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::world::*;

pub fn b64(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A statement of agent 1 with this header and payload, signed rightly over them.
pub fn signed(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    let text = format!("{}.{}", b64(header), b64(payload));
    let signature = secret(1).sign(text.as_bytes());
    format!("{text}.{}", b64(signature))
}

pub fn kid(n: u32) -> String {
    secret(n).public().kid().to_string()
}

/// Casts a statement on the first proposal, which must be refused without a trace.
async fn refused(world: &World, signature: &str) -> String {
    let body = json!({
        "proposal_id": "prop_1", "vote": "for", "confidence": 0.9, "signature": signature,
    });
    let index = world.node.index();
    let detail = world.refuses(body.to_string(), 401, "bad_signature").await;
    assert_eq!(world.node.index(), index, "{detail}");
    detail
}

async fn world_and_claims() -> (World, VoteClaims) {
    let world = World::with_agents(3).await;
    let proposal = world.propose().await;
    let claims = world.vote(1, &proposal, "for").await;
    (world, claims)
}

#[tokio::test]
async fn headers_that_fool_verifiers_are_refused() {
    let (world, claims) = world_and_claims().await;
    let payload = serde_json::to_string(&claims).unwrap();
    let kid = kid(1);
    let with = |members: &str| {
        format!(r#"{{"alg":"EdDSA","typ":"aegis-vote+jws","kid":"{kid}"{members}}}"#)
    };
    world
        .post("/votes")
        .json(&json!({
            "proposal_id": "prop_1", "vote": "for", "confidence": 0.9,
            "signature": signed(with(""), &payload),
        }))
        .send()
        .await
        .ok(201);
    let jwk = jwk(9);
    for (header, said) in [
        (with("").replace("EdDSA", "none"), "none"),
        (with("").replace("EdDSA", "nOnE"), "none"),
        (with("").replace("EdDSA", "HS256"), "HS256"),
        (with("").replace("EdDSA", "ES256"), "ES256"),
        (with("").replace("EdDSA", "eddsa"), "eddsa"),
        (with(r#","crit":["exp"]"#), "crit"),
        (with(r#","crit":[]"#), "crit"),
        (with(&format!(r#","jwk":{jwk}"#)), "jwk"),
        (with(r#","jku":"https://evil.example/keys""#), "jku"),
        (with(r#","x5c":[]"#), "x5c"),
        (with(r#","b64":false"#), "b64"),
        (with(r#","kid":"again""#), "kid"),
        (
            with("").replace("aegis-vote+jws", "aegis-proposal+jws"),
            "typ",
        ),
        (with("").replace("aegis-vote+jws", "JWT"), "typ"),
        (with("").replace(&kid, "a1"), "kid"),
        (with("").replace(r#""typ":"aegis-vote+jws","#, ""), "typ"),
        (format!("[{}]", with("")), "object"),
        (r#"["EdDSA","aegis-vote+jws"]"#.to_owned(), "object"),
        ("\u{feff}{}".to_owned(), "JSON"),
        (String::new(), "JSON"),
    ] {
        let detail = refused(&world, &signed(&header, &payload)).await;
        assert!(detail.contains(said), "{header}: {detail}");
    }
}

#[tokio::test]
async fn payloads_are_read_in_one_way_alone() {
    let (world, claims) = world_and_claims().await;
    let header = format!(
        r#"{{"alg":"EdDSA","typ":"aegis-vote+jws","kid":"{}"}}"#,
        kid(1)
    );
    let good = serde_json::to_string(&claims).unwrap();
    let open = good.strip_suffix('}').unwrap();
    let values: Vec<Value> = serde_json::to_value(&claims)
        .unwrap()
        .as_object()
        .unwrap()
        .values()
        .cloned()
        .collect();
    for (payload, said) in [
        (format!("{open},\"choice\":\"against\"}}"), "twice"),
        (format!("{open},\"admin\":true}}"), "unknown field"),
        (format!("{open},\"exp\":null}}"), "null"),
        (format!("{open},\"iat\":1.5}}"), "twice"),
        (good.replace("\"round\":1", "\"round\":\"1\""), "string"),
        (
            good.replace("\"round\":1", "\"round\":1.0"),
            "floating point",
        ),
        (good.replace("\"round\":1", "\"round\":-1"), "integer"),
        (serde_json::to_string(&values).unwrap(), "found an array"),
        (format!("{good} x"), "end of the document"),
        ("{".repeat(100), "expected"),
        (String::new(), "expected"),
    ] {
        let detail = refused(&world, &signed(&header, &payload)).await;
        assert!(detail.contains(said), "{payload}: {detail}");
    }
    let not_utf8 = format!("{}.{}", b64(&header), b64([0xff, 0xfe]));
    let signature = b64(secret(1).sign(not_utf8.as_bytes()));
    let detail = refused(&world, &format!("{not_utf8}.{signature}")).await;
    assert!(detail.contains("UTF-8"), "{detail}");
}

#[tokio::test]
async fn other_spellings_of_a_signature_are_refused() {
    let (world, claims) = world_and_claims().await;
    let good = jws::sign(Typ::VOTE, &secret(1), &claims).unwrap();
    let (text, signature) = good.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for spelled in [
        format!("{text}.{}", URL_SAFE.encode(&bytes)),
        format!("{text}.{}", STANDARD.encode(&bytes)),
        format!("{text}.{} ", signature),
        format!("{text}.{}", &signature[1..]),
        format!("{text}.{signature}A"),
        format!("{text}.{}", b64([0; 64])),
        format!("{text}."),
        format!("{text}..{signature}"),
        format!(".{text}.{signature}"),
        text.to_owned(),
        String::new(),
        "\0".to_owned(),
        format!("{}.{}", "A".repeat(9_000), signature),
    ] {
        refused(&world, &spelled).await;
    }
    // One bit of the message.
    let mut altered = claims.clone();
    altered.choice = "abstain".to_owned();
    let other = jws::sign(Typ::VOTE, &secret(1), &altered).unwrap();
    let (other_text, _) = other.rsplit_once('.').unwrap();
    let body = json!({
        "proposal_id": "prop_1", "vote": "abstain", "confidence": 0.9,
        "signature": format!("{other_text}.{signature}"),
    });
    let reply = world.post("/votes").json(&body).send().await;
    assert!(
        reply
            .problem(401, "bad_signature")
            .contains("does not verify")
    );
    world.cast(1, "prop_1", "for").await;
}

/// The signature of R = identity and S = k * a, which only the holder of the secret a can
/// make. Lenient verifiers take it and strict ones do not ("Taming the many EdDSAs"): were
/// it admitted here, replicas and third parties could disagree about the ballot.
fn nonce_of_small_order(n: u32, message: &[u8]) -> [u8; 64] {
    let signer = SigningKey::from_bytes(&seed(n));
    let r = EdwardsPoint::default().compress();
    let challenge = sha2::Sha512::new()
        .chain_update(r.as_bytes())
        .chain_update(signer.verifying_key().as_bytes())
        .chain_update(message)
        .finalize();
    let s = Scalar::from_bytes_mod_order_wide(&challenge.into()) * signer.to_scalar();
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(r.as_bytes());
    bytes[32..].copy_from_slice(s.as_bytes());
    let (key, signature) = (signer.verifying_key(), Signature::from_bytes(&bytes));
    assert!(key.verify(message, &signature).is_ok());
    assert!(key.verify_strict(message, &signature).is_err());
    bytes
}

#[tokio::test]
async fn what_only_lenient_verifiers_accept_is_refused() {
    let (world, claims) = world_and_claims().await;
    let good = jws::sign(Typ::VOTE, &secret(1), &claims).unwrap();
    let (text, _) = good.rsplit_once('.').unwrap();
    let forged = nonce_of_small_order(1, text.as_bytes());
    let detail = refused(&world, &format!("{text}.{}", b64(forged))).await;
    assert!(detail.contains("does not verify"), "{detail}");
    // The same statement as an item of a batch, which is verified on another path.
    let vote = json!({
        "proposal_id": "prop_1", "vote": "for", "confidence": 0.9,
        "signature": format!("{text}.{}", b64(forged)),
    });
    let batch = json!({"votes": [vote]});
    let reply = world.post("/votes/batch").json(&batch).send().await.ok(200);
    assert_eq!(reply["results"][0]["code"], "bad_signature");
    assert_eq!(world.read("/proposals/prop_1").await["votes"]["total"], 0);
    world.cast(1, "prop_1", "for").await;
}

/// A statement under the identity point as a key, for which R = identity and S = 0 fit
/// every message. Nobody has such a key, so its name leads nowhere.
#[tokio::test]
async fn the_identity_forgery_finds_no_key() {
    let (world, claims) = world_and_claims().await;
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64(IDENTITY));
    let kid = b64(sha2::Sha256::digest(&jwk));
    let header = format!(r#"{{"alg":"EdDSA","typ":"aegis-vote+jws","kid":"{kid}"}}"#);
    let payload = serde_json::to_string(&claims).unwrap();
    let text = format!("{}.{}", b64(header), b64(payload));
    let mut forged = [0; 64];
    forged[..32].copy_from_slice(&IDENTITY);
    let key = ed25519_dalek::VerifyingKey::from_bytes(&IDENTITY).unwrap();
    let lenient = key.verify(text.as_bytes(), &Signature::from_bytes(&forged));
    assert!(lenient.is_ok());
    let detail = refused(&world, &format!("{text}.{}", b64(forged))).await;
    assert!(detail.contains(&kid), "{detail}");
}

/// The neutral point of the curve.
const IDENTITY: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes
};

/// The keys under which signatures are forged at will, or hold by luck, cannot be
/// registered.
#[tokio::test]
async fn weak_keys_are_refused() {
    let world = World::new().await;
    let order_4 = [0_u8; 32];
    let order_8 = hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
    let not_canonical = {
        let mut bytes = [0xff_u8; 32];
        bytes[0] = 0xee;
        bytes[31] = 0x7f;
        bytes
    };
    // A good key and a point of order 8.
    let mixed = (ED25519_BASEPOINT_POINT + EIGHT_TORSION[1]).compress();
    assert!(ed25519_dalek::VerifyingKey::from_bytes(mixed.as_bytes()).is_ok());
    assert!(PublicKey::from_bytes(ED25519_BASEPOINT_POINT.compress().as_bytes()).is_ok());
    for (x, said) in [
        (IDENTITY, "identity"),
        (mixed.to_bytes(), "prime-order group"),
        (order_4, "weak"),
        (order_8, "weak"),
        (not_canonical, "canonical"),
        ([2; 32], "curve"),
    ] {
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(x)});
        let body = json!({"name": "Mallory", "type": "llm", "public_key": key});
        let detail = world
            .admin("/agents", &body)
            .await
            .problem(422, "invalid_key");
        assert!(detail.contains(said), "{detail}");
    }
    for key in [
        json!({"kty": "OKP", "crv": "X25519", "x": b64([3; 32])}),
        json!({"kty": "EC", "crv": "Ed25519", "x": b64([3; 32])}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}),
        json!({"kty": "OKP", "crv": "Ed25519"}),
        json!(["OKP", "Ed25519", b64([3; 32])]),
        json!({"kty": "OKP", "crv": "Ed25519", "x": jwk(1)["x"], "d": b64([1; 32])}),
        json!("key"),
        json!(null),
    ] {
        let body = json!({"name": "Mallory", "type": "llm", "public_key": key});
        world
            .admin("/agents", &body)
            .await
            .problem(422, "invalid_key");
    }
    assert_eq!(world.node.index(), 0);
}

fn hex(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap();
    }
    bytes
}

/// A signature for one thing is not one for another.
#[tokio::test]
async fn a_ballot_counts_for_its_proposal_and_cluster_alone() {
    let (world, claims) = world_and_claims().await;
    let other = world
        .propose_with(json!({"title": "Another", "open": true}))
        .await;
    for (alter, field) in [
        (
            Box::new(|c: &mut VoteClaims| c.proposal = other.clone())
                as Box<dyn Fn(&mut VoteClaims)>,
            "digest",
        ),
        (
            Box::new(|c: &mut VoteClaims| c.aud = aegis_crypto::Digest::ZERO),
            "aud",
        ),
        (Box::new(|c: &mut VoteClaims| c.round = 7), "round"),
    ] {
        let mut claims = claims.clone();
        alter(&mut claims);
        let body = ballot(1, &claims).to_string();
        let detail = world.refuses(body, 422, "statement_mismatch").await;
        assert!(detail.contains(&format!("`{field}`")), "{detail}");
    }
}
