//! The validator's thread: it takes up what came, steps the protocol, and carries out what
//! comes of that.
//!
//! One thread owns everything. While it waits for the disk, more comes in; it is taken up
//! together, so that under load many votes share a write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_crypto::certificate::Certificate;
use aegis_crypto::{Committee, Digest, SeatNo, SecretKey};
use aegis_ledger::{ArchiveError, CommitteeRecord, Epoch, Genesis, Ordinal, Verified, query};
use aegis_pbft::{
    Base, Effect, Evidence, Frame, Input, Invalid, Message, Note, OpenError, Scope, Sequence,
    Settings, Setup, SignError, Time, To, Validator, Value, Verifier,
};
use aegis_peers::{Causes, NodeId};
use aegis_storage::{CommitteeReadError, Store, View};
use bytes::Bytes;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::disk::{DiskError, KeepError, SafetyDisk};
use crate::follow::{Closing, Follower};
use crate::inbox::{Batch, Inbox};
use crate::observer::{Dropped, Observer};
use crate::outbox::Outbox;
use crate::record::{RecordError, Recorder};
use crate::standing::{SeatStanding, note};

/// How long after its turn would have come a validator records a certificate that nobody
/// else did. The primary of its view does so at once.
const RECORD_PAUSE: Duration = Duration::from_millis(150);
/// When a certificate that was not recorded is offered again.
const RECORD_RETRY: Duration = Duration::from_millis(500);

/// Why the validator ended.
#[derive(Debug, Error)]
pub enum ValidatorError {
    /// The local ledger cannot be read.
    #[error("the validator cannot read the ledger")]
    Ledger(#[from] ArchiveError),
    /// Its own records cannot be read.
    #[error("the validator cannot read what it said before")]
    Records(#[from] CommitteeReadError),
    /// The safety module cannot begin.
    #[error("the validator cannot begin")]
    Open(#[from] OpenError<DiskError>),
    /// The safety module cannot write.
    #[error("the validator cannot sign")]
    Sign(#[from] SignError<DiskError>),
    /// Evidence cannot be written.
    #[error("the validator cannot keep evidence")]
    Evidence(#[source] DiskError),
}

impl From<KeepError> for ValidatorError {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::Read(error) => Self::Records(error),
            KeepError::Write(error) => Self::Evidence(error),
        }
    }
}

/// A certificate on its way into the ledger.
struct Unrecorded {
    certificate: Arc<Certificate>,
    /// When it is to be offered; none while it is being offered.
    due: Option<Instant>,
}

/// The agreement of one epoch.
struct Session {
    epoch: u64,
    record: CommitteeRecord,
    committee: Arc<Committee>,
    scope: Scope,
    verifier: Verifier,
    validator: Validator<SafetyDisk>,
    me: SeatNo,
    follower: Follower,
    unrecorded: BTreeMap<Ordinal, Unrecorded>,
    /// The newest stable checkpoint, as a signed note.
    checkpoint: Option<Arc<str>>,
    /// From which node each seat was heard last.
    heard: BTreeMap<SeatNo, NodeId>,
}

/// What the thread needs from the node around it.
pub(crate) struct Surroundings {
    pub(crate) genesis: Arc<Genesis>,
    pub(crate) key: SecretKey,
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) memory: Arc<dyn Verified>,
    pub(crate) recorder: Arc<dyn Recorder>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) outbox: Outbox,
    pub(crate) runtime: Handle,
    pub(crate) published: watch::Sender<Option<SeatStanding>>,
}

/// The state of the thread.
pub(crate) struct Thread {
    around: Surroundings,
    disk: SafetyDisk,
    began: Instant,
    session: Option<Session>,
}

impl Thread {
    pub(crate) fn new(around: Surroundings) -> Self {
        Self {
            disk: SafetyDisk(around.store.clone()),
            around,
            began: Instant::now(),
            session: None,
        }
    }

