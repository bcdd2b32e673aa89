use crate::cursor::Kind;

/// Bytes before the client's packet in a `forward` message.
///
/// ```text
///  0       4               8
/// +-------+---------------+
/// |prefix |       0       |   then the client's IP packet
/// +-------+---------------+
/// ```
pub const FORWARD_LEN: usize = 8;

/// The whole header: it says nothing but what it is.
pub const FORWARD_HEADER: [u8; FORWARD_LEN] = {
    let [a, b, c, d] = Kind::Forward.prefix();
    [a, b, c, d, 0, 0, 0, 0]
};
