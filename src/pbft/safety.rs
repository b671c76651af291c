//! The rules that no signature may break, kept apart from the replica that follows them.
//!
//! A validator that contradicts itself is Byzantine, whether it lies, has a bug, or forgot
//! in a crash what it had said. So the one who asks for signatures is not the one who
//! grants them: [`Safety`] holds what was said so far, in the form in which it is on disk,
//! and judges every draft by it alone:
//!
//! 1. One value for a view, sequence number and phase. The same one again is granted: a
//!    signature is deterministic, so it gives the same bytes.
//! 2. Nothing in a view below one that was asked for or entered.
//! 3. A proposal only as the view's primary, an agreement only as a backup, and where the
//!    view began with a value for the sequence number, only for that value.
//! 4. A commitment only to what the proof shows prepared, and to what was agreed to.
//! 5. A view change that leaves out nothing that was prepared above the stable checkpoint;
//!    one for a view.
//! 6. A new view only as its primary, only for the view asked for; one for a view.
//! 7. One head for a checkpoint's sequence number.
//! 8. Nothing at or below the stable checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_crypto::{Committee, Digest, SeatNo};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::draft::Draft;
use crate::ids::{Scope, Sequence, View};
use crate::message::{DecodeError, Head, NewView, decode, encode};
use crate::proof::{PreparedProof, StableCheckpoint};
use crate::value::Value;

/// A phase of agreement in which a validator says one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// The primary's proposal.
    PrePrepare,
    /// A backup's agreement.
    Prepare,
    /// The commitment.
    Commit,
}

/// A vote that was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The view.
    pub view: View,
    /// The sequence number.
    pub sequence: Sequence,
    /// The phase.
    pub phase: Phase,
    /// The value's name: that of the [whole](Value::whole), in a commitment the statement's.
    pub digest: Digest,
    /// The value, where this seat proposed it.
    pub proposed: Option<Value>,
}

/// One write that must be on the medium before a signature is released; `None` deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Vec<u8>,
    /// The record.
    pub value: Option<Vec<u8>>,
}

/// A draft that would contradict what was said before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unsafe {
    /// Another value was voted for.
    #[error("{phase:?} of sequence {sequence} in view {view} was for {said}, not {asked}")]
    Contradiction {
        /// The phase.
        phase: Phase,
        /// The view.
        view: View,
        /// The sequence number.
        sequence: Sequence,
        /// What was said.
        said: Digest,
        /// What was asked for now.
        asked: Digest,
    },
    /// The view is past.
    #[error("view {asked} is past: view {promised} was asked for or entered")]
    PastView {
        /// What was asked for now.
        asked: View,
        /// The lowest view that is left.
        promised: View,
    },
    /// The view has not begun.
    #[error("view {asked} has not begun here, view {entered} has")]
    NotEntered {
        /// What was asked for now.
        asked: View,
        /// The view that was entered.
        entered: View,
    },
    /// The sequence number is collected.
    #[error("sequence {asked} is not above the stable checkpoint at {stable}")]
    Collected {
        /// What was asked for now.
        asked: Sequence,
        /// The stable checkpoint's.
        stable: Sequence,
    },
    /// The wrong role.
    #[error("seat {me} may not send {phase:?} in view {view}, whose primary is seat {primary}")]
    Role {
        /// This seat.
        me: SeatNo,
        /// The phase.
        phase: Phase,
        /// The view.
        view: View,
        /// Its primary.
        primary: SeatNo,
    },
    /// The view began with another value.
    #[error("view {view} began with {begun} for sequence {sequence}, not {asked}")]
    OtherThanBegun {
        /// The view.
        view: View,
        /// The sequence number.
        sequence: Sequence,
        /// What the new view proposes.
        begun: Digest,
        /// What was asked for now.
        asked: Digest,
    },
    /// A view change that would leave something out.
    #[error("the view change leaves out what was prepared for sequence {0}")]
    LeftOut(Sequence),
    /// Another view change or new view was signed for the view.
    #[error("another {what} was signed for view {view}")]
    Twice {
        /// `view change` or `new view`.
        what: &'static str,
        /// The view.
        view: View,
    },
    /// Another head was signed.
    #[error("another head was signed for the checkpoint at sequence {0}")]
    OtherHead(Sequence),
}

