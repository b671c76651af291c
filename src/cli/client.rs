//! The HTTP client: it asks one node after the other until one serves.
//!
//! A request goes to the node that served last. A node that cannot be reached is passed
//! over; where none of them leads yet (503) or the queue is full (429), all are asked again
//! after the time that they name, until the client's patience ends. What may have been
//! done already is repeated only if doing it twice is doing it once: reads, ballots, and
//! writes under an `Idempotency-Key`.

mod error;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::Url;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use uuid::Uuid;
use zeroize::Zeroizing;

pub(crate) use error::{ClientError, Problem};

/// Where the API begins.
pub(crate) const BASE: &str = "/api/v1/consensus";
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle connection is kept: less than a node keeps one, so that no request meets
/// its end.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stream may stall.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer that is read whole, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The shortest wait before all nodes are asked again.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Whether a request may be made again when its fate is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Harmless,
    Harmful,
}

impl Repeat {
    /// Whether a request may be made again after this answer.
    fn may_follow(self, status: StatusCode) -> bool {
        match status {
            // Nothing was done.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => true,
            // It may have been done.
            StatusCode::GATEWAY_TIMEOUT => self == Self::Harmless,
            _ => false,
        }
    }
}

struct Request {
    method: Method,
    path: String,
    body: Option<Bytes>,
    headers: HeaderMap,
    repeat: Repeat,
}

/// An answer that is no refusal.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) endpoint: String,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Reads the body.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| ClientError::Answer {
            endpoint: self.endpoint.clone(),
            reason: error.to_string(),
        })
    }
}

/// A node's address as the person wrote it, checked.
#[derive(Clone, Debug)]
struct Endpoint {
    text: String,
    url: Url,
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, ClientError> {
        let refused = |reason: &str| ClientError::Endpoint {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(refused("it must begin with http:// or https://"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(refused("it must end after the port"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("it must not carry a password"));
        }
        Ok(Self {
            text: text.trim_end_matches('/').to_owned(),
            url,
        })
    }
}

/// Asks the nodes of a cluster.
pub(crate) struct Client {
    http: reqwest::Client,
    endpoints: Vec<Endpoint>,
    /// Where the endpoint stands that served last.
    served: AtomicUsize,
    patience: Duration,
}

impl Client {
    /// A client of the nodes at `endpoints` that waits for `patience` in all.
    pub(crate) fn new(
        endpoints: &[String],
        token: Option<&Zeroizing<String>>,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let endpoints = endpoints
            .iter()
            .map(|text| Endpoint::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let bearer = Zeroizing::new(format!("Bearer {}", token.trim()));
            let mut value = HeaderValue::from_str(&bearer).map_err(|_| ClientError::Token)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let mut http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if endpoints
            .iter()
            .all(|endpoint| endpoint.url.scheme() == "http")
        {
            // Loading the system's certificates takes time, and fails where there are none.
            http = http.tls_certs_only([]);
        }
        Ok(Self {
            http: http.build().map_err(ClientError::Setup)?,
            endpoints,
            served: AtomicUsize::new(0),
            patience,
        })
    }

    /// The endpoints as they were written.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| endpoint.text.as_str())
    }

    /// A client of one of the nodes alone, with a patience of its own.
    pub(crate) fn only(&self, endpoint: &str, patience: Duration) -> Result<Self, ClientError> {
        Ok(Self {
            http: self.http.clone(),
            endpoints: vec![Endpoint::parse(endpoint)?],
            served: AtomicUsize::new(0),
            patience,
        })
    }

    /// Reads below the API's base, for example `/status`.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.ask(&Request {
            method: Method::GET,
            path: format!("{BASE}{path}"),
            body: None,
            headers: HeaderMap::new(),
            repeat: Repeat::Harmless,
        })
        .await
    }

    /// Reads outside of the API's base, for example `/readyz`.
    pub(crate) async fn get_root(&self, path: &str) -> Result<Answer, ClientError> {
        self.ask(&Request {
            method: Method::GET,
            path: path.to_owned(),
            body: None,
            headers: HeaderMap::new(),
            repeat: Repeat::Harmless,
        })
        .await
    }

