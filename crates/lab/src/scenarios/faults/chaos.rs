//! Faults of all kinds, drawn at random, one after the other, while transfers of all kinds run.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::load::{MIXED, under_load};
use super::network::{lossy, parted};
use super::nodes::{healed, names};
use super::{Place, TAPPED};
use crate::cluster::Lab;
use crate::impair::{Fate, Ruled, Way};
use crate::report::Recorder;
use crate::scenarios::Setting;

const PROXIES: u8 = 4;
const BALANCERS: u8 = 2;
/// A fault lasts at most so long (ms) before it is mended; less than it takes to be noticed, or more.
const LONGEST_MS: u64 = 1500;
/// Two of each kind.
const LOAD: usize = 2;

/// What happens to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    /// The cable carries nothing.
    Cut,
    /// `kill -9`; the next process takes over what is in the kernel.
    Kill,
    /// The process hands over to the next one.
    HandOver,
    /// SIGSTOP
    Freeze,
    /// The machine starts anew, with nothing in its kernel.
    Anew,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// These at once.
    Nodes(Harm, Vec<String>),
    /// The first of the proxies and the others do not hear each other.
    Partition(usize),
    /// The cable of a proxy carries nothing one way.
    OneWay(String, bool),
    /// A fifth of all heartbeats of proxies is lost.
    HeartbeatsLost,
    /// A proxy is drained and comes back.
    Drain(String),
}

impl Fault {
    /// Of those that clients do not notice (the end of a back end is none): half of the proxies and one balancer may be gone for a while, and all proxies may start
    /// anew at once.
    fn draw(random: &mut impl Rng, proxies: &[String], balancers: &[String]) -> Self {
        let mut some = |of: &[String], count: usize| -> Vec<String> {
            of.sample(random, count).cloned().collect()
        };
        let (one, two, balancer) = (some(proxies, 1), some(proxies, 2), some(balancers, 1));
        let harm = |random: &mut _| {
            let all = [
                Harm::Cut,
                Harm::Kill,
                Harm::HandOver,
                Harm::Freeze,
                Harm::Anew,
            ];
            all.choose(random).copied().unwrap_or(Harm::Cut)
        };
        let first = || one.first().cloned().unwrap_or_default();
        match random.random_range(0..20) {
            0..8 => Self::Nodes(harm(random), one),
            8..10 => Self::Nodes(harm(random), two),
            10 => Self::Nodes(Harm::Kill, proxies.to_vec()),
            11 => Self::Nodes(Harm::Anew, proxies.to_vec()),
            12..14 => Self::Nodes(harm(random), balancer),
            14 => Self::Nodes(harm(random), [balancer, one].concat()),
            15..17 => Self::Partition(random.random_range(1..proxies.len().max(2))),
            17 => Self::OneWay(first(), random.random_bool(0.5)),
            18 => Self::HeartbeatsLost,
            _ => Self::Drain(first()),
        }
    }

    fn kind(&self) -> String {
        match self {
            Self::Nodes(harm, nodes) => format!("{harm:?} {}", nodes.len()),
            Self::Partition(_) => "Partition".to_owned(),
            Self::OneWay(..) => "OneWay".to_owned(),
            Self::HeartbeatsLost => "HeartbeatsLost".to_owned(),
            Self::Drain(_) => "Drain".to_owned(),
        }
    }

