//! Events as subscribers see them: one JSON text each.

use aegis_ledger::{
    AgentId, Archive, ArchiveError, Event, EventKind, EventPosition, Outcome, ProposalNo, Status,
    VoteId, query,
};
use serde::Serialize;

use crate::dto::proposals::ProposalCore;
use crate::dto::text::{Text, Time};
use crate::routes::proposals::{read_document, stored_document};

#[derive(Serialize)]
struct Rendered<'a> {
    r#type: &'static str,
    index: u64,
    ordinal: u32,
    time: Time,
    #[serde(flatten)]
    body: Body<'a>,
}

/// What the kinds of events say; `type` stands beside it, in front.
#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    ProposalCreated {
        proposal: Box<ProposalCore<'a>>,
    },
    VoteCast {
        proposal_id: Text<ProposalNo>,
        vote_id: Text<VoteId>,
        voter: Text<&'a AgentId>,
    },
    ProposalUpdated {
        proposal_id: Text<ProposalNo>,
        status: Status,
    },
    ConsensusReached {
        proposal_id: Text<ProposalNo>,
        outcome: Outcome,
        certified: bool,
    },
}

/// The event's text. What it tells of a proposal never changes, so it is the same on every
/// node and however late it is read.
pub(super) fn render(archive: &dyn Archive, event: &Event) -> Result<String, ArchiveError> {
    let EventPosition { index, ordinal } = event.position;
    let text = |r#type, body| {
        let rendered = Rendered {
            r#type,
            index: index.0,
            ordinal,
            time: Time(event.time),
            body,
        };
        serde_json::to_string(&rendered).expect("events have only text keys")
    };
    Ok(match &event.kind {
        EventKind::ProposalCreated {
            proposal, status, ..
        } => {
            let document = stored_document(archive, *proposal)?;
            let created = query::proposal(archive, *proposal)?.ok_or_else(|| ArchiveError {
                reason: format!("{proposal} was created but is not on disk"),
            })?;
            let request = read_document(*proposal, &document)?;
            let proposal = Box::new(ProposalCore::new(&created.record, request, *status));
            text("proposal_created", Body::ProposalCreated { proposal })
        }
        EventKind::VoteCast { vote, voter, .. } => text(
            "vote_cast",
            Body::VoteCast {
                proposal_id: Text(vote.proposal),
                vote_id: Text(*vote),
                voter: Text(voter),
            },
        ),
        EventKind::ProposalUpdated { proposal, status } => text(
            "proposal_updated",
            Body::ProposalUpdated {
                proposal_id: Text(*proposal),
                status: *status,
            },
        ),
        EventKind::ConsensusReached {
            proposal,
            outcome,
            certified,
            ..
        } => text(
            "consensus_reached",
            Body::ConsensusReached {
                proposal_id: Text(*proposal),
                outcome: *outcome,
                certified: *certified,
            },
        ),
    })
}
