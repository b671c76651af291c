//! Random bytes from the operating system.

use std::io;

/// Draws bytes that nobody can guess.
///
/// # Errors
/// A system that has none to give.
pub fn draw<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
