//! A full disk, on a small file system of its own. These tests need to run as root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use aegis_storage::{FatalError, Store};
use tempfile::TempDir;

use crate::support::{
    Folder, committee, forget, identity, keep, read_all, record, write_committee,
};

/// A tmpfs that is unmounted at the end.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path, mib: u32) -> Self {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(path)
            .status()
            .unwrap();
        assert!(
            status.success(),
            "cannot mount a tmpfs; run the tests as root"
        );
        Self {
            path: path.to_owned(),
        }
    }

    /// Takes all but `left` bytes of the free space.
    fn fill(&self, left: u64) -> PathBuf {
        let stat = rustix::fs::statvfs(&self.path).unwrap();
        let path = self.path.join("filler");
        let file = File::create(&path).unwrap();
        let len = (stat.f_bavail * stat.f_frsize).saturating_sub(left);
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.path).status();
        assert!(status.unwrap().success());
    }
}

/// A store on a disk of 32 MiB.
fn small_store() -> (Folder, SmallDisk) {
    let root = TempDir::new().unwrap();
    let disk = SmallDisk::mount(root.path(), 32);
    let mut folder = Folder::without_store(root);
    folder.options.memtable_bytes = 1 << 20;
    folder.options.wal_bytes = 2 << 20;
    folder.options.ballast_bytes = 4 << 20;
    folder.options.free_floor_bytes = 4 << 20;
    Store::create(&folder.path(), &identity()).unwrap();
    (folder, disk)
}

#[test]
fn below_the_floor_the_store_says_so_until_there_is_space_again() {
    let (folder, disk) = small_store();
    let store = folder.open();
    assert!(!store.is_low_on_space());
    let filler = disk.fill(2 << 20);
    while !store.is_low_on_space() {
        std::thread::yield_now();
    }
    assert!(store.space().unwrap().below_floor);
    crate::support::append(&store, vec![record(0, "small writes still succeed")]);
    assert_eq!(read_all(&store).len(), 1);
    fs::remove_file(filler).unwrap();
    while store.is_low_on_space() {
        std::thread::yield_now();
    }
    assert!(folder.fatal.lock().unwrap().is_empty());
}

#[test]
fn a_full_disk_stops_the_store_and_loses_nothing_acknowledged() {
    let (folder, disk) = small_store();
    let store = folder.open();
    let ballast = folder.path().join("ballast");
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 4 << 20);
    let filler = disk.fill(1 << 20);
    let payload = "x".repeat(64 << 10);
    let mut acknowledged = 0;
    loop {
        let (done, answer) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |result| done.send(result).unwrap());
        let queued = store.append(vec![record(acknowledged, &payload)], done);
        if queued.is_err() || answer.recv().unwrap().is_err() {
            break;
        }
        acknowledged += 1;
    }
    drop(store);
    let fatal = folder.fatal.lock().unwrap().clone();
    assert!(
        matches!(fatal[..], [FatalError::NoSpace { .. }]),
        "{fatal:?}"
    );
    assert!(!folder.path().join("failed").exists());
    assert!(!ballast.exists(), "the ballast is given back");

    // The disk is still full, but for the ballast.
    let store = folder.open();
    assert!(read_all(&store).len() as u64 >= acknowledged);
    drop(store);
    assert!(
        !ballast.exists(),
        "the ballast is not taken below the floor"
    );

    fs::remove_file(filler).unwrap();
    let store = folder.open();
    assert!(ballast.exists());
    let next = store.log_bounds().last.unwrap() + 1;
    crate::support::append(&store, vec![record(next, "goes on")]);
}

#[test]
fn a_full_disk_forgets_no_record_of_the_committee() {
    let (mut folder, disk) = small_store();
    // It is the write-ahead log that meets the end of the disk, not a flush in the background.
    folder.options.memtable_bytes = 32 << 20;
    let store = folder.open();
    let filler = disk.fill(2 << 20);
    while !store.is_low_on_space() {
        std::thread::yield_now();
    }
    write_committee(&store, vec![keep("below the floor", "still taken")]);
    fs::remove_file(filler).unwrap();
    let filler = disk.fill(1 << 20);
    let value = "x".repeat(64 << 10);
    let mut expected = vec![("below the floor".to_owned(), "still taken".to_owned())];
    loop {
        let key = format!("record {:03}", expected.len());
        let (done, answer) = std::sync::mpsc::sync_channel(1);
        let done = Box::new(move |result| done.send(result).unwrap());
        let queued = store.committee_write(vec![keep(&key, &value)], done);
        if queued.is_err() || answer.recv().unwrap().is_err() {
            break;
        }
        expected.push((key, value.clone()));
    }
    drop(store);
    let fatal = folder.fatal.lock().unwrap().clone();
    assert!(
        matches!(fatal[..], [FatalError::NoSpace { .. }]),
        "{fatal:?}"
    );
    assert!(expected.len() > 1, "the premise of this test");

    // The disk is still full, but for the ballast.
    let store = folder.open();
    assert!(committee(&store).starts_with(&expected));
    write_committee(&store, vec![forget("below the floor")]);
    fs::remove_file(filler).unwrap();
}
