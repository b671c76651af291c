//! Random histories: acts drawn from a seed, and played into the entries of a log.

use aegis_crypto::claims::{AgentType, ProposalClaims};
use aegis_crypto::{Digest, Jwk, Typ, jws};
use aegis_ledger::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::json;

use crate::world::*;

/// What a random history does next. Agent 0 is the administrator.
#[derive(Clone, Debug)]
pub enum Act {
    Wait(u64),
    Register {
        agent: u32,
        form: Form,
    },
    Remove(u32),
    ReplaceKey {
        agent: u32,
        by: u32,
        generation: u32,
        attested: bool,
    },
    Report {
        by: u32,
        agent: u32,
        ahead_s: i64,
        level_ppb: u64,
    },
    IssueToken(u32),
    RevokeToken(u64),
    Propose {
        author: u32,
        open: bool,
        method: usize,
        period_s: u64,
        category: usize,
        electorate: usize,
        signed: Signed,
    },
    Cast {
        voter: u32,
        proposal: u64,
        choice: usize,
        jti: Option<u8>,
        text: Text,
        old_key: bool,
        /// With a signature that the voter did not make.
        forged: bool,
    },
    Batch {
        from: u32,
        to: u32,
        proposal: u64,
        choice: usize,
    },
    Step {
        by: u32,
        proposal: u64,
        step: usize,
    },
    /// A change of the committee: a seat more, a seat less or another key for one.
    ProposeChange {
        change: usize,
        seat: u32,
        key: u32,
    },
    /// A certificate of one of the closings that wait, or of the one that comes next.
    Certify {
        closing: usize,
        first: u8,
        how: Certified,
    },
    Restored(u64),
    /// An earlier entry comes again, from a node that does not know its fate.
    Again(usize),
}

/// How an agent is registered.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    Plain,
    Attested,
    /// Attested, and asking for more weight than was attested.
    Heavier,
}

/// The author's signature.
#[derive(Clone, Copy, Debug)]
pub enum Signed {
    Not,
    Well,
    /// Over another document.
    Otherwise,
    /// Two days ago.
    LongAgo,
}

/// The justification of a ballot.
#[derive(Clone, Copy, Debug)]
pub enum Text {
    None,
    Signed(u8),
    /// Another one than was signed.
    Swapped(u8),
}

/// How good a certificate is.
#[derive(Clone, Copy, Debug)]
pub enum Certified {
    Well,
    /// The committee has signed something else.
    Otherwise,
    /// Of another closing.
    Elsewhere,
    /// By a committee that is not this one's.
    ByOthers,
}

/// An act, and the key of the request that carries it.
pub type Keyed = (Act, Option<u8>);

/// A log: the stamp of each entry, and the entry.
pub type Log = Vec<(u64, Entry)>;

const STEPS: [Step; 5] = [
    Step::Review,
    Step::Open,
    Step::Cancel,
    Step::Tally,
    Step::Execute,
];
const DAY_MS: u64 = 86_400_000;
/// The agents that a history begins with; the fifth is an oracle.
const FOUNDERS: u32 = 6;

fn wait() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => 1..40_000_u64,
        // Past the memory of requests, and past the appeal window and the delay.
        1 => DAY_MS..DAY_MS + 5_000,
        2 => 4 * DAY_MS..4 * DAY_MS + 5_000,
    ]
    .prop_map(Act::Wait)
}

