//! The certificate authority of a cluster.
//!
//! Each cluster has its own, made once by `aegis init`. It signs one certificate for each node,
//! which serves on both sides of a connection. Its key lies on no node: whoever holds it can
//! name nodes, though membership must still admit them.
//!
//! A node's certificate is valid for ten years and the authority's for twenty, both from an
//! hour before they are made, so that nodes whose clocks differ a little accept each other. A
//! node's certificate is never valid for longer than its authority's. There is no revocation
//! list: a node is shut out by removing it from the membership, at once and by agreement.
//!
//! Keys are ECDSA over P-256, which every TLS library and hardware module knows. Private keys
//! are wiped from memory when they are dropped, here and in the texts handed out.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::SystemTime;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, DnsName, pem::PemObject};
use thiserror::Error;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::certificate::Certificate;
use crate::identity::{CertifiedName, CertifiedNameError};
use crate::{ClusterId, NodeId};

/// How long a node's certificate is valid.
pub const NODE_VALIDITY: Duration = Duration::days(3652);
/// How long the authority's certificate is valid.
pub const AUTHORITY_VALIDITY: Duration = Duration::days(7305);
/// How far before its making a certificate is valid already.
const BACKDATED: Duration = Duration::hours(1);
/// The length of a serial number, in bytes.
const SERIAL_BYTES: usize = 16;

/// A host name or address in a certificate. Nodes do not look at it (see
/// [`crate::NodeId`]); it is there for tools that do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name.
    Dns(String),
}

impl FromStr for HostName {
    type Err = CaError;

    fn from_str(text: &str) -> Result<Self, CaError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        match DnsName::try_from(text) {
            Ok(_) => Ok(Self::Dns(text.into())),
            Err(_) => Err(CaError::HostName { name: text.into() }),
        }
    }
}

impl HostName {
    fn to_san(&self) -> Result<SanType, CaError> {
        match self {
            Self::Ip(address) => Ok(SanType::IpAddress(*address)),
            Self::Dns(name) => match Ia5String::try_from(name.as_str()) {
                Ok(name) => Ok(SanType::DnsName(name)),
                Err(_) => Err(CaError::HostName { name: name.clone() }),
            },
        }
    }
}

/// A certificate authority with its private key.
pub struct Ca {
    cluster_id: ClusterId,
    certificate_pem: String,
    not_after: OffsetDateTime,
    key: Zeroizing<KeyPair>,
}

/// A node's certificate with its private key, both as PEM.
pub struct NodeCertificate {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key (PKCS #8).
    pub key_pem: Zeroizing<String>,
}

impl Ca {
    /// Makes the authority of a new cluster.
    ///
    /// # Errors
    /// When the operating system has no randomness, or a certificate cannot be built.
    pub fn generate(cluster_id: ClusterId) -> Result<Self, CaError> {
        let key = generate_key()?;
        let not_after = now() + AUTHORITY_VALIDITY;
        let mut params = params(CertifiedName::Authority(cluster_id), not_after)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&*key)?.pem();
        Ok(Self {
            cluster_id,
            certificate_pem,
            not_after,
            key,
        })
    }

