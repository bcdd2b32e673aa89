//! The cluster's nodes, as this one sees them: written where heartbeats are heard, read where they are shown.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_flow::{Members, Said, Standing};
use baton_wire::Role;

/// Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Roll(Arc<Mutex<BTreeMap<IpAddr, Seen>>>);

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

impl Roll {
    /// From now on it is so.
    pub(crate) fn call(&self, now: Duration, members: &Members) {
        let seen = |(node, standing, said): (IpAddr, Standing, Option<&Said>)| {
            let heard = members.heard(node);
            let seen = Seen {
                standing,
                silent: heard.map(|heard| now.saturating_sub(heard)),
                said: said.cloned(),
            };
            (node, seen)
        };
        let all = members.all().map(seen).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// All nodes whose heartbeats this one knows.
    pub fn all(&self) -> BTreeMap<IpAddr, Seen> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}

impl Roll {
    /// Whether no other proxy that is heard takes this one for live any more.
    pub(crate) fn has_left(&self, own: IpAddr) -> bool {
        let all = self.all();
        let mut heard = all
            .values()
            .filter(|seen| seen.standing == Standing::Alive)
            .filter_map(|seen| seen.said.as_ref())
            .filter(|said| said.role == Role::Proxy);
        heard.all(|said| !said.nodes.contains(&own))
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
