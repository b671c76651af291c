//! Committees, statements and certificates.

use super::{Page, Range, Row, page};
use crate::archive::{Archive, ArchiveError, Order, Table};
use crate::epochs::{self, CommitteeRecord, Epoch};
use crate::genesis::Genesis;
use crate::ids::{Ordinal, ProposalNo};
use crate::record::{ProposalRecord, Record, UncertifiedRecord, key};
use crate::statement::{self, Statement};

/// The committee of an epoch; `None` before the epoch begins and without a committee.
///
/// # Errors
/// The archive could not be read.
pub fn committee(
    archive: &dyn Archive,
    genesis: &Genesis,
    epoch: u64,
) -> Result<Option<CommitteeRecord>, ArchiveError> {
    epochs::committee(archive, genesis.trust(), epoch)
}

/// The committee of the newest epoch that has begun; `None` without a committee.
///
/// # Errors
/// The archive could not be read.
pub fn newest_committee(
    archive: &dyn Archive,
    genesis: &Genesis,
) -> Result<Option<CommitteeRecord>, ArchiveError> {
    epochs::newest(archive, genesis.trust())
}

/// Who certifies a closing, whether or not it has happened yet; `None` without a committee.
///
/// # Errors
/// The archive could not be read.
pub fn epoch_of(
    archive: &dyn Archive,
    genesis: &Genesis,
    ordinal: Ordinal,
) -> Result<Option<Epoch>, ArchiveError> {
    epochs::of_ordinal(archive, genesis.trust(), ordinal)
}

/// What validators agree on about a closing. `None` if there is no such closing, and while
/// it would name a next committee but its own epoch is [undecided](Epoch::Undecided).
///
/// # Errors
/// The archive could not be read.
pub fn statement(
    archive: &dyn Archive,
    genesis: &Genesis,
    ordinal: Ordinal,
) -> Result<Option<Statement>, ArchiveError> {
    statement::statement(archive, genesis.trust(), ordinal)
}

/// Closings that wait for their certificates, in order, after `after`.
///
/// # Errors
/// The archive could not be read.
pub fn uncertified(
    archive: &dyn Archive,
    after: Option<Ordinal>,
    limit: usize,
) -> Result<Page<(Ordinal, UncertifiedRecord), Ordinal>, ArchiveError> {
    let from = after.map_or_else(Vec::new, |ordinal| key::number(ordinal.next().0));
    page(
        archive,
        Range {
            from: &from,
            to: None,
            order: Order::Ascending,
        },
        limit,
        |found, value| {
            let (ordinal, waiting) = epochs::waiting(found, value)?;
            Ok(Row::Take(ordinal, (ordinal, waiting)))
        },
        Table::Uncertified,
    )
}

/// A closing that waits for its certificate; `None` once it has it.
///
/// # Errors
/// The archive could not be read.
pub fn waiting(
    archive: &dyn Archive,
    ordinal: Ordinal,
) -> Result<Option<UncertifiedRecord>, ArchiveError> {
    UncertifiedRecord::read(archive, &key::number(ordinal.0))
}

/// The certificate of a closing: the exact envelope that was recorded first.
///
/// # Errors
/// The archive could not be read.
pub fn certificate(
    archive: &dyn Archive,
    ordinal: Ordinal,
) -> Result<Option<String>, ArchiveError> {
    let envelope = archive
        .get(Table::Certificates, &key::number(ordinal.0))?
        .map(String::from_utf8)
        .transpose();
    envelope.map_err(|error| ArchiveError {
        reason: format!("the certificate of closing {ordinal}: {error}"),
    })
}

/// Whether a closing has its certificate.
///
/// # Errors
/// The archive could not be read.
pub fn has_certificate(archive: &dyn Archive, ordinal: Ordinal) -> Result<bool, ArchiveError> {
    let envelope = archive.get(Table::Certificates, &key::number(ordinal.0))?;
    Ok(envelope.is_some())
}

/// Whether a certificate stands behind a proposal's outcome.
///
/// # Errors
/// The archive could not be read.
pub fn is_certified(archive: &dyn Archive, no: ProposalNo) -> Result<bool, ArchiveError> {
    let record = ProposalRecord::read(archive, &key::proposal(no))?;
    Ok(record.is_some_and(|record| record.is_certified()))
}
