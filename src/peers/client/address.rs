//! Where a peer listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use rustls::pki_types::DnsName;
use thiserror::Error;

/// A host and a port. A host name is resolved anew for every attempt to connect, so that a peer
/// may come back at another address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// As it is written, an IPv6 address in brackets.
    text: String,
}

impl PeerAddress {
    /// Host and port as they are written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, PeerAddressError> {
        let error = || PeerAddressError { text: text.into() };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let port: u16 = port.parse().map_err(|_| error())?;
        match DnsName::try_from(host) {
            Ok(_) if port != 0 && host.parse::<IpAddr>().is_err() => Ok(Self {
                text: format!("{host}:{port}"),
            }),
            _ => Err(error()),
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self {
            text: address.to_string(),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text is no address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not of the form host:port or [ipv6]:port")]
pub struct PeerAddressError {
    /// What stood there.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_needed() {
        for good in [
            "127.0.0.1:8004",
            "[::1]:8004",
            "node-1:8004",
            "node.example.org:1",
        ] {
            assert_eq!(good.parse::<PeerAddress>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "node-1",
            "::1:8004",
            ":8004",
            "node-1:",
            "node-1:0",
            "node-1:65536",
            "http://node-1:80",
            "a b:1",
        ] {
            assert_eq!(
                bad.parse::<PeerAddress>(),
                Err(PeerAddressError { text: bad.into() })
            );
        }
    }
}
