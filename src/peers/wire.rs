//! What stands in the bodies of requests and answers.
//!
//! ```text
//! call     version:u8  payload
//! stream   version:u8  { length:u32  payload }*
//! greeting version:u8  incarnation:u64  store id:[u8; 16]
//! ```
//! Numbers are big-endian.

use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Incarnation, StoreId};

/// The version of every message that this node sends, and the only one that it accepts.
pub const WIRE_VERSION: u8 = 1;

/// The length of the prefix of a stream's message, in bytes.
pub(crate) const LENGTH_BYTES: usize = size_of::<u32>();

/// The length of a greeting, in bytes.
pub(crate) const HELLO_BYTES: usize = 1 + size_of::<u64>() + size_of::<StoreId>();

/// What each side says once when a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) incarnation: Incarnation,
    pub(crate) store_id: StoreId,
}

impl Hello {
    /// The greeting without its version byte.
    pub(crate) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HELLO_BYTES - 1);
        bytes.put_u64(self.incarnation.0);
        bytes.put_slice(&self.store_id.0);
        bytes.freeze()
    }

    /// Reads a greeting without its version byte.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (incarnation, store_id) = bytes.split_first_chunk()?;
        Some(Self {
            incarnation: Incarnation(u64::from_be_bytes(*incarnation)),
            store_id: StoreId(store_id.try_into().ok()?),
        })
    }
}

/// Bytes on their way out: a few of ours before the payload, which is never copied.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head: [u8; LENGTH_BYTES],
    head_from: usize,
    body: Bytes,
}

impl Outgoing {
    /// The body of a call or of its answer.
    pub(crate) fn message(payload: Bytes) -> Self {
        let mut head = [0; LENGTH_BYTES];
        head[LENGTH_BYTES - 1] = WIRE_VERSION;
        Self {
            head,
            head_from: LENGTH_BYTES - 1,
            body: payload,
        }
    }

    /// The version byte that begins a stream.
    pub(crate) fn stream_version() -> Self {
        Self::message(Bytes::new())
    }

    /// One message of a stream, whose length the caller has checked.
    pub(crate) fn frame(payload: Bytes) -> Self {
        let length = u32::try_from(payload.len()).expect("MESSAGE_BYTES_MAX is below 4 GiB");
        Self {
            head: length.to_be_bytes(),
            head_from: 0,
            body: payload,
        }
    }

    /// Messages of a stream that have their lengths already.
    pub(crate) fn gathered(frames: Bytes) -> Self {
        Self {
            head: [0; LENGTH_BYTES],
            head_from: LENGTH_BYTES,
            body: frames,
        }
    }

    /// Nothing, to carry the end of a stream.
    pub(crate) fn end() -> Self {
        Self::gathered(Bytes::new())
    }

    fn head(&self) -> &[u8] {
        &self.head[self.head_from..]
    }

    /// Takes the first `count` bytes, or all when there are fewer.
    pub(crate) fn split_to(&mut self, count: usize) -> Self {
        let of_head = count.min(self.head().len());
        let of_body = (count - of_head).min(self.body.len());
        let mut taken = Self::end();
        taken.head_from -= of_head;
        taken.head[LENGTH_BYTES - of_head..].copy_from_slice(&self.head()[..of_head]);
        taken.body = self.body.split_to(of_body);
        self.head_from += of_head;
        taken
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.head().len() + self.body.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.head().is_empty() {
            &self.body
        } else {
            self.head()
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = [self.head(), &self.body]
            .into_iter()
            .filter(|part| !part.is_empty());
        slices
            .iter_mut()
            .zip(parts)
            .map(|(slice, part)| *slice = IoSlice::new(part))
            .count()
    }

    fn advance(&mut self, count: usize) {
        let of_head = count.min(self.head().len());
        self.head_from += of_head;
        self.body.advance(count - of_head);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(mut outgoing: Outgoing) -> Vec<u8> {
        outgoing.copy_to_bytes(outgoing.remaining()).to_vec()
    }

    #[test]
    fn greetings_are_pinned() {
        let hello = Hello {
            incarnation: Incarnation(0x0102_0304_0506_0708),
            store_id: StoreId([9; 16]),
        };
        let mut expected = vec![WIRE_VERSION, 1, 2, 3, 4, 5, 6, 7, 8];
        expected.extend([9; 16]);
        assert_eq!(all(Outgoing::message(hello.encode())), expected);
        assert_eq!(expected.len(), HELLO_BYTES);
        assert_eq!(Hello::decode(&expected[1..]), Some(hello));
        assert_eq!(Hello::decode(&expected), None);
        assert_eq!(Hello::decode(&expected[2..]), None);
        assert_eq!(Hello::decode(&[]), None);
    }

    #[test]
    fn messages_are_pinned() {
        let payload = Bytes::from_static(b"abc");
        assert_eq!(all(Outgoing::message(payload.clone())), b"\x01abc");
        assert_eq!(all(Outgoing::frame(payload)), b"\0\0\0\x03abc");
        assert_eq!(all(Outgoing::stream_version()), b"\x01");
        assert_eq!(all(Outgoing::end()), b"");
    }

    proptest! {
        #[test]
        fn cuts_lose_nothing(body in prop::collection::vec(any::<u8>(), 0..40), cuts in prop::collection::vec(0usize..9, 0..12), skip in 0usize..6) {
            let mut whole = Outgoing::frame(Bytes::from(body.clone()));
            let mut expected = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
            expected.extend(&body);

            let mut pieces = Vec::new();
            for cut in cuts {
                let piece = whole.split_to(cut);
                prop_assert!(piece.remaining() <= cut);
                let mut slices = [IoSlice::new(&[]); 3];
                let count = piece.chunks_vectored(&mut slices);
                prop_assert_eq!(slices[..count].iter().map(|s| s.len()).sum::<usize>(), piece.remaining());
                pieces.extend(all(piece));
            }
            let skip = skip.min(whole.remaining());
            let at = pieces.len();
            whole.advance(skip);
            pieces.extend(&expected[at..at + skip]);
            pieces.extend(all(whole));
            prop_assert_eq!(pieces, expected);
        }
    }
}