    fn now(&self) -> Time {
        let elapsed = self.began.elapsed().as_millis();
        Time(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn instant(&self, time: Time) -> Instant {
        self.began + Duration::from_millis(time.0)
    }

    /// Runs until the node stops.
    pub(crate) fn run(mut self) -> Result<(), ValidatorError> {
        self.advance(Vec::new(), true)?;
        loop {
            let batch = self.around.inbox.take(self.wake_at());
            if batch.stopping {
                return Ok(());
            }
            self.take_up(batch)?;
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let session = self.session.as_ref()?;
        let protocol = session.validator.wake_at().map(|time| self.instant(time));
        let recording = session.unrecorded.values().filter_map(|one| one.due).min();
        protocol.into_iter().chain(recording).min()
    }

    fn take_up(&mut self, batch: Batch) -> Result<(), ValidatorError> {
        let mut inputs = vec![Input::Wake];
        if let Some(session) = &mut self.session {
            for (from, message) in batch.messages {
                inputs.extend(session.receive(from, &message, &*self.around.observer));
            }
            let retry = Instant::now() + RECORD_RETRY;
            for ordinal in batch.unrecorded {
                if let Some(one) = session.unrecorded.get_mut(&ordinal) {
                    one.due = Some(retry);
                }
            }
        }
        self.advance(inputs, batch.rung)
    }

    /// Steps the protocol, and reads the ledger where that may have something new, until
    /// there is nothing left to do.
    fn advance(&mut self, mut inputs: Vec<Input>, rung: bool) -> Result<(), ValidatorError> {
        let mut reads = rung;
        while reads || !inputs.is_empty() {
            if std::mem::take(&mut reads) {
                inputs.extend(self.read_ledger()?);
            }
            let now = self.now();
            let Some(session) = &mut self.session else {
                return Ok(());
            };
            let low = session.validator.status().low;
            let effects = session.validator.handle(now, std::mem::take(&mut inputs))?;
            // A watermark that moved makes room for closings that the ledger has already.
            reads = session.validator.status().low != low;
            for effect in effects {
                inputs.extend(self.carry_out(effect)?);
            }
        }
        self.offer_certificates();
        self.publish();
        Ok(())
    }

    /// What the ledger has that the protocol does not know. Where an epoch has ended and all
    /// of its closings are certified, the next one begins.
    fn read_ledger(&mut self) -> Result<Vec<Input>, ValidatorError> {
        let view = self.around.store.view();
        if let Some(session) = &mut self.session {
            let inputs = session.news(&view, &*self.around.observer)?;
            let ended = session.follower.is_done()
                && query::newest_committee(&view, &self.around.genesis)?
                    .is_some_and(|newest| newest.epoch > session.epoch);
            if !ended {
                return Ok(inputs);
            }
        }
        self.session = self.begin(&view)?;
        match &mut self.session {
            Some(session) => Ok(session.news(&view, &*self.around.observer)?),
            None => Ok(Vec::new()),
        }
    }

    /// Begins the epoch of the first closing that has no certificate.
    fn begin(&mut self, view: &View) -> Result<Option<Session>, ValidatorError> {
        let genesis = &self.around.genesis;
        let waiting = query::uncertified(view, None, 1)?;
        let first = match waiting.items.first() {
            Some((ordinal, _)) => *ordinal,
            None => Ordinal(query::core(view)?.closings).next(),
        };
        let Some(Epoch::Decided(record)) = query::epoch_of(view, genesis, first)? else {
            return Ok(None);
        };
        let committee = Arc::new(record.committee().map_err(|error| ArchiveError {
            reason: format!("the committee of epoch {}: {error}", record.epoch),
        })?);
        let Some(me) = committee.seat_of(&self.around.key.public()) else {
            tracing::warn!(
                epoch = record.epoch,
                "this node's key has no seat in the committee"
            );
            return Ok(None);
        };
        let scope = Scope {
            cluster: genesis.cluster_id(),
            incarnation: self.around.store.identity().incarnation,
            epoch: record.epoch,
        };
        let base = base(view, genesis, &record)?;
        let setup = Setup {
            settings: self.around.settings,
            scope,
            committee: Arc::clone(&committee),
            base,
        };
        let key = self.around.key.clone();
        let (disk, records) = (self.disk.clone(), self.disk.records()?);
        let (validator, effects) = Validator::open(setup, key, &records, disk, self.now())?;
        let low = Ordinal(validator.status().low.0);
        let stable = validator.guard().safety().stable();
        let checkpoint = stable.map(|stable| note(&scope, &record, stable));
        let follower = Follower::new(
            Arc::clone(genesis),
            Arc::clone(&self.around.memory),
            low,
            query::core(view)?.events,
        );
        tracing::info!(
            epoch = record.epoch,
            seat = me.0,
            seats = committee.seats().count(),
            quorum = committee.seats().quorum(),
            tolerates = committee.seats().faults_max(),
            "the validator takes its seat"
        );
        for effect in effects {
            if let Effect::Send { message, .. } = effect {
                send(&mut self.around, scope, None, message);
            }
        }
        Ok(Some(Session {
            epoch: record.epoch,
            verifier: Verifier::new(scope, Arc::clone(&committee)),
            record,
            committee,
            scope,
            validator,
            me,
            follower,
            unrecorded: BTreeMap::new(),
            checkpoint,
            heard: BTreeMap::new(),
        }))
    }

    /// Does what the protocol asks for; returns what it is to be told.
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Input>, ValidatorError> {
        let Some(session) = &mut self.session else {
            return Ok(None);
        };
        let observer = &*self.around.observer;
        match effect {
            Effect::Send { to, message } => {
                let node = match to {
                    To::All => None,
                    To::Seat(seat) => session.heard.get(&seat).copied(),
                };
                let scope = session.scope;
                send(&mut self.around, scope, node, message);
            }
            Effect::Judge {
                view,
                sequence,
                value,
                ..
            } => return self.judge(view, sequence, &value).map(Some),
            Effect::Decided(certificate) => session.decided(certificate, observer),
            Effect::Stable(stable) => {
                tracing::debug!(ordinal = stable.head().sequence.0, "checkpoint stable");
                session.checkpoint = Some(note(&session.scope, &session.record, &stable));
            }
            Effect::Evidence(evidence) => self.accuse(&evidence)?,
            Effect::Diverged { mine, theirs } => {
                observer.diverged();
                tracing::error!(
                    ordinal = mine.sequence.0,
                    mine = %mine.tree_root,
                    theirs = %theirs.tree_root,
                    "a quorum signed another transparency log than this node has"
                );
            }
            Effect::Refused(draft, why) => {
                observer.refused_to_sign();
                tracing::error!(%why, draft = ?draft, "the safety module refused to sign");
            }
            Effect::Note(note) => session.note(note, observer),
        }
        Ok(None)
    }

    /// Says what a proposal that this validator does not stand behind gets wrong.
    fn judge(
        &self,
        view: aegis_pbft::View,
        sequence: Sequence,
        value: &Value,
    ) -> Result<Input, ValidatorError> {
        let ordinal = Ordinal(sequence.0);
        let tables = self.around.store.view();
        let own = query::statement(&tables, &self.around.genesis, ordinal)?;
        let difference = own.and_then(|own| own.differs_from(value.statement()));
        let primary = self.session.as_ref().map_or(SeatNo(0), |session| {
            session.committee.seats().primary(view.0)
        });
        if let Some(difference) = difference {
            self.around.observer.disagrees(primary, &difference.field);
            tracing::error!(
                ordinal = ordinal.0,
                primary = primary.0,
                field = %difference.field,
                proposed = %difference.found,
                own = %difference.expected,
                "a proposed statement is not what this ledger says"
            );
        }
        Ok(Input::Verdict {
            sequence,
            digest: value.digest(),
            acceptable: false,
        })
    }

    fn accuse(&mut self, evidence: &Evidence) -> Result<(), ValidatorError> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        if let Some(seat) = evidence.convicts(&session.committee)
            && self.disk.keep(evidence)?
        {
            self.around.observer.evidence(seat);
            tracing::error!(
                seat = seat.0,
                kind = evidence.first.kind(),
                "a validator contradicted itself; the evidence is kept"
            );
        }
        Ok(())
    }

    /// Offers certificates to the ledger whose time has come.
    fn offer_certificates(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        let now = Instant::now();
        for (ordinal, one) in &mut session.unrecorded {
            if one.due.is_none_or(|due| due > now) {
                continue;
            }
            one.due = None;
            let envelope = one.certificate.to_envelope(&session.committee);
            let recording = self.around.recorder.record(*ordinal, envelope);
            let (inbox, ordinal) = (Arc::clone(&self.around.inbox), *ordinal);
            self.around.runtime.spawn(async move {
                match recording.await {
                    Ok(()) => {}
                    Err(RecordError::NotTaken(reason)) => {
                        tracing::debug!(
                            ordinal = ordinal.0,
                            reason,
                            "certificate not recorded yet"
                        );
                        inbox.unrecorded(ordinal);
                    }
                    Err(RecordError::Refused(reason)) => {
                        tracing::error!(
                            ordinal = ordinal.0,
                            reason,
                            "the ledger refuses a certificate"
                        );
                    }
                }
            });
        }
    }

    fn publish(&mut self) {
        let standing = self.session.as_ref().map(Session::standing);
        if let Some(standing) = &standing {
            self.around.observer.stands(&standing.status);
        }
        self.around.published.send_replace(standing);
    }
}

/// Sends a message to one node, or to all.
fn send(around: &mut Surroundings, scope: Scope, node: Option<NodeId>, message: Message) {
    let bytes = Bytes::from(Frame { scope, message }.encode());
    let dropped = around.outbox.send(node, &bytes);
    if dropped > 0 {
        around.observer.dropped(Dropped::Unsent, dropped);
    }
}

/// Where an epoch's agreement begins: behind the closing that decided on the committee, whose
/// statement stands for everything before it.
fn base(view: &View, genesis: &Genesis, record: &CommitteeRecord) -> Result<Base, ArchiveError> {
    let last = Ordinal(record.since.0.saturating_sub(1));
    if last.0 == 0 {
        return Ok(Base::default());
    }
    let statement = query::statement(view, genesis, last)?.ok_or_else(|| ArchiveError {
        reason: format!(
            "closing {last}, which began epoch {}, is missing",
            record.epoch
        ),
    })?;
    Ok(Base {
        sequence: Sequence(last.0),
        chain: Digest::of(statement.to_canonical()),
    })
}

impl Session {
    /// A message that a node sent, if it is worth anything.
    fn receive(&mut self, from: NodeId, bytes: &[u8], observer: &dyn Observer) -> Option<Input> {
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                observer.dropped(Dropped::Malformed, 1);
                tracing::warn!(node = from.get(), %error, "a validator's message was dropped");
                return None;
            }
        };
        let signer = frame.message.signer(self.committee.seats());
        match self.verifier.verify(frame) {
            Ok(verified) => {
                if let Some(seat) = signer {
                    self.heard.insert(seat, from);
                }
                Some(Input::Received(verified))
            }
            // Around the end of an epoch others are ahead or behind for a moment.
            Err(Invalid::Scope { .. }) => {
                observer.dropped(Dropped::OtherScope, 1);
                None
            }
            Err(error) => {
                observer.dropped(Dropped::Invalid, 1);
                tracing::warn!(
                    node = from.get(),
                    error = %Causes(&error),
                    "a validator's message was dropped"
                );
                None
            }
        }
    }

