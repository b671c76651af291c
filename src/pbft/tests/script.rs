//! Golden transcripts: each file under `transcripts/` is a story of commands, and below
//! each command what happened. A test tells every story again and compares; with
//! `AEGIS_UPDATE=1` it writes the files anew, for a person to review.
//!
//! ```text
//! # What the story shows.
//! > committee 4
//! > close 1 approved                 every ledger closes sequence 1
//! > close 1..8 approved at 0,1       some ledgers close several at once
//! > close 1 approved objected at 2   a private check speaks against it
//! > deliver all                      everything, until nothing is on the wire
//! > deliver from=0 to=1,2 kind=prepare view=0 seq=1     one pass over what matches
//! > deliver together to=1            the same, each receiver takes all of its at once
//! > drop to=3                        what matches is lost; the filter is as above
//! > wire                             what is on its way
//! > cut 0 / > heal                   a validator is cut off; all are back
//! > advance 250                      time passes, whoever asked is woken
//! > crash 2 / > power-loss 2 / > restart 2
//! > record 1 at 0,1                  the ledgers record the certificate
//! > verdict 1 rejected yes at 2      the shell answers what it was asked to judge
//! > forge 0 pre_prepare 1 rejected to 2    a second mouth with the key of seat 0
//! > status
//! > quiet close 1 approved           any command, when its consequences were told elsewhere
//! ```
//!
//! In the answers `0>1 prepare v0 s1 approved` is a delivery that had consequences, which
//! follow; one without is not shown. Writes come before everything that is said, because
//! nothing leaves a validator before all of them are on the medium. `[..]` is one write.

use std::fs;
use std::path::PathBuf;

use crate::world::{Filter, World};

#[test]
fn every_transcript_is_told_again() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 20, "the transcripts are there");
    let update = std::env::var_os("AEGIS_UPDATE").is_some();
    let mut differing = Vec::new();
    for path in paths {
        let old = fs::read_to_string(&path).unwrap();
        let told = tell(&old);
        if told == old {
            continue;
        }
        if update {
            fs::write(&path, told).unwrap();
        } else {
            let line = (1..)
                .zip(told.lines().zip(old.lines()))
                .find(|(_, (told, old))| told != old);
            differing.push(format!("{}: {line:?}", path.display()));
        }
    }
    assert!(
        differing.is_empty(),
        "AEGIS_UPDATE=1 writes them anew: {differing:#?}"
    );
}

/// A story with the answers that the validators give today.
fn tell(story: &str) -> String {
    let mut world = None;
    let mut told = String::new();
    for line in story.lines() {
        let command = line.strip_prefix("> ");
        if command.is_none() && !line.is_empty() && !line.starts_with('#') {
            continue;
        }
        told.push_str(line);
        told.push('\n');
        if let Some(command) = command {
            told.push_str(&obey(&mut world, command));
        }
    }
    told
}

fn obey(world: &mut Option<World>, command: &str) -> String {
    let mut words: Vec<&str> = command.split_whitespace().collect();
    let quiet = words.first() == Some(&"quiet");
    if quiet {
        words.remove(0);
    }
    if let ["committee", count] = words.as_slice() {
        let mut born = World::new(count.parse().unwrap());
        born.take_output();
        *world = Some(born);
        return String::new();
    }
    let world = world.as_mut().unwrap();
    let (words, at) = match words.as_slice() {
        [words @ .., "at" | "to", seats] => (words, numbers(seats)),
        words => (words, world.seats()),
    };
    match words {
        ["close", sequences, outcome] => match range(sequences).as_slice() {
            [one] => world.close(*one, outcome, &at, false),
            many => world.close_many(many, outcome, &at),
        },
        ["close", sequence, outcome, "objected"] => {
            world.close(sequence.parse().unwrap(), outcome, &at, true);
        }
        ["deliver", "all"] => world.deliver_all(),
        ["deliver", "together", filters @ ..] => world.deliver_together(&filter(filters)),
        ["deliver", filters @ ..] => {
            world.deliver(&filter(filters));
        }
        ["drop", filters @ ..] => world.drop(&filter(filters)),
        ["wire"] => world.wire(),
        ["cut", seats] => world.cut(&numbers(seats)),
        ["heal"] => world.heal(),
        ["advance", ms] => world.advance(ms.parse().unwrap()),
        ["crash", seat] => world.crash(seat.parse().unwrap()),
        ["power-loss", seat] => world.power_loss(seat.parse().unwrap()),
        ["restart", seat] => world.restart(seat.parse().unwrap()),
        ["record", sequences] => world.record(&range(sequences), &at),
        ["verdict", sequence, outcome, answer] => {
            world.verdict(sequence.parse().unwrap(), outcome, *answer == "yes", &at);
        }
        ["forge", seat, kind, sequence, outcome] => {
            let (seat, sequence) = (seat.parse().unwrap(), sequence.parse().unwrap());
            let draft = match *kind {
                "pre_prepare" => world.forged_proposal(sequence, outcome),
                "prepare" => world.forged_prepare(sequence, outcome),
                "checkpoint" => world.forged_checkpoint(sequence, outcome),
                other => panic!("no {other} is forged"),
            };
            world.forge(seat, draft, &at);
        }
        ["status"] => world.status(),
        other => panic!("no such command: {other:?}"),
    }
    let told = world.take_output();
    if quiet { String::new() } else { told }
}

fn numbers(list: &str) -> Vec<u8> {
    list.split(',').map(|seat| seat.parse().unwrap()).collect()
}

/// `3` or `1..8`, both ends included.
fn range(text: &str) -> Vec<u64> {
    match text.split_once("..") {
        Some((first, last)) => (first.parse().unwrap()..=last.parse().unwrap()).collect(),
        None => vec![text.parse().unwrap()],
    }
}

fn filter(words: &[&str]) -> Filter {
    let mut filter = Filter::default();
    for word in words {
        match word.split_once('=').unwrap() {
            ("from", seats) => filter.from = Some(numbers(seats)),
            ("to", seats) => filter.to = Some(numbers(seats)),
            ("kind", kind) => filter.kind = Some(kind.to_owned()),
            ("view", view) => filter.view = Some(view.parse().unwrap()),
            ("seq", sequence) => filter.sequence = Some(sequence.parse().unwrap()),
            other => panic!("no such filter: {other:?}"),
        }
    }
    filter
}

#[test]
fn the_same_story_is_told_alike_twice() {
    let story = "> committee 4\n> close 1 approved\n> deliver all\n> advance 2000\n> status\n";
    let once = tell(story);
    assert_eq!(once, tell(&once));
    assert!(once.contains("DECIDED"), "{once}");
}
