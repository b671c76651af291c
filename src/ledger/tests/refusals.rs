//! The texts of refusals are replicated with the answers that carry them. Replicas of
//! different builds must spell them alike, so whatever a parser could have worded is
//! pinned here as a whole, as the tables keep it.

use aegis_crypto::{Typ, jws};
use aegis_ledger::*;
use serde_json::{Value, json};

use crate::world::*;

/// Carries out a keyed request and gives the refusal that the tables keep.
fn kept(world: &mut World, principal: &Principal, command: Command) -> Refusal {
    let request = RequestKey {
        key: format!("key-{}", world.index),
        body: command.digest(),
    };
    let record_key = key::request(principal, &request.key);
    let answer = world.apply(Entry {
        principal: principal.clone(),
        request: Some(request),
        command,
    });
    let record = RequestRecord::read(&world.tables, &record_key)
        .unwrap()
        .unwrap();
    assert_eq!(record.answer, answer);
    match record.answer.outcome {
        Err(refusal) => refusal,
        Ok(Receipt::Agents(mut receipts)) => receipts.remove(0).unwrap_err(),
        Ok(Receipt::Cast(mut receipts)) => receipts.remove(0).unwrap_err(),
        Ok(other) => panic!("{other:?}"),
    }
}

fn with(mut document: Value, field: &str, value: Value) -> Value {
    document[field] = value;
    document
}

fn without(mut document: Value, field: &str) -> Value {
    document.as_object_mut().unwrap().remove(field);
    document
}

#[test]
fn of_documents() {
    let good = json!({"title": "T", "description": "D", "type": "decision", "content": {}});
    let odd = |field: &str, value: Value| with(good.clone(), field, value).to_string();
    let cases = [
        (
            "{".to_owned(),
            "`document`: line 1 column 2: expected a member's name or `}`",
        ),
        (
            r#"{"a":"\x"}"#.to_owned(),
            "`document`: line 1 column 6 (/a): expected a string with valid escapes",
        ),
        (
            r#"{"a":01}"#.to_owned(),
            "`document`: line 1 column 6 (/a): expected a number, `true`, `false` or `null`",
        ),
        (
            r#"{"a":1,"a":2}"#.to_owned(),
            "`document`: line 1 column 8 (/a): the member occurs twice in its object",
        ),
        (
            "[".repeat(17),
            "`document`: line 1 column 17 (/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0): nested deeper than \
             the 16 levels allowed",
        ),
        ("{} ".to_owned(), "`document`: it is not in canonical form"),
        (
            "[]".to_owned(),
            "`document`: line 1 column 1: expected an object, found an array",
        ),
        (
            without(good.clone(), "type").to_string(),
            "`document`: line 1 column 1: missing field `type`",
        ),
        (
            odd("extra", json!(1)),
            "`document`: line 1 column 41 (/extra): unknown field; the known ones are `title`, \
             `description`, `type`, `content`, `voting_deadline`, `voting_period_s`, `category`, \
             `method`, `options`, `action`, `target`, `justification`, `evidence`, `impact`, \
             `metadata`, `electorate`, `max_rounds`, `open`",
        ),
        (
            odd("title", json!(7)),
            "`document`: line 1 column 41 (/title): expected a string, found `7`",
        ),
        (
            odd("type", json!("edict")),
            "`document`: line 1 column 52 (/type): expected one of `configuration_change`, \
             `policy_update`, `module_management`, `emergency_action`, `decision`",
        ),
        (
            odd("type", json!(null)),
            "`document`: line 1 column 52 (/type): expected one of `configuration_change`, \
             `policy_update`, `module_management`, `emergency_action`, `decision`, found `null`",
        ),
        (
            odd("category", json!("grave")),
            "`document`: line 1 column 13 (/category): expected one of `standard`, \
             `significant`, `critical`, `emergency`",
        ),
        (
            odd("voting_period_s", json!(-1)),
            "`document`: line 1 column 81 (/voting_period_s): expected an integer from 0 to \
             18446744073709551615, found `-1`",
        ),
        (
            odd("voting_period_s", json!(1.5)),
            "`document`: line 1 column 81 (/voting_period_s): expected an integer from 0 to \
             18446744073709551615, found the floating point number `1.5`",
        ),
        (
            odd("max_rounds", json!(1_u64 << 32)),
            "`document`: line 1 column 46 (/max_rounds): expected an integer from 0 to \
             4294967295, found `4294967296`",
        ),
        (
            odd("open", json!("yes")),
            "`document`: line 1 column 40 (/open): expected `true` or `false`, found a string",
        ),
        (
            odd("options", json!({})),
            "`document`: line 1 column 43 (/options): expected an array, found an object",
        ),
        (
            odd("electorate", json!(1)),
            "`document`: line 1 column 46 (/electorate): expected a list of agent ids or a \
             filter object, found `1`",
        ),
        (
            odd("electorate", json!(["a1", "not an id"])),
            "`document`: line 1 column 52 (/electorate/1): `not an id` is not an agent id: 1 to \
             64 of A-Z a-z 0-9 . _ : - beginning with a letter or digit",
        ),
        (
            odd("electorate", json!({"age": 1})),
            "`document`: line 1 column 53 (/electorate/age): unknown field; the known ones are \
             `types`, `attested`",
        ),
        (
            odd("electorate", json!({"types": ["robot"]})),
            "`document`: line 1 column 56 (/electorate/types/0): expected one of `llm`, `human`, \
             `oracle`, `system`",
        ),
        (odd("content", json!([])), "`content`: it must be an object"),
        (
            odd("voting_deadline", json!("tomorrow")),
            "`voting_deadline`: `tomorrow` is not an RFC 3339 time like 2027-12-31T23:59:59Z",
        ),
        (
            odd("voting_deadline", json!("9999-01-01T00:00:00Z")),
            "voting_period: a deadline of 9999-01-01T00:00:00.000Z is outside \
             2026-05-28T20:26:41.000Z to 2029-05-30T20:26:40.000Z",
        ),
    ];
    let mut world = World::new();
    for (document, words) in cases {
        let signature = None;
        let propose = Command::Propose {
            document: document.clone(),
            signature,
        };
        let refusal = kept(&mut world, &Principal::Administrator, propose);
        assert_eq!(refusal.to_string(), words, "{document}");
    }
}

