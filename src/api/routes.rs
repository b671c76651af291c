//! The operations: one table of what is served, and the document that describes it.
//!
//! The OpenAPI document is generated from the handlers; a test holds the table against it.

pub(crate) mod agents;
pub(crate) mod audit;
mod batch;
mod bundle;
pub(crate) mod certified;
pub(crate) mod cluster;
pub(crate) mod committee;
pub(crate) mod node;
pub(crate) mod proposals;
pub(crate) mod results;
pub(crate) mod steps;
pub(crate) mod tokens;
pub(crate) mod votes;

use http::Method;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi};

use crate::server::router::{
    BATCH_BYTES_MAX, BODY_BYTES_MAX, BodyRule, Handler, Patience, Route, Under,
};

/// How fresh a read is.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "its fields describe parameters that `Query` reads"
)]
pub(crate) struct Consistent {
    /// `linearizable`, or `stale` for what this node has.
    consistency: Option<String>,
}

/// Which part of a list is read.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "its fields describe parameters that `Query` reads"
)]
pub(crate) struct Paged {
    /// The most items, 100 if absent; a part that has a megabyte of them ends there.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// The `next_cursor` of the part before.
    cursor: Option<String>,
}

/// Whether a risky step is taken all the same.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "its fields describe parameters that `Query` reads"
)]
pub(crate) struct Forced {
    /// Takes the step although the next failure would stop the cluster.
    force: Option<bool>,
}

/// A request that answers a repeat as it answered first.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "its fields describe headers that `Call` reads")]
pub(crate) struct Idempotent {
    /// 1 to 128 visible ASCII characters; remembered for a day, for each principal.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

/// A handler as the table has it.
macro_rules! handler {
    ($handler:path) => {{
        let handler: Handler = |call| Box::pin($handler(call));
        handler
    }};
}

fn get(path: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::GET,
        path,
        under: Under::Base,
        body: BodyRule::Nothing,
        patience: Patience::Request,
        handler,
    }
}

/// A GET that reads all of the state.
fn get_all(path: &'static str, handler: Handler) -> Route {
    Route {
        patience: Patience::WholeState,
        ..get(path, handler)
    }
}

fn root(path: &'static str, handler: Handler) -> Route {
    Route {
        under: Under::Root,
        ..get(path, handler)
    }
}

fn delete(path: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::DELETE,
        ..get(path, handler)
    }
}

fn post(path: &'static str, body: BodyRule, handler: Handler) -> Route {
    Route {
        method: Method::POST,
        body,
        ..get(path, handler)
    }
}

