//! Table 4 of "Fault-tolerant and scalable TCP splice" (Marwah, Mishra, Fetzer): what the loss of one of two proxies costs 100 uploads,
//! depending on how soon it is noticed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::Setting;
use super::put::{Uploads, stored};
use super::site::{ALL_ON, Site};
use super::statistics::{deviation, mean};
use crate::cluster::{File, Lab, Options, wait_until};
use crate::report::{Counts, Recorder};

const UPLOADS: usize = 100;
const LINK_RATE: u64 = 100_000_000;
/// The one that is lost; the other one would decide alone even without a witness.
const LOST: &str = "proxy2";
/// Half of the bytes are on their way within this time.
const PATIENCE: Duration = Duration::from_mins(10);

/// A line of the table.
struct Line {
    name: &'static str,
    /// `None`: nothing is lost, with usual heartbeats.
    heartbeat: Option<Duration>,
    paper: Option<Paper>,
}

/// The paper's figures: seconds, Mbit/s, and percent of the throughput without a failure.
struct Paper {
    average: f64,
    min: f64,
    max: f64,
    deviation: f64,
    total: f64,
    throughput: f64,
    loss: f64,
}

const LINES: [Line; 6] = [
    Line {
        name: "none",
        heartbeat: None,
        paper: Some(Paper {
            average: 79.76,
            min: 46.35,
            max: 89.37,
            deviation: 8.18,
            total: 89.46,
            throughput: 93.76,
            loss: 0.0,
        }),
    },
    Line {
        name: "5s",
        heartbeat: Some(Duration::from_secs(5)),
        paper: Some(Paper {
            average: 90.54,
            min: 54.66,
            max: 142.07,
            deviation: 8.86,
            total: 142.14,
            throughput: 59.02,
            loss: 37.1,
        }),
    },
    Line {
        name: "1s",
        heartbeat: Some(Duration::from_secs(1)),
        paper: Some(Paper {
            average: 85.69,
            min: 55.88,
            max: 97.88,
            deviation: 5.51,
            total: 97.95,
            throughput: 85.64,
            loss: 8.7,
        }),
    },
    Line {
        name: "200ms",
        heartbeat: Some(Duration::from_millis(200)),
        paper: Some(Paper {
            average: 82.20,
            min: 45.30,
            max: 94.42,
            deviation: 5.70,
            total: 94.48,
            throughput: 88.79,
            loss: 5.3,
        }),
    },
    Line {
        name: "50ms",
        heartbeat: Some(Duration::from_millis(50)),
        paper: None,
    },
    Line {
        name: "10ms",
        heartbeat: Some(Duration::from_millis(10)),
        paper: None,
    },
];

/// What a run came to.
struct Run {
    /// Of each upload.
    seconds: Vec<f64>,
    total: f64,
    /// Mbit/s
    throughput: f64,
    false_alarms: usize,
}

/// # Errors
/// When interrupted.
pub(crate) fn run(recorder: &mut Recorder, setting: &Setting<'_>) -> anyhow::Result<()> {
    let file = if setting.short { "1MB" } else { "10MB" };
    let mut without = None;
    for line in &LINES {
        let mut run = None;
        recorder.case(&format!("9/table4/{}", line.name), |counts| {
            let mut site = Site::new(options(setting, line), setting.baton);
            let lab = site.lab(ALL_ON)?;
            super::faults::whole(lab)?;
            let file = lab.content.file(file)?;
            let made = uploads(lab, counts, &file, line.heartbeat.is_some())?;
            let told = made.told(line, without);
            run = Some(made);
            Ok(told)
        })?;
        let Some(run) = run else { continue };
        let (name, seconds) = (line.name, &run.seconds);
        recorder.figure("seconds", name, seconds, "s");
        for (workload, value, unit) in [
            ("average", mean(seconds), "s"),
            ("deviation", deviation(seconds), "s"),
            ("total", run.total, "s"),
            ("throughput", run.throughput, "Mbit/s"),
            ("false_alarms", run.false_alarms as f64, "1"),
        ] {
            recorder.figure(workload, name, &[value], unit);
        }
        if let Some(paper) = &line.paper {
            recorder.figure("paper_throughput", name, &[paper.throughput], "Mbit/s");
        }
        match (line.heartbeat, without) {
            (None, _) => without = Some(run.throughput),
            (Some(_), Some(without)) => {
                recorder.figure("loss", name, &[loss(run.throughput, without)], "%");
                if let Some(paper) = &line.paper {
                    recorder.figure("paper_loss", name, &[paper.loss], "%");
                }
            }
            (Some(_), None) => {}
        }
    }
    Ok(())
}

