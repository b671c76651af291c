//! A client that shows everything of an answer.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const BASE: &str = "/api/v1/consensus";

/// A request to send.
pub struct Ask {
    address: SocketAddr,
    request: http::request::Builder,
    body: Bytes,
}

impl Ask {
    /// A request below the base path, or below the root if the path begins with `//`.
    pub fn new(address: SocketAddr, method: Method, path: &str) -> Self {
        let uri = match path.strip_prefix('/') {
            Some(root) if root.starts_with('/') => root.to_owned(),
            _ => format!("{BASE}{path}"),
        };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "aegis");
        Self {
            address,
            request,
            body: Bytes::new(),
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn json(self, body: &Value) -> Self {
        self.text(body.to_string())
    }

    /// A body that says it is JSON.
    pub fn text(self, body: impl Into<Bytes>) -> Self {
        self.header("content-type", "application/json").raw(body)
    }

    pub fn raw(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub async fn send(self) -> Reply {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let driver = tokio::spawn(connection);
        let request = self.request.body(Full::new(self.body)).unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        driver.abort();
        Reply {
            status: head.status,
            headers: head.headers,
            body,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
            .to_str()
            .unwrap()
    }

    pub fn index(&self) -> u64 {
        self.header("aegis-index").parse().unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json");
        self.json()
    }

    /// The detail of a problem that must have this status and code.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        self.index();
        let body = self.json();
        assert_eq!(body["code"], code, "{self:?}");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("urn:aegis:problem:{code}"));
        assert!(!body["title"].as_str().unwrap().is_empty());
        let detail = body["detail"].as_str().unwrap();
        assert!(!detail.is_empty());
        assert_eq!(status == 401, self.headers.contains_key("www-authenticate"));
        detail.to_owned()
    }
}

/// Sends bytes as they are and reads until the server closes.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_all(&mut stream).await
}

/// Reads until the server closes, in whatever way.
pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    // A reset after the answer is an end like any other.
    let _ = stream.read_to_end(&mut read).await;
    String::from_utf8_lossy(&read).into_owned()
}
