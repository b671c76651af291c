//! Signed notes and checkpoints, as the wider world of transparency logs writes and
//! witnesses them: <https://c2sp.org/signed-note> and <https://c2sp.org/tlog-checkpoint>.
//!
//! A note is a text, whose every line ends in a newline, then an empty line, then one
//! line for every signature:
//!
//! ```text
//! — <key name> <standard base64 of the key id's 4 bytes and the signature>
//! ```
//!
//! An Ed25519 signature, the only kind that is made or verified here, covers the text with
//! its last newline and without the empty line. The key id is the first 4 bytes of
//! `SHA-256(name || 0x0A || 0x01 || public key)`; it only says which key to try. Signatures
//! by other keys and of other kinds are carried along and not judged, so that anyone may
//! add one.
//!
//! A checkpoint is a note whose text is a [`CheckpointBody`]: the log's name, the tree's
//! size, its root.
//!
//! A key that signs checkpoints may sign other things without one passing for the other. A
//! checkpoint begins with its origin, and our origins with `aegis/`, which neither the DSSE
//! encoding ([`crate::dsse`]) nor what a JWS signs ([`crate::jws`]) begins with.
//!
//! This departs from the specification only by being strict where it leaves room: base64
//! has one spelling, a second signature by one key must be good too, and size and number
//! of signatures are bounded.

mod checkpoint;

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::digest::Digest;
use crate::key::{PublicKey, SIGNATURE_LEN};
use crate::quoted::{Quoted, shortened};

pub use checkpoint::{CHECKPOINT_BYTES_MAX, CheckpointBody, CheckpointError, signed_text};

/// The longest note, in bytes. It has room for the 16 signatures that every verifier must
/// accept, should all be of the largest kind, of 5 kB.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;

/// The most signatures of a note: a full committee's, and as many witnesses'.
pub const SIGNATURES_MAX: usize = 64;

/// What a signature line begins with: an em dash and a space.
const LINE_START: &str = "\u{2014} ";

/// The kind of signature that a key id is of: Ed25519 over the text of the note.
const TYPE_ED25519: u8 = 0x01;

/// Bytes in a key id.
const KEY_ID_LEN: usize = 4;

/// Tells the keys of one name apart. It is a hint and no proof: keys with a given id are
/// easily made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId([u8; KEY_ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// Why a text cannot name a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing.
    #[error("a key's name is not empty")]
    Empty,
    /// A character that would break the line or a list of keys.
    #[error(
        "the key's name {} has a space, a plus sign or a control character; \
         a URL without its scheme has none",
        Quoted(.found)
    )]
    Character {
        /// The name.
        found: String,
    },
}

fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name
        .chars()
        .any(|char| char.is_whitespace() || char == '+' || is_control(char))
    {
        return Err(NameError::Character {
            found: shortened(name),
        });
    }
    Ok(())
}

/// What occurs nowhere in a note, the newlines between its lines aside.
const fn is_control(char: char) -> bool {
    char < ' '
}

/// An Ed25519 key that signs notes under a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NoteKey {
    name: String,
    key: PublicKey,
    id: KeyId,
}

impl NoteKey {
    /// The key `key` under the name `name`, which should be a URL without its scheme.
    ///
    /// # Errors
    /// If the name is empty or has spaces, plus signs or control characters.
    pub fn new(name: String, key: PublicKey) -> Result<Self, NameError> {
        check_name(&name)?;
        let hashed = [name.as_bytes(), b"\n", &[TYPE_ED25519], &key.to_bytes()].concat();
        let digest = Digest::of(hashed);
        let id = digest.as_bytes().first_chunk();
        let id = KeyId(*id.expect("a digest has more than 4 bytes"));
        Ok(Self { name, key, id })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The key id.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The line that carries this key's `signature`, which the caller has made or received
    /// over the note's text. Whether it is good is for [`Note::verify`] to say.
    #[must_use]
    pub fn line(&self, signature: &[u8; SIGNATURE_LEN]) -> SignatureLine {
        SignatureLine {
            name: self.name.clone(),
            key_id: self.id,
            signature: signature.to_vec(),
        }
    }
}

/// One signature of a note, of any kind and by anyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    name: String,
    key_id: KeyId,
    signature: Vec<u8>,
}

/// Why a line is no [`SignatureLine`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LineError {
    /// Not an em dash, a name and a signature with single spaces between.
    #[error("the line is not `\u{2014} <name> <signature>`")]
    Form,
    /// The name can be no key's.
    #[error("the name is refused")]
    Name(#[source] NameError),
    /// The signature is not base64, or not the only spelling of its bytes.
    #[error("the signature is not standard base64 with padding")]
    Base64,
    /// There is no signature behind the key id.
    #[error("the signature has {found} bytes, the {KEY_ID_LEN} of the key id included")]
    TooShort {
        /// How many there are.
        found: usize,
    },
}

