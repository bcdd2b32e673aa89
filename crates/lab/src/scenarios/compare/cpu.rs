//! Processor time of the whole machine: programs, kernel, interrupts.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::unistd::{SysconfVar, sysconf};

/// A machine that does so much by itself (in processors) is no place to measure.
const QUIET: f64 = 0.1;
/// What the machine does without us is watched for so long.
const BASELINE: Duration = Duration::from_secs(1);

/// Does `work`, and returns how many seconds of processor time that cost, less what the machine spent just before.
///
/// # Errors
/// Those of `work`.
pub(super) fn spent<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
    let (_, before) = busy(|| {
        thread::sleep(BASELINE);
        Ok(())
    })?;
    let start = Instant::now();
    let (result, seconds) = busy(work)?;
    let before = before / BASELINE.as_secs_f64();
    if before > QUIET {
        eprintln!("       the machine is not quiet: {before:.2} processors were busy before this");
    }
    Ok((result, seconds - before * start.elapsed().as_secs_f64()))
}

/// All time less the idle one: the kernel takes idle time exactly, the kinds of busy time only by samples.
fn busy<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
    let ticks = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")? as f64;
    let (before, start) = (Times::now()?, Instant::now());
    let result = work()?;
    let (after, elapsed) = (Times::now()?, start.elapsed());
    let unused = (after.unused - before.unused) as f64 / ticks;
    Ok((
        result,
        elapsed.as_secs_f64() * after.processors as f64 - unused,
    ))
}

/// Of /proc/stat (proc(5)).
#[derive(Debug, PartialEq)]
struct Times {
    processors: u64,
    /// Ticks of all processors: idle, waiting for a disk, or taken by the hypervisor.
    unused: u64,
}

impl Times {
    fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        Self::parse(&stat).context("/proc/stat is not as expected")
    }

    fn parse(stat: &str) -> Option<Self> {
        let lines = stat.lines().filter(|line| line.starts_with("cpu"));
        let all: Vec<u64> = lines
            .clone()
            .next()?
            .split_whitespace()
            .skip(1)
            .map_while(|ticks| ticks.parse().ok())
            .collect();
        Some(Self {
            processors: lines.count() as u64 - 1,
            unused: all.get(3)? + all.get(4)? + all.get(7)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_unused() {
        let stat = "cpu  10 1 20 300 40 5 6 7 0 0\ncpu0 5 0 10 150 20 2 3 4 0 0\ncpu1 5 1 10 150 20 3 3 3 0 0\nintr 5\n";
        let expected = Times {
            processors: 2,
            unused: 347,
        };
        assert_eq!(Times::parse(stat), Some(expected));
        assert_eq!(Times::parse("intr 5\n"), None);
    }

    #[test]
    fn a_busy_loop_costs_about_its_time() {
        let (_, seconds) = busy(|| {
            let end = Instant::now() + Duration::from_millis(300);
            while Instant::now() < end {}
            Ok(())
        })
        .unwrap();
        assert!(seconds > 0.2, "{seconds}");
    }
}
