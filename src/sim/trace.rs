//! The log of a run: a digest of all of it, and its last lines for people.

use std::collections::VecDeque;

use aegis_crypto::{Digest, Hasher};

/// Lines that are kept for people.
const LINES_MAX: usize = 80;

/// What happened, line by line.
#[derive(Debug, Default)]
pub struct Trace {
    last: VecDeque<String>,
    digest: Digest,
    lines: u64,
}

impl Trace {
    pub(crate) fn line(&mut self, line: String) {
        self.digest = Hasher::tagged("aegis/sim/trace/1")
            .digest(&self.digest)
            .bytes(line.as_bytes())
            .finish();
        self.lines += 1;
        if self.last.len() == LINES_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The name of the whole log: equal logs and no others have equal names.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How many lines there were.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self) -> String {
        let lines: Vec<&str> = self.last.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}
