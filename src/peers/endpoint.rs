//! What a node's server and its client have in common.

use std::sync::Arc;

use thiserror::Error;

use crate::{Credentials, Identity, Limits, LimitsError, Membership, Observer, Unobserved};

/// A node as its peers meet it. Its [`crate::PeerServer`] and its [`crate::Peers`] share one.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) identity: Identity,
    pub(crate) credentials: Credentials,
    pub(crate) membership: Arc<dyn Membership>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) limits: Limits,
}

impl Endpoint {
    /// A node with the usual limits that nobody observes.
    ///
    /// # Errors
    /// When the credentials prove another node than `identity` claims.
    pub fn new(
        identity: Identity,
        credentials: Credentials,
        membership: Arc<dyn Membership>,
    ) -> Result<Self, EndpointError> {
        let proven = (credentials.cluster_id(), credentials.node_id());
        if proven != (identity.cluster_id, identity.node_id) {
            return Err(EndpointError::OtherIdentity {
                claimed: format!("{}/{}", identity.cluster_id, identity.node_id),
                proven: format!("{}/{}", proven.0, proven.1),
            });
        }
        Ok(Self {
            identity,
            credentials,
            membership,
            observer: Arc::new(Unobserved),
            limits: Limits::default(),
        })
    }

    /// With other limits.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn with_limits(self, limits: Limits) -> Result<Self, LimitsError> {
        limits.check()?;
        Ok(Self { limits, ..self })
    }

    /// With an observer.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn Observer>) -> Self {
        Self { observer, ..self }
    }

    /// Who the node is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// Why a node cannot be an endpoint.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    /// The certificate is another node's.
    #[error("the certificate proves {proven}, and the node claims to be {claimed}")]
    OtherIdentity {
        /// Cluster and node that the configuration and the data folder name.
        claimed: String,
        /// Cluster and node that the certificate names.
        proven: String,
    },
}