fn of_agents() -> impl Strategy<Value = Act> {
    let form = prop_oneof![Just(Form::Plain), Just(Form::Attested), Just(Form::Heavier)];
    let by = prop_oneof![Just(0), Just(5), 1..10_u32];
    let level_ppb = prop_oneof![Just(0), Just(700_000_000), Just(1_000_000_001)];
    prop_oneof![
        2 => (1..14_u32, form).prop_map(|(agent, form)| Act::Register { agent, form }),
        1 => (1..10_u32).prop_map(Act::Remove),
        1 => (1..10_u32, 0..3_u32, 1..4_u32, any::<bool>()).prop_map(
            |(agent, by, generation, attested)| Act::ReplaceKey {
                agent,
                // Its own in most cases.
                by: if by == 1 { 0 } else { agent },
                generation,
                attested,
            }
        ),
        2 => (by, 1..7_u32, -100..100_i64, level_ppb).prop_map(
            |(by, agent, ahead_s, level_ppb)| Act::Report { by, agent, ahead_s, level_ppb }
        ),
        1 => (1..10_u32).prop_map(Act::IssueToken),
        1 => (1..4_u64).prop_map(Act::RevokeToken),
    ]
}

fn of_proposals() -> impl Strategy<Value = Act> {
    let signed = prop_oneof![
        6 => Just(Signed::Not),
        2 => Just(Signed::Well),
        1 => Just(Signed::Otherwise),
        1 => Just(Signed::LongAgo),
    ];
    let by = prop_oneof![2 => Just(0), 1 => 1..4_u32];
    // In the order of `STEPS`.
    let step =
        prop_oneof![1 => Just(0_usize), 2 => Just(1), 1 => Just(2), 1 => Just(3), 4 => Just(4)];
    let what = (0..4_usize, 10..120_u64, 0..4_usize, 0..5_usize);
    prop_oneof![
        3 => (0..3_u32, proptest::bool::weighted(0.7), what, signed).prop_map(
            |(author, open, (method, period_s, category, electorate), signed)| Act::Propose {
                author,
                open,
                method,
                period_s,
                category,
                electorate,
                signed,
            }
        ),
        2 => (by, 0..20_u64, step)
            .prop_map(|(by, proposal, step)| Act::Step { by, proposal, step }),
    ]
}

fn of_ballots() -> impl Strategy<Value = Act> {
    let text = prop_oneof![
        3 => Just(Text::None),
        2 => (0..3_u8).prop_map(Text::Signed),
        1 => (0..3_u8).prop_map(Text::Swapped),
    ];
    let choice = prop_oneof![3 => Just(0_usize), 1 => Just(1), 1 => Just(2)];
    let jti = proptest::option::weighted(0.6, 0..2_u8);
    let old_key = proptest::bool::weighted(0.2);
    let forged = proptest::bool::weighted(0.1);
    prop_oneof![
        4 => (1..8_u32, 0..20_u64, choice.clone(), jti, text, old_key, forged).prop_map(
            |(voter, proposal, choice, jti, text, old_key, forged)| Act::Cast {
                voter,
                proposal,
                choice,
                jti,
                text,
                old_key,
                forged,
            }
        ),
        2 => (1..4_u32, 4..9_u32, 0..20_u64, choice).prop_map(
            |(from, to, proposal, choice)| Act::Batch { from, to, proposal, choice }
        ),
    ]
}

