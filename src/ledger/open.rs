//! Open proposals in memory, and their rebuilding from disk.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use aegis_crypto::Digest;
use aegis_crypto::merkle::Frontier;

use crate::apply::{INCLUSION_GRACE_MS, Ledger};
use crate::archive::{Archive, ArchiveError, Order, Table};
use crate::genesis::Genesis;
use crate::ids::{AgentNo, LedgerTime, ProposalNo, VoteId};
use crate::number::Ppb;
use crate::record::{
    AgentRecord, BallotRecord, CoreRecord, ElectorateRecord, Frozen, ProposalRecord, Record,
    Standing, Tally, key,
};
use crate::tally::{Outstanding, Rules};
use crate::verified::Memory;
use crate::{epochs, tree};

/// A proposal that is not closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OpenProposal {
    pub(crate) record: ProposalRecord,
    pub(crate) voting: Option<Voting>,
}

/// A proposal's voting in progress.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Voting {
    pub(crate) frozen: Frozen,
    pub(crate) electors: BTreeMap<AgentNo, Seat>,
    pub(crate) tally: Tally,
    pub(crate) outstanding: Outstanding,
    /// The tree over the ballots admitted; the next one's number is one more than its size.
    pub(crate) ballots: Frontier,
}

/// An elector's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) power: Ppb,
    pub(crate) cast: Option<Cast>,
}

/// The ballot of an elector who voted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cast {
    pub(crate) number: u64,
    pub(crate) statement: StatementId,
}

/// A signer's `jti`, hashed to 128 bits: a signer could only collide with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StatementId(u128);

impl StatementId {
    pub(crate) fn of(jti: &str) -> Self {
        let digest = Digest::of(jti);
        let (half, _) = digest
            .as_bytes()
            .split_first_chunk::<16>()
            .expect("a digest has 32 bytes");
        Self(u128::from_be_bytes(*half))
    }
}

impl Voting {
    pub(crate) fn new(frozen: Frozen, electors: impl Iterator<Item = (AgentNo, Ppb)>) -> Self {
        let electors: BTreeMap<_, _> = electors
            .map(|(agent, power)| (agent, Seat { power, cast: None }))
            .collect();
        let outstanding = electors
            .values()
            .fold(Outstanding::default(), |sum, seat| Outstanding {
                heads: sum.heads.saturating_add(1),
                power: sum.power.saturating_add(u128::from(seat.power.0)),
            });
        Self {
            frozen,
            electors,
            tally: Tally::default(),
            outstanding,
            ballots: Frontier::default(),
        }
    }

    pub(crate) const fn rules(&self) -> Rules<'_> {
        self.frozen.rules()
    }

    /// Takes a ballot into the tree, and gives its number.
    pub(crate) fn number(&mut self, jws: &str) -> u64 {
        self.ballots.push_leaf(jws.as_bytes());
        self.ballots.size()
    }

    /// An elector who has not voted no longer can, or just did.
    pub(crate) const fn no_longer_outstanding(&mut self, power: Ppb) {
        self.outstanding.heads = self.outstanding.heads.saturating_sub(1);
        self.outstanding.power = self.outstanding.power.saturating_sub(power.0 as u128);
    }
}

impl ProposalRecord {
    /// When the proposal closes by itself, if nothing happens before.
    pub(crate) fn due(&self) -> Option<LedgerTime> {
        match (self.closing_since, &self.frozen) {
            (Some(since), _) => Some(since.plus_ms(INCLUSION_GRACE_MS)),
            (None, Some(frozen)) => Some(frozen.deadline),
            (None, None) => self.asked_deadline,
        }
    }
}

impl Ledger {
    /// The ledger as the tables leave it: empty ones begin a cluster.
    ///
    /// # Errors
    /// The archive could not be read, or its records contradict each other.
    pub fn load(archive: &dyn Archive, genesis: &Genesis) -> Result<Self, ArchiveError> {
        let trust = genesis.trust().clone();
        let core = CoreRecord::read(archive, &[])?.unwrap_or_default();
        let mut ledger = Self {
            committee: epochs::newest(archive, &trust)?,
            tree: tree::load(archive, core.audit_entries)?,
            trust,
            core,
            agents: BTreeMap::new(),
            keys: BTreeMap::new(),
            open: BTreeMap::new(),
            due: std::collections::BTreeSet::new(),
            statements: BTreeMap::new(),
            memory: Memory::default(),
        };
        for agent in read_all::<AgentRecord>(archive, &[], None)? {
            ledger.keys.insert(agent.kid, agent.id.clone());
            for kid in &agent.retired {
                ledger.keys.insert(*kid, agent.id.clone());
            }
            ledger.agents.insert(agent.id.clone(), agent);
        }
        for proposal in open_proposals(archive)? {
            ledger.load_open(archive, proposal)?;
        }
        Ok(ledger)
    }

