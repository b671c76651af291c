//! The committee as clients see it.

use std::collections::BTreeMap;

use aegis_crypto::{Digest, Jwk, Kid, SeatNo, Seats};
use aegis_ledger::{CommitteeRecord, CoreRecord, Ordinal, SeatName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::checkpoint::Published;
use crate::governance::{Contradiction, SeatStanding};

/// A committee, and where this node's seat in it stands.
///
/// What depends on the seat is null if the node that answers has none, and for any epoch but
/// the one under way.
#[derive(Serialize, ToSchema)]
#[schema(as = Committee)]
pub(crate) struct CommitteeBody {
    /// Its epoch: 0 for the seats that the genesis document names.
    epoch: u64,
    /// The ordinal of the first closing that it certifies.
    since: u64,
    /// How many seats there are.
    n: u8,
    /// f, the seats that may do anything, lie included, without harm: floor((n - 1) / 3).
    tolerates: u8,
    /// How many seats a certificate takes: ceil((n + f + 1) / 2).
    quorum: u8,
    /// What is wrong with the committee's size; absent if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    /// The seats, from seat 0.
    members: Vec<SeatBody>,
    /// The seat of the node that answers.
    seat: Option<u8>,
    /// The view that its validator is in, or asks for.
    view: Option<u64>,
    /// That view's primary.
    primary: Option<u8>,
    /// Whether its validator waits for the view to begin.
    changing_view: Option<bool>,
    /// Between which closings its validator agrees at the moment.
    watermarks: Option<Watermarks>,
    /// Up to which closing every certificate is recorded.
    certified_through: Option<u64>,
    /// The last closing that the newest stable checkpoint covers; null before the first of the
    /// epoch. `GET /checkpoint` has the checkpoint itself.
    stable_checkpoint: Option<u64>,
}

/// A validator's seat.
#[derive(Serialize, ToSchema)]
#[schema(as = Seat)]
pub(crate) struct SeatBody {
    /// Its number, from 0.
    seat: u8,
    /// What people call the validator.
    #[schema(value_type = String)]
    name: SeatName,
    /// The Ed25519 key that it signs with, as a JWK.
    #[schema(value_type = Object)]
    public_key: Jwk,
    /// The key's RFC 7638 thumbprint, by which certificates name it.
    #[schema(value_type = String)]
    kid: Kid,
    /// The newest closing to which it committed, as far as this node's validator knows.
    committed: Option<u64>,
}

/// Above the low and up to the high one closings are agreed on at the same time.
#[derive(Serialize, ToSchema)]
#[schema(as = Watermarks)]
pub(crate) struct Watermarks {
    low: u64,
    high: u64,
}

impl CommitteeBody {
    /// A committee of so many seats, and the node's seat in it.
    pub(crate) fn new(
        record: CommitteeRecord,
        seats: Seats,
        standing: Option<&SeatStanding>,
    ) -> Self {
        let standing = standing.filter(|standing| standing.epoch == record.epoch);
        let committed: BTreeMap<SeatNo, Ordinal> = standing
            .map(|standing| standing.committed.iter().copied().collect())
            .unwrap_or_default();
        let members = seats
            .iter()
            .zip(record.seats)
            .map(|(seat, member)| SeatBody {
                seat: seat.0,
                name: member.name,
                kid: member.public_key.public_key().kid(),
                public_key: member.public_key,
                committed: committed.get(&seat).map(|ordinal| ordinal.0),
            });
        Self {
            epoch: record.epoch,
            since: record.since.0,
            n: seats.count(),
            tolerates: seats.faults_max(),
            quorum: seats.quorum(),
            warning: warning(seats),
            members: members.collect(),
            seat: standing.map(|standing| standing.seat.0),
            view: standing.map(|standing| standing.view),
            primary: standing.map(|standing| standing.primary.0),
            changing_view: standing.map(|standing| standing.changing_view),
            watermarks: standing.map(|standing| Watermarks {
                low: standing.low.0,
                high: standing.high.0,
            }),
            certified_through: standing.map(|standing| standing.certified_through.0),
            stable_checkpoint: standing
                .and_then(Published::newest)
                .map(|published| published.ordinal.0),
        }
    }
}

/// What people should know of a committee that is too small.
fn warning(seats: Seats) -> Option<String> {
    (seats.faults_max() == 0).then(|| {
        format!(
            "one lying validator is not tolerated: that takes 4 seats and the committee has {}; \
             what it certifies holds only while every validator is honest",
            seats.count()
        )
    })
}

/// The committee in a few words.
#[derive(Serialize, ToSchema)]
#[schema(as = CommitteeStatus)]
pub(crate) struct CommitteeStatus {
    /// The newest epoch that has begun.
    epoch: u64,
    /// The view that this node's validator is in, or asks for; null without a seat.
    view: Option<u64>,
    /// That view's primary.
    primary: Option<u8>,
    /// Closings that have their certificate.
    certified: u64,
    /// Closings that wait for theirs.
    uncertified: u64,
}

impl CommitteeStatus {
    pub(crate) fn new(
        record: &CommitteeRecord,
        standing: Option<&SeatStanding>,
        core: &CoreRecord,
    ) -> Self {
        let standing = standing.filter(|standing| standing.epoch == record.epoch);
        Self {
            epoch: record.epoch,
            view: standing.map(|standing| standing.view),
            primary: standing.map(|standing| standing.primary.0),
            certified: core.certified,
            uncertified: core.closings.saturating_sub(core.certified),
        }
    }
}

/// Proof that a validator contradicted itself.
#[derive(Serialize, ToSchema)]
#[schema(as = CommitteeEvidence)]
pub(crate) struct EvidenceBody {
    /// SHA-256 of the encoded evidence.
    #[schema(value_type = String)]
    id: Digest,
    /// Who signed both messages.
    seat: u8,
    /// The epoch whose seat that is; `GET /committee?epoch=` has its key.
    epoch: u64,
    /// What sort of message both are: `pre_prepare`, `prepare`, `commit` or `checkpoint`.
    kind: &'static str,
    /// The view in which they were signed; null for checkpoints, which belong to no view.
    view: Option<u64>,
    /// The ordinal of the closing that they are about.
    sequence: u64,
    /// The digest of what the first message says: of a commit the statement's SHA-256, of a
    /// checkpoint its text's, and else the name of what was proposed, which is the statement's
    /// SHA-256 where nothing is attached.
    #[schema(value_type = String)]
    first: Digest,
    /// The digest of what the second one says instead.
    #[schema(value_type = String)]
    second: Digest,
    /// Both messages with their signatures, as validators encode them, in base64.
    encoded: String,
}

impl EvidenceBody {
    pub(crate) fn new(id: Digest, evidence: &Contradiction) -> Self {
        Self {
            id,
            seat: evidence.seat.0,
            epoch: evidence.epoch,
            kind: evidence.kind,
            view: evidence.view,
            sequence: evidence.sequence.0,
            first: evidence.first,
            second: evidence.second,
            encoded: STANDARD.encode(&evidence.encoded),
        }
    }
}

/// A part of the evidence that a node has kept.
#[derive(Serialize, ToSchema)]
#[schema(as = CommitteeEvidenceList)]
pub(crate) struct EvidenceList {
    /// The evidence, by id.
    #[schema(value_type = Vec<EvidenceBody>)]
    pub(crate) evidence: Vec<Box<RawValue>>,
    /// Where the next part begins, if there is one.
    pub(crate) next_cursor: Option<String>,
}
