//! What a scenario has found: one JSON object, or lines for people.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::bail;
use serde::Serialize;

use crate::client::{Answer, Expected, Wrong};
use crate::interrupt;
use crate::scenarios::statistics::median;

/// The object that `baton lab run SCENARIO --json` prints. Its shape is a promise (docs/lab.md).
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: &'static str,
    /// Every case ok, and nothing failed or wrong.
    ok: bool,
    seconds: f64,
    seed: u64,
    /// `WORKLOAD.A/B`: the figure of A divided by the figure of B.
    ratios: BTreeMap<String, f64>,
    /// `WORKLOAD.SYSTEM`
    figures: BTreeMap<String, Figure>,
    cases: Vec<Case>,
    counts: Counts,
}

#[derive(Debug, Serialize)]
struct Figure {
    /// The median of the runs.
    value: f64,
    unit: &'static str,
    /// Of the runs.
    min: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Case {
    name: String,
    ok: bool,
    detail: String,
}

/// Of all transfers of a scenario.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Counts {
    pub(crate) transfers: u64,
    pub(crate) failed: u64,
    pub(crate) wrong_bytes: u64,
}

impl Counts {
    /// Counts a transfer and compares it with what was expected.
    ///
    /// # Errors
    /// When it did not come to an answer, or to another one.
    pub(crate) fn check(
        &mut self,
        answer: anyhow::Result<Answer>,
        expected: &Expected,
    ) -> anyhow::Result<Answer> {
        self.transfers += 1;
        let answer = answer.inspect_err(|_| self.failed += 1)?;
        match expected.compare(&answer) {
            Ok(()) => Ok(answer),
            Err(Wrong::Answer(why)) => {
                self.failed += 1;
                bail!(why)
            }
            Err(Wrong::Bytes(why)) => {
                self.wrong_bytes += 1;
                bail!(why)
            }
        }
    }
}

/// Runs cases and keeps what they found.
pub(crate) struct Recorder {
    start: Instant,
    only: Option<String>,
    report: Report,
}

impl Recorder {
    pub(crate) fn new(scenario: &'static str, seed: u64) -> Self {
        let report = Report {
            scenario,
            ok: false,
            seconds: 0.0,
            seed,
            ratios: BTreeMap::new(),
            figures: BTreeMap::new(),
            cases: Vec::new(),
            counts: Counts::default(),
        };
        Self {
            start: Instant::now(),
            only: None,
            report,
        }
    }

    /// Only cases whose name contains the pattern, or (with `*`) is like it, or one of several with commas between them.
    pub(crate) fn only(self, pattern: Option<String>) -> Self {
        Self {
            only: pattern,
            ..self
        }
    }

    /// Runs a case if it was asked for, and tells of it on standard error. An error of the case is kept as its result.
    ///
    /// # Errors
    /// Only when an interrupt was requested.
    pub(crate) fn case(
        &mut self,
        name: &str,
        run: impl FnOnce(&mut Counts) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        interrupt::check()?;
        let asked = |only: &str| only.split(',').any(|pattern| like(pattern.trim(), name));
        if self.only.as_deref().is_some_and(|only| !asked(only)) {
            return Ok(());
        }
        let result = run(&mut self.report.counts);
        interrupt::check()?;
        let (ok, detail) = match result {
            Ok(detail) => (true, detail),
            Err(error) => (false, format!("{error:#}")),
        };
        eprintln!("{} {name}: {detail}", if ok { "ok    " } else { "FAILED" });
        self.report.cases.push(Case {
            name: name.to_owned(),
            ok,
            detail,
        });
        Ok(())
    }

    /// For what is counted between cases.
    pub(crate) fn counts(&mut self) -> &mut Counts {
        &mut self.report.counts
    }

    /// Keeps the figure of a system under a workload, if there is a run.
    pub(crate) fn figure(
        &mut self,
        workload: &str,
        system: &str,
        runs: &[f64],
        unit: &'static str,
    ) {
        let Some(value) = median(runs) else {
            return;
        };
        let figure = Figure {
            value,
            unit,
            min: runs.iter().copied().fold(f64::INFINITY, f64::min),
            max: runs.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        };
        let name = format!("{workload}.{system}");
        self.report.figures.insert(name, figure);
    }

    /// Keeps a figure that is not one of several systems.
    pub(crate) fn sole_figure(&mut self, name: &str, value: f64, unit: &'static str) {
        let figure = Figure {
            value,
            unit,
            min: value,
            max: value,
        };
        self.report.figures.insert(name.to_owned(), figure);
    }

    /// Keeps the ratio of two figures of a workload, if both are there.
    pub(crate) fn ratio(&mut self, workload: &str, system: &str, to: &str) {
        let figure = |system| {
            self.report
                .figures
                .get(&format!("{workload}.{system}"))
                .map(|figure| figure.value)
        };
        if let (Some(value), Some(base)) = (figure(system), figure(to))
            && base > 0.0
        {
            self.report
                .ratios
                .insert(format!("{workload}.{system}/{to}"), value / base);
        }
    }

