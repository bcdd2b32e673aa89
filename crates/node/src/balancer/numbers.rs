//! What the balancer counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use baton_kernel::Counters;

use crate::admin::{Sample, families};
use crate::config::Config;
use crate::heartbeats::Tally;

/// Written by the watcher, read at each scrape.
pub(super) struct Numbers {
    pub(super) heartbeats: Arc<Tally>,
    kernel: Counters,
    /// Each proxy's part of the packets (per mille).
    shares: Mutex<Vec<(String, u32)>>,
    holds: AtomicU64,
    takeovers: AtomicU64,
}

impl Numbers {
    /// `holds`: the addresses are here, left by a process before.
    pub(super) fn new(kernel: Counters, config: &Config, holds: bool) -> Numbers {
        let proxies = config.cluster.proxies.iter();
        Numbers {
            heartbeats: Arc::default(),
            kernel,
            shares: Mutex::new(proxies.map(|proxy| (proxy.name.clone(), 0)).collect()),
            holds: AtomicU64::new(holds.into()),
            takeovers: AtomicU64::new(0),
        }
    }

    pub(super) fn set_shares(&self, shares: Vec<(String, u32)>) {
        *self.shares.lock().unwrap_or_else(PoisonError::into_inner) = shares;
    }

    pub(super) fn set_holds(&self, holds: bool) {
        self.holds.store(holds.into(), Relaxed);
        self.takeovers.fetch_add(holds.into(), Relaxed);
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        let packets = self.kernel.read().into_iter().map(|c| {
            let labels = [
                ("role", "balancer"),
                ("verdict", &c.verdict),
                ("reason", &c.reason),
            ];
            families::PACKETS.sample(&labels, c.packets)
        });
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let shares = shares.iter().map(|(proxy, share)| {
            families::BALANCER_SHARE.sample(&[("proxy", proxy)], u64::from(*share))
        });
        packets
            .chain(shares)
            .chain([
                families::BALANCER_HOLDS.sample(&[], self.holds.load(Relaxed)),
                families::BALANCER_TAKEOVERS.sample(&[], self.takeovers.load(Relaxed)),
            ])
            .chain(self.heartbeats.samples("balancer"))
            .collect()
    }
}
