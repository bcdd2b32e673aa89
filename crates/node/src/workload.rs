//! How much of this node's own capacity is available: the workload factor of its heartbeats (Marwah et al., 5.1).

use std::fs::read_to_string;
use std::time::{Duration, Instant};

/// How often the machine is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// So many looks ago counts half: a moment's work is no load.
const MEMORY: u32 = 4;

/// Looks at processors, memory and the flow table: the scarcest counts.
#[derive(Debug)]
pub(crate) struct Workload {
    max_flows: u64,
    looked: Option<Instant>,
    processors: Option<Processors>,
    /// Of the processors, lately (per mille).
    idle: Option<u32>,
    /// Of the machine's memory (per mille).
    memory: Option<u32>,
}

/// What `/proc/stat` counts, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Processors {
    idle: u64,
    all: u64,
}

impl Workload {
    /// Of a node whose table has room for so many flows.
    pub(crate) fn new(max_flows: u32) -> Workload {
        Workload {
            max_flows: max_flows.into(),
            looked: None,
            processors: None,
            idle: None,
            memory: None,
        }
    }

    /// What is available (per mille), with so many flows. What the machine does not say does not count.
    pub(crate) fn available(&mut self, flows: u64) -> u16 {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            self.looked = Some(Instant::now());
            let read = |path| read_to_string(path).unwrap_or_default();
            self.look(Processors::of(&read("/proc/stat")));
            self.memory = memory(&read("/proc/meminfo"));
        }
        let room = 1000 * self.max_flows.saturating_sub(flows) / self.max_flows.max(1);
        let scarcest = [self.idle, self.memory].into_iter().flatten().min();
        scarcest.map_or(room, |least| room.min(least.into())) as u16
    }

    fn look(&mut self, now: Option<Processors>) {
        let before = std::mem::replace(&mut self.processors, now);
        let Some(idle) = now
            .zip(before)
            .and_then(|(now, before)| now.idle_since(before))
        else {
            return;
        };
        let lately = self.idle.unwrap_or(1000); // what it does to start is no load either
        self.idle = Some((lately * (MEMORY - 1) + idle) / MEMORY);
    }
}

impl Processors {
    /// From the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)).
    fn of(stat: &str) -> Option<Processors> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks = line.split_whitespace().take(8).map(str::parse::<u64>);
        let ticks = ticks.collect::<Result<Vec<_>, _>>().ok()?;
        Some(Processors {
            idle: ticks.get(3)? + ticks.get(4).unwrap_or(&0),
            all: ticks.iter().sum(),
        })
    }

    /// Per mille of the time since then.
    fn idle_since(self, before: Processors) -> Option<u32> {
        let idle = self.idle.checked_sub(before.idle)?;
        let all = self.all.checked_sub(before.all)?;
        (1000 * idle)
            .checked_div(all)
            .map(|part| part.min(1000) as u32)
    }
}

/// What could be had of the machine's memory without swapping (per mille): `MemAvailable` of `/proc/meminfo`.
fn memory(meminfo: &str) -> Option<u32> {
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let part = (1000 * field("MemAvailable:")?).checked_div(field("MemTotal:")?)?;
    Some(part.min(1000) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processors(idle: u64, all: u64) -> Option<Processors> {
        Some(Processors { idle, all })
    }

    #[test]
    fn the_kernel_s_files_are_understood() {
        let stat = "cpu  100 5 50 800 20 3 2 20 7 0\ncpu0 1 2 3 4 5 6 7 8 0 0\nintr 5\n";
        assert_eq!(Processors::of(stat), processors(820, 1000));
        for bad in ["", "cpu0 1 2 3 4", "cpu  a b c d", "cpu  1 2 3"] {
            assert_eq!(Processors::of(bad), None, "{bad}");
        }
        let meminfo = "MemTotal:  4000 kB\nMemFree:  100 kB\nMemAvailable:  1000 kB\n";
        assert_eq!(memory(meminfo), Some(250));
        assert_eq!(memory("MemTotal: 0 kB\nMemAvailable: 0 kB\n"), None);
        assert_eq!(memory("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn a_moment_s_work_is_no_load_and_lasting_work_is() {
        let mut workload = Workload::new(1000);
        let (mut idle, mut all) = (0, 0);
        let mut pass = |workload: &mut Workload, idle_ticks| {
            (idle, all) = (idle + idle_ticks, all + 100);
            workload.look(processors(idle, all));
            workload.idle
        };
        assert_eq!(pass(&mut workload, 100), None, "nothing to compare with");
        assert_eq!(pass(&mut workload, 100), Some(1000));
        assert_eq!(pass(&mut workload, 0), Some(750));
        for _ in 0..20 {
            pass(&mut workload, 0);
        }
        assert!(pass(&mut workload, 0).unwrap() < 10);
        // Counters that go back (a processor was taken away) say nothing.
        let before = workload.idle;
        workload.look(processors(0, 0));
        assert_eq!(workload.idle, before);
    }

    #[test]
    fn the_scarcest_counts() {
        let mut workload = Workload {
            looked: Some(Instant::now() + LOOK),
            idle: Some(600),
            memory: Some(700),
            ..Workload::new(1000)
        };
        assert_eq!(workload.available(0), 600);
        assert_eq!(workload.available(900), 100);
        assert_eq!(workload.available(2000), 0);
        (workload.idle, workload.memory) = (None, None);
        assert_eq!(workload.available(250), 750);
    }
}
