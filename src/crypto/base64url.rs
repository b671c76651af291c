//! base64url without padding (RFC 4648, section 5), with refusals in words of our own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

/// Why a text is not base64url without padding, or not the only spelling of its bytes.
///
/// It is found from the text alone rather than taken from the library that decodes, so
/// that it reads the same whichever version of the library a replica has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Base64Error {
    /// Something other than the 64 characters; padding and white space are among it.
    #[error("byte {offset} is not one of A-Z a-z 0-9 - _")]
    Character {
        /// Position of the first wrong byte, from zero.
        offset: usize,
    },
    /// One character remains behind the last four, and it takes two to make a byte.
    #[error("no bytes take {found} characters")]
    Length {
        /// Length of the text in characters.
        found: usize,
    },
    /// Bits of the last character belong to no byte and are not zero.
    #[error("the last character has bits beyond the last byte")]
    TrailingBits,
}

impl Base64Error {
    /// What is wrong with a text that does not decode.
    pub(crate) fn of(text: &[u8]) -> Self {
        let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match text.iter().position(|byte| !known(byte)) {
            Some(offset) => Self::Character { offset },
            None if text.len() % 4 == 1 => Self::Length { found: text.len() },
            None => Self::TrailingBits,
        }
    }
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, Base64Error> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Base64Error::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_fault_has_its_words() {
        for (text, expected) in [
            ("AA==", "byte 2 is not one of A-Z a-z 0-9 - _"),
            ("é", "byte 0 is not one of A-Z a-z 0-9 - _"),
            ("AAAAA", "no bytes take 5 characters"),
            ("AB", "the last character has bits beyond the last byte"),
        ] {
            assert_eq!(decode(text).unwrap_err().to_string(), expected, "{text}");
        }
        assert_eq!(decode("AA"), Ok(vec![0]));
    }

    proptest! {
        /// The library refuses for one of our reasons and for no other.
        #[test]
        fn the_reason_is_the_right_one(text in "[A-D_=+-]{0,9}") {
            let wrong = text.bytes().position(|byte| matches!(byte, b'=' | b'+'));
            match (decode(&text), wrong) {
                (Ok(bytes), None) => prop_assert_eq!(URL_SAFE_NO_PAD.encode(bytes), text),
                (Err(Base64Error::Character { offset }), Some(first)) => {
                    prop_assert_eq!(offset, first);
                }
                (Err(Base64Error::Length { found }), None) => {
                    prop_assert_eq!((found, found % 4), (text.len(), 1));
                }
                (Err(Base64Error::TrailingBits), None) => prop_assert!(text.len() % 4 > 1),
                other => prop_assert!(false, "{text}: {other:?}"),
            }
        }
    }
}
