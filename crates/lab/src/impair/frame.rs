//! Just enough of a frame's inside for a test's rules: IPv4 and IPv6 without extension headers.

const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// TCP flags (RFC 9293 3.1).
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// A TCP segment in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// `None`: the frame holds something else.
    pub(crate) fn of(frame: &'a [u8]) -> Option<Self> {
        let tcp = transport(frame, TCP)?;
        let header = usize::from(tcp.get(12)? >> 4) * 4;
        Some(Self {
            source_port: u16_at(tcp, 0)?,
            destination_port: u16_at(tcp, 2)?,
            seq: u32_at(tcp, 4)?,
            ack: u32_at(tcp, 8)?,
            flags: *tcp.get(13)?,
            payload: tcp.get(header..)?,
        })
    }
}

/// The hardware address of whom a frame is for.
pub(crate) fn destination(frame: &[u8]) -> Option<[u8; 6]> {
    frame.get(..6)?.try_into().ok()
}

/// The hardware address of who sent a frame.
pub(crate) fn source(frame: &[u8]) -> Option<[u8; 6]> {
    frame.get(6..12)?.try_into().ok()
}

/// The payload of a UDP datagram to or from `port`.
pub(crate) fn datagram(frame: &[u8], port: u16) -> Option<&[u8]> {
    let udp = transport(frame, UDP)?;
    let ports = (u16_at(udp, 0)?, u16_at(udp, 2)?);
    if ports.0 != port && ports.1 != port {
        return None;
    }
    udp.get(8..)
}

/// A frame like `frame` between the same hosts, with another TCP header, without options and payload.
pub(crate) fn forged(frame: &[u8], seq: u32, ack: u32, flags: u8) -> Option<Vec<u8>> {
    let (start, _) = bounds(frame)?;
    let tcp = frame.get(start..start + 4)?;
    let mut made = frame.get(..start)?.to_vec();
    made.extend(tcp);
    made.extend(seq.to_be_bytes());
    made.extend(ack.to_be_bytes());
    made.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let ip = ETHERNET;
    let length = made.len() - start;
    let addresses = if is_ipv6(frame)? {
        made[ip + 4..ip + 6].copy_from_slice(&(length as u16).to_be_bytes());
        ip + 8..ip + 40
    } else {
        let total = (made.len() - ip) as u16;
        made[ip + 2..ip + 4].copy_from_slice(&total.to_be_bytes());
        made[ip + 10..ip + 12].fill(0);
        let sum = checksum(&made[ip..start], 0);
        made[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        ip + 12..ip + 20
    };
    let pseudo = sum_of(&made[addresses]) + u32::from(TCP) + length as u32;
    let sum = checksum(&made[start..], pseudo);
    made[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
    Some(made)
}

/// What follows the IP header.
fn transport(frame: &[u8], protocol: u8) -> Option<&[u8]> {
    let found = if is_ipv6(frame)? {
        *frame.get(ETHERNET + 6)?
    } else {
        *frame.get(ETHERNET + 9)?
    };
    let (start, end) = bounds(frame)?;
    frame.get(start..end).filter(|_| found == protocol)
}

/// Where the transport's header begins, and where its payload ends.
fn bounds(frame: &[u8]) -> Option<(usize, usize)> {
    if is_ipv6(frame)? {
        let start = ETHERNET + 40;
        return Some((start, start + usize::from(u16_at(frame, ETHERNET + 4)?)));
    }
    let start = ETHERNET + usize::from(frame.get(ETHERNET)? & 15) * 4;
    Some((start, ETHERNET + usize::from(u16_at(frame, ETHERNET + 2)?)))
}

fn is_ipv6(frame: &[u8]) -> Option<bool> {
    match u16_at(frame, 12)? {
        0x0800 => Some(false),
        0x86dd => Some(true),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8], sum: u32) -> u16 {
    let mut sum = sum + sum_of(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn sum_of(bytes: &[u8]) -> u32 {
    bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, IPv4 10.77.0.1 to 10.77.0.10, TCP 1000 to 80 with a timestamp option and the payload "abc", padded to 70 bytes.
    fn frame() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        frame.extend([
            0x45, 0, 0, 55, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 0, 10,
        ]);
        frame.extend([
            0x03, 0xe8, 0, 80, 0, 0, 0, 7, 0, 0, 0, 9, 0x80, 0x18, 1, 0, 0, 0, 0, 0,
        ]);
        frame.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        frame.extend(b"abc");
        frame.resize(70, 0);
        frame
    }

    #[test]
    fn a_segment_is_read() {
        let expected = Segment {
            source_port: 1000,
            destination_port: 80,
            seq: 7,
            ack: 9,
            flags: 0x18,
            payload: b"abc",
        };
        assert_eq!(Segment::of(&frame()), Some(expected));
        assert_eq!(datagram(&frame(), 80), None);
    }

    #[test]
    fn a_forged_one_has_right_checksums_and_nothing_else() {
        let forged = forged(&frame(), 1, 2, RST).unwrap();
        let segment = Segment::of(&forged).unwrap();
        assert_eq!(
            (segment.seq, segment.ack, segment.flags, segment.payload),
            (1, 2, RST, &[][..])
        );
        assert_eq!(checksum(&forged[14..34], 0), 0);
        let pseudo = sum_of(&forged[26..34]) + 6 + 20;
        assert_eq!(checksum(&forged[34..], pseudo), 0);
    }

    #[test]
    fn nothing_cut_short_breaks_it() {
        let frame = frame();
        for end in 0..frame.len() {
            let cut = &frame[..end];
            let _ = (Segment::of(cut), datagram(cut, 80), forged(cut, 1, 2, RST));
        }
    }
}
