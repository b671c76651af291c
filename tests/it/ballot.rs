//! What voters sign.

use aegis_crypto::claims::VoteClaims;
use aegis_crypto::{Digest, SecretKey, Typ, jws};
use serde_json::{Value, json};

/// The key of agent `a<n>`.
pub fn secret(n: u32) -> SecretKey {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    SecretKey::from_seed(&seed)
}

/// What a proposal's voters sign.
#[derive(Clone)]
pub struct Ballot {
    pub aud: Digest,
    pub proposal: String,
    pub digest: Digest,
}

impl Ballot {
    pub fn claims(&self, voter: u32, choice: &str) -> VoteClaims {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        VoteClaims {
            aud: self.aud,
            sub: format!("a{voter}"),
            proposal: self.proposal.clone(),
            digest: self.digest,
            round: 1,
            choice: choice.to_owned(),
            confidence: "1".to_owned(),
            justification_sha256: None,
            jti: uuid(),
            iat: i64::try_from(now.as_secs()).unwrap(),
            exp: None,
            seq: None,
        }
    }

    /// The body of `POST /votes`.
    pub fn vote(&self, voter: u32, choice: &str) -> Value {
        Self::signed(voter, &self.claims(voter, choice))
    }

    /// The body of `POST /votes` for claims that were altered.
    pub fn signed(voter: u32, claims: &VoteClaims) -> Value {
        let signature = jws::sign(Typ::VOTE, &secret(voter), claims).unwrap();
        json!({"proposal_id": claims.proposal, "vote": claims.choice, "signature": signature})
    }
}

/// A random id.
pub fn uuid() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
