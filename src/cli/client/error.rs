//! Why there is no answer, and what a person may do about it.

use std::fmt;

use crate::console::plain;
use crate::failure::{Exit, Failure};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("{text:?} is no endpoint: {reason}; write it like http://127.0.0.1:8003")]
    Endpoint { text: String, reason: String },
    #[error("the token has characters that cannot stand in a header")]
    Token,
    #[error("cannot make an HTTP client")]
    Setup(#[source] reqwest::Error),
    #[error("no node can be reached: {}", Tried(tried))]
    Unreachable { tried: Vec<(String, String)> },
    #[error("no node could serve; {endpoint} said last: {problem}")]
    Unserved { endpoint: String, problem: Problem },
    #[error(
        "{endpoint} was asked and did not answer ({reason}), so it is not known whether it was done"
    )]
    Unknown { endpoint: String, reason: String },
    #[error("{0}")]
    Refused(Problem),
    #[error("{endpoint} gave an answer that is none of this API: {reason}")]
    Answer { endpoint: String, reason: String },
}

impl ClientError {
    /// The code of a refusal.
    pub(crate) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.code),
            _ => None,
        }
    }
}

struct Tried<'t>(&'t [(String, String)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (endpoint, reason)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{endpoint} ({reason})")?;
        }
        Ok(())
    }
}

/// What a node says against a request (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Problem {
    #[serde(default)]
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = if self.detail.is_empty() {
            &self.title
        } else {
            &self.detail
        };
        f.write_str(&plain(words))?;
        match self.code.as_str() {
            "" => write!(f, " [{}]", self.status),
            code => write!(f, " [{}]", plain(code)),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (exit, advice) = match &error {
            ClientError::Endpoint { .. } => (Exit::Usage, None),
            ClientError::Unreachable { .. } => (
                Exit::Unreachable,
                Some("name the nodes with --endpoint or AEGIS_ENDPOINT, and see that one runs"),
            ),
            ClientError::Unserved { problem, .. } => (
                Exit::Unreachable,
                (problem.status == 503)
                    .then_some("a majority of the voters must run and reach each other"),
            ),
            ClientError::Refused(problem) => (
                match problem.status {
                    404 => Exit::NotFound,
                    _ => Exit::Failed,
                },
                match problem.status {
                    401 if problem.code == "unauthenticated" => {
                        Some("give a token with --token-file or AEGIS_TOKEN_FILE")
                    }
                    _ => None,
                },
            ),
            ClientError::Unknown { .. } => (
                Exit::Failed,
                Some("look with `aegis status` whether it was, before doing it again"),
            ),
            ClientError::Token | ClientError::Setup(_) | ClientError::Answer { .. } => {
                (Exit::Failed, None)
            }
        };
        let failure = Self::new(exit, error);
        match advice {
            Some(advice) => failure.advise(advice),
            None => failure,
        }
    }
}
