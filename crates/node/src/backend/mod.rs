//! Role back end: the agent on a web server's machine.
//!
//! ```text
//!  interface -> BPF ingress (adopts, releases, drops) -> the web server's own socket -> BPF egress (follows, fences) -> client
//!                     | what happened (ring buffer)
//!                     v
//!               teller (one thread) -> notices to the proxies
//!
//!  access (one thread, if configured) -> lines of the access log
//!  services (one task): binds of our own, into the interface: do they reach the web server?
//! ```
//!
//! Tasks: this one (start, reload, sweep, stop); services (tests of the paths), aborted at the end; one thread, the teller, which also
//! speaks and hears heartbeats.

mod access;
mod buffers;
mod listeners;
mod path;
mod report;
mod services;
mod sockets;
mod teller;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use baton_kernel::{Backend, Clock, Counters, Pins, Service};
use baton_policy::{Mechanism, Member, PoolId};
use tokio::sync::Notify;

use crate::addresses::{Addresses, Placed, Sysctls};
use crate::admin::{Sample, families};
use crate::config::Config;
use crate::context::Context;
use crate::{keys, pins};
use access::AccessLog;
use buffers::Buffers;
use path::PathTest;
use services::Findings;
pub(crate) use sockets::has_socket;
use teller::Teller;
pub(crate) use teller::notice;

/// Ended and released flows are remembered for so long, so that no bind is adopted twice (H3): longer than a bind is accepted after it
/// was made (`STALE_MS` in `bpf/include/adopt.h`).
pub(crate) const REMEMBER: Duration = Duration::from_secs(60);
const SWEEP: Duration = Duration::from_secs(10);

/// Runs until asked to stop; then what it attached and added is gone, or stays for the next process.
pub async fn run(mut context: Context) -> Result<()> {
    let mut config = context.config.borrow_and_update().clone();
    let pins = pins::open(&config, "backend")?;
    let left = pins.as_ref().and_then(Pins::clock);
    let clock = left.unwrap_or_else(Clock::start);
    let look_again = Arc::new(Notify::new());
    let findings = Arc::new(Findings::default());
    let tell = |of| {
        let (findings, look_again) = (findings.clone(), look_again.clone());
        Teller::start(of, &context, &config, findings, look_again)
    };
    // Others shall not take the node for dead while the kernel checks the programs: those before work on.
    let teller = pins
        .as_ref()
        .and_then(Backend::left)
        .map(tell)
        .transpose()?;
    let settings = keys::settings(&config, clock)?;
    let load = match config.backend.access_log {
        Some(_) => Backend::load_logging,
        None => Backend::load,
    };
    let mut program = load(&settings, config.backend.max_flows, pins)?;
    let gone = program.vips()?;
    program.set_services(&services_of(&config))?;

    let mut sysctls = Sysctls::default();
    let mut addresses = Addresses::new()?;
    // Quiet first: an address that is answered for by ARP would draw clients past the proxy.
    sysctls.keep_addresses_quiet("all")?;
    let wanted = placed(&config);
    let gone = gone.into_iter();
    let gone = gone.filter(|ip| wanted.iter().all(|placed| placed.address != *ip));
    addresses.remove_left(&gone.collect()).await?;
    addresses.hold(&wanted).await?;
    let teller = match teller {
        Some(teller) => teller,
        None => tell((program.leases()?, program.told()?))?,
    };
    let options = config.backend.access_log.clone();
    let log = options.map(|options| AccessLog::start(&program, options));
    let log = log.transpose()?;
    let lines = log.as_ref().map(AccessLog::numbers);
    program.attach(&keys::interfaces(&config)?)?;
    let flows = Arc::new(AtomicU64::new(0));
    let mut buffers = Buffers::default();
    buffers.raise(&services_of(&config), config.backend.receive_buffer);
    let test = PathTest::new(&program, &config, clock)?;
    let watch = services::watch(test, findings.clone(), look_again.clone(), context.clone());
    let watch = tokio::spawn(watch);
    let (counters, held, tally) = (program.counters()?, flows.clone(), teller.tally());
    context.registry.ready("backend", move || {
        let mut samples = samples(&counters, held.load(Ordering::Relaxed));
        samples.extend(findings.samples());
        samples.extend(tally.samples("backend"));
        samples.extend(lines.iter().flat_map(|lines| lines.samples()));
        samples
    });
    tracing::info!(
        services = config.backend.services.len(),
        "back end attached"
    );

    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = context.stop.requested() => break,
            _ = sweep.tick() => {
                match program.sweep(REMEMBER, has_socket) {
                    Ok(held) => flows.store(held as u64, Ordering::Relaxed),
                    Err(error) => tracing::warn!(%error, "the flow table could not be swept"),
                }
                buffers.raise(&services_of(&config), config.backend.receive_buffer);
            }
            changed = context.config.changed() => {
                changed.context("the configuration's source is gone")?;
                let next = context.config.borrow_and_update().clone();
                match reload(&mut program, &mut addresses, &teller, &next, clock).await {
                    Ok(()) => {
                        config = next;
                        look_again.notify_one();
                        if let Some((log, options)) = log.as_ref().zip(config.backend.access_log.clone()) {
                            log.reopen(options);
                        }
                    }
                    Err(error) => tracing::error!(error = format!("{error:#}"), "the new configuration could not be applied in full"),
                }
            }
        }
    }
    tracing::debug!(services = config.backend.services.len(), "back end stops");
    watch.abort();
    let stays = context.stop.is_handover() && program.stays();
    if !stays {
        program.detach()?;
    }
    if let Some(log) = log {
        log.stop();
    }
    teller.stop();
    if stays {
        return Ok(());
    }
    buffers.restore();
    addresses.hold(&BTreeSet::new()).await?;
    sysctls.restore();
    Ok(())
}

