//! The relay of a proxy: flows that need a real TCP endpoint are bound to this node itself. Its own agent on `lo` adopts them for listeners
//! on the loopback addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use baton_kernel::{Backend, Counters, Queue, Service, Settings, Told};
use baton_relay::{Limits, Stats, serve};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};

use crate::backend::{REMEMBER, has_socket};
use crate::config::Config;
use crate::context::{Context, Ending, Stopper, stop};
use crate::relays::{ByPolicy, listen};

pub(super) struct LocalRelay {
    agent: Backend,
    listeners: [SocketAddr; 2],
    limits: watch::Sender<Limits>,
    stats: Arc<Stats>,
    tasks: JoinSet<()>,
    stopper: Stopper,
}

impl LocalRelay {
    /// Has the kernel check its agent's program, which takes a while, beside other things.
    pub(super) fn load(config: &Config, settings: &Settings) -> JoinHandle<Result<Backend>> {
        let (settings, flows) = (anywhere(settings), config.proxy.max_flows);
        spawn_blocking(move || Ok(Backend::load_adopting(&settings, flows)?))
    }

    /// Listens, and adopts what is sent to it.
    pub(super) fn start(agent: Backend, context: &Context, config: &Config) -> Result<LocalRelay> {
        let (limits, receiver) = watch::channel(config.relay);
        let dispatch = Arc::new(ByPolicy::new(
            context.config.clone(),
            context.health.clone(),
            context.checks.clone(),
        ));
        let stats = Arc::new(Stats::default());
        let (stopper, stop) = stop();
        let mut tasks = JoinSet::new();
        let mut open = |address: IpAddr| -> Result<SocketAddr> {
            let listener = listen(SocketAddr::new(address, 0))?;
            let at = listener.local_addr()?;
            let (dispatch, limits, stats, mut stop) = (
                dispatch.clone(),
                receiver.clone(),
                stats.clone(),
                stop.clone(),
            );
            tasks.spawn(
                async move { serve(listener, dispatch, limits, stats, stop.requested()).await },
            );
            Ok(at)
        };
        let listeners = [
            open(Ipv4Addr::LOCALHOST.into())?,
            open(Ipv6Addr::LOCALHOST.into())?,
        ];
        let mut relay = LocalRelay {
            agent,
            listeners,
            limits,
            stats,
            tasks,
            stopper,
        };
        relay.serve_vips(config)?;
        relay
            .agent
            .attach(&[baton_kernel::interface_index("lo")?])?;
        Ok(relay)
    }

    /// Takes new VIPs, limits and keys; routes are followed by themselves.
    pub(super) fn reload(&mut self, config: &Config, settings: &Settings) -> Result<()> {
        self.limits.send_replace(config.relay);
        self.agent.set_settings(&anywhere(settings));
        self.serve_vips(config)
    }

    pub(super) fn counters(&self) -> Result<Counters> {
        Ok(self.agent.counters()?)
    }

    /// What the agent has to tell.
    pub(super) fn told(&self) -> Result<Queue<Told>> {
        Ok(self.agent.told()?)
    }

    pub(super) fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Forgets flows that are over.
    pub(super) fn sweep(&self) {
        if let Err(error) = self.agent.sweep(REMEMBER, has_socket) {
            tracing::warn!(%error, "the relay's flows could not be swept");
        }
    }

    /// Lets requests in flight finish.
    pub(super) async fn stop(mut self) {
        self.stopper.stop(Ending::Leave);
        while self.tasks.join_next().await.is_some() {}
    }

    fn serve_vips(&self, config: &Config) -> Result<()> {
        let handed_off = config
            .vips
            .iter()
            .filter(|vip| vip.handoff)
            .flat_map(|vip| &vip.addresses);
        let service = |vip: &SocketAddr| Service {
            vip: *vip,
            listen: self.listeners[usize::from(vip.is_ipv6())],
        };
        let services: Vec<_> = handed_off.map(service).collect();
        Ok(self.agent.set_services(&services)?)
    }
}

/// On `lo` a message may be to any address.
fn anywhere(settings: &Settings) -> Settings {
    let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), settings.address.port());
    Settings {
        address,
        ..settings.clone()
    }
}
