use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::{Seat, committee, head, prepared, scope, stable, value};

/// The safety module of a seat of four that has said nothing.
fn safety(me: u8) -> Safety {
    restored(me, &Medium::default()).unwrap()
}

/// What is on the medium.
#[derive(Clone, Default)]
struct Medium(BTreeMap<Vec<u8>, Vec<u8>>);

impl Medium {
    fn write(&mut self, changes: Vec<Change>) {
        for Change { key, value } in changes {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }

    fn records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.0.clone().into_iter().collect()
    }
}

fn restored(me: u8, medium: &Medium) -> Result<Safety, RestoreError> {
    Safety::restore(SeatNo(me), scope(), committee(4), &medium.records()).map(|(safety, _)| safety)
}

fn opened(me: u8) -> (Safety, Medium) {
    let mut medium = Medium::default();
    let (safety, changes) =
        Safety::restore(SeatNo(me), scope(), committee(4), &medium.records()).unwrap();
    medium.write(changes);
    (safety, medium)
}

fn pre_prepare(view: u64, sequence: u64, outcome: &str) -> Draft {
    Draft::PrePrepare {
        view: View(view),
        sequence: Sequence(sequence),
        value: value(sequence, outcome),
    }
}

fn prepare(view: u64, sequence: u64, outcome: &str) -> Draft {
    Draft::Prepare {
        view: View(view),
        sequence: Sequence(sequence),
        digest: value(sequence, outcome).digest(),
    }
}

fn proof(view: u64, sequence: u64, outcome: &str) -> Arc<PreparedProof> {
    let value = value(sequence, outcome);
    prepared(&committee(4), Seat::unsigned, view, sequence, &value)
}

fn commit(view: u64, sequence: u64, outcome: &str) -> Draft {
    let proof = proof(view, sequence, outcome);
    Draft::Commit { proof }
}

fn view_change(view: u64, prepared: Vec<Arc<PreparedProof>>) -> Draft {
    Draft::ViewChange {
        view: View(view),
        stable: None,
        prepared,
    }
}

/// A new view in which some sequence numbers begin with a value.
fn begun(view: u64, values: &[(u64, &str)]) -> Arc<NewView> {
    let primary = Seat::unsigned(u8::try_from(view % 4).unwrap());
    let proposals = values
        .iter()
        .map(|(sequence, outcome)| primary.pre_prepare(view, *sequence, &value(*sequence, outcome)))
        .collect();
    primary.new_view(view, vec![], proposals)
}

fn enter(view: u64, values: &[(u64, &str)]) -> Draft {
    let new_view = begun(view, values);
    Draft::Enter { new_view }
}

fn new_view(view: u64, outcome: &str) -> Draft {
    Draft::NewView {
        view: View(view),
        view_changes: vec![],
        proposals: vec![(Sequence(1), value(1, outcome))],
    }
}

fn checkpoint(sequence: u64, tree: &str) -> Draft {
    let head = head(sequence, tree);
    Draft::Checkpoint { head }
}

fn collected(sequence: u64) -> Draft {
    let stable = stable(&committee(4), Seat::unsigned, head(sequence, "tree"));
    Draft::Stable { stable }
}

fn name(sequence: u64, outcome: &str) -> Digest {
    value(sequence, outcome).digest()
}

/// A draft that is granted needs a write the first time and none when it is repeated.
fn granted(safety: &mut Safety, draft: &Draft) {
    assert_ne!(safety.review(draft).unwrap(), vec![], "{draft:?}");
    assert_eq!(safety.review(draft), Ok(vec![]), "{draft:?} again");
}

#[test]
fn one_value_for_a_view_sequence_and_phase() {
    let mut backup = safety(1);
    granted(&mut backup, &prepare(0, 1, "approved"));
    let contradiction = |phase, said, asked| Unsafe::Contradiction {
        phase,
        view: View(0),
        sequence: Sequence(1),
        said: name(1, said),
        asked: name(1, asked),
    };
    assert_eq!(
        backup.review(&prepare(0, 1, "rejected")),
        Err(contradiction(Phase::Prepare, "approved", "rejected"))
    );
    let mut primary = safety(0);
    granted(&mut primary, &pre_prepare(0, 1, "approved"));
    assert_eq!(
        primary.review(&pre_prepare(0, 1, "rejected")),
        Err(contradiction(Phase::PrePrepare, "approved", "rejected"))
    );
    granted(&mut primary, &commit(0, 1, "approved"));
}

