//! Role balancer: gives each packet to one of the live proxies, and keeps nothing of flows.
//!
//! ```text
//!  interface -> BPF (bpf/balancer.bpf.c) -> a proxy
//!                     ^ who is in which place
//!               watcher (one thread): heartbeats of proxies -> Shares; of other balancers -> Takeover
//!                     | whether the VIPs' addresses are to be here
//!                     v
//!               this task: addresses, announcements; start, reload, stop
//! ```

mod numbers;
mod watcher;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use baton_kernel::{Balancer, Injector, PEERS_MAX, Server, Via};

use crate::addresses::{Addresses, Interface, Placed, Subnets};
use crate::config::{Config, Vip};
use crate::context::Context;
use crate::keys;
use numbers::Numbers;
use watcher::{Posture, Watcher};

/// Leaving takes no longer than this.
const LEAVE: Duration = Duration::from_secs(5);

/// Runs until asked to stop; then what it attached and added is gone.
pub(crate) async fn run(mut context: Context) -> Result<()> {
    let mut config = context.config.borrow_and_update().clone();
    let mut program = Balancer::load()?;
    let mut addresses = Addresses::new()?;
    apply(&program, &config)?;
    let numbers = Arc::new(Numbers::new(program.counters()?, &config));
    let (watcher, mut posture) = Watcher::start(&program, &context, &config, numbers.clone())?;
    let emitter = program.emitter()?;
    for interface in &config.node.interfaces {
        program.attach(baton_kernel::interface_index(interface)?)?;
    }
    context
        .registry
        .ready("balancer", move || numbers.samples());
    tracing::info!(
        vips = config.vips.len(),
        proxies = config.cluster.proxies.len(),
        "balancer attached"
    );

    let mut present = Posture::default();
    loop {
        tokio::select! {
            () = context.stop.requested() => break,
            Ok(()) = posture.changed() => {
                let next = *posture.borrow_and_update();
                if let Err(error) = assume(&config, &mut addresses, &emitter, present, next).await {
                    tracing::error!(error = format!("{error:#}"), "the VIPs' addresses could not be moved as the balancers have agreed");
                }
                present = next;
            }
            changed = context.config.changed() => {
                changed.context("the configuration's source is gone")?;
                let next = context.config.borrow_and_update().clone();
                let applied = apply(&program, &next).and_then(|()| watcher.follow(&next));
                let moved = match applied {
                    Ok(()) => assume(&next, &mut addresses, &emitter, Posture::default(), present).await,
                    error => error,
                };
                match moved {
                    Ok(()) => config = next,
                    Err(error) => tracing::error!(error = format!("{error:#}"), "the new configuration could not be applied in full"),
                }
            }
        }
    }
    // Another one takes over when it hears that this one leaves; until then the program goes on.
    context.duty.leave();
    tokio::time::sleep((2 * config.cluster.heartbeat_interval).min(LEAVE)).await;
    watcher.stop();
    drop(program);
    addresses.hold(&BTreeSet::new()).await?;
    Ok(())
}

fn apply(program: &Balancer, config: &Config) -> Result<()> {
    let vips: Vec<SocketAddr> = vips(config).flat_map(|vip| vip.addresses.clone()).collect();
    program.set_vips(&vips)?;
    let proxies = proxies(config, &vips)?;
    for index in 0..PEERS_MAX {
        program.set_proxy(index, proxies.get(index).copied())?;
    }
    Ok(())
}

/// Those that proxies hand off: connections to the others are made by a proxy's own kernel, which must see all their packets.
fn vips(config: &Config) -> impl Iterator<Item = &Vip> {
    config.vips.iter().filter(|vip| vip.handoff)
}

/// The ways to the proxies.
fn proxies(config: &Config, vips: &[SocketAddr]) -> Result<Vec<Server>> {
    let subnets = Subnets::of(&config.node.interfaces)?;
    let source = keys::address(config)?.ip();
    let first = config.node.interfaces.first();
    let first = first.context("[node] interfaces is empty")?;
    let first = baton_kernel::interface_index(first)?;
    let way = |address: IpAddr| {
        // A neighbour is reached by its link-layer address, which is looked up in the packet's own family.
        let one_family = vips.iter().all(|vip| vip.is_ipv6() == address.is_ipv6());
        let near = subnets.neighbour(address).filter(|_| one_family);
        Server {
            address,
            source,
            ifindex: near.unwrap_or(first),
            via: near.map_or(Via::Udp, |_| Via::Neighbour),
        }
    };
    let proxies = config.cluster.proxies.iter();
    Ok(proxies.map(|proxy| way(proxy.address)).collect())
}

/// Has the addresses, or not, as `next` says, and tells the network of it.
async fn assume(
    config: &Config,
    addresses: &mut Addresses,
    emitter: &Injector,
    before: Posture,
    next: Posture,
) -> Result<()> {
    let interface = config.node.interfaces.first();
    let interface = interface.context("[node] interfaces is empty")?;
    let wanted = if next.holds {
        Placed::of_vips(vips(config), interface)
    } else {
        BTreeSet::new()
    };
    addresses.hold(&wanted).await?;
    if before.holds != next.holds {
        let doing = if next.holds { "has" } else { "gives up" };
        tracing::info!("this balancer {doing} the VIPs' addresses");
    }
    if before.announcements != next.announcements {
        let interface = Interface::of(interface)?;
        for placed in &wanted {
            let frame = baton_packet::announcement(placed.address, interface.link_address);
            emitter.inject(interface.index, &frame)?;
        }
    }
    Ok(())
}
