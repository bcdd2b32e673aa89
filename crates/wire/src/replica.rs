use std::net::{IpAddr, Ipv6Addr};

use baton_packet::{FlowKey, Seq};

use crate::cursor::{Kind, Reader, Writer, address, octets};
use crate::{Key, Keys, WireError};

/// Entries in one datagram; with them it fits into any usual path's MTU.
pub const MAX_REPLICAS: usize = 11;

const HEADER: usize = 16;
const EACH: usize = 120;

const PINNED: u8 = 1;
const CONFIRMED: u8 = 2;
const LOCAL: u8 = 4;
const REUSED: u8 = 8;
const CLOSING: u8 = 16;

const PENDING: u8 = 1;
const BOUND: u8 = 2;
const RESET: u8 = 3;

const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WINDOW_SCALING: u8 = 4;

/// A flow's entry at another proxy, many in one datagram.
///
/// ```text
///  0       4       6       8                 16
/// +-------+-------+-------+-----------------+
/// |prefix | count |   0   |   tag           |  then for each
/// +-------+-------+-------+-----------------+
///
///  0              36      37      38      39       40
/// +--------------+-------+-------+-------+--------+
/// | flow key     | state | flags |offers | wscale |
/// +--------------+-------+-------+-------+--------+
/// | address of the server (16)                    | 40
/// +-----------+-----------+-----------+-----------+
/// |   epoch   | boundary  | bind_seq  | bind_ack  | 56
/// +-----------+-----------+-----------+-----------+
/// |unconfirmed| header_end| header_ack| requests  | 72
/// +-----------+-----------+-----------+-----------+
/// | bodiless  | newest_ack| newest TS |  min_rtt  | 88
/// +-----+-----+-----------+-----------+-----------+
/// |windw| mss | first_seq | first_ack |     0     | 104
/// +-----+-----+-----------+-----------+-----------+ 120
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The flow.
    pub key: FlowKey,
    /// Who has it.
    pub holder: Holder,
    /// The boundary is at infinity.
    pub pinned: bool,
    /// The server has the newest bind header.
    pub confirmed: bool,
    /// A SYN came for it.
    pub reused: bool,
    /// A FIN or RST passed.
    pub closing: bool,
    /// Timestamps were agreed with the client.
    pub timestamps: bool,
    /// Selective acknowledgements were agreed with the client.
    pub sack: bool,
    /// The client's window scale; `None`: neither side scales.
    pub wscale: Option<u8>,
    /// The client's MSS (bytes).
    pub mss: u16,
    /// Number of the bind.
    pub epoch: u32,
    /// Client sequence number at which its next request begins.
    pub boundary: Seq,
    /// Client sequence number at which it was (or will be) bound.
    pub bind_seq: Seq,
    /// Server sequence number at which it was (or will be) bound.
    pub bind_ack: Seq,
    /// Client bytes from here to `header_end` need the bind header until the flow is confirmed.
    pub unconfirmed: Seq,
    /// See `unconfirmed`.
    pub header_end: Seq,
    /// Confirmed once the client acknowledges more than this.
    pub header_ack: Seq,
    /// Requests since the bind.
    pub requests: u32,
    /// Bit i: request number `requests - i` is a HEAD.
    pub bodiless: u32,
    /// Newest acknowledgement number of the client.
    pub newest_ack: Seq,
    /// Newest TSval of the client.
    pub newest_tsval: u32,
    /// Smallest round trip seen (ms).
    pub min_rtt_ms: Option<u32>,
    /// Newest window of the client, not scaled.
    pub window: u16,
    /// Sequence number of the connection's first segment.
    pub first_seq: Seq,
    /// Its acknowledgement number.
    pub first_ack: Seq,
}

/// Who has a flow, by the address of the node: numbers differ from node to node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody yet.
    Nobody,
    /// This back end.
    Server(IpAddr),
    /// The relay of this proxy.
    Relay(IpAddr),
    /// Nobody any more: the connection was reset.
    Reset,
}

