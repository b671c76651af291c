//! Checkpoints, watermarks and those who lag behind them.

use aegis_crypto::SeatNo;
use aegis_pbft::{Message, Sequence, WINDOW};
use aegis_sim::Fault;

use crate::support::{Run, certified, close, honest, is_checkpoint, is_commit, low, settle, view};

/// More closings than a window go through, and the watermarks follow.
#[test]
fn agreement_goes_on_through_many_windows() -> Run {
    let mut world = honest(4);
    close(&mut world, 3 * WINDOW, 2)?;
    world.settle(10_000)?;
    assert_eq!(view(&world, 0), 0);
    Ok(())
}

/// A burst of more closings than a window holds, all at once.
#[test]
fn a_burst_beyond_the_window_is_taken_up_later() -> Run {
    let mut world = honest(4);
    close(&mut world, 2 * WINDOW + 7, 0)?;
    world.settle(20_000)
}

/// The primary is at a checkpoint that one backup has not heard of, and proposes above
/// that backup's high watermark.
#[test]
fn proposals_above_the_high_watermark_wait_and_change_no_view() -> Run {
    let mut world = honest(4);
    world
        .net
        .lose(|_, to, message| to == SeatNo(3) && is_checkpoint(message));
    close(&mut world, WINDOW + 10, 10)?;
    world.run_ms(3_000)?;
    assert!(low(&world, 0) > 0 && low(&world, 3) == 0);
    assert!(world.node(3).status().unwrap().buffered > 0);
    assert_eq!(
        world.history().certified(),
        usize::try_from(WINDOW).unwrap() + 10
    );
    for seat in 0..4 {
        assert_eq!(view(&world, seat), 0);
    }
    settle(&mut world)?;
    assert_eq!(view(&world, 3), 0);
    Ok(())
}

/// Seat 3 hears of decisions by certificates alone, and then of the same ones by a
/// view change. That it hands out each once is an invariant.
#[test]
fn a_certificate_and_a_view_change_deliver_a_decision_once() -> Run {
    let mut world = honest(4);
    world
        .net
        .lose(|_, _, message| matches!(message, Message::Prepare(_)));
    close(&mut world, 1, 60)?;
    world.happen(Fault::Pause(3))?;
    world
        .net
        .lose(|_, to, message| is_checkpoint(message) || (to == SeatNo(3) && is_commit(message)));
    world.run_ms(880)?;
    assert!(world.invariants().has_decided(3, Sequence(1)));
    world.happen(Fault::PowerLoss(0))?;
    world.close();
    world.happen(Fault::Resume(3))?;
    world.net.lose(|_, _, _| false);
    certified(&mut world, 2, 10_000);
    settle(&mut world)
}

/// f replicas are cut off, their ledgers too, until the others are windows ahead.
#[test]
fn replicas_that_lag_by_windows_catch_up() -> Run {
    for seats in [4, 7] {
        let mut world = honest(seats);
        let behind: Vec<u8> = (seats - (seats - 1) / 3..seats).collect();
        let ahead: Vec<u8> = (0..seats - (seats - 1) / 3).collect();
        world.net.partition(&[&ahead, &behind]);
        for seat in &behind {
            world.happen(Fault::Pause(*seat))?;
        }
        close(&mut world, 2 * WINDOW + 40, 5)?;
        world.run_ms(2_000)?;
        assert!(low(&world, 0) >= 2 * WINDOW);
        settle(&mut world)?;
    }
    Ok(())
}

/// And they are needed at once: others go down as soon as the lagging ones are back.
#[test]
fn replicas_that_lagged_take_part() -> Run {
    let mut world = honest(4);
    world.net.partition(&[&[0, 1, 2], &[3]]);
    world.happen(Fault::Pause(3))?;
    close(&mut world, WINDOW + 40, 5)?;
    world.run_ms(2_000)?;
    world.happen(Fault::Heal)?;
    world.happen(Fault::Resume(3))?;
    world.happen(Fault::PowerLoss(0))?;
    let closings = world.history().certified();
    close(&mut world, 5, 5)?;
    certified(&mut world, closings + 5, 10_000);
    settle(&mut world)
}

/// A lost checkpoint is said again until it is stable.
#[test]
fn lost_checkpoints_are_repeated() -> Run {
    let mut world = honest(4);
    world
        .net
        .lose(|_, _, message| matches!(message, Message::Checkpoint(_)));
    close(&mut world, 40, 5)?;
    world.run_ms(2_000)?;
    assert_eq!(low(&world, 0), 0);
    settle(&mut world)
}
