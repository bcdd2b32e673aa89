//! Which hosts a lab has, and their addresses: pure facts, the same in every lab.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Port of the VIP.
pub(crate) const VIP_PORT: u16 = 80;
/// Port where the back ends' nginx listens, on loopback and on the host's address.
pub(crate) const HTTP_PORT: u16 = 8080;
/// The one interface of every host.
pub(crate) const INTERFACE: &str = "eth0";

/// What a host is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Client,
    Balancer,
    Proxy,
    Backend,
}

/// A host: name and last number of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    number: u8,
}

impl Host {
    pub(crate) fn v4(&self) -> Ipv4Addr {
        v4(self.number)
    }

    pub(crate) fn v6(&self) -> Ipv6Addr {
        v6(self.number)
    }

    pub(crate) fn address(&self, family: Family) -> IpAddr {
        family.address(self.number)
    }

    /// On the network that is not the proxies' one.
    pub(crate) fn routed_address(&self, family: Family) -> IpAddr {
        family.routed_address(self.number)
    }
}

/// The address family of the VIP, and of all that nodes say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn address(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => v4(number).into(),
            Self::V6 => v6(number).into(),
        }
    }

    fn routed_address(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 78, 0, number).into(),
            Self::V6 => {
                let [_, rest @ ..] = v6(number).segments();
                let [a, b, c, d, e, f, g] = rest;
                Ipv6Addr::new(0xfd78, a, b, c, d, e, f, g).into()
            }
        }
    }

    pub(crate) fn vip(self) -> SocketAddr {
        SocketAddr::new(self.address(10), VIP_PORT)
    }

    /// Prefix length of a single address.
    pub(crate) fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// How many hosts of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Topology {
    /// At most 4.
    pub(crate) balancers: u8,
    /// At most 8.
    pub(crate) proxies: u8,
    /// At most 200.
    pub(crate) backends: u8,
}

impl Topology {
    /// All hosts: the client, the balancers, the proxies, the back ends.
    pub(crate) fn hosts(&self) -> Vec<Host> {
        let mut hosts = vec![self.client()];
        hosts.extend(self.servers());
        hosts
    }

    /// All but the client.
    pub(crate) fn servers(&self) -> Vec<Host> {
        let mut hosts = self.balancers();
        hosts.extend(self.proxies());
        hosts.extend(self.backends());
        hosts
    }

    pub(crate) fn client(&self) -> Host {
        Host {
            name: "client".to_owned(),
            kind: Kind::Client,
            number: 1,
        }
    }

    pub(crate) fn balancers(&self) -> Vec<Host> {
        numbered("balancer", Kind::Balancer, 4, self.balancers)
    }

    pub(crate) fn proxies(&self) -> Vec<Host> {
        numbered("proxy", Kind::Proxy, 10, self.proxies)
    }

    pub(crate) fn backends(&self) -> Vec<Host> {
        numbered("backend", Kind::Backend, 20, self.backends)
    }
}

/// Hosts `name1` to `nameCOUNT`, the addresses right above `base`.
fn numbered(name: &str, kind: Kind, base: u8, count: u8) -> Vec<Host> {
    (1..=count)
        .map(|n| Host {
            name: format!("{name}{n}"),
            kind,
            number: base + n,
        })
        .collect()
}

/// `10.77.0.N`
fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

/// `fd77::N`, with the decimal digits of the IPv4 number so that both look alike.
fn v6(number: u8) -> Ipv6Addr {
    let digits =
        u16::from(number / 100) << 8 | u16::from(number / 10 % 10) << 4 | u16::from(number % 10);
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_names_and_addresses() {
        let hosts = Topology {
            balancers: 1,
            proxies: 2,
            backends: 3,
        }
        .hosts();
        let told: Vec<String> = hosts
            .iter()
            .map(|h| format!("{} {} {}", h.name, h.v4(), h.v6()))
            .collect();
        assert_eq!(
            told,
            [
                "client 10.77.0.1 fd77::1",
                "balancer1 10.77.0.5 fd77::5",
                "proxy1 10.77.0.11 fd77::11",
                "proxy2 10.77.0.12 fd77::12",
                "backend1 10.77.0.21 fd77::21",
                "backend2 10.77.0.22 fd77::22",
                "backend3 10.77.0.23 fd77::23",
            ]
        );
        assert_eq!(Family::V4.vip().to_string(), "10.77.0.10:80");
        assert_eq!(Family::V6.vip().to_string(), "[fd77::10]:80");
    }

    #[test]
    fn no_two_hosts_share_an_address_in_the_largest_lab() {
        let hosts = Topology {
            balancers: 4,
            proxies: 8,
            backends: 200,
        }
        .hosts();
        let mut v4: Vec<_> = hosts.iter().map(Host::v4).collect();
        let mut v6: Vec<_> = hosts.iter().map(Host::v6).collect();
        v4.sort();
        v4.dedup();
        v6.sort();
        v6.dedup();
        assert_eq!((v4.len(), v6.len()), (213, 213));
        assert!(!v4.contains(&Ipv4Addr::new(10, 77, 0, 10)));
    }
}
