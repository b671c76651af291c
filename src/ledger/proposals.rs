//! Proposals: submission, the steps of their life cycle, and the opening that freezes
//! their rules.

use std::collections::BTreeSet;

use aegis_crypto::claims::ProposalClaims;
use aegis_crypto::{Digest, Hasher, Jws, Typ, merkle};

use crate::apply::{Ledger, Receipt, Step, Stop, forbidden};
use crate::archive::{Archive, ArchiveError, Change, Table};
use crate::ballots::{STATEMENT_BYTES_MAX, check_order_times};
use crate::command::{self, Principal};
use crate::document::{Deadline, Document, Electorate, ElectorateFilter};
use crate::epochs::CommitteeChange;
use crate::event::EventKind;
use crate::ids::{AgentId, LedgerTime, ProposalNo};
use crate::number::Ppb;
use crate::open::{OpenProposal, Voting};
use crate::policy::{Method, Policy, VOTING_PERIOD_MAX_S, VOTING_PERIOD_MIN_S};
use crate::record::{
    AgentRecord, Elector, ElectorateRecord, Frozen, Outcome, ProposalRecord, Standing, Status, key,
};
use crate::refusal::Refusal;
use crate::result::TALLY_VERSION;

/// The most electors that a proposal may have.
///
/// An electorate is one record, and a record longer than the 16 MiB that storage takes
/// would stop every node at the entry that opens the voting, and again at each restart.
/// This many electors with the longest ids take less than half of that.
pub const ELECTORATE_MAX: usize = 100_000;

impl Ledger {
    /// Submits a proposal, and opens it at once where the document asks for that.
    pub(crate) fn propose(
        &mut self,
        step: &mut Step<'_>,
        principal: &Principal,
        text: &str,
        signature: Option<&str>,
    ) -> Result<Receipt, Stop> {
        let digest = Digest::of(text);
        self.check_author(principal, signature, digest, step.time)?;
        let document = Document::parse(text)?;
        let committee_change = self.committee_change(&document)?;
        let policy = Policy::initial(document.category);
        self.check_open_proposals(principal, &policy)?;
        self.check_named_electors(&document)?;
        if let Deadline::At(deadline) = document.deadline {
            check_period(step.time, deadline)?;
        }
        let no = ProposalNo(self.core.proposals.saturating_add(1));
        let mut record = ProposalRecord {
            no,
            author: principal.clone(),
            created_at: step.time,
            digest,
            title: document.title.clone(),
            kind: document.kind,
            category: document.category,
            asked_deadline: match document.deadline {
                Deadline::At(deadline) => Some(deadline),
                Deadline::After(_) | Deadline::Policy => None,
            },
            status: Status::Draft,
            round: 1,
            frozen: None,
            closing_since: None,
            closed: None,
            executed_at: None,
            committee_change,
        };
        let opening = if document.open {
            Some(self.freeze(&record, &document, policy, step.time)?)
        } else {
            None
        };

        self.core.proposals = no.0;
        step.changes.push(Change {
            table: Table::Documents,
            key: key::proposal(no),
            value: Some(text.into()),
        });
        step.mark(Table::Open, key::proposal(no));
        if opening.is_some() {
            record.status = Status::Voting;
        }
        let status = record.status;
        self.count_status(None, status);
        self.tell(
            step,
            EventKind::ProposalCreated {
                proposal: no,
                author: principal.clone(),
                status,
            },
        );
        match opening {
            Some(opening) => self.begin_voting(step, record, opening),
            None => {
                step.put(key::proposal(no), &record);
                if let Some(due) = record.due() {
                    self.due.insert((due, no));
                }
                self.open.insert(
                    no,
                    OpenProposal {
                        record,
                        voting: None,
                    },
                );
            }
        }
        Ok(Receipt::Proposed {
            proposal: no,
            status,
            created_at: step.time,
            digest,
        })
    }

    /// The change of the committee that a document asks for. It must apply to the committee
    /// of today; whether it does when it is decided is seen then.
    fn committee_change(&self, document: &Document) -> Result<Option<CommitteeChange>, Refusal> {
        let (Some(committee), Some(content)) = (&self.committee, &document.configuration) else {
            return Ok(None);
        };
        let change = CommitteeChange::parse(content)?;
        if let Some(change) = &change {
            committee.changed(change, &self.trust)?;
        }
        Ok(change)
    }

