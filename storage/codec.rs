//! The bytes of everything storage itself writes into RocksDB: the records of `meta`, the
//! applied position, the entries of the log and the records of the committee. Numbers are
//! big-endian.

use aegis_crypto::Digest;
use aegis_crypto::digest::DIGEST_LEN;
use bytes::Bytes;

use crate::create::Identity;
use crate::state::Applied;

/// Version of the layout of column families, keys and values. A folder with a newer one
/// is refused.
pub(crate) const FORMAT: u32 = 1;

/// Version byte of a value with a checksum: an entry of the log or a record of the
/// committee.
const VALUE_VERSION: u8 = 1;
/// Version byte and checksum before the payload of such a value.
const VALUE_HEAD: usize = 5;

/// Keys of the column family `meta`.
pub(crate) mod key {
    /// [`FORMAT`](super::FORMAT) of the folder.
    pub(crate) const FORMAT: &[u8] = b"format";
    /// To whom the folder belongs.
    pub(crate) const IDENTITY: &[u8] = b"identity";
    /// The generation of the tables that counts.
    pub(crate) const GENERATION: &[u8] = b"generation";
    /// The vote.
    pub(crate) const VOTE: &[u8] = b"vote";
    /// The committed position.
    pub(crate) const COMMITTED: &[u8] = b"committed";
    /// The last purged position.
    pub(crate) const PURGED: &[u8] = b"purged";
    /// The number of the last batch of the writer.
    pub(crate) const BATCH: &[u8] = b"batch";
    /// Stands once the folder has the column family `committee`, so that one that is gone is
    /// not taken for one that never was.
    pub(crate) const COMMITTEE: &[u8] = b"committee";
    /// Before the id of a peer: the data folder that the peer is pinned to.
    pub(crate) const PIN: &[u8] = b"pin/";
    /// The applied position; in the column family `ledger@g`, where no table has the
    /// prefix 255, so that it switches together with the tables.
    pub(crate) const APPLIED: &[u8] = &[u8::MAX];
}

/// Which generation of the tables counts, and what it was filled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GenerationRecord {
    /// Number of the generation.
    pub(crate) number: u64,
    /// The applied index of the snapshot that filled it; `None` if it began empty.
    pub(crate) base_index: Option<u64>,
}

/// The position up to which the log was purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purged {
    pub(crate) index: u64,
    /// The log id, as the caller encodes it.
    pub(crate) id: Bytes,
}

/// A record does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it has {found} bytes where {expected} are needed")]
    Length { expected: usize, found: usize },
    #[error("its version is {found}, and this program knows {VALUE_VERSION}")]
    Version { found: u8 },
    #[error("its checksum is {stored:08x}, and its bytes give {computed:08x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("it has the flag {found}")]
    Flag { found: u8 },
}

/// Takes fields from the front of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Length {
            expected: N,
            found: self.0.len(),
        })?;
        self.0 = rest;
        Ok(*head)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Length {
                expected: 0,
                found: self.0.len(),
            })
        }
    }
}

pub(crate) fn encode_number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub(crate) fn decode_number(bytes: &[u8]) -> Result<u64, DecodeError> {
    let mut fields = Fields(bytes);
    let number = fields.u64()?;
    fields.end().map(|()| number)
}

pub(crate) fn encode_format(format: u32) -> [u8; 4] {
    format.to_be_bytes()
}

pub(crate) fn decode_format(bytes: &[u8]) -> Result<u32, DecodeError> {
    let mut fields = Fields(bytes);
    let format = fields.array().map(u32::from_be_bytes)?;
    fields.end().map(|()| format)
}

pub(crate) fn encode_identity(identity: &Identity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(identity.cluster_id.as_bytes());
    bytes.extend_from_slice(&identity.node_id.to_be_bytes());
    bytes.extend_from_slice(&identity.incarnation.to_be_bytes());
    bytes.extend_from_slice(&identity.store_id);
    bytes
}

pub(crate) fn decode_identity(bytes: &[u8]) -> Result<Identity, DecodeError> {
    let mut fields = Fields(bytes);
    let identity = Identity {
        cluster_id: Digest::from_bytes(fields.array::<DIGEST_LEN>()?),
        node_id: fields.u64()?,
        incarnation: fields.u64()?,
        store_id: fields.array()?,
    };
    fields.end().map(|()| identity)
}

