//! A bundle on its way out, piece by piece.
//!
//! All that is in a bundle was fixed when its certificate was recorded, but for texts that
//! were erased since. So its arrays need no view of their own: every piece is read from what
//! the tables show at that moment. A bundle takes the memory of one piece whatever its
//! length, and a client that reads slowly keeps no old state of the tables alive.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use aegis_crypto::Kid;
use aegis_ledger::{
    AgentId, Archive, ArchiveError, CheckedBallot, Epoch, EvidenceRecord, LogIndex, Order, Ordinal,
    ProposalNo, Record as _, Table, key, query,
};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use serde::Serialize;

use super::proposals::stored_document;
use crate::checkpoint::Published;
use crate::dto::bundle::{
    Bundle, BundleBallot, BundleCheckpoint, BundleElector, BundleEvidence, BundleKey, BundleTerms,
    EvidenceKind, VERSION,
};
use crate::edge::Edge;
use crate::governance::Consistency;
use crate::problem::Problem;
use crate::server::call::off_thread;

/// A piece ends with the item that brings it to so many bytes.
///
/// Every client that reads slowly leaves one piece in memory, so they are small. Larger ones
/// would save little: only the electorate is read as a whole for each.
const PIECE_BYTES: usize = 128 << 10;
/// Ballots that are read at a time.
const BALLOTS_READ: usize = 128;
/// Pieces of evidence that are read at a time.
const EVIDENCE_READ: usize = 64;

/// The arrays of a bundle, its last members, while they are empty.
const EMPTY_ARRAYS: &str = r#""committee_changes":[],"electorate":[],"ballots":[],"evidence":[]}"#;

/// Which bundle is wanted.
pub(super) struct Wanted {
    pub(super) proposal: ProposalNo,
    /// The proposal's last closing.
    pub(super) ordinal: Ordinal,
    /// Its certificate.
    pub(super) certificate: String,
    pub(super) justifications: bool,
}

/// A bundle of which everything but the arrays is written.
pub(super) struct Begun {
    head: String,
    arrays: Arrays,
}

/// Writes everything but the arrays, which fits into memory many times.
pub(super) fn begin(
    edge: &Edge,
    archive: &dyn Archive,
    wanted: Wanted,
) -> Result<Begun, ArchiveError> {
    let Wanted {
        proposal: no,
        ordinal,
        certificate,
        justifications,
    } = wanted;
    let lacks = |what: &str| ArchiveError {
        reason: format!("{no} is certified but has no {what}"),
    };
    let genesis = edge.governance.genesis();
    let record = query::proposal(archive, no)?.ok_or_else(|| lacks("record"))?;
    let closing = query::closing(archive, ordinal)?.ok_or_else(|| lacks("closing"))?;
    let entry = query::audit(archive, closing.audit_entry, 1)?.items.pop();
    let entry = entry.ok_or_else(|| lacks("audit entry"))?;
    let epoch = match query::epoch_of(archive, genesis, ordinal)? {
        Some(Epoch::Decided(committee)) => committee.epoch,
        Some(Epoch::Undecided { .. }) | None => return Err(lacks("committee")),
    };
    let (checkpoint, checkpoint_missing, epochs) = match checkpoint(edge, archive, entry.seq)? {
        Ok((checkpoint, of)) => (Some(checkpoint), None, epoch.max(of)),
        Err(why) => (None, Some(why), epoch),
    };
    let text = |bytes: Vec<u8>, what: &str| String::from_utf8(bytes).map_err(|_| lacks(what));
    let bundle = Bundle {
        version: VERSION,
        genesis: text(genesis.bytes().to_vec(), "genesis in UTF-8")?,
        certificate,
        document: text(stored_document(archive, no)?, "document in UTF-8")?,
        audit_entry: entry.into(),
        checkpoint,
        checkpoint_missing,
        terms: record
            .record
            .frozen
            .map(|frozen| BundleTerms::new(closing.round, frozen)),
        committee_changes: Vec::new(),
        electorate: Vec::new(),
        ballots: Vec::new(),
        evidence: Vec::new(),
    };
    let whole = serde_json::to_string(&bundle).expect("a bundle has only text keys");
    let head = whole.strip_suffix(EMPTY_ARRAYS);
    Ok(Begun {
        head: head.expect("the arrays are written last").to_owned(),
        arrays: Arrays {
            proposal: no,
            epochs,
            justifications,
        },
    })
}

