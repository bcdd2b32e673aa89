//! What a configuration means for the kernel: VIPs, servers, addresses on interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use baton_flow::Target;
use baton_kernel::{Holder, Server, Via, Vip, abi};
use baton_policy::{Mechanism, PoolId, ServerId};
use baton_wire::{Accepts, BIND_LEN};

use super::peers::Peers;
use crate::addresses::{Placed, Subnets};
use crate::config::Config;
use crate::health::{Health, Use};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// The least MSS that is promised, however small the interface's MTU.
const LEAST_MSS: usize = 536;

/// The kernel's `servers` table has so many places.
const MOST_SERVERS: usize = 1024;
const MOST_VIPS: usize = 256;

/// Places in the kernel's tables. They keep their meaning over reloads, because flows refer to them.
#[derive(Debug, Default)]
pub(super) struct Slots {
    peers: Vec<IpAddr>,
    servers: Vec<IpAddr>,
    vips: Vec<String>,
}

impl Slots {
    /// Those of the tables that a process before has left. A VIP has the one of its first address that is there; one that is not configured any
    /// more keeps its own from the others.
    pub(super) fn found(
        servers: &BTreeMap<u16, IpAddr>,
        peers: &BTreeMap<u16, IpAddr>,
        vips: &[(u16, SocketAddr)],
        config: &Config,
    ) -> Slots {
        let most = vips.iter().map(|(slot, _)| usize::from(*slot) + 1).max();
        let mut slots = Slots {
            servers: by_slot(servers),
            peers: by_slot(peers),
            vips: vec![String::new(); most.unwrap_or(0)],
        };
        for vip in &config.vips {
            let mut own = vips.iter().filter(|(_, at)| vip.addresses.contains(at));
            let free = own.find(|(slot, _)| slots.vips[usize::from(*slot)].is_empty());
            if let Some((slot, _)) = free {
                slots.vips[usize::from(*slot)] = vip.name.clone();
            }
        }
        slots
    }
}

/// Slots that are nobody's have no address.
fn by_slot(nodes: &BTreeMap<u16, IpAddr>) -> Vec<IpAddr> {
    let most = nodes.keys().map(|slot| usize::from(*slot) + 1).max();
    let mut addresses = vec![Ipv6Addr::UNSPECIFIED.into(); most.unwrap_or(0)];
    for (slot, address) in nodes {
        addresses[usize::from(*slot)] = *address;
    }
    addresses
}

/// Everything the kernel needs, and how it relates to the configuration.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) vips: Vec<Vip>,
    pub(super) servers: Vec<(u16, Server)>,
    /// The other proxies.
    pub(super) others: Vec<(u8, Server)>,
    /// All proxies.
    pub(super) peers: Peers,
    /// Addresses that this node must have.
    pub(super) placed: BTreeSet<Placed>,
    /// Slot of a server -> its place in the configuration. Removed servers are missing.
    pub(super) place_of_server: BTreeMap<ServerId, ServerId>,
    /// Place in the configuration -> slot. Servers without an address are missing.
    pub(super) slot_of_server: BTreeMap<ServerId, ServerId>,
    /// Slot of a VIP -> its place in the configuration.
    pub(super) place_of_vip: BTreeMap<u16, usize>,
    /// Places of VIPs that have several pools, all of whose servers a relay can reach.
    pub(super) relayed_vips: BTreeSet<usize>,
    /// Node address by slot: where binds are sent.
    pub(super) addresses: Vec<IpAddr>,
    /// Largest TCP payload and options that fit a bind, by family (IPv4, IPv6).
    pub(super) mss: [u16; 2],
}

