//! The audit chain.

use std::io;
use std::sync::Arc;

use aegis_ledger::{Archive, query};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};

use crate::dto::audit::{AuditBody, AuditList, VerdictBody};
use crate::edge::Edge;
use crate::governance::View;
use crate::problem::{Problem, ProblemBody};
use crate::server::call::{Call, off_thread};
use crate::server::query::{AuditSeq, encode};
use crate::server::reply::{Outcome, Reply};

/// Entries that an export reads at a time.
const EXPORT_PAGE: usize = 1_000;
/// When to ask again while another verification runs.
const VERIFICATION_RETRY: std::time::Duration = std::time::Duration::from_secs(2);

/// The audit chain
///
/// In order, from `from` or after `cursor`.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "audit",
    params(
        ("from" = Option<u64>, Query, description = "The number of the first entry; not together with `cursor`"),
        super::Paged,
        super::Consistent,
    ),
    responses(
        (status = 200, description = "A part of the chain", body = AuditList),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(call: &Call) -> Outcome {
    let mut parameters = call.query()?;
    let from = parameters.take_parsed("from", "the number of an entry", |text| {
        text.parse::<u64>().ok()
    })?;
    let page = parameters.page::<AuditSeq>()?;
    let first = match (from, page.after) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid_query(
                "give either `from` or `cursor`, not both",
            ));
        }
        (Some(from), None) => from,
        (None, Some(AuditSeq(after))) => after.saturating_add(1),
        (None, None) => 0,
    };
    let view = call.read(parameters.finish()?).await?;
    let index = view.index;
    let found = off_thread(&call.edge, view, move |archive| {
        query::audit(archive, first, page.limit)
    });
    let found = found.await?;
    let list = AuditList {
        entries: found.items.into_iter().map(AuditBody::from).collect(),
        next_cursor: found.next.map(|seq| encode(&AuditSeq(seq))),
    };
    Ok(Reply::json(&list).at(index))
}

/// Verify the audit chain
///
/// Walks it from its first entry; one walk at a time.
#[utoipa::path(
    get,
    path = "/audit/verify",
    tag = "audit",
    params(super::Consistent),
    responses(
        (status = 200, description = "The verdict", body = VerdictBody),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn verify(call: &Call) -> Outcome {
    let view = call.read(call.query()?.finish()?).await?;
    let index = view.index;
    let turn = Arc::clone(&call.edge.verifications)
        .try_acquire_owned()
        .map_err(|_| {
            Problem::busy(
                "another verification runs; ask again after a pause",
                VERIFICATION_RETRY,
            )
        })?;
    // The walk goes on if the client leaves, and keeps its turn until it ends.
    let verdict = off_thread(&call.edge, view, move |archive| {
        let verdict = query::verify_audit(archive);
        drop(turn);
        verdict
    });
    Ok(Reply::json(&VerdictBody::from(verdict.await?)).at(index))
}

/// Export the audit chain
///
/// All of it, one JSON object a line. By the administrator.
#[utoipa::path(
    get,
    path = "/audit/export",
    tag = "audit",
    params(super::Consistent),
    responses(
        (status = 200, description = "The chain", body = AuditBody, content_type = "application/x-ndjson"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub(crate) async fn export(call: &Call) -> Outcome {
    call.edge.require_administrator(call).await?;
    let consistency = call.query()?.finish()?;
    let view = call.edge.governance.view(consistency).await?;
    let index = view.index;
    let stream = export_stream(Arc::clone(&call.edge), view);
    Ok(Reply::stream("application/x-ndjson", None, stream).at(index))
}

/// Where an export stands: the same view from beginning to end.
struct Export {
    edge: Arc<Edge>,
    archive: Arc<dyn Archive>,
    next: u64,
}

/// Reads the next page when the client has taken the last, so that an export takes one
/// page of memory whatever its length.
fn export_stream(edge: Arc<Edge>, view: View) -> BoxStream<'static, io::Result<Bytes>> {
    let begin = Export {
        edge,
        archive: Arc::from(view.archive),
        next: 0,
    };
    stream::try_unfold(Some(begin), |state| async move {
        let Some(export) = state else {
            return Ok(None);
        };
        let (archive, from) = (Arc::clone(&export.archive), export.next);
        let turn = Arc::clone(&export.edge.scans).acquire_owned().await;
        let page = tokio::task::spawn_blocking(move || {
            let page = query::audit(&*archive, from, EXPORT_PAGE);
            drop(turn);
            page
        });
        let page = page.await?.map_err(|error| {
            tracing::error!(%error, "export failed");
            io::Error::other(error)
        })?;
        let next = page.next.map(|last| Export {
            next: last.saturating_add(1),
            ..export
        });
        let mut lines = Vec::new();
        for entry in page.items {
            serde_json::to_writer(&mut lines, &AuditBody::from(entry))?;
            lines.push(b'\n');
        }
        Ok(Some((Bytes::from(lines), next)))
    })
    .boxed()
}