/// Records that are no safety module's, or another's.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A record that does not decode.
    #[error("a record of the safety module does not decode")]
    Record(#[source] DecodeError),
    /// Records that do not say where they belong. What they forbid is unknown, so that they
    /// are not taken for another epoch's.
    #[error("the safety module has {found} records, but none says for which scope")]
    NoScope {
        /// How many there are.
        found: usize,
    },
    /// A record under a key that is not its own.
    #[error("a record of the safety module stands under another's key")]
    Key,
    /// The records are of a later epoch: this committee has ended.
    #[error("this seat has signed in epoch {found}, it signs nothing more in epoch {asked}")]
    Epoch {
        /// The records' epoch.
        found: u64,
        /// The epoch that was to be signed in.
        asked: u64,
    },
}

/// What a view change says beside its view. All of it is kept, not only its name: a
/// checkpoint that becomes stable before a restart would otherwise leave this seat without
/// the words to repeat it, and a quorum perhaps without this seat.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Asked {
    stable: Option<StableCheckpoint>,
    prepared: Vec<Arc<PreparedProof>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Record {
    Scope(Scope),
    Promised { view: View, asked: Option<Asked> },
    Entered(Arc<NewView>),
    Began { view: View, digest: Digest },
    Stable(StableCheckpoint),
    Prepared(Arc<PreparedProof>),
    Vote(Vote),
    Head { sequence: Sequence, digest: Digest },
}

impl Record {
    fn key(&self) -> Vec<u8> {
        let numbered = |kind: u8, numbers: &[u64]| {
            let mut key = vec![kind];
            for number in numbers {
                key.extend(number.to_be_bytes());
            }
            key
        };
        match self {
            Self::Scope(_) => numbered(0, &[]),
            Self::Promised { .. } => numbered(1, &[]),
            Self::Entered(_) => numbered(2, &[]),
            Self::Began { .. } => numbered(3, &[]),
            Self::Stable(_) => numbered(4, &[]),
            Self::Prepared(proof) => numbered(5, &[proof.sequence().0]),
            Self::Vote(vote) => {
                let mut key = numbered(6, &[vote.sequence.0, vote.view.0]);
                key.push(match vote.phase {
                    Phase::PrePrepare => 0,
                    Phase::Prepare => 1,
                    Phase::Commit => 2,
                });
                key
            }
            Self::Head { sequence, .. } => numbered(7, &[sequence.0]),
        }
    }

    fn put(&self) -> Change {
        Change {
            key: self.key(),
            value: Some(encode(self)),
        }
    }

    fn delete(&self) -> Change {
        Change {
            key: self.key(),
            value: None,
        }
    }
}

/// What this seat has said in one scope.
#[derive(Clone, Debug)]
pub struct Safety {
    me: SeatNo,
    scope: Scope,
    committee: Arc<Committee>,
    /// Nothing is said in a view below.
    promised: View,
    /// The view change that was signed for `promised`; none once it is entered.
    asked: Option<Asked>,
    entered: Option<Arc<NewView>>,
    began: Option<(View, Digest)>,
    stable: Option<StableCheckpoint>,
    prepared: BTreeMap<Sequence, Arc<PreparedProof>>,
    votes: BTreeMap<(Sequence, View, Phase), Vote>,
    heads: BTreeMap<Sequence, Digest>,
}

