//! Snapshots: views of the tables, written to a file when a follower needs one, sent in
//! pieces, and installed.
//!
//! The tables are on disk as they are applied, so this node's own snapshot costs nothing: it
//! is a view, and the log behind it can be purged. Only a follower that lacks purged entries
//! needs a file. While one is sent, no newer snapshot is taken, so that the entries that the
//! follower will need next are not purged meanwhile.
//!
//! A transfer is offered by digest and size. The follower answers from which offset it lacks
//! the file, so that a transfer that broke off goes on where it ended, also after a restart
//! of either side. Both sides hold one piece in memory. The follower verifies the whole file
//! against the digest before it hands it to the core.
//!
//! A file serves as this node's snapshot only if the applied position covers it: one that was
//! received and then not installed must not come to life at the next start, behind the back
//! of the log that it may contradict.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aegis_crypto::Digest;
use aegis_peers::{NodeId, PeerError, Peers, Refusal};
use aegis_storage::{
    SaveError, SnapshotFile, SnapshotHeader, SnapshotReader, SnapshotReceiver, Store, View,
};
use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{NetworkError, StreamingError};
use openraft::raft::SnapshotResponse;
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{RaftSnapshotBuilder, Snapshot};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::disk::{AppliedState, DiskError};
use crate::network::rpc_error;
use crate::observer::Observer;
use crate::state::Core;
use crate::types::{Types, Vote};
use crate::wire::{
    self, Blob, CHUNK_BYTES, SNAPSHOT, SnapshotAnswer, SnapshotResult, SnapshotStep,
};

/// What openraft passes around as the data of a snapshot.
pub(crate) enum SnapshotData {
    /// The tables of this node as they were at the snapshot's position.
    View(View),
    /// A finished file.
    File(SnapshotFile),
}

type RaftSnapshot = SnapshotOf<Types, SnapshotData>;

/// A log that has this many entries is purged although a follower may need them.
const ENTRIES_HELD_MAX: u64 = 1_000_000;

/// The snapshots of this node; cheap to clone.
#[derive(Clone)]
pub(crate) struct Snapshots {
    store: Store,
    observer: Arc<dyn Observer>,
    /// Held while a file is written. Whoever comes second may find the file it needs.
    writing: Arc<Mutex<()>>,
    /// Transfers to followers that are under way.
    sending: Arc<AtomicUsize>,
}

impl Snapshots {
    pub(crate) fn new(store: Store, observer: Arc<dyn Observer>) -> Self {
        Self {
            store,
            observer,
            writing: Arc::default(),
            sending: Arc::default(),
        }
    }

    /// A builder for the state as it is now; none while a follower is sent a snapshot.
    pub(crate) fn builder(&self) -> Option<SnapshotBuilder> {
        (!self.is_log_held()).then(|| self.required_builder())
    }

    /// A builder for the state as it is now.
    pub(crate) fn required_builder(&self) -> SnapshotBuilder {
        SnapshotBuilder(self.store.view())
    }

    /// Whether a follower that is being sent a snapshot needs the log behind it.
    fn is_log_held(&self) -> bool {
        let bounds = self.store.log_bounds();
        let entries = bounds.first.zip(bounds.last);
        let entries = entries.map_or(0, |(first, last)| last.saturating_sub(first));
        self.sending.load(Ordering::Relaxed) > 0 && entries < ENTRIES_HELD_MAX
    }

    /// The newest file from which the log goes on, or else the state as it is now.
    pub(crate) async fn current(&self) -> io::Result<Option<RaftSnapshot>> {
        let store = self.store.clone();
        blocking(move || {
            let view = store.view();
            let Some(applied) = view.applied().map_err(io::Error::other)? else {
                return Ok(None);
            };
            let first = store.log_bounds().first;
            let file = store.snapshots().list()?.into_iter().rfind(|file| {
                file.index <= applied.index && first.is_some_and(|first| first <= file.index + 1)
            });
            file.map_or_else(|| of_view(view), open).map(Some)
        })
        .await
    }

