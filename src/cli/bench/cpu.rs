//! CPU time of processes on this machine, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

use crate::failure::{Exit, Failure};

/// CPU time by process since each began; this process is 0.
pub(crate) struct CpuTimes(BTreeMap<u32, Duration>);

impl CpuTimes {
    pub(crate) fn read(pids: &[u32]) -> Result<Self, Failure> {
        let own = (0, "/proc/self/stat".to_owned());
        std::iter::once(own)
            .chain(pids.iter().map(|pid| (*pid, format!("/proc/{pid}/stat"))))
            .map(|(pid, path)| {
                let stat = fs::read_to_string(&path)
                    .map_err(Failure::context(format!("cannot read {path}")))?;
                let ticks = ticks(&stat).ok_or_else(|| {
                    Failure::say(
                        Exit::Failed,
                        format_args!("{path} has another form than proc(5) says"),
                    )
                })?;
                Ok((pid, duration(ticks)))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// What was used since an earlier reading.
    pub(crate) fn since(&self, earlier: &Self) -> BTreeMap<u32, Duration> {
        let used = self.0.iter().map(|(pid, now)| {
            let before = earlier.0.get(pid).copied().unwrap_or_default();
            (*pid, now.saturating_sub(before))
        });
        used.collect()
    }
}

/// User and system time in clock ticks: the 14th and 15th fields, where the second, a name
/// in parentheses, may hold anything (proc(5)).
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn duration(ticks: u64) -> Duration {
    let per_second = clock_ticks_per_second().max(1);
    Duration::from_micros(ticks.saturating_mul(1_000_000) / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_and_parentheses_are_skipped() {
        let stat = "42 (a b) c) S 1 2 3 4 5 6 7 8 9 10 700 80 1 2 20 0 5 0";
        assert_eq!(ticks(stat), Some(780));
        assert_eq!(ticks("42 (a) S 1"), None);
    }

    #[test]
    fn this_process_uses_time() {
        let before = CpuTimes::read(&[std::process::id()]).unwrap();
        let mut sum = 0_u64;
        while CpuTimes::read(&[]).unwrap().since(&before)[&0] < Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert_eq!(before.0.len(), 2);
    }
}
