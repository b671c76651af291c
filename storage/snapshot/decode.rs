//! Reading a snapshot from an untrusted source, with the memory of one chunk.

use std::io::{self, BufReader, Read};
use std::mem;

use aegis_crypto::Digest;
use aegis_ledger::Table;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    BadSnapshot, CHUNK_BYTES_MAX, FOOTER_BYTES_MAX, FrameKind, HEADER_BYTES_MAX, HEADER_HEAD,
    KEY_BYTES_MAX, MAGIC, RECORD_HEAD, SnapshotHeader, SnapshotInfo, VALUE_BYTES_MAX, VERSION,
    position,
};
use crate::state::Applied;

/// Size of the buffer between the reader and its source, in bytes.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// One record of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRecord<'a> {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// Records that were checked together.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    raw: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = SnapshotRecord<'a>> + use<'a> {
        let mut rest = self.raw;
        std::iter::from_fn(move || split_record(&mut rest).expect("the chunk was checked"))
    }

    /// Bytes of all records.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.raw.len()
    }
}

/// Takes a record from the front; `None` at the end.
fn split_record<'a>(rest: &mut &'a [u8]) -> Result<Option<SnapshotRecord<'a>>, BadSnapshot> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (head, tail) = rest
        .split_first_chunk::<RECORD_HEAD>()
        .ok_or(BadSnapshot::Record)?;
    let [id, k0, k1, k2, k3, v0, v1, v2, v3] = *head;
    let table = Table::from_id(id).ok_or(BadSnapshot::Table { id })?;
    let key_len = bounded("key", [k0, k1, k2, k3], 0, KEY_BYTES_MAX)?;
    let value_len = bounded("value", [v0, v1, v2, v3], 0, VALUE_BYTES_MAX)?;
    let (key, tail) = tail.split_at_checked(key_len).ok_or(BadSnapshot::Record)?;
    let (value, tail) = tail
        .split_at_checked(value_len)
        .ok_or(BadSnapshot::Record)?;
    *rest = tail;
    Ok(Some(SnapshotRecord { table, key, value }))
}

fn bounded(
    part: &'static str,
    bytes: [u8; 4],
    min: usize,
    max: usize,
) -> Result<usize, BadSnapshot> {
    let found = usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX);
    if !(min..=max).contains(&found) {
        return Err(BadSnapshot::Length {
            part,
            found,
            min,
            max,
        });
    }
    Ok(found)
}

/// Reads a snapshot; its header is checked first, the rest by [`SnapshotReader::read`].
#[derive(Debug)]
pub struct SnapshotReader<R> {
    source: Hashing<BufReader<R>>,
    header: SnapshotHeader,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads and checks the header.
    pub fn new(source: R) -> Result<Self, BadSnapshot> {
        let mut source = Hashing {
            inner: BufReader::with_capacity(READ_BUFFER_BYTES, source),
            hash: Sha256::new(),
            bytes: 0,
        };
        let header = read_header(&mut source)?;
        Ok(Self { source, header })
    }

