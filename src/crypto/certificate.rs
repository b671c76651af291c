//! The decision certificate: proof, for anyone and offline, that a quorum of the
//! committee recomputed a closing and came to one statement about it.
//!
//! A certificate is a DSSE envelope (secure-systems-lab/dsse, protocol version 1): one
//! JSON object, of at most 64 KiB, with exactly these members.
//!
//! | member | what |
//! | --- | --- |
//! | `payload` | standard base64 with padding of the *payload* below |
//! | `payloadType` | `application/vnd.aegis.decision.v1+json` |
//! | `signatures` | array of objects, in ascending order of their signers' seats |
//! | `signatures[].keyid` | RFC 7638 thumbprint of the signer's key, in base64url without padding |
//! | `signatures[].sig` | standard base64 with padding of the 64 bytes of an Ed25519 signature |
//!
//! The payload is a JSON object too, with exactly these members.
//!
//! | member | what |
//! | --- | --- |
//! | `epoch` | which committee signed; 0 is the one that the genesis names |
//! | `sequence` | ordinal of the closing that was decided |
//! | `statement` | what was agreed: an object, which this module does not interpret |
//! | `view` | the committee's view in which it was agreed |
//!
//! Epoch, sequence and view are strings: unsigned 64-bit integers in decimal without
//! leading zeros. The statement has strings for its numbers as well, at most 32 KiB and at
//! most 15 levels of arrays and objects.
//!
//! Envelope and payload are in the canonical form of RFC 8785: members sorted by name, no
//! white space, strings with the fewest escapes. Since no JSON number occurs, and no
//! member's name has a character beyond U+FFFF, Python's
//! `json.dumps(d, sort_keys=True, separators=(",", ":"), ensure_ascii=False)` writes it.
//!
//! # Verification, step by step
//! Whatever differs from a step refuses the certificate as a whole.
//! 1. Read the envelope as UTF-8 JSON: the members above, each once and no others. Writing
//!    it again in canonical form must give the same bytes.
//! 2. `payloadType` must be the text above.
//! 3. Decode `payload`. The base64 must be the only spelling of its bytes: alphabet of RFC
//!    4648, section 4, padded, unused bits zero. Check the result as the envelope in step 1.
//! 4. Take the committee of the payload's `epoch`: n keys, those of seats 0 to n - 1. The
//!    genesis document lists the first; a certified decision lists each next one.
//! 5. There must be exactly a quorum of signatures: ceil((n + f + 1) / 2), where
//!    f = floor((n - 1) / 3); neither fewer nor more.
//! 6. Find the seat of each `keyid` among the thumbprints of the committee's keys. A
//!    thumbprint is base64url without padding of the SHA-256 of
//!    `{"crv":"Ed25519","kty":"OKP","x":"<base64url without padding of the 32 bytes>"}`.
//!    Each must be there, and each seat must be greater than the one before, so that no
//!    seat counts twice.
//! 7. Compute what was signed, the pre-authentication encoding of DSSE:
//!    `DSSEv1 38 application/vnd.aegis.decision.v1+json <length> <payload>`, the parts
//!    separated by one space each, the payload as decoded, its length in bytes in decimal.
//! 8. Verify every signature over that with the key of its seat (RFC 8032, section 5.1.7,
//!    pure Ed25519), strictly: S is below the group's order, and the encoding of
//!    S * B - k * A, computed without multiplying by the cofactor, equals the first half of
//!    the signature byte for byte and is not that of the identity. Keys of small or mixed
//!    order and keys in a spelling that is not canonical never sit in a committee.
//!
//! Then the statement holds if no more than f seats of that committee lie. Which statement
//! it is, and for which cluster, the statement itself says.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::committee::{Committee, SEATS_MAX, SeatNo, SeatSet};
use crate::dsse;
use crate::json::reader::{Event, Reader};
use crate::json::{self, JsonError, Limits};
use crate::key::{Kid, SIGNATURE_LEN};
use crate::quoted::{Quoted, shortened};

/// The payload's type, which a signature covers together with the payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.aegis.decision.v1+json";

