//! The normal case, and liars in it.

use aegis_crypto::SeatNo;
use aegis_pbft::{Frame, MESSAGE_BYTES_MAX, Message, Sequence};
use aegis_sim::actors::{
    Delayer, Deserter, DoubleVoter, Equivocator, Foreigner, Fuzzer, Impersonator, LyingPrimary,
    OldEpoch, Outsider, PreparingPrimary, Repeater, Replayer, SecondProposal, Silent, Stripper,
    Turncoat,
};
use aegis_sim::history::Opinion;
use aegis_sim::{Fault, Plan, World};

use crate::support::{
    Run, SOON_MS, calm, certified, close, contested, honest, is_commit, plain, recorded, settle,
    view, with,
};

#[test]
fn committees_of_every_size_agree() -> Run {
    for seats in [1, 2, 3, 4, 5, 6, 7, 8, 10, 31] {
        let mut world = honest(seats);
        close(&mut world, 5, 10)?;
        world.settle(5_000)?;
        assert_eq!(world.history().certified(), 5, "{seats} seats");
        assert_eq!(view(&world, 0), 0, "{seats} seats");
    }
    Ok(())
}

#[test]
fn committees_of_every_size_outlive_as_many_silent_seats_as_they_may() -> Run {
    for seats in [1, 4, 5, 6, 7, 8, 10, 13] {
        let mut world = calm(seats);
        for seat in 0..(seats - 1) / 3 {
            world.seat(seat, Box::new(Silent));
        }
        world.start()?;
        close(&mut world, 3, 10)?;
        world.settle(SOON_MS)?;
    }
    Ok(())
}

/// One replica decided; the next primary proposes something else.
#[test]
fn a_second_proposal_does_not_unseat_what_one_replica_decided() -> Run {
    let mut world = with(4, 1, Box::new(SecondProposal));
    world
        .net
        .lose(|_, to, message| is_commit(message) && to != SeatNo(2));
    world.close();
    let first = Sequence(1);
    assert!(world.run_until(2_000, |world| world.invariants().has_decided(2, first))?);
    // Nobody hears of it: neither the ledger nor another validator.
    world.happen(Fault::PowerLoss(2))?;
    assert_eq!(world.history().certified(), 0);
    world.run_ms(6_000)?;
    world.happen(Fault::Heal)?;
    world.happen(Fault::Restart(2))?;
    world.settle(SOON_MS)?;
    assert_eq!(recorded(&world, 1), Some(plain(&world, 1)));
    assert!(view(&world, 0) > 0);
    Ok(())
}

/// The same vote three times is one vote: seat 3 helps seat 0 alone to prepare, and
/// then commits three times.
#[test]
fn a_commit_that_is_repeated_counts_once() -> Run {
    let mut world = with(4, 3, Box::new(Repeater));
    world.happen(Fault::PowerLoss(2))?;
    world.net.lose(|from, to, message| {
        from == SeatNo(3) && to == SeatNo(1) && matches!(message, Message::Prepare(_))
    });
    world.close();
    world.run_ms(900)?;
    // Seats 0 and 3 committed, which is one less than a quorum.
    assert_eq!(world.history().certified(), 0);
    assert!(world.invariants().certifiable(Sequence(1)).is_empty());
    settle(&mut world)
}

#[test]
fn a_vote_under_another_seat_s_name_is_none() -> Run {
    let mut world = with(4, 3, Box::new(Impersonator));
    close(&mut world, 5, 20)?;
    world.settle(5_000)?;
    assert_eq!(view(&world, 0), 0);
    assert!(world.invariants().convicted().is_empty());
    Ok(())
}

#[test]
fn strangers_and_the_epoch_before_are_not_heard() -> Run {
    for actor in [
        Box::new(Outsider) as Box<dyn aegis_sim::actors::Actor>,
        Box::new(OldEpoch),
    ] {
        let mut world = with(4, 0, actor);
        close(&mut world, 5, 20)?;
        world.settle(5_000)?;
        assert_eq!(view(&world, 1), 0);
    }
    Ok(())
}

#[test]
fn spoiled_bytes_are_errors() -> Run {
    for seed in 0..10 {
        let mut world = World::new(Plan::new(seed, 4));
        world.seat(u8::try_from(seed % 4).unwrap(), Box::new(Fuzzer));
        world.start()?;
        close(&mut world, 5, 50)?;
        world.happen(Fault::PowerLoss(u8::try_from((seed + 1) % 4).unwrap()))?;
        close(&mut world, 3, 50)?;
        settle(&mut world)?;
    }
    Ok(())
}

