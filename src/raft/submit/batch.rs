//! One attempt at a batch: proposed here, or forwarded to the leader.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use openraft::errors::ClientWriteError;
use tokio::time::{Instant, timeout_at};

use super::{Committed, Outcome, Submission};
use crate::clock::Clock;
use crate::gate::attempt_timeout;
use crate::machine::Position;
use crate::reach::Reach;
use crate::record;
use crate::types::{RawId, node_id};
use crate::wire::{self, Blob, FORWARD, Forward, ForwardAnswer};

/// Submissions that travel together.
pub(super) struct Batch {
    pub(super) submissions: Vec<Submission>,
    /// The first deadline among them.
    pub(super) deadline: Instant,
}

/// A batch after an attempt.
pub(super) struct Attempted {
    pub(super) submissions: Vec<Submission>,
    /// One for each open command, in their order.
    pub(super) outcomes: Vec<Outcome>,
}

impl Batch {
    fn payloads(&self) -> impl Iterator<Item = &Bytes> {
        self.submissions
            .iter()
            .flat_map(|submission| submission.open.iter().map(|(_, payload)| payload))
    }

    /// Takes the batch to `leader`, which may be this node.
    pub(super) async fn attempt(
        self,
        leader: RawId,
        reach: Reach,
        clock: Arc<dyn Clock>,
    ) -> Attempted {
        let outcomes = if leader == reach.id {
            self.propose(&reach, &*clock).await
        } else {
            self.forward(leader, &reach).await
        };
        Attempted {
            submissions: self.submissions,
            outcomes,
        }
    }

    /// Stamps and proposes the batch on this node.
    async fn propose(&self, reach: &Reach, clock: &dyn Clock) -> Vec<Outcome> {
        let stamp_ms = clock.now_ms();
        let commands: Vec<_> = self
            .payloads()
            .map(|payload| record::command(stamp_ms, payload))
            .collect();
        let count = commands.len();
        let mut outcomes = Vec::with_capacity(count);
        let mut results = match reach.core.client_write_many(commands).await {
            Ok(results) => results,
            // The core has stopped and took nothing.
            Err(_) => return vec![Outcome::NotWritten; count],
        };
        while outcomes.len() < count {
            match timeout_at(self.deadline, results.next()).await {
                Ok(Some(Ok(Ok(written)))) => outcomes.push(Outcome::Applied(Committed {
                    position: Position {
                        index: written.log_id.index,
                        term: written.log_id.leader_id.term,
                    },
                    answer: written.response,
                })),
                Ok(Some(Ok(Err(ClientWriteError::ForwardToLeader(_))))) => {
                    outcomes.push(Outcome::NotWritten)
                }
                // Discarded from this node's log, perhaps not from another's.
                Ok(Some(Ok(Err(_)))) => outcomes.push(Outcome::Unknown),
                // The core stopped, or the deadline passed, with the rest under way.
                Ok(Some(Err(_)) | None) | Err(_) => outcomes.resize(count, Outcome::Unknown),
            }
        }
        outcomes
    }

    /// Sends the batch to the leader. Should another node come to lead meanwhile, the old
    /// leader has a moment to answer, then the batch is given up as unknown.
    async fn forward(&self, leader: RawId, reach: &Reach) -> Vec<Outcome> {
        let payloads: Vec<Blob<'_>> = self.payloads().map(|payload| Blob(payload)).collect();
        let count = payloads.len();
        let bytes = payloads.iter().map(|payload| payload.0.len()).sum();
        let body = wire::encode_large(&Forward::V1 { payloads }, count, bytes);
        let mut leadership = reach.leadership.clone();
        let deposed = async {
            // Without a sender the node is stopping, and the call ends on its own.
            if leadership
                .wait_for(|now| now.leader.is_some_and(|now| now != leader))
                .await
                .is_err()
            {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(DEPOSED_GRACE).await;
        };
        let timeout = attempt_timeout(self.deadline);
        let answer = tokio::select! {
            answer = reach.peers.call(node_id(leader), FORWARD, body, timeout) => answer,
            () = deposed => return vec![Outcome::Unknown; count],
        };
        match answer {
            Ok(answer) => read_outcomes(&answer, count),
            Err(error) if error.is_without_effect() => vec![Outcome::NotWritten; count],
            Err(error) => {
                tracing::debug!(leader, %error, "forwarding broke off");
                vec![Outcome::Unknown; count]
            }
        }
    }
}

/// How long a leader that was replaced may take to answer what it had taken: what it
/// replicated in time is answered within this, and repeating the rest is safe.
const DEPOSED_GRACE: std::time::Duration = std::time::Duration::from_millis(100);

fn read_outcomes(answer: &Bytes, count: usize) -> Vec<Outcome> {
    let outcomes = match wire::decode::<ForwardAnswer<'_>>(answer) {
        Ok(ForwardAnswer::V1 { outcomes }) if outcomes.len() == count => outcomes,
        Ok(ForwardAnswer::V1 { outcomes }) => {
            tracing::warn!(
                expected = count,
                found = outcomes.len(),
                "the leader answered another number of submissions"
            );
            return vec![Outcome::Unknown; count];
        }
        Err(error) => {
            tracing::warn!(%error, "the leader's answer cannot be read");
            return vec![Outcome::Unknown; count];
        }
    };
    let outcome = |outcome| match outcome {
        wire::Outcome::Applied { at, answer: blob } => Outcome::Applied(Committed {
            position: Position {
                index: at.index,
                term: at.term,
            },
            answer: answer.slice_ref(blob.0),
        }),
        wire::Outcome::NotWritten => Outcome::NotWritten,
        wire::Outcome::Unknown => Outcome::Unknown,
        wire::Outcome::Declined(why) => Outcome::Declined(why.into()),
    };
    outcomes.into_iter().map(outcome).collect()
}
