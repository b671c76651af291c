//! The edge seen by its clients: a real ledger behind it, real connections in front.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::type_complexity,
    unreachable_pub
)]

mod agents;
mod audit;
mod bundle;
mod certified;
mod client;
mod cluster;
mod committee;
mod events;
mod hostile;
mod input;
mod limits;
mod node;
mod observed;
mod proposals;
mod statements;
mod votes;
mod world;