    /// The author is the administrator or an active agent; a signature, where there is
    /// one, is the agent's own over this document. The edge has verified its bytes, and
    /// where there is a committee every replica does.
    fn check_author(
        &self,
        principal: &Principal,
        signature: Option<&str>,
        digest: Digest,
        now: LedgerTime,
    ) -> Result<(), Refusal> {
        let author = match principal {
            Principal::Administrator => None,
            Principal::Agent(id) => Some(self.active_agent(id)?),
            Principal::System | Principal::Voters => return Err(forbidden(principal, "propose")),
        };
        let Some(jws) = signature else { return Ok(()) };
        let bad = |error| Refusal::bad_signature(&error);
        let statement = Jws::parse(jws, Typ::PROPOSAL, STATEMENT_BYTES_MAX).map_err(bad)?;
        let claims: ProposalClaims = statement.claims().map_err(bad)?;
        let author = author.ok_or_else(|| forbidden(principal, "sign a proposal"))?;
        let mismatch = |field: &str, signed: String, expected: String| {
            Err(Refusal::StatementMismatch {
                field: field.to_owned(),
                signed,
                expected,
            })
        };
        if claims.aud != self.trust.cluster_id {
            return mismatch(
                "aud",
                claims.aud.to_string(),
                self.trust.cluster_id.to_string(),
            );
        }
        if claims.sub != author.id.as_str() {
            return mismatch(
                "sub",
                claims.sub.chars().take(80).collect(),
                author.id.to_string(),
            );
        }
        if claims.digest != digest {
            return mismatch("digest", claims.digest.to_string(), digest.to_string());
        }
        if *statement.kid() != author.kid {
            let reason = format!(
                "it names key {}, the agent's key is {}",
                statement.kid(),
                author.kid
            );
            return Err(Refusal::BadSignature { reason });
        }
        check_order_times(claims.iat, claims.exp, now)?;
        self.check_signature(jws, Typ::PROPOSAL, author)
    }

    pub(crate) fn active_agent(&self, id: &AgentId) -> Result<&AgentRecord, Refusal> {
        let agent = self.agents.get(id).ok_or_else(|| Refusal::UnknownAgent {
            agent: id.to_string(),
        })?;
        match agent.standing {
            Standing::Active => Ok(agent),
            Standing::Removed => Err(Refusal::AgentRemoved { agent: id.clone() }),
        }
    }

    /// The limit holds for agents; the administrator already holds every other power.
    fn check_open_proposals(&self, principal: &Principal, policy: &Policy) -> Result<(), Refusal> {
        let Principal::Agent(author) = principal else {
            return Ok(());
        };
        let open = self
            .open
            .values()
            .filter(|proposal| proposal.record.author == *principal)
            .count();
        let open = u64::try_from(open).unwrap_or(u64::MAX);
        if open < policy.open_proposals_per_author {
            return Ok(());
        }
        Err(Refusal::TooManyOpen {
            author: author.clone(),
            open,
            limit: policy.open_proposals_per_author,
        })
    }

