//! The tests of the whole: one binary, a module for each thing that must hold.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr
)]

mod architecture;
mod authors;
mod ballot;
mod cli;
mod cluster;
mod committee;
mod deadlines;
mod demo;
mod disk;
mod documentation;
mod events;
mod examples;
mod leadership;
mod load;
mod logs;
mod metrics;
mod monitoring;
mod observed;
mod operations;
mod packaging;
mod refused;
mod replay;
mod seats;
mod survival;
