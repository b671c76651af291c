//! The pinned encoding: postcard, with trailing bytes refused.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes that no version of this code wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes are not an encoded {what}: {reason}")]
pub struct DecodeError {
    /// What they should have been.
    pub what: &'static str,
    /// How many bytes there were.
    pub len: usize,
    /// What the decoder said.
    pub reason: String,
}

/// Decodes the whole of `bytes`.
///
/// # Errors
/// Bytes that do not decode, or that go on after the value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, DecodeError> {
    let fail = |reason: String| DecodeError {
        what,
        len: bytes.len(),
        reason,
    };
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(fail(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// The versions of a stored record. A record that changes gets an enum of its own with a
/// `V2`; this one serves those that never did.
#[derive(Serialize, Deserialize)]
enum Versioned<T> {
    V1(T),
}

/// Most records take no more, so that their memory is asked for once.
const USUAL_BYTES: usize = 256;

/// Encodes a record in its latest version.
pub(crate) fn encode_record<T: Serialize>(record: &T) -> Vec<u8> {
    postcard::to_extend(&Versioned::V1(record), Vec::with_capacity(USUAL_BYTES))
        .expect("a record has only encodable fields")
}

/// Decodes a record of any version.
pub(crate) fn decode_record<T: DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
) -> Result<T, DecodeError> {
    let Versioned::V1(record) = decode(bytes, what)?;
    Ok(record)
}
