//! Telling the operator about rejected peers once, however often they return.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use tracing::{debug, warn};

use super::table::lock;
use crate::{FailureKind, NodeId};

/// How many sources are remembered. When there are more, all are forgotten, so that a crowd of
/// strangers costs neither memory nor, for long, the log's silence.
const SOURCES_MAX: usize = 1024;

/// Who was rejected, as far as that is proven.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Node(NodeId),
    Address(IpAddr),
}

/// The rejections that the log has been told of.
#[derive(Default)]
pub(super) struct Rejections {
    told: Mutex<BTreeMap<Source, FailureKind>>,
}

impl Rejections {
    /// Reports a rejection: a warning when the source is new or is rejected for a new reason.
    pub(super) fn report(
        &self,
        node: Option<NodeId>,
        address: SocketAddr,
        kind: FailureKind,
        reason: &dyn fmt::Display,
    ) {
        let source = node.map_or(Source::Address(address.ip()), Source::Node);
        let peer = node.map(u64::from);
        if self.is_news(source, kind) {
            warn!(peer, %address, kind = kind.name(), %reason, "peer rejected");
        } else {
            debug!(peer, %address, kind = kind.name(), %reason, "peer rejected again");
        }
    }

    /// Forgets a peer that is welcome again, so that its next rejection is news.
    pub(super) fn forget(&self, node: NodeId) {
        lock(&self.told).remove(&Source::Node(node));
    }

    fn is_news(&self, source: Source, kind: FailureKind) -> bool {
        let mut told = lock(&self.told);
        if told.len() >= SOURCES_MAX && !told.contains_key(&source) {
            told.clear();
        }
        told.insert(source, kind) != Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_news() {
        let rejections = Rejections::default();
        let node = NodeId::new(3).unwrap();
        let source = Source::Node(node);
        assert!(rejections.is_news(source, FailureKind::NotAdmitted));
        assert!(!rejections.is_news(source, FailureKind::NotAdmitted));
        assert!(rejections.is_news(source, FailureKind::Store));
        rejections.forget(node);
        assert!(rejections.is_news(source, FailureKind::Store));
    }

    #[test]
    fn strangers_cost_bounded_memory() {
        let rejections = Rejections::default();
        for number in 0..u32::try_from(SOURCES_MAX).unwrap() * 3 {
            let source = Source::Address(IpAddr::V4(number.into()));
            assert!(rejections.is_news(source, FailureKind::Handshake));
            assert!(lock(&rejections.told).len() <= SOURCES_MAX);
        }
    }
}
