use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::claims::VoteClaims;
use crate::digest::Digest;

const MAX_LEN: usize = 4_096;

/// A vote signed with Python's `cryptography`, under the key whose seed is 00 01 02 .. 1f.
const PYTHON: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6IjFJRzJ0TUg3SjJ3Ykpabk9mOExKelFpdEtmN0xNdm9BRW\
    xzdURNVk01NFkiLCJ0eXAiOiJhZWdpcy12b3RlK2p3cyJ9.eyJhdWQiOiIxNjRjZjFjYTgzOTE1MzJlNGYyMzljNTU2Yz\
    BjMTk1ODlhZTg4NzdjYjI1ZWNmYWYwYjMxMGM2YzM3MTNiYTFmIiwicHJvcG9zYWwiOiJwcm9wXzEyMzQ1IiwiZGlnZXN\
    0IjoiODJlMzFkNTAyMGE4ODkwM2FhOWM1YTZiZmY1YzA3OGVjM2QwZWI4OTQ2YzA0ZTBiYTE3YjgxNmYzMTFlYjYzMyIs\
    InJvdW5kIjoxLCJzdWIiOiJhZ2VudC03IiwiY2hvaWNlIjoiZm9yIiwiY29uZmlkZW5jZSI6IjAuOSIsImp0aSI6IjBiN\
    2UyYTNjIiwiaWF0IjoxODAwMDAwMDAwfQ.YdHeT9oHetfisKPmCMBus52xcZVJOuCLGcd1E3AUxbkPyRNPVKjY5yo3m6m\
    hKneljpEd2FNalV-hgzZxGdb0Cg";

fn key() -> SecretKey {
    SecretKey::from_seed(&std::array::from_fn(|index| u8::try_from(index).unwrap()))
}

fn other_key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn vote() -> VoteClaims {
    VoteClaims {
        aud: Digest::of("cluster"),
        sub: "agent-7".to_owned(),
        proposal: "prop_12345".to_owned(),
        digest: Digest::of("voting"),
        round: 1,
        choice: "for".to_owned(),
        confidence: "0.9".to_owned(),
        justification_sha256: None,
        jti: "0b7e2a3c".to_owned(),
        iat: 1_800_000_000,
        exp: None,
        seq: None,
    }
}

fn parse(compact: &str) -> Result<Jws<'_>, JwsError> {
    Jws::parse(compact, Typ::VOTE, MAX_LEN)
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A well-signed statement with any header.
fn signed(header: impl AsRef<[u8]>) -> String {
    let compact = format!("{}.{}", encode(header), encode("{}"));
    let signature = key().sign(compact.as_bytes());
    format!("{compact}.{}", encode(signature))
}

/// The refusal of a well-signed statement with that header.
fn refused(header: impl AsRef<[u8]>) -> JwsError {
    parse(&signed(header)).unwrap_err()
}

/// A good header as a value to spoil.
fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "aegis-vote+jws", "kid": key().public().kid()})
}

fn header_with(member: &str, value: Value) -> String {
    let mut header = header();
    header[member] = value;
    header.to_string()
}

fn header_without(member: &str) -> String {
    let mut header = header();
    header.as_object_mut().unwrap().remove(member);
    header.to_string()
}

#[test]
fn what_is_signed_verifies() {
    let compact = sign(Typ::VOTE, &key(), &vote()).unwrap();
    let statement = parse(&compact).unwrap();
    assert_eq!(statement.compact(), compact);
    assert_eq!(*statement.kid(), key().public().kid());
    assert_eq!(statement.claims(), Ok(vote()));
    assert_eq!(statement.verify(&key().public()), Ok(()));
}

#[test]
fn another_implementation_agrees() {
    let statement = parse(PYTHON).unwrap();
    assert_eq!(statement.claims(), Ok(vote()));
    assert_eq!(statement.verify(&key().public()), Ok(()));
    // Ed25519 is deterministic, so the same bytes get the same signature.
    let (signed, signature) = PYTHON.rsplit_once('.').unwrap();
    assert_eq!(encode(key().sign(signed.as_bytes())), signature);
}

