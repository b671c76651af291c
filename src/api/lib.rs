//! The edge of the decision ledger: REST, WebSocket events and metrics over one
//! [`Governance`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod auth;
mod checkpoint;
mod dto;
mod edge;
mod events;
pub mod governance;
pub mod metrics;
mod problem;
mod quorum;
mod routes;
mod server;
mod settings;
mod signatures;

pub use dto::bundle;
pub use edge::{Edge, NoRandomness, RenderMetrics};
pub use governance::{
    Alarm, ChangeError, Consistency, Contradiction, Governance, HealthPart, Leadership, Member,
    MemberRole, MemberState, NewLearner, NodeId, NodeStatus, ReadError, Role, SeatStanding,
    SnapshotError, SnapshotStream, SubmitError, View,
};
pub use quorum::{Quorum, QuorumOutlook, VoterChange, outlook};
pub use settings::{EventLimits, HttpLimits, Settings};
