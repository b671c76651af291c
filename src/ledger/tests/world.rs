//! A small world to vote in: tables in memory, agents with keys, a clock to turn.

use aegis_crypto::claims::{AgentType, RegistrationClaims, VoteClaims};
use aegis_crypto::{Digest, SecretKey, Typ, jws};
use aegis_ledger::*;

pub use crate::tables::Tables;

pub fn secret(seed: u32) -> SecretKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    SecretKey::from_seed(&bytes)
}

pub const REGISTRAR: u32 = 1_000_000;

pub fn genesis() -> Genesis {
    let jwk = |seed| serde_json::to_value(aegis_crypto::Jwk::from(secret(seed).public())).unwrap();
    let document = serde_json::json!({
        "version": 1, "name": "test", "created_at": "2026-01-01T00:00:00Z",
        "nonce": Digest::of("nonce"), "registrar": jwk(REGISTRAR), "administrators": [jwk(REGISTRAR + 1)],
        "policies": initial_policies_digest(), "committee": [],
    });
    Genesis::parse(serde_json::to_vec(&document).unwrap()).unwrap()
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
        let genesis = genesis();
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
        let mut world = Self::new();
        let registrations = (1..=count).map(|n| world.attested(n)).collect();
        for receipt in world.register(registrations) {
            receipt.unwrap();
        }
        world
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
