use baton_packet::{FlowKey, Seq};

use crate::cursor::{Kind, Reader, Writer};
use crate::{Key, Keys, Replica, WireError};

/// Bytes of a client in one datagram (with them it fits into any usual path's MTU).
pub const MAX_KEPT: usize = 1200;

const HEADER: usize = 144;
const KEPT_LEN: usize = 56;

/// Keep these bytes of a client that it will not send again: from a flow's owner to its successor.
///
/// ```text
///  0       4       6       8
/// +-------+-------+-------+
/// |prefix | length|   0   |
/// +-------+-------+-------+
/// |         tag           |  8
/// +-----------------------+
/// |  entry (120 bytes)    | 16   as in `entries`
/// +-----------+-----------+
/// |    seq    |    end    | 136
/// +-----------+-----------+ 144, then the bytes
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The flow.
    pub entry: Replica,
    /// Client sequence number of the first byte.
    pub seq: Seq,
    /// The client is told that all before this has arrived, or will be.
    pub end: Seq,
    /// At most [`MAX_KEPT`].
    pub bytes: Vec<u8>,
}

/// The answer: all before this is kept.
///
/// ```text
///  0       4               8
/// +-------+---------------+
/// |prefix |       0       |
/// +-------+---------------+
/// |         tag           |  8
/// +-----------------------+
/// |  flow key (36 bytes)  | 16
/// |           +-----------+
/// |           |    end    | 52
/// +-----------+-----------+ 56
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The flow.
    pub key: FlowKey,
    /// Client sequence number after the last byte that is kept.
    pub end: Seq,
}

impl Keep {
    /// The datagram.
    pub fn encode(&self, key: &Key) -> Vec<u8> {
        let bytes = &self.bytes[..self.bytes.len().min(MAX_KEPT)];
        let mut message = vec![0; HEADER + bytes.len()];
        let mut fields = Writer::new(&mut message);
        fields
            .bytes(&Kind::Keep.prefix())
            .u16(bytes.len() as u16)
            .skip(2 + 8);
        self.entry.write(&mut fields);
        fields.u32(self.seq.0).u32(self.end.0).bytes(bytes);
        key.seal(&mut message, &[]);
        message
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`WireError`]: not such a message, or none of the keys made it.
    pub fn decode(message: &[u8], keys: &Keys) -> Result<Keep, WireError> {
        let mut fields = Reader(message.get(4..).unwrap_or_default());
        let length = usize::from(fields.u16());
        if length > MAX_KEPT {
            return Err(WireError::Length(message.len()));
        }
        Kind::Keep.check(message, HEADER + length)?;
        keys.open(message, &[])?;
        fields.bytes::<10>();
        let entry = Replica::read(&mut fields)?;
        Ok(Keep {
            entry,
            seq: fields.seq(),
            end: fields.seq(),
            bytes: fields.0.to_vec(),
        })
    }
}

impl Kept {
    /// The datagram.
    pub fn encode(&self, key: &Key) -> Vec<u8> {
        let mut message = vec![0; KEPT_LEN];
        Writer::new(&mut message)
            .bytes(&Kind::Kept.prefix())
            .skip(4 + 8)
            .bytes(&self.key.to_bytes())
            .u32(self.end.0);
        key.seal(&mut message, &[]);
        message
    }

    /// Reads a datagram.
    ///
    /// # Errors
    /// [`WireError`]: not such a message, or none of the keys made it.
    pub fn decode(message: &[u8], keys: &Keys) -> Result<Kept, WireError> {
        Kind::Kept.check(message, KEPT_LEN)?;
        keys.open(message, &[])?;
        let mut fields = Reader(&message[16..]);
        Ok(Kept {
            key: fields.flow_key(),
            end: fields.seq(),
        })
    }
}
