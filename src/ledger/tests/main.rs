//! The ledger seen from outside: entries in, answers, events and tables out.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_wrap
)]

mod admission;
mod bounds;
mod committee;
mod formats;
mod histories;
mod history;
mod lifecycle;
mod recounts;
mod refusals;
mod replay;
mod requests;
mod statements;
mod tables;
mod trees;
mod world;