async fn reload(
    program: &mut Backend,
    addresses: &mut Addresses,
    teller: &Teller,
    config: &Config,
    clock: Clock,
) -> Result<()> {
    program.set_settings(&keys::settings(config, clock)?);
    addresses.hold(&placed(config)).await?;
    program.set_services(&services_of(config))?;
    teller.follow(config)
}

/// The services whose VIPs' routes may lead to this pool.
pub(crate) fn services_for(config: &Config, pool: PoolId) -> impl Iterator<Item = Service> {
    let vips = config.vips.iter().enumerate();
    let leads = vips.filter(move |(place, _)| config.policy.pools_of(*place).contains(&pool));
    let addresses: BTreeSet<SocketAddr> =
        leads.flat_map(|(_, vip)| vip.addresses.clone()).collect();
    let services = services_of(config).into_iter();
    services.filter(move |service| addresses.contains(&service.vip))
}

/// For each address of a VIP the service that takes it.
fn services_of(config: &Config) -> Vec<Service> {
    let addresses = config
        .vips
        .iter()
        .enumerate()
        .flat_map(|(place, vip)| vip.addresses.iter().map(move |at| (place, *at)));
    addresses
        .filter_map(|(place, vip)| {
            let takes =
                |service: &&crate::config::Service| service.vip == place && service.takes(vip);
            let service = config.backend.services.iter().find(takes)?;
            Some(Service {
                vip,
                listen: lookup_address(service.listen, vip),
            })
        })
        .collect()
}

/// The addresses of VIPs whose pools have this node, but for which it has no service.
fn unserved(config: &Config) -> Vec<SocketAddr> {
    let is_own = |member: &Member| {
        let server = config.servers.get(usize::from(member.server.0));
        server
            .is_some_and(|server| server.address.is_some() && server.address == config.node.address)
    };
    let has_own = |id: &PoolId| {
        let pool = config.policy.pool(*id);
        pool.is_some_and(|pool| {
            pool.mechanism() == Mechanism::Handoff && pool.members().iter().any(is_own)
        })
    };
    let served: BTreeSet<_> = services_of(config)
        .iter()
        .map(|service| service.vip)
        .collect();
    let vips = config.vips.iter().enumerate();
    vips.filter(|(place, _)| config.policy.pools_of(*place).iter().any(has_own))
        .flat_map(|(_, vip)| vip.addresses.clone())
        .filter(|vip| !served.contains(vip))
        .collect()
}

/// A wildcard listener is found by any address of the packet's family.
fn lookup_address(listen: SocketAddr, vip: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        SocketAddr::new(vip.ip(), listen.port())
    } else {
        listen
    }
}

fn placed(config: &Config) -> BTreeSet<Placed> {
    services_of(config)
        .into_iter()
        .map(|service| Placed {
            address: service.vip.ip(),
            interface: "lo".into(),
        })
        .collect()
}

fn samples(counters: &Counters, flows: u64) -> Vec<Sample> {
    let packets = counters.read().into_iter().map(|c| {
        let labels = [
            ("role", "backend"),
            ("verdict", &c.verdict),
            ("reason", &c.reason),
        ];
        families::PACKETS.sample(&labels, c.packets)
    });
    packets
        .chain([families::FLOWS.sample(&[("role", "backend")], flows)])
        .collect()
}
