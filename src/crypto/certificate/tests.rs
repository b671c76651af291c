use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{PublicKey, SecretKey};

const STATEMENT: &str = r#"{"outcome":"approved","proposal":"prop_1"}"#;
const OTHER_STATEMENT: &str = r#"{"outcome":"rejected","proposal":"prop_1"}"#;
const VIEW: u64 = 2;
const SEQUENCE: u64 = 7;

/// Seats 0, 1 and 3 of four over [`STATEMENT`], written and signed with Python's `json`
/// and `cryptography` as the module's head describes.
const PYTHON: &str = "{\"payload\":\"eyJlcG9jaCI6IjAiLCJzZXF1ZW5jZSI6IjciLCJzdGF0ZW1lbnQiOnsib3V0\
    Y29tZSI6ImFwcHJvdmVkIiwicHJvcG9zYWwiOiJwcm9wXzEifSwidmlldyI6IjIifQ==\",\"payloadType\":\"appli\
    cation/vnd.aegis.decision.v1+json\",\"signatures\":[{\"keyid\":\"9ZP03Nu8GrXPAUkbKNxHOKBzxPX83\
    SShgFkRNK-f2lw\",\"sig\":\"nQKKtSAwd2XpVS0xmAPJfH7dzuffPL1MdfKOcTQLriMolNZHvakMQBH7exd/yJirAi+\
    o9olK+Stv6xYkhflvAw==\"},{\"keyid\":\"UDDReOZl1ipXAfp9wYsm13sDBMK5og--QWdBjzuf6o4\",\"sig\":\"\
    B5JTQu3aonBnWqvkbPwkIaJMPXoLI7fHU95J5m5cctFyJzxJJ7cJ8ZIjtV6JUDELNAV1JbSRtxIs4fmqEHFiBg==\"},{\
    \"keyid\":\"nRIE2VmKdMjL1JD7tbV7fXVgXxmv0GKnMFWRUJMTf9Q\",\"sig\":\"TDZK9JCrG+GPFJFR2/SfEDu81m\
    o+0jh6mqRkJ4AbdnH1xLY3M3khh/Hnzthk+OUFntlQa5ENELTEtmmwdnyUDQ==\"}]}";

fn key(seat: u8) -> SecretKey {
    SecretKey::from_seed(&[seat; 32])
}

fn committee_of(epoch: u64, count: u8) -> Committee {
    let keys: Vec<PublicKey> = (0..count).map(|seat| key(seat).public()).collect();
    Committee::new(epoch, keys).unwrap()
}

fn committee() -> Committee {
    committee_of(0, 4)
}

fn sign(seat: u8, epoch: u64, view: u64, sequence: u64, statement: &str) -> [u8; SIGNATURE_LEN] {
    key(seat).sign(&signed_bytes(epoch, view, sequence, statement))
}

fn good(seat: u8) -> [u8; SIGNATURE_LEN] {
    sign(seat, 0, VIEW, SEQUENCE, STATEMENT)
}

/// An envelope with any signatures, by the seeds of their keys.
fn envelope(signatures: &[(u8, [u8; SIGNATURE_LEN])]) -> String {
    let signatures = signatures.iter().map(|(seat, signature)| SignatureMembers {
        keyid: key(*seat).public().kid(),
        sig: STANDARD.encode(signature),
    });
    let members = EnvelopeMembers {
        payload: STANDARD.encode(payload(0, VIEW, SEQUENCE, STATEMENT)),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: signatures.collect(),
    };
    members.to_text()
}

/// An envelope that a quorum has signed around any payload.
fn around(payload: &str) -> String {
    let signed = dsse::pae(PAYLOAD_TYPE, payload.as_bytes());
    let signatures = [0, 1, 3].map(|seat| SignatureMembers {
        keyid: key(seat).public().kid(),
        sig: STANDARD.encode(key(seat).sign(&signed)),
    });
    let members = EnvelopeMembers {
        payload: STANDARD.encode(payload),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: signatures.into(),
    };
    members.to_text()
}

fn verify(envelope: impl AsRef<[u8]>) -> Result<Certificate, CertificateError> {
    Certificate::parse(envelope.as_ref())?.verify(&committee())
}

