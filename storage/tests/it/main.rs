//! Storage from the outside: what it keeps, what it refuses, and what it does when the
//! disk fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod committee;
mod disk_full;
mod log;
mod model;
mod refusals;
mod snapshots;
mod support;
mod tables;
mod transfer;
