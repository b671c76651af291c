//! The shell around the agreement of validators: it follows the local ledger, counts every
//! closing again from its ballots, talks to the other validators, and brings certificates
//! into the replicated ledger.
//!
//! ```text
//!   ledger ── ring ──▶ ┌───────────────────────────┐ ── certificates ──▶ leader
//!   nodes ── messages ▶│ inbox ─▶ thread ─▶ outbox │ ── messages ──────▶ nodes
//!                      └─────────────┬─────────────┘
//!                          safety module ── records ──▶ store
//! ```
//!
//! One thread owns the protocol ([`aegis_pbft::Validator`]) and everything that it knows. What
//! comes from outside waits in an inbox in which each node has its own bounds and its turn;
//! what goes out waits in a queue for each node. Nothing is signed before the store has it
//! on the medium.
//!
//! A validator stands behind nothing but what its own node applied and what it counted again
//! from the ballots. What others propose beyond that it refuses, and says in which field.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod disk;
mod follow;
mod inbox;
mod memory;
mod observer;
mod outbox;
mod record;
mod seat;
mod service;
mod standing;
mod validator;

pub use aegis_pbft::Settings;
pub use disk::DiskError;
pub use inbox::Inbox;
pub use memory::SignatureMemory;
pub use observer::{Dropped, Observer};
pub use outbox::MESSAGES;
pub use record::{RecordError, Recorder};
pub use seat::{CommitteeSeat, Door, Parts, StartError};
pub use standing::{SeatStanding, note_key_name};
pub use validator::ValidatorError;
