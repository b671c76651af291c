//! The world: everything that can happen, one event after another, in an order that a
//! seed decides; and after each event the invariants.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use aegis_crypto::{Committee, Digest, SeatNo, SeatSet};
use aegis_pbft::{
    Base, Effect, Frame, Input, Message, Scope, Sequence, Setup, To, Validator, Value, Verifier,
};

use crate::actors::{Actor, Hands, Outgoing};
use crate::clock::Clock;
use crate::fault::Fault;
use crate::forge::Forge;
use crate::history::{History, Opinion};
use crate::invariants::{Facts, Invariants, Stage, Violation};
use crate::net::{Net, Weather};
use crate::node::{Node, key};
use crate::packet::{Packet, label};
use crate::plan::Plan;
use crate::random::Random;
use crate::trace::Trace;

/// How often liars may act on their own.
const TICK_MS: u64 = 100;

/// Why a run ended badly.
pub struct Failure {
    /// The invariant that does not hold.
    pub invariant: &'static str,
    report: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

#[derive(Debug)]
enum Event {
    Deliver {
        to: SeatNo,
        packet: Rc<Packet>,
    },
    Wake(SeatNo),
    Follow {
        seat: SeatNo,
        upto: usize,
    },
    Verdict {
        seat: SeatNo,
        run: u32,
        sequence: Sequence,
        digest: Digest,
        acceptable: bool,
    },
    Submit {
        run: Option<(SeatNo, u32)>,
        envelope: Vec<u8>,
    },
    Tick(SeatNo),
    Fault(Fault),
}

#[derive(Debug)]
struct Liar {
    actor: Box<dyn Actor>,
    forge: Forge,
}

/// A committee and all around it.
#[derive(Debug)]
pub struct World {
    name: String,
    plan: Plan,
    now_ms: u64,
    random: Random,
    queue: BTreeMap<(u64, u64), Event>,
    ties: u64,
    scope: Scope,
    committee: Arc<Committee>,
    verifier: Verifier,
    nodes: Vec<Node>,
    liars: BTreeMap<SeatNo, Liar>,
    /// Seats whose ledger stands still.
    paused: SeatSet,
    /// The network.
    pub net: Net,
    history: History,
    facts: Facts,
    invariants: Invariants,
    trace: Trace,
}

/// The scope of every simulated committee.
#[must_use]
pub fn scope() -> Scope {
    Scope {
        cluster: Digest::of("the simulated cluster"),
        incarnation: 1,
        epoch: 1,
    }
}

/// The committee of so many seats.
///
/// # Panics
/// If there can be no such committee.
#[must_use]
pub fn committee(seats: u8) -> Arc<Committee> {
    let keys = (0..seats).map(|seat| key(SeatNo(seat)).public()).collect();
    let committee = Committee::new(scope().epoch, keys);
    Arc::new(committee.expect("a plan has 1 to 31 seats, and each has a key of its own"))
}

impl World {
    /// A world in which nothing has happened and nobody runs.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let (scope, committee) = (scope(), committee(plan.seats));
        let setup = Setup {
            settings: plan.settings,
            scope,
            committee: committee.clone(),
            base: Base::default(),
        };
        let skew = plan.skew_permille;
        let nodes = committee.seats().iter().map(|seat| {
            let clock = Clock {
                offset_ms: random.below(1_000_000),
                rate_permille: random.between(1_000 - skew, 1_000 + skew),
            };
            Node::new(seat, setup.clone(), clock)
        });
        Self {
            name: String::from("a scenario"),
            plan,
            now_ms: 0,
            nodes: nodes.collect(),
            random,
            queue: BTreeMap::new(),
            ties: 0,
            scope,
            verifier: Verifier::new(scope, committee.clone()),
            committee,
            liars: BTreeMap::new(),
            paused: SeatSet::default(),
            net: Net::new(plan.weather),
            history: History::new(scope),
            facts: Facts::default(),
            invariants: Invariants::default(),
            trace: Trace::default(),
        }
    }

    /// Gives a seat to somebody. Before [`World::start`].
    pub fn seat(&mut self, seat: u8, actor: Box<dyn Actor>) {
        let seat = SeatNo(seat);
        self.trace.line(format!("seat {seat} is {actor:?}"));
        let forge = Forge::new(key(seat), self.scope, seat);
        self.liars.insert(seat, Liar { actor, forge });
    }