/// The newest checkpoint with the proof that it covers an audit entry, and the epoch that
/// signed it; or why there is none.
fn checkpoint(
    edge: &Edge,
    archive: &dyn Archive,
    entry: u64,
) -> Result<Result<(BundleCheckpoint, u64), String>, ArchiveError> {
    let Some(seat) = edge.governance.seat() else {
        let why = "this node has no seat in the committee and keeps no checkpoint; take the \
                   bundle from a node that has one";
        return Ok(Err(why.to_owned()));
    };
    let Some(published) = Published::newest(&seat) else {
        let why = "the committee of this epoch has signed no checkpoint yet; take the bundle \
                   again once it has";
        return Ok(Err(why.to_owned()));
    };
    let (size, epoch) = (published.size, published.epoch);
    if entry >= size {
        return Ok(Err(format!(
            "the newest checkpoint covers the first {size} audit entries and the closing's is \
             number {entry}, from 0; take the bundle again after the next checkpoint"
        )));
    }
    let committee = query::committee(archive, edge.governance.genesis(), epoch)?;
    let root = query::tree_root(archive, size)?.filter(|_| committee.is_some());
    let proof = query::inclusion_proof(archive, entry, size)?;
    let Some((root, proof)) = root.zip(proof) else {
        return Ok(Err(format!(
            "the newest checkpoint covers {size} audit entries, more than this node has applied; \
             take the bundle again in a moment"
        )));
    };
    if root != published.root {
        return Ok(Err(format!(
            "the newest checkpoint has the root {}, and this node's tree of {size} audit entries \
             has {root}: the nodes' ledgers differ; compare their audit heads before anything else",
            published.root
        )));
    }
    let note = published.note;
    Ok(Ok((BundleCheckpoint { note, proof }, epoch)))
}

/// The bundle as it is sent: the next piece is read when the client has taken the last, and
/// shows at least what was there at `index`.
pub(super) fn stream(
    edge: Arc<Edge>,
    begun: Begun,
    index: LogIndex,
) -> BoxStream<'static, io::Result<Bytes>> {
    let Begun { head, arrays } = begun;
    let pieces = stream::try_unfold(Some(Place::FIRST), move |place| {
        let edge = Arc::clone(&edge);
        async move {
            let Some(place) = place else {
                return Ok(None);
            };
            let piece = read_piece(edge, arrays, place, index)
                .await
                .map_err(|problem| {
                    tracing::error!(detail = problem.detail(), "a bundle was cut short");
                    io::Error::other(problem.detail().to_owned())
                })?;
            Ok(Some(piece))
        }
    });
    stream::iter([Ok(Bytes::from(head))]).chain(pieces).boxed()
}

async fn read_piece(
    edge: Arc<Edge>,
    arrays: Arrays,
    place: Place,
    index: LogIndex,
) -> Result<(Bytes, Option<Place>), Problem> {
    let view = edge.governance.view(Consistency::Stale).await?;
    if view.index < index {
        return Err(Problem::internal("this node's tables went back in time"));
    }
    let reader = Arc::clone(&edge);
    let read = off_thread(&edge, view, move |archive| {
        arrays.write(&reader, archive, place)
    });
    read.await
}

/// What the arrays of a bundle are made from.
#[derive(Clone, Copy)]
struct Arrays {
    proposal: ProposalNo,
    /// The last epoch whose committee must follow from the genesis.
    epochs: u64,
    justifications: bool,
}

/// Where in the arrays a piece begins.
struct Place {
    array: Array,
    /// Whether the array has an item already.
    begun: bool,
}

