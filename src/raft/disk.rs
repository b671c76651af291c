//! What this crate keeps in a [`Store`](aegis_storage::Store), to which it is opaque bytes:
//! log entries, the vote, log positions, and what goes with the applied position.
//!
//! An entry is its term (u64, little endian) and its record. Everything else is a postcard
//! enum with one variant a version. The tests pin the bytes.

use std::collections::BTreeSet;

use aegis_storage::{Applied, LogRecord};
use bytes::{BufMut, Bytes, BytesMut};
use openraft::type_config::alias::SnapshotMetaOf;
use serde::{Deserialize, Serialize};

use crate::record::{self, RecordError};
use crate::types::{Entry, LogId, Membership, RawId, StoredMembership, Types, Vote, log_id};

const TERM_BYTES: usize = 8;

/// Bytes on disk are not what this crate wrote. The node must stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("log entry {index} has {found} bytes, its term alone takes {TERM_BYTES}")]
    Short { index: u64, found: usize },
    #[error("log entry {index} cannot be read")]
    Entry { index: u64, source: RecordError },
    #[error("the {what} cannot be read")]
    Undecodable {
        what: &'static str,
        source: postcard::Error,
    },
    #[error("the {what} is followed by {count} bytes that do not belong to it")]
    Trailing { what: &'static str, count: usize },
    #[error("the membership beside the applied position cannot be read")]
    Membership(#[source] RecordError),
}

#[derive(Serialize, Deserialize)]
enum VoteRecord {
    V1 {
        term: u64,
        node: u64,
        committed: bool,
    },
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct LogIdV1 {
    term: u64,
    index: u64,
}

#[derive(Serialize, Deserialize)]
enum LogIdRecord {
    V1(LogIdV1),
}

#[derive(Serialize, Deserialize)]
enum AppliedRecord {
    V1 {
        term: u64,
        membership_at: Option<LogIdV1>,
        membership: Vec<u8>,
        used: BTreeSet<RawId>,
    },
}

/// What was applied last, and what the applied log says about the members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AppliedState {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    /// Every node id that was ever a member. None is given to another node.
    pub(crate) used: BTreeSet<RawId>,
}

impl AppliedState {
    /// Takes over a membership entry.
    pub(crate) fn set_membership(&mut self, at: LogId, membership: Membership) {
        self.used.extend(membership.nodes().map(|(id, _)| *id));
        self.membership = StoredMembership::new(Some(at), membership);
    }

    /// The record, unless nothing was applied yet.
    pub(crate) fn encode(&self) -> Option<Applied> {
        let last = self.last?;
        let record = AppliedRecord::V1 {
            term: last.leader_id.term,
            membership_at: self.membership.log_id().map(Into::into),
            membership: record::encode_membership(self.membership.membership()),
            used: self.used.clone(),
        };
        Some(Applied {
            index: last.index,
            bytes: to_bytes(&record),
        })
    }

    /// What a snapshot of this state says of itself.
    pub(crate) fn into_meta(self) -> SnapshotMetaOf<Types> {
        SnapshotMetaOf::<Types> {
            last_log_id: self.last,
            last_membership: self.membership,
        }
    }

    /// The inverse of [`Self::encode`]; `None` stands for nothing applied.
    pub(crate) fn decode(applied: Option<&Applied>) -> Result<Self, DiskError> {
        let Some(applied) = applied else {
            return Ok(Self::default());
        };
        let AppliedRecord::V1 {
            term,
            membership_at,
            membership,
            used,
        } = from_bytes("applied position", &applied.bytes)?;
        let membership = record::decode_membership(&membership).map_err(DiskError::Membership)?;
        Ok(Self {
            last: Some(log_id(term, applied.index)),
            membership: StoredMembership::new(membership_at.map(Into::into), membership),
            used,
        })
    }
}

impl From<LogId> for LogIdV1 {
    fn from(id: LogId) -> Self {
        Self {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

impl From<LogIdV1> for LogId {
    fn from(id: LogIdV1) -> Self {
        log_id(id.term, id.index)
    }
}

fn to_bytes<T: Serialize>(record: &T) -> Bytes {
    postcard::to_stdvec(record)
        .expect("records are plain data, which always encodes")
        .into()
}

fn from_bytes<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, DiskError> {
    match postcard::take_from_bytes(bytes) {
        Ok((record, [])) => Ok(record),
        Ok((_, rest)) => Err(DiskError::Trailing {
            what,
            count: rest.len(),
        }),
        Err(source) => Err(DiskError::Undecodable { what, source }),
    }
}

/// An entry as the log keeps it.
pub(crate) fn encode_entry(entry: &Entry) -> LogRecord {
    let record = record::encode(&entry.payload);
    let mut payload = BytesMut::with_capacity(TERM_BYTES + record.len());
    payload.put_u64_le(entry.log_id.leader_id.term);
    payload.put_slice(&record);
    LogRecord {
        index: entry.log_id.index,
        payload: payload.freeze(),
    }
}

/// The inverse; a command shares the record's memory.
pub(crate) fn decode_entry(record: LogRecord) -> Result<Entry, DiskError> {
    let LogRecord { index, mut payload } = record;
    let short = DiskError::Short {
        index,
        found: payload.len(),
    };
    let term = *payload.first_chunk::<TERM_BYTES>().ok_or(short)?;
    let payload = record::decode(payload.split_off(TERM_BYTES))
        .map_err(|source| DiskError::Entry { index, source })?;
    Ok(Entry {
        log_id: log_id(u64::from_le_bytes(term), index),
        payload,
    })
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let Vote {
        leader_id,
        committed,
    } = *vote;
    to_bytes(&VoteRecord::V1 {
        term: leader_id.term,
        node: leader_id.voted_for,
        committed,
    })
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, DiskError> {
    let VoteRecord::V1 {
        term,
        node,
        committed,
    } = from_bytes("vote", bytes)?;
    Ok(if committed {
        Vote::new_committed(term, node)
    } else {
        Vote::new(term, node)
    })
}

pub(crate) fn encode_log_id(id: LogId) -> Bytes {
    to_bytes(&LogIdRecord::V1(id.into()))
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, DiskError> {
    let LogIdRecord::V1(id) = from_bytes("log position", bytes)?;
    Ok(id.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::members::Node;
    use crate::types::Payload;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn entries_survive_and_are_pinned() {
        let entry = Entry {
            log_id: log_id(2, 7),
            payload: Payload::Normal(record::command(1, b"ab")),
        };
        let record = encode_entry(&entry);
        assert_eq!(
            (record.index, hex(&record.payload)),
            (7, "02000000000000000101000000000000006162".into())
        );
        assert_eq!(decode_entry(record).unwrap(), entry);
    }

    #[test]
    fn votes_and_positions_survive_and_are_pinned() {
        for (vote, pinned) in [
            (Vote::new(3, 300), "0003ac0200"),
            (Vote::new_committed(3, 300), "0003ac0201"),
        ] {
            assert_eq!(hex(&encode_vote(&vote)), pinned);
            assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        }
        assert_eq!(hex(&encode_log_id(log_id(3, 300))), "0003ac02");
        assert_eq!(
            decode_log_id(&encode_log_id(log_id(3, 300))).unwrap(),
            log_id(3, 300)
        );
    }

    #[test]
    fn the_applied_state_survives_and_is_pinned() {
        let node = Node {
            name: "a".into(),
            peer_addr: "p".into(),
            api_addr: "h".into(),
        };
        let mut state = AppliedState {
            last: Some(log_id(3, 300)),
            ..AppliedState::default()
        };
        state.used.insert(9);
        state.set_membership(
            log_id(2, 5),
            Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, node)])).unwrap(),
        );

        let applied = state.encode().unwrap();
        assert_eq!(
            (applied.index, hex(&applied.bytes)),
            (300, "00030102050b0101010101016101700168020109".to_owned())
        );
        assert_eq!(AppliedState::decode(Some(&applied)).unwrap(), state);
        assert_eq!(AppliedState::decode(None).unwrap(), AppliedState::default());
        assert_eq!(AppliedState::default().encode(), None);
    }

    #[test]
    fn what_was_not_written_here_is_refused() {
        let refused = decode_entry(LogRecord {
            index: 4,
            payload: Bytes::from_static(&[0; 7]),
        })
        .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "log entry 4 has 7 bytes, its term alone takes 8"
        );
        assert!(matches!(
            decode_vote(&[0, 1, 1, 1, 0]),
            Err(DiskError::Trailing {
                what: "vote",
                count: 1
            })
        ));
        assert!(matches!(
            decode_log_id(&[1, 1, 1]),
            Err(DiskError::Undecodable {
                what: "log position",
                ..
            })
        ));
    }
}
