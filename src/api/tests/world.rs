//! A served node with agents that hold keys.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aegis_api::*;
use aegis_crypto::certificate::signed_bytes;
use aegis_crypto::claims::{ProposalClaims, RegistrationClaims, VoteClaims};
use aegis_crypto::note::{CheckpointBody, Note, NoteKey};
use aegis_crypto::{Certificate, Committee, Digest, Jwk, PublicKey, SeatNo, SecretKey, Typ, jws};
use aegis_ledger::*;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{Ask, Reply};
use crate::node::TestNode;

pub const ADMIN: &str = "the administrator's token";
pub const REGISTRAR: u32 = 1_000_000;
pub const ADMINISTRATOR: u32 = 1_000_001;
/// The number of validator 0's key; the next validators have the next numbers.
pub const VALIDATOR: u32 = 2_000_000;
const VALIDATORS: u32 = 8;

/// The process's metrics, to which every world of this binary adds.
pub static METRICS: LazyLock<metrics::Exporter> = LazyLock::new(|| metrics::install().unwrap());

pub fn seed(seed: u32) -> [u8; 32] {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    bytes
}

pub fn secret(n: u32) -> SecretKey {
    SecretKey::from_seed(&seed(n))
}

pub fn jwk(seed: u32) -> Value {
    serde_json::to_value(Jwk::from(secret(seed).public())).unwrap()
}

/// The key of a validator.
fn validator(key: &PublicKey) -> SecretKey {
    let mut all = (VALIDATOR..VALIDATOR + VALIDATORS).map(secret);
    all.find(|secret| secret.public() == *key).unwrap()
}

fn genesis(seats: u32) -> Genesis {
    let seat = |n| json!({"seat": n, "name": format!("v{n}"), "public_key": jwk(VALIDATOR + n)});
    let document = json!({
        "version": 1, "name": "test", "created_at": "2026-01-01T00:00:00Z",
        "nonce": Digest::of("nonce"), "registrar": jwk(REGISTRAR),
        "administrators": [jwk(ADMINISTRATOR)], "policies": initial_policies_digest(),
        "committee": (0..seats).map(seat).collect::<Vec<_>>(),
    });
    Genesis::parse(serde_json::to_vec(&document).unwrap()).unwrap()
}

