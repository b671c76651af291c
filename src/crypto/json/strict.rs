//! A serde deserializer around serde_json's that refuses an array for a struct.
//!
//! A derived `Deserialize` accepts both a map and a sequence for a struct, because binary
//! formats write structs as sequences. JSON says which of the two it has, so here the
//! visitor of a struct never sees a sequence.
//!
//! Everything is wrapped, so that a type reports to [`Fault`] and in our words whatever
//! serde_json's own error would say. An error crosses serde_json between two wrappers: it
//! is laid aside in the [`Trail`], and an empty one crosses in its place.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::JsonError;
use super::fault::{Fault, Wanted};
use super::reader::Reader;

/// Where nothing better is known.
const OTHER: Wanted = Wanted::Text("another value");
/// A variant's name stands alone although it has content.
const CONTENT: Wanted = Wanted::Text("an object of the variant's name and its content");

/// Builds a `T` from a document that the reader has accepted.
pub(super) fn deserialize<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, JsonError> {
    let mut inner = serde_json::Deserializer::from_str(text);
    let trail = Trail::default();
    T::deserialize(Strict::new(&mut inner, &trail)).map_err(|fault| {
        let way = trail.way.into_inner();
        let (at, found) = Reader::find(text, way.into_iter().rev());
        fault.at(at, &found)
    })
}

/// What a failure leaves behind while it unwinds.
#[derive(Default)]
struct Trail {
    /// The way to the value that failed: every array and object notes which of its
    /// elements or members it came from, so the innermost is first.
    way: RefCell<Vec<usize>>,
    /// The fault that crosses serde_json at this moment.
    aside: Cell<Option<Fault>>,
}

impl Trail {
    fn note<T>(&self, position: usize, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.is_err() {
            self.way.borrow_mut().push(position);
        }
        result
    }

    /// Lays a fault aside, with what was wanted where that is not known yet, and hands on
    /// an error without words.
    fn lay_aside<T, E: de::Error>(&self, wanted: Wanted, result: Result<T, Fault>) -> Result<T, E> {
        result.map_err(|fault| {
            self.aside.set(Some(fault.or_wanted(wanted)));
            E::custom("")
        })
    }

    /// Takes the fault up again. Without one the error is that of serde_json, which found
    /// something other than what was wanted.
    fn take_up<T, E>(&self, wanted: Wanted, result: Result<T, E>) -> Result<T, Fault> {
        result.map_err(|_| self.aside.take().unwrap_or(Fault::Unfit(Some(wanted))))
    }
}

/// Wraps whatever leads to a struct: deserializers, accesses and seeds.
struct Strict<'t, T> {
    inner: T,
    trail: &'t Trail,
    /// Of an array or object, elements or members begun.
    begun: usize,
}

impl<'t, T> Strict<'t, T> {
    fn new(inner: T, trail: &'t Trail) -> Self {
        Self {
            inner,
            trail,
            begun: 0,
        }
    }

    fn visitor<V>(&self, wanted: Wanted, visitor: V) -> StrictVisitor<'t, V> {
        StrictVisitor {
            visitor,
            trail: self.trail,
            wanted,
        }
    }

    /// Place of the element or member begun last.
    fn position(&self) -> usize {
        self.begun.saturating_sub(1)
    }
}

/// Wraps a visitor; that of a struct refuses sequences.
struct StrictVisitor<'t, V> {
    visitor: V,
    trail: &'t Trail,
    wanted: Wanted,
}

