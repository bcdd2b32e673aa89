//! What a lab shall be like.

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

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Hosts proxy1.. (the first announces the VIP)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub(crate) proxies: u8,
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
            proxies: self.proxies,
            backends: self.backends,
        }
    }

    /// Of a host's cable.
    pub(crate) fn rate_of(&self, kind: Kind) -> Option<u64> {
        let own = self.client_link_rate.filter(|_| kind == Kind::Client);
        own.or(self.link_rate)
    }

    pub(crate) fn family(&self) -> Family {
        if self.ipv6 { Family::V6 } else { Family::V4 }
    }
}