/// A node and its listeners.
pub struct World {
    pub node: Arc<TestNode>,
    pub address: SocketAddr,
    pub events: SocketAddr,
    pub stop: CancellationToken,
    pub served: JoinHandle<()>,
    pub served_events: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.served.abort();
        self.served_events.abort();
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with_settings(|_| ()).await
    }

    pub async fn with_settings(set: impl FnOnce(&mut Settings)) -> Self {
        Self::over(TestNode::new(genesis(0)), set).await
    }

    /// A world with a committee of so many seats and so many agents.
    pub async fn with_committee(seats: u32, agents: u32) -> Self {
        let world = Self::over(TestNode::new(genesis(seats)), |_| ()).await;
        world.register(agents);
        world
    }

    pub async fn over(node: Arc<TestNode>, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new(Digest::of(ADMIN));
        settings.http.linger = Duration::from_millis(200);
        set(&mut settings);
        let governance = Arc::clone(&node) as Arc<dyn Governance>;
        // Handles made before the recorder is installed would record nothing.
        LazyLock::force(&METRICS);
        let render = Box::new(|| METRICS.render());
        let edge = Edge::new(governance, settings, render).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let events = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        Self {
            node,
            address: listener.local_addr().unwrap(),
            events: events.local_addr().unwrap(),
            served: tokio::spawn(Arc::clone(&edge).serve(listener, stop.clone())),
            served_events: tokio::spawn(edge.serve_events(events, stop.clone())),
            stop,
        }
    }

    /// A world with agents `a1` to `a<count>`, each with the key of its number.
    pub async fn with_agents(count: u32) -> Self {
        let world = Self::new().await;
        world.register(count);
        world
    }

    pub fn register(&self, count: u32) {
        self.register_all((1..=count).map(|n| self.attested(n)).collect());
    }

    pub fn register_all(&self, registrations: Vec<Registration>) {
        let answer = self.node.apply(Entry {
            principal: Principal::Administrator,
            request: None,
            command: Command::RegisterAgents(registrations),
        });
        let Ok(Receipt::Agents(receipts)) = answer.outcome else {
            panic!("{answer:?}")
        };
        assert!(receipts.iter().all(Result::is_ok), "{receipts:?}");
    }

    pub fn get(&self, path: &str) -> Ask {
        Ask::new(self.address, Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Ask {
        Ask::new(self.address, Method::POST, path)
    }

    pub fn delete(&self, path: &str) -> Ask {
        Ask::new(self.address, Method::DELETE, path)
    }

    /// A POST by the administrator.
    pub async fn admin(&self, path: &str, body: &Value) -> Reply {
        self.post(path).token(ADMIN).json(body).send().await
    }

    pub async fn read(&self, path: &str) -> Value {
        self.get(path).send().await.ok(200)
    }

    /// Casts a vote that must be refused: no ballot on the first proposal is counted, and
    /// the node goes on answering. Gives the detail.
    pub async fn refuses(&self, body: impl Into<Bytes>, status: u16, code: &str) -> String {
        let before = self.read("/proposals/prop_1").await["votes"].clone();
        let reply = self.post("/votes").text(body).send().await;
        let detail = reply.problem(status, code);
        let after = &self.read("/proposals/prop_1").await["votes"];
        assert_eq!(*after, before, "{code}: {detail}");
        detail
    }

    pub fn cluster_id(&self) -> Digest {
        self.node.genesis.cluster_id()
    }

    /// The registration of an agent with an attestation, as the ledger takes it.
    pub fn attested(&self, n: u32) -> Registration {
        let claims = self.registration_claims(n);
        Registration {
            id: Some(id(n)),
            name: format!("Agent {n}"),
            agent_type: AgentType::Human,
            key: secret(n).public().into(),
            weight: 1,
            attestation: Some(jws::sign(Typ::REGISTRATION, &secret(REGISTRAR), &claims).unwrap()),
            proof: Some(jws::sign(Typ::REGISTRATION, &secret(n), &claims).unwrap()),
        }
    }

    pub fn registration_claims(&self, n: u32) -> RegistrationClaims {
        RegistrationClaims {
            aud: self.cluster_id(),
            agent_id: id(n).into(),
            agent_type: AgentType::Human,
            weight: 1.into(),
            jwk: secret(n).public().into(),
            iat: None,
        }
    }

    /// A token of an agent.
    pub async fn token(&self, agent: &str) -> String {
        let reply = self.admin("/tokens", &json!({"agent_id": agent})).await;
        reply.ok(201)["token"].as_str().unwrap().to_owned()
    }

    /// Submits a decision with extra members, open at once, and gives its id.
    pub async fn propose_with(&self, extra: Value) -> String {
        let reply = self.admin("/proposals", &document(extra)).await;
        reply.ok(201)["proposal_id"].as_str().unwrap().to_owned()
    }

    pub async fn propose(&self) -> String {
        self.propose_with(json!({"open": true})).await
    }

    /// What `GET /ballot` says, completed by a voter.
    pub async fn vote(&self, n: u32, proposal: &str, choice: &str) -> VoteClaims {
        let ballot = self.read(&format!("/proposals/{proposal}/ballot")).await;
        VoteClaims {
            aud: serde_json::from_value(ballot["aud"].clone()).unwrap(),
            sub: id(n).into(),
            proposal: ballot["proposal"].as_str().unwrap().to_owned(),
            digest: serde_json::from_value(ballot["digest"].clone()).unwrap(),
            round: serde_json::from_value(ballot["round"].clone()).unwrap(),
            choice: choice.to_owned(),
            confidence: "0.9".to_owned(),
            justification_sha256: None,
            jti: format!("{n}-{proposal}-{choice}"),
            iat: self.node.now_s(),
            exp: None,
            seq: None,
        }
    }

    /// Casts a vote that is admitted.
    pub async fn cast(&self, n: u32, proposal: &str, choice: &str) -> Value {
        let claims = self.vote(n, proposal, choice).await;
        self.post("/votes")
            .json(&ballot(n, &claims))
            .send()
            .await
            .ok(201)
    }

    /// Casts the ballots of the first agents, for, so that the proposal closes.
    pub async fn approve(&self, proposal: &str, agents: u32) {
        for n in 1..=agents {
            self.cast(n, proposal, "for").await;
        }
        let proposal = self.read(&format!("/proposals/{proposal}")).await;
        assert_eq!(proposal["status"], "approved");
    }

    fn committee_of(&self, ordinal: u64) -> Committee {
        let tables = self.node.tables();
        match query::epoch_of(&tables, &self.node.genesis, Ordinal(ordinal)).unwrap() {
            Some(Epoch::Decided(record)) => record.committee().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Records the certificate of a closing, and gives its envelope.
    pub fn certify(&self, ordinal: u64) -> String {
        let committee = self.committee_of(ordinal);
        let statement =
            query::statement(&self.node.tables(), &self.node.genesis, Ordinal(ordinal)).unwrap();
        let statement = statement.unwrap().to_canonical();
        let signed = signed_bytes(committee.epoch(), 7, ordinal, &statement);
        let signatures = quorum(&committee).map(|(seat, secret)| (seat, secret.sign(&signed)));
        let signatures = signatures.collect();
        let envelope = Certificate::assemble(&committee, 7, ordinal, statement, signatures)
            .unwrap()
            .to_envelope(&committee);
        let answer = self.node.apply(Entry {
            principal: Principal::System,
            request: None,
            command: Command::RecordCertificate {
                ordinal: Ordinal(ordinal),
                envelope: envelope.clone(),
            },
        });
        assert_eq!(answer.outcome, Ok(Receipt::Done));
        envelope
    }

    /// A checkpoint of all that there is, signed by the committee of a closing.
    pub fn checkpoint(&self, ordinal: u64) -> String {
        let (tables, cluster) = (self.node.tables(), self.cluster_id());
        let committee = self.committee_of(ordinal);
        let size = query::core(&tables).unwrap().audit_entries;
        let root = query::tree_root(&tables, size).unwrap().unwrap();
        let extensions = [
            "incarnation 0".to_owned(),
            format!("epoch {}", committee.epoch()),
            format!("ordinal {ordinal}"),
            format!("chain {}", Digest::ZERO),
        ];
        let origin = format!("aegis/{cluster}");
        let body = CheckpointBody::new(origin, size, root, extensions.into()).unwrap();
        let text = body.to_text();
        let lines = quorum(&committee).map(|(seat, secret)| {
            note_key(&cluster, &committee, seat).line(&secret.sign(text.as_bytes()))
        });
        Note::new(text.clone(), lines.collect()).unwrap().to_text()
    }

    /// Gives the node a seat, which knows of this checkpoint.
    pub fn seat(&self, epoch: u64, checkpoint: Option<String>) {
        let ordinals = [5, 4, 5, 0].map(Ordinal);
        *self.node.seat.lock().unwrap() = Some(SeatStanding {
            epoch,
            seat: SeatNo(2),
            view: 7,
            primary: SeatNo(3),
            changing_view: false,
            low: Ordinal(0),
            high: Ordinal(128),
            certified_through: Ordinal(4),
            committed: (0..).map(SeatNo).zip(ordinals).collect(),
            checkpoint,
        });
    }

    /// A proposal's document, signed by its author.
    pub fn sign_proposal(&self, n: u32, document: &Value, jti: &str) -> String {
        let canonical = aegis_crypto::canonicalize(&document.to_string(), 16).unwrap();
        let claims = ProposalClaims {
            aud: self.cluster_id(),
            sub: id(n).into(),
            digest: Digest::of(canonical),
            jti: jti.to_owned(),
            iat: self.node.now_s(),
            exp: None,
        };
        jws::sign(Typ::PROPOSAL, &secret(n), &claims).unwrap()
    }
}

/// The body of a vote that says what its claims say.
pub fn ballot(signer: u32, claims: &VoteClaims) -> Value {
    let signature = jws::sign(Typ::VOTE, &secret(signer), claims).unwrap();
    let confidence: Value = serde_json::from_str(&claims.confidence).unwrap_or(json!(1));
    json!({
        "proposal_id": claims.proposal, "vote": claims.choice, "confidence": confidence,
        "signature": signature,
    })
}

/// A decision with extra members.
pub fn document(extra: Value) -> Value {
    let mut document = json!({
        "title": "Where to meet", "description": "In spring.", "type": "decision",
        "content": {"place": "Lisbon", "budget": 1e3},
    });
    for (field, value) in extra.as_object().unwrap() {
        document[field] = value.clone();
    }
    document
}

pub fn id(n: u32) -> AgentId {
    format!("a{n}").parse().unwrap()
}

/// The lowest seats that make a quorum, with their keys.
fn quorum(committee: &Committee) -> impl Iterator<Item = (SeatNo, SecretKey)> {
    let seats = committee.seats();
    let lowest = seats.iter().take(seats.quorum().into());
    lowest.map(|seat| (seat, validator(committee.key(seat).unwrap())))
}

/// The key under which a seat of `v0`, `v1`, ... signs checkpoints.
pub fn note_key(cluster: &Digest, committee: &Committee, seat: SeatNo) -> NoteKey {
    let name = format!("aegis/{cluster}/v{seat}");
    NoteKey::new(name, *committee.key(seat).unwrap()).unwrap()
}
