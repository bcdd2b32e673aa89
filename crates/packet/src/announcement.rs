//! To all on a network: an address is here now.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::checksum;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A whole Ethernet frame which says that the address is at this link-layer address: an ARP announcement (RFC 5227 3), or an unsolicited
/// neighbour advertisement that overrides what was known (RFC 4861 7.2.6).
pub fn announcement(address: IpAddr, link: [u8; 6]) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(address, link),
        IpAddr::V6(address) => advertisement(address, link),
    }
}

fn arp(address: Ipv4Addr, link: [u8; 6]) -> Vec<u8> {
    let request = [0, 1, 0x08, 0, 6, 4, 0, 1];
    let at = address.octets();
    [
        &[0xff; 6][..],
        &link,
        &ARP,
        &request,
        &link,
        &at,
        &[0; 6],
        &at,
    ]
    .concat()
}

fn advertisement(address: Ipv6Addr, link: [u8; 6]) -> Vec<u8> {
    let (from, to) = (address.octets(), ALL_NODES.octets());
    // Type 136; override; the target's link-layer address as an option (2, one unit of 8 bytes).
    let mut message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &from, &[2, 1], &link].concat();
    let length = (message.len() as u16).to_be_bytes();
    let sum = checksum(&[&from, &to, &length, &[0, ICMPV6], &message]).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    // 255 hops, so that none may have come from another network.
    let ip = [0x60, 0, 0, 0, length[0], length[1], ICMPV6, 255];
    let group = [0x33, 0x33, 0, 0, 0, 1];
    [&group[..], &link, &IPV6, &ip, &from, &to, &message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};

    const LINK: [u8; 6] = [2, 0, 0, 0, 0, 5];

    #[test]
    fn ipv4_is_announced_by_arp() {
        let address = Ipv4Addr::new(10, 77, 0, 10);
        let frame = announcement(address.into(), LINK);
        assert_eq!((&frame[..6], &frame[6..12]), (&[0xff; 6][..], &LINK[..]));
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Arp(arp)) = sliced.net else {
            panic!("{sliced:?}")
        };
        assert_eq!(arp.operation().0, 1);
        assert_eq!(arp.sender_hw_addr(), LINK);
        assert_eq!(arp.sender_protocol_addr(), address.octets());
        assert_eq!(arp.target_protocol_addr(), address.octets());
    }

    #[test]
    fn ipv6_is_announced_by_a_neighbour_advertisement() {
        let address: Ipv6Addr = "fd77::10".parse().unwrap();
        let frame = announcement(address.into(), LINK);
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv6(ip)) = &sliced.net else {
            panic!("{sliced:?}")
        };
        let header = ip.header();
        assert_eq!((header.hop_limit(), header.source_addr()), (255, address));
        let Some(TransportSlice::Icmpv6(message)) = &sliced.transport else {
            panic!("{sliced:?}")
        };
        assert!(message.is_checksum_valid(header.source(), header.destination()));
        let Icmpv6Type::NeighborAdvertisement(said) = message.icmp_type() else {
            panic!("{message:?}")
        };
        assert!(said.r#override && !said.solicited && !said.router);
        assert_eq!(message.payload()[..16], address.octets());
        assert_eq!(message.payload()[16..], [2, 1, 2, 0, 0, 0, 0, 5]);
    }
}
