//! Server connections that wait for their next request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::Upstream;

/// Idle connections that are kept for one server; more are closed.
const MAX_IDLE: usize = 1024;

/// Idle connections to all servers.
#[derive(Debug, Default)]
pub(crate) struct Upstreams(Mutex<Idle>);

/// By server, the one that was used last at the end.
type Idle = HashMap<SocketAddr, Vec<(Instant, Box<Upstream>)>>;

impl Upstreams {
    /// The connection that was used last, if one is alive.
    pub(crate) fn take(&self, address: SocketAddr) -> Option<Box<Upstream>> {
        loop {
            let (_, mut upstream) = self.idle().get_mut(&address)?.pop()?;
            if upstream.is_reusable() {
                return Some(upstream);
            }
        }
    }

    /// Keeps a connection whose answer has been read for the next request; closes it if it can serve none.
    pub(crate) fn give_back(&self, mut upstream: Box<Upstream>) {
        if upstream.is_reusable() {
            let mut idle = self.idle();
            let idle = idle.entry(upstream.address).or_default();
            if idle.len() < MAX_IDLE {
                idle.push((Instant::now(), upstream));
            }
        }
    }

    /// Closes what was not used for so long, and what the server has closed.
    pub(crate) fn expire(&self, idle_timeout: Duration) {
        self.idle().retain(|_, idle| {
            idle.retain_mut(|(since, upstream)| {
                since.elapsed() < idle_timeout && upstream.is_reusable()
            });
            !idle.is_empty()
        });
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