    /// Starts every process.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn start(&mut self) -> Result<(), Failure> {
        for seat in self.committee.seats().iter() {
            self.open(seat);
            if self.liars.contains_key(&seat) {
                self.at(TICK_MS, Event::Tick(seat));
            }
            self.check()?;
        }
        Ok(())
    }

    /// What the run began with.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Gives the run a name, which a failure's report begins with.
    pub fn name(&mut self, name: String) {
        self.name = name;
    }

    /// The world's time.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The ledger.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// The ledger, for scenarios in which validators hold different things to be true.
    pub const fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// A seat's process.
    ///
    /// # Panics
    /// If there is no such seat.
    #[must_use]
    pub fn node(&self, seat: u8) -> &Node {
        let node = self.nodes.get(usize::from(seat));
        node.expect("the scenario names seats that exist")
    }

    /// What happened.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What the invariants have seen.
    #[must_use]
    pub const fn invariants(&self) -> &Invariants {
        &self.invariants
    }

    /// Chance, for those who write schedules.
    pub const fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    fn at(&mut self, delay_ms: u64, event: Event) {
        self.ties += 1;
        let due = (self.now_ms + delay_ms, self.ties);
        self.queue.insert(due, event);
    }

    fn honest(&self) -> SeatSet {
        let seats = self.committee.seats().iter();
        seats
            .filter(|seat| self.liars.get(seat).is_none_or(|liar| liar.actor.poses()))
            .collect()
    }

    /// Closes a proposal in the ledger.
    pub fn close(&mut self) -> Sequence {
        let sequence = self.history.close();
        self.trace
            .line(format!("{} closing {sequence}", self.now_ms));
        self.spread();
        sequence
    }

    /// Every ledger hears of the newest entry, each when it does.
    fn spread(&mut self) {
        let upto = self.history.entries().len();
        for seat in self.committee.seats().iter() {
            let lag = self.random.below(self.plan.lag_ms_max + 1);
            self.at(lag, Event::Follow { seat, upto });
        }
    }

    /// Plans a fault.
    pub fn after(&mut self, delay_ms: u64, fault: Fault) {
        self.at(delay_ms, Event::Fault(fault));
    }

    /// Lets a fault happen now.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn happen(&mut self, fault: Fault) -> Result<(), Failure> {
        self.strike(fault);
        self.check()
    }

    fn strike(&mut self, fault: Fault) {
        self.trace.line(format!("{} {fault:?}", self.now_ms));
        match fault {
            Fault::PowerLoss(seat) => {
                if let Some(node) = self.nodes.get_mut(usize::from(seat)) {
                    node.stop();
                    node.disk.lose_power();
                }
            }
            Fault::FailWrite { seat, kept } => self.node(seat).disk.fail_next(kept),
            Fault::Restart(seat) => {
                if self.node(seat).validator().is_none() {
                    self.open(SeatNo(seat));
                }
            }
            Fault::Pause(seat) => {
                self.paused.insert(SeatNo(seat));
            }
            Fault::Resume(seat) => {
                self.paused = self.paused.iter().filter(|one| one.0 != seat).collect();
                self.catch_up(SeatNo(seat));
            }
            Fault::Partition(groups) => {
                let groups: Vec<&[u8]> = groups.iter().map(Vec::as_slice).collect();
                self.net.partition(&groups);
            }
            Fault::Star(centre) => self.net.star(centre, self.plan.seats),
            Fault::OneWay(from, to) => self.net.cut_one_way(SeatNo(from), SeatNo(to)),
            Fault::Heal => self.net.heal(),
            Fault::Weather(weather) => self.net.weather = weather,
            Fault::Close => {
                self.close();
            }
            Fault::Opinion(seat, sequence, opinion) => self.form_opinion(seat, sequence, opinion),
        }
    }

    /// A seat's private checks come to another result.
    fn form_opinion(&mut self, seat: u8, sequence: Sequence, opinion: Opinion) {
        let seat = SeatNo(seat);
        self.history.set_opinion(seat, sequence, opinion);
        if self.node(seat.0).knows(sequence) {
            let request = self.history.request(seat, sequence);
            self.feed(seat, vec![Input::Request(request)]);
        }
    }

    fn catch_up(&mut self, seat: SeatNo) {
        let upto = self.history.entries().len();
        let lag = self.random.below(self.plan.lag_ms_max + 1);
        self.at(lag, Event::Follow { seat, upto });
    }

    /// Everything works from now on: links, ledgers, disks and processes.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn heal(&mut self) -> Result<(), Failure> {
        self.happen(Fault::Heal)?;
        self.happen(Fault::Weather(Weather::default()))?;
        for seat in 0..self.plan.seats {
            self.node(seat).disk.repair();
            self.happen(Fault::Resume(seat))?;
            self.happen(Fault::Restart(seat))?;
        }
        Ok(())
    }

    /// Runs for so long.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn run_ms(&mut self, ms: u64) -> Result<(), Failure> {
        self.run_until(ms, |_| false).map(|_| ())
    }

    /// Runs until something holds, or for so long; says whether it holds.
    ///
    /// # Errors
    /// An invariant that does not hold.
    pub fn run_until(
        &mut self,
        within_ms: u64,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, Failure> {
        let end = self.now_ms + within_ms;
        while !done(self) {
            match self.queue.first_key_value() {
                Some(((due, _), _)) if *due <= end => self.step()?,
                Some(_) | None => {
                    self.now_ms = end;
                    return Ok(done(self));
                }
            }
        }
        Ok(true)
    }

    /// Liveness: every closing is certified, and every honest validator has executed all
    /// and has all under a stable checkpoint.
    ///
    /// # Errors
    /// It does not come to that in time, or an invariant does not hold.
    pub fn settle(&mut self, within_ms: u64) -> Result<(), Failure> {
        if self.run_until(within_ms, Self::is_settled)? {
            return Ok(());
        }
        let statuses: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("seat {}: {:?}", node.seat(), node.status()))
            .collect();
        let detail = format!(
            "{} of {} closings are certified {within_ms} ms after the last fault\n{}",
            self.history.certified(),
            self.history.closings(),
            statuses.join("\n")
        );
        let invariant = "Liveness";
        Err(self.failure(Violation { invariant, detail }))
    }

    fn is_settled(&self) -> bool {
        let last = Sequence(self.history.closings());
        let certified = u64::try_from(self.history.certified()).unwrap_or(0);
        certified == last.0
            && self.honest().iter().all(|seat| {
                self.node(seat.0)
                    .status()
                    .is_some_and(|status| status.executed == last && status.low == last)
            })
    }

    fn failure(&self, violation: Violation) -> Failure {
        let Violation { invariant, detail } = violation;
        let report = format!(
            "{}: {invariant} does not hold: {detail}\n{:?}\nthe last events:\n{}",
            self.name,
            self.plan,
            self.trace.tail()
        );
        Failure { invariant, report }
    }

    fn step(&mut self) -> Result<(), Failure> {
        let Some(((due, _), event)) = self.queue.pop_first() else {
            return Ok(());
        };
        self.now_ms = due;
        self.dispatch(event);
        self.check()
    }

    fn check(&mut self) -> Result<(), Failure> {
        let facts = std::mem::take(&mut self.facts);
        let honest = self.honest();
        let stage = Stage {
            scope: &self.scope,
            committee: &self.committee,
            history: &self.history,
            nodes: &self.nodes,
            honest,
            now_ms: self.now_ms,
        };
        let checked = self.invariants.check(&facts, &stage);
        checked.map_err(|violation| self.failure(violation))
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Deliver { to, packet } => self.deliver(to, packet),
            Event::Wake(seat) => self.wake(seat),
            Event::Follow { seat, upto } => self.follow(seat, upto),
            Event::Verdict {
                seat,
                run,
                sequence,
                digest,
                acceptable,
            } => {
                if self.node(seat.0).run == run {
                    self.verdict(seat, sequence, digest, acceptable);
                }
            }
            Event::Submit { run, envelope } => {
                if run.is_none_or(|(seat, run)| self.is_running(seat, run)) {
                    self.record(&envelope);
                }
            }
            Event::Tick(seat) => {
                self.act(seat, |actor, hands| actor.tick(hands));
                self.at(TICK_MS, Event::Tick(seat));
            }
            Event::Fault(fault) => self.strike(fault),
        }
    }

    fn is_running(&self, seat: SeatNo, run: u32) -> bool {
        let node = self.node(seat.0);
        node.validator().is_some() && node.run == run
    }

    fn deliver(&mut self, to: SeatNo, first: Rc<Packet>) {
        let mut packets = vec![first];
        // What comes at one moment may be handed over at once, and often is.
        while self.random.chance(600)
            && let Some(entry) = self.queue.first_entry()
            && entry.key().0 == self.now_ms
            && matches!(entry.get(), Event::Deliver { to: other, .. } if *other == to)
            && let Event::Deliver { packet, .. } = entry.remove()
        {
            packets.push(packet);
        }
        if self.node(to.0).validator().is_none() {
            return;
        }
        let mut inputs = Vec::new();
        for packet in packets {
            self.trace
                .line(format!("{} {to} hears {}", self.now_ms, packet.label));
            let heard = packet.message.as_ref().is_none_or(|message| {
                self.act(to, |actor, hands| actor.hear(hands, message))
                    .unwrap_or(true)
            });
            if let Some(verified) = packet.verified.clone().filter(|_| heard) {
                inputs.push(Input::Received(verified));
            }
        }
        self.feed(to, inputs);
    }

    fn wake(&mut self, seat: SeatNo) {
        let now = self.now_ms;
        let Some(node) = self.nodes.get_mut(usize::from(seat.0)) else {
            return;
        };
        if node.wake.take_if(|due| *due == now).is_some() {
            self.facts.woken.push(seat);
            self.feed(seat, vec![Input::Wake]);
        }
    }

    fn follow(&mut self, seat: SeatNo, upto: usize) {
        if self.paused.contains(seat) {
            return;
        }
        let Some(node) = self.nodes.get_mut(usize::from(seat.0)) else {
            return;
        };
        let inputs = node.follow(&self.history, upto);
        self.feed(seat, inputs);
    }

    fn verdict(&mut self, seat: SeatNo, sequence: Sequence, digest: Digest, acceptable: bool) {
        let input = Input::Verdict {
            sequence,
            digest,
            acceptable,
        };
        self.feed(seat, vec![input]);
    }

    fn record(&mut self, envelope: &[u8]) {
        let recorded = self.history.record(envelope, &self.committee);
        self.trace
            .line(format!("{} the ledger: {recorded:?}", self.now_ms));
        if let Ok(Some(_)) = recorded {
            self.spread();
        }
    }

    fn open(&mut self, seat: SeatNo) {
        let now = self.now_ms;
        let Some(node) = self.nodes.get_mut(usize::from(seat.0)) else {
            return;
        };
        let opened = node.open(now);
        self.facts.opened.push(seat);
        match opened {
            Ok(effects) => {
                self.carry_out(seat, effects);
                self.tell(seat);
                self.catch_up(seat);
            }
            Err(error) => self.trace.line(format!("{now} {seat} stays down: {error}")),
        }
    }

    /// Tells a validator what it had no room for.
    fn tell(&mut self, seat: SeatNo) {
        if let Some(node) = self.nodes.get_mut(usize::from(seat.0)) {
            let inputs = node.tell(&self.history);
            self.feed(seat, inputs);
        }
    }

    fn feed(&mut self, seat: SeatNo, inputs: Vec<Input>) {
        if inputs.is_empty() {
            return;
        }
        for input in &inputs {
            self.note_input(seat, input);
        }
        let now = self.now_ms;
        let Some(node) = self.nodes.get_mut(usize::from(seat.0)) else {
            return;
        };
        if node.validator().is_none() {
            return;
        }
        self.facts.touched.push(seat);
        match node.handle(now, inputs) {
            Some(effects) => self.carry_out(seat, effects),
            None => self
                .trace
                .line(format!("{now} {seat} stops: its disk failed")),
        }
        self.set_alarm(seat);
    }

    /// What a validator's shell stands behind.
    fn note_input(&mut self, seat: SeatNo, input: &Input) {
        match input {
            Input::Request(request) => {
                let digest = request.value.digest();
                self.facts.accepted.push((seat, request.sequence, digest));
            }
            Input::Verdict {
                sequence,
                digest,
                acceptable: true,
            } => self.facts.accepted.push((seat, *sequence, *digest)),
            _ => {}
        }
    }

    fn set_alarm(&mut self, seat: SeatNo) {
        let late = self.random.below(4);
        let now = self.now_ms;
        let Some(node) = self.nodes.get_mut(usize::from(seat.0)) else {
            return;
        };
        let due = node.wake_at().map(|at| node.clock.when(at).max(now) + late);
        // An alarm that is set already for no later is not set again.
        let sooner = match (due, node.wake) {
            (Some(due), Some(set)) => due < set,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if let Some(due) = due.filter(|_| sooner) {
            node.wake = Some(due);
            self.at(due - now, Event::Wake(seat));
        }
    }

    fn carry_out(&mut self, seat: SeatNo, effects: Vec<Effect>) {
        let mut moved = false;
        let run = self.node(seat.0).run;
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.say(seat, to, message),
                Effect::Judge {
                    sequence,
                    value,
                    locked,
                    ..
                } => self.judge(seat, run, sequence, &value, locked),
                Effect::Decided(certificate) => {
                    let envelope = certificate.to_envelope(&self.committee).into_bytes();
                    let line = format!("{} {seat} decided {}", self.now_ms, certificate.sequence());
                    self.trace.line(line);
                    self.facts.decided.push((seat, certificate));
                    let delay = self.random.below(self.plan.shell_ms_max + 1);
                    let run = Some((seat, run));
                    self.at(delay, Event::Submit { run, envelope });
                }
                Effect::Stable(stable) => {
                    let line = format!("{} {seat} stable {}", self.now_ms, stable.head().sequence);
                    self.trace.line(line);
                    self.facts.stable.push((seat, stable));
                    moved = true;
                }
                Effect::Evidence(evidence) => {
                    let line =
                        format!("{} {seat} accuses {:?}", self.now_ms, evidence.first.kind());
                    self.trace.line(line);
                    self.facts.evidence.push((seat, evidence));
                }
                Effect::Diverged { mine, theirs } => {
                    self.facts.diverged.push((seat, mine, theirs));
                }
                Effect::Refused(draft, why) => {
                    let line = format!("{} {seat} refused: {why}", self.now_ms);
                    self.trace.line(line);
                    self.facts.refused.push((seat, draft, why));
                }
                Effect::Note(note) => {
                    let line = format!("{} {seat} {note:?}", self.now_ms);
                    self.trace.line(line);
                    self.facts.notes.push((seat, note));
                }
            }
        }
        if moved {
            self.tell(seat);
        }
        self.set_alarm(seat);
    }

    fn judge(&mut self, seat: SeatNo, run: u32, sequence: Sequence, value: &Value, locked: bool) {
        let acceptable = self.history.acceptable(seat, sequence, value, locked);
        let digest = value.digest();
        let delay = self.random.below(self.plan.shell_ms_max + 1);
        let verdict = Event::Verdict {
            seat,
            run,
            sequence,
            digest,
            acceptable,
        };
        self.at(delay, verdict);
    }

    /// A validator wants something sent; if a liar has its seat, that is the liar's to do.
    fn say(&mut self, seat: SeatNo, to: To, message: Message) {
        if self.liars.contains_key(&seat) {
            self.act(seat, |actor, hands| actor.say(hands, to, message));
        } else {
            let frame = Frame {
                scope: self.scope,
                message,
            };
            self.ship(seat, to, &frame.encode());
        }
    }

    /// Lets the liar of a seat do something; nothing if an honest validator has it.
    fn act<T>(
        &mut self,
        seat: SeatNo,
        act: impl FnOnce(&mut dyn Actor, &mut Hands<'_>) -> T,
    ) -> Option<T> {
        let liar = self.liars.get_mut(&seat)?;
        let validator = self
            .nodes
            .get(usize::from(seat.0))
            .and_then(Node::validator);
        let mut hands = Hands {
            forge: &mut liar.forge,
            now_ms: self.now_ms,
            random: &mut self.random,
            history: &self.history,
            committee: &self.committee,
            status: validator.map(Validator::status),
            safety: validator.map(|validator| validator.guard().safety()),
            out: Vec::new(),
        };
        let result = act(liar.actor.as_mut(), &mut hands);
        for outgoing in std::mem::take(&mut hands.out) {
            match outgoing {
                Outgoing::Message { to, message, scope } => {
                    self.ship(seat, to, &Frame { scope, message }.encode());
                }
                Outgoing::Raw { to, bytes } => self.ship(seat, to, &bytes),
                Outgoing::Submit(envelope) => {
                    self.facts.submitted.push((seat, envelope.clone()));
                    let run = None;
                    self.at(1, Event::Submit { run, envelope });
                }
            }
        }
        Some(result)
    }

    fn ship(&mut self, from: SeatNo, to: To, bytes: &[u8]) {
        let decoded = Frame::decode(bytes);
        let (label, message, verified) = match decoded {
            Ok(frame) => {
                let label = label(&frame.message, &self.committee);
                let message = frame.message.clone();
                match self.verifier.verify(frame) {
                    Ok(verified) => (label, Some(message), Some(verified)),
                    Err(invalid) => (format!("{label} ({invalid})"), Some(message), None),
                }
            }
            Err(error) => (format!("{error}"), None, None),
        };
        let line = format!("{} {from} says to {to:?}: {label}", self.now_ms);
        self.trace.line(line);
        let packet = Rc::new(Packet {
            message,
            verified,
            label: format!("{label} from {from}"),
        });
        if packet.verified.is_some() {
            self.facts.said.push((from, packet.clone()));
        }
        let receivers = self.committee.seats().iter().filter(|seat| match to {
            To::All => *seat != from,
            To::Seat(one) => *seat == one,
        });
        if to == To::Seat(from) {
            self.facts.to_self.push(from);
        }
        for to in receivers {
            let message = packet.message.as_ref();
            for delay in self.net.route(&mut self.random, from, to, message) {
                let packet = packet.clone();
                self.at(delay, Event::Deliver { to, packet });
            }
        }
    }
}
