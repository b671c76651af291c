//! Proposing the bills, casting the ballots, and reading what came of them.

use std::time::Duration;

use aegis_crypto::{Digest, canonicalize};
use aegis_ledger::{Choice, Genesis, Ordinal};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tokio::time::Instant;

use super::members::Voter;
use super::roll_calls::{BILLS, RollCalls};
use crate::answers::{Proposal, ProposalReceipt, Results, Votes};
use crate::client::Client;
use crate::console::Progress;
use crate::failure::{Exit, Failure};
use crate::proposals::{CERTIFICATE_POLL, Query, certificate};
use crate::statements::{Answer, BallotForm, signed_document};
use crate::verify::{Epochs, verify_checkpoint};

/// How many ballots are on their way at a time.
const IN_FLIGHT: usize = 48;
/// How many votes a page of the vote log has.
const PAGE: usize = 1_000;
/// How long a certificate may take to come.
const CERTIFY_TIMEOUT: Duration = Duration::from_secs(60);
/// The refusal of a node that knows of no checkpoint yet.
const NO_CHECKPOINT: &str = "no_checkpoint";
/// How deep the documents are nested, at most.
const DEPTH_MAX: u8 = 8;

/// The members, their votes and the nodes that take them.
pub(crate) struct Replay<'r> {
    pub(crate) calls: &'r RollCalls,
    pub(crate) voters: &'r [Voter],
    pub(crate) cluster_id: Digest,
    /// A client for each node, which goes to another one when its own is down.
    pub(crate) clients: &'r [Client],
}

/// A bill on the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Bill {
    pub(crate) column: usize,
    pub(crate) proposal_id: String,
}

/// What came of a bill.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) bill: Bill,
    pub(crate) results: Results,
    pub(crate) proposal: Proposal,
}

