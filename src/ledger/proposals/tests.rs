//! The bound on electorates, with agents put into memory: so many keys take long to check.

use std::collections::{BTreeMap, BTreeSet};

use aegis_crypto::SecretKey;
use aegis_crypto::claims::AgentType;
use aegis_crypto::merkle::Frontier;

use super::*;
use crate::apply::Trust;
use crate::archive::{Order, Visitor};
use crate::command::{Command, Entry};
use crate::ids::{AgentNo, LogIndex};
use crate::record::CoreRecord;
use crate::verified::Memory;

/// As many tables as a proposal's life needs.
#[derive(Default)]
struct Rows(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Archive for Rows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        _: &[u8],
        _: Option<&[u8]>,
        _: Order,
        _: Visitor<'_>,
    ) -> Result<(), ArchiveError> {
        assert_eq!(
            table,
            Table::Evidence,
            "only keyed requests, repeated ballots and restarts scan the others"
        );
        Ok(())
    }
}

struct World {
    ledger: Ledger,
    rows: Rows,
    now: LedgerTime,
    index: u64,
}

impl World {
    fn with_agents(count: usize) -> Self {
        let key = SecretKey::from_seed(&[7; 32]).public();
        let agent = AgentRecord {
            no: AgentNo(1),
            id: "a1".parse().unwrap(),
            name: "A".to_owned(),
            agent_type: AgentType::Human,
            weight: 1,
            key: key.into(),
            kid: key.kid(),
            retired: Vec::new(),
            attestation: None,
            proof: None,
            standing: Standing::Active,
            registered_at: LedgerTime(0),
            report: None,
        };
        let count = u32::try_from(count).unwrap();
        Self {
            ledger: Ledger {
                trust: Trust {
                    cluster_id: Digest::ZERO,
                    registrar: key,
                    administrators: Vec::new(),
                    committee: None,
                },
                core: CoreRecord::default(),
                agents: (1..=count)
                    .map(|no| {
                        let id: AgentId = format!("a{no}").parse().unwrap();
                        let (no, agent) = (AgentNo(no), agent.clone());
                        (id.clone(), AgentRecord { no, id, ..agent })
                    })
                    .collect(),
                keys: BTreeMap::new(),
                open: BTreeMap::new(),
                due: BTreeSet::new(),
                statements: BTreeMap::new(),
                committee: None,
                tree: Frontier::default(),
                memory: Memory::default(),
            },
            rows: Rows::default(),
            now: LedgerTime(1_780_000_000_000),
            index: 0,
        }
    }

    fn run(&mut self, command: Command) -> Result<Receipt, Refusal> {
        self.index += 1;
        let entry = Entry {
            principal: Principal::Administrator,
            request: None,
            command,
        };
        let applied = self
            .ledger
            .apply(&self.rows, LogIndex(self.index), self.now, entry)
            .unwrap();
        for change in applied.changes {
            let row = (change.table, change.key);
            match change.value {
                Some(value) => self.rows.0.insert(row, value),
                None => self.rows.0.remove(&row),
            };
        }
        applied.answer.outcome
    }

    fn propose(&mut self, extra: &str) -> Result<ProposalNo, Refusal> {
        let raw = format!(
            r#"{{"title":"T","description":"D","type":"decision","content":{{}},{extra}}}"#
        );
        let document = aegis_crypto::canonicalize(&raw, 16).unwrap();
        let signature = None;
        match self.run(Command::Propose {
            document,
            signature,
        })? {
            Receipt::Proposed { proposal, .. } => Ok(proposal),
            other => panic!("{other:?}"),
        }
    }

    fn step(&mut self, proposal: ProposalNo, step: command::Step) -> Result<Receipt, Refusal> {
        self.run(Command::Step { proposal, step })
    }

    fn tick_at(&mut self, now: LedgerTime) {
        self.now = now;
        self.run(Command::Tick).unwrap();
    }

    fn record(&self, no: ProposalNo) -> ProposalRecord {
        crate::query::proposal(&self.rows, no)
            .unwrap()
            .unwrap()
            .record
    }
}

#[test]
fn a_draft_with_too_many_electors_waits_for_fewer_or_expires() {
    let mut world = World::with_agents(ELECTORATE_MAX + 1);
    let too_many = |refusal: Refusal| {
        assert_eq!(refusal.code(), "policy_violation");
        assert_eq!(
            refusal.to_string(),
            "electorate_max: the electorate has 100001 agents, a proposal may have 100000; \
             name fewer in `electorate`, or remove agents first"
        );
    };
    too_many(world.propose(r#""open":true"#).unwrap_err());
    let filter = r#""open":true,"electorate":{"types":["human"]}"#;
    too_many(world.propose(filter).unwrap_err());
    assert_eq!(world.ledger.core.proposals, 0);
    assert_eq!(world.ledger.next_due(), None);

    let deadline = world.now.plus_s(60);
    let draft = format!(r#""voting_deadline":"{}""#, deadline.rfc3339());
    let [first, second] = [0; 2].map(|_| world.propose(&draft).unwrap());
    for no in [first, second] {
        too_many(world.step(no, command::Step::Open).unwrap_err());
        assert_eq!(world.record(no).status, Status::Draft);
        assert_eq!(world.ledger.next_due(), Some(deadline));
    }
    let named = r#""open":true,"electorate":["a2","a100001"]"#;
    let named = world.propose(named).unwrap();
    assert_eq!(world.record(named).frozen.unwrap().electorate_size, 2);

    // One agent fewer is as many as there may be.
    let agent = "a7".parse().unwrap();
    world.run(Command::RemoveAgent { agent }).unwrap();
    world.step(first, command::Step::Open).unwrap();
    let size = world.record(first).frozen.unwrap().electorate_size;
    assert_eq!(usize::try_from(size), Ok(ELECTORATE_MAX));

    // What was refused is not tried again: the other draft expires like any.
    world.tick_at(deadline.plus_ms(1));
    assert_eq!(world.record(second).status, Status::Expired);
    world.tick_at(deadline.plus_s(60));
    assert_eq!(world.record(first).status, Status::NoQuorum);
    world.step(named, command::Step::Cancel).unwrap();
    assert_eq!(world.ledger.next_due(), None);
}
