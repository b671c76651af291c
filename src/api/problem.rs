//! Errors as clients see them: RFC 9457 problems with a stable code.

use std::borrow::Cow;
use std::time::Duration;

use aegis_crypto::JsonError;
use aegis_ledger::{ArchiveError, LogIndex, Refusal, RefusalKind};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::governance::{ChangeError, ReadError, SnapshotError, SubmitError};
use crate::metrics::REFUSALS;

/// What every problem's `type` begins with; its code follows.
const TYPE_PREFIX: &str = "urn:aegis:problem:";

/// What a cluster without a committee answers where one is asked for.
pub(crate) const NO_COMMITTEE: &str = "this cluster has no committee, so nothing is certified; \
    the genesis document names the first seats, and a cluster that began without cannot add any";

/// Why a request was not answered as asked.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    index: Option<LogIndex>,
}

/// The body of a problem (RFC 9457, section 3).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// Identifies the kind of problem: `urn:aegis:problem:<code>`.
    r#type: String,
    /// The kind of problem, for people.
    #[schema(value_type = String)]
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened and what to do.
    detail: &'a str,
    /// The kind of problem, for programs; it never changes.
    code: &'a str,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            header: None,
            index: None,
        }
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// The problem goes away by itself: `Retry-After` says when to look, in whole seconds.
    pub(crate) fn retry_after(self, after: Duration) -> Self {
        let whole = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.with_header(RETRY_AFTER, HeaderValue::from(whole.max(1)))
    }

    /// The log index that the problem reflects.
    pub(crate) const fn at(mut self, index: LogIndex) -> Self {
        self.index = Some(index);
        self
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) const fn index(&self) -> Option<LogIndex> {
        self.index
    }

    pub(crate) fn header(&self) -> Option<&(HeaderName, HeaderValue)> {
        self.header.as_deref()
    }

    /// Counts the problem; every problem that a client sees is counted once.
    pub(crate) fn count(&self) {
        REFUSALS.with([("code", self.code)]).increment(1);
    }

    /// The body.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let body = ProblemBody {
            r#type: format!("{TYPE_PREFIX}{}", self.code),
            title: title(self.code),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        serde_json::to_vec(&body).expect("strings and numbers are JSON")
    }

    pub(crate) fn invalid_query(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", detail)
    }

    pub(crate) fn invalid_header(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_header", detail)
    }

    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// Axum adds the `Allow` header where it routes.
    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this route takes other methods; the Allow header names them";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    pub(crate) fn unauthenticated(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail).challenging()
    }

    pub(crate) fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(crate) fn too_large(max: usize) -> Self {
        let detail = format!("the body is longer than the {max} bytes that this route takes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    pub(crate) fn invalid_field(field: &str, reason: impl Into<String>) -> Self {
        Self::from(Refusal::InvalidField {
            field: field.to_owned(),
            reason: reason.into(),
        })
    }

    pub(crate) fn internal(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// A receipt of another kind than the command's: the node behind the edge is broken.
    pub(crate) fn wrong_receipt() -> Self {
        tracing::error!("the ledger answered with the receipt of another command");
        Self::internal("the ledger answered something else; the write may have happened")
    }

    /// Work on another thread ended without a result.
    pub(crate) fn lost_thread(error: tokio::task::JoinError) -> Self {
        tracing::error!(%error, "work on another thread ended without a result");
        Self::internal("this node failed to answer; its log says why")
    }

    /// There is no certificate where one was asked for; a step that needs one is refused by
    /// the ledger under the same code.
    pub(crate) fn not_certified(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_certified", detail)
    }

    pub(crate) fn no_committee() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_committee", NO_COMMITTEE)
    }

    pub(crate) fn out_of_range(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_range", detail)
    }

    fn unavailable(code: &'static str, detail: &'static str, after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(after)
    }

    pub(crate) fn stopping() -> Self {
        let detail = "this node is stopping; send the request to another one";
        Self::unavailable("stopping", detail, Duration::from_secs(1))
    }

    pub(crate) fn too_many_connections() -> Self {
        let detail = "this listener has its most connections already; reuse one, or try again \
                      after a pause";
        Self::unavailable("too_many_connections", detail, Duration::from_secs(1))
    }

    pub(crate) fn busy(detail: &'static str, after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", detail).retry_after(after)
    }

    /// RFC 9110, section 11.6.1: every 401 says how to authenticate.
    fn challenging(self) -> Self {
        self.with_header(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"aegis\""),
        )
    }
}

