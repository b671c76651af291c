//! Bearer tokens.

use aegis_ledger::{Command, Receipt, TokenNo};
use http::StatusCode;
use http::header::CACHE_CONTROL;

use crate::auth::TokenSecret;
use crate::dto::agents::{TokenBody, TokenRequest};
use crate::dto::text::Text;
use crate::problem::{Problem, ProblemBody};
use crate::server::call::Call;
use crate::server::reply::{Outcome, Reply};

/// Issue a token to an agent
///
/// By the administrator. The token is shown this once; the ledger keeps its digest. So a
/// repeat cannot answer as the first time, and `Idempotency-Key` is refused: a client that
/// lost the answer asks for another token.
#[utoipa::path(
    post,
    path = "/tokens",
    tag = "agents",
    request_body = TokenRequest,
    responses(
        (status = 201, description = "Issued", body = TokenBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn issue(call: &Call) -> Outcome {
    let principal = call.edge.require_administrator(call).await?;
    // A repeat could not tell the first secret again, so only the node itself repeats.
    let key = call.unrepeatable_request_key()?;
    let request: TokenRequest = call.json()?;
    let secret = TokenSecret::draw().map_err(|error| {
        tracing::error!(%error, "no random bytes");
        Problem::internal("this node has no random bytes to make a token of; ask another one")
    })?;
    let command = Command::IssueToken {
        agent: request.agent_id,
        secret: secret.digest(),
    };
    let (index, receipt) = call.submit(principal, Some(key), command).await?;
    let Receipt::Token(no) = receipt else {
        return Err(Problem::wrong_receipt());
    };
    let body = TokenBody {
        token_id: Text(no),
        token: secret.token(no),
    };
    let no_store = http::HeaderValue::from_static("no-store");
    Ok(Reply::json(&body)
        .status(StatusCode::CREATED)
        .header(CACHE_CONTROL, no_store)
        .at(index))
}

/// End a token
///
/// By the administrator. Ending it twice is no error.
#[utoipa::path(
    delete,
    path = "/tokens/{id}",
    tag = "agents",
    params(("id" = String, Path, description = "The token's public number", example = "tok_3")),
    responses(
        (status = 204, description = "Ended"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn revoke(call: &Call) -> Outcome {
    let principal = call.edge.require_administrator(call).await?;
    let token: TokenNo = call.token()?;
    let command = Command::RevokeToken { token };
    let request = Some(call.own_request_key());
    let (index, _) = call.submit(principal, request, command).await?;
    Ok(Reply::no_content().at(index))
}
