//! Answers on their way out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use aegis_ledger::LogIndex;
use bytes::Bytes;
use futures::Stream as _;
use futures::stream::BoxStream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, StatusCode};
use hyper::body::{Frame, SizeHint};
use serde::Serialize;

use crate::problem::Problem;

/// What a handler comes to.
pub(crate) type Outcome = Result<Reply, Problem>;

/// A successful answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// The log index that it reflects, where it reflects one of its own.
    pub(crate) index: Option<LogIndex>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) body: Body,
}

impl Reply {
    pub(crate) fn json(value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("answers have only text keys");
        Self::bytes("application/json", body)
    }

    pub(crate) fn bytes(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            index: None,
            headers: Vec::new(),
            content_type: Some(HeaderValue::from_static(content_type)),
            body: Body::Full(body.into()),
        }
    }

    /// An answer without a body.
    pub(crate) fn no_content() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            index: None,
            headers: Vec::new(),
            content_type: None,
            body: Body::Full(Bytes::new()),
        }
    }

    pub(crate) fn stream(
        content_type: &'static str,
        len: Option<u64>,
        stream: BoxStream<'static, io::Result<Bytes>>,
    ) -> Self {
        Self {
            body: Body::Stream { len, stream },
            ..Self::bytes(content_type, Bytes::new())
        }
    }

    pub(crate) const fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) const fn at(mut self, index: LogIndex) -> Self {
        self.index = Some(index);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// 201, with where the new thing is found.
    pub(crate) fn created(self, location: String) -> Self {
        let location = HeaderValue::try_from(location).expect("paths of ids are visible ASCII");
        self.status(StatusCode::CREATED).header(LOCATION, location)
    }

    /// The problem as an answer.
    pub(crate) fn of_problem(problem: &Problem) -> Self {
        let mut reply = Self::bytes("application/problem+json", problem.to_json());
        reply.status = problem.status();
        reply.index = problem.index();
        reply.headers.extend(problem.header().cloned());
        reply
    }

    /// Completes the answer with what every answer has.
    pub(crate) fn into_response(self, common: CommonHeaders) -> http::Response<Body> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.reserve(self.headers.len() + COMMON_HEADERS);
        if let Some(content_type) = self.content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        let index = self.index.unwrap_or(common.index);
        headers.insert(AEGIS_INDEX, HeaderValue::from(index.0));
        headers.insert(X_REQUEST_ID, common.request_id);
        headers.insert(
            http::header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if common.last {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        headers.extend(self.headers);
        response
    }
}

const AEGIS_INDEX: HeaderName = HeaderName::from_static("aegis-index");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How many headers [`Reply::into_response`] may add.
const COMMON_HEADERS: usize = 5;

/// A problem as the bytes of an HTTP/1.1 answer, for a connection that is not served.
pub(crate) fn problem_bytes(problem: &Problem, common: CommonHeaders) -> Vec<u8> {
    let body = problem.to_json();
    let (head, _) = Reply::of_problem(problem)
        .into_response(common)
        .into_parts();
    let mut bytes = format!(
        "HTTP/1.1 {}\r\n{CONTENT_LENGTH}: {}\r\n",
        head.status,
        body.len()
    )
    .into_bytes();
    for (name, value) in &head.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes
}

/// What every answer has besides its own.
pub(crate) struct CommonHeaders {
    /// The log index of answers that reflect none of their own.
    pub(crate) index: LogIndex,
    pub(crate) request_id: HeaderValue,
    /// Whether the connection closes after this answer.
    pub(crate) last: bool,
}

/// The body of an answer.
pub(crate) enum Body {
    /// All of it.
    Full(Bytes),
    /// Piece by piece.
    Stream {
        len: Option<u64>,
        stream: BoxStream<'static, io::Result<Bytes>>,
    },
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream { stream, .. } => Pin::new(stream)
                .poll_next(context)
                .map(|next| next.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            Self::Stream { len: Some(len), .. } => SizeHint::with_exact(*len),
            Self::Stream { len: None, .. } => SizeHint::default(),
        }
    }
}
