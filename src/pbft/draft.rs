//! What the replica wants said or kept. None of it leaves the machine before the
//! [safety module](crate::Guard) has checked it, written it to disk and signed it.

use std::sync::Arc;

use aegis_crypto::Digest;

use crate::ids::{Sequence, View};
use crate::message::{Head, NewView, ViewChange};
use crate::proof::{PreparedProof, StableCheckpoint};
use crate::value::Value;

/// A message without its signature, or a fact to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Draft {
    /// Propose a value.
    PrePrepare {
        /// The view.
        view: View,
        /// The sequence number.
        sequence: Sequence,
        /// What to propose.
        value: Value,
    },
    /// Agree to a proposal.
    Prepare {
        /// The view.
        view: View,
        /// The sequence number.
        sequence: Sequence,
        /// The [whole](Value::whole) value's name.
        digest: Digest,
    },
    /// Commit to what was prepared. The proof is kept for view changes to come.
    Commit {
        /// Proof that it was prepared.
        proof: Arc<PreparedProof>,
    },
    /// State what is recorded.
    Checkpoint {
        /// The head.
        head: Head,
    },
    /// Ask for a view.
    ViewChange {
        /// The view.
        view: View,
        /// The last stable checkpoint.
        stable: Option<StableCheckpoint>,
        /// What was prepared above it, by ascending sequence number.
        prepared: Vec<Arc<PreparedProof>>,
    },
    /// Begin a view as its primary.
    NewView {
        /// The view.
        view: View,
        /// A quorum of view changes for it, by ascending seats.
        view_changes: Vec<Arc<ViewChange>>,
        /// The values that follow from them, by ascending sequence number.
        proposals: Vec<(Sequence, Value)>,
    },
    /// Keep what a view began with, before anything is said in it.
    Enter {
        /// Its beginning.
        new_view: Arc<NewView>,
    },
    /// Keep a stable checkpoint and forget what it covers.
    Stable {
        /// The checkpoint.
        stable: StableCheckpoint,
    },
}
