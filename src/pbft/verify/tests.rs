use proptest::prelude::*;

use super::*;
use crate::evidence::Evidence;
use crate::message::Head;
use crate::proof::PreparedProof;
use crate::signature::Signature;
use crate::testing::{
    Seat, committee, head, prepared, proof, scope, stable, stable_of, value, value_in,
};

fn verify_in(count: u8, message: Message) -> Result<Verified, Invalid> {
    let scope = scope();
    Verifier::new(scope, committee(count)).verify(Frame { scope, message })
}

fn verify(message: Message) -> Result<Verified, Invalid> {
    verify_in(4, message)
}

/// Proof that four seats prepared a value in view 0.
fn prepared_in_0(sequence: u64, outcome: &str) -> Arc<PreparedProof> {
    prepared(
        &committee(4),
        Seat::signing,
        0,
        sequence,
        &value(sequence, outcome),
    )
}

fn signatures(head: Head, seats: &[u8]) -> Vec<(SeatNo, Signature)> {
    seats
        .iter()
        .map(|seat| {
            (
                SeatNo(*seat),
                Seat::signing(*seat).checkpoint(head).signature,
            )
        })
        .collect()
}

fn prepares(sequence: u64, digest: Digest, seats: &[u8]) -> Vec<(SeatNo, Signature)> {
    seats
        .iter()
        .map(|seat| {
            let prepare = Seat::signing(*seat).prepare(0, sequence, digest);
            (SeatNo(*seat), prepare.signature)
        })
        .collect()
}

/// A view change of seat 2 for view 1 that carries a proof.
fn carrying(proof: Arc<PreparedProof>) -> Message {
    Message::ViewChange(Seat::signing(2).view_change(1, None, vec![proof]))
}

/// Three view changes for view 1, of which that of seat 1 proves something prepared.
fn quorum_of_changes() -> Vec<Arc<ViewChange>> {
    vec![
        Seat::signing(0).view_change(1, None, vec![]),
        Seat::signing(1).view_change(1, None, vec![prepared_in_0(5, "approved")]),
        Seat::signing(3).view_change(1, None, vec![]),
    ]
}

fn refused(message: Arc<NewView>) -> Invalid {
    verify(Message::NewView(message)).unwrap_err()
}

#[test]
fn a_message_of_another_scope_is_refused_whatever_it_says() {
    let ours = scope();
    let cluster = Digest::of("another cluster");
    let incarnation = ours.incarnation + 1;
    let epoch = ours.epoch + 1;
    for theirs in [
        Scope { cluster, ..ours },
        Scope {
            incarnation,
            ..ours
        },
        Scope { epoch, ..ours },
    ] {
        let prepare = Seat::signing_in(theirs, 2).prepare(0, 1, Digest::of("a value"));
        let named = Frame {
            scope: theirs,
            message: Message::Prepare(prepare.clone()),
        };
        let verifier = Verifier::new(ours, committee(4));
        assert_eq!(
            verifier.verify(named),
            Err(Invalid::Scope {
                found: Box::new(theirs),
                expected: Box::new(ours),
            })
        );
        // Under our own scope its signature does not hold.
        let proposal = Seat::signing_in(theirs, 0).pre_prepare(0, 1, &value(1, "approved"));
        let checkpoint = Seat::signing_in(theirs, 2).checkpoint(head(1, "tree"));
        let change = Seat::signing_in(theirs, 2).view_change(1, None, vec![]);
        for (seat, message) in [
            (2, Message::Prepare(prepare)),
            (0, Message::PrePrepare(proposal)),
            (2, Message::Checkpoint(checkpoint)),
            (2, Message::ViewChange(change)),
        ] {
            let signer = Invalid::Signer(ProofError::Signature(SeatNo(seat)));
            assert_eq!(verify(message), Err(signer));
        }
    }
}

