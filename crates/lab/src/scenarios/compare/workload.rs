//! What is asked for, and how it is measured.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;

use crate::client::{curl, url, wrk};
use crate::cluster::{Lab, SPARSE};
use crate::report::Counts;

/// The file of `keepalive` and `close`.
const SMALL: &str = "1KB";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// One download of 2 GiB
    Bulk,
    /// 1 KB again and again on 64 connections
    Keepalive,
    /// 1 KB, each on a new connection, 64 at once
    Close,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::Bulk, Self::Keepalive, Self::Close];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Keepalive => "keepalive",
            Self::Close => "close",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Bulk => "MB/s",
            Self::Keepalive | Self::Close => "requests/s",
        }
    }

    /// In this workload's unit, from the client of the lab.
    ///
    /// # Errors
    /// When a transfer fails or not all bytes arrive.
    pub(crate) fn measure(
        self,
        lab: &mut Lab,
        to: SocketAddr,
        short: bool,
        seconds: u64,
        counts: &mut Counts,
    ) -> anyhow::Result<f64> {
        match self {
            Self::Bulk => bulk(lab, to, bulk_bytes(short), counts),
            Self::Keepalive => load(lab, to, &[], seconds, counts),
            Self::Close => load(lab, to, &["Connection: close"], seconds, counts),
        }
    }
}

/// How much `bulk` downloads.
pub(crate) fn bulk_bytes(short: bool) -> u64 {
    if short { 256 << 20 } else { SPARSE.1 }
}

/// Downloads the first `bytes` of the sparse file; in MB/s. curl throws them away: a checksum would cost more than the transfer.
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

fn load(
    lab: &mut Lab,
    to: SocketAddr,
    headers: &[&str],
    seconds: u64,
    counts: &mut Counts,
) -> anyhow::Result<f64> {
    lab.content.file(SMALL)?;
    let load = wrk(
        lab,
        &url(to, &format!("/a/{SMALL}")),
        headers,
        Duration::from_secs(seconds),
    )?;
    counts.transfers += load.requests;
    counts.failed += load.failed;
    if load.failed > 0 {
        bail!("{} of {} requests failed", load.failed, load.requests);
    }
    Ok(load.requests_per_second)
}
