//! Replication: one log, agreed upon by Raft, applied to a deterministic machine.
//!
//! This crate puts openraft between a [`Store`](aegis_storage::Store), which makes the log
//! durable, [`Peers`](aegis_peers::Peers), which carry messages, and a [`Machine`], which
//! says what commands mean. Nothing of openraft shows outside.
//!
//! # What a caller may rely on
//!
//! - An answer to [`RaftNode::submit`] means that the command is on the disks of a majority
//!   and applied here or on the leader. No answer means: see [`SubmitError`].
//! - Any node takes submissions and linearizable reads; followers take them to the leader.
//!   While there is no leader, they are held and repeated until a deadline. A transfer of
//!   leadership or a graceful stop fails no request.
//! - Commands are applied **at least once**: the machine recognises one that it has seen
//!   ([`machine`]).
//! - After [`RaftNode::read_barrier`] this node shows everything that was committed anywhere
//!   when the call began. Leases are never used.
//!
//! # How it is put together
//!
//! | module | owns |
//! | --- | --- |
//! | `submit` | the queue of submissions, batches, retries |
//! | `reads` | rounds of read barriers |
//! | `log_store`, `disk`, `record` | the log, and its bytes |
//! | `state`, `overlay`, `machine` | the thread that applies |
//! | `snapshot` | building, sending, receiving, installing |
//! | `network`, `server`, `wire` | the two ends of the protocol, and its messages |
//! | `change`, `transfer`, `roster`, `members` | who belongs, who leads |
//! | `clock_check` | whether the leader's clock may stamp entries |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod admission;
mod applier;
mod change;
mod clock;
mod clock_check;
mod disk;
mod gate;
mod log_store;
pub mod machine;
mod members;
mod network;
mod node;
mod observer;
mod overlay;
mod reach;
mod reads;
mod record;
mod restore;
mod roster;
mod server;
mod settings;
mod snapshot;
mod state;
mod status;
mod submit;
mod transfer;
mod types;
mod wire;

#[cfg(test)]
mod suite;

pub use admission::{Admission, Decline};
pub use change::ChangeError;
pub use clock::{Clock, SystemClock};
pub use machine::{Answer, Applied, Entry, Machine, MachineError, Position};
pub use members::{Member, MemberRole, MemberState, Node};
pub use node::{BootstrapError, Parts, RaftNode, RecoverError, StartError};
pub use observer::{NoObserver, Observer};
pub use reads::ReadError;
pub use restore::{Beginning, BeginningError, beginning};
pub use roster::{Roster, RosterError};
pub use settings::{Settings, SettingsError};
pub use status::{Role, Status, StatusWatch};
pub use submit::{Committed, SubmitError};
pub use transfer::{Stopped, TransferError};
pub use wire::{COMMAND_BYTES_MAX, methods};
