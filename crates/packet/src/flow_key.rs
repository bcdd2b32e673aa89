use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Length of a flow key on the wire and in the kernel's maps (bytes).
pub const FLOW_KEY_LEN: usize = 36;

/// One client TCP connection to a VIP.
///
/// Its bytes (`docs/wire.md`, `struct flow_key` in `bpf/include/abi.h`): client address, VIP address (16 each, IPv4 as
/// `::ffff:a.b.c.d`), client port, VIP port, in network byte order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    client: Ipv6Addr,
    vip: Ipv6Addr,
    client_port: u16,
    vip_port: u16,
}

impl FlowKey {
    /// The flow between these two ends. Scope and flow label of an IPv6 address are not part of it.
    pub fn new(client: SocketAddr, vip: SocketAddr) -> FlowKey {
        FlowKey {
            client: mapped(client.ip()),
            vip: mapped(vip.ip()),
            client_port: client.port(),
            vip_port: vip.port(),
        }
    }

    /// The client's end.
    pub fn client(&self) -> SocketAddr {
        SocketAddr::new(self.client.to_canonical(), self.client_port)
    }

    /// The VIP's end.
    pub fn vip(&self) -> SocketAddr {
        SocketAddr::new(self.vip.to_canonical(), self.vip_port)
    }

    /// Whether the flow's packets are IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.vip.to_ipv4_mapped().is_none()
    }

    /// The layout drawn in `docs/wire.md`.
    pub fn to_bytes(&self) -> [u8; FLOW_KEY_LEN] {
        let mut bytes = [0; FLOW_KEY_LEN];
        bytes[..16].copy_from_slice(&self.client.octets());
        bytes[16..32].copy_from_slice(&self.vip.octets());
        bytes[32..34].copy_from_slice(&self.client_port.to_be_bytes());
        bytes[34..].copy_from_slice(&self.vip_port.to_be_bytes());
        bytes
    }

    /// The reverse of [`to_bytes`](FlowKey::to_bytes). Every 36 bytes are a flow key.
    pub fn from_bytes(bytes: &[u8; FLOW_KEY_LEN]) -> FlowKey {
        let address = |at: usize| Ipv6Addr::from(std::array::from_fn(|i| bytes[at + i]));
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        FlowKey {
            client: address(0),
            vip: address(16),
            client_port: port(32),
            vip_port: port(34),
        }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.client(), self.vip())
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_documented_one() {
        let key = FlowKey::new(
            "192.0.2.1:40000".parse().unwrap(),
            "198.51.100.7:80".parse().unwrap(),
        );
        let bytes = key.to_bytes();
        assert_eq!(
            bytes[..16],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]
        );
        assert_eq!(
            bytes[16..32],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 7]
        );
        assert_eq!(bytes[32..], [0x9c, 0x40, 0, 80]);
        assert_eq!(FlowKey::from_bytes(&bytes), key);
        assert_eq!(key.client().to_string(), "192.0.2.1:40000");
        assert!(!key.is_ipv6());
    }

    #[test]
    fn ipv6_goes_round() {
        let key = FlowKey::new(
            "[2001:db8::1]:1".parse().unwrap(),
            "[fd77::10]:8080".parse().unwrap(),
        );
        assert_eq!(FlowKey::from_bytes(&key.to_bytes()), key);
        assert!(key.is_ipv6());
        assert_eq!(key.to_string(), "[2001:db8::1]:1 -> [fd77::10]:8080");
    }
}
