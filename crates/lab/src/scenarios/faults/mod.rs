//! Sections 5 and 6 of "No machine in the middle is missed": what dies, and what clients notice of it.

pub(crate) mod chaos;
mod graceful;
mod load;
mod many;
mod moments;
mod moves;
mod network;
mod nodes;
mod programs;
mod servers;

use std::time::Duration;

use super::Setting;
use super::site::{ALL_ON, Site};
use crate::cluster::{Lab, Options};
use crate::impair::Way;
use crate::report::{Counts, Recorder};
use load::{MIXED, under_load};
use moves::Lost;
use programs::End;

pub(super) use nodes::{OWNERS, noticed, whole};

/// Proxies whose cables carry what a case lets through.
const TAPPED: [&str; 4] = ["proxy1", "proxy2", "proxy3", "proxy4"];

/// How much is tried.
struct Size {
    /// What is transferred when the cable is cut.
    file: &'static str,
    /// How long things stay broken.
    broken: Duration,
    /// How long one proxy after the other is lost.
    row: Duration,
    rounds: usize,
}

impl Size {
    fn of(setting: &Setting<'_>) -> Self {
        if setting.short {
            Self {
                file: "20MB",
                broken: Duration::from_secs(2),
                row: Duration::from_secs(6),
                rounds: 2,
            }
        } else {
            Self {
                file: "100MB",
                broken: Duration::from_secs(5),
                row: Duration::from_mins(1),
                rounds: 6,
            }
        }
    }
}

/// # Errors
/// When interrupted.
pub(crate) fn run(recorder: &mut Recorder, setting: &Setting<'_>) -> anyhow::Result<()> {
    let (size, seed) = (Size::of(setting), setting.options.seed);
    one_proxy(recorder, setting, &size)?;
    let mut three = Place::new(setting, |options| {
        (options.proxies, options.balancers) = (3, 1);
    });
    three.case(recorder, "5/nothing-breaks", |lab, counts| {
        nothing(lab, counts, seed, size.broken)
    })?;
    moments(recorder, &mut three, "", &size)?;
    for (name, end) in [("killed", End::Killed), ("upgraded", End::HandedOver)] {
        three.case(
            recorder,
            &format!("5.2/{name}-one-of-three"),
            |lab, counts| programs::ends(lab, counts, size.file, end),
        )?;
        three.case(
            recorder,
            &format!("5.2/{name}-under-load"),
            |lab, counts| {
                let proxies = lab.topology.proxies();
                programs::under_transfers(lab, counts, &proxies, size.rounds, seed, end)
            },
        )?;
        three.case(
            recorder,
            &format!("5.2/{name}-agents-under-load"),
            |lab, counts| {
                let backends = lab.topology.backends();
                programs::under_transfers(lab, counts, &backends, size.rounds, seed, end)
            },
        )?;
    }
    three.case(recorder, "5.3/every-2s", |lab, counts| {
        many::every_two_seconds(lab, counts, seed, size.row)
    })?;
    three.case(recorder, "5.3/all", |lab, counts| {
        many::all(lab, counts, seed)
    })?;
    servers::cases(recorder, &mut three)?;
    three.case(recorder, "6/drain", |lab, counts| {
        graceful::drain(lab, counts, seed)
    })?;
    three.case(recorder, "6/drain-backend", graceful::drain_server)?;
    three.case(recorder, "6/reload-under-load", |lab, counts| {
        graceful::reload(lab, counts, seed)
    })?;
    drop(three);
    balancers(recorder, setting, &size)?;
    four(recorder, setting, &size)?;
    if !setting.short {
        others(recorder, setting, &size)?;
    }
    Ok(())
}

/// 5.2 where nobody else could help.
fn one_proxy(recorder: &mut Recorder, setting: &Setting<'_>, size: &Size) -> anyhow::Result<()> {
    let mut one = Place::new(setting, |_| ());
    one.case(recorder, "5/nothing-breaks/one", |lab, counts| {
        nothing(lab, counts, setting.options.seed, size.broken)
    })?;
    for (name, end) in [("killed", End::Killed), ("upgraded", End::HandedOver)] {
        one.case(recorder, &format!("5.2/{name}"), |lab, counts| {
            programs::ends(lab, counts, size.file, end)
        })?;
    }
    Ok(())
}

/// Transfers alone: where these fail, no fault is to blame.
fn nothing(
    lab: &mut Lab,
    counts: &mut Counts,
    seed: u64,
    duration: Duration,
) -> anyhow::Result<String> {
    let transfers = under_load(lab, counts, &MIXED, seed, |_, progress| {
        std::thread::sleep(duration);
        Ok(progress.transfers())
    })?;
    Ok(format!("{transfers} transfers"))
}

