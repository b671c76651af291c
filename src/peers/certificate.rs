//! Reading the one thing that matters in a certificate.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::identity::{CertifiedName, CertifiedNameError};

/// A parsed certificate whose signature has not been looked at.
pub(crate) struct Certificate<'a>(X509Certificate<'a>);

impl<'a> Certificate<'a> {
    pub(crate) fn parse(der: &'a CertificateDer<'_>) -> Result<Self, CertifiedNameError> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(Self(certificate)),
            _ => Err(CertifiedNameError::Unreadable),
        }
    }

    /// Whom its only URI names.
    pub(crate) fn name(&self) -> Result<CertifiedName, CertifiedNameError> {
        let names = self
            .0
            .subject_alternative_name()
            .map_err(|_| CertifiedNameError::Unreadable)?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        match uris[..] {
            [uri] => uri.parse(),
            _ => Err(CertifiedNameError::UriCount { found: uris.len() }),
        }
    }

    /// Its public key, as DER.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.0.public_key().raw
    }

    /// From when it is valid.
    pub(crate) fn not_before(&self) -> SystemTime {
        at(self.0.validity().not_before.timestamp())
    }

    /// Until when it is valid.
    pub(crate) fn not_after(&self) -> SystemTime {
        at(self.0.validity().not_after.timestamp())
    }
}

/// The time `seconds` after the epoch; a time before it counts as the epoch, which is as much
/// in the past.
fn at(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