    /// The file of a snapshot, written now if it is a view.
    pub(crate) async fn file(&self, data: SnapshotData) -> Result<SnapshotFile, SaveError> {
        let view = match data {
            SnapshotData::File(file) => return Ok(file),
            SnapshotData::View(view) => view,
        };
        let _writing = self.writing.lock().await;
        let (store, observer) = (self.store.clone(), Arc::clone(&self.observer));
        let written = spawn_blocking(move || {
            let index = view.applied()?.ok_or(SaveError::NothingApplied)?.index;
            let files = store.snapshots().list()?;
            if let Some(file) = files.into_iter().find(|file| file.index == index) {
                return Ok(file);
            }
            let began = Instant::now();
            let (file, _) = store.snapshots().save(&view)?;
            tracing::info!(index, bytes = file.bytes, "snapshot written for a follower");
            observer.snapshot_written(file.bytes, began.elapsed());
            Ok(file)
        });
        written.await.map_err(io::Error::other)?
    }

    /// Replaces the tables by those of a snapshot.
    pub(crate) async fn install(
        &self,
        meta: &SnapshotMetaOf<Types>,
        data: SnapshotData,
    ) -> io::Result<()> {
        let began = Instant::now();
        // What openraft has this node install was received from a leader.
        let SnapshotData::File(file) = data else {
            return Err(io::Error::other(OwnView));
        };
        let (store, bytes) = (self.store.clone(), file.bytes);
        let info = blocking(move || store.install(&file.path).map_err(io::Error::other)).await?;
        let found = meta_of(&info.header).map_err(io::Error::other)?;
        if found.last_log_id != meta.last_log_id {
            let (expected, found) = (
                format!("{:?}", meta.last_log_id),
                format!("{:?}", found.last_log_id),
            );
            return Err(io::Error::other(OtherPosition { expected, found }));
        }
        tracing::info!(
            index = info.header.applied.index,
            bytes,
            "snapshot installed"
        );
        self.observer.snapshot_installed(bytes, began.elapsed());
        Ok(())
    }
}

/// A snapshot reflects another position than it was announced with.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot reflects {found}, it was announced with {expected}")]
struct OtherPosition {
    expected: String,
    found: String,
}

/// A node would install its own state.
#[derive(Debug, thiserror::Error)]
#[error("a view of this node's own tables cannot be installed")]
struct OwnView;

/// Takes one snapshot, from a view that later writes do not touch.
pub(crate) struct SnapshotBuilder(View);

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        of_view(self.0.clone())
    }
}

/// The snapshot that a view shows; where nothing was applied, that of nothing.
fn of_view(view: View) -> io::Result<RaftSnapshot> {
    let applied = view.applied().map_err(io::Error::other)?;
    let state = AppliedState::decode(applied.as_ref()).map_err(io::Error::other)?;
    Ok(Snapshot {
        meta: state.into_meta(),
        snapshot: SnapshotData::View(view),
    })
}

fn meta_of(header: &SnapshotHeader) -> Result<SnapshotMetaOf<Types>, DiskError> {
    AppliedState::decode(Some(&header.applied)).map(AppliedState::into_meta)
}

