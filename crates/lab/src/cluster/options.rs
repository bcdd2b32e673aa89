//! What a lab shall be like.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::impair::Faults;
use crate::topology::{Family, Kind, Topology};
use crate::units;

/// How the pools' bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mechanism {
    Handoff,
    Relay,
}

impl Mechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Handoff => "handoff",
            Self::Relay => "relay",
        }
    }
}

/// How a balancer chooses the proxy of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Balance {
    /// By its connection
    Flow,
    /// In turn, some packets each
    Batch,
    /// At random
    Random,
}

impl Balance {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Batch => "batch",
            Self::Random => "random",
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Hosts proxy1..; several without a balancer share the client's connections as a router with several next hops spreads them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) proxies: u8,
    /// Hosts balancer1.. in front of the proxies
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=4))]
    pub(crate) balancers: u8,
    /// How balancers spread packets
    #[arg(long, value_enum, default_value_t = Balance::Flow)]
    pub(crate) balance: Balance,
    /// How often nodes say that they are there, if not as usual
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) heartbeat: Option<Duration>,
    /// Hosts backend1..
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub(crate) backends: u8,
    #[arg(long, value_enum, default_value_t = Mechanism::Handoff)]
    pub(crate) mechanism: Mechanism,
    /// Rate of every cable in each direction
    #[arg(long, value_name = "RATE", value_parser = units::bit_rate)]
    pub(crate) link_rate: Option<u64>,
    /// Rate of the client's cable, if another than that of the others
    #[arg(long, value_name = "RATE", value_parser = units::bit_rate)]
    pub(crate) client_link_rate: Option<u64>,
    /// Rate of the proxies' cables, if another than that of the others
    #[arg(skip)]
    pub(crate) proxy_link_rate: Option<u64>,
    #[command(flatten)]
    pub(crate) faults: Faults,
    /// The VIP and the nodes' addresses are IPv6
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// The nodes of the back ends are on another network (10.78.0.20+N, fd78::20+N): proxies reach them through UDP
    #[arg(long)]
    pub(crate) routed: bool,
    /// Of faults and of generated files
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The back ends are for measuring: they write no access log, and connections spread evenly over their workers.
    #[arg(skip)]
    pub(crate) measured: bool,
    /// Hosts whose cables are in the hands of a case
    #[arg(skip)]
    pub(crate) tapped: &'static [&'static str],
}

impl Options {
    pub(crate) fn topology(&self) -> Topology {
        Topology {
            balancers: match self.mechanism {
                Mechanism::Handoff => self.balancers,
                Mechanism::Relay => 0,
            },
            proxies: self.proxies,
            backends: self.backends,
        }
    }

    /// Whether several nodes share what clients send.
    pub(crate) fn shared(&self) -> bool {
        self.mechanism == Mechanism::Handoff && (self.proxies > 1 || self.balancers > 0)
    }

    /// Whether the client's host spreads connections over the proxies, in place of a balancer.
    pub(crate) fn spread_by_client(&self) -> bool {
        self.shared() && self.balancers == 0
    }

    /// Of a host's cable.
    pub(crate) fn rate_of(&self, kind: Kind) -> Option<u64> {
        let own = match kind {
            Kind::Client => self.client_link_rate,
            Kind::Proxy => self.proxy_link_rate,
            Kind::Balancer | Kind::Backend => None,
        };
        own.or(self.link_rate)
    }

    pub(crate) fn family(&self) -> Family {
        if self.ipv6 { Family::V6 } else { Family::V4 }
    }
}
