//! What `run compare` measured, kept with where and when, and told as a table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::systems::System;
use super::workload::Workload;
use crate::command;
use crate::report::Report;

/// Nothing in it says which machine it was, only what kind of one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record<R> {
    /// Of the end of the run (UTC, ISO 8601).
    date: String,
    processor: String,
    /// How many of these the run could use.
    processors: usize,
    kernel: String,
    /// The programs that Baton is compared with, in their own words.
    programs: Vec<String>,
    report: R,
}

impl<'a> Record<&'a Report> {
    /// A report of this machine.
    ///
    /// # Errors
    /// When a program does not tell its version.
    pub(crate) fn of(report: &'a Report) -> anyhow::Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or(std::env::consts::ARCH, |(_, model)| model);
        Ok(Self {
            date: command::run(Command::new("date").args(["-u", "+%F"]))?
                .trim()
                .to_owned(),
            processor: model.to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            programs: vec![version("haproxy")?, version("nginx")?],
            report,
        })
    }

    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn keep(&self, file: &Path) -> anyhow::Result<()> {
        let context = || format!("cannot write {}", file.display());
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir).with_context(context)?;
        }
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(context)
    }
}

/// The first line of `PROGRAM -v`, wherever it goes.
fn version(program: &str) -> anyhow::Result<String> {
    let output = command::output(Command::new(program).arg("-v"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or(program).to_owned())
}

/// What the table needs of a report.
#[derive(Debug, Deserialize)]
struct Figures {
    seed: u64,
    figures: BTreeMap<String, Figure>,
    ratios: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
struct Figure {
    value: f64,
    unit: String,
    /// Of the runs. The first records have only the median.
    min: Option<f64>,
    max: Option<f64>,
}

/// The table of docs/performance.md, of a file that a run kept.
///
/// # Errors
/// When there is no such file, or it is something else.
pub(crate) fn table(file: &Path) -> anyhow::Result<String> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    markdown(&text).with_context(|| format!("{} is not what a run kept", file.display()))
}

fn markdown(json: &str) -> anyhow::Result<String> {
    let record: Record<Figures> = serde_json::from_str(json)?;
    let Record {
        date,
        processor,
        processors,
        kernel,
        programs,
        report,
    } = &record;
    let programs = programs.join("; ");
    let mut text = format!(
        "{date}; {processors} x {processor}; Linux {kernel}; {programs}; seed {}\n\n",
        report.seed
    );
    let names: Vec<&str> = System::ALL.into_iter().map(System::name).collect();
    let _ = writeln!(text, "| workload | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(names.len()));
    for workload in Workload::ALL.into_iter().map(Workload::name) {
        let figures = names.iter().map(|system| report.figure(workload, system));
        let Some(unit) = figures.flatten().map(|figure| &figure.unit).next() else {
            continue;
        };
        let cells = names.iter().map(|system| report.cell(workload, system));
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(text, "| `{workload}` ({unit}) | {} |", cells.join(" | "));
    }
    Ok(text)
}

impl Figures {
    fn figure(&self, workload: &str, system: &str) -> Option<&Figure> {
        self.figures.get(&format!("{workload}.{system}"))
    }

    /// The figure, what part of the direct one that is, and between what the runs were.
    fn cell(&self, workload: &str, system: &str) -> String {
        let Some(figure) = self.figure(workload, system) else {
            return "-".to_owned();
        };
        let mut cell = written(figure.value);
        if let Some(ratio) = self.ratios.get(&format!("{workload}.{system}/direct")) {
            let _ = write!(cell, " ({ratio:.2})");
        }
        if let (Some(min), Some(max)) = (figure.min, figure.max)
            && min < max
        {
            let _ = write!(cell, " {}..{}", written(min), written(max));
        }
        cell
    }
}

/// With three digits at least.
fn written(value: f64) -> String {
    if value.abs() < 10.0 && value != 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_ratios_and_gaps() {
        let json = r#"{
            "date": "2026-11-21", "processor": "Some CPU", "processors": 2, "kernel": "6.18.5",
            "programs": ["HAProxy version 3", "nginx version: 1"],
            "report": {"scenario": "compare", "seed": 7,
                "figures": {
                    "bulk.direct": {"value": 4000.4, "unit": "MB/s"}, "bulk.handoff": {"value": 3000, "unit": "MB/s"},
                    "cpu_per_gb.nginx": {"value": 1.456, "unit": "CPU seconds", "min": 1.4, "max": 12.1}},
                "ratios": {"bulk.handoff/direct": 0.7499}}}"#;
        let table = markdown(json).unwrap();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "2026-11-21; 2 x Some CPU; Linux 6.18.5; HAProxy version 3; nginx version: 1; seed 7",
                "",
                "| workload | direct | handoff | relay | haproxy | nginx |",
                "|---|---:|---:|---:|---:|---:|",
                "| `bulk` (MB/s) | 4000 | 3000 (0.75) | - | - | - |",
                "| `cpu_per_gb` (CPU seconds) | - | - | - | - | 1.46 1.40..12 |",
            ]
        );
    }

    #[test]
    fn something_else_is_refused() {
        assert!(markdown("{}").is_err());
    }
}
