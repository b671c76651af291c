//! Reading: answers from any consistent view of the tables, without a ledger in memory.
//!
//! Every function reads one [`Archive`] and changes nothing, so a node answers reads from
//! a snapshot of its disk while entries are applied. Lists are bounded: a page reads at
//! most [`ROWS_SCANNED_MAX`] rows, and says where the next one begins.

mod certified;
mod tree;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use aegis_crypto::{Digest, Hasher, Kid, PublicKey};

use crate::archive::{Archive, ArchiveError, Order, Table};
use crate::audit::{AuditEntry, ChainError, ChainVerifier};
use crate::ballots::CheckedBallot;
use crate::command::Principal;
use crate::event::{Event, EventPosition};
use crate::genesis::Genesis;
use crate::ids::{AgentId, LogIndex, Ordinal, ProposalNo, TokenNo, VoteId};
use crate::number::Ppb;
use crate::open;
use crate::record::{
    AgentRecord, BallotRecord, ClosingRecord, CoreRecord, ElectorateRecord, EvidenceRecord,
    ProposalRecord, ProposalType, Record, RetiredKeyRecord, Status, Tally, TokenRecord, key,
};
use crate::recount::{BallotFault, Recount, RecountError, RecountTerms, Recounted};

pub use certified::{
    certificate, committee, epoch_of, has_certificate, is_certified, newest_committee, statement,
    uncertified, waiting,
};
pub use tree::{consistency_proof, inclusion_proof, tree_root};

/// The most rows that one page reads, whatever its filter.
pub const ROWS_SCANNED_MAX: usize = 10_000;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins (exclusive), if there may be more.
    pub next: Option<C>,
}

/// The counters and the clock.
///
/// # Errors
/// The archive could not be read; the same holds for every function here.
pub fn core(archive: &dyn Archive) -> Result<CoreRecord, ArchiveError> {
    Ok(CoreRecord::read(archive, &[])?.unwrap_or_default())
}

/// An agent.
///
/// # Errors
/// The archive could not be read.
pub fn agent(archive: &dyn Archive, id: &AgentId) -> Result<Option<AgentRecord>, ArchiveError> {
    AgentRecord::read(archive, &key::agent(id))
}

/// Agents by id, after `after`.
///
/// # Errors
/// The archive could not be read.
pub fn agents(
    archive: &dyn Archive,
    after: Option<&AgentId>,
    limit: usize,
) -> Result<Page<AgentRecord, AgentId>, ArchiveError> {
    let from = after
        .map(|id| just_after(&key::agent(id)))
        .unwrap_or_default();
    page(
        archive,
        Range {
            from: &from,
            to: None,
            order: Order::Ascending,
        },
        limit,
        |_, value| AgentRecord::decode(value).map(|agent| Row::Take(agent.id.clone(), agent)),
        Table::Agents,
    )
}

/// A token.
///
/// # Errors
/// The archive could not be read.
pub fn token(archive: &dyn Archive, no: TokenNo) -> Result<Option<TokenRecord>, ArchiveError> {
    TokenRecord::read(archive, &key::token(no))
}

/// A proposal with its count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalView {
    /// The record.
    pub record: ProposalRecord,
    /// The count so far, or the final one.
    pub tally: Tally,
}

impl ProposalView {
    /// The share of the electorate, by heads, that has voted.
    #[must_use]
    pub fn participation(&self) -> Ppb {
        let electorate = self
            .record
            .frozen
            .as_ref()
            .map_or(0, |frozen| frozen.electorate_size);
        Ppb::fraction(u128::from(self.tally.heads_cast()), u128::from(electorate))
    }
}

/// A proposal.
///
/// # Errors
/// The archive could not be read.
pub fn proposal(
    archive: &dyn Archive,
    no: ProposalNo,
) -> Result<Option<ProposalView>, ArchiveError> {
    ProposalRecord::read(archive, &key::proposal(no))?
        .map(|record| with_tally(archive, record))
        .transpose()
}

