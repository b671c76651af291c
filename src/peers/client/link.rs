//! One connection to a peer, kept up by a task of its own.
//!
//! ```text
//!            dial                    accepted
//!   Dialling ----> ... ----------------------------> Up
//!      ^  \                                          |
//!      |   \ failed                                  | lost, or going away
//!      |    v                                        v
//!      +-- Down <------------------------------------+
//!       after a pause, or at once when the address changes
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::dial::{self, Connection};
use super::{LinkError, LinkStatus, PeerAddress};
use crate::limits::permits;
use crate::message::Causes;
use crate::wire::Outgoing;
use crate::{Direction, Endpoint, FailureKind, Lane, Limits, NodeId};

/// The connection as its users see it.
pub(super) struct Link {
    state: watch::Receiver<LinkState>,
    pub(super) calls: Arc<Semaphore>,
    pub(super) call_bytes: Arc<Semaphore>,
    pub(super) streams: Arc<Semaphore>,
}

#[derive(Clone)]
struct LinkState {
    phase: Phase,
    since: Instant,
    last_error: Option<Arc<LinkError>>,
}

#[derive(Clone)]
enum Phase {
    /// An attempt is under way. It is worth waiting for unless the one before it failed.
    Dialling {
        hopeful: bool,
    },
    Up(Channel),
    Down,
}

/// A connection that stands.
#[derive(Clone)]
struct Channel {
    requests: SendRequest<Outgoing>,
    /// Cancelled by whoever finds that it takes no more requests.
    retired: CancellationToken,
}

/// The head of a request that is sent: its answer to come, and its body to send.
pub(super) type Opened = (ResponseFuture, SendStream<Outgoing>);

impl Link {
    /// The link and the task that keeps it up, which dials whatever `address` says.
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        node: NodeId,
        lane: Lane,
        address: watch::Receiver<PeerAddress>,
        told: Arc<Told>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (publish, state) = watch::channel(LinkState {
            phase: Phase::Dialling { hopeful: true },
            since: Instant::now(),
            last_error: None,
        });
        let link = Self::with_bounds(&endpoint.limits, state);
        let keeper = Keeper {
            endpoint,
            node,
            lane,
            address,
            publish,
            failures: 0,
            told,
        };
        (link, keeper.run())
    }

    fn with_bounds(limits: &Limits, state: watch::Receiver<LinkState>) -> Self {
        let semaphore = |bound: u32| Arc::new(Semaphore::new(permits(bound)));
        Self {
            state,
            calls: semaphore(limits.calls_in_flight_max),
            call_bytes: semaphore(limits.call_bytes_in_flight_max),
            streams: semaphore(limits.streams_open_max),
        }
    }

    /// Sends the head of a request, waiting for a connection only while the first attempt
    /// since the last one is under way. The error is why there is none; the request is then not
    /// sent.
    pub(super) async fn open(&self, head: Request<()>) -> Result<Opened, Option<Arc<LinkError>>> {
        let channel = self.channel().await?;
        match dial::open(channel.requests, head).await {
            Ok(opened) => Ok(opened),
            Err(source) => {
                channel.retired.cancel();
                Err(Some(Arc::new(LinkError::Lost {
                    source: source.into(),
                })))
            }
        }
    }

    async fn channel(&self) -> Result<Channel, Option<Arc<LinkError>>> {
        let mut state = self.state.clone();
        let settled = state
            .wait_for(|state| !matches!(state.phase, Phase::Dialling { hopeful: true }))
            .await;
        match settled {
            Ok(state) => match &state.phase {
                Phase::Up(channel) => Ok(channel.clone()),
                Phase::Down | Phase::Dialling { .. } => Err(state.last_error.clone()),
            },
            // The peer was removed while the caller waited.
            Err(_) => Err(None),
        }
    }

    pub(super) fn status(&self) -> LinkStatus {
        let state = self.state.borrow();
        LinkStatus {
            connected: matches!(state.phase, Phase::Up(_)),
            since: state.since,
            last_error: state.last_error.clone(),
        }
    }

    /// The last error, for a caller that waited for the first attempt in vain.
    pub(super) fn last_error(&self) -> Option<Arc<LinkError>> {
        self.state.borrow().last_error.clone()
    }
}

/// Takes `count` of `semaphore`, waiting in line.
pub(super) async fn take(semaphore: &Arc<Semaphore>, count: u32) -> OwnedSemaphorePermit {
    Arc::clone(semaphore)
        .acquire_many_owned(count)
        .await
        .expect("these semaphores are never closed")
}

