//! Role proxy: answers clients, reads requests, binds flows.
//!
//! ```text
//!  interface -> BPF (bpf/proxy.bpf.c) -> ring buffer -> engine (one thread) -> kernel table, UDP to back ends
//!                     |                                   ^                        | flows for the relay: UDP to lo
//!                     +-> bound packets to back ends      | answers, notices       v
//!                                                       UDP              BPF on lo -> relay's listener (tokio)
//! ```
//!
//! Tasks: this one (start, reload, sweep, stop), one relay for each address family; one thread, the engine. The engine is told by a
//! channel of [`Order`]s and woken by a pipe; dropping [`Orders`] ends it.

mod chooser;
mod effects;
mod engine;
mod entry;
#[cfg(all(test, feature = "root-tests"))]
mod known_tests;
mod lessons;
mod local;
mod members;
mod numbers;
mod peers;
mod plan;
mod replicas;
mod replication;
mod taught;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use baton_kernel::abi::{flow_entry, flow_flags, flow_state};
use baton_kernel::{Clock, Membership, Pins, Sizes};
use baton_packet::FlowKey;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::addresses::{Addresses, Sysctls};
use crate::config::Config;
use crate::context::Context;
use crate::{keys, pins};
use effects::Ways;
use engine::{Order, Orders};
use local::LocalRelay;
use numbers::Numbers;
use plan::{Plan, Slots};

/// How often forgotten flows are looked for, at most; and a sweep takes no more than this part of the time.
const SWEEP: Duration = Duration::from_secs(5);
const SWEEP_SHARE: u32 = 50;
/// Flows of servers that are out, dealt with after one look at the table.
const LOST_AT_ONCE: usize = 16_384;

/// A flow without packets for so long is idle, and is not lost before its server has been out for the other time.
const IDLE: Duration = Duration::from_secs(5);
const IDLE_WAIT: Duration = Duration::from_secs(10);

/// The others have so long to take over, at most.
const LEAVE: Duration = Duration::from_secs(3);

