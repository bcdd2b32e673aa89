//! What it costs that no proxy is missed: several proxies that tell each other of their flows, against one that has nobody to tell.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::compare::Memory;
use super::faults::{noticed, whole};
use super::site::{ALL_ON, Site};
use super::statistics::percentile;
use super::{SERVERS, Setting};
use crate::client::{Connection, Crowd, Expected, Pace, Request, url, wrk};
use crate::cluster::{Lab, POOLS, requirements, wait_until};
use crate::impair::Way;
use crate::impair::frame::{datagram, source};
use crate::report::{Counts, Recorder};

/// Numbers of proxies, all behind one balancer.
const PROXIES: [u8; 3] = [1, 2, 4];
/// Of the most proxies.
const TAPPED: [&str; 4] = ["proxy1", "proxy2", "proxy3", "proxy4"];
/// Where nodes hear each other (docs/wire.md).
const CLUSTER_PORT: u16 = 6950;
/// What goes before a datagram's payload on the wire: Ethernet, IPv4, UDP.
const OVERHEAD: u64 = 14 + 20 + 8;
/// Requests a second, while control bytes are counted.
const RATE: u32 = 300;
const CONNECTIONS: usize = 16;
/// Of two proxies.
const STAYS: &str = "proxy1";
const JOINS: &str = "proxy2";
const TAKEN: &str = "baton_replicas_total{outcome=\"taken\"}";
const PATIENCE: Duration = Duration::from_mins(2);
/// After this time nobody is still busy with what came last.
const SETTLE: Duration = Duration::from_secs(2);

struct Effort {
    rounds: usize,
    duration: Duration,
    requests: usize,
}

/// # Errors
/// When interrupted, or wrk is missing.
pub(crate) fn run(recorder: &mut Recorder, setting: &Setting<'_>) -> anyhow::Result<()> {
    requirements::require("wrk", "wrk")?;
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: the figures mean nothing");
    }
    let (rounds, seconds, requests) = if setting.short {
        (2, 1, 300)
    } else {
        (5, 5, 2000)
    };
    let effort = Effort {
        rounds,
        duration: Duration::from_secs(seconds),
        requests,
    };
    let mut sites: Vec<(u8, Site<'_>)> = PROXIES
        .into_iter()
        .map(|proxies| (proxies, site(setting, proxies, &[])))
        .collect();
    rates(recorder, &mut sites, &effort)?;
    latencies(recorder, &mut sites, &effort)?;
    drop(sites);
    control_bytes(recorder, setting, &effort)?;
    joining(
        recorder,
        setting,
        if setting.short { 5_000 } else { 50_000 },
    )
}

fn site<'a>(setting: &Setting<'a>, proxies: u8, tapped: &'static [&'static str]) -> Site<'a> {
    let mut options = setting.options.clone();
    (options.proxies, options.balancers) = (proxies, 1);
    options.measured = true;
    options.tapped = tapped;
    Site::new(options, setting.baton)
}

fn name(proxies: u8) -> String {
    match proxies {
        1 => "1".to_owned(),
        several => format!("{several}_replicated"),
    }
}

