//! How each measurement is made.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::Effort;
use super::cpu;
use super::systems::Place;
use super::workload::{Measurement, Workload};
use crate::client::{Download, Pace, curl, download, url, wrk};
use crate::cluster::{Lab, SPARSE};
use crate::report::Counts;
use crate::scenarios::matrix::{NO_EXPECT, put};
use crate::scenarios::statistics::percentile;

/// The file of `keepalive`, `close` and everything at a rate.
const SMALL: &str = "1KB";
/// The file of `bulk_50ms` and `upload_50ms`.
const LONG_PATH_FILE: (&str, u64) = ("64MiB", 64 << 20);
const LONG_PATH_FILE_SHORT: (&str, u64) = ("20MB", 20_000_000);
/// Each of `parallel`.
const PARALLEL_FILE: (&str, u64) = ("10MB", 10_000_000);
const GIGABYTE: u64 = 1_000_000_000;
/// Of `latency`: far from what any system can do.
const LATENCY_RATE: u32 = 500;
const LATENCY_CONNECTIONS: usize = 16;
/// Of `cpu_per_100k`: about a third of what the slowest system can do on two processors.
const CPU_RATE: u32 = 10_000;
const CPU_CONNECTIONS: usize = 64;

/// Makes a measurement in all its figures, in their workloads' units, from the client of the lab.
///
/// # Errors
/// When a transfer fails or not all bytes arrive.
pub(super) fn measure(
    measurement: Measurement,
    place: &mut Place<'_>,
    short: bool,
    effort: &Effort,
    counts: &mut Counts,
) -> anyhow::Result<Vec<(Workload, f64)>> {
    let to = place.first();
    let lab = &mut *place.lab;
    let duration = Duration::from_secs(effort.seconds);
    let one = |workload, value| Ok(vec![(workload, value)]);
    match measurement {
        Measurement::Bulk => one(Workload::Bulk, spread(place, bulk_bytes(short), counts)?),
        Measurement::BulkCpu => one(Workload::BulkCpu, bulk(lab, to, bulk_bytes(short), counts)?),
        Measurement::Parallel => one(Workload::Parallel, parallel(lab, to, short, counts)?),
        Measurement::Keepalive => one(Workload::Keepalive, load(lab, to, &[], duration, counts)?),
        Measurement::Close => one(
            Workload::Close,
            load(lab, to, &["Connection: close"], duration, counts)?,
        ),
        Measurement::Latency => {
            let mut pace = open(lab, to, LATENCY_CONNECTIONS)?;
            let mut times = counted(counts, || pace.run(LATENCY_RATE, duration))?;
            times.sort_unstable();
            let at = |part| {
                let time = percentile(&times, part).context("no request")?;
                anyhow::Ok(time.as_secs_f64() * 1e6)
            };
            Ok(vec![
                (Workload::LatencyP50, at(0.5)?),
                (Workload::LatencyP99, at(0.99)?),
            ])
        }
        Measurement::CpuPerGb => {
            let bytes = if short { GIGABYTE / 8 } else { GIGABYTE };
            let request = [large(to, "/a/", bytes)];
            let (_, seconds) = cpu::spent(|| arrive(lab, &request, counts))?;
            one(Workload::CpuPerGb, seconds / bytes as f64 * GIGABYTE as f64)
        }
        Measurement::CpuPer100k => {
            let mut pace = open(lab, to, CPU_CONNECTIONS)?;
            let (times, seconds) = cpu::spent(|| counted(counts, || pace.run(CPU_RATE, duration)))?;
            one(
                Workload::CpuPer100k,
                seconds / times.len() as f64 * 100_000.0,
            )
        }
        Measurement::Bulk50ms => {
            let (file, bytes) = long_path_file(short);
            lab.content.file(file)?;
            let request = [Download {
                from: to,
                path: format!("/a/{file}"),
                bytes,
            }];
            one(Workload::Bulk50ms, arrive(lab, &request, counts)?.0)
        }
        Measurement::Upload50ms => {
            let (file, bytes) = long_path_file(short);
            let answer = put(lab, counts, to, 0, file, &[NO_EXPECT])?;
            one(Workload::Upload50ms, bytes as f64 / 1e6 / answer.seconds)
        }
        Measurement::IdleMemory => bail!("needs labs of its own"),
    }
}

