//! Agents: registration, keys, reports, tokens and removal.

use aegis_crypto::claims::{AgentType, RegistrationClaims};
use aegis_crypto::{Digest, Jwk, Jws, Kid, PublicKey, Typ};

use crate::apply::{AgentReceipt, Ledger, Receipt, Step, Stop, forbidden, require_administrator};
use crate::ballots::{LEEWAY_S, STATEMENT_BYTES_MAX};
use crate::command::{Principal, Registration, Report};
use crate::ids::{AgentId, AgentNo, LedgerTime, ProposalNo, TokenNo};
use crate::number::Ppb;
use crate::record::{AgentRecord, Record, RetiredKeyRecord, Standing, TokenRecord, key};
use crate::refusal::Refusal;

/// The greatest registered weight, in whole units.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// The most keys that an agent may have had. All are kept, in its record: a retired key is
/// never taken again, by this agent or another, so that a signature names one signer.
pub const RETIRED_KEYS_MAX: usize = 128;
/// The most of them that it may retire itself. The administrator has the rest, to give a
/// new key to an agent whose stolen token was used to exhaust its own.
pub const RETIRED_KEYS_BY_AGENT_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 200;

/// What the registrar's statement and the agent's proof must both say.
#[derive(Clone, Copy)]
struct Claimed<'a> {
    id: &'a AgentId,
    agent_type: AgentType,
    weight: u32,
    key: &'a Jwk,
}

impl Ledger {
    /// Registers each agent alone, in order.
    pub(crate) fn register_agents(
        &mut self,
        step: &mut Step<'_>,
        principal: &Principal,
        registrations: Vec<Registration>,
    ) -> Result<Receipt, Stop> {
        require_administrator(principal, "register agents")?;
        let receipts = registrations
            .into_iter()
            .map(|registration| self.register(step, registration))
            .collect();
        Ok(Receipt::Agents(receipts))
    }

    fn register(
        &mut self,
        step: &mut Step<'_>,
        registration: Registration,
    ) -> Result<AgentReceipt, Refusal> {
        let no = AgentNo(self.core.agents.saturating_add(1));
        let id = match registration.id {
            Some(id) => id,
            None if registration.attestation.is_some() => {
                return Err(invalid(
                    "agent_id",
                    "it is required with an attestation, which names it",
                ));
            }
            None => format!("agent_{}", no.0)
                .parse()
                .expect("a number makes a valid agent id"),
        };
        if Principal::RESERVED.contains(&id.as_str()) {
            let reason = format!("`{id}` names a principal that is no agent; use another id");
            return Err(invalid("agent_id", reason));
        }
        if self.agents.contains_key(&id) {
            return Err(Refusal::AgentExists { agent: id });
        }
        check_name(&registration.name)?;
        if registration.weight == 0 || registration.weight > WEIGHT_MAX {
            return Err(invalid(
                "weight",
                format!("{} is outside 1 to {WEIGHT_MAX}", registration.weight),
            ));
        }
        let kid = self.fresh_key(&registration.key)?;
        let claimed = Claimed {
            id: &id,
            agent_type: registration.agent_type,
            weight: registration.weight,
            key: &registration.key,
        };
        self.check_attestation(
            &claimed,
            registration.attestation.as_deref(),
            registration.proof.as_deref(),
        )?;

        self.core.agents = no.0;
        let record = AgentRecord {
            no,
            id,
            name: registration.name,
            agent_type: registration.agent_type,
            weight: registration.weight,
            key: registration.key,
            kid,
            retired: Vec::new(),
            attestation: registration.attestation,
            proof: registration.proof,
            standing: Standing::Active,
            registered_at: step.time,
            report: None,
        };
        let receipt = AgentReceipt {
            id: record.id.clone(),
            kid: record.kid,
            attested: record.is_attested(),
        };
        self.keys.insert(record.kid, record.id.clone());
        self.keep_agent(step, record);
        Ok(receipt)
    }

    fn keep_agent(&mut self, step: &mut Step<'_>, record: AgentRecord) {
        step.put(key::agent(&record.id), &record);
        self.agents.insert(record.id.clone(), record);
    }

    /// The thumbprint of a key that no agent has or had.
    fn fresh_key(&self, jwk: &Jwk) -> Result<Kid, Refusal> {
        let kid = jwk.public_key().kid();
        match self.keys.get(&kid) {
            Some(agent) => Err(Refusal::KeyInUse {
                kid,
                agent: agent.clone(),
            }),
            None => Ok(kid),
        }
    }

