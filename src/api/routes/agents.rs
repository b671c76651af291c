//! Agents: registration, keys, reports and removal.

use aegis_ledger::{
    AgentId, AgentReceipt, Command, LogIndex, Receipt, Refusal, Registration, query,
};
use http::StatusCode;

use super::batch;
use crate::dto::agents::{
    AgentBody, AgentList, KeyRequest, RegisterBatch, RegisterRequest, RegisterResult,
    RegisterResults, RegisteredBody, ReportBody, ReportRequest, ReportedBody,
};
use crate::dto::text::Text;
use crate::problem::{Problem, ProblemBody};
use crate::server::call::{Call, off_thread, parse_json};
use crate::server::page::Part;
use crate::server::reply::{Outcome, Reply};
use crate::server::router::BASES;

/// Register an agent
///
/// By the administrator. `Idempotency-Key` makes a repeat answer as the first time.
#[utoipa::path(
    post,
    path = "/agents",
    tag = "agents",
    params(super::Idempotent),
    request_body = RegisterRequest,
    responses(
        (status = 201, description = "Registered", body = RegisteredBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn register(call: &Call) -> Outcome {
    let principal = call.edge.require_administrator(call).await?;
    let request: RegisterRequest<'_> = call.json()?;
    let command = Command::RegisterAgents(vec![request.into_registration()?]);
    let request = call.request_key()?;
    let (index, receipt) = call.submit(principal, Some(request), command).await?;
    let receipt = sole(receipt, index)?;
    let location = format!("{}/agents/{}", BASES[0], receipt.id);
    Ok(Reply::json(&RegisteredBody::from(receipt))
        .created(location)
        .at(index))
}

fn receipts(receipt: Receipt) -> Result<Vec<Result<AgentReceipt, Refusal>>, Problem> {
    match receipt {
        Receipt::Agents(receipts) => Ok(receipts),
        _ => Err(Problem::wrong_receipt()),
    }
}

/// What came of the only item.
fn sole(receipt: Receipt, index: LogIndex) -> Result<AgentReceipt, Problem> {
    let receipt = receipts(receipt)?.into_iter().next();
    receipt
        .ok_or_else(Problem::wrong_receipt)?
        .map_err(|refusal| Problem::from(refusal).at(index))
}

/// Register up to 256 agents
///
/// By the administrator. Each succeeds or fails alone; the results are in order.
#[utoipa::path(
    post,
    path = "/agents/batch",
    tag = "agents",
    params(super::Idempotent),
    request_body = RegisterBatch,
    responses(
        (status = 200, description = "What came of each", body = RegisterResults),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn register_batch(call: &Call) -> Outcome {
    let principal = call.edge.require_administrator(call).await?;
    let body = call.body().clone();
    // Reading a key checks it, which takes as long as verifying a signature.
    let parsed = tokio::task::spawn_blocking(move || parse_batch(&body));
    let parsed = parsed.await.map_err(Problem::lost_thread)??;
    let (registrations, places) = batch::split(parsed);
    let mut registered = Vec::new();
    let mut reflected = None;
    if !registrations.is_empty() {
        let command = Command::RegisterAgents(registrations);
        let request = call.request_key()?;
        let (index, receipt) = call.submit(principal, Some(request), command).await?;
        registered = receipts(receipt)?;
        reflected = Some(index);
    }
    let results = places.fill(registered)?;
    let mut reply = Reply::json(&RegisterResults {
        results: results.into_iter().map(RegisterResult::from).collect(),
    });
    reply.index = reflected;
    Ok(reply)
}

fn parse_batch(body: &[u8]) -> Result<Vec<Result<Registration, Problem>>, Problem> {
    let batch: RegisterBatch<'_> = parse_json(body)?;
    batch::check_len("agents", batch.agents.len())?;
    let agents = batch.agents.into_iter();
    Ok(agents.map(RegisterRequest::into_registration).collect())
}

/// The agents
///
/// By id, removed ones included.
#[utoipa::path(
    get,
    path = "/agents",
    tag = "agents",
    params(super::Paged, super::Consistent),
    responses(
        (status = 200, description = "A part of the list", body = AgentList),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(call: &Call) -> Outcome {
    let mut parameters = call.query()?;
    let page = parameters.page::<AgentId>()?;
    let view = call.read(parameters.finish()?).await?;
    let index = view.index;
    let part = off_thread(&call.edge, view, move |archive| {
        let found = query::agents(archive, page.after.as_ref(), page.limit)?;
        Part::render(found.items, found.next, |record| {
            Ok((record.id.clone(), AgentBody::from(record)))
        })
    });
    let part = part.await?;
    let list = AgentList {
        agents: part.items,
        next_cursor: part.next_cursor,
    };
    Ok(Reply::json(&list).at(index))
}

/// Read an agent
#[utoipa::path(
    get,
    path = "/agents/{id}",
    tag = "agents",
    params(("id" = String, Path, description = "The agent"), super::Consistent),
    responses(
        (status = 200, description = "The agent", body = AgentBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn read(call: &Call) -> Outcome {
    let agent = call.agent()?;
    let view = call.read(call.query()?.finish()?).await?;
    let record = query::agent(&*view.archive, &agent)?.ok_or_else(|| Refusal::UnknownAgent {
        agent: agent.to_string(),
    })?;
    Ok(Reply::json(&AgentBody::from(record)).at(view.index))
}

/// Remove an agent
///
/// By the administrator. Its ballots stand; it takes no part any more.
#[utoipa::path(
    delete,
    path = "/agents/{id}",
    tag = "agents",
    params(("id" = String, Path, description = "The agent")),
    responses(
        (status = 204, description = "Removed"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn remove(call: &Call) -> Outcome {
    let principal = call.edge.require_administrator(call).await?;
    let agent = call.agent()?;
    let request = call.request_key()?;
    let command = Command::RemoveAgent { agent };
    let (index, _) = call.submit(principal, Some(request), command).await?;
    Ok(Reply::no_content().at(index))
}

/// Replace an agent's key
///
/// By the agent or the administrator. Ballots signed with the old key stand.
#[utoipa::path(
    post,
    path = "/agents/{id}/keys",
    tag = "agents",
    params(("id" = String, Path, description = "The agent"), super::Idempotent),
    request_body = KeyRequest,
    responses(
        (status = 201, description = "Replaced", body = RegisteredBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn replace_key(call: &Call) -> Outcome {
    let principal = call.edge.require_bearer(call).await?;
    let agent = call.agent()?;
    let request: KeyRequest<'_> = call.json()?;
    let command = Command::ReplaceKey {
        agent,
        key: request.key()?,
        attestation: request.attestation,
        proof: request.proof,
    };
    let request = call.request_key()?;
    let (index, receipt) = call.submit(principal, Some(request), command).await?;
    let receipt = sole(receipt, index)?;
    let body = RegisteredBody::from(receipt);
    Ok(Reply::json(&body).status(StatusCode::CREATED).at(index))
}

/// Report on an agent
///
/// By an oracle or the administrator. A report must be newer than the last.
#[utoipa::path(
    post,
    path = "/agents/{id}/reports",
    tag = "agents",
    params(("id" = String, Path, description = "The agent reported on"), super::Idempotent),
    request_body = ReportRequest,
    responses(
        (status = 201, description = "Recorded", body = ReportedBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn report(call: &Call) -> Outcome {
    let principal = call.edge.require_bearer(call).await?;
    let agent = call.agent()?;
    let request: ReportRequest = call.json()?;
    let report = request.report()?;
    let body = ReportedBody {
        agent_id: Text(agent.clone()),
        report: ReportBody::from(report.clone()),
    };
    let request = call.request_key()?;
    let command = Command::Report { agent, report };
    let (index, _) = call.submit(principal, Some(request), command).await?;
    Ok(Reply::json(&body).status(StatusCode::CREATED).at(index))
}
