//! Proposals: submission and reading.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aegis_crypto::claims::ProposalClaims;
use aegis_crypto::{Digest, JsonLimits, Typ, canonicalize, from_slice_strict};
use aegis_ledger::query::{ProposalFilter, ProposalView};
use aegis_ledger::{
    AgentId, Archive, ArchiveError, Command, Document, JTI_BYTES_MAX, Principal, ProposalNo,
    ProposalType, Receipt, Refusal, RequestKey, Status, query,
};
use serde_json::value::RawValue;

use crate::dto::proposals::{
    BallotBody, ProposalBody, ProposalList, ProposalRequest, SubmittedBody,
};
use crate::dto::text::{Text, Time};
use crate::dto::votes::mismatch;
use crate::problem::{Problem, ProblemBody};
use crate::server::call::{Call, JSON_DEPTH_MAX, off_thread};
use crate::server::page::Part;
use crate::server::query::Query;
use crate::server::reply::{Outcome, Reply};
use crate::server::router::{BASES, BODY_BYTES_MAX};
use crate::signatures::{Signer, bad_signature, parse};

/// Submit a proposal
///
/// By whoever bears the token, or by the agent that signed it. The document is the body
/// without its `signature`, with its members sorted, without white space, its numbers as
/// written; the answer's `digest` is its SHA-256. `Idempotency-Key`, or the signature's
/// `jti`, makes a repeat answer as the first time.
#[utoipa::path(
    post,
    path = "/proposals",
    tag = "proposals",
    params(super::Idempotent),
    request_body = ProposalRequest,
    responses(
        (status = 201, description = "Submitted", body = SubmittedBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security((), ("token" = [])),
)]
pub(crate) async fn submit(call: &Call) -> Outcome {
    let request: ProposalRequest<'_> = call.json()?;
    let document = document_of(call)?;
    let (principal, key) = match &request.signature {
        Some(jws) => signed_by(call, jws, Digest::of(&document)).await?,
        None => (call.edge.require_bearer(call).await?, call.request_key()?),
    };
    Document::parse(&document)?;
    let command = Command::Propose {
        document,
        signature: request.signature,
    };
    let (index, receipt) = call.submit(principal, Some(key), command).await?;
    let Receipt::Proposed {
        proposal,
        status,
        created_at,
        digest,
    } = receipt
    else {
        return Err(Problem::wrong_receipt());
    };
    let body = SubmittedBody {
        proposal_id: Text(proposal),
        status,
        created_at: Time(created_at),
        digest,
    };
    let location = format!("{}/proposals/{proposal}", BASES[0]);
    Ok(Reply::json(&body).created(location).at(index))
}

/// The body without its `signature`, in canonical form.
fn document_of(call: &Call) -> Result<String, Problem> {
    let mut members: BTreeMap<Cow<'_, str>, &RawValue> = call.json()?;
    members.remove("signature");
    let text = serde_json::to_string(&members).expect("strings and JSON texts are JSON");
    Ok(canonicalize(&text, JSON_DEPTH_MAX)?)
}

/// The author that signed the document, and the request as the signature names it.
async fn signed_by(
    call: &Call,
    jws: &str,
    digest: Digest,
) -> Result<(Principal, RequestKey), Problem> {
    let statement = parse(jws, Typ::PROPOSAL)?;
    let claims: ProposalClaims = statement.claims().map_err(bad_signature)?;
    let cluster_id = call.edge.governance.genesis().cluster_id();
    if claims.aud != cluster_id {
        return Err(mismatch("aud", claims.aud, cluster_id).into());
    }
    if claims.digest != digest {
        return Err(mismatch("digest", claims.digest, digest).into());
    }
    let agent = signer_of(&claims.sub)?;
    check_jti(&claims.jti)?;
    let signer = Signer {
        agent,
        kid: *statement.kid(),
    };
    let key = call.edge.signer_key(&signer).await?;
    let key = key.known(&signer, |agent| Refusal::UnknownAgent { agent })?;
    statement.verify(&key).map_err(bad_signature)?;
    let principal = Principal::Agent(signer.agent);
    check_bearer(call, &principal).await?;
    Ok((principal, call.signed_request_key(&claims.jti)?))
}

/// The agent that a statement is by.
pub(crate) fn signer_of(sub: &str) -> Result<AgentId, Refusal> {
    sub.parse().map_err(|_| Refusal::UnknownAgent {
        agent: sub.chars().take(80).collect(),
    })
}

/// A `jti` must be there to name a request, and is bounded like those of ballots.
pub(crate) fn check_jti(jti: &str) -> Result<(), Problem> {
    if (1..=JTI_BYTES_MAX).contains(&jti.len()) {
        return Ok(());
    }
    let reason = format!("it has {} bytes, use 1 to {JTI_BYTES_MAX}", jti.len());
    Err(Problem::invalid_field("jti", reason))
}

/// Whoever sends a signed request may bear a token as well, but not another agent's.
pub(crate) async fn check_bearer(call: &Call, signer: &Principal) -> Result<(), Problem> {
    match call.edge.bearer(call).await? {
        Some(bearer) if bearer != *signer && bearer != Principal::Administrator => {
            Err(Problem::forbidden(format!(
                "the token is {bearer}'s and the signature {signer}'s; send one of them"
            )))
        }
        _ => Ok(()),
    }
}

