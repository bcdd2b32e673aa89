//! The configuration's secrets as the kernel programs and the messages need them.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use baton_kernel::{Clock, Settings};
use baton_wire::Secrets;

use crate::config::Config;

/// The cluster's secrets; a role that hands flows off has them.
pub(crate) fn secrets(config: &Config) -> Result<Secrets> {
    config.node.secrets.context("[node] secret_file is missing")
}

/// What the programs are told: keys, this node's address, the clock.
pub(crate) fn settings(config: &Config, clock: Clock) -> Result<Settings> {
    let secrets = secrets(config)?;
    let previous = secrets.previous.unwrap_or(secrets.current);
    Ok(Settings {
        message_keys: [secrets.current.message, previous.message].map(|key| *key.bytes()),
        cookie_keys: [secrets.current.cookie, previous.cookie],
        address: address(config)?,
        clock,
        answers_by_route: config.cluster.proxies.len() > 1 || !config.cluster.balancers.is_empty(),
    })
}

/// The numbers of this node's interfaces.
pub(crate) fn interfaces(config: &Config) -> Result<Vec<u32>> {
    let names = config.node.interfaces.iter();
    Ok(names
        .map(|name| baton_kernel::interface_index(name))
        .collect::<baton_kernel::Result<_>>()?)
}

/// Where other nodes reach this one.
pub(crate) fn address(config: &Config) -> Result<SocketAddr> {
    let address = config.node.address.context("[node] address is missing")?;
    Ok(SocketAddr::new(address, config.cluster.port))
}
