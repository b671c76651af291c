//! HTTP: connections, routing, and what every request and answer has in common.

mod activity;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod connection;
mod dispatch;
mod io;
pub(crate) mod listener;
pub(crate) mod page;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod router;
