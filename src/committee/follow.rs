//! Following the local ledger: ballots are verified and counted again as they arrive, so that
//! a closing, when it comes, has only to be compared.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use aegis_crypto::Digest;
use aegis_ledger::query::{self, Events, KnownKeys};
use aegis_ledger::{
    Archive, ArchiveError, Epoch, EventKind, Genesis, Ordinal, ProposalNo, Recount, RecountError,
    Statement, Verified,
};
use aegis_pbft::{Request, Sequence, Value, ValueTooLong};
use thiserror::Error;

/// Events that are read at once.
const EVENTS_READ: usize = 1_000;

/// A closing as this validator sees it.
#[derive(Debug)]
pub(crate) enum Closing {
    /// It comes out as the ledger says.
    Sound(Request),
    /// It does not, so that this validator agrees to nothing about it.
    Unsound {
        /// Which.
        ordinal: Ordinal,
        /// Why.
        why: Unsound,
    },
}

/// Why a validator does not stand behind its own ledger's closing.
#[derive(Debug, Error)]
pub(crate) enum Unsound {
    /// The ballots do not give the result.
    #[error("the closing does not come out when its ballots are counted again")]
    Recount(#[from] RecountError),
    /// The statement exceeds what validators take.
    #[error("the closing's statement is too long")]
    Long(#[from] ValueTooLong),
}

/// A closing that is not certified yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    /// The statement's name; none where this validator does not stand behind one.
    pub(crate) digest: Option<Digest>,
    /// When the ledger had it.
    pub(crate) since: Instant,
}

/// Reads the ledger on behalf of a validator.
pub(crate) struct Follower {
    genesis: Arc<Genesis>,
    memory: Arc<dyn Verified>,
    /// Events that were read.
    events: u64,
    /// Counts in progress.
    counts: BTreeMap<ProposalNo, Result<Recount, RecountError>>,
    keys: KnownKeys,
    /// The last closing that was read.
    read: Ordinal,
    /// Closings that were read and are not certified.
    awaited: BTreeMap<Ordinal, Awaited>,
}

/// What is new in the ledger.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Closings, in order.
    pub(crate) closings: Vec<Closing>,
    /// Certificates that were recorded.
    pub(crate) recorded: Vec<Recorded>,
}

/// A certificate that the ledger has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    /// The closing's.
    pub(crate) sequence: Sequence,
    /// The name of the statement that it certifies.
    pub(crate) digest: Digest,
    /// When the ledger had the closing.
    pub(crate) since: Instant,
}

impl Follower {
    /// Follows the ledger from behind a closing, and behind so many events, on. Ballots that
    /// are in it already are counted when their proposals close.
    pub(crate) fn new(
        genesis: Arc<Genesis>,
        memory: Arc<dyn Verified>,
        after: Ordinal,
        events: u64,
    ) -> Self {
        Self {
            genesis,
            memory,
            events,
            counts: BTreeMap::new(),
            keys: KnownKeys::default(),
            read: after,
            awaited: BTreeMap::new(),
        }
    }

    /// The last closing that was read.
    pub(crate) const fn read(&self) -> Ordinal {
        self.read
    }

    /// Whether every closing that was read is certified.
    pub(crate) fn is_done(&self) -> bool {
        self.awaited.is_empty()
    }

    /// A closing that was read and is not certified.
    pub(crate) fn awaited(&self, ordinal: Ordinal) -> Option<&Awaited> {
        self.awaited.get(&ordinal)
    }

    /// Reads what is new in a view of the tables: closings up to `high`, as long as their
    /// epoch is `epoch`, and certificates.
    pub(crate) fn news(
        &mut self,
        archive: &dyn Archive,
        epoch: u64,
        high: Ordinal,
    ) -> Result<News, ArchiveError> {
        let core = query::core(archive)?;
        self.count_new_ballots(archive, core.events)?;
        let mut news = News::default();
        while self.read < high && self.read.0 < core.closings {
            let ordinal = self.read.next();
            match query::epoch_of(archive, &self.genesis, ordinal)? {
                Some(Epoch::Decided(committee)) if committee.epoch == epoch => {}
                Some(_) | None => break,
            }
            let Some(statement) = query::statement(archive, &self.genesis, ordinal)? else {
                break;
            };
            news.closings
                .push(self.close(archive, ordinal, &statement)?);
            self.read = ordinal;
        }
        self.read_certificates(archive, &mut news)?;
        Ok(news)
    }

