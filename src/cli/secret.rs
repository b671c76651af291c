//! Files that only their owner may read.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aegis_crypto::SecretKey;
use aegis_crypto::key::PemError;
use zeroize::Zeroizing;

/// Permissions of a secret file and of a folder that holds some.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// What others than the owner may do.
const OTHERS_MASK: u32 = 0o077;
/// The longest secret file, in bytes: every member of a large demonstration has a key in it.
const BYTES_MAX: u64 = 1 << 20;

/// Why a secret file is not used or not made.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others than its owner may read or change it.
    #[error(
        "{} has permissions {mode:04o}, so others than its owner may use it; run: chmod 600 {}",
        path.display(), path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is longer than any secret.
    #[error("{} has more than {BYTES_MAX} bytes; it is no secret file", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is not a private key.
    #[error("{} holds no private key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PemError,
    },
    /// It stands already.
    #[error("{} exists already and is never overwritten; remove it or choose another path", path.display())]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot create {}", path.display())]
    Create {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Reads a secret, unless others than its owner may read it too.
///
/// # Errors
/// As [`SecretError`] says.
pub fn read(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let unreadable = |source| SecretError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that it is the one that is read.
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS_MASK != 0 {
        return Err(SecretError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    if metadata.len() > BYTES_MAX {
        return Err(SecretError::TooLong {
            path: path.to_owned(),
        });
    }
    // Room for all of it at once, so that no outgrown buffer is left behind unwiped.
    let capacity = usize::try_from(metadata.len())
        .unwrap_or(0)
        .saturating_add(1);
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    file.take(BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

/// Reads a private key in PKCS#8 PEM.
///
/// # Errors
/// As [`SecretError`] says.
pub fn read_key(path: &Path) -> Result<SecretKey, SecretError> {
    SecretKey::from_pem(&read(path)?).map_err(|source| SecretError::Key {
        path: path.to_owned(),
        source,
    })
}

/// Makes a file that only its owner may read, and makes it durable. Nothing is overwritten.
///
/// # Errors
/// If it stands already or cannot be written.
pub fn create(path: &Path, secret: &str) -> Result<(), SecretError> {
    write_new(path, secret.as_bytes(), FILE_MODE)
}

/// Makes a file that everyone may read, and makes it durable. Nothing is overwritten.
pub(crate) fn create_public(path: &Path, text: &[u8]) -> Result<(), SecretError> {
    write_new(path, text, 0o644)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SecretError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| creation(path, source))
}

/// Makes a folder that only its owner may enter.
///
/// # Errors
/// If it stands already or cannot be made.
pub fn create_folder(path: &Path) -> Result<(), SecretError> {
    DirBuilder::new()
        .mode(FOLDER_MODE)
        .create(path)
        .map_err(|source| creation(path, source))
}

fn creation(path: &Path, source: io::Error) -> SecretError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::AlreadyExists => SecretError::Exists { path },
        _ => SecretError::Create { path, source },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, metadata, set_permissions};

    use super::*;

    #[test]
    fn a_secret_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        create_folder(&keys).unwrap();
        let path = keys.join("token");
        create(&path, "s3cret").unwrap();
        let mode = |path: &Path| metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&keys), mode(&path)), (0o700, 0o600));
        assert_eq!(*read(&path).unwrap(), "s3cret");
        assert!(matches!(create(&path, ""), Err(SecretError::Exists { .. })));
        assert!(matches!(
            create_folder(&keys),
            Err(SecretError::Exists { .. })
        ));

        for wider in [0o640, 0o604, 0o660, 0o777] {
            set_permissions(&path, Permissions::from_mode(wider)).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{wider:04o}")), "{error}");
            assert!(error.contains("chmod 600"), "{error}");
        }
        set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(read(&path).is_ok());
    }

    #[test]
    fn a_key_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let key = SecretKey::generate().unwrap();
        create(&path, &key.to_pem()).unwrap();
        assert_eq!(read_key(&path).unwrap().public(), key.public());

        let other = folder.path().join("other");
        create(&other, "no key").unwrap();
        assert!(matches!(read_key(&other), Err(SecretError::Key { .. })));
        let error = read_key(&folder.path().join("none")).unwrap_err();
        assert!(matches!(error, SecretError::Read { .. }));
    }
}
