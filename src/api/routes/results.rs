//! Results and decisions.

use aegis_ledger::{Archive, ArchiveError, ClosingRecord, Ordinal, Refusal, query};

use crate::dto::proposals::{DecisionBody, DecisionList, ResultsBody};
use crate::problem::ProblemBody;
use crate::server::call::{Call, off_thread};
use crate::server::query::encode;
use crate::server::reply::{Outcome, Reply};

/// The result of a proposal
///
/// Running while voting is open, final afterwards. Fractions are truncated at 9 decimals.
#[utoipa::path(
    get,
    path = "/proposals/{id}/results",
    tag = "results",
    params(("id" = String, Path, description = "The proposal"), super::Consistent),
    responses(
        (status = 200, description = "The result", body = ResultsBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn of_proposal(call: &Call) -> Outcome {
    let no = call.proposal()?;
    let view = call.read(call.query()?.finish()?).await?;
    let proposal =
        query::proposal(&*view.archive, no)?.ok_or_else(|| Refusal::UnknownProposal {
            proposal: no.to_string(),
        })?;
    let status = proposal.record.status;
    let frozen = proposal.record.frozen.as_ref();
    let frozen = frozen.ok_or(Refusal::NotOpen {
        proposal: no,
        status,
    })?;
    Ok(Reply::json(&ResultsBody::new(&proposal, frozen)).at(view.index))
}

/// The decisions
///
/// Every closing, newest first.
#[utoipa::path(
    get,
    path = "/decisions",
    tag = "results",
    params(super::Paged, super::Consistent),
    responses(
        (status = 200, description = "A part of the list", body = DecisionList),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn decisions(call: &Call) -> Outcome {
    let mut parameters = call.query()?;
    let page = parameters.page::<Ordinal>()?;
    let view = call.read(parameters.finish()?).await?;
    let index = view.index;
    let list = off_thread(&call.edge, view, move |archive| {
        let found = query::closings(archive, page.after, page.limit)?;
        let decision = |(ordinal, closing)| decision(archive, ordinal, &closing);
        Ok(DecisionList {
            decisions: found
                .items
                .into_iter()
                .map(decision)
                .collect::<Result<_, ArchiveError>>()?,
            next_cursor: found.next.as_ref().map(encode),
        })
    });
    Ok(Reply::json(&list.await?).at(index))
}

fn decision(
    archive: &dyn Archive,
    ordinal: Ordinal,
    closing: &ClosingRecord,
) -> Result<DecisionBody, ArchiveError> {
    let proposal = query::proposal(archive, closing.proposal)?.ok_or_else(|| ArchiveError {
        reason: format!("{} was closed but is not on disk", closing.proposal),
    })?;
    let certified = query::has_certificate(archive, ordinal)?;
    let title = proposal.record.title;
    Ok(DecisionBody::new(ordinal, closing, title, certified))
}
