//! One seat's process: a validator, its disk, its clock and its own copy of the ledger.
//! This is the shell of the simulation, and does what the service's shell has to do.

use std::collections::BTreeMap;

use aegis_crypto::{Digest, SeatNo, SecretKey};
use aegis_pbft::{Effect, Input, Sequence, Setup, Status, Time, Validator};

use crate::clock::Clock;
use crate::disk::SimDisk;
use crate::history::{Entry, History};

/// Bytes of a key's seed.
const SEED_LEN: usize = 32;

/// The key of a seat.
#[must_use]
pub fn key(seat: SeatNo) -> SecretKey {
    SecretKey::from_seed(&[seat.0 + 1; SEED_LEN])
}

/// A seat's process and what survives it.
#[derive(Debug)]
pub struct Node {
    seat: SeatNo,
    setup: Setup,
    pub(crate) clock: Clock,
    pub(crate) disk: SimDisk,
    validator: Option<Validator<SimDisk>>,
    /// Starts so far, so that what was meant for an earlier run is not taken by a later.
    pub(crate) run: u32,
    /// When the world wakes it next.
    pub(crate) wake: Option<u64>,
    /// Entries of the ledger's log that its own copy has.
    applied: usize,
    closed: u64,
    recorded: BTreeMap<Sequence, Digest>,
    /// Up to here its validator was told what the ledger has.
    told: Sequence,
}

impl Node {
    pub(crate) fn new(seat: SeatNo, setup: Setup, clock: Clock) -> Self {
        Self {
            seat,
            setup,
            clock,
            disk: SimDisk::default(),
            validator: None,
            run: 0,
            wake: None,
            applied: 0,
            closed: 0,
            recorded: BTreeMap::new(),
            told: Sequence(0),
        }
    }

    /// Its seat.
    #[must_use]
    pub const fn seat(&self) -> SeatNo {
        self.seat
    }

    /// Its validator, while it runs.
    #[must_use]
    pub const fn validator(&self) -> Option<&Validator<SimDisk>> {
        self.validator.as_ref()
    }

    /// Where its validator stands, while it runs.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.validator.as_ref().map(Validator::status)
    }

    /// Its disk.
    #[must_use]
    pub const fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The last sequence number up to which its ledger has recorded every certificate.
    #[must_use]
    pub fn recorded_upto(&self) -> Sequence {
        self.recorded_above(Sequence(0))
    }

    /// The last sequence number up to which it has recorded every one above another.
    pub(crate) fn recorded_above(&self, low: Sequence) -> Sequence {
        let mut upto = low;
        while self.recorded.contains_key(&upto.next()) {
            upto = upto.next();
        }
        upto
    }

    pub(crate) fn open(&mut self, world_ms: u64) -> Result<Vec<Effect>, String> {
        self.run += 1;
        let opened = Validator::open(
            self.setup.clone(),
            key(self.seat),
            &self.disk.read(),
            self.disk.clone(),
            self.clock.shows(world_ms),
        );
        let (validator, effects) = opened.map_err(|error| error.to_string())?;
        self.told = validator.status().low;
        self.validator = Some(validator);
        Ok(effects)
    }

    /// The process ends; what it had in memory is gone.
    pub(crate) fn stop(&mut self) {
        self.validator = None;
        self.wake = None;
    }

    /// Hands inputs to the validator; none if it had to stop.
    pub(crate) fn handle(&mut self, world_ms: u64, inputs: Vec<Input>) -> Option<Vec<Effect>> {
        let now = self.clock.shows(world_ms);
        let validator = self.validator.as_mut()?;
        let effects = validator.handle(now, inputs).ok();
        if effects.is_none() {
            self.stop();
        }
        effects
    }

    /// When the validator wants to be woken, on its own clock.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.validator.as_ref().and_then(Validator::wake_at)
    }

    /// Takes the ledger's log up to an entry, while it runs.
    pub(crate) fn follow(&mut self, history: &History, upto: usize) -> Vec<Input> {
        let high = match self.status() {
            Some(status) => status.high,
            None => return Vec::new(),
        };
        let mut inputs = Vec::new();
        while self.applied < upto.min(history.entries().len()) {
            let Some(entry) = history.entries().get(self.applied) else {
                break;
            };
            self.applied += 1;
            match *entry {
                Entry::Closed(sequence) => {
                    self.closed = sequence.0;
                    if sequence <= self.told.max(high) {
                        self.told = self.told.max(sequence);
                        inputs.push(Input::Request(history.request(self.seat, sequence)));
                    }
                }
                Entry::Recorded(sequence, digest) => {
                    self.recorded.insert(sequence, digest);
                    if sequence <= self.told {
                        inputs.push(Input::Recorded { sequence, digest });
                    }
                }
            }
        }
        inputs
    }

    /// Whether its validator was told of a closing.
    pub(crate) fn knows(&self, sequence: Sequence) -> bool {
        sequence.0 <= self.closed && sequence <= self.told
    }

    /// What the validator had no room for before its watermarks moved.
    pub(crate) fn tell(&mut self, history: &History) -> Vec<Input> {
        let Some(status) = self.status() else {
            return Vec::new();
        };
        let mut inputs = Vec::new();
        let first = self.told.max(status.low).next();
        for number in first.0..=status.high.0.min(self.closed) {
            let sequence = Sequence(number);
            self.told = sequence;
            inputs.push(Input::Request(history.request(self.seat, sequence)));
            if let Some(digest) = self.recorded.get(&sequence).copied() {
                inputs.push(Input::Recorded { sequence, digest });
            }
        }
        self.told = self.told.max(status.low);
        inputs
    }
}
