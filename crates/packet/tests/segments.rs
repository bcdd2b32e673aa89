//! Segments against etherparse, and hostile packets.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;

use baton_packet::{Flags, FlowKey, ParseError, Segment, Seq, Timestamps};
use bytes::Bytes;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use proptest::prelude::*;

fn key() -> impl Strategy<Value = FlowKey> {
    let v4 = (
        any::<[u8; 4]>(),
        any::<[u8; 4]>(),
        any::<u16>(),
        any::<u16>(),
    )
        .prop_map(|(client, vip, from, to)| {
            FlowKey::new(
                SocketAddr::from((client, from)),
                SocketAddr::from((vip, to)),
            )
        });
    let v6 = (
        any::<[u16; 7]>(),
        any::<[u16; 7]>(),
        any::<u16>(),
        any::<u16>(),
    )
        .prop_map(|(client, vip, from, to)| {
            let address = |tail: [u16; 7]| {
                std::array::from_fn::<u16, 8, _>(|i| if i == 0 { 0x2001 } else { tail[i - 1] })
            };
            FlowKey::new(
                SocketAddr::from((address(client), from)),
                SocketAddr::from((address(vip), to)),
            )
        });
    prop_oneof![v4, v6]
}

fn segment() -> impl Strategy<Value = Segment> {
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    let timestamps = any::<Option<(u32, u32)>>()
        .prop_map(|both| both.map(|(value, echo)| Timestamps { value, echo }));
    (any::<(u32, u32, u8, u16, u8, u8)>(), timestamps, payload).prop_map(
        |((seq, ack, flags, window, traffic_class, hop_limit), timestamps, payload)| Segment {
            seq: Seq(seq),
            ack: Seq(ack),
            flags: Flags(flags) - Flags::URG,
            window,
            timestamps,
            traffic_class,
            hop_limit,
            payload: Bytes::from(payload),
        },
    )
}