/// Whatever a decoder is given, it answers.
#[test]
fn no_bytes_make_the_decoder_panic() {
    let mut random = aegis_sim::random::Random::new(6);
    let byte = |random: &mut aegis_sim::random::Random| u8::try_from(random.below(256)).unwrap();
    for _ in 0..20_000 {
        let len = random.below(200);
        let mut bytes: Vec<u8> = (0..len).map(|_| byte(&mut random)).collect();
        // Mostly of the right version, so that something behind it is read too.
        if let Some(first) = bytes.first_mut().filter(|_| random.chance(900)) {
            *first = 0;
        }
        let _ = Frame::decode(&bytes);
    }
    assert!(Frame::decode(&vec![0; MESSAGE_BYTES_MAX + 1]).is_err());
    assert!(Frame::decode(&[]).is_err());
    assert!(Frame::decode(&[0xFF; 4_096]).is_err());
}

/// A primary that also agrees would make a quorum out of one seat less.
#[test]
fn a_primary_that_prepares_counts_once() -> Run {
    let mut world = with(4, 0, Box::new(PreparingPrimary));
    world.net.partition(&[&[0, 1], &[2, 3]]);
    world.close();
    world.run_ms(900)?;
    assert!(world.invariants().certifiable(Sequence(1)).is_empty());
    assert!(
        !world.trace().tail().contains("commit"),
        "two seats prepared something"
    );
    settle(&mut world)
}

/// The commits overtake the proposal, which never comes.
#[test]
fn commits_before_the_proposal_decide() -> Run {
    let mut world = honest(4);
    world.net.lose(|_, to, message| {
        to == SeatNo(3) && matches!(message, Message::PrePrepare(_) | Message::Prepare(_))
    });
    world.close();
    let first = Sequence(1);
    assert!(world.run_until(900, |world| world.invariants().has_decided(3, first))?);
    world.settle(SOON_MS)
}

#[test]
fn an_equivocating_primary_gets_one_value_at_most_and_is_convicted() -> Run {
    let mut world = with(4, 0, Box::new(Equivocator));
    world.close();
    world.settle(SOON_MS)?;
    assert!(view(&world, 1) > 0, "the view is changed");
    assert!(world.invariants().convicted().contains(&SeatNo(0)));
    Ok(())
}

/// A backup agrees, restarts, and is shown another proposal, to which the others agree:
/// it remembers its word, and does not ask its safety module to break it.
#[test]
fn a_restarted_backup_keeps_to_the_proposal_that_it_agreed_to() -> Run {
    let mut world = with(4, 0, Box::new(Turncoat { at_ms: 100 }));
    world.net.lose(|from, to, message| {
        let proposal = matches!(message, Message::PrePrepare(_)) && to != SeatNo(1);
        // The liar says nothing but its proposals.
        proposal || (from == SeatNo(0) && !matches!(message, Message::PrePrepare(_)))
    });
    world.close();
    world.run_ms(80)?;
    world.happen(Fault::PowerLoss(1))?;
    world.happen(Fault::Restart(1))?;
    world.run_ms(20)?;
    world
        .net
        .lose(|from, _, message| from == SeatNo(0) && !matches!(message, Message::PrePrepare(_)));
    world.run_ms(5_000)?;
    settle(&mut world)
}

/// With somebody who votes for both.
#[test]
fn a_double_voter_is_convicted_and_changes_nothing() -> Run {
    let mut world = with(4, 2, Box::new(DoubleVoter::default()));
    close(&mut world, 5, 20)?;
    world.settle(SOON_MS)?;
    assert!(world.invariants().convicted().contains(&SeatNo(2)));
    assert_eq!(recorded(&world, 1), Some(plain(&world, 1)));
    Ok(())
}

/// What no ledger says is not agreed to, and does not hold the others up for long.
#[test]
fn a_lying_primary_is_replaced() -> Run {
    let mut world = with(4, 0, Box::new(LyingPrimary));
    world.close();
    certified(&mut world, 1, 3_000);
    assert_eq!(recorded(&world, 1), Some(plain(&world, 1)));
    world.settle(SOON_MS)
}

/// One timeout, and time for a view change.
#[test]
fn a_silent_primary_costs_one_timeout() -> Run {
    let mut world = with(4, 0, Box::new(Silent));
    world.close();
    certified(&mut world, 1, 1_000 + 200);
    world.settle(SOON_MS)
}

/// One timeout, and then the doubled one for the view that does not begin.
#[test]
fn silent_primaries_in_a_row_cost_doubling_timeouts() -> Run {
    let mut world = calm(7);
    world.seat(0, Box::new(Silent));
    world.seat(1, Box::new(Silent));
    world.start()?;
    world.close();
    certified(&mut world, 1, 1_000 + 2_000 + 400);
    world.settle(SOON_MS)
}

