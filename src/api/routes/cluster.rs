//! Leadership, membership and snapshots: by the administrator.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::dto::cluster::{ChangedBody, PromoteRequest, TransferRequest};
use crate::governance::{Leadership, MemberRole, NewLearner};
use crate::problem::{Problem, ProblemBody};
use crate::quorum::{QuorumOutlook, VoterChange, outlook};
use crate::server::call::Call;
use crate::server::reply::{Outcome, Reply};

/// How long a transfer of leadership may take unless asked otherwise.
const TRANSFER_DEFAULT: Duration = Duration::from_secs(10);
/// The longest that it may take, so that the answer comes before the request times out.
const TRANSFER_MAX: Duration = Duration::from_secs(25);

/// Hand the leadership over
///
/// By the administrator. Answers once the target leads.
#[utoipa::path(
    post,
    path = "/cluster/transfer-leader",
    tag = "cluster",
    request_body = TransferRequest,
    responses(
        (status = 200, description = "The target leads", body = Leadership),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn transfer_leader(call: &Call) -> Outcome {
    call.edge.require_administrator(call).await?;
    let request: TransferRequest = call.json()?;
    let deadline = request
        .timeout_ms
        .map_or(TRANSFER_DEFAULT, Duration::from_millis);
    if deadline.is_zero() || deadline > TRANSFER_MAX {
        let reason = format!("it is outside 1 to {}", TRANSFER_MAX.as_millis());
        return Err(Problem::invalid_field("timeout_ms", reason));
    }
    let governance = &call.edge.governance;
    let leadership = governance.transfer_leader(request.to, deadline).await?;
    Ok(Reply::json(&leadership))
}

/// Add a learner
///
/// By the administrator. It receives the log and does not vote.
#[utoipa::path(
    post,
    path = "/cluster/learners",
    tag = "cluster",
    request_body = NewLearner,
    responses(
        (status = 201, description = "Added", body = ChangedBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn add_learner(call: &Call) -> Outcome {
    call.edge.require_administrator(call).await?;
    let learner: NewLearner = call.json()?;
    let body = ChangedBody {
        id: learner.id,
        role: MemberRole::Learner,
    };
    call.edge.governance.add_learner(learner).await?;
    Ok(Reply::json(&body).status(StatusCode::CREATED))
}

/// Make a learner a voter
///
/// By the administrator. Refused with `quorum_risk` if the next failure would then stop
/// the cluster, unless `force=true`.
#[utoipa::path(
    post,
    path = "/cluster/members",
    tag = "cluster",
    params(super::Forced),
    request_body = PromoteRequest,
    responses(
        (status = 200, description = "It votes", body = ChangedBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn promote(call: &Call) -> Outcome {
    call.edge.require_administrator(call).await?;
    let PromoteRequest { id } = call.json()?;
    check_quorum(call, VoterChange::Promote(id)).await?;
    call.edge.governance.promote(id).await?;
    Ok(Reply::json(&ChangedBody {
        id,
        role: MemberRole::Voter,
    }))
}

/// Take a node out of the cluster
///
/// By the administrator. Refused with `quorum_risk` if the next failure would then stop
/// the cluster, unless `force=true`.
#[utoipa::path(
    delete,
    path = "/cluster/members/{id}",
    tag = "cluster",
    params(("id" = u64, Path, description = "The node"), super::Forced),
    responses(
        (status = 204, description = "It is out"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn remove(call: &Call) -> Outcome {
    call.edge.require_administrator(call).await?;
    let id = call.node()?;
    check_quorum(call, VoterChange::Remove(id)).await?;
    call.edge.governance.remove(id).await?;
    Ok(Reply::no_content())
}

/// A step that leaves the cluster one failure from a standstill is taken only if it is
/// asked for twice; one that could not even be committed is not taken at all.
async fn check_quorum(call: &Call, change: VoterChange) -> Result<(), Problem> {
    let mut parameters = call.query()?;
    let forced = parameters.flag("force")?;
    parameters.finish()?;
    let members = call.edge.governance.members().await?;
    match outlook(&members, change) {
        QuorumOutlook::Safe => Ok(()),
        QuorumOutlook::Risky(_) if forced => Ok(()),
        QuorumOutlook::Risky(quorum) => Err(Problem::new(
            StatusCode::CONFLICT,
            "quorum_risk",
            format!(
                "afterwards {} of {} voters answer and {} must: the next failure stops the \
                 cluster; add or mend a voter first, or repeat with ?force=true",
                quorum.answering, quorum.voters, quorum.needed
            ),
        )),
        QuorumOutlook::Lost(quorum) => Err(Problem::new(
            StatusCode::CONFLICT,
            "quorum_lost",
            format!(
                "afterwards {} of {} voters answer and {} must: the step could not be \
                 committed; mend a voter, or take a silent one out, first",
                quorum.answering, quorum.voters, quorum.needed
            ),
        )),
    }
}

/// Take a snapshot
///
/// By the administrator, from any node, while it serves writes. `Repr-Digest` is the
/// SHA-256 of the whole; an answer that is cut short is shorter than its Content-Length.
#[utoipa::path(
    get,
    path = "/cluster/snapshot",
    tag = "cluster",
    responses(
        (status = 200, description = "The snapshot", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn snapshot(call: &Call) -> Outcome {
    call.edge.require_administrator(call).await?;
    call.query()?.finish()?;
    let snapshot = call.edge.governance.snapshot().await?;
    let digest = format!("sha-256=:{}:", STANDARD.encode(snapshot.digest.as_bytes()));
    let digest = HeaderValue::try_from(digest).expect("base64 is visible ASCII");
    let reply = Reply::stream(
        "application/octet-stream",
        Some(snapshot.len),
        snapshot.stream,
    );
    Ok(reply
        .header(HeaderName::from_static("repr-digest"), digest)
        .at(snapshot.index))
}
