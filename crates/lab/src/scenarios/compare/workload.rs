//! What is compared: the names that the figures have, and what is done for them where.

use std::time::Duration;

use crate::cluster::Options;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    Bulk,
    BulkCpu,
    Parallel,
    Keepalive,
    Close,
    LatencyP50,
    LatencyP99,
    CpuPerGb,
    CpuPer100k,
    IdleMemory,
    IdleMemoryUnused,
    Bulk50ms,
    Upload50ms,
}

/// What is done; some things give two figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measurement {
    Bulk,
    BulkCpu,
    Parallel,
    Keepalive,
    Close,
    Latency,
    CpuPerGb,
    CpuPer100k,
    IdleMemory,
    Bulk50ms,
    Upload50ms,
}

/// The labs where things are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// Cables without a rate: the processors are the limit.
    Lan,
    /// Cables with a rate that the processors carry with ease, the client's a multiple of the others'; four back ends.
    Links,
    /// A round trip of 50 ms to the client.
    LongPath,
    /// Enough back ends for 100,000 connections.
    Crowd,
}

impl Workload {
    pub(crate) const ALL: [Self; 13] = [
        Self::Bulk,
        Self::BulkCpu,
        Self::Parallel,
        Self::Keepalive,
        Self::Close,
        Self::LatencyP50,
        Self::LatencyP99,
        Self::CpuPerGb,
        Self::CpuPer100k,
        Self::IdleMemory,
        Self::IdleMemoryUnused,
        Self::Bulk50ms,
        Self::Upload50ms,
    ];

    /// By its name, as a command line has it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| format!("there are {}", Self::ALL.map(Self::name).join(", ")))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::BulkCpu => "bulk_cpu",
            Self::Parallel => "parallel",
            Self::Keepalive => "keepalive",
            Self::Close => "close",
            Self::LatencyP50 => "latency_p50",
            Self::LatencyP99 => "latency_p99",
            Self::CpuPerGb => "cpu_per_gb",
            Self::CpuPer100k => "cpu_per_100k",
            Self::IdleMemory => "idle_memory",
            Self::IdleMemoryUnused => "idle_memory_unused",
            Self::Bulk50ms => "bulk_50ms",
            Self::Upload50ms => "upload_50ms",
        }
    }

    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Bulk | Self::BulkCpu | Self::Parallel | Self::Bulk50ms | Self::Upload50ms => {
                "MB/s"
            }
            Self::Keepalive | Self::Close => "requests/s",
            Self::LatencyP50 | Self::LatencyP99 => "us",
            Self::CpuPerGb | Self::CpuPer100k => "CPU seconds",
            Self::IdleMemory | Self::IdleMemoryUnused => "bytes",
        }
    }

    pub(super) fn measurement(self) -> Measurement {
        match self {
            Self::Bulk => Measurement::Bulk,
            Self::BulkCpu => Measurement::BulkCpu,
            Self::Parallel => Measurement::Parallel,
            Self::Keepalive => Measurement::Keepalive,
            Self::Close => Measurement::Close,
            Self::LatencyP50 | Self::LatencyP99 => Measurement::Latency,
            Self::CpuPerGb => Measurement::CpuPerGb,
            Self::CpuPer100k => Measurement::CpuPer100k,
            Self::IdleMemory | Self::IdleMemoryUnused => Measurement::IdleMemory,
            Self::Bulk50ms => Measurement::Bulk50ms,
            Self::Upload50ms => Measurement::Upload50ms,
        }
    }
}

impl Measurement {
    pub(super) fn ground(self) -> Ground {
        match self {
            Self::Bulk | Self::CpuPerGb => Ground::Links,
            Self::BulkCpu
            | Self::Parallel
            | Self::Keepalive
            | Self::Close
            | Self::Latency
            | Self::CpuPer100k => Ground::Lan,
            Self::Bulk50ms | Self::Upload50ms => Ground::LongPath,
            Self::IdleMemory => Ground::Crowd,
        }
    }
}

/// Of each node's cable in `Links`, and of the client's; both directions.
const LINK_RATE: u64 = 1_000_000_000;
const CLIENT_LINK_RATE: u64 = 10_000_000_000;
/// One way in `LongPath`.
const LONG_DELAY: Duration = Duration::from_millis(25);
/// So that no process needs more than 20,000 file descriptors, a usual limit.
const CROWD_BACKENDS: u8 = 8;

impl Ground {
    pub(super) const ALL: [Self; 4] = [Self::Links, Self::Lan, Self::LongPath, Self::Crowd];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Links => "links",
            Self::LongPath => "50ms",
            Self::Crowd => "crowd",
        }
    }

    /// What was asked for, made into this ground. What a ground is about stays as the command line has it, if it says so.
    pub(super) fn options(self, asked: &Options) -> Options {
        let mut options = asked.clone();
        options.measured = true;
        match self {
            Self::Lan => {}
            Self::Links => {
                options.backends = options.backends.max(4);
                if options.link_rate.is_none() {
                    options.link_rate = Some(LINK_RATE);
                    options.client_link_rate.get_or_insert(CLIENT_LINK_RATE);
                }
            }
            Self::LongPath => {
                if options.faults.delay.is_zero() {
                    options.faults.delay = LONG_DELAY;
                }
            }
            Self::Crowd => options.backends = options.backends.max(CROWD_BACKENDS),
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        for workload in Workload::ALL {
            assert_eq!(Workload::named(workload.name()), Ok(workload));
        }
        assert!(
            Workload::named("nothing")
                .unwrap_err()
                .contains("cpu_per_100k")
        );
    }
}