    fn check_named_electors(&self, document: &Document) -> Result<(), Refusal> {
        if let Some(Electorate::Agents(agents)) = &document.electorate {
            for id in agents {
                let agent = self.active_agent(id)?;
                if !self.may_elect(agent) {
                    return Err(Refusal::PolicyViolation {
                        rule: "attested_electors".to_owned(),
                        detail: format!(
                            "agent {id} is not attested, and where there is a committee only \
                             attested agents vote; have the registrar attest it, or name others"
                        ),
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether an agent may be in an electorate: the committee counts only voters whom the
    /// registrar stands behind.
    const fn may_elect(&self, agent: &AgentRecord) -> bool {
        self.committee.is_none() || agent.is_attested()
    }

    /// Takes a step that the author or the administrator asks for.
    pub(crate) fn take_step(
        &mut self,
        step: &mut Step<'_>,
        principal: &Principal,
        no: ProposalNo,
        kind: command::Step,
    ) -> Result<Receipt, Stop> {
        let record = match self.open.get(&no) {
            Some(proposal) => proposal.record.clone(),
            None => step
                .read::<ProposalRecord>(&key::proposal(no))?
                .ok_or_else(|| Refusal::UnknownProposal {
                    proposal: no.to_string(),
                })?,
        };
        if *principal != Principal::Administrator && *principal != record.author {
            return Err(forbidden(
                principal,
                &format!("act on {no}, which is by {}", record.author),
            )
            .into());
        }
        let illegal = Refusal::IllegalTransition {
            proposal: no,
            status: record.status,
            action: kind.participle().to_owned(),
        };
        let status = match (kind, record.status) {
            (command::Step::Review, Status::Draft) => self.review(step, record),
            (command::Step::Open, Status::Draft | Status::Review) => {
                self.open_voting(step, record)?
            }
            (command::Step::Cancel, status) if status.is_active() => {
                self.close(step, no, Outcome::Cancelled)?;
                Status::Cancelled
            }
            (command::Step::Tally, Status::Voting) => {
                let rule = "tally".to_owned();
                let detail =
                    "the policy of this category closes by itself and takes no tally".to_owned();
                return Err(Refusal::PolicyViolation { rule, detail }.into());
            }
            (command::Step::Execute, Status::Approved) => self.execute(step, record)?,
            _ => return Err(illegal.into()),
        };
        Ok(Receipt::Stepped {
            proposal: no,
            status,
        })
    }

    fn review(&mut self, step: &mut Step<'_>, mut record: ProposalRecord) -> Status {
        self.move_to(step, &mut record, Status::Review);
        if let Some(open) = self.open.get_mut(&record.no) {
            open.record = record;
        }
        Status::Review
    }

    fn move_to(&mut self, step: &mut Step<'_>, record: &mut ProposalRecord, status: Status) {
        self.count_status(Some(record.status), status);
        record.status = status;
        step.put(key::proposal(record.no), record);
        self.tell(
            step,
            EventKind::ProposalUpdated {
                proposal: record.no,
                status,
            },
        );
    }

    fn open_voting(
        &mut self,
        step: &mut Step<'_>,
        mut record: ProposalRecord,
    ) -> Result<Status, Stop> {
        let document = read_document(step.archive, record.no)?;
        let policy = Policy::initial(record.category);
        let opening = self.freeze(&record, &document, policy, step.time)?;
        if let Some(due) = record.due() {
            self.due.remove(&(due, record.no));
        }
        self.move_to(step, &mut record, Status::Voting);
        self.begin_voting(step, record, opening);
        Ok(Status::Voting)
    }

    /// Computes all that an opening fixes, without changing anything.
    fn freeze(
        &self,
        record: &ProposalRecord,
        document: &Document,
        policy: Policy,
        now: LedgerTime,
    ) -> Result<(Frozen, ElectorateRecord), Refusal> {
        let deadline = match document.deadline {
            Deadline::At(deadline) => deadline,
            Deadline::After(seconds) => now.plus_s(seconds),
            Deadline::Policy => now.plus_s(policy.voting_period_s),
        };
        check_period(now, deadline)?;
        let electorate = self.electorate(document.electorate.as_ref())?;
        let electorate_size = u64::try_from(electorate.electors.len()).unwrap_or(u64::MAX);
        if electorate_size < policy.min_participants {
            return Err(Refusal::PolicyViolation {
                rule: "min_participants".to_owned(),
                detail: format!(
                    "the electorate has {electorate_size} agents, the policy asks for {}; register agents first",
                    policy.min_participants
                ),
            });
        }
        let method = document.method.unwrap_or(policy.method);
        let electorate_root = electorate.root();
        let frozen = Frozen {
            opened_at: now,
            deadline,
            method,
            electorate_size,
            power_total: electorate
                .electors
                .iter()
                .fold(0, |sum, e| u128::saturating_add(sum, u128::from(e.power.0))),
            electorate_root,
            voting_digest: voting_digest(record.digest, &policy, method, electorate_root, deadline),
            quorum_required: policy.quorum_of(electorate_size),
            policy,
            tally_version: TALLY_VERSION,
        };
        Ok((frozen, electorate))
    }

    /// The active agents that the document names or lets through, in the order of their ids.
    fn electorate(&self, chosen: Option<&Electorate>) -> Result<ElectorateRecord, Refusal> {
        let members: Vec<&AgentRecord> = match chosen {
            None => self.agents.values().collect(),
            Some(Electorate::Agents(ids)) => {
                let ids: BTreeSet<&AgentId> = ids.iter().collect();
                ids.into_iter()
                    .filter_map(|id| self.agents.get(id))
                    .collect()
            }
            Some(Electorate::Filter(filter)) => self
                .agents
                .values()
                .filter(|agent| filter.admits(agent))
                .collect(),
        };
        let electors: Vec<Elector> = members
            .into_iter()
            .filter(|agent| agent.standing == Standing::Active && self.may_elect(agent))
            .map(|agent| Elector {
                agent: agent.no,
                id: agent.id.clone(),
                power: Ppb::ONE,
            })
            .collect();
        if electors.len() > ELECTORATE_MAX {
            return Err(Refusal::PolicyViolation {
                rule: "electorate_max".to_owned(),
                detail: format!(
                    "the electorate has {} agents, a proposal may have {ELECTORATE_MAX}; name fewer in `electorate`, or remove agents first",
                    electors.len()
                ),
            });
        }
        Ok(ElectorateRecord { electors })
    }

    fn begin_voting(
        &mut self,
        step: &mut Step<'_>,
        mut record: ProposalRecord,
        (frozen, electorate): (Frozen, ElectorateRecord),
    ) {
        let no = record.no;
        record.frozen = Some(frozen.clone());
        step.put(key::proposal(no), &record);
        step.put(key::proposal(no), &electorate);
        let voting = Voting::new(
            frozen,
            electorate
                .electors
                .iter()
                .map(|elector| (elector.agent, elector.power)),
        );
        step.put(key::proposal(no), &voting.tally);
        if let Some(due) = record.due() {
            self.due.insert((due, no));
        }
        self.open.insert(
            no,
            OpenProposal {
                record,
                voting: Some(voting),
            },
        );
    }

    /// Acknowledges an outside effect, once the appeal window and the delay have passed;
    /// where there is a committee, nothing follows a closing before its certificate.
    fn execute(&mut self, step: &mut Step<'_>, mut record: ProposalRecord) -> Result<Status, Stop> {
        if self.committee.is_some() && !record.is_certified() {
            return Err(Refusal::NotCertified {
                proposal: record.no,
            }
            .into());
        }
        let until = record.executable_from();
        if step.time < until {
            let action = command::Step::Execute.participle().to_owned();
            return Err(Refusal::TooEarly {
                proposal: record.no,
                action,
                until,
            }
            .into());
        }
        record.executed_at = Some(step.time);
        self.move_to(step, &mut record, Status::Executed);
        Ok(Status::Executed)
    }
}

impl ElectorateFilter {
    fn admits(&self, agent: &AgentRecord) -> bool {
        self.types
            .as_ref()
            .is_none_or(|types| types.contains(&agent.agent_type))
            && self
                .attested
                .is_none_or(|attested| attested == agent.is_attested())
    }
}

impl ProposalRecord {
    /// The first time at which an approved decision may be executed.
    #[must_use]
    pub fn executable_from(&self) -> LedgerTime {
        match (&self.closed, &self.frozen) {
            (Some(closed), Some(frozen)) => closed
                .at
                .plus_s(frozen.policy.appeal_window_s)
                .plus_s(frozen.policy.implementation_delay_s),
            _ => LedgerTime(u64::MAX),
        }
    }
}

impl ElectorateRecord {
    /// RFC 6962 root over the electors: each leaf is the id, length-prefixed, and the power.
    #[must_use]
    pub fn root(&self) -> Digest {
        merkle::root(
            self.electors
                .iter()
                .map(|elector| elector_leaf(&elector.id, elector.power)),
        )
    }
}

/// An elector's leaf in the tree over an electorate.
pub(crate) fn elector_leaf(id: &AgentId, power: Ppb) -> Vec<u8> {
    let id = id.as_str().as_bytes();
    let len = u64::try_from(id.len()).unwrap_or(u64::MAX);
    [&len.to_be_bytes()[..], id, &power.0.to_be_bytes()[..]].concat()
}

/// What every ballot names: the proposal and all the rules that its opening froze.
pub(crate) fn voting_digest(
    proposal: Digest,
    policy: &Policy,
    method: Method,
    electorate_root: Digest,
    deadline: LedgerTime,
) -> Digest {
    let no_options = 0;
    Hasher::tagged("aegis/voting/1")
        .digest(&proposal)
        .bytes(policy.name.as_bytes())
        .u64(u64::from(policy.version))
        .bytes(method.as_str().as_bytes())
        .u64(no_options)
        .digest(&electorate_root)
        .u64(deadline.0)
        .finish()
}

fn check_period(now: LedgerTime, deadline: LedgerTime) -> Result<(), Refusal> {
    let (earliest, latest) = (
        now.plus_s(VOTING_PERIOD_MIN_S),
        now.plus_s(VOTING_PERIOD_MAX_S),
    );
    if (earliest..=latest).contains(&deadline) {
        return Ok(());
    }
    Err(Refusal::PolicyViolation {
        rule: "voting_period".to_owned(),
        detail: format!(
            "a deadline of {} is outside {} to {}",
            deadline.rfc3339(),
            earliest.rfc3339(),
            latest.rfc3339()
        ),
    })
}

/// The document of a stored proposal, which was checked when it was submitted.
pub(crate) fn read_document(
    archive: &dyn Archive,
    no: ProposalNo,
) -> Result<Document, ArchiveError> {
    let corrupt = |reason: String| ArchiveError {
        reason: format!("the document of {no}: {reason}"),
    };
    let bytes = archive
        .get(Table::Documents, &key::proposal(no))?
        .ok_or_else(|| corrupt("it is missing".to_owned()))?;
    let text = String::from_utf8(bytes).map_err(|error| corrupt(error.to_string()))?;
    Document::parse(&text).map_err(|refusal| corrupt(refusal.to_string()))
}

#[cfg(test)]
mod tests;
