//! What a measurement came to, in Markdown and JSON.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::load::Measured;
use crate::failure::Failure;

/// The heading of the table.
const HEADING: &str = "\
| connections | batch | votes/s | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms | errors | nodes' CPU us/vote | generator's CPU us/vote |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

/// One run. Latencies are those of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Run {
    connections: u32,
    batch: u32,
    elapsed_us: u64,
    requests: u64,
    votes: u64,
    votes_per_s: u64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    errors: BTreeMap<u16, u64>,
    /// Whether the ballots were used up before the time was.
    exhausted: bool,
    /// CPU time of the processes that were named, in microseconds.
    cpu_us: BTreeMap<u32, u64>,
    /// CPU time of the generator, in microseconds.
    generator_cpu_us: u64,
}

impl Run {
    pub(crate) fn new(batch: u32, measured: Measured) -> Self {
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let elapsed_us = us(measured.elapsed);
        let mut cpu_us: BTreeMap<u32, u64> = measured
            .cpu
            .into_iter()
            .map(|(pid, used)| (pid, us(used)))
            .collect();
        let latency = &measured.latency;
        Self {
            connections: measured.connections,
            batch,
            elapsed_us,
            requests: measured.requests,
            votes: measured.votes,
            votes_per_s: per_second(measured.votes, elapsed_us),
            p50_us: latency.value_at_quantile(0.5),
            p90_us: latency.value_at_quantile(0.9),
            p99_us: latency.value_at_quantile(0.99),
            p999_us: latency.value_at_quantile(0.999),
            max_us: latency.max(),
            errors: measured.errors,
            exhausted: measured.exhausted,
            generator_cpu_us: cpu_us.remove(&0).unwrap_or(0),
            cpu_us,
        }
    }

    fn row(&self) -> String {
        let errors = match self.errors.len() {
            0 => "0".to_owned(),
            _ => {
                let errors = self.errors.iter();
                errors
                    .map(|(status, count)| format!("{count} x {status}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            }
        };
        let nodes_us: u64 = self.cpu_us.values().sum();
        let nodes = if self.cpu_us.is_empty() {
            "-".to_owned()
        } else {
            per_vote(nodes_us, self.votes)
        };
        format!(
            "| {} | {} | {}{} | {} | {} | {} | {} | {} | {errors} | {nodes} | {} |",
            self.connections,
            self.batch,
            self.votes_per_s,
            if self.exhausted {
                " (ballots used up)"
            } else {
                ""
            },
            ms(self.p50_us),
            ms(self.p90_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us),
            per_vote(self.generator_cpu_us, self.votes),
        )
    }
}

fn per_second(votes: u64, elapsed_us: u64) -> u64 {
    votes
        .saturating_mul(1_000_000)
        .checked_div(elapsed_us)
        .unwrap_or(0)
}

fn per_vote(us: u64, votes: u64) -> String {
    us.checked_div(votes)
        .map_or("-".to_owned(), |us| us.to_string())
}

/// Microseconds as milliseconds with two decimals, rounded down.
fn ms(us: u64) -> String {
    format!("{}.{:02}", us / 1_000, us % 1_000 / 10)
}

/// The runs as a table.
pub(crate) fn markdown(runs: &[Run]) -> String {
    let rows = runs.iter().map(Run::row);
    std::iter::once(HEADING.to_owned())
        .chain(rows)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Appends the table to a file.
pub(crate) fn append_markdown(path: &Path, runs: &[Run]) -> Result<(), Failure> {
    let append = || {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{}\n", markdown(runs))
    };
    append().map_err(Failure::context(format!("cannot write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    fn measured() -> Measured {
        let mut latency = Histogram::new_with_max(60_000_000, 3).unwrap();
        for us in 1..=1_000 {
            latency.record(us * 10).unwrap();
        }
        Measured {
            connections: 64,
            elapsed: Duration::from_secs(2),
            requests: 1_000,
            votes: 900,
            latency,
            errors: BTreeMap::from([(409, 100)]),
            exhausted: false,
            cpu: BTreeMap::from([
                (0, Duration::from_micros(9_000)),
                (7, Duration::from_micros(90_000)),
            ]),
        }
    }

    #[test]
    fn figures_are_those_of_the_run() {
        let run = Run::new(1, measured());
        assert_eq!((run.votes_per_s, run.generator_cpu_us), (450, 9_000));
        assert_eq!(run.cpu_us, BTreeMap::from([(7, 90_000)]));
        assert_eq!(
            run.row(),
            "| 64 | 1 | 450 | 5.00 | 9.00 | 9.90 | 9.99 | 10.00 | 100 x 409 | 100 | 10 |"
        );
        let columns = |line: &str| line.matches('|').count();
        assert!(
            HEADING
                .lines()
                .all(|line| columns(line) == columns(&run.row()))
        );
    }

    #[test]
    fn a_run_without_votes_divides_by_nothing() {
        let empty = Measured {
            elapsed: Duration::ZERO,
            votes: 0,
            exhausted: true,
            cpu: BTreeMap::new(),
            latency: Histogram::new_with_max(60_000_000, 3).unwrap(),
            errors: BTreeMap::new(),
            ..measured()
        };
        let row = Run::new(256, empty).row();
        assert_eq!(
            row,
            "| 64 | 256 | 0 (ballots used up) | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 | 0 | - | - |"
        );
    }
}