/// The proposals
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/proposals",
    tag = "proposals",
    params(
        ("status" = Option<String>, Query, description = "Only those of this status; `active` means draft, review or voting"),
        ("type" = Option<String>, Query, description = "Only those of this type"),
        ("author" = Option<String>, Query, description = "Only those by this agent, or by `administrator`"),
        super::Paged,
        super::Consistent,
    ),
    responses(
        (status = 200, description = "A part of the list", body = ProposalList),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(call: &Call) -> Outcome {
    let mut parameters = call.query()?;
    let filter = filter_of(&mut parameters)?;
    let page = parameters.page::<ProposalNo>()?;
    let view = call.read(parameters.finish()?).await?;
    let index = view.index;
    let part = off_thread(&call.edge, view, move |archive| {
        let found = query::proposals(archive, &filter, page.after, page.limit)?;
        Part::render(found.items, found.next, |view| {
            Ok((view.record.no, proposal_json(archive, &view)?))
        })
    });
    let part = part.await?;
    let list = ProposalList {
        proposals: part.items,
        next_cursor: part.next_cursor,
    };
    Ok(Reply::json(&list).at(index))
}

fn filter_of(parameters: &mut Query<'_>) -> Result<ProposalFilter, Problem> {
    let statuses = Status::ALL.map(Status::as_str).join(", ");
    let expected = format!("active or one of {statuses}");
    let statuses = parameters.take_parsed("status", &expected, |text| match text {
        "active" => Some(Status::ALL.into_iter().filter(|s| s.is_active()).collect()),
        text => Status::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .map(|status| vec![status]),
    })?;
    let types = ProposalType::ALL.map(ProposalType::as_str).join(", ");
    let kind = parameters.take_parsed("type", &format!("one of {types}"), |text| {
        ProposalType::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
    })?;
    let author = parameters.take_parsed("author", "an agent id or administrator", author_of)?;
    Ok(ProposalFilter {
        statuses: statuses.unwrap_or_default(),
        kind,
        author,
    })
}

fn author_of(text: &str) -> Option<Principal> {
    if text == Principal::Administrator.to_string() {
        Some(Principal::Administrator)
    } else {
        text.parse().ok().map(Principal::Agent)
    }
}

fn proposal_json(
    archive: &dyn Archive,
    view: &ProposalView,
) -> Result<Box<RawValue>, ArchiveError> {
    let document = stored_document(archive, view.record.no)?;
    let body = ProposalBody::new(view, read_document(view.record.no, &document)?);
    Ok(serde_json::value::to_raw_value(&body).expect("answers have only text keys"))
}

/// The exact bytes of a proposal that exists.
pub(crate) fn stored_document(
    archive: &dyn Archive,
    no: ProposalNo,
) -> Result<Vec<u8>, ArchiveError> {
    query::document(archive, no)?.ok_or_else(|| ArchiveError {
        reason: format!("{no} has no document"),
    })
}

/// Reads a stored document, which was checked when it was submitted.
pub(crate) fn read_document(
    no: ProposalNo,
    document: &[u8],
) -> Result<ProposalRequest<'_>, ArchiveError> {
    let limits = JsonLimits {
        depth: JSON_DEPTH_MAX,
        bytes: BODY_BYTES_MAX,
    };
    from_slice_strict(document, limits).map_err(|error| ArchiveError {
        reason: format!("the document of {no}: {error}"),
    })
}

fn unknown(no: ProposalNo) -> Problem {
    Problem::from(Refusal::UnknownProposal {
        proposal: no.to_string(),
    })
}

/// Read a proposal
#[utoipa::path(
    get,
    path = "/proposals/{id}",
    tag = "proposals",
    params(("id" = String, Path, description = "The proposal", example = "prop_12345"), super::Consistent),
    responses(
        (status = 200, description = "The proposal", body = ProposalBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn read(call: &Call) -> Outcome {
    let no = call.proposal()?;
    let view = call.read(call.query()?.finish()?).await?;
    let proposal = query::proposal(&*view.archive, no)?.ok_or_else(|| unknown(no))?;
    let body = proposal_json(&*view.archive, &proposal)?;
    Ok(Reply::json(&body).at(view.index))
}

/// Read a proposal's document
///
/// The exact bytes whose SHA-256 is the proposal's `digest`.
#[utoipa::path(
    get,
    path = "/proposals/{id}/document",
    tag = "proposals",
    params(("id" = String, Path, description = "The proposal"), super::Consistent),
    responses(
        (status = 200, description = "The document", body = ProposalRequest),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn document(call: &Call) -> Outcome {
    let no = call.proposal()?;
    let view = call.read(call.query()?.finish()?).await?;
    let bytes = query::document(&*view.archive, no)?.ok_or_else(|| unknown(no))?;
    Ok(Reply::bytes("application/json", bytes).at(view.index))
}

/// What a voter signs
///
/// Less what the voter adds: `sub`, `choice`, `confidence`, `jti` and `iat`.
#[utoipa::path(
    get,
    path = "/proposals/{id}/ballot",
    tag = "votes",
    params(("id" = String, Path, description = "The proposal"), super::Consistent),
    responses(
        (status = 200, description = "What to sign", body = BallotBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn ballot(call: &Call) -> Outcome {
    let no = call.proposal()?;
    let view = call.read(call.query()?.finish()?).await?;
    let proposal = query::proposal(&*view.archive, no)?.ok_or_else(|| unknown(no))?;
    let record = proposal.record;
    let status = record.status;
    let frozen = record.frozen.ok_or(Refusal::NotOpen {
        proposal: no,
        status,
    })?;
    if record.closed.is_some() {
        return Err(Refusal::VotingClosed {
            proposal: no,
            status,
        }
        .into());
    }
    let body = BallotBody {
        aud: call.edge.governance.genesis().cluster_id(),
        proposal: Text(no),
        digest: frozen.voting_digest,
        round: record.round,
    };
    Ok(Reply::json(&body).at(view.index))
}