#[test]
fn no_commitment_against_ones_own_agreement_or_proposal() {
    for (me, said, phase) in [
        (1, prepare(0, 1, "approved"), Phase::Prepare),
        (0, pre_prepare(0, 1, "approved"), Phase::PrePrepare),
    ] {
        let mut safety = safety(me);
        granted(&mut safety, &said);
        assert_eq!(
            safety.review(&commit(0, 1, "rejected")),
            Err(Unsafe::Contradiction {
                phase,
                view: View(0),
                sequence: Sequence(1),
                said: name(1, "approved"),
                asked: name(1, "rejected"),
            })
        );
    }
    let mut safety = safety(1);
    granted(&mut safety, &commit(0, 1, "approved"));
    assert!(matches!(
        safety.review(&commit(0, 1, "rejected")),
        Err(Unsafe::Contradiction {
            phase: Phase::Commit,
            ..
        })
    ));
}

#[test]
fn nothing_in_a_view_that_is_past_or_has_not_begun() {
    let mut safety = safety(1);
    assert_eq!(
        safety.review(&prepare(2, 1, "approved")),
        Err(Unsafe::NotEntered {
            asked: View(2),
            entered: View(0),
        })
    );
    granted(&mut safety, &view_change(2, vec![]));
    let past = |asked| {
        Err(Unsafe::PastView {
            asked: View(asked),
            promised: View(2),
        })
    };
    assert_eq!(safety.review(&prepare(0, 1, "approved")), past(0));
    assert_eq!(safety.review(&commit(1, 1, "approved")), past(1));
    assert_eq!(safety.review(&view_change(1, vec![])), past(1));
    assert_eq!(safety.review(&enter(1, &[])), past(1));
    assert_eq!(safety.review(&new_view(1, "approved")), past(1));
    assert_eq!(
        safety.review(&prepare(2, 1, "approved")),
        Err(Unsafe::NotEntered {
            asked: View(2),
            entered: View(0),
        })
    );
    assert_ne!(safety.review(&enter(2, &[])), Ok(vec![]));
    granted(&mut safety, &prepare(2, 1, "approved"));
    // A view is entered once, and not asked for any more.
    let past = Err(Unsafe::PastView {
        asked: View(2),
        promised: View(3),
    });
    assert_eq!(safety.review(&enter(2, &[])), past);
    assert_eq!(
        safety.review(&view_change(2, vec![])),
        Err(Unsafe::PastView {
            asked: View(2),
            promised: View(2),
        })
    );
}

#[test]
fn only_the_primary_proposes_and_only_backups_agree() {
    let role = |me, phase, view, primary| {
        Err(Unsafe::Role {
            me: SeatNo(me),
            phase,
            view: View(view),
            primary: SeatNo(primary),
        })
    };
    assert_eq!(
        safety(1).review(&pre_prepare(0, 1, "approved")),
        role(1, Phase::PrePrepare, 0, 0)
    );
    assert_eq!(
        safety(0).review(&prepare(0, 1, "approved")),
        role(0, Phase::Prepare, 0, 0)
    );
    assert_eq!(
        safety(2).review(&new_view(1, "approved")),
        role(2, Phase::PrePrepare, 1, 1)
    );
}

#[test]
fn a_view_goes_on_with_what_it_began_with() {
    let (mut safety, mut medium) = opened(1);
    medium.write(safety.review(&enter(2, &[(3, "approved")])).unwrap());
    let other = Err(Unsafe::OtherThanBegun {
        view: View(2),
        sequence: Sequence(3),
        begun: name(3, "approved"),
        asked: name(3, "rejected"),
    });
    for mut safety in [safety, restored(1, &medium).unwrap()] {
        assert_eq!(safety.review(&prepare(2, 3, "rejected")), other);
        assert_eq!(safety.review(&commit(2, 3, "rejected")), other);
        granted(&mut safety, &prepare(2, 3, "approved"));
        granted(&mut safety, &prepare(2, 4, "rejected"));
    }
}