fn with_tally(archive: &dyn Archive, record: ProposalRecord) -> Result<ProposalView, ArchiveError> {
    let tally = Tally::read(archive, &key::proposal(record.no))?.unwrap_or_default();
    Ok(ProposalView { record, tally })
}

/// The exact bytes of a proposal's document.
///
/// # Errors
/// The archive could not be read.
pub fn document(archive: &dyn Archive, no: ProposalNo) -> Result<Option<Vec<u8>>, ArchiveError> {
    archive.get(Table::Documents, &key::proposal(no))
}

/// A proposal's frozen electorate.
///
/// # Errors
/// The archive could not be read.
pub fn electorate(
    archive: &dyn Archive,
    no: ProposalNo,
) -> Result<Option<ElectorateRecord>, ArchiveError> {
    ElectorateRecord::read(archive, &key::proposal(no))
}

/// Which proposals a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProposalFilter {
    /// Only those in one of these statuses; all if empty.
    pub statuses: Vec<Status>,
    /// Only those of this type.
    pub kind: Option<ProposalType>,
    /// Only those by this author.
    pub author: Option<Principal>,
}

impl ProposalFilter {
    fn admits(&self, record: &ProposalRecord) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&record.status))
            && self.kind.is_none_or(|kind| kind == record.kind)
            && self
                .author
                .as_ref()
                .is_none_or(|author| *author == record.author)
    }
}

/// Proposals, newest first, before `before`.
///
/// # Errors
/// The archive could not be read.
pub fn proposals(
    archive: &dyn Archive,
    filter: &ProposalFilter,
    before: Option<ProposalNo>,
    limit: usize,
) -> Result<Page<ProposalView, ProposalNo>, ArchiveError> {
    let only_active =
        !filter.statuses.is_empty() && filter.statuses.iter().all(|status| status.is_active());
    let found = if only_active {
        active_proposals(archive, filter, before, limit)?
    } else {
        let to = before.map(key::proposal);
        let range = Range {
            from: &[],
            to: to.as_deref(),
            order: Order::Descending,
        };
        page(
            archive,
            range,
            limit,
            |_, value| {
                let record = ProposalRecord::decode(value)?;
                Ok(if filter.admits(&record) {
                    Row::Take(record.no, record)
                } else {
                    Row::Skip(record.no)
                })
            },
            Table::Proposals,
        )?
    };
    let items = found
        .items
        .into_iter()
        .map(|record| with_tally(archive, record))
        .collect::<Result<_, _>>()?;
    Ok(Page {
        items,
        next: found.next,
    })
}

/// Active proposals are few, and indexed: history is not read to find them.
fn active_proposals(
    archive: &dyn Archive,
    filter: &ProposalFilter,
    before: Option<ProposalNo>,
    limit: usize,
) -> Result<Page<ProposalRecord, ProposalNo>, ArchiveError> {
    let mut items = Vec::new();
    for no in open::open_proposals(archive)?
        .into_iter()
        .rev()
        .filter(|no| before.is_none_or(|before| *no < before))
    {
        if items.len() == limit {
            let next = items.last().map(|record: &ProposalRecord| record.no);
            return Ok(Page { items, next });
        }
        let record = ProposalRecord::read(archive, &key::proposal(no))?
            .filter(|record| filter.admits(record));
        items.extend(record);
    }
    Ok(Page { items, next: None })
}

/// A ballot.
///
/// # Errors
/// The archive could not be read.
pub fn ballot(archive: &dyn Archive, vote: VoteId) -> Result<Option<BallotRecord>, ArchiveError> {
    BallotRecord::read(archive, &key::vote(vote))
}

