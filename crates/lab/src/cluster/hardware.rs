//! Hardware addresses, by which a lab's hosts know each other on its one network.

use std::net::IpAddr;

use anyhow::Context;

use super::lab::Lab;
use crate::topology::INTERFACE;

impl Lab {
    /// Of a host's interface.
    ///
    /// # Errors
    /// When there is no such host.
    pub(crate) fn hardware_address(&self, host: &str) -> anyhow::Result<[u8; 6]> {
        let text = self
            .netns(host)
            .ip(&format!("-brief link show dev {INTERFACE}"))?;
        found(&text)
            .with_context(|| format!("{INTERFACE} of {host} has no hardware address: {text}"))
    }

    /// Whom a host takes for the one that has an address.
    ///
    /// # Errors
    /// When it takes nobody.
    pub(crate) fn neighbour(&self, host: &str, address: IpAddr) -> anyhow::Result<[u8; 6]> {
        let text = self
            .netns(host)
            .ip(&format!("neighbour show {address} dev {INTERFACE}"))?;
        found(&text).with_context(|| format!("{host} knows nobody that has {address}: {text}"))
    }
}

/// The first one in a text.
fn found(text: &str) -> Option<[u8; 6]> {
    text.split_whitespace().find_map(|word| {
        let bytes: Option<Vec<u8>> = word
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        bytes?.try_into().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_among_other_words() {
        let link = "eth0@if3 UP 02:00:00:0a:ff:01 <BROADCAST,UP>";
        assert_eq!(found(link), Some([2, 0, 0, 10, 255, 1]));
        let neighbour = "fd77::10 lladdr 02:00:00:0a:ff:02 router REACHABLE";
        assert_eq!(found(neighbour), Some([2, 0, 0, 10, 255, 2]));
        assert_eq!(found("10.77.0.10 dev eth0 FAILED"), None);
    }
}
