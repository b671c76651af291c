//! What a handler sees of a request.

use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use aegis_crypto::{Digest, Hasher, JsonLimits, from_slice_strict};
use aegis_ledger::{
    AgentId, Archive, ArchiveError, Command, Entry, LogIndex, Principal, ProposalNo, Receipt,
    Refusal, RequestKey, TokenNo, VoteId,
};
use bytes::Bytes;
use http::request::Parts;
use serde::Deserialize;

use super::query::Query;
use super::router::BATCH_BYTES_MAX;
use crate::edge::Edge;
use crate::governance::{Consistency, NodeId, View};
use crate::problem::Problem;

/// The deepest nesting of a body.
pub(crate) const JSON_DEPTH_MAX: u8 = 16;
/// The longest `Idempotency-Key`.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// A request whose head and body were read.
pub(crate) struct Call {
    pub(crate) edge: Arc<Edge>,
    pub(crate) head: Parts,
    /// What stands in the place of the path's parameter.
    param: Option<String>,
    /// The operation's path, by which a request is named whatever its base.
    path: &'static str,
    body: Bytes,
    principal: OnceLock<Principal>,
}

impl Call {
    pub(crate) fn new(
        edge: Arc<Edge>,
        head: Parts,
        path: &'static str,
        param: Option<String>,
        body: Bytes,
    ) -> Self {
        Self {
            edge,
            head,
            param,
            path,
            body,
            principal: OnceLock::new(),
        }
    }

    /// Says on whose behalf the request is, for the log; the first word stands.
    pub(crate) fn note(&self, principal: &Principal) {
        self.principal.get_or_init(|| principal.clone());
    }

    pub(crate) fn noted(&self) -> Option<&Principal> {
        self.principal.get()
    }

    /// The body, whose bound was kept while it was read.
    pub(crate) const fn body(&self) -> &Bytes {
        &self.body
    }

    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Problem> {
        parse_json(&self.body)
    }

    pub(crate) fn query(&self) -> Result<Query<'_>, Problem> {
        Query::parse(self.head.uri.query())
    }

    /// The path's parameter as it came.
    pub(crate) fn param(&self) -> &str {
        self.param.as_deref().unwrap_or_default()
    }

    fn parsed<T: FromStr>(&self, unknown: impl FnOnce(String) -> Problem) -> Result<T, Problem> {
        let shown = || self.param().chars().take(80).collect();
        self.param().parse().map_err(|_| unknown(shown()))
    }

    pub(crate) fn proposal(&self) -> Result<ProposalNo, Problem> {
        self.parsed(|proposal| Refusal::UnknownProposal { proposal }.into())
    }

    pub(crate) fn agent(&self) -> Result<AgentId, Problem> {
        self.parsed(|agent| Refusal::UnknownAgent { agent }.into())
    }

    pub(crate) fn vote(&self) -> Result<VoteId, Problem> {
        self.parsed(|vote| unknown_vote(&vote))
    }

    pub(crate) fn token(&self) -> Result<TokenNo, Problem> {
        self.parsed(|token| {
            let detail = format!("there is no token {token}");
            Problem::new(http::StatusCode::NOT_FOUND, "unknown_token", detail)
        })
    }

    pub(crate) fn node(&self) -> Result<NodeId, Problem> {
        self.parsed(|node| {
            let detail = format!("there is no member {node}");
            Problem::new(http::StatusCode::NOT_FOUND, "unknown_member", detail)
        })
    }

    /// A view for a read, for whoever may read.
    pub(crate) async fn read(&self, consistency: Consistency) -> Result<View, Problem> {
        let view = self.edge.governance.view(consistency).await?;
        self.edge.check_may_read(self, &view)?;
        Ok(view)
    }

    /// Puts a command into the log and gives its receipt.
    pub(crate) async fn submit(
        &self,
        principal: Principal,
        request: Option<RequestKey>,
        command: Command,
    ) -> Result<(LogIndex, Receipt), Problem> {
        self.note(&principal);
        let entry = Entry {
            principal,
            request,
            command,
        };
        let answer = self.edge.governance.submit(entry).await?;
        match answer.outcome {
            Ok(receipt) => Ok((answer.index, receipt)),
            Err(refusal) => Err(Problem::from(refusal).at(answer.index)),
        }
    }

    /// Names the request by its `Idempotency-Key`, or by a name that is drawn here, so that
    /// the node itself may repeat it.
    pub(crate) fn request_key(&self) -> Result<RequestKey, Problem> {
        let key = match self.idempotency_key()? {
            Some(key) => format!("key:{key}"),
            None => self.edge.fresh_request_key(),
        };
        Ok(RequestKey {
            key,
            body: self.body_digest(),
        })
    }

    /// Names the request by the `jti` of the statement that it carries, so that whoever
    /// repeats the statement repeats the request.
    pub(crate) fn signed_request_key(&self, jti: &str) -> Result<RequestKey, Problem> {
        match self.idempotency_key()? {
            Some(key) if key != jti => Err(Problem::invalid_header(
                "a signed request is named by its jti: leave Idempotency-Key out, or make it \
                 equal",
            )),
            _ => Ok(RequestKey {
                key: format!("jti:{jti}"),
                body: self.body_digest(),
            }),
        }
    }

    /// A name for a request whose answer cannot be told again; a client that asks for that
    /// learns so before anything happens.
    pub(crate) fn unrepeatable_request_key(&self) -> Result<RequestKey, Problem> {
        match self.idempotency_key()? {
            Some(_) => Err(Problem::invalid_header(
                "this answer is given once and cannot be repeated: leave Idempotency-Key out",
            )),
            None => Ok(self.own_request_key()),
        }
    }

    /// A name for a request that only the node itself repeats.
    pub(crate) fn own_request_key(&self) -> RequestKey {
        RequestKey {
            key: self.edge.fresh_request_key(),
            body: self.body_digest(),
        }
    }

    fn idempotency_key(&self) -> Result<Option<&str>, Problem> {
        let Some(value) = self.head.headers.get("idempotency-key") else {
            return Ok(None);
        };
        let text = value.to_str().unwrap_or_default();
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()) {
            return Ok(Some(text));
        }
        let detail = format!(
            "Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"
        );
        Err(Problem::invalid_header(detail))
    }

    /// The digest of what is asked: the operation, the thing and the body.
    fn body_digest(&self) -> Digest {
        Hasher::tagged("aegis/request/1")
            .bytes(self.head.method.as_str().as_bytes())
            .bytes(self.path.as_bytes())
            .bytes(self.param().as_bytes())
            .bytes(&self.body)
            .finish()
    }
}

/// Reads a body, whose length was bounded while it came.
pub(crate) fn parse_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let limits = JsonLimits {
        depth: JSON_DEPTH_MAX,
        bytes: BATCH_BYTES_MAX,
    };
    Ok(from_slice_strict(body, limits)?)
}

pub(crate) fn unknown_vote(vote: &str) -> Problem {
    let detail = format!("there is no vote {vote}");
    Problem::new(http::StatusCode::NOT_FOUND, "unknown_vote", detail)
}

/// Runs a read of many rows on the pool for blocking work.
pub(crate) async fn off_thread<T: Send + 'static>(
    edge: &Edge,
    view: View,
    read: impl FnOnce(&dyn Archive) -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, Problem> {
    let permit = edge.scans.clone().acquire_owned().await;
    let done = tokio::task::spawn_blocking(move || {
        let done = read(&*view.archive);
        drop(permit);
        done
    });
    Ok(done.await.map_err(Problem::lost_thread)??)
}
