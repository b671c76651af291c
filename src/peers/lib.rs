//! Authenticated messages between the nodes of a cluster, over HTTP/2 with mutual TLS 1.3.
//!
//! Each node runs a [`PeerServer`] with the [`Service`] that it offers and dials its peers
//! through [`Peers`]; both share an [`Endpoint`]. Who may name nodes is the business of
//! [`ca`], who may talk that of [`Membership`].
//!
//! # Protocol
//! 1. TCP, then TLS 1.3 in which both sides prove a node id with a certificate of the cluster's
//!    own authority. The dialling side knows whom it expects. ALPN is `h2`.
//! 2. A greeting, `POST /hello`, in which both sides say which incarnation of the cluster and
//!    which data folder they are of. A peer of another incarnation, or that came back under its
//!    id with another folder, gets no further.
//! 3. Requests, each `POST` with the path of a [`Method`]. A call sends one message and gets
//!    one; a stream sends and gets any number. Every message of a call, and every stream, begins
//!    with [`WIRE_VERSION`]. What is refused comes back as a [`Refusal`] in header or trailer
//!    fields, whose form is of no version.
//!
//! A node dials each peer once for each [`Lane`], and answers come back on the connection that
//! their requests took.
//!
//! HTTP/2 is spoken through `h2` itself, the engine of hyper: a call then costs no task and no
//! channel of its own, and flow control, which bounds memory here, is in our hands.
//!
//! # Bounds
//! Every queue and message is bounded, by [`Limits`] and by the [`Method`]s. Memory that a peer
//! can occupy: the flow-control windows of its connections, the requests of its calls with
//! their answers ([`Limits::call_bytes_in_flight_max`]), and one message for each of its
//! streams.
//!
//! # Invariants
//! Nothing here knows what the messages mean. Membership is asked again for every request and
//! every message of a stream, so that a removed node is silenced at once. No lock is held while
//! waiting.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod ca;
mod certificate;
mod client;
mod endpoint;
mod frames;
mod identity;
mod limits;
mod membership;
mod message;
mod method;
mod observer;
mod refusal;
mod server;
mod service;
mod tls;
mod wire;

pub use client::{
    LinkError, LinkStatus, Message, PeerAddress, PeerAddressError, PeerError, PeerStatus, Peers,
};
pub use endpoint::{Endpoint, EndpointError};
pub use frames::{FrameStream, StreamError};
pub use identity::{
    CertifiedNameError, ClusterId, Identity, Incarnation, NodeId, NodeIdError, StoreId,
};
pub use limits::{Backoff, Limits, LimitsError};
pub use membership::{Membership, PinError};
pub use message::Causes;
pub use method::{Lane, MESSAGE_BYTES_MAX, Method, Methods, MethodsError, Shape};
pub use observer::{Direction, FailureKind, Observer, Unobserved};
pub use refusal::{REFUSAL_TEXT_BYTES_MAX, Refusal, RefusalCode};
pub use server::{BindError, Drained, PeerServer};
pub use service::{Peer, Service};
pub use tls::{Credentials, CredentialsError, IdentityError};
pub use wire::WIRE_VERSION;
