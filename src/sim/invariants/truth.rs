//! What is certified, and what is stable, is one thing and true.

use aegis_crypto::certificate::Certificate;
use aegis_crypto::{Committee, Digest, SeatSet};
use aegis_pbft::{Head, Message, Sequence, StableCheckpoint};

use super::{Facts, Invariants, Stage};
use crate::history::History;

impl Invariants {
    fn certify(&mut self, sequence: Sequence, digest: Digest) {
        let values = self.certifiable.entry(sequence).or_default();
        values.insert(digest);
    }

    /// No quorum exists for two statements under one sequence number: neither in the
    /// certificates that anybody showed, nor in the commits that anybody ever sent.
    pub(super) fn agreement(&mut self, facts: &Facts, stage: &Stage<'_>) -> Result<(), String> {
        let quorum = stage.committee.seats().quorum();
        let mut changed = Vec::new();
        for (_, packet) in &facts.said {
            match &packet.message {
                Some(Message::Commit(commit)) => {
                    let digest = commit.value.digest();
                    let key = (commit.sequence, commit.view, digest);
                    let signers: &mut SeatSet = self.commits.entry(key).or_default();
                    signers.insert(commit.seat);
                    if signers.len() >= quorum {
                        changed.push((commit.sequence, digest));
                    }
                }
                Some(Message::Certificate(envelope)) => {
                    changed.extend(certified(envelope, stage.committee));
                }
                _ => {}
            }
        }
        changed.extend(facts.decided.iter().map(|(_, certificate)| {
            let sequence = Sequence(certificate.sequence());
            (sequence, Digest::of(certificate.statement()))
        }));
        for (sequence, digest) in changed {
            self.certify(sequence, digest);
            let values = self.certifiable(sequence);
            if values.len() > 1 {
                return Err(format!(
                    "sequence {sequence} can be certified as {values:?}"
                ));
            }
        }
        Ok(())
    }

    /// What is certified, an honest validator's ledger says or its shell accepted.
    pub(super) fn validity(&mut self, facts: &Facts, stage: &Stage<'_>) -> Result<(), String> {
        let honest = facts
            .accepted
            .iter()
            .filter(|(seat, _, _)| stage.honest.contains(*seat))
            .map(|(_, sequence, digest)| (*sequence, *digest));
        self.accepted.extend(honest);
        for (_, certificate) in &facts.decided {
            let sequence = Sequence(certificate.sequence());
            let digest = Digest::of(certificate.statement());
            if !self.accepted.contains(&(sequence, digest)) {
                let statement = certificate.statement();
                return Err(format!("nobody honest accepted {statement} as {sequence}"));
            }
        }
        Ok(())
    }

    /// A validator hands out one decision for a sequence number, whichever way it learns of
    /// it first.
    pub(super) fn decided_once(&mut self, facts: &Facts, stage: &Stage<'_>) -> Result<(), String> {
        for seat in &facts.opened {
            self.decided.retain(|(decided, _)| decided != seat);
        }
        for (seat, certificate) in &facts.decided {
            let sequence = Sequence(certificate.sequence());
            if !self.decided.insert((*seat, sequence)) && stage.honest.contains(*seat) {
                return Err(format!("seat {seat} decides {sequence} again"));
            }
        }
        Ok(())
    }

    /// Every certificate that an honest validator shows verifies, as anybody verifies it.
    pub(super) fn certificates_verify(
        &mut self,
        facts: &Facts,
        stage: &Stage<'_>,
    ) -> Result<(), String> {
        let decided = facts.decided.iter().map(|(seat, certificate)| {
            let envelope = certificate.to_envelope(stage.committee);
            (*seat, envelope.into_bytes())
        });
        let submitted = facts.submitted.iter().cloned();
        let taught = facts.said.iter().filter_map(|(seat, packet)| {
            let Some(Message::Certificate(envelope)) = &packet.message else {
                return None;
            };
            Some((*seat, envelope.clone()))
        });
        let shown: Vec<_> = decided.chain(submitted).chain(taught).collect();
        for (seat, envelope) in shown {
            if !stage.honest.contains(seat) || !self.certificates.insert(Digest::of(&envelope)) {
                continue;
            }
            Certificate::parse(&envelope)
                .and_then(|unverified| unverified.verify(stage.committee))
                .map_err(|error| format!("seat {seat} shows a certificate, but {error}"))?;
        }
        Ok(())
    }

    /// Behind every stable checkpoint stand f + 1 honest validators whose ledgers have
    /// recorded all that it covers, and it says what the ledger says.
    pub(super) fn stable_is_recorded(
        &mut self,
        facts: &Facts,
        stage: &Stage<'_>,
    ) -> Result<(), String> {
        let honest = facts
            .stable
            .iter()
            .filter(|(seat, _)| stage.honest.contains(*seat));
        for (_, stable) in honest {
            let head = stable.head();
            if self.stable.get(&head.sequence) == Some(head) {
                continue;
            }
            check_stable(stable, stage)?;
            if let Some(other) = self.stable.insert(head.sequence, *head) {
                return Err(format!("{other:?} and {head:?} are stable"));
            }
        }
        Ok(())
    }

    /// No honest validator finds that a quorum signed another head than itself.
    pub(super) fn one_history(&mut self, facts: &Facts, stage: &Stage<'_>) -> Result<(), String> {
        let diverged = facts
            .diverged
            .iter()
            .find(|(seat, _, _)| stage.honest.contains(*seat));
        diverged.map_or(Ok(()), |(seat, mine, theirs)| {
            Err(format!("seat {seat} signed {mine:?}, a quorum {theirs:?}"))
        })
    }
}

fn certified(envelope: &[u8], committee: &Committee) -> Option<(Sequence, Digest)> {
    let certificate = Certificate::parse(envelope)
        .and_then(|unverified| unverified.verify(committee))
        .ok()?;
    Some((
        Sequence(certificate.sequence()),
        Digest::of(certificate.statement()),
    ))
}

fn check_stable(stable: &StableCheckpoint, stage: &Stage<'_>) -> Result<(), String> {
    let Head {
        sequence,
        chain,
        tree_size,
        tree_root,
    } = *stable.head();
    stable
        .verify(stage.scope, stage.committee)
        .map_err(|error| format!("the stable checkpoint {sequence} is none: {error}"))?;
    let recorded = stage
        .nodes
        .iter()
        .filter(|node| stage.honest.contains(node.seat()) && node.recorded_upto() >= sequence)
        .count();
    let needed = stage.committee.seats().one_honest();
    if recorded < usize::from(needed) {
        return Err(format!(
            "{recorded} honest ledgers have recorded all up to the stable checkpoint {sequence}"
        ));
    }
    if (tree_size, tree_root) != History::tree(sequence)
        || Some(chain) != stage.history.chain(sequence)
    {
        return Err(format!(
            "the stable checkpoint {sequence} is not what the ledger says"
        ));
    }
    Ok(())
}