impl Plan {
    /// Looks at this machine's interfaces: which servers are neighbours. `mtu`: the smallest of theirs (bytes).
    pub(super) fn new(config: &Config, mtu: usize, slots: &mut Slots) -> Result<Plan> {
        let subnets = Subnets::of(&config.node.interfaces)?;
        let own = config.node.address.context("[node] address is missing")?;
        let interface = config
            .node
            .interfaces
            .first()
            .context("[node] interfaces is empty")?;
        let ifindex = baton_kernel::interface_index(interface)?;
        let mss = largest_segments(mtu, own);

        let mut plan = Plan {
            vips: Vec::new(),
            servers: Vec::new(),
            others: Vec::new(),
            peers: Peers::default(),
            placed: BTreeSet::new(),
            place_of_server: BTreeMap::new(),
            slot_of_server: BTreeMap::new(),
            place_of_vip: BTreeMap::new(),
            relayed_vips: BTreeSet::new(),
            addresses: Vec::new(),
            mss,
        };
        for (place, vip) in config
            .vips
            .iter()
            .enumerate()
            .filter(|(_, vip)| vip.handoff)
        {
            let slot = slot(&mut slots.vips, &vip.name, MOST_VIPS, "VIPs")?;
            plan.place_of_vip.insert(slot, place);
            let pools = config.policy.pools_of(place);
            let reachable = |id: &PoolId| {
                let mut members = config
                    .policy
                    .pool(*id)
                    .into_iter()
                    .flat_map(|pool| pool.members());
                members.all(|member| {
                    config
                        .servers
                        .get(usize::from(member.server.0))
                        .is_some_and(|server| server.http.is_some())
                })
            };
            if pools.len() > 1 && pools.iter().all(reachable) {
                plan.relayed_vips.insert(place);
            }
            for at in &vip.addresses {
                let mss = mss[usize::from(at.is_ipv6())];
                plan.vips.push(Vip {
                    index: slot,
                    at: *at,
                    mss,
                    offers: abi::offer::ALL,
                });
                let interface = if config.proxy.announce {
                    interface.clone()
                } else {
                    "lo".into()
                };
                plan.placed.insert(Placed {
                    address: at.ip(),
                    interface,
                });
            }
        }
        let families: BTreeSet<bool> = plan.vips.iter().map(|vip| vip.at.is_ipv6()).collect();
        for (place, server) in config.servers.iter().enumerate() {
            let Some(address) = server.address else {
                continue;
            };
            let slot = slot(&mut slots.servers, &address, MOST_SERVERS, "servers")?;
            let place = ServerId(place as u16);
            plan.place_of_server.insert(ServerId(slot), place);
            plan.slot_of_server.insert(place, ServerId(slot));
            // A neighbour is reached by its link-layer address, which is looked up in the packet's own family.
            let near = subnets
                .neighbour(address)
                .filter(|_| families.iter().all(|ipv6| *ipv6 == address.is_ipv6()));
            let via = if near.is_some() {
                Via::Neighbour
            } else {
                Via::Udp
            };
            plan.servers.push((
                slot,
                Server {
                    address,
                    source: own,
                    ifindex: near.unwrap_or(ifindex),
                    via,
                },
            ));
        }
        plan.addresses = slots.servers.clone();
        let mut listed = Vec::new();
        for address in config.cluster.proxies.iter().map(|peer| peer.address) {
            let slot = slot(&mut slots.peers, &address, abi::PEERS_MAX, "proxies")? as u8;
            listed.push((address, slot));
            let near = subnets.neighbour(address);
            let server = Server {
                address,
                source: own,
                ifindex: near.unwrap_or(ifindex),
                via: near.map_or(Via::Udp, |_| Via::Neighbour),
            };
            plan.others
                .extend((address != own).then_some((slot, server)));
        }
        plan.peers = Peers::new(listed, own);
        Ok(plan)
    }
}

impl Plan {
    /// The slots of servers whose flows are lost.
    pub(super) fn out(&self, health: &Health) -> Vec<u16> {
        let slots = (0..).zip(&self.addresses);
        slots
            .filter(|(_, node)| health.is_out(**node))
            .map(|(slot, _)| slot)
            .collect()
    }

    /// The slots of other proxies whose relays' flows are lost.
    pub(super) fn out_peers(&self, health: &Health) -> Vec<u16> {
        let slots = self.others.iter();
        slots
            .filter(|(_, peer)| health.is_out(peer.address))
            .map(|(slot, _)| u16::from(*slot))
            .collect()
    }

