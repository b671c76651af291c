//! Disks that fail and power that goes, at every moment around a vote.

use aegis_sim::{Fault, Plan, World};

use crate::support::{Run, blink, settle};

/// At every millisecond of an agreement, primary and backup.
#[test]
fn power_may_go_at_any_moment() -> Run {
    for seat in [0, 2] {
        for moment in 0..45 {
            let mut world = World::new(Plan::new(moment, 4));
            world.start()?;
            world.close();
            world.close();
            world.run_ms(moment)?;
            blink(&mut world, seat, 500)?;
            settle(&mut world)?;
        }
    }
    Ok(())
}

/// The write of every vote fails once, and its batch is on the medium or not.
#[test]
fn an_fsync_error_stops_a_validator_and_costs_no_vote() -> Run {
    for seat in [0, 2] {
        for (moment, kept) in (0..45).flat_map(|moment| [(moment, true), (moment, false)]) {
            let mut world = World::new(Plan::new(moment, 4));
            world.start()?;
            world.close();
            world.run_ms(moment)?;
            world.happen(Fault::FailWrite { seat, kept })?;
            world.close();
            world.run_ms(400)?;
            assert!(world.node(seat).validator().is_none(), "it stops for good");
            world.run_ms(400)?;
            settle(&mut world)?;
        }
    }
    Ok(())
}

/// Everybody's power goes at once, in a view change too.
#[test]
fn everybody_s_power_may_go() -> Run {
    for moment in (0..2_600).step_by(100) {
        let mut world = World::new(Plan::new(moment, 4));
        world.start()?;
        world.happen(Fault::PowerLoss(0))?;
        world.close();
        world.run_ms(moment)?;
        for seat in 1..4 {
            world.happen(Fault::PowerLoss(seat))?;
        }
        world.run_ms(100)?;
        settle(&mut world)?;
    }
    Ok(())
}
