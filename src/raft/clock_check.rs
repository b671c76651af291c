//! Whether this node's clock agrees with its peers'.
//!
//! Every answer to an append says what the follower's clock shows. A leader whose clock is
//! further from most of theirs than the tolerance must not go on stamping entries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::types::RawId;

/// An offset that was not confirmed for so long says nothing any more.
const OFFSET_LIFETIME: Duration = Duration::from_secs(10);

/// How far the peers' clocks are from this node's.
pub(crate) struct ClockOffsets {
    clock: Arc<dyn Clock>,
    /// Offset in milliseconds, positive where the peer is ahead, and when it was learnt.
    offsets: Mutex<BTreeMap<RawId, (i64, Instant)>>,
}

impl ClockOffsets {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            offsets: Mutex::default(),
        }
    }

    /// A peer said what its clock shows. The way of the message is not accounted for: it is
    /// short beside any sensible tolerance.
    pub(crate) fn heard(&self, from: RawId, clock_ms: u64) {
        let offset = i64::try_from(clock_ms)
            .unwrap_or(i64::MAX)
            .saturating_sub(i64::try_from(self.clock.now_ms()).unwrap_or(i64::MAX));
        let mut offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.insert(from, (offset, Instant::now()));
    }

    /// The offset of `peer`, if it was heard of lately.
    pub(crate) fn of(&self, peer: RawId) -> Option<i64> {
        let offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        offsets
            .get(&peer)
            .filter(|(_, at)| at.elapsed() < OFFSET_LIFETIME)
            .map(|(offset, _)| *offset)
    }

    /// The median of the offsets of `peers` from this node's clock, in milliseconds. Needs
    /// two of them, or nobody could tell whose clock is wrong.
    pub(crate) fn median(&self, peers: impl IntoIterator<Item = RawId>) -> Option<i64> {
        let known = peers.into_iter().filter_map(|peer| self.of(peer)).collect();
        median(known)
    }
}

/// The median; of an even number the middle one closer to zero, so that a clock is only
/// called wrong when more than half of the others say so.
fn median(mut offsets: Vec<i64>) -> Option<i64> {
    offsets.sort_unstable();
    let upper = offsets.len() / 2;
    let lower = offsets.len().checked_sub(1)? / 2;
    if offsets.len() < 2 {
        return None;
    }
    [offsets.get(lower), offsets.get(upper)]
        .into_iter()
        .flatten()
        .copied()
        .min_by_key(|offset| offset.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_clock_among_the_peers_does_not_count() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![9_000]), None);
        assert_eq!(median(vec![9_000, 3]), Some(3));
        assert_eq!(median(vec![-9_000, 3]), Some(3));
        assert_eq!(median(vec![9_000, 8_000]), Some(8_000));
        assert_eq!(median(vec![-9_000, 9_000, -4]), Some(-4));
        assert_eq!(median(vec![1, 2, 9_000, 9_000]), Some(2));
        assert_eq!(median(vec![1, 9_000, 9_001, 9_002]), Some(9_000));
    }

    #[tokio::test(start_paused = true)]
    async fn offsets_are_relative_and_expire() {
        struct Fixed;
        impl Clock for Fixed {
            fn now_ms(&self) -> u64 {
                10_000
            }
        }
        let offsets = ClockOffsets::new(Arc::new(Fixed));
        offsets.heard(2, 4_000);
        offsets.heard(3, 11_000);
        assert_eq!(
            (offsets.of(2), offsets.of(3), offsets.of(4)),
            (Some(-6_000), Some(1_000), None)
        );
        assert_eq!(offsets.median([2, 3, 4]), Some(1_000));

        tokio::time::advance(OFFSET_LIFETIME).await;
        assert_eq!(offsets.median([2, 3]), None);
    }
}
