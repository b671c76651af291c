//! What the pure core costs: admitting a ballot, reading its statement, verifying its
//! signature. Run with `make bench`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::{Bound, ControlFlow};

use aegis_crypto::claims::{AgentType, VoteClaims};
use aegis_crypto::{Digest, Jws, SecretKey, Typ, jws};
use aegis_ledger::*;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Tables in memory.
#[derive(Clone, Default)]
struct Tables(BTreeMap<(u8, Vec<u8>), Vec<u8>>);

impl Tables {
    fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            let key = (change.table.id(), change.key);
            match change.value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }
}

impl Archive for Tables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        Ok(self.0.get(&(table.id(), key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        _: Order,
        visit: Visitor<'_>,
    ) -> Result<(), ArchiveError> {
        let end = to.map_or((table.id() + 1, Vec::new()), |to| (table.id(), to.to_vec()));
        let range = (
            Bound::Included((table.id(), from.to_vec())),
            Bound::Excluded(end),
        );
        let _: ControlFlow<()> = self
            .0
            .range(range)
            .try_for_each(|((_, key), value)| visit(key, value));
        Ok(())
    }
}

fn secret(n: u32) -> SecretKey {
    let mut seed = [1; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    SecretKey::from_seed(&seed)
}

fn genesis() -> Genesis {
    let jwk = serde_json::to_value(aegis_crypto::Jwk::from(secret(0).public())).unwrap();
    let document = serde_json::json!({
        "version": 1, "name": "bench", "created_at": "2026-01-01T00:00:00Z", "nonce": Digest::of("n"),
        "registrar": jwk, "administrators": [], "policies": initial_policies_digest(), "committee": [],
    });
    Genesis::parse(serde_json::to_vec(&document).unwrap()).unwrap()
}

const VOTERS: u32 = 1_000;
const NOW_S: u64 = 1_780_000_000;

/// An open proposal with [`VOTERS`] electors, and a ballot of each.
fn prepared() -> (Genesis, Tables, Vec<Ballot>) {
    let genesis = genesis();
    let mut tables = Tables::default();
    let mut ledger = Ledger::load(&tables, &genesis).unwrap();
    let mut index = 0;
    let mut apply = |tables: &mut Tables, command| {
        index += 1;
        let entry = Entry {
            principal: Principal::Administrator,
            request: None,
            command,
        };
        let applied = ledger
            .apply(tables, LogIndex(index), LedgerTime(NOW_S * 1_000), entry)
            .unwrap();
        applied.answer.outcome.as_ref().unwrap();
        tables.write(applied.changes);
    };
    let agents: Vec<_> = (1..=VOTERS)
        .map(|n| Registration {
            id: Some(format!("a{n}").parse().unwrap()),
            name: format!("Agent {n}"),
            agent_type: AgentType::Llm,
            key: secret(n).public().into(),
            weight: 1,
            attestation: None,
            proof: None,
        })
        .collect();
    for batch in agents.chunks(BATCH_MAX) {
        apply(&mut tables, Command::RegisterAgents(batch.to_vec()));
    }
    let document =
        r#"{"content":{},"description":"","open":true,"title":"T","type":"decision"}"#.to_owned();
    apply(
        &mut tables,
        Command::Propose {
            document,
            signature: None,
        },
    );
    let record = query::proposal(&tables, ProposalNo(1))
        .unwrap()
        .unwrap()
        .record;
    let ballots = (1..=VOTERS).map(|n| ballot(&genesis, &record, n)).collect();
    (genesis, tables, ballots)
}

fn ballot(genesis: &Genesis, record: &ProposalRecord, n: u32) -> Ballot {
    let claims = VoteClaims {
        aud: genesis.cluster_id(),
        sub: format!("a{n}"),
        proposal: record.no.to_string(),
        digest: record.frozen.as_ref().unwrap().voting_digest,
        round: 1,
        choice: "for".into(),
        confidence: "0.9".into(),
        justification_sha256: None,
        jti: format!("018f-{n:032}"),
        iat: NOW_S.cast_signed(),
        exp: None,
        seq: None,
    };
    Ballot {
        jws: jws::sign(Typ::VOTE, &secret(n), &claims).unwrap(),
        justification: None,
    }
}

fn ledger(criterion: &mut Criterion) {
    let (genesis, tables, ballots) = prepared();
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(u64::from(VOTERS)));
    for batch in [1, BATCH_MAX] {
        group.bench_function(
            format!("apply/{VOTERS}_votes_in_entries_of_{batch}"),
            |bencher| {
                bencher.iter_batched(
                    || {
                        let ledger = Ledger::load(&tables, &genesis).unwrap();
                        let commands: Vec<_> = ballots
                            .chunks(batch)
                            .map(|b| Command::Cast(b.to_vec()))
                            .collect();
                        (ledger, commands)
                    },
                    |(mut ledger, commands)| {
                        for (index, command) in (100..).zip(commands) {
                            let entry = Entry {
                                principal: Principal::Voters,
                                request: None,
                                command,
                            };
                            let now = LedgerTime(NOW_S * 1_000);
                            black_box(ledger.apply(&tables, LogIndex(index), now, entry).unwrap());
                        }
                        ledger
                    },
                    BatchSize::LargeInput,
                );
            },
        );
    }
    group.finish();
}

fn ballots(criterion: &mut Criterion) {
    let (_, _, ballots) = prepared();
    let ballot = &ballots[0];
    let key = secret(1).public();
    let mut group = criterion.benchmark_group("ballot");
    group.bench_function("parse", |bencher| {
        bencher.iter(|| CheckedBallot::parse(black_box(&ballot.jws)).unwrap())
    });
    let statement = Jws::parse(&ballot.jws, Typ::VOTE, STATEMENT_BYTES_MAX).unwrap();
    group.bench_function("verify", |bencher| {
        bencher.iter(|| black_box(&statement).verify(&key).unwrap())
    });
    group.finish();
}

criterion_group!(benches, ledger, ballots);
criterion_main!(benches);
