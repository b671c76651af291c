//! What a validator's signature covers: the pre-authentication encoding of DSSE, version
//! 1 of its protocol, which binds a payload to its type.

/// `DSSEv1 SP len(type) SP type SP len(payload) SP payload`, lengths in decimal.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the DSSE protocol's own text.
    #[test]
    fn the_encoding_is_that_of_the_protocol() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn type_and_payload_do_not_run_together() {
        assert_ne!(pae("a", b" 1 b"), pae("a 4", b" b"));
    }
}
