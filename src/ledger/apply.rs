//! Applying entries: the one way in which the ledger changes.
//!
//! [`Ledger::apply`] takes an entry of the log and returns what to answer, what to tell
//! subscribers and what to write. For each entry, in this order:
//!
//! 1. ledger time moves to the entry's stamp, never back;
//! 2. what is due by then closes, at most [`CLOSINGS_PER_ENTRY_MAX`], in (deadline, id) order;
//! 3. a keyed request that was answered before gets its first answer again;
//! 4. the command is carried out or refused: it is checked whole before anything changes;
//! 5. an audit entry is chained.
//!
//! Nothing here reads a clock, draws a random number or reaches a disk but through the
//! [`Archive`]. An [`ArchiveError`] is a local failure: the ledger in memory may then be
//! half changed and must not be used again; the node stops.

use std::collections::{BTreeMap, BTreeSet};

use aegis_crypto::certificate::ENVELOPE_BYTES_MAX;
use aegis_crypto::merkle::Frontier;
use aegis_crypto::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, ArchiveError, Change, Table};
use crate::audit::{AuditEntry, Link};
use crate::command::{BATCH_MAX, Command, Entry, Principal, RequestKey};
use crate::epochs::CommitteeRecord;
use crate::event::{Event, EventKind, EventPosition};
use crate::ids::{AgentId, AgentNo, LedgerTime, LogIndex, ProposalNo, TokenNo, VoteId};
use crate::open::{OpenProposal, StatementId};
use crate::record::{AgentRecord, CoreRecord, Record, Status, key};
use crate::refusal::Refusal;
use crate::requests::{REQUEST_KEY_BYTES_MAX, remember};
use crate::tree;
use crate::verified::Memory;

/// The most closings before one entry; ticks close the rest.
pub const CLOSINGS_PER_ENTRY_MAX: usize = 64;
/// How long after the first entry past a deadline ballots that were signed in time are
/// still admitted, in milliseconds of ledger time.
pub const INCLUSION_GRACE_MS: u64 = 2_000;
/// How many of the newest events are kept for subscribers that resume.
pub const EVENTS_KEPT: u64 = 100_000;

/// What a submitter is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The log index of the entry.
    pub index: LogIndex,
    /// Ledger time.
    pub time: LedgerTime,
    /// The audit head after the entry.
    pub audit_head: Digest,
    /// What came of it.
    pub outcome: Result<Receipt, Refusal>,
}

impl Answer {
    /// The bytes that travel from the node that applied to the node that asked.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        crate::codec::encode_record(self)
    }

    /// Reads what [`Answer::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that no version of this code wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, crate::codec::DecodeError> {
        crate::codec::decode_record(bytes, "answer")
    }
}

/// What a command achieved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receipt {
    /// Nothing to tell.
    Done,
    /// Agents were registered, each alone.
    Agents(Vec<Result<AgentReceipt, Refusal>>),
    /// A token was issued.
    Token(TokenNo),
    /// A proposal was submitted.
    Proposed {
        /// The proposal.
        proposal: ProposalNo,
        /// Where it stands.
        status: Status,
        /// When.
        created_at: LedgerTime,
        /// SHA-256 of its document.
        digest: Digest,
    },
    /// A proposal took a step.
    Stepped {
        /// The proposal.
        proposal: ProposalNo,
        /// Where it stands now.
        status: Status,
    },
    /// Ballots were cast, each alone.
    Cast(Vec<Result<CastReceipt, Refusal>>),
}

/// A registered agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReceipt {
    /// Its id.
    pub id: AgentId,
    /// Its key's thumbprint.
    pub kid: aegis_crypto::Kid,
    /// Whether the registrar stands behind it.
    pub attested: bool,
}

/// An admitted ballot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CastReceipt {
    /// The ballot.
    pub vote: VoteId,
    /// When it was admitted.
    pub time: LedgerTime,
    /// Whether the same signed bytes had been admitted before.
    pub repeated: bool,
}