/// Datagrams that carry all replicas, [`MAX_REPLICAS`] in each.
pub fn encode_replicas(replicas: &[Replica], key: &Key) -> impl Iterator<Item = Vec<u8>> {
    replicas.chunks(MAX_REPLICAS).map(move |chunk| {
        let mut message = vec![0; HEADER + EACH * chunk.len()];
        let mut fields = Writer::new(&mut message);
        fields
            .bytes(&Kind::Entries.prefix())
            .u16(chunk.len() as u16)
            .skip(2 + 8);
        for replica in chunk {
            replica.write(&mut fields);
        }
        key.seal(&mut message, &[]);
        message
    })
}

/// Reads a datagram.
///
/// # Errors
/// [`WireError`]: not entries, or none of the keys made it.
pub fn decode_replicas(message: &[u8], keys: &Keys) -> Result<Vec<Replica>, WireError> {
    let mut fields = Reader(message.get(4..).unwrap_or_default());
    let count = usize::from(fields.u16());
    if count > MAX_REPLICAS {
        return Err(WireError::Length(message.len()));
    }
    Kind::Entries.check(message, HEADER + EACH * count)?;
    keys.open(message, &[])?;
    fields.bytes::<10>();
    (0..count).map(|_| Replica::read(&mut fields)).collect()
}

impl Replica {
    pub(crate) fn write(&self, fields: &mut Writer<'_>) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let nowhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let (state, local, server) = match self.holder {
            Holder::Nobody => (PENDING, false, nowhere),
            Holder::Server(server) => (BOUND, false, server),
            Holder::Relay(proxy) => (BOUND, true, proxy),
            Holder::Reset => (RESET, false, nowhere),
        };
        fields
            .bytes(&self.key.to_bytes())
            .u8(state)
            .u8(flag(self.pinned, PINNED)
                | flag(self.confirmed, CONFIRMED)
                | flag(local, LOCAL)
                | flag(self.reused, REUSED)
                | flag(self.closing, CLOSING))
            .u8(flag(self.timestamps, TIMESTAMPS)
                | flag(self.sack, SACK)
                | flag(self.wscale.is_some(), WINDOW_SCALING))
            .u8(self.wscale.unwrap_or(0))
            .bytes(&octets(server))
            .u32(self.epoch)
            .u32(self.boundary.0)
            .u32(self.bind_seq.0)
            .u32(self.bind_ack.0)
            .u32(self.unconfirmed.0)
            .u32(self.header_end.0)
            .u32(self.header_ack.0)
            .u32(self.requests)
            .u32(self.bodiless)
            .u32(self.newest_ack.0)
            .u32(self.newest_tsval)
            .u32(self.min_rtt_ms.unwrap_or(u32::MAX))
            .u16(self.window)
            .u16(self.mss)
            .u32(self.first_seq.0)
            .u32(self.first_ack.0)
            .skip(4);
    }

    pub(crate) fn read(fields: &mut Reader<'_>) -> Result<Replica, WireError> {
        let key = fields.flow_key();
        let (state, flags) = (fields.u8(), fields.u8());
        let (offers, wscale) = (fields.u8(), fields.u8());
        let server = address(fields.bytes());
        let replica = Replica {
            key,
            holder: match state {
                PENDING => Holder::Nobody,
                BOUND if flags & LOCAL != 0 => Holder::Relay(server),
                BOUND => Holder::Server(server),
                RESET => Holder::Reset,
                other => return Err(WireError::Value(other)),
            },
            pinned: flags & PINNED != 0,
            confirmed: flags & CONFIRMED != 0,
            reused: flags & REUSED != 0,
            closing: flags & CLOSING != 0,
            timestamps: offers & TIMESTAMPS != 0,
            sack: offers & SACK != 0,
            wscale: (offers & WINDOW_SCALING != 0).then_some(wscale),
            epoch: fields.u32(),
            boundary: fields.seq(),
            bind_seq: fields.seq(),
            bind_ack: fields.seq(),
            unconfirmed: fields.seq(),
            header_end: fields.seq(),
            header_ack: fields.seq(),
            requests: fields.u32(),
            bodiless: fields.u32(),
            newest_ack: fields.seq(),
            newest_tsval: fields.u32(),
            min_rtt_ms: Some(fields.u32()).filter(|rtt| *rtt != u32::MAX),
            window: fields.u16(),
            mss: fields.u16(),
            first_seq: fields.seq(),
            first_ack: fields.seq(),
        };
        fields.bytes::<4>();
        Ok(replica)
    }
}