    /// What stands before the records.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Visits the chunks in order and checks everything to the end. What the visitor saw
    /// counts only once this has returned without an error.
    pub fn read<E: From<BadSnapshot>>(
        mut self,
        mut visit: impl FnMut(Chunk<'_>) -> Result<(), E>,
    ) -> Result<SnapshotInfo, E> {
        let mut order = Order::default();
        let mut frame = Frame::default();
        loop {
            match frame.read(&mut self.source)? {
                FrameKind::Chunk => {
                    order.check(&frame.raw)?;
                    visit(Chunk { raw: &frame.raw })?;
                }
                FrameKind::Footer => {
                    order.check_footer(&frame.stored)?;
                    return Ok(self.finish(order)?);
                }
            }
        }
    }

    fn finish(self, order: Order) -> Result<SnapshotInfo, BadSnapshot> {
        let (bytes, digest) = self.source.finish()?;
        Ok(SnapshotInfo {
            header: self.header,
            records: order.records,
            chunks: order.chunks,
            raw_bytes: order.raw_bytes,
            bytes,
            digest,
        })
    }
}

fn read_header<R: Read>(source: &mut Hashing<R>) -> Result<SnapshotHeader, BadSnapshot> {
    let magic = source.array()?;
    if magic != MAGIC {
        return Err(BadSnapshot::Magic { found: magic });
    }
    let version = source.array()?;
    let found = u16::from_be_bytes(version);
    if found != VERSION {
        return Err(BadSnapshot::Newer { found });
    }
    let len = source.array()?;
    let mut body = Vec::new();
    source.fill(
        &mut body,
        bounded("header", len, HEADER_HEAD, HEADER_BYTES_MAX)?,
    )?;
    let computed = [&magic[..], &version, &len, &body]
        .iter()
        .fold(0, |checksum, part| crc32c::crc32c_append(checksum, part));
    check_checksum("header", source.array()?, computed)?;

    let (head, applied) = body
        .split_first_chunk::<HEADER_HEAD>()
        .expect("the length was checked");
    let (cluster_id, numbers) = head
        .split_first_chunk::<32>()
        .expect("a header's head has 48 bytes");
    let (incarnation, index) = numbers
        .split_first_chunk::<8>()
        .expect("a header's head has 48 bytes");
    let index = index.try_into().expect("a header's head has 48 bytes");
    Ok(SnapshotHeader {
        cluster_id: Digest::from_bytes(*cluster_id),
        incarnation: u64::from_be_bytes(*incarnation),
        applied: Applied {
            index: u64::from_be_bytes(index),
            bytes: Bytes::copy_from_slice(applied),
        },
    })
}

fn check_checksum(part: &'static str, stored: [u8; 4], computed: u32) -> Result<(), BadSnapshot> {
    let stored = u32::from_be_bytes(stored);
    if stored == computed {
        Ok(())
    } else {
        Err(BadSnapshot::Checksum {
            part,
            stored,
            computed,
        })
    }
}

/// A chunk or the footer; the buffers are used again for the next.
#[derive(Debug, Default)]
struct Frame {
    stored: Vec<u8>,
    raw: Vec<u8>,
}

impl Frame {
    fn read<R: Read>(&mut self, source: &mut Hashing<R>) -> Result<FrameKind, BadSnapshot> {
        let head: [u8; 9] = source.array()?;
        let [found, r0, r1, r2, r3, s0, s1, s2, s3] = head;
        let (raw_len, stored_len) = ([r0, r1, r2, r3], [s0, s1, s2, s3]);
        let stored_checksum = source.array()?;
        let (kind, part, max) = if found == FrameKind::Chunk as u8 {
            (FrameKind::Chunk, "chunk", CHUNK_BYTES_MAX)
        } else if found == FrameKind::Footer as u8 {
            (FrameKind::Footer, "footer", FOOTER_BYTES_MAX)
        } else {
            return Err(BadSnapshot::Kind { found });
        };
        let raw_len = bounded(part, raw_len, 1, max)?;
        let stored_len = match kind {
            FrameKind::Chunk => {
                let bound = lz4_flex::block::get_maximum_output_size(raw_len);
                bounded(part, stored_len, 1, bound)?
            }
            FrameKind::Footer => bounded(part, stored_len, raw_len, raw_len)?,
        };
        source.fill(&mut self.stored, stored_len)?;
        let computed = crc32c::crc32c_append(crc32c::crc32c(&head), &self.stored);
        check_checksum(part, stored_checksum, computed)?;
        if kind == FrameKind::Chunk {
            self.decompress(raw_len)?;
        }
        Ok(kind)
    }

