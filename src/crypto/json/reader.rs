//! A pull parser of JSON (RFC 8259) that checks grammar, depth and duplicate members and
//! knows at every moment where it stands.
//!
//! It finds the ends of strings and numbers itself and leaves what is inside of them, the
//! escapes and the digits, to serde_json. Its memory grows with the number of members of
//! the objects that are open.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::{JsonError, Limits, Place};

/// Longest name that a [`Place`] repeats, in characters.
const PATH_SEGMENT_CHARS: usize = 64;

/// One step through a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    BeginObject,
    /// A member's name; its value follows.
    Name(Cow<'a, str>),
    EndObject,
    BeginArray,
    EndArray,
    String(Cow<'a, str>),
    /// A number, `true`, `false` or `null`, as it is written.
    Bare(&'a str),
}

/// What the grammar allows next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ElementOrEnd,
    Name,
    NameOrEnd,
    CommaOrEnd,
    Nothing,
}

/// An array or object that is open.
#[derive(Debug, Clone, Copy)]
enum Open {
    /// With the number of elements begun.
    Array { elements: usize },
    /// With the place of its first name in [`Reader::names`].
    Object { names_start: usize },
}

/// A member's name and where it stands.
#[derive(Debug)]
struct Name<'a> {
    text: Cow<'a, str>,
    offset: usize,
}

/// The parser; see the module's head.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    /// Bytes consumed.
    position: usize,
    /// Where the last event began.
    event_start: usize,
    next: Next,
    depth_max: u8,
    open: Vec<Open>,
    /// Names of all objects that are open, the innermost last.
    names: Vec<Name<'a>>,
}

impl<'a> Reader<'a> {
    /// Begins at the start of `text`.
    pub(crate) fn new(text: &'a str, depth_max: u8) -> Self {
        Self {
            text,
            position: 0,
            event_start: 0,
            next: Next::Value,
            depth_max: depth_max.min(Limits::DEPTH_MAX),
            open: Vec::new(),
            names: Vec::new(),
        }
    }