fn options(setting: &Setting<'_>, line: &Line) -> Options {
    let mut options = setting.options.clone();
    (options.proxies, options.balancers) = (2, 1);
    options.link_rate = Some(LINK_RATE);
    options.heartbeat = line.heartbeat;
    options.measured = true;
    options
}

fn uploads(lab: &mut Lab, counts: &mut Counts, file: &File, fails: bool) -> anyhow::Result<Run> {
    let uploads = Uploads::of(lab, file)?;
    let client = lab.netns("client");
    let alarms = alarms(lab)?;
    let start = Instant::now();
    let (ended, cut) = thread::scope(|scope| {
        let running: Vec<_> = (0..UPLOADS)
            .map(|number| {
                let (uploads, client) = (&uploads, &client);
                scope.spawn(move || client.inside(|| uploads.put(&number.to_string())))
            })
            .collect();
        let half = UPLOADS as u64 * file.bytes / 2;
        let cut = wait_until("half of the bytes are on their way", PATIENCE, || {
            Ok(uploads.written() >= half || running.iter().all(|upload| upload.is_finished()))
        });
        let cut = cut.and_then(|()| if fails { lab.cut(LOST) } else { Ok(()) });
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread broke")))
        };
        let ended: Vec<anyhow::Result<f64>> = running.into_iter().map(join).collect();
        (ended, cut)
    });
    let total = start.elapsed().as_secs_f64();
    cut?;
    let mut seconds = Vec::new();
    let mut first_error = None;
    for (number, put) in ended.into_iter().enumerate() {
        match stored(lab, counts, &number.to_string(), put, file) {
            Ok(took) => seconds.push(took),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    if let Some(error) = first_error {
        let failed = UPLOADS - seconds.len();
        return Err(error.context(format!("{failed} of {UPLOADS} uploads failed, the first")));
    }
    let bits = 8.0 * (UPLOADS as u64 * file.bytes) as f64;
    Ok(Run {
        seconds,
        total,
        throughput: bits / 1e6 / total,
        // The one that was cut off is missed once by each of the two others.
        false_alarms: self::alarms(lab)?.saturating_sub(alarms + if fails { 2 } else { 0 }),
    })
}

impl Run {
    fn told(&self, line: &Line, without: Option<f64>) -> String {
        let Self {
            seconds,
            total,
            throughput,
            false_alarms,
        } = self;
        let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = seconds.iter().copied().fold(0.0, f64::max);
        let (average, deviation) = (mean(seconds), deviation(seconds));
        let mut told = format!(
            "average {average:.2} s, {least:.2} to {most:.2}, deviation {deviation:.2}, total {total:.2}; {throughput:.2} Mbit/s"
        );
        if let Some(without) = without {
            told += &format!(", loss {:.1} %", loss(*throughput, without));
        }
        if *false_alarms > 0 {
            told += &format!(", {false_alarms} false alarms");
        }
        if let Some(paper) = &line.paper {
            let Paper {
                average,
                min,
                max,
                deviation,
                total,
                throughput,
                loss,
            } = paper;
            told += &format!(
                " (paper: {average} s, {min} to {max}, deviation {deviation}, total {total}; {throughput} Mbit/s, loss {loss} %)"
            );
        }
        told
    }
}

/// How often a proxy has taken the other one for gone.
fn alarms(lab: &Lab) -> anyhow::Result<usize> {
    let proxies = lab.topology.proxies().into_iter();
    proxies
        .map(|proxy| Ok(losses(&lab.log(&proxy.name)?)))
        .sum()
}

/// How often there were fewer owners than before, as a proxy's log tells it.
fn losses(log: &str) -> usize {
    let owners = log.lines().filter_map(|line| {
        let (_, owners) = line.split_once(super::faults::OWNERS)?;
        Some(owners.split_whitespace().count())
    });
    let owners: Vec<usize> = owners.collect();
    owners.windows(2).filter(|pair| pair[1] < pair[0]).count()
}

/// In percent.
fn loss(throughput: f64, without: f64) -> f64 {
    (1.0 - throughput / without) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_one_owner_less() {
        let line = |owners: &str| {
            format!("INFO members: other proxies own flows now owners=\"{owners}\"\n")
        };
        let log = [
            "10.77.0.11",
            "10.77.0.11 10.77.0.12",
            "10.77.0.12",
            "10.77.0.11 10.77.0.12",
        ];
        assert_eq!(losses(&log.map(line).concat()), 1);
        assert_eq!(losses("INFO ready\n"), 0);
    }

    #[test]
    fn the_papers_losses_are_those_of_its_throughputs() {
        let none = LINES[0].paper.as_ref().unwrap().throughput;
        for line in &LINES[1..] {
            let Some(paper) = &line.paper else { continue };
            let loss = loss(paper.throughput, none);
            assert!((loss - paper.loss).abs() < 0.1, "{}: {loss}", line.name);
        }
    }
}
