//! A node in memory: a ledger over tables, one entry after the other, with faults to order.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aegis_api::*;
use aegis_crypto::Digest;
use aegis_ledger::*;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, watch};

/// The tables, as they were at one index.
#[derive(Clone, Default)]
pub struct Tables(Arc<BTreeMap<Row, Vec<u8>>>);

/// A table and a key in it.
type Row = (u8, Vec<u8>);

impl Tables {
    pub fn write(&mut self, changes: Vec<Change>) {
        let rows = Arc::make_mut(&mut self.0);
        for change in changes {
            let key = (change.table.id(), change.key);
            match change.value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
    }

    /// Alters a row behind the ledger's back.
    pub fn alter(&mut self, table: Table, key: &[u8], alter: impl FnOnce(&mut Vec<u8>)) {
        let rows = Arc::make_mut(&mut self.0);
        alter(rows.get_mut(&(table.id(), key.to_vec())).unwrap());
    }
}

impl Archive for Tables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ArchiveError> {
        Ok(self.0.get(&(table.id(), key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        let end = match to {
            Some(to) => (table.id(), to.to_vec()),
            None => (table.id() + 1, Vec::new()),
        };
        let start = (table.id(), from.to_vec());
        if start >= end {
            return Ok(());
        }
        let range = self.0.range((Bound::Included(start), Bound::Excluded(end)));
        let mut rows: Box<dyn Iterator<Item = _>> = match order {
            Order::Ascending => Box::new(range),
            Order::Descending => Box::new(range.rev()),
        };
        let _ = rows.try_for_each(|((_, key), value)| visit(key, value));
        Ok(())
    }
}

pub struct State {
    pub ledger: Ledger,
    pub tables: Tables,
    pub index: u64,
}

/// What goes wrong, as long as it is set.
#[derive(Default)]
pub struct Faults {
    pub submit: Option<fn() -> SubmitError>,
    pub read: Option<fn() -> ReadError>,
    pub change: Option<fn() -> ChangeError>,
    pub snapshot: Option<fn() -> SnapshotError>,
    pub unready: bool,
    pub panic: bool,
    pub unreadable: bool,
    /// What stale views show instead of the newest state.
    pub behind: Option<(Tables, u64)>,
}

pub struct TestNode {
    pub genesis: Genesis,
    pub state: Mutex<State>,
    pub faults: Mutex<Faults>,
    pub members: Mutex<Vec<Member>>,
    /// Its seat in the committee.
    pub seat: Mutex<Option<SeatStanding>>,
    pub contradictions: Mutex<Vec<Contradiction>>,
    /// What was asked of the cluster.
    pub orders: Mutex<Vec<String>>,
    /// Ledger time, Unix milliseconds.
    pub now: AtomicU64,
    /// How many entries were submitted.
    pub submitted: AtomicU64,
    /// Linearizable views handed out.
    pub linearizable: AtomicU64,
    /// Submissions take a permit each; closing it would fail them.
    pub gate: Semaphore,
    events: watch::Sender<u64>,
}

impl TestNode {
    pub fn new(genesis: Genesis) -> Arc<Self> {
        let ledger = Ledger::load(&Tables::default(), &genesis).unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        Arc::new(Self {
            genesis,
            state: Mutex::new(State {
                ledger,
                tables: Tables::default(),
                index: 0,
            }),
            faults: Mutex::default(),
            members: Mutex::new(vec![member(1, MemberRole::Voter)]),
            seat: Mutex::default(),
            contradictions: Mutex::default(),
            orders: Mutex::default(),
            now: AtomicU64::new(u64::try_from(now.as_millis()).unwrap()),
            submitted: AtomicU64::new(0),
            linearizable: AtomicU64::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            events: watch::Sender::new(0),
        })
    }

    /// Applies an entry as if it came from another node.
    pub fn apply(&self, entry: Entry) -> Answer {
        let mut state = self.state.lock().unwrap();
        state.index += 1;
        let (index, stamp) = (
            LogIndex(state.index),
            LedgerTime(self.now.load(Ordering::SeqCst)),
        );
        let tables = state.tables.clone();
        // An entry travels as bytes.
        let entry = Entry::decode(&entry.encode()).unwrap();
        let applied = state.ledger.apply(&tables, index, stamp, entry).unwrap();
        drop(tables);
        state.tables.write(applied.changes);
        let events = query::core(&state.tables).unwrap().events;
        drop(state);
        self.events.send_replace(events);
        applied.answer
    }

    pub fn advance(&self, ms: u64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn now_s(&self) -> i64 {
        i64::try_from(self.now.load(Ordering::SeqCst) / 1_000).unwrap()
    }

    pub fn tables(&self) -> Tables {
        self.state.lock().unwrap().tables.clone()
    }

    pub fn index(&self) -> u64 {
        self.state.lock().unwrap().index
    }

    pub fn faulty(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.faults.lock().unwrap());
    }

    /// Stale views show from now on what is there now.
    pub fn fall_behind(&self) {
        let state = self.state.lock().unwrap();
        let behind = (state.tables.clone(), state.index);
        self.faults.lock().unwrap().behind = Some(behind);
    }

    fn order(&self, order: String) -> Result<(), ChangeError> {
        self.orders.lock().unwrap().push(order);
        match self.faults.lock().unwrap().change {
            Some(fault) => Err(fault()),
            None => Ok(()),
        }
    }
}

pub fn member(id: u64, role: MemberRole) -> Member {
    Member {
        id: NodeId(id),
        name: format!("n{id}"),
        role,
        peer_address: format!("127.0.0.1:{}", 8_004 + 10 * (id - 1)),
        api_address: format!("127.0.0.1:{}", 8_003 + 10 * (id - 1)),
        state: if id == 1 {
            MemberState::Leading
        } else {
            MemberState::Following
        },
        lag: Some(0),
        silent_for: None,
    }
}

pub const SNAPSHOT: &[u8] = b"everything that was decided";

impl Governance for TestNode {
    fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    fn submit(&self, entry: Entry) -> BoxFuture<'_, Result<Answer, SubmitError>> {
        Box::pin(async move {
            self.submitted.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            if let Some(fault) = self.faults.lock().unwrap().submit {
                return Err(fault());
            }
            Ok(self.apply(entry))
        })
    }

    fn view(&self, consistency: Consistency) -> BoxFuture<'_, Result<View, ReadError>> {
        Box::pin(async move {
            let faults = self.faults.lock().unwrap();
            if let Some(fault) = faults
                .read
                .filter(|_| consistency == Consistency::Linearizable)
            {
                return Err(fault());
            }
            if let Some((tables, index)) = faults
                .behind
                .as_ref()
                .filter(|_| consistency == Consistency::Stale)
            {
                return Ok(View {
                    archive: Box::new(tables.clone()),
                    index: LogIndex(*index),
                });
            }
            if consistency == Consistency::Linearizable {
                self.linearizable.fetch_add(1, Ordering::SeqCst);
            }
            let state = self.state.lock().unwrap();
            Ok(View {
                archive: Box::new(state.tables.clone()),
                index: LogIndex(state.index),
            })
        })
    }

