//! 5.6: cables that carry some frames and not others. The proxies' cables are tapped.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::load::{MIXED, under_load};
use super::nodes::{live, names, noticed, whole};
use crate::cluster::Lab;
use crate::impair::frame::{datagram, source};
use crate::impair::{Fate, Ruled, Way};
use crate::report::Counts;

/// Where nodes hear each other, and the kind of message that says so (docs/wire.md).
const CLUSTER_PORT: u16 = 6950;
const HEARTBEAT: u8 = 6;
/// Part of the heartbeats that is lost.
const LOST: f64 = 0.2;

/// Two halves of the proxies do not hear each other, though all else hears all of them.
pub(super) fn partition(
    lab: &mut Lab,
    counts: &mut Counts,
    seed: u64,
    duration: Duration,
) -> anyhow::Result<String> {
    let proxies = names(&lab.topology.proxies());
    let (first, second) = proxies.split_at(proxies.len() / 2);
    under_load(lab, counts, &MIXED, seed, |lab, progress| {
        let start = Instant::now();
        let parted = parted(lab, first, second)?;
        progress.goes_on()?;
        thread::sleep(duration.saturating_sub(start.elapsed()));
        drop(parted);
        whole(lab)?;
        progress.goes_on()
    })?;
    Ok(format!(
        "{first:?} and {second:?} did not hear each other for {} s",
        duration.as_secs()
    ))
}

/// A proxy hears nobody, and is heard; or is not heard, and hears everybody.
pub(super) fn one_way(
    lab: &mut Lab,
    counts: &mut Counts,
    seed: u64,
    way: Way,
) -> anyhow::Result<String> {
    let proxy = "proxy1";
    under_load(lab, counts, &MIXED, seed, |lab, progress| {
        let deaf = lab
            .tap(proxy)?
            .rule(move |going, _| (going == way).then_some(Fate::LOST));
        if way == Way::FromHost {
            noticed(lab, &[proxy])?;
        } else {
            thread::sleep(Duration::from_secs(2));
        }
        progress.goes_on()?;
        drop(deaf);
        whole(lab)?;
        progress.goes_on()
    })?;
    Ok(format!("{proxy}'s cable carried nothing {way:?}"))
}

/// A fifth of all heartbeats of proxies is lost.
pub(super) fn heartbeats_lost(
    lab: &mut Lab,
    counts: &mut Counts,
    seed: u64,
    duration: Duration,
) -> anyhow::Result<String> {
    let proxies = names(&lab.topology.proxies());
    let alarms = under_load(lab, counts, &MIXED, seed, |lab, progress| {
        let lossy = lossy(lab, &proxies, seed)?;
        let (start, mut alarms) = (Instant::now(), 0);
        while start.elapsed() < duration {
            alarms += not_live(lab, &proxies)?;
            thread::sleep(Duration::from_millis(500));
        }
        drop(lossy);
        whole(lab)?;
        progress.goes_on()?;
        Ok(alarms)
    })?;
    Ok(format!(
        "for {} s; {alarms} times somebody was taken for gone when it was looked",
        duration.as_secs()
    ))
}

/// A proxy's program stands still: what others tell it fills its queue.
pub(super) fn stands_still(
    lab: &mut Lab,
    counts: &mut Counts,
    seed: u64,
    duration: Duration,
) -> anyhow::Result<String> {
    let proxy = "proxy2";
    under_load(lab, counts, &MIXED, seed, |lab, progress| {
        let start = Instant::now();
        lab.freeze_node(proxy)?;
        noticed(lab, &[proxy])?;
        progress.goes_on()?;
        thread::sleep(duration.saturating_sub(start.elapsed()));
        lab.thaw_node(proxy)?;
        whole(lab)?;
        progress.goes_on()
    })?;
    Ok(format!(
        "{proxy}'s program stood still for {} s",
        duration.as_secs()
    ))
}

/// Frames from one side to the other are lost at the cables of the first.
pub(super) fn parted(lab: &Lab, first: &[String], second: &[String]) -> anyhow::Result<Vec<Ruled>> {
    let addresses = |hosts: &[String]| -> anyhow::Result<BTreeSet<[u8; 6]>> {
        hosts
            .iter()
            .map(|host| lab.hardware_address(host))
            .collect()
    };
    let (first_side, second_side) = (addresses(first)?, addresses(second)?);
    let all = first.iter().map(|host| (host, &second_side));
    let all = all.chain(second.iter().map(|host| (host, &first_side)));
    let rules = all.map(|(host, others)| {
        let others = others.clone();
        let rule = move |way, frame: &[u8]| {
            let other = way == Way::ToHost && others.contains(&source(frame)?);
            other.then_some(Fate::LOST)
        };
        Ok(lab.tap(host)?.rule(rule))
    });
    let ruled: anyhow::Result<Vec<Ruled>> = rules.collect();
    let ruled = ruled?;
    ensure!(!ruled.is_empty(), "nobody is parted");
    Ok(ruled)
}

/// A fifth of the heartbeats from and to these hosts is lost.
pub(super) fn lossy(lab: &Lab, hosts: &[String], seed: u64) -> anyhow::Result<Vec<Ruled>> {
    let rules = hosts.iter().enumerate().map(|(number, host)| {
        let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(number as u64));
        let rule = move |_, frame: &[u8]| {
            let heartbeat = *datagram(frame, CLUSTER_PORT)?.get(3)? == HEARTBEAT;
            (heartbeat && random.random_bool(LOST)).then_some(Fate::LOST)
        };
        Ok(lab.tap(host)?.rule(rule))
    });
    rules.collect()
}

/// How many of these nodes some node does not take for live.
fn not_live(lab: &Lab, proxies: &[String]) -> anyhow::Result<usize> {
    let mut not = 0;
    for proxy in proxies {
        not += proxies.len().saturating_sub(live(lab, proxy)? as usize);
    }
    Ok(not)
}