impl Safety {
    /// What the records say, with the writes that must precede the first signature: where
    /// they belong to an earlier epoch or another incarnation, they are deleted.
    ///
    /// # Errors
    /// Records that do not decode, or that belong to a later epoch.
    pub fn restore(
        me: SeatNo,
        scope: Scope,
        committee: Arc<Committee>,
        records: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(Self, Vec<Change>), RestoreError> {
        let mut safety = Self {
            me,
            scope,
            committee,
            promised: View(0),
            asked: None,
            entered: None,
            began: None,
            stable: None,
            prepared: BTreeMap::new(),
            votes: BTreeMap::new(),
            heads: BTreeMap::new(),
        };
        let mut found = None;
        let mut decoded = Vec::with_capacity(records.len());
        for (key, value) in records {
            let record: Record = decode(value, "safety record").map_err(RestoreError::Record)?;
            if record.key() != *key {
                return Err(RestoreError::Key);
            }
            if let Record::Scope(scope) = &record {
                found = Some(*scope);
            }
            decoded.push(record);
        }
        if found == Some(scope) {
            for record in decoded {
                safety.take(record);
            }
            return Ok((safety, Vec::new()));
        }
        if let Some(found) = found.filter(|found| {
            found.cluster == scope.cluster && found.incarnation == scope.incarnation
        }) && found.epoch > scope.epoch
        {
            return Err(RestoreError::Epoch {
                found: found.epoch,
                asked: scope.epoch,
            });
        }
        if found.is_none() && !decoded.is_empty() {
            let found = decoded.len();
            return Err(RestoreError::NoScope { found });
        }
        let mut changes: Vec<Change> = decoded
            .iter()
            .filter(|record| !matches!(record, Record::Scope(_)))
            .map(Record::delete)
            .collect();
        changes.push(Record::Scope(scope).put());
        Ok((safety, changes))
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Scope(_) => {}
            Record::Promised { view, asked } => (self.promised, self.asked) = (view, asked),
            Record::Entered(new_view) => self.entered = Some(new_view),
            Record::Began { view, digest } => self.began = Some((view, digest)),
            Record::Stable(stable) => self.stable = Some(stable),
            Record::Prepared(proof) => {
                self.prepared.insert(proof.sequence(), proof);
            }
            Record::Vote(vote) => {
                self.votes
                    .insert((vote.sequence, vote.view, vote.phase), vote);
            }
            Record::Head { sequence, digest } => {
                self.heads.insert(sequence, digest);
            }
        }
    }

    /// The scope that all of it belongs to.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// This seat.
    #[must_use]
    pub const fn seat(&self) -> SeatNo {
        self.me
    }

    /// The view that was asked for, or entered, last.
    #[must_use]
    pub const fn promised(&self) -> View {
        self.promised
    }

    /// The view change for the promised view, while that has not begun.
    #[must_use]
    pub fn asked(&self) -> Option<Draft> {
        self.asked.clone().map(|asked| Draft::ViewChange {
            view: self.promised,
            stable: asked.stable,
            prepared: asked.prepared,
        })
    }

    /// What the view that was entered last began with; none in the first.
    #[must_use]
    pub const fn entered(&self) -> Option<&Arc<NewView>> {
        self.entered.as_ref()
    }

    /// The stable checkpoint.
    #[must_use]
    pub const fn stable(&self) -> Option<&StableCheckpoint> {
        self.stable.as_ref()
    }

    /// What was prepared above it.
    pub fn prepared(&self) -> impl Iterator<Item = &Arc<PreparedProof>> {
        self.prepared.values()
    }

    /// What was voted above it, in the promised view.
    pub fn votes(&self) -> impl Iterator<Item = &Vote> {
        self.votes.values()
    }

    fn entered_view(&self) -> View {
        self.entered
            .as_ref()
            .map_or(View(0), |new_view| new_view.view)
    }

    /// Judges a draft, and takes it as said. The changes must be on the medium before
    /// anyone hears of it; there are none if it was said before.
    ///
    /// # Errors
    /// What it contradicts; nothing has changed then.
    pub fn review(&mut self, draft: &Draft) -> Result<Vec<Change>, Unsafe> {
        match draft {
            Draft::PrePrepare {
                view,
                sequence,
                value,
            } => self.review_vote(Vote {
                view: *view,
                sequence: *sequence,
                phase: Phase::PrePrepare,
                digest: value.whole(),
                proposed: Some(value.clone()),
            }),
            Draft::Prepare {
                view,
                sequence,
                digest,
            } => self.review_vote(Vote {
                view: *view,
                sequence: *sequence,
                phase: Phase::Prepare,
                digest: *digest,
                proposed: None,
            }),
            Draft::Commit { proof } => self.review_commit(proof),
            Draft::Checkpoint { head } => self.review_head(head),
            Draft::ViewChange {
                view,
                stable,
                prepared,
            } => self.review_view_change(*view, stable.as_ref(), prepared),
            Draft::NewView {
                view,
                view_changes,
                proposals,
            } => {
                let digests = proposals
                    .iter()
                    .map(|(sequence, value)| (*sequence, value.digest()));
                let digest = self.scope.new_view_digest(*view, view_changes, digests);
                self.review_new_view(*view, digest)
            }
            Draft::Enter { new_view } => self.review_enter(new_view),
            Draft::Stable { stable } => Ok(self.collect(stable)),
        }
    }

