//! Writing a snapshot from a view, with the memory of one chunk.

use std::io::{self, Write};
use std::ops::ControlFlow;

use aegis_crypto::Digest;
use aegis_ledger::{ArchiveError, Table};
use sha2::{Digest as _, Sha256};

use super::{
    CHUNK_BYTES, CHUNK_BYTES_MAX, FrameKind, HEADER_BYTES_MAX, HEADER_HEAD, KEY_BYTES_MAX, MAGIC,
    RECORD_HEAD, SnapshotHeader, SnapshotInfo, VALUE_BYTES_MAX, VERSION, position,
};
use crate::view::View;

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Nothing was applied yet, so there is nothing to save.
    #[error("there is nothing to save: no log entry was applied yet")]
    NothingApplied,
    /// The applied bytes do not fit into a header.
    #[error("the applied position has {found} bytes; a snapshot can carry {max}")]
    Header {
        /// Their length.
        found: usize,
        /// The greatest possible length.
        max: usize,
    },
    /// The tables cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The snapshot cannot be written.
    #[error("cannot write the snapshot")]
    Io(#[from] io::Error),
}

/// Writes the snapshot of a view. Give it a buffered writer; it does not sync.
pub fn write_snapshot(view: &View, sink: impl Write) -> Result<SnapshotInfo, SaveError> {
    let applied = view.applied()?.ok_or(SaveError::NothingApplied)?;
    let identity = view.identity();
    let header = SnapshotHeader {
        cluster_id: identity.cluster_id,
        incarnation: identity.incarnation,
        applied,
    };
    let mut encoder = Encoder::begin(sink, header)?;
    for table in Table::ALL {
        encoder.table(view, table)?;
    }
    encoder.finish()
}

struct Encoder<W> {
    sink: Hashing<W>,
    header: SnapshotHeader,
    raw: Vec<u8>,
    compressed: Vec<u8>,
    records: [u64; Table::ALL.len()],
    chunks: u64,
    raw_bytes: u64,
}

impl<W: Write> Encoder<W> {
    fn begin(sink: W, header: SnapshotHeader) -> Result<Self, SaveError> {
        let mut sink = Hashing::new(sink);
        sink.write(&encode_header(&header)?)?;
        Ok(Self {
            sink,
            header,
            raw: Vec::with_capacity(CHUNK_BYTES),
            compressed: Vec::new(),
            records: [0; Table::ALL.len()],
            chunks: 0,
            raw_bytes: 0,
        })
    }

    fn table(&mut self, view: &View, table: Table) -> Result<(), SaveError> {
        let mut outcome = Ok(());
        view.reader().scan_once(table, &mut |key, value| {
            outcome = self.record(table, key, value);
            if outcome.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(outcome?)
    }

    fn record(&mut self, table: Table, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.raw.push(table.id());
        self.raw
            .extend_from_slice(&length(key.len(), KEY_BYTES_MAX).to_be_bytes());
        self.raw
            .extend_from_slice(&length(value.len(), VALUE_BYTES_MAX).to_be_bytes());
        self.raw.extend_from_slice(key);
        self.raw.extend_from_slice(value);
        self.records[position(table)] += 1;
        self.raw_bytes += (RECORD_HEAD + key.len() + value.len()) as u64;
        if self.raw.len() >= CHUNK_BYTES {
            self.chunk()?;
        }
        Ok(())
    }

    fn chunk(&mut self) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let bound = lz4_flex::block::get_maximum_output_size(self.raw.len());
        self.compressed.resize(bound, 0);
        let len = lz4_flex::block::compress_into(&self.raw, &mut self.compressed)
            .expect("the buffer has LZ4's bound for this input");
        let raw_len = length(self.raw.len(), CHUNK_BYTES_MAX);
        self.sink
            .frame(FrameKind::Chunk, raw_len, &self.compressed[..len])?;
        self.raw.clear();
        self.chunks += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<SnapshotInfo, SaveError> {
        self.chunk()?;
        let footer = self.footer();
        let len = length(footer.len(), footer.len());
        self.sink.frame(FrameKind::Footer, len, &footer)?;
        let (bytes, digest) = self.sink.finish()?;
        Ok(SnapshotInfo {
            header: self.header,
            records: self.records,
            chunks: self.chunks,
            raw_bytes: self.raw_bytes,
            bytes,
            digest,
        })
    }

    fn footer(&self) -> Vec<u8> {
        let mut footer = Vec::new();
        footer.extend_from_slice(&self.chunks.to_be_bytes());
        footer.extend_from_slice(&self.raw_bytes.to_be_bytes());
        for (table, records) in Table::ALL.into_iter().zip(self.records) {
            footer.push(table.id());
            footer.extend_from_slice(&records.to_be_bytes());
        }
        footer
    }
}

/// A length as it stands in the file.
fn length(len: usize, max: usize) -> u32 {
    debug_assert!(len <= max);
    u32::try_from(len).expect("what is longer than the bounds of a snapshot is never committed")
}

fn encode_header(header: &SnapshotHeader) -> Result<Vec<u8>, SaveError> {
    let applied = &header.applied;
    let len = HEADER_HEAD + applied.bytes.len();
    if len > HEADER_BYTES_MAX {
        return Err(SaveError::Header {
            found: applied.bytes.len(),
            max: HEADER_BYTES_MAX - HEADER_HEAD,
        });
    }
    let mut bytes = Vec::with_capacity(len + 18);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&length(len, HEADER_BYTES_MAX).to_be_bytes());
    bytes.extend_from_slice(header.cluster_id.as_bytes());
    bytes.extend_from_slice(&header.incarnation.to_be_bytes());
    bytes.extend_from_slice(&applied.index.to_be_bytes());
    bytes.extend_from_slice(&applied.bytes);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    Ok(bytes)
}

/// Counts and hashes what passes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.inner.write_all(bytes)
    }

    fn frame(&mut self, kind: FrameKind, raw_len: u32, bytes: &[u8]) -> io::Result<()> {
        let mut head = [0; 9];
        head[0] = kind as u8;
        head[1..5].copy_from_slice(&raw_len.to_be_bytes());
        head[5..9].copy_from_slice(&length(bytes.len(), bytes.len()).to_be_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&head), bytes);
        self.write(&head)?;
        self.write(&checksum.to_be_bytes())?;
        self.write(bytes)
    }

    fn finish(mut self) -> io::Result<(u64, Digest)> {
        let digest = Digest::from_bytes(self.hash.finalize().into());
        self.inner.write_all(digest.as_bytes())?;
        self.inner.flush()?;
        Ok((self.bytes + digest.as_bytes().len() as u64, digest))
    }
}