/// A proposal's ballots in the order of admission, after `after`.
///
/// # Errors
/// The archive could not be read.
pub fn ballots(
    archive: &dyn Archive,
    no: ProposalNo,
    after: Option<u64>,
    limit: usize,
) -> Result<Page<(VoteId, BallotRecord), u64>, ArchiveError> {
    let first = after.map_or(0, |number| number.saturating_add(1));
    let from = key::vote(VoteId {
        proposal: no,
        number: first,
    });
    let to = key::after_prefix(&key::proposal(no));
    page(
        archive,
        Range {
            from: &from,
            to: to.as_deref(),
            order: Order::Ascending,
        },
        limit,
        |found, value| {
            let number = last_number(found, "ballot")?;
            Ok(Row::Take(
                number,
                (
                    VoteId {
                        proposal: no,
                        number,
                    },
                    BallotRecord::decode(value)?,
                ),
            ))
        },
        Table::Ballots,
    )
}

/// A voter's ballots by proposal, after `after`.
///
/// # Errors
/// The archive could not be read.
pub fn voter_ballots(
    archive: &dyn Archive,
    voter: &AgentId,
    after: Option<VoteId>,
    limit: usize,
) -> Result<Page<(VoteId, BallotRecord), VoteId>, ArchiveError> {
    let prefix = key::voter(voter);
    let from = after.map_or_else(
        || prefix.clone(),
        |vote| just_after(&key::voter_vote(voter, vote)),
    );
    let to = key::after_prefix(&prefix);
    let range = Range {
        from: &from,
        to: to.as_deref(),
        order: Order::Ascending,
    };
    let found = page(
        archive,
        range,
        limit,
        |found, _| {
            let vote = VoteId {
                proposal: ProposalNo(number_before_last(found)?),
                number: last_number(found, "vote")?,
            };
            Ok(Row::Take(vote, vote))
        },
        Table::VotesByVoter,
    )?;
    let mut items = Vec::with_capacity(found.items.len());
    for vote in found.items {
        let record = ballot(archive, vote)?.ok_or_else(|| ArchiveError {
            reason: format!("{vote} is indexed but not on disk"),
        })?;
        items.push((vote, record));
    }
    Ok(Page {
        items,
        next: found.next,
    })
}

/// The text of a justification, unless it was erased.
///
/// # Errors
/// The archive could not be read.
pub fn justification(
    archive: &dyn Archive,
    digest: &Digest,
) -> Result<Option<String>, ArchiveError> {
    let text = archive
        .get(Table::Justifications, digest.as_bytes())?
        .map(String::from_utf8)
        .transpose();
    text.map_err(|error| ArchiveError {
        reason: format!("justification {digest}: {error}"),
    })
}

/// Closings, newest first, before `before`.
///
/// # Errors
/// The archive could not be read.
pub fn closings(
    archive: &dyn Archive,
    before: Option<Ordinal>,
    limit: usize,
) -> Result<Page<(Ordinal, ClosingRecord), Ordinal>, ArchiveError> {
    let to = before.map(|ordinal| key::number(ordinal.0));
    page(
        archive,
        Range {
            from: &[],
            to: to.as_deref(),
            order: Order::Descending,
        },
        limit,
        |found, value| {
            let ordinal = Ordinal(last_number(found, "closing")?);
            Ok(Row::Take(ordinal, (ordinal, ClosingRecord::decode(value)?)))
        },
        Table::Closings,
    )
}

/// A closing.
///
/// # Errors
/// The archive could not be read.
pub fn closing(
    archive: &dyn Archive,
    ordinal: Ordinal,
) -> Result<Option<ClosingRecord>, ArchiveError> {
    ClosingRecord::read(archive, &key::number(ordinal.0))
}

/// The key of an agent by its thumbprint: the one it has, or one it had before.
///
/// # Errors
/// The archive could not be read.
pub fn agent_key(
    archive: &dyn Archive,
    id: &AgentId,
    kid: &Kid,
) -> Result<Option<PublicKey>, ArchiveError> {
    if let Some(agent) = agent(archive, id)?.filter(|agent| agent.kid == *kid) {
        return Ok(Some(agent.key.into()));
    }
    Ok(retired_key(archive, kid)?
        .filter(|retired| retired.agent == *id)
        .map(|retired| retired.key.into()))
}