#[test]
fn a_primary_just_below_the_timeout_loses_its_view() -> Run {
    let mut world = with(4, 0, Box::new(Delayer::new(700)));
    for _ in 0..9 {
        world.close();
        world.run_ms(1_000)?;
    }
    assert!(view(&world, 1) > 0);
    world.close();
    let before = world.history().certified();
    certified(&mut world, before + 1, 400);
    world.settle(SOON_MS)
}

/// Everything that was ever said in this cluster, again.
#[test]
fn replayed_messages_change_nothing() -> Run {
    let mut world = with(4, 3, Box::new(Replayer::default()));
    for _ in 0..40 {
        world.close();
        world.run_ms(100)?;
    }
    world.happen(Fault::PowerLoss(0))?;
    close(&mut world, 5, 100)?;
    settle(&mut world)?;
    assert!(world.invariants().convicted().is_empty());
    Ok(())
}

/// What honest seats said before a restore, when the same ordinal was another closing:
/// signatures of commits cover it only so far as the statement says.
#[test]
fn votes_of_another_incarnation_neither_decide_nor_convict() -> Run {
    for early in [false, true] {
        let mut world = with(4, 3, Box::new(Foreigner::new(early)));
        close(&mut world, 5, 300)?;
        world.settle(SOON_MS)?;
        assert_eq!(recorded(&world, 1), Some(plain(&world, 1)));
        assert!(world.invariants().convicted().is_empty());
    }
    Ok(())
}

/// A, B and the liar D prepare what C objects to in private; D falls silent.
#[test]
fn what_was_prepared_overrules_a_private_objection() -> Run {
    let mut world = with(4, 3, Box::new(Deserter { at_ms: 200 }));
    world.happen(Fault::Opinion(2, Sequence(1), Opinion::Objected))?;
    world.net.lose(|_, _, message| is_commit(message));
    world.close();
    world.run_ms(300)?;
    world.happen(Fault::Heal)?;
    certified(&mut world, 1, 3_000);
    assert_eq!(recorded(&world, 1), Some(plain(&world, 1)));
    assert!(view(&world, 2) > 0, "only a view change brought C to agree");
    world.settle(SOON_MS)
}

/// Nobody agrees in private, so nothing is decided, and no view is changed for it.
#[test]
fn an_objected_statement_waits_without_a_view_change() -> Run {
    let mut world = honest(4);
    for seat in 0..4 {
        world.happen(Fault::Opinion(seat, Sequence(1), Opinion::Objected))?;
    }
    world.close();
    world.run_ms(20_000)?;
    assert_eq!((world.history().certified(), view(&world, 0)), (0, 0));
    for seat in 0..4 {
        world.happen(Fault::Opinion(seat, Sequence(1), Opinion::Contested))?;
    }
    world.settle(SOON_MS)?;
    assert_eq!(recorded(&world, 1), Some(contested(&world, 1)));
    Ok(())
}

/// A liar proposes a value with what it needs to be judged, has it prepared, and spoils
/// the attachment in every view change after that. Whoever must judge the value in the
/// next view would refuse it, and so in every view.
#[test]
fn a_spoiled_attachment_does_not_stop_what_was_prepared_with_it() -> Run {
    for proposes in [true, false] {
        let mut world = with(4, 0, Box::new(Stripper { proposes }));
        world.happen(Fault::Opinion(0, Sequence(1), Opinion::Contested))?;
        world.net.lose(|_, to, message| {
            is_commit(message) || (to.0 > 1 && matches!(message, Message::Prepare(_)))
        });
        world.close();
        world.run_ms(900)?;
        world.happen(Fault::Heal)?;
        world.run_ms(30_000)?;
        assert_eq!(world.history().certified(), 1);
        settle(&mut world)?;
    }
    Ok(())
}

/// Six seats whose halves hold different things to be true: a quorum is four.
#[test]
fn two_halves_of_six_certify_nothing() -> Run {
    let mut world = calm(6);
    for seat in 3..6 {
        world.history_mut().fork(SeatNo(seat), "rejected");
    }
    world.start()?;
    world.net.partition(&[&[0, 1, 2], &[3, 4, 5]]);
    close(&mut world, 3, 50)?;
    world.run_ms(20_000)?;
    world.happen(Fault::Heal)?;
    world.run_ms(20_000)?;
    assert_eq!(world.history().certified(), 0);
    assert!(world.invariants().certifiable(Sequence(1)).is_empty());
    Ok(())
}
