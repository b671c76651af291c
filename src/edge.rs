//! The edge of a node, set up as its configuration says.

use std::sync::Arc;
use std::time::Duration;

use aegis_api::metrics::Exporter;
use aegis_api::{Edge, EventLimits, Governance, HttpLimits, Settings};
use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// The tasks that serve clients; each ends after the stop it was given.
pub struct Serving {
    /// REST, metrics and health.
    pub api: JoinHandle<()>,
    /// WebSocket events.
    pub events: JoinHandle<()>,
}

/// Serves clients on both listeners until `stop`.
///
/// # Errors
/// The system gave no random bytes.
pub fn serve(
    config: &Config,
    governance: Arc<dyn Governance>,
    metrics: Exporter,
    (api, events): (TcpListener, TcpListener),
    stop: &CancellationToken,
) -> Result<Serving> {
    let render = Box::new(move || metrics.render());
    let edge = Edge::new(governance, settings(config), render).context("cannot serve clients")?;
    Ok(Serving {
        api: tokio::spawn(Arc::clone(&edge).serve(api, stop.clone())),
        events: tokio::spawn(edge.serve_events(events, stop.clone())),
    })
}

fn settings(config: &Config) -> Settings {
    let api = &config.api;
    let ms = Duration::from_millis;
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    Settings {
        reads_need_token: !api.open_reads,
        http: HttpLimits {
            connections_max: count(api.connections_max),
            header_bytes_max: api.header_bytes_max,
            header_timeout: ms(api.header_timeout_ms),
            body_timeout: ms(api.body_timeout_ms),
            request_timeout: ms(api.request_timeout_ms),
            write_timeout: ms(api.write_timeout_ms),
            linger: ms(api.linger_ms),
            drain_timeout: ms(api.drain_timeout_ms),
        },
        events: EventLimits {
            clients_max: count(api.subscribers_max),
            send_timeout: ms(api.subscriber_timeout_ms),
            ..EventLimits::default()
        },
        ..Settings::new(config.cluster.admin_token_sha256)
    }
}
