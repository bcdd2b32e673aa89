//! Side by side: direct, `handoff`, `relay`, HAProxy and nginx as proxies; in one run, alternating, medians.

mod cpu;
mod idle;
mod measure;
mod memory;
mod record;
mod systems;
mod workload;

use std::collections::BTreeMap;

use anyhow::bail;

use super::Setting;
use super::statistics::listed;
use crate::cluster::requirements;
use crate::report::Recorder;
use measure::measure;
pub(crate) use measure::{bulk, bulk_bytes};
pub(super) use memory::Memory;
pub(crate) use record::{Record, table};
pub(crate) use systems::start_nginx;
use systems::{System, Systems};
pub(crate) use workload::Workload;
use workload::{Ground, Measurement};

/// Ratios worth telling.
const RATIOS: [(System, System); 9] = [
    (System::Handoff, System::Direct),
    (System::Relay, System::Direct),
    (System::Haproxy, System::Direct),
    (System::Nginx, System::Direct),
    (System::Handoff, System::Relay),
    (System::Handoff, System::Haproxy),
    (System::Handoff, System::Nginx),
    (System::Relay, System::Haproxy),
    (System::Relay, System::Nginx),
];

/// How long and how often.
pub(crate) struct Effort {
    /// Of each run at a rate or as fast as can be.
    pub(crate) seconds: u64,
    /// Of each system under each workload.
    pub(crate) runs: u32,
}

impl Effort {
    /// What is usual.
    pub(crate) fn usual(short: bool) -> Self {
        let (seconds, runs) = if short { (1, 2) } else { (5, 5) };
        Self { seconds, runs }
    }
}

/// Compares under the workloads asked for, or under all if none is.
///
/// # Errors
/// When interrupted or a program is missing.
pub(crate) fn run(
    recorder: &mut Recorder,
    setting: &Setting<'_>,
    asked: &[Workload],
    effort: &Effort,
) -> anyhow::Result<()> {
    requirements::require("haproxy", "haproxy")?;
    requirements::require("wrk", "wrk")?;
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: figures of handoff and relay mean nothing");
    }
    let asked = |workload: &Workload| asked.is_empty() || asked.contains(workload);
    let wanted: Vec<Workload> = Workload::ALL.into_iter().filter(asked).collect();
    for ground in Ground::ALL {
        let mut measurements: Vec<Measurement> = wanted
            .iter()
            .map(|workload| workload.measurement())
            .collect();
        measurements.dedup();
        measurements.retain(|measurement| measurement.ground() == ground);
        if measurements.is_empty() {
            continue;
        }
        if ground == Ground::Crowd {
            idle::compare(recorder, setting, &wanted)?;
            continue;
        }
        let mut systems = Systems::of(&System::ALL, ground, setting);
        let working = right_bytes(recorder, &mut systems, ground)?;
        for measurement in measurements {
            let mut competition = Competition {
                systems: &mut systems,
                working: &working,
                wanted: &wanted,
                short: setting.short,
                effort,
            };
            competition.hold(recorder, measurement)?;
        }
    }
    for workload in wanted {
        for (system, to) in RATIOS {
            recorder.ratio(workload.name(), system.name(), to.name());
        }
    }
    Ok(())
}

/// What is fast but wrong is not worth measuring: the systems through which a file arrives as it is.
fn right_bytes(
    recorder: &mut Recorder,
    systems: &mut Systems,
    ground: Ground,
) -> anyhow::Result<Vec<System>> {
    let mut working = Vec::new();
    for system in System::ALL {
        let name = format!("7/right-bytes/{}.{}", ground.name(), system.name());
        recorder.case(&name, |counts| {
            systems.right_bytes(system, counts)?;
            working.push(system);
            Ok("20 MB with the right checksum".into())
        })?;
    }
    Ok(working)
}

struct Competition<'a> {
    systems: &'a mut Systems,
    working: &'a [System],
    wanted: &'a [Workload],
    short: bool,
    effort: &'a Effort,
}

/// The figures of all runs of a system, and what went wrong in one.
#[derive(Default)]
struct Runs {
    figures: BTreeMap<Workload, Vec<f64>>,
    error: Option<anyhow::Error>,
}

impl Competition<'_> {
    /// Every system in turn, and that several times.
    fn hold(&mut self, recorder: &mut Recorder, measurement: Measurement) -> anyhow::Result<()> {
        let mut all: Vec<Runs> = self.working.iter().map(|_| Runs::default()).collect();
        for run in 1..=self.effort.runs {
            // There and back, so that nobody always comes first or always after the same one.
            let mut order: Vec<usize> = (0..self.working.len()).collect();
            if run % 2 == 0 {
                order.reverse();
            }
            for index in order {
                self.run(recorder, measurement, run, index, &mut all[index])?;
            }
        }
        let of_it = |workload: &&Workload| workload.measurement() == measurement;
        for workload in self.wanted.iter().filter(of_it) {
            let (name, unit) = (workload.name(), workload.unit());
            for (system, runs) in self.working.iter().zip(&all) {
                let none = Vec::new();
                let values = runs.figures.get(workload).unwrap_or(&none);
                recorder.case(&format!("7/{name}.{}", system.name()), |_| {
                    match &runs.error {
                        None => Ok(format!("{} {unit}", listed(values))),
                        Some(error) => bail!("{error:#}"),
                    }
                })?;
                if runs.error.is_none() {
                    recorder.figure(name, system.name(), values, unit);
                }
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        recorder: &mut Recorder,
        measurement: Measurement,
        run: u32,
        index: usize,
        runs: &mut Runs,
    ) -> anyhow::Result<()> {
        let system = self.working[index];
        let mut place = self.systems.place(system)?;
        let counts = recorder.counts();
        let measured = measure(measurement, &mut place, self.short, self.effort, counts);
        crate::interrupt::check()?;
        let (system, of) = (system.name(), self.effort.runs);
        match measured {
            Ok(figures) => {
                for (workload, value) in figures {
                    let (name, unit) = (workload.name(), workload.unit());
                    eprintln!("       {name}.{system} {run}/{of}: {value:.2} {unit}");
                    runs.figures.entry(workload).or_default().push(value);
                }
            }
            Err(error) => {
                eprintln!("       {measurement:?} {system} {run}/{of}: {error:#}");
                runs.error = Some(error);
            }
        }
        Ok(())
    }
}
