//! The forms of requests and answers. Each is written out here, so that no change of the
//! ledger's records changes what clients see.

pub(crate) mod agents;
pub(crate) mod audit;
pub mod bundle;
pub(crate) mod cluster;
pub(crate) mod committee;
pub(crate) mod proposals;
pub(crate) mod text;
pub(crate) mod votes;
