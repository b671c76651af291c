//! What is under way with each peer, and its bounds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::limits::server_share;
use crate::{Lane, Limits, Method, NodeId, Refusal, RefusalCode};

/// The peers that have ever connected. Only the cluster's authority can add to them, so they
/// are few; none is forgotten, so that no peer gets more than its share by reconnecting.
pub(super) struct PeerTable {
    limits: Limits,
    peers: Mutex<BTreeMap<NodeId, Arc<PeerEntry>>>,
}

/// A peer's share of this server.
pub(super) struct PeerEntry {
    limits: Limits,
    control: Quota,
    bulk: Quota,
    /// The connections, the oldest first.
    connections: Mutex<VecDeque<CancellationToken>>,
}

/// A peer's share on one lane.
struct Quota {
    calls: Arc<Semaphore>,
    call_bytes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl PeerTable {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            peers: Mutex::default(),
        }
    }

    pub(super) fn peer(&self, node: NodeId) -> Arc<PeerEntry> {
        let mut peers = lock(&self.peers);
        let entry = peers.entry(node);
        Arc::clone(entry.or_insert_with(|| Arc::new(PeerEntry::new(self.limits))))
    }
}

impl PeerEntry {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            control: Quota::new(&limits),
            bulk: Quota::new(&limits),
            connections: Mutex::default(),
        }
    }

    /// Enters a connection; the peer's oldest must go when there are too many.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let superseded = CancellationToken::new();
        let mut connections = lock(&self.connections);
        connections.push_back(superseded.clone());
        if connections.len() > self.limits.connections_per_peer_max
            && let Some(oldest) = connections.pop_front()
        {
            oldest.cancel();
        }
        Place {
            peer: Arc::clone(self),
            superseded,
        }
    }

    /// A place for a call of `method` whose request has `bytes` bytes.
    pub(super) fn admit_call(
        &self,
        method: Method,
        bytes: usize,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), Refusal> {
        let (quota, limits) = (self.quota(method.lane()), &self.limits);
        let (calls, call_bytes) = (limits.calls_in_flight_max, limits.call_bytes_in_flight_max);
        let bytes = limits.call_bytes(method, bytes);
        let call =
            try_take(&quota.calls, 1).ok_or_else(|| overloaded("calls_in_flight_max", calls))?;
        let room = try_take(&quota.call_bytes, bytes)
            .ok_or_else(|| overloaded("call_bytes_in_flight_max", call_bytes))?;
        Ok((call, room))
    }

    /// A place for a stream.
    pub(super) fn admit_stream(&self, lane: Lane) -> Result<OwnedSemaphorePermit, Refusal> {
        let streams = self.limits.streams_open_max;
        try_take(&self.quota(lane).streams, 1)
            .ok_or_else(|| overloaded("streams_open_max", streams))
    }

    fn quota(&self, lane: Lane) -> &Quota {
        match lane {
            Lane::Control => &self.control,
            Lane::Bulk => &self.bulk,
        }
    }
}

impl Quota {
    fn new(limits: &Limits) -> Self {
        let semaphore = |bound: u32| Arc::new(Semaphore::new(server_share(bound)));
        Self {
            calls: semaphore(limits.calls_in_flight_max),
            call_bytes: semaphore(limits.call_bytes_in_flight_max),
            streams: semaphore(limits.streams_open_max),
        }
    }
}

/// A connection's place among those of its peer, given up when it is dropped.
pub(super) struct Place {
    peer: Arc<PeerEntry>,
    /// Cancelled when the place is needed for a newer connection.
    pub(super) superseded: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        // The token serves as the connection's name; cancelling it hurts nobody any more.
        self.superseded.cancel();
        lock(&self.peer.connections).retain(|place| !place.is_cancelled());
    }
}

fn try_take(semaphore: &Arc<Semaphore>, count: u32) -> Option<OwnedSemaphorePermit> {
    Arc::clone(semaphore).try_acquire_many_owned(count).ok()
}

fn overloaded(bound: &str, limit: u32) -> Refusal {
    Refusal::new(
        RefusalCode::Overloaded,
        format_args!("the bound {bound} of {limit} is reached"),
    )
}

/// The data are whole between any two operations, so a poisoned lock is as good as another.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(limits: Limits) -> (PeerTable, NodeId) {
        (PeerTable::new(limits), NodeId::new(2).unwrap())
    }

    #[test]
    fn one_connection_too_many_closes_the_oldest() {
        let (table, node) = table(Limits {
            connections_per_peer_max: 2,
            ..Limits::default()
        });
        let peer = table.peer(node);
        let (first, second) = (peer.enter(), peer.enter());
        assert!(!first.superseded.is_cancelled());
        let third = table.peer(node).enter();
        assert!(first.superseded.is_cancelled());
        assert!(!second.superseded.is_cancelled() && !third.superseded.is_cancelled());

        drop(second);
        let _fourth = peer.enter();
        assert!(!third.superseded.is_cancelled());
    }

    #[test]
    fn a_peer_has_the_same_share_however_often_it_connects() {
        const CONTROL: Method = Method::call("/control", Lane::Control, 100, 1);
        const BULK: Method = Method::call("/bulk", Lane::Bulk, 100, 1);
        // Half of what the server then allows.
        let (table, node) = table(Limits {
            calls_in_flight_max: 1,
            call_bytes_in_flight_max: 5,
            streams_open_max: 1,
            ..Limits::default()
        });
        let code = |refusal: Refusal| refusal.code();
        let call = |bytes| table.peer(node).admit_call(CONTROL, bytes);
        let first = call(7).unwrap();
        assert!(table.peer(node).admit_call(BULK, 9).is_ok());
        let second = call(4).unwrap();
        assert_eq!(call(0).map_err(code).unwrap_err(), RefusalCode::Overloaded);
        drop(second);
        let second = call(0).unwrap();
        drop((first, second));

        let streams = [(); 2].map(|()| table.peer(node).admit_stream(Lane::Bulk).unwrap());
        assert!(table.peer(node).admit_stream(Lane::Bulk).is_err());
        drop(streams);
        assert!(table.peer(node).admit_stream(Lane::Bulk).is_ok());
    }

    #[test]
    fn calls_share_a_bound_of_bytes() {
        const METHOD: Method = Method::call("/m", Lane::Control, 100, 2);
        let (table, node) = table(Limits {
            call_bytes_in_flight_max: 6,
            ..Limits::default()
        });
        let call = |bytes| table.peer(node).admit_call(METHOD, bytes);
        let _first = call(3).unwrap();
        let _second = call(2).unwrap();
        assert_eq!(
            call(2).map_err(|refusal| refusal.code()).unwrap_err(),
            RefusalCode::Overloaded
        );
        assert!(call(1).is_ok());
    }
}
