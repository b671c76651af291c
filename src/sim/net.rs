//! A network that delays, reorders, duplicates and drops, and that can be cut.

use std::collections::BTreeSet;
use std::fmt;

use aegis_crypto::SeatNo;
use aegis_pbft::Message;

use crate::random::Random;

/// What every link does on its own.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The shortest way of a message, in milliseconds.
    pub delay_ms_min: u64,
    /// The longest.
    pub delay_ms_max: u64,
    /// How many of a thousand messages are lost.
    pub drop_permille: u64,
    /// How many of a thousand come twice.
    pub duplicate_permille: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay_ms_min: 1,
            delay_ms_max: 10,
            drop_permille: 0,
            duplicate_permille: 0,
        }
    }
}

/// Says of a message on a link whether it is lost. Scenarios use it where chance would
/// take too long.
pub type Rule = Box<dyn Fn(SeatNo, SeatNo, &Message) -> bool>;

/// The links between all seats.
#[derive(Default)]
pub struct Net {
    /// What every link does.
    pub weather: Weather,
    cut: BTreeSet<(SeatNo, SeatNo)>,
    rule: Option<Rule>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("weather", &self.weather)
            .field("cut", &self.cut)
            .finish_non_exhaustive()
    }
}

impl Net {
    /// A network without a cut.
    #[must_use]
    pub fn new(weather: Weather) -> Self {
        Self {
            weather,
            ..Self::default()
        }
    }

    /// After how many milliseconds each copy of a message arrives; none if it is lost.
    pub(crate) fn route(
        &self,
        random: &mut Random,
        from: SeatNo,
        to: SeatNo,
        message: Option<&Message>,
    ) -> Vec<u64> {
        let Weather {
            delay_ms_min,
            delay_ms_max,
            drop_permille,
            duplicate_permille,
        } = self.weather;
        let ruled = self
            .rule
            .as_ref()
            .zip(message)
            .is_some_and(|(rule, message)| rule(from, to, message));
        if self.cut.contains(&(from, to)) || ruled || random.chance(drop_permille) {
            return Vec::new();
        }
        let copies = 1 + u64::from(random.chance(duplicate_permille));
        (0..copies)
            .map(|_| random.between(delay_ms_min, delay_ms_max))
            .collect()
    }

    /// Nothing goes from one seat to another any more; the way back stays.
    pub fn cut_one_way(&mut self, from: SeatNo, to: SeatNo) {
        self.cut.insert((from, to));
    }

    /// Only seats of the same group reach each other.
    pub fn partition(&mut self, groups: &[&[u8]]) {
        let group_of = |seat: u8| groups.iter().position(|group| group.contains(&seat));
        let all: Vec<u8> = groups.concat();
        for from in &all {
            for to in all.iter().filter(|to| group_of(**to) != group_of(*from)) {
                self.cut.insert((SeatNo(*from), SeatNo(*to)));
            }
        }
    }

    /// All reach the centre and are reached by it, and nobody else.
    pub fn star(&mut self, centre: u8, count: u8) {
        let others = || (0..count).filter(move |seat| *seat != centre);
        for from in others() {
            for to in others().filter(|to| *to != from) {
                self.cut.insert((SeatNo(from), SeatNo(to)));
            }
        }
    }

    /// Loses every message of which a rule says so.
    pub fn lose(&mut self, rule: impl Fn(SeatNo, SeatNo, &Message) -> bool + 'static) {
        self.rule = Some(Box::new(rule));
    }

    /// Every link works again.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.rule = None;
    }
}
