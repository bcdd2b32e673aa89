use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use baton_packet::FlowKey;

use crate::PeerId;
use crate::ownership::{ranking, slot};

/// Which flows this proxy decides for, and until when: what [`Members::view`](crate::Members::view) concludes, [`Owner::follow`] goes by, and
/// the kernel's map `members` holds.
///
/// [`Owner::follow`]: crate::Owner::follow
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The cluster clock (ms, low 32 bits, never 0) since when this holds without a gap. What was decided in another term may have been decided
    /// otherwise since, by somebody else.
    pub term: u32,
    /// Decisions may be taken before this time (monotonic clock); [`Duration::MAX`]: for ever.
    pub until: Duration,
    /// The configured proxies in the order of their addresses, IPv4 first; at most 32. [`PeerId`]s are places in this list.
    pub proxies: Arc<[IpAddr]>,
    /// This node's place among them; `None`: it is alone.
    pub own: Option<PeerId>,
    /// Those that own something, by place.
    pub live: Vec<PeerId>,
    /// The owner of each slot, by place among all (not only the live ones). Empty: this node owns everything.
    pub owners: Arc<[u8]>,
}

impl View {
    /// Of a proxy that shares with no other: it decides everything, for ever. `term`: the cluster clock at its start.
    pub fn alone(term: u32) -> View {
        View {
            term: term.max(1),
            until: Duration::MAX,
            proxies: Arc::new([]),
            own: None,
            live: Vec::new(),
            owners: Arc::new([]),
        }
    }

    /// Who decides for this flow; `None`: this node, which is alone, or nobody.
    pub fn owner(&self, key: &FlowKey) -> Option<PeerId> {
        let owner = self.owners.get(usize::from(slot(key)))?;
        (usize::from(*owner) < self.proxies.len()).then_some(PeerId(u16::from(*owner)))
    }

    /// Who decides for a flow of this node when this node is gone.
    pub fn successor(&self, key: &FlowKey) -> Option<PeerId> {
        let own = self.own?;
        let address = |place: &PeerId| self.proxies.get(usize::from(place.0)).copied();
        let live: Vec<_> = self.live.iter().filter_map(address).collect();
        let ranked = ranking(slot(key), &live).into_iter();
        let mut places = ranked.filter_map(|index| self.live.get(usize::from(index)));
        places.find(|place| **place != own).copied()
    }

    /// Whether this node decides for this flow, if it may decide at all.
    pub fn is_own(&self, key: &FlowKey) -> bool {
        self.own.is_none() || self.owner(key) == self.own
    }

    /// Whether decisions may be taken now.
    pub fn decides(&self, now: Duration) -> bool {
        now < self.until
    }
}