fn of_the_committee() -> impl Strategy<Value = Act> {
    let how = prop_oneof![
        6 => Just(Certified::Well),
        1 => Just(Certified::Otherwise),
        1 => Just(Certified::Elsewhere),
        1 => Just(Certified::ByOthers),
    ];
    // Mostly in order.
    let closing = prop_oneof![4 => Just(0_usize), 1 => 0..4_usize];
    prop_oneof![
        1 => (0..3_usize, 0..6_u32, 0..16_u32)
            .prop_map(|(change, seat, key)| Act::ProposeChange { change, seat, key }),
        3 => (closing, 0..8_u8, how)
            .prop_map(|(closing, first, how)| Act::Certify { closing, first, how }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => wait(),
        8 => of_agents(),
        14 => of_proposals(),
        28 => of_ballots(),
        12 => of_the_committee(),
        1 => (1..9_u64).prop_map(Act::Restored),
        6 => (0..12_usize).prop_map(Act::Again),
    ]
}

/// Histories of so many acts.
pub fn acts(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Keyed>> {
    let key = proptest::option::weighted(0.2, 0..8_u8);
    proptest::collection::vec((act(), key), count)
}

/// Histories of few requests under few keys, over several days.
pub fn requests() -> impl Strategy<Value = Vec<Keyed>> {
    let day = (0..2_u64).prop_map(|ms| (Act::Wait(DAY_MS + ms), None));
    let request = (1..3_u32, 0..16_u8).prop_map(|(n, key)| (Act::Remove(n), Some(key)));
    proptest::collection::vec(prop_oneof![1 => day, 12 => request], 1..100)
}

/// Histories of few voters on two proposals, who use few jtis.
pub fn quarrels() -> impl Strategy<Value = Vec<Keyed>> {
    let propose = Act::Propose {
        author: 0,
        open: true,
        method: 0,
        period_s: 60,
        category: 0,
        electorate: usize::MAX,
        signed: Signed::Not,
    };
    let cast =
        (1..4_u32, 1..3_u64, 0..3_usize, 0..3_u8).prop_map(|(voter, proposal, choice, jti)| {
            Act::Cast {
                voter,
                proposal,
                choice,
                jti: Some(jti),
                text: Text::None,
                old_key: false,
                forged: false,
            }
        });
    proptest::collection::vec(cast, 1..12).prop_map(move |casts| {
        let proposals = [propose.clone(), propose.clone()];
        let acts = proposals.into_iter().chain(casts);
        acts.map(|act| (act, None)).collect()
    })
}

/// A runner that draws the same from the same seed.
fn runner(seed: u64) -> TestRunner {
    TestRunner::new(Config {
        cases: 1,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    })
}

/// The history of `count` acts that a seed gives.
pub fn drawn(seed: u64, count: usize) -> Vec<Keyed> {
    let tree = acts(count..count + 1).new_tree(&mut runner(seed)).unwrap();
    proptest::strategy::ValueTree::current(&tree)
}

/// The variable that names the one seed to run, to look into a failure.
pub const SEED: &str = "AEGIS_LEDGER_SEED";
const SEEDS: u64 = 48;

/// The seeds that every run of the tests takes, or the one that is asked for.
pub fn seeds() -> Vec<u64> {
    match std::env::var(SEED) {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=SEEDS).collect(),
    }
}

/// Checks a property of the random histories, and tells the seed of one that fails.
pub fn check<S: Strategy>(
    values: impl Fn() -> S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    for seed in seeds() {
        if let Err(error) = runner(seed).run(&values(), &property) {
            panic!("seed {seed}, which {SEED}={seed} runs alone: {error}");
        }
    }
}

/// A history that was played.
pub struct Played {
    pub world: World,
    pub log: Log,
    pub answers: Vec<Answer>,
}

/// The sizes of committee, none among them, that histories are played with.
pub fn seats() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(4)]
}

/// The size that goes with a seed.
pub fn seats_of(seed: u64) -> u32 {
    [0, 1, 4][usize::try_from(seed % 3).unwrap()]
}

/// Turns acts into log entries by playing them in a cluster with so many seats; statements
/// are signed for what stands then.
pub fn play(seats: u32, acts: &[Keyed]) -> Played {
    let mut played = Played {
        world: World::with_committee(seats),
        log: Vec::new(),
        answers: Vec::new(),
    };
    let founders = (1..=FOUNDERS)
        .map(|n| played.registration(n, Form::Attested))
        .collect();
    played.enter(Entry {
        principal: Principal::Administrator,
        request: None,
        command: Command::RegisterAgents(founders),
    });
    for (act, key) in acts {
        if let Act::Wait(ms) = act {
            played.world.now += ms;
        }
        let entry = match act {
            Act::Again(back) => played.again(*back),
            act => played.command(act).map(|(principal, command)| Entry {
                principal,
                request: key.map(|key| RequestKey {
                    key: format!("k{key}"),
                    body: command.digest(),
                }),
                command,
            }),
        };
        if let Some(entry) = entry {
            played.enter(entry);
        }
    }
    played
}

