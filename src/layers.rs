//! Settings from a TOML file with environment variables laid over it, read into serde
//! types with errors that name the key and the place that set it.
//!
//! A variable `AEGIS__SECTION__KEY` sets `section.key`. Its text is read as whatever type
//! the key has: a number, `true` or `false`, text, or a list with commas. A value from the
//! file must have the key's type already; nothing is converted quietly. Tables in lists
//! cannot be reached from the environment.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What the names of variables begin with, and what separates their parts.
const PREFIX: &str = "AEGIS__";
const SEPARATOR: &str = "__";

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On this line of the file, from 1.
    Line(usize),
    /// In this environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// A key that cannot have the value it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key with its sections, like `api.listen`; empty for the whole document.
    pub key: String,
    /// Where its value, or the table that lacks it, was set.
    pub origin: Option<Origin>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl Fault {
    fn new(reason: impl fmt::Display) -> Self {
        Self {
            key: String::new(),
            origin: None,
            reason: reason.to_string(),
        }
    }

    fn within(mut self, parent: &str, origin: &Origin) -> Self {
        let dot = if self.key.is_empty() || self.key.starts_with('[') {
            ""
        } else {
            "."
        };
        self.key = format!("{parent}{dot}{}", self.key);
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason)
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format_args!(
            "there is no such key; there are {}",
            expected.join(", ")
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            key: field.to_owned(),
            ..Self::new("it is required and not set")
        }
    }
}

/// A value and where it was set.
#[derive(Clone, Debug)]
struct Node {
    value: Value,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Value {
    Table(BTreeMap<String, Node>),
    List(Vec<Node>),
    String(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    /// A date or time, which no key takes.
    Time(String),
    /// A variable's text, which has no type of its own.
    Variable(String),
}

/// The settings of a file with those of the environment laid over them.
#[derive(Clone, Debug)]
pub struct Layers(Node);

impl Layers {
    /// Reads the text of a TOML file.
    ///
    /// # Errors
    /// The first place where the text is not TOML.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let line_of = |offset: usize| {
            let before = text.get(..offset).unwrap_or(text);
            Origin::Line(before.matches('\n').count().saturating_add(1))
        };
        let table = DeTable::parse(text).map_err(|error| Fault {
            origin: error.span().map(|span| line_of(span.start)),
            ..Fault::new(error.message())
        })?;
        let root = read_table(table.into_inner(), &|span| line_of(span.start))?;
        Ok(Self(Node {
            value: root,
            origin: Origin::Line(1),
        }))
    }

    /// Lays environment variables over the file; those of other programs are passed over.
    ///
    /// # Errors
    /// A variable whose name cannot be a key's.
    pub fn overlay(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Fault> {
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        for (name, text) in variables {
            if let Some(path) = name.strip_prefix(PREFIX) {
                let path = path.to_lowercase();
                let origin = Origin::Variable(name.clone());
                self.0.set(&mut path.split(SEPARATOR), text, &origin)?;
            }
        }
        Ok(self)
    }

    /// Reads the settings as a `T`.
    ///
    /// # Errors
    /// The first key that `T` does not take.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Fault> {
        T::deserialize(self.0)
    }