#[test]
fn a_view_change_leaves_nothing_out() {
    let mut safety = safety(1);
    granted(&mut safety, &commit(0, 1, "approved"));
    granted(&mut safety, &commit(0, 2, "approved"));
    let left_out = |sequence| Err(Unsafe::LeftOut(Sequence(sequence)));
    assert_eq!(safety.review(&view_change(1, vec![])), left_out(1));
    let first = proof(0, 1, "approved");
    assert_eq!(
        safety.review(&view_change(1, vec![first.clone()])),
        left_out(2)
    );
    let other = proof(0, 2, "rejected");
    assert_eq!(
        safety.review(&view_change(1, vec![first.clone(), other])),
        left_out(2)
    );
    // Nor does a checkpoint hide it that this seat has not taken for stable.
    let unknown = Draft::ViewChange {
        view: View(1),
        stable: Some(stable(&committee(4), Seat::unsigned, head(9, "tree"))),
        prepared: vec![],
    };
    assert_eq!(safety.review(&unknown), left_out(1));
    let second = proof(0, 2, "approved");
    granted(&mut safety, &view_change(1, vec![first, second]));
}

/// A proof of a later view says more than the one that was committed to.
#[test]
fn a_view_change_may_tell_of_a_later_view() {
    let mut safety = safety(1);
    granted(&mut safety, &commit(0, 1, "approved"));
    assert_ne!(safety.review(&enter(2, &[])), Ok(vec![]));
    granted(&mut safety, &view_change(3, vec![proof(2, 1, "rejected")]));
}

#[test]
fn one_view_change_and_one_new_view_for_a_view() {
    let mut safety = safety(1);
    granted(&mut safety, &view_change(1, vec![]));
    let twice = |what| {
        Err(Unsafe::Twice {
            what,
            view: View(1),
        })
    };
    let more = view_change(1, vec![proof(0, 1, "approved")]);
    assert_eq!(safety.review(&more), twice("view change"));
    granted(&mut safety, &new_view(1, "approved"));
    assert_eq!(safety.review(&new_view(1, "rejected")), twice("new view"));
}

#[test]
fn one_head_for_a_checkpoint() {
    let mut safety = safety(1);
    granted(&mut safety, &checkpoint(32, "tree"));
    assert_eq!(
        safety.review(&checkpoint(32, "another tree")),
        Err(Unsafe::OtherHead(Sequence(32)))
    );
}

#[test]
fn nothing_at_or_below_the_stable_checkpoint() {
    let (mut safety, mut medium) = opened(1);
    for draft in [
        prepare(0, 1, "approved"),
        commit(0, 1, "approved"),
        prepare(0, 2, "approved"),
        commit(0, 2, "approved"),
        checkpoint(1, "tree"),
    ] {
        medium.write(safety.review(&draft).unwrap());
    }
    let before = medium.0.len();
    medium.write(safety.review(&collected(1)).unwrap());
    // The proof, the two votes and the head are gone; the checkpoint has come.
    assert_eq!(medium.0.len(), before - 4 + 1);
    let gone = Err(Unsafe::Collected {
        asked: Sequence(1),
        stable: Sequence(1),
    });
    for mut safety in [safety, restored(1, &medium).unwrap()] {
        assert_eq!(safety.review(&prepare(0, 1, "rejected")), gone);
        assert_eq!(safety.review(&commit(0, 1, "approved")), gone);
        assert_eq!(safety.review(&checkpoint(1, "tree")), gone);
        assert_eq!(safety.review(&collected(1)), Ok(vec![]));
        granted(&mut safety, &view_change(1, vec![proof(0, 2, "approved")]));
    }
}

/// The wish for a view is repeated in the words that were signed, though a checkpoint has
/// become stable and what it covers is forgotten.
#[test]
fn a_view_change_is_repeated_as_it_was() {
    let (mut safety, mut medium) = opened(1);
    let asked = view_change(1, vec![proof(0, 1, "approved")]);
    for draft in [commit(0, 1, "approved"), asked.clone(), collected(1)] {
        medium.write(safety.review(&draft).unwrap());
    }
    let mut safety = restored(1, &medium).unwrap();
    assert_eq!(safety.prepared().count(), 0);
    assert_eq!(safety.asked(), Some(asked.clone()));
    assert_eq!(safety.review(&asked), Ok(vec![]));
    medium.write(safety.review(&enter(1, &[])).unwrap());
    assert_eq!(restored(1, &medium).unwrap().asked(), None);
}

#[test]
fn records_of_an_older_epoch_are_wiped_and_of_a_newer_refuse() {
    let (mut safety, mut medium) = opened(1);
    for draft in [prepare(0, 1, "approved"), view_change(1, vec![])] {
        medium.write(safety.review(&draft).unwrap());
    }
    let keys = committee(4).keys().to_vec();
    let next = Scope {
        epoch: 1,
        ..scope()
    };
    let following = Arc::new(Committee::new(1, keys).unwrap());
    let (mut safety, changes) =
        Safety::restore(SeatNo(1), next, following, &medium.records()).unwrap();
    assert_eq!(safety.promised(), View(0));
    medium.write(changes);
    assert_eq!(medium.0.len(), 1, "only the scope is left");
    medium.write(safety.review(&prepare(0, 1, "rejected")).unwrap());

    assert!(matches!(
        restored(1, &medium),
        Err(RestoreError::Epoch { found: 1, asked: 0 })
    ));
}

