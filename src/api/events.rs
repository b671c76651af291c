//! Events over WebSocket, on a listener of their own.
//!
//! A subscriber reads pages of events from the tables, woken when there are more. Nothing
//! waits in memory for a slow one, and where a subscriber stands is a number in the
//! replicated order of events: whoever resumes, on this node or another, misses nothing
//! and sees nothing twice.

mod feed;
mod handshake;
mod render;
mod subscriber;

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use crate::edge::Edge;
use crate::metrics::{EVENT_SUBSCRIBERS, EVENTS_SENT};
use crate::server::listener::{self, Bounds, Stages};
use feed::Feed;
use subscriber::Subscriber;

/// Subscribers send nothing but control frames.
const INCOMING_BYTES_MAX: usize = 4 * 1024;
/// Events that are gathered into one write.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// The most bytes that wait for one subscriber: many times the largest event.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

impl Edge {
    /// Serves events until `stop`, and returns once every subscriber is gone.
    pub async fn serve_events(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        // They show as zero, not as missing, until the first subscriber comes.
        EVENT_SUBSCRIBERS.with([]).set(0.0);
        EVENTS_SENT.with([]).absolute(0);
        let limits = self.settings.events;
        let bounds = Bounds {
            name: "events",
            connections_max: limits.clients_max,
            // Every subscriber is told at once, and bounded by its own close.
            linger: limits.close_timeout,
            drain_timeout: limits.close_timeout,
        };
        let feed = Arc::new(Feed::new(Arc::clone(&self)));
        listener::run(self, listener, bounds, stop, |stream, stages| {
            serve(Arc::clone(&feed), stream, stages)
        })
        .await;
    }
}

/// One client, from its handshake to its end.
async fn serve(feed: Arc<Feed>, stream: TcpStream, stages: Stages) {
    tokio::select! {
        () = follow(feed, stream, &stages) => {}
        () = stages.abort.cancelled() => {}
    }
}

async fn follow(feed: Arc<Feed>, stream: TcpStream, stages: &Stages) {
    let limits = feed.edge().settings.events;
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(
            limits.handshake_timeout,
            handshake::shake(Arc::clone(&feed), stream),
        ) => shaken,
        () = stages.close_idle.cancelled() => return,
    };
    let Ok(Some((upgraded, start))) = shaken else {
        return;
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(INCOMING_BYTES_MAX)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WAITING_BYTES_MAX)
        .max_message_size(Some(INCOMING_BYTES_MAX))
        .max_frame_size(Some(INCOMING_BYTES_MAX));
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    Subscriber::new(feed, socket, limits)
        .run(start, &stages.stop)
        .await;
}
