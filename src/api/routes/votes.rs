//! Ballots: one, many, and the log of them.

use std::sync::Arc;

use aegis_crypto::claims::VoteClaims;
use aegis_crypto::{Digest, Jws, PublicKey, Typ};
use aegis_ledger::{
    Archive, ArchiveError, Ballot, BallotRecord, CastReceipt, CheckedBallot, Command, Principal,
    Receipt, Refusal, VoteId, query,
};
use http::StatusCode;

use super::batch;
use crate::dto::votes::{
    VoteBatch, VoteBody, VoteList, VoteReceipt, VoteRequest, VoteResult, VoteResults, mismatch,
};
use crate::edge::Edge;
use crate::problem::{Problem, ProblemBody};
use crate::server::call::{Call, off_thread, parse_json, unknown_vote};
use crate::server::page::Part;
use crate::server::query::{BallotNo, Cursor};
use crate::server::reply::{Outcome, Reply};
use crate::signatures::{Signer, SignerKey, bad_signature, parse};

/// Cast a vote
///
/// The statement's signature is all the authentication that a vote needs. The same signed
/// bytes again answer 200 with the first body.
#[utoipa::path(
    post,
    path = "/votes",
    tag = "votes",
    request_body = VoteRequest,
    responses(
        (status = 201, description = "Recorded", body = VoteReceipt),
        (status = 200, description = "Recorded before", body = VoteReceipt),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cast(call: &Call) -> Outcome {
    let request: VoteRequest<'_> = call.json()?;
    let jws = parse(&request.signature, Typ::VOTE)?;
    let checked = check(&request, &jws, call.edge.governance.genesis().cluster_id())?;
    let signer = signer(&checked);
    let key = known(call.edge.signer_key(&signer).await?, &signer)?;
    jws.verify(&key).map_err(bad_signature)?;
    call.note(&Principal::Agent(signer.agent));
    let ballot = Ballot {
        jws: jws.compact().to_owned(),
        justification: request.justification.map(Into::into),
    };
    let command = Command::Cast(vec![ballot]);
    let (index, receipt) = call.submit(Principal::Voters, None, command).await?;
    let receipt = receipts(receipt)?.into_iter().next();
    let receipt = receipt.ok_or_else(Problem::wrong_receipt)?;
    let receipt = receipt.map_err(|refusal| Problem::from(refusal).at(index))?;
    let status = if receipt.repeated {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok(Reply::json(&VoteReceipt::from(&receipt))
        .status(status)
        .at(index))
}

/// All that can be refused of a ballot without any state.
fn check(
    request: &VoteRequest<'_>,
    jws: &Jws<'_>,
    cluster_id: Digest,
) -> Result<CheckedBallot, Refusal> {
    let claims: VoteClaims = jws.claims().map_err(bad_signature)?;
    let checked = CheckedBallot::check(claims, *jws.kid())?;
    if checked.cluster_id != cluster_id {
        return Err(mismatch("aud", checked.cluster_id, cluster_id));
    }
    request.check_agreement(&checked)?;
    Ok(checked)
}

fn signer(checked: &CheckedBallot) -> Signer {
    Signer {
        agent: checked.voter.clone(),
        kid: checked.kid,
    }
}

fn known(key: SignerKey, signer: &Signer) -> Result<PublicKey, Refusal> {
    key.known(signer, |agent| Refusal::UnknownVoter { agent })
}

fn receipts(receipt: Receipt) -> Result<Vec<Result<CastReceipt, Refusal>>, Problem> {
    match receipt {
        Receipt::Cast(receipts) => Ok(receipts),
        _ => Err(Problem::wrong_receipt()),
    }
}

/// Cast up to 256 votes
///
/// Each succeeds or fails alone, as if it had been sent alone; the results are in order.
#[utoipa::path(
    post,
    path = "/votes/batch",
    tag = "votes",
    request_body = VoteBatch,
    responses(
        (status = 200, description = "What came of each", body = VoteResults),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cast_batch(call: &Call) -> Outcome {
    let cluster_id = call.edge.governance.genesis().cluster_id();
    let body = call.body().clone();
    let parsed = tokio::task::spawn_blocking(move || parse_batch(&body, cluster_id));
    let parsed = parsed.await.map_err(Problem::lost_thread)??;
    let checked = check_signatures(&call.edge, parsed).await?;

    let (ballots, places) = batch::split(checked);
    let mut cast = Vec::new();
    let mut reflected = None;
    if !ballots.is_empty() {
        let command = Command::Cast(ballots);
        let (index, receipt) = call.submit(Principal::Voters, None, command).await?;
        cast = receipts(receipt)?;
        reflected = Some(index);
    }
    let results = places.fill(cast)?;
    let mut reply = Reply::json(&VoteResults {
        results: results.into_iter().map(VoteResult::from).collect(),
    });
    reply.index = reflected;
    Ok(reply)
}

/// A ballot of a batch whose signature is to be checked.
struct Pending {
    ballot: Ballot,
    signer: Signer,
}

fn parse_batch(body: &[u8], cluster_id: Digest) -> Result<Vec<Result<Pending, Problem>>, Problem> {
    let batch: VoteBatch<'_> = parse_json(body)?;
    batch::check_len("votes", batch.votes.len())?;
    let pending = |request: VoteRequest<'_>| -> Result<Pending, Problem> {
        let jws = parse(&request.signature, Typ::VOTE)?;
        let checked = check(&request, &jws, cluster_id)?;
        Ok(Pending {
            signer: signer(&checked),
            ballot: Ballot {
                jws: jws.compact().to_owned(),
                justification: request.justification.map(Into::into),
            },
        })
    };
    Ok(batch.votes.into_iter().map(pending).collect())
}

/// Checks the signatures of a batch in parallel, off the threads that serve connections.
async fn check_signatures(
    edge: &Arc<Edge>,
    parsed: Vec<Result<Pending, Problem>>,
) -> Result<Vec<Result<Ballot, Problem>>, Problem> {
    let signers = parsed
        .iter()
        .flatten()
        .map(|pending| pending.signer.clone());
    let mut keys = edge.signer_keys(signers.collect()).await?.into_iter();
    let keyed: Vec<_> = parsed
        .into_iter()
        .map(|pending| {
            let pending = pending?;
            let key = keys.next().ok_or_else(Problem::wrong_receipt)?;
            let key = known(key, &pending.signer)?;
            Ok((pending.ballot, key))
        })
        .collect();
    let mut rest = keyed.into_iter();
    let piece_len = rest.len().div_ceil(edge.cores);
    let mut pieces = Vec::with_capacity(edge.cores);
    while rest.len() > 0 {
        let piece: Vec<_> = rest.by_ref().take(piece_len).collect();
        let permit = Arc::clone(&edge.checks).acquire_owned().await;
        pieces.push(tokio::task::spawn_blocking(move || {
            let checked: Vec<_> = piece.into_iter().map(verify).collect();
            drop(permit);
            checked
        }));
    }
    let mut checked = Vec::new();
    for piece in pieces {
        checked.extend(piece.await.map_err(Problem::lost_thread)?);
    }
    Ok(checked)
}

fn verify(keyed: Result<(Ballot, PublicKey), Problem>) -> Result<Ballot, Problem> {
    let (ballot, key) = keyed?;
    parse(&ballot.jws, Typ::VOTE)?
        .verify(&key)
        .map_err(bad_signature)?;
    Ok(ballot)
}

/// Read a vote
#[utoipa::path(
    get,
    path = "/votes/{id}",
    tag = "votes",
    params(("id" = String, Path, description = "The vote", example = "vote_17_203"), super::Consistent),
    responses(
        (status = 200, description = "The vote", body = VoteBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn read(call: &Call) -> Outcome {
    let vote = call.vote()?;
    let view = call.read(call.query()?.finish()?).await?;
    let record =
        query::ballot(&*view.archive, vote)?.ok_or_else(|| unknown_vote(&vote.to_string()))?;
    let body = entry(&*view.archive, (vote, record))?;
    Ok(Reply::json(&body).at(view.index))
}

/// The votes on a proposal
///
/// In the order in which they were recorded.
#[utoipa::path(
    get,
    path = "/proposals/{id}/votes",
    tag = "votes",
    params(("id" = String, Path, description = "The proposal"), super::Paged, super::Consistent),
    responses(
        (status = 200, description = "A part of the log", body = VoteList),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn of_proposal(call: &Call) -> Outcome {
    let no = call.proposal()?;
    let mut parameters = call.query()?;
    let page = parameters.page::<BallotNo>()?;
    let view = call.read(parameters.finish()?).await?;
    let index = view.index;
    let found = off_thread(&call.edge, view, move |archive| {
        if query::proposal(archive, no)?.is_none() {
            return Ok(None);
        }
        let after = page.after.map(|BallotNo(number)| number);
        let found = query::ballots(archive, no, after, page.limit)?;
        let place = |vote: VoteId| BallotNo(vote.number);
        entries(archive, found.items, found.next.map(BallotNo), place).map(Some)
    });
    let list = found.await?.ok_or_else(|| Refusal::UnknownProposal {
        proposal: no.to_string(),
    })?;
    Ok(Reply::json(&list).at(index))
}

/// The votes of an agent
///
/// By proposal.
#[utoipa::path(
    get,
    path = "/agents/{id}/votes",
    tag = "votes",
    params(("id" = String, Path, description = "The agent"), super::Paged, super::Consistent),
    responses(
        (status = 200, description = "A part of the log", body = VoteList),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn of_agent(call: &Call) -> Outcome {
    let agent = call.agent()?;
    let mut parameters = call.query()?;
    let page = parameters.page::<VoteId>()?;
    let view = call.read(parameters.finish()?).await?;
    let index = view.index;
    let unknown = agent.to_string();
    let found = off_thread(&call.edge, view, move |archive| {
        if query::agent(archive, &agent)?.is_none() {
            return Ok(None);
        }
        let found = query::voter_ballots(archive, &agent, page.after, page.limit)?;
        entries(archive, found.items, found.next, |vote| vote).map(Some)
    });
    let list = found
        .await?
        .ok_or(Refusal::UnknownAgent { agent: unknown })?;
    Ok(Reply::json(&list).at(index))
}

/// A part of a vote log, whose cursors are the ballots' places in it.
fn entries<C: Cursor>(
    archive: &dyn Archive,
    records: Vec<(VoteId, BallotRecord)>,
    next: Option<C>,
    place: impl Fn(VoteId) -> C,
) -> Result<VoteList, ArchiveError> {
    let part = Part::render(records, next, |(vote, record)| {
        Ok((place(vote), entry(archive, (vote, record))?))
    })?;
    Ok(VoteList {
        votes: part.items,
        next_cursor: part.next_cursor,
    })
}

fn entry(
    archive: &dyn Archive,
    (vote, record): (VoteId, BallotRecord),
) -> Result<VoteBody, ArchiveError> {
    let justification = match &record.justification {
        Some(digest) => query::justification(archive, digest)?,
        None => None,
    };
    Ok(VoteBody::new(vote, record, justification))
}
