//! Signatures: whose key signed a statement, and whether it holds.
//!
//! Reading an agent checks its key, which costs as much as verifying a signature, so keys
//! that were read are remembered by their thumbprint. A remembered key cannot admit what
//! the ledger would not: a thumbprint names one key for ever, no two agents share one, and
//! apply compares it with the agent's key of that moment.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use aegis_crypto::{Jws, JwsError, Kid, PublicKey, Typ};
use aegis_ledger::{AgentId, Refusal, STATEMENT_BYTES_MAX, query};

use crate::edge::Edge;
use crate::governance::Consistency;
use crate::problem::Problem;
use crate::server::call::off_thread;

/// How many keys each of the two generations remembers; a key takes about 300 bytes.
const GENERATION_MAX: usize = 16 * 1024;

/// The keys of agents, by thumbprint. When the younger generation is full the older one is
/// forgotten, so that what is used stays and what is not goes.
#[derive(Default)]
pub(crate) struct KnownKeys {
    generations: RwLock<Generations>,
}

#[derive(Default)]
struct Generations {
    younger: HashMap<Kid, (AgentId, PublicKey)>,
    older: HashMap<Kid, (AgentId, PublicKey)>,
}

impl KnownKeys {
    /// The agent's key of that name.
    fn get(&self, agent: &AgentId, kid: &Kid) -> Option<PublicKey> {
        let matching = |(owner, key): &(AgentId, PublicKey)| (owner == agent).then_some(*key);
        let older = {
            let generations = self
                .generations
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = generations.younger.get(kid) {
                return matching(known);
            }
            generations.older.get(kid).and_then(matching)?
        };
        self.insert(agent.clone(), *kid, older);
        Some(older)
    }

    fn insert(&self, agent: AgentId, kid: Kid, key: PublicKey) {
        let mut generations = self
            .generations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if generations.younger.len() >= GENERATION_MAX {
            generations.older = std::mem::take(&mut generations.younger);
        }
        generations.younger.insert(kid, (agent, key));
    }
}

/// Who a statement says has signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signer {
    pub(crate) agent: AgentId,
    pub(crate) kid: Kid,
}

/// The key of a statement's signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignerKey {
    /// The agent has this key.
    Known(PublicKey),
    /// There is no such agent.
    UnknownAgent,
    /// The agent has another key.
    OtherKey(Kid),
}

impl SignerKey {
    /// The key, or why there is none.
    pub(crate) fn known(
        self,
        signer: &Signer,
        unknown: impl FnOnce(String) -> Refusal,
    ) -> Result<PublicKey, Refusal> {
        match self {
            Self::Known(key) => Ok(key),
            Self::UnknownAgent => Err(unknown(signer.agent.to_string())),
            Self::OtherKey(current) => Err(Refusal::BadSignature {
                reason: format!("it names key {}, the agent's key is {current}", signer.kid),
            }),
        }
    }
}

impl Edge {
    /// The key of one signer.
    pub(crate) async fn signer_key(&self, signer: &Signer) -> Result<SignerKey, Problem> {
        match self.keys.get(&signer.agent, &signer.kid) {
            Some(key) => Ok(SignerKey::Known(key)),
            None => {
                let found = self.look_up(vec![signer.clone()]).await?;
                Ok(found.into_iter().next().unwrap_or(SignerKey::UnknownAgent))
            }
        }
    }

    /// The keys of several signers, in order.
    pub(crate) async fn signer_keys(
        &self,
        signers: Vec<Signer>,
    ) -> Result<Vec<SignerKey>, Problem> {
        let mut keys: Vec<Option<SignerKey>> = signers
            .iter()
            .map(|signer| self.keys.get(&signer.agent, &signer.kid))
            .map(|key| key.map(SignerKey::Known))
            .collect();
        let missing: Vec<Signer> = signers
            .into_iter()
            .zip(&keys)
            .filter(|(_, key)| key.is_none())
            .map(|(signer, _)| signer)
            .collect();
        if !missing.is_empty() {
            let found = self.look_up(missing).await?;
            for (place, key) in keys.iter_mut().filter(|key| key.is_none()).zip(found) {
                *place = Some(key);
            }
        }
        let keys = keys
            .into_iter()
            .map(|key| key.unwrap_or(SignerKey::UnknownAgent));
        Ok(keys.collect())
    }

