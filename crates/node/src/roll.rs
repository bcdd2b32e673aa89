//! The cluster's nodes, as this one sees them: written where heartbeats are heard, read where they are shown.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_flow::{Members, Said, Standing, View};
use baton_wire::Role;
use serde::Serialize;

/// Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Roll(Arc<Mutex<Called>>);

/// How it was at the last heartbeat.
#[derive(Debug, Clone, Default)]
pub struct Called {
    /// All other nodes whose heartbeats this one knows.
    pub nodes: BTreeMap<IpAddr, Seen>,
    /// What this proxy decides; none: it is no proxy.
    pub part: Option<Part>,
}

/// What is known of a node.
#[derive(Debug, Clone)]
pub struct Seen {
    /// How it is taken.
    pub standing: Standing,
    /// How long ago it was last heard.
    pub silent: Option<Duration>,
    /// What it said then.
    pub said: Option<Said>,
}

/// A proxy's part of the decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Part {
    /// It may take decisions: it is alone, or hears a majority.
    pub decides: bool,
    /// Since when it decides as it does: the cluster clock (ms, low 32 bits).
    pub term: u32,
    /// Its part of all flows.
    pub owned_per_mille: u16,
}

impl Roll {
    /// From now on it is so.
    pub(crate) fn call(&self, now: Duration, role: Role, members: &Members) {
        let seen = |(node, standing, said): (IpAddr, Standing, Option<&Said>)| {
            let heard = members.heard(node);
            let seen = Seen {
                standing,
                silent: heard.map(|heard| now.saturating_sub(heard)),
                said: said.cloned(),
            };
            (node, seen)
        };
        let called = Called {
            nodes: members.all().map(seen).collect(),
            part: (role == Role::Proxy).then(|| Part::of(members.view(), now)),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = called;
    }

    /// What was called last.
    pub fn called(&self) -> Called {
        let called = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        called.clone()
    }

    /// Whether no other proxy that is heard, and stays, takes this one for live any more.
    pub(crate) fn has_left(&self, own: IpAddr) -> bool {
        let nodes = self.called().nodes;
        let mut heard = nodes
            .values()
            .filter(|seen| seen.standing == Standing::Alive)
            .filter_map(|seen| seen.said.as_ref())
            .filter(|said| said.role == Role::Proxy && !said.state.leaving);
        heard.all(|said| !said.nodes.contains(&own))
    }
}

impl Part {
    fn of(view: &View, now: Duration) -> Part {
        let owned = match view.own {
            None => 1000,
            Some(_) if view.owners.is_empty() => 1000,
            Some(own) => {
                let owned = view
                    .owners
                    .iter()
                    .filter(|owner| u16::from(**owner) == own.0);
                1000 * owned.count() / view.owners.len()
            }
        };
        Part {
            decides: view.decides(now),
            term: view.term,
            owned_per_mille: owned as u16,
        }
    }
}

impl Seen {
    /// In one word or two.
    pub fn state(&self) -> &'static str {
        let state = self.said.as_ref().map(|said| said.state);
        match (self.standing, state) {
            (Standing::Presumed, _) => "awaited",
            (Standing::NeverHeard, _) => "never heard",
            (Standing::Silent, _) => "silent",
            (Standing::Returning, _) => "returning",
            (Standing::Alive, Some(state)) if state.leaving => "leaving",
            (Standing::Alive, Some(state)) if state.draining => "draining",
            (Standing::Alive, Some(state)) if !state.ready => "not ready",
            (Standing::Alive, _) => "live",
        }
    }
}