    /// The next step, or `None` after the end of a document that nothing follows.
    pub(crate) fn next(&mut self) -> Result<Option<Event<'a>>, JsonError> {
        loop {
            let byte = self.peek();
            self.event_start = self.position;
            return match (self.next, byte) {
                (Next::Nothing, None) => Ok(None),
                (Next::Nothing, Some(_)) => Err(JsonError::TrailingData {
                    at: self.place(self.position),
                }),
                (Next::CommaOrEnd, Some(b',')) => {
                    self.advance(1);
                    self.next = match self.open.last() {
                        Some(Open::Array { .. }) => Next::Value,
                        Some(Open::Object { .. }) | None => Next::Name,
                    };
                    continue;
                }
                (Next::CommaOrEnd, Some(b']' | b'}')) => self.close().map(Some),
                (Next::ElementOrEnd, Some(b']')) | (Next::NameOrEnd, Some(b'}')) => {
                    self.close().map(Some)
                }
                (Next::CommaOrEnd, _) => Err(self.unexpected("a comma or the end")),
                (Next::Name | Next::NameOrEnd, Some(b'"')) => self.name().map(Some),
                (Next::Name, _) => Err(self.unexpected("a member's name")),
                (Next::NameOrEnd, _) => Err(self.unexpected("a member's name or `}`")),
                (Next::Value | Next::ElementOrEnd, byte) => self.value(byte).map(Some),
            };
        }
    }

    /// Where the value begins to which `trail` leads from the root of `text`, a document
    /// that was accepted before, and with what: each step is the place of a member or an
    /// element among its siblings. A trail that leads on beyond a value without any ends
    /// there.
    pub(super) fn find(text: &'a str, trail: impl Iterator<Item = usize>) -> (Place, Event<'a>) {
        let mut reader = Self::new(text, Limits::DEPTH_MAX);
        let mut event = reader.next_accepted().expect("a document has a value");
        let mut place = reader.place(reader.event_start);
        for step in trail {
            let child = match event {
                Event::BeginObject | Event::BeginArray => reader.child(step),
                _ => None,
            };
            let Some(child) = child else { break };
            event = child;
            place = reader.place(reader.event_start);
        }
        (place, event)
    }

    fn next_accepted(&mut self) -> Option<Event<'a>> {
        self.next().expect("the document was accepted before")
    }

    /// Begins the value of the child after `skipped` others, if there are as many.
    fn child(&mut self, skipped: usize) -> Option<Event<'a>> {
        let depth = self.open.len();
        for _ in 0..skipped {
            self.child_begin()?;
            while self.open.len() > depth {
                self.next_accepted()?;
            }
        }
        self.child_begin()
    }

    /// Begins the value of the next child, if there is one.
    fn child_begin(&mut self) -> Option<Event<'a>> {
        match self.next_accepted()? {
            Event::Name(_) => self.next_accepted(),
            Event::EndObject | Event::EndArray => None,
            element => Some(element),
        }
    }

    fn rest(&self) -> &'a str {
        self.text
            .get(self.position..)
            .expect("the reader stops between characters")
    }

    fn advance(&mut self, bytes: usize) {
        self.position = self.position.saturating_add(bytes);
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.rest().as_bytes();
        let blank = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
        self.advance(blank);
        rest.get(blank).copied()
    }

    fn value(&mut self, byte: Option<u8>) -> Result<Event<'a>, JsonError> {
        if let Some(Open::Array { elements }) = self.open.last_mut() {
            *elements = elements.saturating_add(1);
        }
        match byte {
            Some(b'{') => {
                let names_start = self.names.len();
                self.enter(Open::Object { names_start }, Next::NameOrEnd)?;
                Ok(Event::BeginObject)
            }
            Some(b'[') => {
                self.enter(Open::Array { elements: 0 }, Next::ElementOrEnd)?;
                Ok(Event::BeginArray)
            }
            Some(b'"') => {
                let text = self.string()?;
                self.after_value();
                Ok(Event::String(text))
            }
            Some(b'-' | b'0'..=b'9' | b'a'..=b'z') => {
                let text = self.bare()?;
                self.after_value();
                Ok(Event::Bare(text))
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    fn enter(&mut self, open: Open, next: Next) -> Result<(), JsonError> {
        if self.open.len() >= usize::from(self.depth_max) {
            return Err(JsonError::TooDeep {
                at: self.place(self.position),
                max: self.depth_max,
            });
        }
        self.open.push(open);
        self.next = next;
        self.advance(1);
        Ok(())
    }

    fn close(&mut self) -> Result<Event<'a>, JsonError> {
        let byte = self.peek();
        let event = match (self.open.last().copied(), byte) {
            (Some(Open::Array { .. }), Some(b']')) => Event::EndArray,
            (Some(Open::Object { names_start }), Some(b'}')) => {
                self.check_names(names_start)?;
                self.names.truncate(names_start);
                Event::EndObject
            }
            _ => return Err(self.unexpected("a comma or the end that fits the beginning")),
        };
        self.open.pop();
        self.advance(1);
        self.after_value();
        Ok(event)
    }

    fn after_value(&mut self) {
        self.next = if self.open.is_empty() {
            Next::Nothing
        } else {
            Next::CommaOrEnd
        };
    }

    fn name(&mut self) -> Result<Event<'a>, JsonError> {
        let offset = self.position;
        let text = self.string()?;
        self.names.push(Name {
            text: text.clone(),
            offset,
        });
        if self.peek() != Some(b':') {
            return Err(self.unexpected("a colon"));
        }
        self.advance(1);
        self.next = Next::Value;
        Ok(Event::Name(text))
    }

    /// Refuses a name that occurs twice among those from `names_start`. Sorting, rather
    /// than a comparison of all pairs, keeps a hostile object of many members cheap.
    fn check_names(&mut self, names_start: usize) -> Result<(), JsonError> {
        let names = self.names.get_mut(names_start..).unwrap_or_default();
        // By length first: any total order will do, and lengths compare fast.
        names.sort_unstable_by(|a, b| {
            let by_length = a.text.len().cmp(&b.text.len());
            by_length
                .then_with(|| a.text.cmp(&b.text))
                .then(a.offset.cmp(&b.offset))
        });
        let second = names
            .array_windows()
            .filter(|[one, two]| one.text == two.text)
            .map(|[_, two]| two)
            .min_by_key(|name| name.offset);
        let Some(second) = second else {
            return Ok(());
        };
        let (offset, segment) = (second.offset, second.text.clone());
        self.names.truncate(names_start);
        let mut at = self.place(offset);
        push_segment(&mut at.path, &segment);
        Err(JsonError::DuplicateMember { at })
    }

    /// Consumes a string and gives what it says.
    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let rest = self.rest();
        let mut escaped = false;
        // The opening quote.
        let mut len: usize = 1;
        loop {
            let tail = rest.as_bytes().get(len..).unwrap_or_default();
            let Some(plain) = tail
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1F))
            else {
                self.advance(rest.len());
                return Err(self.unexpected("the end of the string"));
            };
            len = len.saturating_add(plain).saturating_add(1);
            match tail.get(plain) {
                Some(b'"') => break,
                Some(b'\\') => {
                    // Whatever is escaped cannot end the string.
                    escaped = true;
                    len = len.saturating_add(1);
                }
                _ => {
                    self.advance(len.saturating_sub(1));
                    return Err(self.unexpected("no bare control character in a string"));
                }
            }
        }
        let quoted = rest
            .get(..len)
            .expect("a string ends with its closing quote");
        let said = if escaped {
            let said = serde_json::from_str::<String>(quoted)
                .map_err(|_| self.unexpected("a string with valid escapes"))?;
            Cow::Owned(said)
        } else {
            let bare = quoted.get(1..len.saturating_sub(1));
            Cow::Borrowed(bare.expect("a string stands between its quotes"))
        };
        self.advance(len);
        Ok(said)
    }

    /// Consumes a number or a literal.
    fn bare(&mut self) -> Result<&'a str, JsonError> {
        let rest = self.rest();
        let len = rest
            .bytes()
            .take_while(
                |byte| matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E'),
            )
            .count();
        let bare = rest.get(..len).expect("a bare token is ASCII");
        match bare {
            "true" | "false" | "null" => {}
            number => {
                serde_json::from_str::<IgnoredAny>(number)
                    .map_err(|_| self.unexpected("a number, `true`, `false` or `null`"))?;
            }
        }
        self.advance(len);
        Ok(bare)
    }

    fn unexpected(&self, expected: &'static str) -> JsonError {
        JsonError::Syntax {
            at: self.place(self.position),
            expected,
        }
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end.saturating_add(1));
        Place {
            line: before.matches('\n').count().saturating_add(1),
            column: offset.saturating_sub(line_start).saturating_add(1),
            path: self.path(),
        }
    }

    /// JSON Pointer to the value or member begun last.
    fn path(&self) -> String {
        let mut path = String::new();
        // An object's current member is the last name before those of the next object.
        let mut names_end = self.names.len();
        let mut segments = Vec::with_capacity(self.open.len());
        for open in self.open.iter().rev() {
            match *open {
                Open::Array { elements } => segments.push(
                    elements
                        .checked_sub(1)
                        .map(|index| Cow::Owned(index.to_string())),
                ),
                Open::Object { names_start } => {
                    let names = self.names.get(names_start..names_end).unwrap_or_default();
                    segments.push(names.last().map(|name| Cow::Borrowed(&*name.text)));
                    names_end = names_start;
                }
            }
        }
        for segment in segments.into_iter().rev().flatten() {
            push_segment(&mut path, &segment);
        }
        path
    }
}

fn push_segment(path: &mut String, segment: &str) {
    path.push('/');
    for (count, char) in segment.chars().enumerate() {
        match char {
            _ if count >= PATH_SEGMENT_CHARS => {
                path.push('…');
                break;
            }
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            char => path.push(char),
        }
    }
}