/// The longest envelope, in bytes.
pub const ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// The longest statement, in bytes: with it and [`SEATS_MAX`] signatures an envelope stays
/// below [`ENVELOPE_BYTES_MAX`].
pub const STATEMENT_BYTES_MAX: usize = 32 * 1024;

/// The deepest nesting of a statement, itself included.
pub const STATEMENT_DEPTH_MAX: u8 = 15;

/// The payload adds a level around its statement.
const PAYLOAD_LIMITS: Limits = Limits {
    depth: STATEMENT_DEPTH_MAX + 1,
    // The envelope's own bound covers it.
    bytes: usize::MAX,
};

/// An object of an array of objects.
const ENVELOPE_LIMITS: Limits = Limits {
    depth: 3,
    bytes: ENVELOPE_BYTES_MAX,
};

/// The payload of a certificate as text; `statement` must be a canonical JSON object as
/// [`check_statement`] wants it.
#[must_use]
pub fn payload(epoch: u64, view: u64, sequence: u64, statement: &str) -> String {
    format!(
        r#"{{"epoch":"{epoch}","sequence":"{sequence}","statement":{statement},"view":"{view}"}}"#
    )
}

/// What a commit signature covers: the DSSE encoding of the [`payload`] and its type.
#[must_use]
pub fn signed_bytes(epoch: u64, view: u64, sequence: u64, statement: &str) -> Vec<u8> {
    let payload = payload(epoch, view, sequence, statement);
    dsse::pae(PAYLOAD_TYPE, payload.as_bytes())
}

/// A piece of a certificate that has one spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The whole.
    Envelope,
    /// What the signatures cover.
    Payload,
    /// What was agreed.
    Statement,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Envelope => "envelope",
            Self::Payload => "payload",
            Self::Statement => "statement",
        })
    }
}

/// Why a certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// A part is not JSON of the form that it should have.
    #[error("the certificate's {part} is refused")]
    Json {
        /// The part.
        part: Part,
        /// What is wrong with it.
        source: JsonError,
    },
    /// A part is well-formed, but spelled otherwise than RFC 8785 spells it.
    #[error(
        "the certificate's {part} is not in its canonical form; \
         pass it on byte for byte as it was issued"
    )]
    NotCanonical {
        /// The part.
        part: Part,
    },
    /// An envelope around something else.
    #[error("the envelope's \"payloadType\" is {}, not \"{PAYLOAD_TYPE}\"", Quoted(.found))]
    PayloadType {
        /// What the envelope says.
        found: String,
    },
    /// The payload is not base64, or not the only spelling of its bytes.
    #[error("the envelope's \"payload\" is not standard base64 with padding")]
    PayloadBase64,
    /// A number of the payload is no 64-bit integer, or not its only spelling.
    #[error(
        "the payload's \"{member}\" is {}, not a 64-bit integer in decimal without \
         leading zeros",
        Quoted(.found)
    )]
    Number {
        /// The member.
        member: &'static str,
        /// What the payload says.
        found: String,
    },
    /// The statement is longer than allowed.
    #[error("the statement has {found} bytes, more than the {STATEMENT_BYTES_MAX} allowed")]
    StatementTooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// The statement is JSON but no object.
    #[error("the statement is not an object")]
    StatementNotObject,
    /// The statement has a JSON number, which not every reader reads alike.
    #[error("the statement has the number {found}; numbers are written as strings")]
    StatementNumber {
        /// The number as it is written.
        found: String,
    },
    /// The statement has a member that sorts differently by UTF-8 and by UTF-16.
    #[error(
        "the statement has a member {}; names have no characters beyond U+FFFF",
        Quoted(.found)
    )]
    StatementName {
        /// The member's name.
        found: String,
    },
    /// More signatures than any committee has seats.
    #[error("the certificate has {found} signatures, more than the {SEATS_MAX} of any committee")]
    TooManySignatures {
        /// How many there are.
        found: usize,
    },
    /// A signature is not 64 bytes in base64.
    #[error("the signature of {kid} is not 64 bytes in standard base64 with padding")]
    Signature {
        /// The key that it should be of.
        kid: Kid,
    },
    /// The committee is not the one of the certificate's epoch.
    #[error("the certificate is of epoch {found}, but the committee is that of epoch {expected}")]
    Epoch {
        /// What the certificate says.
        found: u64,
        /// The committee's.
        expected: u64,
    },
    /// Fewer signatures than a quorum, or more.
    #[error("there are {found} signatures, and a certificate has exactly a quorum of {quorum}")]
    Count {
        /// How many there are.
        found: usize,
        /// How many the committee's size asks for.
        quorum: u8,
    },
    /// A seat that the committee does not have.
    #[error("seat {seat} has signed, but there are only {count} seats, numbered from 0")]
    NoSuchSeat {
        /// The seat.
        seat: SeatNo,
        /// How many seats there are.
        count: u8,
    },
    /// A key that sits in no seat.
    #[error("key {kid} has signed, but sits in no seat of epoch {epoch}")]
    NotAMember {
        /// The key.
        kid: Kid,
        /// The committee's epoch.
        epoch: u64,
    },
    /// Seats that do not ascend; a seat that signs twice is among them.
    #[error("the signature of seat {second} follows that of seat {first}; seats must ascend")]
    Order {
        /// The seat before.
        first: SeatNo,
        /// The seat that is out of order.
        second: SeatNo,
    },
    /// A signature that does not verify.
    #[error("the signature of seat {seat} does not verify with its key {kid}")]
    BadSignature {
        /// The seat.
        seat: SeatNo,
        /// Its key.
        kid: Kid,
    },
}