/// Everything that is served.
pub(crate) fn table() -> Vec<Route> {
    let json = BodyRule::Json(BODY_BYTES_MAX);
    let batch = BodyRule::Json(BATCH_BYTES_MAX);
    let order = BodyRule::OptionalJson(BODY_BYTES_MAX);
    vec![
        post("/votes", json, handler!(votes::cast)),
        post("/votes/batch", batch, handler!(votes::cast_batch)),
        get("/votes/{id}", handler!(votes::read)),
        post("/proposals", json, handler!(proposals::submit)),
        get("/proposals", handler!(proposals::list)),
        get("/proposals/{id}", handler!(proposals::read)),
        get("/proposals/{id}/document", handler!(proposals::document)),
        get("/proposals/{id}/ballot", handler!(proposals::ballot)),
        get("/proposals/{id}/votes", handler!(votes::of_proposal)),
        get("/proposals/{id}/results", handler!(results::of_proposal)),
        get(
            "/proposals/{id}/certificate",
            handler!(certified::certificate),
        ),
        get("/proposals/{id}/bundle", handler!(certified::bundle)),
        post("/proposals/{id}/open", order, handler!(steps::open)),
        post("/proposals/{id}/review", order, handler!(steps::review)),
        post("/proposals/{id}/cancel", order, handler!(steps::cancel)),
        post("/proposals/{id}/tally", order, handler!(steps::tally)),
        post("/proposals/{id}/execute", order, handler!(steps::execute)),
        get("/decisions", handler!(results::decisions)),
        post("/agents", json, handler!(agents::register)),
        get("/agents", handler!(agents::list)),
        post("/agents/batch", batch, handler!(agents::register_batch)),
        get("/agents/{id}", handler!(agents::read)),
        delete("/agents/{id}", handler!(agents::remove)),
        get("/agents/{id}/votes", handler!(votes::of_agent)),
        post("/agents/{id}/keys", json, handler!(agents::replace_key)),
        post("/agents/{id}/reports", json, handler!(agents::report)),
        post("/tokens", json, handler!(tokens::issue)),
        delete("/tokens/{id}", handler!(tokens::revoke)),
        get("/audit", handler!(audit::list)),
        get_all("/audit/verify", handler!(audit::verify)),
        get("/audit/export", handler!(audit::export)),
        get("/audit/proof", handler!(audit::proof)),
        get("/audit/consistency", handler!(audit::consistency)),
        get("/committee", handler!(committee::read)),
        get("/committee/evidence", handler!(committee::evidence)),
        get("/checkpoint", handler!(committee::checkpoint)),
        get("/status", handler!(node::status)),
        get("/genesis", handler!(node::genesis)),
        post(
            "/cluster/transfer-leader",
            json,
            handler!(cluster::transfer_leader),
        ),
        post("/cluster/learners", json, handler!(cluster::add_learner)),
        post("/cluster/members", json, handler!(cluster::promote)),
        delete("/cluster/members/{id}", handler!(cluster::remove)),
        get_all("/cluster/snapshot", handler!(cluster::snapshot)),
        root("/health", handler!(node::whole)),
        root("/livez", handler!(node::livez)),
        root("/readyz", handler!(node::readyz)),
        root("/metrics", handler!(node::metrics)),
        root("/openapi.json", handler!(node::openapi)),
        root("/docs", handler!(node::docs)),
        root("/docs/", handler!(node::docs_index)),
        root("/docs/{file}", handler!(node::docs_file)),
    ]
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Aegis",
        description = "A decision ledger that nobody can quietly rewrite, skew or lose.\n\n\
            Every answer carries `aegis-index`, the log index that it reflects, and every \
            error is a problem (RFC 9457) with a stable `code`. The exception is a request \
            whose head cannot be read. Over HTTP/1, one that does not parse is answered by an \
            empty `400 Bad Request`, one with more bytes than the node allows (16 KiB unless \
            set) or more than 64 headers by an empty `431 Request Header Fields Too Large`, \
            and the connection closes. Over HTTP/2, a head with more bytes is answered by an \
            empty `431`, and what breaks the protocol is reset.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    nest((path = "/api/v1/consensus", api = Base)),
    paths(
        node::whole,
        node::livez,
        node::readyz,
        node::metrics,
        node::openapi,
        node::docs,
        node::docs_index,
        node::docs_file,
    ),
    tags(
        (name = "proposals", description = "What is decided"),
        (name = "votes", description = "Signed ballots"),
        (name = "results", description = "What was decided"),
        (name = "agents", description = "Who decides"),
        (name = "committee", description = "Who certifies decisions"),
        (name = "audit", description = "What happened, unalterably"),
        (name = "cluster", description = "The nodes"),
        (name = "health", description = "The process, and this document"),
    ),
    modifiers(&BearerToken),
)]
struct Document;

#[derive(OpenApi)]
#[openapi(paths(
    votes::cast,
    votes::cast_batch,
    votes::read,
    proposals::submit,
    proposals::list,
    proposals::read,
    proposals::document,
    proposals::ballot,
    votes::of_proposal,
    results::of_proposal,
    certified::certificate,
    certified::bundle,
    steps::open,
    steps::review,
    steps::cancel,
    steps::tally,
    steps::execute,
    results::decisions,
    agents::register,
    agents::list,
    agents::register_batch,
    agents::read,
    agents::remove,
    votes::of_agent,
    agents::replace_key,
    agents::report,
    tokens::issue,
    tokens::revoke,
    audit::list,
    audit::verify,
    audit::export,
    audit::proof,
    audit::consistency,
    committee::read,
    committee::evidence,
    committee::checkpoint,
    node::status,
    node::genesis,
    cluster::transfer_leader,
    cluster::add_learner,
    cluster::promote,
    cluster::remove,
    cluster::snapshot,
))]
struct Base;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "The administrator's token, or an agent's that the administrator issued.",
            ))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document that describes [`table`].
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::server::router::BASES;

    #[test]
    fn what_is_served_is_documented_and_the_reverse() {
        let served: BTreeSet<(String, String)> = table()
            .into_iter()
            .map(|route| {
                let base = match route.under {
                    Under::Base => BASES[0],
                    Under::Root => "",
                };
                let method = route.method.as_str().to_lowercase();
                (format!("{base}{}", route.path), method)
            })
            .collect();
        let document = serde_json::to_value(openapi()).unwrap();
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(|method| (path.clone(), method.clone()))
            })
            .collect();
        assert_eq!(served, documented);
    }

    /// Every reference leads somewhere, so that a client can be generated.
    #[test]
    fn the_document_is_whole() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut references = Vec::new();
        fn collect(value: &serde_json::Value, references: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(members) => {
                    if let Some(reference) = members.get("$ref").and_then(|r| r.as_str()) {
                        references.push(reference.to_owned());
                    }
                    members
                        .values()
                        .for_each(|value| collect(value, references));
                }
                serde_json::Value::Array(items) => {
                    items.iter().for_each(|value| collect(value, references));
                }
                _ => {}
            }
        }
        collect(&document, &mut references);
        assert!(references.len() > 30, "{}", references.len());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