/// A commit signs the certificate's payload, in which the epoch stands, but cluster and
/// incarnation only inside of the statement. A seat keeps its key when the cluster is
/// restored, so what it certified before must count for nothing afterwards.
#[test]
fn what_was_committed_to_elsewhere_decides_and_convicts_nothing_here() {
    let ours = scope();
    let epoch = Scope { epoch: 1, ..ours };
    let commit = Seat::signing_in(epoch, 2).commit(0, 1, &value(1, "approved"));
    let signer = Invalid::Signer(ProofError::Signature(SeatNo(2)));
    assert_eq!(verify(Message::Commit(commit)), Err(signer));

    let cluster = Digest::of("another cluster");
    let incarnation = ours.incarnation - 1;
    let here = Seat::signing(2).commit(0, 1, &value(1, "approved"));
    for theirs in [
        value_in(Scope { cluster, ..ours }, 1, "rejected"),
        value_in(
            Scope {
                incarnation,
                ..ours
            },
            1,
            "rejected",
        ),
        value(2, "rejected"),
        Value::new(r#"{"outcome":"rejected"}"#, &[]).unwrap(),
        Value::new("rejected", &[]).unwrap(),
    ] {
        let sequence = Sequence(1);
        let commits = [0, 1, 2].map(|seat| Seat::signing(seat).commit(0, 1, &theirs));
        let commit = commits[2].clone();
        let there = Message::Commit(commit.clone());
        assert_eq!(verify(there), Err(Invalid::Statement { sequence }));
        let evidence = Evidence {
            scope: ours,
            first: Message::Commit(here.clone()),
            second: Message::Commit(commit),
        };
        assert_eq!(evidence.convicts(&committee(4)), None);

        let signatures = commits
            .into_iter()
            .map(|commit| (commit.seat, commit.signature.0))
            .collect();
        let statement = theirs.statement().to_owned();
        let Ok(certificate) = Certificate::assemble(&committee(4), 0, 1, statement, signatures)
        else {
            continue;
        };
        let envelope = certificate.to_envelope(&committee(4)).into_bytes();
        assert_eq!(
            verify(Message::Certificate(envelope)),
            Err(Invalid::Statement { sequence })
        );
    }
}

#[test]
fn a_seat_that_is_not_there_signs_nothing() {
    let stranger = Seat::signing(4);
    let no_seat = || Invalid::Signer(ProofError::NoSeat(SeatNo(4)));
    let prepare = stranger.prepare(0, 1, Digest::of("a value"));
    assert_eq!(verify(Message::Prepare(prepare)), Err(no_seat()));
    let commit = stranger.commit(0, 1, &value(1, "approved"));
    assert_eq!(verify(Message::Commit(commit)), Err(no_seat()));
    let checkpoint = stranger.checkpoint(head(1, "tree"));
    assert_eq!(verify(Message::Checkpoint(checkpoint)), Err(no_seat()));
    let change = stranger.view_change(1, None, vec![]);
    assert_eq!(verify(Message::ViewChange(change)), Err(no_seat()));
    // A proposal names no seat: it is held against the primary's key.
    let proposal = stranger.pre_prepare(0, 1, &value(1, "approved"));
    let signer = Invalid::Signer(ProofError::Signature(SeatNo(0)));
    assert_eq!(verify(Message::PrePrepare(proposal)), Err(signer));
}

#[test]
fn a_prepared_proof_is_refused_for_the_first_thing_that_is_wrong() {
    let approved = value(1, "approved");
    let proposal = Seat::signing(0).pre_prepare(0, 1, &approved);
    let agreed = |seats: &[u8]| prepares(1, approved.digest(), seats);
    let refused = |prepares: &[(SeatNo, Signature)]| {
        let message = carrying(proof(proposal.clone(), prepares));
        match verify(message).unwrap_err() {
            Invalid::Prepared { sequence, source } => {
                assert_eq!(sequence, Sequence(1));
                source
            }
            other => panic!("{other}"),
        }
    };
    assert!(verify(carrying(proof(proposal.clone(), &agreed(&[1, 3])))).is_ok());

    let count = |found| ProofError::Count { found, expected: 2 };
    assert_eq!(refused(&[]), count(0));
    assert_eq!(refused(&agreed(&[1])), count(1));
    assert_eq!(refused(&agreed(&[1, 2, 3])), count(3));
    let order = |first, second| ProofError::Order {
        first: SeatNo(first),
        second: SeatNo(second),
    };
    assert_eq!(refused(&agreed(&[3, 1])), order(3, 1));
    assert_eq!(refused(&agreed(&[2, 2])), order(2, 2));
    assert_eq!(refused(&agreed(&[0, 1])), ProofError::Primary(SeatNo(0)));
    assert_eq!(refused(&agreed(&[1, 4])), ProofError::NoSeat(SeatNo(4)));
    let stranger = vec![agreed(&[1])[0], (SeatNo(2), agreed(&[4])[0].1)];
    assert_eq!(refused(&stranger), ProofError::Signature(SeatNo(2)));
    let other = prepares(1, value(1, "rejected").digest(), &[1, 2]);
    assert_eq!(refused(&other), ProofError::Signature(SeatNo(1)));
    let elsewhere = prepares(2, approved.digest(), &[1, 2]);
    assert_eq!(refused(&elsewhere), ProofError::Signature(SeatNo(1)));

    // The proposal of a backup is none, however many agree.
    let usurped = Seat::signing(1).pre_prepare(0, 1, &approved);
    let invalid = verify(carrying(proof(usurped, &agreed(&[1, 2])))).unwrap_err();
    let source = ProofError::Signature(SeatNo(0));
    let sequence = Sequence(1);
    assert_eq!(invalid, Invalid::Prepared { sequence, source });
}

/// The paper's 2f prepares are too few where n is not 3f + 1.
#[test]
fn a_prepared_proof_needs_a_quorum_of_every_committee() {
    let approved = value(1, "approved");
    for count in 1..=10_u8 {
        let needed = committee(count).seats().quorum() - 1;
        for found in 0..count {
            let seats: Vec<u8> = (1..=found).collect();
            let agreed = prepares(1, approved.digest(), &seats);
            let proposal = Seat::signing(0).pre_prepare(0, 1, &approved);
            let change = Seat::signing(0).view_change(1, None, vec![proof(proposal, &agreed)]);
            let verdict = verify_in(count, Message::ViewChange(change));
            assert_eq!(verdict.is_ok(), found == needed, "{found} of {count}");
        }
    }
}

#[test]
fn a_stable_checkpoint_is_refused_for_the_first_thing_that_is_wrong() {
    let head = head(32, "tree");
    let verdict = |seats: &[u8]| verify(Message::Stable(stable_of(head, &signatures(head, seats))));
    assert!(verdict(&[0, 1, 3]).is_ok());
    let refused = |seats: &[u8]| match verdict(seats).unwrap_err() {
        Invalid::Stable(source) => source,
        other => panic!("{other}"),
    };
    let count = |found| ProofError::Count { found, expected: 3 };
    assert_eq!(refused(&[]), count(0));
    assert_eq!(refused(&[0, 1]), count(2));
    assert_eq!(refused(&[0, 1, 2, 3]), count(4));
    let order = |first, second| ProofError::Order {
        first: SeatNo(first),
        second: SeatNo(second),
    };
    assert_eq!(refused(&[0, 2, 1]), order(2, 1));
    assert_eq!(refused(&[0, 1, 1]), order(1, 1));
    assert_eq!(refused(&[0, 1, 4]), ProofError::NoSeat(SeatNo(4)));

    let other = crate::testing::head(32, "another tree");
    let mixed = stable_of(other, &signatures(head, &[0, 1, 2]));
    let change = Seat::signing(2).view_change(1, Some(mixed), vec![]);
    assert_eq!(
        verify(Message::ViewChange(change)),
        Err(Invalid::Stable(ProofError::Signature(SeatNo(0))))
    );
}

#[test]
fn a_view_change_claims_nothing_out_of_place() {
    let at = |sequence| prepared_in_0(sequence, "approved");
    let stable = stable(&committee(4), Seat::signing, head(32, "tree"));
    let refused = |view, stable: Option<&StableCheckpoint>, prepared| {
        let change = Seat::signing(2).view_change(view, stable.cloned(), prepared);
        match verify(Message::ViewChange(change)).unwrap_err() {
            Invalid::Range {
                sequence, bound, ..
            } => (sequence.0, bound),
            other => panic!("{other}"),
        }
    };
    let said = |sequence: u64, bound: &str| (sequence, bound.to_owned());

    // Sequence numbers ascend, above the checkpoint, and are distinct.
    assert_eq!(
        refused(1, None, vec![at(7), at(6)]),
        said(6, "only above 7")
    );
    assert_eq!(
        refused(1, None, vec![at(7), at(7)]),
        said(7, "only above 7")
    );
    assert_eq!(
        refused(1, Some(&stable), vec![at(32)]),
        said(32, "only above 32")
    );
    // What was prepared was prepared in an earlier view.
    assert_eq!(refused(0, None, vec![at(1)]), said(1, "only below view 0"));
    // No honest seat prepares beyond its window.
    assert_eq!(
        refused(1, Some(&stable), vec![at(161)]),
        said(161, "only below 161")
    );
    assert_eq!(
        refused(1, None, vec![at(1), at(129)]),
        said(129, "only below 129")
    );
    for (stable, last) in [(Some(stable), 160), (None, 128)] {
        let first = if stable.is_some() { 33 } else { 1 };
        let change = Seat::signing(2).view_change(1, stable, vec![at(first), at(last)]);
        assert!(verify(Message::ViewChange(change)).is_ok());
    }
}

#[test]
fn a_new_view_stands_on_a_quorum_of_distinct_view_changes_for_it() {
    let primary = Seat::signing(1);
    assert!(verify(Message::NewView(primary.begin(1, quorum_of_changes()))).is_ok());

    let mut few = quorum_of_changes();
    few.pop();
    let mut many = quorum_of_changes();
    many.insert(2, Seat::signing(2).view_change(1, None, vec![]));
    for changes in [vec![], few, many] {
        let found = changes.len();
        let expected = 3;
        assert_eq!(
            refused(primary.begin(1, changes)),
            Invalid::ViewChanges { found, expected }
        );
    }

    let mut twice = quorum_of_changes();
    twice[2] = twice[1].clone();
    let order = |first, second| {
        Invalid::Signer(ProofError::Order {
            first: SeatNo(first),
            second: SeatNo(second),
        })
    };
    assert_eq!(refused(primary.begin(1, twice)), order(1, 1));
    let mut unordered = quorum_of_changes();
    unordered.swap(0, 2);
    assert_eq!(refused(primary.begin(1, unordered)), order(3, 1));

    let mut other = quorum_of_changes();
    other[2] = Seat::signing(3).view_change(2, None, vec![]);
    assert_eq!(
        refused(primary.begin(1, other)),
        Invalid::OtherView {
            seat: SeatNo(3),
            found: View(2),
            expected: View(1),
        }
    );

    let mut forged = quorum_of_changes();
    forged[2] = Arc::new(ViewChange {
        seat: SeatNo(3),
        ..(*Seat::signing(2).view_change(1, None, vec![])).clone()
    });
    assert_eq!(
        refused(primary.begin(1, forged)),
        Invalid::ViewChange {
            seat: SeatNo(3),
            source: Box::new(Invalid::Signer(ProofError::Signature(SeatNo(3)))),
        }
    );

    // Only the view's primary begins it.
    assert_eq!(
        refused(Seat::signing(2).begin(1, quorum_of_changes())),
        Invalid::Signer(ProofError::Signature(SeatNo(1)))
    );
}

#[test]
fn a_new_view_proposes_what_follows_and_nothing_else() {
    let primary = Seat::signing(1);
    let (approved, rejected) = (value(5, "approved"), value(5, "rejected"));
    let proposals = |proposals| refused(primary.new_view(1, quorum_of_changes(), proposals));
    let mismatch = |found| Invalid::Proposals { found, expected: 1 };
    let right = primary.pre_prepare(1, 5, &approved);
    let extra = primary.pre_prepare(1, 6, &value(6, "approved"));
    assert_eq!(proposals(vec![]), mismatch(0));
    assert_eq!(proposals(vec![right.clone(), extra.clone()]), mismatch(2));
    assert_eq!(proposals(vec![right.clone(), right.clone()]), mismatch(2));
    assert_eq!(proposals(vec![extra]), mismatch(1));
    let altered = primary.pre_prepare(1, 5, &rejected);
    assert_eq!(proposals(vec![altered]), mismatch(1));
    let old = Seat::signing(0).pre_prepare(0, 5, &approved);
    assert_eq!(
        proposals(vec![old]),
        Invalid::OtherView {
            seat: SeatNo(1),
            found: View(0),
            expected: View(1),
        }
    );
    let foreign = Seat::signing(2).pre_prepare(1, 5, &approved);
    assert_eq!(
        proposals(vec![foreign]),
        Invalid::Signer(ProofError::Signature(SeatNo(1)))
    );
    // Proposals that were put in after it was signed.
    let mut later = (*primary.new_view(1, quorum_of_changes(), vec![])).clone();
    later.proposals.push(right);
    assert_eq!(
        refused(Arc::new(later)),
        Invalid::Signer(ProofError::Signature(SeatNo(1)))
    );
}

/// Every single bit matters: what still verifies after a flip says what it said before.
#[test]
fn a_flipped_bit_is_refused_or_means_the_same() {
    let approved = value(5, "approved");
    let stable = stable(&committee(4), Seat::signing, head(4, "tree"));
    let changes = vec![
        Seat::signing(0).view_change(1, Some(stable.clone()), vec![]),
        Seat::signing(1).view_change(1, None, vec![prepared_in_0(5, "approved")]),
        Seat::signing(3).view_change(1, None, vec![]),
    ];
    let committed = (0..3)
        .map(|seat| {
            let commit = Seat::signing(seat).commit(0, 5, &approved);
            (SeatNo(seat), commit.signature.0)
        })
        .collect();
    let statement = approved.statement().to_owned();
    let certificate = Certificate::assemble(&committee(4), 0, 5, statement, committed).unwrap();
    let envelope = certificate.to_envelope(&committee(4)).into_bytes();
    for message in [
        Message::PrePrepare(Seat::signing(0).pre_prepare(0, 5, &approved)),
        Message::Prepare(Seat::signing(2).prepare(0, 5, approved.digest())),
        Message::Commit(Seat::signing(2).commit(0, 5, &approved)),
        Message::Checkpoint(Seat::signing(2).checkpoint(head(4, "tree"))),
        Message::ViewChange(changes[1].clone()),
        Message::NewView(Seat::signing(1).begin(1, changes)),
        Message::Certificate(envelope),
        Message::Stable(stable),
    ] {
        let kind = message.kind();
        let verifier = Verifier::new(scope(), committee(4));
        let scope = scope();
        let frame = Frame { scope, message };
        let bytes = frame.encode();
        let meant = verifier.verify(frame).unwrap();
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            let Ok(frame) = Frame::decode(&flipped) else {
                continue;
            };
            if let Ok(verified) = verifier.verify(frame) {
                assert_eq!(verified, meant, "{kind}, byte {place}");
            }
        }
    }
}