/// A key that an agent had before.
///
/// # Errors
/// The archive could not be read.
pub fn retired_key(
    archive: &dyn Archive,
    kid: &Kid,
) -> Result<Option<RetiredKeyRecord>, ArchiveError> {
    RetiredKeyRecord::read(archive, &key::retired_key(kid))
}

/// A proposal's ballots counted again from what is stored, each verified; `None` if its
/// voting never opened. It reads them all.
///
/// # Errors
/// The archive could not be read.
pub fn recount(
    archive: &dyn Archive,
    genesis: &Genesis,
    no: ProposalNo,
) -> Result<Option<Result<Recounted, RecountError>>, ArchiveError> {
    let mut recount = match begin_recount(archive, genesis, no)? {
        None => return Ok(None),
        Some(Err(error)) => return Ok(Some(Err(error))),
        Some(Ok(recount)) => recount,
    };
    let counted = continue_recount(archive, &mut recount, &mut KnownKeys::default())?;
    Ok(Some(counted.map(|()| recount.finish())))
}

/// Keys that were looked up before. A key is read with its agent's record and checked on the
/// way, which takes longer than counting a ballot whose signature is known; and whose it is
/// never changes.
#[derive(Debug, Default)]
pub struct KnownKeys(BTreeMap<Kid, (AgentId, PublicKey)>);

/// Keys that are remembered at a time.
const KNOWN_KEYS_MAX: usize = 100_000;

impl KnownKeys {
    fn get(
        &mut self,
        archive: &dyn Archive,
        voter: &AgentId,
        kid: &Kid,
    ) -> Result<Option<PublicKey>, ArchiveError> {
        if let Some((_, key)) = self.0.get(kid).filter(|(owner, _)| owner == voter) {
            return Ok(Some(*key));
        }
        let key = agent_key(archive, voter, kid)?;
        if let Some(key) = key {
            if self.0.len() >= KNOWN_KEYS_MAX {
                self.0.clear();
            }
            self.0.insert(*kid, (voter.clone(), key));
        }
        Ok(key)
    }
}

/// A count of a proposal's ballots in which none is counted yet; `None` if its voting never
/// opened.
///
/// # Errors
/// The archive could not be read.
pub fn begin_recount(
    archive: &dyn Archive,
    genesis: &Genesis,
    no: ProposalNo,
) -> Result<Option<Result<Recount, RecountError>>, ArchiveError> {
    let Some((record, frozen)) = ProposalRecord::read(archive, &key::proposal(no))?
        .and_then(|record| record.frozen.clone().map(|frozen| (record, frozen)))
    else {
        return Ok(None);
    };
    let electorate = electorate(archive, no)?.ok_or_else(|| ArchiveError {
        reason: format!("{no} is open but has no electorate record"),
    })?;
    let terms = RecountTerms {
        cluster: genesis.cluster_id(),
        proposal: no,
        proposal_digest: record.digest,
        round: record.round,
        frozen,
    };
    let electors = electorate.electors.into_iter();
    Ok(Some(Recount::new(
        terms,
        electors.map(|elector| (elector.id, elector.power)),
    )))
}

/// Counts the ballots that are stored and not counted yet, up to the first that does not
/// count.
///
/// # Errors
/// The archive could not be read.
pub fn continue_recount(
    archive: &dyn Archive,
    recount: &mut Recount,
    keys: &mut KnownKeys,
) -> Result<Result<(), RecountError>, ArchiveError> {
    loop {
        // Ballots are numbered from 1 in the order in which they are counted.
        let after = recount.ballots();
        let page = ballots(archive, recount.proposal(), Some(after), ROWS_SCANNED_MAX)?;
        for (_, ballot) in page.items {
            if let Err(error) = add_stored(archive, recount, keys, &ballot.jws)? {
                return Ok(Err(error));
            }
        }
        if page.next.is_none() {
            return Ok(Ok(()));
        }
    }
}

