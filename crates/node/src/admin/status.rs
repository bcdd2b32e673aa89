//! What `/status` says: the node, its roles, the configuration in force, and what it counts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use baton_policy::{Mechanism, Pool};
use baton_wire::Role;
use serde::Serialize;

use super::metrics::Sample;
use super::registry::Registry;
use crate::config::{Config, Server, Vip};
use crate::duty::Duty;
use crate::health::{Health, Use, Why};
use crate::roll::{Called, Part, Seen};

/// The answer of `/status`.
#[derive(Debug, Serialize)]
pub struct Status {
    node: String,
    version: &'static str,
    uptime_seconds: u64,
    ready: bool,
    /// Its operator gives it nothing new.
    draining: bool,
    /// Role: is it ready.
    roles: BTreeMap<&'static str, bool>,
    vips: Vec<VipStatus>,
    pools: Vec<PoolStatus>,
    /// Those that have an agent, as a proxy knows them.
    servers: Vec<ServerStatus>,
    /// What this proxy decides; null: it is no proxy.
    part: Option<Part>,
    /// The nodes whose heartbeats this one waits for or hears, as it sees them.
    nodes: Vec<NodeStatus>,
    metrics: Vec<Sample>,
}

#[derive(Debug, Serialize)]
struct VipStatus {
    name: String,
    addresses: Vec<SocketAddr>,
    handoff: bool,
}

#[derive(Debug, Serialize)]
struct PoolStatus {
    name: String,
    mechanism: &'static str,
    /// Server: weight.
    servers: BTreeMap<String, u32>,
}

#[derive(Debug, Serialize)]
struct ServerStatus {
    name: String,
    address: IpAddr,
    /// `usable`; `relay_only`: it cannot adopt flows; `drained`; `out`.
    state: &'static str,
    reason: Option<String>,
    /// What its kernel takes over of a handshake.
    takes_over: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct NodeStatus {
    /// As the configuration calls it; its address, if it does not.
    name: String,
    address: IpAddr,
    role: Option<&'static str>,
    /// `live`, or what it is instead.
    state: &'static str,
    heard_ms_ago: Option<u64>,
    /// What it says is free of its own capacity.
    available_per_mille: Option<u16>,
    /// Whether its configuration of the cluster is this node's.
    same_configuration: Option<bool>,
}

impl Status {
    pub(super) fn new(
        config: &Config,
        registry: &Registry,
        health: &Health,
        roll: &Called,
        duty: &Duty,
        uptime: Duration,
    ) -> Self {
        let roles = registry.readiness();
        Self {
            node: config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: uptime.as_secs(),
            ready: roles.values().all(|ready| *ready),
            draining: duty.is_draining(),
            roles,
            vips: config.vips.iter().map(VipStatus::new).collect(),
            pools: config
                .policy
                .pools()
                .iter()
                .map(|pool| PoolStatus::new(pool, config))
                .collect(),
            servers: ServerStatus::all(config, health),
            part: roll.part,
            nodes: roll
                .nodes
                .iter()
                .map(|(address, seen)| NodeStatus::new(*address, seen, config))
                .collect(),
            metrics: registry.samples(),
        }
    }
}

impl VipStatus {
    fn new(vip: &Vip) -> Self {
        Self {
            name: vip.name.clone(),
            addresses: vip.addresses.clone(),
            handoff: vip.handoff,
        }
    }
}

impl ServerStatus {
    fn all(config: &Config, health: &Health) -> Vec<Self> {
        let known = config.servers.iter().filter_map(|server| {
            let address = server.address.filter(|node| health.knows(*node))?;
            Some((server, address))
        });
        known
            .map(|(server, address)| Self::new(server, address, health))
            .collect()
    }

    fn new(server: &Server, address: IpAddr, health: &Health) -> Self {
        let used = health.of_all(address);
        let accepts = health.accepts(address);
        let options = [
            (accepts.timestamps, "timestamps"),
            (accepts.sack, "sack"),
            (accepts.window_scaling, "window_scaling"),
        ];
        Self {
            name: server.name.to_string(),
            address,
            state: match used {
                Use::Handoff => "usable",
                Use::Relay(_) => "relay_only",
                Use::Nothing(Why::Draining) => "drained",
                Use::Nothing(_) => "out",
            },
            reason: used.why().map(|why| why.to_string()),
            takes_over: options
                .iter()
                .filter(|(on, _)| *on)
                .map(|(_, name)| *name)
                .collect(),
        }
    }
}

impl NodeStatus {
    fn new(address: IpAddr, seen: &Seen, config: &Config) -> Self {
        let said = seen.said.as_ref();
        let heard_role = said.map(|said| match said.role {
            Role::Proxy => "proxy",
            Role::Backend => "backend",
            Role::Balancer => "balancer",
        });
        let known = config.name_of(address);
        Self {
            name: known.map_or_else(|| address.to_string(), |(name, _)| name.to_owned()),
            address,
            role: heard_role.or(known.map(|(_, role)| role)),
            state: seen.state(),
            heard_ms_ago: seen.silent.map(|silent| silent.as_millis() as u64),
            available_per_mille: said.map(|said| said.workload),
            same_configuration: said.map(|said| said.digest == config.digest),
        }
    }
}

impl PoolStatus {
    fn new(pool: &Pool, config: &Config) -> Self {
        let servers = pool.members().iter().filter_map(|member| {
            let server = config.servers.get(usize::from(member.server.0))?;
            Some((server.name.to_string(), member.weight))
        });
        Self {
            name: pool.name().to_owned(),
            mechanism: match pool.mechanism() {
                Mechanism::Handoff => "handoff",
                Mechanism::Relay => "relay",
            },
            servers: servers.collect(),
        }
    }
}