/// One of the arrays, and its next item.
enum Array {
    /// By the epoch that a certificate begins.
    Changes(u64),
    /// By place.
    Electors(usize),
    /// After the ballot of this number.
    Ballots(Option<u64>),
    /// By key; at the first one if it is absent.
    Evidence(Option<Vec<u8>>),
}

impl Place {
    const FIRST: Self = Self::before(Array::Changes(1));

    const fn before(array: Array) -> Self {
        Self {
            array,
            begun: false,
        }
    }

    /// The array after this one.
    const fn following(array: &Array) -> Option<Self> {
        Some(Self::before(match array {
            Array::Changes(_) => Array::Electors(0),
            Array::Electors(_) => Array::Ballots(None),
            Array::Ballots(_) => Array::Evidence(None),
            Array::Evidence(_) => return None,
        }))
    }
}

impl Array {
    const fn name(&self) -> &'static str {
        match self {
            Self::Changes(_) => "committee_changes",
            Self::Electors(_) => "electorate",
            Self::Ballots(_) => "ballots",
            Self::Evidence(_) => "evidence",
        }
    }
}

/// The text of a piece.
#[derive(Default)]
struct Piece {
    text: Vec<u8>,
    /// Whether the next item stands behind another.
    follows: bool,
}

impl Piece {
    fn open(&mut self, name: &str) {
        self.text
            .extend_from_slice(format!("\"{name}\":[").as_bytes());
        self.follows = false;
    }

    fn close(&mut self, end: &str) {
        self.text.extend_from_slice(end.as_bytes());
    }

    fn push(&mut self, item: &impl Serialize) {
        if self.follows {
            self.text.push(b',');
        }
        self.follows = true;
        serde_json::to_writer(&mut self.text, item).expect("items have only text keys");
    }

    const fn is_full(&self) -> bool {
        self.text.len() >= PIECE_BYTES
    }
}

impl Arrays {
    /// Writes a piece from `place` on, and gives the place of the next one.
    fn write(
        &self,
        edge: &Edge,
        archive: &dyn Archive,
        mut place: Place,
    ) -> Result<(Bytes, Option<Place>), ArchiveError> {
        let mut piece = Piece {
            follows: place.begun,
            ..Piece::default()
        };
        loop {
            if !place.begun {
                piece.open(place.array.name());
            }
            let following = Place::following(&place.array);
            let rest = self.write_array(edge, archive, place.array, &mut piece)?;
            let next = match rest {
                Some(array) => Some(Place { array, begun: true }),
                None => {
                    piece.close(if following.is_some() { "]," } else { "]}" });
                    following
                }
            };
            match next {
                Some(next) if !piece.is_full() => place = next,
                next => return Ok((piece.text.into(), next)),
            }
        }
    }

    /// Writes some items of an array, at least one if there is one, and gives what is left.
    fn write_array(
        &self,
        edge: &Edge,
        archive: &dyn Archive,
        array: Array,
        piece: &mut Piece,
    ) -> Result<Option<Array>, ArchiveError> {
        Ok(match array {
            Array::Changes(epoch) => self
                .write_change(edge, archive, epoch, piece)?
                .map(Array::Changes),
            Array::Electors(first) => self
                .write_electors(archive, first, piece)?
                .map(Array::Electors),
            Array::Ballots(after) => self
                .write_ballots(archive, after, piece)?
                .map(|after| Array::Ballots(Some(after))),
            Array::Evidence(from) => self
                .write_evidence(archive, from, piece)?
                .map(|from| Array::Evidence(Some(from))),
        })
    }

    /// The certificate with which an epoch begins: that of the closing before its first.
    fn write_change(
        &self,
        edge: &Edge,
        archive: &dyn Archive,
        epoch: u64,
        piece: &mut Piece,
    ) -> Result<Option<u64>, ArchiveError> {
        if epoch > self.epochs {
            return Ok(None);
        }
        let lacks = || ArchiveError {
            reason: format!("epoch {epoch} of the committee has no certificate"),
        };
        let committee = query::committee(archive, edge.governance.genesis(), epoch)?;
        let since = committee.ok_or_else(lacks)?.since;
        let decided = Ordinal(since.0.saturating_sub(1));
        piece.push(&query::certificate(archive, decided)?.ok_or_else(lacks)?);
        Ok(Some(epoch.saturating_add(1)))
    }