    /// Reads an authority back from its certificate and its private key.
    ///
    /// # Errors
    /// When either cannot be read, or they do not belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|source| CaError::CertificatePem { source })?;
        let certificate = Certificate::parse(&der)?;
        let name = certificate.name()?;
        let CertifiedName::Authority(cluster_id) = name else {
            return Err(CaError::NotAnAuthority {
                name: name.to_string(),
            });
        };
        let key = Zeroizing::new(KeyPair::from_pem(key_pem)?);
        if key.subject_public_key_info() != certificate.public_key() {
            return Err(CaError::KeyMismatch);
        }
        Ok(Self {
            cluster_id,
            not_after: certificate.not_after().into(),
            certificate_pem: certificate_pem.into(),
            key,
        })
    }

    /// The cluster that it names nodes of.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// Its certificate, which every node is given.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its private key (PKCS #8), which no node is given.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// Makes a key for `node` and certifies it for both sides of a connection. A certificate
    /// issued before stays valid.
    ///
    /// # Errors
    /// When a host name cannot stand in a certificate, the operating system has no randomness,
    /// or the authority itself has expired.
    pub fn issue(&self, node: NodeId, hosts: &[HostName]) -> Result<NodeCertificate, CaError> {
        if self.not_after <= now() {
            return Err(CaError::Expired {
                not_after: self.not_after.into(),
            });
        }
        let key = generate_key()?;
        let not_after = self.not_after.min(now() + NODE_VALIDITY);
        let mut params = params(CertifiedName::Node(self.cluster_id, node), not_after)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        for host in hosts {
            params.subject_alt_names.push(host.to_san()?);
        }
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, &*self.key)?;
        Ok(NodeCertificate {
            certificate_pem: params.signed_by(&*key, &issuer)?.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("cluster_id", &self.cluster_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCertificate")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// A key that is wiped when it is dropped.
fn generate_key() -> Result<Zeroizing<KeyPair>, CaError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(Zeroizing::new(key))
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// What both kinds of certificate have in common.
fn params(name: CertifiedName, not_after: OffsetDateTime) -> Result<CertificateParams, CaError> {
    let (common_name, uri) = (common_name(name), name.to_string());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(uri)?)];
    params.serial_number = Some(random_serial()?);
    params.not_before = now() - BACKDATED;
    params.not_after = not_after;
    Ok(params)
}

/// A short name for people; a common name has at most 64 characters.
fn common_name(name: CertifiedName) -> String {
    match name {
        CertifiedName::Authority(cluster) => format!("aegis {:.16}", cluster.to_string()),
        CertifiedName::Node(cluster, node) => {
            format!("aegis {:.16} node {node}", cluster.to_string())
        }
    }
}

/// A positive random number that needs no padding: the first bit is clear and the second set.
fn random_serial() -> Result<SerialNumber, CaError> {
    let mut serial = [0; SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(|source| CaError::Randomness { source })?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

/// Why the authority failed.
#[derive(Debug, Error)]
pub enum CaError {
    /// The operating system has no randomness.
    #[error("no randomness for a serial number")]
    Randomness {
        /// What the operating system says.
        source: getrandom::Error,
    },
    /// A key or a certificate cannot be made or read.
    #[error("the key or the certificate cannot be made or read")]
    Build(#[from] rcgen::Error),
    /// The authority's certificate is not PEM.
    #[error("the authority's certificate cannot be read")]
    CertificatePem {
        /// What the reader says.
        source: rustls::pki_types::pem::Error,
    },
    /// The authority's certificate does not name a cluster.
    #[error("the authority's certificate names no cluster")]
    Name(#[from] CertifiedNameError),
    /// The certificate is a node's.
    #[error("{name} is the name of a node, not of an authority")]
    NotAnAuthority {
        /// Its name.
        name: String,
    },
    /// The private key is another's.
    #[error("the private key does not belong to the authority's certificate")]
    KeyMismatch,
    /// The authority's time is over.
    #[error("the authority's certificate expired at {not_after:?}")]
    Expired {
        /// When.
        not_after: SystemTime,
    },
    /// Not a host name.
    #[error("{name:?} is neither an IP address nor a DNS name")]
    HostName {
        /// What stood there.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 32]);

    fn node(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn an_authority_survives_its_pem() {
        let ca = Ca::generate(CLUSTER).unwrap();
        let again = Ca::from_pem(ca.certificate_pem(), &ca.key_pem()).unwrap();
        assert_eq!(again.cluster_id(), CLUSTER);
        assert_eq!(again.certificate_pem(), ca.certificate_pem());
        assert_eq!(*again.key_pem(), *ca.key_pem());
        again.issue(node(1), &[]).unwrap();
    }

    #[test]
    fn an_authority_needs_its_own_key() {
        let (ca, other) = (
            Ca::generate(CLUSTER).unwrap(),
            Ca::generate(CLUSTER).unwrap(),
        );
        assert!(matches!(
            Ca::from_pem(ca.certificate_pem(), &other.key_pem()),
            Err(CaError::KeyMismatch)
        ));
    }

    #[test]
    fn a_node_is_no_authority() {
        let issued = Ca::generate(CLUSTER).unwrap().issue(node(1), &[]).unwrap();
        assert!(matches!(
            Ca::from_pem(&issued.certificate_pem, &issued.key_pem),
            Err(CaError::NotAnAuthority { .. })
        ));
    }

    #[test]
    fn certificates_say_what_they_should() {
        let ca = Ca::generate(CLUSTER).unwrap();
        let hosts = ["127.0.0.1", "::1", "node-3.example.org"].map(|host| host.parse().unwrap());
        let issued = ca.issue(node(3), &hosts).unwrap();
        let (authority, leaf) = (der(ca.certificate_pem()), der(&issued.certificate_pem));
        let (authority, leaf) = (
            Certificate::parse(&authority).unwrap(),
            Certificate::parse(&leaf).unwrap(),
        );
        assert_eq!(leaf.name(), Ok(CertifiedName::Node(CLUSTER, node(3))));
        assert_eq!(authority.name(), Ok(CertifiedName::Authority(CLUSTER)));

        let years = |certificate: &Certificate<'_>| {
            let valid = certificate
                .not_after()
                .duration_since(certificate.not_before());
            valid.unwrap().as_secs() / (365 * 24 * 60 * 60)
        };
        assert_eq!((years(&leaf), years(&authority)), (10, 20));
        assert!(leaf.not_before() < SystemTime::now());
        assert!(leaf.not_after() < authority.not_after());
    }

    #[test]
    fn serial_numbers_differ() {
        let (a, b) = (random_serial().unwrap(), random_serial().unwrap());
        assert_eq!(a.len(), SERIAL_BYTES);
        assert_ne!(a.to_bytes(), b.to_bytes());
    }

    #[test]
    fn host_names_are_checked() {
        assert_eq!(
            "10.0.0.1".parse::<HostName>().unwrap(),
            HostName::Ip("10.0.0.1".parse().unwrap())
        );
        assert_eq!(
            "node-1".parse::<HostName>().unwrap(),
            HostName::Dns("node-1".into())
        );
        for bad in ["", "two words", "a..b", "umlaut-\u{e4}"] {
            assert!(matches!(
                bad.parse::<HostName>(),
                Err(CaError::HostName { .. })
            ));
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let ca = Ca::generate(CLUSTER).unwrap();
        let issued = ca.issue(node(1), &[]).unwrap();
        for shown in [format!("{ca:?}"), format!("{issued:?}")] {
            assert!(!shown.contains("PRIVATE"), "{shown}");
        }
    }
}