/// 5.1, on a cluster of one kind.
fn moments(
    recorder: &mut Recorder,
    place: &mut Place<'_>,
    kind: &str,
    size: &Size,
) -> anyhow::Result<()> {
    for (name, case) in moments::CASES {
        place.case(recorder, &format!("5.1/{name}{kind}"), |lab, counts| {
            case(lab, counts, size.file)
        })?;
    }
    Ok(())
}

/// 5.4: there are two, and three proxies.
fn balancers(recorder: &mut Recorder, setting: &Setting<'_>, size: &Size) -> anyhow::Result<()> {
    let mut place = Place::new(setting, |options| {
        (options.proxies, options.balancers) = (3, 2);
    });
    for (name, with) in [("balancer", None), ("balancer-and-proxy", Some("proxy2"))] {
        place.case(recorder, &format!("5.4/{name}"), |lab, counts| {
            many::balancer(lab, counts, with)
        })?;
        place.case(
            recorder,
            &format!("5.4/{name}-under-load"),
            |lab, counts| {
                many::balancer_under_load(lab, counts, setting.options.seed, size.rounds, with)
            },
        )?;
    }
    Ok(())
}

/// Four proxies, whose cables are tapped: 5.3 and 5.6.
fn four(recorder: &mut Recorder, setting: &Setting<'_>, size: &Size) -> anyhow::Result<()> {
    let seed = setting.options.seed;
    let mut four = Place::new(setting, |options| {
        (options.proxies, options.balancers) = (4, 1);
        options.tapped = &TAPPED;
    });
    for (name, lost) in [
        ("cut-after-release", Lost::ReleaseAnswer),
        ("cut-before-bind", Lost::Bind),
    ] {
        four.case(recorder, &format!("5.1/{name}"), |lab, counts| {
            moves::cut(lab, counts, lost)
        })?;
    }
    four.case(recorder, "5.3/two-of-four", |lab, counts| {
        many::two_of_four(lab, counts, seed)
    })?;
    four.case(recorder, "5.6/partition", |lab, counts| {
        network::partition(lab, counts, seed, size.broken)
    })?;
    for (name, way) in [
        ("hears-nobody", Way::ToHost),
        ("is-not-heard", Way::FromHost),
    ] {
        four.case(recorder, &format!("5.6/{name}"), |lab, counts| {
            network::one_way(lab, counts, seed, way)
        })?;
    }
    four.case(recorder, "5.6/heartbeats-lost", |lab, counts| {
        network::heartbeats_lost(lab, counts, seed, 2 * size.broken)
    })?;
    four.case(recorder, "5.6/full-peer-queue", |lab, counts| {
        network::stands_still(lab, counts, seed, size.broken)
    })
}

/// 5.1 on clusters of other kinds.
fn others(recorder: &mut Recorder, setting: &Setting<'_>, size: &Size) -> anyhow::Result<()> {
    use crate::cluster::Balance;
    type Change = fn(&mut Options);
    let kinds: [(&str, Change); 5] = [
        ("/no-balancer", |options| options.balancers = 0),
        ("/batch", |options| options.balance = Balance::Batch),
        ("/random", |options| options.balance = Balance::Random),
        ("/two", |options| options.proxies = 2),
        ("/ipv6", |options| options.ipv6 = true),
    ];
    for (kind, change) in kinds {
        let mut place = Place::new(setting, |options| {
            (options.proxies, options.balancers) = (3, 1);
            change(options);
        });
        moments(recorder, &mut place, kind, size)?;
    }
    Ok(())
}

/// A lab where things break and are mended between cases.
struct Place<'a>(Site<'a>);

impl<'a> Place<'a> {
    fn new(setting: &Setting<'a>, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = setting.options.clone();
        change(&mut options);
        Self(Site::new(options, setting.baton))
    }

    fn case(
        &mut self,
        recorder: &mut Recorder,
        name: &str,
        run: impl FnOnce(&mut Lab, &mut Counts) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        recorder.case(name, |counts| {
            let lab = self.0.lab(ALL_ON)?;
            nodes::healed(lab)?;
            let told = run(lab, counts);
            if told.is_err() {
                for node in lab.nodes() {
                    eprintln!("{} says:\n{}", node.name, lab.last_words(&node.name));
                }
            }
            let healed = nodes::healed(lab);
            let told = told?;
            healed.map(|()| told)
        })
    }
}
