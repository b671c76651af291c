//! The committee's epochs: who certifies which closings, and how that changes.
//!
//! The genesis names the seats of epoch 0. A `configuration_change` whose content is exactly
//! `{"committee": {"add": {"name", "public_key"}}}`, `{"committee": {"remove": {"name"}}}` or
//! `{"committee": {"rotate": {"name", "public_key"}}}` asks for a change of one seat. Once it
//! is approved, the [statement](crate::Statement) of its closing names the next committee.
//! The committee in force certifies that statement, and the next epoch begins with the
//! ordinal after it when the certificate is recorded; so whoever trusts the genesis walks to
//! any epoch by certificates alone.
//!
//! Until then nobody can say who certifies the ordinals after it: their epoch is undecided,
//! and they wait. A change is computed against the committee of its own ordinal's epoch,
//! so of two that overlap the later one sees what the earlier one did. If it no longer
//! applies then, its statement names no next committee and nothing changes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use aegis_crypto::committee::SEATS_MAX;
use aegis_crypto::{
    Committee, CommitteeError, JsonError, JsonLimits, Jwk, PublicKey, from_slice_strict,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::apply::Trust;
use crate::archive::{Archive, ArchiveError, Order, Table};
use crate::ids::{Ordinal, SeatName};
use crate::record::{Record, UncertifiedRecord, key};
use crate::refusal::Refusal;

/// A validator's seat; its number is its place among the seats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeatRecord {
    /// What people call the validator.
    pub name: SeatName,
    /// The key it signs with.
    pub public_key: Jwk,
}

/// The committee of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitteeRecord {
    /// The epoch: 0 for the seats that the genesis names.
    pub epoch: u64,
    /// The first closing that it certifies.
    pub since: Ordinal,
    /// The seats, from seat 0.
    pub seats: Vec<SeatRecord>,
}

impl CommitteeRecord {
    /// What counts for signatures.
    ///
    /// # Errors
    /// Seats that make no committee; none that this code stored.
    pub fn committee(&self) -> Result<Committee, CommitteeError> {
        let keys = self.seats.iter().map(|seat| *seat.public_key.public_key());
        Committee::new(self.epoch, keys.collect())
    }

    /// The seats after a change.
    ///
    /// # Errors
    /// Why the change does not apply to these seats.
    pub(crate) fn changed(
        &self,
        change: &CommitteeChange,
        trust: &Trust,
    ) -> Result<Vec<SeatRecord>, Refusal> {
        let mut seats = self.seats.clone();
        match change {
            CommitteeChange::Add { name, public_key } => {
                if self.place_of(name).is_some() {
                    return Err(Refusal::SeatExists { name: name.clone() });
                }
                if seats.len() >= usize::from(SEATS_MAX) {
                    return Err(too_many_or_few(seats.len(), "remove one first"));
                }
                self.check_key_is_free(public_key, trust)?;
                seats.push(SeatRecord {
                    name: name.clone(),
                    public_key: *public_key,
                });
            }
            CommitteeChange::Remove { name } => {
                let place = self.place_of(name).ok_or_else(|| unknown(name))?;
                if seats.len() == 1 {
                    return Err(too_many_or_few(seats.len(), "add one first"));
                }
                seats.remove(place);
            }
            CommitteeChange::Rotate { name, public_key } => {
                self.check_key_is_free(public_key, trust)?;
                let seat = seats.iter_mut().find(|seat| seat.name == *name);
                seat.ok_or_else(|| unknown(name))?.public_key = *public_key;
            }
        }
        Ok(seats)
    }

    fn place_of(&self, name: &SeatName) -> Option<usize> {
        self.seats.iter().position(|seat| seat.name == *name)
    }

    /// A key signs for one seat, and a validator holds no key that administers.
    fn check_key_is_free(&self, jwk: &Jwk, trust: &Trust) -> Result<(), Refusal> {
        let key = jwk.public_key();
        let seat = self.seats.iter().find(|seat| seat.public_key == *jwk);
        let holder = match seat {
            Some(seat) => format!("seat {}", seat.name),
            None => match trust.authority_of(key) {
                Some(authority) => authority.to_owned(),
                None => return Ok(()),
            },
        };
        let kid = key.kid();
        Err(Refusal::SeatKeyInUse { kid, holder })
    }
}

fn unknown(name: &SeatName) -> Refusal {
    Refusal::UnknownSeat { name: name.clone() }
}

fn too_many_or_few(seats: usize, remedy: &str) -> Refusal {
    Refusal::PolicyViolation {
        rule: "committee_size".to_owned(),
        detail: format!("the committee has {seats} seats, it may have 1 to {SEATS_MAX}; {remedy}"),
    }
}

impl Trust {
    /// Whose key this is, if it is the registrar's or an administrator's.
    pub(crate) fn authority_of(&self, key: &PublicKey) -> Option<&'static str> {
        if *key == self.registrar {
            Some("the registrar")
        } else if self.administrators.contains(key) {
            Some("an administrator")
        } else {
            None
        }
    }
}

