//! Clocks that begin anywhere and run at different rates.

use aegis_pbft::Time;

/// A validator's monotonic clock, in terms of the world's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it shows when the world begins.
    pub offset_ms: u64,
    /// How many of its milliseconds pass in a thousand of the world's; not 0.
    pub rate_permille: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            offset_ms: 0,
            rate_permille: 1_000,
        }
    }
}

impl Clock {
    /// What it shows at a moment of the world.
    #[must_use]
    pub const fn shows(&self, world_ms: u64) -> Time {
        Time(self.offset_ms + world_ms * self.rate_permille / 1_000)
    }

    /// The first moment of the world at which it shows so much.
    #[must_use]
    pub const fn when(&self, shown: Time) -> u64 {
        let passed = shown.0.saturating_sub(self.offset_ms);
        (passed * 1_000).div_ceil(self.rate_permille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_a_time_when_it_says_so_and_not_before() {
        for rate_permille in [1, 500, 900, 999, 1_000, 1_001, 1_333] {
            let clock = Clock {
                offset_ms: 77,
                rate_permille,
            };
            for shown in 78..300 {
                let when = clock.when(Time(shown));
                assert!(clock.shows(when) >= Time(shown));
                assert!(clock.shows(when - 1) < Time(shown));
            }
        }
    }
}