/// The refusal of an envelope with these signatures.
fn refused(signatures: &[(u8, [u8; SIGNATURE_LEN])]) -> CertificateError {
    verify(envelope(signatures)).unwrap_err()
}

fn bad(seat: u8) -> CertificateError {
    CertificateError::BadSignature {
        seat: SeatNo(seat),
        kid: key(seat).public().kid(),
    }
}

fn not_canonical(part: Part) -> CertificateError {
    CertificateError::NotCanonical { part }
}

#[test]
fn an_envelope_has_golden_bytes_and_says_what_was_agreed() {
    let signatures = [3, 0, 1].map(|seat| (SeatNo(seat), good(seat)));
    let assembled = Certificate::assemble(
        &committee(),
        VIEW,
        SEQUENCE,
        STATEMENT.to_owned(),
        signatures.into(),
    )
    .unwrap();
    assert_eq!(assembled.to_envelope(&committee()), PYTHON);

    let parsed = Certificate::parse(PYTHON.as_bytes()).unwrap();
    assert_eq!(parsed.epoch(), 0);
    let verified = parsed.verify(&committee()).unwrap();
    assert_eq!(verified, assembled);
    assert_eq!((verified.epoch(), verified.view()), (0, VIEW));
    assert_eq!(
        (verified.sequence(), verified.statement()),
        (SEQUENCE, STATEMENT)
    );
    assert_eq!(format!("{:?}", verified.signers()), "{0, 1, 3}");
}

#[test]
fn the_signed_bytes_are_those_of_the_modules_head() {
    assert_eq!(
        String::from_utf8(signed_bytes(0, 2, 7, STATEMENT)).unwrap(),
        "DSSEv1 38 application/vnd.aegis.decision.v1+json 94 \
         {\"epoch\":\"0\",\"sequence\":\"7\",\"statement\":{\"outcome\":\"approved\",\
         \"proposal\":\"prop_1\"},\"view\":\"2\"}"
    );
    let canonical = json::canonicalize(&payload(1, 2, u64::MAX, STATEMENT), 16).unwrap();
    assert_eq!(canonical, payload(1, 2, u64::MAX, STATEMENT));
}

/// Every size has its own quorum; one more or one fewer makes no certificate.
#[test]
fn every_size_of_committee_certifies_with_exactly_a_quorum() {
    for (count, quorum) in [(1, 1), (4, 3), (5, 4), (6, 4), (7, 5), (8, 6), (31, 21)] {
        let committee = committee_of(9, count);
        let signature = |seat| (SeatNo(seat), sign(seat, 9, 0, 1, STATEMENT));
        let assemble = |seats: std::ops::Range<u8>| {
            let signatures = seats.map(signature).collect();
            Certificate::assemble(&committee, 0, 1, STATEMENT.to_owned(), signatures)
        };
        let certificate = assemble(count - quorum..count).unwrap();
        let parsed = Certificate::parse(certificate.to_envelope(&committee).as_bytes()).unwrap();
        assert_eq!(parsed.verify(&committee), Ok(certificate));

        // Of more signatures than a quorum, those of the lowest seats are taken.
        let of_all = assemble(0..count).unwrap();
        assert_eq!(of_all.signers(), (0..quorum).map(SeatNo).collect());

        let found = usize::from(quorum) - 1;
        assert_eq!(
            assemble(0..quorum - 1),
            Err(CertificateError::Count { found, quorum })
        );
    }
}

#[test]
fn fewer_or_more_than_a_quorum_are_refused() {
    let all = [0, 1, 2, 3].map(|seat| (seat, good(seat)));
    for found in [0, 1, 2, 4] {
        let quorum = 3;
        assert_eq!(
            refused(&all[..found]),
            CertificateError::Count { found, quorum }
        );
    }
    assert!(verify(envelope(&all[1..])).is_ok());
}

/// A quorum is of one view, one sequence, one statement and one epoch.
#[test]
fn mixed_signatures_are_refused() {
    for stray in [
        sign(1, 0, VIEW + 1, SEQUENCE, STATEMENT),
        sign(1, 0, VIEW, SEQUENCE + 1, STATEMENT),
        sign(1, 0, VIEW, SEQUENCE, OTHER_STATEMENT),
        sign(1, 1, VIEW, SEQUENCE, STATEMENT),
        // A view for a sequence.
        sign(1, 0, SEQUENCE, VIEW, STATEMENT),
        // Over the payload without its type, or with another.
        key(1).sign(payload(0, VIEW, SEQUENCE, STATEMENT).as_bytes()),
        key(1).sign(&dsse::pae(
            "application/json",
            payload(0, VIEW, SEQUENCE, STATEMENT).as_bytes(),
        )),
        // Another seat's.
        good(2),
    ] {
        assert_eq!(refused(&[(0, good(0)), (1, stray), (3, good(3))]), bad(1));
    }
}