proptest! {
    #[test]
    fn encoded_packets_are_read_by_others(key in key(), segment in segment(), reply: bool) {
        let packet = if reply { segment.encode_reply(&key) } else { segment.encode(&key) };
        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("not TCP") };
        let (source, destination) = if reply { (key.vip(), key.client()) } else { (key.client(), key.vip()) };
        let sum = match sliced.net.as_ref().unwrap() {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                prop_assert_eq!(header.calc_header_checksum(), header.header_checksum);
                prop_assert!(header.dont_fragment);
                prop_assert_eq!((header.time_to_live, packet[1]), (segment.hop_limit, segment.traffic_class));
                prop_assert_eq!((source.ip(), destination.ip()), (header.source.into(), header.destination.into()));
                tcp.calc_checksum_ipv4(header.source, header.destination).unwrap()
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header().to_header();
                prop_assert_eq!((header.hop_limit, header.traffic_class), (segment.hop_limit, segment.traffic_class));
                prop_assert_eq!((source.ip(), destination.ip()), (header.source.into(), header.destination.into()));
                tcp.calc_checksum_ipv6(header.source, header.destination).unwrap()
            }
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(tcp.checksum(), sum);
        prop_assert_eq!((tcp.source_port(), tcp.destination_port()), (source.port(), destination.port()));
        prop_assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (segment.seq.0, segment.ack.0));
        prop_assert_eq!((tcp.window_size(), packet[packet.len() - tcp.payload().len() - tcp.header_slice().len() + 13]), (segment.window, segment.flags.0));
        prop_assert_eq!(tcp.payload(), &segment.payload[..]);
        let option = tcp.options_iterator().map(Result::unwrap).find(|option| *option != TcpOptionElement::Noop);
        prop_assert_eq!(option, segment.timestamps.map(|both| TcpOptionElement::Timestamp(both.value, both.echo)));
    }

    #[test]
    fn encoded_packets_are_read_back(key in key(), segment in segment(), padding in 0usize..8) {
        let mut packet = segment.encode(&key);
        packet.resize(packet.len() + padding, 0xaa);
        prop_assert_eq!(Segment::parse_ip(&packet), Ok((key, segment)));
    }

    #[test]
    fn every_cut_is_truncated(key in key(), segment in segment()) {
        let packet = segment.encode(&key);
        for end in 0..packet.len() {
            prop_assert_eq!(Segment::parse_ip(&packet[..end]), Err(ParseError::Truncated), "{} bytes", end);
        }
    }

    #[test]
    fn damage_never_panics(key in key(), segment in segment(), damage in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..6)) {
        let mut packet = segment.encode(&key);
        for (at, byte) in damage {
            let at = at.index(packet.len().min(72));
            packet[at] = byte;
        }
        let _ = Segment::parse_ip(&packet);
    }

    #[test]
    fn split_keeps_the_stream(segment in segment(), size in 1usize..250) {
        let parts: Vec<Segment> = segment.split(size).collect();
        prop_assert_eq!(parts.concat_payload(), segment.payload.clone());
        let mut next = segment.seq;
        for (i, part) in parts.iter().enumerate() {
            prop_assert_eq!(part.seq, next);
            prop_assert!(part.payload.len() <= size);
            next = part.payload_end();
            let last = i + 1 == parts.len();
            let only_last = Flags::FIN | Flags::PSH;
            let first_and_last = (segment.flags - only_last - Flags::CWR, if last { segment.flags } else { Flags(0) });
            let rest = part.flags - only_last - Flags::CWR;
            prop_assert_eq!(rest, first_and_last.0);
            for bit in [Flags::FIN, Flags::PSH] {
                prop_assert_eq!(part.flags.contains(bit), last && segment.flags.contains(bit));
            }
            prop_assert_eq!(part.flags.contains(Flags::CWR), i == 0 && segment.flags.contains(Flags::CWR));
        }
        prop_assert_eq!(parts.last().unwrap().end(), segment.end());
    }

    #[test]
    fn split_at_keeps_the_stream(segment in segment(), distance in -20i32..220) {
        let at = segment.seq + distance as u32;
        let (before, after) = segment.clone().split_at(at);
        let parts: Vec<Segment> = before.iter().chain(&after).cloned().collect();
        prop_assert_eq!(parts.concat_payload(), segment.payload.clone());
        prop_assert_eq!((parts[0].seq, parts[parts.len() - 1].end()), (segment.seq, segment.end()));
        prop_assert!(before.is_none_or(|before| before.payload_end().at_or_before(at) || before.payload.is_empty()));
        prop_assert!(after.is_none_or(|after| after.seq.at_or_after(at)
            && (!after.payload.is_empty() || after.flags.contains(Flags::FIN))));
        for bit in [Flags::FIN, Flags::PSH, Flags::CWR] {
            let times = parts.iter().filter(|part| part.flags.contains(bit)).count();
            prop_assert_eq!(times, usize::from(segment.flags.contains(bit)));
        }
    }
}

trait Concat {
    fn concat_payload(&self) -> Bytes;
}

impl Concat for Vec<Segment> {
    fn concat_payload(&self) -> Bytes {
        self.iter().flat_map(|part| part.payload.to_vec()).collect()
    }
}

/// A packet of another maker, with the options that a client sends.
#[test]
fn other_makers_packets_are_read() {
    let options = [
        TcpOptionElement::SelectiveAcknowledgement((1, 2), [None; 3]),
        TcpOptionElement::Noop,
        TcpOptionElement::Timestamp(7, 9),
    ];
    let builder = PacketBuilder::ipv4([192, 0, 2, 1], [198, 51, 100, 7], 63)
        .tcp(40_000, 80, 0xffff_fff0, 512)
        .ack(77)
        .psh()
        .options(&options)
        .unwrap();
    let mut packet = Vec::new();
    builder.write(&mut packet, b"GET /").unwrap();
    let (key, segment) = Segment::parse_ip(&packet).unwrap();
    assert_eq!(
        key,
        FlowKey::new(
            "192.0.2.1:40000".parse().unwrap(),
            "198.51.100.7:80".parse().unwrap()
        )
    );
    assert_eq!((segment.seq, segment.ack), (Seq(0xffff_fff0), Seq(77)));
    assert_eq!(segment.flags, Flags::ACK | Flags::PSH);
    assert_eq!((segment.window, segment.hop_limit), (512, 63));
    assert_eq!(segment.timestamps, Some(Timestamps { value: 7, echo: 9 }));
    assert_eq!(&segment.payload[..], b"GET /");
}

