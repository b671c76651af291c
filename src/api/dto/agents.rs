//! Agents and tokens, on their way in and out.

use aegis_crypto::claims::AgentType;
use aegis_crypto::{JsonLimits, Jwk, Kid, NumberText, from_slice_strict, json};
use aegis_ledger::{
    AgentId, AgentReceipt, AgentRecord, LedgerTime, Ppb, Registration, Report, Standing, TokenNo,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::text::{Decimal, Text, Time, ppb};
use crate::problem::Problem;
use crate::server::call::JSON_DEPTH_MAX;

/// An agent to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AgentRegistration)]
pub(crate) struct RegisterRequest<'a> {
    /// Its id, 1 to 64 of `A-Z a-z 0-9 . _ : -`; required with an attestation, drawn
    /// otherwise.
    #[serde(default, deserialize_with = "json::present")]
    #[schema(value_type = Option<String>)]
    agent_id: Option<AgentId>,
    /// What people call it.
    name: String,
    /// What it is.
    #[schema(value_type = String, example = "llm")]
    r#type: AgentType,
    /// Its Ed25519 key as a JWK.
    #[serde(borrow)]
    #[schema(value_type = Object)]
    public_key: &'a RawValue,
    /// Its weight in whole units; 1 if absent.
    #[serde(default, deserialize_with = "json::present")]
    weight: Option<u32>,
    /// The registrar's statement: a compact JWS of type `aegis-registration+jws`.
    #[serde(default, deserialize_with = "json::present")]
    attestation: Option<String>,
    /// The same claims, signed by the agent's own key.
    #[serde(default, deserialize_with = "json::present")]
    proof: Option<String>,
}

impl RegisterRequest<'_> {
    pub(crate) fn into_registration(self) -> Result<Registration, Problem> {
        Ok(Registration {
            id: self.agent_id,
            name: self.name,
            agent_type: self.r#type,
            key: public_key(self.public_key)?,
            weight: self.weight.unwrap_or(1),
            attestation: self.attestation,
            proof: self.proof,
        })
    }
}

/// A key that can be refused has a code of its own: weak ones are an attack, not a typo.
fn public_key(raw: &RawValue) -> Result<Jwk, Problem> {
    let limits = JsonLimits {
        depth: JSON_DEPTH_MAX,
        bytes: raw.get().len(),
    };
    from_slice_strict(raw.get().as_bytes(), limits).map_err(|error| {
        let detail = format!("`public_key`: {error}; send an Ed25519 key as a JWK (RFC 8037)");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_key", detail)
    })
}

/// Up to 256 agents to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AgentBatch)]
pub(crate) struct RegisterBatch<'a> {
    /// The agents; each succeeds or fails alone.
    #[serde(borrow)]
    #[schema(max_items = 256)]
    pub(crate) agents: Vec<RegisterRequest<'a>>,
}

/// A key to replace an agent's with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyReplacement)]
pub(crate) struct KeyRequest<'a> {
    /// The new Ed25519 key as a JWK.
    #[serde(borrow)]
    #[schema(value_type = Object)]
    public_key: &'a RawValue,
    /// The registrar's statement over the new key; without one the agent is no longer attested.
    #[serde(default, deserialize_with = "json::present")]
    pub(crate) attestation: Option<String>,
    /// The same claims, signed by the new key.
    #[serde(default, deserialize_with = "json::present")]
    pub(crate) proof: Option<String>,
}

impl KeyRequest<'_> {
    pub(crate) fn key(&self) -> Result<Jwk, Problem> {
        public_key(self.public_key)
    }
}