/// The snapshot in a finished file, whose header is read and checked.
fn open(file: SnapshotFile) -> io::Result<RaftSnapshot> {
    let reader = SnapshotReader::new(file.open()?).map_err(io::Error::other)?;
    let meta = meta_of(reader.header()).map_err(io::Error::other)?;
    Ok(Snapshot {
        meta,
        snapshot: SnapshotData::File(file),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Why a snapshot could not be sent. openraft tries again.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("cannot write the snapshot")]
    Save(#[from] SaveError),
    #[error("cannot read the snapshot")]
    Read(#[from] io::Error),
    #[error("the snapshot is empty")]
    Empty,
    #[error("the answer to a step of the snapshot cannot be read")]
    Answer(#[from] wire::WireError),
    #[error("node {to} asks for the snapshot from {offset}, and it has {bytes} bytes")]
    Offset { to: NodeId, offset: u64, bytes: u64 },
    #[error("node {to} did not install the whole snapshot and asks for it from {offset}")]
    NotInstalled { to: NodeId, offset: u64 },
}

impl From<SendError> for StreamingError<Types> {
    fn from(error: SendError) -> Self {
        NetworkError::new(&error).into()
    }
}

/// Counts a transfer while it is under way.
struct Sending<'a>(&'a AtomicUsize);

impl<'a> Sending<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends a snapshot to a follower and waits until it is installed. Each step may take
/// `step_timeout`.
pub(crate) async fn send(
    snapshots: &Snapshots,
    peers: &Peers,
    to: NodeId,
    leader: Vote,
    snapshot: RaftSnapshot,
    step_timeout: Duration,
) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
    let _sending = Sending::begin(&snapshots.sending);
    let last = snapshot.meta.last_log_id.ok_or(SendError::Empty)?;
    let file = snapshots.file(snapshot.snapshot).await;
    let file = file.map_err(SendError::from)?;
    let SnapshotFile { digest, bytes, .. } = file;
    let file = Arc::new(
        blocking(move || file.open())
            .await
            .map_err(SendError::from)?,
    );
    let step = async |step: SnapshotStep<'_>| -> Result<SnapshotResult, StreamingError<Types>> {
        let digest = *digest.as_bytes();
        let body = wire::encode(&wire::Snapshot::V1 {
            leader: leader.into(),
            last: last.into(),
            digest,
            step,
        });
        let answer = peers.call(to, SNAPSHOT, body, step_timeout).await;
        let answer = answer.map_err(|error: PeerError| StreamingError::from(rpc_error(&error)))?;
        let SnapshotAnswer::V1(result) = wire::decode(&answer).map_err(SendError::from)?;
        Ok(result)
    };

    let mut result = step(SnapshotStep::Offer { bytes }).await?;
    loop {
        result = match result {
            SnapshotResult::Done { vote } | SnapshotResult::Outvoted { vote } => {
                return Ok(SnapshotResponse::new(vote.into()));
            }
            SnapshotResult::SendFrom { offset } if offset > bytes => {
                return Err(SendError::Offset { to, offset, bytes }.into());
            }
            SnapshotResult::SendFrom { offset } if offset == bytes => {
                match step(SnapshotStep::Install).await? {
                    SnapshotResult::SendFrom { offset } => {
                        return Err(SendError::NotInstalled { to, offset }.into());
                    }
                    done => done,
                }
            }
            SnapshotResult::SendFrom { offset } => {
                let piece = read_piece(Arc::clone(&file), offset, bytes)
                    .await
                    .map_err(SendError::from)?;
                step(SnapshotStep::Chunk {
                    offset,
                    data: Blob(&piece),
                })
                .await?
            }
        };
    }
}

async fn read_piece(file: Arc<std::fs::File>, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(bytes - offset)
        .unwrap_or(usize::MAX)
        .min(CHUNK_BYTES);
    blocking(move || {
        let mut piece = vec![0; length];
        file.read_exact_at(&mut piece, offset)?;
        Ok(piece)
    })
    .await
}

/// A transfer under way, on the side of the follower.
struct Transfer {
    digest: Digest,
    receiver: SnapshotReceiver,
}

/// Receives snapshots, one at a time.
pub(crate) struct Receiver {
    core: Core,
    store: Store,
    transfer: Mutex<Option<Transfer>>,
}

impl Receiver {
    pub(crate) fn new(core: Core, store: Store) -> Self {
        Self {
            core,
            store,
            transfer: Mutex::new(None),
        }
    }

    /// Answers one step of a transfer.
    pub(crate) async fn step(&self, from: NodeId, body: Bytes) -> Result<Bytes, Refusal> {
        let wire::Snapshot::V1 {
            leader,
            last,
            digest,
            step,
        } = wire::decode(&body).map_err(|error| error.to_refusal())?;
        let (leader, digest) = (Vote::from(leader), Digest::from_bytes(digest));
        let mut transfer = self.transfer.lock().await;
        let result = match self.outvoted(&leader) {
            Some(vote) => SnapshotResult::Outvoted { vote: vote.into() },
            None => match step {
                SnapshotStep::Offer { .. } if self.covers(last.index) => SnapshotResult::Done {
                    vote: leader.into(),
                },
                SnapshotStep::Offer { bytes } => {
                    tracing::info!(%from, index = last.index, bytes, "a snapshot is offered");
                    self.begin(&mut transfer, digest, bytes).await?
                }
                SnapshotStep::Chunk { offset, data } => {
                    let piece = body.slice_ref(data.0);
                    take_piece(&mut transfer, digest, offset, piece).await?
                }
                SnapshotStep::Install => self.install(&mut transfer, leader, digest).await?,
            },
        };
        Ok(wire::encode(&SnapshotAnswer::V1(result)))
    }

    /// This node's vote, if it is for another leader than the sender.
    fn outvoted(&self, leader: &Vote) -> Option<Vote> {
        let vote = self.core.metrics().borrow_watched().vote;
        (vote > *leader).then_some(vote)
    }

    /// Whether everything up to `index` is applied here: the answer to an earlier sending of
    /// the same snapshot was lost.
    fn covers(&self, index: u64) -> bool {
        self.core
            .metrics()
            .borrow_watched()
            .last_applied
            .is_some_and(|applied| applied.index >= index)
    }

    async fn begin(
        &self,
        transfer: &mut Option<Transfer>,
        digest: Digest,
        bytes: u64,
    ) -> Result<SnapshotResult, Refusal> {
        // A transfer of the same file is resumed from disk, another one is forgotten.
        drop(transfer.take());
        let store = self.store.clone();
        let receiver = spawn_blocking(move || store.snapshots().receive(digest, bytes)).await;
        let receiver = receiver
            .map_err(Refusal::failed)?
            .map_err(|error| refuse(&error))?;
        let offset = receiver.offset();
        *transfer = Some(Transfer { digest, receiver });
        Ok(SnapshotResult::SendFrom { offset })
    }

    async fn install(
        &self,
        transfer: &mut Option<Transfer>,
        leader: Vote,
        digest: Digest,
    ) -> Result<SnapshotResult, Refusal> {
        let Some(Transfer { receiver, .. }) = take_matching(transfer, digest) else {
            return Ok(FROM_THE_START);
        };
        let finished = spawn_blocking(move || receiver.finish())
            .await
            .map_err(Refusal::failed)?;
        let (file, _) = finished.map_err(|error| refuse(&error))?;
        let snapshot = blocking(move || open(file))
            .await
            .map_err(Refusal::failed)?;
        let response = self
            .core
            .install_full_snapshot(leader, snapshot)
            .await
            .map_err(Refusal::failed)?;
        Ok(SnapshotResult::Done {
            vote: response.vote.into(),
        })
    }
}

/// The answer to a step of a transfer that this node does not know, or not any more.
const FROM_THE_START: SnapshotResult = SnapshotResult::SendFrom { offset: 0 };

fn take_matching(transfer: &mut Option<Transfer>, digest: Digest) -> Option<Transfer> {
    transfer.take_if(|transfer| transfer.digest == digest)
}

async fn take_piece(
    transfer: &mut Option<Transfer>,
    digest: Digest,
    offset: u64,
    piece: Bytes,
) -> Result<SnapshotResult, Refusal> {
    let Some(Transfer { mut receiver, .. }) = take_matching(transfer, digest) else {
        return Err(Refusal::unavailable(
            "no transfer of this snapshot is under way",
        ));
    };
    let written = spawn_blocking(move || {
        // A piece that was sent twice is answered with where the transfer stands.
        let written = if offset == receiver.offset() {
            receiver.append(offset, &piece)
        } else {
            Ok(receiver.offset())
        };
        (receiver, written)
    });
    let (receiver, written) = written.await.map_err(Refusal::failed)?;
    *transfer = Some(Transfer { digest, receiver });
    let offset = written.map_err(|error| refuse(&error))?;
    Ok(SnapshotResult::SendFrom { offset })
}

fn refuse(error: &aegis_storage::ReceiveError) -> Refusal {
    tracing::warn!(%error, "a snapshot was not received");
    Refusal::failed(error)
}
