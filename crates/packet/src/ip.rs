//! Packets from the IP header on: reading (hostile input) and writing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use crate::checksum::checksum;
use crate::segment::{Flags, MAX_PAYLOAD, Segment, Timestamps};
use crate::{FlowKey, Seq};

const TCP: u8 = 6;
const TCP_HEADER: usize = 20;
/// IPv6 extension headers (RFC 8200 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT_HEADER: u8 = 44;
const DESTINATION: u8 = 60;
const MAX_EXTENSIONS: usize = 4;
const TIMESTAMPS_OPTION: u8 = 8;
const DONT_FRAGMENT: u16 = 0x4000;
/// More fragments, or an offset other than zero.
const FRAGMENT: u16 = 0x3fff;

/// Why bytes are not a TCP packet that Baton handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The version field is neither 4 nor 6.
    #[error("IP version {0} instead of 4 or 6")]
    Version(u8),
    /// The packet ends before a header does, or before its own length field says.
    #[error("packet is shorter than its headers say")]
    Truncated,
    /// A length field is too small for the header that it belongs to.
    #[error("a length field is smaller than the header it belongs to")]
    Length,
    /// A fragment (RFC 791); TCP with path MTU discovery sends none.
    #[error("IP fragment")]
    Fragment,
    /// Not TCP, right after the IP header or after at most four IPv6 extension headers (hop-by-hop options, destination options, routing).
    #[error("protocol {0} instead of TCP")]
    Protocol(u8),
    /// An IPv6 routing header says that the packet is not yet where it is going.
    #[error("IPv6 routing header with segments left")]
    Routing,
    /// An IPv6 packet with `::ffff:a.b.c.d` addresses, which would be taken for an IPv4 flow.
    #[error("IPv4-mapped address in an IPv6 packet")]
    MappedAddress,
    /// The TCP checksum is wrong: the packet was damaged on its way.
    #[error("wrong TCP checksum")]
    Checksum,
    /// A TCP option runs over the end of the options, or has a wrong length.
    #[error("malformed TCP option")]
    Option,
}

pub(crate) fn parse(packet: &[u8]) -> Result<(FlowKey, Segment), ParseError> {
    let ip = match packet.first().ok_or(ParseError::Truncated)? >> 4 {
        4 => parse_v4(packet)?,
        6 => parse_v6(packet)?,
        version => return Err(ParseError::Version(version)),
    };
    let (ports, segment) = parse_tcp(&ip)?;
    let key = FlowKey::new(
        SocketAddr::new(ip.source, ports.0),
        SocketAddr::new(ip.destination, ports.1),
    );
    Ok((key, segment))
}

struct Ip<'a> {
    source: IpAddr,
    destination: IpAddr,
    traffic_class: u8,
    hop_limit: u8,
    payload: &'a [u8],
}

fn parse_v4(packet: &[u8]) -> Result<Ip<'_>, ParseError> {
    let fixed: &[u8; 20] = packet.first_chunk().ok_or(ParseError::Truncated)?;
    let header = usize::from(fixed[0] & 0x0f) * 4;
    let total = usize::from(be16(fixed, 2));
    if header < fixed.len() || total < header {
        return Err(ParseError::Length);
    }
    if be16(fixed, 6) & FRAGMENT != 0 {
        return Err(ParseError::Fragment);
    }
    if fixed[9] != TCP {
        return Err(ParseError::Protocol(fixed[9]));
    }
    let address = |at: usize| Ipv4Addr::from(std::array::from_fn(|i| fixed[at + i])).into();
    Ok(Ip {
        source: address(12),
        destination: address(16),
        traffic_class: fixed[1],
        hop_limit: fixed[8],
        payload: packet.get(header..total).ok_or(ParseError::Truncated)?,
    })
}

fn parse_v6(packet: &[u8]) -> Result<Ip<'_>, ParseError> {
    let fixed: &[u8; 40] = packet.first_chunk().ok_or(ParseError::Truncated)?;
    let total = fixed.len() + usize::from(be16(fixed, 4));
    let packet = packet.get(..total).ok_or(ParseError::Truncated)?;
    let payload = behind_extensions(fixed[6], &packet[fixed.len()..])?;
    let address = |at: usize| Ipv6Addr::from(std::array::from_fn(|i| fixed[at + i]));
    let (source, destination) = (address(8), address(24));
    if source.to_ipv4_mapped().is_some() || destination.to_ipv4_mapped().is_some() {
        return Err(ParseError::MappedAddress);
    }
    Ok(Ip {
        source: source.into(),
        destination: destination.into(),
        traffic_class: fixed[0] << 4 | fixed[1] >> 4,
        hop_limit: fixed[7],
        payload,
    })
}

/// TCP behind the extension headers that may stand before it (RFC 8200 4.1), as the kernel's program walks over them.
fn behind_extensions(mut protocol: u8, mut rest: &[u8]) -> Result<&[u8], ParseError> {
    for walked in 0..=MAX_EXTENSIONS {
        let (next, length, segments_left) = match (protocol, rest) {
            (TCP, _) => return Ok(rest),
            (HOP_BY_HOP | ROUTING | DESTINATION, _) if walked == MAX_EXTENSIONS => break,
            (HOP_BY_HOP | ROUTING | DESTINATION, [next, length, _, left, ..]) => {
                (*next, *length, *left)
            }
            (HOP_BY_HOP | ROUTING | DESTINATION, _) => return Err(ParseError::Truncated),
            (FRAGMENT_HEADER, _) => return Err(ParseError::Fragment),
            _ => break,
        };
        if protocol == ROUTING && segments_left > 0 {
            return Err(ParseError::Routing);
        }
        protocol = next;
        rest = rest
            .get((usize::from(length) + 1) * 8..)
            .ok_or(ParseError::Truncated)?;
    }
    Err(ParseError::Protocol(protocol))
}