pub(crate) fn encode_generation(record: &GenerationRecord) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(17);
    bytes.extend_from_slice(&record.number.to_be_bytes());
    match record.base_index {
        None => bytes.push(0),
        Some(index) => {
            bytes.push(1);
            bytes.extend_from_slice(&index.to_be_bytes());
        }
    }
    bytes
}

pub(crate) fn decode_generation(bytes: &[u8]) -> Result<GenerationRecord, DecodeError> {
    let mut fields = Fields(bytes);
    let number = fields.u64()?;
    let base_index = match fields.array()? {
        [0] => None,
        [1] => Some(fields.u64()?),
        [found] => return Err(DecodeError::Flag { found }),
    };
    fields
        .end()
        .map(|()| GenerationRecord { number, base_index })
}

/// The key of a peer's pin.
pub(crate) fn pin_key(node_id: u64) -> Vec<u8> {
    [key::PIN, &node_id.to_be_bytes()].concat()
}

/// The peer and the folder of a pin.
pub(crate) fn decode_pin(key: &[u8], value: &[u8]) -> Result<(u64, [u8; 16]), DecodeError> {
    let mut fields = Fields(key.strip_prefix(key::PIN).unwrap_or_default());
    let node_id = fields.u64()?;
    fields.end()?;
    let mut fields = Fields(value);
    let store_id = fields.array()?;
    fields.end().map(|()| (node_id, store_id))
}

fn encode_position(index: u64, opaque: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<u64>() + opaque.len());
    bytes.extend_from_slice(&index.to_be_bytes());
    bytes.extend_from_slice(opaque);
    bytes
}

fn decode_position(bytes: &[u8]) -> Result<(u64, Bytes), DecodeError> {
    let mut fields = Fields(bytes);
    let index = fields.u64()?;
    Ok((index, Bytes::copy_from_slice(fields.0)))
}

pub(crate) fn encode_applied(index: u64, opaque: &[u8]) -> Vec<u8> {
    encode_position(index, opaque)
}

pub(crate) fn decode_applied(bytes: &[u8]) -> Result<Applied, DecodeError> {
    decode_position(bytes).map(|(index, bytes)| Applied { index, bytes })
}

pub(crate) fn encode_purged(index: u64, id: &[u8]) -> Vec<u8> {
    encode_position(index, id)
}

pub(crate) fn decode_purged(bytes: &[u8]) -> Result<Purged, DecodeError> {
    decode_position(bytes).map(|(index, id)| Purged { index, id })
}

/// Keys of the log sort by index.
pub(crate) fn log_key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// The checksum of an entry covers its index, so that an entry under a wrong key is seen.
fn log_checksum(index: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&index.to_be_bytes()), payload)
}

/// Bytes that [`encode_log_value`] makes of a payload of `len` bytes.
pub(crate) const fn log_value_len(len: usize) -> usize {
    VALUE_HEAD + len
}

/// Replaces `value` by the encoded entry; the caller reuses the buffer.
pub(crate) fn encode_log_value(index: u64, payload: &[u8], value: &mut Vec<u8>) {
    encode_value(log_checksum(index, payload), payload, value);
}

/// The payload of the entry at `index`.
pub(crate) fn decode_log_value(index: u64, value: &[u8]) -> Result<&[u8], DecodeError> {
    decode_value(value, |payload| log_checksum(index, payload))
}

/// The checksum of a committee record covers its key, so that a record under a wrong key is
/// seen, and the key's length, so that no byte can move from the one to the other.
fn committee_checksum(key: &[u8], payload: &[u8]) -> u32 {
    let len = (key.len() as u64).to_be_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&len), key);
    crc32c::crc32c_append(checksum, payload)
}

/// Bytes that [`encode_committee_value`] makes of a payload of `len` bytes.
pub(crate) const fn committee_value_len(len: usize) -> usize {
    VALUE_HEAD + len
}

/// Replaces `value` by the encoded record; the caller reuses the buffer.
pub(crate) fn encode_committee_value(key: &[u8], payload: &[u8], value: &mut Vec<u8>) {
    encode_value(committee_checksum(key, payload), payload, value);
}

/// The payload of the committee record under `key`.
pub(crate) fn decode_committee_value<'v>(
    key: &[u8],
    value: &'v [u8],
) -> Result<&'v [u8], DecodeError> {
    decode_value(value, |payload| committee_checksum(key, payload))
}

fn encode_value(checksum: u32, payload: &[u8], value: &mut Vec<u8>) {
    value.clear();
    value.reserve(VALUE_HEAD + payload.len());
    value.push(VALUE_VERSION);
    value.extend_from_slice(&checksum.to_be_bytes());
    value.extend_from_slice(payload);
}

