//! Between the messages and openraft's types.

use bytes::Bytes;
use openraft::raft::AppendEntriesRequest;

use super::v1;
use super::{Blob, WireError, decode, encode_large};
use crate::admission::Decline;
use crate::record;
use crate::types::{self, Types, log_id};

impl From<types::LogId> for v1::LogId {
    fn from(id: types::LogId) -> Self {
        Self {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

impl From<v1::LogId> for types::LogId {
    fn from(id: v1::LogId) -> Self {
        log_id(id.term, id.index)
    }
}

impl From<types::Vote> for v1::Vote {
    fn from(vote: types::Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            node: vote.leader_id.voted_for,
            committed: vote.committed,
        }
    }
}

impl From<v1::Vote> for types::Vote {
    fn from(vote: v1::Vote) -> Self {
        if vote.committed {
            Self::new_committed(vote.term, vote.node)
        } else {
            Self::new(vote.term, vote.node)
        }
    }
}

impl From<Decline> for v1::Decline {
    fn from(why: Decline) -> Self {
        match why {
            Decline::Busy => Self::Busy,
            Decline::LowSpace {
                free_bytes,
                floor_bytes,
            } => Self::LowSpace {
                free_bytes,
                floor_bytes,
            },
            Decline::Unreadable => Self::Unreadable,
        }
    }
}

impl From<v1::Decline> for Decline {
    fn from(why: v1::Decline) -> Self {
        match why {
            v1::Decline::Busy => Self::Busy,
            v1::Decline::LowSpace {
                free_bytes,
                floor_bytes,
            } => Self::LowSpace {
                free_bytes,
                floor_bytes,
            },
            v1::Decline::Unreadable => Self::Unreadable,
        }
    }
}

/// Encodes an append.
pub(crate) fn append_to_wire(request: &AppendEntriesRequest<Types>) -> Bytes {
    let records: Vec<Bytes> = request
        .entries
        .iter()
        .map(|entry| record::encode(&entry.payload))
        .collect();
    let bytes = records.iter().map(Bytes::len).sum();
    let append = v1::Append::V1 {
        leader: request.vote.into(),
        previous: request.prev_log_id.map(Into::into),
        committed: request.leader_commit.map(Into::into),
        entries: request
            .entries
            .iter()
            .zip(&records)
            .map(|(entry, record)| v1::Entry {
                term: entry.log_id.leader_id.term,
                record: Blob(record),
            })
            .collect(),
    };
    encode_large(&append, records.len(), bytes)
}

/// Decodes an append; its commands share the frame's memory.
pub(crate) fn append_to_core(frame: &Bytes) -> Result<AppendEntriesRequest<Types>, WireError> {
    let v1::Append::V1 {
        leader,
        previous,
        committed,
        entries,
    } = decode(frame)?;
    let first = previous.map_or(0, |id| id.index.saturating_add(1));
    let entry = |(entry, index): (v1::Entry<'_>, u64)| {
        let payload = record::decode(frame.slice_ref(entry.record.0))
            .map_err(|source| WireError::Record { index, source })?;
        Ok(types::Entry {
            log_id: log_id(entry.term, index),
            payload,
        })
    };
    Ok(AppendEntriesRequest {
        vote: leader.into(),
        prev_log_id: previous.map(Into::into),
        leader_commit: committed.map(Into::into),
        entries: entries
            .into_iter()
            .zip(first..)
            .map(entry)
            .collect::<Result<_, _>>()?,
    })
}
