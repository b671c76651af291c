//! Bounds and times.

/// Sequence numbers between the low and the high watermark (OSDI '99, section 4.2): how
/// many closings are agreed on at once.
pub const WINDOW: u64 = 128;

/// A checkpoint is made at every multiple of this many sequence numbers. The window holds
/// several, so that agreement goes on while one becomes stable.
pub const CHECKPOINT_INTERVAL: u64 = 32;

/// Messages of one seat for a coming view, or for sequence numbers just above the high
/// watermark, that are kept until they can be used. The oldest leave first; whoever sent
/// them sends them again.
pub const LATER_PER_SEAT_MAX: usize = 256;

/// Sequence numbers whose votes are sent again at once.
pub const RESENT_MAX: usize = 32;

/// Proposals in a row that a primary may delay before its view is changed.
pub const SLOW_PROPOSALS_MAX: u32 = 8;

/// Times, in milliseconds of the local clock. Safety needs none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a closing may take to be decided before the view is changed; doubled with
    /// each view change that brings no progress (OSDI '99, section 4.5.2).
    pub timeout_ms: u64,
    /// What doubling ends at.
    pub timeout_max_ms: u64,
    /// How long nothing may come before what was said is said again; doubled each time,
    /// up to eight times as long.
    pub resend_ms: u64,
    /// How long nothing is undecided before a checkpoint is made between the intervals,
    /// so that the last decision of the day is soon under one.
    pub quiet_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout_ms: 1_000,
            timeout_max_ms: 60_000,
            resend_ms: 250,
            quiet_ms: 250,
        }
    }
}
