//! Pieces of a stranger's text, as errors repeat them.

use std::fmt;

/// Longest piece that an error repeats, in characters.
const CHARS_MAX: usize = 64;

/// The beginning of a text.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(CHARS_MAX).collect()
}

/// A text in quotes, everything but printable ASCII escaped.
///
/// Not `{:?}`, which decides by the Unicode tables of the standard library what is
/// printable, so that replicas of different builds would spell an error differently.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for char in self.0.chars() {
            match char {
                '"' | '\\' => write!(f, "\\{char}")?,
                ' '..='~' => write!(f, "{char}")?,
                char => write!(f, "\\u{{{:x}}}", u32::from(char))?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_plain_ascii() {
        let quoted = |text| Quoted(text).to_string();
        assert_eq!(quoted("x5t#S256 'a'"), r#""x5t#S256 'a'""#);
        assert_eq!(quoted("\"\\"), r#""\"\\""#);
        assert_eq!(
            quoted("\n\u{7f}é\u{1f600}"),
            r#""\u{a}\u{7f}\u{e9}\u{1f600}""#
        );
        assert_eq!(shortened(&"é".repeat(100)), "é".repeat(64));
    }
}
