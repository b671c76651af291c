//! The ballots: agents, proposals, and a signed statement of each agent for each proposal.

use std::num::NonZeroUsize;
use std::path::Path;

use aegis_crypto::SecretKey;
use aegis_crypto::claims::AgentType;
use aegis_ledger::{AgentId, Choice};
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::answers::ProposalReceipt;
use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::registrar::Registrar;
use crate::statements::{Answer, BallotForm, NewAgent, Signer, VoteBody};

/// How much is made ready.
pub(crate) struct Ballots {
    /// Agents that vote.
    pub(crate) agents: usize,
    /// Ballots in all.
    pub(crate) ballots: usize,
    /// Ballots in a request.
    pub(crate) batch: usize,
}

/// An agent that votes in a measurement.
struct Voter {
    agent: NewAgent,
    key: SecretKey,
}

#[derive(Serialize)]
struct Batch<'b> {
    votes: Vec<VoteBody<'b>>,
}

impl Ballots {
    /// Registers agents, opens proposals, and writes the request bodies.
    pub(crate) async fn prepare(
        &self,
        console: &mut Console,
        client: &Client,
        registrar_key: &Path,
    ) -> Result<Vec<Bytes>, Failure> {
        let voters = new_voters(self.agents)?;
        let registrar = Registrar::new(client, registrar_key).await?;
        let agents: Vec<_> = voters
            .iter()
            .map(|voter| (voter.agent.clone(), &voter.key))
            .collect();
        registrar.register(&agents).await?;
        let forms = self.open_proposals(console, client, &voters).await?;
        console.note(format_args!("signing {} ballots", self.ballots))?;
        Ok(self.sign(&voters, &forms))
    }

    async fn open_proposals(
        &self,
        console: &mut Console,
        client: &Client,
        voters: &[Voter],
    ) -> Result<Vec<BallotForm>, Failure> {
        let electorate: Vec<&AgentId> = voters.iter().map(|voter| &voter.agent.id).collect();
        let proposals = self.ballots.div_ceil(self.agents);
        let total = u64::try_from(proposals).unwrap_or(u64::MAX);
        let mut progress = console.progress("proposals", total);
        let mut forms = Vec::with_capacity(proposals);
        for number in 1..=total {
            let document = json!({
                "title": format!("Measurement {number}"), "description": "A measurement.",
                "type": "decision", "content": {}, "electorate": electorate, "open": true,
            });
            let receipt: ProposalReceipt =
                client.post_once("/proposals", &document).await?.read()?;
            let form = client
                .get(&format!("/proposals/{}/ballot", receipt.proposal_id))
                .await?;
            forms.push(form.read()?);
            progress.at(number)?;
        }
        Ok(forms)
    }

    /// Signs on every core, in the order in which the ballots are sent: proposal by proposal.
    fn sign(&self, voters: &[Voter], forms: &[BallotForm]) -> Vec<Bytes> {
        let pairs: Vec<(&BallotForm, &Voter)> = forms
            .iter()
            .flat_map(|form| voters.iter().map(move |voter| (form, voter)))
            .take(self.ballots)
            .collect();
        let requests: Vec<&[(&BallotForm, &Voter)]> = pairs.chunks(self.batch).collect();
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let share = requests.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let shares: Vec<_> = requests
                .chunks(share)
                .map(|share| {
                    scope.spawn(|| {
                        share
                            .iter()
                            .map(|votes| self.body(votes))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            shares
                .into_iter()
                .flat_map(|share| match share.join() {
                    Ok(bodies) => bodies,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect()
        })
    }

    fn body(&self, pairs: &[(&BallotForm, &Voter)]) -> Bytes {
        let mut votes: Vec<VoteBody<'_>> = Vec::with_capacity(pairs.len());
        for (form, voter) in pairs {
            let signer = Signer {
                id: &voter.agent.id,
                key: &voter.key,
            };
            votes.push(signer.vote(form, &Answer::plain(Choice::For)));
        }
        let body = match votes.pop() {
            Some(only) if votes.is_empty() && self.batch == 1 => serde_json::to_vec(&only),
            last => {
                votes.extend(last);
                serde_json::to_vec(&Batch { votes })
            }
        };
        body.expect("ballots serialize").into()
    }
}

/// Agents with names of their own, so that a cluster can be measured again.
fn new_voters(agents: usize) -> Result<Vec<Voter>, Failure> {
    let measurement = uuid::Uuid::new_v4().simple().to_string();
    let measurement = measurement.get(..8).unwrap_or(&measurement);
    (1..=agents)
        .map(|number| {
            let name = format!("bench-{measurement}-{number:04}");
            Ok(Voter {
                key: SecretKey::generate().map_err(Failure::failed)?,
                agent: NewAgent {
                    id: name.parse().expect("it is plain ASCII and short"),
                    name,
                    agent_type: AgentType::System,
                    weight: 1,
                },
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aegis_crypto::Digest;
    use serde_json::Value;

    use super::*;

    fn bodies(ballots: usize, batch: usize) -> Vec<Value> {
        let prepared = Ballots {
            agents: 5,
            ballots,
            batch,
        };
        let voters = new_voters(5).unwrap();
        let forms: Vec<BallotForm> = (1..=3)
            .map(|number| BallotForm {
                aud: Digest::ZERO,
                proposal: format!("prop_{number}"),
                digest: Digest::ZERO,
                round: 1,
            })
            .collect();
        let bodies = prepared.sign(&voters, &forms);
        bodies
            .iter()
            .map(|body| serde_json::from_slice(body).unwrap())
            .collect()
    }

    #[test]
    fn every_ballot_is_another() {
        let bodies = bodies(13, 1);
        let signatures: BTreeSet<_> = bodies
            .iter()
            .map(|body| body["signature"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!((bodies.len(), signatures.len()), (13, 13));
        assert_eq!(bodies[0]["proposal_id"], "prop_1");
        assert_eq!(bodies[12]["proposal_id"], "prop_3");
    }

    #[test]
    fn a_batch_is_a_list_even_of_one() {
        let sizes: Vec<_> = bodies(9, 4)
            .iter()
            .map(|body| body["votes"].as_array().unwrap().len())
            .collect();
        assert_eq!(sizes, [4, 4, 1]);
    }
}
