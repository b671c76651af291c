//! What voters, agents, authors and the registrar sign: the payloads of the statements
//! of [`crate::jws`].
//!
//! The ledger and those who sign share these types, so that a claim has one name and one
//! form. A member that is not listed is refused, and an optional one is absent rather
//! than `null`. Whether a claim is *true* (the audience, the eligibility, the times) is
//! for the ledger to judge; here stands only its form. Times are whole seconds since the
//! Unix epoch, as in RFC 7519 but without its fractions.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::json::{self, NumberText};
use crate::key::Jwk;

/// A ballot: payload of [`crate::Typ::VOTE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoteClaims {
    /// Cluster id.
    pub aud: Digest,
    /// Agent id of the voter.
    pub sub: String,
    /// Proposal id.
    pub proposal: String,
    /// The proposal's voting digest, which binds its document, policy, options,
    /// electorate and deadline.
    pub digest: Digest,
    /// Round of voting, from 1.
    pub round: u32,
    /// The answer, for example `for`.
    pub choice: String,
    /// A decimal between 0 and 1 as text, so that it is signed exactly.
    pub confidence: String,
    /// SHA-256 of the justification's text; absent without text.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub justification_sha256: Option<Digest>,
    /// Identifies the statement among those of its signer.
    pub jti: String,
    /// When it was signed.
    pub iat: i64,
    /// When it ceases to be valid.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub exp: Option<i64>,
    /// Where votes may change, the ballot with the highest `seq` counts.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub seq: Option<u64>,
}

/// What kind of participant an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentType {
    /// A language model.
    Llm,
    /// A person.
    Human,
    /// A source of facts.
    Oracle,
    /// A program.
    System,
}

impl AgentType {
    /// The name in documents, statements and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::Human => "human",
            Self::Oracle => "oracle",
            Self::System => "system",
        }
    }
}

/// An agent's registration: payload of [`crate::Typ::REGISTRATION`].
///
/// The registrar signs it as the attestation, and the agent signs the same claims as the
/// proof that it holds the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrationClaims {
    /// Cluster id.
    pub aud: Digest,
    /// The agent's id.
    pub agent_id: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub agent_type: AgentType,
    /// Its voting weight, as the signer wrote it.
    pub weight: NumberText,
    /// Its public key.
    pub jwk: Jwk,
    /// When it was signed.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub iat: Option<i64>,
}

