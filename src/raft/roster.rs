//! Who may talk to this node: the membership as the transport asks for it.
//!
//! A node is refused once the applied log says that it was a member and is one no longer, and
//! it does not lead. A node that the log does not know yet is admitted: its certificate proves
//! that it belongs to the cluster, and a follower that was away must accept a leader that
//! joined meanwhile, or it would never catch up.
//!
//! Each node id is pinned to the data folder that it first came with, durably, so that a
//! wiped node cannot return under its old id.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use aegis_peers::{Membership, NodeId, PinError, StoreId};
use aegis_storage::Store;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::applier::read_applied;
use crate::disk::AppliedState;
use crate::types::RawId;

/// The members as the applied log names them.
#[derive(Debug, Default)]
struct Known {
    members: BTreeSet<RawId>,
    used: BTreeSet<RawId>,
    leader: Option<RawId>,
}

/// The cluster's membership as one node knows it. Made before the transport, which asks it,
/// and handed to [`RaftNode::start`](crate::RaftNode::start), which keeps it up to date.
pub struct Roster {
    known: RwLock<Known>,
    pins: Mutex<BTreeMap<RawId, StoreId>>,
    /// Held while a peer is met.
    meeting: tokio::sync::Mutex<()>,
    store: Store,
}

/// The store does not say who the members are.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the membership from the store")]
pub struct RosterError(#[source] io::Error);

impl Roster {
    /// The membership and the pins that `store` has.
    pub fn open(store: &Store) -> Result<Arc<Self>, RosterError> {
        let applied = read_applied(store).map_err(RosterError)?;
        let pins = store
            .read_pins()
            .map_err(|error| RosterError(io::Error::other(error)))?;
        let roster = Self {
            known: RwLock::default(),
            pins: Mutex::new(
                pins.into_iter()
                    .map(|(node, store)| (node, StoreId(store)))
                    .collect(),
            ),
            meeting: tokio::sync::Mutex::default(),
            store: store.clone(),
        };
        roster.applied(&applied);
        Ok(Arc::new(roster))
    }

    /// The applied log has other members.
    pub(crate) fn applied(&self, state: &AppliedState) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.members = state
            .membership
            .membership()
            .nodes()
            .map(|(id, _)| *id)
            .collect();
        known.used.clone_from(&state.used);
    }

    /// Another node leads.
    pub(crate) fn led_by(&self, leader: Option<RawId>) {
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .leader = leader;
    }

    /// Whether `node` was ever a member.
    pub(crate) fn is_used(&self, node: RawId) -> bool {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .used
            .contains(&node)
    }

    fn pins(&self) -> MutexGuard<'_, BTreeMap<RawId, StoreId>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pin(&self, node: NodeId, presented: StoreId) -> Result<(), PinError> {
        // One at a time: of two first meetings at once, what is on disk and what is known
        // must be the same one.
        let _meeting = self.meeting.lock().await;
        let unavailable = |source: Box<dyn std::error::Error + Send + Sync>| {
            PinError::Unavailable { node, source }
        };
        match self.pins().get(&node.get()) {
            Some(pinned) if *pinned == presented => return Ok(()),
            Some(&pinned) => {
                return Err(PinError::Mismatch {
                    node,
                    pinned,
                    presented,
                });
            }
            None => {}
        }
        let (done, saved) = oneshot::channel();
        // The receiver below waits for the answer unless the connection is given up.
        let done = Box::new(move |result| {
            done.send(result).ok();
        });
        self.store
            .save_pin(node.get(), presented.0, done)
            .map_err(|error| unavailable(error.into()))?;
        saved
            .await
            .map_err(|error| unavailable(error.into()))?
            .map_err(|error| unavailable(error.into()))?;
        self.pins().insert(node.get(), presented);
        Ok(())
    }
}

impl Membership for Roster {
    fn admits(&self, node: NodeId) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let node = node.get();
        let was_removed = known.used.contains(&node) && !known.members.contains(&node);
        // A removed leader commits its removal and hands over before it is refused.
        !was_removed || known.leader == Some(node)
    }

    fn pin_store(&self, node: NodeId, store: StoreId) -> BoxFuture<'_, Result<(), PinError>> {
        self.pin(node, store).boxed()
    }
}

#[cfg(test)]
mod tests {
    use aegis_crypto::Digest;
    use aegis_storage::{Identity, Options};

    use super::*;
    use crate::members::Node;
    use crate::types::{Membership as RaftMembership, log_id};

    fn store(dir: &tempfile::TempDir) -> Store {
        let path = dir.path().join("node");
        if !path.exists() {
            let cluster_id = Digest::of(b"roster");
            let identity = Identity {
                cluster_id,
                node_id: 1,
                incarnation: 0,
                store_id: [1; 16],
            };
            Store::create(&path, &identity).unwrap();
        }
        Store::open(&path, &Options::default()).unwrap()
    }

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    #[test]
    fn a_member_that_left_is_refused_unless_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let roster = Roster::open(&store(&dir)).unwrap();
        let mut state = AppliedState::default();
        let mut set = |members: &[u64]| {
            let nodes: BTreeMap<_, _> = members.iter().map(|id| (*id, Node::default())).collect();
            let voters = vec![members.iter().copied().collect()];
            state.set_membership(log_id(1, 1), RaftMembership::new(voters, nodes).unwrap());
            roster.applied(&state);
        };
        // A node that joins knows nobody, and lets itself be found.
        assert!(roster.admits(id(2)));
        set(&[1, 2, 3]);
        assert!(roster.admits(id(2)) && roster.admits(id(4)));
        assert!(roster.is_used(2) && !roster.is_used(4));
        set(&[1, 3]);
        assert!(!roster.admits(id(2)) && roster.is_used(2));
        roster.led_by(Some(2));
        assert!(roster.admits(id(2)));
        roster.led_by(Some(3));
        assert!(!roster.admits(id(2)));
    }

    #[tokio::test]
    async fn a_node_is_pinned_to_its_folder_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let (first, other) = (StoreId([7; 16]), StoreId([8; 16]));
        let roster = Roster::open(&store(&dir)).unwrap();
        roster.pin_store(id(2), first).await.unwrap();
        roster.pin_store(id(2), first).await.unwrap();
        drop(roster);

        let roster = Roster::open(&store(&dir)).unwrap();
        let refused = roster.pin_store(id(2), other).await.unwrap_err();
        assert!(
            matches!(refused, PinError::Mismatch { pinned, presented, .. } if pinned == first && presented == other)
        );
        roster.pin_store(id(3), other).await.unwrap();
    }
}
