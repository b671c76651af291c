//! The audit chain.

use std::io;
use std::sync::Arc;

use aegis_crypto::merkle;
use aegis_ledger::{Archive, ArchiveError, query};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};

use crate::dto::audit::{AuditBody, AuditList, ConsistencyBody, InclusionBody, VerdictBody};
use crate::edge::Edge;
use crate::governance::View;
use crate::problem::{Problem, ProblemBody};
use crate::server::call::{Call, off_thread};
use crate::server::query::{AuditSeq, Query, encode};
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

/// Prove that an entry is in the transparency tree
///
/// Its leaves are the hashes of the audit entries. A checkpoint's root proves the entry once
/// `size` is the checkpoint's.
#[utoipa::path(
    get,
    path = "/audit/proof",
    tag = "audit",
    params(
        ("entry" = u64, Query, description = "The entry's number, below `size`"),
        ("size" = Option<u64>, Query, description = "How many entries the tree has; all that there are if absent"),
        super::Consistent,
    ),
    responses(
        (
            status = 200, description = "The proof", body = InclusionBody,
            example = json!({
                "entry": 1, "size": 3,
                "leaf_hash": "5f53a82f3f6d1fce3ba1bb27ac98be9a2a1f0fa4e1f4ae9aa5d2bde4e5a4ea7b",
                "root": "e20e8a1d6c9f0d3bb51a9ce1ba5d9e0b8ab04b3b46b3b8d4cbcee4f8d4e3a0c1",
                "proof": [
                    "a3c6be0b8c4f7f0f0a3a6f8a1c8f6a3bb9d1c1e2d3c4b5a69788796a5b4c3d2e",
                    "0d1c2b3a49586776859493a2b1c0dfeefdccbbaa998877665544332211009f8e",
                ],
            }),
        ),
        (status = 422, description = "`out_of_range`: there is no such entry or size", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn proof(call: &Call) -> Outcome {
    let mut parameters = call.query()?;
    let entry = required(&mut parameters, "entry", "the number of an entry")?;
    let size = number(&mut parameters, "size", "a number of entries")?;
    let view = call.read(parameters.finish()?).await?;
    let index = view.index;
    let found = off_thread(&call.edge, view, move |archive| {
        let entries = query::core(archive)?.audit_entries;
        let size = size.unwrap_or(entries);
        if size > entries {
            return Ok(Err(beyond("size", size, entries)));
        }
        if entry >= size {
            return Ok(Err(no_entry(entry, size)));
        }
        inclusion(archive, entry, size).map(Ok)
    });
    Ok(Reply::json(&found.await?.map_err(|problem| problem.at(index))?).at(index))
}

fn inclusion(archive: &dyn Archive, entry: u64, size: u64) -> Result<InclusionBody, ArchiveError> {
    let found = query::audit(archive, entry, 1)?.items.into_iter().next();
    let leaf = found.filter(|found| found.seq == entry);
    let leaf = leaf.ok_or_else(|| lacking("entry", entry))?;
    Ok(InclusionBody {
        entry,
        size,
        leaf_hash: merkle::leaf_hash(leaf.hash.as_bytes()),
        root: query::tree_root(archive, size)?.ok_or_else(|| lacking("root of", size))?,
        proof: query::inclusion_proof(archive, entry, size)?
            .ok_or_else(|| lacking("proof of entry", entry))?,
    })
}

/// What the number of entries says should be there.
fn lacking(what: &str, number: u64) -> ArchiveError {
    ArchiveError {
        reason: format!("the audit tree has no {what} {number}"),
    }
}

/// Prove that the transparency tree only grew
///
/// The tree of the first `to` entries begins with that of the first `from`.
#[utoipa::path(
    get,
    path = "/audit/consistency",
    tag = "audit",
    params(
        ("from" = u64, Query, description = "How many entries the older tree has, at most `to`"),
        ("to" = Option<u64>, Query, description = "How many entries the newer tree has; all that there are if absent"),
        super::Consistent,
    ),
    responses(
        (
            status = 200, description = "The proof", body = ConsistencyBody,
            example = json!({
                "from": 2, "to": 3,
                "from_root": "a3c6be0b8c4f7f0f0a3a6f8a1c8f6a3bb9d1c1e2d3c4b5a69788796a5b4c3d2e",
                "to_root": "e20e8a1d6c9f0d3bb51a9ce1ba5d9e0b8ab04b3b46b3b8d4cbcee4f8d4e3a0c1",
                "proof": ["0d1c2b3a49586776859493a2b1c0dfeefdccbbaa998877665544332211009f8e"],
            }),
        ),
        (status = 422, description = "`out_of_range`: there are no such trees", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn consistency(call: &Call) -> Outcome {
    let mut parameters = call.query()?;
    let from = required(&mut parameters, "from", "a number of entries")?;
    let to = number(&mut parameters, "to", "a number of entries")?;
    let view = call.read(parameters.finish()?).await?;
    let index = view.index;
    let found = off_thread(&call.edge, view, move |archive| {
        let entries = query::core(archive)?.audit_entries;
        let to = to.unwrap_or(entries);
        if to > entries {
            return Ok(Err(beyond("to", to, entries)));
        }
        if from > to {
            return Ok(Err(beyond("from", from, to)));
        }
        let root = |size| query::tree_root(archive, size)?.ok_or_else(|| lacking("root of", size));
        let proof = query::consistency_proof(archive, from, to)?;
        Ok(Ok(ConsistencyBody {
            from,
            to,
            from_root: root(from)?,
            to_root: root(to)?,
            proof: proof.ok_or_else(|| lacking("proof from", from))?,
        }))
    });
    Ok(Reply::json(&found.await?.map_err(|problem| problem.at(index))?).at(index))
}

fn number(parameters: &mut Query<'_>, name: &str, expected: &str) -> Result<Option<u64>, Problem> {
    parameters.take_parsed(name, expected, |text| text.parse().ok())
}

fn required(parameters: &mut Query<'_>, name: &str, expected: &str) -> Result<u64, Problem> {
    number(parameters, name, expected)?.ok_or_else(|| {
        let detail = format!("`{name}` is missing; give {expected}");
        Problem::invalid_query(detail)
    })
}

fn beyond(name: &str, asked: u64, max: u64) -> Problem {
    Problem::out_of_range(format!("`{name}` is {asked}, it may be 0 to {max}"))
}

fn no_entry(entry: u64, size: u64) -> Problem {
    Problem::out_of_range(match size.checked_sub(1) {
        Some(last) => {
            format!("`entry` is {entry}, in a tree of {size} entries it may be 0 to {last}")
        }
        None => "a tree of 0 entries has none that could be proved; give a larger `size`, or ask \
                 again once something happened"
            .to_owned(),
    })
}
