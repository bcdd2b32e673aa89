//! `baton relay`: the user-space relay alone.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use baton_relay::{Limits, RoundRobin, Stats, serve};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::LogFormat;
use crate::context::stop;
use crate::logging;
use crate::relays;
use crate::signals::Ends;

/// Relays until SIGTERM or SIGINT, then lets the requests in flight finish.
pub(crate) fn relay(listen: &[SocketAddr], to: &[SocketAddr]) -> anyhow::Result<()> {
    logging::init(tracing::Level::INFO, LogFormat::Text);
    let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
    runtime.block_on(relay_all(listen, to))
}

async fn relay_all(listen: &[SocketAddr], to: &[SocketAddr]) -> anyhow::Result<()> {
    let mut ends = Ends::new()?;
    let (stopper, stop) = stop();
    let (_limits, limits) = watch::channel(Limits::default());
    let dispatch = Arc::new(RoundRobin::new(to.iter().copied()));
    let stats = Arc::new(Stats::default());
    let mut tasks = JoinSet::new();
    for address in listen {
        let listener = relays::listen(*address)?;
        tracing::info!(address = %listener.local_addr()?, "listening");
        let (dispatch, stats) = (Arc::clone(&dispatch), Arc::clone(&stats));
        let (limits, mut stop) = (limits.clone(), stop.clone());
        tasks
            .spawn(async move { serve(listener, dispatch, limits, stats, stop.requested()).await });
    }
    let (name, ending) = ends.next().await;
    tracing::info!(signal = name, "stopping");
    stopper.stop(ending);
    tokio::select! {
        _ = tasks.join_all() => {}
        _ = ends.next() => {}
    }
    Ok(())
}
