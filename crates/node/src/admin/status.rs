//! What `/status` says: the node, its roles, the configuration in force, and what it counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use baton_policy::{Mechanism, Pool};
use serde::Serialize;

use super::metrics::Sample;
use super::registry::Registry;
use crate::config::{Config, Vip};

/// The answer of `/status`.
#[derive(Debug, Serialize)]
pub struct Status {
    node: String,
    version: &'static str,
    uptime_seconds: u64,
    ready: bool,
    /// Role: is it ready.
    roles: BTreeMap<&'static str, bool>,
    vips: Vec<VipStatus>,
    pools: Vec<PoolStatus>,
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

impl Status {
    pub(super) fn new(config: &Config, registry: &Registry, uptime: Duration) -> Self {
        let roles = registry.readiness();
        Self {
            node: config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: uptime.as_secs(),
            ready: roles.values().all(|ready| *ready),
            roles,
            vips: config.vips.iter().map(VipStatus::new).collect(),
            pools: config
                .policy
                .pools()
                .iter()
                .map(|pool| PoolStatus::new(pool, config))
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