    /// What the ledger has that the protocol does not know.
    fn news(&mut self, view: &View, observer: &dyn Observer) -> Result<Vec<Input>, ArchiveError> {
        let high = Ordinal(self.validator.status().high.0);
        let news = self.follower.news(view, self.epoch, high)?;
        let mut inputs = Vec::new();
        for closing in news.closings {
            match closing {
                Closing::Sound(request) => inputs.push(Input::Request(request)),
                Closing::Unsound { ordinal, why } => {
                    observer.miscounted();
                    let reason = Causes(&why);
                    tracing::error!(
                        ordinal = ordinal.0,
                        %reason,
                        "this ledger's closing is not sound"
                    );
                }
            }
        }
        for recorded in news.recorded {
            self.unrecorded.remove(&Ordinal(recorded.sequence.0));
            observer.recorded(recorded.since.elapsed());
            inputs.push(Input::Recorded {
                sequence: recorded.sequence,
                digest: recorded.digest,
            });
        }
        Ok(inputs)
    }

    /// A closing is decided: its certificate is for the ledger. The primary of its view
    /// records it, the others one after another if that does not happen.
    fn decided(&mut self, certificate: Arc<Certificate>, observer: &dyn Observer) {
        let ordinal = Ordinal(certificate.sequence());
        if let Some(awaited) = self.follower.awaited(ordinal) {
            observer.decided(awaited.since.elapsed());
        } else if ordinal <= self.follower.read() {
            return;
        }
        let seats = self.committee.seats();
        let first = seats.primary(certificate.view());
        let turn = (seats.count() + self.me.0 - first.0) % seats.count();
        let due = Instant::now() + RECORD_PAUSE * u32::from(turn);
        self.unrecorded.insert(
            ordinal,
            Unrecorded {
                certificate,
                due: Some(due),
            },
        );
    }

    fn note(&self, note: Note, observer: &dyn Observer) {
        match note {
            Note::Reached { sequence, phase } => {
                if let Some(awaited) = self.follower.awaited(Ordinal(sequence.0)) {
                    observer.reached(phase, awaited.since.elapsed());
                }
            }
            Note::ChangingView { view, reason } => {
                observer.changes_view(reason);
                tracing::warn!(
                    view = view.0,
                    ?reason,
                    "the validator asks for another view"
                );
            }
            Note::Entered(view) => {
                let primary = self.committee.seats().primary(view.0).0;
                tracing::info!(view = view.0, primary, "a view has begun");
            }
            // What it gets wrong was said when it was judged.
            Note::Disagreed { .. } => {}
        }
    }

    fn standing(&self) -> SeatStanding {
        SeatStanding {
            epoch: self.epoch,
            seat: self.me,
            status: self.validator.status(),
            checkpoint: self.checkpoint.clone(),
        }
    }
}