    /// Writes something that is its own name, like a ballot: writing it again changes nothing.
    pub(crate) async fn post_same(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, ClientError> {
        self.write(
            Method::POST,
            path,
            Some(encode(body)),
            HeaderMap::new(),
            Repeat::Harmless,
        )
        .await
    }

    /// Writes once, however often it is sent: under a fresh `Idempotency-Key`.
    pub(crate) async fn post_once(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, ClientError> {
        let key =
            HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("a UUID is plain ASCII");
        let headers = HeaderMap::from_iter([(HeaderName::from_static("idempotency-key"), key)]);
        self.write(
            Method::POST,
            path,
            Some(encode(body)),
            headers,
            Repeat::Harmless,
        )
        .await
    }

    /// Asks for something that must not be asked twice.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, ClientError> {
        self.write(
            Method::POST,
            path,
            Some(encode(body)),
            HeaderMap::new(),
            Repeat::Harmful,
        )
        .await
    }

    /// Takes something away.
    pub(crate) async fn delete(&self, path: &str) -> Result<Answer, ClientError> {
        self.write(
            Method::DELETE,
            path,
            None,
            HeaderMap::new(),
            Repeat::Harmful,
        )
        .await
    }

    async fn write(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        mut headers: HeaderMap,
        repeat: Repeat,
    ) -> Result<Answer, ClientError> {
        if body.is_some() {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        self.ask(&Request {
            method,
            path: format!("{BASE}{path}"),
            body,
            headers,
            repeat,
        })
        .await
    }

    /// Reads a long answer piece by piece from the first node that serves it.
    pub(crate) async fn stream(&self, path: &str) -> Result<Stream, ClientError> {
        let request = Request {
            method: Method::GET,
            path: format!("{BASE}{path}"),
            body: None,
            headers: HeaderMap::new(),
            repeat: Repeat::Harmless,
        };
        let (mut tried, mut unserved) = (Vec::new(), None);
        for endpoint in self.rotation() {
            let response = match timeout(STALL_TIMEOUT, self.send(endpoint, &request)).await {
                Ok(response) => response,
                Err(undone) => {
                    tried.push((endpoint.text.clone(), undone.reason));
                    continue;
                }
            };
            let status = response.status();
            if status.is_success() {
                return Ok(Stream {
                    endpoint: endpoint.text.clone(),
                    response,
                });
            }
            let body = timeout(STALL_TIMEOUT, read_whole(response)).await;
            let problem = problem(status, &body.unwrap_or_default());
            if !request.repeat.may_follow(status) {
                return Err(ClientError::Refused(problem));
            }
            unserved = Some(ClientError::Unserved {
                endpoint: endpoint.text.clone(),
                problem,
            });
        }
        Err(unserved.unwrap_or(ClientError::Unreachable { tried }))
    }

    async fn ask(&self, request: &Request) -> Result<Answer, ClientError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let pause = match self.ask_each(request, deadline).await? {
                Round::Answered(answer) => return Ok(answer),
                Round::Unserved { pause, error } if Instant::now() + pause >= deadline => {
                    return Err(ClientError::Unserved {
                        endpoint: error.0,
                        problem: error.1,
                    });
                }
                Round::Unserved { pause, .. } => pause,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks every node once.
    async fn ask_each(&self, request: &Request, deadline: Instant) -> Result<Round, ClientError> {
        let mut tried = Vec::new();
        let mut unserved = None;
        for (position, endpoint) in self.rotation().enumerate() {
            // What is left is shared with the nodes that may have to be asked after this one.
            let left = deadline.saturating_duration_since(Instant::now());
            let nodes = self.endpoints.len().saturating_sub(position);
            let share = left / u32::try_from(nodes).unwrap_or(u32::MAX).max(1);
            match timeout(share, self.exchange(endpoint, request)).await {
                Ok((status, pause, body)) if request.repeat.may_follow(status) => {
                    unserved = Some(Round::Unserved {
                        pause,
                        error: (endpoint.text.clone(), problem(status, &body)),
                    });
                }
                Ok((status, _, body)) if status.is_success() => {
                    self.prefer(endpoint);
                    return Ok(Round::Answered(Answer {
                        endpoint: endpoint.text.clone(),
                        body,
                    }));
                }
                Ok((status, _, body)) => return Err(ClientError::Refused(problem(status, &body))),
                Err(undone) if undone.sent && request.repeat == Repeat::Harmful => {
                    return Err(ClientError::Unknown {
                        endpoint: endpoint.text.clone(),
                        reason: undone.reason,
                    });
                }
                Err(undone) => tried.push((endpoint.text.clone(), undone.reason)),
            }
        }
        unserved.ok_or(ClientError::Unreachable { tried })
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: &Request,
    ) -> Result<(StatusCode, Duration, Bytes), Undone> {
        let response = self.send(endpoint, request).await?;
        let status = response.status();
        let pause = retry_after(response.headers());
        Ok((status, pause, read_whole(response).await?))
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        request: &Request,
    ) -> Result<reqwest::Response, Undone> {
        let mut url = endpoint.url.clone();
        let (path, query) = match request.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (request.path.as_str(), None),
        };
        url.set_path(path);
        url.set_query(query);
        let mut builder = self
            .http
            .request(request.method.clone(), url)
            .headers(request.headers.clone());
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        Ok(builder.send().await?)
    }

    /// The endpoints, beginning with the one that served last.
    fn rotation(&self) -> impl Iterator<Item = &Endpoint> {
        let first = self.served.load(Ordering::Relaxed);
        self.endpoints
            .iter()
            .cycle()
            .skip(first)
            .take(self.endpoints.len())
    }

    fn prefer(&self, served: &Endpoint) {
        let position = self
            .endpoints
            .iter()
            .position(|endpoint| endpoint.text == served.text);
        self.served.store(position.unwrap_or(0), Ordering::Relaxed);
    }
}

enum Round {
    Answered(Answer),
    Unserved {
        pause: Duration,
        error: (String, Problem),
    },
}

/// A long answer on its way.
pub(crate) struct Stream {
    pub(crate) endpoint: String,
    response: reqwest::Response,
}

impl Stream {
    /// How long the answer is in bytes, if the node said.
    pub(crate) fn len(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next piece; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let piece = async { Ok(self.response.chunk().await?) };
        let broken = |undone: Undone| ClientError::Answer {
            endpoint: self.endpoint.clone(),
            reason: format!("it broke off: {}", undone.reason),
        };
        timeout(STALL_TIMEOUT, piece).await.map_err(broken)
    }
}

/// Percent-encodes one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

fn encode(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body)
        .expect("request bodies have string keys and serialize")
        .into()
}

/// How long a node asks to be left alone.
fn retry_after(headers: &HeaderMap) -> Duration {
    headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map_or(PAUSE_MIN, |seconds| {
            Duration::from_secs(seconds).max(PAUSE_MIN)
        })
}

fn problem(status: StatusCode, body: &[u8]) -> Problem {
    let title = status.canonical_reason().unwrap_or("no known status");
    let read = serde_json::from_slice(body);
    let mut problem = read.unwrap_or_else(|_| Problem {
        status: 0,
        code: String::new(),
        title: title.to_owned(),
        detail: String::new(),
    });
    problem.status = status.as_u16();
    problem
}

/// Why an exchange with one node came to nothing.
#[derive(Debug)]
struct Undone {
    reason: String,
    /// Whether the node may have seen the request.
    sent: bool,
}

impl From<reqwest::Error> for Undone {
    fn from(error: reqwest::Error) -> Self {
        // The deepest cause says most, and the URL in the others stands beside it already.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self {
            reason: cause.to_string(),
            sent: !error.is_connect(),
        }
    }
}

/// Waits so long for an exchange and no longer.
async fn timeout<T>(
    limit: Duration,
    exchange: impl Future<Output = Result<T, Undone>>,
) -> Result<T, Undone> {
    let late = |_| Undone {
        reason: format!("no answer in {limit:.1?}"),
        sent: true,
    };
    tokio::time::timeout(limit, exchange).await.map_err(late)?
}

/// Reads an answer, unless it is longer than any that is read whole.
async fn read_whole(mut response: reqwest::Response) -> Result<Bytes, Undone> {
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await? {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(Undone {
                reason: format!("the answer has more than {ANSWER_BYTES_MAX} bytes"),
                sent: true,
            });
        }
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests;