/// The members of an envelope, in their order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvelopeMembers {
    payload: String,
    payload_type: String,
    signatures: Vec<SignatureMembers>,
}

/// The members of one signature, in their order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureMembers {
    keyid: Kid,
    sig: String,
}

impl EnvelopeMembers {
    /// The canonical text: serde_json writes the fields in their order, which is that of
    /// their names, and strings as RFC 8785 asks.
    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("strings are written as JSON")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayloadMembers {
    epoch: String,
    sequence: String,
    statement: Box<RawValue>,
    view: String,
}

/// A decision that a quorum of one committee has signed.
///
/// Whoever has one has either verified it ([`Unverified::verify`]) or put it together from
/// signatures that were verified one by one ([`Certificate::assemble`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    epoch: u64,
    view: u64,
    sequence: u64,
    statement: String,
    /// Strictly ascending by seat.
    signatures: Vec<(SeatNo, [u8; SIGNATURE_LEN])>,
}

impl Certificate {
    /// Puts a certificate together from signatures over [`signed_bytes`], each of which
    /// the caller has verified with its seat's key. Of more than a quorum it takes those
    /// of the lowest seats.
    ///
    /// # Errors
    /// Fewer signatures than a quorum, a seat that the committee does not have, or a
    /// statement that [`check_statement`] refuses.
    pub fn assemble(
        committee: &Committee,
        view: u64,
        sequence: u64,
        statement: String,
        signatures: BTreeMap<SeatNo, [u8; SIGNATURE_LEN]>,
    ) -> Result<Self, CertificateError> {
        check_statement(&statement)?;
        let seats = committee.seats();
        if let Some(seat) = signatures.keys().find(|seat| !seats.contains(**seat)) {
            return Err(CertificateError::NoSuchSeat {
                seat: *seat,
                count: seats.count(),
            });
        }
        let (found, quorum) = (signatures.len(), seats.quorum());
        if found < usize::from(quorum) {
            return Err(CertificateError::Count { found, quorum });
        }
        Ok(Self {
            epoch: committee.epoch(),
            view,
            sequence,
            statement,
            signatures: signatures.into_iter().take(quorum.into()).collect(),
        })
    }