    fn stable_sequence(&self) -> Sequence {
        self.stable
            .as_ref()
            .map_or(Sequence(0), |stable| stable.head().sequence)
    }

    fn check_above_stable(&self, asked: Sequence) -> Result<(), Unsafe> {
        let stable = self.stable_sequence();
        if asked > stable {
            Ok(())
        } else {
            Err(Unsafe::Collected { asked, stable })
        }
    }

    /// Rules 1, 2, 3 and 8.
    fn review_vote(&mut self, vote: Vote) -> Result<Vec<Change>, Unsafe> {
        let (view, sequence, phase) = (vote.view, vote.sequence, vote.phase);
        self.check_above_stable(sequence)?;
        if view < self.promised {
            return Err(Unsafe::PastView {
                asked: view,
                promised: self.promised,
            });
        }
        let entered = self.entered_view();
        if view != entered {
            return Err(Unsafe::NotEntered {
                asked: view,
                entered,
            });
        }
        let primary = self.committee.seats().primary(view.0);
        let fits = match phase {
            Phase::PrePrepare => primary == self.me,
            Phase::Prepare => primary != self.me,
            Phase::Commit => true,
        };
        if !fits {
            return Err(Unsafe::Role {
                me: self.me,
                phase,
                view,
                primary,
            });
        }
        if let Some(begun) = self.begun_with(sequence, phase)
            && begun != vote.digest
        {
            return Err(Unsafe::OtherThanBegun {
                view,
                sequence,
                begun,
                asked: vote.digest,
            });
        }
        match self.votes.get(&(sequence, view, phase)) {
            Some(said) if said.digest == vote.digest => return Ok(Vec::new()),
            Some(said) => {
                return Err(Unsafe::Contradiction {
                    phase,
                    view,
                    sequence,
                    said: said.digest,
                    asked: vote.digest,
                });
            }
            None => {}
        }
        let change = Record::Vote(vote.clone()).put();
        self.votes.insert((sequence, view, phase), vote);
        Ok(vec![change])
    }

    /// What the view that was entered began with for a sequence number.
    fn begun_with(&self, sequence: Sequence, phase: Phase) -> Option<Digest> {
        let proposals = &self.entered.as_ref()?.proposals;
        let place = proposals
            .binary_search_by_key(&sequence, |proposal| proposal.sequence)
            .ok()?;
        let value = &proposals.get(place)?.value;
        Some(match phase {
            Phase::PrePrepare | Phase::Prepare => value.whole(),
            Phase::Commit => value.digest(),
        })
    }

    /// Rule 4: the proof replaces one of an earlier view, and is there before the
    /// commitment is.
    fn review_commit(&mut self, proof: &Arc<PreparedProof>) -> Result<Vec<Change>, Unsafe> {
        let (view, sequence, digest) = (proof.view(), proof.sequence(), proof.value().digest());
        let whole = proof.value().whole();
        for phase in [Phase::PrePrepare, Phase::Prepare] {
            if let Some(said) = self.votes.get(&(sequence, view, phase))
                && said.digest != whole
            {
                return Err(Unsafe::Contradiction {
                    phase,
                    view,
                    sequence,
                    said: said.digest,
                    asked: whole,
                });
            }
        }
        let mut changes = self.review_vote(Vote {
            view,
            sequence,
            phase: Phase::Commit,
            digest,
            proposed: None,
        })?;
        if !changes.is_empty() {
            changes.push(Record::Prepared(proof.clone()).put());
            self.prepared.insert(sequence, proof.clone());
        }
        Ok(changes)
    }

    /// Rules 7 and 8.
    fn review_head(&mut self, head: &Head) -> Result<Vec<Change>, Unsafe> {
        let sequence = head.sequence;
        self.check_above_stable(sequence)?;
        let digest = Digest::of(self.scope.note(head).to_text());
        match self.heads.get(&sequence) {
            Some(said) if *said == digest => return Ok(Vec::new()),
            Some(_) => return Err(Unsafe::OtherHead(sequence)),
            None => {}
        }
        self.heads.insert(sequence, digest);
        Ok(vec![Record::Head { sequence, digest }.put()])
    }

