use baton_packet::{FlowKey, Seq};

use crate::cursor::{Kind, Reader, Writer};
use crate::{Key, Keys, WireError};

/// Notices in one datagram; with them it fits into any path's MTU.
pub const MAX_NOTICES: usize = 24;

const HEADER: usize = 16;
const EACH: usize = 52;

/// Something happened to a bind: agent to proxy, many in one datagram.
///
/// ```text
///  0       4       6       8                 each:   0      1      2      4            40      44      48      52
/// +-------+-------+-------+-----------------+       +------+------+------+------------+-------+-------+-------+
/// |prefix | count |   0   |   tag           |       | what |reason|  0   |  flow key  | epoch |  seq  |  ack  |
/// +-------+-------+-------+-----------------+       +------+------+------+------------+-------+-------+-------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub what: What,
    /// The flow.
    pub key: FlowKey,
    /// Of the bind it happened to.
    pub epoch: u32,
    /// Of the bind.
    pub seq: Seq,
    /// Of the bind; of [`What::Taken`]: where what the socket has taken ends, a client sequence number.
    pub ack: Seq,
}

/// What happened to a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A release that was answered *busy* may be tried again.
    Ready,
    /// The socket is gone: forget the entry.
    Gone,
    /// The bind failed.
    Refused {
        /// An `enum refusal` of `bpf/include/abi.h`.
        reason: u8,
    },
    /// A packet of a flow that is not held here.
    Unknown,
    /// The answer to a header that asks ([`Bind::tell`](crate::Bind::tell)): the socket has all of the client's bytes before `ack`.
    Taken,
}

/// Datagrams that carry all notices, [`MAX_NOTICES`] in each.
pub fn encode_notices(notices: &[Notice], key: &Key) -> impl Iterator<Item = Vec<u8>> {
    notices.chunks(MAX_NOTICES).map(move |chunk| {
        let mut message = vec![0; HEADER + EACH * chunk.len()];
        let mut fields = Writer::new(&mut message);
        fields
            .bytes(&Kind::Notices.prefix())
            .u16(chunk.len() as u16)
            .skip(2 + 8);
        for notice in chunk {
            let (what, reason) = match notice.what {
                What::Ready => (1, 0),
                What::Gone => (2, 0),
                What::Refused { reason } => (3, reason),
                What::Unknown => (4, 0),
                What::Taken => (5, 0),
            };
            fields
                .u8(what)
                .u8(reason)
                .skip(2)
                .bytes(&notice.key.to_bytes());
            fields.u32(notice.epoch).u32(notice.seq.0).u32(notice.ack.0);
        }
        key.seal(&mut message, &[]);
        message
    })
}

/// Reads a datagram.
///
/// # Errors
/// [`WireError`]: not notices, or none of the keys made it.
pub fn decode_notices(message: &[u8], keys: &Keys) -> Result<Vec<Notice>, WireError> {
    let mut fields = Reader(message.get(4..).unwrap_or_default());
    let count = usize::from(fields.u16());
    if count > MAX_NOTICES {
        return Err(WireError::Length(message.len()));
    }
    Kind::Notices.check(message, HEADER + EACH * count)?;
    keys.open(message, &[])?;
    fields.bytes::<10>();
    (0..count)
        .map(|_| {
            let (what, reason) = (fields.u8(), fields.u8());
            fields.bytes::<2>();
            Ok(Notice {
                what: match what {
                    1 => What::Ready,
                    2 => What::Gone,
                    3 => What::Refused { reason },
                    4 => What::Unknown,
                    5 => What::Taken,
                    other => return Err(WireError::Value(other)),
                },
                key: fields.flow_key(),
                epoch: fields.u32(),
                seq: fields.seq(),
                ack: fields.seq(),
            })
        })
        .collect()
}
