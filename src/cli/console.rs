//! The terminal: results on standard output, everything else on standard error.

use std::fmt;
use std::io::{self, BufRead as _, IsTerminal as _, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Clears the terminal and puts the cursor in its first corner.
const REDRAW: &str = "\x1b[H\x1b[2J";
/// Goes back to the beginning of the line and clears it.
const REWRITE: &str = "\r\x1b[2K";
/// The width of a progress bar, in characters.
const PROGRESS_CHARS: usize = 30;

/// Where a command writes and asks.
pub(crate) struct Console {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    out_is_terminal: bool,
    err_is_terminal: bool,
    in_is_terminal: bool,
}

impl Console {
    /// The process's own.
    pub(crate) fn standard() -> Self {
        Self {
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal: io::stderr().is_terminal(),
            in_is_terminal: io::stdin().is_terminal(),
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
        }
    }

    /// Whether a person looks at the output.
    pub(crate) const fn out_is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// Writes a line, or lines, of results.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// What stands before something that was checked: a sign for people, a word elsewhere.
    pub(crate) const fn mark(&self, holds: bool) -> &'static str {
        match (self.out_is_terminal, holds) {
            (true, true) => "\u{2713}",
            (true, false) => "\u{2717}",
            (false, true) => "ok  ",
            (false, false) => "FAIL",
        }
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes)?;
        Ok(self.out.flush()?)
    }

    /// Writes one JSON document and ends its line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(Failure::context("cannot write JSON"))?;
        self.line(text)
    }

    /// Replaces what the terminal shows.
    pub(crate) fn redraw(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        self.line(format_args!("{REDRAW}{text}"))
    }

    /// Tells a person something that is no result.
    pub(crate) fn note(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.err, "{text}")?;
        Ok(self.err.flush()?)
    }

    /// Asks a person to agree. Where nobody can be asked, nobody agreed.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<bool, Failure> {
        if !self.in_is_terminal {
            return Ok(false);
        }
        write!(self.err, "{question} [y/N] ")?;
        self.err.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// Shows how far something is: a bar on a terminal, a line for each tenth elsewhere.
    pub(crate) fn progress<'c>(&'c mut self, label: &str, total: u64) -> Progress<'c> {
        Progress {
            console: self,
            label: label.to_owned(),
            total,
            shown: None,
        }
    }
}

/// Something that takes a while.
pub(crate) struct Progress<'c> {
    console: &'c mut Console,
    label: String,
    total: u64,
    /// The last step shown, in as many as are worth showing.
    shown: Option<u64>,
}

impl Progress<'_> {
    /// Says how much is done.
    pub(crate) fn at(&mut self, done: u64) -> Result<(), Failure> {
        let steps = if self.console.err_is_terminal {
            200
        } else {
            10
        };
        let step = share(done, self.total, steps);
        if self.shown == Some(step) {
            return Ok(());
        }
        self.shown = Some(step);
        let (label, total) = (&self.label, self.total);
        if self.console.err_is_terminal {
            let bar = bar(done, total, PROGRESS_CHARS);
            let end = if done >= total { "\n" } else { "" };
            write!(
                self.console.err,
                "{REWRITE}{label} {bar} {done}/{total}{end}"
            )?;
        } else {
            writeln!(self.console.err, "{label} {done}/{total}")?;
        }
        Ok(self.console.err.flush()?)
    }
}

/// How many of `steps` equal steps `done` of `total` is.
fn share(done: u64, total: u64, steps: u64) -> u64 {
    done.min(total)
        .saturating_mul(steps)
        .checked_div(total)
        .unwrap_or(steps)
}

/// A bar of `chars` characters for `part` of `whole`; anything above zero shows.
pub(crate) fn bar(part: u64, whole: u64, chars: usize) -> String {
    let width = u64::try_from(chars).unwrap_or(u64::MAX);
    let filled = match share(part, whole, width) {
        _ if whole == 0 => 0,
        0 if part > 0 => 1,
        filled => filled,
    };
    let filled = usize::try_from(filled).unwrap_or(chars);
    format!(
        "{}{}",
        "█".repeat(filled),
        "░".repeat(chars.saturating_sub(filled))
    )
}

/// Text from elsewhere with nothing in it that a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What a console wrote.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A console in memory, with what it writes to each side.
    pub(crate) fn console(terminal: bool) -> (Console, Written, Written) {
        let (out, err) = (Written::default(), Written::default());
        let console = Console {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            out_is_terminal: terminal,
            err_is_terminal: terminal,
            in_is_terminal: false,
        };
        (console, out, err)
    }

    #[test]
    fn results_and_notes_go_to_different_places() {
        let (mut console, out, err) = console(false);
        console.line("result").unwrap();
        console.json(&vec![1, 2]).unwrap();
        console.note("note").unwrap();
        assert!(!console.confirm("sure?").unwrap());
        assert_eq!(out.text(), "result\n[1,2]\n");
        assert_eq!(err.text(), "note\n");
    }

    #[test]
    fn progress_is_a_bar_for_people_and_a_few_lines_for_logs() {
        for (terminal, lines) in [(true, 1), (false, 11)] {
            let (mut console, _, err) = console(terminal);
            let mut progress = console.progress("ballots", 6_960);
            for done in 0..=6_960 {
                progress.at(done).unwrap();
            }
            let text = err.text();
            assert_eq!(text.lines().count(), lines);
            assert!(text.ends_with("6960/6960\n"));
        }
        let (mut console, _, err) = console(false);
        console.progress("nothing", 0).at(0).unwrap();
        assert_eq!(err.text(), "nothing 0/0\n");
    }

    #[test]
    fn bars_are_in_proportion() {
        for (part, whole, expected) in [
            (0, 4, "░░░░"),
            (1, 1_000, "█░░░"),
            (2, 4, "██░░"),
            (4, 4, "████"),
            (9, 4, "████"),
            (0, 0, "░░░░"),
        ] {
            assert_eq!(bar(part, whole, 4), expected, "{part} of {whole}");
        }
    }

    #[test]
    fn a_terminal_is_never_commanded_by_a_text() {
        assert_eq!(plain("a\x1b[2Jb\r\n"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
    }
}