fn long_path_file(short: bool) -> (&'static str, u64) {
    if short {
        LONG_PATH_FILE_SHORT
    } else {
        LONG_PATH_FILE
    }
}

/// How much `bulk` downloads.
pub(crate) fn bulk_bytes(short: bool) -> u64 {
    if short { 256 << 20 } else { SPARSE.1 }
}

/// Four downloads at once, from all back ends, `bytes` in all; in MB/s.
fn spread(place: &Place<'_>, bytes: u64, counts: &mut Counts) -> anyhow::Result<f64> {
    let backends = place.lab.topology.backends().len();
    let from = place.addresses.iter().cycle().take(backends);
    let downloads: Vec<Download> = from
        .map(|&from| large(from, "/", bytes / backends as u64))
        .collect();
    let (speed, mut servers) = arrive(place.lab, &downloads, counts)?;
    servers.sort_unstable();
    servers.dedup();
    ensure!(
        servers.len() == backends,
        "only {} of {backends} back ends were asked",
        servers.join(", ")
    );
    Ok(speed)
}

/// One download of the first `bytes` of the sparse file by curl, as a user would make it; in MB/s. curl throws them away: a checksum would
/// cost more than the transfer.
///
/// # Errors
/// When the transfer fails or not all bytes arrive.
pub(crate) fn bulk(
    lab: &Lab,
    from: SocketAddr,
    bytes: u64,
    counts: &mut Counts,
) -> anyhow::Result<f64> {
    counts.transfers += 1;
    let url = url(from, &format!("/a/{}", SPARSE.0));
    let range = format!("0-{}", bytes - 1);
    let answer = curl(lab, &url, &["-r", &range, "-o", "/dev/null"]);
    let answer = answer.inspect_err(|_| counts.failed += 1)?;
    if answer.status != 206 {
        counts.failed += 1;
        bail!("status {}", answer.status);
    }
    if answer.bytes != bytes {
        counts.wrong_bytes += 1;
        bail!("{} bytes instead of {bytes}", answer.bytes);
    }
    Ok(bytes as f64 / 1e6 / answer.seconds)
}

fn parallel(
    lab: &mut Lab,
    from: SocketAddr,
    short: bool,
    counts: &mut Counts,
) -> anyhow::Result<f64> {
    let (file, bytes) = PARALLEL_FILE;
    lab.content.file(file)?;
    let download = Download {
        from,
        path: format!("/a/{file}"),
        bytes,
    };
    let downloads = vec![download; if short { 20 } else { 100 }];
    Ok(arrive(lab, &downloads, counts)?.0)
}

fn large(from: SocketAddr, prefix: &str, bytes: u64) -> Download {
    Download {
        from,
        path: format!("{prefix}{}", SPARSE.0),
        bytes,
    }
}

/// MB/s over all downloads, and who answered them.
fn arrive(
    lab: &Lab,
    downloads: &[Download],
    counts: &mut Counts,
) -> anyhow::Result<(f64, Vec<String>)> {
    counts.transfers += downloads.len() as u64;
    let arrived = download(lab, downloads).inspect_err(|_| counts.failed += 1)?;
    Ok((
        arrived.bytes as f64 / 1e6 / arrived.seconds,
        arrived.servers,
    ))
}

fn open(lab: &mut Lab, to: SocketAddr, connections: usize) -> anyhow::Result<Pace> {
    lab.content.file(SMALL)?;
    Pace::open(lab, to, &format!("/a/{SMALL}"), connections)
}

fn counted(
    counts: &mut Counts,
    run: impl FnOnce() -> anyhow::Result<Vec<Duration>>,
) -> anyhow::Result<Vec<Duration>> {
    let times = run().inspect_err(|_| counts.failed += 1)?;
    counts.transfers += times.len() as u64;
    Ok(times)
}

fn load(
    lab: &mut Lab,
    to: SocketAddr,
    headers: &[&str],
    duration: Duration,
    counts: &mut Counts,
) -> anyhow::Result<f64> {
    lab.content.file(SMALL)?;
    let load = wrk(lab, &url(to, &format!("/a/{SMALL}")), headers, duration)?;
    counts.transfers += load.requests;
    counts.failed += load.failed;
    if load.failed > 0 {
        bail!("{} of {} requests failed", load.failed, load.requests);
    }
    Ok(load.requests_per_second)
}
