//! Mutual TLS 1.3: who this node proves to be, and whom it believes.
//!
//! Only TLS 1.3 is spoken, with a key exchange that is safe also against an eavesdropper who
//! stores the traffic until quantum computers exist (X25519MLKEM768; plain X25519 if a peer
//! lacks it). Sessions are never resumed: a resumed session would skip the check of the
//! certificate's validity, and a full handshake costs well under a millisecond.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
};
use thiserror::Error;

use crate::certificate::Certificate;
use crate::identity::{CertifiedName, CertifiedNameError};
use crate::{ClusterId, NodeId};

/// The protocol that both sides must agree on (RFC 9113, section 3.2).
pub(crate) const ALPN: &[u8] = b"h2";

/// What a node proves its identity with, and the authority that it believes. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    cluster_id: ClusterId,
    node_id: NodeId,
    not_after: SystemTime,
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    key: Arc<CertifiedKey>,
    server: Arc<ServerConfig>,
}

impl Credentials {
    /// Reads the authority's certificate, and a node's certificate with its private key, and
    /// checks that they fit together and are valid today. The caller keeps `key_pem` and should
    /// have it wiped.
    ///
    /// # Errors
    /// When one of them cannot be read, has expired, or does not belong to the others.
    pub fn from_pem(
        authority_pem: &str,
        certificate_pem: &str,
        key_pem: &str,
    ) -> Result<Self, CredentialsError> {
        let authority = read_certificate(authority_pem, "authority")?;
        let leaf = read_certificate(certificate_pem, "node")?;
        let (cluster_id, node_id, not_after) = check_names(&authority, &leaf)?;

        let provider = Arc::new(provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority)?;
        let roots = Arc::new(roots);
        // The verifier for servers, because a certificate serves both sides and it says why.
        verify_chain(&leaf, &[], &roots, &provider, UnixTime::now())?;

        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|source| CredentialsError::KeyPem { source })?;
        let key = Arc::new(CertifiedKey::from_der(vec![leaf], key, &provider)?);
        let server = Arc::new(server_config(cluster_id, &provider, &roots, &key)?);
        Ok(Self {
            cluster_id,
            node_id,
            not_after,
            provider,
            roots,
            key,
            server,
        })
    }

    /// The cluster that they belong to.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The node that they prove.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// When the node's certificate ceases to be valid. A node that runs on beyond that keeps
    /// the connections that it has and gets no new ones.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// What to dial `expected` with: whoever answers must prove to be that node.
    pub(crate) fn client_config(&self, expected: NodeId) -> Result<ClientConfig, rustls::Error> {
        let verifier = ServerIdentity {
            cluster_id: self.cluster_id,
            expected,
            roots: Arc::clone(&self.roots),
            provider: Arc::clone(&self.provider),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.key))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("cluster_id", &self.cluster_id)
            .field("node_id", &self.node_id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn read_certificate(
    pem: &str,
    whose: &'static str,
) -> Result<CertificateDer<'static>, CredentialsError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|source| CredentialsError::CertificatePem { whose, source })
}

/// Reads whose certificates these are and checks that they are of one cluster and valid now.
fn check_names(
    authority: &CertificateDer<'_>,
    leaf: &CertificateDer<'_>,
) -> Result<(ClusterId, NodeId, SystemTime), CredentialsError> {
    let (authority, leaf) = (Certificate::parse(authority)?, Certificate::parse(leaf)?);
    let CertifiedName::Authority(cluster_id) = authority.name()? else {
        return Err(CredentialsError::NotAnAuthority);
    };
    let CertifiedName::Node(cluster_of_node, node_id) = leaf.name()? else {
        return Err(CredentialsError::NotANode);
    };
    if cluster_of_node != cluster_id {
        return Err(CredentialsError::OtherCluster {
            authority: cluster_id,
            node: cluster_of_node,
        });
    }
    let now = SystemTime::now();
    for (whose, certificate) in [("authority", &authority), ("node", &leaf)] {
        let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
        if now < not_before || not_after < now {
            return Err(CredentialsError::NotValidNow {
                whose,
                not_before,
                not_after,
            });
        }
    }
    Ok((cluster_id, node_id, leaf.not_after()))
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
        ],
        ..aws_lc_rs::default_provider()
    }
}

fn server_config(
    cluster_id: ClusterId,
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    key: &Arc<CertifiedKey>,
) -> Result<ServerConfig, CredentialsError> {
    let chain =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(ClientIdentity { cluster_id, chain }))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn verify_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let algorithms = provider.signature_verification_algorithms.all;
    let leaf = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, intermediates, now, algorithms)
}

