//! The committee: who certifies, what it stands behind, and who contradicted itself.

use std::sync::Arc;

use aegis_crypto::Digest;
use aegis_ledger::query;

use crate::dto::committee::{CommitteeBody, EvidenceBody, EvidenceList};
use crate::governance::{Consistency, Contradiction};
use crate::problem::{NO_COMMITTEE, Problem, ProblemBody};
use crate::server::call::{Call, off_thread};
use crate::server::page::Part;
use crate::server::query::EvidenceId;
use crate::server::reply::{Outcome, Reply};

/// The committee
///
/// Of the newest epoch that has begun, or of an earlier one. Where the node that answers has a
/// seat, it also says how far its validator is.
#[utoipa::path(
    get,
    path = "/committee",
    tag = "committee",
    params(
        ("epoch" = Option<u64>, Query, description = "An earlier epoch; 0 is that of the genesis document"),
        super::Consistent,
    ),
    responses(
        (
            status = 200, description = "The committee", body = CommitteeBody,
            example = json!({
                "epoch": 0, "since": 1, "n": 4, "tolerates": 1, "quorum": 3,
                "members": [
                    {
                        "seat": 0, "name": "n1",
                        "public_key": {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
                        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "committed": 17,
                    },
                ],
                "seat": 0, "view": 0, "primary": 0, "changing_view": false,
                "watermarks": {"low": 0, "high": 128}, "certified_through": 17,
                "stable_checkpoint": 16,
            }),
        ),
        (status = 404, description = "`no_committee`; `unknown_epoch`: it has not begun", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn read(call: &Call) -> Outcome {
    let mut parameters = call.query()?;
    let epoch = parameters.take_parsed("epoch", "the number of an epoch", |text| {
        text.parse::<u64>().ok()
    })?;
    let view = call.read(parameters.finish()?).await?;
    let governance = &call.edge.governance;
    let (archive, genesis) = (&*view.archive, governance.genesis());
    let newest = query::newest_committee(archive, genesis)?.ok_or_else(Problem::no_committee)?;
    let record = match epoch {
        None => newest,
        Some(epoch) => query::committee(archive, genesis, epoch)?.ok_or_else(|| {
            let detail = format!(
                "epoch {epoch} has not begun; the newest is epoch {}",
                newest.epoch
            );
            Problem::new(http::StatusCode::NOT_FOUND, "unknown_epoch", detail)
        })?,
    };
    let committee = record.committee().map_err(|error| {
        tracing::error!(epoch = record.epoch, %error, "the stored seats make no committee");
        Problem::internal("this node's record of the committee cannot be used")
    })?;
    let standing = governance.seat();
    let body = CommitteeBody::new(record, committee.seats(), standing.as_ref());
    Ok(Reply::json(&body).at(view.index))
}

/// Evidence against validators
///
/// What this node has kept of validators that contradicted themselves, by id. Each piece holds
/// both messages with their signatures, so that anyone can check it.
#[utoipa::path(
    get,
    path = "/committee/evidence",
    tag = "committee",
    params(super::Paged, super::Consistent),
    responses(
        (
            status = 200, description = "A part of it", body = EvidenceList,
            example = json!({
                "evidence": [{
                    "id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "seat": 2, "epoch": 0, "kind": "prepare", "view": 3, "sequence": 17,
                    "first": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
                    "second": "fd61a03af4f77d870fc21e05e7e80678095c92d808cfb3b5c279ee04c74aca13",
                    "encoded": "AAEC",
                }],
                "next_cursor": null,
            }),
        ),
        (status = 404, description = "`no_committee`", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn evidence(call: &Call) -> Outcome {
    let mut parameters = call.query()?;
    let page = parameters.page::<EvidenceId>()?;
    let view = call.read(parameters.finish_or(Consistency::Stale)?).await?;
    let governance = Arc::clone(&call.edge.governance);
    if governance.genesis().committee().is_none() {
        return Err(Problem::no_committee());
    }
    let index = view.index;
    let part = off_thread(&call.edge, view, move |_| {
        let kept = governance.contradictions()?;
        let (kept, next) = part_of(kept, page.after, page.limit);
        Part::render(kept, next, |(id, evidence)| {
            Ok((EvidenceId(id), EvidenceBody::new(id, &evidence)))
        })
    });
    let part = part.await?;
    let list = EvidenceList {
        evidence: part.items,
        next_cursor: part.next_cursor,
    };
    Ok(Reply::json(&list).at(index))
}

/// What follows `after`, by id, and where the next part begins.
fn part_of(
    kept: Vec<Contradiction>,
    after: Option<EvidenceId>,
    limit: usize,
) -> (Vec<(Digest, Contradiction)>, Option<EvidenceId>) {
    let named = kept
        .into_iter()
        .map(|evidence| (Digest::of(&evidence.encoded), evidence));
    let mut rest: Vec<_> = named
        .filter(|(id, _)| after.is_none_or(|EvidenceId(after)| *id > after))
        .collect();
    rest.sort_unstable_by_key(|(id, _)| *id);
    let more = rest.len() > limit;
    rest.truncate(limit);
    let next = rest.last().filter(|_| more).map(|(id, _)| EvidenceId(*id));
    (rest, next)
}

/// The newest checkpoint
///
/// Of the transparency log, as this node's validator knows it, signed by a quorum of the
/// committee: a signed note (C2SP `tlog-checkpoint`), byte for byte.
#[utoipa::path(
    get,
    path = "/checkpoint",
    tag = "committee",
    params(super::Consistent),
    responses(
        (
            status = 200, description = "The checkpoint", body = String, content_type = "text/plain",
            example = "aegis/<cluster id>\n64\n<base64 of the root>\nincarnation 0\nepoch 0\nordinal 16\nchain <hex>\n\n— aegis/<cluster id>/n1 <base64>\n",
        ),
        (status = 404, description = "`no_checkpoint`: there is none yet, or this node has no seat", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn checkpoint(call: &Call) -> Outcome {
    let consistency = call.query()?.finish_or(Consistency::Stale)?;
    let view = call.read(consistency).await?;
    let governance = &call.edge.governance;
    let missing = |detail| Problem::new(http::StatusCode::NOT_FOUND, "no_checkpoint", detail);
    if governance.genesis().committee().is_none() {
        return Err(missing(NO_COMMITTEE));
    }
    let standing = governance.seat().ok_or_else(|| {
        missing(
            "this node has no seat in the committee and keeps no checkpoint; ask a node that has \
             one",
        )
    })?;
    let note = standing.checkpoint.ok_or_else(|| {
        missing(
            "this epoch's committee has signed no checkpoint yet; ask again once some decisions \
             are certified",
        )
    })?;
    Ok(Reply::bytes("text/plain; charset=utf-8", note).at(view.index))
}
