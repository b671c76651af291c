//! The load: connections that send prepared bodies in a closed loop.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::cpu::CpuTimes;
use crate::client::BASE;
use crate::failure::{Exit, Failure};

/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// How many significant digits of a latency are kept.
const LATENCY_DIGITS: u8 = 3;
/// How long a request may take before the measurement is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How an accepted ballot looks among a batch's results.
const ACCEPTED: &[u8] = br#""status":201"#;

/// A node that takes ballots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    address: SocketAddr,
    host: HeaderValue,
}

impl Target {
    /// Resolves an endpoint like `http://127.0.0.1:8003`.
    pub(crate) fn parse(endpoint: &str) -> Result<Self, Failure> {
        let unusable = |reason: &str| {
            Failure::say(
                Exit::Usage,
                format_args!("{endpoint} cannot be measured: {reason}"),
            )
        };
        let host = endpoint
            .strip_prefix("http://")
            .ok_or_else(|| unusable("only http:// can"))?
            .trim_end_matches('/');
        let mut addresses = host
            .to_socket_addrs()
            .map_err(|error| unusable(&error.to_string()))?;
        Ok(Self {
            address: addresses
                .next()
                .ok_or_else(|| unusable("it has no address"))?,
            host: HeaderValue::from_str(host).map_err(|error| unusable(&error.to_string()))?,
        })
    }
}

/// One run.
pub(crate) struct Load<'l> {
    pub(crate) targets: &'l [Target],
    pub(crate) connections: u32,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// Ballots in a request.
    pub(crate) batch: u32,
    /// Processes whose CPU time is told.
    pub(crate) pids: &'l [u32],
}

/// What a run came to.
pub(crate) struct Measured {
    pub(crate) connections: u32,
    /// The time that was measured.
    pub(crate) elapsed: Duration,
    /// Requests answered in that time.
    pub(crate) requests: u64,
    /// Ballots recorded in that time.
    pub(crate) votes: u64,
    /// Latencies of requests, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Answers that were none of success, by status.
    pub(crate) errors: BTreeMap<u16, u64>,
    /// Whether the ballots were used up before the time was.
    pub(crate) exhausted: bool,
    /// CPU time by process, this one as 0.
    pub(crate) cpu: BTreeMap<u32, Duration>,
}

/// What one connection saw.
struct Seen {
    requests: u64,
    votes: u64,
    latency: Histogram<u64>,
    errors: BTreeMap<u16, u64>,
    exhausted: bool,
    ended: Instant,
}

