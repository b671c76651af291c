//! View changes.

use aegis_crypto::SeatNo;
use aegis_pbft::{Message, Sequence};
use aegis_sim::actors::{Hasty, Padder};
use aegis_sim::history::Opinion;
use aegis_sim::{Fault, Plan, World};

use crate::support::{
    Run, SOON_MS, certified, close, contested, honest, is_checkpoint, is_commit, low, recorded,
    settle, view, with,
};

#[test]
fn a_new_view_on_padded_view_changes_does_not_begin() -> Run {
    let mut world = with(4, 1, Box::new(Padder));
    world.happen(Fault::PowerLoss(0))?;
    world.close();
    world.run_ms(2_500)?;
    assert_eq!(world.history().certified(), 0, "view 1 has not begun");
    settle(&mut world)?;
    assert!(view(&world, 2) >= 2);
    Ok(())
}

#[test]
fn view_changes_with_unequal_watermarks_complete() -> Run {
    let mut world = honest(4);
    world
        .net
        .lose(|_, to, message| to == SeatNo(3) && is_checkpoint(message));
    close(&mut world, 70, 10)?;
    world.run_ms(2_000)?;
    assert!(low(&world, 1) >= 64 && low(&world, 3) == 0);
    world.happen(Fault::PowerLoss(0))?;
    close(&mut world, 3, 10)?;
    certified(&mut world, 73, 5_000);
    assert!(
        view(&world, 3) > 0 && low(&world, 3) >= 64,
        "the new view brought it along"
    );
    settle(&mut world)
}

#[test]
fn a_star_partition_during_a_view_change_heals() -> Run {
    for centre in 1..4 {
        let mut world = honest(4);
        world.close();
        world.happen(Fault::PowerLoss(0))?;
        world.happen(Fault::Star(centre))?;
        close(&mut world, 3, 10)?;
        world.run_ms(15_000)?;
        world.happen(Fault::Heal)?;
        certified(&mut world, 4, SOON_MS);
        settle(&mut world)?;
    }
    Ok(())
}

/// Seat 1 is locked on one value in view 0, seat 3 on another one in view 2.
#[test]
fn of_two_locks_the_later_view_s_wins() -> Run {
    let mut world = honest(4);
    world.happen(Fault::Opinion(2, Sequence(1), Opinion::Contested))?;
    world.net.lose(|_, to, message| {
        is_commit(message) || (matches!(message, Message::Prepare(_)) && to != SeatNo(1))
    });
    world.close();
    world.run_ms(400)?;
    let locked = |world: &World, seat: u8| -> Vec<u64> {
        let node = world.node(seat).validator().unwrap();
        let safety = node.guard().safety();
        safety.prepared().map(|proof| proof.view().0).collect()
    };
    assert_eq!(locked(&world, 1), [0]);
    world.net.lose(|_, to, message| {
        is_commit(message) || (matches!(message, Message::Prepare(_)) && to != SeatNo(3))
    });
    world.net.partition(&[&[1], &[0, 2, 3]]);
    assert!(world.run_until(20_000, |world| locked(world, 3) == [2])?);
    assert!(locked(&world, 0).is_empty());
    settle(&mut world)?;
    assert_eq!(recorded(&world, 1), Some(contested(&world, 1)));
    Ok(())
}

/// The restart loses the deadline, and the closing gets another one.
#[test]
fn a_restart_with_a_pending_timeout_still_times_out() -> Run {
    let mut world = honest(4);
    world.happen(Fault::PowerLoss(0))?;
    world.close();
    world.run_ms(950)?;
    for seat in 1..4 {
        world.happen(Fault::PowerLoss(seat))?;
        world.happen(Fault::Restart(seat))?;
    }
    certified(&mut world, 1, 1_500);
    settle(&mut world)
}

/// Everybody restarts while the view change is under way, again and again.
#[test]
fn a_restart_inside_a_view_change_goes_on_with_it() -> Run {
    for pause in [1, 5, 40, 300, 1_100, 2_500] {
        let mut world = honest(4);
        world.close();
        world.run_ms(3)?;
        world.happen(Fault::PowerLoss(0))?;
        world
            .net
            .lose(|_, _, message| matches!(message, Message::NewView(_)));
        assert!(world.run_until(5_000, |world| view(world, 1) > 0)?);
        world.run_ms(pause)?;
        for seat in 1..4 {
            world.happen(Fault::PowerLoss(seat))?;
        }
        for seat in 1..4 {
            world.happen(Fault::Restart(seat))?;
            world.run_ms(pause)?;
        }
        world.happen(Fault::Heal)?;
        certified(&mut world, 1, 20_000);
        settle(&mut world)?;
    }
    Ok(())
}

/// The beginning of the view reaches nobody; whoever asks for the view gets it later.
#[test]
fn a_lost_new_view_is_shown_again() -> Run {
    let mut world = honest(4);
    world.happen(Fault::PowerLoss(0))?;
    world
        .net
        .lose(|_, to, message| matches!(message, Message::NewView(_)) && to != SeatNo(2));
    world.close();
    assert!(world.run_until(5_000, |world| view(world, 1) == 1)?);
    world.run_ms(100)?;
    world.happen(Fault::Heal)?;
    certified(&mut world, 1, 1_500);
    assert_eq!(view(&world, 3), 1);
    settle(&mut world)
}

/// One validator has gone on to a view that the others have not reached, the liar keeps
/// silent, and nobody's view has a quorum. Found by the soak.
#[test]
fn validators_in_different_views_come_together() -> Run {
    let mut world = honest(4);
    world.net.lose(|_, to, message| {
        let asks = matches!(message, Message::ViewChange(change) if change.view.0 == 1);
        matches!(message, Message::NewView(_)) || (asks && to != SeatNo(3))
    });
    world.happen(Fault::PowerLoss(0))?;
    world.close();
    assert!(world.run_until(20_000, |world| view(world, 3) == 2)?);
    assert!(view(&world, 1) == 1 && view(&world, 2) == 1);
    world.happen(Fault::Heal)?;
    certified(&mut world, 1, 30_000);
    settle(&mut world)
}

/// A liar cannot drive the views up by itself.
#[test]
fn one_seat_changes_no_view() -> Run {
    let mut world = with(4, 2, Box::new(Hasty::new(20)));
    for _ in 0..20 {
        world.close();
        world.run_ms(200)?;
    }
    world.settle(SOON_MS)?;
    assert_eq!(view(&world, 0), 0);
    Ok(())
}

/// Every primary in turn goes down, with losses on all links.
#[test]
fn views_change_through_a_bad_network() -> Run {
    for seed in 0..5 {
        let mut plan = Plan::new(seed, 4);
        plan.weather.drop_permille = 200;
        plan.weather.delay_ms_max = 150;
        plan.lag_ms_max = 300;
        let mut world = World::new(plan);
        world.start()?;
        for round in 0..8 {
            let primary = u8::try_from(view(&world, (round + 1) % 4) % 4).unwrap();
            world.happen(Fault::PowerLoss(primary))?;
            world.close();
            world.run_ms(3_000)?;
            world.happen(Fault::Restart(primary))?;
            world.run_ms(500)?;
        }
        settle(&mut world)?;
    }
    Ok(())
}