    /// Which of the awaited certificates have been recorded.
    fn read_certificates(
        &mut self,
        archive: &dyn Archive,
        news: &mut News,
    ) -> Result<(), ArchiveError> {
        let mut recorded = Vec::new();
        for (ordinal, awaited) in &self.awaited {
            if query::has_certificate(archive, *ordinal)? {
                recorded.push((*ordinal, *awaited));
            }
        }
        for (ordinal, awaited) in recorded {
            self.awaited.remove(&ordinal);
            let digest = match awaited.digest {
                Some(digest) => Some(digest),
                // The ledger records no certificate over anything but its own statement.
                None => query::statement(archive, &self.genesis, ordinal)?
                    .map(|statement| Digest::of(statement.to_canonical())),
            };
            if let Some(digest) = digest {
                news.recorded.push(Recorded {
                    sequence: Sequence(ordinal.0),
                    digest,
                    since: awaited.since,
                });
            }
        }
        Ok(())
    }

    fn close(
        &mut self,
        archive: &dyn Archive,
        ordinal: Ordinal,
        statement: &Statement,
    ) -> Result<Closing, ArchiveError> {
        let text = statement.to_canonical();
        // What is certified was checked by a quorum; after a restart it is only taken up.
        let waiting = query::waiting(archive, ordinal)?;
        let checked = match &waiting {
            Some(_) => self.check(archive, statement)?,
            None => Ok(()),
        };
        let tree_size = statement.audit_entry + 1;
        let tree_root = match waiting {
            Some(waiting) => waiting.tree_root,
            None => query::tree_root(archive, tree_size)?.ok_or_else(|| ArchiveError {
                reason: format!("closing {ordinal} is ahead of the audit log"),
            })?,
        };
        let value = checked.and_then(|()| Ok(Value::new(&text, &[])?));
        let digest = value.as_ref().ok().map(Value::digest);
        let since = Instant::now();
        self.awaited.insert(ordinal, Awaited { digest, since });
        Ok(match value {
            Err(why) => Closing::Unsound { ordinal, why },
            Ok(value) => Closing::Sound(Request {
                sequence: Sequence(ordinal.0),
                value,
                tree_size,
                tree_root,
                objected: false,
            }),
        })
    }

    /// Compares a closing with the count of its ballots.
    fn check(
        &mut self,
        archive: &dyn Archive,
        statement: &Statement,
    ) -> Result<Result<(), Unsound>, ArchiveError> {
        let no = statement.proposal;
        if statement.voting.is_none() {
            self.counts.remove(&no);
            return Ok(Ok(()));
        }
        self.count(archive, no)?;
        let count = self.counts.remove(&no).ok_or_else(|| ArchiveError {
            reason: format!("{no} was voted on but has no record of its opening"),
        })?;
        let checked = count.and_then(|count| count.finish().check(statement));
        Ok(checked.map_err(Into::into))
    }

    /// Counts the ballots of which the ledger has told since the last time. Where it no
    /// longer tells of them all, they are counted when their proposals close.
    fn count_new_ballots(
        &mut self,
        archive: &dyn Archive,
        newest: u64,
    ) -> Result<(), ArchiveError> {
        let mut voted = BTreeSet::new();
        while self.events < newest {
            match query::events(archive, self.events, EVENTS_READ)? {
                Events::Page { events, next } => {
                    self.events = next;
                    voted.extend(events.into_iter().filter_map(|event| match event.kind {
                        EventKind::VoteCast { vote, .. } => Some(vote.proposal),
                        _ => None,
                    }));
                }
                Events::Gone { .. } => self.events = newest,
            }
        }
        voted.into_iter().try_for_each(|no| self.count(archive, no))
    }

    /// Brings the count of a proposal up to date.
    fn count(&mut self, archive: &dyn Archive, no: ProposalNo) -> Result<(), ArchiveError> {
        let begun = match self.counts.entry(no) {
            Entry::Occupied(begun) => begun.into_mut(),
            Entry::Vacant(place) => {
                let Some(count) = query::begin_recount(archive, &self.genesis, no)? else {
                    return Ok(());
                };
                let memory = Arc::clone(&self.memory);
                place.insert(count.map(|count| count.with_memory(memory)))
            }
        };
        if let Ok(count) = begun
            && let Err(error) = query::continue_recount(archive, count, &mut self.keys)?
        {
            *begun = Err(error);
        }
        Ok(())
    }
}