impl Load<'_> {
    /// Sends bodies until the time or they are used up.
    pub(crate) async fn fire(&self, bodies: &[Bytes]) -> Result<Measured, Failure> {
        let mut senders = Vec::new();
        for (_, target) in (0..self.connections).zip(self.targets.iter().cycle()) {
            senders.push((connect(target).await?, target));
        }
        let next = AtomicUsize::new(0);
        let start = Instant::now() + self.warmup;
        let end = start + self.duration;
        let clients = senders
            .into_iter()
            .map(|(sender, target)| self.client(sender, target, bodies, &next, (start, end)));
        let cpu = async {
            tokio::time::sleep_until(start).await;
            CpuTimes::read(self.pids)
        };
        let (seen, before) = tokio::join!(try_join_all(clients), cpu);
        let (seen, after) = (seen?, CpuTimes::read(self.pids)?);
        Ok(self.sum(seen, start, after.since(&before?)))
    }

    /// One connection: its next request goes out when its last was answered.
    async fn client(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        target: &Target,
        bodies: &[Bytes],
        next: &AtomicUsize,
        (start, end): (Instant, Instant),
    ) -> Result<Seen, Failure> {
        let mut seen = Seen::new();
        loop {
            let began = Instant::now();
            if began >= end {
                break;
            }
            let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) else {
                seen.exhausted = true;
                break;
            };
            let sent =
                tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(&mut sender, target, body));
            let (status, votes) = sent.await.map_err(Failure::context(format!(
                "no answer in {} s",
                REQUEST_TIMEOUT.as_secs()
            )))??;
            seen.ended = Instant::now();
            if began >= start {
                seen.count(status, votes, seen.ended.duration_since(began));
            }
        }
        Ok(seen)
    }

    async fn exchange(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        target: &Target,
        body: &Bytes,
    ) -> Result<(StatusCode, u64), Failure> {
        let broken = Failure::context("the connection broke");
        let exchange = async {
            sender.ready().await?;
            let response = sender.send_request(self.request(target, body)).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        let (status, answer) = exchange.await.map_err(broken)?;
        let votes = match status {
            _ if self.batch > 1 => count(&answer, ACCEPTED),
            StatusCode::CREATED => 1,
            _ => 0,
        };
        Ok((status, votes))
    }

    fn request(&self, target: &Target, body: &Bytes) -> Request<Full<Bytes>> {
        let path = if self.batch > 1 {
            "/votes/batch"
        } else {
            "/votes"
        };
        Request::post(format!("{BASE}{path}"))
            .header(header::HOST, target.host.clone())
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            )
            .body(Full::new(body.clone()))
            .expect("its path and headers are fixed and valid")
    }

    fn sum(&self, seen: Vec<Seen>, start: Instant, cpu: BTreeMap<u32, Duration>) -> Measured {
        let mut sum = Seen::new();
        sum.ended = start;
        for one in seen {
            sum.requests = sum.requests.saturating_add(one.requests);
            sum.votes = sum.votes.saturating_add(one.votes);
            sum.exhausted |= one.exhausted;
            sum.ended = sum.ended.max(one.ended);
            sum.latency
                .add(&one.latency)
                .expect("all histograms have the same bounds");
            for (status, count) in one.errors {
                let errors = sum.errors.entry(status).or_default();
                *errors = errors.saturating_add(count);
            }
        }
        Measured {
            connections: self.connections,
            elapsed: sum.ended.duration_since(start),
            requests: sum.requests,
            votes: sum.votes,
            latency: sum.latency,
            errors: sum.errors,
            exhausted: sum.exhausted,
            cpu,
        }
    }
}

impl Seen {
    fn new() -> Self {
        Self {
            requests: 0,
            votes: 0,
            latency: Histogram::new_with_max(LATENCY_US_MAX, LATENCY_DIGITS)
                .expect("the bounds are within the library's"),
            errors: BTreeMap::new(),
            exhausted: false,
            ended: Instant::now(),
        }
    }

    fn count(&mut self, status: StatusCode, votes: u64, latency: Duration) {
        self.requests = self.requests.saturating_add(1);
        self.votes = self.votes.saturating_add(votes);
        self.latency
            .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX));
        if !status.is_success() {
            let errors = self.errors.entry(status.as_u16()).or_default();
            *errors = errors.saturating_add(1);
        }
    }
}

async fn connect(target: &Target) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let refused = || format!("cannot connect to {}", target.address);
    let stream = TcpStream::connect(target.address).await.map_err(|error| {
        Failure::new(
            Exit::Unreachable,
            anyhow::Error::new(error).context(refused()),
        )
    })?;
    stream
        .set_nodelay(true)
        .map_err(Failure::context(refused()))?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::context(refused()))?;
    // It ends when its sender is dropped; whatever goes wrong reaches the sender, too.
    tokio::spawn(connection);
    Ok(sender)
}

/// How often a pattern occurs in a text.
fn count(text: &[u8], pattern: &[u8]) -> u64 {
    let found = text
        .windows(pattern.len())
        .filter(|window| *window == pattern);
    u64::try_from(found.count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_ballots_are_counted_without_parsing() {
        let answer = br#"{"results":[{"status":201,"vote_id":"vote_1_1"},{"status":409,"code":"x"},{"status":201}]}"#;
        assert_eq!(count(answer, ACCEPTED), 2);
        assert_eq!(count(b"", ACCEPTED), 0);
    }

    #[test]
    fn only_plain_http_is_measured() {
        let target = Target::parse("http://127.0.0.1:8003/").unwrap();
        assert_eq!(target.address, "127.0.0.1:8003".parse().unwrap());
        assert_eq!(target.host, "127.0.0.1:8003");
        for endpoint in [
            "https://127.0.0.1:8003",
            "http://127.0.0.1",
            "127.0.0.1:8003",
        ] {
            assert_eq!(
                Target::parse(endpoint).unwrap_err().exit(),
                Exit::Usage,
                "{endpoint}"
            );
        }
    }
}
