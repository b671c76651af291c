//! Which committee certifies what, walked from the genesis by certificates alone.

use std::fmt;

use aegis_crypto::{Certificate, CertificateError, Committee, CommitteeError, Digest, SeatNo};
use aegis_ledger::{Genesis, Ordinal, SeatName, SeatRecord, Statement, StatementError};

/// Why a certificate certifies nothing here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EpochError {
    #[error("the genesis document names no committee, so that nothing can be certified under it")]
    NoCommittee,
    #[error("the committee of epoch {epoch} cannot be")]
    Committee { epoch: u64, source: CommitteeError },
    #[error("it is no certificate of the committee")]
    Certificate(#[source] CertificateError),
    #[error("what it certifies is no statement about a closing")]
    Statement(#[source] StatementError),
    #[error(
        "it certifies a closing of cluster {found}; the genesis document is that of {expected}"
    )]
    OtherCluster { found: Digest, expected: Digest },
    #[error(
        "it was agreed under sequence number {sequence}, and its statement has ordinal {ordinal}"
    )]
    Sequence { sequence: u64, ordinal: Ordinal },
    #[error(
        "epoch {epoch} certifies the closings {since}{}, and this is one of closing {ordinal}",
        Until(*until)
    )]
    Range {
        epoch: u64,
        since: Ordinal,
        until: Option<Ordinal>,
        ordinal: Ordinal,
    },
    #[error("it is of epoch {epoch}, and the committees that are known end with epoch {newest}")]
    Unknown { epoch: u64, newest: u64 },
    #[error("it decides no committee")]
    DecidesNone,
    #[error("it decides the committee of epoch {found}, after epoch {newest}")]
    Skips { found: u64, newest: u64 },
}

/// The end of a range of closings.
struct Until(Option<Ordinal>);

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(last) => write!(f, " to {last}"),
            None => f.write_str(" and on"),
        }
    }
}

/// The committee of an epoch, with the names of its seats.
#[derive(Clone, Debug)]
pub(crate) struct EpochCommittee {
    pub(crate) committee: Committee,
    pub(crate) seats: Vec<SeatRecord>,
    /// The first closing that it certifies, and the last if the next epoch is known.
    since: Ordinal,
    until: Option<Ordinal>,
}

impl EpochCommittee {
    fn new(epoch: u64, since: Ordinal, seats: Vec<SeatRecord>) -> Result<Self, EpochError> {
        let keys = seats.iter().map(|seat| *seat.public_key.public_key());
        let committee = Committee::new(epoch, keys.collect())
            .map_err(|source| EpochError::Committee { epoch, source })?;
        Ok(Self {
            committee,
            seats,
            since,
            until: None,
        })
    }

    /// What people call a seat.
    pub(crate) fn name(&self, seat: SeatNo) -> &SeatName {
        let record = self.seats.get(usize::from(seat.0));
        &record.expect("the seat is of this committee").name
    }
}

/// A decision that a committee stands behind.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) certificate: Certificate,
    pub(crate) statement: Statement,
    /// Who has signed.
    pub(crate) signers: Vec<(SeatNo, SeatName)>,
    pub(crate) committee: EpochCommittee,
}

impl Decision {
    /// The signers, for people.
    pub(crate) fn signed_by(&self) -> String {
        let names: Vec<_> = self.signers.iter().map(|(_, name)| name.as_str()).collect();
        format!(
            "{} of {} seats of epoch {} ({}), in view {}",
            names.len(),
            self.committee.seats.len(),
            self.certificate.epoch(),
            names.join(", "),
            self.certificate.view(),
        )
    }
}

/// The committees of a cluster, one for each epoch from 0 on.
#[derive(Clone, Debug)]
pub(crate) struct Epochs {
    cluster: Digest,
    committees: Vec<EpochCommittee>,
}

impl Epochs {
    /// The committee that the genesis names.
    pub(crate) fn of(genesis: &Genesis) -> Result<Self, EpochError> {
        if genesis.committee().is_none() {
            return Err(EpochError::NoCommittee);
        }
        let first = EpochCommittee::new(0, Ordinal(1), genesis.seats().to_vec())?;
        Ok(Self {
            cluster: genesis.cluster_id(),
            committees: vec![first],
        })
    }

    /// The committee of the newest epoch that is known.
    pub(crate) fn newest(&self) -> &EpochCommittee {
        self.committees
            .last()
            .expect("the genesis names the first committee")
    }

    /// The cluster that the genesis begins.
    pub(crate) const fn cluster(&self) -> Digest {
        self.cluster
    }

    /// The committee of an epoch.
    pub(crate) fn committee(&self, epoch: u64) -> Result<&EpochCommittee, EpochError> {
        let place = usize::try_from(epoch).ok();
        place
            .and_then(|place| self.committees.get(place))
            .ok_or(EpochError::Unknown {
                epoch,
                newest: self.newest().committee.epoch(),
            })
    }

    /// Verifies a certificate with the committee of its epoch.
    pub(crate) fn verify(&self, envelope: &[u8]) -> Result<Decision, EpochError> {
        let unverified = Certificate::parse(envelope).map_err(EpochError::Certificate)?;
        let known = self.committee(unverified.epoch())?;
        let certificate = unverified
            .verify(&known.committee)
            .map_err(EpochError::Certificate)?;
        let statement = Statement::parse(certificate.statement()).map_err(EpochError::Statement)?;
        if statement.cluster != self.cluster {
            return Err(EpochError::OtherCluster {
                found: statement.cluster,
                expected: self.cluster,
            });
        }
        let (sequence, ordinal) = (certificate.sequence(), statement.ordinal);
        if sequence != ordinal.0 {
            return Err(EpochError::Sequence { sequence, ordinal });
        }
        if ordinal < known.since || known.until.is_some_and(|until| ordinal > until) {
            return Err(EpochError::Range {
                epoch: certificate.epoch(),
                since: known.since,
                until: known.until,
                ordinal,
            });
        }
        let signers = certificate.signers().iter();
        Ok(Decision {
            signers: signers
                .map(|seat| (seat, known.name(seat).clone()))
                .collect(),
            committee: known.clone(),
            certificate,
            statement,
        })
    }

    /// Goes on to the next epoch, which a certificate of the newest one decides.
    pub(crate) fn advance(&mut self, envelope: &[u8]) -> Result<Decision, EpochError> {
        let decision = self.verify(envelope)?;
        let newest = self.newest().committee.epoch();
        let Some(next) = &decision.statement.next_committee else {
            return Err(EpochError::DecidesNone);
        };
        if decision.certificate.epoch() != newest || Some(next.epoch) != newest.checked_add(1) {
            return Err(EpochError::Skips {
                found: next.epoch,
                newest,
            });
        }
        let last = decision.statement.ordinal;
        let next = EpochCommittee::new(next.epoch, last.next(), next.seats.clone())?;
        if let Some(before) = self.committees.last_mut() {
            before.until = Some(last);
        }
        self.committees.push(next);
        Ok(decision)
    }
}
