//! Packets: what is read is written back the same, and others read it the same.

use baton_packet::{Flags, FlowKey, ParseError, Segment, Timestamps};
use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TransportSlice};

use crate::split_first;

/// A byte that says whether the checksum is made right first and where the segment is split, and a packet.
pub fn run(data: &[u8]) {
    let (how, packet) = split_first(data);
    let mut packet = packet.to_vec();
    if how & 1 == 1 {
        make_checksum_right(&mut packet);
    }
    match Segment::parse_ip(&packet) {
        Ok((key, segment)) => {
            goes_round(&key, &segment);
            agrees_with_etherparse(&packet, &key, &segment);
            splits(&segment, usize::from(how >> 1));
        }
        Err(error) => {
            let longer = [&packet[..], &[0; 40]].concat();
            let read = Segment::parse_ip(&longer).is_ok();
            assert!(!read || error == ParseError::Truncated, "{error}");
            let options = error == ParseError::Option;
            assert!(!options || timestamps(&packet).is_none(), "no fault in it");
        }
    }
}

/// Writes the pseudo header's sum, as a sender that leaves the rest to its network card.
fn make_checksum_right(packet: &mut [u8]) {
    let (header, addresses, length) = match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= 20 => {
            let header = usize::from(packet[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            (header, 12..20, total.saturating_sub(header))
        }
        Some(6) if packet.len() >= 40 => {
            let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            (40, 8..40, length)
        }
        _ => return,
    };
    let words = packet[addresses].chunks(2);
    let sum: usize = words
        .map(|word| usize::from(word[0]) << 8 | usize::from(word[1]))
        .sum();
    let mut sum = sum + 6 + length;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    if let Some(field) = packet.get_mut(header + 16..header + 18) {
        field.copy_from_slice(&(sum as u16).to_be_bytes());
    }
}

fn goes_round(key: &FlowKey, segment: &Segment) {
    let sent = Segment {
        flags: segment.flags - Flags::URG,
        ..segment.clone()
    };
    assert_eq!(Segment::parse_ip(&segment.encode(key)), Ok((*key, sent)));
    let (reply, _) = Segment::parse_ip(&segment.encode_reply(key)).unwrap();
    assert_eq!((reply.client(), reply.vip()), (key.vip(), key.client()));
    assert_eq!(FlowKey::from_bytes(&key.to_bytes()), *key);
}

fn agrees_with_etherparse(packet: &[u8], key: &FlowKey, segment: &Segment) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else {
        panic!("not TCP for etherparse: {sliced:?}");
    };
    match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            assert_eq!(key.client().ip(), ip.header().source_addr());
            assert_eq!(key.vip().ip(), ip.header().destination_addr());
            assert!(!ip.header().is_fragmenting_payload());
        }
        NetSlice::Ipv6(ip) => {
            assert_eq!(key.client().ip(), ip.header().source_addr());
            assert_eq!(key.vip().ip(), ip.header().destination_addr());
        }
        other => panic!("neither IPv4 nor IPv6: {other:?}"),
    }
    assert_eq!(
        (key.client().port(), key.vip().port()),
        (tcp.source_port(), tcp.destination_port())
    );
    assert_eq!(
        (segment.seq.0, segment.ack.0),
        (tcp.sequence_number(), tcp.acknowledgment_number())
    );
    assert_eq!(segment.window, tcp.window_size());
    assert_eq!(&segment.payload[..], tcp.payload());
    if let Some(timestamps) = timestamps(packet) {
        assert_eq!(segment.timestamps, timestamps);
    }
}

/// What etherparse finds, if it knows all options.
fn timestamps(packet: &[u8]) -> Option<Option<Timestamps>> {
    let sliced = SlicedPacket::from_ip(packet).ok()?;
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else {
        return None;
    };
    let options: Vec<_> = tcp.options_iterator().collect::<Result<_, _>>().ok()?;
    let mut found = options.into_iter().filter_map(|option| match option {
        TcpOptionElement::Timestamp(value, echo) => Some(Timestamps { value, echo }),
        _ => None,
    });
    Some(found.next_back())
}

fn splits(segment: &Segment, size: usize) {
    let parts: Vec<_> = segment.split(size).collect();
    let bytes: Vec<u8> = parts
        .iter()
        .flat_map(|part| part.payload.to_vec())
        .collect();
    assert_eq!(bytes, segment.payload);
    assert!(parts.iter().all(|part| part.payload.len() <= size.max(1)));
    assert_eq!(parts[0].seq, segment.seq);
    assert_eq!(parts[parts.len() - 1].end(), segment.end());
    for two in parts.windows(2) {
        assert_eq!(two[0].payload_end(), two[1].seq);
        assert!(!two[0].flags.intersects(Flags::FIN | Flags::PSH));
    }
    let (before, after) = segment.clone().split_at(segment.seq + size as u32);
    let both: Vec<_> = before.iter().chain(&after).collect();
    assert_eq!(both[0].seq, segment.seq);
    assert_eq!(both[both.len() - 1].end(), segment.end());
    let length: usize = both.iter().map(|part| part.payload.len()).sum();
    assert_eq!(length, segment.payload.len());
}
