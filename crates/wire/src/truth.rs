use baton_packet::{FlowKey, Seq};

use crate::cursor::{Kind, Reader, Writer};
use crate::{Key, Keys, Scales, WireError};

/// Length of a question and of its answer (bytes).
///
/// ```text
///  0       4       5       6       8
/// +-------+-------+-------+-------+
/// |prefix | state | flags |  mss  |
/// +-------+-------+-------+-------+
/// |             tag               |  8
/// +---------------+---------------+
/// |  flow key (36 bytes)          | 16
/// |               +---------------+
/// |               |    scales     | 52
/// +---------------+---------------+
/// |    epoch      |     seq       | 56
/// +---------------+---------------+
/// |     ack       |   boundary    | 64
/// +---------------+---------------+
/// |   requests    |   bodiless    | 72
/// +---------------+---------------+
/// |     next      |     nonce     | 80
/// +---------------+---------------+ 88
/// ```
pub const ASK_LEN: usize = 88;

const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WINDOW_SCALING: u8 = 4;
const PINNED: u8 = 8;

/// What do you know of this flow? Proxy to whoever may have it. The answer comes from there to the address and port that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The flow.
    pub key: FlowKey,
    /// Comes back as it is: an answer that was recorded answers no other question.
    pub nonce: u32,
}

/// What is known of a flow where it is, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// The flow.
    pub key: FlowKey,
    /// As asked.
    pub nonce: u32,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a flow at one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server has it.
    Held(Known),
    /// No such flow here, or its bind was refused.
    Unknown,
    /// The server has let go of it, at this boundary.
    Released(Known),
    /// The connection has ended here.
    Ended(Known),
    /// A socket has it, but the agent was restarted and knows nothing else: the flow stays here to its end.
    Forgotten,
}

/// A flow's state, as its newest header said, and what its server has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Timestamps were agreed with the client.
    pub timestamps: bool,
    /// Selective acknowledgements were agreed with the client.
    pub sack: bool,
    /// Window scales agreed with the client; `None`: neither side scales.
    pub scales: Option<Scales>,
    /// The boundary is at infinity.
    pub pinned: bool,
    /// The client's MSS (bytes).
    pub mss: u16,
    /// Of the bind.
    pub epoch: u32,
    /// Client sequence number at which the flow was bound.
    pub seq: Seq,
    /// Server sequence number at which the flow was bound.
    pub ack: Seq,
    /// Client sequence number at which its next request will begin.
    pub boundary: Seq,
    /// Requests since the bind.
    pub requests: u32,
    /// Bit i: request number `requests - i` is a HEAD.
    pub bodiless: u32,
    /// The server's next sequence number: what the client can have acknowledged is at most this. Of a flow that was released: where the
    /// next server goes on.
    pub next: Seq,
}

impl Ask {
    /// The datagram.
    pub fn encode(&self, key: &Key) -> [u8; ASK_LEN] {
        encode(Kind::Ask, key, &self.key, self.nonce, 0, None)
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`WireError`]: not a question, or none of the keys made it.
    pub fn decode(message: &[u8], keys: &Keys) -> Result<Ask, WireError> {
        let (_, key, nonce, _) = decode(Kind::Ask, message, keys)?;
        Ok(Ask { key, nonce })
    }

    /// The answer.
    pub fn answer(&self, fate: Fate) -> Truth {
        Truth {
            key: self.key,
            nonce: self.nonce,
            fate,
        }
    }
}

impl Truth {
    /// The datagram.
    pub fn encode(&self, key: &Key) -> [u8; ASK_LEN] {
        let (state, known) = match &self.fate {
            Fate::Held(known) => (1, Some(known)),
            Fate::Unknown => (2, None),
            Fate::Released(known) => (3, Some(known)),
            Fate::Ended(known) => (4, Some(known)),
            Fate::Forgotten => (5, None),
        };
        encode(Kind::Truth, key, &self.key, self.nonce, state, known)
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`WireError`]: not an answer, or none of the keys made it.
    pub fn decode(message: &[u8], keys: &Keys) -> Result<Truth, WireError> {
        let (state, key, nonce, known) = decode(Kind::Truth, message, keys)?;
        let fate = match state {
            1 => Fate::Held(known),
            2 => Fate::Unknown,
            3 => Fate::Released(known),
            4 => Fate::Ended(known),
            5 => Fate::Forgotten,
            other => return Err(WireError::Value(other)),
        };
        Ok(Truth { key, nonce, fate })
    }
}

fn encode(
    kind: Kind,
    key: &Key,
    flow: &FlowKey,
    nonce: u32,
    state: u8,
    known: Option<&Known>,
) -> [u8; ASK_LEN] {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let mut message = [0; ASK_LEN];
    let mut fields = Writer::new(&mut message);
    fields.bytes(&kind.prefix()).u8(state);
    match known {
        Some(known) => fields
            .u8(flag(known.timestamps, TIMESTAMPS)
                | flag(known.sack, SACK)
                | flag(known.scales.is_some(), WINDOW_SCALING)
                | flag(known.pinned, PINNED))
            .u16(known.mss)
            .skip(8)
            .bytes(&flow.to_bytes())
            .u32(known.scales.map_or(0, |scales| scales.byte().into()))
            .u32(known.epoch)
            .u32(known.seq.0)
            .u32(known.ack.0)
            .u32(known.boundary.0)
            .u32(known.requests)
            .u32(known.bodiless)
            .u32(known.next.0),
        None => fields.skip(3 + 8).bytes(&flow.to_bytes()).skip(8 * 4),
    };
    fields.u32(nonce);
    key.seal(&mut message, &[]);
    message
}

fn decode(kind: Kind, message: &[u8], keys: &Keys) -> Result<(u8, FlowKey, u32, Known), WireError> {
    kind.check(message, ASK_LEN)?;
    keys.open(message, &[])?;
    let mut fields = Reader(&message[4..]);
    let (state, flags, mss) = (fields.u8(), fields.u8(), fields.u16());
    fields.bytes::<8>();
    let (flow, scales) = (fields.flow_key(), fields.u32());
    let known = Known {
        timestamps: flags & TIMESTAMPS != 0,
        sack: flags & SACK != 0,
        scales: (flags & WINDOW_SCALING != 0).then(|| Scales::of(scales as u8)),
        pinned: flags & PINNED != 0,
        mss,
        epoch: fields.u32(),
        seq: fields.seq(),
        ack: fields.seq(),
        boundary: fields.seq(),
        requests: fields.u32(),
        bodiless: fields.u32(),
        next: fields.seq(),
    };
    Ok((state, flow, fields.u32(), known))
}
