//! A committee under a seeded network, disks and clocks, with validators that lie.
//!
//! What runs is the real thing: [`aegis_pbft::Validator`]s that sign with real keys, and
//! whose messages are encoded, decoded and verified on their way. Around them everything
//! is simulated, in one thread and in an order that a seed decides:
//!
//! - a [network](net::Net) that delays, reorders, duplicates, drops and can be cut,
//! - [disks](disk::SimDisk) that fail, and keep what they acknowledged,
//! - [clocks](clock::Clock) that begin anywhere and run at different rates,
//! - a [ledger](history::History) that every validator follows at its own pace,
//! - [actors] that hold up to f seats and lie, each in its own way.
//!
//! After every event the [invariants] are checked. What breaks one is
//! reported with the [plan](plan::Plan), which names the whole run, and with the last
//! events. [`soak`] makes plans, faults and liars up from a seed.
//!
//! Nothing in here reaches a network, a file or a clock of the machine.

pub mod actors;
pub mod clock;
pub mod disk;
pub mod fault;
pub mod forge;
pub mod history;
pub mod invariants;
pub mod net;
pub mod node;
mod packet;
pub mod plan;
pub mod random;
pub mod soak;
pub mod trace;
pub mod world;

pub use fault::Fault;
pub use plan::Plan;
pub use world::{Failure, World};
