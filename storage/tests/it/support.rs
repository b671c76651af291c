//! What the tests share: a data folder, and short ways to write to a store.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use aegis_crypto::Digest;
use aegis_ledger::{Archive, Change, Order, Table};
use aegis_storage::{
    Applied, AppliedReport, CommitteeChange, FatalError, Identity, LogRecord, Observer, OpenError,
    Options, Store, SyncedReport,
};
use bytes::Bytes;
use tempfile::TempDir;

pub(crate) fn identity() -> Identity {
    Identity {
        cluster_id: Digest::of("cluster"),
        node_id: 1,
        incarnation: 0,
        store_id: [7; 16],
    }
}

/// Remembers what the store reports.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    pub(crate) synced: Mutex<Vec<SyncedReport>>,
    pub(crate) applied: Mutex<Vec<AppliedReport>>,
}

impl Observer for Reports {
    fn synced(&self, report: &SyncedReport) {
        self.synced.lock().unwrap().push(*report);
    }

    fn applied(&self, report: &AppliedReport) {
        self.applied.lock().unwrap().push(*report);
    }
}

impl Reports {
    pub(crate) fn syncs(&self) -> usize {
        self.synced.lock().unwrap().len()
    }
}

/// A data folder that is removed at the end, with options whose fatal hook remembers.
pub(crate) struct Folder {
    root: TempDir,
    pub(crate) options: Options,
    pub(crate) reports: Arc<Reports>,
    pub(crate) fatal: Arc<Mutex<Vec<FatalError>>>,
}

impl Folder {
    /// A folder with an empty store in it.
    pub(crate) fn new() -> Self {
        let folder = Self::without_store(TempDir::new().unwrap());
        Store::create(&folder.path(), &identity()).unwrap();
        folder
    }

    pub(crate) fn without_store(root: TempDir) -> Self {
        let reports = Arc::new(Reports::default());
        let fatal = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&fatal);
        let options = Options {
            memtable_bytes: 4 << 20,
            block_cache_bytes: 1 << 20,
            ballast_bytes: 1 << 20,
            log_tail_bytes: 256,
            on_fatal: Arc::new(move |error| seen.lock().unwrap().push(error.clone())),
            observer: Arc::clone(&reports) as Arc<dyn Observer>,
            ..Options::default()
        };
        Self {
            root,
            options,
            reports,
            fatal,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<Store, OpenError> {
        Store::open(&self.path(), &self.options)
    }

    /// What a node finds after it was killed now: the files as they are. RocksDB may
    /// remove old files meanwhile, so it copies until nothing has changed under way.
    pub(crate) fn crash_copy(&self) -> Self {
        loop {
            let copy = Self::without_store(TempDir::new().unwrap());
            let before = listing(&self.path());
            let copied = copy_dir(&self.path(), &copy.path());
            if copied.is_ok()
                && before.is_ok_and(|before| Some(before) == listing(&self.path()).ok())
            {
                return copy;
            }
        }
    }

    /// Lets a closure change the database behind the store's back.
    pub(crate) fn edit(&self, change: impl FnOnce(&RawDb)) {
        let path = self.path().join("db");
        let options = rocksdb::Options::default();
        let columns = RawDb::list_cf(&options, &path).unwrap();
        change(&RawDb::open_cf(&options, &path, columns).unwrap());
    }

    /// Names of the database's column families.
    pub(crate) fn columns(&self) -> Vec<String> {
        RawDb::list_cf(&rocksdb::Options::default(), self.path().join("db")).unwrap()
    }

    /// Files of the database with an extension, oldest first.
    pub(crate) fn db_files(&self, extension: &str) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.path().join("db"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect();
        files.sort();
        files
    }
}

pub(crate) type RawDb = rocksdb::DBWithThreadMode<rocksdb::MultiThreaded>;

/// Every file below a folder, with its length and time of change.
fn listing(dir: &Path) -> io::Result<Vec<(PathBuf, u64, SystemTime)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            files.extend(listing(&entry.path())?);
        } else {
            files.push((entry.path(), metadata.len(), metadata.modified()?));
        }
    }
    files.sort();
    Ok(files)
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Flips one bit of a file.
pub(crate) fn flip(path: &Path, position: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[position] ^= 1;
    fs::write(path, bytes).unwrap();
}

