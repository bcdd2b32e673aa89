use crate::cursor::Kind;

/// Bytes before the client's packet in a `pass` message.
///
/// ```text
///  0       4     5         8
/// +-------+-----+---------+
/// |prefix |hops |    0    |   then the client's IP packet
/// +-------+-----+---------+
/// ```
pub const PASS_LEN: usize = 8;

/// A packet is passed on at most so often: proxies may see their ownership differently for a moment.
pub const MAX_HOPS: u8 = 2;

/// The header of a packet that has been passed on `hops` times, this one included. From proxy to proxy; the packet says all that counts.
pub const fn pass_header(hops: u8) -> [u8; PASS_LEN] {
    let [a, b, c, d] = Kind::Pass.prefix();
    [a, b, c, d, hops, 0, 0, 0]
}