    /// An attestation needs the registrar's signature and the agent's, over the same claims.
    /// Every replica verifies both, so that no leader can invent an attested voter.
    fn check_attestation(
        &self,
        claimed: &Claimed<'_>,
        attestation: Option<&str>,
        proof: Option<&str>,
    ) -> Result<(), Refusal> {
        match (attestation, proof) {
            (None, None) => Ok(()),
            (Some(attestation), Some(proof)) => {
                self.check_registration(
                    "attestation",
                    attestation,
                    &self.trust.registrar,
                    claimed,
                )?;
                self.check_registration("proof", proof, claimed.key.public_key(), claimed)
            }
            (Some(_), None) => Err(invalid(
                "proof",
                "it is required with an attestation: the same claims, signed by the agent's key",
            )),
            (None, Some(_)) => Err(invalid(
                "attestation",
                "it is required with a proof: the same claims, signed by the registrar",
            )),
        }
    }

    fn check_registration(
        &self,
        field: &str,
        jws: &str,
        signer: &PublicKey,
        claimed: &Claimed<'_>,
    ) -> Result<(), Refusal> {
        let bad = |error: aegis_crypto::JwsError| Refusal::BadSignature {
            reason: format!("{field}: {}", error.own_words()),
        };
        let statement = Jws::parse(jws, Typ::REGISTRATION, STATEMENT_BYTES_MAX).map_err(bad)?;
        self.memory.verify(&statement, signer).map_err(bad)?;
        let claims: RegistrationClaims = statement.claims().map_err(bad)?;
        let compare = |name: &str, signed: String, expected: String| {
            if signed == expected {
                Ok(())
            } else {
                Err(Refusal::StatementMismatch {
                    field: format!("{field}.{name}"),
                    signed,
                    expected,
                })
            }
        };
        let thumbprint = |jwk: &Jwk| jwk.public_key().kid().to_string();
        compare(
            "aud",
            claims.aud.to_string(),
            self.trust.cluster_id.to_string(),
        )?;
        compare("agent_id", claims.agent_id, claimed.id.to_string())?;
        compare(
            "type",
            claims.agent_type.as_str().to_owned(),
            claimed.agent_type.as_str().to_owned(),
        )?;
        compare(
            "weight",
            claims.weight.to_string(),
            claimed.weight.to_string(),
        )?;
        compare("jwk", thumbprint(&claims.jwk), thumbprint(claimed.key))
    }

    /// Ends an agent's part. Its ballots stand; nobody waits for those it did not cast.
    pub(crate) fn remove_agent(
        &mut self,
        step: &mut Step<'_>,
        principal: &Principal,
        id: &AgentId,
    ) -> Result<Receipt, Stop> {
        require_administrator(principal, "remove agents")?;
        let mut record = self.active_agent(id)?.clone();
        record.standing = Standing::Removed;
        let no = record.no;
        self.keep_agent(step, record);
        let waiting: Vec<ProposalNo> = self
            .open
            .iter_mut()
            .filter_map(|(proposal, open)| {
                let voting = open.voting.as_mut()?;
                let seat = voting
                    .electors
                    .get(&no)
                    .copied()
                    .filter(|seat| seat.cast.is_none())?;
                voting.no_longer_outstanding(seat.power);
                Some(*proposal)
            })
            .collect();
        for proposal in waiting {
            self.close_early(step, proposal)?;
        }
        Ok(Receipt::Done)
    }

    /// Replaces an agent's key.
    pub(crate) fn replace_key(
        &mut self,
        step: &mut Step<'_>,
        principal: &Principal,
        id: &AgentId,
        jwk: &Jwk,
        attestation: Option<String>,
        proof: Option<String>,
    ) -> Result<Receipt, Stop> {
        let mut record = self.active_agent(id)?.clone();
        if *principal != Principal::Administrator && *principal != Principal::Agent(id.clone()) {
            return Err(forbidden(principal, &format!("replace the key of {id}")).into());
        }
        check_retired(principal, record.retired.len())?;
        if self.committee.is_some() && record.is_attested() && attestation.is_none() {
            return Err(invalid(
                "attestation",
                "where there is a committee the new key of an attested agent needs the registrar's statement",
            )
            .into());
        }
        let kid = self.fresh_key(jwk)?;
        let claimed = Claimed {
            id,
            agent_type: record.agent_type,
            weight: record.weight,
            key: jwk,
        };
        self.check_attestation(&claimed, attestation.as_deref(), proof.as_deref())?;
        let old = std::mem::replace(&mut record.kid, kid);
        record.retired.push(old);
        let retired = RetiredKeyRecord {
            agent: id.clone(),
            key: std::mem::replace(&mut record.key, *jwk),
            attestation: std::mem::replace(&mut record.attestation, attestation),
            proof: std::mem::replace(&mut record.proof, proof),
            retired_at: step.time,
        };
        step.put(key::retired_key(&old), &retired);
        let receipt = AgentReceipt {
            id: id.clone(),
            kid: record.kid,
            attested: record.is_attested(),
        };
        self.keys.insert(record.kid, id.clone());
        self.keep_agent(step, record);
        Ok(Receipt::Agents(vec![Ok(receipt)]))
    }

