//! How a command ends: exit codes for scripts, words for people.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// What the process answers to whoever started it. The codes are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: refused by the cluster, or failed here.
    Failed,
    /// 2: the command line is wrong.
    Usage,
    /// 3: what the command names does not exist.
    NotFound,
    /// 4: no node answered, or none could serve.
    Unreachable,
    /// 5: it worked, and the answer is no: an audit chain that does not hold, a damaged
    /// snapshot, a faulty configuration, figures that differ.
    Negative,
}

/// The codes as `aegis --help` explains them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused by the cluster, or failed here
  2  the command line is wrong
  3  what the command names does not exist
  4  no node answered, or none could serve
  5  it worked, and the answer is no (audit, snapshot, configuration, figures)";

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Unreachable => 4,
            Self::Negative => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what was asked, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: Option<anyhow::Error>,
    advice: Option<String>,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: Some(error.into()),
            advice: None,
        }
    }

    /// A failure that has only words.
    pub fn say(exit: Exit, what: impl fmt::Display) -> Self {
        Self::new(exit, anyhow::Error::msg(what.to_string()))
    }

    /// An error of this process: a file, a key, a child.
    pub fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Failed, error)
    }

    /// Wraps an error in what was being done, for `map_err`.
    pub fn context<E: Into<anyhow::Error>>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::failed(error.into().context(what.to_string()))
    }

    /// With what the person may do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl fmt::Display) -> Self {
        self.advice = Some(advice.to_string());
        self
    }

    /// Nobody reads the output any more, which is no failure of the command.
    pub(crate) const fn output_closed() -> Self {
        Self {
            exit: Exit::Done,
            error: None,
            advice: None,
        }
    }

    /// The code to exit with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    /// The error with its causes on one line, and the advice on the next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.error {
            write!(f, "{error:#}")?;
        }
        if let Some(advice) = &self.advice {
            write!(f, "\n{advice}")?;
        }
        Ok(())
    }
}

/// Writing to the terminal or a pipe is all that a command does without saying where.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::output_closed()
        } else {
            Self::context("cannot write the output")(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained() {
        let exits = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Unreachable,
            Exit::Negative,
        ];
        for (position, exit) in exits.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), position);
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", exit.code())));
        }
    }

    #[test]
    fn causes_and_advice_are_shown() {
        let cause = io::Error::new(io::ErrorKind::NotFound, "gone");
        let failure = Failure::context("cannot read x")(cause).advise("make it first");
        assert_eq!(failure.to_string(), "cannot read x: gone\nmake it first");
        assert_eq!(failure.exit(), Exit::Failed);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(
            (failure.exit(), failure.to_string()),
            (Exit::Done, String::new())
        );
        let failure = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(failure.exit(), Exit::Failed);
    }
}
