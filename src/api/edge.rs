//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use http::HeaderValue;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::governance::Governance;
use crate::metrics::HTTP_IN_FLIGHT;
use crate::routes;
use crate::server::body::Room;
use crate::server::connection::{self, Protocols};
use crate::server::listener::{self, Bounds};
use crate::server::router;
use crate::settings::Settings;
use crate::signatures::KnownKeys;

/// Renders the process's metrics as Prometheus's text format.
pub type RenderMetrics = Box<dyn Fn() -> String + Send + Sync>;

/// Reads of many rows that run at the same time, for each core; others wait.
const SCANS_PER_CORE: usize = 4;
/// Whole-chain verifications that run at the same time; others are told to come back.
const VERIFICATIONS_MAX: usize = 1;
/// Pieces of batches whose signatures are checked at the same time, for each core.
const CHECKS_PER_CORE: usize = 2;

/// The edge of a node, which its listeners share.
pub struct Edge {
    pub(crate) governance: Arc<dyn Governance>,
    pub(crate) settings: Settings,
    pub(crate) keys: KnownKeys,
    pub(crate) scans: Arc<Semaphore>,
    pub(crate) verifications: Arc<Semaphore>,
    pub(crate) checks: Arc<Semaphore>,
    pub(crate) body_room: Room,
    pub(crate) cores: usize,
    pub(crate) render_metrics: RenderMetrics,
    pub(crate) in_flight: metrics::Gauge,
    names: Names,
}

/// Names that are drawn once and counted on from there, so that no two requests share one,
/// on this node or another.
struct Names {
    drawn: u64,
    next: AtomicU64,
}

impl Names {
    fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{number:x}", self.drawn)
    }
}

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness(#[from] getrandom::Error);

impl Edge {
    /// The edge over a node. Metrics are installed before, if at all.
    ///
    /// # Errors
    /// The system gave no random bytes to name requests by.
    pub fn new(
        governance: Arc<dyn Governance>,
        settings: Settings,
        render_metrics: RenderMetrics,
    ) -> Result<Arc<Self>, NoRandomness> {
        let cores = available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Self {
            governance,
            body_room: Room::new(settings.body_room_bytes),
            settings,
            keys: KnownKeys::default(),
            scans: Arc::new(Semaphore::new(SCANS_PER_CORE * cores)),
            verifications: Arc::new(Semaphore::new(VERIFICATIONS_MAX)),
            checks: Arc::new(Semaphore::new(CHECKS_PER_CORE * cores)),
            cores,
            render_metrics,
            in_flight: HTTP_IN_FLIGHT.with([]),
            names: Names {
                drawn: getrandom::u64()?,
                next: AtomicU64::new(0),
            },
        }))
    }

    /// Serves the HTTP interface until `stop`, and returns once every connection ended.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let limits = self.settings.http;
        let bounds = Bounds {
            name: "api",
            connections_max: limits.connections_max,
            linger: limits.linger,
            drain_timeout: limits.drain_timeout,
        };
        let protocols = Arc::new(Protocols::new(&limits));
        let app = router::app(Arc::clone(&self), routes::table());
        listener::run(self, listener, bounds, stop, |stream, stages| {
            connection::serve(app.clone(), limits, Arc::clone(&protocols), stream, stages)
        })
        .await;
    }

    /// A name for a request, for logs.
    pub(crate) fn request_id(&self) -> HeaderValue {
        HeaderValue::try_from(self.names.next()).expect("hexadecimal digits are visible ASCII")
    }

    /// A name for a request that its client did not name.
    pub(crate) fn fresh_request_key(&self) -> String {
        format!("node:{}", self.names.next())
    }
}
