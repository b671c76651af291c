//! The node: status, health, metrics, genesis and documentation.

use std::sync::{Arc, LazyLock};

use aegis_ledger::query;
use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use utoipa_swagger_ui::Config;

use crate::dto::cluster::{HealthBody, StatusBody};
use crate::dto::committee::CommitteeStatus;
use crate::governance::{Consistency, HealthPart};
use crate::problem::{Problem, ProblemBody};
use crate::server::call::Call;
use crate::server::reply::{Outcome, Reply};

/// Status of the node and the cluster
///
/// As this node knows it, also without a leader. Only with `consistency=linearizable` are
/// the counts of proposals those of the cluster.
#[utoipa::path(
    get,
    path = "/status",
    tag = "cluster",
    params(super::Consistent),
    responses(
        (status = 200, description = "The status", body = StatusBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn status(call: &Call) -> Outcome {
    let consistency = call.query()?.finish_or(Consistency::Stale)?;
    let view = call.read(consistency).await?;
    let core = query::core(&*view.archive)?;
    let governance = &call.edge.governance;
    let genesis = governance.genesis();
    let committee = query::newest_committee(&*view.archive, genesis)?;
    let committee =
        committee.map(|record| CommitteeStatus::new(&record, governance.seat().as_ref(), &core));
    let body = StatusBody::new(genesis, governance.status(), &core, committee);
    Ok(Reply::json(&body).at(view.index))
}

/// The genesis document
///
/// Its exact bytes; their SHA-256 is the cluster id.
#[utoipa::path(
    get,
    path = "/genesis",
    tag = "cluster",
    responses(
        (status = 200, description = "The document", body = Object),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn genesis(call: &Call) -> Outcome {
    call.query()?.finish()?;
    let bytes = call.edge.governance.genesis().bytes();
    Ok(Reply::bytes(
        "application/json",
        Bytes::copy_from_slice(bytes),
    ))
}

/// Whether the process serves
#[utoipa::path(
    get,
    path = "/livez",
    tag = "health",
    responses(
        (status = 200, description = "It does", body = HealthBody),
        (status = 503, description = "It does not", body = HealthBody),
    ),
)]
pub(crate) async fn livez(call: &Call) -> Outcome {
    let parts = call.edge.governance.liveness();
    Ok(health(call, parts))
}

/// Whether the node can take requests
///
/// A leader is known, a linearizable read works, and this node is caught up.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "It can", body = HealthBody),
        (status = 503, description = "It cannot", body = HealthBody),
    ),
)]
pub(crate) async fn readyz(call: &Call) -> Outcome {
    let parts = call.edge.governance.readiness().await;
    Ok(health(call, parts))
}

/// Both of the above
#[utoipa::path(
    get,
    path = "/health",
    tag = "health",
    responses(
        (status = 200, description = "All is well", body = HealthBody),
        (status = 503, description = "Something is not", body = HealthBody),
    ),
)]
pub(crate) async fn whole(call: &Call) -> Outcome {
    let mut parts = call.edge.governance.liveness();
    parts.extend(call.edge.governance.readiness().await);
    Ok(health(call, parts))
}

fn health(call: &Call, parts: Vec<HealthPart>) -> Reply {
    let (status, code) = if parts.iter().all(|part| part.ok) {
        ("ok", StatusCode::OK)
    } else {
        ("failing", StatusCode::SERVICE_UNAVAILABLE)
    };
    let body = HealthBody {
        status,
        parts,
        alarms: call.edge.governance.status().alarms,
    };
    Reply::json(&body).status(code)
}

/// Metrics in Prometheus's text format
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(call: &Call) -> Outcome {
    let text = (call.edge.render_metrics)();
    Ok(Reply::bytes(
        "text/plain; version=0.0.4; charset=utf-8",
        text,
    ))
}

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(crate) async fn openapi(_: &Call) -> Outcome {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        let json = serde_json::to_vec(&super::openapi());
        Bytes::from(json.expect("an OpenAPI document has only text keys"))
    });
    Ok(Reply::bytes("application/json", DOCUMENT.clone()))
}

/// Documentation for people
#[utoipa::path(
    get,
    path = "/docs",
    tag = "health",
    responses((status = 308, description = "At `/docs/`")),
)]
pub(crate) async fn docs(_: &Call) -> Outcome {
    let mut reply = Reply::no_content().status(StatusCode::PERMANENT_REDIRECT);
    reply
        .headers
        .push((LOCATION, HeaderValue::from_static("/docs/")));
    Ok(reply)
}

/// The first page of the documentation
#[utoipa::path(
    get,
    path = "/docs/",
    tag = "health",
    responses((status = 200, description = "A page", body = String, content_type = "text/html")),
)]
pub(crate) async fn docs_index(_: &Call) -> Outcome {
    swagger_file("index.html")
}

/// A file of the documentation
#[utoipa::path(
    get,
    path = "/docs/{file}",
    tag = "health",
    params(("file" = String, Path, description = "The file")),
    responses(
        (status = 200, description = "The file", body = String, content_type = "text/html"),
        (status = 404, description = "No such file", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn docs_file(call: &Call) -> Outcome {
    swagger_file(call.param())
}

fn swagger_file(name: &str) -> Outcome {
    static CONFIG: LazyLock<Arc<Config<'static>>> =
        LazyLock::new(|| Arc::new(Config::from("/openapi.json")));
    let file = utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG)).map_err(|error| {
        tracing::error!(%error, "documentation cannot be served");
        Problem::internal("the documentation cannot be served")
    })?;
    let file = file.ok_or_else(|| Problem::not_found("the documentation has no such file"))?;
    let content_type = HeaderValue::try_from(file.content_type)
        .map_err(|_| Problem::internal("the documentation cannot be served"))?;
    let mut reply = Reply::bytes("text/html", file.bytes.into_owned());
    reply.content_type = Some(content_type);
    Ok(reply)
}
