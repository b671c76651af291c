//! What the disk costs: a durable append, committing applied entries, and a snapshot written,
//! verified and installed. Run with `make bench`; the folder is made where `TMPDIR` says,
//! which must be a disk for the figures to mean anything.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::sync::mpsc;

use aegis_crypto::Digest;
use aegis_ledger::{Change, Table};
use aegis_storage::{Applied, Identity, LogRecord, Options, Store, save_atomic, verify};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;

/// About what a ballot takes in the log.
const ENTRY_BYTES: usize = 800;
/// Records of the snapshot, each of [`ENTRY_BYTES`].
const RECORDS: u64 = 100_000;

fn create(folder: &TempDir, name: &str) -> Store {
    let path = folder.path().join(name);
    let identity = Identity {
        cluster_id: Digest::of("bench"),
        node_id: 1,
        incarnation: 0,
        store_id: [1; 16],
    };
    Store::create(&path, &identity).unwrap();
    Store::open(&path, &Options::default()).unwrap()
}

/// Bytes that do not compress.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(ENTRY_BYTES);
    while bytes.len() < ENTRY_BYTES {
        bytes.extend(next());
    }
    bytes
}

fn append(store: &Store, from: u64, count: u64) {
    let records = (from..from + count)
        .map(|index| LogRecord {
            index,
            payload: Bytes::from(noise(index)),
        })
        .collect();
    let (done, durable) = mpsc::sync_channel(1);
    store
        .append(records, Box::new(move |result| done.send(result).unwrap()))
        .unwrap();
    durable.recv().unwrap().unwrap();
}

fn log(criterion: &mut Criterion) {
    let folder = TempDir::new().unwrap();
    let mut group = criterion.benchmark_group("log");
    for count in [1, 16, 256] {
        let store = create(&folder, &format!("log-{count}"));
        let mut next = 0;
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("durable_append_of_{count}"), |bencher| {
            bencher.iter(|| {
                append(&store, next, count);
                next += count;
            });
        });
    }
    group.finish();
}

/// Appends an entry for each change and applies it.
fn fill(store: &Store, records: u64) {
    for (index, first) in (0..).zip((0..records).step_by(1_000)) {
        append(store, index, 1);
        let changes: Vec<_> = (first..records.min(first + 1_000)).map(change).collect();
        store.commit_state(&changes, &applied(index)).unwrap();
    }
}

fn change(record: u64) -> Change {
    Change {
        table: Table::Ballots,
        key: record.to_be_bytes().to_vec(),
        value: Some(noise(record)),
    }
}

fn applied(index: u64) -> Applied {
    Applied {
        index,
        bytes: Bytes::from_static(b"position"),
    }
}

fn state(criterion: &mut Criterion) {
    let folder = TempDir::new().unwrap();
    let store = create(&folder, "state");
    let mut group = criterion.benchmark_group("state");
    let mut index = 0;
    group.throughput(Throughput::Elements(256));
    group.bench_function("commit_256_changes", |bencher| {
        bencher.iter_batched(
            || {
                append(&store, index, 1);
                index += 1;
                let changes = (0..256).map(|record| change(index * 256 + record));
                (changes.collect::<Vec<_>>(), applied(index - 1))
            },
            |(changes, applied)| store.commit_state(&changes, &applied).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn snapshot(criterion: &mut Criterion) {
    let folder = TempDir::new().unwrap();
    let source = create(&folder, "source");
    fill(&source, RECORDS);
    let target = create(&folder, "target");
    let file = folder.path().join("file.snapshot");
    let mut group = criterion.benchmark_group(format!("snapshot_of_{RECORDS}"));
    group.sample_size(10);
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("view", |bencher| bencher.iter(|| black_box(source.view())));
    group.bench_function("save", |bencher| {
        bencher.iter(|| save_atomic(&source.view(), &file).unwrap())
    });
    group.bench_function("verify", |bencher| bencher.iter(|| verify(&file).unwrap()));
    group.bench_function("install", |bencher| {
        bencher.iter(|| target.install(&file).unwrap())
    });
    group.finish();
}

criterion_group!(benches, log, state, snapshot);
criterion_main!(benches);