/// `already_voted` reads `Already voted`.
fn title(code: &str) -> String {
    let mut title = code.replace('_', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind() {
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Unauthenticated => StatusCode::UNAUTHORIZED,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let problem = Self::new(status, refusal.code(), refusal.to_string());
        if status == StatusCode::UNAUTHORIZED {
            problem.challenging()
        } else {
            problem
        }
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_json", error.to_string())
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Busy { retry_after } => Self::busy(
                "too many writes are waiting; send this one again after a pause",
                retry_after,
            ),
            SubmitError::NoLeader { retry_after } => Self::unavailable(
                "no_leader",
                "no leader took the write, and nothing was written; send it again",
                retry_after,
            ),
            SubmitError::Unknown => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "outcome_unknown",
                "the write may or may not have happened; send the same signed bytes or the \
                 same Idempotency-Key again to learn which, without doing it twice",
            ),
            SubmitError::LowSpace { .. } => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "low_space",
                format!("{error}; nothing was written, reads go on, and writes resume when there is space"),
            )
            .retry_after(LOW_SPACE_RETRY),
            SubmitError::Stopping => Self::stopping(),
        }
    }
}

/// Space returns when an operator makes some.
const LOW_SPACE_RETRY: Duration = Duration::from_secs(30);

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Busy { retry_after } => Self::busy(
                "too many reads are waiting; send this one again after a pause, or read what \
                 this node has with ?consistency=stale",
                retry_after,
            ),
            ReadError::NoLeader { retry_after } => Self::unavailable(
                "no_leader",
                "no leader confirmed the read; send it again, or read what this node has with \
                 ?consistency=stale",
                retry_after,
            ),
            ReadError::Failed { .. } => {
                tracing::error!(%error, "read failed");
                Self::internal("this node cannot read its tables; ask another one")
            }
            ReadError::Stopping => Self::stopping(),
        }
    }
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        let ArchiveError { reason } = error;
        Self::from(ReadError::Failed { reason })
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, error.to_string());
        match &error {
            ChangeError::UnknownMember { .. } => {
                Self::new(StatusCode::NOT_FOUND, "unknown_member", error.to_string())
            }
            ChangeError::AlreadyMember { .. } => conflict("already_member"),
            ChangeError::WrongRole { .. } => conflict("wrong_role"),
            ChangeError::LastVoter { .. } => conflict("last_voter"),
            ChangeError::Lagging { .. } => conflict("lagging").retry_after(CHANGE_RETRY),
            ChangeError::Unreachable { .. } => conflict("unreachable"),
            ChangeError::InProgress => conflict("change_in_progress").retry_after(CHANGE_RETRY),
            ChangeError::Invalid { reason } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_member",
                reason.clone(),
            ),
            ChangeError::NoLeader { retry_after } => Self::unavailable(
                "no_leader",
                "no leader took the change, and nothing changed; send it again",
                *retry_after,
            ),
            ChangeError::TimedOut { .. } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "change_timed_out",
                format!("{error}; it may still happen, GET /status shows it"),
            ),
            ChangeError::Stopping => Self::stopping(),
            ChangeError::Failed { .. } => {
                tracing::error!(%error, "change of the cluster failed");
                Self::internal(error.to_string())
            }
        }
    }
}

/// A lagging member catches up, and a change ends, within seconds.
const CHANGE_RETRY: Duration = Duration::from_secs(1);

impl From<SnapshotError> for Problem {
    fn from(error: SnapshotError) -> Self {
        match &error {
            SnapshotError::Busy { retry_after } => Self::busy(
                "another snapshot is being made; ask again after a pause",
                *retry_after,
            ),
            SnapshotError::Stopping => Self::stopping(),
            SnapshotError::Failed { .. } => {
                tracing::error!(%error, "snapshot failed");
                Self::internal(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_what_rfc_9457_says() {
        let refusal = Refusal::UnknownProposal {
            proposal: "prop_9".to_owned(),
        };
        let body: serde_json::Value =
            serde_json::from_slice(&Problem::from(refusal).to_json()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:aegis:problem:unknown_proposal",
                "title": "Unknown proposal",
                "status": 404,
                "detail": "there is no proposal prop_9",
                "code": "unknown_proposal",
            })
        );
    }

    #[test]
    fn a_pause_is_at_least_a_second_and_rounded_up() {
        for (ms, header) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2")] {
            let problem = Problem::busy("", Duration::from_millis(ms));
            assert_eq!(problem.header().unwrap().1, header, "{ms}");
        }
    }

    #[test]
    fn who_is_not_authenticated_learns_how() {
        for problem in [
            Problem::unauthenticated(""),
            Problem::from(Refusal::BadSignature {
                reason: String::new(),
            }),
        ] {
            assert_eq!(problem.header().unwrap().0, WWW_AUTHENTICATE);
        }
    }
}