fn principal(n: u32) -> Principal {
    if n == 0 {
        Principal::Administrator
    } else {
        agent(n)
    }
}

impl Played {
    fn enter(&mut self, entry: Entry) {
        self.log.push((self.world.now, entry.clone()));
        self.answers.push(self.world.apply(entry));
    }

    fn again(&self, back: usize) -> Option<Entry> {
        let position = self.log.len().checked_sub(back + 1)?;
        Some(self.log[position].1.clone())
    }

    /// One of the newest proposals, or the one that comes next.
    fn proposal(&self, n: u64) -> ProposalNo {
        let next = query::core(&self.world.tables).unwrap().proposals + 1;
        ProposalNo(next - n % next.min(5))
    }

    /// The newest approved proposal; at random, one would hardly ever be executed.
    fn approved(&self) -> Option<ProposalNo> {
        let filter = query::ProposalFilter {
            statuses: vec![Status::Approved],
            ..Default::default()
        };
        let page = query::proposals(&self.world.tables, &filter, None, 1).unwrap();
        page.items.first().map(|view| view.record.no)
    }

    fn command(&self, act: &Act) -> Option<(Principal, Command)> {
        let by_admin = |command| Some((Principal::Administrator, command));
        match act {
            Act::Wait(_) => Some((Principal::System, Command::Tick)),
            Act::Register { agent, form } => by_admin(Command::RegisterAgents(vec![
                self.registration(*agent, *form),
            ])),
            Act::Remove(n) => by_admin(Command::RemoveAgent { agent: id(*n) }),
            Act::ReplaceKey {
                agent,
                by,
                generation,
                attested,
            } => Some((
                principal(*by),
                self.replace_key(*agent, *generation, *attested),
            )),
            Act::Report {
                by,
                agent,
                ahead_s,
                level_ppb,
            } => Some((
                principal(*by),
                Command::Report {
                    agent: id(*agent),
                    report: self.report(*ahead_s, *level_ppb),
                },
            )),
            Act::IssueToken(n) => by_admin(Command::IssueToken {
                agent: id(*n),
                secret: Digest::of(format!("secret {}", self.log.len())),
            }),
            Act::RevokeToken(no) => by_admin(Command::RevokeToken {
                token: TokenNo(*no),
            }),
            Act::Propose { author, signed, .. } => {
                let document =
                    aegis_crypto::canonicalize(&self.document(act).to_string(), 16).unwrap();
                let signature = self.signature(*author, &document, *signed);
                let propose = Command::Propose {
                    document,
                    signature,
                };
                Some((principal(*author), propose))
            }
            Act::Cast {
                voter,
                proposal,
                choice,
                jti,
                text,
                old_key,
                forged,
            } => {
                let mut ballot = self.ballot(*voter, *proposal, *choice, *jti, *text, *old_key)?;
                // Without a committee the edge would not have let it through.
                if *forged && self.world.genesis.committee().is_some() {
                    ballot.jws = forge(&ballot.jws);
                }
                Some((Principal::Voters, Command::Cast(vec![ballot])))
            }
            Act::Batch {
                from,
                to,
                proposal,
                choice,
            } => {
                let ballots = (*from..*to)
                    .filter_map(|n| self.ballot(n, *proposal, *choice, None, Text::None, false))
                    .collect();
                Some((Principal::Voters, Command::Cast(ballots)))
            }
            Act::Step { by, proposal, step } => Some((
                principal(*by),
                Command::Step {
                    proposal: match STEPS[*step] {
                        Step::Execute => self.approved(),
                        _ => None,
                    }
                    .unwrap_or_else(|| self.proposal(*proposal)),
                    step: STEPS[*step],
                },
            )),
            Act::ProposeChange { change, seat, key } => by_admin(Command::Propose {
                document: change_document(*change, *seat, *key),
                signature: None,
            }),
            Act::Certify {
                closing,
                first,
                how,
            } => {
                let waiting = query::uncertified(&self.world.tables, None, 8).unwrap();
                let next = query::core(&self.world.tables).unwrap().closings + 1;
                let waiting = waiting.items.get(*closing).map(|(ordinal, _)| *ordinal);
                let ordinal = waiting.unwrap_or(Ordinal(next));
                let envelope = self.certificate(ordinal, *first, *how);
                let record = Command::RecordCertificate { ordinal, envelope };
                Some((Principal::System, record))
            }
            Act::Restored(incarnation) => Some((
                Principal::System,
                Command::Restored {
                    incarnation: *incarnation,
                    head: query::core(&self.world.tables).unwrap().audit_head,
                },
            )),
            Act::Again(_) => None,
        }
    }

