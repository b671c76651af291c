//! Planted bugs: a harness that does not find them proves nothing.

use aegis_crypto::SeatNo;
use aegis_pbft::Message;
use aegis_sim::actors::{
    Actor, Amnesiac, Backslider, Bypass, Colluder, Eager, FewSigners, Miscounter, Omitter,
    Regressor,
};
use aegis_sim::{Failure, Fault, World};

use crate::support::{Run, calm, close, honest, is_commit, settle, with};

/// A run that has everything in it that a bug may need: commits, a view change, restarts.
fn eventful(world: &mut World) -> Run {
    close(world, 3, 20)?;
    world.net.lose(|_, _, message| is_commit(message));
    close(world, 2, 20)?;
    world.run_ms(400)?;
    world.happen(Fault::PowerLoss(0))?;
    world.run_ms(1_500)?;
    world.happen(Fault::Heal)?;
    world.run_ms(1_500)?;
    for seat in 1..4 {
        world.happen(Fault::PowerLoss(seat))?;
        world.happen(Fault::Restart(seat))?;
    }
    settle(world)
}

fn finds(invariant: &str, run: Result<(), Failure>) {
    let failure = run.expect_err("the planted bug goes unnoticed");
    assert_eq!(failure.invariant, invariant, "{failure}");
    let report = failure.to_string();
    assert!(
        report.contains("seed") && report.contains("the last events"),
        "{report}"
    );
}

fn planted(actor: Box<dyn Actor>) -> Result<(), Failure> {
    eventful(&mut with(4, 1, actor))
}

#[test]
fn without_a_bug_nothing_is_found() -> Run {
    eventful(&mut honest(4))
}

#[test]
fn a_disk_that_forgets_is_found() {
    let mut world = honest(4);
    world.node(1).disk().forget(1);
    finds("Durability", eventful(&mut world));
}

#[test]
fn a_vote_before_its_write_is_found() {
    finds("Durability", planted(Box::new(Eager::default())));
}

#[test]
fn a_second_vote_is_found() {
    finds("NoContradiction", planted(Box::new(Bypass)));
}

#[test]
fn a_vote_that_a_restart_forgot_is_found() {
    finds("NoContradiction", planted(Box::new(Amnesiac::default())));
}

#[test]
fn a_vote_in_a_view_that_was_left_is_found() {
    finds("NoContradiction", planted(Box::new(Regressor)));
}

#[test]
fn a_view_change_for_a_lower_view_is_found() {
    finds("NoContradiction", planted(Box::new(Backslider)));
}

#[test]
fn a_view_change_without_its_proofs_is_found() {
    finds("NothingLeftOut", planted(Box::new(Omitter)));
}

#[test]
fn a_quorum_of_one_honest_seat_is_found() {
    finds(
        "CertificatesVerify",
        planted(Box::new(FewSigners::default())),
    );
}

#[test]
fn messages_that_are_counted_for_signers_are_found() {
    finds("CertificatesVerify", planted(Box::new(Miscounter)));
}

/// More liars than f: a primary with two values, and one who votes for both.
#[test]
fn two_certificates_are_found() {
    let mut world = calm(4);
    world.seat(0, Box::new(Colluder));
    world.seat(3, Box::new(Colluder));
    world.start().unwrap();
    world.net.lose(|from, to, _| {
        let honest = [SeatNo(1), SeatNo(2)];
        honest.contains(&from) && honest.contains(&to)
    });
    finds("Agreement", close(&mut world, 3, 300));
}

/// A committee that cannot reach a quorum does not settle.
#[test]
fn standing_still_is_found() {
    let mut world = honest(4);
    world
        .net
        .lose(|_, _, message| matches!(message, Message::Prepare(_)));
    world.close();
    finds("Liveness", world.settle(20_000));
}
