//! A small world to vote in: tables in memory, agents with keys, a clock to turn.

use aegis_crypto::certificate::{Certificate, signed_bytes};
use aegis_crypto::claims::{AgentType, RegistrationClaims, VoteClaims};
use aegis_crypto::{Committee, Digest, Jwk, SeatNo, SecretKey, Typ, jws};
use aegis_ledger::*;

pub use crate::tables::Tables;

pub fn secret(seed: u32) -> SecretKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    SecretKey::from_seed(&bytes)
}

pub const REGISTRAR: u32 = 1_000_000;

/// The number of validator 0's key; the next validators have the next numbers.
pub const VALIDATOR: u32 = 2_000_000;
const VALIDATORS: u32 = 64;

/// A genesis document with so many seats, `v0` and on.
pub fn genesis_document(seats: u32) -> serde_json::Value {
    let jwk = |seed| serde_json::to_value(Jwk::from(secret(seed).public())).unwrap();
    let seat = |n| serde_json::json!({"seat": n, "name": format!("v{n}"), "public_key": jwk(VALIDATOR + n)});
    serde_json::json!({
        "version": 1, "name": "test", "created_at": "2026-01-01T00:00:00Z",
        "nonce": Digest::of("nonce"), "registrar": jwk(REGISTRAR), "administrators": [jwk(REGISTRAR + 1)],
        "policies": initial_policies_digest(), "committee": (0..seats).map(seat).collect::<Vec<_>>(),
    })
}

pub fn genesis_with(seats: u32) -> Genesis {
    Genesis::parse(serde_json::to_vec(&genesis_document(seats)).unwrap()).unwrap()
}

/// The key of the validator with this public key.
fn validator(key: &aegis_crypto::PublicKey) -> SecretKey {
    let all = (VALIDATOR..VALIDATOR + VALIDATORS).map(secret);
    all.into_iter()
        .find(|secret| secret.public() == *key)
        .unwrap()
}

/// A certificate by the seats from `first` on, going round, as many as make a quorum.
pub fn certificate(
    committee: &Committee,
    first: u8,
    view: u64,
    ordinal: u64,
    statement: &str,
) -> String {
    let signed = signed_bytes(committee.epoch(), view, ordinal, statement);
    let seats = committee.seats();
    let signers = (0..seats.quorum()).map(|n| SeatNo((first + n) % seats.count()));
    let signatures = signers
        .map(|seat| (seat, validator(committee.key(seat).unwrap()).sign(&signed)))
        .collect();
    Certificate::assemble(committee, view, ordinal, statement.to_owned(), signatures)
        .unwrap()
        .to_envelope(committee)
}

/// A ledger with its tables, a clock and a log position.
pub struct World {
    pub genesis: Genesis,
    pub ledger: Ledger,
    pub tables: Tables,
    pub index: u64,
    pub now: u64,
    pub events: Vec<EventKind>,
}

pub const START_MS: u64 = 1_780_000_000_000;

impl World {
    pub fn new() -> Self {
        Self::with_committee(0)
    }

    /// A world with a committee of so many seats.
    pub fn with_committee(seats: u32) -> Self {
        let genesis = genesis_with(seats);
        let ledger = Ledger::load(&Tables::default(), &genesis).unwrap();
        Self {
            genesis,
            ledger,
            tables: Tables::default(),
            index: 0,
            now: START_MS,
            events: Vec::new(),
        }
    }

    /// A world with `count` attested agents, `a1` to `a<count>`, each with the key of its number.
    pub fn with_agents(count: u32) -> Self {
        Self::new().and_agents(count)
    }

    pub fn and_agents(mut self, count: u32) -> Self {
        let registrations = (1..=count).map(|n| self.attested(n)).collect();
        for receipt in self.register(registrations) {
            receipt.unwrap();
        }
        self
    }

    pub fn apply(&mut self, entry: Entry) -> Answer {
        self.index += 1;
        let applied = self
            .ledger
            .apply(
                &self.tables,
                LogIndex(self.index),
                LedgerTime(self.now),
                entry,
            )
            .unwrap();
        self.tables.write(applied.changes);
        self.events
            .extend(applied.events.into_iter().map(|event| event.kind));
        applied.answer
    }

    pub fn run(&mut self, principal: Principal, command: Command) -> Result<Receipt, Refusal> {
        self.apply(Entry {
            principal,
            request: None,
            command,
        })
        .outcome
    }

    pub fn admin(&mut self, command: Command) -> Result<Receipt, Refusal> {
        self.run(Principal::Administrator, command)
    }

    pub fn tick_at(&mut self, now: u64) {
        self.now = now;
        self.run(Principal::System, Command::Tick).unwrap();
    }

    pub fn register(
        &mut self,
        registrations: Vec<Registration>,
    ) -> Vec<Result<AgentReceipt, Refusal>> {
        match self.admin(Command::RegisterAgents(registrations)).unwrap() {
            Receipt::Agents(receipts) => receipts,
            other => panic!("{other:?}"),
        }
    }

    pub fn plain(&self, n: u32) -> Registration {
        Registration {
            id: Some(id(n)),
            name: format!("Agent {n}"),
            agent_type: AgentType::Human,
            key: secret(n).public().into(),
            weight: 1,
            attestation: None,
            proof: None,
        }
    }

    pub fn attested(&self, n: u32) -> Registration {
        let mut registration = self.plain(n);
        let claims = self.claims(&registration);
        registration.attestation =
            Some(jws::sign(Typ::REGISTRATION, &secret(REGISTRAR), &claims).unwrap());
        registration.proof = Some(jws::sign(Typ::REGISTRATION, &secret(n), &claims).unwrap());
        registration
    }

