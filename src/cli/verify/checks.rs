//! What is checked, told check by check.

use std::fmt;

use serde::Serialize;

use crate::console::{Console, plain};
use crate::failure::{Exit, Failure};

/// A check that was made.
#[derive(Clone, Debug, Serialize)]
struct Check {
    check: String,
    holds: bool,
}

/// The checks that were made so far: a line for each as it is made, or all of them at once
/// for programs.
pub(crate) struct Checks<'c> {
    console: &'c mut Console,
    json: bool,
    made: Vec<Check>,
    /// What could not be checked.
    lacking: Vec<String>,
}

/// What a program reads.
#[derive(Serialize)]
struct Verdict<'v, T> {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    checks: &'v [Check],
    lacking: &'v [String],
    #[serde(flatten)]
    found: Option<T>,
}

impl<'c> Checks<'c> {
    pub(crate) const fn new(console: &'c mut Console, json: bool) -> Self {
        Self {
            console,
            json,
            made: Vec::new(),
            lacking: Vec::new(),
        }
    }

    /// Tells that something was found as it should be.
    pub(crate) fn holds(&mut self, what: impl fmt::Display) -> Result<(), Failure> {
        self.tell(&what, true)
    }

    /// Tells what cannot be checked; that alone makes nothing wrong.
    pub(crate) fn lacks(&mut self, what: impl fmt::Display) -> Result<(), Failure> {
        let what = plain(&what.to_string());
        if !self.json {
            self.console.line(format_args!("-    {what}"))?;
        }
        self.lacking.push(what);
        Ok(())
    }

    /// Tells what came of a check: what it found, or why it does not hold, which ends the
    /// command with the answer no.
    pub(crate) fn check<T, E: Into<anyhow::Error>>(
        &mut self,
        what: &str,
        result: Result<T, E>,
        found: impl FnOnce(&T) -> String,
    ) -> Result<T, Failure> {
        match result {
            Ok(value) => {
                let found = found(&value);
                self.holds(format_args!("{what}: {found}"))?;
                Ok(value)
            }
            Err(error) => Err(self.fails(what, error)),
        }
    }

    /// Tells that a check does not hold, and why.
    pub(crate) fn fails(&mut self, what: &str, error: impl Into<anyhow::Error>) -> Failure {
        let failure = Failure::new(Exit::Negative, error.into().context(what.to_owned()));
        if let Err(failure) = self.tell(&what, false) {
            return failure;
        }
        if !self.json {
            return failure;
        }
        let verdict = Verdict::<()> {
            valid: false,
            fault: Some(failure.to_string()),
            checks: &self.made,
            lacking: &self.lacking,
            found: None,
        };
        match self.console.json(&verdict) {
            Ok(()) => failure,
            Err(unwritten) => unwritten,
        }
    }

    fn tell(&mut self, what: &dyn fmt::Display, holds: bool) -> Result<(), Failure> {
        let check = plain(&what.to_string());
        if !self.json {
            let mark = self.console.mark(holds);
            self.console.line(format_args!("{mark} {check}"))?;
        }
        self.made.push(Check { check, holds });
        Ok(())
    }

    /// Ends: everything holds. People read `text`, programs get `found` beside the checks.
    pub(crate) fn finish(
        self,
        found: impl Serialize,
        text: impl fmt::Display,
    ) -> Result<(), Failure> {
        if !self.json {
            return self.console.line(format_args!("\n{text}"));
        }
        self.console.json(&Verdict {
            valid: true,
            fault: None,
            checks: &self.made,
            lacking: &self.lacking,
            found: Some(found),
        })
    }
}