    /// Where a key like `section.key` or `section.list[0].key` was set, if it was.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        let mut node = &self.0;
        for part in key.split(['.', '[']) {
            node = match &node.value {
                Value::Table(table) => table.get(part)?,
                Value::List(list) => list.get(part.strip_suffix(']')?.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(&node.origin)
    }
}

impl Node {
    fn set<'p>(
        &mut self,
        path: &mut impl Iterator<Item = &'p str>,
        text: String,
        origin: &Origin,
    ) -> Result<(), Fault> {
        let Some(part) = path.next() else {
            *self = Self {
                value: Value::Variable(text),
                origin: origin.clone(),
            };
            return Ok(());
        };
        let Value::Table(table) = &mut self.value else {
            return Err(Fault {
                origin: Some(origin.clone()),
                ..Fault::new(format_args!(
                    "there is no table for `{part}`; set lists of tables in the file"
                ))
            });
        };
        let child = table.entry(part.to_owned()).or_insert_with(|| Self {
            value: Value::Table(BTreeMap::new()),
            origin: origin.clone(),
        });
        child
            .set(path, text, origin)
            .map_err(|fault| fault.within(part, origin))
    }
}

/// Gives the place of a span.
type Locate<'l> = dyn Fn(std::ops::Range<usize>) -> Origin + 'l;

fn read_table(table: DeTable<'_>, locate: &Locate<'_>) -> Result<Value, Fault> {
    let entries = table.into_iter().map(|(name, value)| {
        let origin = locate(name.span());
        let name = name.into_inner().into_owned();
        match read_value(value, locate) {
            // A key's own line says more than that of a value which begins after it.
            Ok(node) => Ok((name, Node { origin, ..node })),
            Err(fault) => Err(fault.within(&name, &origin)),
        }
    });
    entries.collect::<Result<_, _>>().map(Value::Table)
}

fn read_value(value: Spanned<DeValue<'_>>, locate: &Locate<'_>) -> Result<Node, Fault> {
    let origin = locate(value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map(Value::Integer)
            .map_err(|_| Fault::new(format_args!("{number} is too large")))?,
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map(Value::Float)
            .map_err(|_| Fault::new(format_args!("{number} is not a number")))?,
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(time) => Value::Time(time.to_string()),
        DeValue::Array(list) => list
            .into_iter()
            .map(|item| read_value(item, locate))
            .collect::<Result<_, _>>()
            .map(Value::List)?,
        DeValue::Table(table) => read_table(table, locate)?,
    };
    Ok(Node { value, origin })
}

/// The numbers and booleans, which a variable's text is parsed for.
macro_rules! deserialize_parsed {
    ($($method:ident $visit:ident $type:ty, $expected:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.value {
                Value::Variable(text) => match text.trim().parse::<$type>() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(Fault::new(format_args!("{text:?} is not {}", $expected))),
                },
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::Table(table) => visitor.visit_map(Entries {
                rest: table.into_iter(),
                value: None,
            }),
            Value::List(list) => visitor.visit_seq(Items {
                rest: list.into_iter().enumerate(),
            }),
            Value::String(text) | Value::Variable(text) => visitor.visit_string(text),
            Value::Integer(number) => match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => Err(Fault::new(format_args!("{number} is too large"))),
            },
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(boolean) => visitor.visit_bool(boolean),
            Value::Time(time) => Err(Fault::invalid_type(
                Unexpected::Other(&format!("time {time}")),
                &visitor,
            )),
        }
    }

    deserialize_parsed! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_u8 visit_u8 u8, "a whole number from 0 to 255";
        deserialize_u16 visit_u16 u16, "a whole number from 0 to 65535";
        deserialize_u32 visit_u32 u32, "a whole number from 0 to 4294967295";
        deserialize_u64 visit_u64 u64, "a whole number from 0";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Value::Variable(text) = &self.value else {
            return self.deserialize_any(visitor);
        };
        let items: Vec<Self> = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| Self {
                value: Value::Variable(item.to_owned()),
                origin: self.origin.clone(),
            })
            .collect();
        visitor.visit_seq(Items {
            rest: items.into_iter().enumerate(),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(text) | Value::Variable(text) => {
                let name: StringDeserializer<Fault> = text.into_deserializer();
                visitor.visit_enum(name)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct map struct identifier ignored_any
    }
}

/// Walks a table.
struct Entries {
    rest: std::collections::btree_map::IntoIter<String, Node>,
    value: Option<(String, Node)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((name, node)) = self.rest.next() else {
            return Ok(None);
        };
        let deserializer: StringDeserializer<Fault> = name.clone().into_deserializer();
        let key = seed
            .deserialize(deserializer)
            .map_err(|fault| fault.within(&name, &node.origin))?;
        self.value = Some((name, node));
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (name, node) = self
            .value
            .take()
            .expect("serde asks for a value after its key");
        let origin = node.origin.clone();
        seed.deserialize(node)
            .map_err(|fault| fault.within(&name, &origin))
    }
}

/// Walks a list.
struct Items {
    rest: std::iter::Enumerate<std::vec::IntoIter<Node>>,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((position, node)) = self.rest.next() else {
            return Ok(None);
        };
        let origin = node.origin.clone();
        seed.deserialize(node)
            .map(Some)
            .map_err(|fault| fault.within(&format!("[{position}]"), &origin))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        one: One,
        items: Vec<Item>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct One {
        count: u32,
        text: String,
        flag: bool,
        listen: Option<SocketAddr>,
        names: Vec<String>,
        kind: Kind,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        #[default]
        Json,
        Text,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        id: u64,
    }

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let variables = variables
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Layers::parse(text)
            .and_then(|layers| layers.overlay(variables))
            .and_then(Layers::read)
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_variable_is_read_as_its_key_asks() {
        let file = "[one]\ncount = 1\ntext = 'file'\n";
        let settings = read(
            file,
            &[
                ("AEGIS__ONE__COUNT", "12"),
                ("AEGIS__ONE__TEXT", "34"),
                ("AEGIS__ONE__FLAG", "true"),
                ("AEGIS__ONE__LISTEN", "[::1]:80"),
                ("AEGIS__ONE__NAMES", "a, b,"),
                ("AEGIS__ONE__KIND", "text"),
                ("PATH", "/bin"),
                ("AEGIS_ENDPOINT", "http://elsewhere"),
            ],
        );
        assert_eq!(
            settings.unwrap().one,
            One {
                count: 12,
                text: "34".into(),
                flag: true,
                listen: Some("[::1]:80".parse().unwrap()),
                names: vec!["a".into(), "b".into()],
                kind: Kind::Text,
            }
        );
    }