#[test]
fn records_of_another_incarnation_are_wiped() {
    let (mut safety, mut medium) = opened(1);
    medium.write(safety.review(&prepare(0, 1, "approved")).unwrap());
    let incarnation = Scope {
        incarnation: 99,
        ..scope()
    };
    let (mut safety, changes) =
        Safety::restore(SeatNo(1), incarnation, committee(4), &medium.records()).unwrap();
    medium.write(changes);
    assert_eq!(medium.0.len(), 1);
    granted(&mut safety, &prepare(0, 1, "rejected"));
}

#[test]
fn records_that_cannot_be_trusted_refuse() {
    let (mut safety, mut medium) = opened(1);
    medium.write(safety.review(&prepare(0, 1, "approved")).unwrap());
    let mut unscoped = medium.clone();
    unscoped.0.remove(&vec![0]);
    assert!(matches!(
        restored(1, &unscoped),
        Err(RestoreError::NoScope { found: 1 })
    ));
    let mut misplaced = medium.clone();
    let vote = medium.0.last_key_value().unwrap().1.clone();
    misplaced.0.insert(vec![9], vote.clone());
    assert!(matches!(restored(1, &misplaced), Err(RestoreError::Key)));
    let mut broken = medium.clone();
    broken.0.insert(vec![9], vote[..vote.len() - 1].to_vec());
    assert!(matches!(restored(1, &broken), Err(RestoreError::Record(_))));
}

/// The bytes of every record are on disks, so a change to them is no accident.
#[test]
fn the_records_are_pinned() {
    let proof = proof(0, 1, "approved");
    let stable = stable(&committee(4), Seat::unsigned, head(32, "tree"));
    let (view, sequence, digest) = (View(0), Sequence(1), name(1, "approved"));
    let records = [
        Record::Scope(scope()),
        Record::Promised { view, asked: None },
        Record::Promised {
            view,
            asked: Some(Asked {
                stable: Some(stable.clone()),
                prepared: vec![proof.clone()],
            }),
        },
        Record::Entered(begun(1, &[(1, "approved")])),
        Record::Began { view, digest },
        Record::Stable(stable),
        Record::Prepared(proof),
        Record::Vote(Vote {
            view,
            sequence,
            phase: Phase::PrePrepare,
            digest,
            proposed: Some(value(1, "approved")),
        }),
        Record::Vote(Vote {
            view,
            sequence,
            phase: Phase::Commit,
            digest,
            proposed: None,
        }),
        Record::Head { sequence, digest },
    ];
    let pins: Vec<String> = records
        .iter()
        .map(|record| {
            let Change { key, value } = record.put();
            let value = value.unwrap();
            let hash: String = Digest::of(&value).to_string().chars().take(12).collect();
            let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{key} {} {hash}", value.len())
        })
        .collect();
    assert_eq!(pins, PINNED_RECORDS);
}

/// Key, length and hash of each.
const PINNED_RECORDS: [&str; 10] = [
    "00 36 140ee172f662",
    "01 4 bf5e8ffa51a9",
    "01 605 a65270c30d78",
    "02 271 44dc3724d794",
    "03 35 9b96d9bae3e9",
    "04 267 67f26c05eaf0",
    "050000000000000001 336 496f32056e08",
    "060000000000000001000000000000000000 172 cd5212287dd5",
    "060000000000000001000000000000000002 38 84ce0852e77d",
    "070000000000000001 35 5528d343fb57",
];

/// A record reads back as it was written.
#[test]
fn a_record_reads_back() {
    let (mut safety, mut medium) = opened(1);
    let drafts = [
        prepare(0, 1, "approved"),
        commit(0, 1, "approved"),
        checkpoint(32, "tree"),
        view_change(1, vec![proof(0, 1, "approved")]),
        new_view(1, "approved"),
        enter(1, &[(1, "approved")]),
        pre_prepare(1, 2, "approved"),
        collected(1),
    ];
    for draft in &drafts {
        medium.write(safety.review(draft).unwrap());
        let restored = restored(1, &medium).unwrap();
        assert_eq!(format!("{restored:?}"), format!("{safety:?}"));
    }
}

