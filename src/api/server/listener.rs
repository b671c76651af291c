//! Accepting connections: a cap, an answer for those beyond it, and an orderly end.
//!
//! A listener ends in three steps. It takes what waits to be accepted and then no more, and
//! busy connections close after their next answer, which says so: a client that reuses a
//! connection never finds it shut under its request. After
//! [`HttpLimits::linger`](crate::HttpLimits::linger) idle connections are closed. After
//! [`HttpLimits::drain_timeout`](crate::HttpLimits::drain_timeout) what is left is cut.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::reply::{CommonHeaders, problem_bytes};
use crate::edge::Edge;
use crate::metrics::{CONNECTIONS, CONNECTIONS_REFUSED};
use crate::problem::Problem;

/// How long to wait after an accept that failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that tokio lets the kernel hold for a listener.
const BACKLOG: usize = 1024;
/// The most refused connections that are being told so; more are closed without a word.
const REFUSALS_MAX: usize = 64;
/// How long a refused client may take to read that it is.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How a listener ends, step by step.
#[derive(Clone)]
pub(crate) struct Stages {
    /// Answers say that their connection closes.
    pub(crate) stop: CancellationToken,
    /// Idle connections close.
    pub(crate) close_idle: CancellationToken,
    /// Everything is cut.
    pub(crate) abort: CancellationToken,
}

/// A listener's bounds.
pub(crate) struct Bounds {
    /// What metrics and logs call it.
    pub(crate) name: &'static str,
    pub(crate) connections_max: usize,
    pub(crate) linger: Duration,
    pub(crate) drain_timeout: Duration,
}

/// Accepts connections and runs `serve` for each, until `stop`; returns once all ended.
pub(crate) async fn run<F>(
    edge: Arc<Edge>,
    listener: TcpListener,
    bounds: Bounds,
    stop: CancellationToken,
    serve: impl Fn(TcpStream, Stages) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let stages = Stages {
        stop,
        close_idle: CancellationToken::new(),
        abort: CancellationToken::new(),
    };
    let tasks = TaskTracker::new();
    accept(&edge, listener, &bounds, &stages, &tasks, serve).await;
    tasks.close();
    if ended_within(&tasks, bounds.linger).await {
        return;
    }
    stages.close_idle.cancel();
    if ended_within(&tasks, bounds.drain_timeout).await {
        return;
    }
    let left = tasks.len();
    tracing::warn!(listener = bounds.name, left, "connections cut");
    stages.abort.cancel();
    tasks.wait().await;
}

async fn ended_within(tasks: &TaskTracker, time: Duration) -> bool {
    tokio::time::timeout(time, tasks.wait()).await.is_ok()
}

async fn accept<F>(
    edge: &Arc<Edge>,
    listener: TcpListener,
    bounds: &Bounds,
    stages: &Stages,
    tasks: &TaskTracker,
    serve: impl Fn(TcpStream, Stages) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(bounds.connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let open = CONNECTIONS.with([("listener", bounds.name)]);
    let refused = CONNECTIONS_REFUSED.with([("listener", bounds.name)]);
    // Connections that the kernel took before the stop may carry a request already: they are
    // served, too, but those that come ever after are not.
    let mut queued_max = BACKLOG;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept(), if queued_max > 0 => accepted,
            () = stages.stop.cancelled() => return,
        };
        if stages.stop.is_cancelled() {
            queued_max -= 1;
        }
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_of_one_client(&error) => continue,
            Err(error) => {
                tracing::warn!(listener = bounds.name, %error, "accept failed");
                tokio::select! {
                    () = stages.stop.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                }
            }
        };
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(listener = bounds.name, %error, "no TCP_NODELAY");
                }
                let (connection, open) = (serve(stream, stages.clone()), open.clone());
                tasks.spawn(async move {
                    open.increment(1.0);
                    connection.await;
                    open.decrement(1.0);
                    drop(slot);
                });
            }
            Err(_) => {
                refused.increment(1);
                if let Ok(slot) = Arc::clone(&refusals).try_acquire_owned() {
                    let refusal = refusal(edge);
                    tasks.spawn(async move {
                        let told = refuse(stream, &refusal);
                        let told = tokio::time::timeout(REFUSAL_TIMEOUT, told).await;
                        tracing::debug!(?told, "connection refused");
                        drop(slot);
                    });
                }
            }
        }
    }
}

/// Errors of accept(2) that concern the connection alone.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// The answer to a connection beyond the most.
fn refusal(edge: &Edge) -> Vec<u8> {
    let problem = Problem::too_many_connections();
    problem.count();
    let common = CommonHeaders {
        index: edge.governance.applied_index(),
        request_id: edge.request_id(),
        last: true,
    };
    problem_bytes(&problem, common)
}

/// Answers and reads what the client still sends: closing over unread bytes would reset
/// the connection, and the answer would be lost.
async fn refuse(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    let mut ignored = [0; 1_024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}
