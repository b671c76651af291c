//! The number of the last batch that is known to be on the medium, kept outside RocksDB.
//!
//! RocksDB cannot tell a log whose newest file is missing, or that was cut at a record
//! boundary, from one that simply ends there. The writer numbers its batches, puts the
//! number into each, and after every sync writes it here. A log that ends before this
//! number has lost writes that were acknowledged.
//!
//! The file is overwritten in place and never synced: it can only lag behind the log,
//! never run ahead of it. Two slots, each within one sector, are written in turn, so that
//! a torn write leaves the other one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::files::private_file;

/// Distance of the two slots: different sectors and different pages.
const SLOT_SPACING: u64 = 4096;
const SLOT_LEN: usize = 12;

/// The open file.
#[derive(Debug)]
pub(crate) struct Watermark {
    file: File,
}

impl Watermark {
    /// Creates the file durably, with batch zero in both slots.
    pub(crate) fn create(path: &Path) -> io::Result<()> {
        let file = private_file().create_new(true).open(path)?;
        for slot in 0..2 {
            file.write_all_at(&encode(0), slot * SLOT_SPACING)?;
        }
        file.sync_all()
    }

    /// Opens the file and returns the number it holds; `None` if both slots are damaged.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<u64>)> {
        let file = private_file().open(path)?;
        let mut newest = None;
        for slot in 0..2 {
            let mut bytes = [0; SLOT_LEN];
            match file.read_exact_at(&mut bytes, slot * SLOT_SPACING) {
                Ok(()) => newest = newest.max(decode(bytes)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Ok((Self { file }, newest))
    }

    /// Notes that `batch` and everything before it is on the medium.
    pub(crate) fn record(&self, batch: u64) -> io::Result<()> {
        self.file
            .write_all_at(&encode(batch), (batch % 2) * SLOT_SPACING)
    }
}

fn encode(batch: u64) -> [u8; SLOT_LEN] {
    let mut bytes = [0; SLOT_LEN];
    let (number, checksum) = bytes.split_at_mut(size_of::<u64>());
    number.copy_from_slice(&batch.to_be_bytes());
    checksum.copy_from_slice(&crc32c::crc32c(number).to_be_bytes());
    bytes
}

fn decode(bytes: [u8; SLOT_LEN]) -> Option<u64> {
    let (number, checksum) = bytes.split_first_chunk()?;
    (crc32c::crc32c(number).to_be_bytes() == *checksum).then(|| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("synced");
        Watermark::create(&path).unwrap();
        let (watermark, batch) = Watermark::open(&path).unwrap();
        assert_eq!(batch, Some(0));
        for batch in 1..=5 {
            watermark.record(batch).unwrap();
        }
        assert_eq!(Watermark::open(&path).unwrap().1, Some(5));

        watermark.file.write_all_at(&[0xff], SLOT_SPACING).unwrap();
        assert_eq!(Watermark::open(&path).unwrap().1, Some(4));

        watermark.file.write_all_at(&[0xff], 0).unwrap();
        assert_eq!(Watermark::open(&path).unwrap().1, None);
    }
}