/// Methods that ask for a value, with what they want.
macro_rules! deserialize {
    ($($method:ident($($arg:ident: $type:ty),*) => $wanted:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(
            self, $($arg: $type,)* visitor: V,
        ) -> Result<V::Value, Fault> {
            let wanted = $wanted;
            let visitor = self.visitor(wanted, visitor);
            self.trail.take_up(wanted, self.inner.$method($($arg,)* visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<'_, D> {
    type Error = Fault;

    deserialize! {
        deserialize_any() => Wanted::Text("another value");
        deserialize_bool() => Wanted::Text("`true` or `false`");
        deserialize_i8() => Wanted::Text("an integer from -128 to 127");
        deserialize_i16() => Wanted::Text("an integer from -32768 to 32767");
        deserialize_i32() => Wanted::Text("an integer from -2147483648 to 2147483647");
        deserialize_i64() => Wanted::Text(
            "an integer from -9223372036854775808 to 9223372036854775807"
        );
        deserialize_i128() => Wanted::Text("an integer of 128 bits");
        deserialize_u8() => Wanted::Text("an integer from 0 to 255");
        deserialize_u16() => Wanted::Text("an integer from 0 to 65535");
        deserialize_u32() => Wanted::Text("an integer from 0 to 4294967295");
        deserialize_u64() => Wanted::Text("an integer from 0 to 18446744073709551615");
        deserialize_u128() => Wanted::Text("an integer of 128 bits without a sign");
        deserialize_f32() => Wanted::Text("a number");
        deserialize_f64() => Wanted::Text("a number");
        deserialize_char() => Wanted::Text("a string of one character");
        deserialize_str() => Wanted::Text("a string");
        deserialize_string() => Wanted::Text("a string");
        deserialize_bytes() => Wanted::Text("bytes");
        deserialize_byte_buf() => Wanted::Text("bytes");
        deserialize_option() => Wanted::Text("another value or `null`");
        deserialize_unit() => Wanted::Text("`null`");
        deserialize_unit_struct(name: &'static str) => Wanted::Text("`null`");
        deserialize_newtype_struct(name: &'static str) => Wanted::Text("another value");
        deserialize_seq() => Wanted::Text("an array");
        deserialize_tuple(len: usize) => Wanted::Elements(len);
        deserialize_tuple_struct(name: &'static str, len: usize) => Wanted::Elements(len);
        deserialize_map() => Wanted::Text("an object");
        deserialize_struct(
            name: &'static str, fields: &'static [&'static str]
        ) => Wanted::Struct;
        deserialize_enum(
            name: &'static str, variants: &'static [&'static str]
        ) => Wanted::OneOf(variants);
        deserialize_identifier() => Wanted::Text("a name");
        deserialize_ignored_any() => Wanted::Text("a value");
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Scalars that a visitor is given.
macro_rules! visit_scalar {
    ($($method:ident($($value:ident: $type:ty)?))*) => {$(
        fn $method<E: de::Error>(self, $($value: $type)?) -> Result<V::Value, E> {
            let visited = self.visitor.$method::<Fault>($($value)?);
            self.trail.lay_aside(self.wanted, visited)
        }
    )*};
}

/// Values that may contain others.
macro_rules! visit_container {
    ($($method:ident($access:ident))*) => {$(
        fn $method<A: $access<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
            let visited = self.visitor.$method(Strict::new(inner, self.trail));
            self.trail.lay_aside(self.wanted, visited)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for StrictVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    visit_scalar! {
        visit_bool(value: bool)
        visit_i64(value: i64)
        visit_i128(value: i128)
        visit_u64(value: u64)
        visit_u128(value: u128)
        visit_f64(value: f64)
        visit_str(value: &str)
        visit_borrowed_str(value: &'de str)
        visit_string(value: String)
        visit_bytes(value: &[u8])
        visit_borrowed_bytes(value: &'de [u8])
        visit_byte_buf(value: Vec<u8>)
        visit_none()
        visit_unit()
    }

    visit_container! {
        visit_some(Deserializer)
        visit_newtype_struct(Deserializer)
        visit_map(MapAccess)
        visit_enum(EnumAccess)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        let visited = match self.wanted {
            Wanted::Struct => Err(Fault::Unfit(None)),
            _ => self.visitor.visit_seq(Strict::new(seq, self.trail)),
        };
        self.trail.lay_aside(self.wanted, visited)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let value = self.inner.deserialize(Strict::new(inner, self.trail));
        self.trail.lay_aside(OTHER, value)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<'_, A> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        self.begun = self.begun.saturating_add(1);
        let element = self.inner.next_element_seed(Strict::new(seed, self.trail));
        let element = self.trail.take_up(OTHER, element);
        self.trail.note(self.position(), element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<'_, A> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        self.begun = self.begun.saturating_add(1);
        let name = self.inner.next_key_seed(Strict::new(seed, self.trail));
        let name = self.trail.take_up(OTHER, name);
        self.trail.note(self.position(), name)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let value = self.inner.next_value_seed(Strict::new(seed, self.trail));
        let value = self.trail.take_up(OTHER, value);
        self.trail.note(self.position(), value)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 't, A: EnumAccess<'de>> EnumAccess<'de> for Strict<'t, A> {
    type Error = Fault;
    type Variant = Strict<'t, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), Fault> {
        let tag = self.inner.variant_seed(Strict::new(seed, self.trail));
        let tag = self.trail.take_up(OTHER, tag);
        let (tag, variant) = self.trail.note(0, tag)?;
        Ok((tag, Strict::new(variant, self.trail)))
    }
}

/// A variant with content is the only member of its object.
impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Strict<'_, A> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        let content = self.inner.unit_variant();
        let content = self.trail.take_up(Wanted::Text("`null`"), content);
        self.trail.note(0, content)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        let seed = Strict::new(seed, self.trail);
        let content = self.inner.newtype_variant_seed(seed);
        let content = self.trail.take_up(CONTENT, content);
        self.trail.note(0, content)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        let visitor = self.visitor(Wanted::Elements(len), visitor);
        let content = self.inner.tuple_variant(len, visitor);
        let content = self.trail.take_up(CONTENT, content);
        self.trail.note(0, content)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let visitor = self.visitor(Wanted::Struct, visitor);
        let content = self.inner.struct_variant(fields, visitor);
        let content = self.trail.take_up(CONTENT, content);
        self.trail.note(0, content)
    }
}