    /// Who has a flow.
    pub(super) fn target(&self, holder: Holder) -> Option<Target> {
        match holder {
            Holder::Server(slot) => Some(Target::Server(ServerId(slot))),
            Holder::Peer(slot) => self.peers.at_slot(slot).map(Target::Peer),
        }
    }

    /// The VIPs, each with what all servers that its flows may come to take over.
    pub(super) fn offered(&self, config: &Config, health: &Health) -> Vec<Vip> {
        let offers_of = |vip: &Vip| {
            let place = self.place_of_vip.get(&vip.index).copied();
            let pools = place
                .map(|place| config.policy.pools_of(place))
                .unwrap_or_default();
            let pools = pools.iter().filter_map(|id| config.policy.pool(*id));
            let members = pools
                .filter(|pool| pool.mechanism() == Mechanism::Handoff)
                .flat_map(|pool| pool.members());
            let nodes = members
                .filter_map(|member| config.servers.get(usize::from(member.server.0))?.address);
            nodes
                .filter(|node| health.of(*node, |at| *at == vip.at) == Use::Handoff)
                .fold(abi::offer::ALL, |all, node| {
                    all & offers(health.accepts(node))
                })
        };
        self.vips
            .iter()
            .map(|vip| Vip {
                offers: offers_of(vip),
                ..vip.clone()
            })
            .collect()
    }
}

fn offers(accepts: Accepts) -> u8 {
    let bits = [
        (accepts.timestamps, abi::offer::TIMESTAMPS),
        (accepts.sack, abi::offer::SACK),
        (accepts.window_scaling, abi::offer::WSCALE),
    ];
    bits.iter()
        .filter(|(on, _)| *on)
        .fold(0, |all, (_, bit)| all | bit)
}

/// The place of `wanted`, a new one if it has none.
fn slot<T: PartialEq + Clone>(
    taken: &mut Vec<T>,
    wanted: &T,
    most: usize,
    what: &str,
) -> Result<u16> {
    if let Some(at) = taken.iter().position(|t| t == wanted) {
        return Ok(at as u16);
    }
    if taken.len() == most {
        bail!(
            "more than {most} different {what} since this program was started; restart it to forget those that were removed"
        );
    }
    taken.push(wanted.clone());
    Ok((taken.len() - 1) as u16)
}

/// What the SYN-ACK may promise so that a full segment with a bind header still fits a packet (H6), by the client's family.
fn largest_segments(mtu: usize, node: IpAddr) -> [u16; 2] {
    let outer = if node.is_ipv4() {
        IPV4_HEADER
    } else {
        IPV6_HEADER
    } + UDP_HEADER
        + BIND_LEN;
    [IPV4_HEADER, IPV6_HEADER].map(|inner| {
        mtu.saturating_sub(outer + inner + TCP_HEADER)
            .clamp(LEAST_MSS, 65_000) as u16
    })
}

/// Where messages to the server in a slot go.
pub(super) fn node_of(addresses: &[IpAddr], slot: ServerId, port: u16) -> Option<SocketAddr> {
    addresses
        .get(usize::from(slot.0))
        .map(|address| SocketAddr::new(*address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_its_meaning() {
        let mut taken = Vec::new();
        let mut slot_of = |name: &str| slot(&mut taken, &name.to_owned(), 2, "VIPs");
        assert_eq!(
            (
                slot_of("a").unwrap(),
                slot_of("b").unwrap(),
                slot_of("a").unwrap()
            ),
            (0, 1, 0)
        );
        assert!(
            slot_of("c")
                .unwrap_err()
                .to_string()
                .contains("more than 2")
        );
    }

    #[test]
    fn a_full_segment_and_its_header_fit_the_mtu() {
        let [v4, v6] = largest_segments(1500, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(usize::from(v4) + 20 + 20 + 48 + 8 + 20, 1500);
        assert_eq!(usize::from(v6) + 20 + 40 + 48 + 8 + 20, 1500);
        let [_, v6] = largest_segments(1500, IpAddr::from([0u16; 8]));
        assert_eq!(usize::from(v6) + 20 + 40 + 48 + 8 + 40, 1500);
    }
}