    pub(crate) fn finish(mut self) -> Report {
        let counts = &self.report.counts;
        self.report.ok = self.report.cases.iter().all(|case| case.ok)
            && counts.failed == 0
            && counts.wrong_bytes == 0;
        if self.report.cases.is_empty() {
            eprintln!("no case has a name like that");
            self.report.ok = false;
        }
        self.report.seconds = self.start.elapsed().as_secs_f64();
        self.report
    }
}

impl Report {
    pub(crate) fn ok(&self) -> bool {
        self.ok
    }

    /// What the reader of a terminal wants to know at the end.
    pub(crate) fn summary(&self) -> String {
        let failed: Vec<&Case> = self.cases.iter().filter(|case| !case.ok).collect();
        let mut text = String::new();
        for (name, figure) in &self.figures {
            let Figure {
                value,
                unit,
                min,
                max,
            } = figure;
            text += &format!("{name:<40} {value:>12.2} {unit} ({min:.2} to {max:.2})\n");
        }
        for (name, ratio) in &self.ratios {
            text += &format!("{name:<40} {ratio:>12.2}\n");
        }
        for case in &failed {
            text += &format!("FAILED {}: {}\n", case.name, case.detail);
        }
        let Counts {
            transfers,
            failed: transfers_failed,
            wrong_bytes,
        } = self.counts;
        text += &format!(
            "{} of {} cases ok; ",
            self.cases.len() - failed.len(),
            self.cases.len()
        );
        text + &format!(
            "{transfers} transfers, {transfers_failed} failed, {wrong_bytes} with wrong bytes; {:.0} s\n",
            self.seconds
        )
    }
}

/// Whether `name` contains `pattern`, or, if that has a `*`, is like it from beginning to end.
fn like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(first) = parts.next() else {
        return true;
    };
    if first.len() == pattern.len() {
        return name.contains(pattern);
    }
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = "";
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
        last = part;
    }
    rest.is_empty() || last.is_empty() || name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("get", "5.1/get-1MB/lan", true),
            ("put", "5.1/get-1MB/lan", false),
            ("5.1/*", "5.1/get-1MB/lan", true),
            ("5.1/*", "5.4/ipv6/5.1/get-1MB/lan", false),
            ("*/lan", "5.1/get-1MB/lan", true),
            ("*/lan", "5.1/get-1MB/50ms", false),
            ("5.1/*/lan", "5.1/get-1MB/lan", true),
            ("*lan", "lan/then-lan", true),
            ("*", "anything", true),
        ] {
            assert_eq!(like(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn several_patterns() {
        let mut recorder = Recorder::new("faults", 1).only(Some("5.1/*,drain".into()));
        for name in ["5.1/cut-idle", "5.2/killed", "6/drain"] {
            recorder.case(name, |_| Ok(String::new())).unwrap();
        }
        let run: Vec<String> = recorder
            .report
            .cases
            .into_iter()
            .map(|case| case.name)
            .collect();
        assert_eq!(run, ["5.1/cut-idle", "6/drain"]);
    }

    #[test]
    fn the_object_has_the_promised_shape() {
        let mut recorder = Recorder::new("matrix", 7);
        recorder
            .case("5.1/get-0B/lan", |_| Ok("fine".into()))
            .unwrap();
        recorder.figure("bulk", "handoff", &[3.5, 2.0, 3.0], "MB/s");
        recorder.figure("bulk", "direct", &[4.0], "MB/s");
        recorder.figure("bulk", "nginx", &[], "MB/s");
        recorder.ratio("bulk", "handoff", "direct");
        recorder.ratio("bulk", "handoff", "haproxy");
        let mut object = serde_json::to_value(recorder.finish()).unwrap();
        assert!(object["seconds"].take().as_f64().unwrap() >= 0.0);
        let expected = serde_json::json!({
            "scenario": "matrix", "ok": true, "seconds": null, "seed": 7,
            "ratios": {"bulk.handoff/direct": 0.75},
            "figures": {
                "bulk.direct": {"value": 4.0, "unit": "MB/s", "min": 4.0, "max": 4.0},
                "bulk.handoff": {"value": 3.0, "unit": "MB/s", "min": 2.0, "max": 3.5},
            },
            "cases": [{"name": "5.1/get-0B/lan", "ok": true, "detail": "fine"}],
            "counts": {"transfers": 0, "failed": 0, "wrong_bytes": 0},
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn ok_needs_every_case_and_every_transfer() {
        let expected = Expected::status(200, "backend1");
        let wrong = || {
            Ok(Answer {
                status: 500,
                ..Answer::default()
            })
        };
        let mut recorder = Recorder::new("matrix", 1);
        recorder
            .case("a/transfer-fails-but-case-does-not-care", |counts| {
                let _ = counts.check(wrong(), &expected);
                Ok(String::new())
            })
            .unwrap();
        assert!(!recorder.finish().ok());
        let mut recorder = Recorder::new("matrix", 1);
        recorder.case("a/fails", |_| bail!("reason")).unwrap();
        assert!(!recorder.finish().ok());
        assert!(
            !Recorder::new("matrix", 1).finish().ok(),
            "nothing was tried"
        );
    }
}
