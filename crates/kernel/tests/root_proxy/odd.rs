//! Packets that are rare and right: ICMP errors, VLAN tags, IP options and extension headers, urgent data, ECN.

use super::*;

/// The packet with bytes between IPv6 header and TCP: `first` is the kind of the first extension header.
fn with_extensions(ip: &[u8], first: u8, chain: &[u8]) -> Vec<u8> {
    let mut with = [&ip[..40], chain, &ip[40..]].concat();
    with[6] = first;
    let length = (with.len() - 40) as u16;
    with[4..6].copy_from_slice(&length.to_be_bytes());
    with
}

/// The packet with IPv4 options.
fn with_options(ip: &[u8], options: &[u8]) -> Vec<u8> {
    let mut with = [&ip[..20], options, &ip[20..]].concat();
    with[0] = 0x40 | ((20 + options.len()) / 4) as u8;
    let length = with.len() as u16;
    with[2..4].copy_from_slice(&length.to_be_bytes());
    with[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&with[..20 + options.len()]);
    with[10..12].copy_from_slice(&sum.to_be_bytes());
    with
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
const TCP: u8 = 6;

fn padding(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

fn on6(packet: Tcp) -> Tcp {
    Tcp {
        from: at(CLIENT6),
        to: at(VIP6),
        ..packet
    }
}

fn bind6(bench: &Bench, entry: flow_entry) {
    let key = FlowKey::new(at(CLIENT6), at(VIP6));
    bench.proxy.flows().put(&key, &entry).unwrap();
}

#[test]
fn extension_headers_do_not_lead_past_the_vip() {
    let mut bench = Bench::new();
    bind6(&bench, bound(2000));
    let packet = on6(data(1000, 50)).ip();
    let routing = |left| [TCP, 0, 0, left, 0, 0, 0, 0];
    let chains: [(u8, Vec<u8>); 3] = [
        (HOP_BY_HOP, padding(TCP).to_vec()),
        (
            HOP_BY_HOP,
            [padding(DESTINATION), padding(ROUTING), routing(0)].concat(),
        ),
        (
            DESTINATION,
            [
                [DESTINATION, 1, 1, 12, 0, 0, 0, 0].to_vec(),
                vec![0; 8],
                padding(TCP).to_vec(),
            ]
            .concat(),
        ),
    ];
    for (first, chain) in chains {
        let long = with_extensions(&packet, first, &chain);
        let (verdict, after, moved, _) = bench.run(&frame(&long));
        assert_eq!(
            (verdict, moved),
            (REDIRECT, vec!["forwarded/bound".to_string()])
        );
        assert_eq!(after[14..], long[..], "unchanged");
    }
    let five = [[DESTINATION; 4], [TCP; 4]].concat();
    let five: Vec<u8> = five[..5].iter().flat_map(|next| padding(*next)).collect();
    for (first, chain, reason) in [
        (DESTINATION, five, "malformed"),
        (ROUTING, routing(1).to_vec(), "malformed"),
        (HOP_BY_HOP, vec![TCP, 255, 0, 0, 0, 0, 0, 0], "malformed"),
        (FRAGMENT, padding(TCP).to_vec(), "fragment"),
        (
            HOP_BY_HOP,
            [padding(FRAGMENT), padding(TCP)].concat(),
            "fragment",
        ),
    ] {
        let refused = frame(&with_extensions(&packet, first, &chain));
        assert_eq!(bench.verdict(&refused), dropped(reason));
    }
    // For another address they are the host's.
    let other = Tcp {
        to: at("[fd77::99]:80"),
        ..on6(data(1000, 50))
    };
    let other = frame(&with_extensions(&other.ip(), ROUTING, &routing(1)));
    assert_eq!(bench.verdict(&other), (NEXT, String::new()));
}

#[test]
fn a_handshake_behind_ip_options_is_answered_without_them() {
    let mut bench = Bench::new();
    let router_alert = [0x94, 4, 0, 0];
    let record_route = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for options in [&router_alert[..], &record_route, &[1; 40]] {
        let plain = bench.shake(&Tcp::syn(CLIENT, VIP));
        let syn = frame(&with_options(&Tcp::syn(CLIENT, VIP).ip(), options));
        let (verdict, answer, _, _) = bench.run(&syn);
        assert_eq!((verdict, answer[14]), (REDIRECT, 0x45));
        let (tcp, _) = tcp_of(&answer);
        assert_eq!(
            Some(tcp.sequence_number.wrapping_add(1)),
            plain.ack,
            "the same cookie"
        );
        let request = with_options(&plain.ip(), options);
        let (_, _, moved, punts) = bench.run(&frame(&request));
        assert_eq!(moved, ["punted/first_request"]);
        assert_eq!(punts[0].packet, request);
        baton_packet::Segment::parse_ip(&punts[0].packet).unwrap();
        bench.proxy.flows().remove(&punts[0].key);
    }
    let syn = Tcp::syn(CLIENT6, VIP6);
    let request = bench.shake(&syn);
    let long = |packet: &Tcp| frame(&with_extensions(&packet.ip(), HOP_BY_HOP, &padding(TCP)));
    let (_, answer, _, _) = bench.run(&long(&syn));
    let (tcp, _) = tcp_of(&answer);
    assert_eq!(Some(tcp.sequence_number.wrapping_add(1)), request.ack);
    assert_eq!(answer.len(), syn.frame().len());
    let (_, _, moved, punts) = bench.run(&long(&request));
    assert_eq!(moved, ["punted/first_request"]);
    let (_, segment) = baton_packet::Segment::parse_ip(&punts[0].packet).unwrap();
    assert_eq!(segment.payload, request.payload);
}

#[test]
fn ip_options_stay_on_what_is_forwarded() {
    let mut bench = Bench::new();
    bench.bind(bound(2000));
    let packet = with_options(&data(1000, 50).ip(), &[0x94, 4, 0, 0]);
    let (verdict, after, moved, _) = bench.run(&frame(&packet));
    assert_eq!(
        (verdict, moved),
        (REDIRECT, vec!["forwarded/bound".to_string()])
    );
    assert_eq!(after[14..], packet[..]);
}

/// A server that takes the urgent byte out of the stream would see another request than the one that was routed.
#[test]
fn urgent_data_are_in_line() {
    let mut bench = Bench::new();
    bench.bind(bound(2000));
    bind6(&bench, bound(2000));
    for packet in [data(1000, 50), on6(data(1000, 50))] {
        let mut urgent = Tcp {
            flags: "PU",
            ..packet.clone()
        }
        .ip();
        let tcp = if packet.from.is_ipv6() { 40 } else { 20 };
        // The pointer, and a checksum to it.
        urgent[tcp + 18..tcp + 20].copy_from_slice(&7u16.to_be_bytes());
        let sum = u16::from_be_bytes([urgent[tcp + 16], urgent[tcp + 17]]);
        let mut sum = u32::from(!sum) + 7;
        sum = (sum & 0xffff) + (sum >> 16);
        urgent[tcp + 16..tcp + 18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        tcp_of(&frame(&urgent));
        let (_, after, moved, _) = bench.run(&frame(&urgent));
        assert_eq!(moved, ["forwarded/bound"]);
        let (header, payload) = tcp_of(&after);
        assert!(!header.urg && header.psh);
        assert_eq!((header.urgent_pointer, payload.len()), (0, 50));
        assert_eq!(after[14..], packet.ip()[..], "and nothing else");
    }
}

#[test]
fn ecn_marks_and_reserved_bits_pass() {
    let mut bench = Bench::new();
    bench.bind(bound(2000));
    let mut marked = Tcp {
        flags: "PEW",
        ..data(1000, 50)
    }
    .frame();
    marked[14 + 1] = 0x03; // congestion experienced
    marked[14 + 20 + 12] |= 0x0f;
    let (verdict, after, _, _) = bench.run(&marked);
    assert_eq!((verdict, &after[14..]), (REDIRECT, &marked[14..]));
}

/// The tag that stands in the frame (a second one) hides what is in it.
#[test]
fn a_tagged_frame_is_for_the_vlan_s_own_interface() {
    let mut bench = Bench::new();
    let syn = Tcp::syn(CLIENT, VIP).frame();
    let tagged = [&syn[..12], &[0x81, 0, 0, 5], &syn[12..]].concat();
    assert_eq!(bench.verdict(&tagged), (NEXT, String::new()));
}

#[test]
fn an_icmp_error_goes_to_the_server_that_has_the_flow() {
    let mut bench = Bench::new();
    let on4 = data(1000, 300);
    let on6 = on6(on4.clone());
    let cases = [
        (&on4, 3, 4),
        (&on4, 3, 1),
        (&on4, 11, 0),
        (&on6, 2, 0),
        (&on6, 1, 3),
    ];
    for (flow, kind, code) in cases {
        let error = icmp_error(flow, kind, code, 1300);
        assert_eq!(bench.verdict(&error), dropped("no_flow"), "unknown");
    }
    bench.bind(bound(2000));
    bind6(&bench, bound(2000));
    for (flow, kind, code) in cases {
        let error = icmp_error(flow, kind, code, 1300);
        let (verdict, after, moved, _) = bench.run(&error);
        assert_eq!(
            (verdict, moved),
            (REDIRECT, vec!["forwarded/icmp_error".to_string()])
        );
        assert_eq!(after[14..], error[14..]);
    }
    let encapsulated = flow_entry {
        server: 1,
        ..bound(2000)
    };
    bench.bind(encapsulated);
    let error = icmp_error(&on4, 3, 4, 1300);
    let (_, after, moved, _) = bench.run(&error);
    assert_eq!(moved, ["forwarded/icmp_error"]);
    assert_eq!(after[14 + 28..][..8], [b'B', b'T', 1, 2, 0, 0, 0, 0]);
    assert_eq!(after[14 + 36..], error[14..]);
    bench.bind(flow_entry {
        flags: flow_flags::LOCAL,
        ..bound(2000)
    });
    assert_eq!(bench.verdict(&error), (NEXT, "passed/relay".into()));
}

#[test]
fn other_icmp_is_the_host_s() {
    let mut bench = Bench::new();
    bench.bind(bound(2000));
    let flow = data(1000, 300);
    let next = (NEXT, String::new());
    assert_eq!(
        bench.verdict(&icmp_error(&flow, 8, 0, 0)),
        next,
        "echo request"
    );
    assert_eq!(bench.verdict(&icmp_error(&flow, 5, 1, 0)), next, "redirect");
    let ssh = Tcp {
        to: at("10.77.0.10:22"),
        ..flow.clone()
    };
    assert_eq!(
        bench.verdict(&icmp_error(&ssh, 3, 4, 1300)),
        next,
        "a connection of the host"
    );
    let mut foreign = icmp_error(&flow, 3, 4, 1300);
    foreign[14 + 20 + 8 + 15] = 99; // quotes a packet that another address sent
    assert_eq!(bench.verdict(&foreign), next);
    let whole = icmp_error(&flow, 3, 4, 1300);
    for cut in 34..whole.len() {
        let (verdict, _, _, _) = bench.run(&whole[..cut]);
        assert_ne!(verdict, REDIRECT, "cut at {cut}");
    }
}