/// Runs until asked to stop; then what it attached and added is gone, or stays for the next process.
pub async fn run(mut context: Context) -> Result<()> {
    let config = context.config.borrow_and_update().clone();
    let pins = pins::open(&config, "proxy")?;
    // The flows' timestamps go on.
    let left = pins.as_ref().and_then(Pins::clock);
    let clock = left.unwrap_or_else(Clock::start);
    let settings = keys::settings(&config, clock)?;
    let sizes = Sizes {
        flows: config.proxy.max_flows,
        known_requests: config.proxy.known_requests,
        known_key: rand::random(),
    };
    let agent = LocalRelay::load(&config, &settings);
    let mut program = baton_kernel::Proxy::load(&settings, sizes, pins)?;
    if let Some(seen) = program.view()?.seen().filter(|seen| seen.count > 1) {
        let now = baton_kernel::monotonic();
        let forgotten = program
            .flows()
            .forget(|key, entry| may_be_outdated(&seen, now, key, entry))?;
        tracing::info!(
            forgotten,
            "flows that other proxies have decided about, or may have"
        );
    }
    let vips = program.vips()?;
    let mut slots = Slots::found(&program.servers()?, &program.peers()?, &vips, &config);
    let mut addresses = Addresses::new()?;
    let plan = Plan::new(
        &config,
        addresses.mtu(&config.node.interfaces).await?,
        &mut slots,
    )?;
    let gone = vips.iter().map(|(_, at)| at.ip());
    let gone = gone.filter(|ip| plan.placed.iter().all(|placed| placed.address != *ip));
    addresses.remove_left(&gone.collect()).await?;
    let mut sysctls = Sysctls::default();
    if !config.proxy.announce {
        // An address that is answered for by ARP would draw clients past the balancer.
        sysctls.keep_addresses_quiet("all")?;
    }
    addresses.hold(&plan.placed).await?;
    let mut local = LocalRelay::start(agent.await??, &context, &config)?;
    apply(&program, &plan)?;

    let numbers = Arc::new(Numbers::new(program.counters()?, local.counters()?));
    let relay = local.told()?;
    let orders = Orders::start(
        &mut program,
        relay,
        &context,
        &config,
        &plan,
        clock,
        numbers.clone(),
    )?;
    program.attach(&keys::interfaces(&config)?)?;
    let (source, relayed, health) = (numbers.clone(), local.stats(), context.health.clone());
    let samples = move || {
        let servers = health.borrow().samples();
        [
            source.samples(),
            servers,
            crate::relays::samples("proxy", &relayed),
        ]
        .concat()
    };
    let (mut ready, mut samples) = (orders.ready.clone(), Some(samples));
    tracing::info!(
        vips = config.vips.len(),
        servers = config.servers.len(),
        "proxy attached"
    );

    let mut config = config;
    let mut plan = plan;
    // Servers whose flows are lost, since when, and when these are looked for.
    let (mut out, mut look_at) = (BTreeMap::new(), Instant::now());
    let mut out_peers = Vec::new();
    let (mut present, mut clocks) = (orders.present.clone(), orders.clock.clone());
    let mut clock = clock;
    let (mut nodes, mut pushing) = (Arc::<[IpAddr]>::default(), None::<JoinHandle<_>>);
    let mut health = context.health.subscribe();
    let mut pause = SWEEP;
    loop {
        tokio::select! {
            () = context.stop.requested() => break,
            () = tokio::time::sleep(pause) => {
                let began = Instant::now();
                let (flows, options) = (program.flows(), config.proxy.clone());
                let swept = tokio::task::spawn_blocking(move || flows.sweep(options.flow_idle_timeout, options.closing_timeout)).await?;
                match swept {
                    Ok(flows) => numbers.set_flows(flows),
                    Err(error) => tracing::warn!(%error, "the flow table could not be swept"),
                }
                local.sweep();
                pause = SWEEP.max(began.elapsed() * SWEEP_SHARE);
            }
            () = until(&mut ready), if samples.is_some() => {
                if let Some(samples) = samples.take() {
                    context.registry.ready("proxy", samples);
                }
            }
            Ok(()) = clocks.changed() => {
                clock = *clocks.borrow_and_update();
                program.set_settings(&keys::settings(&config, clock)?);
            }
            Ok(()) = health.changed() => {
                let health = Arc::clone(&health.borrow_and_update());
                program.set_vips(&plan.offered(&config, &health))?;
                look_at = Instant::now();
                let since = |slot| (slot, out.get(&slot).copied().unwrap_or(look_at));
                out = plan.out(&health).into_iter().map(since).collect();
                out_peers = plan.out_peers(&health);
            }
            () = tokio::time::sleep_until(look_at.into()), if !out.is_empty() || !out_peers.is_empty() => {
                let began = Instant::now();
                let flows = program.flows();
                let interval = config.cluster.heartbeat_interval;
                let lost = |(slot, since): (&u16, &Instant)| (*slot, lost_when_silent(interval, since.elapsed()));
                let (servers, peers) = (out.iter().map(lost).collect(), out_peers.clone());
                let found = tokio::task::spawn_blocking(move || flows.bound_to(&servers, &peers, LOST_AT_ONCE)).await?;
                match found {
                    Ok(found) => orders.give(Order::Lost(found.into_iter().filter_map(|(key, holder)| Some((key, plan.target(holder)?))).collect())),
                    Err(error) => tracing::warn!(%error, "the flows of servers that are out could not be found"),
                }
                look_at = Instant::now() + interval.max(began.elapsed() * SWEEP_SHARE);
            }
            Ok(()) = present.changed(), if pushing.is_none() => {
                let before = std::mem::replace(&mut nodes, present.borrow_and_update().clone());
                let (after, replicas) = (nodes.clone(), config.cluster.replicas);
                let (flows, numbers) = (program.flows(), numbers.clone());
                let (ways, socket) = (Ways::new(&config, &plan)?, orders.socket.try_clone()?);
                pushing = Some(tokio::task::spawn_blocking(move || {
                    replication::push(&flows, &ways, &socket, &numbers, replicas, [&before, &after])
                }));
            }
            pushed = joined(&mut pushing), if pushing.is_some() => {
                pushing = None;
                match pushed? {
                    Ok(entries) => tracing::debug!(entries, "entries were given to proxies that are to have them now"),
                    Err(error) => tracing::warn!(%error, "the flow table could not be given to other proxies"),
                }
            }
            changed = context.config.changed() => {
                changed.context("the configuration's source is gone")?;
                let next = context.config.borrow_and_update().clone();
                match reload(&mut program, &mut addresses, &mut slots, &mut local, &orders, &next, clock).await {
                    Ok(planned) => (config, plan) = (next, planned),
                    Err(error) => tracing::error!(error = format!("{error:#}"), "the new configuration could not be applied in full"),
                }
            }
        }
    }
    if context.stop.is_handover() && program.stays() {
        // What the relay is at ends first; until then the engine decides.
        local.stop().await;
        orders.stop();
        return Ok(());
    }
    leave(&context, &config).await;
    program.detach()?; // from here on no packet is answered
    orders.stop();
    local.stop().await;
    addresses.hold(&Default::default()).await?;
    sysctls.restore();
    Ok(())
}

