//! What a log says of its tree at one size: <https://c2sp.org/tlog-checkpoint>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::is_control;
use crate::digest::Digest;
use crate::quoted::{Quoted, shortened};

/// The longest body of a checkpoint, in bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 16 * 1024;

/// The text of a checkpoint: three lines, then lines of extensions, each ended by a
/// newline.
///
/// ```text
/// <origin>
/// <size, in decimal>
/// <root, in standard base64>
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointBody {
    origin: String,
    size: u64,
    root: Digest,
    extensions: Vec<String>,
}

/// Why a text is no [`CheckpointBody`], or its parts make none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// Longer than allowed.
    #[error("the checkpoint has {found} bytes, more than the {CHECKPOINT_BYTES_MAX} allowed")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// Fewer than three lines, each ended by a newline.
    #[error(
        "the checkpoint has {found} lines that end in a newline and nothing behind them; \
         there are three at least: origin, size and root"
    )]
    Lines {
        /// How many there are; none if something follows the last newline.
        found: usize,
    },
    /// The origin is empty or has control characters.
    #[error("the checkpoint's origin is {}, not a line of text", Quoted(.found))]
    Origin {
        /// The origin.
        found: String,
    },
    /// The size is no 64-bit integer, or not its only spelling.
    #[error(
        "the checkpoint's size is {}, not a 64-bit integer in decimal without leading zeros",
        Quoted(.found)
    )]
    Size {
        /// What the checkpoint says.
        found: String,
    },
    /// The root is not 32 bytes in base64, or not their only spelling.
    #[error(
        "the checkpoint's root is {}, not 32 bytes in standard base64 with padding",
        Quoted(.found)
    )]
    Root {
        /// What the checkpoint says.
        found: String,
    },
    /// An extension is empty or has control characters.
    #[error("the checkpoint's extension is {}, not a line of text", Quoted(.found))]
    Extension {
        /// The extension.
        found: String,
    },
}

impl CheckpointBody {
    /// The tree of `size` leaves under `root` of the log that is named `origin`.
    ///
    /// # Errors
    /// If the origin or an extension is no line of text, or the whole is longer than
    /// [`CHECKPOINT_BYTES_MAX`].
    pub fn new(
        origin: String,
        size: u64,
        root: Digest,
        extensions: Vec<String>,
    ) -> Result<Self, CheckpointError> {
        if !is_line(&origin) {
            let found = shortened(&origin);
            return Err(CheckpointError::Origin { found });
        }
        if let Some(extension) = extensions.iter().find(|extension| !is_line(extension)) {
            let found = shortened(extension);
            return Err(CheckpointError::Extension { found });
        }
        let body = Self {
            origin,
            size,
            root,
            extensions,
        };
        check_length(body.to_text().len())?;
        Ok(body)
    }

    /// Reads the text of a checkpoint's note.
    ///
    /// # Errors
    /// One for each way to be something else.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        check_length(text.len())?;
        let ended = text.strip_suffix('\n');
        let lines: Vec<&str> = ended
            .map(|text| text.split('\n').collect())
            .unwrap_or_default();
        let [origin, size, root, extensions @ ..] = lines.as_slice() else {
            return Err(CheckpointError::Lines { found: lines.len() });
        };
        Self::new(
            (*origin).to_owned(),
            parse_size(size)?,
            parse_root(root)?,
            extensions.iter().map(|line| (*line).to_owned()).collect(),
        )
    }

    /// The text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let root = STANDARD.encode(self.root);
        let mut text = format!("{}\n{}\n{root}\n", self.origin, self.size);
        for extension in &self.extensions {
            text.push_str(extension);
            text.push('\n');
        }
        text
    }

    /// The name of the log.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many leaves the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root.
    #[must_use]
    pub const fn root(&self) -> &Digest {
        &self.root
    }

    /// Lines that follow the root, without their newlines.
    #[must_use]
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }
}

/// What a signature under a checkpoint covers: its text as it stands.
#[must_use]
pub fn signed_text(body: &CheckpointBody) -> Vec<u8> {
    body.to_text().into_bytes()
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(is_control)
}

fn check_length(found: usize) -> Result<(), CheckpointError> {
    if found > CHECKPOINT_BYTES_MAX {
        return Err(CheckpointError::TooLong { found });
    }
    Ok(())
}

fn parse_size(text: &str) -> Result<u64, CheckpointError> {
    let size = text.parse().ok();
    size.filter(|size: &u64| size.to_string() == text)
        .ok_or_else(|| CheckpointError::Size {
            found: shortened(text),
        })
}

fn parse_root(text: &str) -> Result<Digest, CheckpointError> {
    let bytes = STANDARD.decode(text).ok();
    let root = bytes.and_then(|bytes| bytes.try_into().ok());
    root.map(Digest::from_bytes)
        .ok_or_else(|| CheckpointError::Root {
            found: shortened(text),
        })
}
