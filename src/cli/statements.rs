//! The statements that people and agents sign, made as the ledger reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use aegis_crypto::claims::{AgentType, ProposalClaims, RegistrationClaims, VoteClaims};
use aegis_crypto::{Digest, Jwk, NumberText, SecretKey, Typ, jws};
use aegis_ledger::{AgentId, Choice};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// What `GET /proposals/{id}/ballot` hands to a voter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BallotForm {
    pub(crate) aud: Digest,
    pub(crate) proposal: String,
    pub(crate) digest: Digest,
    pub(crate) round: u32,
}

/// What a voter adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) choice: Choice,
    /// A decimal from 0 to 1, as it is signed.
    pub(crate) confidence: NumberText,
    pub(crate) justification: Option<&'a str>,
}

impl Answer<'_> {
    /// A choice made without doubt or words.
    pub(crate) fn plain(choice: Choice) -> Self {
        Self {
            choice,
            confidence: NumberText::from(1),
            justification: None,
        }
    }
}

/// The body of `POST /votes`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VoteBody<'a> {
    proposal_id: &'a str,
    vote: &'static str,
    confidence: NumberText,
    #[serde(skip_serializing_if = "Option::is_none")]
    justification: Option<&'a str>,
    signature: String,
}

/// Whoever signs: an agent's id with its key.
#[derive(Clone, Copy)]
pub(crate) struct Signer<'a> {
    pub(crate) id: &'a AgentId,
    pub(crate) key: &'a SecretKey,
}

impl Signer<'_> {
    /// Fills in a ballot form and signs it.
    pub(crate) fn vote<'b>(&self, form: &'b BallotForm, answer: &Answer<'b>) -> VoteBody<'b> {
        let claims = VoteClaims {
            aud: form.aud,
            sub: self.id.to_string(),
            proposal: form.proposal.clone(),
            digest: form.digest,
            round: form.round,
            choice: answer.choice.as_str().to_owned(),
            confidence: answer.confidence.to_string(),
            justification_sha256: answer.justification.map(Digest::of),
            jti: Uuid::new_v4().to_string(),
            iat: now_s(),
            exp: None,
            seq: None,
        };
        VoteBody {
            proposal_id: &form.proposal,
            vote: answer.choice.as_str(),
            confidence: answer.confidence.clone(),
            justification: answer.justification,
            signature: sign(Typ::VOTE, self.key, &claims),
        }
    }

    /// Signs the canonical text of a proposal's document.
    pub(crate) fn proposal(&self, cluster_id: Digest, document: &str) -> String {
        let claims = ProposalClaims {
            aud: cluster_id,
            sub: self.id.to_string(),
            digest: Digest::of(document),
            jti: Uuid::new_v4().to_string(),
            iat: now_s(),
            exp: None,
        };
        sign(Typ::PROPOSAL, self.key, &claims)
    }
}

/// The body of `POST /agents`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RegistrationBody {
    agent_id: AgentId,
    name: String,
    r#type: AgentType,
    public_key: Jwk,
    weight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    attestation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
}

/// An agent that is to be registered.
#[derive(Clone, Debug)]
pub(crate) struct NewAgent {
    pub(crate) id: AgentId,
    pub(crate) name: String,
    pub(crate) agent_type: AgentType,
    pub(crate) weight: u32,
}

impl NewAgent {
    /// The registration with the registrar's attestation and the agent's proof that it holds
    /// its key.
    pub(crate) fn attested(
        &self,
        cluster_id: Digest,
        registrar: &SecretKey,
        agent: &SecretKey,
    ) -> RegistrationBody {
        let claims = RegistrationClaims {
            aud: cluster_id,
            agent_id: self.id.to_string(),
            agent_type: self.agent_type,
            weight: NumberText::from(u64::from(self.weight)),
            jwk: Jwk::from(agent.public()),
            iat: Some(now_s()),
        };
        RegistrationBody {
            attestation: Some(sign(Typ::REGISTRATION, registrar, &claims)),
            proof: Some(sign(Typ::REGISTRATION, agent, &claims)),
            ..self.unattested(claims.jwk)
        }
    }

    /// The registration that nobody vouches for.
    pub(crate) fn unattested(&self, public_key: Jwk) -> RegistrationBody {
        RegistrationBody {
            agent_id: self.id.clone(),
            name: self.name.clone(),
            r#type: self.agent_type,
            public_key,
            weight: self.weight,
            attestation: None,
            proof: None,
        }
    }
}

