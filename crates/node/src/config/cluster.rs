//! `[cluster]`: what is the same on all nodes.

use std::net::IpAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::outline::{Names, Outline};
use super::reader::{Item, Section};
use super::values::{integer, ip_address};

/// Most proxies of a cluster: places of the kernel's table of them.
const MOST_PROXIES: usize = 32;
/// Most balancers of a cluster.
const MOST_BALANCERS: usize = 8;

/// What is the same on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// UDP port of everything that travels between nodes.
    pub port: u16,
    /// How often a node says that it is there.
    pub heartbeat_interval: Duration,
    /// All proxies, this one included; empty: the one that there is knows no other.
    pub proxies: Vec<Peer>,
    /// All balancers.
    pub balancers: Vec<Peer>,
    /// Which other proxies have copies of a flow's entry.
    pub replicas: Replicas,
}

/// Another node, or this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its `[node]` name.
    pub name: String,
    /// Its `[node]` address.
    pub address: IpAddr,
}

/// How many other proxies have copies of a flow's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicas {
    /// All.
    All,
    /// So many: those that would own the flow next.
    Some(u8),
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            port: 6950,
            heartbeat_interval: Duration::from_millis(200),
            proxies: Vec::new(),
            balancers: Vec::new(),
            replicas: Replicas::All,
        }
    }
}

pub(super) fn read(mut section: Section<'_>, outline: &Outline<'_>) -> ClusterOptions {
    let default = ClusterOptions::default();
    let interval = |item: &Item<'_>| integer(10..=5000)(item).map(Duration::from_millis);
    ClusterOptions {
        port: section.or("port", default.port, integer(1..=u16::MAX)),
        heartbeat_interval: section.or(
            "heartbeat_interval_ms",
            default.heartbeat_interval,
            interval,
        ),
        replicas: section.or("replicas", default.replicas, replicas),
        proxies: peers(&mut section, "proxy", &outline.proxies, MOST_PROXIES),
        balancers: peers(&mut section, "balancer", &outline.balancers, MOST_BALANCERS),
    }
}

fn replicas(item: &Item<'_>) -> Option<Replicas> {
    let most = MOST_PROXIES as u8 - 1;
    match item.value() {
        DeValue::Integer(_) => integer(0..=most)(item).map(Replicas::Some),
        value if value.as_str() == Some("all") => Some(Replicas::All),
        _ => item.not(
            "a number of proxies",
            format!("write \"all\", or an integer from 0 to {most}"),
        ),
    }
}

fn peers(
    section: &mut Section<'_>,
    key: &'static str,
    names: &Names<'_>,
    most: usize,
) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    let tables = section.tables(key, &format!("[[cluster.{key}]]"));
    for (place, mut table) in tables.into_iter().enumerate() {
        let name = table.required("name", "\"node1\"", |item| names.unique(place, item));
        let address = table.required("address", "\"10.77.0.11\"", |item| {
            let address = ip_address(item)?;
            match peers.iter().find(|peer| peer.address == address) {
                Some(peer) => item.wrong(
                    format_args!("{address} is the address of \"{}\"", peer.name),
                    "give each its own address",
                ),
                None => Some(address),
            }
        });
        if place == most {
            table.problem(
                format!("more than {most} [[cluster.{key}]]"),
                "remove what is too much",
            );
        }
        peers.extend(
            name.zip(address)
                .map(|(name, address)| Peer { name, address }),
        );
    }
    peers
}
