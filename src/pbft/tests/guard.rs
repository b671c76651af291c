//! Check, persist, then sign: what the safety module does when its disk fails, and when
//! it starts anew.

use std::sync::Arc;

use aegis_crypto::Digest;
use aegis_pbft::{
    Base, Draft, Effect, Frame, Granted, Guard, Head, Input, Message, OpenError, Request,
    RestoreError, Scope, Sequence, Settings, Setup, SignError, Time, Unsafe, Validator, Verifier,
    View,
};

use crate::memory::{MemoryDisk, committee, committee_of, key, scope, value};

fn open(seat: u8, disk: &MemoryDisk) -> Guard<MemoryDisk> {
    Guard::open(
        key(seat),
        scope(),
        committee(4),
        &disk.records(),
        disk.clone(),
    )
    .unwrap()
}

fn proposal(sequence: u64, outcome: &str) -> Draft {
    Draft::PrePrepare {
        view: View(0),
        sequence: Sequence(sequence),
        value: value(sequence, outcome),
    }
}

fn prepare(sequence: u64, outcome: &str) -> Draft {
    Draft::Prepare {
        view: View(0),
        sequence: Sequence(sequence),
        digest: value(sequence, outcome).digest(),
    }
}

fn checkpoint(tree: &str) -> Draft {
    Draft::Checkpoint {
        head: Head {
            sequence: Sequence(9),
            chain: Digest::of("chain"),
            tree_size: 90,
            tree_root: Digest::of(tree),
        },
    }
}

fn view_change(view: u64) -> Draft {
    Draft::ViewChange {
        view: View(view),
        stable: None,
        prepared: vec![],
    }
}

fn said(granted: Granted) -> Message {
    match granted {
        Granted::Said(message) => message,
        other => panic!("nothing is said: {other:?}"),
    }
}

#[test]
fn a_batch_is_one_write_and_is_judged_in_its_order() {
    let disk = MemoryDisk::default();
    let mut guard = open(1, &disk);
    disk.take_writes();
    let granted = guard
        .sign(vec![
            prepare(1, "approved"),
            prepare(2, "approved"),
            prepare(1, "rejected"),
            view_change(1),
            prepare(3, "approved"),
        ])
        .unwrap();
    let writes = disk.take_writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].len(), 3, "two votes and the promise");
    let kinds: Vec<_> = granted
        .iter()
        .map(|granted| match granted {
            Granted::Said(message) => message.kind(),
            Granted::Kept => "kept",
            Granted::Refused(_, Unsafe::Contradiction { .. }) => "contradiction",
            Granted::Refused(_, Unsafe::PastView { .. }) => "past view",
            Granted::Refused(..) => "refused otherwise",
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "prepare",
            "prepare",
            "contradiction",
            "view_change",
            "past view"
        ]
    );
}

#[test]
fn what_contradicts_is_not_even_written() {
    let disk = MemoryDisk::default();
    let mut guard = open(1, &disk);
    guard.sign(vec![prepare(1, "approved")]).unwrap();
    disk.take_writes();
    let granted = guard.sign(vec![prepare(1, "rejected")]).unwrap();
    assert!(matches!(granted[..], [Granted::Refused(..)]));
    assert_eq!(disk.take_writes().len(), 0);
}

#[test]
fn the_same_draft_gives_the_same_bytes_after_a_restart() {
    let drafts = |seat: u8| match seat {
        0 => vec![proposal(1, "approved"), checkpoint("tree"), view_change(1)],
        _ => vec![prepare(1, "approved"), checkpoint("tree"), view_change(1)],
    };
    for seat in [0, 1] {
        let disk = MemoryDisk::default();
        let bytes = |granted: Vec<Granted>| -> Vec<Vec<u8>> {
            let messages = granted.into_iter().map(said);
            messages
                .map(|message| {
                    let scope = scope();
                    Frame { scope, message }.encode()
                })
                .collect()
        };
        let first = bytes(open(seat, &disk).sign(drafts(seat)).unwrap());
        disk.take_writes();
        // A view change ends the voting, so after it only itself and heads are repeated.
        let again = bytes(open(seat, &disk).sign(drafts(seat).split_off(1)).unwrap());
        assert_eq!(first[1..], again);
        let mut guard = open(seat, &disk);
        let vote = guard.sign(drafts(seat)).unwrap().remove(0);
        assert!(matches!(vote, Granted::Refused(_, Unsafe::PastView { .. })));
        assert_eq!(disk.take_writes().len(), 0, "it was all there already");
    }
    let disk = MemoryDisk::default();
    let first = said(
        open(1, &disk)
            .sign(vec![prepare(1, "approved")])
            .unwrap()
            .remove(0),
    );
    let again = said(
        open(1, &disk)
            .sign(vec![prepare(1, "approved")])
            .unwrap()
            .remove(0),
    );
    assert_eq!(first, again);
}

