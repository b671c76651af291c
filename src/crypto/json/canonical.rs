//! One spelling for every document.

use std::borrow::Cow;

use super::JsonError;
use super::reader::{Event, Reader};

/// Rewrites a document so that equal documents have equal bytes: members sorted by the
/// UTF-8 bytes of their names, no white space, strings with the fewest escapes.
///
/// It departs from RFC 8785 in two points. Numbers are kept as they are written, since
/// that RFC would pass them through a float; so `1` and `1.0` stay different. And members
/// are sorted by UTF-8 rather than UTF-16, which differs only beyond U+FFFF. The result
/// is what Python's
/// `json.dumps(d, sort_keys=True, separators=(",", ":"), ensure_ascii=False)` gives,
/// except that Python respells some numbers.
///
/// # Errors
/// If the text is not JSON, is nested deeper than `depth` or names a member twice.
pub fn canonicalize(raw: &str, depth: u8) -> Result<String, JsonError> {
    let mut reader = Reader::new(raw, depth);
    let first = step(&mut reader)?;
    let root = Node::read(&mut reader, first)?;
    // Only the end may follow.
    reader.next()?;
    let mut out = Vec::with_capacity(raw.len());
    root.write(&mut out);
    Ok(String::from_utf8(out).expect("strings and ASCII tokens are UTF-8"))
}

/// A value in memory. It is no deeper than the reader allowed, so recursion is bounded.
enum Node<'a> {
    Bare(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// The value that begins with `event`.
    fn read(reader: &mut Reader<'a>, event: Event<'a>) -> Result<Self, JsonError> {
        match event {
            Event::Bare(text) => Ok(Self::Bare(text)),
            Event::String(text) => Ok(Self::String(text)),
            Event::BeginArray => Self::read_array(reader),
            Event::BeginObject => Self::read_object(reader),
            Event::Name(_) | Event::EndObject | Event::EndArray => {
                unreachable!("a value follows a name, a comma or the beginning")
            }
        }
    }

    fn read_array(reader: &mut Reader<'a>) -> Result<Self, JsonError> {
        let mut elements = Vec::new();
        loop {
            match step(reader)? {
                Event::EndArray => return Ok(Self::Array(elements)),
                event => elements.push(Self::read(reader, event)?),
            }
        }
    }

    fn read_object(reader: &mut Reader<'a>) -> Result<Self, JsonError> {
        let mut members = Vec::new();
        while let Event::Name(name) = step(reader)? {
            let event = step(reader)?;
            members.push((name, Self::read(reader, event)?));
        }
        members.sort_unstable_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        Ok(Self::Object(members))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bare(text) => out.extend_from_slice(text.as_bytes()),
            Self::String(text) => write_string(text, out),
            Self::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    separate(index, out);
                    element.write(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.iter().enumerate() {
                    separate(index, out);
                    write_string(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

fn separate(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

fn step<'a>(reader: &mut Reader<'a>) -> Result<Event<'a>, JsonError> {
    let event = reader.next()?;
    Ok(event.expect("the reader refuses a document that ends within a value"))
}

/// serde_json escapes as RFC 8785, section 3.2.2.2, asks: quotes, backslashes and control
/// characters, the latter by their short form if they have one, else in lowercase.
fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a vector takes every write");
}