#[test]
fn a_certificate_padded_with_bad_signatures_is_refused_as_a_whole() {
    let zero = [0; SIGNATURE_LEN];
    assert_eq!(refused(&[(0, good(0)), (1, good(1)), (2, zero)]), bad(2));
    assert_eq!(
        refused(&[(0, good(0)), (1, good(1)), (2, zero), (3, good(3))]),
        CertificateError::Count {
            found: 4,
            quorum: 3
        }
    );
}

/// S + L instead of S is the same signature to a verifier that does not reduce.
#[test]
fn a_malleable_signature_is_refused() {
    let mut signature = good(1);
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0;
    for (byte, added) in signature[32..].iter_mut().zip(order.unwrap()) {
        let sum = u16::from(*byte) + u16::from(added) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert_eq!(
        refused(&[(0, good(0)), (1, signature), (3, good(3))]),
        bad(1)
    );
}

#[test]
fn each_seat_signs_once_and_in_its_order() {
    let order = |first, second| CertificateError::Order {
        first: SeatNo(first),
        second: SeatNo(second),
    };
    assert_eq!(
        refused(&[(0, good(0)), (1, good(1)), (1, good(1))]),
        order(1, 1)
    );
    assert_eq!(
        refused(&[(1, good(1)), (0, good(0)), (3, good(3))]),
        order(1, 0)
    );
    assert_eq!(
        refused(&[(0, good(0)), (3, good(3)), (1, good(1))]),
        order(3, 1)
    );
}

#[test]
fn only_the_committee_of_the_epoch_counts() {
    assert_eq!(
        refused(&[(0, good(0)), (1, good(1)), (9, good(9))]),
        CertificateError::NotAMember {
            kid: key(9).public().kid(),
            epoch: 0
        }
    );
    let parsed = Certificate::parse(PYTHON.as_bytes()).unwrap();
    assert_eq!(
        parsed.verify(&committee_of(1, 4)),
        Err(CertificateError::Epoch {
            found: 0,
            expected: 1
        })
    );
    let signatures = [0, 1, 4].map(|seat| (SeatNo(seat), good(seat)));
    let statement = STATEMENT.to_owned();
    assert_eq!(
        Certificate::assemble(&committee(), 0, 0, statement, signatures.into()),
        Err(CertificateError::NoSuchSeat {
            seat: SeatNo(4),
            count: 4
        })
    );
}

#[test]
fn every_changed_bit_is_refused() {
    for offset in 0..PYTHON.len() {
        for bit in 0..8 {
            let mut bytes = PYTHON.as_bytes().to_vec();
            bytes[offset] ^= 1 << bit;
            assert!(verify(&bytes).is_err(), "bit {bit} of byte {offset}");
        }
    }
}

#[test]
fn every_added_or_removed_byte_is_refused() {
    for offset in 0..=PYTHON.len() {
        for added in [b' ', b'\n', b'0', b'A', b'"', b',', 0] {
            let mut bytes = PYTHON.as_bytes().to_vec();
            bytes.insert(offset, added);
            assert!(verify(&bytes).is_err(), "{added} at byte {offset}");
        }
        assert!(verify(&PYTHON[..offset]).is_err() || offset == PYTHON.len());
        let mut bytes = PYTHON.as_bytes().to_vec();
        if offset < bytes.len() {
            bytes.remove(offset);
            assert!(verify(&bytes).is_err(), "without byte {offset}");
        }
    }
}

#[test]
fn an_envelope_has_its_members_and_no_others() {
    let good: Value = serde_json::from_str(PYTHON).unwrap();
    let refused = |pointer: &str, change: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        change(value.pointer_mut(pointer).unwrap());
        verify(value.to_string()).unwrap_err()
    };
    for pointer in ["", "/signatures/1"] {
        let error = refused(pointer, &|object| object["comment"] = json!("hello"));
        assert!(matches!(
            error,
            CertificateError::Json {
                part: Part::Envelope,
                source: JsonError::Mismatch { .. }
            }
        ));
    }
    assert_eq!(
        refused("/payloadType", &|it| *it = json!("application/json")),
        CertificateError::PayloadType {
            found: "application/json".to_owned()
        }
    );
    assert_eq!(
        refused("/payload", &|it| *it = json!("e30")),
        CertificateError::PayloadBase64
    );
    let kid = key(1).public().kid();
    let short = STANDARD.encode([1; 63]);
    let long = STANDARD.encode([1; 65]);
    for sig in ["", "!", &short, &long] {
        assert_eq!(
            refused("/signatures/1/sig", &|it| *it = json!(sig)),
            CertificateError::Signature { kid }
        );
    }
    let error = refused("/signatures/1/keyid", &|it| *it = json!("seat 1"));
    assert!(matches!(error, CertificateError::Json { .. }), "{error}");
}

