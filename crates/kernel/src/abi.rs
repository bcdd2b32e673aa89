//! The layouts of `bpf/include/abi.h`, as the skeletons generated them, and their way to and from bytes.

pub use crate::skeletons::backend::types::{
    access_answer, access_request, lease, notice, served_flow, service,
};
pub use crate::skeletons::balancer::types::spread;
pub use crate::skeletons::proxy::types::{
    endpoint, flow_entry, known_key, known_request, known_rules, membership, pool_cards, pool_key,
    punt, server, settings, vip,
};
use baton_packet::FlowKey;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Values of `enum flow_state`.
pub mod flow_state {
    /// The first request is with user space.
    pub const PENDING: u8 = 1;
    /// Packets go to the server.
    pub const BOUND: u8 = 2;
    /// The connection was reset: what still comes of it is answered so.
    pub const RESET: u8 = 3;
}

/// Values of `enum flow_flags`.
pub mod flow_flags {
    /// Boundary at infinity.
    pub const PINNED: u8 = 1 << 0;
    /// The server has the newest bind header.
    pub const CONFIRMED: u8 = 1 << 1;
    /// Bound to this node's relay.
    pub const LOCAL: u8 = 1 << 2;
    /// A SYN came for it.
    pub const REUSED: u8 = 1 << 3;
    /// A FIN or RST passed.
    pub const CLOSING: u8 = 1 << 4;
    /// Bound to another proxy's relay.
    pub const ELSEWHERE: u8 = 1 << 5;
}

/// Values of `enum tcp_offer`.
pub mod offer {
    /// RFC 7323 timestamps.
    pub const TIMESTAMPS: u8 = 1 << 0;
    /// RFC 2018 selective acknowledgement.
    pub const SACK: u8 = 1 << 1;
    /// RFC 7323 window scaling.
    pub const WSCALE: u8 = 1 << 2;
    /// All of them.
    pub const ALL: u8 = TIMESTAMPS | SACK | WSCALE;
}

/// Slots of flows, each of which has one owner.
pub const SLOTS: usize = 16384;

/// Places for the cluster's proxies.
pub const PEERS_MAX: usize = 32;

/// What the SYN-ACK promises as window scale (`PROMISED_WSCALE` in `proxy.bpf.c`): servers must keep to it.
pub const PROMISED_WSCALE: u8 = 10;

/// Values of `enum served_state`.
pub mod served_state {
    /// A socket here answers it.
    pub const HELD: u8 = 1;
    /// Released.
    pub const FENCED: u8 = 2;
    /// Closed by both sides.
    pub const ENDED: u8 = 3;
    /// Given to the kernel; nothing of a socket was seen yet.
    pub const ADOPTING: u8 = 4;
    /// Its bind failed.
    pub const REFUSED: u8 = 5;
}

pub(crate) const ACCESS_SAME: u32 = u32::MAX;

/// Values of `enum access_what`.
pub(crate) mod access_what {
    pub(crate) const REQUEST: u32 = 1;
    pub(crate) const ANSWER: u32 = 2;
    pub(crate) const END: u32 = 3;
}

/// Values of `enum refusal`.
pub mod refusal {
    /// Nobody listens at the service's address.
    pub const NO_LISTENER: u8 = 1;
    /// `bpf_sk_assign_tcp_reqsk` failed.
    pub const BY_KERNEL: u8 = 2;
    /// The listener is an MPTCP socket.
    pub const MPTCP: u8 = 4;
}

/// A type that any bytes of its size make, and that has no padding.
///
/// # Safety
/// Implementors are `repr(C)`, hold integers only, and every byte of them belongs to a field.
pub(crate) unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($type:ty: $size:literal),* $(,)?) => { $(
        // SAFETY: integers only; the size is the sum of the fields' (checked here), so there is no padding.
        unsafe impl Plain for $type {}
        const _: () = assert!(size_of::<$type>() == $size);
    )* };
}

plain! {
    endpoint: 20, flow_entry: 96, membership: 16400, punt: 48, settings: 96, server: 40, vip: 8,
    known_key: 16, known_request: 4, known_rules: 24, pool_key: 8, pool_cards: 4232,
    lease: 8, notice: 68, access_request: 72, access_answer: 48, served_flow: 128, service: 20,
    spread: 16396, u8: 1, u32: 4,
    crate::skeletons::backend::types::settings: 96,
    crate::skeletons::backend::types::flow_key: 36, crate::skeletons::proxy::types::flow_key: 36,
}

pub(crate) fn as_bytes<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `Plain`: all bytes are initialised; the slice lives as long as the value.
    unsafe { std::slice::from_raw_parts((value as *const T).cast(), size_of::<T>()) }
}

/// The value at the beginning of `bytes`, if there are enough of them.
pub(crate) fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    (bytes.len() >= size_of::<T>())
        // SAFETY: long enough, `Plain` takes any bytes, and the read needs no alignment.
        .then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// An address as four words in network byte order, IPv4 mapped.
pub(crate) fn address_words(address: IpAddr) -> [u32; 4] {
    let mapped = match address {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    };
    let bytes = mapped.octets();
    std::array::from_fn(|i| u32::from_ne_bytes(std::array::from_fn(|j| bytes[4 * i + j])))
}

pub(crate) fn address_from_words(words: [u32; 4]) -> IpAddr {
    let mut bytes = [0; 16];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(bytes).to_canonical()
}

/// The keys of an address and port in `vips` and `services`: itself, and the address alone (fragments).
pub(crate) fn endpoint_keys(at: SocketAddr) -> [Vec<u8>; 2] {
    [at.port(), 0].map(|port| {
        let key = endpoint {
            address: address_words(at.ip()),
            port: port.to_be(),
            pad: 0,
        };
        as_bytes(&key).to_vec()
    })
}

pub(crate) fn socket_address(at: &endpoint) -> SocketAddr {
    SocketAddr::new(address_from_words(at.address), u16::from_be(at.port))
}

/// The flow key at the beginning of a map's key; none if it is too short.
pub(crate) fn key_from_bytes(bytes: &[u8]) -> Option<FlowKey> {
    bytes.first_chunk().map(FlowKey::from_bytes)
}
