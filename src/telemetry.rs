//! Logs: one line per thing that happened, as text for people or JSON for machines.
//!
//! A text line is `<time> <LEVEL> <target>: <message> key=value ...`; the ledger's own
//! events read `<time> <EVENT> <principal> key=value ...`, so that
//! `grep 'VOTE_CAST member-017 '` finds a voter's ballots. Lines gather in a bounded
//! buffer; when the disk cannot keep up, they are dropped and counted rather than votes
//! delayed. Errors are on their way before the caller goes on: the process may end on one.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{self, PanicHookInfo};
use std::path::{Path, PathBuf};

use aegis_ledger::{Event, EventKind, Outcome};
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::lines::{LineWriter, Lines};

/// The target of the ledger's own events.
const EVENTS: &str = "aegis::event";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("`{filter}` is not a log level or filter such as `info` or `info,aegis::http=warn`")]
    Filter {
        /// The filter.
        filter: String,
        /// What the parser said.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The log file cannot be opened.
    #[error("cannot append to the log file {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no thread to write with.
    #[error("cannot start the thread that writes logs")]
    Thread(#[source] io::Error),
    /// Logs were set up before.
    #[error("logs are set up already")]
    Twice,
}

/// Keeps the writer alive; dropping it writes what waits.
pub struct Logs {
    writer: LineWriter,
}

impl Logs {
    /// Lines that were lost because the writer could not keep up, or could not write.
    #[must_use]
    pub fn lines_dropped(&self) -> usize {
        self.writer.dropped()
    }
}

/// Sends all logs of the process, panics among them, to standard error or to a file, which
/// is made 0640.
///
/// # Errors
/// A filter that does not parse, a file that cannot be opened, or no thread to be had.
pub fn init(filter: &str, format: Format, file: Option<&Path>) -> Result<Logs, TelemetryError> {
    let filter = EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let out: Box<dyn io::Write + Send> = match file {
        None => Box::new(io::stderr()),
        Some(path) => {
            let opened = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(path);
            Box::new(opened.map_err(|source| TelemetryError::File {
                path: path.to_owned(),
                source,
            })?)
        }
    };
    let (writer, lines) = LineWriter::spawn(out).map_err(TelemetryError::Thread)?;
    install(filter, format, lines)?;
    panic::set_hook(Box::new(log_panic));
    Ok(Logs { writer })
}

/// Whatever becomes of a panic, it is in the logs.
fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    tracing::error!(
        thread = thread.name(),
        at = info.location().map(tracing::field::display),
        backtrace = (backtrace.status() == BacktraceStatus::Captured)
            .then(|| tracing::field::display(&backtrace)),
        "panic: {}",
        info.payload_as_str().unwrap_or("without a message")
    );
}

fn install(filter: EnvFilter, format: Format, lines: Lines) -> Result<(), TelemetryError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        .with_ansi(false);
    match format {
        Format::Text => builder.event_format(TextLine).try_init(),
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    }
    .map_err(|_| TelemetryError::Twice)
}

/// Logs what the ledger did, as it was applied on this node.
pub fn log_event(event: &Event) {
    let index = event.position.index.0;
    match &event.kind {
        EventKind::ProposalCreated {
            proposal,
            author,
            status,
        } => tracing::info!(
            target: EVENTS, event = "PROPOSAL_CREATED", principal = %author,
            proposal = %proposal, status = status.as_str(), index
        ),
        EventKind::VoteCast {
            vote,
            voter,
            choice,
        } => tracing::info!(
            target: EVENTS, event = "VOTE_CAST", principal = %voter,
            proposal = %vote.proposal, vote = %vote, choice = choice.as_str(), index
        ),
        EventKind::ProposalUpdated { proposal, status } => tracing::debug!(
            target: EVENTS, event = "PROPOSAL_UPDATED", principal = "system",
            proposal = %proposal, status = status.as_str(), index
        ),
        EventKind::ConsensusReached {
            proposal,
            outcome,
            certified,
            deciding_ms,
            ..
        } => tracing::info!(
            target: EVENTS, event = outcome_event(*outcome), principal = "system",
            proposal = %proposal, certified, deciding_ms, index
        ),
    }
}

const fn outcome_event(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Approved => "PROPOSAL_APPROVED",
        Outcome::Rejected => "PROPOSAL_REJECTED",
        Outcome::NoQuorum => "PROPOSAL_NO_QUORUM",
        Outcome::Expired => "PROPOSAL_EXPIRED",
        Outcome::Cancelled => "PROPOSAL_CANCELLED",
    }
}

/// The text format.
struct TextLine;

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let now = jiff::Timestamp::now();
        if metadata.target() == EVENTS {
            writeln!(
                writer,
                "{now:.3} {} {}{}",
                fields.event, fields.principal, fields.rest
            )
        } else {
            let Fields { message, rest, .. } = fields;
            writeln!(
                writer,
                "{now:.3} {} {}: {message}{rest}",
                metadata.level(),
                metadata.target()
            )
        }
    }
}

/// An event's fields, with those that have a place of their own set apart.
#[derive(Default)]
struct Fields {
    event: String,
    principal: String,
    message: String,
    rest: String,
}

impl Fields {
    fn take(&mut self, name: &str, value: &str) {
        let slot = match name {
            "event" => &mut self.event,
            "principal" if !self.event.is_empty() => &mut self.principal,
            "message" => {
                self.message = on_one_line(value);
                return;
            }
            _ => {
                self.rest.push(' ');
                self.rest.push_str(name);
                self.rest.push('=');
                &mut self.rest
            }
        };
        push_value(slot, value);
    }
}

/// Writes a value bare where that is unambiguous, else quoted, so that nothing a client
/// sent can begin a line or a field of its own.
fn push_value(out: &mut String, value: &str) {
    let bare = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
    if !value.is_empty() && value.chars().all(bare) {
        out.push_str(value);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(out, "{value:?}");
    }
}

/// The text with control characters escaped, so that it stays on its line.
fn on_one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
    }
    out
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field.name(), &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Captured {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<String> {
        let captured = Captured::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(captured.clone())
            .with_ansi(false)
            .event_format(TextLine)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = captured.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        // Without the time, which is not the test's.
        text.lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    #[test]
    fn ledger_events_can_be_grepped() {
        let event = Event {
            position: aegis_ledger::EventPosition {
                index: aegis_ledger::LogIndex(9),
                ordinal: 0,
            },
            time: aegis_ledger::LedgerTime(0),
            kind: EventKind::VoteCast {
                vote: "vote_3_7".parse().unwrap(),
                voter: "member-017".parse().unwrap(),
                choice: aegis_ledger::Choice::For,
            },
        };
        assert_eq!(
            lines(|| log_event(&event)),
            ["VOTE_CAST member-017 proposal=prop_3 vote=vote_3_7 choice=for index=9"]
        );
    }

    #[test]
    fn nothing_a_client_sent_begins_a_line_or_a_field() {
        let hostile = "x\n2026 VOTE_CAST admin choice=for";
        assert_eq!(
            lines(|| tracing::warn!(target: "t", path = hostile, n = 3, "refused")),
            [r#"WARN t: refused path="x\n2026 VOTE_CAST admin choice=for" n=3"#]
        );
        assert_eq!(lines(|| tracing::warn!(target: "t", "{hostile}")).len(), 1);
    }
}
