//! Names, units and the scope that every signature is bound to.

use std::fmt;

use aegis_crypto::{Digest, Hasher};
use serde::{Deserialize, Serialize};

/// A view's number, from 0; its primary is the seat view mod n.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct View(pub u64);

impl View {
    /// The view after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A sequence number, from 1: the ordinal of the closing that is agreed on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The sequence number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// This many sequence numbers later.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A moment on this machine's monotonic clock, in milliseconds since any fixed start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// This many milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since an earlier moment; zero if it is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What every signature of a validator is bound to, so that none means anything in another
/// cluster, after a restore, or under another committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The cluster id.
    pub cluster: Digest,
    /// The incarnation: what the newest restore from a snapshot drew, 0 before any.
    pub incarnation: u64,
    /// The committee's epoch.
    pub epoch: u64,
}

impl Scope {
    /// Begins the hash of a record that is bound to this scope.
    pub(crate) fn hasher(&self, domain: &str) -> Hasher {
        Hasher::tagged(domain)
            .digest(&self.cluster)
            .u64(self.incarnation)
            .u64(self.epoch)
    }
}