    /// Reads an envelope; see the module's head. No signature is verified yet.
    ///
    /// # Errors
    /// One for each way to be something else than the canonical text of an envelope.
    pub fn parse(envelope: &[u8]) -> Result<Unverified, CertificateError> {
        let members: EnvelopeMembers = read(Part::Envelope, envelope, ENVELOPE_LIMITS)?;
        if members.payload_type != PAYLOAD_TYPE {
            return Err(CertificateError::PayloadType {
                found: shortened(&members.payload_type),
            });
        }
        if members.to_text().as_bytes() != envelope {
            let part = Part::Envelope;
            return Err(CertificateError::NotCanonical { part });
        }
        let found = members.signatures.len();
        if found > usize::from(SEATS_MAX) {
            return Err(CertificateError::TooManySignatures { found });
        }
        let signatures = members.signatures.iter().map(decode_signature);
        let payload = STANDARD
            .decode(&members.payload)
            .map_err(|_| CertificateError::PayloadBase64)?;
        parse_payload(&payload, signatures.collect::<Result<_, _>>()?)
    }

    /// The certificate as the canonical text of its envelope. `committee` must be the one
    /// that has signed, since it names the keys.
    ///
    /// # Panics
    /// If it is a committee of another epoch or lacks a signer's seat.
    #[must_use]
    pub fn to_envelope(&self, committee: &Committee) -> String {
        assert_eq!(
            self.epoch,
            committee.epoch(),
            "a certificate is written with the committee of its epoch"
        );
        let payload = payload(self.epoch, self.view, self.sequence, &self.statement);
        let signatures = self.signatures.iter().map(|(seat, signature)| {
            let key = committee
                .key(*seat)
                .expect("a signer sits in its committee");
            SignatureMembers {
                keyid: key.kid(),
                sig: STANDARD.encode(signature),
            }
        });
        let members = EnvelopeMembers {
            payload: STANDARD.encode(payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: signatures.collect(),
        };
        members.to_text()
    }

    /// Which committee has signed.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The view in which it was agreed.
    #[must_use]
    pub const fn view(&self) -> u64 {
        self.view
    }

    /// Ordinal of the closing.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What was agreed: the canonical text of a JSON object.
    #[must_use]
    pub fn statement(&self) -> &str {
        &self.statement
    }

    /// The seats that have signed, exactly a quorum.
    #[must_use]
    pub fn signers(&self) -> SeatSet {
        self.signatures.iter().map(|(seat, _)| *seat).collect()
    }
}

/// A certificate of the right form, whose signatures need not be good.
#[derive(Debug, Clone)]
pub struct Unverified {
    epoch: u64,
    view: u64,
    sequence: u64,
    statement: String,
    signatures: Vec<(Kid, [u8; SIGNATURE_LEN])>,
}

impl Unverified {
    /// Whose committee the certificate claims to be of; [`Unverified::verify`] wants that
    /// one.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What it claims to certify, in canonical form.
    #[must_use]
    pub fn statement(&self) -> &str {
        &self.statement
    }

    /// Checks that exactly a quorum of the committee has signed, each seat once and each
    /// signature good.
    ///
    /// # Errors
    /// One for each way not to; a single bad signature refuses the whole.
    pub fn verify(self, committee: &Committee) -> Result<Certificate, CertificateError> {
        if self.epoch != committee.epoch() {
            return Err(CertificateError::Epoch {
                found: self.epoch,
                expected: committee.epoch(),
            });
        }
        let (found, quorum) = (self.signatures.len(), committee.seats().quorum());
        if found != usize::from(quorum) {
            return Err(CertificateError::Count { found, quorum });
        }
        let seats = self.seats(committee)?;
        let signed = signed_bytes(self.epoch, self.view, self.sequence, &self.statement);
        let mut signatures = Vec::with_capacity(found);
        for (seat, (kid, signature)) in seats.into_iter().zip(self.signatures) {
            let key = committee.key(seat).expect("the seat was found by its key");
            key.verify(&signed, &signature)
                .map_err(|_| CertificateError::BadSignature { seat, kid })?;
            signatures.push((seat, signature));
        }
        Ok(Certificate {
            epoch: self.epoch,
            view: self.view,
            sequence: self.sequence,
            statement: self.statement,
            signatures,
        })
    }

