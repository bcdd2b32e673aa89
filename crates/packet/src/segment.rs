use std::fmt;
use std::ops::{BitOr, Sub};

use bytes::Bytes;

use crate::{FlowKey, Seq, ip};

/// The most payload that one encoded packet carries, whatever its headers (bytes). Longer segments are
/// [`split`](Segment::split) first.
pub const MAX_PAYLOAD: usize = 65_535 - 40 - 60;

/// One TCP segment, with those fields of its IP header that are passed on.
///
/// The urgent pointer is not kept: the bytes it marks are read in their place like all others, and
/// [`encode`](Segment::encode) clears URG, so that the server reads exactly the bytes that were routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number of the first payload byte (of the SYN, if there is one).
    pub seq: Seq,
    /// Acknowledgement number; meaningless without [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// Window as sent, not scaled.
    pub window: u16,
    /// The timestamps option (RFC 7323).
    pub timestamps: Option<Timestamps>,
    /// DSCP and ECN bits: IPv4 type of service, IPv6 traffic class.
    pub traffic_class: u8,
    /// IPv4 time to live, IPv6 hop limit.
    pub hop_limit: u8,
    /// The data.
    pub payload: Bytes,
}

/// Values of the TCP timestamps option (RFC 7323, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the newest TSval that the sender has seen.
    pub echo: u32,
}

impl Segment {
    /// Reads a client's packet, which begins at its IP header.
    ///
    /// IPv4 with any header length but no fragments; IPv6 with at most four extension headers, no fragments. Bytes after the packet's own
    /// length are ignored. The TCP checksum is verified, because [`encode`](Segment::encode) makes a new one; one that the
    /// kernel has left to be completed by the sending side (the pseudo header's sum) is right as well.
    ///
    /// # Errors
    /// [`ParseError`](crate::ParseError) says what is wrong with a packet that is none of the above.
    pub fn parse_ip(packet: &[u8]) -> Result<(FlowKey, Segment), crate::ParseError> {
        ip::parse(packet)
    }

    /// The packet from the client to the VIP, from the IP header on, with all checksums. Options other than
    /// timestamps are absent. At most [`MAX_PAYLOAD`] bytes of payload fit; the rest is cut off.
    pub fn encode(&self, key: &FlowKey) -> Vec<u8> {
        ip::encode(self, key.client(), key.vip())
    }

    /// The packet from the VIP to the client, otherwise as [`encode`](Segment::encode).
    pub fn encode_reply(&self, key: &FlowKey) -> Vec<u8> {
        ip::encode(self, key.vip(), key.client())
    }

    /// The sequence number after this segment, counting SYN and FIN.
    pub fn end(&self) -> Seq {
        let controls =
            u32::from(self.flags.contains(Flags::SYN)) + u32::from(self.flags.contains(Flags::FIN));
        self.payload_end() + controls
    }

    /// The sequence number after the last payload byte. (A segment's payload is shorter than 2^32 bytes.)
    pub fn payload_end(&self) -> Seq {
        self.seq + self.payload.len() as u32
    }

    /// The parts before and from `seq` on. A FIN belongs to the byte before it: right at `seq` it is before, behind it after. What has
    /// neither payload nor FIN is before.
    pub fn split_at(self, seq: Seq) -> (Option<Segment>, Option<Segment>) {
        let before = seq - self.seq;
        let says_nothing = self.payload.is_empty() && !self.flags.contains(Flags::FIN);
        if says_nothing || self.payload_end().at_or_before(seq) {
            return (Some(self), None);
        }
        if before <= 0 {
            return (None, Some(self));
        }
        let mut first = self.clone();
        first.flags = self.flags - (Flags::FIN | Flags::PSH);
        let payload = first.payload.split_off(before as usize);
        (
            Some(first),
            Some(Segment {
                seq,
                payload,
                flags: self.flags - Flags::CWR,
                ..self
            }),
        )
    }

    /// The same bytes in segments of at most `mss_payload` bytes (at least one): a packet that the kernel hands over
    /// may be many segments merged (GSO). FIN and PSH stay with the last, CWR with the first (RFC 3168, section 6.1.2).
    pub fn split(&self, mss_payload: usize) -> impl Iterator<Item = Segment> {
        let size = mss_payload.max(1);
        let pieces = self.payload.len().div_ceil(size).max(1);
        (0..pieces).map(move |i| {
            let begin = i * size;
            let end = (begin + size).min(self.payload.len());
            let mut flags = self.flags;
            if i > 0 {
                flags = flags - Flags::CWR;
            }
            if i + 1 < pieces {
                flags = flags - (Flags::FIN | Flags::PSH);
            }
            Segment {
                seq: self.seq + begin as u32,
                flags,
                payload: self.payload.slice(begin..end),
                ..self.clone()
            }
        })
    }
}

/// TCP's control bits, as in byte 13 of the header.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Push.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgement number counts.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent pointer counts.
    pub const URG: Flags = Flags(0x20);
    /// ECN echo.
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced.
    pub const CWR: Flags = Flags(0x80);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub fn intersects(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// The bits of `self` that are not in `other`.
impl Sub for Flags {
    type Output = Flags;

    fn sub(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let set = (0..)
            .zip(NAMES)
            .filter(|(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| name);
        f.write_str(&set.collect::<Vec<_>>().join("|"))
    }
}