/// What applying an entry came to.
#[derive(Debug)]
pub struct Applied {
    /// For the submitter.
    pub answer: Answer,
    /// For subscribers, logs and metrics, in order.
    pub events: Vec<Event>,
    /// For the disk, in order; a later change to a key replaces an earlier one.
    pub changes: Vec<Change>,
}

/// The open work of a cluster: everything that applying the next entry needs in memory.
/// It is rebuilt from the tables by [`Ledger::load`]; history stays on disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Ledger {
    pub(crate) trust: Trust,
    pub(crate) core: CoreRecord,
    pub(crate) agents: BTreeMap<AgentId, AgentRecord>,
    pub(crate) keys: BTreeMap<aegis_crypto::Kid, AgentId>,
    pub(crate) open: BTreeMap<ProposalNo, OpenProposal>,
    /// What happens next to open proposals, in the order in which it happens.
    pub(crate) due: BTreeSet<(LedgerTime, ProposalNo)>,
    /// The statements counted on open proposals, by signer and `jti`.
    pub(crate) statements: BTreeMap<(AgentNo, StatementId), VoteId>,
    /// The committee of the newest epoch, if the cluster has one.
    pub(crate) committee: Option<CommitteeRecord>,
    /// The tree over the hashes of all audit entries.
    pub(crate) tree: Frontier,
    pub(crate) memory: Memory,
}

/// What the genesis fixes for every rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) cluster_id: Digest,
    pub(crate) registrar: aegis_crypto::PublicKey,
    pub(crate) administrators: Vec<aegis_crypto::PublicKey>,
    /// The committee of epoch 0.
    pub(crate) committee: Option<CommitteeRecord>,
}

/// Why a command stops: refused, like every replica will, or failed here.
#[derive(Debug)]
pub(crate) enum Stop {
    Refused(Refusal),
    Failed(ArchiveError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ArchiveError> for Stop {
    fn from(error: ArchiveError) -> Self {
        Self::Failed(error)
    }
}

/// Tells a refusal, which is an outcome, from a failure, which is not.
pub(crate) fn outcome_of<T>(result: Result<T, Stop>) -> Result<Result<T, Refusal>, ArchiveError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// One entry being applied: where it stands, what it reads and what it leaves behind.
pub(crate) struct Step<'a> {
    pub(crate) archive: &'a dyn Archive,
    pub(crate) index: LogIndex,
    pub(crate) time: LedgerTime,
    pub(crate) changes: Vec<Change>,
    events: Vec<Event>,
}

impl Step<'_> {
    /// Reads a record, seeing what this entry has changed so far.
    pub(crate) fn read<R: Record>(&self, key: &[u8]) -> Result<Option<R>, ArchiveError> {
        let pending = self
            .changes
            .iter()
            .rev()
            .find(|change| change.table == R::TABLE && change.key == key);
        match pending {
            Some(change) => change.value.as_deref().map(R::decode).transpose(),
            None => R::read(self.archive, key),
        }
    }

    pub(crate) fn put<R: Record>(&mut self, key: Vec<u8>, record: &R) {
        self.changes.push(record.put(key));
    }

    pub(crate) fn mark(&mut self, table: Table, key: Vec<u8>) {
        self.changes.push(Change {
            table,
            key,
            value: Some(Vec::new()),
        });
    }

    pub(crate) fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.changes.push(Change {
            table,
            key,
            value: None,
        });
    }
}

impl Ledger {
    /// Applies the entry at `index`, stamped `stamp` by the leader that proposed it.
    ///
    /// # Errors
    /// The archive could not be read. The ledger must be dropped.
    pub fn apply(
        &mut self,
        archive: &dyn Archive,
        index: LogIndex,
        stamp: LedgerTime,
        entry: Entry,
    ) -> Result<Applied, ArchiveError> {
        self.core.time = self.core.time.max(stamp);
        let mut step = Step {
            archive,
            index,
            time: self.core.time,
            changes: Vec::new(),
            events: Vec::new(),
        };
        self.close_due(&mut step)?;
        let answer = match self.remembered(&step, &entry)? {
            Some(answer) => answer,
            None => self.carry_out(&mut step, entry)?,
        };
        step.put(Vec::new(), &self.core);
        Ok(Applied {
            answer,
            events: step.events,
            changes: step.changes,
        })
    }