    /// Lets it happen, and mends it after `lasting`.
    fn happen(&self, lab: &mut Lab, lasting: Duration, seed: u64) -> anyhow::Result<()> {
        match self {
            Self::Nodes(harm, nodes) => {
                for node in nodes {
                    match harm {
                        Harm::Cut => lab.cut(node)?,
                        Harm::Kill => lab.kill_node(node)?,
                        Harm::HandOver => lab.hand_over(node)?,
                        Harm::Freeze => lab.freeze_node(node)?,
                        Harm::Anew => {
                            lab.cut(node)?;
                            lab.kill_node(node)?;
                            lab.detach(node)?;
                        }
                    }
                }
                thread::sleep(lasting);
            }
            Self::Partition(first) => {
                let proxies = names(&lab.topology.proxies());
                let (first, second) = proxies.split_at(*first);
                let _parted = parted(lab, first, second)?;
                thread::sleep(lasting);
            }
            Self::OneWay(proxy, hears) => {
                let lost = if *hears { Way::FromHost } else { Way::ToHost };
                let _ruled: Ruled = lab
                    .tap(proxy)?
                    .rule(move |way, _| (way == lost).then_some(Fate::LOST));
                thread::sleep(lasting);
            }
            Self::HeartbeatsLost => {
                let _lossy = lossy(lab, &names(&lab.topology.proxies()), seed)?;
                thread::sleep(lasting);
            }
            Self::Drain(proxy) => {
                lab.drain(proxy, true)?;
                thread::sleep(lasting);
                lab.drain(proxy, false)?;
            }
        }
        healed(lab)
    }
}

/// # Errors
/// When interrupted.
pub(crate) fn run(
    recorder: &mut Recorder,
    setting: &Setting<'_>,
    faults: u32,
) -> anyhow::Result<()> {
    let seed = setting.options.seed;
    let mut place = Place::new(setting, |options| {
        (options.proxies, options.balancers) = (PROXIES, BALANCERS);
        options.tapped = &TAPPED;
    });
    eprintln!("seed {seed}");
    place.case(
        recorder,
        &format!("5/chaos/{faults}-faults"),
        |lab, counts| {
            let (proxies, balancers) = (
                names(&lab.topology.proxies()),
                names(&lab.topology.balancers()),
            );
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let kinds = MIXED.repeat(LOAD);
            let drawn = under_load(lab, counts, &kinds, seed, |lab, progress| {
                let (start, mut drawn) = (Instant::now(), BTreeMap::<String, u32>::new());
                for number in 1..=faults {
                    let fault = Fault::draw(&mut random, &proxies, &balancers);
                    let lasting = Duration::from_millis(random.random_range(0..=LONGEST_MS));
                    let told = format!("fault {number}: {fault:?}, {} ms", lasting.as_millis());
                    let (at, ended) = (start.elapsed().as_secs_f64(), progress.transfers());
                    eprintln!("{at:.1} s, {ended} transfers, {told}");
                    let broken = progress.broken();
                    let happened = fault.happen(lab, lasting, seed ^ u64::from(number));
                    happened
                        .with_context(|| format!("fault {number} of seed {seed}: {fault:?}"))?;
                    let broken = progress.broken() - broken;
                    if broken > 0 {
                        eprintln!("{broken} transfers failed at {told}");
                    }
                    *drawn.entry(fault.kind()).or_default() += 1;
                }
                Ok(drawn)
            })?;
            let drawn: Vec<String> = drawn
                .iter()
                .map(|(kind, times)| format!("{kind}: {times}"))
                .collect();
            Ok(format!("seed {seed}; {}", drawn.join(", ")))
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn drawn(seed: u64) -> Vec<Fault> {
        let proxies = ["proxy1", "proxy2", "proxy3", "proxy4"].map(str::to_owned);
        let balancers = ["balancer1", "balancer2"].map(str::to_owned);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..1000)
            .map(|_| Fault::draw(&mut random, &proxies, &balancers))
            .collect()
    }

    #[test]
    fn a_seed_says_it_all() {
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn all_kinds_are_drawn() {
        let kinds: BTreeSet<String> = drawn(1).iter().map(Fault::kind).collect();
        for kind in [
            "Cut 1",
            "Cut 2",
            "Kill 4",
            "Anew 4",
            "HandOver 1",
            "Freeze 2",
        ] {
            assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
        }
        for kind in ["Partition", "OneWay", "HeartbeatsLost", "Drain"] {
            assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
        }
    }

    #[test]
    fn somebody_is_left_unless_all_start_anew() {
        for fault in drawn(3) {
            if let Fault::Nodes(harm, nodes) = &fault {
                let proxies = nodes.iter().filter(|node| node.starts_with("proxy"));
                let all = matches!(harm, Harm::Kill | Harm::Anew);
                assert!(proxies.count() <= 2 || all, "{fault:?}");
            }
        }
    }
}
