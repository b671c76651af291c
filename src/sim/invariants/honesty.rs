//! An honest validator never contradicts itself, whatever happens to it.

use aegis_crypto::{Digest, SeatNo};
use aegis_pbft::{
    Draft, Head, Message, NewView, Phase, Safety, Sequence, Unsafe, View, ViewChange,
};

use crate::history::History;

use super::{Facts, Invariants, Said, Stage};

/// A vote: where, and for what.
fn vote(message: &Message) -> Option<(View, Sequence, Phase, Digest)> {
    Some(match message {
        Message::PrePrepare(one) => {
            let digest = one.value.whole();
            (one.view, one.sequence, Phase::PrePrepare, digest)
        }
        Message::Prepare(one) => (one.view, one.sequence, Phase::Prepare, one.digest),
        Message::Commit(one) => {
            let digest = one.value.digest();
            (one.view, one.sequence, Phase::Commit, digest)
        }
        _ => return None,
    })
}

impl Said {
    /// Takes what a seat says; true if it said so for the first time.
    fn take(&mut self, message: &Message, history: &History) -> Result<bool, String> {
        if let Some((view, sequence, phase, digest)) = vote(message) {
            let contested = history.contested(sequence);
            // A commitment names the statement, what goes before it the whole value.
            let agreed = if digest == contested.digest() {
                contested.whole()
            } else {
                digest
            };
            return self.vote(view, sequence, phase, (digest, agreed));
        }
        match message {
            Message::Checkpoint(one) => {
                let digest = Digest::of(format!("{:?}", one.head));
                once(&mut self.heads, one.head.sequence, digest, "head")
            }
            Message::ViewChange(one) => {
                let fresh = once(&mut self.view_changes, one.view, asked(one), "view change")?;
                self.promise(one.view, fresh)?;
                Ok(fresh)
            }
            Message::NewView(one) => {
                let fresh = once(&mut self.new_views, one.view, begun(one), "new view")?;
                self.promise(one.view, fresh)?;
                Ok(fresh)
            }
            _ => Ok(false),
        }
    }

    fn promise(&mut self, view: View, fresh: bool) -> Result<(), String> {
        if fresh && view < self.promised {
            return Err(format!("asks for view {view} after view {}", self.promised));
        }
        self.promised = self.promised.max(view);
        Ok(())
    }

    fn vote(
        &mut self,
        view: View,
        sequence: Sequence,
        phase: Phase,
        (digest, whole): (Digest, Digest),
    ) -> Result<bool, String> {
        let what = "vote";
        let fresh = once(&mut self.votes, (view, sequence, phase), digest, what)?;
        if fresh && view < self.promised {
            return Err(format!(
                "{phase:?} of {sequence} in view {view} after asking for view {}",
                self.promised
            ));
        }
        let agreed = [Phase::PrePrepare, Phase::Prepare]
            .into_iter()
            .filter_map(|phase| self.votes.get(&(view, sequence, phase)));
        if fresh && agreed.clone().any(|agreed| *agreed != whole) {
            return Err(format!("two values for {sequence} in view {view}"));
        }
        if fresh && phase == Phase::Commit {
            self.committed.insert(sequence, (view, digest));
        }
        Ok(fresh)
    }
}

fn asked(change: &ViewChange) -> Digest {
    let prepared: Vec<_> = change
        .prepared
        .iter()
        .map(|proof| (proof.sequence(), proof.view(), proof.value().digest()))
        .collect();
    let stable = change.stable.as_ref().map(|stable| stable.head().sequence);
    Digest::of(format!("{stable:?} {prepared:?}"))
}

fn begun(new_view: &NewView) -> Digest {
    let changes = new_view.view_changes.iter();
    let changes: Vec<_> = changes.map(|one| (one.seat, asked(one))).collect();
    let proposals = new_view.proposals.iter();
    let proposals: Vec<_> = proposals
        .map(|one| (one.sequence, one.value.digest()))
        .collect();
    Digest::of(format!("{changes:?} {proposals:?}"))
}

fn once<K: Ord + Copy + std::fmt::Debug>(
    said: &mut std::collections::BTreeMap<K, Digest>,
    key: K,
    digest: Digest,
    what: &str,
) -> Result<bool, String> {
    match said.insert(key, digest) {
        None => Ok(true),
        Some(before) if before == digest => Ok(false),
        Some(before) => Err(format!("two of {what} {key:?}: {before} and {digest}")),
    }
}

impl Invariants {
    /// No honest seat says two things for one view, sequence number and phase, nor two
    /// heads, view changes or new views; nor anything new in a view below one that it
    /// asked for. Crashes are no excuse.
    pub(super) fn no_contradiction(
        &mut self,
        facts: &Facts,
        stage: &Stage<'_>,
    ) -> Result<(), String> {
        self.fresh.clear();
        for (_, packet) in &facts.said {
            let Some(message) = &packet.message else {
                continue;
            };
            let signer = message.signer(stage.committee.seats());
            let Some(seat) = signer.filter(|seat| stage.honest.contains(*seat)) else {
                continue;
            };
            let said = self.said.entry(seat).or_default();
            let fresh = said
                .take(message, stage.history)
                .map_err(|detail| format!("seat {seat} signs {detail}"))?;
            if fresh {
                self.fresh.insert(seat);
            }
        }
        Ok(())
    }