/// RFC 8037, appendices A.4 and A.5. Its header has neither `typ` nor `kid`, so it is no
/// statement of ours, but its signature is good.
#[test]
fn rfc8037_vector() {
    let compact = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
        hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let seed = URL_SAFE_NO_PAD
        .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
        .unwrap();
    let key = SecretKey::from_seed(&seed.try_into().unwrap());
    let (signed, signature) = compact.rsplit_once('.').unwrap();
    assert_eq!(encode(key.sign(signed.as_bytes())), signature);
    let signature = decode_signature(signature).unwrap();
    assert_eq!(key.public().verify(signed.as_bytes(), &signature), Ok(()));
    assert_eq!(
        parse(compact).unwrap_err(),
        JwsError::MissingMember { member: "typ" }
    );
}

#[test]
fn both_names_of_the_algorithm_are_taken() {
    for alg in ["EdDSA", "Ed25519"] {
        let compact = signed(header_with("alg", json!(alg)));
        assert_eq!(parse(&compact).unwrap().verify(&key().public()), Ok(()));
    }
}

mod header_refusals {
    use super::*;

    #[test]
    fn alg_none() {
        for alg in ["none", "None", "nOnE"] {
            assert_eq!(
                refused(header_with("alg", json!(alg))),
                JwsError::AlgorithmNone
            );
        }
        // Even in the form that RFC 7519 gives unsecured tokens.
        let unsecured = format!(
            "{}.{}.",
            encode(header_with("alg", json!("none"))),
            encode("{}")
        );
        assert_eq!(parse(&unsecured).unwrap_err(), JwsError::AlgorithmNone);
    }

    #[test]
    fn another_alg() {
        for alg in ["HS256", "ES256", "RS256", "Ed448", "eddsa", "EdDSA ", ""] {
            assert_eq!(
                refused(header_with("alg", json!(alg))),
                JwsError::Algorithm {
                    found: alg.to_owned()
                }
            );
        }
    }

    #[test]
    fn crit() {
        assert_eq!(
            refused(header_with("crit", json!(["b64"]))),
            JwsError::Critical
        );
        assert_eq!(refused(header_with("crit", json!([]))), JwsError::Critical);
    }

    #[test]
    fn an_embedded_key() {
        for member in ["jwk", "jku", "x5c", "x5u", "x5t", "x5t#S256"] {
            assert_eq!(
                refused(header_with(member, json!({}))),
                JwsError::EmbeddedKey { member }
            );
        }
    }

    #[test]
    fn an_unknown_member() {
        for member in ["b64", "cty", "zip", "ALG", ""] {
            assert_eq!(
                refused(header_with(member, json!(false))),
                JwsError::UnknownMember {
                    member: member.to_owned()
                }
            );
        }
    }

    #[test]
    fn another_typ() {
        for typ in [
            "JWT",
            "aegis-registration+jws",
            "AEGIS-VOTE+JWS",
            "application/aegis-vote+jws",
            "",
        ] {
            assert_eq!(
                refused(header_with("typ", json!(typ))),
                JwsError::Type {
                    found: typ.to_owned(),
                    expected: "aegis-vote+jws"
                }
            );
        }
        let proposal = sign(Typ::PROPOSAL, &key(), &json!({})).unwrap();
        assert!(Jws::parse(&proposal, Typ::PROPOSAL, MAX_LEN).is_ok());
        for typ in [Typ::VOTE, Typ::REGISTRATION, Typ::COMMAND] {
            assert!(matches!(
                Jws::parse(&proposal, typ, MAX_LEN),
                Err(JwsError::Type { .. })
            ));
        }
    }

