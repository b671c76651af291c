//! Who a node is, and how its certificate says so.
//!
//! A certificate carries one URI as a subject alternative name,
//! `aegis://<cluster id>/node/<node id>`, and nothing else in it is believed: not the common
//! name, not the host names and addresses, which stand there for ordinary tools alone. So a
//! node may move to another address, and no address can pass for a node.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use thiserror::Error;

const SCHEME: &str = "aegis://";
const NODE_PATH: &str = "/node/";

/// The number of a node within its cluster. Never zero, and never given to a second node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU64);

impl NodeId {
    /// The node id `number`, unless it is zero.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u64> for NodeId {
    type Error = NodeIdError;

    fn try_from(number: u64) -> Result<Self, NodeIdError> {
        Self::new(number).ok_or(NodeIdError::Zero)
    }
}

impl From<NodeId> for u64 {
    fn from(id: NodeId) -> Self {
        id.get()
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    /// Parses the canonical decimal form: digits alone, without leading zeros.
    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        match text.parse() {
            Ok(number) if canonical => Ok(Self(number)),
            _ => Err(NodeIdError::NotANumber { text: text.into() }),
        }
    }
}

/// Why something is not a node id.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NodeIdError {
    /// Zero numbers no node.
    #[error("a node id is at least 1, not 0")]
    Zero,
    /// Not a canonical decimal number of 64 bits.
    #[error("a node id is a decimal number from 1 without leading zeros, not {text:?}")]
    NotANumber {
        /// What stood there.
        text: String,
    },
}

/// Declares a newtype over bytes that is shown and parsed as lowercase hexadecimal.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

hex_id! {
    /// The SHA-256 of the genesis document, which names a cluster for good.
    ClusterId, 32
}

hex_id! {
    /// The random name that a data folder is given when it is made. A node whose folder was
    /// wiped comes back with another, which is how its peers notice.
    StoreId, 16
}

impl ClusterId {
    /// Parses 64 lowercase hexadecimal digits.
    fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut id = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != id.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(id))
    }
}

/// Which life of the cluster a node belongs to. A restore from a snapshot draws a new one, so
/// that members of the life before it are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything that a node claims about itself to its peers. The certificate proves the cluster
/// and the node id; the greeting that opens a connection says the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The life of the cluster that the node's data belong to.
    pub incarnation: Incarnation,
    /// The node.
    pub node_id: NodeId,
    /// The node's data folder.
    pub store_id: StoreId,
}

/// What a certificate of a cluster says about its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertifiedName {
    /// The cluster's certificate authority.
    Authority(ClusterId),
    /// A node.
    Node(ClusterId, NodeId),
}

impl fmt::Display for CertifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(cluster) => write!(f, "{SCHEME}{cluster}"),
            Self::Node(cluster, node) => write!(f, "{SCHEME}{cluster}{NODE_PATH}{node}"),
        }
    }
}

impl FromStr for CertifiedName {
    type Err = CertifiedNameError;

    fn from_str(uri: &str) -> Result<Self, CertifiedNameError> {
        let malformed = || CertifiedNameError::Malformed { uri: uri.into() };
        let rest = uri.strip_prefix(SCHEME).ok_or_else(malformed)?;
        let (cluster, node) = match rest.split_once(NODE_PATH) {
            Some((cluster, node)) => (cluster, Some(node)),
            None => (rest, None),
        };
        let cluster = ClusterId::from_hex(cluster).ok_or_else(malformed)?;
        match node.map(NodeId::from_str) {
            None => Ok(Self::Authority(cluster)),
            Some(Ok(node)) => Ok(Self::Node(cluster, node)),
            Some(Err(_)) => Err(malformed()),
        }
    }
}

/// Why a certificate names nobody of a cluster.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CertifiedNameError {
    /// Not an X.509 certificate.
    #[error("the certificate cannot be parsed")]
    Unreadable,
    /// There must be exactly one URI among the subject alternative names.
    #[error("the certificate has {found} URIs as subject alternative names instead of 1")]
    UriCount {
        /// How many there are.
        found: usize,
    },
    /// The URI is none of the two forms.
    #[error("{uri:?} is not of the form aegis://<cluster id>/node/<node id>")]
    Malformed {
        /// What the certificate says.
        uri: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([0xab; 32]);

    #[test]
    fn names_survive_their_text() {
        let node = CertifiedName::Node(CLUSTER, NodeId::new(17).unwrap());
        assert_eq!(
            node.to_string(),
            format!("aegis://{}/node/17", "ab".repeat(32))
        );
        assert_eq!(node.to_string().parse(), Ok(node));
        let authority = CertifiedName::Authority(CLUSTER);
        assert_eq!(authority.to_string().parse(), Ok(authority));
    }

    #[test]
    fn names_have_one_spelling() {
        let hex = "ab".repeat(32);
        for uri in [
            String::new(),
            "aegis://".into(),
            format!("AEGIS://{hex}/node/1"),
            format!("aegis://{}/node/1", "AB".repeat(32)),
            format!("aegis://{}/node/1", "ab".repeat(31)),
            format!("aegis://{}/node/1", "ab".repeat(33)),
            format!("aegis://{hex}a/node/1"),
            format!("aegis://{hex}/node/"),
            format!("aegis://{hex}/node/0"),
            format!("aegis://{hex}/node/01"),
            format!("aegis://{hex}/node/+1"),
            format!("aegis://{hex}/node/1/"),
            format!("aegis://{hex}/node/1/node/2"),
            format!("aegis://{hex}/node/18446744073709551616"),
            format!("aegis://{hex}/"),
            format!("https://{hex}/node/1"),
        ] {
            assert_eq!(
                uri.parse::<CertifiedName>(),
                Err(CertifiedNameError::Malformed { uri: uri.clone() })
            );
        }
    }

    #[test]
    fn zero_is_no_node() {
        assert_eq!(NodeId::try_from(0), Err(NodeIdError::Zero));
        assert_eq!(NodeId::try_from(3).map(u64::from), Ok(3));
    }
}
