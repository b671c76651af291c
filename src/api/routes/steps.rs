//! The steps of a proposal's life cycle: by its author or the administrator, each with a
//! token or with a signed order.

use aegis_crypto::claims::CommandClaims;
use aegis_crypto::{PublicKey, Typ};
use aegis_ledger::{
    Command, LedgerTime, Principal, ProposalNo, Receipt, Refusal, RequestKey, Step,
    check_order_times, query,
};

use super::proposals::{check_bearer, check_jti, signer_of};
use crate::dto::proposals::{StepRequest, SteppedBody};
use crate::dto::text::Text;
use crate::dto::votes::mismatch;
use crate::governance::Consistency;
use crate::problem::{Problem, ProblemBody};
use crate::server::call::Call;
use crate::server::reply::{Outcome, Reply};
use crate::signatures::{Signer, bad_signature, parse};

/// Open voting
///
/// The rules freeze, and ballots are taken.
#[utoipa::path(
    post,
    path = "/proposals/{id}/open",
    tag = "proposals",
    params(("id" = String, Path, description = "The proposal"), super::Idempotent),
    request_body(content = Option<StepRequest>, description = "Nothing with a token"),
    responses(
        (status = 200, description = "Opened", body = SteppedBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security((), ("token" = [])),
)]
pub(crate) async fn open(call: &Call) -> Outcome {
    take(call, Step::Open).await
}

/// Put a draft up for comment
#[utoipa::path(
    post,
    path = "/proposals/{id}/review",
    tag = "proposals",
    params(("id" = String, Path, description = "The proposal"), super::Idempotent),
    request_body(content = Option<StepRequest>, description = "Nothing with a token"),
    responses(
        (status = 200, description = "Up for comment", body = SteppedBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security((), ("token" = [])),
)]
pub(crate) async fn review(call: &Call) -> Outcome {
    take(call, Step::Review).await
}

/// Withdraw a proposal
///
/// Before it is decided.
#[utoipa::path(
    post,
    path = "/proposals/{id}/cancel",
    tag = "proposals",
    params(("id" = String, Path, description = "The proposal"), super::Idempotent),
    request_body(content = Option<StepRequest>, description = "Nothing with a token"),
    responses(
        (status = 200, description = "Withdrawn", body = SteppedBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security((), ("token" = [])),
)]
pub(crate) async fn cancel(call: &Call) -> Outcome {
    take(call, Step::Cancel).await
}

/// Close voting and count
///
/// Where the policy allows it.
#[utoipa::path(
    post,
    path = "/proposals/{id}/tally",
    tag = "proposals",
    params(("id" = String, Path, description = "The proposal"), super::Idempotent),
    request_body(content = Option<StepRequest>, description = "Nothing with a token"),
    responses(
        (status = 200, description = "Counted", body = SteppedBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security((), ("token" = [])),
)]
pub(crate) async fn tally(call: &Call) -> Outcome {
    take(call, Step::Tally).await
}

/// Acknowledge an outside effect
///
/// Of an approved proposal, once the appeal window and the delay have passed.
#[utoipa::path(
    post,
    path = "/proposals/{id}/execute",
    tag = "proposals",
    params(("id" = String, Path, description = "The proposal"), super::Idempotent),
    request_body(content = Option<StepRequest>, description = "Nothing with a token"),
    responses(
        (status = 200, description = "Acknowledged", body = SteppedBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security((), ("token" = [])),
)]
pub(crate) async fn execute(call: &Call) -> Outcome {
    take(call, Step::Execute).await
}

async fn take(call: &Call, step: Step) -> Outcome {
    let proposal = call.proposal()?;
    let (principal, key) = if call.body().is_empty() {
        (call.edge.require_bearer(call).await?, call.request_key()?)
    } else {
        let request: StepRequest<'_> = call.json()?;
        signed_by(call, &request.signature, proposal, step).await?
    };
    let command = Command::Step { proposal, step };
    let (index, receipt) = call.submit(principal, Some(key), command).await?;
    let Receipt::Stepped { proposal, status } = receipt else {
        return Err(Problem::wrong_receipt());
    };
    let body = SteppedBody {
        proposal_id: Text(proposal),
        status,
    };
    Ok(Reply::json(&body).at(index))
}

/// Who signed the order, and the request as the signature names it.
async fn signed_by(
    call: &Call,
    jws: &str,
    proposal: ProposalNo,
    step: Step,
) -> Result<(Principal, RequestKey), Problem> {
    let statement = parse(jws, Typ::COMMAND)?;
    let claims: CommandClaims = statement.claims().map_err(bad_signature)?;
    check_claims(call, &claims, proposal, step)?;
    let (principal, key) = if claims.sub == Principal::Administrator.to_string() {
        (
            Principal::Administrator,
            administrators_key(call, &statement)?,
        )
    } else {
        let signer = Signer {
            agent: signer_of(&claims.sub)?,
            kid: *statement.kid(),
        };
        let key = call.edge.signer_key(&signer).await?;
        let key = key.known(&signer, |agent| Refusal::UnknownAgent { agent })?;
        (Principal::Agent(signer.agent), key)
    };
    statement.verify(&key).map_err(bad_signature)?;
    check_bearer(call, &principal).await?;
    let now = ledger_time(call).await?;
    check_order_times(claims.iat, claims.exp, now)?;
    Ok((principal, call.signed_request_key(&claims.jti)?))
}

fn check_claims(
    call: &Call,
    claims: &CommandClaims,
    proposal: ProposalNo,
    step: Step,
) -> Result<(), Problem> {
    let cluster_id = call.edge.governance.genesis().cluster_id();
    if claims.aud != cluster_id {
        return Err(mismatch("aud", claims.aud, cluster_id).into());
    }
    if claims.command != step.kind() {
        return Err(mismatch("command", shorten(&claims.command), step.kind()).into());
    }
    if claims.proposal != proposal.to_string() {
        return Err(mismatch("proposal", shorten(&claims.proposal), proposal).into());
    }
    check_jti(&claims.jti)
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The administrators' keys stand in the genesis.
fn administrators_key(
    call: &Call,
    statement: &aegis_crypto::Jws<'_>,
) -> Result<PublicKey, Refusal> {
    call.edge
        .governance
        .genesis()
        .administrators()
        .iter()
        .find(|key| key.kid() == *statement.kid())
        .copied()
        .ok_or_else(|| Refusal::BadSignature {
            reason: format!(
                "it names key {}, which is no administrator's",
                statement.kid()
            ),
        })
}

/// Ledger time stands still while nothing is written, so this node's clock is asked as well.
async fn ledger_time(call: &Call) -> Result<LedgerTime, Problem> {
    let view = call.edge.governance.view(Consistency::Stale).await?;
    let applied = query::core(&*view.archive)?.time;
    let clock = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    Ok(applied.max(LedgerTime(clock)))
}
