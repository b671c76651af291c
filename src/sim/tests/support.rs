//! What scenarios share.

use aegis_pbft::{Message, Sequence};
use aegis_sim::{Failure, Fault, Plan, World};

pub(crate) type Run = Result<(), Failure>;

/// Virtual time after which a committee without faults must have done everything.
pub(crate) const SOON_MS: u64 = 60_000;

/// A calm world in which nobody runs yet.
pub(crate) fn calm(seats: u8) -> World {
    World::new(Plan::new(u64::from(seats), seats))
}

/// A calm world of honest validators.
pub(crate) fn honest(seats: u8) -> World {
    let mut world = calm(seats);
    world.start().unwrap();
    world
}

/// A calm world with one liar.
pub(crate) fn with(seats: u8, seat: u8, actor: Box<dyn aegis_sim::actors::Actor>) -> World {
    let mut world = calm(seats);
    world.seat(seat, actor);
    world.start().unwrap();
    world
}

/// Closes so many proposals, some milliseconds apart.
pub(crate) fn close(world: &mut World, count: u64, apart_ms: u64) -> Run {
    for _ in 0..count {
        world.close();
        world.run_ms(apart_ms)?;
    }
    Ok(())
}

/// Runs until the ledger has so many certificates; fails after some time.
pub(crate) fn certified(world: &mut World, count: usize, within_ms: u64) {
    let done = world.run_until(within_ms, |world| world.history().certified() >= count);
    assert!(
        done.unwrap(),
        "{} certified after {within_ms} ms:\n{}",
        world.history().certified(),
        world.trace().tail()
    );
}

pub(crate) fn view(world: &World, seat: u8) -> u64 {
    world.node(seat).status().unwrap().view.0
}

pub(crate) fn low(world: &World, seat: u8) -> u64 {
    world.node(seat).status().unwrap().low.0
}

/// Everything works again, and agreement comes to its end.
pub(crate) fn settle(world: &mut World) -> Run {
    world.heal()?;
    world.settle(SOON_MS)
}

pub(crate) const fn is_commit(message: &Message) -> bool {
    matches!(message, Message::Commit(_))
}

pub(crate) const fn is_checkpoint(message: &Message) -> bool {
    matches!(message, Message::Checkpoint(_) | Message::Stable(_))
}

/// Takes a seat's power away, and gives it back after a while.
pub(crate) fn blink(world: &mut World, seat: u8, ms: u64) -> Run {
    world.happen(Fault::PowerLoss(seat))?;
    world.run_ms(ms)?;
    world.happen(Fault::Restart(seat))
}

pub(crate) fn plain(world: &World, sequence: u64) -> aegis_crypto::Digest {
    world.history().plain(Sequence(sequence)).digest()
}

pub(crate) fn contested(world: &World, sequence: u64) -> aegis_crypto::Digest {
    world.history().contested(Sequence(sequence)).digest()
}

pub(crate) fn recorded(world: &World, sequence: u64) -> Option<aegis_crypto::Digest> {
    world.history().recorded(Sequence(sequence))
}
