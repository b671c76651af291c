//! Ports that something else listens on, and what that is.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// `/proc/net/tcp`'s number of the state in which a socket listens.
const LISTEN: &str = "0A";

/// A port that cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    #[error("port {} is in use by {}", address.port(), holder.as_deref().unwrap_or("a process that cannot be seen from here"))]
    Busy {
        address: SocketAddr,
        /// The process's number and command line.
        holder: Option<String>,
    },
    #[error("cannot listen on {address}: {reason}")]
    Refused { address: SocketAddr, reason: String },
}

/// Checks that all of these can be listened on.
pub(crate) fn check(addresses: &[SocketAddr]) -> Result<(), PortError> {
    addresses
        .iter()
        .try_for_each(|address| match TcpListener::bind(address) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(PortError::Busy {
                address: *address,
                holder: holder(address.port()),
            }),
            Err(error) => Err(PortError::Refused {
                address: *address,
                reason: error.to_string(),
            }),
        })
}

/// The process that listens on a port, as far as this user may know.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let sockets: BTreeSet<String> = tables
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    processes
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|process| Path::new("/proc").join(process))
        .find(|process| has_open(process, &sockets))
        .map(|process| describe(&process))
}

/// The inodes of the sockets of a `/proc/net/tcp` table that listen on a port.
fn listening(table: &str, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            (local.ends_with(&port) && *state == LISTEN).then(|| (*inode).to_owned())
        })
        .collect()
}

fn has_open(process: &Path, sockets: &BTreeSet<String>) -> bool {
    // Another user's process does not show what it has open.
    let Ok(open) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| {
            target
                .to_str()
                .is_some_and(|target| sockets.contains(target))
        })
}

fn describe(process: &Path) -> String {
    let id = process.file_name().unwrap_or_default().to_string_lossy();
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    let words: Vec<_> = command
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    format!("process {id} ({})", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_names_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let error = check(&[address]).unwrap_err();
        let PortError::Busy {
            holder: Some(holder),
            ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert!(
            holder.starts_with(&format!("process {} (", std::process::id())),
            "{holder}"
        );
        assert!(
            error
                .to_string()
                .contains(&format!("port {} is in use", address.port()))
        );
        drop(listener);
        assert_eq!(check(&[address]), Ok(()));
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F43 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1
   1: 0100007F:1F43 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 222 1
   2: 0100007F:1F44 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 333 1
";
        assert_eq!(listening(table, 8_003), ["111"]);
        assert_eq!(listening(table, 8_004), ["333"]);
        assert!(listening(table, 80).is_empty());
    }
}