    fn applied_index(&self) -> LogIndex {
        LogIndex(self.index())
    }

    fn event_numbers(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    fn status(&self) -> NodeStatus {
        let panic = self.faults.lock().unwrap().panic;
        assert!(!panic, "as ordered");
        let index = LogIndex(self.index());
        NodeStatus {
            id: NodeId(1),
            name: "n1".to_owned(),
            incarnation: 0,
            role: Role::Leader,
            leader: Some(NodeId(1)),
            term: 3,
            last_index: index,
            committed_index: index,
            applied_index: index,
            members: self.members.lock().unwrap().clone(),
            free_bytes: 1 << 40,
            alarms: vec![Alarm {
                code: "test".to_owned(),
                detail: "an alarm".to_owned(),
            }],
            version: "0.0.0".to_owned(),
        }
    }

    fn seat(&self) -> Option<SeatStanding> {
        self.seat.lock().unwrap().clone()
    }

    fn contradictions(&self) -> Result<Vec<Contradiction>, ArchiveError> {
        if self.faults.lock().unwrap().unreadable {
            let reason = "as ordered".to_owned();
            return Err(ArchiveError { reason });
        }
        Ok(self.contradictions.lock().unwrap().clone())
    }

    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>, ChangeError>> {
        Box::pin(async move { Ok(self.members.lock().unwrap().clone()) })
    }

    fn transfer_leader(
        &self,
        to: NodeId,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Leadership, ChangeError>> {
        Box::pin(async move {
            self.order(format!("transfer {to} {}", deadline.as_millis()))?;
            Ok(Leadership {
                leader: to,
                term: 4,
            })
        })
    }

    fn add_learner(&self, learner: NewLearner) -> BoxFuture<'_, Result<(), ChangeError>> {
        Box::pin(async move {
            self.order(format!(
                "learner {} {} {} {}",
                learner.id, learner.name, learner.peer_address, learner.api_address
            ))
        })
    }

    fn promote(&self, node: NodeId) -> BoxFuture<'_, Result<(), ChangeError>> {
        Box::pin(async move { self.order(format!("promote {node}")) })
    }

    fn remove(&self, node: NodeId) -> BoxFuture<'_, Result<(), ChangeError>> {
        Box::pin(async move { self.order(format!("remove {node}")) })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<SnapshotStream, SnapshotError>> {
        Box::pin(async move {
            if let Some(fault) = self.faults.lock().unwrap().snapshot {
                return Err(fault());
            }
            let pieces = SNAPSHOT.chunks(5).map(Bytes::from_static).map(Ok);
            let pieces: Vec<std::io::Result<Bytes>> = pieces.collect();
            Ok(SnapshotStream {
                len: u64::try_from(SNAPSHOT.len()).unwrap(),
                digest: Digest::of(SNAPSHOT),
                index: LogIndex(self.index()),
                stream: futures::stream::iter(pieces).boxed(),
            })
        })
    }

    fn liveness(&self) -> Vec<HealthPart> {
        vec![HealthPart {
            name: "process",
            ok: true,
            detail: "it serves".to_owned(),
        }]
    }

    fn readiness(&self) -> BoxFuture<'_, Vec<HealthPart>> {
        Box::pin(async move {
            vec![HealthPart {
                name: "leader",
                ok: !self.faults.lock().unwrap().unready,
                detail: "node 1".to_owned(),
            }]
        })
    }
}