fn decode_value(value: &[u8], checksum: impl FnOnce(&[u8]) -> u32) -> Result<&[u8], DecodeError> {
    let mut fields = Fields(value);
    let [version] = fields.array()?;
    if version != VALUE_VERSION {
        return Err(DecodeError::Version { found: version });
    }
    let stored = fields.array().map(u32::from_be_bytes)?;
    let computed = checksum(fields.0);
    if stored != computed {
        return Err(DecodeError::Checksum { stored, computed });
    }
    Ok(fields.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_refuse_other_lengths() {
        let identity = Identity {
            cluster_id: Digest::of(b"cluster"),
            node_id: 3,
            incarnation: 7,
            store_id: [9; 16],
        };
        let bytes = encode_identity(&identity);
        assert_eq!(decode_identity(&bytes), Ok(identity));
        assert!(decode_identity(&bytes[..63]).is_err());
        assert!(decode_identity(&[&bytes[..], &[0]].concat()).is_err());

        for base_index in [None, Some(0), Some(u64::MAX)] {
            let record = GenerationRecord {
                number: 5,
                base_index,
            };
            let bytes = encode_generation(&record);
            assert_eq!(decode_generation(&bytes), Ok(record));
            assert!(decode_generation(&[&bytes[..], &[0]].concat()).is_err());
        }
        assert_eq!(
            decode_generation(&[0, 0, 0, 0, 0, 0, 0, 5, 2]),
            Err(DecodeError::Flag { found: 2 })
        );
        assert_eq!(
            decode_applied(&encode_applied(4, b"id")),
            Ok(Applied {
                index: 4,
                bytes: Bytes::from_static(b"id")
            })
        );
    }

    #[test]
    fn a_log_value_is_bound_to_its_index_and_every_byte() {
        let mut value = Vec::new();
        encode_log_value(17, b"payload", &mut value);
        assert_eq!(value.len(), log_value_len(7));
        assert_eq!(decode_log_value(17, &value), Ok(&b"payload"[..]));
        assert!(decode_log_value(18, &value).is_err());
        for position in 0..value.len() {
            let mut flipped = value.clone();
            flipped[position] ^= 1;
            assert!(decode_log_value(17, &flipped).is_err(), "byte {position}");
        }
        for len in 0..value.len() {
            assert!(decode_log_value(17, &value[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn a_committee_value_is_bound_to_its_key_and_every_byte() {
        let mut value = Vec::new();
        encode_committee_value(b"key", b"payload", &mut value);
        assert_eq!(value.len(), committee_value_len(7));
        assert_eq!(decode_committee_value(b"key", &value), Ok(&b"payload"[..]));
        for key in [&b""[..], b"ke", b"kez", b"keyp"] {
            assert!(decode_committee_value(key, &value).is_err(), "{key:?}");
        }
        for position in 0..value.len() {
            let mut flipped = value.clone();
            flipped[position] ^= 1;
            let found = decode_committee_value(b"key", &flipped);
            assert!(found.is_err(), "byte {position}");
        }
        for len in 0..value.len() {
            let found = decode_committee_value(b"key", &value[..len]);
            assert!(found.is_err(), "length {len}");
        }
        // The byte at the border belongs to one side only.
        let mut moved = value[..VALUE_HEAD].to_vec();
        moved.extend_from_slice(b"ayload");
        assert!(decode_committee_value(b"keyp", &moved).is_err());
    }

    /// The bytes on disk do not change by accident.
    #[test]
    fn the_encodings_are_pinned() {
        let identity = Identity {
            cluster_id: Digest::ZERO,
            node_id: 1,
            incarnation: 2,
            store_id: [3; 16],
        };
        let generation = |base_index| {
            encode_generation(&GenerationRecord {
                number: 4,
                base_index,
            })
        };
        let mut log_value = Vec::new();
        encode_log_value(6, b"entry", &mut log_value);
        let all = [
            encode_format(FORMAT).to_vec(),
            encode_identity(&identity),
            generation(None),
            generation(Some(5)),
            encode_applied(6, b"applied"),
            encode_purged(7, b"purged"),
            encode_number(8).to_vec(),
            log_key(6).to_vec(),
            log_value,
        ];
        assert_eq!(
            Digest::of(all.concat()).to_string(),
            "558c50dd6ce380051c163e036064b7ba040dd75fcb0725c54d67ff79e4da774e"
        );
    }
}
