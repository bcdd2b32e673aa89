//! Side by side: direct, `handoff`, `relay`, HAProxy and nginx as proxies; in one run, alternating, medians.

mod record;
mod systems;
mod workload;

use super::Setting;
use super::statistics::{listed, median};
use crate::cluster::requirements;
use crate::report::Recorder;
pub(crate) use record::{Record, table};
pub(crate) use systems::start_nginx;
use systems::{System, Systems};
pub(crate) use workload::{Workload, bulk, bulk_bytes};

/// Ratios worth telling.
const RATIOS: [(System, System); 8] = [
    (System::Handoff, System::Direct),
    (System::Relay, System::Direct),
    (System::Haproxy, System::Direct),
    (System::Nginx, System::Direct),
    (System::Handoff, System::Haproxy),
    (System::Handoff, System::Nginx),
    (System::Relay, System::Haproxy),
    (System::Relay, System::Nginx),
];

/// How long and how often.
pub(crate) struct Effort {
    /// Of each run of `keepalive` and `close`.
    pub(crate) seconds: u64,
    /// Of each system under each workload.
    pub(crate) runs: u32,
}

/// # Errors
/// When interrupted or a program is missing.
pub(crate) fn run(
    recorder: &mut Recorder,
    setting: &Setting<'_>,
    only: Option<Workload>,
    effort: &Effort,
) -> anyhow::Result<()> {
    requirements::require("haproxy", "haproxy")?;
    requirements::require("wrk", "wrk")?;
    let mut systems = Systems::up(setting);
    let working = right_bytes(recorder, &mut systems)?;
    for workload in Workload::ALL
        .into_iter()
        .filter(|&workload| only.is_none_or(|only| only == workload))
    {
        compare(
            recorder,
            &mut systems,
            &working,
            workload,
            setting.short,
            effort,
        )?;
    }
    Ok(())
}

/// What is fast but wrong is not worth measuring: the systems through which a file arrives as it is.
fn right_bytes(recorder: &mut Recorder, systems: &mut Systems) -> anyhow::Result<Vec<System>> {
    let mut working = Vec::new();
    for system in System::ALL {
        recorder.case(&format!("7/right-bytes.{}", system.name()), |counts| {
            systems.right_bytes(system, counts)?;
            working.push(system);
            Ok("20 MB with the right checksum".into())
        })?;
    }
    Ok(working)
}

fn compare(
    recorder: &mut Recorder,
    systems: &mut Systems,
    working: &[System],
    workload: Workload,
    short: bool,
    effort: &Effort,
) -> anyhow::Result<()> {
    let (name, unit) = (workload.name(), workload.unit());
    let mut measured: Vec<Vec<anyhow::Result<f64>>> = working.iter().map(|_| Vec::new()).collect();
    for run in 0..effort.runs {
        // There and back, so that nobody always comes first or always after the same one.
        let mut order: Vec<usize> = (0..working.len()).collect();
        if run % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let (lab, address) = systems.place(working[index])?;
            let value = workload.measure(lab, address, short, effort.seconds, recorder.counts());
            crate::interrupt::check()?;
            if let Ok(value) = &value {
                eprintln!(
                    "       {name}.{} {}/{}: {value:.0} {unit}",
                    working[index].name(),
                    run + 1,
                    effort.runs
                );
            }
            measured[index].push(value);
        }
    }
    for (system, values) in working.iter().zip(measured) {
        let mut good = Vec::new();
        recorder.case(&format!("7/{name}.{}", system.name()), |_| {
            good = values.into_iter().collect::<anyhow::Result<_>>()?;
            Ok(format!("{} {unit}", listed(&good)))
        })?;
        if let Some(median) = median(&good) {
            recorder.figure(name, system.name(), median, unit);
        }
    }
    for (system, to) in RATIOS {
        recorder.ratio(name, system.name(), to.name());
    }
    Ok(())
}
