//! Random worlds: a plan, a schedule of faults and liars in up to f seats, all from a
//! seed; then everything heals, and agreement must come to its end.

use aegis_pbft::Sequence;

use crate::actors;
use crate::fault::Fault;
use crate::history::Opinion;
use crate::net::Weather;
use crate::plan::Plan;
use crate::random::Random;
use crate::world::{Failure, World};

/// How long things go wrong.
const TROUBLE_MS: u64 = 20_000;
/// How long agreement may take after that.
const SETTLE_MS: u64 = 240_000;

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The name of the log.
    pub digest: aegis_crypto::Digest,
    /// Events.
    pub events: u64,
    /// Closings that were certified.
    pub certified: usize,
    /// How often a view began somewhere.
    pub views: u64,
}

/// Runs the world of a seed to its end.
///
/// # Errors
/// An invariant that does not hold.
pub fn run(seed: u64) -> Result<Outcome, Failure> {
    let mut random = Random::new(seed);
    let mut world = world(seed, &mut random);
    let seats = world.plan().seats;
    let closings = schedule_closings(&mut world, &mut random);
    for _ in 0..random.between(0, 12) {
        trouble(&mut world, &mut random, seats, closings);
    }
    world.start()?;
    world.run_ms(TROUBLE_MS)?;
    world.heal()?;
    // In the end everybody who objects is heard: so many, that all hold it for contested.
    for number in 1..=world.history().closings() {
        let sequence = Sequence(number);
        let objected = (0..seats).any(|seat| {
            world
                .history()
                .opinion(aegis_crypto::SeatNo(seat), sequence)
                != Opinion::Plain
        });
        for seat in (0..seats).filter(|_| objected) {
            world.happen(Fault::Opinion(seat, sequence, Opinion::Contested))?;
        }
    }
    world.settle(SETTLE_MS)?;
    Ok(Outcome {
        digest: world.trace().digest(),
        events: world.invariants().events(),
        certified: world.history().certified(),
        views: world.invariants().views_entered(),
    })
}

fn world(seed: u64, random: &mut Random) -> World {
    let sizes = [1, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8, 10];
    let seats = random.pick(&sizes).copied().unwrap_or(4);
    let mut plan = Plan::new(random.next(), seats);
    plan.weather = weather(random);
    plan.lag_ms_max = random.between(0, 400);
    plan.shell_ms_max = random.between(0, 60);
    plan.skew_permille = random.between(0, 300);
    let mut world = World::new(plan);
    world.name(format!("the world of seed {seed}"));
    let faults_max = (seats - 1) / 3;
    for _ in 0..random.below(u64::from(faults_max) + 1) {
        let seat = random.below(u64::from(seats));
        world.seat(u8::try_from(seat).unwrap_or(0), actors::any(random));
    }
    world
}

fn weather(random: &mut Random) -> Weather {
    let delay_ms_min = random.between(0, 20);
    Weather {
        delay_ms_min,
        delay_ms_max: delay_ms_min + random.between(0, 200),
        drop_permille: random.below(150) * random.below(2),
        duplicate_permille: random.below(100),
    }
}

fn schedule_closings(world: &mut World, random: &mut Random) -> u64 {
    // Now and then more than a window.
    let closings = if random.chance(60) {
        random.between(130, 200)
    } else {
        random.between(1, 20)
    };
    let bursts = random.chance(500);
    let mut at = 0;
    for _ in 0..closings {
        let pause = (TROUBLE_MS - 2_000) / closings;
        at += if bursts && random.chance(700) {
            0
        } else {
            random.below(pause * 2)
        };
        world.after(at.min(TROUBLE_MS), Fault::Close);
    }
    closings
}

fn trouble(world: &mut World, random: &mut Random, seats: u8, closings: u64) {
    let any = |random: &mut Random| u8::try_from(random.below(u64::from(seats))).unwrap_or(0);
    let at = random.below(TROUBLE_MS);
    let until = at + random.below(6_000);
    let seat = any(random);
    match random.below(10) {
        0 => {
            world.after(at, Fault::PowerLoss(seat));
            world.after(until, Fault::Restart(seat));
        }
        1 => {
            let kept = random.chance(500);
            world.after(at, Fault::FailWrite { seat, kept });
            world.after(until, Fault::Restart(seat));
        }
        2 => {
            for seat in 0..seats {
                world.after(at, Fault::PowerLoss(seat));
                world.after(until + random.below(500), Fault::Restart(seat));
            }
        }
        3 => {
            world.after(at, Fault::Pause(seat));
            world.after(until, Fault::Resume(seat));
        }
        4 => {
            let mut groups = vec![Vec::new(), Vec::new()];
            for seat in 0..seats {
                let group = usize::from(random.chance(500));
                if let Some(group) = groups.get_mut(group) {
                    group.push(seat);
                }
            }
            world.after(at, Fault::Partition(groups));
            world.after(until, Fault::Heal);
        }
        5 => {
            world.after(at, Fault::Star(seat));
            world.after(until, Fault::Heal);
        }
        6 => {
            for _ in 0..random.between(1, 5) {
                world.after(at, Fault::OneWay(any(random), any(random)));
            }
            world.after(until, Fault::Heal);
        }
        7 => world.after(at, Fault::Weather(weather(random))),
        8 => {
            // A blink: what was being said is half heard.
            world.after(at, Fault::PowerLoss(seat));
            world.after(at + random.below(30), Fault::Restart(seat));
        }
        _ => {
            let sequence = Sequence(random.between(1, closings));
            for seat in 0..seats {
                if random.chance(500) {
                    continue;
                }
                let first = [Opinion::Objected, Opinion::Contested];
                let first = random.pick(&first).copied().unwrap_or_default();
                world.after(
                    random.below(TROUBLE_MS),
                    Fault::Opinion(seat, sequence, first),
                );
            }
        }
    }
}