/// The rules as a scan over all that was granted so far, nothing forgotten.
struct Naive<'a> {
    me: u8,
    granted: &'a [Draft],
}

impl Naive<'_> {
    fn entered(&self) -> (u64, Option<&Arc<NewView>>) {
        let entered = self.granted.iter().rev().find_map(|draft| match draft {
            Draft::Enter { new_view } => Some(new_view),
            _ => None,
        });
        (entered.map_or(0, |new_view| new_view.view.0), entered)
    }

    fn promised(&self) -> u64 {
        let views = self.granted.iter().map(|draft| match draft {
            Draft::ViewChange { view, .. } => view.0,
            Draft::Enter { new_view } => new_view.view.0,
            _ => 0,
        });
        views.max().unwrap_or(0)
    }

    fn stable(&self) -> u64 {
        let stable = self.granted.iter().map(|draft| match draft {
            Draft::Stable { stable } => stable.head().sequence.0,
            _ => 0,
        });
        stable.max().unwrap_or(0)
    }

    fn votes(&self) -> impl Iterator<Item = (u64, u64, Phase, Digest)> {
        self.granted.iter().filter_map(vote_of)
    }

    /// The newest proof of every sequence number that was committed to.
    fn prepared(&self) -> BTreeMap<u64, (u64, Digest)> {
        let mut newest = BTreeMap::new();
        for (view, sequence, phase, digest) in self.votes() {
            if phase == Phase::Commit && sequence > self.stable() {
                let kept = newest.entry(sequence).or_insert((view, digest));
                *kept = (*kept).max((view, digest));
            }
        }
        newest
    }

    fn vote_is_safe(&self, (view, sequence, phase, digest): (u64, u64, Phase, Digest)) -> bool {
        let (entered, begun) = self.entered();
        let leads = view % 4 == u64::from(self.me);
        let begun_with = begun.and_then(|begun| {
            let proposals = begun.proposals.iter();
            proposals
                .filter(|proposal| proposal.sequence.0 == sequence)
                .map(|proposal| proposal.value.digest())
                .next()
        });
        let contradicted = self.votes().any(|(v, s, said, named)| {
            (v, s) == (view, sequence)
                && named != digest
                && (said == phase || phase == Phase::Commit)
        });
        sequence > self.stable()
            && view == entered
            && view == self.promised()
            && (phase == Phase::Commit || leads == (phase == Phase::PrePrepare))
            && begun_with.is_none_or(|begun| begun == digest)
            && !contradicted
    }

    fn is_safe(&self, draft: &Draft) -> bool {
        if let Some(vote) = vote_of(draft) {
            return self.vote_is_safe(vote);
        }
        match draft {
            Draft::Checkpoint { head } => {
                head.sequence.0 > self.stable()
                    && !self.granted.iter().any(|said| {
                        matches!(said, Draft::Checkpoint { head: said }
                            if said.sequence == head.sequence && said != head)
                    })
            }
            Draft::ViewChange { view, prepared, .. } => {
                let complete = self.prepared().iter().all(|(sequence, (view, digest))| {
                    prepared.iter().any(|proof| {
                        proof.sequence().0 == *sequence
                            && (proof.view().0, proof.value().digest()) == (*view, *digest)
                    })
                });
                let said = self.granted.contains(draft);
                let waiting = self.entered().0 < self.promised();
                complete
                    && (view.0 > self.promised() || (said && waiting && view.0 == self.promised()))
            }
            Draft::NewView { view, .. } => {
                let later = self
                    .granted
                    .iter()
                    .any(|said| matches!(said, Draft::NewView { view: said, .. } if said >= view));
                view.0 % 4 == u64::from(self.me)
                    && view.0 == self.promised()
                    && (!later || self.granted.contains(draft))
            }
            Draft::Enter { new_view } => {
                new_view.view.0 >= self.promised() && new_view.view.0 > self.entered().0
            }
            Draft::Stable { .. } => true,
            other => panic!("{other:?} is a vote"),
        }
    }
}

fn vote_of(draft: &Draft) -> Option<(u64, u64, Phase, Digest)> {
    match draft {
        Draft::PrePrepare {
            view,
            sequence,
            value,
        } => Some((view.0, sequence.0, Phase::PrePrepare, value.digest())),
        Draft::Prepare {
            view,
            sequence,
            digest,
        } => Some((view.0, sequence.0, Phase::Prepare, *digest)),
        Draft::Commit { proof } => {
            let digest = proof.value().digest();
            Some((proof.view().0, proof.sequence().0, Phase::Commit, digest))
        }
        _ => None,
    }
}

