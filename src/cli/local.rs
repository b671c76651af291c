//! What the commands need from the machine they run on, beyond files and HTTP.
//!
//! The command line knows clients' side of a cluster. Running a node, certifying one, and
//! reading a snapshot are other crates' business; the composition root lends them through
//! [`Local`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aegis_crypto::{Committee, Digest, SeatNo};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Called once, when a node answers `/readyz` with 200. It returns at once.
pub type Ready = Box<dyn FnOnce() + Send>;

/// The node's side of this binary.
pub trait Local: Sync {
    /// Checks a configuration file as `serve` does before it starts.
    ///
    /// # Errors
    /// With [`Exit::Negative`](crate::Exit::Negative), naming file, key and reason.
    fn check_config(&self, config: &Path) -> Result<(), Failure>;

    /// Runs a node until SIGINT or SIGTERM asks it to stop, however often they ask.
    ///
    /// # Errors
    /// If it cannot start, or if it stopped because something failed.
    fn serve(&self, config: &Path, ready: Ready) -> Result<(), Failure>;

    /// Makes the certificate authority of a new cluster.
    ///
    /// # Errors
    /// If no certificate can be made.
    fn new_authority(&self, cluster_id: Digest) -> Result<Credential, Failure>;

    /// Certifies a node for both sides of a connection between nodes.
    ///
    /// # Errors
    /// If the authority cannot be read or has expired, or a host name cannot stand in a
    /// certificate.
    fn issue_certificate(
        &self,
        authority: &Credential,
        node: u64,
        hosts: &[String],
    ) -> Result<Credential, Failure>;

    /// Makes a node's empty data folder, which names the cluster and the node. A node never
    /// makes its own, so that one whose folder was lost does not come back as if nothing
    /// had happened.
    ///
    /// # Errors
    /// If the folder has anything in it or cannot be made.
    fn create_store(&self, dir: &Path, cluster_id: Digest, node: u64) -> Result<(), Failure>;

    /// Reads a whole snapshot file and checks every byte of it.
    ///
    /// # Errors
    /// With [`Exit::Negative`](crate::Exit::Negative) if it is damaged.
    fn snapshot_status(&self, file: &Path) -> Result<SnapshotSummary, Failure>;

    /// Builds the data folders of nodes from a snapshot, all with the same new incarnation.
    /// Each of `nodes` is a configuration file that says where the node's data folder is.
    ///
    /// # Errors
    /// If the snapshot is damaged or another cluster's, or a data folder has anything in it.
    fn restore(&self, file: &Path, nodes: &[PathBuf]) -> Result<Restored, Failure>;

    /// Whom two messages of validators convict, if they contradict each other and both are
    /// signed by one seat of this committee.
    ///
    /// # Errors
    /// If the bytes are no evidence.
    fn convict(&self, committee: &Committee, evidence: &[u8]) -> Result<Option<SeatNo>, Failure>;
}

/// A certificate with its private key, both as PEM.
pub struct Credential {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS#8).
    pub key: Zeroizing<String>,
}

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotSummary {
    /// The cluster's id.
    pub cluster_id: Digest,
    /// The incarnation of the cluster that it was taken in.
    pub incarnation: u64,
    /// The last log index that it reflects.
    pub index: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 over all of it.
    pub digest: Digest,
    /// How many records it has of each kind.
    pub records: BTreeMap<String, u64>,
}

/// What a restoration made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The incarnation that begins.
    pub incarnation: u64,
    /// The log index from which it begins.
    pub index: u64,
    /// The data folders.
    pub folders: Vec<PathBuf>,
}
