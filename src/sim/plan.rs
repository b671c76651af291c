//! What a run begins with.

use aegis_pbft::Settings;

use crate::net::Weather;

/// What a run begins with.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Names the run together with the rest of the plan.
    pub seed: u64,
    /// Seats of the committee.
    pub seats: u8,
    /// The validators' times.
    pub settings: Settings,
    /// The network.
    pub weather: Weather,
    /// The longest time after which a validator's ledger has an entry.
    pub lag_ms_max: u64,
    /// The longest time that a verdict, or a submission to the ledger, takes.
    pub shell_ms_max: u64,
    /// By how many thousandths clocks go fast or slow at most.
    pub skew_permille: u64,
}

impl Plan {
    /// A calm world.
    #[must_use]
    pub fn new(seed: u64, seats: u8) -> Self {
        Self {
            seed,
            seats,
            settings: Settings {
                timeout_max_ms: 8_000,
                ..Settings::default()
            },
            weather: Weather::default(),
            lag_ms_max: 20,
            shell_ms_max: 10,
            skew_permille: 0,
        }
    }
}