/// A proposal's signature covers what is attached, so that nobody on the way can spoil it;
/// a commit's does not, and there it means nothing.
#[test]
fn an_attachment_is_covered_by_the_proposal_alone() {
    let statement = value(5, "contested").statement().to_owned();
    let with = Value::new(&statement, b"two objections").unwrap();
    assert!(
        verify(Message::PrePrepare(
            Seat::signing(0).pre_prepare(0, 5, &with)
        ))
        .is_ok()
    );
    for spoiled in [b"".as_slice(), b"two objection5"] {
        let spoiled = Value::new(&statement, spoiled).unwrap();
        assert_eq!(with.digest(), spoiled.digest());
        let mut proposal = (*Seat::signing(0).pre_prepare(0, 5, &with)).clone();
        proposal.value = spoiled;
        assert_eq!(
            verify(Message::PrePrepare(Arc::new(proposal))),
            Err(Invalid::Signer(ProofError::Signature(SeatNo(0))))
        );
    }
    assert_eq!(Seat::signing(2).commit(0, 5, &with).value.attachment(), b"");
}

/// Evidence is two messages that one honest seat cannot both have signed, and nothing less.
#[test]
fn evidence_convicts_of_a_contradiction_only() {
    let (approved, rejected) = (value(5, "approved"), value(5, "rejected"));
    let convicts = |first: Message, second: Message| {
        let evidence = Evidence {
            scope: scope(),
            first,
            second,
        };
        let kept = Evidence::decode(&evidence.encode()).unwrap();
        assert_eq!(kept, evidence);
        kept.convicts(&committee(4))
    };
    let agreed = |seat, view, sequence, value: &Value| {
        Message::Prepare(Seat::signing(seat).prepare(view, sequence, value.whole()))
    };
    let first = agreed(2, 0, 5, &approved);
    let guilty = Some(SeatNo(2));
    assert_eq!(convicts(first.clone(), agreed(2, 0, 5, &rejected)), guilty);
    for innocent in [
        first.clone(),
        agreed(3, 0, 5, &rejected),
        agreed(2, 1, 5, &rejected),
        agreed(2, 0, 6, &rejected),
        Message::Commit(Seat::signing(2).commit(0, 5, &rejected)),
        Message::Prepare(Prepare {
            seat: SeatNo(2),
            ..Seat::signing(3).prepare(0, 5, rejected.whole())
        }),
    ] {
        assert_eq!(convicts(first.clone(), innocent), None);
    }
    let heads = ["tree", "another tree"]
        .map(|tree| Message::Checkpoint(Seat::signing(2).checkpoint(head(32, tree))));
    let [one, other] = heads;
    assert_eq!(convicts(one, other), guilty);
    let proposals = [&approved, &rejected]
        .map(|value| Message::PrePrepare(Seat::signing(0).pre_prepare(0, 5, value)));
    let [one, other] = proposals;
    assert_eq!(convicts(one, other), Some(SeatNo(0)));
    // Two view changes may both be true: a checkpoint can become stable in between.
    let changes = [vec![], vec![prepared_in_0(5, "approved")]]
        .map(|claims| Message::ViewChange(Seat::signing(2).view_change(1, None, claims)));
    let [one, other] = changes;
    assert_eq!(convicts(one, other), None);
}

