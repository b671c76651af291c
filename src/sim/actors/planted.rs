//! Planted bugs: actors that pose as honest, so that the invariants must find them.

use std::collections::{BTreeMap, BTreeSet};

use aegis_crypto::certificate::Certificate;
use aegis_crypto::{Committee, SeatNo};
use aegis_pbft::{Commit, Message, Prepare, Sequence, To, View, ViewChange};

use super::{Actor, Hands};

/// Signs past its safety module: a second commitment for another value.
#[derive(Debug)]
pub struct Bypass;

impl Actor for Bypass {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        if let Message::Commit(Commit { view, sequence, .. }) = message {
            let other = hands.history.contested(sequence);
            let second = hands.forge.commit(view, sequence, &other);
            hands.send(to, second);
        }
        hands.send(to, message);
    }

    fn poses(&self) -> bool {
        true
    }
}

/// Votes before anything is on its disk.
#[derive(Debug, Default)]
pub struct Eager {
    agreed: BTreeSet<(View, Sequence)>,
}

impl Actor for Eager {
    fn hear(&mut self, hands: &mut Hands<'_>, message: &Message) -> bool {
        if let Message::PrePrepare(proposal) = message
            && self.agreed.insert((proposal.view, proposal.sequence))
        {
            let digest = proposal.value.whole();
            let prepare = hands
                .forge
                .prepare(proposal.view, proposal.sequence, digest);
            hands.send(To::All, prepare);
            return false;
        }
        true
    }

    fn poses(&self) -> bool {
        true
    }
}

/// Certifies with f + 1 signers.
#[derive(Debug, Default)]
pub struct FewSigners {
    commits: BTreeMap<Sequence, BTreeMap<SeatNo, Commit>>,
}

impl Actor for FewSigners {
    fn hear(&mut self, hands: &mut Hands<'_>, message: &Message) -> bool {
        if let Message::Commit(commit) = message {
            let commits = self.commits.entry(commit.sequence).or_default();
            commits.insert(commit.seat, commit.clone());
            if commits.len() >= usize::from(hands.committee.seats().one_honest()) {
                let commits: Vec<&Commit> = commits.values().collect();
                if let Some(envelope) = envelope(hands.committee, &commits) {
                    hands.submit(envelope.into_bytes());
                }
            }
        }
        true
    }

    fn poses(&self) -> bool {
        true
    }
}

/// Certifies with as many messages as a quorum has signers.
#[derive(Debug)]
pub struct Miscounter;

impl Actor for Miscounter {
    fn hear(&mut self, hands: &mut Hands<'_>, message: &Message) -> bool {
        if let Message::Commit(commit) = message
            && let Some(envelope) = envelope(hands.committee, &[commit])
            && let Some((head, signature)) = envelope.split_once("\"signatures\":[")
        {
            let signature = signature.trim_end_matches("]}");
            let count = usize::from(hands.committee.seats().quorum());
            let signatures = vec![signature; count].join(",");
            let counted = format!("{head}\"signatures\":[{signatures}]}}");
            hands.submit(counted.into_bytes());
        }
        true
    }

    fn poses(&self) -> bool {
        true
    }
}

/// An envelope with the signatures of these commits, as few as they are.
fn envelope(committee: &Committee, commits: &[&Commit]) -> Option<String> {
    let first = commits.first()?;
    let keys = commits
        .iter()
        .filter_map(|commit| committee.key(commit.seat).cloned());
    let few = Committee::new(committee.epoch(), keys.collect()).ok()?;
    let signatures = few
        .seats()
        .iter()
        .zip(commits)
        .map(|(seat, commit)| (seat, commit.signature.0))
        .collect();
    let statement = first.value.statement().to_owned();
    let certificate =
        Certificate::assemble(&few, first.view.0, first.sequence.0, statement, signatures).ok()?;
    Some(certificate.to_envelope(&few))
}

/// Asks for views without proof of what it prepared.
#[derive(Debug)]
pub struct Omitter;

impl Actor for Omitter {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        if let Message::ViewChange(change) = &message {
            let ViewChange { view, stable, .. } = &**change;
            let bare = hands.forge.view_change(*view, stable.clone(), Vec::new());
            hands.send(to, Message::ViewChange(bare));
        } else {
            hands.send(to, message);
        }
    }

    fn poses(&self) -> bool {
        true
    }
}

/// Votes in a view after it has asked for the next one.
#[derive(Debug)]
pub struct Regressor;

impl Actor for Regressor {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        hands.send(to, message.clone());
        if let Message::ViewChange(change) = message
            && let Some(status) = &hands.status
        {
            let past = View(change.view.0 - 1);
            let sequence = status.high;
            let digest = hands.history.plain(sequence).whole();
            let late = hands.forge.prepare(past, sequence, digest);
            hands.send(to, late);
        }
    }

    fn poses(&self) -> bool {
        true
    }
}

/// Asks for a lower view than it has asked for before.
#[derive(Debug)]
pub struct Backslider;

impl Actor for Backslider {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        if let Message::ViewChange(change) = &message {
            let higher = View(change.view.0 + 1);
            let ahead = hands.forge.view_change(higher, None, Vec::new());
            hands.send(to, Message::ViewChange(ahead));
        }
        hands.send(to, message);
    }

    fn poses(&self) -> bool {
        true
    }
}

/// Votes again after a restart as if it had said nothing: for another value.
#[derive(Debug, Default)]
pub struct Amnesiac {
    said: BTreeSet<(View, Sequence)>,
}

impl Actor for Amnesiac {
    fn say(&mut self, hands: &mut Hands<'_>, to: To, message: Message) {
        if let Message::Prepare(Prepare { view, sequence, .. }) = message {
            // Said again, as after every restart.
            if !self.said.insert((view, sequence)) {
                let digest = hands.history.contested(sequence).whole();
                let other = hands.forge.prepare(view, sequence, digest);
                return hands.send(to, other);
            }
        }
        hands.send(to, message);
    }

    fn poses(&self) -> bool {
        true
    }
}
