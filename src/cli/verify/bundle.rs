//! Reading a bundle without holding it: its ballots are read one by one, in a pass of their
//! own, so that its members may stand in any order.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use aegis_api::bundle::{
    BundleAuditEntry, BundleBallot, BundleCheckpoint, BundleElector, BundleEvidence, BundleTerms,
    VERSION,
};
use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

/// How much of the file is read at a time, in bytes.
const READ_BYTES: usize = 1 << 20;

/// Why a bundle cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is no bundle", path.display())]
    Form {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("the bundle has version {found}, this binary knows version {VERSION}")]
    Version { found: String },
}

/// A bundle but for its ballots, in the form that [`aegis_api::bundle`] describes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    version: String,
    pub(crate) genesis: String,
    pub(crate) certificate: String,
    pub(crate) document: String,
    pub(crate) audit_entry: BundleAuditEntry,
    pub(crate) checkpoint: Option<BundleCheckpoint>,
    pub(crate) checkpoint_missing: Option<String>,
    pub(crate) terms: Option<BundleTerms>,
    pub(crate) committee_changes: Vec<String>,
    pub(crate) electorate: Vec<BundleElector>,
    #[serde(rename = "ballots")]
    _ballots: IgnoredAny,
    pub(crate) evidence: Vec<BundleEvidence>,
}

/// A bundle on disk.
pub(crate) struct Bundle<'b>(pub(crate) &'b Path);

impl Bundle<'_> {
    /// Everything but the long lists.
    pub(crate) fn head(&self) -> Result<Head, BundleError> {
        let mut reader = self.reader()?;
        let head = Head::deserialize(&mut reader).and_then(|head| reader.end().map(|()| head));
        let head = head.map_err(|error| self.error(error))?;
        if head.version != VERSION.to_string() {
            let found = head.version;
            return Err(BundleError::Version { found });
        }
        Ok(head)
    }

    /// Hands out the ballots, in the order in which they were admitted.
    pub(crate) fn each_ballot<E>(
        &self,
        take: impl FnMut(BundleBallot) -> Result<(), E>,
    ) -> Result<Result<(), E>, BundleError> {
        self.each("ballots", take)
    }

    /// Hands out the items of a list until one is refused.
    fn each<T: DeserializeOwned, E>(
        &self,
        list: &'static str,
        mut take: impl FnMut(T) -> Result<(), E>,
    ) -> Result<Result<(), E>, BundleError> {
        let mut refused = None;
        let items = Items {
            take: |item| {
                take(item).map_err(|error| {
                    refused = Some(error);
                    Stopped
                })
            },
            item: PhantomData,
        };
        let mut reader = self.reader()?;
        let read = In { list, items }.deserialize(&mut reader);
        match (refused, read) {
            (Some(error), _) => Ok(Err(error)),
            (None, Ok(())) => Ok(Ok(())),
            (None, Err(error)) => Err(self.error(error)),
        }
    }

    fn reader(&self) -> Result<Reader, BundleError> {
        let file = File::open(self.0).map_err(|source| BundleError::Read {
            path: self.0.to_owned(),
            source,
        })?;
        Ok(serde_json::Deserializer::from_reader(
            BufReader::with_capacity(READ_BYTES, file),
        ))
    }

    fn error(&self, source: serde_json::Error) -> BundleError {
        let path = self.0.to_owned();
        if source.is_io() {
            BundleError::Read {
                path,
                source: source.into(),
            }
        } else {
            BundleError::Form { path, source }
        }
    }
}

type Reader = serde_json::Deserializer<serde_json::de::IoRead<BufReader<File>>>;

/// Whoever takes the items wants no more.
struct Stopped;

/// A member of an object, whose other members are passed over.
struct In<S> {
    list: &'static str,
    items: S,
}

impl<'de, S: DeserializeSeed<'de, Value = ()>> DeserializeSeed<'de> for In<S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: DeserializeSeed<'de, Value = ()>> Visitor<'de> for In<S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { list, items } = self;
        let mut items = Some(items);
        while let Some(name) = map.next_key::<String>()? {
            if name != list {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let once = items
                .take()
                .ok_or_else(|| A::Error::duplicate_field(list))?;
            map.next_value_seed(once)?;
        }
        Ok(())
    }
}

/// The items of an array, each handed out as it is read.
struct Items<T, F> {
    take: F,
    item: PhantomData<T>,
}

impl<'de, T, F> DeserializeSeed<'de> for Items<T, F>
where
    T: DeserializeOwned,
    F: FnMut(T) -> Result<(), Stopped>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T, F> Visitor<'de> for Items<T, F>
where
    T: DeserializeOwned,
    F: FnMut(T) -> Result<(), Stopped>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<T>()? {
            (self.take)(item).map_err(|Stopped| A::Error::custom("an item was refused"))?;
        }
        Ok(())
    }
}