/// Puts the signature into a proposal's document, which makes it the body of
/// `POST /proposals`.
pub(crate) fn signed_document(document: &str, signature: &str) -> Box<RawValue> {
    let inner = document.strip_suffix('}').expect("a document is an object");
    let comma = if inner.ends_with('{') { "" } else { "," };
    RawValue::from_string(format!(r#"{inner}{comma}"signature":"{signature}"}}"#))
        .expect("an object with one more member is JSON, and a compact JWS needs no escapes")
}

fn sign(typ: Typ, key: &SecretKey, claims: &impl Serialize) -> String {
    jws::sign(typ, key, claims).expect("claims have only members that serialize")
}

/// Whole seconds since the Unix epoch.
fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .expect("the clock is past 1970 and far from the end of time")
}

#[cfg(test)]
mod tests {
    use aegis_crypto::{JsonLimits, Jws, from_slice_strict};
    use aegis_ledger::CheckedBallot;
    use serde_json::{Value, json};

    use super::*;

    fn signer() -> (AgentId, SecretKey) {
        (
            "member-001".parse().unwrap(),
            SecretKey::from_seed(&[7; 32]),
        )
    }

    fn form() -> BallotForm {
        BallotForm {
            aud: Digest::of("cluster"),
            proposal: "prop_12".into(),
            digest: Digest::of("voting"),
            round: 1,
        }
    }

    #[test]
    fn a_ballot_says_what_its_body_says() {
        let (id, key) = signer();
        let answer = Answer {
            choice: Choice::Against,
            confidence: "0.90".parse().unwrap(),
            justification: Some("weil \"nein\""),
        };
        let form = form();
        let body = Signer { id: &id, key: &key }.vote(&form, &answer);
        let statement = Jws::parse(&body.signature, Typ::VOTE, 8_192).unwrap();
        statement.verify(&key.public()).unwrap();
        let checked = CheckedBallot::parse(&body.signature).unwrap();
        assert_eq!((checked.voter, checked.choice), (id, Choice::Against));
        assert_eq!(checked.confidence.0, 900_000_000);
        assert_eq!(checked.justification, Some(Digest::of("weil \"nein\"")));
        assert_eq!(
            (checked.cluster_id, checked.digest),
            (form.aud, form.digest)
        );

        let text = serde_json::to_string(&body).unwrap();
        assert!(text.contains(r#""confidence":0.90,"#), "{text}");
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap()["vote"],
            "against"
        );
    }

    #[test]
    fn no_two_ballots_are_alike() {
        let (id, key) = signer();
        let form = form();
        let sign = || {
            let answer = Answer::plain(Choice::For);
            Signer { id: &id, key: &key }.vote(&form, &answer).signature
        };
        assert_ne!(sign(), sign());
    }

    #[test]
    fn both_statements_of_a_registration_agree() {
        let (id, key) = signer();
        let registrar = SecretKey::from_seed(&[8; 32]);
        let agent = NewAgent {
            id: id.clone(),
            name: "One".into(),
            agent_type: AgentType::Human,
            weight: 3,
        };
        let cluster = Digest::of("cluster");
        let body = agent.attested(cluster, &registrar, &key);
        let claims = |jws: &Option<String>, signer: &SecretKey| {
            let jws = jws.as_deref().unwrap();
            let statement = Jws::parse(jws, Typ::REGISTRATION, 8_192).unwrap();
            statement.verify(&signer.public()).unwrap();
            statement.claims::<RegistrationClaims>().unwrap()
        };
        let attested = claims(&body.attestation, &registrar);
        assert_eq!(attested, claims(&body.proof, &key));
        assert_eq!(attested.aud, cluster);
        assert_eq!(attested.weight.as_str(), "3");
        let value = serde_json::to_value(agent.unattested(Jwk::from(key.public()))).unwrap();
        assert_eq!(
            value,
            json!({
                "agent_id": "member-001", "name": "One", "type": "human", "weight": 3,
                "public_key": key.public(),
            })
        );
    }

    #[test]
    fn a_signed_document_is_the_document_and_its_signature() {
        let (id, key) = signer();
        let document = r#"{"title":"x"}"#;
        let jws = Signer { id: &id, key: &key }.proposal(Digest::of("c"), document);
        let statement = Jws::parse(&jws, Typ::PROPOSAL, 8_192).unwrap();
        statement.verify(&key.public()).unwrap();
        let claims: ProposalClaims = statement.claims().unwrap();
        assert_eq!(claims.digest, Digest::of(document));
        let body = signed_document(document, &jws);
        let body: Value = from_slice_strict(body.get().as_bytes(), JsonLimits::default()).unwrap();
        assert_eq!(body, json!({"title": "x", "signature": jws}));
        assert_eq!(signed_document("{}", "s").get(), r#"{"signature":"s"}"#);
    }
}