    /// Whatever an honest seat has sent, the power may go now and it would not say
    /// anything else afterwards.
    pub(super) fn durability(&mut self, facts: &Facts, stage: &Stage<'_>) -> Result<(), String> {
        for seat in &self.fresh {
            let Some(node) = stage.node(*seat) else {
                continue;
            };
            let records = node.disk().durable();
            let committee = stage.committee.clone();
            let (safety, _) = Safety::restore(*seat, *stage.scope, committee, &records)
                .map_err(|error| format!("the disk of seat {seat}: {error}"))?;
            let own = facts
                .said
                .iter()
                .filter_map(|(_, packet)| packet.message.as_ref())
                .filter(|message| message.signer(stage.committee.seats()) == Some(*seat));
            for message in own {
                if !is_kept(&safety, message) {
                    return Err(format!(
                        "seat {seat} sent a {} that its disk does not have",
                        message.kind()
                    ));
                }
            }
        }
        Ok(())
    }

    /// A view change has proof of everything that its signer committed to above its
    /// stable checkpoint.
    pub(super) fn nothing_left_out(
        &mut self,
        facts: &Facts,
        stage: &Stage<'_>,
    ) -> Result<(), String> {
        for (_, packet) in &facts.said {
            let Some(Message::ViewChange(change)) = &packet.message else {
                continue;
            };
            if !stage.honest.contains(change.seat) {
                continue;
            }
            let Some(said) = self.said.get(&change.seat) else {
                continue;
            };
            let stable = change.stable.as_ref();
            let low = stable.map_or(Sequence(0), |stable| stable.head().sequence);
            for (sequence, (view, digest)) in said.committed.range(low.next()..) {
                let told = change.prepared.iter().any(|proof| {
                    let same = proof.view() == *view && proof.value().digest() == *digest;
                    proof.sequence() == *sequence && (same || proof.view() > *view)
                });
                if !told && *view < change.view {
                    return Err(missing(change.seat, *sequence, *view));
                }
            }
        }
        Ok(())
    }

    /// No replica asks its safety module for what that must refuse: a refusal is a bug,
    /// or a liar's doing that the replica should have seen through.
    pub(super) fn nothing_refused(
        &mut self,
        facts: &Facts,
        stage: &Stage<'_>,
    ) -> Result<(), String> {
        for (seat, draft, why) in &facts.refused {
            self.refusals += 1;
            if stage.honest.contains(*seat) && !is_expected(draft, why) {
                return Err(format!("seat {seat} asked for {draft:?}, but {why}"));
            }
        }
        Ok(())
    }

    /// Evidence convicts, and never somebody honest.
    pub(super) fn honest_not_convicted(
        &mut self,
        facts: &Facts,
        stage: &Stage<'_>,
    ) -> Result<(), String> {
        for (accuser, evidence) in &facts.evidence {
            if !stage.honest.contains(*accuser) {
                continue;
            }
            let Some(convicted) = evidence.convicts(stage.committee) else {
                return Err(format!("seat {accuser} keeps evidence that proves nothing"));
            };
            if stage.honest.contains(convicted) {
                return Err(format!("evidence convicts the honest seat {convicted}"));
            }
            self.convicted.insert(convicted);
        }
        Ok(())
    }

    /// Nobody sends a message to himself.
    pub(super) fn none_to_oneself(
        &mut self,
        facts: &Facts,
        stage: &Stage<'_>,
    ) -> Result<(), String> {
        let mut senders = stage.honest_of(&facts.to_self);
        senders.next().map_or(Ok(()), |seat| {
            Err(format!("seat {seat} sends a message to itself"))
        })
    }
}

fn missing(seat: SeatNo, sequence: Sequence, view: View) -> String {
    format!("the view change of seat {seat} leaves out {sequence}, committed in view {view}")
}

/// A restarted primary may have begun its view with another quorum of view changes.
const fn is_expected(draft: &Draft, why: &Unsafe) -> bool {
    matches!((draft, why), (Draft::NewView { .. }, Unsafe::Twice { .. }))
}

/// Whether a safety module that is restored now could not contradict a message.
fn is_kept(safety: &Safety, message: &Message) -> bool {
    let stable = safety
        .stable()
        .map_or(Sequence(0), |stable| stable.head().sequence);
    match message {
        Message::Checkpoint(one) => {
            let head = Head {
                tree_size: !one.head.tree_size,
                ..one.head
            };
            safety.clone().review(&Draft::Checkpoint { head }).is_err()
        }
        Message::ViewChange(one) => safety.promised() >= one.view,
        Message::NewView(one) => safety.promised() >= one.view,
        _ => vote(message).is_none_or(|(view, sequence, phase, digest)| {
            let said = safety.votes().any(|kept| {
                (kept.view, kept.sequence, kept.phase, kept.digest)
                    == (view, sequence, phase, digest)
            });
            let proved = phase != Phase::Commit
                || safety
                    .prepared()
                    .any(|proof| proof.sequence() == sequence && proof.view() >= view);
            sequence <= stable || (proved && (said || view < safety.promised()))
        }),
    }
}