    /// Rules 2 and 5.
    fn review_view_change(
        &mut self,
        view: View,
        stable: Option<&StableCheckpoint>,
        prepared: &[Arc<PreparedProof>],
    ) -> Result<Vec<Change>, Unsafe> {
        if view < self.promised || (view == self.promised && self.asked.is_none()) {
            return Err(Unsafe::PastView {
                asked: view,
                promised: self.promised,
            });
        }
        for (sequence, kept) in &self.prepared {
            let told = prepared.iter().any(|proof| {
                let same = proof.value().digest() == kept.value().digest();
                proof.sequence() == *sequence
                    && (proof.view() > kept.view() || (proof.view() == kept.view() && same))
            });
            if !told {
                return Err(Unsafe::LeftOut(*sequence));
            }
        }
        let digest = self.scope.view_change_digest(view, stable, prepared);
        if let Some(said) = self.asked.as_ref().filter(|_| view == self.promised) {
            let said = self
                .scope
                .view_change_digest(view, said.stable.as_ref(), &said.prepared);
            return if said == digest {
                Ok(Vec::new())
            } else {
                let what = "view change";
                Err(Unsafe::Twice { what, view })
            };
        }
        let asked = Some(Asked {
            stable: stable.cloned(),
            prepared: prepared.to_vec(),
        });
        (self.promised, self.asked) = (view, asked.clone());
        Ok(vec![Record::Promised { view, asked }.put()])
    }

    /// Rule 6.
    fn review_new_view(&mut self, view: View, digest: Digest) -> Result<Vec<Change>, Unsafe> {
        let primary = self.committee.seats().primary(view.0);
        if primary != self.me {
            return Err(Unsafe::Role {
                me: self.me,
                phase: Phase::PrePrepare,
                view,
                primary,
            });
        }
        if view != self.promised {
            return Err(Unsafe::PastView {
                asked: view,
                promised: self.promised,
            });
        }
        match self.began {
            Some((began, said)) if began == view && said == digest => return Ok(Vec::new()),
            Some((began, _)) if began >= view => {
                let what = "new view";
                return Err(Unsafe::Twice { what, view });
            }
            Some(_) | None => {}
        }
        self.began = Some((view, digest));
        Ok(vec![Record::Began { view, digest }.put()])
    }

    /// Rule 2. Votes of earlier views are forgotten: none is granted again.
    fn review_enter(&mut self, new_view: &Arc<NewView>) -> Result<Vec<Change>, Unsafe> {
        let view = new_view.view;
        if view < self.promised || view <= self.entered_view() {
            return Err(Unsafe::PastView {
                asked: view,
                promised: self.promised.max(self.entered_view().next()),
            });
        }
        (self.promised, self.asked) = (view, None);
        let mut changes = vec![
            Record::Entered(new_view.clone()).put(),
            Record::Promised { view, asked: None }.put(),
        ];
        changes.extend(
            self.votes
                .values()
                .map(|vote| Record::Vote(vote.clone()).delete()),
        );
        self.votes.clear();
        self.entered = Some(new_view.clone());
        Ok(changes)
    }

    /// Forgets what a stable checkpoint covers (OSDI '99, section 4.3).
    fn collect(&mut self, stable: &StableCheckpoint) -> Vec<Change> {
        let low = stable.head().sequence;
        if low <= self.stable_sequence() {
            return Vec::new();
        }
        let mut changes = vec![Record::Stable(stable.clone()).put()];
        let above = self.prepared.split_off(&low.next());
        for proof in std::mem::replace(&mut self.prepared, above).into_values() {
            changes.push(Record::Prepared(proof).delete());
        }
        let first = (low.next(), View(0), Phase::PrePrepare);
        let above = self.votes.split_off(&first);
        for vote in std::mem::replace(&mut self.votes, above).into_values() {
            changes.push(Record::Vote(vote).delete());
        }
        let above = self.heads.split_off(&low.next());
        for (sequence, digest) in std::mem::replace(&mut self.heads, above) {
            changes.push(Record::Head { sequence, digest }.delete());
        }
        self.stable = Some(stable.clone());
        changes
    }
}

#[cfg(test)]
mod tests;
