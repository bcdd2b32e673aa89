//! VIPs that need no privileges: plain listeners, served by the user-space relay.
//!
//! One task a listener; the loop in [`run`] owns them, and opens and closes them as the configuration changes. A
//! listener that is closed lets its clients finish.

mod dispatch;
mod listener;
mod samples;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::bail;
use baton_relay::{Limits, Stats, serve};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::context::{Context, Stopper, stop};
use crate::roles::Role;
pub use dispatch::ByPolicy;
pub use listener::{ListenError, listen};
pub use samples::samples;

/// Runs the role until the context says stop.
pub async fn run(mut context: Context) -> anyhow::Result<()> {
    let role = Role::Relay.name();
    let config = Arc::clone(&context.config.borrow_and_update());
    let stats = Arc::new(Stats::default());
    let (limits, receiver) = watch::channel(config.relay);
    let mut relays = Relays {
        dispatch: Arc::new(ByPolicy::new(
            context.config.clone(),
            context.health.clone(),
            context.checks.clone(),
        )),
        limits: receiver,
        stats: Arc::clone(&stats),
        open: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    let errors = relays.follow(&config);
    if !errors.is_empty() {
        bail!(
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ")
        );
    }
    context.registry.ready(role, move || samples(role, &stats));
    loop {
        tokio::select! {
            () = context.stop.requested() => break,
            changed = context.config.changed() => if changed.is_err() { break },
            Some(_) = relays.tasks.join_next() => continue,
        }
        let config = Arc::clone(&context.config.borrow_and_update());
        limits.send_replace(config.relay);
        for error in relays.follow(&config) {
            tracing::error!("{error}");
        }
    }
    relays.open.clear();
    while relays.tasks.join_next().await.is_some() {}
    Ok(())
}

/// The listeners.
struct Relays {
    dispatch: Arc<ByPolicy>,
    limits: watch::Receiver<Limits>,
    stats: Arc<Stats>,
    /// A listener is closed when its stopper is dropped.
    open: BTreeMap<SocketAddr, Stopper>,
    tasks: JoinSet<()>,
}

impl Relays {
    /// Listens on exactly the addresses that the configuration has for relays; says which cannot be had.
    fn follow(&mut self, config: &Config) -> Vec<ListenError> {
        let vips = config.vips.iter().filter(|vip| !vip.handoff);
        let wanted: Vec<SocketAddr> = vips.flat_map(|vip| &vip.addresses).copied().collect();
        self.open.retain(|address, _| wanted.contains(address));
        let missing = wanted
            .into_iter()
            .filter(|address| !self.open.contains_key(address));
        let missing: Vec<_> = missing.collect();
        missing
            .into_iter()
            .filter_map(|address| self.open(address).err())
            .collect()
    }

    fn open(&mut self, address: SocketAddr) -> Result<(), ListenError> {
        let listener = listen(address)?;
        tracing::info!(%address, "listening");
        let (stopper, mut stop) = stop();
        let (dispatch, stats) = (Arc::clone(&self.dispatch), Arc::clone(&self.stats));
        let limits = self.limits.clone();
        self.tasks.spawn(async move {
            serve(listener, dispatch, limits, stats, stop.requested()).await;
            tracing::info!(%address, "closed");
        });
        self.open.insert(address, stopper);
        Ok(())
    }
}
