//! Registering agents in the registrar's name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aegis_crypto::claims::AgentType;
use aegis_crypto::{Digest, SecretKey};
use aegis_ledger::{AgentId, BATCH_MAX};
use serde_json::json;

use crate::agent;
use crate::answers::BatchResults;
use crate::client::Client;
use crate::context::cluster_id;
use crate::failure::Failure;
use crate::secret;
use crate::statements::{NewAgent, RegistrationBody};

/// How many agents whoever tries a cluster out is given.
const GUESTS: usize = 3;

/// An agent that is left to whoever tries a cluster out, with its key in a file.
pub(crate) struct Guest {
    pub(crate) id: AgentId,
    pub(crate) key_file: PathBuf,
}

/// The registrar's key and the cluster it is for.
pub(crate) struct Registrar<'r> {
    client: &'r Client,
    pub(crate) cluster_id: Digest,
    key: SecretKey,
    /// The ids that are registered already.
    known: BTreeSet<String>,
}

impl<'r> Registrar<'r> {
    /// Reads the registrar's key, and asks the cluster who is registered.
    pub(crate) async fn new(client: &'r Client, key_file: &Path) -> Result<Self, Failure> {
        let known = agent::all(client).await?;
        Ok(Self {
            client,
            cluster_id: cluster_id(client).await?,
            key: secret::read_key(key_file).map_err(Failure::failed)?,
            known: known.into_iter().map(|agent| agent.agent_id).collect(),
        })
    }

    /// Registers those who are not yet, in batches; says how many they were.
    pub(crate) async fn register(
        &self,
        agents: &[(NewAgent, &SecretKey)],
    ) -> Result<usize, Failure> {
        let missing: Vec<RegistrationBody> = agents
            .iter()
            .filter(|(agent, _)| !self.known.contains(agent.id.as_str()))
            .map(|(agent, key)| agent.attested(self.cluster_id, &self.key, key))
            .collect();
        for batch in missing.chunks(BATCH_MAX) {
            let body = json!({"agents": batch});
            let results: BatchResults = self
                .client
                .post_once("/agents/batch", &body)
                .await?
                .read()?;
            results.all_succeeded("register agents")?;
        }
        Ok(missing.len())
    }

    /// Registers the guests, whose keys lie in `folder` then.
    pub(crate) async fn register_guests(&self, folder: &Path) -> Result<Vec<Guest>, Failure> {
        let (mut guests, mut agents) = (Vec::new(), Vec::new());
        for number in 1..=GUESTS {
            let name = format!("demo-{number}");
            let id: AgentId = name.parse().expect("it is plain ASCII and short");
            let key_file = folder.join(format!("{name}.pem"));
            let agent = NewAgent {
                id: id.clone(),
                name: format!("Demo agent {number}"),
                agent_type: AgentType::Llm,
                weight: 1,
            };
            agents.push((agent, key_at(&key_file)?));
            guests.push(Guest { id, key_file });
        }
        let agents: Vec<_> = agents
            .iter()
            .map(|(agent, key)| (agent.clone(), key))
            .collect();
        self.register(&agents).await?;
        Ok(guests)
    }
}

/// The key in a file, which is made if it is not there.
fn key_at(file: &Path) -> Result<SecretKey, Failure> {
    if file.exists() {
        return secret::read_key(file).map_err(Failure::failed);
    }
    let key = SecretKey::generate().map_err(Failure::failed)?;
    secret::create(file, &key.to_pem()).map_err(Failure::failed)?;
    Ok(key)
}