/// Counts a stored ballot under the key that it names, if its voter has or had it.
fn add_stored(
    archive: &dyn Archive,
    recount: &mut Recount,
    keys: &mut KnownKeys,
    jws: &str,
) -> Result<Result<(), RecountError>, ArchiveError> {
    let (voter, kid) = match CheckedBallot::parse(jws) {
        Ok(ballot) => (ballot.voter, ballot.kid),
        Err(refusal) => return Ok(Err(recount.fault(BallotFault::Form(refusal)))),
    };
    Ok(match keys.get(archive, &voter, &kid)? {
        Some(key) => recount.add(jws, &key),
        None => Err(recount.fault(BallotFault::UnknownKey { voter, kid })),
    })
}

/// The evidence on a proposal.
///
/// # Errors
/// The archive could not be read.
pub fn evidence(
    archive: &dyn Archive,
    no: ProposalNo,
) -> Result<Vec<EvidenceRecord>, ArchiveError> {
    let prefix = key::proposal(no);
    let to = key::after_prefix(&prefix);
    let range = Range {
        from: &prefix,
        to: to.as_deref(),
        order: Order::Ascending,
    };
    let found = page(
        archive,
        range,
        ROWS_SCANNED_MAX,
        |_, value| Ok(Row::Take((), EvidenceRecord::decode(value)?)),
        Table::Evidence,
    )?;
    Ok(found.items)
}

/// Audit entries from `from` on.
///
/// # Errors
/// The archive could not be read.
pub fn audit(
    archive: &dyn Archive,
    from: u64,
    limit: usize,
) -> Result<Page<AuditEntry, u64>, ArchiveError> {
    let from = key::number(from);
    page(
        archive,
        Range {
            from: &from,
            to: None,
            order: Order::Ascending,
        },
        limit,
        |_, value| {
            let entry = AuditEntry::decode(value)?;
            Ok(Row::Take(entry.seq, entry))
        },
        Table::Audit,
    )
}

/// What walking the whole chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditVerdict {
    /// How many entries hold, from the first on.
    pub entries: u64,
    /// The hash of the last of them.
    pub head: Digest,
    /// The first fault, if there is one.
    pub fault: Option<ChainError>,
}

/// Walks the audit chain from its first entry, with constant memory.
///
/// # Errors
/// The archive could not be read.
pub fn verify_audit(archive: &dyn Archive) -> Result<AuditVerdict, ArchiveError> {
    let mut verifier = ChainVerifier::default();
    let mut fault = None;
    let mut unreadable = None;
    archive.scan(
        Table::Audit,
        &[],
        None,
        Order::Ascending,
        &mut |_, value| {
            match AuditEntry::decode(value) {
                Ok(entry) => fault = verifier.push(&entry).err(),
                Err(error) => unreadable = Some(error),
            }
            if fault.is_none() && unreadable.is_none() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
    )?;
    match unreadable {
        Some(error) => Err(error),
        None => Ok(AuditVerdict {
            entries: verifier.entries(),
            head: verifier.head(),
            fault,
        }),
    }
}

/// Events from a position on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Events {
    /// The events, and the number from which to go on.
    Page {
        /// The events in order.
        events: Vec<Event>,
        /// The number of the next event, whether or not it happened yet.
        next: u64,
    },
    /// Events from that position on are no longer kept.
    Gone {
        /// The oldest position that is.
        oldest: EventPosition,
    },
}

