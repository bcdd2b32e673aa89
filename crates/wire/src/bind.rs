use baton_packet::{FlowKey, Seq};

use crate::cursor::{Kind, Reader, Writer};
use crate::{Key, Keys, WireError};

/// Length of the header (bytes); the client's IP packet follows it.
pub const BIND_LEN: usize = 48;

const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WINDOW_SCALING: u8 = 4;
const PINNED: u8 = 8;
const TELL: u8 = 16;

/// The state of a connection that the client's packet does not carry: proxy to back end, in front of that packet.
///
/// ```text
///  0       4       5       6       8
/// +-------+-------+-------+-------+
/// |prefix | flags |scales |  mss  |
/// +-------+-------+-------+-------+
/// |             tag               |  8
/// +---------------+---------------+
/// |    epoch      |     seq       | 16
/// +---------------+---------------+
/// |     ack       |   boundary    | 24
/// +---------------+---------------+
/// |   requests    |   bodiless    | 32
/// +---------------+---------------+
/// |    clock      |   service     | 40
/// +---------------+---------------+ 48
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Timestamps were agreed with the client.
    pub timestamps: bool,
    /// Selective acknowledgements were agreed with the client.
    pub sack: bool,
    /// Window scales agreed with the client; `None`: neither side scales.
    pub scales: Option<Scales>,
    /// The boundary is at infinity: nothing is parsed any more.
    pub pinned: bool,
    /// The agent is asked how much of the client's bytes the flow's socket has taken: it answers with the notice
    /// [`Taken`](crate::What::Taken).
    pub tell: bool,
    /// The client's MSS (bytes).
    pub mss: u16,
    /// Number of the bind in the flow's life.
    pub epoch: u32,
    /// Client sequence number at which the flow was bound; only a packet with exactly this one makes a socket.
    pub seq: Seq,
    /// Server sequence number at which the flow was bound.
    pub ack: Seq,
    /// Client sequence number at which its next request will begin.
    pub boundary: Seq,
    /// Requests since the bind.
    pub requests: u32,
    /// Bit i: the answer to request number `requests - i` has no body, because it is a HEAD.
    pub bodiless: u32,
    /// The cluster's clock now (ms); the server's TSval goes on from it.
    pub clock: u32,
}

/// Window scale shifts (RFC 7323, section 2), at most 14.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scales {
    /// The client's own.
    pub client: u8,
    /// The one promised to the client in the SYN-ACK.
    pub server: u8,
}

impl Scales {
    /// The client's in the high half, the promised one in the low half.
    pub(crate) fn byte(self) -> u8 {
        self.client.min(14) << 4 | self.server.min(14)
    }

    pub(crate) fn of(byte: u8) -> Scales {
        Scales {
            client: (byte >> 4).min(14),
            server: (byte & 15).min(14),
        }
    }
}

impl Bind {
    /// The header in front of a packet of flow `key`, which the tag covers too.
    pub fn encode(&self, key: &Key, flow: &FlowKey) -> [u8; BIND_LEN] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut message = [0; BIND_LEN];
        Writer::new(&mut message)
            .bytes(&Kind::Bind.prefix())
            .u8(flag(self.timestamps, TIMESTAMPS)
                | flag(self.sack, SACK)
                | flag(self.scales.is_some(), WINDOW_SCALING)
                | flag(self.pinned, PINNED)
                | flag(self.tell, TELL))
            .u8(self.scales.map_or(0, Scales::byte))
            .u16(self.mss)
            .skip(8)
            .u32(self.epoch)
            .u32(self.seq.0)
            .u32(self.ack.0)
            .u32(self.boundary.0)
            .u32(self.requests)
            .u32(self.bodiless)
            .u32(self.clock);
        key.seal(&mut message, &flow.to_bytes());
        message
    }

    /// Reads the header, the first [`BIND_LEN`] bytes of a message whose packet is of flow `flow`.
    ///
    /// # Errors
    /// [`WireError`]: not such a header, or one that none of the keys made for this flow.
    pub fn decode(header: &[u8], keys: &Keys, flow: &FlowKey) -> Result<Bind, WireError> {
        Kind::Bind.check(header, BIND_LEN)?;
        keys.open(header, &flow.to_bytes())?;
        let mut fields = Reader(&header[4..]);
        let (flags, scales, mss) = (fields.u8(), fields.u8(), fields.u16());
        fields.bytes::<8>();
        Ok(Bind {
            timestamps: flags & TIMESTAMPS != 0,
            sack: flags & SACK != 0,
            scales: (flags & WINDOW_SCALING != 0).then(|| Scales::of(scales)),
            pinned: flags & PINNED != 0,
            tell: flags & TELL != 0,
            mss,
            epoch: fields.u32(),
            seq: fields.seq(),
            ack: fields.seq(),
            boundary: fields.seq(),
            requests: fields.u32(),
            bodiless: fields.u32(),
            clock: fields.u32(),
        })
    }
}