    fn certificate(&self, ordinal: Ordinal, first: u8, how: Certified) -> String {
        let world = &self.world;
        let newest = query::newest_committee(&world.tables, &world.genesis).unwrap();
        let Some(newest) = newest else {
            return "{}".to_owned();
        };
        let committee = match world.epoch_of(ordinal.0) {
            Epoch::Decided(record) => record,
            Epoch::Undecided { .. } => newest,
        };
        let committee = committee.committee().unwrap();
        let statement = world.statement(ordinal.0);
        let statement = statement.map_or("{}".to_owned(), |s| s.to_canonical());
        let sign = |committee: &_, ordinal, statement: &str| {
            certificate(committee, first, first.into(), ordinal, statement)
        };
        match how {
            Certified::Well => sign(&committee, ordinal.0, &statement),
            Certified::Otherwise => {
                let other = statement.replace("approved", "rejected");
                sign(&committee, ordinal.0, &other)
            }
            Certified::Elsewhere => sign(&committee, ordinal.0 + 1, &statement),
            Certified::ByOthers => {
                let others = genesis_with(7).committee().unwrap().clone();
                sign(&others, ordinal.0, &statement)
            }
        }
    }

    fn registration(&self, n: u32, form: Form) -> Registration {
        let mut registration = self.world.plain(n);
        if n.is_multiple_of(5) {
            registration.agent_type = AgentType::Oracle;
        }
        if !matches!(form, Form::Plain) {
            (registration.attestation, registration.proof) = self.attestation(&registration, n);
        }
        if matches!(form, Form::Heavier) {
            registration.weight = 2;
        }
        registration
    }

    /// The registrar's statement, and that of the key with the number `holder`.
    fn attestation(
        &self,
        registration: &Registration,
        holder: u32,
    ) -> (Option<String>, Option<String>) {
        let claims = self.world.claims(registration);
        let sign = |n| Some(jws::sign(Typ::REGISTRATION, &secret(n), &claims).unwrap());
        (sign(REGISTRAR), sign(holder))
    }

    fn replace_key(&self, n: u32, generation: u32, attested: bool) -> Command {
        let seed = n + 100 * generation;
        let mut registration = self.registration(n, Form::Plain);
        registration.key = Jwk::from(secret(seed).public());
        if attested {
            (registration.attestation, registration.proof) = self.attestation(&registration, seed);
        }
        Command::ReplaceKey {
            agent: id(n),
            key: registration.key,
            attestation: registration.attestation,
            proof: registration.proof,
        }
    }

    /// The number of the key that an agent has now.
    fn key_of(&self, n: u32) -> u32 {
        let record = query::agent(&self.world.tables, &id(n)).unwrap();
        (0..4)
            .map(|generation| n + 100 * generation)
            .find(|seed| {
                record
                    .as_ref()
                    .is_some_and(|record| record.kid == secret(*seed).public().kid())
            })
            .unwrap_or(n)
    }

    fn report(&self, ahead_s: i64, level_ppb: u64) -> Report {
        Report {
            measured_at: self.world.now.saturating_add_signed(ahead_s * 1_000),
            phi_ppb: 1,
            coherence_ppb: 2,
            stability_ppb: 3,
            divergence_ppb: 4,
            consciousness_level_ppb: level_ppb,
        }
    }