pub(crate) fn record(index: u64, payload: &str) -> LogRecord {
    LogRecord {
        index,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

/// Entries whose payloads tell their index.
pub(crate) fn records(indices: std::ops::Range<u64>) -> Vec<LogRecord> {
    indices
        .map(|index| record(index, &format!("entry {index}")))
        .collect()
}

/// Appends and waits until it is durable.
pub(crate) fn append(store: &Store, records: Vec<LogRecord>) {
    let (done, answer) = mpsc::sync_channel(1);
    store
        .append(records, Box::new(move |result| done.send(result).unwrap()))
        .unwrap();
    answer.recv().unwrap().unwrap();
}

/// Saves a vote and waits until it, and all before it, is durable.
pub(crate) fn save_vote(store: &Store, vote: &str) {
    let (done, answer) = mpsc::sync_channel(1);
    let vote = Bytes::copy_from_slice(vote.as_bytes());
    store
        .save_vote(vote, Box::new(move |result| done.send(result).unwrap()))
        .unwrap();
    answer.recv().unwrap().unwrap();
}

/// A record that is put.
pub(crate) fn keep(key: &str, value: &str) -> CommitteeChange {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    (bytes(key), Some(bytes(value)))
}

/// A record that is deleted.
pub(crate) fn forget(key: &str) -> CommitteeChange {
    (Bytes::copy_from_slice(key.as_bytes()), None)
}

/// Changes records of the committee and waits for the answer.
pub(crate) fn write_committee(store: &Store, changes: Vec<CommitteeChange>) {
    let (done, answer) = mpsc::sync_channel(1);
    store
        .committee_write(changes, Box::new(move |result| done.send(result).unwrap()))
        .unwrap();
    answer.recv().unwrap().unwrap();
}

/// The records of the committee, as text.
pub(crate) fn committee(store: &Store) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let records = store.committee_records().unwrap().into_iter();
    records
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}

/// Holds the writer's thread in a callback until it is released.
pub(crate) struct HeldWriter {
    release: SyncSender<()>,
}

impl HeldWriter {
    pub(crate) fn hold(store: &Store) -> Self {
        let (release, released): (_, Receiver<()>) = mpsc::sync_channel(1);
        let (holding, held) = mpsc::sync_channel(1);
        store
            .save_vote(
                Bytes::from_static(b"hold"),
                Box::new(move |result| {
                    result.unwrap();
                    holding.send(()).unwrap();
                    released.recv().unwrap();
                }),
            )
            .unwrap();
        held.recv().unwrap();
        Self { release }
    }

    pub(crate) fn release(self) {
        self.release.send(()).unwrap();
    }
}

pub(crate) fn put(table: Table, key: &[u8], value: &[u8]) -> Change {
    Change {
        table,
        key: key.to_vec(),
        value: Some(value.to_vec()),
    }
}

pub(crate) fn delete(table: Table, key: &[u8]) -> Change {
    Change {
        table,
        key: key.to_vec(),
        value: None,
    }
}

pub(crate) fn applied(index: u64) -> Applied {
    Applied {
        index,
        bytes: Bytes::from(format!("log id {index}")),
    }
}

/// Everything in the tables.
pub(crate) fn dump(archive: &dyn Archive) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for table in Table::ALL {
        archive
            .scan(table, &[], None, Order::Ascending, &mut |key, value| {
                all.push((table, key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    all
}

/// The whole log.
pub(crate) fn read_all(store: &Store) -> Vec<LogRecord> {
    store.read_log(0..u64::MAX, usize::MAX).unwrap()
}
