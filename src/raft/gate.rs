//! When to try again.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause after a failed attempt; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(2);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(64);

/// The least time that an attempt is given.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// How long an attempt at a request with this deadline may take: half of the time that is
/// left. So one that is lost on the way is repeated in time, and a leader that is merely slow
/// is not asked over and over.
pub(crate) fn attempt_timeout(deadline: Instant) -> Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    (left / 2).max(ATTEMPT_MIN).min(left)
}

/// Lets attempts through until one finds no leader that takes it, then pauses them: until
/// another leader is known, or for a short and growing time, because not every obstacle ends
/// with another leader (a lease that ran out may be renewed).
#[derive(Debug)]
pub(crate) struct Gate {
    closed_until: Option<Instant>,
    pause: Duration,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            closed_until: None,
            pause: PAUSE_FIRST,
        }
    }

    /// When the pause ends, if there is one.
    pub(crate) fn closed_until(&self) -> Option<Instant> {
        self.closed_until
    }

    /// An attempt failed.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.closed_until.is_none() {
            self.closed_until = Some(now + self.pause);
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }

    /// The pause is over.
    pub(crate) fn open(&mut self) {
        self.closed_until = None;
    }

    /// Something changed for the better: no pause, and a short one next time.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_a_success() {
        let now = Instant::now();
        let mut gate = Gate::new();
        let mut pause = || {
            gate.close(now);
            let pause = gate.closed_until().unwrap() - now;
            gate.open();
            pause.as_millis()
        };
        assert_eq!(
            [
                pause(),
                pause(),
                pause(),
                pause(),
                pause(),
                pause(),
                pause()
            ],
            [2, 4, 8, 16, 32, 64, 64]
        );
        gate.reset();
        gate.close(now);
        assert_eq!(gate.closed_until().unwrap() - now, PAUSE_FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_take_half_of_the_time_that_is_left() {
        let now = Instant::now();
        let after = |millis| attempt_timeout(now + Duration::from_millis(millis)).as_millis();
        assert_eq!(
            [after(5_000), after(300), after(150), after(60), after(0)],
            [2_500, 150, 100, 60, 0]
        );
    }

    #[test]
    fn failures_of_attempts_that_ran_together_count_once() {
        let now = Instant::now();
        let mut gate = Gate::new();
        gate.close(now);
        gate.close(now);
        assert_eq!(gate.closed_until(), Some(now + PAUSE_FIRST));
        gate.open();
        gate.close(now);
        assert_eq!(gate.closed_until(), Some(now + PAUSE_FIRST * 2));
    }
}
