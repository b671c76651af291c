//! A message on its way.

use aegis_crypto::{Committee, Digest};
use aegis_pbft::{Message, Verified};

/// A message on its way, read and verified once for all who receive it.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) message: Option<Message>,
    pub(crate) verified: Option<Verified>,
    pub(crate) label: String,
}

/// A message in one line.
pub(crate) fn label(message: &Message, committee: &Committee) -> String {
    let short = |digest: Digest| digest.to_string().chars().take(6).collect::<String>();
    let vote = |view, sequence, digest| format!("view {view} #{sequence} {}", short(digest));
    let what = match message {
        Message::PrePrepare(one) => vote(one.view, one.sequence, one.value.digest()),
        Message::Prepare(one) => vote(one.view, one.sequence, one.digest),
        Message::Commit(one) => vote(one.view, one.sequence, one.value.digest()),
        Message::Checkpoint(one) => format!("#{} {}", one.head.sequence, short(one.head.chain)),
        Message::ViewChange(one) => format!(
            "view {} above {:?} prepared {:?}",
            one.view,
            one.stable.as_ref().map(|stable| stable.head().sequence.0),
            one.prepared
                .iter()
                .map(|proof| (proof.sequence().0, proof.view().0))
                .collect::<Vec<_>>()
        ),
        Message::NewView(one) => format!(
            "view {} by {:?} proposes {:?}",
            one.view,
            one.view_changes
                .iter()
                .map(|change| change.seat.0)
                .collect::<Vec<_>>(),
            one.proposals
                .iter()
                .map(|proposal| proposal.sequence.0)
                .collect::<Vec<_>>()
        ),
        Message::Certificate(bytes) => format!("of {} bytes", bytes.len()),
        Message::Stable(stable) => format!("#{}", stable.head().sequence),
    };
    let signer = message.signer(committee.seats());
    let signer = signer.map(|seat| format!(" by {seat}")).unwrap_or_default();
    format!("{} {what}{signer}", message.kind())
}