#[test]
fn members_in_another_order_or_spelling_are_refused() {
    for (found, replacement) in [
        (r#""keyid""#, r#""\u006beyid""#),
        ("application/", r"application\/"),
    ] {
        let respelled = PYTHON.replacen(found, replacement, 1);
        assert_eq!(
            verify(respelled).unwrap_err(),
            not_canonical(Part::Envelope)
        );
    }
    let value: Value = serde_json::from_str(PYTHON).unwrap();
    let reordered = format!(
        r#"{{"payloadType":{},"payload":{},"signatures":{}}}"#,
        value["payloadType"], value["payload"], value["signatures"]
    );
    assert_eq!(
        verify(reordered).unwrap_err(),
        not_canonical(Part::Envelope)
    );
    let twice = PYTHON.replacen('{', r#"{"payload":"","#, 1);
    let error = verify(twice).unwrap_err();
    assert!(matches!(
        error,
        CertificateError::Json {
            source: JsonError::DuplicateMember { .. },
            ..
        }
    ));
}

#[test]
fn an_envelope_is_bounded() {
    let many: Vec<_> = (0..32).map(|seat| (seat, [0; SIGNATURE_LEN])).collect();
    assert_eq!(
        refused(&many),
        CertificateError::TooManySignatures { found: 32 }
    );
    assert_eq!(
        refused(&many[..31]),
        CertificateError::Count {
            found: 31,
            quorum: 3
        }
    );
    let found = ENVELOPE_BYTES_MAX + 1;
    assert!(matches!(
        Certificate::parse(&vec![b' '; found]),
        Err(CertificateError::Json {
            source: JsonError::TooLong { found: 65_537, .. },
            ..
        })
    ));
}

/// What is signed well but spelled otherwise is refused all the same.
#[test]
fn a_payload_has_one_spelling() {
    let good = payload(0, VIEW, SEQUENCE, STATEMENT);
    assert!(verify(around(&good)).is_ok());
    for (found, replacement) in [
        (r#"{"epoch""#, r#"{ "epoch""#),
        (r#""epoch":"0""#, r#""epoch":"\u0030""#),
        (
            r#""epoch":"0","sequence":"7""#,
            r#""sequence":"7","epoch":"0""#,
        ),
    ] {
        let respelled = good.replacen(found, replacement, 1);
        assert_ne!(respelled, good);
        assert_eq!(
            verify(around(&respelled)).unwrap_err(),
            not_canonical(Part::Payload)
        );
    }
    for number in [
        "",
        "00",
        "+1",
        "-1",
        "1.0",
        " 1",
        "18446744073709551616",
        "x",
    ] {
        let respelled = good.replacen(r#""view":"2""#, &format!(r#""view":"{number}""#), 1);
        assert_eq!(
            verify(around(&respelled)).unwrap_err(),
            CertificateError::Number {
                member: "view",
                found: number.to_owned()
            }
        );
    }
    for (found, replacement) in [
        (r#""view":"2""#, r#""view":2"#),
        (r#""view":"2""#, r#""view":"2","x":"""#),
        (r#""view":"2""#, r#""view":"2","view":"2""#),
        (r#","view":"2""#, ""),
    ] {
        let error = verify(around(&good.replacen(found, replacement, 1))).unwrap_err();
        let payload = Part::Payload;
        assert!(matches!(error, CertificateError::Json { part, .. } if part == payload));
    }
}

#[test]
fn a_statement_is_a_canonical_object_without_numbers() {
    let refused = |statement: &str| {
        let by_parse = verify(around(&payload(0, VIEW, SEQUENCE, statement))).unwrap_err();
        let signatures = [0, 1, 3].map(|seat| (SeatNo(seat), good(seat)));
        let statement = statement.to_owned();
        let by_assemble =
            Certificate::assemble(&committee(), 0, 0, statement, signatures.into()).unwrap_err();
        (by_parse == by_assemble).then_some(by_parse)
    };
    for statement in ["[]", "null", "\"x\"", "[{}]"] {
        assert_eq!(
            refused(statement),
            Some(CertificateError::StatementNotObject)
        );
    }
    for statement in [r#"{"b":"","a":""}"#, r#"{"a": ""}"#, r#"{"a":"\u0061"}"#] {
        assert_eq!(refused(statement), Some(not_canonical(Part::Statement)));
    }
    for number in ["1", "-1.5e3"] {
        assert_eq!(
            refused(&format!(r#"{{"a":[{{"b":{number}}}]}}"#)),
            Some(CertificateError::StatementNumber {
                found: number.to_owned()
            })
        );
    }
    assert_eq!(
        refused("{\"\u{1f600}\":\"\"}"),
        Some(CertificateError::StatementName {
            found: "\u{1f600}".to_owned()
        })
    );
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(STATEMENT_BYTES_MAX - 7));
    assert_eq!(
        refused(&long),
        Some(CertificateError::StatementTooLong { found: 32_769 })
    );
    // A statement that would close the payload's object early and bring its own view.
    let statement = r#"{},"view":"9""#;
    assert!(check_statement(statement).is_err());
    assert!(verify(around(&payload(0, VIEW, SEQUENCE, statement))).is_err());
}

/// What can be assembled can be read: the bounds on statements leave room for the rest.
#[test]
fn the_longest_and_the_deepest_statement_fit() {
    let committee = committee_of(u64::MAX, SEATS_MAX);
    let longest = format!(r#"{{"a":"{}"}}"#, "x".repeat(STATEMENT_BYTES_MAX - 8));
    assert_eq!(longest.len(), STATEMENT_BYTES_MAX);
    let deepest = format!(r#"{{"a":{}{}}}"#, "[".repeat(14), "]".repeat(14));
    let flags = r#"{"a":true,"b":false,"c":null,"é":"\u001f\n"}"#;
    for statement in [longest.as_str(), &deepest, flags] {
        let signature = |seat| sign(seat, u64::MAX, u64::MAX, u64::MAX, statement);
        let signatures = (0..21).map(|seat| (SeatNo(seat), signature(seat)));
        let certificate = Certificate::assemble(
            &committee,
            u64::MAX,
            u64::MAX,
            statement.to_owned(),
            signatures.collect(),
        )
        .unwrap();
        let envelope = certificate.to_envelope(&committee);
        let parsed = Certificate::parse(envelope.as_bytes()).unwrap();
        assert_eq!(parsed.verify(&committee), Ok(certificate));
    }
    let deeper = format!(r#"{{"a":{}{}}}"#, "[".repeat(15), "]".repeat(15));
    assert!(matches!(
        check_statement(&deeper),
        Err(CertificateError::Json {
            source: JsonError::TooDeep { .. },
            ..
        })
    ));
}

proptest! {
    #[test]
    fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Certificate::parse(&bytes).is_err());
    }

    /// Close to a good envelope there is no other.
    #[test]
    fn spliced_envelopes_are_refused(
        cut in 0..PYTHON.len(), length in 0_usize..40, text in "[ -~]{0,40}"
    ) {
        let end = PYTHON.len().min(cut + length);
        let spliced = [&PYTHON[..cut], &text, &PYTHON[end..]].concat();
        prop_assert_eq!(verify(&spliced).is_ok(), spliced == PYTHON);
    }

    /// Whatever is signed as a payload, nothing but the canonical text passes.
    #[test]
    fn payloads_never_panic(payload in r#"[{}"a-c:,0-9\[\] ]{0,40}"#) {
        prop_assert!(verify(around(&payload)).is_err());
    }
}