/// A change of one seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CommitteeChange {
    /// A seat more, the last.
    Add {
        /// Its name.
        name: SeatName,
        /// The key it signs with.
        public_key: Jwk,
    },
    /// A seat less; those after it move up.
    Remove {
        /// Its name.
        name: SeatName,
    },
    /// Another key for a seat.
    Rotate {
        /// Its name.
        name: SeatName,
        /// The key it signs with from then on.
        public_key: Jwk,
    },
}

impl CommitteeChange {
    /// Reads the content of a configuration change: `None` if it has no member `committee`.
    ///
    /// # Errors
    /// A member `committee` that is not alone, or not a change.
    pub(crate) fn parse(content: &str) -> Result<Option<Self>, Refusal> {
        let members: BTreeMap<String, &RawValue> =
            read(content).map_err(|error| invalid("content", error.own_words()))?;
        let Some(change) = members.get("committee") else {
            return Ok(None);
        };
        if members.len() > 1 {
            let reason = "a change of the committee stands alone; propose anything else by itself";
            return Err(invalid("content", reason));
        }
        read(change.get())
            .map(Some)
            .map_err(|error| invalid("content.committee", error.own_words()))
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, JsonError> {
    from_slice_strict(text.as_bytes(), JsonLimits::default())
}

fn invalid(field: &str, reason: impl Into<String>) -> Refusal {
    Refusal::InvalidField {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

/// Who certifies a closing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Epoch {
    /// This committee.
    Decided(CommitteeRecord),
    /// Nobody can say before the certificate of an earlier closing is recorded.
    Undecided {
        /// That closing, whose statement names the next committee.
        until: Ordinal,
    },
}

/// The committee of an epoch, once it has begun.
pub(crate) fn committee(
    archive: &dyn Archive,
    trust: &Trust,
    epoch: u64,
) -> Result<Option<CommitteeRecord>, ArchiveError> {
    match epoch {
        0 => Ok(trust.committee.clone()),
        epoch => CommitteeRecord::read(archive, &key::number(epoch)),
    }
}

/// The committee of the newest epoch that has begun.
pub(crate) fn newest(
    archive: &dyn Archive,
    trust: &Trust,
) -> Result<Option<CommitteeRecord>, ArchiveError> {
    let mut newest = None;
    archive.scan(
        Table::Committees,
        &[],
        None,
        Order::Descending,
        &mut |_, value| {
            newest = Some(CommitteeRecord::decode(value));
            ControlFlow::Break(())
        },
    )?;
    match newest {
        Some(record) => record.map(Some),
        None => Ok(trust.committee.clone()),
    }
}

/// Who certifies a closing, whether or not it has happened; `None` without a committee.
pub(crate) fn of_ordinal(
    archive: &dyn Archive,
    trust: &Trust,
    ordinal: Ordinal,
) -> Result<Option<Epoch>, ArchiveError> {
    let Some(mut record) = newest(archive, trust)? else {
        return Ok(None);
    };
    if ordinal >= record.since {
        let undecided = first_change(archive, trust, &record, ordinal)?;
        return Ok(Some(match undecided {
            Some(until) => Epoch::Undecided { until },
            None => Epoch::Decided(record),
        }));
    }
    // Closings are certified soon, so few epochs lie in between.
    while let Some(before) = record.epoch.checked_sub(1)
        && ordinal < record.since
    {
        record = committee(archive, trust, before)?.ok_or_else(|| ArchiveError {
            reason: format!("epoch {before} of the committee is missing"),
        })?;
    }
    Ok(Some(Epoch::Decided(record)))
}

/// The first closing of the newest epoch, before `ordinal`, that waits for its certificate
/// and whose change applies.
fn first_change(
    archive: &dyn Archive,
    trust: &Trust,
    newest: &CommitteeRecord,
    ordinal: Ordinal,
) -> Result<Option<Ordinal>, ArchiveError> {
    let mut found = Ok(None);
    archive.scan(
        Table::Uncertified,
        &key::number(newest.since.0),
        Some(&key::number(ordinal.0)),
        Order::Ascending,
        &mut |place, value| match waiting(place, value) {
            Ok((closing, waiting)) => {
                let applies = |change| newest.changed(change, trust).is_ok();
                if waiting.change.as_ref().is_some_and(applies) {
                    found = Ok(Some(closing));
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                found = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    found
}

/// A row of the closings that wait for their certificates.
pub(crate) fn waiting(
    place: &[u8],
    value: &[u8],
) -> Result<(Ordinal, UncertifiedRecord), ArchiveError> {
    let number = <[u8; 8]>::try_from(place).map_err(|_| ArchiveError {
        reason: format!("an ordinal's key has {} bytes", place.len()),
    })?;
    let ordinal = Ordinal(u64::from_be_bytes(number));
    Ok((ordinal, UncertifiedRecord::decode(value)?))
}