    /// Looks signers up in what this node has, and those that are not there once more in
    /// what the cluster has: they may just have been registered on another node.
    async fn look_up(&self, signers: Vec<Signer>) -> Result<Vec<SignerKey>, Problem> {
        let found = self.look_up_in(Consistency::Stale, signers.clone()).await?;
        if found.iter().all(|key| matches!(key, SignerKey::Known(_))) {
            return Ok(found);
        }
        self.look_up_in(Consistency::Linearizable, signers).await
    }

    async fn look_up_in(
        &self,
        consistency: Consistency,
        signers: Vec<Signer>,
    ) -> Result<Vec<SignerKey>, Problem> {
        let view = self.governance.view(consistency).await?;
        let found = off_thread(self, view, move |archive| {
            let look_up = |signer: Signer| {
                let key = match query::agent(archive, &signer.agent)? {
                    None => SignerKey::UnknownAgent,
                    Some(agent) if agent.kid == signer.kid => {
                        SignerKey::Known(*agent.key.public_key())
                    }
                    Some(agent) => SignerKey::OtherKey(agent.kid),
                };
                Ok((signer, key))
            };
            signers
                .into_iter()
                .map(look_up)
                .collect::<Result<Vec<_>, _>>()
        });
        let keys = found.await?.into_iter().map(|(signer, key)| {
            if let SignerKey::Known(key) = key {
                self.keys.insert(signer.agent, signer.kid, key);
            }
            key
        });
        Ok(keys.collect())
    }
}

/// Takes a statement apart.
pub(crate) fn parse(jws: &str, typ: Typ) -> Result<Jws<'_>, Refusal> {
    Jws::parse(jws, typ, STATEMENT_BYTES_MAX).map_err(bad_signature)
}

/// The refusal of a statement that is not one.
pub(crate) fn bad_signature(error: JwsError) -> Refusal {
    Refusal::bad_signature(&error)
}

#[cfg(test)]
mod tests {
    use aegis_crypto::SecretKey;

    use super::*;

    fn key(seed: u32) -> PublicKey {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&seed.to_be_bytes());
        SecretKey::from_seed(&bytes).public()
    }

    #[test]
    fn a_key_is_known_for_its_agent_alone() {
        let known = KnownKeys::default();
        let (alice, bob): (AgentId, AgentId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let key = key(1);
        assert_eq!(known.get(&alice, &key.kid()), None);
        known.insert(alice.clone(), key.kid(), key);
        assert_eq!(known.get(&alice, &key.kid()), Some(key));
        assert_eq!(known.get(&bob, &key.kid()), None);
    }

    #[test]
    fn what_is_used_is_remembered_and_memory_is_bounded() {
        let known = KnownKeys::default();
        let alice: AgentId = "alice".parse().unwrap();
        let (used, unused, filler) = (key(1), key(2), key(3));
        known.insert(alice.clone(), used.kid(), used);
        known.insert(alice.clone(), unused.kid(), unused);
        for round in 0..3 * GENERATION_MAX {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&round.to_be_bytes());
            let kid = base64_kid(name);
            known.insert(alice.clone(), kid, filler);
            if round % (GENERATION_MAX / 2) == 0 {
                assert_eq!(known.get(&alice, &used.kid()), Some(used));
            }
        }
        assert_eq!(known.get(&alice, &unused.kid()), None);
        let generations = known.generations.read().unwrap();
        assert!(generations.younger.len() <= GENERATION_MAX);
        assert!(generations.older.len() <= GENERATION_MAX);
    }

    fn base64_kid(bytes: [u8; 32]) -> Kid {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        text.parse().unwrap()
    }
}
