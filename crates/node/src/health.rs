//! Which servers can be used, as their agents' heartbeats tell: written by the engine, read by all that choose, offer or show servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use baton_flow::{Said, Standing};
use baton_wire::{Accepts, Finding, Reason};
use tokio::sync::watch;

use crate::admin::{Sample, families};

/// The way to the present state; clones see the same.
pub type Board = Arc<watch::Sender<Arc<Health>>>;

/// A board on which nothing is written yet: all servers are taken for usable.
pub fn board() -> Board {
    Arc::new(watch::Sender::default())
}

/// What is known of the servers that have an agent, by the address of their node; and which other proxies are out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Health {
    servers: BTreeMap<IpAddr, Known>,
    proxies_out: BTreeSet<IpAddr>,
}

/// What of a server's heartbeats says whether it can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    standing: Standing,
    /// None: nothing was heard of it.
    accepts: Option<Accepts>,
    findings: Vec<Finding>,
    is_draining: bool,
}

/// What a server is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Everything.
    Handoff,
    /// It cannot adopt flows, but a relay can reach it.
    Relay(Why),
    /// Nothing.
    Nothing(Why),
}

/// Why a server is not good for everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Three heartbeats in a row were missed.
    #[error("three heartbeats in a row were missed")]
    Silent,
    /// No heartbeat since this node's start.
    #[error(
        "nothing was heard of its agent since this node's start: is `baton run` running there, with the same secret?"
    )]
    NeverHeard,
    /// Heard again.
    #[error("it is heard again, and lets go of the flows that others have now")]
    Returning,
    /// Its operator gives it nothing new.
    #[error("by its operator: `baton drain --undo` there ends that")]
    Draining,
    /// Its kernel makes no socket of a bind.
    #[error("its kernel has net.ipv4.tcp_syncookies = 0: set it to 1")]
    NoSyncookies,
    /// Something is in the way of a service.
    #[error("{0}")]
    Found(Reason),
}

impl Health {
    /// From what the heartbeats tell.
    pub(crate) fn new<'a>(
        nodes: impl Iterator<Item = (IpAddr, Standing, Option<&'a Said>)>,
        is_server: impl Fn(IpAddr) -> bool,
    ) -> Health {
        let mut health = Health::default();
        for (node, standing, said) in nodes {
            let known = Known {
                standing,
                accepts: said.map(|said| said.accepts),
                findings: said.map_or_else(Vec::new, |said| said.findings.clone()),
                is_draining: said.is_some_and(|said| said.state.draining),
            };
            if is_server(node) {
                health.servers.insert(node, known);
            } else if is_out(standing) {
                health.proxies_out.insert(node);
            }
        }
        health
    }

    /// What a server is good for at these addresses of a VIP. One without an agent is not judged.
    pub(crate) fn of(&self, node: IpAddr, is_concerned: impl Fn(&SocketAddr) -> bool) -> Use {
        let Some(known) = self.servers.get(&node) else {
            return Use::Handoff;
        };
        match known.standing {
            Standing::Silent => return Use::Nothing(Why::Silent),
            Standing::NeverHeard => return Use::Nothing(Why::NeverHeard),
            Standing::Returning => return Use::Nothing(Why::Returning),
            Standing::Presumed | Standing::Alive if known.is_draining => {
                return Use::Nothing(Why::Draining);
            }
            Standing::Presumed | Standing::Alive => {}
        }
        let findings = known.findings.iter();
        let found: Vec<Reason> = findings
            .filter(|finding| is_concerned(&finding.vip))
            .map(|finding| finding.reason)
            .collect();
        let dead = [Reason::NoListener, Reason::Unhealthy];
        if let Some(reason) = found.iter().copied().find(|reason| dead.contains(reason)) {
            return Use::Nothing(Why::Found(reason));
        }
        match found.first().copied() {
            Some(reason) => Use::Relay(Why::Found(reason)),
            None if known.accepts.is_some_and(|accepts| !accepts.syncookies) => {
                Use::Relay(Why::NoSyncookies)
            }
            None => Use::Handoff,
        }
    }

    /// What a server is good for at all its VIPs together.
    pub(crate) fn of_all(&self, node: IpAddr) -> Use {
        self.of(node, |_| true)
    }

    /// Whether what the node has is lost.
    pub(crate) fn is_out(&self, node: IpAddr) -> bool {
        let server = self.servers.get(&node);
        server.map_or(self.proxies_out.contains(&node), |known| {
            is_out(known.standing)
        })
    }

    /// Whether the node is one whose heartbeats are waited for.
    pub(crate) fn knows(&self, node: IpAddr) -> bool {
        self.servers.contains_key(&node)
    }

    /// What a server's kernel takes over; everything, if it has not said.
    pub(crate) fn accepts(&self, node: IpAddr) -> Accepts {
        let accepts = self.servers.get(&node).and_then(|known| known.accepts);
        accepts.unwrap_or(Accepts::ALL)
    }
}

impl Health {
    /// How many servers can be used, and how many cannot.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let is_in = |node: &IpAddr| self.of_all(*node).why().is_none();
        let usable = self.servers.keys().filter(|node| is_in(node)).count();
        let counts = [("usable", usable), ("out", self.servers.len() - usable)];
        let sample = |(state, count)| families::SERVERS.sample(&[("state", state)], count as u64);
        counts.map(sample).into()
    }
}

fn is_out(standing: Standing) -> bool {
    matches!(standing, Standing::Silent | Standing::NeverHeard)
}

impl Use {
    /// What is in the way, if anything.
    pub(crate) fn why(self) -> Option<Why> {
        match self {
            Use::Handoff => None,
            Use::Relay(why) | Use::Nothing(why) => Some(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use baton_wire::{Role, State};

    use super::*;

    #[test]
    fn a_drained_server_gets_nothing_new_and_loses_nothing() {
        let node = IpAddr::from([10, 77, 0, 21]);
        let said = |draining| Said {
            accepts: Accepts::ALL,
            findings: Vec::new(),
            state: State {
                ready: true,
                draining,
                ..State::default()
            },
            workload: 1000,
            role: Role::Backend,
            digest: 0,
            nodes: Vec::new(),
        };
        let health = |draining| {
            let said = said(draining);
            Health::new([(node, Standing::Alive, Some(&said))].into_iter(), |_| true)
        };
        assert_eq!(health(false).of_all(node), Use::Handoff);
        let drained = health(true);
        assert_eq!(drained.of_all(node), Use::Nothing(Why::Draining));
        assert!(!drained.is_out(node));
    }
}