/// The number of the first event at or after `position`.
///
/// # Errors
/// The archive could not be read.
pub fn event_number(
    archive: &dyn Archive,
    position: EventPosition,
) -> Result<Result<u64, EventPosition>, ArchiveError> {
    let end = core(archive)?.events;
    let mut low = end.saturating_sub(crate::EVENTS_KEPT);
    let oldest = match Event::read(archive, &key::number(low))? {
        Some(event) => event.position,
        None => EventPosition {
            index: LogIndex(0),
            ordinal: 0,
        },
    };
    if low > 0 && position < oldest {
        return Ok(Err(oldest));
    }
    let mut high = end;
    while low < high {
        let middle = low.midpoint(high);
        let event = Event::read(archive, &key::number(middle))?.ok_or_else(|| ArchiveError {
            reason: format!("event {middle} is missing"),
        })?;
        if event.position < position {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    Ok(Ok(low))
}

/// Events from number `from` on.
///
/// # Errors
/// The archive could not be read.
pub fn events(archive: &dyn Archive, from: u64, limit: usize) -> Result<Events, ArchiveError> {
    let end = core(archive)?.events;
    let kept_from = end.saturating_sub(crate::EVENTS_KEPT);
    if from < kept_from {
        let oldest =
            Event::read(archive, &key::number(kept_from))?.ok_or_else(|| ArchiveError {
                reason: format!("event {kept_from} is missing"),
            })?;
        return Ok(Events::Gone {
            oldest: oldest.position,
        });
    }
    let first = key::number(from);
    let range = Range {
        from: &first,
        to: None,
        order: Order::Ascending,
    };
    let found = page(
        archive,
        range,
        limit,
        |_, value| Ok(Row::Take((), Event::decode(value)?)),
        Table::Events,
    )?;
    let count = u64::try_from(found.items.len()).unwrap_or(u64::MAX);
    Ok(Events::Page {
        events: found.items,
        next: from.saturating_add(count),
    })
}

/// A digest over every key and value of every table: two replicas that applied the same
/// log have the same. It reads everything, so it is for checks, not for serving.
///
/// # Errors
/// The archive could not be read.
pub fn state_digest(archive: &dyn Archive) -> Result<Digest, ArchiveError> {
    let mut hasher = Some(Hasher::tagged("aegis/state/1"));
    for table in Table::ALL {
        archive.scan(table, &[], None, Order::Ascending, &mut |key, value| {
            hasher = hasher
                .take()
                .map(|hasher| hasher.u8(table.id()).bytes(key).bytes(value));
            ControlFlow::Continue(())
        })?;
    }
    Ok(hasher.map(Hasher::finish).unwrap_or(Digest::ZERO))
}

struct Range<'a> {
    from: &'a [u8],
    to: Option<&'a [u8]>,
    order: Order,
}

enum Row<T, C> {
    Take(C, T),
    Skip(C),
}

/// Reads rows until the page is full or [`ROWS_SCANNED_MAX`] were read.
fn page<T, C>(
    archive: &dyn Archive,
    range: Range<'_>,
    limit: usize,
    read: impl Fn(&[u8], &[u8]) -> Result<Row<T, C>, ArchiveError>,
    table: Table,
) -> Result<Page<T, C>, ArchiveError> {
    let mut items = Vec::new();
    let (mut scanned, mut last, mut more, mut fault) = (0_usize, None, false, None);
    archive.scan(
        table,
        range.from,
        range.to,
        range.order,
        &mut |found, value| {
            if items.len() >= limit || scanned >= ROWS_SCANNED_MAX {
                more = true;
                return ControlFlow::Break(());
            }
            scanned = scanned.saturating_add(1);
            match read(found, value) {
                Ok(Row::Take(cursor, item)) => {
                    last = Some(cursor);
                    items.push(item);
                    ControlFlow::Continue(())
                }
                Ok(Row::Skip(cursor)) => {
                    last = Some(cursor);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    fault = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    )?;
    match fault {
        Some(error) => Err(error),
        None => Ok(Page {
            items,
            next: last.filter(|_| more),
        }),
    }
}

/// The least key greater than `key`.
fn just_after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn last_number(found: &[u8], what: &str) -> Result<u64, ArchiveError> {
    let bytes = found.last_chunk::<8>();
    bytes
        .map(|bytes| u64::from_be_bytes(*bytes))
        .ok_or_else(|| ArchiveError {
            reason: format!("a {what} key of {} bytes is too short", found.len()),
        })
}

fn number_before_last(found: &[u8]) -> Result<u64, ArchiveError> {
    last_number(
        found
            .split_last_chunk::<8>()
            .map(|(head, _)| head)
            .unwrap_or_default(),
        "vote index",
    )
}