impl SignatureLine {
    /// The name of the key that is said to have signed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// That key's id.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Reads a line without its newline.
    fn parse(line: &str) -> Result<Self, LineError> {
        let rest = line.strip_prefix(LINE_START).ok_or(LineError::Form)?;
        let (name, encoded) = rest.split_once(' ').ok_or(LineError::Form)?;
        check_name(name).map_err(LineError::Name)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| LineError::Base64)?;
        match bytes.split_first_chunk() {
            Some((key_id, signature)) if !signature.is_empty() => Ok(Self {
                name: name.to_owned(),
                key_id: KeyId(*key_id),
                signature: signature.to_vec(),
            }),
            Some(_) | None => Err(LineError::TooShort { found: bytes.len() }),
        }
    }

    fn is_by(&self, key: &NoteKey) -> bool {
        self.name == key.name && self.key_id == key.id
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.key_id.0.as_slice(), &self.signature].concat();
        write!(f, "{LINE_START}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// Why a text is no [`Note`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    /// Longer than allowed.
    #[error("the note has {found} bytes, more than the {NOTE_BYTES_MAX} allowed")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// Not UTF-8.
    #[error("the note is not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// Position of the first wrong byte, from zero.
        offset: usize,
    },
    /// A control character; a carriage return is among them.
    #[error("byte {offset} of the note is a control character other than a newline")]
    Control {
        /// Its position in bytes, from zero.
        offset: usize,
    },
    /// No empty line, or no newline at the end.
    #[error("the note is not a text, an empty line and signatures, each line ended by a newline")]
    Form,
    /// The text of a new note does not end in a newline.
    #[error("the note's text does not end in a newline")]
    TextEnd,
    /// Nobody has signed, or too many have.
    #[error("the note has {found} signatures, not 1 to {SIGNATURES_MAX}")]
    Signatures {
        /// How many there are.
        found: usize,
    },
    /// A line behind the empty one that is no signature.
    #[error("signature line {number} of the note is refused")]
    Line {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        source: LineError,
    },
}

/// Why a note does not count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyNoteError {
    /// A known key's signature does not verify, and somebody has added it.
    #[error("the note's signature by {} ({id}) does not verify", Quoted(.name))]
    BadSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        id: KeyId,
    },
    /// All signatures are by strangers, so that the note says nothing.
    #[error("none of the note's {signatures} signatures is by one of the {keys} known keys")]
    NoKnownKey {
        /// How many signatures the note has.
        signatures: usize,
        /// How many keys are known.
        keys: usize,
    },
}

/// A text with signatures, which need not be good until [`Note::verify`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// Puts a text and its signatures together.
    ///
    /// # Errors
    /// If the text does not end in a newline or has control characters, if there is no
    /// signature or more than [`SIGNATURES_MAX`], or if the note is longer than
    /// [`NOTE_BYTES_MAX`].
    pub fn new(text: String, signatures: Vec<SignatureLine>) -> Result<Self, NoteError> {
        if !text.ends_with('\n') {
            return Err(NoteError::TextEnd);
        }
        check_controls(&text)?;
        check_count(signatures.len())?;
        let note = Self { text, signatures };
        check_length(note.to_text().len())?;
        Ok(note)
    }

    /// Reads a note. Its text ends before the last empty line.
    ///
    /// # Errors
    /// One for each way to be something else.
    pub fn parse(note: &[u8]) -> Result<Self, NoteError> {
        check_length(note.len())?;
        let note = std::str::from_utf8(note).map_err(|error| NoteError::NotUtf8 {
            offset: error.valid_up_to(),
        })?;
        check_controls(note)?;
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form)?;
        check_count(lines.split('\n').count())?;
        let signatures = (1_usize..).zip(lines.split('\n')).map(|(number, line)| {
            SignatureLine::parse(line).map_err(|source| NoteError::Line { number, source })
        });
        Ok(Self {
            text: format!("{text}\n"),
            signatures: signatures.collect::<Result<_, _>>()?,
        })
    }

    /// The note as text, byte for byte what [`Note::parse`] has read.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut note = format!("{}\n", self.text);
        for line in &self.signatures {
            note.push_str(&line.to_string());
            note.push('\n');
        }
        note
    }

    /// The text that the signatures cover. It says nothing before [`Note::verify`].
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures.
    #[must_use]
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// Which of `keys` have signed the text, each counted once. Signatures whose name and
    /// id together are no known key's are ignored.
    ///
    /// # Errors
    /// If a signature by one of `keys` does not verify, or if there is none.
    pub fn verify<'k>(
        &self,
        keys: &'k [NoteKey],
    ) -> Result<BTreeSet<&'k NoteKey>, VerifyNoteError> {
        let mut signers = BTreeSet::new();
        for key in keys {
            for line in self.signatures.iter().filter(|line| line.is_by(key)) {
                self.verify_line(line, key)?;
                signers.insert(key);
            }
        }
        if signers.is_empty() {
            return Err(VerifyNoteError::NoKnownKey {
                signatures: self.signatures.len(),
                keys: keys.len(),
            });
        }
        Ok(signers)
    }

    fn verify_line(&self, line: &SignatureLine, key: &NoteKey) -> Result<(), VerifyNoteError> {
        let signature = line.signature.as_slice().try_into().ok();
        signature
            .and_then(|signature| key.key.verify(self.text.as_bytes(), signature).ok())
            .ok_or_else(|| VerifyNoteError::BadSignature {
                name: key.name.clone(),
                id: key.id,
            })
    }
}

fn check_length(found: usize) -> Result<(), NoteError> {
    if found > NOTE_BYTES_MAX {
        return Err(NoteError::TooLong { found });
    }
    Ok(())
}

fn check_controls(text: &str) -> Result<(), NoteError> {
    let control = |char| is_control(char) && char != '\n';
    match text.find(control) {
        Some(offset) => Err(NoteError::Control { offset }),
        None => Ok(()),
    }
}

fn check_count(found: usize) -> Result<(), NoteError> {
    if found == 0 || found > SIGNATURES_MAX {
        return Err(NoteError::Signatures { found });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