    /// The signers' seats, if all are in the committee and they ascend.
    fn seats(&self, committee: &Committee) -> Result<Vec<SeatNo>, CertificateError> {
        let keys = committee.keys().iter().map(|key| key.kid());
        let members: BTreeMap<Kid, SeatNo> = keys.zip(committee.seats().iter()).collect();
        let mut seats: Vec<SeatNo> = Vec::with_capacity(self.signatures.len());
        for (kid, _) in &self.signatures {
            let second = *members.get(kid).ok_or(CertificateError::NotAMember {
                kid: *kid,
                epoch: committee.epoch(),
            })?;
            if let Some(first) = seats.last().copied().filter(|first| *first >= second) {
                return Err(CertificateError::Order { first, second });
            }
            seats.push(second);
        }
        Ok(seats)
    }
}

/// Checks that a text is the canonical form of a JSON object that a certificate can hold:
/// at most [`STATEMENT_BYTES_MAX`] bytes and [`STATEMENT_DEPTH_MAX`] levels, no JSON
/// numbers, and no member's name with a character beyond U+FFFF.
///
/// # Errors
/// What it has instead.
pub fn check_statement(text: &str) -> Result<(), CertificateError> {
    let part = Part::Statement;
    if text.len() > STATEMENT_BYTES_MAX {
        return Err(CertificateError::StatementTooLong { found: text.len() });
    }
    let malformed = |source| CertificateError::Json { part, source };
    let canonical = json::canonicalize(text, STATEMENT_DEPTH_MAX).map_err(malformed)?;
    if canonical != text {
        return Err(CertificateError::NotCanonical { part });
    }
    if !text.starts_with('{') {
        return Err(CertificateError::StatementNotObject);
    }
    // Without numbers, and where UTF-8 and UTF-16 sort names alike, the canonical form of
    // this crate is that of RFC 8785.
    let mut reader = Reader::new(text, STATEMENT_DEPTH_MAX);
    while let Some(event) = reader.next().map_err(malformed)? {
        match event {
            Event::Bare(found) if !matches!(found, "true" | "false" | "null") => {
                return Err(CertificateError::StatementNumber {
                    found: shortened(found),
                });
            }
            Event::Name(name) if name.chars().any(|char| char > '\u{ffff}') => {
                return Err(CertificateError::StatementName {
                    found: shortened(&name),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn read<'de, T: Deserialize<'de>>(
    part: Part,
    bytes: &'de [u8],
    limits: Limits,
) -> Result<T, CertificateError> {
    json::from_slice_strict(bytes, limits).map_err(|source| CertificateError::Json { part, source })
}

fn decode_signature(
    members: &SignatureMembers,
) -> Result<(Kid, [u8; SIGNATURE_LEN]), CertificateError> {
    let kid = members.keyid;
    let bytes = STANDARD.decode(&members.sig).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .map(|signature| (kid, signature))
        .ok_or(CertificateError::Signature { kid })
}

fn parse_payload(
    bytes: &[u8],
    signatures: Vec<(Kid, [u8; SIGNATURE_LEN])>,
) -> Result<Unverified, CertificateError> {
    let part = Part::Payload;
    let members: PayloadMembers = read(part, bytes, PAYLOAD_LIMITS)?;
    let statement = members.statement.get();
    check_statement(statement)?;
    let epoch = number("epoch", &members.epoch)?;
    let view = number("view", &members.view)?;
    let sequence = number("sequence", &members.sequence)?;
    // The signatures will be checked over the text that is written here.
    if payload(epoch, view, sequence, statement).as_bytes() != bytes {
        return Err(CertificateError::NotCanonical { part });
    }
    Ok(Unverified {
        epoch,
        view,
        sequence,
        statement: statement.to_owned(),
        signatures,
    })
}

fn number(member: &'static str, text: &str) -> Result<u64, CertificateError> {
    let number = text.parse().ok();
    number
        .filter(|number: &u64| number.to_string() == text)
        .ok_or_else(|| CertificateError::Number {
            member,
            found: shortened(text),
        })
}

#[cfg(test)]
mod tests;