/// Why the links to a peer are down, as far as the log has been told. They share it, because
/// what one of them meets the other meets too.
#[derive(Default)]
pub(super) struct Told(Mutex<BTreeMap<Lane, FailureKind>>);

impl Told {
    /// Whether a failure is worth a warning: when neither link has met its like since it was
    /// last up.
    fn is_news(&self, lane: Lane, kind: FailureKind) -> bool {
        let mut told = self.lock();
        let known = told.values().any(|told| *told == kind);
        told.insert(lane, kind);
        !known
    }

    fn forget(&self, lane: Lane) {
        self.lock().remove(&lane);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Lane, FailureKind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that keeps a connection up.
struct Keeper {
    endpoint: Arc<Endpoint>,
    node: NodeId,
    lane: Lane,
    address: watch::Receiver<PeerAddress>,
    publish: watch::Sender<LinkState>,
    /// Failed attempts since the last connection.
    failures: u32,
    told: Arc<Told>,
}

/// How a phase of a link ended.
enum Ending {
    /// The peer is to be dialled elsewhere.
    Moved,
    Failed(LinkError),
}

impl Keeper {
    /// Runs until it is dropped with its peer.
    async fn run(mut self) {
        loop {
            let ending = match self.dial().await {
                Ok(connection) => self.hold(connection).await,
                Err(ending) => {
                    self.failures = self.failures.saturating_add(1);
                    ending
                }
            };
            match ending {
                Ending::Moved => self.failures = 0,
                Ending::Failed(error) => self.pause(error).await,
            }
        }
    }

    async fn dial(&mut self) -> Result<Connection, Ending> {
        let hopeful = self.failures == 0;
        self.show(Phase::Dialling { hopeful }, None);
        let address = self.address.borrow_and_update().clone();
        tokio::select! {
            biased;
            () = moved(&mut self.address) => Err(Ending::Moved),
            dialled = dial::dial(&self.endpoint, self.node, &address) => {
                dialled.map_err(Ending::Failed)
            }
        }
    }

    /// Offers the connection until it is gone.
    async fn hold(&mut self, connection: Connection) -> Ending {
        let Connection {
            requests,
            mut driver,
        } = connection;
        let retired = CancellationToken::new();
        self.failures = 0;
        self.told.forget(self.lane);
        info!(peer = %self.node, lane = self.lane.name(), "peer connected");
        self.endpoint
            .observer
            .connected(self.node, Direction::Outbound);
        self.show(
            Phase::Up(Channel {
                requests,
                retired: retired.clone(),
            }),
            None,
        );
        let ending = tokio::select! {
            biased;
            () = moved(&mut self.address) => Ending::Moved,
            ended = &mut driver => Ending::Failed(ended.unwrap_or_else(|panic| LinkError::Lost {
                source: panic.into(),
            })),
            () = retired.cancelled() => {
                // What is under way may finish on it; then it ends by itself.
                drop(driver.detach());
                Ending::Failed(LinkError::Closed)
            }
        };
        self.endpoint
            .observer
            .disconnected(self.node, Direction::Outbound);
        ending
    }

    /// Shows why the link is down and waits before the next attempt.
    async fn pause(&mut self, error: LinkError) {
        let kind = error.kind();
        self.endpoint
            .observer
            .failed(Some(self.node), Direction::Outbound, kind);
        let delay = self.delay();
        let (peer, lane) = (self.node, self.lane.name());
        if self.told.is_news(self.lane, kind) {
            warn!(%peer, lane, error = %Causes(&error), "peer unreachable");
        } else {
            debug!(%peer, lane, error = %Causes(&error), ?delay, "peer still unreachable");
        }
        self.show(Phase::Down, Some(Arc::new(error)));
        tokio::select! {
            () = moved(&mut self.address) => self.failures = 0,
            () = tokio::time::sleep(delay) => {}
        }
    }

    fn delay(&self) -> std::time::Duration {
        let backoff = self.endpoint.limits.backoff;
        // Without randomness the longest wait is the safe one.
        let sample = getrandom::u32().unwrap_or(u32::MAX);
        backoff.delay(self.failures, sample)
    }

    fn show(&self, phase: Phase, error: Option<Arc<LinkError>>) {
        self.publish.send_modify(|state| {
            let was_up = matches!(state.phase, Phase::Up(_));
            if was_up != matches!(phase, Phase::Up(_)) {
                state.since = Instant::now();
            }
            state.phase = phase;
            state.last_error = error.or(state.last_error.take());
        });
    }
}

/// Waits until the address changes. A peer that is removed takes this task with it.
async fn moved(address: &mut watch::Receiver<PeerAddress>) {
    if address.changed().await.is_err() {
        std::future::pending().await
    }
}
