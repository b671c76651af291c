//! The certificates of the bills: waited for while others still vote, and verified here with
//! nothing but the genesis document.

use std::time::Duration;

use aegis_ledger::{Genesis, Ordinal};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::replay::{Bill, Replay};
use super::roll_calls::RollCalls;
use crate::failure::{Exit, Failure};
use crate::proposals::CERTIFICATE_POLL;
use crate::verify::{Decision, Epochs};

/// A bill that takes no more ballots.
pub(crate) struct Closed {
    pub(crate) bill: Bill,
    /// Whether this run cast its last ballot.
    pub(crate) now: bool,
}

/// A bill's certificate.
pub(crate) struct Certified {
    bill: Bill,
    envelope: Bytes,
    /// How long after the answer to its last ballot it was there, if this run cast that.
    after: Option<Duration>,
}

/// Waits for the certificate of each bill that closes.
pub(crate) async fn collect(
    replay: &Replay<'_>,
    mut closed: UnboundedReceiver<Closed>,
) -> Result<Vec<Certified>, Failure> {
    let (mut waiting, mut found) = (FuturesUnordered::new(), Vec::new());
    let mut more = true;
    while more || !waiting.is_empty() {
        tokio::select! {
            next = closed.recv(), if more => match next {
                Some(next) => waiting.push(wait(replay, next)),
                None => more = false,
            },
            Some(certified) = waiting.next() => found.push(certified?),
        }
    }
    found.sort_by_key(|certified| certified.bill.column);
    Ok(found)
}

async fn wait(replay: &Replay<'_>, closed: Closed) -> Result<Certified, Failure> {
    let began = Instant::now();
    let Closed { bill, now } = closed;
    let envelope = replay.certificate(&bill).await?;
    Ok(Certified {
        bill,
        envelope,
        after: now.then(|| began.elapsed()),
    })
}

/// How long certification took, as this client saw it; nothing if an earlier run saw it.
pub(crate) fn took(certified: &[Certified]) -> Option<String> {
    let mut times: Vec<Duration> = certified
        .iter()
        .filter_map(|certified| certified.after)
        .collect();
    times.sort_unstable();
    let place = times.len().div_ceil(2).saturating_sub(1);
    let (p50, max) = (times.get(place)?, times.last()?);
    Some(format!(
        "{} certificates, each {:.3} s (p50) to {:.3} s (max) after the answer to the last ballot, \
         asked for every {} ms",
        times.len(),
        p50.as_secs_f32(),
        max.as_secs_f32(),
        CERTIFICATE_POLL.as_millis()
    ))
}

/// Verifies every certificate from the genesis document alone, and that it says what the file
/// says. Returns the newest closing that one of them certifies.
pub(crate) fn verify(
    genesis: &Genesis,
    certified: &[Certified],
    calls: &RollCalls,
) -> Result<Ordinal, Failure> {
    let epochs = Epochs::of(genesis).map_err(Failure::failed)?;
    let mut newest = Ordinal(0);
    for found in certified {
        let id = &found.bill.proposal_id;
        let negative = |reason: anyhow::Error| {
            let what = format!("the certificate of {id}");
            Failure::new(Exit::Negative, reason.context(what))
        };
        let decision = epochs.verify(&found.envelope);
        let decision = decision.map_err(|error| negative(error.into()))?;
        check(&decision, &found.bill, calls).map_err(|why| negative(anyhow::Error::msg(why)))?;
        newest = newest.max(decision.statement.ordinal);
    }
    Ok(newest)
}

/// Compares what was certified with the file.
fn check(decision: &Decision, bill: &Bill, calls: &RollCalls) -> Result<(), String> {
    let (statement, expected) = (&decision.statement, calls.expected(bill.column));
    for (field, certified, expected) in [
        (
            "proposal",
            statement.proposal.to_string(),
            bill.proposal_id.clone(),
        ),
        (
            "outcome",
            statement.outcome.as_str().to_owned(),
            expected.outcome.to_owned(),
        ),
        (
            "ballots",
            statement.ballots_count.to_string(),
            expected.total().to_string(),
        ),
    ] {
        if certified != expected {
            return Err(format!("{field} is {certified}, the file says {expected}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified(after_ms: Option<u64>) -> Certified {
        Certified {
            bill: Bill {
                column: 0,
                proposal_id: "prop_1".into(),
            },
            envelope: Bytes::new(),
            after: after_ms.map(Duration::from_millis),
        }
    }

    #[test]
    fn only_what_this_run_saw_is_timed() {
        assert_eq!(took(&[]), None);
        assert_eq!(took(&[certified(None)]), None);
        let times = [Some(90), None, Some(30), Some(40), Some(20)].map(certified);
        let told = took(&times).unwrap();
        assert!(
            told.starts_with("4 certificates, each 0.030 s (p50) to 0.090 s (max) "),
            "{told}"
        );
    }

    #[test]
    fn a_certificate_that_does_not_hold_is_told_with_its_bill() {
        let calls = RollCalls::parse(super::super::HOUSE_VOTES_84).unwrap();
        let genesis = crate::verify::tests::genesis(4);
        let failure = verify(&genesis, &[certified(None)], &calls).unwrap_err();
        assert_eq!(failure.exit(), Exit::Negative);
        assert!(
            failure
                .to_string()
                .starts_with("the certificate of prop_1: ")
        );
    }
}