    fn write_electors(
        &self,
        archive: &dyn Archive,
        first: usize,
        piece: &mut Piece,
    ) -> Result<Option<usize>, ArchiveError> {
        let electorate = query::electorate(archive, self.proposal)?;
        let electors = electorate.into_iter().flat_map(|record| record.electors);
        for (place, elector) in electors.enumerate().skip(first) {
            if piece.is_full() {
                return Ok(Some(place));
            }
            piece.push(&BundleElector {
                id: elector.id,
                power_ppb: elector.power.0,
            });
        }
        Ok(None)
    }

    fn write_ballots(
        &self,
        archive: &dyn Archive,
        mut after: Option<u64>,
        piece: &mut Piece,
    ) -> Result<Option<u64>, ArchiveError> {
        let page = query::ballots(archive, self.proposal, after, BALLOTS_READ)?;
        for (vote, record) in page.items {
            if piece.is_full() {
                return Ok(after);
            }
            let justification = match record.justification {
                Some(digest) if self.justifications => query::justification(archive, &digest)?,
                _ => None,
            };
            let (_, key) = signer(archive, &record.jws)?;
            piece.push(&BundleBallot {
                jws: record.jws,
                key,
                justification,
            });
            after = Some(vote.number);
        }
        Ok(page.next)
    }

    fn write_evidence(
        &self,
        archive: &dyn Archive,
        from: Option<Vec<u8>>,
        piece: &mut Piece,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        let prefix = key::proposal(self.proposal);
        let end = key::after_prefix(&prefix);
        let (mut rows, mut next) = (Vec::new(), None);
        archive.scan(
            Table::Evidence,
            &from.unwrap_or(prefix),
            end.as_deref(),
            Order::Ascending,
            &mut |found, value| {
                if rows.len() == EVIDENCE_READ {
                    next = Some(found.to_vec());
                    return ControlFlow::Break(());
                }
                rows.push(EvidenceRecord::decode(value));
                ControlFlow::Continue(())
            },
        )?;
        for record in rows {
            let EvidenceRecord::Equivocation {
                round,
                counted,
                other,
                time,
            } = record?;
            let (agent, key) = signer(archive, &other)?;
            piece.push(&BundleEvidence {
                kind: EvidenceKind::Equivocation,
                agent,
                round,
                counted: counted.number,
                other,
                key,
                time_ms: time.0,
            });
        }
        Ok(next)
    }
}

/// Whose a stored ballot is, and the key that it names.
fn signer(archive: &dyn Archive, jws: &str) -> Result<(AgentId, BundleKey), ArchiveError> {
    let ballot = CheckedBallot::parse(jws).map_err(|refusal| ArchiveError {
        reason: format!("a stored ballot cannot be read: {refusal}"),
    })?;
    let key = key_of(archive, &ballot.voter, &ballot.kid)?;
    Ok((ballot.voter, key))
}

/// The key that an agent has or had under a thumbprint.
fn key_of(archive: &dyn Archive, voter: &AgentId, kid: &Kid) -> Result<BundleKey, ArchiveError> {
    if let Some(agent) = query::agent(archive, voter)?.filter(|agent| agent.kid == *kid) {
        return Ok(BundleKey {
            public_key: agent.key,
            attestation: agent.attestation,
            proof: agent.proof,
        });
    }
    let retired = query::retired_key(archive, kid)?.filter(|retired| retired.agent == *voter);
    let retired = retired.ok_or_else(|| ArchiveError {
        reason: format!("key {kid} of {voter} signed a ballot but is not on disk"),
    })?;
    Ok(BundleKey {
        public_key: retired.key,
        attestation: retired.attestation,
        proof: retired.proof,
    })
}