    fn carry_out(&mut self, step: &mut Step<'_>, entry: Entry) -> Result<Answer, ArchiveError> {
        let Entry {
            principal,
            request,
            command,
        } = entry;
        let (kind, payload) = (command.kind(), command.digest());
        let outcome = match check_bounds(request.as_ref(), &command) {
            Ok(()) => outcome_of(self.dispatch(step, &principal, command))?,
            Err(refusal) => Err(refusal),
        };
        let code = audit_code(&outcome);
        self.chain(step, &principal.to_string(), kind, payload, code);
        let answer = Answer {
            index: step.index,
            time: step.time,
            audit_head: self.core.audit_head,
            outcome,
        };
        if let Some(request) = request.filter(RequestKey::fits) {
            remember(step, &principal, request, &answer)?;
        }
        Ok(answer)
    }

    fn dispatch(
        &mut self,
        step: &mut Step<'_>,
        principal: &Principal,
        command: Command,
    ) -> Result<Receipt, Stop> {
        match command {
            Command::Tick => Ok(Receipt::Done),
            Command::RegisterAgents(registrations) => {
                self.register_agents(step, principal, registrations)
            }
            Command::RemoveAgent { agent } => self.remove_agent(step, principal, &agent),
            Command::ReplaceKey {
                agent,
                key,
                attestation,
                proof,
            } => self.replace_key(step, principal, &agent, &key, attestation, proof),
            Command::Report { agent, report } => self.report(step, principal, &agent, report),
            Command::IssueToken { agent, secret } => {
                self.issue_token(step, principal, agent, secret)
            }
            Command::RevokeToken { token } => self.revoke_token(step, principal, token),
            Command::Propose {
                document,
                signature,
            } => self.propose(step, principal, &document, signature.as_deref()),
            Command::Step {
                proposal,
                step: kind,
            } => self.take_step(step, principal, proposal, kind),
            Command::Cast(ballots) => self.cast(step, ballots),
            Command::Restored { incarnation, .. } => self.restored(principal, incarnation),
            Command::RecordCertificate { ordinal, envelope } => {
                self.record_certificate(step, principal, ordinal, envelope)
            }
        }
    }

    /// Begins an incarnation. The head of the snapshot stands in the audit payload.
    fn restored(&mut self, principal: &Principal, incarnation: u64) -> Result<Receipt, Stop> {
        if *principal != Principal::System {
            return Err(forbidden(principal, "record a restore").into());
        }
        self.core.incarnation = incarnation;
        Ok(Receipt::Done)
    }

    /// Appends to the audit chain.
    pub(crate) fn chain(
        &mut self,
        step: &mut Step<'_>,
        principal: &str,
        kind: &str,
        payload: Digest,
        outcome: &str,
    ) {
        let link = Link {
            index: step.index,
            time: step.time,
            principal,
            kind,
            payload,
            outcome,
        };
        let entry = AuditEntry::chain(self.core.audit_entries, self.core.audit_head, &link);
        self.core.audit_entries = self.core.audit_entries.saturating_add(1);
        self.core.audit_head = entry.hash;
        tree::grow(&mut self.tree, step, &entry.hash);
        step.put(key::number(entry.seq), &entry);
    }

    /// Tells subscribers, keeping the newest [`EVENTS_KEPT`] events.
    pub(crate) fn tell(&mut self, step: &mut Step<'_>, kind: EventKind) {
        let ordinal = u32::try_from(step.events.len()).unwrap_or(u32::MAX);
        let event = Event {
            position: EventPosition {
                index: step.index,
                ordinal,
            },
            time: step.time,
            kind,
        };
        step.put(key::number(self.core.events), &event);
        if let Some(gone) = self.core.events.checked_sub(EVENTS_KEPT) {
            step.delete(Table::Events, key::number(gone));
        }
        self.core.events = self.core.events.saturating_add(1);
        step.events.push(event);
    }

