//! The committee of validators: who sits in it, how many of them may lie, and how many
//! make a quorum.
//!
//! Of n seats, f = floor((n - 1) / 3) may do anything. A quorum is ceil((n + f + 1) / 2)
//! seats: the least number of which any two sets share f + 1 seats, one honest at least,
//! and which n - f honest seats always reach. It is 2f + 1 only where n = 3f + 1.

use std::fmt;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key::{Kid, PublicKey};

/// The most seats of a committee.
pub const SEATS_MAX: u8 = 31;

/// A seat's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeatNo(pub u8);

impl fmt::Display for SeatNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How many seats there are, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seats(NonZeroU8);

impl Seats {
    /// A committee of `count` seats, if it may have so many: 1 to [`SEATS_MAX`].
    #[must_use]
    pub fn new(count: usize) -> Option<Self> {
        let count = u8::try_from(count)
            .ok()
            .filter(|count| *count <= SEATS_MAX)?;
        NonZeroU8::new(count).map(Self)
    }

    /// n: all seats.
    #[must_use]
    pub const fn count(self) -> u8 {
        self.0.get()
    }

    /// f: how many of them may do anything without harm to safety or progress.
    #[must_use]
    pub const fn faults_max(self) -> u8 {
        self.count().saturating_sub(1) / 3
    }

    /// How many distinct seats make a quorum: ceil((n + f + 1) / 2).
    #[must_use]
    pub const fn quorum(self) -> u8 {
        // floor(x / 2) + 1 is ceil((x + 1) / 2).
        (self.count().saturating_add(self.faults_max()) / 2).saturating_add(1)
    }

    /// How many distinct seats hold an honest one for certain: f + 1.
    #[must_use]
    pub const fn one_honest(self) -> u8 {
        self.faults_max().saturating_add(1)
    }

    /// Whether a seat of this number exists.
    #[must_use]
    pub const fn contains(self, seat: SeatNo) -> bool {
        seat.0 < self.count()
    }

    /// Every seat, ascending.
    pub fn iter(self) -> impl Iterator<Item = SeatNo> + use<> {
        (0..self.count()).map(SeatNo)
    }

    /// The primary of a view: view mod n (OSDI '99, section 4).
    #[must_use]
    pub fn primary(self, view: u64) -> SeatNo {
        let count = u64::from(self.count());
        let seat = view.checked_rem(count).expect("there is a seat at least");
        SeatNo(u8::try_from(seat).expect("a remainder is below the number of seats"))
    }
}

/// A set of seats. Signers are counted with it, so that a seat counts once however many
/// messages it signs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatSet(u32);

impl SeatSet {
    /// Adds a seat; false if it was there.
    pub const fn insert(&mut self, seat: SeatNo) -> bool {
        let bit = Self::bit(seat);
        let fresh = self.0 & bit == 0;
        self.0 |= bit;
        fresh
    }

    /// Whether a seat is there.
    #[must_use]
    pub const fn contains(self, seat: SeatNo) -> bool {
        self.0 & Self::bit(seat) != 0
    }

    /// How many seats are there.
    #[must_use]
    pub fn len(self) -> u8 {
        u8::try_from(self.0.count_ones()).expect("32 bits hold at most 32 ones")
    }

    /// Whether none is there.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The seats, ascending.
    pub fn iter(self) -> impl Iterator<Item = SeatNo> {
        (0..32).map(SeatNo).filter(move |seat| self.contains(*seat))
    }

    const fn bit(seat: SeatNo) -> u32 {
        assert!(seat.0 < 32, "a committee has at most 31 seats");
        1 << seat.0
    }
}

impl FromIterator<SeatNo> for SeatSet {
    fn from_iter<I: IntoIterator<Item = SeatNo>>(seats: I) -> Self {
        let mut set = Self::default();
        for seat in seats {
            set.insert(seat);
        }
        set
    }
}

impl fmt::Debug for SeatSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|seat| seat.0))
            .finish()
    }
}

/// The validators of one epoch, by seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee {
    epoch: u64,
    seats: Seats,
    keys: Vec<PublicKey>,
}

/// Keys that make no committee.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitteeError {
    /// None, or too many.
    #[error("a committee has 1 to {SEATS_MAX} seats, not {found}")]
    Size {
        /// How many there were.
        found: usize,
    },
    /// One key in two seats, which could then sign twice.
    #[error("seats {first} and {second} have the same key, {kid}")]
    SharedKey {
        /// The first of the two seats.
        first: SeatNo,
        /// The other one.
        second: SeatNo,
        /// The key's name.
        kid: Kid,
    },
}

