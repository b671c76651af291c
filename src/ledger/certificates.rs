//! Certificates: a closing becomes certified when a quorum of its committee has signed the
//! ledger's own statement about it.

use aegis_crypto::{Certificate, CertificateError};

use crate::apply::{Ledger, Receipt, Step, Stop, forbidden};
use crate::archive::{Archive, ArchiveError, Change, Table};
use crate::command::Principal;
use crate::epochs::{self, CommitteeRecord, Epoch};
use crate::ids::Ordinal;
use crate::record::{ClosingRecord, ProposalRecord, Record, key};
use crate::refusal::Refusal;
use crate::statement::{self, Statement};

/// How much of a value a refusal quotes, in characters.
const QUOTED_CHARS_MAX: usize = 80;

impl Ledger {
    /// Records the certificate of a closing. The first one stands; another valid one, which
    /// may have other signers, changes nothing.
    ///
    /// The closing is one of an entry before this one: its statement names its audit entry,
    /// so nobody can have signed it earlier. Everything is read as those entries left it.
    pub(crate) fn record_certificate(
        &mut self,
        step: &mut Step<'_>,
        principal: &Principal,
        ordinal: Ordinal,
        envelope: String,
    ) -> Result<Receipt, Stop> {
        if *principal != Principal::System {
            return Err(forbidden(principal, "record a certificate").into());
        }
        if self.committee.is_none() {
            return Err(Refusal::NoCommittee.into());
        }
        let record_key = key::number(ordinal.0);
        let closing = ClosingRecord::read(step.archive, &record_key)?
            .ok_or(Refusal::UnknownClosing { ordinal })?;
        let standing = step.archive.get(Table::Certificates, &record_key)?;
        if standing.as_deref() == Some(envelope.as_bytes()) {
            return Ok(Receipt::Done);
        }
        let statement = self.check_certificate(step.archive, ordinal, &envelope)?;
        if standing.is_some() {
            return Ok(Receipt::Done);
        }

        step.changes.push(Change {
            table: Table::Certificates,
            key: record_key.clone(),
            value: Some(envelope.into_bytes()),
        });
        step.delete(Table::Uncertified, record_key);
        self.core.certified = self.core.certified.saturating_add(1);
        self.mark_certified(step, ordinal, &closing)?;
        if let Some(next) = statement.next_committee {
            let record = CommitteeRecord {
                epoch: next.epoch,
                since: ordinal.next(),
                seats: next.seats,
            };
            step.put(key::number(record.epoch), &record);
            self.committee = Some(record);
        }
        Ok(Receipt::Done)
    }

    /// The ledger's statement about a closing, if that is what the committee has signed.
    fn check_certificate(
        &self,
        archive: &dyn Archive,
        ordinal: Ordinal,
        envelope: &str,
    ) -> Result<Statement, Stop> {
        let bad = |reason| Stop::from(Refusal::BadCertificate { ordinal, reason });
        let unverified =
            Certificate::parse(envelope.as_bytes()).map_err(|error| bad(own_words(&error)))?;
        let record = match epochs::of_ordinal(archive, &self.trust, ordinal)? {
            Some(Epoch::Decided(record)) => record,
            Some(Epoch::Undecided { until }) => {
                return Err(bad(format!(
                    "its epoch is undecided until closing {until} is certified"
                )));
            }
            None => return Err(Refusal::NoCommittee.into()),
        };
        let committee = record.committee().map_err(|error| ArchiveError {
            reason: format!("epoch {}: {error}", record.epoch),
        })?;
        let certificate = unverified
            .verify(&committee)
            .map_err(|error| bad(own_words(&error)))?;
        if certificate.sequence() != ordinal.0 {
            let reason = format!("it is of closing {}", certificate.sequence());
            return Err(bad(reason));
        }
        let statement =
            statement::statement(archive, &self.trust, ordinal)?.ok_or_else(|| ArchiveError {
                reason: format!("closing {ordinal} has no statement although its epoch is decided"),
            })?;
        match statement.differs_from(certificate.statement()) {
            None => Ok(statement),
            Some(difference) => Err(Refusal::CertificateMismatch {
                ordinal,
                field: quoted(&difference.field),
                certified: quoted(&difference.found),
                expected: quoted(&difference.expected),
            }
            .into()),
        }
    }

    /// Tells that a closing is final, and marks its proposal if it is the proposal's last.
    fn mark_certified(
        &mut self,
        step: &mut Step<'_>,
        ordinal: Ordinal,
        closing: &ClosingRecord,
    ) -> Result<(), ArchiveError> {
        let proposal_key = key::proposal(closing.proposal);
        let mut proposal =
            step.read::<ProposalRecord>(&proposal_key)?
                .ok_or_else(|| ArchiveError {
                    reason: format!("closing {ordinal} has no proposal"),
                })?;
        self.tell_consensus(step, closing, proposal.frozen.as_ref(), true);
        let time = step.time;
        if let Some(closed) = proposal
            .closed
            .as_mut()
            .filter(|closed| closed.ordinal == ordinal)
        {
            closed.certified_at = Some(time);
            step.put(proposal_key, &proposal);
        }
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

/// The error in words that every replica spells alike.
fn own_words(error: &CertificateError) -> String {
    match error {
        CertificateError::Json { source, .. } => format!("{error}: {}", source.own_words()),
        error => error.to_string(),
    }
}
