//! A small world of real validators: one clock, one wire, explicit delivery. Everything
//! that happens is written down as a line of text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use aegis_crypto::certificate::Certificate;
use aegis_crypto::{Committee, Digest, SeatNo};
use aegis_pbft::{
    Base, Draft, Effect, Frame, Granted, Guard, Head, Input, Message, Note, Phase, PreparedProof,
    Reason, Request, Sequence, Settings, Setup, StableCheckpoint, Time, To, Validator, Verifier,
    View,
};

use crate::memory::{MemoryDisk, committee, key, scope, value};

/// A message on its way.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) from: u8,
    pub(crate) to: u8,
    pub(crate) message: Message,
}

/// Which packets a command is about; what is absent matches all.
#[derive(Default)]
pub(crate) struct Filter {
    pub(crate) from: Option<Vec<u8>>,
    pub(crate) to: Option<Vec<u8>>,
    pub(crate) kind: Option<String>,
    pub(crate) view: Option<u64>,
    pub(crate) sequence: Option<u64>,
}

impl Filter {
    fn matches(&self, packet: &Packet) -> bool {
        let (view, sequence) = place(&packet.message);
        let among = |seats: &Option<Vec<u8>>, seat| {
            seats.as_ref().is_none_or(|seats| seats.contains(&seat))
        };
        among(&self.from, packet.from)
            && among(&self.to, packet.to)
            && self
                .kind
                .as_ref()
                .is_none_or(|kind| kind == packet.message.kind())
            && self.view.is_none_or(|asked| view == Some(View(asked)))
            && self
                .sequence
                .is_none_or(|asked| sequence == Some(Sequence(asked)))
    }
}

fn place(message: &Message) -> (Option<View>, Option<Sequence>) {
    match message {
        Message::PrePrepare(message) => (Some(message.view), Some(message.sequence)),
        Message::Prepare(message) => (Some(message.view), Some(message.sequence)),
        Message::Commit(message) => (Some(message.view), Some(message.sequence)),
        Message::Checkpoint(message) => (None, Some(message.head.sequence)),
        Message::ViewChange(message) => (Some(message.view), None),
        Message::NewView(message) => (Some(message.view), None),
        Message::Stable(stable) => (None, Some(stable.head().sequence)),
        Message::Certificate(_) => (None, None),
    }
}

/// A validator, its disk, and what its ledger has told it.
struct Node {
    disk: MemoryDisk,
    running: Option<Validator<MemoryDisk>>,
    requests: BTreeMap<Sequence, Request>,
    recorded: BTreeMap<Sequence, Digest>,
}

/// The whole of it.
pub(crate) struct World {
    committee: Arc<Committee>,
    settings: Settings,
    verifier: Verifier,
    pub(crate) now: Time,
    nodes: Vec<Node>,
    wire: Vec<Packet>,
    cut: BTreeSet<u8>,
    names: BTreeMap<Digest, String>,
    decided: BTreeMap<Sequence, Digest>,
    out: String,
}

impl World {
    /// So many validators, none of which has said anything.
    pub(crate) fn new(count: u8) -> Self {
        let committee = committee(count);
        let mut world = Self {
            verifier: Verifier::new(scope(), committee.clone()),
            committee,
            settings: Settings::default(),
            now: Time(0),
            nodes: Vec::new(),
            wire: Vec::new(),
            cut: BTreeSet::new(),
            names: BTreeMap::new(),
            decided: BTreeMap::new(),
            out: String::new(),
        };
        for seat in 0..count {
            world.nodes.push(Node {
                disk: MemoryDisk::default(),
                running: None,
                requests: BTreeMap::new(),
                recorded: BTreeMap::new(),
            });
            world.open(seat);
        }
        world
    }

