//! Proofs that a view change carries: what was prepared, and what is stable.

use std::sync::Arc;

use aegis_crypto::{Committee, SeatNo};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{Scope, Sequence, View};
use crate::message::{Head, PrePrepare};
use crate::signature::Signature;
use crate::value::Value;

/// Proof that a value was prepared (OSDI '99, section 4.2): the primary's proposal, and
/// the agreement of so many backups that they make a quorum together with it.
///
/// The paper asks for 2f prepares beside the proposal, which is a quorum less one where
/// n = 3f + 1; for other n only the quorum intersects with every other one in f + 1 seats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedProof {
    pre_prepare: Arc<PrePrepare>,
    /// By ascending seat.
    prepares: Vec<(SeatNo, Signature)>,
}

/// Proof that a head is recorded by a quorum (section 4.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StableCheckpoint {
    head: Head,
    /// By ascending seat.
    signatures: Vec<(SeatNo, Signature)>,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// Not the number of signatures that is asked for.
    #[error("it has {found} signatures, not {expected}")]
    Count {
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: u8,
    },
    /// Seats that repeat or are out of order.
    #[error("seat {second} stands after seat {first}: signers are distinct and ascend")]
    Order {
        /// The earlier of the two.
        first: SeatNo,
        /// The later one.
        second: SeatNo,
    },
    /// A seat that the committee does not have.
    #[error("the committee has no seat {0}")]
    NoSeat(SeatNo),
    /// The primary among the backups.
    #[error("seat {0} is the view's primary, whose prepare does not count")]
    Primary(SeatNo),
    /// A signature that does not hold.
    #[error("the signature of seat {0} does not hold")]
    Signature(SeatNo),
}

impl PreparedProof {
    /// A proof of a verified proposal and verified prepares, of which those of the lowest
    /// seats are kept.
    #[must_use]
    pub(crate) fn assemble(
        committee: &Committee,
        pre_prepare: Arc<PrePrepare>,
        prepares: impl Iterator<Item = (SeatNo, Signature)>,
    ) -> Option<Self> {
        let needed = backups(committee);
        let prepares: Vec<_> = prepares.take(usize::from(needed)).collect();
        (prepares.len() == usize::from(needed)).then_some(Self {
            pre_prepare,
            prepares,
        })
    }

    /// The view in which it was prepared.
    #[must_use]
    pub fn view(&self) -> View {
        self.pre_prepare.view
    }

    /// The sequence number.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.pre_prepare.sequence
    }

    /// What was prepared.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.pre_prepare.value
    }

    /// Checks every signature, and that they make a quorum.
    ///
    /// # Errors
    /// The first way in which it proves nothing.
    pub fn verify(&self, scope: &Scope, committee: &Committee) -> Result<(), ProofError> {
        let (view, sequence) = (self.view(), self.sequence());
        let digest = self.value().whole();
        let primary = committee.seats().primary(view.0);
        check_signers(&self.prepares, backups(committee))?;
        if self.prepares.iter().any(|(seat, _)| *seat == primary) {
            return Err(ProofError::Primary(primary));
        }
        let proposed = scope.pre_prepare(view, sequence, &digest);
        verify_one(committee, primary, &proposed, &self.pre_prepare.signature)?;
        verify_all(
            committee,
            &self.prepares,
            &scope.prepare(view, sequence, &digest),
        )
    }
}

impl StableCheckpoint {
    /// A proof of verified signatures over one head, of which those of the lowest seats
    /// are kept.
    #[must_use]
    pub(crate) fn assemble(
        committee: &Committee,
        head: Head,
        signatures: impl Iterator<Item = (SeatNo, Signature)>,
    ) -> Option<Self> {
        let quorum = usize::from(committee.seats().quorum());
        let signatures: Vec<_> = signatures.take(quorum).collect();
        (signatures.len() == quorum).then_some(Self { head, signatures })
    }

    /// What is stable.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The signatures over the head's note, by ascending seat.
    #[must_use]
    pub fn signatures(&self) -> &[(SeatNo, Signature)] {
        &self.signatures
    }

    /// Checks every signature, and that they make a quorum.
    ///
    /// # Errors
    /// The first way in which it proves nothing.
    pub fn verify(&self, scope: &Scope, committee: &Committee) -> Result<(), ProofError> {
        check_signers(&self.signatures, committee.seats().quorum())?;
        let text = scope.note(&self.head).to_text();
        verify_all(committee, &self.signatures, text.as_bytes())
    }
}

/// How many backups make a quorum together with the primary.
fn backups(committee: &Committee) -> u8 {
    committee.seats().quorum().saturating_sub(1)
}

fn check_signers(signers: &[(SeatNo, Signature)], expected: u8) -> Result<(), ProofError> {
    if signers.len() != usize::from(expected) {
        let found = signers.len();
        return Err(ProofError::Count { found, expected });
    }
    check_ascending(signers.iter().map(|(seat, _)| *seat))
}

/// Distinct seats, each above the one before.
pub(crate) fn check_ascending(seats: impl Iterator<Item = SeatNo>) -> Result<(), ProofError> {
    let mut last = None;
    for second in seats {
        if let Some(first) = last.filter(|first| *first >= second) {
            return Err(ProofError::Order { first, second });
        }
        last = Some(second);
    }
    Ok(())
}

fn verify_all(
    committee: &Committee,
    signers: &[(SeatNo, Signature)],
    message: &[u8],
) -> Result<(), ProofError> {
    signers
        .iter()
        .try_for_each(|(seat, signature)| verify_one(committee, *seat, message, signature))
}

/// Checks one seat's signature.
pub(crate) fn verify_one(
    committee: &Committee,
    seat: SeatNo,
    message: &[u8],
    signature: &Signature,
) -> Result<(), ProofError> {
    let key = committee.key(seat).ok_or(ProofError::NoSeat(seat))?;
    key.verify(message, &signature.0)
        .map_err(|_| ProofError::Signature(seat))
}
