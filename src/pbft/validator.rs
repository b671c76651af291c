//! A replica together with its safety module: what a shell, or a simulation, drives.

use std::sync::Arc;

use aegis_crypto::certificate::Certificate;
use aegis_crypto::{Committee, SecretKey};

use crate::draft::Draft;
use crate::evidence::Evidence;
use crate::guard::{Disk, Granted, Guard, OpenError, SignError};
use crate::ids::{Scope, Sequence, Time, View};
use crate::message::{Head, Message};
use crate::proof::StableCheckpoint;
use crate::replica::{Base, Input, Note, Output, Replica, Status, To};
use crate::safety::Unsafe;
use crate::settings::Settings;
use crate::value::Value;
use crate::verify::Verified;

/// What the shell has to do, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a message.
    Send {
        /// To whom.
        to: To,
        /// What.
        message: Message,
    },
    /// Answer with [`Input::Verdict`] whether a proposal that differs from what the local
    /// ledger says may be agreed to.
    Judge {
        /// The view of the proposal.
        view: View,
        /// The sequence number.
        sequence: Sequence,
        /// What is proposed.
        value: Value,
        /// Whether it was prepared in an earlier view.
        locked: bool,
    },
    /// Record a certificate.
    Decided(Arc<Certificate>),
    /// Publish a stable checkpoint.
    Stable(StableCheckpoint),
    /// Keep the proof that a validator contradicted itself.
    Evidence(Box<Evidence>),
    /// Raise the alarm: a quorum signed another head than this seat.
    Diverged {
        /// What this seat signed.
        mine: Head,
        /// What a quorum signed.
        theirs: Head,
    },
    /// Raise the alarm: the replica asked for what the safety module must not sign.
    Refused(Box<Draft>, Unsafe),
    /// Log and count.
    Note(Note),
}

/// What a validator agrees on, with whom, and from where.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Times.
    pub settings: Settings,
    /// What its signatures are bound to.
    pub scope: Scope,
    /// The committee of the scope's epoch.
    pub committee: Arc<Committee>,
    /// Where agreement begins.
    pub base: Base,
}

/// A validator without its network and its clock.
#[derive(Debug)]
pub struct Validator<D> {
    replica: Replica,
    guard: Guard<D>,
}

impl<D: Disk> Validator<D> {
    /// A validator that goes on where its records leave off.
    ///
    /// # Errors
    /// A key without a seat, records that do not read, or a write that fails.
    pub fn open(
        setup: Setup,
        key: SecretKey,
        records: &[(Vec<u8>, Vec<u8>)],
        disk: D,
        now: Time,
    ) -> Result<(Self, Vec<Effect>), OpenError<D::Error>> {
        let Setup {
            settings,
            scope,
            committee,
            base,
        } = setup;
        let guard = Guard::open(key, scope, committee.clone(), records, disk)?;
        let (replica, outputs) = Replica::start(settings, committee, base, guard.safety(), now);
        let mut validator = Self { replica, guard };
        let effects = validator
            .carry_out(now, outputs)
            .map_err(|error| match error {
                SignError::Disk(error) => OpenError::Disk(error),
                SignError::Failed => OpenError::Failed,
            })?;
        Ok((validator, effects))
    }

    /// Takes inputs in order. All that they ask to be signed shares one write.
    ///
    /// # Errors
    /// The safety module cannot write: the validator must stop.
    pub fn handle(
        &mut self,
        now: Time,
        inputs: impl IntoIterator<Item = Input>,
    ) -> Result<Vec<Effect>, SignError<D::Error>> {
        let outputs = inputs
            .into_iter()
            .flat_map(|input| self.replica.step(now, input))
            .collect();
        self.carry_out(now, outputs)
    }

    fn carry_out(
        &mut self,
        now: Time,
        outputs: Vec<Output>,
    ) -> Result<Vec<Effect>, SignError<D::Error>> {
        let mut effects = Vec::new();
        let mut drafts = sort(outputs, &mut effects);
        while !drafts.is_empty() {
            let granted = self.guard.sign(std::mem::take(&mut drafts))?;
            for granted in granted {
                let message = match granted {
                    Granted::Said(message) => message,
                    Granted::Kept => continue,
                    Granted::Refused(draft, why) => {
                        effects.push(Effect::Refused(Box::new(draft), why));
                        continue;
                    }
                };
                effects.push(Effect::Send {
                    to: To::All,
                    message: message.clone(),
                });
                if let Some(own) = Verified::own(message) {
                    let outputs = self.replica.step(now, Input::Own(own));
                    drafts.extend(sort(outputs, &mut effects));
                }
            }
        }
        Ok(effects)
    }

    /// When [`Input::Wake`] is due.
    pub fn wake_at(&self) -> Option<Time> {
        self.replica.wake_at()
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        self.replica.status()
    }

    /// What the safety module has granted so far.
    pub const fn guard(&self) -> &Guard<D> {
        &self.guard
    }
}

/// What is to be signed, and apart from it what is to be done.
fn sort(outputs: Vec<Output>, effects: &mut Vec<Effect>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for output in outputs {
        effects.push(match output {
            Output::Sign(draft) => {
                drafts.push(draft);
                continue;
            }
            Output::Send { to, message } => Effect::Send { to, message },
            Output::Judge {
                view,
                sequence,
                value,
                locked,
            } => Effect::Judge {
                view,
                sequence,
                value,
                locked,
            },
            Output::Decided(certificate) => Effect::Decided(certificate),
            Output::Stable(stable) => Effect::Stable(stable),
            Output::Evidence(evidence) => Effect::Evidence(evidence),
            Output::Diverged { mine, theirs } => Effect::Diverged { mine, theirs },
            Output::Note(note) => Effect::Note(note),
        });
    }
    drafts
}
