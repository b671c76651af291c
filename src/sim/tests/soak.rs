//! Random worlds.

use std::time::{Duration, Instant};

use aegis_sim::soak;

/// How long the soak takes where nobody says how many seeds.
const BUDGET: Duration = Duration::from_secs(10);

fn seeds() -> Option<u64> {
    let asked = std::env::var("AEGIS_SIM_SEEDS").ok()?;
    Some(asked.parse().expect("AEGIS_SIM_SEEDS is a number"))
}

fn first() -> u64 {
    let asked = std::env::var("AEGIS_SIM_FIRST").ok();
    asked.map_or(0, |first| {
        first.parse().expect("AEGIS_SIM_FIRST is a number")
    })
}

/// `AEGIS_SIM_SEEDS=5000 cargo test -p aegis-sim soak` runs so many;
/// `AEGIS_SIM_FIRST=17 AEGIS_SIM_SEEDS=1` that one again.
#[test]
fn soak() {
    let begun = Instant::now();
    let (first, asked) = (first(), seeds());
    let mut failed = Vec::new();
    let mut report = String::new();
    let (mut ran, mut views) = (0, 0);
    for seed in first..asked.map_or(u64::MAX, |asked| first + asked) {
        if asked.is_none() && begun.elapsed() > BUDGET {
            break;
        }
        ran += 1;
        match soak::run(seed) {
            Ok(outcome) => views += outcome.views,
            Err(failure) => {
                if failed.is_empty() {
                    report = failure.to_string();
                }
                failed.push((seed, failure.invariant));
            }
        }
    }
    let count = failed.len();
    assert!(
        count == 0,
        "{count} of {ran} seeds fail: {failed:?}\n{report}"
    );
    assert!(
        ran < 20 || views > ran,
        "hardly a view was changed: {views}"
    );
}

#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in 1_000..1_010 {
        let (first, second) = (soak::run(seed), soak::run(seed));
        match (first, second) {
            (Ok(first), Ok(second)) => assert_eq!(first, second),
            (Err(first), Err(second)) => assert_eq!(first.to_string(), second.to_string()),
            (first, second) => panic!("{first:?} and {second:?}"),
        }
    }
}