    /// Counts a proposal's move from one status to another.
    pub(crate) fn count_status(&mut self, from: Option<Status>, to: Status) {
        for (count, status) in self.core.statuses.iter_mut().zip(Status::ALL) {
            if Some(status) == from {
                *count = count.saturating_sub(1);
            }
            if status == to {
                *count = count.saturating_add(1);
            }
        }
    }

    /// The counters, the clock and the head of the audit chain.
    #[must_use]
    pub const fn core(&self) -> &CoreRecord {
        &self.core
    }

    /// When the next proposal closes by itself, so that the leader knows when to tick.
    #[must_use]
    pub fn next_due(&self) -> Option<LedgerTime> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Whether an entry stamped so finds a proposal to close first.
    #[must_use]
    pub fn is_due(&self, stamp: LedgerTime) -> bool {
        self.first_due(self.core.time.max(stamp)).is_some()
    }

    /// The committee of the newest epoch; `None` where the genesis names none.
    #[must_use]
    pub const fn committee(&self) -> Option<&CommitteeRecord> {
        self.committee.as_ref()
    }

    /// The root of the tree over all audit entries so far, as
    /// [`tree_root`](crate::query::tree_root) computes it from the tables.
    #[must_use]
    pub fn tree_root(&self) -> Digest {
        self.tree.root()
    }

    /// How many proposals are not closed.
    #[must_use]
    pub fn open_proposals(&self) -> usize {
        self.open.len()
    }
}

/// `ok`, or the code of the refusal; a batch is refused if nothing of it was accepted.
fn audit_code(outcome: &Result<Receipt, Refusal>) -> &'static str {
    fn batch<T>(items: &[Result<T, Refusal>]) -> &'static str {
        match items {
            [Err(first), rest @ ..] if rest.iter().all(Result::is_err) => first.code(),
            _ => "ok",
        }
    }
    match outcome {
        Err(refusal) => refusal.code(),
        Ok(Receipt::Cast(items)) => batch(items),
        Ok(Receipt::Agents(items)) => batch(items),
        Ok(_) => "ok",
    }
}

/// What the edge has checked already and every replica relies on: no record and no key
/// that comes of an entry grows beyond what storage takes.
fn check_bounds(request: Option<&RequestKey>, command: &Command) -> Result<(), Refusal> {
    let too_long = |field: &str, len: usize, unit: &str, max: usize| Refusal::InvalidField {
        field: field.to_owned(),
        reason: format!("it has {len} {unit}, at most {max}"),
    };
    if let Some(request) = request.filter(|request| !request.fits()) {
        let len = request.key.len();
        return Err(too_long("request", len, "bytes", REQUEST_KEY_BYTES_MAX));
    }
    match command {
        Command::RegisterAgents(agents) if agents.len() > BATCH_MAX => {
            Err(too_long("agents", agents.len(), "items", BATCH_MAX))
        }
        Command::Cast(ballots) if ballots.len() > BATCH_MAX => {
            Err(too_long("votes", ballots.len(), "items", BATCH_MAX))
        }
        Command::RecordCertificate { envelope, .. } if envelope.len() > ENVELOPE_BYTES_MAX => {
            let len = envelope.len();
            Err(too_long("certificate", len, "bytes", ENVELOPE_BYTES_MAX))
        }
        _ => Ok(()),
    }
}

pub(crate) fn forbidden(principal: &Principal, action: &str) -> Refusal {
    Refusal::Forbidden {
        who: principal.to_string(),
        action: action.to_owned(),
    }
}

pub(crate) fn require_administrator(principal: &Principal, action: &str) -> Result<(), Refusal> {
    if *principal == Principal::Administrator {
        Ok(())
    } else {
        Err(forbidden(principal, action))
    }
}

/// The digest of a closing, which its audit entry carries.
pub(crate) fn closing_digest(record: &[u8]) -> Digest {
    Hasher::tagged("aegis/closing/1").bytes(record).finish()
}
