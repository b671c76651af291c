//! Determinism: a random history gives the same tables, ledger and answers however it is
//! replayed: at once or in batches, restarted at any point, or handed on in snapshots, and
//! in another process. And whatever came of it agrees with naive models of the rules.
//!
//! The seeds are fixed, so every run checks the same histories; a failure names its seed.

use std::collections::{BTreeMap, BTreeSet};

use aegis_ledger::*;
use proptest::prelude::*;

use crate::history::*;
use crate::replay::*;

fn histories() -> impl Strategy<Value = Vec<Keyed>> {
    acts(1..80)
}

/// Histories, in clusters with and without a committee.
fn all_histories() -> impl Strategy<Value = (u32, Vec<Keyed>)> {
    (seats(), histories())
}

#[test]
fn replays_agree_to_the_byte() {
    check(
        || (all_histories(), 2..9_usize),
        |((seats, acts), batch)| {
            let Played {
                world,
                log,
                answers,
            } = play(seats, &acts);
            let first = replay(&world.genesis, &log, 1, Between::Nothing);
            prop_assert_eq!(&first.tables, &world.tables);
            prop_assert_eq!(&first.ledger, &world.ledger);
            prop_assert_eq!(&first.answers, &answers);
            prop_assert_eq!(&first.events, &world.events);
            for between in [Between::Nothing, Between::Restart, Between::Snapshot] {
                let again = replay(&world.genesis, &log, batch, between);
                prop_assert_eq!(&again, &first, "{:?} after each {}", between, batch);
            }
            Ok(())
        },
    );
}