/// An oracle's figures, each from 0 to 1 with at most 9 decimals.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Report)]
pub(crate) struct ReportRequest {
    /// When the oracle measured; later than in the last report.
    #[schema(format = DateTime)]
    measured_at: String,
    /// Integrated information.
    #[schema(value_type = f64)]
    phi: NumberText,
    /// Coherence.
    #[schema(value_type = f64)]
    coherence: NumberText,
    /// Stability.
    #[schema(value_type = f64)]
    stability: NumberText,
    /// Divergence.
    #[schema(value_type = f64)]
    divergence: NumberText,
    /// Consciousness level.
    #[schema(value_type = f64)]
    consciousness_level: NumberText,
}

impl ReportRequest {
    pub(crate) fn report(&self) -> Result<Report, Problem> {
        let figure = |field, number: &NumberText| match ppb(number.as_str()) {
            Ok(figure) if figure <= Ppb::ONE => Ok(figure.0),
            Ok(figure) => Err(Problem::invalid_field(
                field,
                format!("{figure} is outside 0 to 1"),
            )),
            Err(error) => Err(Problem::invalid_field(field, error.to_string())),
        };
        Ok(Report {
            measured_at: self.measured_at()?.0,
            phi_ppb: figure("phi", &self.phi)?,
            coherence_ppb: figure("coherence", &self.coherence)?,
            stability_ppb: figure("stability", &self.stability)?,
            divergence_ppb: figure("divergence", &self.divergence)?,
            consciousness_level_ppb: figure("consciousness_level", &self.consciousness_level)?,
        })
    }

    fn measured_at(&self) -> Result<LedgerTime, Problem> {
        self.measured_at
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|time| u64::try_from(time.as_millisecond()).ok())
            .map(LedgerTime)
            .ok_or_else(|| {
                let reason = "it is not an RFC 3339 time like 2027-12-31T23:59:59Z";
                Problem::invalid_field("measured_at", reason)
            })
    }
}

/// A registered agent.
#[derive(Serialize, ToSchema)]
#[schema(as = AgentRegistered)]
pub(crate) struct RegisteredBody {
    /// Its id.
    #[schema(value_type = String)]
    agent_id: Text<AgentId>,
    /// The thumbprint of its key (RFC 7638).
    #[schema(value_type = String)]
    kid: Kid,
    /// Whether the registrar stands behind it.
    attested: bool,
}

impl From<AgentReceipt> for RegisteredBody {
    fn from(receipt: AgentReceipt) -> Self {
        Self {
            agent_id: Text(receipt.id),
            kid: receipt.kid,
            attested: receipt.attested,
        }
    }
}

/// What came of one agent of a batch.
#[derive(Serialize, ToSchema)]
#[schema(as = AgentResult)]
pub(crate) struct RegisterResult {
    /// The status that the registration would have had alone.
    status: u16,
    /// The agent, where it is registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    agent_id: Option<Text<AgentId>>,
    /// The thumbprint of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    kid: Option<Kid>,
    /// Whether the registrar stands behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    attested: Option<bool>,
    /// Why not, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// Why not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<Result<AgentReceipt, Problem>> for RegisterResult {
    fn from(result: Result<AgentReceipt, Problem>) -> Self {
        match result {
            Ok(receipt) => Self {
                status: 201,
                agent_id: Some(Text(receipt.id)),
                kid: Some(receipt.kid),
                attested: Some(receipt.attested),
                code: None,
                detail: None,
            },
            Err(problem) => Self {
                status: problem.status().as_u16(),
                agent_id: None,
                kid: None,
                attested: None,
                code: Some(problem.code()),
                detail: Some(problem.detail().to_owned()),
            },
        }
    }
}

/// What came of a batch of agents.
#[derive(Serialize, ToSchema)]
#[schema(as = AgentResults)]
pub(crate) struct RegisterResults {
    /// One for each agent, in order.
    pub(crate) results: Vec<RegisterResult>,
}

