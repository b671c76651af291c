//! The client: a pool of connections to the peers.

mod address;
mod dial;
mod error;
mod exchange;
mod link;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub use self::address::{PeerAddress, PeerAddressError};
pub(crate) use self::error::refusal_kind;
pub use self::error::{LinkError, Message, PeerError};
use self::exchange::Exchange;
use self::link::{Link, Told};
use crate::{Direction, Endpoint, FrameStream, Lane, Method, NodeId, Shape};

/// The connections of this node to its peers, cheap to clone. They are kept up in the
/// background, each on its own and with pauses after failures, and close when the last clone is
/// dropped.
#[derive(Clone)]
pub struct Peers {
    pool: Arc<Pool>,
}

struct Pool {
    endpoint: Arc<Endpoint>,
    runtime: Handle,
    peers: RwLock<BTreeMap<NodeId, Entry>>,
}

/// A peer with its connections; dropping it closes them.
struct Entry {
    address: watch::Sender<PeerAddress>,
    control: Kept,
    bulk: Kept,
}

/// A link with the task that keeps it up.
struct Kept {
    link: Arc<Link>,
    _keeper: AbortOnDropHandle<()>,
}

impl Entry {
    fn link(&self, lane: Lane) -> &Arc<Link> {
        match lane {
            Lane::Control => &self.control.link,
            Lane::Bulk => &self.bulk.link,
        }
    }
}

impl Peers {
    /// A pool without peers.
    ///
    /// # Panics
    /// Outside a tokio runtime; the one that it is called in drives the connections.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            pool: Arc::new(Pool {
                endpoint,
                runtime: Handle::current(),
                peers: RwLock::default(),
            }),
        }
    }

    /// Connects to `node` at `address`. A peer that has this address already is left alone; at
    /// a new one it is dialled at once, and what is under way at the old one breaks.
    pub fn set_address(&self, node: NodeId, address: PeerAddress) {
        let mut peers = self.pool.write();
        match peers.get(&node) {
            Some(entry) => {
                entry.address.send_if_modified(|current| {
                    let changed = *current != address;
                    *current = address;
                    changed
                });
            }
            None => {
                peers.insert(node, self.pool.entry(node, address));
            }
        }
    }

    /// Closes the connections to `node` and forgets it. What is under way breaks.
    pub fn remove(&self, node: NodeId) {
        let removed = self.pool.write().remove(&node);
        // Outside the lock, because it stops tasks.
        drop(removed);
    }

    /// The peers that have an address.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.pool.read().keys().copied().collect()
    }

    /// Sends `body` to `method` at `to` and waits for the answer, `timeout` at most over all.
    /// While the connection is down and its next attempt lies ahead, fails at once.
    ///
    /// # Errors
    /// See [`PeerError`], and above all [`PeerError::is_without_effect`].
    ///
    /// # Panics
    /// When `method` is a stream.
    pub async fn call(
        &self,
        to: NodeId,
        method: Method,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        assert_eq!(method.shape(), Shape::Call, "{} is a stream", method.path());
        self.observe(to, self.exchange(to, method, timeout)?.call(body).await)
    }

    /// Opens a stream to `method` at `to`: sends what `input` yields, as fast as the peer takes
    /// it, and returns what the peer answers. `timeout` is for the peer to accept the stream;
    /// once open it has no time limit. Dropping the returned stream ends it and drops `input`.
    ///
    /// # Errors
    /// See [`PeerError`].
    ///
    /// # Panics
    /// When `method` is a call.
    pub async fn stream(
        &self,
        to: NodeId,
        method: Method,
        input: impl Stream<Item = Bytes> + Send + 'static,
        timeout: Duration,
    ) -> Result<FrameStream, PeerError> {
        assert_eq!(method.shape(), Shape::Stream, "{} is a call", method.path());
        let opened = self.exchange(to, method, timeout)?.stream(input).await;
        self.observe(to, opened)
    }

    /// How the connections to `node` are, unless it is unknown.
    #[must_use]
    pub fn status(&self, node: NodeId) -> Option<PeerStatus> {
        let peers = self.pool.read();
        let entry = peers.get(&node)?;
        Some(PeerStatus {
            address: entry.address.borrow().clone(),
            control: entry.control.link.status(),
            bulk: entry.bulk.link.status(),
        })
    }

    fn exchange(
        &self,
        node: NodeId,
        method: Method,
        timeout: Duration,
    ) -> Result<Exchange, PeerError> {
        let link = match self.pool.read().get(&node) {
            Some(entry) => Arc::clone(entry.link(method.lane())),
            None => return Err(PeerError::UnknownPeer { node }),
        };
        Ok(Exchange {
            endpoint: Arc::clone(&self.pool.endpoint),
            runtime: self.pool.runtime.clone(),
            link,
            node,
            method,
            timeout,
            started: tokio::time::Instant::now(),
        })
    }

    fn observe<T>(&self, to: NodeId, outcome: Result<T, PeerError>) -> Result<T, PeerError> {
        if let Err(error) = &outcome {
            let observer = &self.pool.endpoint.observer;
            observer.failed(Some(to), Direction::Outbound, error.kind());
        }
        outcome
    }
}

impl Pool {
    fn entry(&self, node: NodeId, address: PeerAddress) -> Entry {
        let (address, dialled) = watch::channel(address);
        let told = Arc::new(Told::default());
        let keep = |lane| {
            let endpoint = Arc::clone(&self.endpoint);
            let (link, keeper) =
                Link::new(endpoint, node, lane, dialled.clone(), Arc::clone(&told));
            Kept {
                link: Arc::new(link),
                _keeper: AbortOnDropHandle::new(self.runtime.spawn(keeper)),
            }
        };
        Entry {
            control: keep(Lane::Control),
            bulk: keep(Lane::Bulk),
            address,
        }
    }

    // A map is whole between any two operations, so a poisoned lock is as good as another.

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<NodeId, Entry>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeId, Entry>> {
        self.peers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections to a peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The address that it is dialled at.
    pub address: PeerAddress,
    /// The connection for what is small and urgent.
    pub control: LinkStatus,
    /// The connection for what is large.
    pub bulk: LinkStatus,
}

/// A connection to a peer.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// Whether it stands.
    pub connected: bool,
    /// Since when it stands, or has been down.
    pub since: Instant,
    /// Why the last attempt failed or the last connection ended, if ever.
    pub last_error: Option<Arc<LinkError>>,
}