    fn load_open(&mut self, archive: &dyn Archive, no: ProposalNo) -> Result<(), ArchiveError> {
        let record = ProposalRecord::read(archive, &key::proposal(no))?
            .ok_or_else(|| missing("proposal", no))?;
        let voting = match &record.frozen {
            Some(frozen) => Some(self.load_voting(archive, no, frozen.clone())?),
            None => None,
        };
        if let Some(due) = record.due() {
            self.due.insert((due, no));
        }
        self.open.insert(no, OpenProposal { record, voting });
        Ok(())
    }

    fn load_voting(
        &mut self,
        archive: &dyn Archive,
        no: ProposalNo,
        frozen: Frozen,
    ) -> Result<Voting, ArchiveError> {
        let electorate = ElectorateRecord::read(archive, &key::proposal(no))?
            .ok_or_else(|| missing("electorate", no))?;
        let mut voting = Voting::new(
            frozen,
            electorate
                .electors
                .iter()
                .map(|elector| (elector.agent, elector.power)),
        );
        let prefix = key::proposal(no);
        let end = key::after_prefix(&prefix);
        let mut fault = None;
        archive.scan(
            Table::Ballots,
            &prefix,
            end.as_deref(),
            Order::Ascending,
            &mut |_, value| match BallotRecord::decode(value)
                .and_then(|ballot| self.count_loaded(&mut voting, no, ballot))
            {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    fault = Some(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        if let Some(error) = fault {
            return Err(error);
        }
        let gone = |agent: &AgentRecord| agent.standing == Standing::Removed;
        for agent in self.agents.values().filter(|agent| gone(agent)) {
            if let Some(seat) = voting
                .electors
                .get(&agent.no)
                .copied()
                .filter(|seat| seat.cast.is_none())
            {
                voting.no_longer_outstanding(seat.power);
            }
        }
        Ok(voting)
    }

    fn count_loaded(
        &mut self,
        voting: &mut Voting,
        no: ProposalNo,
        ballot: BallotRecord,
    ) -> Result<(), ArchiveError> {
        let stray = || ArchiveError {
            reason: format!(
                "{no} has a ballot of {}, who is not an elector",
                ballot.voter
            ),
        };
        let agent = self.agents.get(&ballot.voter).ok_or_else(stray)?.no;
        let number = voting.number(&ballot.jws);
        let seat = voting.electors.get_mut(&agent).ok_or_else(stray)?;
        let statement = StatementId::of(&ballot.jti);
        seat.cast = Some(Cast { number, statement });
        let power = seat.power;
        voting.tally.add(ballot.choice, power);
        voting.no_longer_outstanding(power);
        self.statements.insert(
            (agent, statement),
            VoteId {
                proposal: no,
                number,
            },
        );
        Ok(())
    }
}

fn missing(what: &str, no: ProposalNo) -> ArchiveError {
    ArchiveError {
        reason: format!("{no} is open but has no {what} record"),
    }
}

/// Every record of a table whose key is in `[from, to)`.
fn read_all<R: Record>(
    archive: &dyn Archive,
    from: &[u8],
    to: Option<&[u8]>,
) -> Result<Vec<R>, ArchiveError> {
    let mut records = Ok(Vec::new());
    archive.scan(
        R::TABLE,
        from,
        to,
        Order::Ascending,
        &mut |_, value| match (R::decode(value), &mut records) {
            (Ok(record), Ok(all)) => {
                all.push(record);
                ControlFlow::Continue(())
            }
            (Ok(_), Err(_)) => ControlFlow::Break(()),
            (Err(error), _) => {
                records = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    records
}

/// The numbers of the proposals that are not closed, ascending.
pub(crate) fn open_proposals(archive: &dyn Archive) -> Result<Vec<ProposalNo>, ArchiveError> {
    let mut numbers = Vec::new();
    let mut strays = 0_u64;
    archive.scan(Table::Open, &[], None, Order::Ascending, &mut |found, _| {
        match <[u8; 8]>::try_from(found) {
            Ok(bytes) => numbers.push(ProposalNo(u64::from_be_bytes(bytes))),
            Err(_) => strays = strays.saturating_add(1),
        }
        ControlFlow::Continue(())
    })?;
    if strays > 0 {
        return Err(ArchiveError {
            reason: format!("the table of open proposals has {strays} keys of a wrong length"),
        });
    }
    Ok(numbers)
}
