//! How a proxy's program sees the cluster: who owns which flows, and until when this proxy may decide (`bpf/include/owner.h`).

use std::time::Duration;

use crate::Result;
use crate::abi::{SLOTS, membership};
use crate::table::Table;

/// The cluster as one proxy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Until then this proxy decides about the flows that it owns (CLOCK_MONOTONIC); [`Duration::MAX`]: for ever.
    pub decide_until: Duration,
    /// Cluster clock (ms) when the owners last changed, or this proxy began; never 0.
    pub term: u32,
    /// This proxy's place among its peers.
    pub own: u8,
    /// Whether its clock is the cluster's, so that it may shake hands.
    pub ready: bool,
    /// Another owner, who may know better when this one may not decide.
    pub other: Option<u8>,
    /// How many own anything.
    pub count: u8,
    /// By slot, the owner's place; what is missing is the first one's.
    pub owners: Vec<u8>,
}

impl Membership {
    /// There is no other proxy.
    pub fn alone(term: u32) -> Membership {
        Membership {
            decide_until: Duration::MAX,
            term,
            own: 0,
            ready: true,
            other: None,
            count: 1,
            owners: Vec::new(),
        }
    }
}

/// Where the program looks at it, and at the number of the round in which user space looks for changed flows.
pub struct View {
    membership: Table<membership>,
    rounds: Table<u32>,
    round: u32,
    shown: Option<Membership>,
}

impl View {
    pub(crate) fn new(membership: Table<membership>, rounds: Table<u32>) -> View {
        View {
            membership,
            round: rounds.lookup(&KEY).unwrap_or_default(),
            rounds,
            shown: None,
        }
    }

    /// From now on the program sees it so. Until the first time it decides nothing.
    pub fn show(&mut self, seen: &Membership) -> Result<()> {
        let mut owners = [0; SLOTS];
        for (slot, owner) in owners.iter_mut().zip(&seen.owners) {
            *slot = *owner;
        }
        let mut shown = membership {
            decide_until_ns: 0,
            term: seen.term,
            own: seen.own,
            count: seen.count,
            ready: seen.ready.into(),
            other: seen.other.unwrap_or(seen.own),
            owners,
        };
        // Written byte by byte while the program reads: first what says that nothing is decided, then all, then until when.
        let stays = |shown: &Membership| {
            (&shown.owners, shown.term, shown.own) == (&seen.owners, seen.term, seen.own)
        };
        if !self.shown.as_ref().is_some_and(stays) {
            self.membership.put(&KEY, &shown)?;
        }
        self.shown = Some(seen.clone());
        shown.decide_until_ns = u64::try_from(seen.decide_until.as_nanos()).unwrap_or(u64::MAX);
        self.membership.put(&KEY, &shown)
    }

    /// How it sees it now.
    pub fn seen(&self) -> Option<Membership> {
        let seen = self.membership.lookup(&KEY)?;
        Some(Membership {
            decide_until: Duration::from_nanos(seen.decide_until_ns),
            term: seen.term,
            own: seen.own,
            ready: seen.ready != 0,
            other: (seen.other != seen.own).then_some(seen.other),
            count: seen.count,
            owners: seen.owners.to_vec(),
        })
    }

    /// Flows that change from now on are told once more ([`Proxy::changes`](crate::Proxy::changes)): to be called before they are read.
    pub fn next_round(&mut self) -> Result<()> {
        self.round = self.round.wrapping_add(1).max(1);
        self.rounds.put(&KEY, &self.round)
    }
}

const KEY: [u8; 4] = [0; 4];