/// The packet with the TCP checksum that a sender leaves to its network card: the pseudo header's sum only.
fn sum_again(mut packet: Vec<u8>, header: usize) -> Vec<u8> {
    let addresses = if header == 20 { 12..20 } else { 8..40 };
    let length = (packet.len() - header) as u32;
    let mut sum = 6 + length;
    for pair in packet[addresses].chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    packet[header + 16..header + 18].copy_from_slice(&(folded as u16).to_be_bytes());
    packet
}

proptest! {
    /// Damage on the way is noticed; a checksum that is still to be completed is not damage.
    #[test]
    fn a_damaged_packet_is_refused(key in key(), segment in segment(), at in any::<usize>(), bit in 0..8u8) {
        let packet = segment.encode(&key);
        let header = if key.is_ipv6() { 40 } else { 20 };
        prop_assert!(Segment::parse_ip(&sum_again(packet.clone(), header)).is_ok());
        prop_assume!(sum_again(packet.clone(), header) != packet); // once in 65,536 both sums are the same
        let mut damaged = packet;
        let at = header + 20 + at % (damaged.len() - header - 19).max(1);
        if at < damaged.len() {
            damaged[at] ^= 1 << bit;
            prop_assert!(Segment::parse_ip(&damaged).is_err());
        }
    }
}

#[test]
fn hostile_fields_are_refused() {
    let v4 = FlowKey::new(
        "192.0.2.1:1".parse().unwrap(),
        "192.0.2.2:80".parse().unwrap(),
    );
    let v6 = FlowKey::new(
        "[2001::1]:1".parse().unwrap(),
        "[2001::2]:80".parse().unwrap(),
    );
    let segment = Segment {
        seq: Seq(1),
        ack: Seq(2),
        flags: Flags::ACK,
        window: 3,
        timestamps: Some(Timestamps { value: 1, echo: 2 }),
        traffic_class: 0,
        hop_limit: 64,
        payload: Bytes::from_static(b"abc"),
    };
    let with = |key: &FlowKey, changes: &[(usize, u8)]| {
        let mut packet = segment.encode(key);
        for (at, byte) in changes {
            packet[*at] = *byte;
        }
        let header = if key.is_ipv6() { 40 } else { 20 };
        match Segment::parse_ip(&packet) {
            // What is tried is the field, not the damage.
            Err(ParseError::Checksum) => Segment::parse_ip(&sum_again(packet, header)).map(|_| ()),
            other => other.map(|_| ()),
        }
    };
    assert_eq!(with(&v4, &[]), Ok(()));
    assert_eq!(with(&v4, &[(0, 0x55)]), Err(ParseError::Version(5)));
    assert_eq!(
        with(&v4, &[(0, 0x44)]),
        Err(ParseError::Length),
        "IP header of 16 bytes"
    );
    assert_eq!(
        with(&v4, &[(2, 0), (3, 19)]),
        Err(ParseError::Length),
        "total length below the header's"
    );
    assert_eq!(
        with(&v4, &[(2, 1)]),
        Err(ParseError::Truncated),
        "total length beyond the packet"
    );
    assert_eq!(
        with(&v4, &[(6, 0x20)]),
        Err(ParseError::Fragment),
        "more fragments"
    );
    assert_eq!(with(&v4, &[(7, 1)]), Err(ParseError::Fragment), "offset");
    assert_eq!(with(&v4, &[(9, 17)]), Err(ParseError::Protocol(17)));
    assert_eq!(
        with(&v4, &[(32, 0x40)]),
        Err(ParseError::Length),
        "TCP header of 16 bytes"
    );
    assert_eq!(
        with(&v4, &[(32, 0xf0)]),
        Err(ParseError::Truncated),
        "TCP header beyond the packet"
    );
    assert_eq!(
        with(&v4, &[(43, 0)]),
        Err(ParseError::Option),
        "option of length 0 would never end"
    );
    assert_eq!(
        with(&v4, &[(43, 11)]),
        Err(ParseError::Option),
        "option beyond the header"
    );
    assert_eq!(
        with(&v4, &[(43, 8)]),
        Err(ParseError::Option),
        "timestamps of another length"
    );
    assert_eq!(with(&v4, &[(40, 0)]), Ok(()), "end of options");
    assert_eq!(
        with(&v6, &[(6, 0)]),
        Err(ParseError::Truncated),
        "a hop-by-hop header that is not there"
    );
    assert_eq!(with(&v6, &[(5, 255)]), Err(ParseError::Truncated));
    let mapped: Vec<_> = (8..18)
        .map(|at| (at, 0))
        .chain([(18, 0xff), (19, 0xff)])
        .collect();
    assert_eq!(with(&v6, &mapped), Err(ParseError::MappedAddress));
}

