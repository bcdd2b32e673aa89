//! What a node does: its roles, each a task that runs until it is told to stop.

use crate::config::Config;
use crate::context::Context;
use crate::{backend, balancer, proxy, relays};

/// Something that a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves VIPs that have handoff pools.
    Proxy,
    /// Serves VIPs that have relay pools only.
    Relay,
    /// Gives clients' packets to proxies.
    Balancer,
    /// Adopts flows for a web server of this machine.
    Backend,
}

impl Role {
    /// What this configuration asks for.
    pub fn of(config: &Config) -> Vec<Self> {
        let roles = config.node.roles;
        let has_vip = |handoff| config.vips.iter().any(|vip| vip.handoff == handoff);
        let asked = [
            (Self::Proxy, roles.proxy && has_vip(true)),
            (Self::Relay, roles.proxy && has_vip(false)),
            (Self::Balancer, roles.balancer),
            (Self::Backend, roles.backend),
        ];
        asked
            .into_iter()
            .filter(|(_, asked)| *asked)
            .map(|(role, _)| role)
            .collect()
    }

    /// Its name in status, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Relay => "relay",
            Self::Balancer => "balancer",
            Self::Backend => "backend",
        }
    }

    /// Runs it until the context says stop.
    pub(crate) async fn run(self, context: Context) -> anyhow::Result<()> {
        match self {
            Self::Proxy => proxy::run(context).await,
            Self::Relay => relays::run(context).await,
            Self::Balancer => balancer::run(context).await,
            Self::Backend => backend::run(context).await,
        }
    }
}