#[test]
fn of_attestations() {
    let mut world = World::new();
    let registration = world.plain(1);
    let claims = serde_json::to_value(world.claims(&registration)).unwrap();
    let signed = |claims: &Value| jws::sign(Typ::REGISTRATION, &secret(REGISTRAR), claims).unwrap();
    let odd = |field: &str, value: Value| signed(&with(claims.clone(), field, value));
    let jwk = |member: &str, value: Value| odd("jwk", with(claims["jwk"].clone(), member, value));
    let long = "é".repeat(1_000);
    let bad = "the signature does not hold: attestation: ";
    let refused = "the payload is refused: line 1 column ";
    let cases = [
        (
            "a.b.c".to_owned(),
            format!("{bad}the header is not base64url without padding: no bytes take 1 characters"),
        ),
        (
            "e30=.e30.".to_owned(),
            format!(
                "{bad}the header is not base64url without padding: byte 3 is not one of \
                 A-Z a-z 0-9 - _"
            ),
        ),
        (
            signed(&json!([])),
            format!("{bad}{refused}1: expected an object, found an array"),
        ),
        (
            signed(&without(claims.clone(), "weight")),
            format!("{bad}{refused}1: missing field `weight`"),
        ),
        (
            odd("zeal", json!(1)),
            format!(
                "{bad}{refused}210 (/zeal): unknown field; the known ones are `aud`, `agent_id`, \
                 `type`, `weight`, `jwk`, `iat`"
            ),
        ),
        (
            odd("aud", json!("ab")),
            format!(
                "{bad}{refused}24 (/aud): a SHA-256 digest has 64 hexadecimal digits, not 2 bytes"
            ),
        ),
        (
            odd("type", json!("robot")),
            format!(
                "{bad}{refused}184 (/type): expected one of `llm`, `human`, `oracle`, `system`"
            ),
        ),
        (
            odd("weight", json!("1")),
            format!("{bad}{refused}201 (/weight): not a JSON number"),
        ),
        (
            odd("iat", json!(null)),
            format!(
                "{bad}{refused}97 (/iat): expected an integer from -9223372036854775808 to \
                 9223372036854775807, found `null`"
            ),
        ),
        (
            jwk("d", json!("secret")),
            format!(
                "{bad}{refused}97 (/jwk): the JWK contains the private key (member \"d\"); a \
                 private key must never be sent: make a new key and send only its public part"
            ),
        ),
        (
            jwk("kty", json!(long)),
            format!(
                "{bad}{refused}97 (/jwk): the JWK's \"kty\" is \"{}\\u{{e…",
                // Cut after 300 bytes.
                r"\u{e9}".repeat(46)
            ),
        ),
        (
            jwk("x", json!("=".repeat(43))),
            format!(
                "{bad}{refused}97 (/jwk): the JWK's \"x\" is not base64url without padding: byte \
                 0 is not one of A-Z a-z 0-9 - _"
            ),
        ),
        (
            jwk("x", json!("A".repeat(43))),
            format!(
                "{bad}{refused}97 (/jwk): the JWK's \"x\" is refused: the public key is weak: its \
                 point has small order"
            ),
        ),
        (
            jwk("x", json!(1)),
            format!("{bad}{refused}130 (/jwk/x): expected a string, found `1`"),
        ),
        (
            odd("type", json!("llm")),
            "the signed `attestation.type` is llm, expected human; what a ballot signs is at \
             GET /proposals/{id}/ballot"
                .to_owned(),
        ),
        (
            odd("weight", serde_json::from_str("10").unwrap()),
            "the signed `attestation.weight` is 10, expected 1; what a ballot signs is at \
             GET /proposals/{id}/ballot"
                .to_owned(),
        ),
    ];
    for (attestation, words) in cases {
        let registration = Registration {
            attestation: Some(attestation.clone()),
            proof: Some(String::new()),
            ..registration.clone()
        };
        let register = Command::RegisterAgents(vec![registration]);
        let refusal = kept(&mut world, &Principal::Administrator, register);
        assert_eq!(refusal.to_string(), words, "{attestation}");
    }
}

