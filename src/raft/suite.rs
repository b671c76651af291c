//! openraft's own tests of a log and a state machine, run against the adapters.

use std::io;
use std::sync::Arc;

use aegis_crypto::Digest;
use aegis_ledger::Archive;
use aegis_storage::{Identity, Options, Store};
use futures::Stream;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{OptionalSend, StorageError};
use tempfile::TempDir;

use crate::log_store::LogStore;
use crate::machine::{Applied, Entry, Machine, MachineError, Position};
use crate::observer::NoObserver;
use crate::roster::Roster;
use crate::snapshot::{SnapshotBuilder, SnapshotData, Snapshots};
use crate::state::StateMachine;
use crate::types::{LogId, StoredMembership, Types};

/// A machine that keeps nothing.
struct Blank;

impl Machine for Blank {
    fn load(&mut self, _: &dyn Archive) -> Result<(), MachineError> {
        Ok(())
    }

    fn apply(&mut self, _: &dyn Archive, _: Entry) -> Result<Applied, MachineError> {
        Ok(Applied::default())
    }

    fn is_brief(&self, _: &Entry) -> bool {
        true
    }

    fn committed(&mut self, _: Position) {}
}

/// A state machine that is handed the file of another node and must receive it first, as it
/// would over the network.
struct Receiving {
    machine: StateMachine,
    snapshots: Snapshots,
    store: Store,
}

impl RaftStateMachine<Types> for Receiving {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.machine.applied_state().await
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        self.machine.apply(entries).await
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        self.machine.try_create_snapshot_builder(force).await
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.machine.get_snapshot_builder().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types>,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let sent = self.snapshots.file(snapshot).await.unwrap();
        let mut receiver = self
            .store
            .snapshots()
            .receive(sent.digest, sent.bytes)
            .unwrap();
        receiver.append(0, &std::fs::read(&sent.path)?).unwrap();
        let (received, _) = receiver.finish().unwrap();
        let received = SnapshotData::File(received);
        self.machine.install_snapshot(meta, received).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<Types, SnapshotData>>> {
        self.machine.get_current_snapshot().await
    }
}

struct Builder;

impl StoreBuilder<Types, LogStore, Receiving, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Receiving), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");
        let identity = Identity {
            cluster_id: Digest::of(b"suite"),
            node_id: 1,
            incarnation: 0,
            store_id: [1; 16],
        };
        Store::create(&path, &identity).unwrap();
        let store = Store::open(&path, &Options::default()).unwrap();
        let roster = Roster::open(&store).unwrap();
        let observer = Arc::new(NoObserver);
        let snapshots = Snapshots::new(store.clone(), observer.clone());
        let machine = StateMachine::start(
            Box::new(Blank),
            store.clone(),
            snapshots.clone(),
            roster,
            observer.clone(),
        )
        .await;
        let (machine, _) = machine.unwrap();
        let machine = Receiving {
            machine,
            snapshots,
            store: store.clone(),
        };
        Ok((dir, LogStore { store, observer }, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_adapters_pass_openrafts_suite() {
    Suite::test_all(Builder).await.unwrap();
}
