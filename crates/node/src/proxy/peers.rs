//! The cluster's proxies. All nodes count them in the order of their addresses ([`PeerId`]); the kernel's tables have slots for them, which keep
//! their meaning over reloads.

use std::net::IpAddr;

use baton_flow::{PeerId, View};
use baton_kernel::Membership;

/// Which proxy is where.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    /// In the order of their addresses, each with its slot.
    listed: Vec<(IpAddr, u8)>,
    own: Option<IpAddr>,
}

impl Peers {
    /// `listed`: the configured proxies and their slots; none: this one is alone. `own`: its address.
    pub(super) fn new(mut listed: Vec<(IpAddr, u8)>, own: IpAddr) -> Peers {
        listed.sort();
        Peers {
            listed,
            own: Some(own),
        }
    }

    /// All of them, this one included, in order.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.listed.iter().map(|(address, _)| *address)
    }

    /// All but this one.
    pub(super) fn others(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses().filter(|address| !self.is_own(*address))
    }

    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.own == Some(address)
    }

    pub(super) fn address(&self, PeerId(place): PeerId) -> Option<IpAddr> {
        let listed = self.listed.get(usize::from(place));
        listed.map(|(address, _)| *address)
    }

    pub(super) fn place(&self, address: IpAddr) -> Option<PeerId> {
        let place = self.addresses().position(|listed| listed == address);
        place.map(|place| PeerId(place as u16))
    }

    /// Where the kernel has it.
    pub(super) fn slot(&self, PeerId(place): PeerId) -> Option<u8> {
        self.listed.get(usize::from(place)).map(|(_, slot)| *slot)
    }

    pub(super) fn at_slot(&self, slot: u16) -> Option<PeerId> {
        let place = self
            .listed
            .iter()
            .position(|(_, at)| u16::from(*at) == slot);
        place.map(|place| PeerId(place as u16))
    }

    /// What the kernel goes by.
    pub(super) fn membership(&self, view: &View, ready: bool) -> Membership {
        let slot = |place| self.slot(place).unwrap_or(u8::MAX);
        let Some(own) = view.own else {
            return Membership::alone(view.term);
        };
        let owner = |owner: &u8| slot(PeerId(u16::from(*owner)));
        Membership {
            decide_until: view.until,
            term: view.term,
            own: slot(own),
            ready,
            other: view
                .live
                .iter()
                .find(|live| **live != own)
                .map(|other| slot(*other)),
            count: view.live.len().max(1) as u8,
            owners: view.owners.iter().map(owner).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_kernel_is_told_slots_and_not_places() {
        let node = |last| IpAddr::from([10, 77, 0, last]);
        let listed = vec![(node(13), 0), (node(11), 7), (node(12), 3)];
        let peers = Peers::new(listed, node(12));
        assert!(peers.others().eq([node(11), node(13)]));
        let view = View {
            own: Some(PeerId(1)),
            live: vec![PeerId(0), PeerId(1)],
            owners: [1, 0, 1, u8::MAX].into(),
            until: Duration::from_secs(9),
            ..View::alone(5)
        };
        let told = peers.membership(&view, true);
        assert_eq!((told.own, told.count, told.term), (3, 2, 5));
        assert_eq!(told.other, Some(7));
        assert_eq!(told.owners, [3, 7, 3, u8::MAX]);
        assert_eq!(told.decide_until, Duration::from_secs(9));
        assert_eq!(
            peers.membership(&View::alone(5), true),
            Membership::alone(5)
        );
    }
}
