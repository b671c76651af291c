//! An answer as a file: whole under its name, or not there.

use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::client::Stream;
use crate::failure::{Exit, Failure};
use crate::secret::SecretError;

/// What everyone may do with a file that holds nothing secret.
const PUBLIC_MODE: u32 = 0o644;

/// Writes a long answer to a file, which everyone may read; says how many bytes it has.
/// Nothing is overwritten, and no part of an answer stands under the name.
pub(crate) async fn save(stream: &mut Stream, file: &Path) -> Result<u64, Failure> {
    let exists = || {
        let path = file.to_owned();
        Failure::failed(SecretError::Exists { path })
    };
    if file.exists() {
        return Err(exists());
    }
    let unwritten = |error| Failure::context(format!("cannot write {}", file.display()))(error);
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut partial = tempfile::Builder::new()
        .prefix(".aegis-partial-")
        .tempfile_in(folder)
        .map_err(unwritten)?;
    let (len, mut received) = (stream.len(), 0_u64);
    while let Some(piece) = stream.next().await? {
        partial.write_all(&piece).map_err(unwritten)?;
        received = received.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
    }
    if let Some(len) = len.filter(|len| *len != received) {
        let endpoint = &stream.endpoint;
        return Err(Failure::say(
            Exit::Failed,
            format_args!("{endpoint} sent {received} of {len} bytes; nothing was saved"),
        ));
    }
    let permissions = std::fs::Permissions::from_mode(PUBLIC_MODE);
    let written = partial.as_file();
    written
        .set_permissions(permissions)
        .and_then(|()| written.sync_all())
        .map_err(unwritten)?;
    partial.persist_noclobber(file).map_err(|error| {
        if error.error.kind() == io::ErrorKind::AlreadyExists {
            exists()
        } else {
            unwritten(error.error)
        }
    })?;
    Ok(received)
}