    /// Records an oracle's report.
    pub(crate) fn report(
        &mut self,
        step: &mut Step<'_>,
        principal: &Principal,
        id: &AgentId,
        report: Report,
    ) -> Result<Receipt, Stop> {
        let allowed = match principal {
            Principal::Administrator => true,
            Principal::Agent(oracle) => self.active_agent(oracle)?.agent_type == AgentType::Oracle,
            Principal::System | Principal::Voters => false,
        };
        if !allowed {
            return Err(forbidden(principal, "report on agents; only oracles may").into());
        }
        let mut record = self.active_agent(id)?.clone();
        let figures = [
            ("phi", report.phi_ppb),
            ("coherence", report.coherence_ppb),
            ("stability", report.stability_ppb),
            ("divergence", report.divergence_ppb),
            ("consciousness_level", report.consciousness_level_ppb),
        ];
        for (field, ppb) in figures {
            if Ppb(ppb) > Ppb::ONE {
                return Err(invalid(field, format!("{} is outside 0 to 1", Ppb(ppb))).into());
            }
        }
        check_measured_at(report.measured_at, step.time)?;
        if let Some(last) = record
            .report
            .as_ref()
            .filter(|last| last.measured_at >= report.measured_at)
        {
            return Err(Refusal::StaleReport {
                last: last.measured_at,
            }
            .into());
        }
        record.report = Some(report);
        self.keep_agent(step, record);
        Ok(Receipt::Done)
    }

    /// Issues a bearer token to an agent.
    pub(crate) fn issue_token(
        &mut self,
        step: &mut Step<'_>,
        principal: &Principal,
        agent: AgentId,
        secret: Digest,
    ) -> Result<Receipt, Stop> {
        require_administrator(principal, "issue tokens")?;
        self.active_agent(&agent)?;
        let no = TokenNo(self.core.tokens.saturating_add(1));
        self.core.tokens = no.0;
        let record = TokenRecord {
            agent,
            secret,
            issued_at: step.time,
            revoked_at: None,
        };
        step.put(key::token(no), &record);
        Ok(Receipt::Token(no))
    }

    /// Ends a bearer token; ending it twice is no error.
    pub(crate) fn revoke_token(
        &mut self,
        step: &mut Step<'_>,
        principal: &Principal,
        token: TokenNo,
    ) -> Result<Receipt, Stop> {
        require_administrator(principal, "end tokens")?;
        let mut record = TokenRecord::read(step.archive, &key::token(token))?
            .ok_or(Refusal::UnknownToken { token })?;
        record.revoked_at = record.revoked_at.or(Some(step.time));
        step.put(key::token(token), &record);
        Ok(Receipt::Done)
    }
}

fn invalid(field: &str, reason: impl Into<String>) -> Refusal {
    Refusal::InvalidField {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

/// Whether an agent that retired this many keys may retire one more.
fn check_retired(principal: &Principal, retired: usize) -> Result<(), Refusal> {
    let (max, remedy) = match principal {
        Principal::Agent(_) => (
            RETIRED_KEYS_BY_AGENT_MAX,
            "ask the administrator to replace it",
        ),
        _ => (
            RETIRED_KEYS_MAX,
            "remove the agent and register it under another id",
        ),
    };
    if retired < max {
        return Ok(());
    }
    Err(Refusal::PolicyViolation {
        rule: "retired_keys_max".to_owned(),
        detail: format!(
            "the agent has had {retired} keys before this one, at most {max}; {remedy}"
        ),
    })
}

/// A report from the future would make every true one stale until then.
fn check_measured_at(measured_at: u64, now: LedgerTime) -> Result<(), Refusal> {
    let latest = now.plus_s(LEEWAY_S.unsigned_abs());
    if measured_at <= latest.0 {
        return Ok(());
    }
    Err(invalid(
        "measured_at",
        format!(
            "it is {}, which is more than {LEEWAY_S} s ahead of ledger time {}; set the oracle's clock",
            LedgerTime(measured_at).rfc3339(),
            now.rfc3339()
        ),
    ))
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let chars = name.chars().count();
    if name.trim().is_empty() || chars > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(invalid(
            "name",
            format!("it has {chars} characters; use one line of 1 to {NAME_CHARS_MAX}"),
        ));
    }
    Ok(())
}