    pub fn claims(&self, registration: &Registration) -> RegistrationClaims {
        RegistrationClaims {
            aud: self.genesis.cluster_id(),
            agent_id: registration.id.clone().unwrap().into(),
            agent_type: registration.agent_type,
            weight: serde_json::from_str(&registration.weight.to_string()).unwrap(),
            jwk: registration.key,
            iat: None,
        }
    }

    /// Submits a decision with extra members, open at once.
    pub fn propose_with(&mut self, extra: serde_json::Value) -> Result<ProposalNo, Refusal> {
        let mut document = serde_json::json!({
            "title": "T", "description": "D", "type": "decision", "content": {}, "open": true,
        });
        for (field, value) in extra.as_object().unwrap() {
            document[field] = value.clone();
        }
        self.propose_document(Principal::Administrator, &document.to_string())
    }

    pub fn propose(&mut self) -> ProposalNo {
        self.propose_with(serde_json::json!({})).unwrap()
    }

    pub fn propose_document(
        &mut self,
        author: Principal,
        raw: &str,
    ) -> Result<ProposalNo, Refusal> {
        let document = aegis_crypto::canonicalize(raw, 16).unwrap();
        match self.run(
            author,
            Command::Propose {
                document,
                signature: None,
            },
        )? {
            Receipt::Proposed { proposal, .. } => Ok(proposal),
            other => panic!("{other:?}"),
        }
    }

    pub fn view(&self, no: ProposalNo) -> query::ProposalView {
        query::proposal(&self.tables, no).unwrap().unwrap()
    }

    pub fn status(&self, no: ProposalNo) -> Status {
        self.view(no).record.status
    }

    /// The claims of a ballot that would be admitted.
    pub fn vote(&self, voter: u32, no: ProposalNo, choice: Choice) -> VoteClaims {
        let record = self.view(no).record;
        VoteClaims {
            aud: self.genesis.cluster_id(),
            sub: id(voter).into(),
            proposal: no.to_string(),
            digest: record
                .frozen
                .map_or(Digest::ZERO, |frozen| frozen.voting_digest),
            round: record.round,
            choice: choice.as_str().to_owned(),
            confidence: "1".to_owned(),
            justification_sha256: None,
            jti: format!("{voter}-{no}-{choice:?}"),
            iat: (self.now / 1_000) as i64,
            exp: None,
            seq: None,
        }
    }

    pub fn sign(&self, voter: u32, claims: &VoteClaims) -> Ballot {
        Ballot {
            jws: jws::sign(Typ::VOTE, &secret(voter), claims).unwrap(),
            justification: None,
        }
    }

    pub fn cast_ballot(&mut self, ballot: Ballot) -> Result<CastReceipt, Refusal> {
        match self
            .run(Principal::Voters, Command::Cast(vec![ballot]))
            .unwrap()
        {
            Receipt::Cast(mut receipts) => receipts.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub fn cast(
        &mut self,
        voter: u32,
        no: ProposalNo,
        choice: Choice,
    ) -> Result<CastReceipt, Refusal> {
        let ballot = self.sign(voter, &self.vote(voter, no, choice));
        self.cast_ballot(ballot)
    }

    /// Casts the ballots of all these voters, for.
    pub fn approve(&mut self, no: ProposalNo, voters: std::ops::RangeInclusive<u32>) {
        for voter in voters {
            self.cast(voter, no, Choice::For).unwrap();
        }
        assert_eq!(self.status(no), Status::Approved);
    }

    /// Restarts the ledger from its tables.
    pub fn restart(&mut self) {
        let again = Ledger::load(&self.tables, &self.genesis).unwrap();
        assert_eq!(again, self.ledger);
        self.ledger = again;
    }

    pub fn statement(&self, ordinal: u64) -> Option<Statement> {
        query::statement(&self.tables, &self.genesis, Ordinal(ordinal)).unwrap()
    }

    pub fn epoch_of(&self, ordinal: u64) -> Epoch {
        query::epoch_of(&self.tables, &self.genesis, Ordinal(ordinal))
            .unwrap()
            .unwrap()
    }

    /// The committee of a closing's epoch.
    pub fn committee_of(&self, ordinal: u64) -> Committee {
        match self.epoch_of(ordinal) {
            Epoch::Decided(record) => record.committee().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// A good certificate of a closing.
    pub fn certificate(&self, ordinal: u64) -> String {
        let statement = self.statement(ordinal).unwrap().to_canonical();
        certificate(&self.committee_of(ordinal), 0, 0, ordinal, &statement)
    }

    pub fn record(&mut self, ordinal: u64, envelope: String) -> Result<Receipt, Refusal> {
        let ordinal = Ordinal(ordinal);
        self.run(
            Principal::System,
            Command::RecordCertificate { ordinal, envelope },
        )
    }

    pub fn certify(&mut self, ordinal: u64) {
        let envelope = self.certificate(ordinal);
        self.record(ordinal, envelope).unwrap();
    }

    /// Proposes a change of the committee, open at once.
    pub fn propose_change(&mut self, change: serde_json::Value) -> Result<ProposalNo, Refusal> {
        self.propose_with(serde_json::json!({
            "type": "configuration_change", "content": {"committee": change},
        }))
    }

    /// Casts a ballot whose claims were altered first.
    pub fn cast_altered(
        &mut self,
        voter: u32,
        no: ProposalNo,
        alter: impl FnOnce(&mut VoteClaims),
    ) -> Result<CastReceipt, Refusal> {
        let mut claims = self.vote(voter, no, Choice::For);
        alter(&mut claims);
        let ballot = self.sign(voter, &claims);
        self.cast_ballot(ballot)
    }
}

pub fn id(n: u32) -> AgentId {
    format!("a{n}").parse().unwrap()
}

pub fn agent(n: u32) -> Principal {
    Principal::Agent(id(n))
}
