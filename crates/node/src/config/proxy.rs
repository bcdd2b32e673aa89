//! `[proxy]`: options of the role.

use std::time::Duration;

use super::cluster::ClusterOptions;
use super::reader::{Item, Section};
use super::values::{boolean, integer, milliseconds, seconds};

/// Options of the proxy role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyOptions {
    /// Take the VIPs' addresses on the first interface; otherwise hold them on `lo` only.
    pub announce: bool,
    /// Flows that the kernel table holds; more are refused and counted.
    pub max_flows: u32,
    /// Requests that the kernel may decide by itself because the same bytes were decided before; the least recently used make room. 0: none.
    pub known_requests: u32,
    /// A flow without packets for so long is forgotten.
    pub flow_idle_timeout: Duration,
    /// The same after a FIN or RST was seen.
    pub closing_timeout: Duration,
    /// What has arrived of an incomplete request head is acknowledged after this time.
    pub head_ack: Duration,
    /// An incomplete request head is given to the relay after this time.
    pub head_wait: Duration,
    /// A server that does not answer a release for so long costs the flow a reset.
    pub release_timeout: Duration,
    /// Bytes of undecided requests held in all; more are dropped.
    pub max_held_bytes: u64,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            announce: true,
            max_flows: 1 << 20,
            known_requests: 1 << 16,
            flow_idle_timeout: Duration::from_secs(3600),
            closing_timeout: Duration::from_secs(30),
            head_ack: Duration::from_millis(5),
            head_wait: Duration::from_secs(10),
            release_timeout: Duration::from_millis(3000),
            max_held_bytes: 64 << 20,
        }
    }
}

/// Most flows that a kernel table may be asked to hold; its memory is some hundred bytes for each.
pub(super) const MOST_FLOWS: u32 = 1 << 26;

/// Behind balancers, which have the VIPs' addresses, a proxy does not announce them.
pub(super) fn read(section: Option<Section<'_>>, cluster: &ClusterOptions) -> ProxyOptions {
    let default = ProxyOptions {
        announce: cluster.balancers.is_empty(),
        ..ProxyOptions::default()
    };
    let Some(mut section) = section else {
        return default;
    };
    let announce = |item: &Item<'_>| match boolean(item)? {
        true if !default.announce => item.wrong(
            "the VIPs' addresses are at a [[cluster.balancer]]",
            "remove the key, or all [[cluster.balancer]]",
        ),
        announce => Some(announce),
    };
    ProxyOptions {
        announce: section.or("announce", default.announce, announce),
        max_flows: section.or("max_flows", default.max_flows, integer(1..=MOST_FLOWS)),
        known_requests: section.or(
            "known_requests",
            default.known_requests,
            integer(0..=1 << 24),
        ),
        flow_idle_timeout: section.or("flow_idle_timeout_s", default.flow_idle_timeout, seconds),
        closing_timeout: section.or("closing_timeout_s", default.closing_timeout, seconds),
        head_ack: section.or("head_ack_ms", default.head_ack, milliseconds),
        head_wait: section.or("head_wait_ms", default.head_wait, milliseconds),
        release_timeout: section.or("release_timeout_ms", default.release_timeout, milliseconds),
        max_held_bytes: section.or(
            "max_held_bytes",
            default.max_held_bytes,
            integer(65_536..=1 << 40),
        ),
    }
}