impl Replay<'_> {
    fn client(&self, number: usize) -> &Client {
        let node = number % self.clients.len().max(1);
        self.clients.get(node).expect("there are nodes")
    }

    /// The proposal of the bill in this column: that of an earlier run, or a new one.
    pub(crate) async fn propose(&self, column: usize) -> Result<Bill, Failure> {
        let author = self
            .voters
            .get(column)
            .expect("there are more members than bills");
        let title = title(column);
        let client = self.client(column);
        let query = Query {
            author: Some(author.id.as_str()),
            ..Query::default()
        };
        let earlier = query.all(client).await?;
        if let Some(proposal) = earlier.into_iter().find(|proposal| proposal.title == title) {
            return Ok(Bill {
                column,
                proposal_id: proposal.proposal_id,
            });
        }
        let document = self.document(column);
        let signature = author.signer().proposal(self.cluster_id, &document);
        let body = signed_document(&document, &signature);
        let receipt: ProposalReceipt = client.post_same("/proposals", &body).await?.read()?;
        Ok(Bill {
            column,
            proposal_id: receipt.proposal_id,
        })
    }

    /// The bill's document, which opens voting at once and names the members as electorate,
    /// so that whoever registers later has no part in it.
    fn document(&self, column: usize) -> String {
        let electorate: Vec<_> = self.voters.iter().map(|voter| &voter.id).collect();
        let document = json!({
            "title": title(column),
            "description": "A roll call of the U.S. House of Representatives in 1984, replayed.",
            "type": "decision",
            "content": {"bill": BILLS.get(column), "source": "house-votes-84.csv"},
            "electorate": electorate,
            "open": true,
        });
        canonicalize(&document.to_string(), DEPTH_MAX).expect("it was just written as JSON")
    }

    /// Who has voted on a bill in an earlier run.
    async fn voted(&self, bill: &Bill) -> Result<Vec<String>, Failure> {
        let (mut voted, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let after = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
            let path = format!("/proposals/{}/votes?limit={PAGE}{after}", bill.proposal_id);
            let page: Votes = self.client(bill.column).get(&path).await?.read()?;
            voted.extend(page.votes.into_iter().map(|vote| vote.voter));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(voted);
            }
        }
    }

    /// Casts what is missing of a bill's ballots, spread over the nodes; says how many.
    pub(crate) async fn cast(
        &self,
        bill: &Bill,
        progress: &mut Progress<'_>,
        done: &mut u64,
    ) -> Result<u64, Failure> {
        let proposal: Proposal = self.read(bill, "").await?;
        let all = u64::try_from(self.voters.len()).unwrap_or(u64::MAX);
        if proposal.status != "voting" {
            *done = done.saturating_add(all);
            progress.at(*done)?;
            return Ok(0);
        }
        let voted = if proposal.votes.total > 0 {
            self.voted(bill).await?
        } else {
            Vec::new()
        };
        let form: BallotForm = self.read(bill, "/ballot").await?;
        let missing = self.missing(bill.column, &voted);
        *done = done.saturating_add(all.saturating_sub(u64::try_from(missing.len()).unwrap_or(0)));
        let form = &form;
        let casts = missing
            .iter()
            .enumerate()
            .map(|(number, (voter, choice))| async move {
                let ballot = voter.signer().vote(form, &Answer::plain(*choice));
                self.client(number).post_same("/votes", &ballot).await
            });
        let mut casts = stream::iter(casts).buffer_unordered(IN_FLIGHT);
        let mut cast = 0_u64;
        while casts.try_next().await?.is_some() {
            (cast, *done) = (cast.saturating_add(1), done.saturating_add(1));
            progress.at(*done)?;
        }
        Ok(cast)
    }

    /// Whoever has not voted, with what the file says.
    fn missing(&self, column: usize, voted: &[String]) -> Vec<(&Voter, Choice)> {
        let rows = self.voters.iter().zip(&self.calls.members);
        rows.filter(|(voter, _)| !voted.iter().any(|id| id == voter.id.as_str()))
            .filter_map(|(voter, member)| Some((voter, *member.votes.get(column)?)))
            .collect()
    }

    /// What came of a bill. Its last ballot closed it, and a linearizable read sees that.
    pub(crate) async fn decided(&self, bill: Bill) -> Result<Decided, Failure> {
        let results: Results = self.read(&bill, "/results").await?;
        let proposal: Proposal = self.read(&bill, "").await?;
        if proposal.outcome.is_none() {
            return Err(Failure::say(
                Exit::Negative,
                format_args!(
                    "{} took every ballot and is still {}",
                    bill.proposal_id, proposal.status
                ),
            ));
        }
        Ok(Decided {
            bill,
            results,
            proposal,
        })
    }

    /// Waits for the certificate of a bill that was just closed.
    pub(crate) async fn certificate(&self, bill: &Bill) -> Result<Bytes, Failure> {
        let client = self.client(bill.column);
        let found = certificate(client, &bill.proposal_id, CERTIFY_TIMEOUT).await?;
        Ok(found.body)
    }

    /// Waits until every node has a checkpoint of the transparency log that covers a closing:
    /// from then on a bundle proves that the closing is in the log.
    pub(crate) async fn covered(&self, genesis: &Genesis, newest: Ordinal) -> Result<(), Failure> {
        let epochs = Epochs::of(genesis).map_err(Failure::failed)?;
        let deadline = Instant::now() + CERTIFY_TIMEOUT;
        for client in self.clients {
            loop {
                let covers = match client.get("/checkpoint").await {
                    Ok(answer) => {
                        let found = verify_checkpoint(&epochs, &answer.body);
                        found.map_err(Failure::failed)?.ordinal >= newest
                    }
                    Err(error) if error.refusal() == Some(NO_CHECKPOINT) => false,
                    Err(error) => return Err(error.into()),
                };
                if covers {
                    break;
                }
                if Instant::now() >= deadline {
                    return Err(Failure::say(
                        Exit::Failed,
                        format_args!("no checkpoint covers closing {newest}"),
                    ));
                }
                tokio::time::sleep(CERTIFICATE_POLL).await;
            }
        }
        Ok(())
    }

    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        bill: &Bill,
        what: &str,
    ) -> Result<T, Failure> {
        let path = format!("/proposals/{}{what}", bill.proposal_id);
        Ok(self.client(bill.column).get(&path).await?.read()?)
    }
}

/// How a bill is titled on the ledger.
pub(crate) fn title(column: usize) -> String {
    let bill = BILLS.get(column).copied().unwrap_or_default();
    format!(
        "House roll call {}: {}",
        column.saturating_add(1),
        bill.replace('-', " ")
    )
}
