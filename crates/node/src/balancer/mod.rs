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
use crate::{keys, pins};
use numbers::Numbers;
use watcher::{Posture, Watcher};

/// Leaving takes no longer than this.
const LEAVE: Duration = Duration::from_secs(5);

/// Runs until asked to stop; then what it attached and added is gone, or stays for the next process.
pub(crate) async fn run(mut context: Context) -> Result<()> {
    let mut config = context.config.borrow_and_update().clone();
    let pins = pins::open(&config, "balancer")?;
    let mut program = Balancer::load(pins)?;
    let mut addresses = Addresses::new()?;
    // A process before may have left them here.
    let mut present = Posture {
        holds: addresses.have_own(&placed(&config)?).await,
        announcements: 0,
    };
    let emitter = program.emitter()?;
    assume(&config, &mut addresses, &emitter, present, present).await?;
    apply(&program, &config)?;
    let numbers = Arc::new(Numbers::new(program.counters()?, &config, present.holds));
    let (watcher, mut posture) =
        Watcher::start(&program, &context, &config, present, numbers.clone())?;
    program.attach(&keys::interfaces(&config)?)?;
    context
        .registry
        .ready("balancer", move || numbers.samples());
    tracing::info!(
        vips = config.vips.len(),
        proxies = config.cluster.proxies.len(),
        "balancer attached"
    );

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
                    Ok(()) => assume(&next, &mut addresses, &emitter, present, present).await,
                    error => error,
                };
                match moved {
                    Ok(()) => config = next,
                    Err(error) => tracing::error!(error = format!("{error:#}"), "the new configuration could not be applied in full"),
                }
            }
        }
    }
    if context.stop.is_handover() && program.stays() {
        watcher.stop();
        return Ok(());
    }
    // Another one takes over when it hears that this one leaves; until then the program goes on.
    context.duty.leave();
    tokio::time::sleep((2 * config.cluster.heartbeat_interval).min(LEAVE)).await;
    watcher.stop();
    program.detach()?;
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

/// The VIPs' addresses, where balancers have them.
fn placed(config: &Config) -> Result<BTreeSet<Placed>> {
    let interface = config.node.interfaces.first();
    let interface = interface.context("[node] interfaces is empty")?;
    Ok(Placed::of_vips(vips(config), interface))
}

/// Has the addresses, or not, as `next` says, and tells the network of it.
async fn assume(
    config: &Config,
    addresses: &mut Addresses,
    emitter: &Injector,
    before: Posture,
    next: Posture,
) -> Result<()> {
    let mut wanted = placed(config)?;
    wanted.retain(|_| next.holds);
    addresses.hold(&wanted).await?;
    if before.holds != next.holds {
        let doing = if next.holds { "has" } else { "gives up" };
        tracing::info!("this balancer {doing} the VIPs' addresses");
    }
    if before.announcements != next.announcements {
        for Placed { address, interface } in &wanted {
            let interface = Interface::of(interface)?;
            let frame = baton_packet::announcement(*address, interface.link_address);
            emitter.inject(interface.index, &frame)?;
        }
    }
    Ok(())
}