/// What a confused replica may ask for. A view change tells of what was really committed
/// to, or of a random part of it.
#[derive(Clone, Debug)]
enum Ask {
    PrePrepare(u64, u64, bool),
    Prepare(u64, u64, bool),
    Commit(u64, u64, bool),
    Checkpoint(u64, bool),
    ViewChange(u64, Option<u64>),
    NewView(u64, bool),
    Enter(u64, Option<(u64, bool)>),
    Stable(u64),
    Again(prop::sample::Index),
}

fn ask() -> impl Strategy<Value = Ask> {
    let (view, sequence) = (0..4_u64, 1..4_u64);
    let vote = (view.clone(), sequence.clone(), any::<bool>());
    prop_oneof![
        3 => vote.clone().prop_map(|(view, sequence, which)| Ask::PrePrepare(view, sequence, which)),
        3 => vote.clone().prop_map(|(view, sequence, which)| Ask::Prepare(view, sequence, which)),
        4 => vote.clone().prop_map(|(view, sequence, which)| Ask::Commit(view, sequence, which)),
        2 => (sequence.clone(), any::<bool>()).prop_map(|(sequence, which)| Ask::Checkpoint(sequence, which)),
        2 => (view.clone(), prop::option::of(sequence.clone())).prop_map(|(view, left)| Ask::ViewChange(view, left)),
        1 => (view.clone(), any::<bool>()).prop_map(|(view, which)| Ask::NewView(view, which)),
        2 => (view, prop::option::of((sequence.clone(), any::<bool>()))).prop_map(|(view, begun)| Ask::Enter(view, begun)),
        1 => sequence.prop_map(Ask::Stable),
        2 => any::<prop::sample::Index>().prop_map(Ask::Again),
    ]
}

fn outcome(which: bool) -> &'static str {
    if which { "approved" } else { "rejected" }
}

fn drafted(ask: Ask, naive: &Naive<'_>) -> Draft {
    match ask {
        Ask::PrePrepare(view, sequence, which) => pre_prepare(view, sequence, outcome(which)),
        Ask::Prepare(view, sequence, which) => prepare(view, sequence, outcome(which)),
        Ask::Commit(view, sequence, which) => commit(view, sequence, outcome(which)),
        Ask::Checkpoint(sequence, which) => checkpoint(sequence, outcome(which)),
        Ask::ViewChange(view, left_out) => {
            let kept = naive.prepared().into_iter();
            let told = kept.filter(|(sequence, _)| Some(*sequence) != left_out);
            let prepared = told
                .map(|(sequence, (view, digest))| {
                    let which = digest == name(sequence, "approved");
                    proof(view, sequence, outcome(which))
                })
                .collect();
            view_change(view, prepared)
        }
        Ask::NewView(view, which) => new_view(view, outcome(which)),
        Ask::Enter(view, begun) => {
            let values: Vec<_> = begun
                .map(|(sequence, which)| (sequence, outcome(which)))
                .into_iter()
                .collect();
            enter(view, &values)
        }
        Ask::Stable(sequence) => collected(sequence),
        Ask::Again(which) => match naive.granted {
            [] => collected(1),
            granted => which.get(granted).clone(),
        },
    }
}

proptest! {
    /// Whatever is asked for: what is granted is what the rules allow by all that was ever
    /// granted, a restart at any point changes no verdict, and a refusal changes nothing.
    #[test]
    fn a_history_never_contradicts_itself(
        me in 0..4_u8,
        asks in prop::collection::vec((ask(), any::<bool>()), 1..60),
    ) {
        let (mut safety, mut medium) = opened(me);
        let mut granted = Vec::new();
        for (ask, restarts) in asks {
            if restarts {
                safety = restored(me, &medium).unwrap();
            }
            let naive = Naive { me, granted: &granted };
            let draft = drafted(ask, &naive);
            let before = format!("{safety:?}");
            let verdict = safety.review(&draft);
            prop_assert_eq!(verdict.is_ok(), naive.is_safe(&draft), "{:?}: {:?}", draft, verdict);
            match verdict {
                Ok(changes) => {
                    medium.write(changes);
                    let restored = restored(me, &medium).unwrap();
                    prop_assert_eq!(format!("{restored:?}"), format!("{safety:?}"));
                    granted.push(draft);
                }
                Err(_) => prop_assert_eq!(before, format!("{safety:?}")),
            }
        }
    }
}
