//! Numbers in network byte order, one after another. Lengths are checked before: reading past the end gives zeros,
//! writing past the end writes nothing.

use std::net::{IpAddr, Ipv6Addr};

use baton_packet::{FLOW_KEY_LEN, FlowKey, Seq};

use crate::WireError;

const MAGIC: [u8; 2] = *b"BT";
const VERSION: u8 = 1;

/// What a message is, byte 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Bind = 1,
    Forward = 2,
    Release = 3,
    ReleaseAnswer = 4,
    Notices = 5,
    Heartbeat = 6,
    Pass = 7,
    Entries = 8,
    Ask = 9,
    Truth = 10,
    Keep = 11,
    Kept = 12,
}

impl Kind {
    pub(crate) const fn prefix(self) -> [u8; 4] {
        [MAGIC[0], MAGIC[1], VERSION, self as u8]
    }

    /// Reads the prefix that all messages begin with.
    pub(crate) fn of(message: &[u8]) -> Result<Kind, WireError> {
        let [m0, m1, version, kind] = *message
            .first_chunk()
            .ok_or(WireError::Length(message.len()))?;
        if [m0, m1] != MAGIC {
            return Err(WireError::Magic);
        }
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        [
            Kind::Bind,
            Kind::Forward,
            Kind::Release,
            Kind::ReleaseAnswer,
            Kind::Notices,
            Kind::Heartbeat,
            Kind::Pass,
            Kind::Entries,
            Kind::Ask,
            Kind::Truth,
            Kind::Keep,
            Kind::Kept,
        ]
        .into_iter()
        .find(|known| *known as u8 == kind)
        .ok_or(WireError::Kind(kind))
    }

    /// Checks the prefix and the exact length of a message of this kind.
    pub(crate) fn check(self, message: &[u8], length: usize) -> Result<(), WireError> {
        let kind = Kind::of(message)?;
        if kind != self {
            return Err(WireError::Kind(kind as u8));
        }
        if message.len() != length {
            return Err(WireError::Length(message.len()));
        }
        Ok(())
    }
}

/// Reads fields in order.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((bytes, rest)) => {
                self.0 = rest;
                *bytes
            }
            None => [0; N],
        }
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.bytes())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes())
    }

    pub(crate) fn seq(&mut self) -> Seq {
        Seq(self.u32())
    }

    pub(crate) fn flow_key(&mut self) -> FlowKey {
        FlowKey::from_bytes(&self.bytes::<FLOW_KEY_LEN>())
    }
}

/// Writes fields in order into a message of fixed length.
pub(crate) struct Writer<'a> {
    message: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(message: &'a mut [u8]) -> Writer<'a> {
        Writer { message, at: 0 }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        if let Some(field) = self.message.get_mut(self.at..self.at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
        self.skip(bytes.len())
    }

    pub(crate) fn skip(&mut self, bytes: usize) -> &mut Self {
        self.at += bytes;
        self
    }

    pub(crate) fn u8(&mut self, number: u8) -> &mut Self {
        self.bytes(&[number])
    }

    pub(crate) fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(crate) fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }
}

/// IPv4 as `::ffff:a.b.c.d`.
pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

pub(crate) fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}
