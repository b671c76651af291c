//! Pins the bytes of every message, and the refusal of what is none.

use openraft::raft::AppendEntriesRequest;

use super::v1::{Append, Decline, Entry, LogId, Vote};
use super::*;
use crate::record;
use crate::types::{self, Types, log_id};

const VOTER: Vote = Vote {
    term: 3,
    node: 2,
    committed: true,
};
const PLACE: LogId = LogId {
    term: 3,
    index: 300,
};

/// Encodes, compares with the pinned bytes and decodes again.
macro_rules! pinned {
    ($message:expr, $hex:expr) => {{
        let message = $message;
        let bytes = encode(&message);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, $hex);
        assert_eq!(decode(&bytes).ok(), Some(message));
    }};
}

#[test]
fn appends_are_pinned() {
    let entries = vec![
        Entry {
            term: 3,
            record: Blob(b"ab"),
        },
        Entry {
            term: 3,
            record: Blob(b"c"),
        },
    ];
    pinned!(
        Append::V1 {
            leader: VOTER,
            previous: Some(PLACE),
            committed: None,
            entries
        },
        "000302010103ac02000203026162030163"
    );
    pinned!(
        Append::V1 {
            leader: VOTER,
            previous: None,
            committed: Some(PLACE),
            entries: Vec::new()
        },
        "00030201000103ac0200"
    );
    let answer = |result| AppendAnswer::V1 {
        result,
        clock_ms: 300,
    };
    pinned!(
        answer(AppendResult::Matches(Some(PLACE))),
        "00000103ac02ac02"
    );
    pinned!(answer(AppendResult::Conflicts(PLACE)), "000103ac02ac02");
    pinned!(answer(AppendResult::Outvoted(VOTER)), "0002030201ac02");
    pinned!(answer(AppendResult::Ahead { stamp_ms: 5 }), "000305ac02");
}

#[test]
fn votes_and_transfers_are_pinned() {
    pinned!(
        VoteRequest::V1 {
            vote: VOTER,
            last: Some(PLACE),
            transfer: true
        },
        "000302010103ac0201"
    );
    pinned!(
        VoteAnswer::V1 {
            vote: VOTER,
            granted: true,
            last: None
        },
        "000302010100"
    );
    pinned!(
        Transfer::V1 {
            leader: VOTER,
            to: 1,
            last: Some(PLACE)
        },
        "00030201010103ac02"
    );
    pinned!(TransferAnswer::V1(TransferResult::Accepted), "0000");
    pinned!(
        TransferAnswer::V1(TransferResult::Outvoted { actual: VOTER }),
        "0001030201"
    );
    pinned!(
        TransferAnswer::V1(TransferResult::Behind { actual: None }),
        "000200"
    );
}

#[test]
fn submissions_and_reads_are_pinned() {
    pinned!(
        Forward::V1 {
            payloads: vec![Blob(b"ab"), Blob(b"")]
        },
        "000202616200"
    );
    let outcomes = vec![
        Outcome::Applied {
            at: PLACE,
            answer: Blob(b"ok"),
        },
        Outcome::NotWritten,
        Outcome::Unknown,
        Outcome::Declined(Decline::LowSpace {
            free_bytes: 1,
            floor_bytes: 2,
        }),
    ];
    pinned!(
        ForwardAnswer::V1 { outcomes },
        "00040003ac02026f6b010203010102"
    );
    pinned!(Barrier::V1, "00");
    pinned!(BarrierAnswer::V1 { index: Some(300) }, "0001ac02");
    pinned!(BarrierAnswer::V1 { index: None }, "0000");
}

#[test]
fn snapshots_are_pinned() {
    let digest = [0xee; 32];
    let step = |step| Snapshot::V1 {
        leader: VOTER,
        last: PLACE,
        digest,
        step,
    };
    let head = format!("0003020103ac02{}", "ee".repeat(32));
    pinned!(
        step(SnapshotStep::Offer { bytes: 300 }),
        format!("{head}00ac02")
    );
    pinned!(
        step(SnapshotStep::Chunk {
            offset: 5,
            data: Blob(b"ab")
        }),
        format!("{head}0105026162")
    );
    pinned!(step(SnapshotStep::Install), format!("{head}02"));
    pinned!(
        SnapshotAnswer::V1(SnapshotResult::SendFrom { offset: 300 }),
        "0000ac02"
    );
    pinned!(
        SnapshotAnswer::V1(SnapshotResult::Done { vote: VOTER }),
        "0001030201"
    );
    pinned!(
        SnapshotAnswer::V1(SnapshotResult::Outvoted { vote: VOTER }),
        "0002030201"
    );
}

fn append() -> AppendEntriesRequest<Types> {
    let entry = |index, payload| types::Entry {
        log_id: log_id(3, index),
        payload,
    };
    AppendEntriesRequest {
        vote: types::Vote::new_committed(3, 2),
        prev_log_id: Some(log_id(2, 6)),
        leader_commit: Some(log_id(2, 5)),
        entries: vec![
            entry(7, types::Payload::Blank),
            entry(8, types::Payload::Normal(record::command(9, b"vote"))),
        ],
    }
}

#[test]
fn an_append_survives_its_message_and_shares_its_memory() {
    let frame = append_to_wire(&append());
    let decoded = append_to_core(&frame).unwrap();
    assert_eq!(format!("{decoded:?}"), format!("{:?}", append()));

    let types::Payload::Normal(command) = &decoded.entries[1].payload else {
        unreachable!()
    };
    assert!(frame.as_ptr_range().contains(&command.0.as_ptr()));
}

#[test]
fn what_is_no_message_is_refused() {
    let frame = append_to_wire(&append());
    for cut in 0..frame.len() {
        assert!(append_to_core(&frame.slice(..cut)).is_err(), "cut at {cut}");
    }
    let trailing: Bytes = [&frame[..], &[0]].concat().into();
    assert!(matches!(
        append_to_core(&trailing),
        Err(WireError::Trailing { count: 1 })
    ));
    assert!(matches!(
        decode::<Barrier>(&[1]),
        Err(WireError::Undecodable(_))
    ));

    let unknown = Append::V1 {
        leader: VOTER,
        previous: None,
        committed: None,
        entries: vec![Entry {
            term: 1,
            record: Blob(&[9]),
        }],
    };
    assert!(matches!(
        append_to_core(&encode(&unknown)),
        Err(WireError::Record { index: 0, .. })
    ));
}