    #[test]
    fn a_fault_names_its_key_and_its_line() {
        for (text, expected) in [
            (
                "one = 1",
                "line 1: `one`: invalid type: integer `1`, expected struct One",
            ),
            (
                "[one]\ncount = '1'",
                "line 2: `one.count`: invalid type: string \"1\", expected u32",
            ),
            (
                "[one]\ncount = -1",
                "line 2: `one.count`: invalid value: integer `-1`, expected u32",
            ),
            (
                "[one]\ncount = 4294967296",
                "line 2: `one.count`: invalid value: integer `4294967296`, expected u32",
            ),
            (
                "[one]\ncount = 1.0",
                "line 2: `one.count`: invalid type: floating point `1.0`, expected u32",
            ),
            (
                "[one]\ncount = 0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff_f",
                "line 2: `one.count`: 0xfffffffffffffffffffffffffffffffff is too large",
            ),
            (
                "[one]\nflag = 'yes'",
                "line 2: `one.flag`: invalid type: string \"yes\", expected a boolean",
            ),
            (
                "[one]\ntext = 2020-01-01",
                "line 2: `one.text`: invalid type: time 2020-01-01, expected a string",
            ),
            (
                "[one]\n\nlisten = 'x'",
                "line 3: `one.listen`: invalid socket address syntax",
            ),
            (
                "[one]\nnames = ['a',\n 3]",
                "line 3: `one.names[1]`: invalid type: integer `3`, expected a string",
            ),
            (
                "[one]\nkind = 'xml'",
                "line 2: `one.kind`: unknown variant `xml`, expected `json` or `text`",
            ),
            (
                "[one]\nCount = 1",
                "line 2: `one.Count`: there is no such key; there are count, text, flag, listen, names, kind",
            ),
            (
                "two = 1",
                "line 1: `two`: there is no such key; there are one, items",
            ),
            (
                "[[items]]\nid = 1\n[[items]]\n",
                "line 3: `items[1].id`: it is required and not set",
            ),
            ("[one]\ncount = 1\ncount = 2", "line 3: duplicate key"),
        ] {
            assert_eq!(read(text, &[]).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_fault_names_its_variable() {
        for (name, value, expected) in [
            (
                "AEGIS__ONE__COUNT",
                "x",
                "`one.count`: \"x\" is not a whole number from 0 to 4294967295",
            ),
            (
                "AEGIS__ONE__FLAG",
                "1",
                "`one.flag`: \"1\" is not true or false",
            ),
            (
                "AEGIS__ONE__LISTEN",
                "x",
                "`one.listen`: invalid socket address syntax",
            ),
            (
                "AEGIS__ONE__KIND",
                "x",
                "`one.kind`: unknown variant `x`, expected `json` or `text`",
            ),
            (
                "AEGIS__TWO",
                "x",
                "`two`: there is no such key; there are one, items",
            ),
            (
                "AEGIS__ONE__COUNT__X",
                "x",
                "`one.count`: there is no table for `x`; set lists of tables in the file",
            ),
            (
                "AEGIS__ITEMS__0",
                "x",
                "`items`: there is no table for `0`; set lists of tables in the file",
            ),
        ] {
            let file = "[one]\ncount = 1\n[[items]]\nid = 1\n";
            let found = read(file, &[(name, value)]).unwrap_err();
            assert_eq!(found, format!("environment variable {name}: {expected}"));
        }
    }

    #[test]
    fn the_origin_of_a_key_is_known() {
        let layers = Layers::parse("[one]\n\ncount = 1\n[[items]]\n[[items]]\nid = 1\n")
            .and_then(|layers| layers.overlay([("AEGIS__ONE__TEXT".to_owned(), "x".to_owned())]))
            .unwrap();
        assert_eq!(layers.origin("one.count"), Some(&Origin::Line(3)));
        assert_eq!(
            layers.origin("one.text"),
            Some(&Origin::Variable("AEGIS__ONE__TEXT".into()))
        );
        assert_eq!(layers.origin("items[1].id"), Some(&Origin::Line(6)));
        assert_eq!(layers.origin("items[1]"), Some(&Origin::Line(5)));
        for unset in [
            "one.flag",
            "items[0].id",
            "items[2]",
            "items[x]",
            "items.id",
        ] {
            assert_eq!(layers.origin(unset), None, "{unset}");
        }
        assert_eq!(layers.origin("one.count.x"), None);
    }
}