/// The set O by its definition (OSDI '99, section 4.4), sequence number by sequence number.
fn naive_selection(changes: &[Arc<ViewChange>]) -> Vec<(u64, Digest)> {
    let low = changes
        .iter()
        .filter_map(|change| change.stable.as_ref())
        .map(|stable| stable.head().sequence.0)
        .max()
        .unwrap_or(0);
    (low + 1..=20)
        .filter_map(|sequence| {
            let proofs: Vec<_> = changes
                .iter()
                .flat_map(|change| &change.prepared)
                .filter(|proof| proof.sequence().0 == sequence)
                .collect();
            let newest = proofs.iter().map(|proof| proof.view()).max()?;
            let chosen = proofs.iter().find(|proof| proof.view() == newest)?;
            Some((sequence, chosen.value().digest()))
        })
        .collect()
}

proptest! {
    #[test]
    fn a_selection_is_what_its_definition_says(
        seats in prop::collection::vec(
            (
                prop::option::of(1..8_u64),
                prop::collection::btree_map(1..12_u64, 0..4_u64, 0..6),
            ),
            3..6,
        ),
    ) {
        let committee = committee(4);
        let changes: Vec<_> = (0_u8..)
            .zip(seats)
            .map(|(seat, (checkpoint, claims))| {
                let low = checkpoint.unwrap_or(0);
                let stable = checkpoint
                    .map(|sequence| stable(&committee, Seat::unsigned, head(sequence, "tree")));
                let prepared = claims
                    .into_iter()
                    .filter(|(sequence, _)| *sequence > low)
                    .map(|(sequence, view)| {
                        // As among the honest: one value for a view and sequence number.
                        let value = value(sequence, &format!("view {view}"));
                        prepared(&committee, Seat::unsigned, view, sequence, &value)
                    })
                    .collect();
                Seat::unsigned(seat).view_change(9, stable, prepared)
            })
            .collect();
        let selected: Vec<_> = selection(&changes)
            .iter()
            .map(|(sequence, value)| (sequence.0, value.digest()))
            .collect();
        prop_assert_eq!(selected, naive_selection(&changes));
    }
}
