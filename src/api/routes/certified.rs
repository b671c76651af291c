//! What proves a decision: its certificate, and all that it was made from.

use std::sync::Arc;

use aegis_ledger::query::ProposalView;
use aegis_ledger::{Archive, Closed, Ordinal, ProposalNo, Refusal, query};
use http::header::{ACCEPT, VARY};
use http::{HeaderMap, HeaderValue};

use super::bundle::{self, Wanted};
use crate::dto::bundle::Bundle;
use crate::problem::{NO_COMMITTEE, Problem, ProblemBody};
use crate::server::call::{Call, off_thread};
use crate::server::reply::{Outcome, Reply};

/// The media type of DSSE envelopes.
const DSSE: &str = "application/vnd.dsse.envelope.v1+json";

/// The certificate of a decision
///
/// The exact DSSE envelope that was recorded first for the proposal's last closing. Whoever
/// asks for `application/vnd.dsse.envelope.v1+json` is answered with that content type.
#[utoipa::path(
    get,
    path = "/proposals/{id}/certificate",
    tag = "results",
    params(("id" = String, Path, description = "The proposal", example = "prop_12345"), super::Consistent),
    responses(
        (
            status = 200, description = "The envelope", body = Object,
            example = json!({
                "payload": "eyJlcG9jaCI6IjAiLCJzZXF1ZW5jZSI6IjE3Iiwic3RhdGVtZW50Ijp7fSwidmlldyI6IjAifQ==",
                "payloadType": "application/vnd.aegis.decision.v1+json",
                "signatures": [
                    {"keyid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "sig": "<base64 of 64 bytes>"},
                    {"keyid": "0eYf7l5XzPO1F0aWlJpZJzZmW6oHCGiZJp0uYvMZ0kE", "sig": "<base64 of 64 bytes>"},
                    {"keyid": "x5S1m0Wb2XxVn9o3k9jUO3pLrU2hU3Q1b2l6cG5xY2s", "sig": "<base64 of 64 bytes>"},
                ],
            }),
        ),
        (status = 404, description = "`not_certified`: there is no certificate yet, or no committee; `unknown_proposal`", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn certificate(call: &Call) -> Outcome {
    let no = call.proposal()?;
    let view = call.read(call.query()?.finish()?).await?;
    let index = view.index;
    let (_, envelope) = certified(call, &*view.archive, no)?;
    let content_type = if asks_for(&call.head.headers, DSSE) {
        DSSE
    } else {
        "application/json"
    };
    Ok(Reply::bytes(content_type, envelope)
        .header(VARY, HeaderValue::from_static("accept"))
        .at(index))
}

/// Whether a media type is among those that a client takes by name.
fn asks_for(headers: &HeaderMap, media_type: &str) -> bool {
    headers.get_all(ACCEPT).iter().any(|value| {
        let ranges = value.to_str().unwrap_or_default().split(',');
        ranges
            .map(|range| range.split(';').next().unwrap_or(range).trim())
            .any(|range| range.eq_ignore_ascii_case(media_type))
    })
}

/// The last closing of a proposal and its certificate, or why there is none.
fn certified(
    call: &Call,
    archive: &dyn Archive,
    no: ProposalNo,
) -> Result<(Closed, String), Problem> {
    let found = query::proposal(archive, no)?;
    let ProposalView { record, .. } = found.ok_or_else(|| Refusal::UnknownProposal {
        proposal: no.to_string(),
    })?;
    if call.edge.governance.genesis().committee().is_none() {
        return Err(Problem::not_certified(NO_COMMITTEE));
    }
    let Some(closed) = record.closed else {
        let status = record.status.as_str();
        return Err(Problem::not_certified(format!(
            "{no} is in {status}; the committee certifies a proposal once it has closed"
        )));
    };
    match query::certificate(archive, closed.ordinal)? {
        Some(envelope) => Ok((closed, envelope)),
        None => Err(waits(no, closed.ordinal)),
    }
}

fn waits(no: ProposalNo, ordinal: Ordinal) -> Problem {
    Problem::not_certified(format!(
        "the committee has not certified the outcome of {no} yet, which is closing {ordinal}; \
         ask again in a moment, or wait for `consensus_reached` on the event stream. GET \
         /committee shows how far the validators are"
    ))
}

/// Everything that a decision was made from
///
/// One document from which anyone recomputes the decision offline: genesis, certificates,
/// terms, electorate, ballots, evidence, and the closing's place in the transparency log. The
/// exact statements stand in it as strings, and every number as a string in decimal. It comes
/// piece by piece; one that is cut short is no JSON.
#[utoipa::path(
    get,
    path = "/proposals/{id}/bundle",
    tag = "results",
    params(
        ("id" = String, Path, description = "The proposal", example = "prop_12345"),
        ("justifications" = Option<bool>, Query, description = "Adds the texts of the voters' justifications, as far as they were not erased"),
        super::Consistent,
    ),
    responses(
        (
            status = 200, description = "The bundle", body = Bundle,
            example = json!({
                "version": "1",
                "genesis": "{\"version\":1,\"name\":\"production\", ...}",
                "certificate": "{\"payload\":\"eyJlcG9jaCI6...\",\"payloadType\":\"application/vnd.aegis.decision.v1+json\", ...}",
                "document": "{\"content\":{\"place\":\"Lisbon\"},\"description\":\"In spring.\",\"title\":\"Where to meet\",\"type\":\"decision\"}",
                "audit_entry": {
                    "seq": "41", "index": "40", "time_ms": "1780000000000", "principal": "system",
                    "kind": "closing", "payload": "<hex>", "outcome": "approved",
                    "previous": "<hex>", "hash": "<hex>",
                },
                "checkpoint": {"note": "aegis/<cluster id>\n64\n...", "proof": ["<hex>"]},
                "terms": {
                    "round": "1", "opened_at_ms": "1779999000000", "deadline_ms": "1780604800000",
                    "method": "simple_majority", "electorate_size": "51",
                    "power_total_ppb": "51000000000", "electorate_root": "<hex>",
                    "voting_digest": "<hex>", "quorum_required": "17", "tally_version": "1",
                    "policy": {
                        "name": "standard", "version": "1", "threshold": "0.501",
                        "method": "simple_majority", "quorum_minimum": "0.333",
                        "quorum_heads_min": "0", "abstain_counts_quorum": true,
                        "abstain_in_threshold": false, "tie": "reject",
                        "voting_period_s": "604800", "awareness_floor_ppb": "0",
                        "early_close": "all_voted", "min_participants": "1",
                        "appeal_window_s": "259200", "implementation_delay_s": "86400",
                        "open_proposals_per_author": "10",
                    },
                },
                "committee_changes": [],
                "electorate": [{"id": "a1", "power_ppb": "1000000000"}],
                "ballots": [{
                    "jws": "<compact JWS>",
                    "key": {
                        "public_key": {"kty": "OKP", "crv": "Ed25519", "x": "<base64url>"},
                        "attestation": "<compact JWS>", "proof": "<compact JWS>",
                    },
                }],
                "evidence": [],
            }),
        ),
        (status = 404, description = "`not_certified`: there is no certificate yet, or no committee; `unknown_proposal`", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn bundle(call: &Call) -> Outcome {
    let no = call.proposal()?;
    let mut parameters = call.query()?;
    let justifications = parameters.flag("justifications")?;
    let view = call.read(parameters.finish()?).await?;
    let index = view.index;
    let (closed, certificate) = certified(call, &*view.archive, no)?;
    let wanted = Wanted {
        proposal: no,
        ordinal: closed.ordinal,
        certificate,
        justifications,
    };
    let edge = Arc::clone(&call.edge);
    let begun = off_thread(&call.edge, view, move |archive| {
        bundle::begin(&edge, archive, wanted)
    });
    let stream = bundle::stream(Arc::clone(&call.edge), begun.await?, index);
    Ok(Reply::stream("application/json", None, stream).at(index))
}