#[test]
fn after_a_failed_write_nothing_is_ever_signed() {
    let disk = MemoryDisk::default();
    let mut guard = open(1, &disk);
    disk.0.borrow_mut().broken = true;
    assert!(matches!(
        guard.sign(vec![prepare(1, "approved")]),
        Err(SignError::Disk(_))
    ));
    // Whether it is on the medium is unknown, so that a disk which works again is no
    // reason to go on; not even what needs no write is signed.
    disk.0.borrow_mut().broken = false;
    for draft in [
        prepare(1, "approved"),
        prepare(2, "approved"),
        view_change(1),
    ] {
        assert!(matches!(guard.sign(vec![draft]), Err(SignError::Failed)));
    }
    assert!(matches!(guard.sign(vec![]), Err(SignError::Failed)));
    // A process that starts anew reads what is there, and goes on from that.
    let granted = open(1, &disk).sign(vec![prepare(1, "rejected")]).unwrap();
    assert!(matches!(granted[..], [Granted::Said(_)]));
}

#[test]
fn a_safety_module_that_cannot_write_its_scope_does_not_open() {
    let disk = MemoryDisk::default();
    disk.0.borrow_mut().broken = true;
    let opened = Guard::open(key(1), scope(), committee(4), &[], disk);
    assert!(matches!(opened, Err(OpenError::Disk(_))));
}

#[test]
fn a_key_without_a_seat_signs_nothing() {
    let opened = Guard::open(key(7), scope(), committee(4), &[], MemoryDisk::default());
    assert!(matches!(opened, Err(OpenError::NoSeat { epoch: 0 })));
}

#[test]
fn an_older_epoch_is_wiped_and_a_newer_refuses() {
    let disk = MemoryDisk::default();
    open(1, &disk).sign(vec![prepare(1, "approved")]).unwrap();
    let next = Scope {
        epoch: 1,
        ..scope()
    };
    let open_next = || {
        Guard::open(
            key(1),
            next,
            committee_of(1, 4),
            &disk.records(),
            disk.clone(),
        )
    };
    let granted = open_next()
        .unwrap()
        .sign(vec![prepare(1, "rejected")])
        .unwrap();
    assert!(matches!(granted[..], [Granted::Said(_)]));
    let before = disk.records();
    let back = Guard::open(key(1), scope(), committee(4), &disk.records(), disk.clone());
    assert!(matches!(
        back,
        Err(OpenError::Restore(RestoreError::Epoch {
            found: 1,
            asked: 0
        }))
    ));
    assert_eq!(disk.records(), before);
}

/// A validator whose disk fails says nothing at all in that step, not even what it could
/// have signed in an earlier write of the same step.
#[test]
fn a_validator_whose_disk_fails_says_nothing() {
    let disk = MemoryDisk::default();
    let setup = Setup {
        settings: Settings::default(),
        scope: scope(),
        committee: committee(1),
        base: Base::default(),
    };
    let (mut validator, effects) =
        Validator::open(setup, key(0), &[], disk.clone(), Time(0)).unwrap();
    assert!(effects.is_empty());
    disk.0.borrow_mut().broken = true;
    let request = Request {
        sequence: Sequence(1),
        value: value(1, "approved"),
        tree_size: 1,
        tree_root: Digest::of("tree"),
        objected: false,
    };
    let failed = validator.handle(Time(0), vec![Input::Request(request)]);
    assert!(matches!(failed, Err(SignError::Disk(_))));
    disk.0.borrow_mut().broken = false;
    let recorded = Input::Recorded {
        sequence: Sequence(1),
        digest: value(1, "approved").digest(),
    };
    // What needs no signature still works; the shell has been told to stop.
    assert!(validator.handle(Time(0), vec![recorded]).is_ok());
    let woken = validator.handle(Time(10_000), vec![Input::Wake]);
    assert!(matches!(woken, Err(SignError::Failed)));
}

/// What is signed verifies, and the certificate that comes of it as well.
#[test]
fn everything_that_is_signed_verifies() {
    let disk = MemoryDisk::default();
    let setup = Setup {
        settings: Settings::default(),
        scope: scope(),
        committee: committee(1),
        base: Base::default(),
    };
    let (mut validator, _) = Validator::open(setup, key(0), &[], disk, Time(0)).unwrap();
    let request = Request {
        sequence: Sequence(1),
        value: value(1, "approved"),
        tree_size: 1,
        tree_root: Digest::of("tree"),
        objected: false,
    };
    let effects = validator
        .handle(Time(0), vec![Input::Request(request)])
        .unwrap();
    let verifier = Verifier::new(scope(), committee(1));
    let verify = |message: Message| {
        let scope = scope();
        verifier.verify(Frame { scope, message })
    };
    let mut kinds = Vec::new();
    for effect in effects {
        match effect {
            Effect::Send { message, .. } => {
                kinds.push(message.kind());
                verify(message).unwrap();
            }
            Effect::Decided(certificate) => {
                kinds.push("certificate");
                let envelope = Arc::clone(&certificate).to_envelope(&committee(1));
                verify(Message::Certificate(envelope.into_bytes())).unwrap();
            }
            _ => {}
        }
    }
    assert_eq!(kinds, ["pre_prepare", "commit", "certificate"]);
}