#[test]
fn urgent_bytes_are_ordinary_bytes() {
    let key = FlowKey::new(
        "192.0.2.1:1".parse().unwrap(),
        "192.0.2.2:80".parse().unwrap(),
    );
    let segment = Segment {
        seq: Seq(1),
        ack: Seq(2),
        flags: Flags::ACK | Flags::URG,
        window: 3,
        timestamps: None,
        traffic_class: 0,
        hop_limit: 64,
        payload: Bytes::from_static(b"abc"),
    };
    let (_, read) = Segment::parse_ip(&segment.encode(&key)).unwrap();
    assert_eq!((read.flags, &read.payload[..]), (Flags::ACK, &b"abc"[..]));
}

/// The packet with these IPv6 extension headers: kind, and the bytes behind next header and length.
fn with_extensions(packet: &[u8], headers: &[(u8, &[u8])]) -> Vec<u8> {
    let mut chain = Vec::new();
    for (number, (_, body)) in headers.iter().enumerate() {
        let next = headers.get(number + 1).map_or(6, |(kind, _)| *kind);
        assert_eq!((body.len() + 2) % 8, 0);
        chain.extend([next, ((body.len() + 2) / 8 - 1) as u8]);
        chain.extend(*body);
    }
    let mut with = packet[..40].to_vec();
    with[6] = headers.first().map_or(6, |(kind, _)| *kind);
    with.extend(&chain);
    with.extend(&packet[40..]);
    let length = (with.len() - 40) as u16;
    with[4..6].copy_from_slice(&length.to_be_bytes());
    with
}

#[test]
fn extension_headers_are_walked_over() {
    let key = FlowKey::new(
        "[2001::1]:1".parse().unwrap(),
        "[2001::2]:80".parse().unwrap(),
    );
    let segment = Segment {
        seq: Seq(1),
        ack: Seq(2),
        flags: Flags::ACK,
        window: 3,
        timestamps: None,
        traffic_class: 0,
        hop_limit: 64,
        payload: Bytes::from_static(b"abc"),
    };
    let packet = segment.encode(&key);
    let parse = |headers: &[(u8, &[u8])]| Segment::parse_ip(&with_extensions(&packet, headers));
    let (pad, long): ([u8; 6], [u8; 14]) = ([1, 4, 0, 0, 0, 0], [0; 14]);
    let arrived = [0, 0, 0, 0, 0, 0];
    let passing = [0, 1, 0, 0, 0, 0];
    let whole = Ok((key, segment.clone()));
    assert_eq!(parse(&[(0, &pad)]), whole);
    assert_eq!(
        parse(&[(0, &pad), (60, &long), (43, &arrived), (60, &pad)]),
        whole
    );
    let five = [(60, &pad[..]); 5];
    assert_eq!(parse(&five), Err(ParseError::Protocol(60)), "too many");
    assert_eq!(parse(&[(43, &passing)]), Err(ParseError::Routing));
    assert_eq!(parse(&[(44, &pad)]), Err(ParseError::Fragment));
    assert_eq!(
        parse(&[(0, &pad), (44, &pad)]),
        Err(ParseError::Fragment),
        "a fragment behind another header"
    );
    assert_eq!(parse(&[(51, &pad)]), Err(ParseError::Protocol(51)));
    let whole = with_extensions(&packet, &[(0, &pad), (60, &long)]);
    for cut in 0..whole.len() {
        assert!(Segment::parse_ip(&whole[..cut]).is_err(), "cut at {cut}");
    }
}
