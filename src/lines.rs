//! The way of log lines to where they are kept.
//!
//! Lines gather in a buffer, and a thread writes them out after a moment, so that a busy node
//! pays one wake-up and one write for many lines and not for each. A line that may be the
//! process's last is written by whoever logs it, behind all that wait.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long the first line that waits may wait for others.
const GATHER: Duration = Duration::from_millis(20);
/// Bytes of lines that are written without waiting for more.
const WRITE_BYTES: usize = 64 << 10;
/// The most bytes of lines that wait; beyond, lines are dropped and counted.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Takes lines; cheap to clone.
#[derive(Clone)]
pub(crate) struct Lines {
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// The thread waits for lines or the end.
    arrived: Condvar,
    /// Locked before `waiting`, so that lines keep their order.
    sink: Mutex<Sink>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: usize,
    is_closing: bool,
}

struct Sink {
    out: Box<dyn Write + Send>,
    /// Lines on their way out; its memory serves again.
    leaving: Vec<u8>,
}

/// The thread that writes; dropping it writes what waits.
pub(crate) struct LineWriter {
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

impl LineWriter {
    /// Starts the thread, which writes to `out`.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn spawn(out: Box<dyn Write + Send>) -> io::Result<(Self, Lines)> {
        let lines = Lines {
            shared: Arc::new(Shared {
                waiting: Mutex::default(),
                arrived: Condvar::new(),
                sink: Mutex::new(Sink {
                    out,
                    leaving: Vec::new(),
                }),
            }),
        };
        let shared = Arc::clone(&lines.shared);
        let thread = thread::Builder::new()
            .name("log-lines".to_owned())
            .spawn(move || shared.run())?;
        let writer = Self {
            lines: lines.clone(),
            thread: Some(thread),
        };
        Ok((writer, lines))
    }

    /// Lines that were lost because the writer could not keep up, or could not write.
    pub(crate) fn dropped(&self) -> usize {
        self.lines.shared.waiting().dropped
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.lines.shared.waiting().is_closing = true;
        self.lines.shared.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            // If it panicked, the panic has been reported.
            thread.join().ok();
        }
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut is_closing = false;
        while !is_closing {
            let waiting = self
                .arrived
                .wait_while(self.waiting(), |waiting| {
                    waiting.lines.is_empty() && !waiting.is_closing
                })
                .unwrap_or_else(PoisonError::into_inner);
            let (waiting, _) = self
                .arrived
                .wait_timeout_while(waiting, GATHER, |waiting| {
                    waiting.lines.len() < WRITE_BYTES && !waiting.is_closing
                })
                .unwrap_or_else(PoisonError::into_inner);
            is_closing = waiting.is_closing;
            drop(waiting);
            self.write_out(&[]);
        }
    }

    fn add(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        let before = waiting.lines.len();
        let after = before + line.len();
        if after > WAITING_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if before == 0 || (before < WRITE_BYTES && after >= WRITE_BYTES) {
            self.arrived.notify_one();
        }
    }

    /// Writes what waits, and behind it `last`.
    fn write_out(&self, last: &[u8]) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let Sink { out, leaving } = &mut *sink;
        std::mem::swap(leaving, &mut self.waiting().lines);
        leaving.extend_from_slice(last);
        if out.write_all(leaving).and_then(|()| out.flush()).is_err() {
            let lost = leaving.iter().filter(|byte| **byte == b'\n').count();
            self.waiting().dropped += lost;
        }
        leaving.clear();
    }
}

/// Takes one line, whole, in one write.
pub(crate) struct Line<'a> {
    lines: &'a Shared,
    is_urgent: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_urgent {
            self.lines.write_out(line);
        } else {
            self.lines.add(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            lines: &self.shared,
            is_urgent: false,
        }
    }

    /// The process may end on an error.
    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line {
            lines: &self.shared,
            is_urgent: *metadata.level() == Level::ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands every write over, and waits until it is taken.
    struct Handed(mpsc::SyncSender<Vec<u8>>);

    impl Write for Handed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .send(bytes.to_vec())
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer() -> (LineWriter, Lines, mpsc::Receiver<Vec<u8>>) {
        let (sender, written) = mpsc::sync_channel(0);
        let (writer, lines) = LineWriter::spawn(Box::new(Handed(sender))).unwrap();
        (writer, lines, written)
    }

    #[test]
    fn an_urgent_line_is_written_at_once_and_behind_what_waits() {
        let (sender, written) = mpsc::sync_channel(8);
        let (_writer, lines) = LineWriter::spawn(Box::new(Handed(sender))).unwrap();
        for n in 0..100 {
            lines.shared.add(format!("{n}\n").as_bytes());
        }
        lines.shared.write_out(b"last\n");
        let text: Vec<u8> = written.try_iter().flatten().collect();
        let text = String::from_utf8(text).unwrap();
        let expected = (0..100).map(|n| n.to_string()).chain(["last".to_owned()]);
        assert!(text.lines().eq(expected), "{text}");
    }

    /// Logs a line and waits until the thread is stuck in writing it.
    fn stick(lines: &Lines, line: &[u8]) {
        lines.shared.add(line);
        while !lines.shared.waiting().lines.is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn lines_that_gathered_are_written_together() {
        let (_writer, lines, written) = writer();
        stick(&lines, b"first\n");
        lines.shared.add(b"second\n");
        lines.shared.add(b"third\n");
        assert_eq!(written.recv().unwrap(), b"first\n");
        assert_eq!(written.recv().unwrap(), b"second\nthird\n");
    }

    #[test]
    fn what_a_stuck_writer_cannot_take_is_dropped_and_counted() {
        let (writer, lines, written) = writer();
        let line = [vec![b'x'; (1 << 20) - 1], vec![b'\n']].concat();
        stick(&lines, &line);
        for _ in 0..6 {
            lines.shared.add(&line);
        }
        assert_eq!(writer.dropped(), 2);
        drop(written);
        let lines = lines.shared;
        drop(writer);
        assert_eq!(lines.waiting().dropped, 2 + 5, "nobody reads the rest");
    }

    #[test]
    fn the_end_writes_what_waits() {
        let (writer, lines, written) = writer();
        let reader = thread::spawn(move || written.iter().flatten().collect::<Vec<u8>>());
        lines.shared.add(b"a\n");
        lines.shared.add(b"b\n");
        drop(writer);
        drop(lines);
        assert_eq!(reader.join().unwrap(), b"a\nb\n");
    }
}