/// An agent.
#[derive(Serialize, ToSchema)]
#[schema(as = Agent)]
pub(crate) struct AgentBody {
    /// Its id.
    #[schema(value_type = String)]
    agent_id: Text<AgentId>,
    /// What people call it.
    name: String,
    /// What it is.
    #[schema(value_type = String)]
    r#type: AgentType,
    /// Its weight in whole units.
    weight: u32,
    /// The key it signs with.
    #[schema(value_type = Object)]
    public_key: Jwk,
    /// The key's thumbprint.
    #[schema(value_type = String)]
    kid: Kid,
    /// The thumbprints of the keys it had before.
    #[schema(value_type = Vec<String>)]
    retired_kids: Vec<Kid>,
    /// Whether the registrar stands behind it.
    attested: bool,
    /// The registrar's statement.
    attestation: Option<String>,
    /// The agent's own statement.
    proof: Option<String>,
    /// `active` or `removed`.
    #[schema(value_type = String)]
    status: Standing,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    registered_at: Time,
    /// The last report on it.
    report: Option<ReportBody>,
}

impl From<AgentRecord> for AgentBody {
    fn from(record: AgentRecord) -> Self {
        Self {
            attested: record.is_attested(),
            agent_id: Text(record.id),
            name: record.name,
            r#type: record.agent_type,
            weight: record.weight,
            public_key: record.key,
            kid: record.kid,
            retired_kids: record.retired,
            attestation: record.attestation,
            proof: record.proof,
            status: record.standing,
            registered_at: Time(record.registered_at),
            report: record.report.map(ReportBody::from),
        }
    }
}

/// An oracle's last figures on an agent.
#[derive(Serialize, ToSchema)]
#[schema(as = ReportEntry)]
pub(crate) struct ReportBody {
    /// When the oracle measured.
    #[schema(value_type = String, format = DateTime)]
    measured_at: Time,
    /// Integrated information.
    #[schema(value_type = f64)]
    phi: Decimal,
    /// Coherence.
    #[schema(value_type = f64)]
    coherence: Decimal,
    /// Stability.
    #[schema(value_type = f64)]
    stability: Decimal,
    /// Divergence.
    #[schema(value_type = f64)]
    divergence: Decimal,
    /// Consciousness level.
    #[schema(value_type = f64)]
    consciousness_level: Decimal,
}

impl From<Report> for ReportBody {
    fn from(report: Report) -> Self {
        Self {
            measured_at: Time(LedgerTime(report.measured_at)),
            phi: Decimal(Ppb(report.phi_ppb)),
            coherence: Decimal(Ppb(report.coherence_ppb)),
            stability: Decimal(Ppb(report.stability_ppb)),
            divergence: Decimal(Ppb(report.divergence_ppb)),
            consciousness_level: Decimal(Ppb(report.consciousness_level_ppb)),
        }
    }
}

/// A recorded report.
#[derive(Serialize, ToSchema)]
#[schema(as = ReportRecorded)]
pub(crate) struct ReportedBody {
    /// The agent reported on.
    #[schema(value_type = String)]
    pub(crate) agent_id: Text<AgentId>,
    /// The figures as they were recorded.
    pub(crate) report: ReportBody,
}

/// A part of the list of agents.
#[derive(Serialize, ToSchema)]
#[schema(as = AgentList)]
pub(crate) struct AgentList {
    /// The agents, by id.
    #[schema(value_type = Vec<AgentBody>)]
    pub(crate) agents: Vec<Box<RawValue>>,
    /// Where the next part begins, if there is one.
    pub(crate) next_cursor: Option<String>,
}

/// Whom to issue a token to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TokenRequest)]
pub(crate) struct TokenRequest {
    /// The agent.
    #[schema(value_type = String)]
    pub(crate) agent_id: AgentId,
}

/// An issued token.
#[derive(Serialize, ToSchema)]
#[schema(as = TokenIssued)]
pub(crate) struct TokenBody {
    /// Its public number, to end it by.
    #[schema(value_type = String, example = "tok_3")]
    pub(crate) token_id: Text<TokenNo>,
    /// The token itself, which is shown this once.
    pub(crate) token: String,
}