/// Runs this test again in another process, which replays the same histories in batches of
/// another size, and compares.
#[test]
fn two_processes_with_different_batches_agree() {
    const BATCH: &str = "AEGIS_LEDGER_REPLAY_BATCH";
    let replay_all = |batch: usize| -> Vec<String> {
        let some = seeds().into_iter().take(6);
        some.map(|seed| {
            let Played { world, log, .. } = play(seats_of(seed), &drawn(seed, 120));
            let replayed = replay(&world.genesis, &log, batch, Between::Nothing);
            let (state, trace) = (replayed.tables.digest(), replayed.trace);
            format!("replayed seed {seed}: state {state}, trace {trace}")
        })
        .collect()
    };
    if let Ok(batch) = std::env::var(BATCH) {
        for line in replay_all(batch.parse().unwrap()) {
            say(&line);
        }
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("histories::two_processes_with_different_batches_agree")
        .env(BATCH, "7")
        .output()
        .unwrap();
    let said = String::from_utf8(child.stdout).unwrap();
    assert!(child.status.success(), "{said}");
    // The harness writes the name of the test before its first line.
    let theirs: Vec<_> = said
        .lines()
        .filter_map(|line| line.find("replayed seed ").map(|at| &line[at..]))
        .collect();
    assert_eq!(theirs, replay_all(1), "each line names its seed");
}

#[expect(clippy::print_stdout, reason = "a process tells its parent")]
fn say(line: &str) {
    println!("{line}");
}

#[test]
fn tallies_equal_a_naive_count() {
    check(all_histories, |(seats, acts)| {
        let world = play(seats, &acts).world;
        let proposals = query::proposals(&world.tables, &Default::default(), None, 100).unwrap();
        for view in proposals.items {
            let ballots = query::ballots(&world.tables, view.record.no, None, 1_000)
                .unwrap()
                .items;
            let mut naive = Tally::default();
            let mut voters = BTreeSet::new();
            for (_, ballot) in &ballots {
                naive.add(ballot.choice, ballot.power);
                prop_assert!(voters.insert(ballot.voter.clone()), "one ballot a voter");
            }
            prop_assert_eq!(view.tally, naive);
            if let (Some(closed), Some(frozen)) = (&view.record.closed, &view.record.frozen)
                && closed.outcome != Outcome::Cancelled
            {
                prop_assert_eq!(naive.outcome(&frozen.rules()), closed.outcome);
            }
        }
        let verdict = query::verify_audit(&world.tables).unwrap();
        prop_assert_eq!(verdict.fault, None);
        let core = query::core(&world.tables).unwrap();
        prop_assert_eq!(verdict.entries, core.audit_entries);
        prop_assert_eq!(core.statuses.iter().sum::<u64>(), core.proposals);
        prop_assert_eq!(
            world.tables.rows(Table::Open),
            world.ledger.open_proposals()
        );
        Ok(())
    });
}

#[test]
fn a_keyed_request_runs_once_a_day() {
    check(
        || (seats(), prop_oneof![histories(), requests()]),
        |(seats, acts)| {
            let played = play(seats, &acts);
            let mut first: BTreeMap<_, (aegis_crypto::Digest, &Answer)> = BTreeMap::new();
            for ((_, entry), answer) in played.log.iter().zip(&played.answers) {
                let Some(request) = &entry.request else {
                    continue;
                };
                let name = (entry.principal.clone(), request.key.clone());
                let kept = first
                    .get(&name)
                    .filter(|(_, first)| first.time.plus_s(REQUEST_KEPT_S) >= answer.time);
                match kept {
                    Some((body, first)) if *body == request.body => prop_assert_eq!(*first, answer),
                    Some(_) => {
                        let code = answer.outcome.as_ref().map_err(Refusal::code);
                        prop_assert_eq!(code, Err("idempotency_mismatch"));
                    }
                    None => {
                        first.insert(name, (request.body, answer));
                    }
                }
            }
            Ok(())
        },
    );
}

#[test]
fn whoever_contradicts_itself_leaves_evidence() {
    check(
        || (seats(), prop_oneof![histories(), quarrels()]),
        |(seats, acts)| {
            let played = play(seats, &acts);
            let tables = &played.world.tables;
            for ((_, entry), answer) in played.log.iter().zip(&played.answers) {
                let (Command::Cast(ballots), Ok(Receipt::Cast(receipts))) =
                    (&entry.command, &answer.outcome)
                else {
                    continue;
                };
                for (ballot, receipt) in ballots.iter().zip(receipts) {
                    let Err(Refusal::Replayed { .. } | Refusal::AlreadyVoted { .. }) = receipt
                    else {
                        continue;
                    };
                    let other = CheckedBallot::parse(&ballot.jws).unwrap();
                    let counted = query::voter_ballots(tables, &other.voter, None, 1_000)
                        .unwrap()
                        .items
                        .into_iter()
                        .find(|(vote, _)| vote.proposal == other.proposal)
                        .filter(|(_, counted)| counted.index < answer.index);
                    let Some((vote, counted)) = counted else {
                        continue;
                    };
                    let evidence = query::evidence(tables, other.proposal).unwrap();
                    let kept = evidence
                        .iter()
                        .any(|EvidenceRecord::Equivocation { counted, .. }| *counted == vote);
                    prop_assert!(kept || counted.choice == other.choice, "{:?}", receipt);
                }
            }
            Ok(())
        },
    );
}

/// Histories that reach little prove little: over all seeds, each of these happens.
#[test]
fn histories_reach_what_there_is() {
    if std::env::var(SEED).is_ok() {
        return;
    }
    let mut reached = BTreeSet::new();
    for seed in seeds() {
        // Long enough for a subtree of the audit entries, once.
        let count = if seed == 1 { 300 } else { 160 };
        let played = play(seats_of(seed), &drawn(seed, count));
        let tables = &played.world.tables;
        for entry in query::audit(tables, 0, 10_000).unwrap().items {
            reached.insert(format!("{} {}", entry.kind, entry.outcome));
        }
        for table in Table::ALL {
            if tables.rows(table) > 0 {
                reached.insert(format!("rows of {}", table.name()));
            }
        }
        for (at, answer) in played.answers.iter().enumerate() {
            let entry = &played.log[at].1;
            if answer.index.0 <= at as u64 {
                reached.insert("a repeated answer".to_owned());
            }
            if let Err(Refusal::IdempotencyMismatch { .. }) = &answer.outcome {
                reached.insert("another request under a key".to_owned());
            }
            match (&entry.command, &answer.outcome) {
                (
                    Command::Propose {
                        signature: Some(_), ..
                    },
                    Ok(_),
                ) => reached.insert("a signed proposal".to_owned()),
                (
                    Command::ReplaceKey {
                        attestation: Some(_),
                        ..
                    },
                    Ok(_),
                ) => reached.insert("an attested new key".to_owned()),
                (_, Ok(Receipt::Cast(receipts)))
                    if receipts.iter().flatten().any(|receipt| receipt.repeated) =>
                {
                    reached.insert("a repeated ballot".to_owned())
                }
                _ => false,
            };
        }
    }
    let missed: Vec<_> = TO_REACH
        .iter()
        .map(|reach| (*reach).to_owned())
        .chain(Table::ALL.map(|table| format!("rows of {}", table.name())))
        .filter(|reach| !reached.contains(reach))
        .collect();
    assert!(missed.is_empty(), "missed {missed:?} of {reached:?}");
}

const TO_REACH: &[&str] = &[
    "a repeated answer",
    "a repeated ballot",
    "a signed proposal",
    "an attested new key",
    "another request under a key",
    "cancel forbidden",
    "cancel illegal_transition",
    "cancel ok",
    "cast already_voted",
    "cast bad_signature",
    "cast not_eligible",
    "cast not_open",
    "cast ok",
    "cast replayed",
    "cast statement_mismatch",
    "cast unknown_voter",
    "cast voting_closed",
    "closing approved",
    "closing cancelled",
    "closing expired",
    "closing no_quorum",
    "closing rejected",
    "execute not_certified",
    "execute ok",
    "execute too_early",
    "issue_token agent_removed",
    "issue_token ok",
    "issue_token unknown_agent",
    "open ok",
    "propose agent_removed",
    "propose expired_statement",
    "propose forbidden",
    "propose ok",
    "propose key_in_use",
    "propose seat_exists",
    "propose statement_mismatch",
    "propose unknown_seat",
    "record_certificate bad_certificate",
    "record_certificate certificate_mismatch",
    "record_certificate no_committee",
    "record_certificate ok",
    "record_certificate unknown_closing",
    "register_agents agent_exists",
    "register_agents ok",
    "register_agents statement_mismatch",
    "remove_agent ok",
    "replace_key key_in_use",
    "replace_key ok",
    "report forbidden",
    "report invalid_field",
    "report ok",
    "report stale_report",
    "restored ok",
    "review ok",
    "revoke_token ok",
    "revoke_token unknown_token",
    "tally policy_violation",
    "tick ok",
];