/// An author's signature under a proposal: payload of [`crate::Typ::PROPOSAL`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalClaims {
    /// Cluster id.
    pub aud: Digest,
    /// Agent id of the author.
    pub sub: String,
    /// SHA-256 of the proposal's document.
    pub digest: Digest,
    /// Identifies the statement among those of its signer.
    pub jti: String,
    /// When it was signed.
    pub iat: i64,
    /// When it ceases to be valid.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub exp: Option<i64>,
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::json::{JsonError, Limits, from_slice_strict};
    use crate::key::SecretKey;

    fn read<T: DeserializeOwned>(claims: &Value) -> Result<T, JsonError> {
        from_slice_strict(claims.to_string().as_bytes(), Limits::default())
    }

    fn refusal<T: DeserializeOwned>(claims: &Value) -> String {
        match read::<T>(claims) {
            Ok(_) => panic!("{claims} is taken"),
            Err(error) => error.to_string(),
        }
    }

    fn with(mut claims: Value, member: &str, value: Value) -> Value {
        claims[member] = value;
        claims
    }

    fn vote() -> Value {
        json!({
            "aud": Digest::of("cluster"), "sub": "agent-7", "proposal": "prop_1",
            "digest": Digest::of("voting"), "round": 1, "choice": "for", "confidence": "0.9",
            "jti": "1", "iat": 1_800_000_000,
        })
    }

    fn registration() -> Value {
        json!({
            "aud": Digest::of("cluster"), "agent_id": "agent-7", "type": "llm", "weight": 1,
            "jwk": SecretKey::from_seed(&[1; 32]).public(),
        })
    }

    fn proposal() -> Value {
        json!({
            "aud": Digest::of("cluster"), "sub": "agent-7", "digest": Digest::of("document"),
            "jti": "1", "iat": 1_800_000_000,
        })
    }

    #[test]
    fn are_written_as_they_are_read() {
        let full = [
            ("justification_sha256", json!(Digest::of("why"))),
            ("exp", json!(2)),
            ("seq", json!(u64::MAX)),
        ];
        let full = full.into_iter().fold(vote(), |claims, (member, value)| {
            with(claims, member, value)
        });
        for claims in [vote(), full] {
            let read: VoteClaims = read(&claims).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), claims);
        }
        for claims in [registration(), with(registration(), "iat", json!(-1))] {
            let read: RegistrationClaims = read(&claims).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), claims);
        }
        for claims in [proposal(), with(proposal(), "exp", json!(2))] {
            let read: ProposalClaims = read(&claims).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), claims);
        }
    }

    /// Every member of every kind: it must be there unless it is optional, and is never
    /// `null`, an object or an array.
    fn each_member_has_its_type<T: DeserializeOwned>(full: &Value, optional: &[&str]) {
        for member in full.as_object().unwrap().keys() {
            let mut without = full.clone();
            without.as_object_mut().unwrap().remove(member);
            if optional.contains(&member.as_str()) {
                assert!(read::<T>(&without).is_ok(), "{member}");
            } else {
                assert!(refusal::<T>(&without).contains(&format!("missing field `{member}`")));
            }
            for value in [json!(null), json!({}), json!([]), json!(false)] {
                let refusal = refusal::<T>(&with(full.clone(), member, value));
                assert!(refusal.contains(&format!("(/{member}")), "{refusal}");
            }
        }
        let unknown = refusal::<T>(&with(full.clone(), "extra", json!(1)));
        assert!(
            unknown.contains("(/extra): unknown field; the known ones are `aud`"),
            "{unknown}"
        );
        let values: Vec<Value> = full.as_object().unwrap().values().cloned().collect();
        assert!(refusal::<T>(&Value::from(values)).contains("expected an object, found an array"));
    }

    #[test]
    fn members_are_required_typed_and_known() {
        let full = with(vote(), "justification_sha256", json!(Digest::of("why")));
        let full = with(with(full, "exp", json!(2)), "seq", json!(3));
        each_member_has_its_type::<VoteClaims>(&full, &["justification_sha256", "exp", "seq"]);
        let full = with(registration(), "iat", json!(2));
        each_member_has_its_type::<RegistrationClaims>(&full, &["iat"]);
        let full = with(proposal(), "exp", json!(2));
        each_member_has_its_type::<ProposalClaims>(&full, &["exp"]);
    }

    #[test]
    fn times_and_counts_are_integers() {
        for (member, value) in [
            ("iat", json!(1.5)),
            ("iat", json!(1.0)),
            ("iat", json!("1800000000")),
            ("iat", json!(u64::MAX)),
            ("exp", json!(1e3)),
            ("round", json!(-1)),
            ("round", json!(1_u64 << 32)),
            ("seq", json!(-1)),
        ] {
            let refusal = refusal::<VoteClaims>(&with(vote(), member, value));
            assert!(
                refusal.contains(&format!("(/{member}): expected an integer from ")),
                "{refusal}"
            );
        }
    }

    #[test]
    fn a_confidence_is_text_and_a_weight_a_number() {
        assert!(read::<VoteClaims>(&with(vote(), "confidence", json!(0.9))).is_err());
        let claims = registration()
            .to_string()
            .replace("\"weight\":1", "\"weight\":0.10");
        let claims: RegistrationClaims =
            from_slice_strict(claims.as_bytes(), Limits::default()).unwrap();
        assert_eq!(claims.weight.as_str(), "0.10");
        assert!(read::<RegistrationClaims>(&with(registration(), "weight", json!("1"))).is_err());
    }

    #[test]
    fn an_agent_has_one_of_four_types() {
        for (agent_type, expected) in [
            ("llm", AgentType::Llm),
            ("human", AgentType::Human),
            ("oracle", AgentType::Oracle),
            ("system", AgentType::System),
        ] {
            let claims = with(registration(), "type", json!(agent_type));
            assert_eq!(
                read::<RegistrationClaims>(&claims).unwrap().agent_type,
                expected
            );
            assert_eq!(expected.as_str(), agent_type);
        }
        for other in ["LLM", "robot", ""] {
            let claims = with(registration(), "type", json!(other));
            assert!(
                refusal::<RegistrationClaims>(&claims).contains("expected one of `llm`, `human`,")
            );
        }
    }

    #[test]
    fn a_registration_never_carries_a_private_key() {
        let secret = SecretKey::from_seed(&[1; 32]).to_jwk_json();
        let private: Value = serde_json::from_str(&secret).unwrap();
        let refusal = refusal::<RegistrationClaims>(&with(registration(), "jwk", private));
        assert!(
            refusal.contains("(/jwk): the JWK contains the private key"),
            "{refusal}"
        );
    }
}

/// An order to take a step of a proposal's life cycle: payload of [`crate::Typ::COMMAND`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandClaims {
    /// Cluster id.
    pub aud: Digest,
    /// Agent id of the author, or `administrator`.
    pub sub: String,
    /// The step: `open`, `review`, `cancel`, `tally` or `execute`.
    pub command: String,
    /// Proposal id.
    pub proposal: String,
    /// Identifies the statement among those of its signer.
    pub jti: String,
    /// When it was signed.
    pub iat: i64,
    /// When it ceases to be valid.
    #[serde(
        default,
        deserialize_with = "json::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub exp: Option<i64>,
}