/// The node of `cluster_id` that a certificate names, whose signature is checked elsewhere.
pub(crate) fn certified_node(
    certificate: &CertificateDer<'_>,
    cluster_id: ClusterId,
) -> Result<NodeId, IdentityError> {
    match Certificate::parse(certificate)?.name()? {
        CertifiedName::Node(cluster, node) if cluster == cluster_id => Ok(node),
        CertifiedName::Node(cluster, _) => Err(IdentityError::OtherCluster {
            ours: cluster_id,
            theirs: cluster,
        }),
        CertifiedName::Authority(_) => Err(IdentityError::NotANode),
    }
}

/// Why a valid certificate does not prove the node that it should.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IdentityError {
    /// It names nobody.
    #[error("the certificate names no node")]
    Nameless(#[from] CertifiedNameError),
    /// It is the authority's own.
    #[error("the certificate is an authority's, not a node's")]
    NotANode,
    /// It is of another cluster.
    #[error("the certificate is of cluster {theirs}, not of {ours}")]
    OtherCluster {
        /// The cluster of this node.
        ours: ClusterId,
        /// The cluster in the certificate.
        theirs: ClusterId,
    },
    /// It proves another node than the one that was dialled.
    #[error("node {found} answers where node {dialled} was expected")]
    OtherNode {
        /// The node that was dialled.
        dialled: NodeId,
        /// The node that answered.
        found: NodeId,
    },
}

impl From<IdentityError> for rustls::Error {
    fn from(error: IdentityError) -> Self {
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }
}

impl IdentityError {
    /// The identity error within an error of a TLS handshake, if that is what it is.
    pub(crate) fn within(error: &std::io::Error) -> Option<&Self> {
        match error.get_ref()?.downcast_ref()? {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                inner.downcast_ref()
            }
            _ => None,
        }
    }
}

/// Believes clients whose certificate the authority signed and that it names a node of this
/// cluster.
#[derive(Debug)]
struct ClientIdentity {
    cluster_id: ClusterId,
    chain: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ClientIdentity {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        certified_node(end_entity, self.cluster_id)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Believes a server whose certificate the authority signed and that it names the node that
/// was dialled, at whatever address.
#[derive(Debug)]
struct ServerIdentity {
    cluster_id: ClusterId,
    expected: NodeId,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerIdentity {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_chain(end_entity, intermediates, &self.roots, &self.provider, now)?;
        match certified_node(end_entity, self.cluster_id)? {
            found if found == self.expected => Ok(ServerCertVerified::assertion()),
            found => Err(IdentityError::OtherNode {
                dialled: self.expected,
                found,
            }
            .into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// TLS 1.2 is never negotiated; were it, nothing in it would be believed.
fn only_tls13() -> rustls::Error {
    rustls::PeerIncompatible::Tls12NotOfferedOrEnabled.into()
}

/// Why certificates and key make no credentials.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A certificate is not PEM.
    #[error("the {whose} certificate cannot be read")]
    CertificatePem {
        /// Whose.
        whose: &'static str,
        /// What the reader says.
        source: rustls::pki_types::pem::Error,
    },
    /// The private key is not PEM.
    #[error("the private key cannot be read")]
    KeyPem {
        /// What the reader says.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate names nobody of a cluster.
    #[error("a certificate names no node or no authority")]
    Name(#[from] CertifiedNameError),
    /// A node's certificate stands in the place of the authority's.
    #[error("the authority certificate is a node's")]
    NotAnAuthority,
    /// The authority's certificate stands in the place of a node's.
    #[error("the node certificate is an authority's")]
    NotANode,
    /// The two certificates are of different clusters.
    #[error("the node certificate is of cluster {node}, the authority of {authority}")]
    OtherCluster {
        /// The cluster of the authority.
        authority: ClusterId,
        /// The cluster in the node's certificate.
        node: ClusterId,
    },
    /// A certificate is out of its time.
    #[error("the {whose} certificate is valid only from {not_before:?} to {not_after:?}")]
    NotValidNow {
        /// Whose.
        whose: &'static str,
        /// From when it is valid.
        not_before: SystemTime,
        /// Until when.
        not_after: SystemTime,
    },
    /// The authority did not sign the certificate, or the key is not the certificate's.
    #[error("the authority, the node certificate and the private key do not fit together")]
    Mismatch(#[from] rustls::Error),
    /// The authority cannot verify clients.
    #[error("the authority certificate cannot verify peers")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}