    /// What happened since it was last asked.
    pub(crate) fn take_output(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn seats(&self) -> Vec<u8> {
        (0..self.committee.seats().count()).collect()
    }

    fn line(&mut self, text: &str) {
        writeln!(self.out, "{text}").unwrap();
    }

    fn node(&mut self, seat: u8) -> &mut Node {
        self.nodes.get_mut(usize::from(seat)).unwrap()
    }

    /// Hands inputs to a validator, all at once, and writes down what comes of it.
    fn hand(&mut self, seat: u8, cause: &str, inputs: Vec<Input>) {
        let now = self.now;
        let node = self.node(seat);
        let Some(validator) = &mut node.running else {
            return;
        };
        let effects = validator.handle(now, inputs).unwrap();
        self.settle(seat, cause, effects);
    }

    fn settle(&mut self, seat: u8, cause: &str, effects: Vec<Effect>) {
        let mut lines = Vec::new();
        for write in self.node(seat).disk.take_writes() {
            lines.push(format!("writes {}", records(&write)));
        }
        for effect in effects {
            if let Effect::Send { to, message } = &effect {
                self.post(seat, *to, message);
            }
            if let Effect::Decided(certificate) = &effect {
                let digest = Digest::of(certificate.statement());
                self.decided
                    .entry(Sequence(certificate.sequence()))
                    .or_insert(digest);
            }
            lines.push(self.told(&effect));
        }
        if lines.is_empty() {
            return;
        }
        if !cause.is_empty() {
            self.line(cause);
        }
        for line in lines {
            self.line(&format!("  {seat} {line}"));
        }
    }

    fn post(&mut self, from: u8, to: To, message: &Message) {
        for seat in self.seats() {
            let meant = match to {
                To::All => seat != from,
                To::Seat(SeatNo(only)) => seat == only,
            };
            if meant && !self.cut.contains(&from) && !self.cut.contains(&seat) {
                self.wire.push(Packet {
                    from,
                    to: seat,
                    message: message.clone(),
                });
            }
        }
    }

    /// Encodes, decodes, verifies and hands over a packet, as a network would.
    fn arrive(&mut self, packet: &Packet) {
        self.arrive_together(packet.to, std::slice::from_ref(packet));
    }

    fn arrive_together(&mut self, to: u8, packets: &[Packet]) {
        let mut causes = Vec::new();
        let mut inputs = Vec::new();
        for packet in packets {
            let frame = Frame {
                scope: scope(),
                message: packet.message.clone(),
            };
            let frame = Frame::decode(&frame.encode()).unwrap();
            let cause = format!("{}>{} {}", packet.from, to, self.said(&packet.message));
            match self.verifier.verify(frame) {
                Ok(verified) => {
                    causes.push(cause);
                    inputs.push(Input::Received(verified));
                }
                Err(invalid) => self.line(&format!("{cause}\n  {to} refuses: {invalid}")),
            }
        }
        if !inputs.is_empty() {
            let cause = match causes.as_slice() {
                [one] => one.clone(),
                many => format!("{} messages>{to}", many.len()),
            };
            self.hand(to, &cause, inputs);
        }
    }

    /// One pass over the packets that match and are on the wire now.
    pub(crate) fn deliver(&mut self, filter: &Filter) -> usize {
        let (matching, rest) = self
            .wire
            .drain(..)
            .partition(|packet| filter.matches(packet));
        self.wire = rest;
        let matching: Vec<Packet> = matching;
        for packet in &matching {
            self.arrive(packet);
        }
        matching.len()
    }

    /// Everything, and what it leads to, until nothing is on the wire.
    pub(crate) fn deliver_all(&mut self) {
        for _ in 0..100 {
            if self.deliver(&Filter::default()) == 0 {
                return;
            }
        }
        panic!("the validators never cease to talk");
    }

    /// Like [`World::deliver`], but each validator takes all of its packets at once.
    pub(crate) fn deliver_together(&mut self, filter: &Filter) {
        let (matching, rest) = self
            .wire
            .drain(..)
            .partition(|packet| filter.matches(packet));
        self.wire = rest;
        let matching: Vec<Packet> = matching;
        for seat in self.seats() {
            let mine: Vec<Packet> = matching
                .iter()
                .filter(|packet| packet.to == seat)
                .cloned()
                .collect();
            if !mine.is_empty() {
                self.arrive_together(seat, &mine);
            }
        }
    }

    /// Takes packets off the wire for good.
    pub(crate) fn drop(&mut self, filter: &Filter) {
        let before = self.wire.len();
        self.wire.retain(|packet| !filter.matches(packet));
        let dropped = before - self.wire.len();
        self.line(&format!("{dropped} lost"));
    }

    /// What is on the wire.
    pub(crate) fn wire(&mut self) {
        let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for packet in self.wire.clone() {
            let said = self.said(&packet.message);
            kinds
                .entry(format!("{} {said}", packet.from))
                .or_default()
                .push(packet.to.to_string());
        }
        for (said, to) in kinds {
            self.line(&format!("{said} to {}", to.join(",")));
        }
    }

    pub(crate) fn cut(&mut self, seats: &[u8]) {
        self.cut.extend(seats);
        let cut = self.cut.clone();
        self.wire
            .retain(|packet| !cut.contains(&packet.from) && !cut.contains(&packet.to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The ledgers of some validators close something.
    pub(crate) fn close(&mut self, sequence: u64, outcome: &str, at: &[u8], objected: bool) {
        let request = self.request(sequence, outcome, objected);
        for seat in at {
            self.node(*seat)
                .requests
                .insert(request.sequence, request.clone());
            self.hand(*seat, "", vec![Input::Request(request.clone())]);
        }
    }

    /// The same for several closings, which each validator takes at once.
    pub(crate) fn close_many(&mut self, sequences: &[u64], outcome: &str, at: &[u8]) {
        for seat in at {
            let mut inputs = Vec::new();
            for sequence in sequences {
                let request = self.request(*sequence, outcome, false);
                self.node(*seat)
                    .requests
                    .insert(request.sequence, request.clone());
                inputs.push(Input::Request(request));
            }
            self.hand(*seat, "", inputs);
        }
    }

    fn request(&mut self, sequence: u64, outcome: &str, objected: bool) -> Request {
        Request {
            sequence: Sequence(sequence),
            value: self.named(sequence, outcome),
            tree_size: sequence * 10 + u64::from(outcome == "diverging"),
            tree_root: Digest::of(sequence.to_be_bytes()),
            objected,
        }
    }

    fn named(&mut self, sequence: u64, outcome: &str) -> aegis_pbft::Value {
        let value = value(sequence, outcome);
        self.names.insert(value.digest(), outcome.to_owned());
        value
    }

    /// The ledgers of some validators record the first certificate there was.
    pub(crate) fn record(&mut self, sequences: &[u64], at: &[u8]) {
        for seat in at {
            let mut inputs = Vec::new();
            for sequence in sequences {
                let sequence = Sequence(*sequence);
                let digest = *self.decided.get(&sequence).unwrap();
                self.node(*seat).recorded.insert(sequence, digest);
                inputs.push(Input::Recorded { sequence, digest });
            }
            self.hand(*seat, "", inputs);
        }
    }

    /// The shell answers whether a proposal is acceptable.
    pub(crate) fn verdict(&mut self, sequence: u64, outcome: &str, acceptable: bool, at: &[u8]) {
        let digest = self.named(sequence, outcome).digest();
        for seat in at {
            let verdict = Input::Verdict {
                sequence: Sequence(sequence),
                digest,
                acceptable,
            };
            self.hand(*seat, "", vec![verdict]);
        }
    }

    /// Lets time pass and wakes whoever asked for it, the earliest first.
    pub(crate) fn advance(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        loop {
            let due = (0_u8..)
                .zip(&self.nodes)
                .filter_map(|(seat, node)| Some((node.running.as_ref()?.wake_at()?, seat)))
                .min()
                .filter(|(at, _)| *at <= until);
            let Some((at, seat)) = due else {
                break;
            };
            self.now = self.now.max(at);
            let cause = format!("at {}", self.now.0);
            self.hand(seat, &cause, vec![Input::Wake]);
            let again = self.node(seat).running.as_ref().unwrap().wake_at();
            assert!(
                again.is_none_or(|again| again > self.now),
                "seat {seat} wakes twice at {:?}",
                self.now
            );
        }
        self.now = until;
    }

    /// A process ends; what it said stays on the wire.
    pub(crate) fn crash(&mut self, seat: u8) {
        self.node(seat).running = None;
    }

    /// A machine stops; what it said is lost as well.
    pub(crate) fn power_loss(&mut self, seat: u8) {
        self.crash(seat);
        self.wire.retain(|packet| packet.from != seat);
    }

    /// A process starts with what its disk has, and its ledger tells it all again.
    pub(crate) fn restart(&mut self, seat: u8) {
        self.open(seat);
        let node = self.node(seat);
        let requests = node.requests.values().cloned().map(Input::Request);
        let recorded = node
            .recorded
            .iter()
            .map(|(sequence, digest)| Input::Recorded {
                sequence: *sequence,
                digest: *digest,
            });
        let told: Vec<Input> = requests.chain(recorded).collect();
        self.hand(seat, "its ledger tells", told);
    }

    fn open(&mut self, seat: u8) {
        let setup = Setup {
            settings: self.settings,
            scope: scope(),
            committee: self.committee.clone(),
            base: Base::default(),
        };
        let now = self.now;
        let node = self.node(seat);
        let (validator, effects) = Validator::open(
            setup,
            key(seat),
            &node.disk.records(),
            node.disk.clone(),
            now,
        )
        .unwrap();
        node.running = Some(validator);
        self.settle(seat, "", effects);
    }

    /// Two safety modules with one key: what a liar has. Its proposal or vote goes to some.
    pub(crate) fn forge(&mut self, seat: u8, draft: Draft, to: &[u8]) {
        let medium = MemoryDisk::default();
        let mut guard =
            Guard::open(key(seat), scope(), self.committee.clone(), &[], medium).unwrap();
        let granted = guard.sign(vec![draft]).unwrap().remove(0);
        let Granted::Said(message) = granted else {
            panic!("even a liar's safety module refuses that: {granted:?}");
        };
        for receiver in to {
            self.post(seat, To::Seat(SeatNo(*receiver)), &message);
        }
    }

    pub(crate) fn forged_proposal(&mut self, sequence: u64, outcome: &str) -> Draft {
        Draft::PrePrepare {
            view: View(0),
            sequence: Sequence(sequence),
            value: self.named(sequence, outcome),
        }
    }

    pub(crate) fn forged_prepare(&mut self, sequence: u64, outcome: &str) -> Draft {
        Draft::Prepare {
            view: View(0),
            sequence: Sequence(sequence),
            digest: self.named(sequence, outcome).digest(),
        }
    }

    pub(crate) fn forged_checkpoint(&mut self, sequence: u64, tree: &str) -> Draft {
        Draft::Checkpoint {
            head: Head {
                sequence: Sequence(sequence),
                chain: Digest::of(tree),
                tree_size: 1,
                tree_root: Digest::of(tree),
            },
        }
    }

    /// Where every validator stands.
    pub(crate) fn status(&mut self) {
        for seat in self.seats() {
            let now = self.now;
            let Some(validator) = &self.node(seat).running else {
                self.line(&format!("{seat} is down"));
                continue;
            };
            let status = validator.status();
            let wakes = validator
                .wake_at()
                .map_or("never".to_owned(), |at| format!("in {}", at.since_ms(now)));
            let mode = if status.changing_view {
                "asks for"
            } else {
                "in"
            };
            let line = format!(
                "{seat} {mode} v{}, primary {}, window {}..{}, executed {}, undecided {}, early {}, wakes {wakes}",
                status.view,
                status.primary,
                status.low,
                status.high,
                status.executed,
                status.undecided,
                status.buffered,
            );
            self.line(&line);
        }
    }

    fn name(&self, digest: &Digest) -> String {
        let short = || digest.to_string().chars().take(6).collect();
        self.names.get(digest).cloned().unwrap_or_else(short)
    }

    fn proofs(&self, prepared: &[Arc<PreparedProof>]) -> String {
        let proofs: Vec<String> = prepared
            .iter()
            .map(|proof| {
                let name = self.name(&proof.value().digest());
                format!("s{} v{} {name}", proof.sequence(), proof.view())
            })
            .collect();
        format!("P{{{}}}", proofs.join(", "))
    }

    fn head(&self, head: &Head) -> String {
        let chain: String = head.chain.to_string().chars().take(6).collect();
        format!("s{} tree {} chain {chain}", head.sequence, head.tree_size)
    }

    fn stable(&self, stable: &StableCheckpoint) -> String {
        let by = stable.signatures().iter().map(|(seat, _)| *seat);
        format!("{} by {}", self.head(stable.head()), seats(by))
    }

    fn certified(&self, certificate: &Certificate) -> String {
        let name = self.name(&Digest::of(certificate.statement()));
        format!(
            "s{} {name} in v{} by {}",
            certificate.sequence(),
            certificate.view(),
            seats(certificate.signers().iter())
        )
    }

    fn said(&self, message: &Message) -> String {
        let kind = message.kind();
        match message {
            Message::PrePrepare(message) => {
                let name = self.name(&message.value.digest());
                format!("{kind} v{} s{} {name}", message.view, message.sequence)
            }
            Message::Prepare(message) => {
                let name = self.name(&message.digest);
                format!("{kind} v{} s{} {name}", message.view, message.sequence)
            }
            Message::Commit(message) => {
                let name = self.name(&message.value.digest());
                format!("{kind} v{} s{} {name}", message.view, message.sequence)
            }
            Message::Checkpoint(message) => format!("{kind} {}", self.head(&message.head)),
            Message::ViewChange(message) => {
                let stable = message
                    .stable
                    .as_ref()
                    .map_or(Sequence(0), |stable| stable.head().sequence);
                let prepared = self.proofs(&message.prepared);
                format!("{kind} v{} stable {stable} {prepared}", message.view)
            }
            Message::NewView(message) => {
                let from = message.view_changes.iter().map(|change| change.seat);
                let proposals: Vec<String> = message
                    .proposals
                    .iter()
                    .map(|proposal| {
                        let name = self.name(&proposal.value.digest());
                        format!("s{} {name}", proposal.sequence)
                    })
                    .collect();
                format!(
                    "{kind} v{} V{{{}}} O{{{}}}",
                    message.view,
                    seats(from),
                    proposals.join(", ")
                )
            }
            Message::Certificate(envelope) => {
                let certificate = Certificate::parse(envelope)
                    .unwrap()
                    .verify(&self.committee)
                    .unwrap();
                format!("{kind} {}", self.certified(&certificate))
            }
            Message::Stable(stable) => format!("{kind} {}", self.stable(stable)),
        }
    }

    fn told(&self, effect: &Effect) -> String {
        match effect {
            Effect::Send {
                to: To::All,
                message,
            } => format!("says {}", self.said(message)),
            Effect::Send {
                to: To::Seat(seat),
                message,
            } => format!("tells {seat} {}", self.said(message)),
            Effect::Judge {
                view,
                sequence,
                value,
                locked,
            } => {
                let name = self.name(&value.digest());
                let locked = if *locked { ", prepared before" } else { "" };
                format!("must judge v{view} s{sequence} {name}{locked}")
            }
            Effect::Decided(certificate) => format!("DECIDED {}", self.certified(certificate)),
            Effect::Stable(stable) => format!("STABLE {}", self.stable(stable)),
            Effect::Evidence(evidence) => {
                let convicted = evidence
                    .convicts(&self.committee)
                    .map_or("NOBODY".to_owned(), |seat| format!("seat {seat}"));
                format!(
                    "convicts {convicted}: {} / {}",
                    self.said(&evidence.first),
                    self.said(&evidence.second)
                )
            }
            Effect::Diverged { mine, theirs } => format!(
                "DIVERGED: mine {}, theirs {}",
                self.head(mine),
                self.head(theirs)
            ),
            Effect::Refused(draft, why) => {
                let what = match draft.as_ref() {
                    Draft::PrePrepare { .. } => "pre_prepare",
                    Draft::Prepare { .. } => "prepare",
                    Draft::Commit { .. } => "commit",
                    Draft::Checkpoint { .. } => "checkpoint",
                    Draft::ViewChange { .. } => "view_change",
                    Draft::NewView { .. } => "new_view",
                    Draft::Enter { .. } => "enter",
                    Draft::Stable { .. } => "stable",
                };
                format!("MAY NOT SIGN {what}: {why}")
            }
            Effect::Note(note) => self.noted(note),
        }
    }

    fn noted(&self, note: &Note) -> String {
        match note {
            Note::Reached {
                sequence,
                phase: Phase::PrePrepare,
            } => format!("accepted s{sequence}"),
            Note::Reached { sequence, phase } => {
                assert_eq!(*phase, Phase::Prepare);
                format!("prepared s{sequence}")
            }
            Note::ChangingView { view, reason } => {
                let reason = match reason {
                    Reason::Timeout(sequence) => format!("s{sequence} is not decided in time"),
                    Reason::NewViewTimeout => "the new view does not begin".to_owned(),
                    Reason::Equivocation => "the primary contradicts itself".to_owned(),
                    Reason::Slow => "the primary delays its proposals".to_owned(),
                    Reason::Joined => "so many others do".to_owned(),
                };
                format!("asks for v{view}, because {reason}")
            }
            Note::Entered(view) => format!("entered v{view}"),
            Note::Disagreed {
                view,
                sequence,
                proposed,
            } => format!("disagrees with v{view} s{sequence} {}", self.name(proposed)),
        }
    }
}

fn seats(seats: impl Iterator<Item = SeatNo>) -> String {
    let seats: Vec<String> = seats.map(|seat| seat.to_string()).collect();
    seats.join(",")
}

/// The records of one write by their kinds, as the first byte of a key tells them, and
/// runs of one kind as one.
fn records(write: &[aegis_pbft::Change]) -> String {
    let kinds = [
        "scope", "promised", "entered", "began", "stable", "prepared", "vote", "head",
    ];
    let mut runs: Vec<(&str, Option<(u64, u64)>)> = Vec::new();
    let mut deleted = 0_usize;
    for change in write {
        if change.value.is_none() {
            deleted += 1;
            continue;
        }
        let kind = kinds[usize::from(change.key[0])];
        let number = change
            .key
            .get(1..9)
            .map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
        match (runs.last_mut(), number) {
            (Some((last, Some((_, end)))), Some(number)) if *last == kind && *end + 1 == number => {
                *end = number;
            }
            _ => runs.push((kind, number.map(|number| (number, number)))),
        }
    }
    let mut written: Vec<String> = runs
        .into_iter()
        .map(|(kind, numbers)| match numbers {
            None => kind.to_owned(),
            Some((first, last)) if first == last => format!("{kind} s{first}"),
            Some((first, last)) => format!("{kind} s{first}..{last}"),
        })
        .collect();
    if deleted > 0 {
        written.push(format!("{deleted} deletions"));
    }
    format!("[{}]", written.join(", "))
}
