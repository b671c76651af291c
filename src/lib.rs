//! Aegis: the composition root. Crates under `src/` do one thing each; the files beside
//! this one put them together into a node and its command line.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod admin;
pub mod config;
pub mod edge;
pub mod governance;
pub mod layers;
mod lines;
pub mod local;
pub mod machine;
pub mod node;
pub mod observe;
pub mod random;
mod seat;
pub mod telemetry;
