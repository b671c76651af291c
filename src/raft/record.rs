//! The bytes of a log entry: what is stored, replicated and, at last, applied.
//!
//! ```text
//! 0                                   blank: a new leader's first entry
//! 1  stamp (u64, little endian)  bytes  a command, stamped by the leader
//! 2  postcard                         a membership
//! ```
//!
//! The first byte names kind and version at once; kinds are appended, never renumbered. A
//! command is encoded once, when it is proposed, and the same bytes then go to the log, over
//! the wire and into the machine without another copy.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::members::Node;
use crate::types::{Command, Membership, Payload, RawId};

const BLANK: u8 = 0;
const COMMAND_V1: u8 = 1;
const MEMBERSHIP_V1: u8 = 2;

/// The bytes before a command's payload: the kind and the stamp.
pub(crate) const COMMAND_HEADER_BYTES: usize = 9;

/// A log entry's bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the record is empty")]
    Empty,
    #[error("the record is of kind {found}, known are 0 to {MEMBERSHIP_V1}")]
    Kind { found: u8 },
    #[error("a command's record has {found} bytes, its header alone takes {COMMAND_HEADER_BYTES}")]
    Short { found: usize },
    #[error("a record of kind {kind} has {count} bytes too many")]
    Trailing { kind: u8, count: usize },
    #[error("the membership does not decode")]
    Membership(#[source] postcard::Error),
    #[error("the membership is not one: {0}")]
    Invalid(String),
}

#[derive(Serialize, Deserialize)]
struct MembershipV1 {
    configs: Vec<BTreeSet<RawId>>,
    nodes: BTreeMap<RawId, Node>,
}

/// Stamps and encodes a command.
pub(crate) fn command(stamp_ms: u64, payload: &[u8]) -> Command {
    let mut bytes = BytesMut::with_capacity(COMMAND_HEADER_BYTES + payload.len());
    bytes.put_u8(COMMAND_V1);
    bytes.put_u64_le(stamp_ms);
    bytes.put_slice(payload);
    Command(bytes.freeze())
}

/// The stamp and payload of a command.
pub(crate) fn open_command(command: &Command) -> Result<(u64, Bytes), RecordError> {
    let bytes = &command.0;
    let stamp: [u8; 8] = bytes
        .get(1..COMMAND_HEADER_BYTES)
        .and_then(|stamp| stamp.try_into().ok())
        .ok_or(RecordError::Short { found: bytes.len() })?;
    Ok((
        u64::from_le_bytes(stamp),
        bytes.slice(COMMAND_HEADER_BYTES..),
    ))
}

/// The record of an entry's payload.
pub(crate) fn encode(payload: &Payload) -> Bytes {
    match payload {
        Payload::Blank => Bytes::from_static(&[BLANK]),
        Payload::Normal(command) => command.0.clone(),
        Payload::Membership(membership) => {
            let mut bytes = vec![MEMBERSHIP_V1];
            bytes.extend_from_slice(&encode_membership(membership));
            Bytes::from(bytes)
        }
    }
}

/// Reads a record back. A command's bytes are shared, not copied.
pub(crate) fn decode(record: Bytes) -> Result<Payload, RecordError> {
    let (&kind, body) = record.split_first().ok_or(RecordError::Empty)?;
    match kind {
        BLANK if body.is_empty() => Ok(Payload::Blank),
        BLANK => Err(RecordError::Trailing {
            kind,
            count: body.len(),
        }),
        COMMAND_V1 if record.len() < COMMAND_HEADER_BYTES => Err(RecordError::Short {
            found: record.len(),
        }),
        COMMAND_V1 => Ok(Payload::Normal(Command(record))),
        MEMBERSHIP_V1 => decode_membership(body).map(Payload::Membership),
        found => Err(RecordError::Kind { found }),
    }
}

/// The pinned encoding of a membership, also used in snapshots and beside the applied state.
pub(crate) fn encode_membership(membership: &Membership) -> Vec<u8> {
    let wire = MembershipV1 {
        configs: membership.get_joint_config().clone(),
        nodes: membership
            .nodes()
            .map(|(id, node)| (*id, node.clone()))
            .collect(),
    };
    postcard::to_stdvec(&wire).expect("a membership is maps and strings, which always encode")
}

/// The inverse of [`encode_membership`].
pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, RecordError> {
    let (wire, rest) =
        postcard::take_from_bytes::<MembershipV1>(bytes).map_err(RecordError::Membership)?;
    if !rest.is_empty() {
        return Err(RecordError::Trailing {
            kind: MEMBERSHIP_V1,
            count: rest.len(),
        });
    }
    Membership::new(wire.configs, wire.nodes)
        .map_err(|error| RecordError::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        Node {
            name: name.into(),
            peer_addr: "10.0.0.1:8004".into(),
            api_addr: "10.0.0.1:8003".into(),
        }
    }

    fn membership() -> Membership {
        Membership::new(
            vec![BTreeSet::from([1]), BTreeSet::from([1, 2])],
            BTreeMap::from([(1, node("a")), (2, node("b"))]),
        )
        .unwrap()
    }

    #[test]
    fn every_kind_survives_a_round_trip() {
        for payload in [
            Payload::Blank,
            Payload::Normal(command(u64::MAX, b"vote")),
            Payload::Normal(command(0, b"")),
            Payload::Membership(membership()),
        ] {
            assert_eq!(decode(encode(&payload)).unwrap(), payload);
        }
    }

    #[test]
    fn the_encoding_is_pinned() {
        let hex = |payload: &Payload| {
            encode(payload)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        assert_eq!(hex(&Payload::Blank), "00");
        assert_eq!(
            hex(&Payload::Normal(command(0x0102, b"vote"))),
            "010201000000000000766f7465"
        );
        assert_eq!(
            hex(&Payload::Membership(membership())),
            "02020101020102020101610d31302e302e302e313a383030340d31302e302e302e313a3830303302\
             01620d31302e302e302e313a383030340d31302e302e302e313a38303033"
        );
    }

    #[test]
    fn a_command_opens_to_its_stamp_and_payload() {
        let (stamp, payload) = open_command(&command(7, b"vote")).unwrap();
        assert_eq!((stamp, &payload[..]), (7, &b"vote"[..]));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let refused = |bytes: &[u8]| {
            decode(Bytes::copy_from_slice(bytes))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refused(b""), "the record is empty");
        assert_eq!(
            refused(&[3, 0]),
            "the record is of kind 3, known are 0 to 2"
        );
        assert_eq!(
            refused(&[1, 0, 0]),
            "a command's record has 3 bytes, its header alone takes 9"
        );
        assert_eq!(refused(&[0, 9]), "a record of kind 0 has 1 bytes too many");

        let mut trailing = encode(&Payload::Membership(membership())).to_vec();
        trailing.push(0);
        assert_eq!(
            refused(&trailing),
            "a record of kind 2 has 1 bytes too many"
        );
    }
}
