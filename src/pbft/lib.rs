//! Agreement among validators, of whom f may lie: the protocol of Castro and Liskov
//! ("Practical Byzantine Fault Tolerance", OSDI '99; TOCS '02) with signed messages.
//!
//! What is agreed on is one [`Value`] for each [`Sequence`] number: the statement about
//! one closing of the ledger, whose ordinal the sequence number is. The outcome is a
//! [certificate](aegis_crypto::certificate) with a quorum of signatures.
//!
//! ```text
//!  ledger ── Request ──▶ ┌───────────┐ ── Sign(Draft) ──▶ ┌─────────┐ ── write ──▶ disk
//!  network ─ Received ─▶ │  Replica  │                    │  Guard  │
//!  clock ─── Wake ─────▶ │  (pure)   │ ◀────── Own ────── │ (rules, │
//!                        └───────────┘                    │   key)  │ ── Send ───▶ network
//!                              └──── Decided, Stable ──▶  └─────────┘
//! ```
//!
//! [`Replica`] decides what to say; [`Guard`] checks it against all that was said before,
//! writes it down and only then signs; [`Validator`] is the two together. [`Verifier`]
//! stands before them: a message that is not [`Verified`] cannot be handed in.
//!
//! # Where it departs from the paper
//! - **Quorums** have ceil((n + f + 1) / 2) seats everywhere, which is 2f + 1 only where
//!   n = 3f + 1. A prepared proof is a quorum with the primary counted.
//! - **Requests** come from each validator's own ledger, not from clients, and each
//!   validator knows what it expects. A proposal that equals it is agreed to at once; any
//!   other is [judged](Output::Judge) by the shell.
//! - **A commit signs the certificate's payload**, and carries the statement, so that it
//!   can be checked without the proposal. A quorum of commits of one view proves itself
//!   and is taken in whatever view the receiver is.
//! - **No null requests**: a sequence number is the ordinal of a closing that exists. One
//!   that nobody prepared is left free by a new view and proposed afresh.
//! - **Execution** is the recording of the certificate in the replicated ledger
//!   ([`Input::Recorded`]). Sequence numbers are decided in any order; checkpoints follow
//!   the order of recording.
//! - **A checkpoint signs the note** of the transparency log, and is also made when
//!   nothing is undecided for a while.
//! - **Every closing has a clock of its own**, so that a primary cannot starve one by
//!   deciding others. A primary that delays many proposals in a row loses its view too.
//! - **The join rule** takes the highest view that f + 1 others have reached or passed,
//!   not the least that one of them names.
//! - **Nothing is sent for ever**: whoever waits repeats what it said at growing
//!   intervals, and whoever is ahead answers with the certificate, the stable checkpoint
//!   or the new view that the other lacks.
//!
//! # What cannot happen here
//! Nothing under this crate can reach a network, a file, a clock, a thread or randomness.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::disallowed_types
    )
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod draft;
mod evidence;
mod guard;
mod ids;
mod message;
mod proof;
mod replica;
mod safety;
mod settings;
mod signature;
#[cfg(test)]
mod testing;
mod validator;
mod value;
mod verify;

pub use draft::Draft;
pub use evidence::Evidence;
pub use guard::{Disk, Granted, Guard, OpenError, SignError};
pub use ids::{Scope, Sequence, Time, View};
pub use message::{
    Checkpoint, Commit, DecodeError, Frame, Head, MESSAGE_BYTES_MAX, Message, NewView, PrePrepare,
    Prepare, ViewChange,
};
pub use proof::{PreparedProof, ProofError, StableCheckpoint};
pub use replica::{Base, Input, Note, Output, Reason, Replica, Request, Status, To};
pub use safety::{Change, Phase, RestoreError, Safety, Unsafe, Vote};
pub use settings::{
    CHECKPOINT_INTERVAL, LATER_PER_SEAT_MAX, RESENT_MAX, SLOW_PROPOSALS_MAX, Settings, WINDOW,
};
pub use signature::Signature;
pub use validator::{Effect, Setup, Validator};
pub use value::{ATTACHMENT_BYTES_MAX, STATEMENT_BYTES_MAX, Value, ValueTooLong};
pub use verify::{Invalid, Verified, Verifier};
