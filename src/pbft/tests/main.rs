//! What the agreement does from outside: transcripts that a person can read, and the
//! safety module over a disk that fails.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod guard;
mod memory;
mod script;
mod world;