impl Committee {
    /// The committee of an epoch, whose seat i signs with the i-th key.
    ///
    /// # Errors
    /// No seat, more than [`SEATS_MAX`], or a key that two seats share.
    pub fn new(epoch: u64, keys: Vec<PublicKey>) -> Result<Self, CommitteeError> {
        let found = keys.len();
        let seats = Seats::new(found).ok_or(CommitteeError::Size { found })?;
        for (first, key) in seats.iter().zip(&keys) {
            let same = seats
                .iter()
                .zip(&keys)
                .find(|(second, other)| *second > first && *other == key);
            if let Some((second, _)) = same {
                let kid = key.kid();
                return Err(CommitteeError::SharedKey { first, second, kid });
            }
        }
        Ok(Self { epoch, seats, keys })
    }

    /// The epoch: 0 for the seats that the genesis names.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many seats there are, and what follows from it.
    #[must_use]
    pub const fn seats(&self) -> Seats {
        self.seats
    }

    /// The key that a seat signs with.
    #[must_use]
    pub fn key(&self, seat: SeatNo) -> Option<&PublicKey> {
        self.keys.get(usize::from(seat.0))
    }

    /// The keys, by seat.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The seat that signs with a key.
    #[must_use]
    pub fn seat_of(&self, key: &PublicKey) -> Option<SeatNo> {
        self.seats
            .iter()
            .zip(&self.keys)
            .find_map(|(seat, known)| (known == key).then_some(seat))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    fn keys(count: u8) -> Vec<PublicKey> {
        (0..count)
            .map(|seed| SecretKey::from_seed(&[seed; 32]).public())
            .collect()
    }

    /// The definition, and the two properties that it is chosen for, for every size.
    #[test]
    fn quorums_intersect_in_an_honest_seat_and_can_be_reached() {
        for n in 1..=31 {
            let seats = Seats::new(n).unwrap();
            let (f, quorum) = (usize::from(seats.faults_max()), usize::from(seats.quorum()));
            assert_eq!(f, (n - 1) / 3);
            assert_eq!(quorum, (n + f + 1).div_ceil(2));
            assert!(
                2 * quorum - n > f,
                "two quorums of {n} share an honest seat"
            );
            assert!(quorum <= n - f, "the honest of {n} make a quorum");
            assert!(
                2 * (quorum - 1) - n.min(2 * (quorum - 1)) <= f,
                "{n}: no smaller one does"
            );
        }
        let table = [1, 4, 5, 6, 7, 8, 10].map(|n| Seats::new(n).unwrap().quorum());
        assert_eq!(table, [1, 3, 4, 4, 5, 6, 7]);
    }

    #[test]
    fn sizes_and_shared_keys_are_refused() {
        assert!(Seats::new(0).is_none() && Seats::new(32).is_none() && Seats::new(999).is_none());
        assert_eq!(
            Committee::new(0, vec![]),
            Err(CommitteeError::Size { found: 0 })
        );
        assert!(Committee::new(0, keys(31)).is_ok());
        assert_eq!(
            Committee::new(0, keys(32)),
            Err(CommitteeError::Size { found: 32 })
        );
        let mut shared = keys(4);
        shared[3] = shared[1];
        let refusal = Committee::new(0, shared).unwrap_err().to_string();
        assert!(
            refusal.starts_with("seats 1 and 3 have the same key"),
            "{refusal}"
        );
    }

    #[test]
    fn a_seat_is_found_by_its_key_and_counted_once() {
        let committee = Committee::new(3, keys(4)).unwrap();
        assert_eq!(committee.seat_of(&keys(4)[2]), Some(SeatNo(2)));
        assert_eq!(committee.seat_of(&keys(5)[4]), None);
        assert_eq!(committee.key(SeatNo(4)), None);
        assert_eq!(committee.seats().primary(7), SeatNo(3));
        let mut signers = SeatSet::default();
        assert!(signers.insert(SeatNo(30)) && signers.insert(SeatNo(0)));
        assert!(!signers.insert(SeatNo(30)));
        assert_eq!(
            (signers.len(), format!("{signers:?}")),
            (2, "{0, 30}".to_owned())
        );
    }
}