    fn decompress(&mut self, raw_len: usize) -> Result<(), BadSnapshot> {
        self.raw.resize(raw_len, 0);
        let found =
            lz4_flex::block::decompress_into(&self.stored, &mut self.raw).map_err(|error| {
                BadSnapshot::Compression {
                    reason: error.to_string(),
                }
            })?;
        if found != raw_len {
            return Err(BadSnapshot::Length {
                part: "decompressed chunk",
                found,
                min: raw_len,
                max: raw_len,
            });
        }
        Ok(())
    }
}

/// Counts the records and checks that they ascend.
#[derive(Debug, Default)]
struct Order {
    table: Option<Table>,
    key: Vec<u8>,
    records: [u64; Table::ALL.len()],
    chunks: u64,
    raw_bytes: u64,
}

impl Order {
    fn check(&mut self, raw: &[u8]) -> Result<(), BadSnapshot> {
        self.chunks += 1;
        self.raw_bytes += raw.len() as u64;
        let mut rest = raw;
        while let Some(record) = split_record(&mut rest)? {
            let ascends = self
                .table
                .is_none_or(|table| (table, &self.key[..]) < (record.table, record.key));
            if !ascends {
                return Err(BadSnapshot::Order {
                    table: record.table,
                });
            }
            self.table = Some(record.table);
            self.key.clear();
            self.key.extend_from_slice(record.key);
            self.records[position(record.table)] += 1;
        }
        Ok(())
    }

    fn check_footer(&self, footer: &[u8]) -> Result<(), BadSnapshot> {
        let mut rest = footer;
        check_count("chunks", number(&mut rest)?, self.chunks)?;
        check_count("bytes of records", number(&mut rest)?, self.raw_bytes)?;
        let mut stored = [0; Table::ALL.len()];
        let mut last = None;
        while let Some((&id, tail)) = rest.split_first() {
            rest = tail;
            let table = Table::from_id(id).ok_or(BadSnapshot::Table { id })?;
            if last.is_some_and(|last| last >= table) {
                return Err(BadSnapshot::Order { table });
            }
            last = Some(table);
            stored[position(table)] = number(&mut rest)?;
        }
        for table in Table::ALL {
            let position = position(table);
            let what = || format!("records of the table {table:?}");
            check_count(what, stored[position], self.records[position])?;
        }
        Ok(())
    }
}

fn number(rest: &mut &[u8]) -> Result<u64, BadSnapshot> {
    let (number, tail) = rest.split_first_chunk().ok_or(BadSnapshot::Record)?;
    *rest = tail;
    Ok(u64::from_be_bytes(*number))
}

/// What a count counts, spelled out only when it is wrong.
trait What {
    fn say(self) -> String;
}

impl What for &str {
    fn say(self) -> String {
        self.to_owned()
    }
}

impl<F: FnOnce() -> String> What for F {
    fn say(self) -> String {
        self()
    }
}

fn check_count(what: impl What, stored: u64, found: u64) -> Result<(), BadSnapshot> {
    if stored == found {
        return Ok(());
    }
    Err(BadSnapshot::Count {
        what: what.say(),
        stored,
        found,
    })
}

/// Counts and hashes what was read.
#[derive(Debug)]
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Hashing<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadSnapshot> {
        let mut bytes = [0; N];
        self.exact(&mut bytes)?;
        self.hash.update(bytes);
        Ok(bytes)
    }

    fn fill(&mut self, buffer: &mut Vec<u8>, len: usize) -> Result<(), BadSnapshot> {
        buffer.resize(len, 0);
        self.exact(buffer)?;
        self.hash.update(&*buffer);
        Ok(())
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), BadSnapshot> {
        self.inner
            .read_exact(bytes)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => BadSnapshot::Truncated { at: self.bytes },
                _ => BadSnapshot::Io(error),
            })?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Checks the digest and that nothing follows it.
    fn finish(mut self) -> Result<(u64, Digest), BadSnapshot> {
        let hash = mem::take(&mut self.hash);
        let computed = Digest::from_bytes(hash.finalize().into());
        let stored = Digest::from_bytes(self.array()?);
        if stored != computed {
            return Err(BadSnapshot::Digest { stored, computed });
        }
        match self.inner.read(&mut [0]).map_err(BadSnapshot::Io)? {
            0 => Ok((self.bytes, computed)),
            _ => Err(BadSnapshot::Trailing),
        }
    }
}
