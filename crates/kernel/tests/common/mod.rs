//! Frames in, verdicts out: what both programs' tests share. Needs root; nothing is attached, no packet leaves.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

use baton_kernel::{Clock, Counters, Settings};
use etherparse::{
    PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeaderSlice, TcpOptionElement,
    TransportSlice,
};
use std::net::{IpAddr, SocketAddr};

pub const NEXT: i32 = -1;
pub const DROP: i32 = 2;
pub const REDIRECT: i32 = 7;

pub const MESSAGE_KEY: [u8; 16] = *b"message key 0001";
pub const OLD_KEY: [u8; 16] = *b"message key 0000";
pub const COOKIE_KEY: [u8; 16] = *b"cookie key 00001";
pub const OLD_COOKIE_KEY: [u8; 16] = *b"cookie key 00000";

pub fn settings() -> Settings {
    Settings {
        message_keys: [MESSAGE_KEY, OLD_KEY],
        cookie_keys: [COOKIE_KEY, OLD_COOKIE_KEY],
        address: "10.77.0.21:6950".parse().unwrap(),
        clock: Clock::start(),
        answers_by_route: false,
    }
}

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What a test says of a TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub seq: u32,
    pub ack: Option<u32>,
    pub flags: &'static str,
    pub options: Vec<TcpOptionElement>,
    pub payload: Vec<u8>,
}

impl Tcp {
    pub fn new(from: &str, to: &str) -> Tcp {
        Tcp {
            from: at(from),
            to: at(to),
            seq: 1000,
            ack: None,
            flags: "",
            options: vec![],
            payload: vec![],
        }
    }

    /// Linux's SYN.
    pub fn syn(from: &str, to: &str) -> Tcp {
        use TcpOptionElement::*;
        Tcp {
            flags: "S",
            options: vec![
                MaximumSegmentSize(1460),
                SelectiveAcknowledgementPermitted,
                Timestamp(77, 0),
                Noop,
                WindowScale(7),
            ],
            ..Tcp::new(from, to)
        }
    }

    pub fn ip(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let step = PacketBuilder::ipv4(a.octets(), b.octets(), 64);
                self.finish(
                    step.tcp(self.from.port(), self.to.port(), self.seq, 64000),
                    &mut packet,
                );
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let step = PacketBuilder::ipv6(a.octets(), b.octets(), 64);
                self.finish(
                    step.tcp(self.from.port(), self.to.port(), self.seq, 64000),
                    &mut packet,
                );
            }
            _ => unreachable!("one family"),
        }
        packet
    }

    pub fn frame(&self) -> Vec<u8> {
        frame(&self.ip())
    }

    fn finish(&self, mut tcp: PacketBuilderStep<etherparse::TcpHeader>, into: &mut Vec<u8>) {
        if let Some(ack) = self.ack {
            tcp = tcp.ack(ack);
        }
        for flag in self.flags.chars() {
            tcp = match flag {
                'S' => tcp.syn(),
                'F' => tcp.fin(),
                'R' => tcp.rst(),
                'P' => tcp.psh(),
                'E' => tcp.ece(),
                'W' => tcp.cwr(),
                _ => tcp.urg(0),
            };
        }
        tcp.options(&self.options)
            .unwrap()
            .write(into, &self.payload)
            .unwrap();
    }
}

/// The link-layer address of `lo`, which test runs receive by.
pub const TO_US: [u8; 6] = [0; 6];

pub fn frame(ip: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if ip[0] >> 4 == 4 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    };
    [&TO_US[..], &[2, 0, 0, 0, 0, 1], &kind, ip].concat()
}

pub fn udp_frame(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (at(from), at(to));
    let mut packet = Vec::new();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            PacketBuilder::ipv4(a.octets(), b.octets(), 64)
                .udp(from.port(), to.port())
                .write(&mut packet, payload)
                .unwrap();
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            PacketBuilder::ipv6(a.octets(), b.octets(), 64)
                .udp(from.port(), to.port())
                .write(&mut packet, payload)
                .unwrap();
        }
        _ => unreachable!("one family"),
    }
    frame(&packet)
}

/// The TCP header and payload of a frame; asserts that the checksums are right.
pub fn tcp_of(frame: &[u8]) -> (etherparse::TcpHeader, Vec<u8>) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else {
        panic!("no TCP in {frame:02x?}")
    };
    let header = TcpHeaderSlice::from_slice(tcp.header_slice())
        .unwrap()
        .to_header();
    let right = match sliced.net.unwrap() {
        etherparse::NetSlice::Ipv4(ip) => {
            assert_eq!(
                ip.header().header_checksum(),
                ip.header().to_header().calc_header_checksum(),
                "IP checksum"
            );
            header
                .calc_checksum_ipv4(&ip.header().to_header(), tcp.payload())
                .unwrap()
        }
        etherparse::NetSlice::Ipv6(ip) => header
            .calc_checksum_ipv6(&ip.header().to_header(), tcp.payload())
            .unwrap(),
        _ => unreachable!(),
    };
    assert_eq!(header.checksum, right, "TCP checksum");
    (header, tcp.payload().to_vec())
}

pub fn timestamps_of(header: &etherparse::TcpHeader) -> Option<(u32, u32)> {
    header.options_iterator().find_map(|o| match o {
        Ok(TcpOptionElement::Timestamp(value, echo)) => Some((value, echo)),
        _ => None,
    })
}

/// An ICMP error about a packet from `inner.to` to `inner.from`.
pub fn icmp_error(inner: &Tcp, kind: u8, code: u8, mtu: u16) -> Vec<u8> {
    let sent = Tcp {
        from: inner.to,
        to: inner.from,
        ..inner.clone()
    }
    .ip();
    let ipv6 = inner.to.is_ipv6();
    let quoted = &sent[..if ipv6 { 60 } else { 28 }.min(sent.len())];
    let mtu = mtu.to_be_bytes();
    let icmp = [&[kind, code, 0, 0, 0, 0, mtu[0], mtu[1]][..], quoted].concat();
    let router: &str = if ipv6 { "[fd77::50]:1" } else { "10.77.0.50:1" };
    let carrier = Tcp {
        from: at(router),
        ..inner.clone()
    }
    .ip();
    let mut ip = carrier[..if ipv6 { 40 } else { 20 }].to_vec();
    let length = icmp.len() as u16;
    if ipv6 {
        ip[6] = 58;
        ip[4..6].copy_from_slice(&length.to_be_bytes());
    } else {
        ip[9] = 1;
        ip[2..4].copy_from_slice(&(length + 20).to_be_bytes());
    }
    frame(&[ip, icmp].concat())
}

/// Which counters moved since the last look, as `verdict/reason`.
pub struct Watch {
    counters: Counters,
    before: Vec<u64>,
}

impl Watch {
    pub fn new(counters: Counters) -> Watch {
        let before = counters.read().iter().map(|c| c.packets).collect();
        Watch { counters, before }
    }

    pub fn moved(&mut self) -> Vec<String> {
        let now = self.counters.read();
        let moved = now
            .iter()
            .zip(&self.before)
            .filter(|(c, b)| c.packets != **b)
            .map(|(c, _)| format!("{}/{}", c.verdict, c.reason))
            .collect();
        self.before = now.iter().map(|c| c.packets).collect();
        moved
    }
}