    #[test]
    fn a_kid_that_is_no_thumbprint() {
        for kid in ["", "alice", "../../etc/passwd"] {
            assert_eq!(
                refused(header_with("kid", json!(kid))),
                JwsError::KeyId {
                    found: kid.to_owned()
                }
            );
        }
        let JwsError::KeyId { found } = refused(header_with("kid", json!("k".repeat(1_000))))
        else {
            panic!("a long kid is refused as a kid");
        };
        assert_eq!(found, "k".repeat(64));
    }

    #[test]
    fn a_duplicate_member() {
        for member in ["alg", "typ", "kid"] {
            let header = header().to_string();
            let again = format!(r#""{member}":{},"#, super::header()[member]);
            let twice = header.replacen('{', &format!("{{{again}"), 1);
            assert_eq!(refused(twice), JwsError::DuplicateMember { member });
        }
        let escaped = header()
            .to_string()
            .replacen('{', r#"{"\u0061lg":"EdDSA","#, 1);
        assert_eq!(
            refused(escaped),
            JwsError::DuplicateMember { member: "alg" }
        );
    }

    #[test]
    fn a_missing_member() {
        for member in ["alg", "typ", "kid"] {
            assert_eq!(
                refused(header_without(member)),
                JwsError::MissingMember { member }
            );
        }
    }

    #[test]
    fn a_member_that_is_no_string() {
        for member in ["alg", "typ", "kid"] {
            for value in [
                json!(null),
                json!(1),
                json!(["EdDSA"]),
                json!({"a": {"b": 1}}),
            ] {
                assert_eq!(
                    refused(header_with(member, value)),
                    JwsError::MemberNotString { member }
                );
            }
        }
    }

    #[test]
    fn no_object() {
        for header in [
            "[]",
            "\"EdDSA\"",
            "1",
            "null",
            r#"["EdDSA","aegis-vote+jws"]"#,
        ] {
            assert_eq!(refused(header), JwsError::HeaderNotObject);
        }
    }

    #[test]
    fn no_json() {
        let mut cut = header().to_string();
        cut.pop();
        for header in [
            "",
            "{",
            "{}x",
            "{'alg':'EdDSA'}",
            &cut,
            &format!("{}{{}}", header()),
        ] {
            assert!(matches!(refused(header), JwsError::Header(_)), "{header}");
        }
    }

    #[test]
    fn no_utf8() {
        assert_eq!(
            refused(b"{\"alg\xFF\":1}"),
            JwsError::Header(JsonError::NotUtf8 { offset: 5 })
        );
    }
}

mod envelope_refusals {
    use super::*;

    #[test]
    fn too_long() {
        assert!(Jws::parse(PYTHON, Typ::VOTE, PYTHON.len()).is_ok());
        assert_eq!(
            Jws::parse(PYTHON, Typ::VOTE, PYTHON.len() - 1).unwrap_err(),
            JwsError::TooLong {
                found: PYTHON.len(),
                max: PYTHON.len() - 1
            }
        );
    }

    #[test]
    fn parts() {
        let (two, _) = PYTHON.rsplit_once('.').unwrap();
        for (compact, found) in [
            ("", 1),
            ("a", 1),
            (two, 2),
            (&*format!("{PYTHON}."), 4),
            (&*format!(".{PYTHON}"), 4),
            ("a.b.c.d.e", 5),
        ] {
            assert_eq!(
                parse(compact).unwrap_err(),
                JwsError::Parts { found },
                "{compact}"
            );
        }
    }

    #[test]
    fn base64() {
        let spoilt = |index: usize, spoil: &dyn Fn(&str) -> String| {
            let mut parts: Vec<String> = PYTHON.split('.').map(str::to_owned).collect();
            parts[index] = spoil(&parts[index]);
            parse(&parts.join(".")).unwrap_err()
        };
        let parts = [Part::Header, Part::Payload, Part::Signature];
        for (index, expected) in parts.into_iter().enumerate() {
            for wrong in ['+', '/', '=', ' ', '\n', 'é'] {
                // Replaces rather than adds, to keep the signature's length; `é` has two
                // bytes.
                let spoil = |part: &str| {
                    let kept = &part[wrong.len_utf8()..];
                    format!("{wrong}{kept}")
                };
                let refusal = spoilt(index, &spoil);
                assert!(
                    matches!(refusal, JwsError::Base64 { part, .. } if part == expected),
                    "{expected} {wrong:?}: {refusal:?}"
                );
            }
        }
        for index in [0, 1] {
            for padding in ["=", "==", "\n"] {
                let refusal = spoilt(index, &|part| format!("{part}{padding}"));
                assert!(matches!(refusal, JwsError::Base64 { .. }), "{refusal:?}");
            }
        }
    }

    /// The last character of each part carries bits that belong to no byte; were they
    /// ignored, a statement would have several spellings.
    #[test]
    fn trailing_bits() {
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut spoilt_parts = 0;
        for blanks in ["", " ", "  "] {
            let header = format!("{}{blanks}", header());
            let payload = format!("{{}}{blanks}");
            let compact = format!("{}.{}", encode(header), encode(payload));
            let good = format!("{compact}.{}", encode(key().sign(compact.as_bytes())));
            assert!(parse(&good).is_ok());
            for (index, part) in good.split('.').enumerate() {
                if part.len() % 4 == 0 {
                    continue;
                }
                let (start, last) = part.split_at(part.len() - 1);
                let next = &ALPHABET[ALPHABET.find(last).unwrap() + 1..][..1];
                let mut parts: Vec<&str> = good.split('.').collect();
                let spoilt = format!("{start}{next}");
                parts[index] = &spoilt;
                match parse(&parts.join(".")) {
                    Err(JwsError::Base64 {
                        source: Base64Error::TrailingBits,
                        ..
                    }) => spoilt_parts += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        // Two of three headers and payloads, and every signature.
        assert_eq!(spoilt_parts, 7);
    }

    #[test]
    fn signature_length() {
        let (signed, signature) = PYTHON.rsplit_once('.').unwrap();
        for signature in [&signature[2..], "", &format!("{signature}AA")] {
            assert_eq!(
                parse(&format!("{signed}.{signature}")).unwrap_err(),
                JwsError::SignatureLength {
                    found: signature.len()
                }
            );
        }
    }
}

/// Replicas keep these texts and must spell them alike, so each is pinned whole.
#[test]
fn refusals_have_words_of_their_own() {
    let claims = |payload: &str| {
        let header = encode(header().to_string());
        let compact = format!(
            "{header}.{}.{}",
            encode(payload),
            "A".repeat(SIGNATURE_CHARS)
        );
        parse(&compact).unwrap().claims::<VoteClaims>().unwrap_err()
    };
    let payload = |member: &str, value: Value| {
        let mut payload = serde_json::to_value(vote()).unwrap();
        payload[member] = value;
        payload.to_string()
    };
    // Unprintable, combining, not yet assigned: what `{:?}` decides by its Unicode tables.
    let odd = json!("a\u{300}\u{378}\n\"\u{1f600}");
    let odd_said = r#""a\u{300}\u{378}\u{a}\"\u{1f600}""#;
    let kid = key().public().kid();
    let cases = [
        (
            parse("a.b.c.d").unwrap_err(),
            "the statement has 4 parts instead of header, payload and signature".to_owned(),
        ),
        (
            parse("e30=.e30.").unwrap_err(),
            "the header is not base64url without padding: byte 3 is not one of A-Z a-z 0-9 - _"
                .to_owned(),
        ),
        (
            parse("e30AA.e30.").unwrap_err(),
            "the header is not base64url without padding: no bytes take 5 characters".to_owned(),
        ),
        (
            parse("e31.e30.").unwrap_err(),
            "the header is not base64url without padding: the last character has bits beyond \
             the last byte"
                .to_owned(),
        ),
        (
            refused("{"),
            "the header is not JSON: line 1 column 2: expected a member's name or `}`".to_owned(),
        ),
        (
            refused(b"{\"\xFF"),
            "the header is not JSON: the JSON text is not UTF-8 at byte 2".to_owned(),
        ),
        (
            refused(r#"{"alg":"\x"}"#),
            "the header is not JSON: line 1 column 8 (/alg): expected a string with valid escapes"
                .to_owned(),
        ),
        (refused("[]"), "the header is not an object".to_owned()),
        (
            refused(r#"{"alg":"EdDSA","alg":"EdDSA"}"#),
            "the header's \"alg\" occurs twice".to_owned(),
        ),
        (
            refused(header_without("typ")),
            "the header has no \"typ\"".to_owned(),
        ),
        (
            refused(header_with("kid", json!(1))),
            "the header's \"kid\" is not a string".to_owned(),
        ),
        (
            refused(header_with(odd.as_str().unwrap(), json!(1))),
            format!("the header has {odd_said}; it may have only alg, typ and kid"),
        ),
        (
            refused(header_with("crit", json!(1))),
            "the header has \"crit\", and no extension is understood".to_owned(),
        ),
        (
            refused(header_with("jwk", json!(1))),
            "the header has \"jwk\"; only a registered key counts, named by its kid".to_owned(),
        ),
        (
            refused(header_with("alg", json!("None"))),
            "the header's \"alg\" is \"none\"; a statement must be signed".to_owned(),
        ),
        (
            refused(header_with("alg", odd.clone())),
            format!("the header's \"alg\" is {odd_said}, neither \"EdDSA\" nor \"Ed25519\""),
        ),
        (
            refused(header_with("typ", odd.clone())),
            format!("the header's \"typ\" is {odd_said}, not \"aegis-vote+jws\""),
        ),
        (
            refused(header_with("kid", odd)),
            format!("the header's \"kid\" is {odd_said}, which is no RFC 7638 thumbprint"),
        ),
        (
            parse(&PYTHON[..PYTHON.len() - 1]).unwrap_err(),
            "the signature has 85 characters, not 86".to_owned(),
        ),
        (
            claims("1 1"),
            "the payload is refused: line 1 column 3: something follows the end of the document"
                .to_owned(),
        ),
        (
            claims("[]"),
            "the payload is refused: line 1 column 1: expected an object, found an array"
                .to_owned(),
        ),
        (
            claims("{}"),
            "the payload is refused: line 1 column 1: missing field `aud`".to_owned(),
        ),
        (
            claims(r#"{"extra":1}"#),
            "the payload is refused: line 1 column 10 (/extra): unknown field; the known ones are \
             `aud`, `sub`, `proposal`, `digest`, `round`, `choice`, `confidence`, \
             `justification_sha256`, `jti`, `iat`, `exp`, `seq`"
                .to_owned(),
        ),
        (
            claims(&payload("aud", json!("x"))),
            "the payload is refused: line 1 column 8 (/aud): a SHA-256 digest has 64 hexadecimal \
             digits, not 1 bytes"
                .to_owned(),
        ),
        (
            claims(&payload("aud", json!("A".repeat(64)))),
            "the payload is refused: line 1 column 8 (/aud): byte 0 of a digest is not one of \
             0-9a-f"
                .to_owned(),
        ),
        (
            parse(PYTHON)
                .unwrap()
                .verify(&other_key().public())
                .unwrap_err(),
            format!(
                "the header's \"kid\" is {kid}, but the signer's key is {}",
                other_key().public().kid()
            ),
        ),
        (
            JwsError::BadSignature { kid },
            format!("the signature does not verify with key {kid}"),
        ),
    ];
    for (refusal, words) in cases {
        assert_eq!(refusal.own_words(), words);
    }
}

mod signature_refusals {
    use super::*;

    #[test]
    fn another_key() {
        assert_eq!(
            parse(PYTHON).unwrap().verify(&other_key().public()),
            Err(JwsError::OtherKey {
                found: key().public().kid(),
                expected: other_key().public().kid()
            })
        );
    }

    #[test]
    fn a_kid_that_another_key_signed() {
        let header = header_with("kid", json!(other_key().public().kid()));
        let compact = signed(header);
        assert_eq!(
            parse(&compact).unwrap().verify(&other_key().public()),
            Err(JwsError::BadSignature {
                kid: other_key().public().kid()
            })
        );
    }

    #[test]
    fn another_payload_or_header() {
        let bad = Err(JwsError::BadSignature {
            kid: key().public().kid(),
        });
        let parts: Vec<&str> = PYTHON.split('.').collect();
        let against = VoteClaims {
            choice: "against".to_owned(),
            ..vote()
        };
        let payload = encode(serde_json::to_vec(&against).unwrap());
        let compact = [parts[0], &payload, parts[2]].join(".");
        assert_eq!(parse(&compact).unwrap().verify(&key().public()), bad);
        let header = encode(header_with("alg", json!("Ed25519")));
        let compact = [&header, parts[1], parts[2]].join(".");
        assert_eq!(parse(&compact).unwrap().verify(&key().public()), bad);
    }
}

mod claims_refusals {
    use super::*;

    fn refused(payload: impl AsRef<[u8]>) -> String {
        let header = encode(header().to_string());
        let compact = format!(
            "{header}.{}.{}",
            encode(payload),
            "A".repeat(SIGNATURE_CHARS)
        );
        let statement = parse(&compact).unwrap();
        match statement.claims::<VoteClaims>() {
            Err(JwsError::Claims(cause)) => cause.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn json_is_strict() {
        let payload = serde_json::to_string(&vote()).unwrap();
        let twice = payload.replacen('{', r#"{"round":1,"#, 1);
        assert!(refused(twice).contains("occurs twice"));
        assert!(refused(format!("{payload} 1")).contains("follows the end"));
        let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
        assert!(refused(deep).contains("nested deeper"));
        assert!(refused("[]").contains("expected an object, found an array"));
        assert!(refused("").contains("expected a value"));
        assert!(refused(b"\xFF").contains("not UTF-8"));
    }
}

proptest! {
    #[test]
    fn round_trips(seed: [u8; 32], sub: String, choice: String, round: u32, iat: i64) {
        let key = SecretKey::from_seed(&seed);
        let claims = VoteClaims { sub, choice, round, iat, ..vote() };
        let compact = sign(Typ::VOTE, &key, &claims).unwrap();
        let statement = Jws::parse(&compact, Typ::VOTE, usize::MAX).unwrap();
        prop_assert_eq!(statement.claims(), Ok(claims));
        prop_assert_eq!(statement.verify(&key.public()), Ok(()));
    }

    /// A statement has one spelling: whatever byte is changed, it counts no more.
    #[test]
    fn a_changed_byte_is_noticed(position in 0..PYTHON.len(), byte in 0_u8..128) {
        let mut bytes = PYTHON.as_bytes().to_vec();
        prop_assume!(bytes[position] != byte);
        bytes[position] = byte;
        let compact = String::from_utf8(bytes).unwrap();
        let verdict = parse(&compact).and_then(|statement| statement.verify(&key().public()));
        prop_assert!(verdict.is_err());
    }

    #[test]
    fn random_text_never_panics(
        text: String, header: Vec<u8>, payload: Vec<u8>, signature: [u8; 32]
    ) {
        prop_assert!(parse(&text).is_err());
        let signature = [signature, signature].concat();
        let random = format!("{}.{}.{}", encode(header), encode(&payload), encode(&signature));
        prop_assert!(parse(&random).is_err());
        let random = format!(
            "{}.{}.{}",
            encode(super::tests::header().to_string()),
            encode(payload),
            encode(signature)
        );
        let statement = parse(&random).unwrap();
        prop_assert!(statement.claims::<VoteClaims>().is_err());
        prop_assert!(statement.verify(&key().public()).is_err());
    }
}