fn parse_tcp(ip: &Ip<'_>) -> Result<((u16, u16), Segment), ParseError> {
    let fixed: &[u8; TCP_HEADER] = ip.payload.first_chunk().ok_or(ParseError::Truncated)?;
    let header = usize::from(fixed[12] >> 4) * 4;
    if header < TCP_HEADER {
        return Err(ParseError::Length);
    }
    let options = ip
        .payload
        .get(TCP_HEADER..header)
        .ok_or(ParseError::Truncated)?;
    let segment = Segment {
        seq: Seq(be32(fixed, 4)),
        ack: Seq(be32(fixed, 8)),
        flags: Flags(fixed[13]),
        window: be16(fixed, 14),
        timestamps: timestamps(options)?,
        traffic_class: ip.traffic_class,
        hop_limit: ip.hop_limit,
        payload: Bytes::copy_from_slice(&ip.payload[header..]),
    };
    verify(ip, be16(fixed, 16))?;
    Ok(((be16(fixed, 0), be16(fixed, 2)), segment))
}

/// A packet that comes from this machine's own sending side, or was merged on its way in, has only the pseudo header's sum in its checksum
/// field (`CHECKSUM_PARTIAL` of Linux); all others the whole checksum.
fn verify(ip: &Ip<'_>, field: u16) -> Result<(), ParseError> {
    let pseudo = pseudo_header(ip.source, ip.destination, ip.payload.len() as u16);
    let whole = checksum(&[&pseudo, ip.payload]) == 0;
    if whole || field == !checksum(&[&pseudo]) {
        return Ok(());
    }
    Err(ParseError::Checksum)
}

/// Of TCP (RFC 9293 3.1). Protocol and length as 16 bits each: the zeros that surround them in the real one add nothing.
fn pseudo_header(source: IpAddr, destination: IpAddr, length: u16) -> Vec<u8> {
    let mut pseudo = Vec::with_capacity(36);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            pseudo.extend(source.octets());
            pseudo.extend(destination.octets());
        }
        (source, destination) => {
            pseudo.extend(v6(source).octets());
            pseudo.extend(v6(destination).octets());
        }
    }
    pseudo.extend([0, TCP]);
    pseudo.extend(length.to_be_bytes());
    pseudo
}

/// The timestamps option, the last if there are several, as Linux reads it. At most 40 bytes of options exist.
fn timestamps(mut options: &[u8]) -> Result<Option<Timestamps>, ParseError> {
    let mut found = None;
    loop {
        options = match *options {
            [] | [0, ..] => return Ok(found),
            [1, ref rest @ ..] => rest,
            [kind, length, ..] => {
                let length = usize::from(length);
                if length < 2
                    || length > options.len()
                    || (kind == TIMESTAMPS_OPTION && length != 10)
                {
                    return Err(ParseError::Option);
                }
                if kind == TIMESTAMPS_OPTION {
                    found = Some(Timestamps {
                        value: be32(options, 2),
                        echo: be32(options, 6),
                    });
                }
                &options[length..]
            }
            [_] => return Err(ParseError::Option),
        };
    }
}

pub(crate) fn encode(segment: &Segment, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let payload = &segment.payload[..segment.payload.len().min(MAX_PAYLOAD)];
    let options = if segment.timestamps.is_some() { 12 } else { 0 };
    let length = (TCP_HEADER + options + payload.len()) as u16;

    let mut packet = Vec::with_capacity(40 + usize::from(length));
    let pseudo = pseudo_header(source.ip(), destination.ip(), length);
    let addresses = &pseudo[..pseudo.len() - 4];
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            packet.extend([0x45, segment.traffic_class]);
            packet.extend((20 + length).to_be_bytes());
            packet.extend([0, 0]);
            packet.extend(DONT_FRAGMENT.to_be_bytes());
            packet.extend([segment.hop_limit, TCP, 0, 0]);
            packet.extend(addresses);
            let sum = checksum(&[&packet]).to_be_bytes();
            packet[10..12].copy_from_slice(&sum);
        }
        _ => {
            packet.extend([
                0x60 | segment.traffic_class >> 4,
                segment.traffic_class << 4,
                0,
                0,
            ]);
            packet.extend(length.to_be_bytes());
            packet.extend([TCP, segment.hop_limit]);
            packet.extend(addresses);
        }
    }

    let tcp = packet.len();
    packet.extend(source.port().to_be_bytes());
    packet.extend(destination.port().to_be_bytes());
    packet.extend(segment.seq.0.to_be_bytes());
    packet.extend(segment.ack.0.to_be_bytes());
    packet.extend([
        ((TCP_HEADER + options) as u8) << 2,
        (segment.flags - Flags::URG).0,
    ]);
    packet.extend(segment.window.to_be_bytes());
    packet.extend([0; 4]);
    if let Some(Timestamps { value, echo }) = segment.timestamps {
        packet.extend([1, 1, TIMESTAMPS_OPTION, 10]);
        packet.extend(value.to_be_bytes());
        packet.extend(echo.to_be_bytes());
    }
    packet.extend(payload);
    let sum = checksum(&[&pseudo, &packet[tcp..]]).to_be_bytes();
    packet[tcp + 16..tcp + 18].copy_from_slice(&sum);
    packet
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]))
}
