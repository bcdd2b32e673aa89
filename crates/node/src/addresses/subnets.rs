//! Which servers are on the same network.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockaddrStorage;

/// The networks that some interfaces are on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subnets(Vec<Subnet>);

/// An address of an interface, with its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subnet {
    interface: u32,
    net: IpNet,
}

impl Subnets {
    /// The networks of these interfaces of the present network namespace.
    pub fn of(interfaces: &[String]) -> io::Result<Self> {
        let mut subnets = Vec::new();
        for address in getifaddrs()? {
            if !interfaces.contains(&address.interface_name) {
                continue;
            }
            let ip = address.address.as_ref().and_then(ip_of);
            let mask = address.netmask.as_ref().and_then(ip_of);
            let (Some(ip), Some(mask)) = (ip, mask) else {
                continue;
            };
            if let Ok(net) = IpNet::with_netmask(ip, mask) {
                let interface = if_nametoindex(address.interface_name.as_str())?;
                subnets.push(Subnet { interface, net });
            }
        }
        Ok(Self(subnets))
    }

    /// The index of the interface on whose network `server` is another host; `None` when it is reached by a router, or
    /// is this machine. The longest prefix wins.
    pub fn neighbour(&self, server: IpAddr) -> Option<u32> {
        if self.0.iter().any(|subnet| subnet.net.addr() == server) {
            return None;
        }
        let near = self.0.iter().filter(|subnet| subnet.net.contains(&server));
        near.max_by_key(|subnet| subnet.net.prefix_len())
            .map(|subnet| subnet.interface)
    }

    /// An address that another host of one of these networks may have, whether or not there is such a host; none of `taken`.
    pub fn another_host(&self, ipv6: bool, taken: &[IpAddr]) -> Option<IpAddr> {
        let own = |ip: IpAddr| self.0.iter().any(|subnet| subnet.net.addr() == ip);
        let free = |ip: &IpAddr| !taken.contains(ip) && !own(*ip);
        let suits = |net: &&IpNet| match net {
            IpNet::V4(net) => !ipv6 && net.prefix_len() < 30,
            IpNet::V6(net) => ipv6 && net.prefix_len() < 126 && !net.addr().is_unicast_link_local(),
        };
        let nets = self.0.iter().map(|subnet| &subnet.net);
        nets.filter(suits)
            .find_map(|net| before(net.broadcast()).take(3).find(free))
    }
}

/// The addresses below `last`, from above.
fn before(last: IpAddr) -> impl Iterator<Item = IpAddr> {
    (1u8..).map(move |n| match last {
        IpAddr::V4(ip) => IpAddr::from((ip.to_bits() - u32::from(n)).to_be_bytes()),
        IpAddr::V6(ip) => IpAddr::from((ip.to_bits() - u128::from(n)).to_be_bytes()),
    })
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(nets: &[(u32, &str)]) -> Subnets {
        let subnet = |(interface, net): &(u32, &str)| Subnet {
            interface: *interface,
            net: net.parse().unwrap(),
        };
        Subnets(nets.iter().map(subnet).collect())
    }

    #[test]
    fn a_neighbour_is_another_host_of_the_same_network() {
        let subnets = subnets(&[
            (2, "10.77.0.11/24"),
            (2, "10.77.0.10/32"),
            (3, "fd77::11/64"),
        ]);
        let neighbour = |ip: &str| subnets.neighbour(ip.parse().unwrap());
        assert_eq!(neighbour("10.77.0.21"), Some(2));
        assert_eq!(neighbour("fd77::21"), Some(3));
        assert_eq!(neighbour("10.77.1.21"), None, "another network");
        assert_eq!(neighbour("10.77.0.11"), None, "this machine");
        assert_eq!(
            neighbour("10.77.0.10"),
            None,
            "the VIP that this machine holds"
        );
    }

    #[test]
    fn the_longest_prefix_wins() {
        let subnets = subnets(&[(2, "10.0.0.1/8"), (3, "10.77.0.1/24"), (4, "10.77.0.2/16")]);
        assert_eq!(subnets.neighbour("10.77.0.21".parse().unwrap()), Some(3));
    }

    #[test]
    fn another_host_is_neither_this_one_nor_taken() {
        let subnets = subnets(&[
            (2, "10.77.0.10/32"),
            (2, "10.77.0.254/24"),
            (2, "fe80::1/64"),
            (3, "fd77::11/64"),
        ]);
        let other = |ipv6, taken: &[&str]| {
            let taken: Vec<_> = taken.iter().map(|ip| ip.parse().unwrap()).collect();
            subnets.another_host(ipv6, &taken).map(|ip| ip.to_string())
        };
        assert_eq!(other(false, &[]).as_deref(), Some("10.77.0.253"));
        assert_eq!(
            other(false, &["10.77.0.253"]).as_deref(),
            Some("10.77.0.252")
        );
        assert_eq!(
            other(true, &[]).as_deref(),
            Some("fd77::ffff:ffff:ffff:fffe")
        );
    }

    #[test]
    fn the_networks_of_this_machine_are_found() {
        let subnets = Subnets::of(&["lo".to_owned()]).unwrap();
        let index = if_nametoindex("lo").unwrap();
        assert_eq!(subnets.neighbour("127.0.0.2".parse().unwrap()), Some(index));
        assert_eq!(subnets.neighbour("127.0.0.1".parse().unwrap()), None);
    }
}
