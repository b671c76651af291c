//! The server: accepts connections from peers, bounded in number and in time.

mod connection;
mod rejections;
mod session;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use self::rejections::Rejections;
use self::table::PeerTable;
use crate::{Direction, Endpoint, FailureKind, Methods, NodeId, Service};

/// How long to wait after the system had no room for another connection. Nothing tells when it
/// has again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections from peers and hands their requests to a [`Service`].
pub struct PeerServer {
    listener: TcpListener,
    local_address: SocketAddr,
    shared: Arc<Shared>,
}

/// What all connections of a server share.
struct Shared {
    endpoint: Arc<Endpoint>,
    methods: Methods,
    service: Arc<dyn Service>,
    peers: PeerTable,
    rejections: Rejections,
    /// Accepted connections whose handshake is not finished.
    handshakes: Arc<Semaphore>,
    /// Those whose handshake is.
    connections: Arc<Semaphore>,
    connection_tasks: TaskTracker,
    request_tasks: TaskTracker,
    /// Cancelled when the server is told to stop.
    stopping: CancellationToken,
    /// Cancelled when it waits no longer for what is under way.
    aborting: CancellationToken,
}

impl Shared {
    /// Reports a peer that is turned away, to the observer and the log.
    fn reject(
        &self,
        node: Option<NodeId>,
        address: SocketAddr,
        kind: FailureKind,
        reason: &dyn std::fmt::Display,
    ) {
        let observer = &self.endpoint.observer;
        observer.failed(node, Direction::Inbound, kind);
        self.rejections.report(node, address, kind, reason);
    }
}

impl PeerServer {
    /// Listens at `address`; port 0 lets the system choose one. Connections wait until
    /// [`PeerServer::serve`] is called.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(
        address: SocketAddr,
        endpoint: Arc<Endpoint>,
        methods: Methods,
        service: Arc<dyn Service>,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local_address = listener.local_addr().map_err(failed)?;
        let limits = *endpoint.limits();
        let semaphore =
            |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Ok(Self {
            listener,
            local_address,
            shared: Arc::new(Shared {
                endpoint,
                methods,
                service,
                peers: PeerTable::new(limits),
                rejections: Rejections::default(),
                handshakes: semaphore(limits.handshakes_max),
                connections: semaphore(limits.connections_max),
                connection_tasks: TaskTracker::new(),
                request_tasks: TaskTracker::new(),
                stopping: CancellationToken::new(),
                aborting: CancellationToken::new(),
            }),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Serves until `until` completes; then accepts nothing more, lets calls under way finish
    /// for up to [`crate::Limits::drain_timeout`], and tells streams that it stops, so that
    /// they can. Dropping the future stops the server without waiting.
    pub async fn serve(self, until: impl Future<Output = ()> + Send) -> Drained {
        let Self {
            listener,
            local_address,
            shared,
        } = self;
        let _abort_on_drop = shared.aborting.clone().drop_guard();
        info!(address = %local_address, "peer server listening");
        tokio::select! {
            () = until => {}
            () = accept_all(&listener, &shared) => {}
        }
        // The port is free for a successor from here on.
        drop(listener);
        drain(&shared).await
    }
}

/// Accepts connections for ever.
async fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let handshake = Arc::clone(&shared.handshakes)
            .acquire_owned()
            .await
            .expect("this semaphore is never closed");
        let (socket, address) = accept(listener).await;
        let serving = connection::serve(Arc::clone(shared), socket, address, handshake);
        let aborting = shared.aborting.clone();
        shared
            .connection_tasks
            .spawn(async move { aborting.run_until_cancelled(serving).await });
    }
}

/// Accepts the next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "connection gone before it was accepted");
            }
            Err(error) => {
                warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether an error of `accept` is about the connection rather than about this process.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Lets what is under way finish, and drops what does not in time.
async fn drain(shared: &Shared) -> Drained {
    shared.stopping.cancel();
    shared.connection_tasks.close();
    shared.request_tasks.close();
    let all = async {
        shared.connection_tasks.wait().await;
        shared.request_tasks.wait().await;
    };
    let in_time = tokio::time::timeout(shared.endpoint.limits().drain_timeout, all).await;
    let abandoned = match in_time {
        Ok(()) => 0,
        Err(_) => shared.request_tasks.len(),
    };
    shared.aborting.cancel();
    shared.connection_tasks.wait().await;
    shared.request_tasks.wait().await;
    if abandoned > 0 {
        warn!(abandoned, "peer server stopped with requests under way");
    } else {
        info!("peer server stopped");
    }
    Drained { abandoned }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Calls and streams that were not done in time and were dropped.
    pub abandoned: usize,
}

/// Why a server cannot listen.
#[derive(Debug, Error)]
#[error("cannot listen for peers at {address}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// What the operating system says.
    pub source: io::Error,
}
