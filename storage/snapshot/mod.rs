//! Snapshots: the tables at one applied position as one file.
//!
//! The same file goes to a lagging node, lies in `<dir>/snapshots/`, and is what an
//! operator saves and restores. Numbers are big-endian.
//!
//! ```text
//! magic          8   "AEGISNAP"
//! version        2   1
//! header length  4
//! header             cluster id 32, incarnation 8, applied index 8, applied bytes
//! checksum       4   CRC-32C of everything above
//!
//! chunk, repeated:
//!   kind         1   1
//!   raw length   4
//!   length       4
//!   checksum     4   CRC-32C of the three fields above and the bytes below
//!   bytes            an LZ4 block of records, each:
//!                    table 1, key length 4, value length 4, key, value
//!
//! footer:
//!   kind         1   2
//!   raw length   4   equal to the length
//!   length       4
//!   checksum     4   as in a chunk
//!   bytes            chunks 8, records' bytes 8, then for each table: id 1, records 8
//! digest        32   SHA-256 of everything above
//! ```
//!
//! Records ascend by table and key, without a repetition; a chunk ends with the record
//! that brings it to [`CHUNK_BYTES`]. Nothing in the file depends on the node or the
//! clock: the same state at the same position gives the same bytes on every node, so
//! nodes can compare digests.
//!
//! A reader trusts no length: each has a bound, memory is bounded by one chunk, and only
//! [`SnapshotReader::read`] tells that a file was whole.

mod decode;
mod encode;
mod files;
pub(crate) mod install;
mod receive;
mod restore;

use std::io;

use aegis_crypto::Digest;
use aegis_ledger::Table;

pub use decode::{Chunk, SnapshotReader, SnapshotRecord};
pub use encode::{SaveError, write_snapshot};
pub use files::{SnapshotDir, SnapshotFile, save_atomic, verify};
pub use install::InstallError;
pub use receive::{ReceiveError, SnapshotReceiver};
pub use restore::{RestoreError, restore};

use crate::state::Applied;

const MAGIC: [u8; 8] = *b"AEGISNAP";
/// Version of the format that is written, and the newest that is read.
const VERSION: u16 = 1;
/// A chunk ends with the record that brings it to this size, in bytes before compression.
const CHUNK_BYTES: usize = 256 << 10;
/// Longest key of a record, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 4 << 10;
/// Longest value of a record, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 16 << 20;
/// Table, key length and value length before each record.
const RECORD_HEAD: usize = 9;
/// Largest chunk, in bytes before compression.
const CHUNK_BYTES_MAX: usize = CHUNK_BYTES + RECORD_HEAD + KEY_BYTES_MAX + VALUE_BYTES_MAX;
/// Longest header, in bytes; membership is the part that grows.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Longest footer, in bytes: every table there could be.
const FOOTER_BYTES_MAX: usize = 16 + 9 * 256;
/// Fields of the header before the applied bytes.
const HEADER_HEAD: usize = 48;

/// The first byte of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum FrameKind {
    Chunk = 1,
    Footer = 2,
}

/// What stands before the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// SHA-256 of the cluster's genesis document.
    pub cluster_id: Digest,
    /// How often the cluster had been restored.
    pub incarnation: u64,
    /// The position that the tables reflect.
    pub applied: Applied,
}

/// A snapshot that was written or read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// What stands before the records.
    pub header: SnapshotHeader,
    /// Records by table, in the order of [`Table::ALL`].
    pub records: [u64; Table::ALL.len()],
    /// Number of chunks.
    pub chunks: u64,
    /// Bytes of all records before compression.
    pub raw_bytes: u64,
    /// Bytes of the whole file.
    pub bytes: u64,
    /// SHA-256 of the file but for its last 32 bytes, which hold it.
    pub digest: Digest,
}

impl SnapshotInfo {
    /// Records of a table.
    #[must_use]
    pub fn records_of(&self, table: Table) -> u64 {
        self.records[position(table)]
    }
}

/// The place of a table in [`Table::ALL`].
fn position(table: Table) -> usize {
    usize::from(table.id())
}

/// Why a file is not a whole and unaltered snapshot.
#[derive(Debug, thiserror::Error)]
pub enum BadSnapshot {
    /// It cannot be read.
    #[error("cannot read the snapshot")]
    Io(#[source] io::Error),
    /// It ends too early.
    #[error("the snapshot is cut off after {at} bytes")]
    Truncated {
        /// Bytes that were read before the missing ones.
        at: u64,
    },
    /// It is something else.
    #[error("the file is not a snapshot: it begins with {found:02x?}")]
    Magic {
        /// The first bytes.
        found: [u8; 8],
    },
    /// A newer program wrote it.
    #[error("the snapshot has format {found}, and this program knows {VERSION}")]
    Newer {
        /// Version of the format.
        found: u16,
    },
    /// A length is beyond its bound.
    #[error("the length of the {part} is {found}, which is not between {min} and {max}")]
    Length {
        /// What it is the length of.
        part: &'static str,
        /// The length, in bytes.
        found: usize,
        /// Least possible length.
        min: usize,
        /// Greatest possible length.
        max: usize,
    },
    /// A part does not match its checksum.
    #[error("the {part} has the checksum {stored:08x}, and its bytes give {computed:08x}")]
    Checksum {
        /// Header, chunk or footer.
        part: &'static str,
        /// The checksum in the file.
        stored: u32,
        /// The checksum of what was read.
        computed: u32,
    },
    /// Neither a chunk nor the footer follows.
    #[error("a part of the unknown kind {found} follows")]
    Kind {
        /// The kind.
        found: u8,
    },
    /// A chunk does not decompress to its length.
    #[error("a chunk does not decompress: {reason}")]
    Compression {
        /// How it fails.
        reason: String,
    },
    /// A record belongs to a table that this program does not know.
    #[error("a record belongs to the unknown table {id}")]
    Table {
        /// The table's byte.
        id: u8,
    },
    /// A chunk ends within a record.
    #[error("a record is cut off by the end of its chunk")]
    Record,
    /// A record does not stand behind the one before it.
    #[error("a record of the table {table:?} is out of order")]
    Order {
        /// The record's table.
        table: Table,
    },
    /// The footer counts something else than what was read.
    #[error("the footer counts {stored} {what}, and {found} were read")]
    Count {
        /// What is counted.
        what: String,
        /// The footer's number.
        stored: u64,
        /// The number that was read.
        found: u64,
    },
    /// The bytes are not those that were written.
    #[error("the snapshot has the digest {stored}, and its bytes give {computed}")]
    Digest {
        /// The digest in the file.
        stored: Digest,
        /// The digest of what was read.
        computed: Digest,
    },
    /// Something follows the snapshot.
    #[error("the snapshot is followed by more bytes")]
    Trailing,
}