    /// The document of [`Act::Propose`].
    fn document(&self, act: &Act) -> serde_json::Value {
        let Act::Propose {
            open,
            method,
            period_s,
            category,
            electorate,
            ..
        } = act
        else {
            panic!("{act:?}");
        };
        let mut document = json!({
            "title": "T", "description": "", "type": "decision", "content": {},
            "open": open, "voting_period_s": period_s,
        });
        if Category::ALL[*category] == Category::Emergency {
            document["type"] = json!("emergency_action");
            document["action"] = json!("quarantine");
            return document;
        }
        document["category"] = json!(Category::ALL[*category].as_str());
        if let Some(method) = Method::ALL.get(*method) {
            document["method"] = json!(method.as_str());
        }
        match electorate {
            0 => document["electorate"] = json!(["a3", "a1", "a2"]),
            1 => document["electorate"] = json!({"attested": true, "types": ["human"]}),
            2 => {
                let deadline = LedgerTime(self.world.now).plus_s(*period_s).rfc3339();
                document["voting_deadline"] = json!(deadline);
                document["voting_period_s"] = json!(null);
            }
            _ => {}
        }
        document
    }

    fn signature(&self, author: u32, document: &str, signed: Signed) -> Option<String> {
        let now_s = (self.world.now / 1_000) as i64;
        let mut claims = ProposalClaims {
            aud: self.world.genesis.cluster_id(),
            sub: id(author).into(),
            digest: Digest::of(document),
            jti: format!("p{}", self.log.len()),
            iat: now_s,
            exp: None,
        };
        match signed {
            Signed::Not => return None,
            Signed::Well => {}
            Signed::Otherwise => claims.digest = Digest::ZERO,
            Signed::LongAgo => claims.iat -= 2 * 86_400,
        }
        let key = secret(self.key_of(author));
        Some(jws::sign(Typ::PROPOSAL, &key, &claims).unwrap())
    }

    fn ballot(
        &self,
        voter: u32,
        proposal: u64,
        choice: usize,
        jti: Option<u8>,
        text: Text,
        old_key: bool,
    ) -> Option<Ballot> {
        let no = self.proposal(proposal);
        query::proposal(&self.world.tables, no).unwrap()?;
        let mut claims = self.world.vote(voter, no, Choice::ALL[choice]);
        if let Some(jti) = jti {
            claims.jti = format!("{voter}-{jti}");
        }
        let (signed, sent) = match text {
            Text::None => (None, None),
            Text::Signed(n) => (Some(n), Some(n)),
            Text::Swapped(n) => (Some(n), Some(n + 1)),
        };
        let because = |n: u8| format!("because of {n}");
        claims.justification_sha256 = signed.map(|n| Digest::of(because(n)));
        let key = if old_key { voter } else { self.key_of(voter) };
        let mut ballot = self.world.sign(key, &claims);
        ballot.justification = sent.map(because);
        Some(ballot)
    }
}

/// The same claims, and a signature of somebody else's over them.
pub fn forge(jws: &str) -> String {
    let (signed, signature) = jws.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    format!("{signed}.{other}{}", &signature[1..])
}

fn change_document(change: usize, seat: u32, key: u32) -> String {
    let name = format!("v{seat}");
    let key = Jwk::from(secret(VALIDATOR + key).public());
    let change = match change {
        0 => json!({"add": {"name": name, "public_key": key}}),
        1 => json!({"remove": {"name": name}}),
        _ => json!({"rotate": {"name": name, "public_key": key}}),
    };
    let document = json!({
        "title": "C", "description": "", "type": "configuration_change", "open": true,
        "voting_period_s": 30, "content": {"committee": change},
    });
    aegis_crypto::canonicalize(&document.to_string(), 16).unwrap()
}
