//! The gate between the network and the replica: only what a validator signed, and what
//! proves what it claims, becomes [`Verified`].
//!
//! All of it is a pure function of the message and the committee, so that a shell may
//! verify on as many threads as it likes. What a message means is for the replica to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use aegis_crypto::certificate::{Certificate, CertificateError, STATEMENT_DEPTH_MAX};
use aegis_crypto::{Committee, Digest, JsonLimits, SeatNo, Seats, from_slice_strict};
use serde::Deserialize;
use thiserror::Error;

use crate::ids::{Scope, Sequence, View};
use crate::message::{
    Checkpoint, Commit, Frame, Message, NewView, PrePrepare, Prepare, ViewChange,
};
use crate::proof::{ProofError, StableCheckpoint, check_ascending, verify_one};
use crate::settings::WINDOW;
use crate::value::{STATEMENT_BYTES_MAX, Value};

/// A message whose signatures hold and whose proofs prove what they claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified(pub(crate) Known);

impl Verified {
    /// A message that this seat's own safety module signed; none for what a quorum signs.
    pub(crate) fn own(message: Message) -> Option<Self> {
        let known = match message {
            Message::PrePrepare(message) => Known::PrePrepare(message),
            Message::Prepare(message) => Known::Prepare(message),
            Message::Commit(message) => Known::Commit(message),
            Message::Checkpoint(message) => Known::Checkpoint(message),
            Message::ViewChange(message) => Known::ViewChange(message),
            Message::NewView(message) => Known::NewView(message),
            Message::Certificate(_) | Message::Stable(_) => return None,
        };
        Some(Self(known))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    PrePrepare(Arc<PrePrepare>),
    Prepare(Prepare),
    Commit(Commit),
    Checkpoint(Checkpoint),
    ViewChange(Arc<ViewChange>),
    NewView(Arc<NewView>),
    Certificate(Arc<Certificate>),
    Stable(StableCheckpoint),
}

impl Known {
    /// The seat that signed; none for what a quorum signed.
    pub(crate) fn signer(&self, seats: Seats) -> Option<SeatNo> {
        match self {
            Self::PrePrepare(message) => Some(seats.primary(message.view.0)),
            Self::Prepare(message) => Some(message.seat),
            Self::Commit(message) => Some(message.seat),
            Self::Checkpoint(message) => Some(message.seat),
            Self::ViewChange(message) => Some(message.seat),
            Self::NewView(message) => Some(seats.primary(message.view.0)),
            Self::Certificate(_) | Self::Stable(_) => None,
        }
    }
}

/// Why a message is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Made for another cluster, incarnation or epoch.
    #[error("it belongs to {found:?}, this committee is {expected:?}")]
    Scope {
        /// What it says.
        found: Box<Scope>,
        /// What would be right.
        expected: Box<Scope>,
    },
    /// Its own signature.
    #[error("it is refused")]
    Signer(#[source] ProofError),
    /// A view change's checkpoint.
    #[error("its stable checkpoint is refused")]
    Stable(#[source] ProofError),
    /// A view change's prepared proof.
    #[error("its proof that sequence {sequence} was prepared is refused")]
    Prepared {
        /// The sequence number.
        sequence: Sequence,
        /// What is wrong with it.
        source: ProofError,
    },
    /// A prepared proof out of place.
    #[error("it claims sequence {sequence} of view {view}, where {bound} is allowed")]
    Range {
        /// The sequence number that is claimed.
        sequence: Sequence,
        /// The view that is claimed.
        view: View,
        /// What is allowed.
        bound: String,
    },
    /// A new view that stands on too few view changes, or too many.
    #[error("it stands on {found} view changes, not {expected}")]
    ViewChanges {
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: u8,
    },
    /// A new view that stands on a view change for another view.
    #[error("the view change of seat {seat} is for view {found}, not {expected}")]
    OtherView {
        /// Who signed it.
        seat: SeatNo,
        /// The view that it is for.
        found: View,
        /// The view that begins.
        expected: View,
    },
    /// A view change in a new view that does not hold by itself.
    #[error("the view change of seat {seat} is refused")]
    ViewChange {
        /// Who signed it.
        seat: SeatNo,
        /// What is wrong with it.
        source: Box<Invalid>,
    },
    /// A new view whose proposals do not follow from its view changes.
    #[error("it proposes {found} values, but its view changes ask for other {expected}")]
    Proposals {
        /// How many it proposes.
        found: usize,
        /// How many were prepared.
        expected: usize,
    },
    /// A certificate that certifies nothing.
    #[error("the certificate is refused")]
    Certificate(#[source] CertificateError),
    /// A commit or certificate whose statement is about something else.
    #[error("its statement is not about closing {sequence} of this cluster and incarnation")]
    Statement {
        /// The sequence number that it is said to be about.
        sequence: Sequence,
    },
}

/// What a statement is bound to. A commit signs the certificate's payload, in which cluster
/// and incarnation stand only here: without them, what the same seats certified before a
/// restore would decide, or convict them, after it.
#[derive(Deserialize)]
struct Bound {
    cluster: Digest,
    incarnation: String,
    ordinal: String,
}

/// Verifies the messages of one committee.
#[derive(Clone, Debug)]
pub struct Verifier {
    scope: Scope,
    committee: Arc<Committee>,
}

impl Verifier {
    /// Verifies what the committee's seats sign in the scope.
    #[must_use]
    pub const fn new(scope: Scope, committee: Arc<Committee>) -> Self {
        Self { scope, committee }
    }

    /// Checks everything about a message that needs no state.
    ///
    /// # Errors
    /// The first reason to drop it.
    pub fn verify(&self, frame: Frame) -> Result<Verified, Invalid> {
        if frame.scope != self.scope {
            return Err(Invalid::Scope {
                found: Box::new(frame.scope),
                expected: Box::new(self.scope),
            });
        }
        let known = match frame.message {
            Message::PrePrepare(message) => {
                self.pre_prepare(&message)?;
                Known::PrePrepare(message)
            }
            Message::Prepare(message) => {
                let digest = &message.digest;
                let signed = self.scope.prepare(message.view, message.sequence, digest);
                self.signer(message.seat, &signed, &message.signature)?;
                Known::Prepare(message)
            }
            Message::Commit(message) => {
                let statement = message.value.statement();
                let signed = self.scope.commit(message.view, message.sequence, statement);
                self.signer(message.seat, &signed, &message.signature)?;
                self.statement(message.sequence, statement)?;
                Known::Commit(message)
            }
            Message::Checkpoint(message) => {
                let signed = self.scope.note(&message.head).to_text();
                self.signer(message.seat, signed.as_bytes(), &message.signature)?;
                Known::Checkpoint(message)
            }
            Message::ViewChange(message) => {
                self.view_change(&message)?;
                Known::ViewChange(message)
            }
            Message::NewView(message) => {
                self.new_view(&message)?;
                Known::NewView(message)
            }
            Message::Certificate(envelope) => {
                let certificate = Certificate::parse(&envelope)
                    .and_then(|unverified| unverified.verify(&self.committee))
                    .map_err(Invalid::Certificate)?;
                self.statement(Sequence(certificate.sequence()), certificate.statement())?;
                Known::Certificate(Arc::new(certificate))
            }
            Message::Stable(stable) => {
                stable
                    .verify(&self.scope, &self.committee)
                    .map_err(Invalid::Stable)?;
                Known::Stable(stable)
            }
        };
        Ok(Verified(known))
    }

    fn signer(
        &self,
        seat: SeatNo,
        signed: &[u8],
        signature: &crate::Signature,
    ) -> Result<(), Invalid> {
        verify_one(&self.committee, seat, signed, signature).map_err(Invalid::Signer)
    }

    /// Whether a statement is about this closing of this cluster and incarnation. All else
    /// in it is for others to read.
    fn statement(&self, sequence: Sequence, statement: &str) -> Result<(), Invalid> {
        let limits = JsonLimits {
            depth: STATEMENT_DEPTH_MAX,
            bytes: STATEMENT_BYTES_MAX,
        };
        let bound: Option<Bound> = from_slice_strict(statement.as_bytes(), limits).ok();
        let here = bound.is_some_and(|bound| {
            bound.cluster == self.scope.cluster
                && bound.incarnation == self.scope.incarnation.to_string()
                && bound.ordinal == sequence.to_string()
        });
        if here {
            Ok(())
        } else {
            Err(Invalid::Statement { sequence })
        }
    }

    fn pre_prepare(&self, message: &PrePrepare) -> Result<(), Invalid> {
        let digest = message.value.whole();
        let signed = self
            .scope
            .pre_prepare(message.view, message.sequence, &digest);
        let primary = self.committee.seats().primary(message.view.0);
        self.signer(primary, &signed, &message.signature)
    }

    /// A view change counts when every claim in it is proved (OSDI '99, section 4.4).
    fn view_change(&self, message: &ViewChange) -> Result<(), Invalid> {
        let digest =
            self.scope
                .view_change_digest(message.view, message.stable.as_ref(), &message.prepared);
        let signed = Scope::view_change(&digest);
        self.signer(message.seat, &signed, &message.signature)?;
        if let Some(stable) = &message.stable {
            stable
                .verify(&self.scope, &self.committee)
                .map_err(Invalid::Stable)?;
        }
        let mut above = message.stable.as_ref().map(|stable| stable.head().sequence);
        for proof in &message.prepared {
            let (sequence, view) = (proof.sequence(), proof.view());
            let range = |bound: String| Invalid::Range {
                sequence,
                view,
                bound,
            };
            if above.is_some_and(|above| sequence <= above) {
                return Err(range(format!("only above {}", above.unwrap_or_default())));
            }
            if view >= message.view {
                return Err(range(format!("only below view {}", message.view)));
            }
            proof
                .verify(&self.scope, &self.committee)
                .map_err(|source| Invalid::Prepared { sequence, source })?;
            above = Some(sequence);
        }
        self.check_window(message)
    }

    /// An honest validator prepares nothing beyond its high watermark.
    fn check_window(&self, message: &ViewChange) -> Result<(), Invalid> {
        let (Some(first), Some(last)) = (message.prepared.first(), message.prepared.last()) else {
            return Ok(());
        };
        let low = match &message.stable {
            Some(stable) => stable.head().sequence.next(),
            // Where the epoch began is not in the message: the first of its claims will do
            // as the bound of their number, which is all that is at stake.
            None => first.sequence(),
        };
        let high = low.plus(WINDOW);
        if last.sequence() < high {
            return Ok(());
        }
        Err(Invalid::Range {
            sequence: last.sequence(),
            view: last.view(),
            bound: format!("only below {high}"),
        })
    }

    /// A new view counts when it stands on a quorum of distinct view changes for just
    /// this view, each valid by itself, and proposes what follows from them: the set O is
    /// computed again (OSDI '99, section 4.4).
    fn new_view(&self, message: &NewView) -> Result<(), Invalid> {
        let quorum = self.committee.seats().quorum();
        if message.view_changes.len() != usize::from(quorum) {
            return Err(Invalid::ViewChanges {
                found: message.view_changes.len(),
                expected: quorum,
            });
        }
        check_ascending(message.view_changes.iter().map(|change| change.seat))
            .map_err(Invalid::Signer)?;
        let digests: Vec<(Sequence, Digest)> = message
            .proposals
            .iter()
            .map(|proposal| (proposal.sequence, proposal.value.digest()))
            .collect();
        let digest = self.scope.new_view_digest(
            message.view,
            &message.view_changes,
            digests.iter().copied(),
        );
        let primary = self.committee.seats().primary(message.view.0);
        self.signer(primary, &Scope::new_view(&digest), &message.signature)?;
        for change in &message.view_changes {
            let seat = change.seat;
            if change.view != message.view {
                return Err(Invalid::OtherView {
                    seat,
                    found: change.view,
                    expected: message.view,
                });
            }
            self.view_change(change)
                .map_err(|source| Invalid::ViewChange {
                    seat,
                    source: Box::new(source),
                })?;
        }
        let selected = selection(&message.view_changes);
        let expected = selected
            .iter()
            .map(|(sequence, value)| (*sequence, value.whole()));
        let proposed = message.proposals.iter();
        if !expected.eq(proposed.map(|proposal| (proposal.sequence, proposal.value.whole()))) {
            return Err(Invalid::Proposals {
                found: digests.len(),
                expected: selected.len(),
            });
        }
        message.proposals.iter().try_for_each(|proposal| {
            if proposal.view == message.view {
                self.pre_prepare(proposal)
            } else {
                Err(Invalid::OtherView {
                    seat: primary,
                    found: proposal.view,
                    expected: message.view,
                })
            }
        })
    }
}

/// The newest stable checkpoint among view changes: its sequence number is min-s (OSDI '99,
/// section 4.4).
pub(crate) fn newest_stable(view_changes: &[Arc<ViewChange>]) -> Option<&StableCheckpoint> {
    view_changes
        .iter()
        .filter_map(|change| change.stable.as_ref())
        .max_by_key(|stable| stable.head().sequence)
}

/// What a new view must begin with, computed from a quorum of view changes (OSDI '99,
/// section 4.4): above the newest stable checkpoint among them, every sequence number that
/// any of them prepared gets the value of its highest view.
///
/// The paper fills the gaps between with null requests. Here a sequence number is the
/// ordinal of a closing that exists, so a number that nobody prepared is left free, and
/// the new primary proposes for it afresh: nothing can be committed for it in an earlier
/// view, or one of any quorum would have prepared it.
pub(crate) fn selection(view_changes: &[Arc<ViewChange>]) -> BTreeMap<Sequence, Value> {
    let low = newest_stable(view_changes).map_or(Sequence(0), |stable| stable.head().sequence);
    let mut newest: BTreeMap<Sequence, (View, &Value)> = BTreeMap::new();
    let proofs = view_changes.iter().flat_map(|change| &change.prepared);
    for proof in proofs.filter(|proof| proof.sequence() > low) {
        let (view, value) = (proof.view(), proof.value());
        let entry = newest.entry(proof.sequence()).or_insert((view, value));
        if view > entry.0 {
            *entry = (view, value);
        }
    }
    newest
        .into_iter()
        .map(|(sequence, (_, value))| (sequence, value.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
