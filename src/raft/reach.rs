//! What it takes to reach the leader, wherever it is.

use aegis_peers::Peers;
use tokio::sync::watch;

use crate::state::Core;
use crate::status::Leadership;
use crate::types::RawId;

/// A node's ways to the leader; cheap to clone.
#[derive(Clone)]
pub(crate) struct Reach {
    /// This node, which may lead itself.
    pub(crate) id: RawId,
    pub(crate) core: Core,
    pub(crate) peers: Peers,
    pub(crate) leadership: watch::Receiver<Leadership>,
}
