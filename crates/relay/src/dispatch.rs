//! Who decides which server a request goes to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use baton_packet::RequestHead;

/// Chooses a server for each request. Called from many tasks at once; must not block.
pub trait Dispatch: Send + Sync + 'static {
    /// The server for a request of `client`, which connected to `vip`.
    fn choose(&self, vip: SocketAddr, client: SocketAddr, request: &RequestHead) -> Choice;
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// To this server.
    Server {
        /// Its name, for messages.
        name: Arc<str>,
        /// Where it listens.
        address: SocketAddr,
    },
    /// No route matches: 404.
    NoRoute,
    /// There is a route, but no server may be chosen: 503.
    NoServer,
}

/// Any request to the next of a list of servers, in turn.
#[derive(Debug)]
pub struct RoundRobin {
    servers: Vec<(Arc<str>, SocketAddr)>,
    turn: AtomicUsize,
}

impl RoundRobin {
    /// Servers are named by their addresses. Without any, every request is answered with 503.
    pub fn new(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        let named = |address: SocketAddr| (address.to_string().into(), address);
        Self {
            servers: servers.into_iter().map(named).collect(),
            turn: AtomicUsize::new(0),
        }
    }
}

impl Dispatch for RoundRobin {
    fn choose(&self, _vip: SocketAddr, _client: SocketAddr, _request: &RequestHead) -> Choice {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match turn
            .checked_rem(self.servers.len())
            .and_then(|at| self.servers.get(at))
        {
            Some((name, address)) => Choice::Server {
                name: Arc::clone(name),
                address: *address,
            },
            None => Choice::NoServer,
        }
    }
}