#[test]
fn of_ballots_and_signed_proposals() {
    let mut world = World::with_agents(1);
    let no = world.propose();
    let claims = serde_json::to_value(world.vote(1, no, Choice::For)).unwrap();
    let cases = [
        (
            with(claims.clone(), "round", json!("1")),
            "line 1 column 249 (/round): expected an integer from 0 to 4294967295, found a string",
        ),
        (
            with(claims.clone(), "seq", json!(null)),
            "line 1 column 257 (/seq): expected an integer from 0 to 18446744073709551615, found \
             `null`",
        ),
        (
            without(claims, "sub"),
            "line 1 column 1: missing field `sub`",
        ),
    ];
    for (claims, words) in cases {
        let cast = Command::Cast(vec![Ballot {
            jws: jws::sign(Typ::VOTE, &secret(1), &claims).unwrap(),
            justification: None,
        }]);
        let refusal = kept(&mut world, &Principal::Voters, cast);
        let said = refusal.to_string();
        let expected = format!("the signature does not hold: the payload is refused: {words}");
        assert_eq!(said, expected);
    }
    let propose = Command::Propose {
        document: "{}".to_owned(),
        signature: Some(jws::sign(Typ::PROPOSAL, &secret(1), &json!({"sub": 1})).unwrap()),
    };
    assert_eq!(
        kept(&mut world, &agent(1), propose).to_string(),
        "the signature does not hold: the payload is refused: line 1 column 8 (/sub): expected a \
         string, found `1`"
    );
}