/// With other proxies: says that it leaves, and goes on until they have taken its flows over, but no longer than they would take to notice
/// that it is gone.
async fn leave(context: &Context, config: &Config) {
    let Some(own) = config
        .node
        .address
        .filter(|_| config.cluster.proxies.len() > 1)
    else {
        return;
    };
    context.duty.leave();
    let interval = config.cluster.heartbeat_interval;
    let taken_over = async {
        while !context.roll.has_left(own) {
            tokio::time::sleep(interval / 4).await;
        }
    };
    if tokio::time::timeout(LEAVE.min(interval * 5), taken_over)
        .await
        .is_err()
    {
        tracing::warn!("not all other proxies say that they have taken over");
    }
}

/// Once it is true; never, if nobody is left to say so.
async fn until(is_so: &mut watch::Receiver<bool>) {
    if is_so.wait_for(|is_so| *is_so).await.is_err() {
        std::future::pending().await
    }
}

/// What became of the task, once it has ended.
async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Whether another proxy may have decided about a flow while no process was here to hear of it. A packet without entry goes to who decides for it,
/// and who does asks the agents.
fn may_be_outdated(seen: &Membership, now: Duration, key: &FlowKey, entry: &flow_entry) -> bool {
    let is_here = entry.flags & flow_flags::LOCAL != 0 || entry.state == flow_state::RESET;
    let owner = seen.owners.get(usize::from(baton_flow::slot(key)));
    let is_own = owner == Some(&seen.own) && now < seen.decide_until;
    !is_here && !is_own
}

/// For how long the client of a flow was silent that is lost because its server has been out for so long. Whose client was heard just now has a
/// server that is there, whatever the heartbeats say. Who waits for nothing is in no hurry: the server may only have been held up.
fn lost_when_silent(interval: Duration, out_for: Duration) -> Range<Duration> {
    let longest = if out_for < IDLE_WAIT {
        IDLE
    } else {
        Duration::MAX
    };
    interval * 3 / 2..longest
}

/// Flows keep what they are bound to: server and VIP slots never change their meaning.
async fn reload(
    program: &mut baton_kernel::Proxy,
    addresses: &mut Addresses,
    slots: &mut Slots,
    local: &mut LocalRelay,
    orders: &Orders,
    config: &Arc<Config>,
    clock: Clock,
) -> Result<Plan> {
    let plan = Plan::new(config, addresses.mtu(&config.node.interfaces).await?, slots)?;
    let settings = keys::settings(config, clock)?;
    addresses.hold(&plan.placed).await?;
    local.reload(config, &settings)?;
    program.set_settings(&settings);
    apply(program, &plan)?;
    orders.reload(config, &plan)?;
    Ok(plan)
}

fn apply(program: &baton_kernel::Proxy, plan: &Plan) -> Result<()> {
    for (slot, server) in &plan.servers {
        program.set_server(*slot, Some(*server))?;
    }
    for (slot, peer) in &plan.others {
        program.set_peer(*slot, Some(*peer))?;
    }
    program.set_vips(&plan.vips)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_may_have_decided_is_forgotten() {
        let key = FlowKey::new(
            "10.0.0.1:1".parse().unwrap(),
            "10.0.0.2:80".parse().unwrap(),
        );
        let until = Duration::from_secs(10);
        let seen = |own| Membership {
            decide_until: until,
            term: 1,
            own,
            ready: true,
            other: None,
            count: 2,
            owners: vec![1; baton_flow::SLOTS],
        };
        let entry = |state, flags| flow_entry {
            state,
            flags,
            ..flow_entry::default()
        };
        let bound = entry(flow_state::BOUND, 0);
        let forgotten = |own, now, entry| may_be_outdated(&seen(own), now, &key, entry);
        let (before, after) = (until - Duration::from_secs(1), until);
        assert!(!forgotten(1, before, &bound), "its own");
        assert!(forgotten(1, after, &bound), "its time was over");
        assert!(forgotten(0, before, &bound), "another's");
        let kept = [
            entry(flow_state::BOUND, flow_flags::LOCAL),
            entry(flow_state::RESET, 0),
        ];
        assert!(
            kept.iter()
                .all(|kept| !may_be_outdated(&seen(0), after, &key, kept))
        );
    }

    #[test]
    fn idle_flows_are_lost_only_when_their_server_stays_out() {
        let seconds = Duration::from_secs_f64;
        let is_lost = |silent, out_for| {
            let interval = Duration::from_millis(200);
            lost_when_silent(interval, seconds(out_for)).contains(&seconds(silent))
        };
        assert!(!is_lost(0.25, 0.0), "its server is not dead");
        assert!(is_lost(0.35, 0.0), "it waits for an answer");
        assert!(is_lost(4.9, 0.0));
        assert!(!is_lost(5.1, 0.0), "it waits for nothing");
        assert!(!is_lost(3600.0, 9.9));
        assert!(is_lost(3600.0, 10.1));
        assert!(!is_lost(0.25, 10.1));
    }
}
