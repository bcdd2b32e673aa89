//! The switch and the cables: veth pairs from each host's `eth0` into a bridge in a namespace of its own.
//!
//! ```text
//! host                     switch
//! eth0 ------------------- v-HOST (bridge br0)                    a plain cable
//! eth0 ----- i-HOST [impairment] j-HOST ----- v-HOST (bridge br0)  a cable with faults
//! ```

use crate::command;
use crate::netns::Netns;
use crate::topology::{Host, INTERFACE};

/// Makes the bridge.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn make_switch(switch: &Netns) -> anyhow::Result<()> {
    // The switch says nothing itself: no addresses, no neighbour discovery, no multicast groups to learn first.
    switch.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
    switch.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    switch.ip("link add br0 type bridge stp_state 0 mcast_snooping 0")?;
    switch.ip("link set br0 up")?;
    Ok(())
}

/// The two interfaces in the switch's namespace between which an impairment forwards: the host's side and the bridge's side.
pub(crate) struct Gap {
    pub(crate) host_side: String,
    pub(crate) bridge_side: String,
}

/// Plugs a host into the switch and gives it its addresses. With `gap` the cable is cut in the middle; somebody must forward.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn plug(
    switch: &Netns,
    netns: &Netns,
    host: &Host,
    gap: bool,
) -> anyhow::Result<Option<Gap>> {
    let port = format!("v-{}", host.name);
    let gap = if gap {
        let gap = Gap {
            host_side: format!("i-{}", host.name),
            bridge_side: format!("j-{}", host.name),
        };
        netns.ip(&format!(
            "link add {INTERFACE} type veth peer name {} netns {}",
            gap.host_side,
            switch.name()
        ))?;
        switch.ip(&format!(
            "link add {port} type veth peer name {}",
            gap.bridge_side
        ))?;
        // Raw frames carry no promise to segment them or to fill in their checksum later.
        no_offload(netns, INTERFACE)?;
        for interface in [&gap.host_side, &gap.bridge_side, &port] {
            no_offload(switch, interface)?;
        }
        switch.ip(&format!("link set {} up", gap.host_side))?;
        switch.ip(&format!("link set {} up", gap.bridge_side))?;
        Some(gap)
    } else {
        netns.ip(&format!(
            "link add {INTERFACE} type veth peer name {port} netns {}",
            switch.name()
        ))?;
        None
    };
    switch.ip(&format!("link set {port} master br0 up"))?;
    // While duplicate address detection holds the link-local address back, for a second, no neighbour is asked for.
    netns.sysctl(&format!("net.ipv6.conf.{INTERFACE}.accept_dad"), "0")?;
    netns.ip(&format!("address add {}/24 dev {INTERFACE}", host.v4()))?;
    netns.ip(&format!(
        "address add {}/64 dev {INTERFACE} nodad",
        host.v6()
    ))?;
    netns.ip("link set lo up")?;
    netns.ip(&format!("link set {INTERFACE} up"))?;
    Ok(gap)
}

/// Limits both directions of a host's cable to `rate` bits a second.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn limit_rate(
    switch: &Netns,
    netns: &Netns,
    host: &Host,
    rate: u64,
) -> anyhow::Result<()> {
    // The bucket holds a largest segment-offload packet, or what flows in a timer tick of 4 ms.
    let burst = (rate / 8 / 250).max(66_000);
    for (netns, interface) in [
        (netns, INTERFACE.to_owned()),
        (switch, format!("v-{}", host.name)),
    ] {
        let limit = format!(
            "qdisc replace dev {interface} root tbf rate {rate}bit burst {burst} latency 50ms"
        );
        command::run(netns.command("tc").args(limit.split(' ')))?;
    }
    Ok(())
}

/// Frames of this interface are what they are on a wire: one segment each, with its checksum.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn no_offload(netns: &Netns, interface: &str) -> anyhow::Result<()> {
    let features = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
    command::run(
        netns
            .command("ethtool")
            .args(["-K", interface])
            .args(features),
    )
    .map(drop)
}
