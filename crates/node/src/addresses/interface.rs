//! An interface of this machine.

use anyhow::{Context as _, Result};
use nix::ifaddrs::getifaddrs;

/// What frames of our own need of it.
#[derive(Debug, Clone)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) link_address: [u8; 6],
}

impl Interface {
    /// The interface of that name of the present network namespace.
    pub(crate) fn of(name: &str) -> Result<Interface> {
        let link = getifaddrs()?
            .filter(|entry| entry.interface_name == name)
            .find_map(|entry| entry.address?.as_link_addr()?.addr());
        Ok(Interface {
            name: name.to_owned(),
            index: baton_kernel::interface_index(name)?,
            link_address: link.with_context(|| format!("{name} has no link-layer address"))?,
        })
    }
}