/// Requests a second on kept connections, and new connections a second; alternating.
fn rates(
    recorder: &mut Recorder,
    sites: &mut [(u8, Site<'_>)],
    effort: &Effort,
) -> anyhow::Result<()> {
    for (workload, headers) in [("keepalive", &[][..]), ("close", &["Connection: close"])] {
        let mut values = vec![Vec::new(); sites.len()];
        for round in 0..effort.rounds {
            for ((proxies, site), values) in sites.iter_mut().zip(&mut values) {
                let case = format!("10/{workload}/{proxies}/{round}");
                recorder.case(&case, |counts| {
                    let lab = site.lab(ALL_ON)?;
                    whole(lab)?;
                    lab.content.file("1KB")?;
                    let load = wrk(lab, &url(lab.vip(), "/a/1KB"), headers, effort.duration)?;
                    counts.transfers += load.requests;
                    counts.failed += load.failed;
                    values.push(load.requests_per_second);
                    Ok(format!("{:.0} a second", load.requests_per_second))
                })?;
            }
        }
        for ((proxies, _), values) in sites.iter().zip(&values) {
            recorder.figure(workload, &name(*proxies), values, "1/s");
        }
        for (proxies, _) in &sites[1..] {
            recorder.ratio(workload, &name(*proxies), "1");
        }
    }
    Ok(())
}

/// What a request takes that stays where it is, and what one takes that moves.
fn latencies(
    recorder: &mut Recorder,
    sites: &mut [(u8, Site<'_>)],
    effort: &Effort,
) -> anyhow::Result<()> {
    let mut stays = Vec::new();
    let last = sites.len() - 1;
    for (number, (proxies, site)) in sites.iter_mut().enumerate() {
        let mut moves = None;
        recorder.case(&format!("10/latency/{proxies}"), |counts| {
            let lab = site.lab(ALL_ON)?;
            let stay = asked(lab, counts, effort.requests, 1)?;
            let moved = asked(lab, counts, effort.requests, POOLS.len())?;
            let told = format!(
                "p50 {:.0} us if it stays, {:.0} us if it moves; p99 {:.0} us, {:.0} us",
                stay.0, moved.0, stay.1, moved.1
            );
            stays.push(stay);
            moves = Some((moved.0 - stay.0, moved.1 - stay.1));
            Ok(told)
        })?;
        if let Some((p50, p99)) = moves.filter(|_| number == last) {
            recorder.sole_figure("move_p50", p50, "us");
            recorder.sole_figure("move_p99", p99, "us");
        }
    }
    if let ([one, .., most], true) = (&stays[..], stays.len() == sites.len()) {
        recorder.sole_figure("replication_p50", most.0 - one.0, "us");
        recorder.sole_figure("replication_p99", most.1 - one.1, "us");
    }
    Ok(())
}

/// Requests on one connection, over so many servers; the times' 50th and 99th percentile (us). No two requests are the same: each is decided in
/// user space.
fn asked(
    lab: &mut Lab,
    counts: &mut Counts,
    requests: usize,
    servers: usize,
) -> anyhow::Result<(f64, f64)> {
    let file = lab.content.file("1KB")?;
    let mut connection = Connection::to_vip(lab)?;
    let mut times = Vec::new();
    for number in 0..requests {
        let server = number % servers;
        let path = format!("/{}/1KB?{servers}-{number}", POOLS[server]);
        let answer = connection.ask(&Request::new("GET", path));
        let answer = counts.check(answer, &Expected::file(SERVERS[server], &file))?;
        times.push(answer.seconds * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let at = |part| percentile(&times, part).context("no request");
    Ok((at(0.5)?, at(0.99)?))
}

/// Bytes between nodes for each request, without those that flow when nobody asks anything.
fn control_bytes(
    recorder: &mut Recorder,
    setting: &Setting<'_>,
    effort: &Effort,
) -> anyhow::Result<()> {
    let mut bytes = None;
    recorder.case("10/control-bytes", |counts| {
        let mut site = site(setting, PROXIES[PROXIES.len() - 1], &TAPPED);
        let lab = site.lab(ALL_ON)?;
        whole(lab)?;
        lab.content.file("1KB")?;
        let mut pace = Pace::open(lab, lab.vip(), "/a/1KB", CONNECTIONS)?;
        let (idle, seconds) = carried(lab, || {
            thread::sleep(effort.duration);
            Ok(())
        })?;
        let mut requests = 0;
        let (busy, took) = carried(lab, || {
            requests = pace.run(RATE, effort.duration)?.len() as u64;
            Ok(())
        })?;
        counts.transfers += requests;
        let idle = idle / seconds;
        let each = ((busy - idle * took) / requests as f64).max(0.0);
        bytes = Some(each);
        Ok(format!(
            "{each:.0} bytes for each of {requests} requests, beside {:.1} kB/s of heartbeats",
            idle / 1e3
        ))
    })?;
    if let Some(bytes) = bytes {
        recorder.sole_figure("control_bytes_per_request", bytes, "B");
    }
    Ok(())
}

/// A proxy starts with nothing while the other one knows many flows.
fn joining(recorder: &mut Recorder, setting: &Setting<'_>, flows: usize) -> anyhow::Result<()> {
    if setting.options.ipv6 {
        return Ok(());
    }
    let mut figures = None;
    recorder.case("10/joining", |counts| {
        let mut site = site(setting, 2, &[]);
        let lab = site.lab(ALL_ON)?;
        whole(lab)?;
        lab.content.file("0B")?;
        let SocketAddr::V4(to) = lab.vip() else {
            bail!("the crowd speaks IPv4");
        };
        let number = flows as u64;
        let mut crowd = Crowd::gather(lab, "balancer1", to, "/0B", flows)?;
        crowd.connect()?;
        let before = Memory::of(lab, STAYS, number)?;
        counts.transfers += number;
        crowd.ask()?;
        crowd.be_silent(SETTLE)?;
        let growth = Memory::of(lab, STAYS, number)?.growth(&before, number);
        lab.kill_node(JOINS)?;
        lab.detach(JOINS)?;
        noticed(lab, &[JOINS])?;
        lab.launch(JOINS)?;
        lab.ready(JOINS)?;
        let taken = || lab.counter(JOINS, TAKEN);
        wait_until("it takes entries in", PATIENCE, || Ok(taken()? > 0))?;
        let (start, first) = (Instant::now(), taken()?);
        wait_until("it has taken all in", PATIENCE, || Ok(taken()? >= number))?;
        let speed = (number - first) as f64 / start.elapsed().as_secs_f64();
        let entry = growth.programs + growth.tables;
        figures = Some((speed, entry));
        Ok(format!(
            "{speed:.0} entries a second; {entry:.0} bytes an entry"
        ))
    })?;
    if let Some((speed, entry)) = figures {
        recorder.sole_figure("joining_entries", speed, "1/s");
        recorder.sole_figure("entry_bytes", entry, "B");
    }
    Ok(())
}

/// Bytes of messages between nodes on the proxies' cables while `act` runs, each message once, and how long that was (s).
fn carried(lab: &Lab, act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<(f64, f64)> {
    let proxies = lab.topology.proxies();
    let own: BTreeSet<[u8; 6]> = proxies
        .iter()
        .map(|proxy| lab.hardware_address(&proxy.name))
        .collect::<anyhow::Result<_>>()?;
    let bytes = Arc::new(AtomicU64::new(0));
    let rules = proxies.iter().map(|proxy| {
        let (bytes, own) = (Arc::clone(&bytes), own.clone());
        let rule = move |way, frame: &[u8]| {
            let length = datagram(frame, CLUSTER_PORT)?.len() as u64 + OVERHEAD;
            if way == Way::FromHost || !own.contains(&source(frame)?) {
                bytes.fetch_add(length, Ordering::Relaxed);
            }
            None
        };
        Ok(lab.tap(&proxy.name)?.rule(rule))
    });
    let ruled: Vec<_> = rules.collect::<anyhow::Result<_>>()?;
    let start = Instant::now();
    act()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(ruled);
    Ok((bytes.load(Ordering::Relaxed) as f64, seconds))
}
